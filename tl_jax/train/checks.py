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

from tl_jax import config as configs
from tl_jax import data, evals, models, objectives
from tl_jax.checkpoint import files
from tl_jax.config import ConfigError
from tl_jax.train import assembly, datasets
from tl_jax.train.settings import SCRATCH, Pretrain, Settings, Transfer

# Of config.model, what no config chooses, and why.
CHOSEN_BY_THE_RUN = {
  'head': 'the task or the objective chooses it',
  'labels': 'the task has them',
}


def read(config, where_made: bool = True) -> Settings:
  """The settings of a config: of a transfer where it has a `task`, else of pre-training.

  Raises ConfigError naming the key and the nearest right thing. `where_made` False
  leaves out the files that the run was made from: a finished run needs them no more.
  """
  mode, other = modes_of(config)
  foreign = keys_of_other(mode, other, config)
  if foreign:
    raise _foreign_key(foreign[0], mode, other)
  settings = configs.struct(mode, config, 'config')
  if mode is Transfer:
    _check_transfer(settings, where_made)
  else:
    _check_pretraining(settings, where_made)
  if where_made:
    _check_unread(settings)
    _check_files(settings)
  _check_rows(settings)
  _check_model(settings)
  return settings


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
  near = configs.nearest(name, [field.name for field in dataclasses.fields(place)])
  return ConfigError(
    f'config.{key}: unknown key of {mode.words}, only {other.words} has it; '
    f'nearest: {near}'
  )


def check_fit(settings: Settings, arch: models.Arch) -> None:
  """Refuses rows longer than the model's positions, and heads that the tensor axis does
  not divide.
  """
  reserved = _reserved_positions(settings)
  if arch.room is not None and settings.data.length > arch.room - reserved:
    kept = f', {reserved} of them kept by config.method' if reserved else ''
    raise ConfigError(
      f'config.data.length: rows of {settings.data.length} tokens, but the model has '
      f'{arch.room} positions (config.model.max_positions){kept}'
    )
  tensor = settings.mesh.axis_size('tensor')
  if arch.key_heads % tensor:
    raise ConfigError(
      f'config.mesh.tensor: {arch.key_heads} heads are not divisible by {tensor}'
    )


def _reserved_positions(settings: Settings) -> int:
  """How many positions of every example the method keeps for itself."""
  return (
    0
    if settings.method.get('name') in evals.BASELINES
    else assembly.make_method(settings).reserved_positions
  )


def _check_transfer(settings: Transfer, where_made: bool) -> None:
  if settings.method.get('name') not in evals.BASELINES:
    assembly.make_method(settings)
  if where_made:
    datasets.task_of(settings)


def _check_pretraining(settings: Pretrain, where_made: bool) -> None:
  assembly.make_method(settings)
  assembly.make_objective(settings, objectives.Nominal())
  mixture = settings.data.mixture
  if not sum(mixture.values()):
    raise ConfigError(
      'config.data.mixture: names no text; give {source: weight} with a weight above 0'
    )
  objective = settings.objective['name']
  if settings.unigram_bias and objective != 'masked':
    raise ConfigError(
      'config.unigram_bias: only the head of objective masked has a bias, not that of '
      f'{objective!r}'
    )
  if where_made:
    for name, weight in mixture.items():
      if weight:
        data.sources.require(name, settings.data.directory or None)


def _check_unread(settings: Settings) -> None:
  """Refuses a key that would change nothing: whoever wrote it means something else."""
  for key, reason in CHOSEN_BY_THE_RUN.items():
    if settings.model.get(key):
      raise ConfigError(f'config.model.{key}: no run reads it: {reason}; leave it out')


def _check_files(settings: Settings) -> None:
  if settings.tokenizer.path and settings.init != SCRATCH:
    raise ConfigError(
      f'config.tokenizer.path: {settings.tokenizer.path}: a run from config.init has '
      'the tokenizer of that model; leave it out'
    )
  if settings.tokenizer.path and not pathlib.Path(settings.tokenizer.path).is_file():
    raise ConfigError(f'config.tokenizer.path: {settings.tokenizer.path}: no such file')
  files.require_local(settings.init, 'config.init:')
  if (
    settings.init != SCRATCH
    and not settings.init.lower().endswith('.gguf')
    and not (pathlib.Path(settings.init) / 'config.json').is_file()
  ):
    raise ConfigError(
      f'config.init: {settings.init}: not {SCRATCH!r}, a workdir or a Hugging Face folder'
    )


def _check_rows(settings: Settings) -> None:
  group, mesh = settings.data, settings.mesh
  data, fsdp = mesh.axis_size('data'), mesh.axis_size('fsdp')
  # Every device has as many rows in every part of a step.
  parts = data * fsdp * group.accumulate
  if group.batch % parts:
    fitting = max(1, round(group.batch / parts)) * parts
    raise ConfigError(
      f'config.data.batch: {group.batch} rows are not divisible by data {data} x fsdp '
      f'{fsdp} x accumulate {group.accumulate}; nearest: {fitting}'
    )


def _check_model(settings: Settings) -> None:
  if settings.init == SCRATCH:
    arch = assembly.base_arch(settings)
    if isinstance(settings, Pretrain):
      assembly.require_kind(settings, arch)
    check_fit(settings, arch)
    return
  for key, value in settings.model.items():
    if key != 'family' or value:
      raise ConfigError(
        f'config.model.{key}: {value!r}, but the model is that of config.init; leave it out'
      )
