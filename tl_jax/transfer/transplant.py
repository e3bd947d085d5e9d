"""The leaves of one model moved into another, every one accounted for.

>>> import numpy as np
>>> source = {'body': np.ones(2, np.float32), 'old_head': np.ones(3, np.float32)}
>>> target = {'encoder': np.zeros(2, np.float32), 'head': np.zeros(4, np.float32)}
>>> params, account = transplant(source, target, rename=[('body', 'encoder')], fresh=['head'], drop=['old_head'])
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
  is a regular expression of a whole name. rename: (pattern of source names,
  replacement, or several for a leaf that goes to several places); the first that
  matches counts. drop: source names to leave behind. fresh: target names that keep
  their initialisation.
  resize: target names that may differ from their source in the length of one axis (a
  vocabulary): the rows that both have are the source's, further rows the target's own.
  A value takes the dtype and, where the target's leaf is committed to devices, the
  sharding of the leaf that it fills; leaves that change neither are shared with
  `source`, not copied.
  Errors: ValueError for a rule that matches nothing, and for every leaf that no rule
  explains, with shapes, nearest names and a rule that would explain it.
  """
  rename = [
    (pattern, (to,) if isinstance(to, str) else tuple(to)) for pattern, to in rename
  ]
  rules = {
    'fresh': _patterns(fresh),
    'drop': _patterns(drop),
    'resize': _patterns(resize),
  }
  tree.require_arrays(source, 'transplant: source')
  tree.require_arrays(target, 'transplant: target')
  givers, takers = tree.flatten(source), tree.flatten(target)
  tree.require_match([pattern for pattern, _ in rename], givers, 'transplant: rename')
  for rule, names in (('drop', givers), ('fresh', takers), ('resize', takers)):
    tree.require_match(rules[rule], names, f'transplant: {rule}')
  plan = _plan(
    givers,
    takers,
    rename,
    {rule: tree.matcher(*patterns) for rule, patterns in rules.items()},
  )
  values, used = {}, set()
  for entry in plan:
    if entry.outcome != 'dropped':
      values[entry.target] = _value(
        entry, givers.get(entry.source), takers[entry.target], entry.source in used
      )
      used.add(entry.source)
  return tree.map_named(lambda name, leaf: values[name], target), Account(tuple(plan))


def _patterns(patterns: Iterable[str]) -> tuple[str, ...]:
  return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _plan(givers: dict, takers: dict, rename, matches) -> list[Entry]:
  """What happens to every leaf, in the target's order and then what was dropped;
  ValueError unless all is explained.
  """
  origin, dropped, faults = {}, [], []
  for name in givers:
    if matches['drop'](name):
      dropped.append(Entry('dropped', None, name, *_facts(givers[name]), None, None))
      continue
    for place in _places(name, rename):
      if place in origin:
        faults.append(
          f'{origin[place]!r} and {name!r} both go to {place!r}: drop=({re.escape(name)!r},)'
        )
      elif place not in takers or matches['fresh'](place):
        faults.append(_surplus(name, place, givers, takers))
      else:
        origin[place] = name
  entries = []
  for name, leaf in takers.items():
    if name in origin:
      outcome, fault = _compare(
        origin[name], givers[origin[name]], name, leaf, matches['resize'](name)
      )
      entries.append(
        Entry(outcome, name, origin[name], *_facts(givers[origin[name]]), *_facts(leaf))
      )
      faults += filter(None, [fault])
    elif matches['fresh'](name):
      entries.append(Entry('fresh', name, None, None, None, *_facts(leaf)))
    else:
      faults.append(_missing(name, givers, takers))
  if faults:
    more = f'; and {len(faults) - SHOWN} more' if len(faults) > SHOWN else ''
    raise ValueError(
      f'transplant: {len(faults)} unexplained: {"; ".join(faults[:SHOWN])}{more}'
    )
  return entries + dropped


