"""What a run is prepared into, whatever its mode: a run of either is one story of these.

>>> Evaluation(metrics={'loss': 2.5}, count=8, examples='').outputs is None
True
"""

import pathlib
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from tl_jax import interop, models, optim, transfer
from tl_jax.config import ConfigError
from tl_jax.train import datasets
from tl_jax.train.assembly import Components, make_params
from tl_jax.train.restoring import keep_tokenizer
from tl_jax.train.settings import Settings
from tl_jax.train.step import TrainState


class Own(NamedTuple):
  """What is data to the program of a run: runs that differ in nothing else share the
  program.
  """

  seed: Any
  rate: Any
  decay: Any

  @classmethod
  def of(cls, settings: Settings) -> 'Own':
    return cls(
      np.uint32(settings.seed),
      np.float32(settings.optim.lr),
      np.float32(settings.optim.decay),
    )

  def first_state(self, parts: Components, params) -> TrainState:
    """The state at step 0 of these parameters."""
    state = parts.init(params, self.seed)
    opt_state = optim.set_rate(state.opt_state, self.rate, self.decay)
    return state._replace(opt_state=opt_state)


class Evaluation(NamedTuple):
  """What a state is worth on the test split.

  count: how many examples it was evaluated on. examples: a digest of these. outputs
  (count, labels): what the model says of each, where there is something to keep.
  """

  metrics: dict[str, float]
  count: int
  examples: str
  outputs: np.ndarray | None = None


class Evaluator(Protocol):
  """What reads the data of a run on its mesh."""

  def training_rows(self, stream, state, first: int = 0):
    """The stream as the step reads it, for a run of this state from step `first`."""

  def metrics(self, state) -> dict[str, float]:
    """The metrics on the test split in the midst of a run."""

  def evaluate(self, state) -> Evaluation:
    """All that is kept of the last state of a run."""


class Prepared(Protocol):
  """A run that is ready to start: everything but its state. It is a NamedTuple.

  name: of the task, as results call it. title: what its progress is called. lines: what
  is told at the start besides the notes.
  """

  settings: Settings
  tokenizer: Any
  parts: Components
  source: interop.Loaded | None
  task: Any

  name: str
  title: str
  lines: list[str]

  def given(self) -> dict:
    """What the first state is made from, in the memory of the host."""

  def first_state(self, given: dict, own: Own) -> TrainState:
    """The state at step 0; `own` may be traced."""

  def account(self) -> transfer.Account | None:
    """What becomes of every leaf of the source; None where there is nothing to tell."""

  def files(self) -> dict[str, str]:
    """The sha256 of every file of the user that the run reads, by path."""

  def stream(self, settings: Settings) -> tuple[Any, np.ndarray]:
    """The rows of a run, and the indices of the labelled examples they come from."""

  def notes(self, settings: Settings, chosen: np.ndarray) -> list[str]:
    """What the run says of its examples."""

  def evaluator(self, sharding) -> Evaluator:
    """What evaluates states of this run on a mesh."""

  def write_predictions(self, folder: pathlib.Path, found: Evaluation) -> None:
    """Writes what the model says of every test example, where it says something."""


def open_tokenizer(
  settings: Settings,
  source: interop.Loaded | None,
  training_texts,
  folder: pathlib.Path,
  is_primary: bool,
):
  """The tokenizer of a run, kept in its folder by the primary process.

  It is the source's. Without a source it is the one that is kept, read or trained;
  training_texts() is called where texts are needed. ConfigError for a source without.
  """
  if source is None:
    tokenizer = datasets.make_tokenizer(settings, training_texts, folder, is_primary)
  elif source.tokenizer is None:
    raise ConfigError(f'config.init: {settings.init} has no tokenizer')
  else:
    tokenizer = source.tokenizer
    if is_primary:
      keep_tokenizer(folder, source)
  return datasets.parsing(settings, tokenizer, settings.init)


def account_of(model: models.Model, source, transplanted) -> transfer.Account:
  """The account of transplanted(source, fresh), which nothing depends on the seed of.

  Nothing is computed.
  """
  found = []

  def transplant():
    fresh = make_params(model, 0)
    if source is None:
      found.append(transfer.transplant({}, fresh, fresh=['.*'])[1])
    else:
      found.append(transplanted(source.params, fresh)[1])

  jax.eval_shape(transplant)
  return found[0]
