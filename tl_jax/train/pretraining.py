"""Pre-training prepared: from a mixture of texts to rows, a model and its objective.

>>> params, account = continued({'body': 1.0}, {'body': 0.0, 'head': {'bias': 0.0}})
>>> float(params['body']), float(params['head']['bias'])
(1.0, 0.0)
"""

import pathlib
import re
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from tl_jax import data, interop, models, objectives, parallel, transfer, tree
from tl_jax.train import assembly, datasets, notes
from tl_jax.train.assembly import HEAD_PATTERNS
from tl_jax.train.checks import check_fit
from tl_jax.train.evaluators import MixtureEvaluator
from tl_jax.train.prepared import Evaluation, Own, account_of, open_tokenizer
from tl_jax.train.restoring import load
from tl_jax.train.settings import SCRATCH, Pretrain
from tl_jax.train.step import TrainState

ENOUGH_TEXTS = 100_000  # of one source, to train a tokenizer on


class PreparedPretraining(NamedTuple):
  """A `Prepared` of pre-training.

  folder: where encoded texts are kept. read: the sha256 of the user's files that are
  read, by path. told: what a run says of its texts.
  """

  settings: Pretrain
  tokenizer: Any
  examples: dict
  rows: data.pipeline.Stream
  parts: assembly.Components
  folder: pathlib.Path
  read: dict[str, str]
  told: list[str]
  source: interop.Loaded | None = None

  task = None
  name = 'pretrain'
  title = 'pretrain'

  @property
  def lines(self) -> list[str]:
    return [f'tokenizer: {self.tokenizer.vocabulary_size} pieces']

  def params(self, seed):
    """The model's first parameters, those of the source where there is one; `seed` may
    be traced.
    """
    return self._params(self.given(), seed)

  def given(self) -> dict:
    """The source's parameters and the first bias of the head, each None without."""
    params = None if self.source is None else self.source.params
    bias = None
    if self.settings.unigram_bias:
      vocabulary = self.parts.model.arch.vocabulary
      bias = datasets.log_frequencies(self.settings, self.examples, vocabulary)
    return parallel.to_host(dict(params=params, bias=bias))

  def first_state(self, given: dict, own: Own) -> TrainState:
    return own.first_state(self.parts, self._params(given, own.seed))

  def _params(self, given: dict, seed):
    params = assembly.make_params(self.parts.model, seed)
    if given['params'] is not None:
      params, _ = continued(given['params'], params)
    if given['bias'] is not None:
      params['head']['bias'] = jnp.asarray(given['bias'])
    return params

  def account(self) -> transfer.Account | None:
    if self.source is None:
      return None
    return account_of(self.parts.model, self.source, continued)

  def files(self) -> dict[str, str]:
    return self.read

  def stream(self, settings: Pretrain) -> tuple[data.pipeline.Stream, np.ndarray]:
    """The rows of the mixture; they come from no labelled example."""
    del settings
    return self.rows, np.zeros(0, int)

  def notes(self, settings: Pretrain, chosen: np.ndarray) -> list[str]:
    del settings, chosen
    return self.told

  def evaluator(self, sharding) -> MixtureEvaluator:
    return MixtureEvaluator(
      self.settings, self.parts, self.tokenizer, self.folder, sharding
    )

  def write_predictions(self, folder: pathlib.Path, found: Evaluation) -> None:
    """Nothing: texts have no answers."""


def prepare(
  settings: Pretrain,
  folder: pathlib.Path,
  is_primary: bool = True,
  cache: pathlib.Path | None = None,
) -> PreparedPretraining:
  """Trains or reads the tokenizer, encodes the mixture and builds the model.

  The tokenizer is kept in `folder`, the encoded texts below `cache` (by default in
  `folder`).
  """
  cache = folder if cache is None else cache
  mixture = datasets.mixture_texts(settings)
  source = None if settings.init == SCRATCH else load(settings.init)
  tokenizer = open_tokenizer(
    settings, source, lambda: some_texts(mixture), folder, is_primary
  )
  examples = datasets.mixture_examples(settings, tokenizer, cache, mixture)
  stream = datasets.pretraining_stream(settings, examples, tokenizer)
  parts = build_components(settings, tokenizer, arch_of(settings, tokenizer, source))
  return PreparedPretraining(
    settings,
    tokenizer,
    examples,
    stream,
    parts,
    cache,
    notes.files_of(mixture.values()),
    notes.of_mixture(mixture, examples),
    source,
  )


def some_texts(mixture: dict) -> list[str]:
  """What a tokenizer is trained on: the texts of every source.

  Of a large source they are as many as suffice, evenly spread.
  """
  found = []
  for source in mixture.values():
    stride = max(1, len(source) // ENOUGH_TEXTS)
    found += [example['text'] for example in source[::stride]]
  return found


def continued(source, target):
  """The source's values in the target's tree, and the account of all leaves.

  A head that the source has not, or of another kind, starts afresh.
  """
  givers, takers = tree.flatten(source), tree.flatten(target)
  is_new = tree.matcher(HEAD_PATTERNS, transfer.POOLER)

  def fits(name):
    if name not in givers or name not in takers:
      return False
    return jnp.shape(givers[name]) == jnp.shape(takers[name])

  def unfitting(names):
    return [re.escape(name) for name in names if is_new(name) and not fits(name)]

  return transfer.transplant(
    source, target, fresh=unfitting(takers), drop=unfitting(givers)
  )


def arch_of(
  settings: Pretrain, tokenizer, source: interop.Loaded | None
) -> models.Arch:
  """The architecture of a run: its source's, or the config's with the tokenizer's
  vocabulary.
  """
  head = objectives.OBJECTIVES[settings.objective['name']].head
  if source is None:
    return assembly.base_arch(settings, vocabulary=tokenizer.vocabulary_size, head=head)
  arch = interop.with_head(source, head)
  assembly.require_kind(settings, arch)
  check_fit(settings, arch)
  return arch


def build_components(
  settings: Pretrain, tokenizer, arch: models.Arch
) -> assembly.Components:
  """Model, objective, method and optimizer of a pre-training run."""
  # Told of the tokenizer's pieces, not of the model's rows: its table may be longer
  # than what is ever drawn from it.
  objective = assembly.make_objective(settings, tokenizer)
  return assembly.assemble(settings, arch, objective)
