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

A regularizer sees the effective weights: of a matrix that `lora` edits neither factor
but the sum of its base and their product, now and at the start. It sees apart from
these what no pre-trained model has a value of.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import leaves, tree
from tl_jax.transfer.method import TransferMethod, can_train, is_whole, leaf_names
from tl_jax.transfer.partitions import full

Tree = Any
# A leaf of the model as it is now, and as it was when training began.
Pair = tuple[Any, Any]


class Scope(NamedTuple):
  """What the other methods train, by the names of the model's leaves, each leaf whole.

  changed: the leaves of the pre-trained model that are trained as they are or edited,
    each as it is now and as it was at the start.
  new: what is trained without a pre-trained value: the parts that a method puts in, and
    layers that start afresh.
  names: all leaves of the model; held: the weights of the pre-trained model that are
    not trained as they are.
  """

  changed: dict[str, Pair]
  new: dict[str, Any]
  names: tuple[str, ...]
  held: frozenset[str]


class Regularizer(NamedTuple):
  """What a regularizer does, each thing in the one place where it acts; all but the
  name may be absent.

  name: what errors call it.
  fresh(names) -> those of the model's leaves that it starts afresh, so that nothing
    pulls them to their start.
  begin(key, params) -> the params to start from, in the place of the given ones.
  check(scope): raises ValueError where it could not act on what is trained.
  penalty(scope, information) -> a scalar that is added to the loss. `information` is
    None unless there is `weighs`.
  weighs(name) -> does the penalty need the information of this leaf; fisher: that
    information by name, if it is known.
  mix(key, scope) -> {name: the plain array in the place of a leaf of the model}, for
    one training step.
  objective(objective) -> what is minimised in its place.
  decay(tx, group_of, is_new) -> tx with a decay of its own: a part of the update.
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
  """How much every entry counts in the penalty of one regularizer, by name: as it was
  given, or as it is awaited.
  """

  given: dict[str, jax.Array]
  awaited: dict[str, jax.Array]


class Anchored(NamedTuple):
  """What the regularized methods hold, where what they train started, and what
  penalties weigh by.

  start: the first trainable leaves, with holes for what has no pre-trained value.
  weights: one `Information` for each regularizer that weighs.
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
  """The method under all regularizers. Their order does not matter, because each acts
  in a place of its own.

  `plain` is what is left of the composition without them, None if nothing is.
  """
  is_new = functools.partial(_new_names, method, regularizers)
  scope_of = functools.partial(_scope, method, is_new)
  anchors = any(how.penalty or how.mix for how in regularizers)
  weighing = [how for how in regularizers if how.weighs]
  mixing = [how for how in regularizers if how.mix]

  def init(key, params, axes=None):
    for how in regularizers:
      params = params if how.begin is None else how.begin(key, params)
    trainable, frozen = method.init(key, params, axes)
    _require_declared(method, trainable, params)
    scope = scope_of(trainable, Anchored(frozen, trainable))
    for how in regularizers:
      if how.check is not None:
        how.check(scope)
    if not anchors:
      return trainable, frozen
    weights = tuple(_information(how, scope) for how in weighing)
    return trainable, Anchored(frozen, _start(trainable, is_new), weights)

  def axes(given):
    trainable, frozen = method.axes(given)
    if not anchors:
      return trainable, frozen
    specs = _changed_specs(given, trainable, frozen, is_new)
    weights = tuple(
      _by_source(how, {name: spec for name, spec in specs.items() if how.weighs(name)})
      for how in weighing
    )
    return trainable, Anchored(frozen, _holed(trainable, is_new), weights)

  def merge(trainable, frozen, *, key=None, step=None):
    params = method.merge(trainable, _held(frozen), key=key, step=step)
    if key is None or not mixing or not isinstance(frozen, Anchored):
      return params
    mixed = _mixed(mixing, key, scope_of(trainable, frozen, key=key, step=step))
    return tree.map_named(
      lambda name, leaf: mixed.get(name, leaf), params, is_leaf=is_whole
    )

  def penalty(trainable, frozen):
    total = method.penalty(trainable, _held(frozen))
    if not isinstance(frozen, Anchored):
      return total
    scope, weights = scope_of(trainable, frozen), iter(frozen.weights)
    for how in regularizers:
      information = next(weights) if how.weighs else None
      if how.penalty is not None:
        total += how.penalty(scope, information)
    return total

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


def _changed_specs(given: Tree, trainable: Tree, frozen: Tree, is_new) -> dict:
  """The axes of every pre-trained leaf that is trained or edited, by name."""
  specs, trained = dict(_named(given)), tree.flatten(trainable)
  together = dict(_named(tree.combine(trainable, frozen)))
  new = is_new(together)
  return {
    name: _plain_spec(specs[name])
    for name, leaf in together.items()
    if name not in new and (name in trained or leaves.is_edited(leaf))
  }


def _mixed(mixing: list[Regularizer], key, scope: Scope) -> dict[str, jax.Array]:
  """What stands in the place of leaves of the model for one step, each mixed in turn."""
  mixed = {}
  for how in mixing:
    mixed |= how.mix(key, scope)
    changed = {
      name: (mixed.get(name, leaf), start)
      for name, (leaf, start) in scope.changed.items()
    }
    scope = scope._replace(changed=changed)
  return mixed


def _objective(method: TransferMethod, regularizers):
  def objective(value):
    value = method.objective(value)
    for how in regularizers:
      value = value if how.objective is None else how.objective(value)
    return value

  return objective


