"""What the chips of a compiled program send each other: kinds, mesh axes, bytes.

>>> groups('replica_groups=[2,2]<=[4]', 4)[0]
(0, 1)
>>> groups("replica_groups=mesh['a'=2,'b'=2] {'a'}", 4)[0]
(0, 2)
>>> groups('replica_groups=[2,2]<=[2,2]T(1,0)', 4)[0]
(0, 2)
"""

import functools
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tl_jax.scale.hlo import Module, Visit, line_of, operation, told, visits

# By the opcode, without the ending of one that is started and awaited apart.
KINDS = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'ragged-all-to-all',
  'collective-permute',
  'collective-broadcast',
  'send',
)
ICI, DCN = 'ici', 'dcn'


class Collective(NamedTuple):
  """One collective of the program, as often as it runs in a call.

  axes: the mesh axes whose devices talk, with + between. network: ici within a slice, dcn
  between slices. group: devices that talk. payload: bytes of the whole array at one
  device: gathered, or before it is reduced. sent: bytes that a device sends in a call,
  as a ring sends them. operation: what it was made for. line: of our code.
  """

  kind: str
  axes: str
  network: str
  group: int
  times: int
  payload: int
  sent: float
  operation: str = ''
  line: str = ''


def groups(attributes: str, devices: int) -> list[tuple[int, ...]]:
  """The groups of devices that a collective's attributes name; one of all without."""
  # Groups are written in one of three ways: as numbers, as axes of a mesh, or as an
  # array that is cut into rows.
  plain = re.search(r'replica_groups=\{(\{[\d,{}\s]*\})\}', attributes)
  if plain:
    parts = re.findall(r'\{([\d,\s]*)\}', plain.group(1))
    return [tuple(int(number) for number in part.split(',')) for part in parts]
  named = re.search(r'replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}', attributes)
  if named:
    return _groups_of_axes(*named.groups())
  listed = re.search(
    r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', attributes
  )
  if listed:
    shape, sizes, order = listed.groups()
    numbers = np.arange(math.prod(_numbers(sizes))).reshape(_numbers(sizes))
    if order:
      numbers = numbers.transpose(_numbers(order))
    return [tuple(row) for row in numbers.reshape(_numbers(shape)).tolist()]
  return [tuple(range(devices))]


def _numbers(text: str) -> tuple[int, ...]:
  return tuple(int(number) for number in text.split(','))


