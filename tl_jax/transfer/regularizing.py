"""How a regularizer acts on the methods that it is composed with, whatever those train.

>>> import jax.numpy as jnp
>>> from tl_jax.transfer.partitions import full
>>> def penalty(scope, information):
...   return sum(leaves.squared_change(*pair) for pair in scope.changed.values())
>>> squares = Regularizer('squares', penalty=penalty)
>>> method = regularize(full(), (squares,), None)
>>> trainable, frozen = method.init(None, {'kernel': jnp.ones(2)})
>>> float(method.penalty({'kernel': jnp.ones(2) * 3}, frozen))
8.0

A regularizer sees the effective weights. Of a matrix that `lora` edits it sees neither
factor, but the sum of the base and their product, as it is now and as it was at the
start. Leaves without a pre-trained value are shown apart from these.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import leaves, tree
from tl_jax.transfer.method import (
  TransferMethod,
  can_train,
  is_whole,
  leaf_names,
  named_leaves,
)
from tl_jax.transfer.partitions import full

Tree = Any
# A leaf of the model as it is now, and as it was at the start.
Pair = tuple[Any, Any]


class Scope(NamedTuple):
  """What the other methods train, by the names of the model's leaves.

  A structured leaf is one leaf here.

  changed: the leaves of the pre-trained model that are trained in full or edited, each
    as it is now and as it was at the start.
  new: what is trained without a pre-trained value: the parts that a method puts in, and
    layers that start afresh.
  names: all leaves of the model.
  held: the weights of the pre-trained model that are not trained in full.
  """

  changed: dict[str, Pair]
  new: dict[str, Any]
  names: tuple[str, ...]
  held: frozenset[str]


class Regularizer(NamedTuple):
  """What a regularizer does, one function for each place where it can act.

  All but the name may be absent.

  name: what errors call it.
  fresh(names) -> those of the model's leaves that it starts afresh, so that nothing
    pulls them to their start.
  begin(key, params) -> the params to start from, in the place of the given ones.
  check(scope) raises ValueError where it could not act on what is trained.
  penalty(scope, information) -> a scalar that is added to the loss. `information` is
    None unless there is `weighs`.
  weighs(name) -> does the penalty need the information of this leaf?
  fisher: that information by name, where it is known from the start.
  mix(key, scope) -> {name of a leaf of the model: the plain array in its place}, for
    one training step.
  objective(objective) -> what is minimized in its place.
  decay(tx, group_of, is_new) -> tx with a decay as a part of its update.
    `is_new(names)` chooses those of the trained leaves that have no pre-trained value.
  mask(tx) -> tx that leaves some of the leaves alone, whatever moves them.
  """

  name: str
  fresh: Callable | None = None
  begin: Callable | None = None
  check: Callable | None = None
  penalty: Callable | None = None
  weighs: Callable | None = None
  fisher: dict | None = None
  mix: Callable | None = None
  objective: Callable | None = None
  decay: Callable | None = None
  mask: Callable | None = None


class Information(NamedTuple):
  """How much every entry counts in the penalty of one regularizer, by name of the leaf.

  given: what the regularizer was made with.
  awaited: what stands in until `with_fisher` says more.
  """

  given: dict[str, jax.Array]
  awaited: dict[str, jax.Array]


class Anchored(NamedTuple):
  """What a regularized method holds in the place of its frozen tree.

  frozen: what the methods themselves hold.
  start: the trainable tree as it was at `init`, with holes for what has no pre-trained
    value.
  weights: one `Information` for each regularizer that weighs, in their order.
  """

  frozen: Tree
  start: Tree
  weights: tuple[Information, ...] = ()


def regularizer(how: Regularizer) -> TransferMethod:
  """A method that trains nothing of its own; by itself it regularizes `full`."""
  return regularize(full(), (how,), None)


def regularize(
  method: TransferMethod,
  regularizers: tuple[Regularizer, ...],
  plain: TransferMethod | None,
) -> TransferMethod:
  """The method under all regularizers, which act in a place of their own each, so that
  their order does not matter.

  plain: what is left of the composition without them, None if nothing is.
  """
  is_new = functools.partial(_new_names, method, regularizers)
  scope_of = functools.partial(_scope, method, is_new)
  # Where nobody looks at the start, it is not kept: it is as large as what is trained.
  anchors = any(how.penalty or how.mix for how in regularizers)
  weighing = [how for how in regularizers if how.weighs]
  mixing = [how for how in regularizers if how.mix]

  def init(key, params, axes=None):
    # Before the method, which edits and anchors what it is given.
    params = _begun(regularizers, key, params)
    trainable, frozen = method.init(key, params, axes)
    _require_declared(method, trainable, params)
    scope = scope_of(trainable, Anchored(frozen, trainable))
    # A regularizer without effect is refused before any step.
    _require_effects(regularizers, scope)
    if not anchors:
      return trainable, frozen
    weights = tuple(_information(how, scope) for how in weighing)
    return trainable, Anchored(frozen, _start(trainable, is_new), weights)

  def axes(given):
    trainable, frozen = method.axes(given)
    if not anchors:
      return trainable, frozen
    specs = _changed_specs(given, trainable, frozen, is_new)
    # Information is sharded as the leaf that it weighs.
    weights = tuple(_information_specs(how, specs) for how in weighing)
    return trainable, Anchored(frozen, _holed(trainable, is_new), weights)

  def merge(trainable, frozen, *, key=None, step=None):
    params = method.merge(trainable, _held(frozen), key=key, step=step)
    # Without a key, in evaluation, nothing is mixed. Without the start, in a second
    # merge, there is nothing to mix with.
    if key is None or not mixing or not isinstance(frozen, Anchored):
      return params
    scope = scope_of(trainable, frozen, key=key, step=step)
    return _replaced(params, _mixed(mixing, key, scope))

  def penalty(trainable, frozen):
    # The method may have a penalty of its own (`diff`).
    total = method.penalty(trainable, _held(frozen))
    if not isinstance(frozen, Anchored):
      return total
    scope = scope_of(trainable, frozen)
    return _with_penalties(total, regularizers, scope, frozen.weights)

  def fuse(trainable, frozen):
    return method.fuse(trainable, _held(frozen))

  return method._replace(
    init=init,
    axes=axes,
    merge=merge,
    fuse=fuse,
    penalty=penalty,
    objective=_objective(method, regularizers),
    optimizer=_optimizer(method, regularizers, is_new),
    regularizers=regularizers,
    plain=plain,
  )


def _begun(regularizers, key, params: Tree) -> Tree:
  """The params to start from."""
  for how in regularizers:
    if how.begin is not None:
      params = how.begin(key, params)
  return params


def _with_penalties(
  total, regularizers, scope: Scope, weights: tuple[Information, ...]
):
  """`total` and what all regularizers add to the loss.

  weights: one for each regularizer that weighs, in their order.
  """
  remaining = iter(weights)
  for how in regularizers:
    information = next(remaining) if how.weighs else None
    if how.penalty is not None:
      total += how.penalty(scope, information)
  return total


def _require_effects(regularizers, scope: Scope) -> None:
  """Raises ValueError for a regularizer that could not act on what is trained."""
  for how in regularizers:
    if how.check is not None:
      how.check(scope)


def _changed_specs(given: Tree, trainable: Tree, frozen: Tree, is_new) -> dict:
  """The axes of every pre-trained leaf that is trained in full or edited, by name.

  given: the axes of the params; trainable, frozen: those that the method made of them.
  """
  specs = _present(given)
  together = _present(tree.combine(trainable, frozen))
  trained = tree.flatten(trainable)
  new = is_new(together)
  changed = {}
  for name, leaf in together.items():
    is_changed = name in trained or leaves.is_edited(leaf)
    if is_changed and name not in new:
      changed[name] = _plain_spec(specs[name])
  return changed


def _mixed(mixing: list[Regularizer], key, scope: Scope) -> dict[str, jax.Array]:
  """What stands in the place of leaves of the model for one step, by name.

  Where several regularizers mix, each sees what those before it have made.
  """
  mixed = {}
  for how in mixing:
    mixed |= how.mix(key, scope)
    changed = {}
    for name, (leaf, start) in scope.changed.items():
      changed[name] = mixed.get(name, leaf), start
    scope = scope._replace(changed=changed)
  return mixed


def _replaced(params: Tree, new: dict[str, jax.Array]) -> Tree:
  """The params with other leaves at some names, each in the place of a whole leaf."""

  def replace(name, leaf):
    return new.get(name, leaf)

  return tree.map_named(replace, params, is_leaf=is_whole)


def _objective(method: TransferMethod, regularizers):
  """A function from an objective to the one that is minimized in its place."""

  def objective(value):
    value = method.objective(value)
    for how in regularizers:
      if how.objective is not None:
        value = how.objective(value)
    return value

  return objective


def _optimizer(method: TransferMethod, regularizers, is_new):
  """A function from an optimizer to the one with all decays and masks."""
  decays = [how.decay for how in regularizers if how.decay]
  masks = [how.mask for how in regularizers if how.mask]

  def wrap(tx, group_of):
    for decay in decays:
      tx = decay(tx, group_of, is_new=is_new)
    # Outside the decays: a leaf that is left alone is not pulled either.
    for mask in masks:
      tx = mask(tx)
    return tx

  def optimizer(tx):
    tx = method.optimizer(tx)
    if not decays and not masks:
      return tx
    # An optimizer of ours is changed inside its average, which is then of the weights
    # as they are trained.
    if hasattr(tx, 'within'):
      return tx.within(wrap)
    return wrap(tx, lambda name: None)

  return optimizer


def with_fisher(frozen: Tree, fisher: dict) -> Tree:
  """What a method holds, with the information `fisher` in every `ewc` without any.

  fisher: by name, in the shapes of the leaves. A leaf that it does not have becomes
  free. Nothing changes where no `ewc` waits for it.
  Errors: ValueError where `fisher` has none of the leaves that an `ewc` pulls, or one
  of another shape.
  """
  if not isinstance(frozen, Anchored):
    return frozen
  weights = tuple(_told(one, fisher) for one in frozen.weights)
  return frozen._replace(weights=weights)


def _told(information: Information, fisher: dict) -> Information:
  """The information with what `fisher` says in the place of what is awaited."""
  awaited = information.awaited
  if awaited and not awaited.keys() & fisher.keys():
    first = next(iter(awaited))
    raise ValueError(
      f'ewc: fisher has none of the trained leaves, as {first!r}; nearest: '
      f'{tree.nearest(first, fisher)}'
    )
  told = {}
  for name, old in awaited.items():
    if name in fisher:
      weight = _fitting('ewc', name, fisher[name], old)
      told[name] = weight.astype(old.dtype)
    else:
      told[name] = jnp.zeros_like(old)
  return information._replace(awaited=told)


def _fitting(what: str, name: str, value, like) -> jax.Array:
  """The information of a leaf in at least float32.

  It is a copy, because a state that is donated must own its buffers.
  """
  if np.shape(value) != np.shape(like):
    raise ValueError(
      f'{what}: fisher of {name!r} has shape {np.shape(value)}, the leaf '
      f'{np.shape(like)}'
    )
  dtype = jnp.promote_types(jnp.result_type(value), jnp.float32)
  return jnp.array(value, dtype, copy=True)


def _held(frozen: Tree) -> Tree:
  """What the method itself holds."""
  return frozen.frozen if isinstance(frozen, Anchored) else frozen


def _present(params: Tree) -> dict[str, Any]:
  """Every leaf by its name, but the holes."""
  named = named_leaves(params)
  return {name: leaf for name, leaf in named.items() if leaf is not None}


def _new_names(method: TransferMethod, regularizers, names: Iterable[str]) -> set[str]:
  """Those of the names that have no pre-trained value, the head's aside."""
  names = list(names)
  new = {name for name in names if method.inserts(name)}
  for how in regularizers:
    if how.fresh is not None:
      new |= how.fresh(names)
  return new


