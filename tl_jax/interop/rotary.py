"""Rotary positions and attention windows as `config.json` says them, in its older and
its newer form.

>>> read(dict(rope_theta=5e5, rope_scaling=dict(rope_type='linear', factor=2.0)), 1e4)
(500000.0, 0.0, (2.0,))
"""

import math
from collections.abc import Iterator

import numpy as np

from tl_jax.models import Arch

GLOBAL, LOCAL = 'full_attention', 'sliding_attention'


def read(
  config: dict, base: float, local: float = 0.0, key: str = 'rope_theta'
) -> tuple[float, float, tuple]:
  """(base, base of local layers, scaling) that a config says.

  base, local: the defaults of the family. key: what the older form calls the base.
  Raises ValueError for a scaling unknown.
  """
  base = float(config.get(key) or base)
  local = float(local)
  found = config.get('rope_parameters')
  for declared in (config, found, config.get('rope_scaling')):
    _require_whole_heads(declared or {})
  if found is None:
    # The older form has no place for local layers.
    return base, local, _scaling(config.get('rope_scaling'), config)
  if GLOBAL not in found and LOCAL not in found:
    base = float(found.get('rope_theta', base))
    return base, local, _scaling(found, config)
  # The newer form may say the two kinds of layers apart.
  wide = found.get(GLOBAL) or {}
  near = found.get(LOCAL) or {}
  if _scaling(near, config):
    raise ValueError(
      f'config.json: rope_parameters.{LOCAL}: scaling of local layers is not supported'
    )
  base = float(wide.get('rope_theta', base))
  local = float(near.get('rope_theta', local))
  return base, local, _scaling(wide, config)


def _require_whole_heads(declared: dict) -> None:
  """Raises ValueError where only a part of each head is turned."""
  factor = declared.get('partial_rotary_factor', 1.0)
  if factor not in (1.0, None):
    raise ValueError(
      f'config.json: partial_rotary_factor = {factor!r} is not supported; '
      'whole heads are turned'
    )


def _scaling(found: dict | None, config: dict) -> tuple[float, ...]:
  """`Arch.rotary_scaling` from a config's `rope_scaling` or `rope_parameters`."""
  found = found or {}
  # Older files call the key `type`.
  kind = found.get('rope_type', found.get('type', 'default'))
  if kind == 'default':
    return ()
  if kind == 'linear':
    return (float(found['factor']),)
  if kind == 'llama3':
    length = found.get('original_max_position_embeddings') or config.get(
      'max_position_embeddings'
    )
    numbers = (
      found['factor'],
      found['low_freq_factor'],
      found['high_freq_factor'],
      length,
    )
    return tuple(map(float, numbers))
  if kind in ('longrope', 'su'):
    return _long_scaling(found, config)
  raise ValueError(
    f"config.json: rope_type {kind!r} is not supported; 'default', 'linear', 'llama3' and "
    "'longrope' are"
  )


def _long_scaling(found: dict, config: dict) -> tuple[float, ...]:
  """LongRoPE's numbers. A factor that is not said follows from how much longer texts
  may be than they were.
  """
  most = config.get('max_position_embeddings') or 0
  key = 'original_max_position_embeddings'
  # What stands in the config itself goes before what stands among the numbers.
  length = config.get(key) or found.get(key) or most
  if not length:
    raise ValueError(
      'config.json: max_position_embeddings is missing, which longrope needs'
    )
  longer = found.get('factor') or most / length
  factor = found.get('attention_factor')
  if factor is None:
    factor = 1.0
    if longer > 1:
      factor = math.sqrt(1 + math.log(longer) / math.log(length))
  short, long = found['short_factor'], found['long_factor']
  if len(short) < 2 or len(short) != len(long):
    raise ValueError(
      f'config.json: short_factor has {len(short)} numbers, long_factor {len(long)}; '
      'each needs one for every two units of a head'
    )
  return tuple(map(float, (factor, length, *short, *long)))


def from_factors(factors, base: float) -> dict:
  """The `rope_parameters` of a model whose frequencies are divided by `factors`.

  llama.cpp stores the scaling of Llama 3 as these factors, float (head_dim / 2,), and
  not as the four numbers that make them. The numbers found here make them again.
  Raises ValueError if neither Llama 3's scaling nor linear scaling does.
  """
  factors = np.asarray(factors, np.float64)
  exponents = np.arange(len(factors)) / len(factors)
  frequencies = base**-exponents
  largest = float(factors.max())
  if not (np.isfinite(factors) & (factors > 0)).all():
    raise ValueError('factors must be finite and positive')
  if np.allclose(factors, largest, rtol=1e-5):
    if math.isclose(largest, 1.0, rel_tol=1e-5):
      return dict(rope_theta=base, rope_type='default')
    return dict(rope_theta=base, rope_type='linear', factor=_tidy(largest))
  for length, high in _llama3_guesses(factors, frequencies):
    turns = length * frequencies / (2 * math.pi)
    kept = np.clip((turns - 1) / (high - 1), 0.0, 1.0)
    made = 1 / ((1 - kept) / largest + kept)
    if np.allclose(made, factors, rtol=1e-4):
      return dict(
        rope_theta=base,
        rope_type='llama3',
        factor=_tidy(largest),
        low_freq_factor=1.0,
        high_freq_factor=high,
        original_max_position_embeddings=length,
      )
  raise ValueError(
    f'no rope_type makes the factors {factors.round(4).tolist()[:64]}; '
    "'llama3' and 'linear' were tried"
  )