def _optimizer(method: TransferMethod, regularizers, is_new):
  decays = [
    functools.partial(how.decay, is_new=is_new) for how in regularizers if how.decay
  ]
  masks = [how.mask for how in regularizers if how.mask]

  def wrap(tx, group_of):
    for decay in decays:
      tx = decay(tx, group_of)
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
    return tx.within(wrap) if hasattr(tx, 'within') else wrap(tx, lambda name: None)

  return optimizer


def with_fisher(frozen: Tree, fisher: dict) -> Tree:
  """What a method holds, with the information `fisher` (by name) in every `ewc` that
  was given none.

  A leaf that `fisher` does not have becomes free. Nothing changes where no `ewc` waits
  for it.
  Errors: ValueError where `fisher` has none of the leaves that an `ewc` pulls, or one
  of another shape.
  """
  if not isinstance(frozen, Anchored):
    return frozen

  def filled(one: Information) -> Information:
    if one.awaited and not one.awaited.keys() & fisher.keys():
      first = next(iter(one.awaited))
      raise ValueError(
        f'ewc: fisher has none of the trained leaves, as {first!r}; nearest: '
        f'{tree.nearest(first, fisher)}'
      )
    return one._replace(
      awaited={
        name: _fitting('ewc', name, fisher[name], old).astype(old.dtype)
        if name in fisher
        else jnp.zeros_like(old)
        for name, old in one.awaited.items()
      }
    )

  return frozen._replace(weights=tuple(map(filled, frozen.weights)))


def _fitting(what: str, name: str, value, like) -> jax.Array:
  """A copy of the information of a leaf, because a state that is donated must own its
  buffers.
  """
  if np.shape(value) != np.shape(like):
    raise ValueError(
      f'{what}: fisher of {name!r} has shape {np.shape(value)}, the leaf '
      f'{np.shape(like)}'
    )
  return jnp.array(
    value, jnp.promote_types(jnp.result_type(value), jnp.float32), copy=True
  )


def _held(frozen: Tree) -> Tree:
  """What the method itself holds."""
  return frozen.frozen if isinstance(frozen, Anchored) else frozen


def _named(params: Tree):
  """(name, leaf) of every leaf that is no hole, structured ones whole."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=is_whole):
    if leaf is not None:
      yield tree.name_of(path), leaf


def _new_names(method: TransferMethod, regularizers, names: Iterable[str]) -> set[str]:
  """Those of the names that have no pre-trained value, the head's aside."""
  names = list(names)
  found = {name for name in names if method.inserts(name)}
  return found.union(*(how.fresh(names) for how in regularizers if how.fresh))


def _scope(
  method: TransferMethod, is_new, trainable, anchored: Anchored, *, key=None, step=None
) -> Scope:
  start = tree.flatten(anchored.start)
  began = tree.map_named(lambda name, leaf: start.get(name, leaf), trainable)
  merged = functools.partial(method.merge, key=key, step=step)
  now, then = (
    dict(_named(merged(part, anchored.frozen))) for part in (trainable, began)
  )
  trained = tree.flatten(trainable)
  own = {name: leaf for name, leaf in _named(trainable) if jax.tree.leaves(leaf)}
  new = is_new([*now, *(name for name in own if name not in now)])
  changed = {
    name: (leaf, then[name])
    for name, leaf in now.items()
    if name not in new and (name in trained or leaves.is_edited(leaf))
  }
  held = frozenset(
    name
    for name, leaf in now.items()
    if name not in trained
    and not method.inserts(name)
    and (leaves.is_structured(leaf) or can_train(leaf))
  )
  return Scope(
    changed, {name: leaf for name, leaf in own.items() if name in new}, tuple(now), held
  )


def _start(trainable: Tree, is_new) -> Tree:
  """Copies of the leaves that have a pre-trained value: a state that holds one buffer
  twice cannot be donated.
  """
  return jax.tree.map(
    lambda leaf: jnp.array(leaf, copy=True), _holed(trainable, is_new)
  )


def _holed(trainable: Tree, is_new) -> Tree:
  """The tree with holes for what has no pre-trained value."""
  new = is_new(tree.flatten(trainable))
  return tree.map_named(lambda name, leaf: None if name in new else leaf, trainable)


def _information(how: Regularizer, scope: Scope) -> Information:
  """What a penalty weighs by before it is told more: the given information, else
  ones.
  """
  weighed = {
    name: leaf for name, (leaf, _) in scope.changed.items() if how.weighs(name)
  }
  if how.fisher is None:
    return _by_source(
      how, {name: jnp.ones(np.shape(leaf)) for name, leaf in weighed.items()}
    )
  return _by_source(
    how,
    {
      name: _fitting(how.name, name, how.fisher[name], leaf)
      for name, leaf in weighed.items()
    },
  )


def _by_source(how: Regularizer, values: dict) -> Information:
  return Information({}, values) if how.fisher is None else Information(values, {})


def _plain_spec(spec):
  """The axes of the array that a held leaf stands for."""
  return spec.codes if isinstance(spec, leaves.Quantized) else spec


def _require_declared(method: TransferMethod, trainable: Tree, params: Tree) -> None:
  """ValueError for a trained leaf that is neither of the params nor declared as put in.

  A regularizer would take the random start of such a leaf for its pre-trained value.
  """
  given = set(leaf_names(params))

  def owners(name):
    yield name
    while '/' in name:
      name = name.rpartition('/')[0]
      yield name
    yield ''

  for name in tree.flatten(trainable):
    if not method.inserts(name) and not any(owner in given for owner in owners(name)):
      raise ValueError(
        f'{name!r} is trained and is no leaf of the params: a method that puts leaves '
        'in must say so in `inserts`, or a regularizer takes them for pre-trained ones'
      )
