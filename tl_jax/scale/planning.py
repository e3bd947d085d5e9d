"""The plan of a program on a topology: what it needs and what that takes.

>>> shares(dict(compute=2.0, hbm=1.0, ici=0.0, dcn=0.0))
('compute', 2.0)
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from tl_jax import parallel, tree
from tl_jax.config import ConfigError
from tl_jax.scale import buffers, collectives, compiling, flops, hlo, prices, traffic
from tl_jax.scale.topology import Topology, devices_of, roomier
from tl_jax.train import assembly, listing, phases
from tl_jax.train.checks import require_divisible
from tl_jax.train.outline import Outline
from tl_jax.train.placing import require_tensor
from tl_jax.train.programs import Program
from tl_jax.train.step import TrainState

# Of the arrays at the peak, how many are told.
LARGEST = 8
VERSION = 1
# What a program needs beyond its arrays, and what the system keeps of the memory.
KEPT = {'tpu': 0.25 * parallel.GIB, 'cuda': 1.5 * parallel.GIB}


@dataclasses.dataclass
class Plan:
  """What is known of a program on a topology. Bytes and FLOPs are plain numbers.

  parameters: counts. parts: bytes on a chip by what the arguments are. memory: as
  `compiling.memory_of`, with hbm and whether it fits; None where nothing was compiled.
  flops: of a call over all chips; model leaves out what is computed again. traffic:
  bytes by which a chip talks to its memory and to others. roofline: seconds, each as if
  the rest took none. compiled: with which effort, for how many seconds.
  """

  program: str
  topology: dict[str, Any]
  mesh: dict[str, int]
  settings: dict[str, Any]
  parameters: dict[str, int]
  parts: dict[str, int]
  flops: dict[str, float]
  tokens: int
  memory: dict[str, Any] | None = None
  buffers: list[dict] = dataclasses.field(default_factory=list)
  classes: dict[str, int] = dataclasses.field(default_factory=dict)
  collectives: list[dict] = dataclasses.field(default_factory=list)
  traffic: dict[str, float] = dataclasses.field(default_factory=dict)
  roofline: dict[str, Any] = dataclasses.field(default_factory=dict)
  speed: dict[str, Any] = dataclasses.field(default_factory=dict)
  compiled: dict[str, Any] | None = None
  notes: list[str] = dataclasses.field(default_factory=list)
  overrides: str = ''
  version: int = VERSION

  def to_json(self) -> dict:
    """The plan as plain values, with the same keys whatever was found."""
    return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Wish:
  """What is to be planned. members: of a cohort. effort: of the compiler, low or full;
  compile: else only what needs no compiler. prices: as `prices.read`.
  """

  program: str = 'step'
  members: int = 1
  effort: str = 'low'
  compile: bool = True
  prices: Mapping = dataclasses.field(default_factory=prices.read)


def make_plan(
  run: Outline, topology: Topology, wish: Wish, devices: list | None = None
) -> Plan:
  """The plan of a run on a topology.

  devices: those to plan for, by default the ones that the maker's compiler describes.
  Raises ConfigError for a mesh that does not fit, or a compiler that is not installed.
  """
  if devices is None and wish.compile:
    devices = devices_of(topology)
  mesh = mesh_of(run, topology, devices)
  program = listing.program_of(wish.program, run, mesh, wish.members)
  traced = compiling.trace(program, mesh)
  plan = _described(run, topology, mesh, program, traced, wish)
  if wish.compile:
    _compile(plan, run, topology, mesh, program, traced, wish)
  _speed(plan, run, topology, wish)
  return plan


def bytes_held(run: Outline, topology: Topology, wish: Wish) -> int:
  """The bytes of the arguments of a program on one chip; nothing is even traced.

  Raises ConfigError for a mesh that does not fit.
  """
  mesh = mesh_of(run, topology, None)
  program = listing.program_of(wish.program, run, mesh, wish.members)
  return sum(parts_of(program).values())


def mesh_of(run: Outline, topology: Topology, devices: list | None):
  """The mesh of a run's config on these devices; without them, one of shapes alone.

  Raises ConfigError where it, the batch or the model does not fit.
  """
  shape = run.settings.mesh
  try:
    if devices is None:
      mesh = _of_shapes(parallel.resolve(shape, topology.devices), topology)
    else:
      mesh = parallel.make_mesh(shape, devices)
  except ValueError as error:
    raise ConfigError(f'{error} ({topology.name})') from error
  try:
    # As the run does when it has its devices.
    require_divisible(run.settings.data, mesh.shape)
    require_tensor(run.parts.model.arch, mesh.shape['tensor'])
  except ConfigError as error:
    raise ConfigError(f'{error} (on {topology.name})') from error
  return mesh


def _of_shapes(sizes: dict[str, int], topology: Topology):
  """A mesh without devices, which knows what kind they would be."""
  platform = topology.kind.platform
  # Devices call themselves otherwise than programs for them do.
  name = 'gpu' if platform == 'cuda' else platform
  return jax.sharding.AbstractMesh(
    tuple(sizes.values()),
    tuple(sizes),
    axis_types=(jax.sharding.AxisType.Auto,) * len(sizes),
    abstract_device=jax.sharding.AbstractDevice(topology.chip, 1, name),
  )


def _described(run, topology, mesh, program: Program, traced, wish: Wish) -> Plan:
  """What needs no compiler."""
  settings = run.settings
  # Of the function and not of the program: the compiler counts a loop once.
  counted = flops.count(traced.jaxpr, program.rounds)
  again = settings.compute.remat != 'none' and program.name in ('step', 'cohort')
  model = counted
  if again:
    # What a model needs does not grow by what is computed twice (Chowdhery et al.
    # 2022, appendix B).
    plain = varied(run, compute=dict(remat='none'))
    once = listing.program_of(program.name, plain, mesh, wish.members)
    model = flops.count(compiling.trace(once, mesh).jaxpr, once.rounds)
  return Plan(
    program=program.name,
    topology=_said_of_topology(topology),
    mesh=dict(mesh.shape),
    settings=_said_of_settings(run, wish),
    parameters=parameters_of(run),
    parts=parts_of(program),
    flops=dict(total=counted, model=model, per_chip=counted / topology.devices),
    tokens=program.tokens,
    notes=list(run.notes),
  )


def _said_of_topology(topology: Topology) -> dict[str, Any]:
  """A topology as plain values."""
  found = dict(name=topology.name, chip=topology.chip)
  return found | dict(devices=topology.devices, slices=topology.slices)


def _said_of_settings(run: Outline, wish: Wish) -> dict[str, Any]:
  """What a plan depends on beside the topology, as plain values."""
  data, compute = run.settings.data, run.settings.compute
  found: dict[str, Any] = dict(sharding=run.settings.sharding, members=wish.members)
  found |= dict(rows=data.batch, length=data.length, accumulate=data.accumulate)
  return found | dict(remat=compute.remat, dtype=compute.dtype)


def varied(run: Outline, **groups: Mapping) -> Outline:
  """The outline of a run with other values: varied(run, compute=dict(remat='full'))."""
  settings = run.settings
  for name, fields in groups.items():
    group = dataclasses.replace(getattr(settings, name), **fields)
    settings = dataclasses.replace(settings, **{name: group})
  parts = run.parts
  made = assembly.assemble(settings, parts.model.arch, parts.objective, parts.method)
  start = run.start._replace(parts=made)
  return run._replace(settings=settings, parts=made, start=start)


def parameters_of(run: Outline) -> dict[str, int]:
  """How many parameters the model has, and how many of them a run trains."""
  state = jax.eval_shape(
    lambda: run.parts.init(run.parts.model.init(jax.random.key(0)), 0)
  )
  # What the optimizer leaves alone is not trained, though the method may hand it over.
  trained = tree.count(assembly.trained_leaves(run.parts, state.trainable))
  held = tree.count(state.trainable) + tree.count(state.frozen)
  return dict(total=held, trained=trained, frozen=held - trained)


def parts_of(program: Program) -> dict[str, int]:
  """The bytes of a program's arguments on one chip, by what they are."""
  found: dict[str, int] = {}
  for name, argument in zip(program.names, program.arguments, strict=True):
    if isinstance(argument, TrainState):
      found['trainable'] = bytes_of(argument.trainable)
      found['frozen'] = bytes_of(argument.frozen)
      found['optimizer'] = bytes_of(argument.opt_state)
    elif name in ('parameters', 'batch'):
      found[name] = bytes_of(argument)
  return found


