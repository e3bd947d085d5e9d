"""What a run that learns vectors of texts must know besides: how it pools, what goes
with it.

>>> from tl_jax import models
>>> usual_pool('scratch', models.Arch())
'mean'
"""

import dataclasses
import pathlib

from tl_jax import models, tasks
from tl_jax.config import ConfigError
from tl_jax.interop.sentences import Pooling, read_pooling
from tl_jax.models.pooling import BY_FIELD
from tl_jax.train.settings import Settings

HEAD = 'embedding'
# Of an example, where nobody has read one: a text and the one that belongs to it.
TEXTS = 2


def is_vector(task: tasks.Task | None) -> bool:
  """Does a model answer this task by vectors?"""
  return task is not None and task.problem.head == HEAD


def require_contrast(settings: Settings, task: tasks.Task | None) -> None:
  """Raises ConfigError for settings under which texts cannot be told apart."""
  if not is_vector(task):
    return
  group = settings.data
  if group.accumulate > 1:
    raise ConfigError(
      f'config.data.accumulate: {group.accumulate}, but a text is compared with all '
      'others of its batch, which micro-batches would part; nearest: 1'
    )
  # A packed row has several examples.
  if group.batch == 1 and not group.pack:
    raise ConfigError(
      'config.data.batch: 1 example without packing has no other to be compared with; '
      'nearest: 2'
    )
  if task.problem.name == 'simcse' and not settings.compute.dropout:
    raise ConfigError(
      'config.compute.dropout: 0.0, but kind=simcse tells a text from itself by '
      'dropout alone; nearest: 0.1'
    )


def with_pool(arch: models.Arch, settings: Settings) -> models.Arch:
  """The architecture with the pooling of vectors, where it answers by these.

  Raises ConfigError for a folder of sentences that pools as no run here can.
  """
  if arch.head != HEAD:
    return arch
  pool = settings.model.get('pool') or usual_pool(settings.init, arch)
  return dataclasses.replace(arch, pool=pool)


def usual_pool(init: str, arch: models.Arch) -> str:
  """How the folder of a run's source pools, if it says it; else the mean, and of a
  decoder the last token.
  """
  path = pathlib.Path(init)
  said = read_pooling(path) if path.is_dir() else None
  if said is None:
    return 'last' if arch.kind == 'decoder' else 'mean'
  # Others, such as the largest number of each column, no head of a run has.
  pools = [BY_FIELD[mode] for mode in said.modes if mode in BY_FIELD]
  if len(pools) != 1 or len(said.modes) != 1:
    raise ConfigError(
      f'config.init: {init} pools by {" and ".join(said.modes)}, which no run learns; '
      "--config.model.pool='mean' takes another"
    )
  return pools[0]


def pooling_of(arch: models.Arch, length: int) -> Pooling:
  """How whoever opens a model elsewhere makes its vectors; as it likes where it learned
  none.

  The vectors have length 1: it learned their directions alone. length: the most tokens
  of a text.
  """
  if arch.head != HEAD:
    return Pooling()
  (mode,) = (mode for mode, field in BY_FIELD.items() if field == arch.pool)
  return Pooling((mode,), normalize=True, length=length)


def as_body(arch: models.Arch) -> models.Arch:
  """The architecture without the head of vectors, which has no parameters."""
  if arch.head != HEAD:
    return arch
  # As published bodies have it; their vectors are told apart from it by the pooling.
  pool = {'encoder': 'first', 'decoder': 'last', 'encoder-decoder': 'mean'}[arch.kind]
  return dataclasses.replace(arch, head='none', pool=pool)
