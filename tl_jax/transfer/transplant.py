"""The leaves of one model moved into another, every one accounted for.

>>> import numpy as np
>>> source = {'body': np.ones(2, np.float32), 'old_head': np.ones(3, np.float32)}
>>> target = {'encoder': np.zeros(2, np.float32), 'head': np.zeros(4, np.float32)}
>>> rules = dict(rename=[('body', 'encoder')], fresh=['head'], drop=['old_head'])
>>> params, account = transplant(source, target, **rules)
>>> params['encoder'].tolist(), account.counts['renamed'], account.counts['fresh']
([1.0, 1.0], 1, 1)
"""

import re
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from tl_jax import tree
from tl_jax.transfer.account import Account, Entry

Tree = Any
Rename = tuple[str, str | tuple[str, ...]]

# How many of the unexplained leaves an error spells out.
SHOWN = 4


def transplant(
  source: Tree,
  target: Tree,
  *,
  rename: Iterable[Rename] = (),
  fresh: Iterable[str] = (),
  drop: Iterable[str] = (),
  resize: Iterable[str] = (),
) -> tuple[Tree, Account]:
  """The tree `target` with the values of `source`, and the account of every leaf of
  both.

  source, target: pytrees of arrays; `target` holds a fresh initialisation. Every rule
  below is a regular expression of a whole name.
  rename: (pattern of source names, replacement, or several for a leaf that goes to
  several places); the first that matches counts.
  drop: source names to leave behind.
  fresh: target names that keep their initialisation.
  resize: target names that may differ from their source in the length of one axis (a
  vocabulary). The rows that both have are the source's, further rows the target's own.
  A value takes the dtype of the leaf that it fills, and its sharding where that leaf is
  committed to devices. Leaves that change neither are shared with `source`, not copied.
  Errors: ValueError for a rule that matches nothing, and for every leaf that no rule
  explains, with shapes, nearest names and a rule that would explain it.
  """
  rename = [(pattern, _as_tuple(places)) for pattern, places in rename]
  rules = {
    'fresh': _as_tuple(fresh),
    'drop': _as_tuple(drop),
    'resize': _as_tuple(resize),
  }
  tree.require_arrays(source, 'transplant: source')
  tree.require_arrays(target, 'transplant: target')
  givers = tree.flatten(source)
  takers = tree.flatten(target)

  # A rule that matches nothing is a typing error, and would hide what it was for.
  tree.require_match([pattern for pattern, _ in rename], givers, 'transplant: rename')
  tree.require_match(rules['drop'], givers, 'transplant: drop')
  tree.require_match(rules['fresh'], takers, 'transplant: fresh')
  tree.require_match(rules['resize'], takers, 'transplant: resize')
  matches = {rule: tree.matcher(*patterns) for rule, patterns in rules.items()}
  plan = _plan(givers, takers, rename, matches)

  values = {}
  used = set()
  for entry in plan:
    if entry.outcome == 'dropped':
      continue
    giver = givers.get(entry.source)
    taker = takers[entry.target]
    # A source that goes to several places must be copied for all but the first.
    values[entry.target] = _value(entry, giver, taker, entry.source in used)
    used.add(entry.source)
  filled = tree.map_named(lambda name, leaf: values[name], target)
  return filled, Account(tuple(plan))


def _as_tuple(patterns: str | Iterable[str]) -> tuple[str, ...]:
  """One pattern or several, as several."""
  return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _plan(givers: dict, takers: dict, rename, matches) -> list[Entry]:
  """What happens to every leaf, in the target's order and then what was dropped.

  Errors: ValueError unless every leaf of both trees is explained.
  """
  # Faults are collected, so that one call names all that is unexplained.
  origin, dropped, faults = _origins(givers, takers, rename, matches)
  entries = []
  for name, leaf in takers.items():
    if name in origin:
      source = origin[name]
      giver = givers[source]
      may_resize = matches['resize'](name)
      outcome, fault = _compare(source, giver, name, leaf, may_resize)
      entries.append(Entry(outcome, name, source, *_facts(giver), *_facts(leaf)))
      if fault is not None:
        faults.append(fault)
    elif matches['fresh'](name):
      entries.append(Entry('fresh', name, None, None, None, *_facts(leaf)))
    else:
      faults.append(_missing(name, givers, takers))
  if faults:
    left = len(faults) - SHOWN
    more = f'; and {left} more' if left > 0 else ''
    shown = '; '.join(faults[:SHOWN])
    raise ValueError(f'transplant: {len(faults)} unexplained: {shown}{more}')
  return entries + dropped


def _origins(
  givers: dict, takers: dict, rename, matches
) -> tuple[dict[str, str], list[Entry], list[str]]:
  """(the source of every filled leaf of the target, what is dropped, what is wrong)."""
  origin = {}
  dropped = []
  faults = []
  for name, giver in givers.items():
    if matches['drop'](name):
      dropped.append(Entry('dropped', None, name, *_facts(giver), None, None))
      continue
    for place in _places(name, rename):
      if place in origin:
        faults.append(
          f'{origin[place]!r} and {name!r} both go to {place!r}: '
          f'drop=({re.escape(name)!r},)'
        )
      elif place not in takers or matches['fresh'](place):
        faults.append(_surplus(name, place, givers, takers))
      else:
        origin[place] = name
  return origin, dropped, faults