def bytes_of(arrays) -> int:
  """The bytes of a tree of shapes on one chip, by their shardings."""
  total = 0
  for leaf in jax.tree.leaves(arrays):
    sharding = getattr(leaf, 'sharding', None)
    # Without a sharding an array is whole everywhere.
    shape = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
    total += math.prod(shape) * leaf.dtype.itemsize
  return total


def _compile(plan: Plan, run, topology, mesh, program, traced, wish: Wish) -> None:
  """What the compiled program says: memory, buffers, collectives, traffic."""
  try:
    built = compiling.build(traced, mesh, wish.effort)
  except compiling.TooLarge as error:
    # Of a program that has no room anywhere, only the complaint is known.
    found = _with_more_room(plan, run, topology, wish, error)
    if found is None:
      return
    built, mesh = found
  plan.memory = _beside(built.memory, topology)
  seconds = round(built.seconds, 1)
  plan.compiled = dict(effort=wish.effort, seconds=seconds, text=len(built.text))
  module = hlo.parse(built.text)
  # The compiler says how much, not what: what, the schedule tells.
  held = buffers.at_peak(module)
  plan.buffers = [buffer._asdict() for buffer in held[:LARGEST]]
  plan.classes = classes_of(plan, held)
  wiring = collectives.Wiring.of(mesh)
  talks = collectives.found_in(module, wiring, program.rounds)
  plan.collectives = collectives.summary(talks)
  plan.traffic = collectives.sent_by_network(talks)
  plan.traffic['hbm'] = traffic.moved(module, program.rounds)


