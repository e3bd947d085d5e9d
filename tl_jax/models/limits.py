"""Ids, token types and positions that a model has no row for, refused where they can be
seen.

>>> from tl_jax.models import arch
>>> require_rows(arch('tiny', vocabulary=40), dict(tokens=np.array([[5, 41]])))
Traceback (most recent call last):
ValueError: tokens: an id of 41, but the table has 40 rows (vocabulary)

On an accelerator a lookup beyond a table is no error: the last row is taken. So the
numbers are looked at before, on the host; within jit they are not to be seen.
"""

import jax
import numpy as np

from tl_jax.models.arch import Arch


def require_rows(arch: Arch, batch: dict, reserved: int = 0) -> None:
  """Raises ValueError where a batch asks for what no table of the model has a row for.

  Ids, types and positions (batch, length) of padding do not matter. What is traced
  is passed over. reserved: positions that a prompt or a prefix takes before the text.
  """
  for prefix in ('', 'decoder_'):
    if prefix + 'tokens' in batch:
      _require_side(arch, batch, prefix, reserved)


def _require_side(arch: Arch, batch: dict, prefix: str, reserved: int) -> None:
  """The checks of one stack; prefix: of the keys of the batch that are its own."""
  segments = batch.get(prefix + 'segments')
  whole = segments is None
  read = _seen(segments)
  if read is not None:
    # Segment 0 is padding.
    read = read > 0
  names = dict(tokens='vocabulary', types='types')
  for name, field in names.items():
    found = _extremes(batch.get(prefix + name), read, whole)
    rows = getattr(arch, field)
    if found is None or not rows:
      continue
    least, most = found
    if least < 0 or most >= rows:
      wrong = least if least < 0 else most
      raise ValueError(
        f'{prefix}{name}: an id of {wrong}, but the table has {rows} rows ({field})'
      )
  if arch.room is not None:
    _require_room(arch, batch, prefix, reserved, read, whole)


def _require_room(arch: Arch, batch: dict, prefix: str, reserved: int, read, whole):
  """Checks positions that are given, else those that count from 0 in every segment.

  read: which columns are no padding, or None where that is not to be seen. whole: are
  there no segments, so that all columns are one text?
  """
  longest = None
  length = batch[prefix + 'tokens'].shape[-1]
  if prefix + 'positions' in batch:
    found = _extremes(batch[prefix + 'positions'], read, whole)
    if found is not None:
      least, most = found
      if least < 0:
        raise ValueError(f'{prefix}positions: one of {least} is before the first')
      longest = most + 1
  elif length > arch.room - reserved:
    # Rows longer than the table may still hold short texts, packed.
    longest = length if whole else _longest(batch[prefix + 'segments'])
  if longest is not None and longest > arch.room - reserved:
    kept = f', {reserved} of them taken by a prompt or prefix' if reserved else ''
    raise ValueError(
      f'{prefix}positions: a text of {longest} tokens, but the model has '
      f'{arch.room} positions{kept}'
    )


def _seen(array) -> np.ndarray | None:
  """The numbers, where this process has them all."""
  if array is None or isinstance(array, jax.core.Tracer):
    return None
  if isinstance(array, jax.Array) and not array.is_fully_addressable:
    return None
  return np.asarray(array)


def _extremes(array, read, whole: bool) -> tuple[int, int] | None:
  """The least and the largest of what is read; None where that is not to be seen."""
  array = _seen(array)
  if array is None or not (whole or read is not None):
    return None
  kept = array
  if not whole:
    kept = np.broadcast_to(array, read.shape)[read]
  if not kept.size:
    return None
  return int(kept.min()), int(kept.max())


def _longest(segments) -> int | None:
  """How many columns the longest run of one segment has; None if not to be seen."""
  segments = _seen(segments)
  if segments is None:
    return None
  width = segments.shape[-1]
  index = np.broadcast_to(np.arange(width), segments.shape)
  begins = np.ones(segments.shape, bool)
  before, after = segments[..., :-1], segments[..., 1:]
  begins[..., 1:] = before != after
  # The column in which the run of each column begins.
  begin_or_zero = np.where(begins, index, 0)
  start = np.maximum.accumulate(begin_or_zero, axis=-1)
  lengths = np.where(segments > 0, index - start + 1, 0)
  return int(lengths.max(initial=0))
