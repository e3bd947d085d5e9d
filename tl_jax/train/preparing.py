"""A run prepared, of either mode: its source, tokenizer, architecture, parts and examples,
in this order.

>>> prepare.__name__
'prepare'
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from tl_jax import interop, models, parallel, tasks, transfer
from tl_jax.config import ConfigError
from tl_jax.train import assembly, corpora, methods, starting, tokenizing
from tl_jax.train.checks import Checked
from tl_jax.train.evaluators import Evaluator, MixtureEvaluator, TaskEvaluator
from tl_jax.train.information import fisher_of_source
from tl_jax.train.memory import require_memory
from tl_jax.train.restoring import load
from tl_jax.train.settings import SCRATCH, Settings
from tl_jax.train.starting import Given, Own
from tl_jax.train.step import TrainState


class Prepared(NamedTuple):
  """A run that is ready to start: everything but its state.

  Nothing in it but its `settings` depends on what runs of one program may differ in.
  fisher: what EWC weighs by. cache: the folder where encoded texts are kept.
  """

  settings: Settings
  source: interop.Loaded | None
  tokenizer: Any
  parts: assembly.Components
  corpus: corpora.Corpus
  fisher: dict | None
  cache: pathlib.Path

  @property
  def task(self) -> tasks.Task | None:
    return self.corpus.task

  @property
  def title(self) -> str:
    """Task and method, for whoever watches."""
    if self.task is None:
      return self.corpus.name
    return f'{self.corpus.name}, {methods.name_of(self.settings.method)}'

  @property
  def take_over(self):
    """How the parameters of the source become those of the model."""
    return starting.continued if self.task is None else starting.transplanted

  def lines(self, chosen: np.ndarray) -> list[str]:
    """What a run tells at its start, trained on the examples `chosen`."""
    lines = self.corpus.notes(chosen)
    if self.task is None:
      lines = [*lines, f'tokenizer: {self.tokenizer.vocabulary_size} pieces']
    # Told at the export, after the training, it would be told too late.
    config = None if self.source is None else self.source.config
    refusal = interop.classifiers.refusal(self.parts.model.arch, config)
    if refusal:
      lines = [*lines, f'not for export: {refusal}']
    return lines

  def given(self) -> Given:
    """What the first state of every run of this program is made from, in the memory of
    the host.
    """
    params = None if self.source is None else self.source.params
    bias = self.corpus.first_bias(self.settings, self.parts.model.arch.vocabulary)
    return parallel.to_host(Given(params, bias, self.fisher))

  def first_state(self, given: Given, own: Own) -> TrainState:
    """The state at step 0; both may be traced."""
    return starting.first_state(self.parts, self.take_over, given, own)

  def params(self, seed):
    """The model's first parameters; `seed` may be traced."""
    return starting.first_params(self.parts.model, self.take_over, self.given(), seed)

  def account(self) -> transfer.Account | None:
    """What becomes of every leaf of the source; None where there is nothing to tell."""
    if self.source is None and self.task is None:
      return None
    params = None if self.source is None else self.source.params
    return starting.account_of(self.parts.model, params, self.take_over)

  def evaluator(self, sharding) -> Evaluator:
    """What evaluates states of this run on a mesh."""
    if self.task is None:
      return MixtureEvaluator(
        self.settings, self.parts, self.tokenizer, self.cache, sharding
      )
    return TaskEvaluator(self.corpus, self.parts, sharding)


def prepare(
  checked: Checked,
  folder: pathlib.Path,
  is_primary: bool = True,
  cache: pathlib.Path | None = None,
) -> Prepared:
  """Opens the source and the texts, builds the model and encodes the examples.

  The tokenizer is kept in `folder`, the encoded texts below `cache` (by default in
  `folder`), where other runs find them. Raises ConfigError where things do not fit.
  """
  settings, method = checked.settings, checked.method
  cache = folder if cache is None else cache
  corpus = corpora.open_corpus(settings, checked.task)
  source = None if settings.init == SCRATCH else load(settings.init)
  tokenizer = tokenizing.prepare(
    settings.tokenizer,
    source,
    settings.init,
    corpus.training_texts,
    folder,
    is_primary,
  )
  reserved = method.reserved_positions
  arch = assembly.make_arch(settings, reserved, source, tokenizer, corpus.head)
  require_memory(settings, arch)
  objective = make_objective(settings, corpus.task, tokenizer)
  parts = assembly.assemble(settings, arch, objective, method)
  require_dropout(settings.compute, method)
  # Last, because to encode a large corpus takes long: what does not fit has been said.
  corpus = corpus.encoded(settings, parts, tokenizer, cache)
  # Only a task's source has been trained on one, by which EWC could weigh.
  fisher = None
  if corpus.task is not None and 'ewc' in regularizers_of(method):
    fisher = fisher_of_source(settings.init)
  return Prepared(settings, source, tokenizer, parts, corpus, fisher, cache)


def make_objective(settings: Settings, task: tasks.Task | None, tokenizer):
  """What a run minimizes: the task says it, or in pre-training the config."""
  if task is not None:
    return task.problem.objective(task.facts())
  return assembly.make_objective(settings.objective, settings.data.length, tokenizer)


def require_dropout(compute: models.Compute, method: transfer.TransferMethod) -> None:
  """Raises ConfigError for R-Drop without dropout: its two passes would be one."""
  if 'rdrop' in regularizers_of(method) and compute.dropout == 0:
    raise ConfigError(
      'config.compute.dropout: 0.0, but rdrop compares two passes that differ in '
      'their dropout alone'
    )


def regularizers_of(method: transfer.TransferMethod) -> list[str]:
  """The names of all regularizers of a method."""
  return [how.name for how in method.regularizers]