def _beside(memory: dict[str, int], topology: Topology) -> dict[str, Any]:
  """What a program needs, beside what a device has."""
  hbm = topology.kind.hbm
  available = hbm - KEPT[topology.kind.platform]
  fits = memory['needed'] <= available
  return memory | dict(hbm=hbm, available=available, fits=fits)


def _with_more_room(plan: Plan, run, topology, wish: Wish, error):
  """(the program compiled for chips with more memory, its mesh): what it would need."""
  plan.notes.append(f'the compiler finds no room: {_first_sentence(str(error))}')
  larger = roomier(topology)
  if larger is None:
    # The compiler names the temporaries alone: the arguments come on top of them.
    arguments = sum(plan.parts.values())
    needed = max(error.needed + arguments, topology.kind.hbm + 1)
    memory = dict.fromkeys(('results', 'code'), 0)
    memory |= dict(peak=needed, needed=needed, temporaries=error.needed)
    memory['arguments'] = arguments
    plan.memory = _beside(memory, topology)
    return None
  plan.notes.append(f'memory and traffic are those of the program for {larger.name}')
  # As many devices, so that the arrays are cut in the same way.
  mesh = mesh_of(run, larger, devices_of(larger))
  program = listing.program_of(wish.program, run, mesh, wish.members)
  traced = compiling.trace(program, mesh)
  try:
    return compiling.build(traced, mesh, wish.effort), mesh
  except compiling.TooLarge as second:
    return _with_more_room(plan, run, larger, wish, second)


def _first_sentence(message: str) -> str:
  """The part of a compiler's complaint that names the numbers."""
  return ' '.join(message.split())[:300]


def classes_of(plan: Plan, held: list[buffers.Buffer]) -> dict[str, int]:
  """Bytes on a chip by class: the arguments by part, the arrays at the peak by what
  they are for, and what the compiler needs besides.
  """
  found = dict(plan.parts)
  for buffer in held:
    found[buffer.part] = found.get(buffer.part, 0) + buffer.size
  # Arrays do not fill the memory without gaps.
  left = plan.memory['needed'] - sum(found.values())
  found['unused between arrays'] = max(0, int(left))
  return found


def shares(seconds: Mapping[str, float]) -> tuple[str, float]:
  """(what takes longest, how long that is)."""
  bound = max(seconds, key=seconds.get)
  return bound, seconds[bound]


def _speed(plan: Plan, run: Outline, topology: Topology, wish: Wish) -> None:
  """How long a call takes at best, and what that comes to."""
  kind = topology.kind
  seconds = dict(compute=plan.flops['per_chip'] / kind.flops)
  if plan.traffic:
    seconds['hbm'] = plan.traffic['hbm'] / kind.bandwidth
    seconds['ici'] = plan.traffic['ici'] / kind.ici
    seconds['dcn'] = plan.traffic['dcn'] / kind.dcn
  # Were all of it done at once: a bound that no schedule beats.
  bound, best = shares(seconds)
  # Of a program without products nothing is known before it is compiled.
  best = max(best, 1e-12)
  serial = sum(seconds.values())
  possible = kind.flops * topology.devices * best
  mfu = plan.flops['model'] / possible
  plan.roofline = dict(seconds, seconds=best, serial=serial, bound=bound, mfu=mfu)
  steps, hours, cost = run.settings.schedule.steps, None, None
  whole = None
  if plan.program in ('step', 'cohort') and steps is not None:
    # What is planned is a step of the last phase; those before it read fewer tokens.
    whole = phases.whole_steps(run.settings)
    hours = whole * best / 3600
  price = prices.per_hour(wish.prices, topology)
  if None not in (hours, price):
    cost = hours * price
  speed: dict[str, Any] = dict(tokens_per_second=plan.tokens / best)
  speed |= dict(steps=steps, whole_steps=whole, hours=hours)
  speed |= dict(price_per_hour=price, cost=cost)
  speed['currency'] = wish.prices.get('currency', '')
  speed['prices_of'] = wish.prices.get('date', '')
  plan.speed = speed
