"""Which arrays a compiled program holds when it needs most memory.

The compiler says how much that is, and of TPUs not what. Here the schedule of its
program is followed: an array lives from where it is made to its last use, and what is
updated in place is one array.

>>> from tl_jax.scale import hlo
>>> text = '''HloModule m, is_scheduled=true
... ENTRY %main (p: f32[4]) -> f32[4] {
...   %p = f32[4]{0} parameter(0)
...   %a = f32[256]{0} broadcast(%p), dimensions={0}
...   %b = f32[512]{0} broadcast(%a), dimensions={0}
...   ROOT %c = f32[4]{0} slice(%b), slice={[0:4]}
... }'''
>>> [buffer.size for buffer in at_peak(hlo.parse(text))]
[2048, 1024]
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tl_jax.scale.hlo import (
  Computation,
  Instruction,
  Module,
  Shape,
  line_of,
  operation,
  told,
)

# What gives another name to arrays that are there.
SAME = (
  'bitcast',
  'optimization-barrier',
  'add-dependency',
  'tuple',
  'while',
  'domain',
)
# What may write over an operand of the same size that nobody needs any more.
SHARING = ('fusion', 'all-reduce', 'add', 'multiply', 'subtract', 'convert', 'select')
# What takes no memory of its own.
GIVEN = ('parameter', 'constant', 'after-all', 'partition-id')


class Buffer(NamedTuple):
  """An array at the peak. size: bytes with padding. shape: as XLA writes it. part: what
  it is for. operation, line: what it was made for, and of which code.
  """

  size: int
  shape: str
  part: str
  operation: str
  line: str
  opcode: str


class _Life(NamedTuple):
  """An array of a computation: who makes it, and from when to when it lives."""

  instruction: Instruction
  shape: Shape
  size: int
  first: int
  last: int


def at_peak(module: Module) -> list[Buffer]:
  """The arrays that are alive where the program needs most, the largest first.

  The arguments of the program are not among them, nor what is written over one that it
  may use up.
  """
  _, found = _peak(module, module.computations[module.entry], {})
  found = [_buffer(module, life) for life in found]
  return sorted(found, key=lambda buffer: -buffer.size)


def _buffer(module: Module, life: _Life) -> Buffer:
  one, shape = life.instruction, life.shape
  dims = ','.join(map(str, shape.dims))
  name = f'{shape.dtype}[{dims}]'
  source = told(module, one)
  part, line = part_of(one, source), line_of(module, source)
  return Buffer(life.size, name, part, operation(source), line, one.opcode)


def part_of(one: Instruction, source: Instruction) -> str:
  """What an array is for, by how it is made: gathered, backward, forward, update.

  source: the instruction that says where it comes from.
  """
  name = operation(source)
  opcode = one.opcode.removesuffix('-start')
  if opcode in ('all-gather', 'collective-permute'):
    return 'gathered'
  if 'transpose(' in name:
    return 'backward'
  if 'jvp(' in name:
    return 'forward'
  return 'update' if name else 'other'


def _peak(module: Module, computation: Computation, memo: dict) -> tuple[int, list]:
  """(bytes, lives) at the peak of a computation, without what it is given."""
  # A computation that several loops call is looked at once.
  if computation.name in memo:
    return memo[computation.name]
  lives = _lives(module, computation)
  inner = {}
  for time, one in enumerate(computation.instructions):
    # While a loop runs, what it makes inside is there beside all that waits outside.
    parts = [
      _peak(module, module.computations[name], memo) for name in _computations(one)
    ]
    if parts:
      inner[time] = max(parts, key=lambda part: part[0])
  # Summed up as the schedule runs, so that long programs take no longer than they are.
  changes = [0] * (len(computation.instructions) + 1)
  for life in lives:
    changes[life.first] += life.size
    changes[life.last + 1] -= life.size
  most, when, total = -1, 0, 0
  for time in range(len(computation.instructions)):
    total += changes[time]
    needed = total + inner.get(time, (0, []))[0]
    if needed > most:
      most, when = needed, time
  found = [life for life in lives if life.first <= when <= life.last]
  found += inner.get(when, (0, []))[1]
  memo[computation.name] = max(0, most), found
  return memo[computation.name]


def _computations(one: Instruction) -> Iterator[str]:
  """The computations with arrays of their own that an instruction runs."""
  if one.opcode == 'while':
    yield one.called('body')
  elif one.opcode == 'conditional':
    yield from one.branches
  elif one.opcode == 'call':
    yield one.called('to_apply')


class _Ledger:
  """The arrays that a computation makes, as its instructions are read in order.

  held: name of a value -> the number of the array in every place of it; None for what
  the computation is given. made: by the number, when an array was made and by what.
  """

  def __init__(self):
    self.held: dict[str, list] = {}
    self.made: list[tuple[int, Instruction, Shape]] = []
    self.last: list[int] = []
    self.sizes: list[int] = []

  def use(self, numbers, time: int) -> None:
    """Notes that arrays are needed until then."""
    for number in numbers:
      if number is not None:
        self.last[number] = time

  def read(self, one: Instruction) -> list:
    """The arrays that an instruction reads."""
    return [number for name in one.operands for number in self.held.get(name, ())]

  def make(self, time: int, one: Instruction, places: list) -> None:
    """Notes the result of an instruction; its new arrays get numbers."""
    for place, shape in enumerate(one.shapes):
      if places[place] == 'new':
        places[place] = len(self.made)
        self.made.append((time, one, shape))
        self.last.append(time)
        # Only the large memory is counted.
        self.sizes.append(shape.padded if shape.space == 0 else 0)
    self.held[one.name] = places

  def lives(self) -> list[_Life]:
    """The arrays that have a size of their own."""
    rows = zip(self.made, self.sizes, self.last, strict=True)
    return [
      _Life(one, shape, size, first, until)
      for (first, one, shape), size, until in rows
      if size
    ]


def _lives(module: Module, computation: Computation) -> list[_Life]:
  """The arrays that a computation makes, with when they live."""
  ledger = _Ledger()
  for time, one in enumerate(computation.instructions):
    ledger.use(ledger.read(one), time)
    places = _places_of(module, computation, one, ledger.held)
    ledger.make(time, one, places)
  # What a computation gives back must be there at its end.
  given_back = ledger.held[computation.root.name]
  ledger.use(given_back, len(computation.instructions) - 1)
  if computation.name == module.entry:
    for place in _written_over(module.header):
      if place < len(given_back) and given_back[place] is not None:
        ledger.sizes[given_back[place]] = 0
  _share(ledger)
  return ledger.lives()


def _written_over(header: str) -> list[int]:
  """The places of results that are written over an argument."""
  found = re.search(r'input_output_alias=\{(.*?)\},? entry_computation', header)
  text = found.group(1) if found else ''
  return [int(place) for place in re.findall(r'\{(\d+)\}: \(', text)]


def _places_of(
  module: Module, computation: Computation, one: Instruction, held: dict
) -> list:
  """For every place of a result the number of its array, None, or 'new'."""
  count = len(one.shapes)
  if one.opcode in GIVEN:
    return [None] * count
  given = [number for name in one.operands for number in held.get(name, ())]
  if one.opcode in SAME:
    return (given + ['new'] * count)[:count]
  if one.opcode == 'get-tuple-element' or one.opcode.endswith(('-update', '-done')):
    return _places_of_element(computation, one, given)
  if one.opcode.endswith('-start') and count > 1:
    return _places_of_start(one, given)
  places: list = ['new'] * count
  for place, operand in _updated(module, one).items():
    places[place] = _at(held.get(operand, ()), 0)
  return places


def _places_of_element(computation: Computation, one: Instruction, given: list) -> list:
  """Of what takes an element of a tuple, or waits for it: the arrays that it is."""
  count = len(one.shapes)
  if one.opcode.endswith('-update'):
    # It has all arrays of the start before it.
    return (given + [None] * count)[:count]
  source = computation.named[one.operands[0]]
  element = _result_of(one)
  if one.opcode == 'get-tuple-element':
    element = int(re.search(r'index=(\d+)', one.attributes).group(1))
  # What is waited for may be a single array.
  found = given[source.places(element)] if element < len(source.widths) else []
  return (found + [None] * count)[:count]


def _result_of(one: Instruction) -> int:
  """The element, of the result of what is started apart, that has what it makes."""
  kind = one.opcode.rpartition('-')[0]
  return 0 if kind == 'copy' else 1


def _places_of_start(one: Instruction, given: list) -> list:
  """Of what is started apart: the arrays that it makes, and what it reads."""
  # All else in the result is what it reads, or signs.
  places: list = [given[0] if given else None] * len(one.shapes)
  made = one.places(_result_of(one))
  places[made] = ['new'] * len(places[made])
  return places


def _at(numbers, place: int) -> int | None:
  return numbers[place] if place < len(numbers) else None


def _updated(module: Module, one: Instruction) -> dict[int, str]:
  """place of a result -> the operand that is updated in place."""
  if one.opcode in ('dynamic-update-slice', 'scatter'):
    return {0: one.operands[0]}
  if one.opcode != 'fusion':
    return {}
  # An update in place writes into the array that it was given.
  inner = module.computations[one.called('calls')]
  roots = [inner.root]
  if inner.root.opcode == 'tuple':
    roots = [inner.named[name] for name in inner.root.operands]
  found = {}
  for place, root in enumerate(roots):
    origin = _behind(inner, root.name)
    if origin.opcode in ('dynamic-update-slice', 'scatter'):
      target = _behind(inner, origin.operands[0])
      if target.opcode == 'parameter':
        found[place] = one.operands[int(target.literal)]
  return found


def _behind(computation: Computation, name: str) -> Instruction:
  """The instruction of a name, behind bitcasts of it."""
  one = computation.named[name]
  while one.opcode in ('bitcast', 'copy') and one.operands:
    one = computation.named[one.operands[0]]
  return one


def _share(ledger: _Ledger) -> None:
  """Lets a result take the place of an operand of its size that dies there."""
  # Where an array has moved to; an array that has moved has no size of its own.
  owner = list(range(len(ledger.made)))

  def home(number: int) -> int:
    while owner[number] != number:
      number = owner[number]
    return number

  for number, (time, one, _) in enumerate(ledger.made):
    if one.opcode not in SHARING or not ledger.sizes[number]:
      continue
    for given in ledger.read(one):
      if given is None or home(given) == number:
        continue
      old = home(given)
      if ledger.last[old] == time and ledger.sizes[old] == ledger.sizes[number]:
        owner[number] = old
        ledger.last[old] = ledger.last[number]
        ledger.sizes[number] = 0
        break
