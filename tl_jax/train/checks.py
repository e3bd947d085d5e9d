"""A config read into settings: everything that can be refused is refused here, before
any device is touched.

>>> from tl_jax.config import load
>>> config = load('configs/pretrain.py:tiny').to_dict()
>>> config['data']['lenght'] = 8
>>> read(config)
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: config.data.lenght: unknown key; nearest: 'length'
"""

import copy
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from tl_jax import config as configs
from tl_jax import files, parallel, tasks, transfer
from tl_jax.config import ConfigError
from tl_jax.evals.calibrating import require_probabilities
from tl_jax.train import (
  assembly,
  datasets,
  methods,
  mixtures,
  phases,
  vectors,
  weighting,
)
from tl_jax.train.settings import (
  SCRATCH,
  Data,
  Pretrain,
  Settings,
  TaskEval,
  Transfer,
)

# Of config.model, what no config chooses, and why.
CHOSEN_BY_THE_RUN = {
  'head': 'the task or the objective chooses it',
  'labels': 'the task has them',
}


class Checked(NamedTuple):
  """The settings of a run, and what the names in them stand for: made once, here.

  method: None for a baseline, which trains no model. task: that of a transfer, open;
  None of a run that is read again without the files it was made from.
  """

  settings: Settings
  method: transfer.TransferMethod | None
  task: tasks.Task | None


def read(config, where_made: bool = True) -> Settings:
  """The settings of a config, as `check` finds them."""
  return check(config, where_made).settings


def check(config, where_made: bool = True) -> Checked:
  """Reads a config: of a transfer where it has a `task`, else of pre-training.

  Raises ConfigError naming the key and the nearest right thing. `where_made` False
  leaves out the files that the run was made from: a finished run needs them no more.
  """
  settings = settings_of(config)
  return check_settings(settings, where_made)


def settings_of(config) -> Settings:
  """The config as the settings of its mode, each key for itself in its range."""
  require_run(config)
  mode, other = modes_of(config)
  foreign = keys_of_other(mode, other, config)
  if foreign:
    raise _foreign_key(foreign[0], mode, other)
  return configs.struct(mode, config, 'config')


def require_run(config) -> None:
  """Raises ConfigError for the config of a corpus, which no run takes."""
  if 'sources' in config:
    raise ConfigError(
      'config.sources: this is the config of a corpus, which tl-jax data prepare takes; '
      'a run is described as in configs/pretrain.py or configs/transfer.py'
    )


def modes_of(config) -> tuple[type, type]:
  """The dataclass of a config's mode, and that of the other one."""
  if config.get('task') is None:
    return Pretrain, Transfer
  return Transfer, Pretrain


def keys_of_other(mode: type, other: type, group, path: str = '') -> list[str]:
  """The dotted keys of a config that only the `other` of two dataclasses has.

  A group that both have is looked into.
  """
  own_fields = {field.name: field for field in dataclasses.fields(mode)}
  found = []
  for field in dataclasses.fields(other):
    if field.name not in group:
      continue
    key = path + field.name
    if field.name not in own_fields:
      found.append(key)
      continue
    own = own_fields[field.name].type
    # A value in the place of a group is refused later, by the name of the group.
    is_group = dataclasses.is_dataclass(own) and hasattr(group[field.name], 'items')
    if is_group and own != field.type:
      found += keys_of_other(own, field.type, group[field.name], f'{key}.')
  return found


def without_foreign_keys(config) -> dict:
  """The config of an old workdir as plain values, without keys of the other mode.

  Configs could have them as long as nobody read them.
  """
  kept = copy.deepcopy(configs.plain(config))
  for key in keys_of_other(*modes_of(config), config):
    *groups, name = key.split('.')
    group = kept
    for part in groups:
      group = group[part]
    del group[name]
  return kept


def _foreign_key(key: str, mode: type, other: type) -> ConfigError:
  """The error for a key that only the other mode reads."""
  *groups, name = key.split('.')
  place = mode
  for part in groups:
    place = next(f.type for f in dataclasses.fields(place) if f.name == part)
  # Near in the group of this mode: the other one has the key itself.
  near = configs.nearest(name, [field.name for field in dataclasses.fields(place)])
  return ConfigError(
    f'config.{key}: unknown key of {mode.words}, only {other.words} has it; '
    f'nearest: {near}'
  )


