"""The text of a compiled program, read: its instructions, its loops, and the lines of
code they come from.

>>> shape_of('bf16[3,100]{1,0:T(8,128)(2,1)}').bytes
600
>>> shape_of('bf16[3,100]{1,0:T(8,128)(2,1)}').padded
2048
"""

import functools
import itertools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

# Bytes of an element; of those that are not here, one.
SIZES = dict.fromkeys(('f64', 's64', 'u64', 'c64'), 8)
SIZES |= dict.fromkeys(('f32', 's32', 'u32'), 4)
SIZES |= dict.fromkeys(('f16', 'bf16', 's16', 'u16'), 2)
SIZES |= dict.fromkeys(('s4', 'u4', 'f4e2m1fn'), 0.5)
SIZES |= dict.fromkeys(('token', 'opaque'), 0)
SIZES |= dict(c128=16)
_SHAPE = re.compile(r'([a-z]\w*)\[([\d,<=]*)\](\{[^{}]*\})?')
_INSTRUCTION = re.compile(r'^\s+(ROOT )?%?([\w.\-]+) = ')
_OPCODE = re.compile(r'\s*([a-z][\w\-]*)\(')
_OPERAND = re.compile(r'%([\w.\-]+)')
_HEADER = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$')
_TILE = re.compile(r':[^T]*T\(([\d,*]+)\)')
_CALLED = re.compile(
  r'\b(calls|to_apply|body|condition|called_computation)=%?([\w.\-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_NAMED_BRANCH = re.compile(r'(?:true|false)_computation=%?([\w.\-]+)')
_KNOWN_TRIPS = re.compile(r'known_trip_count[^\d]*(\d+)')
# In which files, functions and lines have numbers.
TABLES = ('FileNames', 'FunctionNames', 'FileLocations', 'StackFrames')


class Shape(NamedTuple):
  """An array: its bytes, those with the padding of its layout, and which memory it is
  in, 0 for the large one.
  """

  dtype: str
  dims: tuple[int, ...]
  bytes: int
  padded: int
  space: int = 0


class Instruction(NamedTuple):
  """shapes: of the result, flat where it is a tuple. widths: how many of them each
  element of the tuple has, which may be a tuple again; (1,) of an array. operands:
  names. attributes: the text behind the operands.
  """

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  attributes: str
  is_root: bool
  literal: str = ''
  widths: tuple[int, ...] = (1,)

  def places(self, element: int) -> slice:
    """Which of the shapes are those of an element of the tuple."""
    begin = sum(self.widths[:element])
    return slice(begin, begin + self.widths[element])

  def called(self, key: str) -> str | None:
    """The computation that it calls as its `key`: body, condition, calls."""
    found = [name for word, name in _CALLED.findall(self.attributes) if word == key]
    return found[0] if found else None

  @property
  def branches(self) -> tuple[str, ...]:
    """The computations of a conditional."""
    listed = _BRANCHES.search(self.attributes)
    if listed:
      return tuple(_OPERAND.findall(listed.group(1)))
    return tuple(_NAMED_BRANCH.findall(self.attributes))


class Computation(NamedTuple):
  """Instructions in the order in which they run, also by their names."""

  name: str
  instructions: list[Instruction]
  named: dict[str, Instruction]

  @property
  def root(self) -> Instruction:
    return next(one for one in reversed(self.instructions) if one.is_root)


class Module(NamedTuple):
  """A compiled program: its computations by name, the first of them, and its lines of
  code by the number of the stack frame.
  """

  computations: dict[str, Computation]
  entry: str
  frames: dict[int, tuple[int, int]]
  places: dict[int, tuple[str, int, str]]
  header: str


class Visit(NamedTuple):
  """An instruction that runs `times` times; fusion: that which it is inside of."""

  instruction: Instruction
  computation: Computation
  times: int
  fusion: Instruction | None = None


@functools.lru_cache(maxsize=65536)
def shape_of(text: str) -> Shape:
  """An array's shape from its text, with its layout."""
  dtype, numbers, layout = _SHAPE.match(text).groups()
  # Of an array whose size is only bounded, the bound counts.
  dims = tuple(map(int, re.findall(r'\d+', numbers)))
  size = SIZES.get(dtype, 1)
  layout = layout or ''
  found = re.search(r'S\((\d+)\)', layout)
  space = int(found.group(1)) if found else 0
  plain = math.ceil(math.prod(dims) * size)
  padded = math.ceil(math.prod(_padded(dims, layout)) * size)
  return Shape(dtype, dims, plain, padded, space)


def _padded(dims: tuple[int, ...], layout: str) -> list[int]:
  """The sizes from the outermost in, those of a tile rounded up to it."""
  order = re.match(r'\{([\d,]+)', layout)
  minor_first = _numbers(order.group(1)) if order else []
  # The layout of another kind of array says nothing of rows and columns.
  if len(minor_first) != len(dims):
    return list(dims)
  sizes = [dims[axis] for axis in reversed(minor_first)]
  tile = _TILE.search(layout)
  if not tile or not sizes:
    return sizes
  # A tile of more dimensions than the array stands over those at the end.
  parts = _numbers(tile.group(1).replace('*', '1'))[-len(sizes) :]
  first = len(sizes) - len(parts)
  for place, part in enumerate(parts, first):
    sizes[place] = -(-sizes[place] // part) * part
  return sizes


def _numbers(text: str) -> list[int]:
  """The numbers of a text with commas between."""
  return [int(number) for number in text.split(',') if number]


def parse(text: str) -> Module:
  """The module of a compiled program's text."""
  lines = text.splitlines()
  computations: dict[str, Computation] = {}
  entry = ''
  current = None
  for line in lines:
    # Only instructions are indented.
    if line.startswith(' '):
      found = None if current is None else _instruction(line)
      if found is not None:
        current.instructions.append(found)
        current.named[found.name] = found
      continue
    opened = _HEADER.match(line)
    if opened:
      is_entry, name = opened.groups()
      current = computations[name] = Computation(name, [], {})
      entry = name if is_entry else entry
  frames, places = _frames(_tables(lines))
  return Module(computations, entry, frames, places, lines[0])


def _tables(lines: list[str]) -> dict[str, list[str]]:
  """The tables before the first computation, in which lines of code have numbers."""
  found: dict[str, list[str]] = {}
  current: list[str] = []
  for line in lines:
    if line in TABLES:
      current = found.setdefault(line, [])
    elif line[:1].isdigit():
      current.append(line)
    elif _HEADER.match(line):
      break
  return found


def _instruction(line: str) -> Instruction | None:
  """The instruction on a line; None where there is none."""
  start = _INSTRUCTION.match(line)
  if not start:
    return None
  is_root, name = start.groups()
  rest = line[start.end() :]
  # The shape of a tuple has blanks in it.
  length = _end_of(rest) if rest.startswith('(') else rest.find(' ')
  kind, behind = rest[:length], rest[length:]
  found = _OPCODE.match(behind)
  if not found:
    return None
  opcode = found.group(1)
  inside = behind[found.end() - 1 :]
  end = _end_of(inside)
  shapes = tuple(shape_of(part.group(0)) for part in _SHAPE.finditer(kind))
  operands = tuple(_OPERAND.findall(inside[:end]))
  # The number that a constant is, or of a parameter which one it is.
  literal = inside[1 : end - 1] if opcode in ('constant', 'parameter') else ''
  attributes = inside[end:]
  return Instruction(
    name,
    opcode,
    shapes,
    operands,
    attributes,
    bool(is_root),
    literal,
    _widths_of(kind),
  )


def _widths_of(kind: str) -> tuple[int, ...]:
  """How many arrays each element of a tuple has.

  >>> _widths_of('(f32[2,3]{1,0}, (s32[], bf16[4]))'), _widths_of('f32[2,3]')
  ((1, 2), (1,))
  """
  if not kind.startswith('('):
    return (1,)
  # Only commas of the outermost tuple part its elements.
  depth, borders = 0, []
  for found in re.finditer(r'[()\[\]{},]', kind):
    mark = found.group()
    if mark == ',' and depth == 1:
      borders.append(found.start())
    elif mark != ',':
      depth += 1 if mark in '([{' else -1
  elements = [kind[i:j] for i, j in itertools.pairwise([0, *borders, len(kind)])]
  return tuple(len(_SHAPE.findall(element)) for element in elements)


def _end_of(text: str) -> int:
  """Where the bracket that a text begins with is closed."""
  depth = 0
  for found in re.finditer(r'[()]', text):
    depth += 1 if found.group() == '(' else -1
    if depth == 0:
      return found.end()
  return len(text)


def _frames(tables: dict[str, list[str]]) -> tuple[dict, dict]:
  """(frame -> (place, parent frame), place -> (file, line, function)) of the tables."""

  files = _names_in(tables, 'FileNames')
  functions = _names_in(tables, 'FunctionNames')
  places = {}
  for number, fields in _fields_in(tables, 'FileLocations'):
    file = files.get(fields.get('file_name_id'), '')
    function = functions.get(fields.get('function_name_id'), '')
    places[number] = (file, fields.get('line', 0), function)
  frames = {}
  for number, fields in _fields_in(tables, 'StackFrames'):
    parent = fields.get('parent_frame_id', 0)
    frames[number] = (fields.get('file_location_id', 0), parent)
  return frames, places


def _names_in(tables: dict[str, list[str]], title: str) -> dict[int, str]:
  """number -> name of a table of names in quotes."""
  found = {}
  for line in tables.get(title, ()):
    number, _, name = line.partition(' ')
    found[int(number)] = name.strip('"')
  return found


def _fields_in(tables: dict[str, list[str]], title: str) -> Iterator[tuple[int, dict]]:
  """(number, its fields) of a table whose lines are 3 {key=1 other=2}."""
  for line in tables.get(title, ()):
    number, _, rest = line.partition(' ')
    fields = re.findall(r'(\w+)=(\d+)', rest)
    yield int(number), {key: int(value) for key, value in fields}


def told(module: Module, instruction: Instruction) -> Instruction:
  """The instruction that says where another comes from: itself, or the last of a fusion
  that does.
  """
  if operation(instruction) or instruction.opcode != 'fusion':
    return instruction
  inner = module.computations[instruction.called('calls')]
  for one in reversed(inner.instructions):
    if operation(one):
      return told(module, one)
  return instruction


def operation(instruction: Instruction) -> str:
  """The name of the operation in the traced function; '' where the compiler made it."""
  found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', instruction.attributes)
  return found.group(1).replace("\\'", "'") if found else ''


def stack(module: Module, instruction: Instruction) -> Iterator[tuple[str, int, str]]:
  """(file, line, function) of the frames of an instruction, from the innermost out."""
  found = re.search(r'stack_frame_id=(\d+)', instruction.attributes)
  if not found:
    # As earlier versions wrote it.
    plain = re.search(
      r'source_file="([^"]*)" source_line=(\d+)', instruction.attributes
    )
    if plain:
      yield plain.group(1), int(plain.group(2)), ''
    return
  frame = int(found.group(1))
  seen = set()
  while frame in module.frames and frame not in seen:
    seen.add(frame)
    place, parent = module.frames[frame]
    if place in module.places:
      yield module.places[place]
    frame = parent


# Where products are written that everything else calls: not what a reader looks for.
_GENERAL = ('leaves/', 'tree.py', 'rng.py')


def line_of(module: Module, instruction: Instruction) -> str:
  """The line of this package that an instruction comes from, as FILE:LINE.

  It is the innermost one outside of the files that everything calls.
  """
  general = ''
  for file, line, _ in stack(module, instruction):
    _, package, inside = file.rpartition('/tl_jax/')
    if not package or '/site-packages/' in inside:
      continue
    if not inside.startswith(_GENERAL):
      return f'tl_jax/{inside}:{line}'
    general = general or f'tl_jax/{inside}:{line}'
  return general


def visits(module: Module, rounds: int = 1) -> Iterator[Visit]:
  """Every instruction with how often it runs, into loops, calls and fusions.

  rounds: of a loop whose end depends on the data. Of the branches of a conditional the
  longest one counts.
  """
  yield from _visits(module, module.computations[module.entry], 1, None, rounds)


def _visits(module, computation, times, fusion, rounds) -> Iterator[Visit]:
  for one in computation.instructions:
    yield Visit(one, computation, times, fusion)
    for name, more in called(module, computation, one, rounds):
      inner = module.computations[name]
      inside = fusion or (one if one.opcode == 'fusion' else None)
      # What a loop of unknown length has inside is taken to go round once.
      again = 1 if more == rounds != 1 else rounds
      yield from _visits(module, inner, times * more, inside, again)


def called(
  module: Module, computation: Computation, one: Instruction, rounds: int = 1
) -> list[tuple[str, int]]:
  """(computation, how often) of what an instruction runs."""
  if one.opcode == 'while':
    found = trips(module, computation, one)
    return [(one.called('body'), rounds if found is None else found)]
  if one.opcode == 'conditional':
    # Which one is taken, the data say; the longest one is the safe guess.
    sizes = {name: len(module.computations[name].instructions) for name in one.branches}
    return [(max(sizes, key=sizes.get), 1)]
  if one.opcode in ('fusion', 'async-start'):
    return [(one.called('calls'), 1)]
  if one.opcode == 'call':
    return [(one.called('to_apply'), 1)]
  return []


def trips(module: Module, computation: Computation, loop: Instruction) -> int | None:
  """How often a loop goes round; None where that is not known before it runs.

  Its condition compares a counter with a bound; where the loop carries these, they are
  looked up where it starts.
  """
  # Compilers for CPUs and GPUs write it down; that for TPUs does not.
  known = _KNOWN_TRIPS.search(loop.attributes)
  if known:
    return int(known.group(1))
  condition = module.computations[loop.called('condition')]
  root = condition.root
  if root.opcode == 'fusion':
    root, condition = _unfused(module, condition, root)
  if root.opcode != 'compare' or 'direction=LT' not in root.attributes:
    return None
  values = [
    _value(module, computation, loop, condition, name) for name in root.operands
  ]
  if len(values) != 2 or None in values:
    return None
  first, bound = values
  step = _step(module, loop, condition, root.operands[0])
  return max(0, -(-(bound - first) // step))


def _unfused(module, condition, fusion) -> tuple[Instruction, Computation]:
  """The root of a fused condition, in terms of what the fusion reads."""
  inner = module.computations[fusion.called('calls')]
  parameters = {
    one.name: fusion.operands[int(one.literal)]
    for one in inner.instructions
    if one.opcode == 'parameter'
  }
  operands = tuple(parameters.get(name, name) for name in inner.root.operands)
  named = inner.named | condition.named
  joined = Computation(condition.name, condition.instructions, named)
  return inner.root._replace(operands=operands), joined


def _place_in_tuple(one: Instruction) -> int | None:
  """The index of a get-tuple-element."""
  found = re.search(r'index=(\d+)', one.attributes)
  return int(found.group(1)) if found else None


def _value(module, computation, loop, condition, name) -> int | None:
  """The number that an operand of a condition has when the loop starts."""
  one = _behind_copies(condition, name)
  if one is None:
    return None
  if one.opcode != 'get-tuple-element':
    return _number(one)
  # The loop carries it: it is looked up in what the loop is given.
  start = computation.named.get(loop.operands[0])
  if start is None or start.opcode != 'tuple':
    return None
  given = _behind_copies(computation, start.operands[_place_in_tuple(one)])
  return None if given is None else _number(given)


def _behind_copies(computation: Computation, name: str) -> Instruction | None:
  """The instruction of a name, behind copies and bitcasts of it."""
  one = computation.named.get(name)
  while (
    one is not None and one.opcode in ('copy', 'bitcast', 'convert') and one.operands
  ):
    one = computation.named.get(one.operands[0])
  return one


def _step(module, loop, condition, name) -> int:
  """By how much the counter of a loop grows in a round; 1 where that is not seen."""
  counter = _behind_copies(condition, name)
  body = module.computations[loop.called('body')]
  place = None if counter is None else _place_in_tuple(counter)
  if place is None or body.root.opcode != 'tuple':
    return 1
  grown = _behind_copies(body, body.root.operands[place])
  if grown is None:
    return 1
  if grown.opcode == 'fusion':
    body = module.computations[grown.called('calls')]
    grown = body.root
  return _added(body, grown) or 1


def _added(where: Computation, one: Instruction) -> int | None:
  """The number that an addition adds; None for anything else."""
  if one.opcode != 'add':
    return None
  parts = [where.named.get(operand) for operand in one.operands]
  found = [_number(part) for part in parts if part is not None]
  return max((number for number in found if number), default=None)


def _number(one: Instruction) -> int | None:
  """The number that a constant is."""
  is_number = one.opcode == 'constant' and re.fullmatch(r'-?\d+', one.literal)
  return int(one.literal) if is_number else None
