"""How many bytes a compiled program moves between a chip and its large memory.

The compiler counts the body of a loop once. Here every instruction counts as often as
it runs, and of an array that is cut or updated only the part that is touched.

>>> from tl_jax.scale import hlo
>>> text = '''HloModule m
... ENTRY %main (p: f32[256]) -> f32[256] {
...   %p = f32[256]{0} parameter(0)
...   ROOT %c = f32[256]{0} negate(%p)
... }'''
>>> moved(hlo.parse(text))
2048
"""

from tl_jax.scale.hlo import Computation, Instruction, Module, Visit, visits

# What moves nothing: names for what is there, and what stands for another computation.
STILL = (
  'parameter',
  'constant',
  'tuple',
  'get-tuple-element',
  'bitcast',
  'while',
  'call',
  'conditional',
  'optimization-barrier',
  'after-all',
  'partition-id',
  'iota',
  'domain',
)


def moved(module: Module, rounds: int = 1) -> int:
  """Bytes that are read from and written to the large memory in a call.

  rounds: of a loop whose end depends on the data.
  """
  total = 0
  for visit in visits(module, rounds):
    one = visit.instruction
    # What a fusion has inside stays on the chip.
    if visit.fusion is None and one.opcode not in STILL:
      total += visit.times * _of_instruction(module, visit)
  return total


def _of_instruction(module: Module, visit: Visit) -> int:
  """The bytes that one run of an instruction moves."""
  one, computation = visit.instruction, visit.computation
  if one.opcode.endswith(('-done', '-update')):
    return 0
  if one.opcode == 'copy-start':
    # Between the two memories, or within the large one.
    ends = [shape.bytes for shape in one.shapes[:2] if shape.space == 0]
    return sum(ends)
  if one.opcode in ('dynamic-slice', 'gather', 'slice'):
    return 2 * _written(one)
  if one.opcode == 'dynamic-update-slice':
    return 2 * _size_of(computation, one.operands[1])
  if one.opcode == 'fusion':
    return _of_fusion(module, computation, one)
  read = sum(_size_of(computation, name) for name in one.operands)
  return read + _written(one)


def _written(one: Instruction) -> int:
  """The bytes of a result in the large memory."""
  return sum(shape.bytes for shape in one.shapes if shape.space == 0)


def _size_of(computation: Computation, name: str) -> int:
  """The bytes of an operand in the large memory."""
  operand = computation.named.get(name)
  return 0 if operand is None else _written(operand)


def _of_fusion(module: Module, computation: Computation, one: Instruction) -> int:
  """What a fusion reads of its operands and writes of its result."""
  inner = module.computations[one.called('calls')]
  total = 0
  for parameter in inner.instructions:
    if parameter.opcode != 'parameter':
      continue
    # An operand in the memory of the chip itself costs nothing here.
    whole = _size_of(computation, one.operands[int(parameter.literal)])
    total += min(whole, _read_of(inner, parameter))
  return total + _written_by(inner, one)


def _read_of(inner: Computation, parameter: Instruction) -> int:
  """The bytes that a fusion reads of one of its parameters."""
  total = 0
  for user in inner.instructions:
    if parameter.name not in user.operands:
      continue
    if user.opcode in ('dynamic-slice', 'gather', 'slice'):
      total += sum(shape.bytes for shape in user.shapes)
    # Whoever updates an array in place has not read it.
    elif user.opcode == 'dynamic-update-slice' and user.operands[0] == parameter.name:
      # It stays where it is; only a part is written.
      continue
    else:
      return sum(shape.bytes for shape in parameter.shapes)
  return total


def _written_by(inner: Computation, one: Instruction) -> int:
  """The bytes that a fusion writes; of an update in place only the part."""
  roots = [inner.root]
  if inner.root.opcode == 'tuple':
    roots = [inner.named[name] for name in inner.root.operands]
  if len(roots) != len(one.shapes):
    return _written(one)
  total = 0
  for root, shape in zip(roots, one.shapes, strict=True):
    if shape.space != 0:
      continue
    if root.opcode == 'bitcast' and root.operands:
      root = inner.named[root.operands[0]]
    if root.opcode == 'dynamic-update-slice':
      part = inner.named[root.operands[1]]
      total += sum(shape.bytes for shape in part.shapes)
    else:
      total += shape.bytes
  return total