def _scope(
  method: TransferMethod, is_new, trainable, anchored: Anchored, *, key=None, step=None
) -> Scope:
  """What regularizers see of the trees of a method.

  key, step: those of the merge that the scope is made for.
  """
  # The model now, and the model with everything back at its start.
  start = tree.flatten(anchored.start)
  began = tree.map_named(lambda name, leaf: start.get(name, leaf), trainable)
  now = _present(method.merge(trainable, anchored.frozen, key=key, step=step))
  then = _present(method.merge(began, anchored.frozen, key=key, step=step))

  # What a method trains beside the model, such as a network that makes prefixes, is in
  # the trainable tree alone.
  own = {}
  for name, leaf in _present(trainable).items():
    if jax.tree.leaves(leaf):
      own[name] = leaf
  new_names = is_new([*(now | own)])

  trained = tree.flatten(trainable)
  changed = {}
  for name, leaf in now.items():
    is_changed = name in trained or leaves.is_edited(leaf)
    if is_changed and name not in new_names:
      changed[name] = leaf, then[name]
  new = {name: leaf for name, leaf in own.items() if name in new_names}
  held = _held_weights(method, now, trained)
  return Scope(changed, new, tuple(now), held)


def _held_weights(method: TransferMethod, now: dict, trained: dict) -> frozenset[str]:
  """The names of the weights of the pre-trained model that are not trained in full.

  now: the leaves of the model, by name; trained: the leaves of the trainable tree.
  """
  held = set()
  for name, leaf in now.items():
    is_pretrained = name not in trained and not method.inserts(name)
    if is_pretrained and _is_weight(leaf):
      held.add(name)
  return frozenset(held)


