"""Rotary positions and attention windows as `config.json` says them, in its older and its newer form.

>>> read(dict(rope_theta=5e5, rope_scaling=dict(rope_type='linear', factor=2.0)), 1e4)
(500000.0, 0.0, (2.0,))
"""

from tl_jax.models import Arch

GLOBAL, LOCAL = 'full_attention', 'sliding_attention'


def read(config: dict, base: float, local: float = 0.0, key: str = 'rope_theta') -> tuple[float, float, tuple]:
  """(base, base of local layers, scaling), with the defaults of the family. Raises ValueError for a scaling unknown."""
  base = float(config.get(key) or base)
  found = config.get('rope_parameters')
  if found is None:
    return base, float(local), _scaling(config.get('rope_scaling'), config)
  if GLOBAL in found or LOCAL in found:
    wide, near = found.get(GLOBAL) or {}, found.get(LOCAL) or {}
    if _scaling(near, config):
      raise ValueError(f'config.json: rope_parameters.{LOCAL}: scaling of local layers is not supported')
    return float(wide.get('rope_theta', base)), float(near.get('rope_theta', local)), _scaling(wide, config)
  return float(found.get('rope_theta', base)), float(local), _scaling(found, config)


def _scaling(found: dict | None, config: dict) -> tuple[float, ...]:
  found = found or {}
  kind = found.get('rope_type', found.get('type', 'default'))
  if kind == 'default':
    return ()
  if kind == 'linear':
    return (float(found['factor']),)
  if kind == 'llama3':
    length = found.get('original_max_position_embeddings') or config.get('max_position_embeddings')
    return tuple(float(found[name]) for name in ('factor', 'low_freq_factor', 'high_freq_factor')) + (float(length),)
  raise ValueError(f"config.json: rope_type {kind!r} is not supported; 'default', 'linear' and 'llama3' are")


def write(arch: Arch, nested: bool = False) -> dict:
  """The newer form: `rope_parameters`, by kind of layer if nested."""
  wide = dict(rope_theta=arch.rotary_base, rope_type='default')
  if len(arch.rotary_scaling) == 1:
    wide |= dict(rope_type='linear', factor=arch.rotary_scaling[0])
  elif arch.rotary_scaling:
    factor, low, high, length = arch.rotary_scaling
    wide |= dict(rope_type='llama3', factor=factor, low_freq_factor=low, high_freq_factor=high,
                 original_max_position_embeddings=int(length))
  near = dict(rope_theta=arch.local_rotary_base or arch.rotary_base, rope_type='default')
  return dict(rope_parameters={GLOBAL: wide, LOCAL: near} if nested else wide) | (layer_types(arch) if nested else {})


def windows(kinds: list[str], window: int) -> tuple[int, ...]:
  """The shortest pattern of windows that gives every layer its own. Raises ValueError for a kind unknown."""
  unknown = sorted(set(kinds) - {GLOBAL, LOCAL})
  if unknown:
    raise ValueError(f'config.json: layer_types: {unknown[0]!r} is not supported; {GLOBAL!r} and {LOCAL!r} are')
  found = tuple(window if kind == LOCAL else 0 for kind in kinds)
  period = next(n for n in range(1, len(found) + 1) if all(found[i] == found[i % n] for i in range(len(found))))
  return found[:period]


def layer_types(arch: Arch) -> dict:
  """`layer_types` of every layer. Raises ValueError where two windows differ."""
  if len(set(arch.windows) - {0}) > 1:
    raise ValueError(f'windows: {arch.windows} has two lengths, config.json has room for one')
  return dict(layer_types=[LOCAL if arch.windows[i % len(arch.windows)] else GLOBAL for i in range(arch.layers)])


def write_windows(arch: Arch) -> dict:
  """`layer_types` and `sliding_window`."""
  return layer_types(arch) | dict(sliding_window=max(arch.windows) or None)


def whole(value: float):
  """An integer where the value is one, so that a config reads as it was written."""
  return round(value) if abs(value - round(value)) < 1e-6 * abs(value) else value
