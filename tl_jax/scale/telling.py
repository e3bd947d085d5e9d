"""A plan in words: the lines that a person reads.

>>> size(3 * 2**30), size(5 * 2**20), number(1.25e15)
('3.00 GiB', '5.0 MiB', '1.25e+15')
"""

from collections.abc import Iterator, Sequence

from tl_jax.parallel import GIB
from tl_jax.scale.planning import Plan

MIB = 2**20
# What bounds a step, in words.
BOUNDS = dict(
  compute='products', hbm='memory bandwidth', ici='links between chips', dcn='network'
)
# Of the memory that a program needs, what is told apart.
TOLD = ('arguments', 'temporaries', 'code')
# Of a table: its head.
HEAD = ('topology', 'chips', 'per chip', 'of', 'fits', 'seconds', 'bound by', 'MFU')


def size(count: float) -> str:
  """Bytes in GiB or MiB."""
  if count >= GIB / 10:
    return f'{count / GIB:,.2f} GiB'
  return f'{count / MIB:,.1f} MiB'


def number(count: float) -> str:
  """A large number with three digits."""
  return f'{count:.3g}'


def amount(count: float) -> str:
  """Hours or money: whole numbers where they are large, else two digits.

  >>> amount(1234.5), amount(0.0123)
  ('1,234', '0.012')
  """
  return f'{count:,.0f}' if count >= 100 else f'{count:.2g}'


def lines(plan: Plan) -> Iterator[str]:
  """The plan from top to bottom."""
  yield _title(plan)
  if plan.overrides:
    yield f'flags: {plan.overrides}'
  for note in plan.notes:
    yield f'note: {note}'
  yield from _parameters(plan)
  yield from _memory(plan)
  yield from _work(plan)
  yield from _collectives(plan)
  yield from _speed(plan)


def _title(plan: Plan) -> str:
  axes = [f'{axis} {size}' for axis, size in plan.mesh.items() if size > 1]
  mesh = ' x '.join(axes) or 'one device'
  chosen = plan.settings
  rows = f'{chosen["rows"]} rows x {chosen["length"]}'
  if chosen['members'] > 1:
    rows = f'{chosen["members"]} members x {rows}'
  place = f'{plan.topology["name"]}, {plan.topology["devices"]} devices'
  how = f'accumulate {chosen["accumulate"]}, remat {chosen["remat"]}'
  return f'{plan.program} on {place}: {mesh}; {rows}, {how}, {chosen["dtype"]}'


def _parameters(plan: Plan) -> Iterator[str]:
  counts = plan.parameters
  trained = f'{counts["trained"]:,} trained, {counts["frozen"]:,} frozen'
  yield f'parameters: {counts["total"]:,} ({trained})'
  parts = [f'{name} {size(count)}' for name, count in plan.parts.items() if count]
  yield f'arguments on a chip: {", ".join(parts)}'


def _memory(plan: Plan) -> Iterator[str]:
  found = plan.memory
  if found is None:
    return
  parts = [f'{name} {size(found[name])}' for name in TOLD]
  needed, available = found['needed'], found['available']
  verdict = f'{size(available - needed)} left'
  if not found['fits']:
    verdict = f'DOES NOT FIT, {size(needed - available)} too much'
  room = f'{size(needed)} of {size(available)} usable'
  yield f'memory on a chip: {room} ({", ".join(parts)}); {verdict}'
  if plan.buffers:
    yield 'largest arrays at the peak:'
  for buffer in plan.buffers:
    yield f'  {_buffer(buffer)}'


def _buffer(buffer: dict) -> str:
  """An array at the peak: its size, its shape, the line and the operation it is from."""
  # What stands before is the same for everything in a loop over layers.
  _, _, operation = buffer['operation'].rpartition('closed_call/')
  made = operation or buffer['opcode']
  line = buffer['line'] or '-'
  return f'{size(buffer["size"]):>10}  {buffer["shape"]}  {line}  {made}'


def _work(plan: Plan) -> Iterator[str]:
  found = plan.flops
  again = found['total'] / found['model'] - 1 if found['model'] else 0
  more = f', {again:.0%} of it computed again' if again > 0.005 else ''
  yield (
    f'products: {number(found["total"])} FLOPs, {number(found["per_chip"])} on a '
    f'chip{more}; {plan.tokens:,} tokens'
  )


def _collectives(plan: Plan) -> Iterator[str]:
  if not plan.traffic:
    return
  yield f'memory traffic of a chip: {size(plan.traffic["hbm"])}'
  if not plan.collectives:
    yield 'chips send each other nothing'
  for row in plan.collectives:
    yield f'  {_collective(row)}'


def _collective(row: dict) -> str:
  """The collectives of a kind along the same axes."""
  among = f'among {row["group"]}'
  if row['network'] == 'dcn':
    among = 'between slices'
  along = f'along {row["axes"]} ' if row['axes'] else ''
  sent = size(row['sent'])
  return f'{row["kind"]} {along}{among}: {row["times"]:,} times, a chip sends {sent}'


def _speed(plan: Plan) -> Iterator[str]:
  found = plan.roofline
  parts = []
  for name, words in BOUNDS.items():
    if found.get(name):
      parts.append(f'{words} {found[name]:.3g} s')
  bound = BOUNDS[found['bound']]
  serial = f'{found["serial"]:.3g} s one after the other'
  yield (
    f'at best {found["seconds"]:.3g} s, bound by {bound} ({", ".join(parts)}; {serial}); '
    f'MFU at most {found["mfu"]:.0%}'
  )
  if found['bound'] == 'hbm' and plan.compiled['effort'] == 'low':
    yield 'memory traffic is that of low effort: --effort=full may find less'
  speed = plan.speed
  parts = [f'at most {number(speed["tokens_per_second"])} tokens/s']
  if speed['hours'] is not None:
    steps = f'{speed["steps"]:,} steps'
    if speed['whole_steps'] != speed['steps']:
      steps += f', by their tokens {speed["whole_steps"]:,.0f} such steps,'
    parts.append(f'{steps} take at least {amount(speed["hours"])} h')
  if speed['cost'] is not None:
    price = f'{speed["price_per_hour"]:,.2f} an hour, prices of {speed["prices_of"]}'
    parts.append(f'and {amount(speed["cost"])} {speed["currency"]} ({price})')
  yield '; '.join(parts)


def table(plans: Sequence[Plan]) -> list[str]:
  """One line for every plan, below a head."""
  return aligned([HEAD, *map(_row, plans)])


def _row(plan: Plan) -> tuple[str, ...]:
  """The line of a plan in a table."""
  needed, available, fits = '-', '-', '-'
  if plan.memory is not None:
    needed = size(plan.memory['needed'])
    available = size(plan.memory['available'])
    fits = 'yes' if plan.memory['fits'] else 'NO'
  name, count = plan.topology['name'], str(plan.topology['devices'])
  found = plan.roofline
  seconds, bound = f'{found["seconds"]:.3g}', BOUNDS[found['bound']]
  return name, count, needed, available, fits, seconds, bound, f'{found["mfu"]:.0%}'


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
  """Rows of cells as lines, each column as wide as its widest cell.

  >>> aligned([('a', 'b'), ('long', 'c')])
  ['a     b', 'long  c']
  """
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  found = []
  for row in rows:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    found.append('  '.join(cells).rstrip())
  return found