def _is_weight(leaf) -> bool:
  """Is it a weight, which might be trained, and no counter or activation function?"""
  return leaves.is_structured(leaf) or can_train(leaf)


def _start(trainable: Tree, is_new) -> Tree:
  """Copies of the leaves that have a pre-trained value, with holes for the others.

  A state that holds one buffer twice cannot be donated.
  """
  kept = _holed(trainable, is_new)
  return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), kept)


def _holed(trainable: Tree, is_new) -> Tree:
  """The tree with holes for what has no pre-trained value."""
  new = is_new(tree.flatten(trainable))
  return tree.map_named(lambda name, leaf: None if name in new else leaf, trainable)


def _information(how: Regularizer, scope: Scope) -> Information:
  """What a penalty weighs by at first: the given information, else ones."""
  values = {}
  for name, (leaf, _) in scope.changed.items():
    if not how.weighs(name):
      continue
    if how.fisher is None:
      values[name] = jnp.ones(np.shape(leaf))
    else:
      values[name] = _fitting(how.name, name, how.fisher[name], leaf)
  return _by_source(how, values)


def _information_specs(how: Regularizer, specs: dict) -> Information:
  """The axes of what `_information` makes, from those of the leaves by name."""
  weighed = {name: spec for name, spec in specs.items() if how.weighs(name)}
  return _by_source(how, weighed)