def _places(name: str, rename) -> list[str]:
  """Where a leaf of the source goes."""
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
  return tuple(np.shape(leaf)), str(
    np.dtype(jnp.result_type(leaf)) if not hasattr(leaf, 'dtype') else leaf.dtype
  )


def _compare(
  source: str, giver, target: str, taker, may_resize: bool
) -> tuple[str, str | None]:
  """(outcome, what is wrong or None) of filling one leaf from another."""
  (old, old_dtype), (new, new_dtype) = _facts(giver), _facts(taker)
  label = repr(target) if source == target else f'{source!r} -> {target!r}'
  if old_dtype != new_dtype and not (_is_floating(giver) and _is_floating(taker)):
    return (
      '',
      f'{label} is {old_dtype} in the source and {new_dtype} in the target: only floats are cast to floats',
    )
  if old == new:
    return 'copied' if source == target else 'renamed', None
  differing = sum(a != b for a, b in zip(old, new, strict=False))
  if len(old) == len(new) and differing == 1:
    return (
      'resized',
      None
      if may_resize
      else f'{label} is {old} in the source and {new} in the target: '
      f'resize=({re.escape(target)!r},)',
    )
  return (
    '',
    f'{label} is {old} in the source and {new} in the target: '
    f'drop=({re.escape(source)!r},) and fresh=({re.escape(target)!r},)',
  )


def _is_floating(leaf) -> bool:
  return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _surplus(name: str, place: str, givers: dict, takers: dict) -> str:
  shape = _facts(givers[name])[0]
  if place in takers:
    return (
      f'source {name!r} {shape} goes to {place!r} {_facts(takers[place])[0]}, which is fresh: '
      f'drop=({re.escape(name)!r},)'
    )
  moved = '' if name == place else f' (renamed {place!r})'
  free = {other for other in takers if other not in givers} or takers
  return (
    f'source {name!r} {shape}{moved} has no place in the target, nearest {_nearest(place, free, takers)}: '
    f'drop=({re.escape(name)!r},) or a rename'
  )


def _missing(name: str, givers: dict, takers: dict) -> str:
  free = {other for other in givers if other not in takers} or givers
  return (
    f'target {name!r} {_facts(takers[name])[0]} has no source, nearest {_nearest(name, free, givers)}: '
    f'fresh=({re.escape(name)!r},) or a rename'
  )


def _nearest(name: str, names: Iterable[str], leaves: dict) -> str:
  shaped = {repr(other): _facts(leaves[other])[0] for other in names}
  found = tree.nearest(name, sorted(names), most=2)
  for quoted, shape in shaped.items():
    found = found.replace(quoted, f'{quoted} {shape}')
  return found


def _value(entry: Entry, giver, taker, used: bool) -> jax.Array:
  """What stands at the target's leaf: `used` says that the source's leaf stands
  somewhere else already.
  """
  if entry.outcome == 'fresh':
    return jnp.asarray(taker)
  # One buffer at two places of a state could not be donated.
  value = giver.copy() if used else giver
  value = (
    value if entry.source_dtype == entry.target_dtype else value.astype(taker.dtype)
  )
  placed = (
    isinstance(taker, jax.Array)
    and not isinstance(taker, jax.core.Tracer)
    and taker.committed
  )
  if entry.outcome == 'resized':
    kept = tuple(
      slice(min(sizes))
      for sizes in zip(entry.source_shape, entry.target_shape, strict=True)
    )
    rows = (
      jax.device_put(value[kept], _replicated(taker.sharding))
      if placed
      else value[kept]
    )
    value = jnp.asarray(taker).at[kept].set(rows)
  return jax.device_put(value, taker.sharding) if placed else jnp.asarray(value)


def _replicated(sharding):
  """Everything on each device of a sharding, for a part of an array that its axes might
  not divide.
  """
  return (
    NamedSharding(sharding.mesh, PartitionSpec())
    if isinstance(sharding, NamedSharding)
    else sharding
  )