def _llama3_guesses(factors, frequencies) -> Iterator[tuple[int, float]]:
  """(original length, high_freq_factor) that may have made the factors.

  The share of a frequency that is kept is linear in it, between the fast frequencies,
  which are kept, and the slow ones, which are divided. Only ratios of the length and
  the two limits matter, so the low limit is 1, as in every Llama.
  """
  largest = factors.max()
  least_share = 1 / largest
  kept = (1 / factors - least_share) / (1 - least_share)
  slow = kept <= 1e-5
  fast = kept >= 1 - 1e-5
  between = (kept > 1e-5) & (kept < 1 - 1e-5)
  # Radians per position -> positions per turn.
  wavelengths = 2 * math.pi / frequencies
  usual = 4.0
  if between.any():
    turns = 1 + (usual - 1) * kept[between]
    lengths = turns * wavelengths[between]
    yield round(float(lengths.mean())), usual
  elif fast.any():
    # No frequency is blended: any length that keeps these and divides the others is it.
    least = usual * wavelengths[fast].max()
    most = wavelengths[slow].min()
    power = 2 ** math.ceil(math.log2(least))
    length = power if power <= most else round(math.sqrt(least * most))
    yield length, usual
  if between.sum() >= 2:
    slope, offset = np.polyfit(frequencies[between], kept[between], 1)
    if slope > 0 > offset:
      high = _tidy(1 - 1 / float(offset))
      length = 2 * math.pi * float(slope) * (high - 1)
      yield round(length), high


def _tidy(value: float) -> float:
  """A number of few digits where one is within the rounding of float32."""
  short = round(value, 3)
  return short if math.isclose(short, value, rel_tol=1e-5) else value


def write(arch: Arch, nested: bool = False) -> dict:
  """The newer form: `rope_parameters`, by kind of layer if nested."""
  wide = dict(rope_theta=arch.rotary_base, rope_type='default')
  if len(arch.rotary_scaling) == 1:
    wide |= dict(rope_type='linear', factor=arch.rotary_scaling[0])
  elif arch.long_rotary:
    factor, length, *divisors = arch.rotary_scaling
    half = len(divisors) // 2
    wide |= dict(
      rope_type='longrope',
      attention_factor=factor,
      original_max_position_embeddings=int(length),
      short_factor=divisors[:half],
      long_factor=divisors[half:],
    )
  elif arch.rotary_scaling:
    factor, low, high, length = arch.rotary_scaling
    wide |= dict(
      rope_type='llama3',
      factor=factor,
      low_freq_factor=low,
      high_freq_factor=high,
      original_max_position_embeddings=int(length),
    )
  if not nested:
    return dict(rope_parameters=wide)
  # Scaling is of global layers alone.
  base = arch.local_rotary_base or arch.rotary_base
  near = dict(rope_theta=base, rope_type='default')
  return dict(rope_parameters={GLOBAL: wide, LOCAL: near}) | layer_types(arch)


def windows(kinds: list[str], window: int) -> tuple[int, ...]:
  """The shortest pattern of windows that gives every layer its own. Raises ValueError
  for a kind unknown.
  """
  unknown = sorted(set(kinds) - {GLOBAL, LOCAL})
  if unknown:
    raise ValueError(
      f'config.json: layer_types: {unknown[0]!r} is not supported; {GLOBAL!r} and {LOCAL!r} are'
    )
  return shortest([window if kind == LOCAL else 0 for kind in kinds])


def shortest(values: list) -> tuple:
  """The shortest pattern that, repeated, gives every layer its own value."""

  def repeats(period):
    shifted = zip(values, values[period:], strict=False)
    return all(value == later for value, later in shifted)

  periods = range(1, len(values) + 1)
  period = next(filter(repeats, periods))
  return tuple(values[:period])


def layer_types(arch: Arch) -> dict:
  """`layer_types` of every layer. Raises ValueError where two windows differ."""
  if len(set(arch.windows) - {0}) > 1:
    raise ValueError(
      f'windows: {arch.windows} has two lengths, config.json has room for one'
    )
  kinds = []
  for layer in range(arch.layers):
    window = arch.windows[layer % len(arch.windows)]
    kinds.append(LOCAL if window else GLOBAL)
  return dict(layer_types=kinds)


def write_windows(arch: Arch) -> dict:
  """`layer_types` and `sliding_window`."""
  window = max(arch.windows) or None
  return layer_types(arch) | dict(sliding_window=window)


def whole(value: float):
  """An integer where the value is one, so that a config reads as it was written."""
  rounded = round(value)
  return rounded if abs(value - rounded) < 1e-6 * abs(value) else value
