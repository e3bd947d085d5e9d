"""What decoding needs of the memory at the least, refused where it can never be had.

>>> bytes_of(Work(rows=8, sequences=1, new=64), Cost(parameters=0, position=1024, columns=16))
659456
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax import parallel
from tl_jax.config import ConfigError
from tl_jax.decode.settings import Decoding
from tl_jax.parallel import GIB

# A new token has its number and its score, or its number in two sets of beams.
TOKEN = 2 * np.dtype(np.int32).itemsize


class Work(NamedTuple):
  """How much is decoded at once: rows, the sequences of each, their new tokens."""

  rows: int
  sequences: int
  new: int


# How much of it a call asks for where nobody says.
USUAL = dict(rows=8, new=Decoding.max_new_tokens)


class Cost(NamedTuple):
  """Bytes of the parameters, and of each position in the cache of a sequence.

  columns: the positions before the new tokens.
  """

  parameters: int
  position: int
  columns: int


def bytes_of(work: Work, cost: Cost) -> int:
  """What must be in the memory at the same time, at the least."""
  positions = cost.columns + work.new
  sequence = cost.position * positions + TOKEN * work.new
  return cost.parameters + work.rows * work.sequences * sequence


def require_memory(
  decoder,
  params: Any,
  settings: Decoding,
  rows: int,
  columns: int,
  is_spread: bool = False,
) -> None:
  """Raises ConfigError for a batch that the memory here can never hold.

  The error names the setting whose default would help most, and how much of it may fit.
  Where it is not known how much memory there is, nothing is refused.

  Args:
    rows: how many texts are decoded at once.
    columns: how many positions each has before its new tokens.
    is_spread: do several devices share the rows?
  """
  capacity = parallel.capacity_for(parallel.MeshShape())
  if capacity is None:
    return
  size = capacity.size
  if is_spread:
    size *= capacity.axes['data']
  held = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
  # What only imitates a decoder need not say what its cache takes.
  cost = Cost(held, getattr(decoder, 'position_bytes', 0), columns)
  many = 'beams' if settings.method == 'beam' else 'samples'
  work = Work(rows, getattr(settings, many), settings.max_new_tokens)
  need = bytes_of(work, cost)
  if need <= size:
    return
  usual = USUAL | dict(sequences=getattr(Decoding, many))

  def without(field: str) -> int:
    return bytes_of(work._replace(**{field: usual[field]}), cost)

  field = min(Work._fields, key=without)
  name = dict(rows='batch', sequences=many, new='max_new_tokens')[field]
  value = getattr(work, field)
  raise ConfigError(
    f'{name}: {value}: decoding {rows} at once needs at least {need / GIB:,.1f} GiB, '
    f'but {capacity}{_nearest(work, cost, field, size)}'
  )


def _nearest(work: Work, cost: Cost, field: str, size: int) -> str:
  """How much of a field may fit, in words; nothing where no value does."""
  # What is needed grows with each field in proportion.
  none = bytes_of(work._replace(**{field: 0}), cost)
  growth = bytes_of(work, cost) - none
  fitting = int(getattr(work, field) * (size - none) / growth)
  return f'; nearest: {fitting} or less' if fitting > 0 else ''
