"""The states of a cohort as one, stacked, over the devices of the mesh.

Leaves that no member trains and all share, the frozen base, have no axis of members.
The other leaves have it first, and the axis `cohort` of the mesh divides it. Members of
one seed and one set of examples stand side by side: they share their batches and draw
the same, so that layers below the first that is trained are computed once for them.

>>> import numpy as np
>>> made = lambda base, own: {'base': 2 * base, 'own': base + own}
>>> depends(made, np.ones(3, np.float32), np.float32(1))
{'base': False, 'own': True}
>>> Layout.of(['seed 1', 'seed 2', 'seed 1', 'seed 2'])
Layout(places=(0, 2, 1, 3), each=2)
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from tl_jax import parallel
from tl_jax.train import programs
from tl_jax.train.compilation import Compiled, compile_ahead, together
from tl_jax.train.programs import MEMBERS
from tl_jax.train.running import Trainer
from tl_jax.train.starting import Given, Own
from tl_jax.train.step import TrainState

# How many times as many places as members there may be, for groups of one size: a copy
# computes what nobody wants.
MOST_COPIES = 1.5


def depends(function, fixed, own) -> Any:
  """Which leaves of function(fixed, own) depend on `own`: a tree of booleans.

  Nothing is computed. A leaf may be said to depend on `own` where its value does not.
  """
  traced, shapes = jax.make_jaxpr(function, return_shape=True)(fixed, own)
  jaxpr = traced.jaxpr
  own_inputs = jaxpr.invars[len(jax.tree.leaves(fixed)) :]
  # Equations stand in the order in which they are computed, so one pass finds all.
  dependent = set(map(id, own_inputs))
  for equation in jaxpr.eqns:
    if any(id(value) in dependent for value in equation.invars):
      dependent.update(map(id, equation.outvars))
  found = [id(value) in dependent for value in jaxpr.outvars]
  return jax.tree.unflatten(jax.tree.structure(shapes), found)


def member_axes(make, given: Given, own: Own) -> TrainState:
  """0 for a leaf of the state make(given, own) that every member has its own of, None
  for one that all share. Nothing is computed; the arguments may be shapes.
  """
  dependent = depends(make, given, own).frozen
  frozen = jax.tree.map(lambda found: 0 if found else None, dependent)
  # Whatever is trained or counted is a member's own from the first step on.
  state = jax.eval_shape(make, given, own)
  own_axes = jax.tree.map(lambda leaf: 0, state)
  # Members of a stack are at one step.
  return own_axes._replace(step=None, frozen=frozen)


def stacked_sharding(sharding: NamedSharding, axis: int | None) -> NamedSharding:
  """Where a leaf of all members lies, from where that of one does."""
  if axis is None:
    return sharding
  return NamedSharding(sharding.mesh, PartitionSpec(MEMBERS, *sharding.spec))


class Layout(NamedTuple):
  """How members stand in a stack.

  places: the number of the member at each place; a member that stands there again is a
  copy, which fills up. each: so many in a row are a group.
  """

  places: tuple[int, ...]
  each: int

  @classmethod
  def of(cls, courses: Sequence[Hashable], ways: int = 1) -> 'Layout':
    """Members of equal `courses` side by side, where that takes few copies.

    The number of places is divided by `ways`, and so is that of groups, unless there
    is one group alone.
    """
    alike: dict[Hashable, list[int]] = {}
    for index, course in enumerate(courses):
      alike.setdefault(course, []).append(index)
    each = max(map(len, alike.values()))
    groups = list(alike.values())
    # The axis of the mesh divides one group, or else whole groups.
    if len(groups) == 1:
      each = _rounded(each, ways)
    filled = [group + group[-1:] * (each - len(group)) for group in groups]
    if len(filled) > 1:
      filled += filled[-1:] * (_rounded(len(filled), ways) - len(filled))
    apart = _rounded(len(courses), ways)
    if len(filled) * each > MOST_COPIES * apart:
      numbers = range(len(courses))
      copies = [len(courses) - 1] * (apart - len(courses))
      return cls((*numbers, *copies), 1)
    return cls(tuple(index for group in filled for index in group), each)

  @property
  def groups(self) -> tuple[int, ...]:
    """The number of the first member of each group."""
    return self.places[:: self.each]

  def place_of(self, member: int) -> int:
    """The place of a member, not that of a copy."""
    return self.places.index(member)


def _rounded(count: int, ways: int) -> int:
  """The count, or the next number that `ways` divides."""
  return -(-count // ways) * ways


class Shape(NamedTuple):
  """What the programs of a stack depend on: its places, and how many are a group."""

  size: int
  each: int


class Programs:
  """What is compiled for stacks of one shape."""

  def __init__(self, trainer: Trainer, axes: TrainState, shape: Shape):
    ready, mesh = trainer.ready, trainer.mesh
    shardings = jax.tree.map(stacked_sharding, trainer.shardings, axes)
    batch_axis = MEMBERS
    if shape.size == shape.each:
      # One group has one key and one batch, which nothing divides.
      batch_axis = None
      key = PartitionSpec(None, *trainer.shardings.key.spec)
      shardings = shardings._replace(key=NamedSharding(mesh, key))
    self.shardings = shardings
    self.batch_sharding = NamedSharding(
      mesh, PartitionSpec(batch_axis, *trainer.sharding.spec)
    )
    self.members_sharding = NamedSharding(mesh, PartitionSpec(MEMBERS))
    make = trainer.first_of
    self.first_states = programs.cohort_first_states(make, axes, shardings, shape.each)
    self.start = together(self.first_states)
    self.step = programs.cohort_step(ready.parts, axes, shardings, self.batch_sharding)
    self.compiled: Compiled | None = None
    own = _own_of(shardings, axes), shardings.key
    self.gather = together(programs.cohort_gathered(own, shape.each))
    self.take = together(programs.cohort_taken(own))


class Stacks:
  """Makes stacks of the members of one trainer; programs are compiled once for each
  shape.
  """

  def __init__(self, trainer: Trainer):
    self.trainer = trainer
    # Not on the mesh, as `Trainer.start` says.
    self.given = trainer.given
    self.ways = trainer.mesh.shape[MEMBERS]
    shapes = Own(np.uint32(0), np.float32(0), np.float32(0))
    self.axes = member_axes(trainer.first_of, self.given, shapes)
    one = _own_of(trainer.shardings, self.axes), trainer.shardings.key
    self.pick = together(programs.cohort_taken(one))
    self._programs: dict[Shape, Programs] = {}

  def stack(self, owns: Sequence[Own], courses: Sequence[Hashable]) -> 'Stack':
    """A stack of these members; of equal courses are those that share batches and draw
    the same.
    """
    return Stack(self, tuple(owns), tuple(courses))

  def programs(self, shape: Shape) -> Programs:
    if shape not in self._programs:
      self._programs[shape] = Programs(self.trainer, self.axes, shape)
    return self._programs[shape]


class Stack:
  """The states of some members as one: made, stepped, and taken apart."""

  def __init__(self, stacks: Stacks, owns: tuple[Own, ...], courses: tuple):
    self.stacks, self.owns, self.courses = stacks, owns, courses
    self.axes = stacks.axes
    self.layout = Layout.of(courses, stacks.ways)
    self.size = len(self.layout.places)
    self.programs = stacks.programs(Shape(self.size, self.layout.each))

  @property
  def own(self) -> Own:
    """What each place has of its own, (places,) each."""
    owns = [self.owns[member] for member in self.layout.places]
    return Own(*(np.stack(values) for values in zip(*owns, strict=True)))

  def start(self) -> TrainState:
    """The stacked state at step 0; the base that members share is never there once per
    member.
    """
    return self.programs.start(self.stacks.given, self.own)

  def gather(self, states: Sequence[TrainState]) -> TrainState:
    """The stacked state of members that have been restored, each as `owned` left it;
    the first of them has the base.
    """
    # A copy is gathered again, as it is computed again.
    leaves, keys = [], []
    for member in self.layout.places:
      state = states[member]
      leaves.append(_own_of(state, self.axes))
      keys.append(state.key)
    own, key = self.programs.gather(leaves, keys)
    return _with_own(states[0], own)._replace(key=key)

  def compile(self, state: TrainState, batch: dict, factors) -> Compiled:
    """The step's program, compiled where no stack of this shape has one yet."""
    if self.programs.compiled is None:
      step = self.programs.step
      self.programs.compiled = compile_ahead(step, state, batch, factors)
    return self.programs.compiled

  def place(self, batches: dict[int, dict]) -> dict:
    """The batches of the groups as one, on the mesh: (groups, rows, ...) each.

    batches: by the first member of every group.
    """
    first = batches[self.layout.groups[0]]
    stacked = {}
    for name in first:
      stacked[name] = np.stack([batches[group][name] for group in self.layout.groups])
    return parallel.place(stacked, self.programs.batch_sharding)

  def place_factors(self, factors: Sequence[float]) -> jax.Array:
    """The factors of the members' schedules, on the mesh: (places,)."""
    values = np.array([factors[member] for member in self.layout.places], np.float32)
    return parallel.place(values, self.programs.members_sharding)

  def pick(self, state: TrainState, member: int) -> TrainState:
    """The state of one member, as a run of its own has it.

    Its base is that of the stacked state, until the next step is given this.
    """
    place = self.layout.place_of(member)
    group = place // self.layout.each
    leaves = _own_of(state, self.axes)
    own, key = self.stacks.pick(leaves, state.key, np.int32(place), np.int32(group))
    return _with_own(state, own)._replace(key=key)

  def smaller(self, left: Sequence[int]) -> 'Stack | None':
    """A stack of the members in `left`; None where it had more than half the places."""
    owns = [self.owns[member] for member in left]
    courses = [self.courses[member] for member in left]
    size = len(Layout.of(courses, self.stacks.ways).places)
    return self.stacks.stack(owns, courses) if 2 * size <= self.size else None

  def moved(self, state: TrainState, left: Sequence[int], stack: 'Stack') -> TrainState:
    """The state of the members in `left`, for a stack of these."""
    # Where the members stood, in the order in which they will stand.
    places = [self.layout.place_of(left[member]) for member in stack.layout.places]
    groups = [place // self.layout.each for place in places[:: stack.layout.each]]
    leaves = _own_of(state, self.axes)
    numbers = np.array(places, np.int32), np.array(groups, np.int32)
    own, key = stack.programs.take(leaves, state.key, *numbers)
    return _with_own(state, own)._replace(key=key)


def owned(state: TrainState, axes: TrainState, with_base: bool) -> TrainState:
  """What a stack needs of a member's state: without the base that another one has."""
  return state if with_base else _own_of(state, axes)._replace(key=state.key)


def _own_of(state, axes):
  """The leaves that every member has its own of but the key, with holes for the
  others.
  """

  def take(leaf, axis):
    return None if axis is None else leaf

  return jax.tree.map(take, state, axes)._replace(key=None)


def _with_own(state, own):
  """The state with other leaves of its own, whose holes `own` leaves as they are."""

  def put(leaf, new):
    return leaf if new is None else new

  return jax.tree.map(put, state, own)
