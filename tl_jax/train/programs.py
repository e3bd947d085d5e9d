"""Every function that a run compiles, by name, with its shardings and what it donates.

Each maker returns a jitted function, which nothing has compiled yet. Several processes
call it through `compilation.together`.

>>> import jax.numpy as jnp
>>> int(marks().lower({'kernel': jnp.ones(3)}).out_info.shape[0])
2
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from tl_jax import decode, layers, models, optim, parallel, transfer, tree
from tl_jax.decode import generation
from tl_jax.train.assembly import Components
from tl_jax.train.holding import held_shardings
from tl_jax.train.starting import make_params
from tl_jax.train.step import TrainState, averaged, merged

# The axis of the mesh over which the members of a cohort are spread.
MEMBERS = 'cohort'
# XLA's option for how hard LLVM tries, from 0 to 3; by itself it takes 3.
EFFORT = 'xla_backend_optimization_level'


class Program(NamedTuple):
  """A function that a config compiles, with what it is compiled for.

  function: a jitted one, which nothing has compiled yet. arguments: shapes, with the
  shardings that they come in; names: what each of them is. donated: the places of those
  whose memory the results take over. tokens: how many one call reads or writes. rounds:
  how often a loop goes round whose end depends on the data.
  """

  name: str
  function: Callable
  arguments: tuple
  names: tuple[str, ...]
  tokens: int
  donated: tuple[int, ...] = ()
  rounds: int = 1


def compiler_options() -> dict[str, int] | None:
  """The options of XLA's compiler that every program is compiled with here.

  On CPU the lowest of LLVM's levels that still optimises: a training step compiles in
  two thirds of the CPU time and runs as fast. Its first steps had the same bits; later
  ones may round otherwise. None on accelerators, where other compilers make the
  kernels, and where the user has chosen a level by XLA_FLAGS.
  """
  is_chosen = EFFORT in os.environ.get('XLA_FLAGS', '')
  if is_chosen or parallel.target_platform() != 'cpu':
    return None
  return {EFFORT: 1}


def _jit(function: Callable, **how) -> Callable:
  """The jitted function; how: further arguments of `jax.jit`."""
  return jax.jit(function, compiler_options=compiler_options(), **how)


def abstract_first_state(components: Components) -> TrainState:
  """The state at step 0 as shapes and dtypes; nothing is computed."""
  return jax.eval_shape(lambda: components.init(make_params(components.model, 0), 0))


def named_shardings(
  components: Components, mesh, preset: str, overrides: Sequence[parallel.Override] = ()
) -> TrainState:
  """A NamedSharding for every leaf of the named state.

  The optimizer's moments of a parameter lie where the parameter lies.
  Raises ConfigError for an override that does not fit the parameters.
  """
  abstract = abstract_first_state(components)
  trained_axes, frozen_axes = components.method.axes(components.model.axes)
  parallel.require_matches(overrides, parameter_names(abstract))
  place = functools.partial(parallel.overridden, overrides, sizes=mesh.shape)
  trained_axes = place(trained_axes, abstract.trainable)
  frozen_axes = place(frozen_axes, abstract.frozen)
  # The one whose state is in the run's: a method may wrap what the config names.
  optimizer = components.method.optimizer(components.tx)
  axes = TrainState(
    step=PartitionSpec(),
    trainable=trained_axes,
    frozen=frozen_axes,
    opt_state=optim.state_axes(optimizer, abstract.trainable, trained_axes),
    key=PartitionSpec(),
  )
  return parallel.shardings(mesh, axes, abstract, preset)


def parameter_names(state: TrainState) -> list[str]:
  """The names of all parameters of a state, trained and frozen."""
  return [*tree.flatten(state.trainable), *tree.flatten(state.frozen)]


def state_shardings(
  components: Components, mesh, preset: str, overrides: Sequence[parallel.Override] = ()
) -> TrainState:
  """A NamedSharding for every leaf of the state in the form that a step takes, which may
  hold layers together (see `holding`).

  Raises ConfigError for an override that does not fit the parameters.
  """
  named = named_shardings(components, mesh, preset, overrides)
  # It asks which platform the state is for.
  with parallel.in_force(mesh):
    return held_shardings(components, abstract_first_state(components), named)


def abstract_state(components: Components, shardings: TrainState) -> Any:
  """The state as shapes with shardings, in the form that these have.

  A checkpoint is restored into the named one.
  """

  def placed(leaf, sharding):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  def make():
    params = make_params(components.model, 0)
    return layers.held_as(components.init(params, 0), shardings)

  return jax.tree.map(placed, jax.eval_shape(make), shardings)


def first_state(make: Callable, shardings: TrainState):
  """make(given, own) -> the state at step 0, which shares no buffer with `given`.

  `make` gives it named. The form is that of the shardings.
  """
  # Nothing is donated: the next run of this program starts from the same arrays.
  return _jit(in_form(make, shardings), out_shardings=shardings)


def in_form(make: Callable, shardings: TrainState) -> Callable:
  """make(...) -> a named state, as a function that gives it in the form of these
  shardings.
  """
  return lambda *given: layers.held_as(make(*given), shardings)


def named_state(shardings: TrainState):
  """(state) -> the state with leaves of its own for every layer; shardings: of these."""
  return _jit(layers.unstacked, out_shardings=shardings)


def held_state(shardings: TrainState):
  """(named state) -> the state in the form of these shardings."""
  return _jit(in_form(lambda state: state, shardings), out_shardings=shardings)


def merged_params(components: Components):
  """(state) -> the parameters of the model with the averaged weights of a state, named
  or held as the state is.
  """
  return _jit(lambda state: merged(components.method, averaged(state), state.frozen))


def named_params():
  """(params) -> the parameters with leaves of their own for every layer."""
  return _jit(layers.unstacked)


def step(components: Components, shardings: TrainState, batch_sharding: NamedSharding):
  """(state, batch) -> (state, metrics): the state is donated, metrics are everywhere."""
  # Metrics on every device, so that each process reads them without the others.
  everywhere = parallel.replicated(batch_sharding.mesh)
  return _jit(
    components.step,
    in_shardings=(shardings, batch_sharding),
    out_shardings=(shardings, everywhere),
    donate_argnums=0,
  )


def outputs(components: Components):
  """(state, batch) -> what the averaged weights of a state say of labelled rows."""

  def forward(state, batch):
    params = merged(components.method, averaged(state), state.frozen)
    return components.model.apply(params, batch).logits

  return _jit(forward)


def outputs_of_params(model: models.Model):
  """(params, batch) -> what a model says of labelled rows."""
  return _jit(lambda params, batch: model.apply(params, batch).logits)


def embeddings_of_params(model: models.Model, compute: models.Compute, modes):
  """(params, batch) -> one vector (rows, examples, k) for every example of packed rows.

  modes: as of `models.embed`.
  """
  arch = model.arch
  return _jit(lambda params, batch: models.embed(arch, compute, params, batch, modes))


def layers_of_params(model: models.Model, compute: models.Compute, modes):
  """(params, batch) -> as `embeddings_of_params`, of all layers one behind the other:
  (rows, examples, (layers + 1) k).
  """
  arch = model.arch

  def embed(params, batch):
    found = models.embed_layers(arch, compute, params, batch, modes)
    # Whoever collects what is said of examples knows one axis of numbers.
    return found.reshape(*found.shape[:2], -1)

  return _jit(embed)


def decoding(decoder: models.Decoder, chosen: decode.Decoding):
  """(params, batch, key, numbers, live) -> what is written; see `generation.run`."""

  # The decoder and the settings are no arrays: they are part of the function.
  def write(params, batch, key, numbers, live):
    return generation.run(decoder, params, batch, chosen, key, numbers, live)

  # As decoding itself is compiled, with the compiler's own options.
  return jax.jit(write)


def loss_sums(components: Components, key):
  """(params, batch, index) -> ({name: (sum, weight)}, examples in the batch).

  The objective draws for the batch with this index what `key` gives it, and sums its
  terms, as loss/NAME, and its metrics.
  """

  def sums(params, batch, index):
    batch = components.objective.prepare(jax.random.fold_in(key, index), batch)

    def forward(*args, **keywords):
      return components.model.apply(params, *args, **keywords)

    terms, means = components.objective.loss(forward, batch, None)
    weights = components.objective.weights(batch)
    found = {name: tuple(mean) for name, mean in means.items()}
    # By this prefix it is known later what adds up to the loss.
    for name, term in terms.items():
      found[f'loss/{name}'] = (term.coefficient * term.sum, weights[name])
    # The segments of a row count its examples from 1.
    return found, batch['segments'].max(-1).sum()

  return _jit(sums)


def features(components: Components):
  """(state, batch) -> the features of labelled rows, from which a head reads."""

  def read(state, batch):
    # Not the average: only the head is trained, and features are what it reads.
    params = merged(components.method, state.trainable, state.frozen)
    return components.model.apply(params, batch, keep=('features',)).features

  return _jit(read)


def marks():
  """(leaves) -> two sums (2,) uint32 over all bits, which differ where leaves do."""
  return _jit(fingerprint)


def fingerprint(held) -> jax.Array:
  """Two sums (2,) uint32 over the bits of all leaves, which differ where two bodies
  do.
  """
  total = jnp.zeros(2, jnp.uint32)
  for number, leaf in enumerate(jax.tree.leaves(held), 1):
    numbers = leaf.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(numbers, jnp.uint32).reshape(-1)
    weights = 2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1
    plain = (bits * weights).sum()
    # A second sum over shifted bits: two bodies that agree in both are the same.
    shifted = ((bits ^ bits >> 13) * weights).sum()
    sums = jnp.stack([plain, shifted])
    total = 31 * total + jnp.uint32(number) * sums
  return total


def fisher_diagonal(log_probabilities: Callable, examples: dict, key, samples: int):
  """(body) -> the diagonal Fisher information on these examples, one at a time."""

  def information(body):
    return transfer.fisher_diagonal(
      log_probabilities, body, examples, key, samples=samples, batch=1
    )

  return _jit(information)


def cohort_first_states(
  make: Callable, axes: TrainState, shardings: TrainState, each: int = 1
):
  """make(given, own) for the stacked `own` of all members; what all share is made once.

  each: so many members in a row have one random key.
  """
  stacked = jax.vmap(make, in_axes=(None, 0), out_axes=axes)

  def first(given, own):
    state = stacked(given, own)
    return state._replace(key=state.key[::each])

  return _jit(first, out_shardings=shardings)


def cohort_step(
  components: Components, axes: TrainState, shardings: TrainState, batch_sharding
):
  """(stacked state, batches, factors) -> (stacked state, metrics): the step of all
  members at once; the state is donated.

  Members stand in groups of one size. Those of a group, side by side, have one batch
  and one random key between them, so that what depends on nothing of their own, as the
  layers below the first that is trained, is computed once for all of them. Batches and
  keys are (groups, ...), factors, those of the schedules, (members,).
  """
  mesh = batch_sharding.mesh
  function = grouped_step(components.step_at, axes)
  everywhere = parallel.replicated(mesh)
  members = NamedSharding(mesh, PartitionSpec(MEMBERS))
  return _jit(
    function,
    in_shardings=(shardings, batch_sharding, members),
    out_shardings=(shardings, everywhere),
    donate_argnums=0,
  )


def grouped_step(step_at: Callable, axes: TrainState) -> Callable:
  """The step of `cohort_step` before it is jitted."""
  # Without an axis nothing that is made from it gets one.
  of_group = axes._replace(key=None)

  # The constraints inside the model are those of one member; vmap adds the axis of
  # members.
  def alone(state, batch, factors):
    mapped = jax.vmap(
      step_at, in_axes=(axes, 0, 0), out_axes=(axes, 0), spmd_axis_name=MEMBERS
    )
    return mapped(state, batch, factors)

  def one_group(state, batch, factors):
    mapped = jax.vmap(
      step_at,
      in_axes=(of_group, None, 0),
      out_axes=(of_group, 0),
      spmd_axis_name=MEMBERS,
    )
    key = state.key
    batch = jax.tree.map(lambda leaf: leaf[0], batch)
    state, metrics = mapped(state._replace(key=key[0]), batch, factors)
    return state._replace(key=key), metrics

  def many_groups(state, batch, factors):
    groups = len(state.key)
    inner = jax.vmap(step_at, in_axes=(of_group, None, 0), out_axes=(of_group, 0))
    outer = jax.vmap(
      inner, in_axes=(axes, 0, 0), out_axes=(axes, 0), spmd_axis_name=MEMBERS
    )

    def split(leaf):
      return leaf.reshape(groups, -1, *leaf.shape[1:])

    def joined(leaf):
      return leaf.reshape(-1, *leaf.shape[2:])

    apart = on_members(split, state, of_group)
    state, metrics = outer(apart, batch, split(factors))
    return on_members(joined, state, of_group), jax.tree.map(joined, metrics)

  def step(state, batch, factors):
    groups = len(state.key)
    if groups == len(factors):
      return alone(state, batch, factors)
    if groups == 1:
      return one_group(state, batch, factors)
    return many_groups(state, batch, factors)

  return step


def on_members(function: Callable, state, axes):
  """The state with `function` of the leaves that every member has its own of."""

  def apply(leaf, axis):
    return leaf if axis is None else function(leaf)

  return jax.tree.map(apply, state, axes)


def cohort_taken(shardings):
  """(leaves, key, places, groups) -> (the leaves of members at these places, the keys
  of these groups), each where its sharding says; a number takes an axis away.
  """

  def take(leaves, key, places, groups):
    return jax.tree.map(lambda leaf: leaf[places], leaves), key[groups]

  return _jit(take, out_shardings=shardings)


def cohort_gathered(shardings, each: int):
  """(leaves of every member, their keys) -> (the leaves stacked, a key per group)."""

  def gather(leaves, keys):
    stacked = jax.tree.map(lambda *own: jnp.stack(own), *leaves)
    return stacked, jnp.stack(keys[::each])

  return _jit(gather, out_shardings=shardings)
