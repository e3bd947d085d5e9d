"""A transfer prepared: from a source and a labelled task to rows, a model and a method.

>>> source = {'body': 1.0, 'head': {'bias': 2.0}}
>>> params, account = transplanted(source, {'body': 0.0, 'head': {'bias': 0.0}})
>>> float(params['body']), float(params['head']['bias'])
(1.0, 0.0)
"""

import dataclasses
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from tl_jax import interop, parallel, tasks, tree
from tl_jax import transfer as methods
from tl_jax.config import ConfigError
from tl_jax.train import assembly, datasets, notes
from tl_jax.train.assembly import HEAD_PATTERNS
from tl_jax.train.checks import check_fit
from tl_jax.train.evaluators import TaskEvaluator
from tl_jax.train.features import Reader
from tl_jax.train.information import fisher_of
from tl_jax.train.prepared import Evaluation, Own, account_of, open_tokenizer
from tl_jax.train.restoring import load
from tl_jax.train.results import write_predictions
from tl_jax.train.settings import SCRATCH, Transfer
from tl_jax.train.step import TrainState


class PreparedTransfer(NamedTuple):
  """A `Prepared` of a transfer: nothing in it depends on the seed or the number of
  labels.
  """

  settings: Transfer
  task: tasks.Task
  tokenizer: Any
  train: datasets.Labelled
  test: datasets.Labelled
  parts: assembly.Components
  source: interop.Loaded | None
  fisher: dict | None = None

  lines = ()

  @property
  def name(self) -> str:
    return self.task.name

  @property
  def title(self) -> str:
    """Task and method, for whoever watches."""
    return f'{self.name}, {assembly.method_name(self.settings)}'

  def params(self, seed):
    """The model's first parameters: the source's, and fresh ones for what is new;
    `seed` may be traced.
    """
    fresh = assembly.make_params(self.parts.model, seed)
    return fresh if self.source is None else transplanted(self.source.params, fresh)[0]

  def weighed(self, state, fisher=None):
    """A first state with the Fisher information of the source in it, where the method
    is EWC.
    """
    fisher = self.fisher if fisher is None else fisher
    if fisher is None:
      return state
    return state._replace(frozen=methods.with_fisher(state.frozen, fisher))

  def account(self) -> methods.Account:
    return account_of(self.parts.model, self.source, transplanted)

  def given(self) -> dict:
    """What the first state of every run of this signature is made from, in the memory
    of the host.
    """
    params = None if self.source is None else self.source.params
    return parallel.to_host(dict(params=params, fisher=self.fisher))

  def first_state(self, given: dict, own: Own) -> TrainState:
    params = assembly.make_params(self.parts.model, own.seed)
    if given['params'] is not None:
      params, _ = transplanted(given['params'], params)
    return self.weighed(own.first_state(self.parts, params), given['fisher'])

  def files(self) -> dict[str, str]:
    """The sha256 of every file of the user that the task is read from, by path."""
    return notes.files_of(self.task.own_sources)

  def notes(self, settings: Transfer, chosen: np.ndarray) -> list[str]:
    """What a run of these settings says of its examples, of which it is trained on the
    `chosen`.
    """
    return notes.of_task(settings, self.task, self.train, self.test, chosen)

  def stream(self, settings: Transfer):
    """The rows that a run of these settings sees, and the indices of the labelled
    examples they come from.
    """
    chosen = datasets.choose_labels(settings, self.task, self.train)
    return datasets.labelled_stream(
      settings, self.train, chosen, self.tokenizer
    ), chosen

  def evaluator(self, sharding) -> TaskEvaluator:
    return TaskEvaluator(Reader(self, sharding))

  def write_predictions(self, folder: pathlib.Path, found: Evaluation) -> None:
    path = folder / 'predictions.jsonl'
    write_predictions(path, self.task, self.test, found.outputs)


def transplanted(source, target):
  """The source's values in the target's tree.

  The head is new, and with it a pooler that is none of the body.
  """
  given, taken = tree.flatten(source), tree.flatten(target)
  is_new, is_pooler = tree.matcher(HEAD_PATTERNS), tree.matcher(methods.POOLER)
  fresh = [re.escape(name) for name in taken if is_new(name)]
  left = [name for name in given if is_pooler(name) and name not in taken]
  drop = [re.escape(name) for name in [*filter(is_new, given), *left]]
  return methods.transplant(source, target, fresh=fresh, drop=drop)


def prepare(
  settings: Transfer,
  folder: pathlib.Path,
  is_primary: bool = True,
  cache: pathlib.Path | None = None,
) -> PreparedTransfer:
  """Opens the source, the task and its texts, and builds the model.

  The tokenizer is kept in `folder`, the encoded texts below `cache` (by default in
  `folder`), where other runs find them. Raises ConfigError where things do not fit.
  """
  task = datasets.task_of(settings)
  problem = task.problem
  head = dict(head=problem.head, labels=task.outputs)
  source = None if settings.init == SCRATCH else load(settings.init)

  def training_texts():
    return tasks.labelled(task, 'train', settings.data.directory or None)[0]

  tokenizer = open_tokenizer(settings, source, training_texts, folder, is_primary)
  if source is None:
    arch = assembly.base_arch(settings, vocabulary=tokenizer.vocabulary_size, **head)
  else:
    arch = dataclasses.replace(interop.with_head(source, problem.head), **head)
    check_fit(settings, arch)
  objective = problem.objective(task.facts())
  parts = assembly.assemble(settings, arch, objective)
  require_dropout(settings, parts.method)
  cache = folder if cache is None else cache
  train, test = (
    datasets.labelled(settings, task, tokenizer, split, cache)
    for split in ('train', 'test')
  )
  return PreparedTransfer(
    settings, task, tokenizer, train, test, parts, source, source_information(settings)
  )


def require_dropout(settings: Transfer, method: methods.TransferMethod) -> None:
  """Raises ConfigError for R-Drop without dropout: its two passes would be one."""
  names = [how.name for how in method.regularizers]
  if 'rdrop' in names and settings.compute.dropout == 0:
    raise ConfigError(
      'config.compute.dropout: 0.0, but rdrop compares two passes that differ in '
      'their dropout alone'
    )


def source_information(settings: Transfer) -> dict | None:
  """What EWC weighs by. ConfigError where the source was trained on no task."""
  if 'ewc' not in assembly.method_name(settings).split('+'):
    return None
  if not (pathlib.Path(settings.init) / 'checkpoints').is_dir():
    raise ConfigError(
      f'config.method: ewc weighs by what the task of config.init needs, but {settings.init} is no '
      'workdir of a transfer; l2sp pulls without'
    )
  return fisher_of(settings.init)
