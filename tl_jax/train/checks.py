"""A config read into settings: everything that can be refused is refused here, before
any device is touched.

>>> read({'model': {'family': 'tiny'}, 'optim': {}, 'schedule': {'steps': 1}, 'data': {'lenght': 8}})
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: config.data.lenght: unknown key; nearest: 'length'
"""

import pathlib
from typing import NamedTuple

from tl_jax import config as configs
from tl_jax import data, evals, models
from tl_jax.checkpoint import files
from tl_jax.config import ConfigError
from tl_jax.train import pieces, texts
from tl_jax.train.settings import SCRATCH, Settings

# What one kind of run never reads, and why. A value that asks for nothing may stand.
UNREAD_BY_TRANSFER = {
  'objective': 'the task says what is learned',
  'unigram_bias': 'only a masked head has such a bias',
  'data.mixture': 'the texts are those of config.task',
  'data.column': 'config.task.text names the column of a file',
  'eval.batches': 'config.task.test says how many test examples count',
}
UNREAD_BY_PRETRAINING = {'data.slots': 'a row holds as many texts as fit'}
UNREAD_BY_ANY = {
  'model.head': 'the task or the objective chooses it',
  'model.labels': 'the task has them',
}


class Nominal(NamedTuple):
  """What an objective asks of a tokenizer, before there is one."""

  mask: int = 4
  pad: int = 0
  eos: int = 3
  special_ids: tuple = (0, 1, 2, 3, 4)
  sentinels: tuple = (5, 6, 7)
  continues: None = None


def read(config, where_made: bool = True) -> Settings:
  """The settings of a config. Raises ConfigError naming the key and the nearest right
  thing.

  `where_made` False leaves out the files that the run was made from: a finished run
  needs them no more.
  """
  settings = configs.struct(Settings, config, 'config')
  _check_method(settings)
  if settings.task is None:
    _check_pretraining(settings)
  elif where_made:
    texts.task_of(settings)
  if where_made:
    for name, weight in settings.data.mixture.items():
      if weight:
        data.sources.require(name, settings.data.directory or None)
    _check_unread(settings, config)
    _check_files(settings)
  _check_rows(settings)
  _check_model(settings)
  return settings


def check_fit(settings: Settings, arch: models.Arch) -> None:
  """Refuses rows longer than the model's positions, and heads that the tensor axis does
  not divide.
  """
  reserve = _reserve(settings)
  if arch.room is not None and settings.data.length > arch.room - reserve:
    kept = f', {reserve} of them kept by config.method' if reserve else ''
    raise ConfigError(
      f'config.data.length: rows of {settings.data.length} tokens, but the model has '
      f'{arch.room} positions (config.model.max_positions){kept}'
    )
  tensor = settings.mesh.axis_size('tensor')
  if arch.key_heads % tensor:
    raise ConfigError(
      f'config.mesh.tensor: {arch.key_heads} heads are not divisible by {tensor}'
    )


def _reserve(settings: Settings) -> int:
  """How many positions of every example the method keeps for itself."""
  return (
    0
    if settings.method.get('name') in evals.BASELINES
    else pieces.make_method(settings).reserve
  )


def _check_method(settings: Settings) -> None:
  if settings.method.get('name') in evals.BASELINES and settings.task is not None:
    return
  pieces.make_method(settings)


def _check_pretraining(settings: Settings) -> None:
  pieces.make_objective(settings, 100, Nominal())
  if not settings.data.mixture or not sum(settings.data.mixture.values()):
    raise ConfigError(
      'config.data.mixture: names no text; give {source: weight} with a weight above 0'
    )
  if settings.unigram_bias and settings.objective['name'] != 'masked':
    raise ConfigError(
      f'config.unigram_bias: only the head of objective masked has a bias, not that of '
      f'{settings.objective["name"]!r}'
    )


def _check_unread(settings: Settings, config) -> None:
  """Refuses a key that would change nothing: whoever wrote it means something else."""
  transfer = settings.task is not None
  unread = UNREAD_BY_TRANSFER if transfer else UNREAD_BY_PRETRAINING
  for key, reason in (unread | UNREAD_BY_ANY).items():
    value = configs.plain(config)
    for part in key.split('.'):
      value = value.get(part) if isinstance(value, dict) else None
    if value:
      kind = 'a transfer' if transfer else 'pre-training'
      raise ConfigError(
        f'config.{key}: {kind} does not read it: {reason}; leave it out'
      )


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
    arch = pieces.base_arch(settings)
    if settings.task is None:
      pieces.require_kind(settings, arch)
    check_fit(settings, arch)
    return
  for key, value in settings.model.items():
    if key != 'family' or value:
      raise ConfigError(
        f'config.model.{key}: {value!r}, but the model is that of config.init; leave it out'
      )
