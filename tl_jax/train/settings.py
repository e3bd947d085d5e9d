"""A config as checked values: everything that can be refused is refused here, before any device is touched.

>>> Data(length=64).batch
32
"""

import dataclasses
import pathlib
from typing import Any, Literal

from tl_jax import config as configs
from tl_jax import evals, models, objectives, optim, tasks, transfer, tree
from tl_jax.config import ConfigError, Count, Natural, NonNegative
from tl_jax.parallel import MeshShape

SCRATCH = 'scratch'


@dataclasses.dataclass(frozen=True)
class Tokenizing:
  """The tokenizer to train, or with a `path` the one to read."""
  kind: Literal['wordpiece', 'bpe'] = 'wordpiece'
  size: Count = 30522
  lowercase: bool = True
  path: str = ''


@dataclasses.dataclass(frozen=True)
class Data:
  """What is read and how it is laid into rows. `batch` counts rows of the whole run's step, over all devices."""
  mixture: dict[str, NonNegative] = dataclasses.field(default_factory=dict)
  length: Count = 128          # tokens in a row
  batch: Count = 32            # rows in a step
  accumulate: Count = 1        # micro-batches in a step
  pack: bool = True            # several examples per row
  slots: Natural = 0           # most examples in a row of a labelled task; 0: one per 8 tokens
  directory: str = ''          # where prepared datasets are; empty: the user's cache

  def __post_init__(self):
    if self.batch % self.accumulate:
      raise ValueError(f'batch: {self.batch} rows do not divide into accumulate={self.accumulate} micro-batches')

  @property
  def most(self) -> int:
    """The most examples in a row of a labelled task."""
    return (self.slots or max(1, self.length // 8)) if self.pack else 1


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  every: Count = 1000          # steps
  keep: Count = 3              # committed steps


@dataclasses.dataclass(frozen=True)
class Eval:
  every: Natural = 0           # steps; 0: only at the end
  batches: Natural = 0         # of the test split; 0: all


@dataclasses.dataclass(frozen=True)
class Log:
  every: Count = 100           # steps
  tensorboard: bool = True


@dataclasses.dataclass(frozen=True)
class TaskChoice:
  name: str
  labels: Natural = 0          # labelled examples to train on, the classes in equal parts; 0: all
  test: Natural = 0            # test examples to score, the classes in equal parts; 0: all


@dataclasses.dataclass(frozen=True)
class Settings:
  """One run. With a `task` it is a transfer, otherwise it is pre-training."""
  model: dict[str, Any]
  optim: optim.OptimConfig
  schedule: optim.ScheduleConfig
  data: Data
  seed: Natural = 0
  compute: models.Compute = dataclasses.field(default_factory=models.Compute)
  objective: dict[str, Any] = dataclasses.field(default_factory=lambda: {'name': 'classify'})
  unigram_bias: bool = False   # the masked head starts at the tokens' log frequencies: a tenth of a small run saved
  tokenizer: Tokenizing = dataclasses.field(default_factory=Tokenizing)
  task: TaskChoice | None = None
  method: dict[str, Any] = dataclasses.field(default_factory=lambda: {'name': 'full'})
  init: str = SCRATCH
  mesh: MeshShape = dataclasses.field(default_factory=MeshShape)
  sharding: Literal['fsdp', 'tensor', 'replicated'] = 'fsdp'
  checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)
  eval: Eval = dataclasses.field(default_factory=Eval)
  log: Log = dataclasses.field(default_factory=Log)


def read(config, where_made: bool = True) -> Settings:
  """The settings of a config. Raises ConfigError naming the key and the nearest right thing.

  `where_made` False leaves out the files that the run was made from: a finished run needs them no more.
  """
  settings = configs.struct(Settings, config, 'config')
  _check_choices(settings)
  if where_made:
    _check_files(settings)
  _check_rows(settings)
  arch = None if settings.init != SCRATCH else base_arch(settings)
  if arch is not None:
    check_fit(settings, arch)
  return settings


def base_arch(settings: Settings, **fields) -> models.Arch:
  """The architecture that the config names, before its vocabulary and head are known."""
  group = dict(settings.model)
  family = group.pop('family', '')
  if not family:
    raise ConfigError('config.model.family: missing; a run from scratch needs one of: '
                      + tree.nearest('bert', models.FAMILIES, most=8))
  return models.arch(family, **group | fields)


def check_fit(settings: Settings, arch: models.Arch) -> None:
  """Refuses rows longer than the model's positions, and heads that the tensor axis does not divide."""
  if arch.positions == 'learned' and settings.data.length > arch.max_positions:
    raise ConfigError(f'config.data.length: rows of {settings.data.length} tokens, but the model has '
                      f'{arch.max_positions} positions (config.model.max_positions)')
  tensor = settings.mesh.ways('tensor')
  if arch.key_heads % tensor:
    raise ConfigError(f'config.mesh.tensor: {arch.key_heads} heads are not divisible by {tensor}')


def _check_choices(settings: Settings) -> None:
  if settings.task is None:
    configs.lookup(objectives.OBJECTIVES, settings.objective.get('name'), 'config.objective.name')
    if settings.unigram_bias and settings.objective['name'] != 'masked':
      raise ConfigError(f'config.unigram_bias: only the head of objective masked has a bias, not that of '
                        f'{settings.objective["name"]!r}')
    if not settings.data.mixture or not sum(settings.data.mixture.values()):
      raise ConfigError('config.data.mixture: names no text; give {source: weight} with a weight above 0')
  else:
    tasks.find(settings.task.name, settings.data.directory or None)
  configs.lookup(transfer.METHODS | evals.BASELINES, settings.method.get('name'), 'config.method.name')


def _check_files(settings: Settings) -> None:
  if settings.tokenizer.path and not pathlib.Path(settings.tokenizer.path).is_file():
    raise ConfigError(f'config.tokenizer.path: {settings.tokenizer.path}: no such file')
  if settings.init != SCRATCH and not (pathlib.Path(settings.init) / 'config.json').is_file():
    raise ConfigError(f'config.init: {settings.init}: not a workdir (no config.json in it), and not {SCRATCH!r}')


def _check_rows(settings: Settings) -> None:
  data, mesh = settings.data, settings.mesh
  ways = mesh.ways('data') * mesh.ways('fsdp')
  if data.batch % (ways * data.accumulate):
    raise ConfigError(
        f'config.data.batch: {data.batch} rows are not divisible by data {mesh.ways("data")} x fsdp '
        f'{mesh.ways("fsdp")} x accumulate {data.accumulate}; nearest: '
        f'{max(1, round(data.batch / (ways * data.accumulate))) * ways * data.accumulate}')