def _places(name: str, rename) -> list[str]:
  """Where a leaf of the source goes: the places of the first rename that matches it."""
  # Only the first that matches counts, so that special cases can stand before a rule.
  for pattern, replacements in rename:
    match = re.fullmatch(pattern, name)
    if match:
      try:
        return [match.expand(replacement) for replacement in replacements]
      except (re.error, IndexError) as error:
        raise ValueError(
          f'transplant: rename: {replacements} does not fit {pattern!r}: {error}'
        ) from error
  return [name]


def _facts(leaf) -> tuple[tuple[int, ...], str]:
  """(shape, name of the dtype) of an array, of its shape alone, or of a number."""
  dtype = leaf.dtype if hasattr(leaf, 'dtype') else np.dtype(jnp.result_type(leaf))
  return tuple(np.shape(leaf)), str(dtype)


def _compare(
  source: str, giver, target: str, taker, may_resize: bool
) -> tuple[str, str | None]:
  """(outcome, what is wrong or None) of filling one leaf from another.

  Where something is wrong, no entry with the outcome is ever shown.
  """
  old, old_dtype = _facts(giver)
  new, new_dtype = _facts(taker)
  label = repr(target) if source == target else f'{source!r} -> {target!r}'
  # Floats are cast to floats; an index cast to a float would be another thing.
  both_floating = _is_floating(giver) and _is_floating(taker)
  if old_dtype != new_dtype and not both_floating:
    return '', (
      f'{label} is {old_dtype} in the source and {new_dtype} in the target: only '
      'floats are cast to floats'
    )
  if old == new:
    return 'copied' if source == target else 'renamed', None
  shapes = f'{label} is {old} in the source and {new} in the target'
  if not _differ_in_one_axis(old, new):
    rules = f'drop=({re.escape(source)!r},) and fresh=({re.escape(target)!r},)'
    return '', f'{shapes}: {rules}'
  if not may_resize:
    return '', f'{shapes}: resize=({re.escape(target)!r},)'
  return 'resized', None


def _differ_in_one_axis(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
  """Do two shapes have as many axes, and all but one of the same length?"""
  if len(one) != len(other):
    return False
  differing = [a != b for a, b in zip(one, other, strict=True)]
  return sum(differing) == 1


def _is_floating(leaf) -> bool:
  """Is it an array of floating-point numbers?"""
  return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _surplus(name: str, place: str, givers: dict, takers: dict) -> str:
  """What is wrong with a leaf of the source that fills none of the target's.

  place: where the renames would put it.
  """
  shape, _ = _facts(givers[name])
  rule = f'drop=({re.escape(name)!r},)'
  if place in takers:
    taken, _ = _facts(takers[place])
    return f'source {name!r} {shape} goes to {place!r} {taken}, which is fresh: {rule}'
  moved = '' if name == place else f' (renamed {place!r})'
  # A name that both trees have is no likely place for another leaf.
  free = {other for other in takers if other not in givers} or takers
  nearest = _nearest(place, free, takers)
  return (
    f'source {name!r} {shape}{moved} has no place in the target, nearest {nearest}: '
    f'{rule} or a rename'
  )


def _missing(name: str, givers: dict, takers: dict) -> str:
  """What is wrong with a leaf of the target that nothing fills."""
  shape, _ = _facts(takers[name])
  # A name that both trees have has its own place already.
  free = {other for other in givers if other not in takers} or givers
  nearest = _nearest(name, free, givers)
  return (
    f'target {name!r} {shape} has no source, nearest {nearest}: '
    f'fresh=({re.escape(name)!r},) or a rename'
  )


def _nearest(name: str, names: Iterable[str], leaves: dict) -> str:
  """The names nearest to one, each with the shape of its leaf."""
  found = tree.nearest(name, sorted(names), most=2)
  for other in names:
    shape, _ = _facts(leaves[other])
    found = found.replace(repr(other), f'{other!r} {shape}')
  return found


def _value(entry: Entry, giver, taker, used: bool) -> jax.Array:
  """What stands at a leaf of the target.

  used: does the source's leaf stand somewhere else already?
  """
  if entry.outcome == 'fresh':
    return jnp.asarray(taker)
  # One buffer at two places of a state could not be donated.
  value = giver.copy() if used else giver
  if entry.source_dtype != entry.target_dtype:
    value = value.astype(taker.dtype)
  if entry.outcome == 'resized':
    value = _resized(value, taker)
  if _is_placed(taker):
    return jax.device_put(value, taker.sharding)
  return jnp.asarray(value)


def _resized(value, taker) -> jax.Array:
  """The target's leaf with the rows of the value that fit in it."""
  sizes = zip(np.shape(value), np.shape(taker), strict=True)
  kept = tuple(slice(min(pair)) for pair in sizes)
  rows = value[kept]
  if _is_placed(taker):
    rows = jax.device_put(rows, _replicated(taker.sharding))
  return jnp.asarray(taker).at[kept].set(rows)


def _is_placed(leaf) -> bool:
  """Is it an array that was put on devices, where its replacement must be put too?"""
  if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer):
    return False
  return leaf.committed


def _replicated(sharding):
  """The sharding with everything on each of its devices.

  It is for a part of an array, whose length its axes might not divide.
  """
  if not isinstance(sharding, NamedSharding):
    return sharding
  return NamedSharding(sharding.mesh, PartitionSpec())
