"""The transfer method of a run: what `config.method` names, or several composed.

>>> name_of({'name': 'compose', 'methods': (('lora', {}), ('l2sp', {}))})
'lora+l2sp'
"""

import dataclasses
import inspect
import pathlib
from collections.abc import Mapping

from tl_jax import config as configs
from tl_jax import evals, models, tasks, transfer
from tl_jax.config import ConfigError
from tl_jax.train.settings import Settings, Transfer


def name_of(group) -> str:
  """How results call the method of `config.method`: several names with + between."""
  if group['name'] != 'compose':
    return group['name']
  return '+'.join(part for part, _ in group['methods'])


def method_of(
  settings: Settings, task: tasks.Task | None
) -> transfer.TransferMethod | None:
  """The method of a run; None for a baseline, which trains no model.

  Raises ConfigError for a method that cannot be, or that the task cannot have.
  """
  is_transfer = isinstance(settings, Transfer)
  name = settings.method.get('name')
  if is_transfer and name in evals.BASELINES:
    # Of a run that is read again without its files, there is no task to ask.
    if task is not None:
      _require_answers(name, task)
    return None
  # A text is written by the head that the model has: a method treats it like the rest.
  fresh_head = task is None or task.problem.fresh_head
  method = make(settings.method, fresh_head)
  # Without a task this is pre-training, or a run that has been made already.
  if task is not None:
    require_regularizers(method, settings.init, settings.compute)
  return method


def _require_answers(name: str, task: tasks.Task) -> None:
  """Raises ConfigError for a task whose answers a baseline cannot give."""
  if name in evals.WRITERS:
    fits, answers = task.problem.answer == 'generate', 'texts to write'
  else:
    fits, answers = task.problem.exclusive, 'one label per example'
  if not fits:
    raise ConfigError(
      f'config.method.name: {name} needs a task with {answers}; '
      f'{task.name} is of kind {task.problem.name!r}'
    )


def make(group, fresh_head: bool = True) -> transfer.TransferMethod:
  """The method of `config.method`. Raises ConfigError that names the key.

  Without a `fresh_head` the head is pre-trained like the rest, and a method treats it
  so.
  """
  return _make(group, 'config.method', fresh_head)


def _make(group, path: str, fresh_head: bool) -> transfer.TransferMethod:
  """The method of a group at `path`; that of `compose` has groups of its own."""
  if group.get('name') == 'compose':
    parts = configs.struct(Composed, group, path).methods
    return transfer.compose(
      *(
        _make({'name': name} | dict(options), f'{path}.methods.{name}', fresh_head)
        for name, options in parts
      )
    )
  # `compose` is among the names, so that it can be the nearest to a misspelt one.
  constructor = configs.lookup(
    transfer.METHODS | {'compose': None}, group.get('name'), f'{path}.name'
  )
  given = {}
  # The config may name the leaves of a head itself.
  if not fresh_head and 'head' not in group and _can_do_without_head(constructor):
    given['head'] = None
  return configs.call(constructor, group, path, **given)


def _can_do_without_head(constructor) -> bool:
  """Has a method leaves of its own besides those of a head?"""
  # A probe has not: it trains the head alone, fresh or not.
  parameters = inspect.signature(constructor).parameters
  return 'head' in parameters and constructor is not transfer.probe


def require_regularizers(
  method: transfer.TransferMethod, init: str, compute: models.Compute
) -> None:
  """Raises ConfigError for a regularizer that a transfer cannot have.

  EWC weighs by the task that the source was trained on. R-Drop compares two passes,
  which would be one without dropout.
  """
  names = regularizers_of(method)
  if 'ewc' in names and not (pathlib.Path(init) / 'checkpoints').is_dir():
    raise ConfigError(
      f'config.method: ewc weighs by what the task of config.init needs, but {init} is no '
      'workdir of a transfer; l2sp pulls without'
    )
  if 'rdrop' in names and compute.dropout == 0:
    raise ConfigError(
      'config.compute.dropout: 0.0, but rdrop compares two passes that differ in '
      'their dropout alone'
    )


def regularizers_of(method: transfer.TransferMethod) -> list[str]:
  """The names of all regularizers of a method."""
  return [how.name for how in method.regularizers]


@dataclasses.dataclass(frozen=True)
class Composed:
  """Several methods as one: ((name, options), ...), in this order."""

  name: str
  methods: tuple

  def __post_init__(self):
    for pair in self.methods:
      if not _is_named_group(pair):
        raise ValueError(f'methods: must be pairs (name, options), got {pair!r}')


def _is_named_group(pair) -> bool:
  """Is this (name, options), as a config writes one method of several?"""
  return len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Mapping)