def check_settings(settings: Settings, where_made: bool = True) -> Checked:
  """What the settings stand for, where all of them go together; see `check`."""
  # What they say alone comes first: to open a task may take its time.
  # 1 for an axis that takes what is left: only the devices say how much that is.
  sizes = {axis: settings.mesh.axis_size(axis) for axis in parallel.AXES}
  phases.require(settings)
  require_divisible(settings.data, sizes)
  if where_made:
    _check_unread(settings.model)
    _check_files(settings.init, settings.tokenizer.path)
  task = None
  if isinstance(settings, Pretrain):
    mixtures.require_texts(settings.data, where_made)
  elif where_made:
    task = datasets.open_task(settings.task, settings.data.directory)
    weighting.require_classes(settings.task, task)
    _require_texts_to_write(settings.eval, task)
    _require_calibrated(settings, task)
    vectors.require_contrast(settings, task)
  method = methods.method_of(settings, task)
  assembly.require_parts(settings, task, method)
  return Checked(settings, method, task)


def _require_texts_to_write(group: TaskEval, task: tasks.Task) -> None:
  """Raises ConfigError where texts are to be written of a task that has none."""
  if group.write and task.problem.answer != 'generate':
    raise ConfigError(
      f'config.eval.write: {task.name} is of kind {task.problem.name!r}, of which '
      'nothing is written; it is False there'
    )


def _require_calibrated(settings: Transfer, task: tasks.Task) -> None:
  """Raises ConfigError where a temperature is asked for and nothing can have one."""
  if not settings.eval.calibrate:
    return
  require_probabilities(task, 'config.eval.calibrate')
  name = settings.method.get('name')
  if name in methods.UNTRAINED:
    raise ConfigError(
      f'config.eval.calibrate: a temperature is fitted to a model that is trained, and '
      f'method {name} trains none; it is False there'
    )


def require_divisible(group: Data, axes: Mapping[str, int]) -> None:
  """Raises ConfigError for rows or positions that axes of these sizes do not divide.

  Every device has as many rows in every part of a step, and as many positions of each.
  """
  *earlier, last = phases.of(group)
  for number, phase in enumerate(earlier):
    _require_divisible(phase.data, axes, f'config.data.phases[{number}]')
  _require_divisible(last.data, axes, 'config.data')


def _require_divisible(group: Data, axes: Mapping[str, int], where: str) -> None:
  """`require_divisible` of one phase; `where` is what the message calls its group."""
  data, fsdp = axes['data'], axes['fsdp']
  if group.accumulate > group.batch:
    raise ConfigError(
      f'config.data.accumulate: {group.accumulate} micro-batches of the {group.batch} '
      f'rows of a batch ({where}.batch); nearest: {group.batch}'
    )
  parts = data * fsdp * group.accumulate
  if group.batch % parts:
    fitting = max(1, round(group.batch / parts)) * parts
    raise ConfigError(
      f'{where}.batch: {group.batch} rows are not divisible by data {data} x fsdp '
      f'{fsdp} x accumulate {group.accumulate}; nearest: {fitting}'
    )
  sequence = axes['sequence']
  if group.length % sequence:
    fitting = max(1, round(group.length / sequence)) * sequence
    raise ConfigError(
      f'{where}.length: {group.length} tokens of a row are not divisible by sequence '
      f'{sequence} (config.mesh.sequence); nearest: {fitting}'
    )


def _check_unread(model: dict) -> None:
  """Refuses a key that would change nothing: whoever wrote it means something else."""
  for key, reason in CHOSEN_BY_THE_RUN.items():
    if model.get(key):
      raise ConfigError(f'config.model.{key}: no run reads it: {reason}; leave it out')


def _check_files(init: str, tokenizer: str) -> None:
  """Refuses a model or a file of a tokenizer that is not there."""
  if tokenizer and init != SCRATCH:
    raise ConfigError(
      f'config.tokenizer.path: {tokenizer}: a run from config.init has the tokenizer of '
      'that model; leave it out'
    )
  if tokenizer and not pathlib.Path(tokenizer).is_file():
    near = configs.beside(tokenizer)
    raise ConfigError(f'config.tokenizer.path: {tokenizer}: no such file{near}')
  files.require_local(init, 'config.init:')
  if (
    init != SCRATCH
    and not init.lower().endswith('.gguf')
    and not (pathlib.Path(init) / 'config.json').is_file()
  ):
    raise ConfigError(
      f'config.init: {init}: not {SCRATCH!r}, a workdir or a Hugging Face folder'
      f'{configs.beside(init)}'
    )