def _by_source(how: Regularizer, values: dict) -> Information:
  """The values as given with the regularizer, or as awaited."""
  if how.fisher is None:
    return Information(given={}, awaited=values)
  return Information(given=values, awaited={})


def _plain_spec(spec):
  """The axes of the array that a held leaf stands for."""
  return spec.codes if isinstance(spec, leaves.Quantized) else spec


def _require_declared(method: TransferMethod, trainable: Tree, params: Tree) -> None:
  """Raises ValueError for a trained leaf that is neither of the params nor put in.

  A regularizer would take the random start of such a leaf for its pre-trained value.
  """
  given = set(leaf_names(params))
  for name in tree.flatten(trainable):
    if not method.inserts(name) and given.isdisjoint(_owners(name)):
      raise ValueError(
        f'{name!r} is trained and is no leaf of the params: a method that puts leaves '
        'in must say so in `inserts`, or a regularizer takes them for pre-trained ones'
      )


def _owners(name: str) -> list[str]:
  """The names of the leaves that an array may be of: its own, and all that contain it.

  The factor `dense/kernel/a` of an edited leaf is of `dense/kernel`.
  """
  parts = name.split('/')
  # '' is the name of a tree that is one leaf.
  return ['/'.join(parts[:count]) for count in range(len(parts) + 1)]