def _groups_of_axes(mesh: str, chosen: str) -> list[tuple[int, ...]]:
  """The groups along the chosen axes of a mesh whose devices are numbered in order."""
  # A part of an axis is written as 'axis':(before)size.
  parts = {}
  for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", chosen):
    parts[name] = (int(before), int(size)) if size else None
  # The axes in order, those that are chosen in part cut in three.
  sizes: list[int] = []
  within: list[int] = []
  for name, text in re.findall(r"'([^']+)'=(\d+)", mesh):
    size = int(text)
    if name not in parts:
      sizes.append(size)
      continue
    before, part = parts[name] or (1, size)
    within.append(len(sizes) + 1)
    sizes += [before, part, size // before // part]
  # The chosen axes are brought to the end, where a row is a group.
  numbers = np.arange(math.prod(sizes)).reshape(sizes)
  others = [axis for axis in range(len(sizes)) if axis not in within]
  width = math.prod(sizes[axis] for axis in within)
  rows = numbers.transpose(others + within).reshape(-1, width)
  return [tuple(row) for row in rows.tolist()]


class Wiring(NamedTuple):
  """How the partitions of a program lie on a mesh.

  axes: name -> size, in order. slices: the slice of every partition.
  """

  axes: dict[str, int]
  slices: tuple[int, ...]

  @classmethod
  def of(cls, mesh) -> 'Wiring':
    found = [getattr(device, 'slice_index', 0) or 0 for device in mesh.devices.flat]
    return cls(dict(mesh.shape), tuple(found))

  @property
  def devices(self) -> int:
    return len(self.slices)

  def axes_of(self, group: Iterable[int]) -> str:
    """The axes along which the members of a group differ, with + between."""
    shape = tuple(self.axes.values())
    # Partitions are numbered along the mesh, the last axis running fastest.
    places = np.array(np.unravel_index(list(group), shape))
    differ = (places != places[:, :1]).any(axis=1)
    names = [name for name, has in zip(self.axes, differ, strict=True) if has]
    return '+'.join(names)

  def network_of(self, group: Iterable[int]) -> str:
    """Which network the members of a group need."""
    return DCN if len({self.slices[member] for member in group}) > 1 else ICI


def found_in(module: Module, wiring: Wiring, rounds: int = 1) -> list[Collective]:
  """The collectives of a program, in the order in which they run."""
  found = []
  for visit in visits(module, rounds):
    kind = _kind_of(visit)
    if kind is None:
      continue
    one = _collective(module, wiring, visit, kind)
    # Where a device talks with itself alone, nothing is sent.
    if one.group > 1:
      found.append(one)
  return found


def _kind_of(visit: Visit) -> str | None:
  """The kind of the collective that an instruction is; None for any other."""
  one = visit.instruction
  kind = one.opcode.removesuffix('-start')
  if kind not in KINDS:
    return None
  # Of a reduction whose fusion keeps a part of the sum, nothing else is sent.
  if kind == 'all-reduce' and visit.fusion is not None:
    kept = sum(shape.bytes for shape in visit.computation.root.shapes)
    if kept < _bytes_read(visit):
      return 'reduce-scatter'
  return kind


def _bytes_read(visit: Visit) -> int:
  """The bytes of the operands of an instruction."""
  total = 0
  for name in visit.instruction.operands:
    operand = visit.computation.named.get(name)
    if operand is not None:
      total += sum(shape.bytes for shape in operand.shapes)
  return total


@functools.cache
def _pairs(attributes: str) -> tuple[tuple[int, int], ...]:
  """(from, to) of a permutation."""
  found = re.search(r'source_target_pairs=\{(.*?)\}\}', attributes)
  if not found:
    return ()
  numbers = re.findall(r'\{(\d+),(\d+)', found.group(1))
  return tuple((int(first), int(second)) for first, second in numbers)


class _Talk(NamedTuple):
  """Who talks with whom in a collective, and how much of its array a device sends."""

  axes: str
  network: str
  group: int
  share: float


def _collective(module, wiring: Wiring, visit: Visit, kind: str) -> Collective:
  """What is told of a collective."""
  one = visit.instruction
  payload = _bytes_read(visit)
  if kind == 'send':
    talk = _talk_of_slices(wiring)
    # The first of its results is what is sent; the others are signs.
    payload = one.shapes[0].bytes
  elif kind == 'collective-permute':
    talk = _talk_of_pairs(wiring, one.attributes)
  else:
    talk = _talk_of_groups(wiring, one.attributes, kind)
  if kind == 'all-gather':
    payload *= talk.group
  # Inside of a fusion the compiler may have lost where it comes from.
  source = one if operation(one) else told(module, visit.fusion or one)
  return Collective(
    kind,
    talk.axes,
    talk.network,
    talk.group,
    visit.times,
    payload,
    payload * talk.share * visit.times,
    operation(source),
    line_of(module, source),
  )


def _talk_of_groups(wiring: Wiring, attributes: str, kind: str) -> _Talk:
  """Groups in which everyone gets something from everyone, around a ring."""
  group = max(groups(attributes, wiring.devices), key=len)
  # A sum goes around twice: once to be made, once to be known to all.
  turns = 2 if kind == 'all-reduce' else 1
  share = turns * (len(group) - 1) / len(group)
  return _Talk(wiring.axes_of(group), wiring.network_of(group), len(group), share)


def _talk_of_pairs(wiring: Wiring, attributes: str) -> _Talk:
  """Pairs of which one gives the other all that it has."""
  pairs = [pair for pair in _pairs(attributes) if pair[0] != pair[1]]
  axes = sorted({wiring.axes_of(pair) for pair in pairs})
  far = any(wiring.network_of(pair) == DCN for pair in pairs)
  # The busiest device counts; where there is no pair, nobody sends.
  share = 1.0 if pairs else 0.0
  return _Talk('+'.join(axes), DCN if far else ICI, len(pairs), share)


def _talk_of_slices(wiring: Wiring) -> _Talk:
  """What is sent apart goes to another slice: within one, nothing is sent so."""
  return _Talk(_axis_of_slices(wiring), DCN, max(wiring.slices) + 1, 1.0)


def _axis_of_slices(wiring: Wiring) -> str:
  """The axes along which slices differ."""
  first = wiring.slices[0]
  other = next((i for i, own in enumerate(wiring.slices) if own != first), 0)
  return wiring.axes_of((0, other)) if other else ''


def summary(collectives: list[Collective]) -> list[dict]:
  """The sums by kind, axes and network, those that send most first."""
  rows: dict[tuple, dict] = {}
  for one in collectives:
    # Those of one kind along the same axes share their wires.
    key = one.kind, one.axes, one.network
    if key not in rows:
      rows[key] = dict(zip(('kind', 'axes', 'network'), key, strict=True))
      rows[key] |= dict(group=one.group, times=0, payload=0, sent=0.0)
    row = rows[key]
    row['times'] += one.times
    row['payload'] += one.payload * one.times
    row['sent'] += one.sent
  return sorted(rows.values(), key=lambda row: -row['sent'])


def sent_by_network(collectives: list[Collective]) -> dict[str, float]:
  """The bytes that a device sends in a call, within its slice and to others."""
  found = {ICI: 0.0, DCN: 0.0}
  for one in collectives:
    found[one.network] += one.sent
  return found
