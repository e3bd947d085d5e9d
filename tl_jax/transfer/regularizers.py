"""Regularizers: what keeps trained parameters near where they started, whatever method
trains them.

>>> import jax.numpy as jnp
>>> method = l2sp(0.5)
>>> trainable, frozen = method.init(None, {'kernel': jnp.ones(2)})
>>> float(method.penalty({'kernel': jnp.ones(2) * 3}, frozen))
2.0

Each acts on the effective weights, or raises ValueError at `init` where what is trained
gives it nothing to act on. The head, the parts that a method puts in and the layers
that start afresh have no pre-trained value, so nothing pulls them to their random
start.
`head=None` says that the head is pre-trained like the rest.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax import leaves, rng, tree
from tl_jax.config import Count, Fraction, NonNegative
from tl_jax.transfer.method import HEAD, TransferMethod, can_train, head_matcher
from tl_jax.transfer.partitions import (
  BEHIND,
  LAYERS,
  POOLER,
  depth_from_top,
  require_index,
  top_layers,
)
from tl_jax.transfer.regularizing import Regularizer, Scope, regularizer

Tree = Any


def l2sp(
  strength: NonNegative = 1e-2,
  *,
  new: NonNegative | None = None,
  head: str | None = HEAD,
) -> TransferMethod:
  """Adds strength / 2 |w - w0|^2 over pre-trained weights and new / 2 |w|^2 over new
  ones (L2-SP, Li et al. 2018).

  w is the effective weight: under `lora`, |w - w0| is the norm of the low-rank change.
  New weights are the head, what a method puts in (the parameters of an adapter, a
  prompt or a prefix), and layers that start afresh. `new` is `strength` by default.
  Errors: ValueError at `init` where nothing is trained.
  """
  belongs = head_matcher(head)
  beta = strength if new is None else new

  def pull_to_zero(leaf):
    return beta / 2 * jnp.square(leaves.wide(leaf)).sum()

  def check(scope: Scope):
    if not scope.changed and not scope.new:
      raise ValueError('l2sp: nothing is trained, so there is nothing to pull')

  def penalty(scope: Scope, information):
    del information
    total = jnp.zeros(())
    for name, (leaf, start) in scope.changed.items():
      if belongs(name):
        total += pull_to_zero(leaf)
      else:
        total += strength / 2 * leaves.squared_change(leaf, start)
    # The arrays of a new part, such as an adapter, are what is trained.
    for leaf in jax.tree.leaves(scope.new):
      total += pull_to_zero(leaf)
    return total

  return regularizer(Regularizer('l2sp', check=check, penalty=penalty))


def ewc(
  fisher: Tree = None, strength: NonNegative = 1.0, *, head: str | None = HEAD
) -> TransferMethod:
  """Adds strength / 2 sum F (w - w0)^2 (Kirkpatrick et al. 2017, eq. 3).

  fisher: F, a tree like the params, as `tl_jax.transfer.fisher_diagonal` estimates it.
  w is the effective weight, so F has the shape of the weight under `lora` too. Leaves
  that it does not have are free. Without a `fisher` every entry counts 1, except those
  of the head, until `with_fisher` says more: a run takes the information of the model
  that it starts from.
  Errors: ValueError at `init` where nothing that is trained has a pre-trained value, or
  `fisher` has none of it.
  """
  named = None if fisher is None else tree.flatten(fisher)
  belongs = head_matcher(head)

  def weighs(name):
    # Even a head counts where its information was given: it is of the earlier task.
    return not belongs(name) if named is None else name in named

  def check(scope: Scope):
    if any(map(weighs, scope.changed)):
      return
    if named is None or not scope.changed:
      raise ValueError(
        f'ewc: nothing that is trained has a pre-trained value{_such_as(scope)}; '
        'compose it with a method that changes pre-trained weights, such as full, '
        'last or lora'
      )
    first = next(iter(scope.changed))
    raise ValueError(
      'ewc: fisher has none of the trained leaves; nearest: '
      f'{tree.nearest(first, named)}'
    )

  def penalty(scope: Scope, information):
    total = jnp.zeros(())
    values = information.given | information.awaited
    for name, value in values.items():
      change = leaves.change(*scope.changed[name])
      total += (value * jnp.square(change)).sum()
    return strength / 2 * total

  return regularizer(
    Regularizer('ewc', check=check, penalty=penalty, weighs=weighs, fisher=named)
  )


def mixout(
  rate: Fraction = 0.7,
  *,
  mask: Literal['element', 'column'] = 'element',
  pattern: str = r'.*kernel',
  head: str | None = HEAD,
) -> TransferMethod:
  """At every step, entries of the trained matrices go back to where they started, with
  probability `rate`.

  w -> (mask w0 + (1 - mask) w - rate w0) / (1 - rate) (Lee et al. 2020). This is w0 +
  dropout(w - w0), so its mean is w. w is the effective weight: under `lora`, entries of
  base + a @ b go back to the base, and the matrix is formed for the step.
  mask: `element` draws every entry, as the paper says. `column` is what the authors'
  code does: one draw for all outputs of an input, so that whole rows of an (in, out)
  kernel go back together.
  The head, new parts and leaves that the pattern does not match are not mixed. Without
  a key, in evaluation, nothing is.
  Errors: ValueError at `init` where no pre-trained matrix that the pattern matches is
  trained, and for a matrix with dropout of its inputs (`lora(dropout=...)`), which an
  array in its place could not apply.
  """
  wanted = tree.matcher(pattern)
  belongs = head_matcher(head)

  def matrices(scope: Scope) -> dict:
    """The leaves that are mixed, by name: what they are, and where they started."""
    found = {}
    for name, (leaf, start) in scope.changed.items():
      if wanted(name) and not belongs(name) and leaf.ndim >= 2:
        found[name] = leaf, start
    return found

  def check(scope: Scope):
    found = matrices(scope)
    if not found:
      raise ValueError(
        f'mixout: no pre-trained matrix that {pattern!r} matches is '
        f'trained{_such_as(scope)}; compose it with a method that changes some, such '
        'as full, last or lora'
      )
    for name, (leaf, _) in found.items():
      _require_no_dropout(name, leaf)

  def mix(key, scope: Scope):
    mixed = {}
    for name, (leaf, start) in matrices(scope).items():
      shape = leaf.shape if mask == 'element' else (*leaf.shape[:-1], 1)
      own_key = rng.stream(key, f'mixout/{name}')
      is_back = jax.random.bernoulli(own_key, rate, shape)
      # The paper's formula, written as dropout of the change.
      change = leaves.change(leaf, start)
      away = jnp.where(is_back, 0.0, change) / (1 - rate)
      mixed[name] = (leaves.wide(start) + away).astype(leaf.dtype)
    return mixed

  return regularizer(Regularizer('mixout', check=check, mix=mix))


def _require_no_dropout(name: str, leaf) -> None:
  """Raises ValueError for a matrix with dropout of its inputs.

  An array in the place of a product cannot drop what goes into its factor.
  """
  if getattr(leaf, 'rate', 0):
    raise ValueError(
      f'mixout: {name!r} has dropout {leaf.rate} of its own inputs; give one of '
      'both, as lora(dropout=0)'
    )


class DecayState(NamedTuple):
  """The optimizer's own state, and where the decay pulls to."""

  inner: Any
  start: Tree


def learning_rate(opt_state):
  """The learning rate of this step, from the state of an optimizer of ours.

  Such a state keeps the peak `rate` and the `factor` of the schedule. Errors:
  ValueError for another optimizer.
  """

  def keeps_rate(node):
    return hasattr(node, 'rate') and hasattr(node, 'factor')

  nodes = jax.tree.leaves(opt_state, is_leaf=keeps_rate)
  found = [node for node in nodes if keeps_rate(node)]
  if not found:
    raise ValueError(
      'prior_decay: the optimizer keeps no rate; make it with '
      'tl_jax.optim.make_optimizer'
    )
  return found[0].rate * found[0].factor


def prior_decay(
  decay: NonNegative = 0.01, *, head: str | None = HEAD
) -> TransferMethod:
  """Decoupled decay towards the pre-trained weights: w - rate decay (w - w0).

  Wiese et al. 2017, called decay(w_pre) in Lee et al. 2020. A head, new parts and
  layers that start afresh still decay towards zero. It is added to the optimizer's own
  decay, so set `optim.decay` to 0 beside it. It follows the groups of the optimizer:
  their `scale` multiplies it, and neither a leaf of a group with a `decay` of 0 nor a
  frozen one is pulled. It needs weights that are linear in the one array that is
  trained: those that are trained in full, and those of `subset` and `ia3`.
  Errors: ValueError at `init` under `lora`, `dora` and `diff`, where the decay of a
  product is no decay of its factors, and where nothing that is trained has a
  pre-trained value; at the optimizer's `init` where no group lets it pull.
  """
  belongs = head_matcher(head)
  linear = (leaves.Scaled, leaves.Subset)

  def check(scope: Scope):
    # Only a head is trained, which is pulled to zero.
    if not any(not belongs(name) for name in scope.changed):
      raise ValueError(
        'prior_decay: nothing that is trained has a pre-trained '
        f'value{_such_as(scope)}; the decay towards zero is optim.decay'
      )
    for name, (leaf, _) in scope.changed.items():
      # The optimizer sees the array that is trained, not the weight that it makes.
      if leaves.is_edited(leaf) and not isinstance(leaf, linear):
        raise ValueError(
          f'prior_decay: {name!r} is a {type(leaf).__name__}: the optimizer moves its '
          'factors, whose decay is not that of the weight; l2sp pulls the weight '
          'itself'
        )

  def optimizer(tx, group_of, is_new):
    def decays_to_zero(names):
      return is_new(names) | set(filter(belongs, names))

    return decay_to_start(tx, decay, group_of, decays_to_zero)

  return regularizer(Regularizer('prior_decay', check=check, decay=optimizer))


def decay_to_start(tx, decay: float, group_of, is_new):
  """`tx` with a decay to where the parameters are at `init`.

  group_of(name) -> the group of the optimizer that a leaf is in, or None. is_new(names)
  -> those of the names that decay to zero instead.
  """
  # Inside: the room loads jax alone.
  import optax

  def is_pulled(name) -> bool:
    return getattr(group_of(name), 'decay', None) != 0

  def init(params):
    # Groups are known to the optimizer alone, so this is checked as late as here.
    names = list(tree.flatten(params))
    new = is_new(names)
    pretrained = [name for name in names if name not in new]
    if names and not any(map(is_pulled, pretrained)):
      raise ValueError(
        'prior_decay: optim.groups leave it nothing to pull: every trained leaf with '
        'a pre-trained value is frozen or has a decay of 0'
      )

    def goal(name, leaf):
      # A copy, because the parameters are donated and the start is not.
      if name in new:
        return jnp.zeros_like(leaf)
      return jnp.array(leaf, copy=True)

    return DecayState(tx.init(params), tree.map_named(goal, params))

  def update(updates, state, params=None):
    updates, inner = tx.update(updates, state.inner, params)
    step = learning_rate(inner) * decay

    def pull(name, change, leaf, start):
      if not is_pulled(name):
        return change
      scale = getattr(group_of(name), 'scale', 1.0)
      return change - step * scale * (leaf - start)

    updates = tree.map_named(pull, updates, params, state.start)
    return updates, DecayState(inner, state.start)

  return optax.GradientTransformation(init, update)


# What the last part of a vector's name says of it, in our models and elsewhere.
SCALES = ('scale', 'weight', 'gamma', 'g', 'w')
BIASES = ('bias', 'beta', 'b')


def reinitialize(
  layers: Count = 1, *, std: NonNegative = 0.02, pattern: str = LAYERS
) -> TransferMethod:
  """The top layers and the pooler start afresh (Zhang et al. 2021).

  Kernels are drawn from N(0, std^2), biases are 0, and norms have the scale 1. The
  pooler is the one that the body keeps; one of the head is new anyway.
  pattern: matches the leaves of layers, with the layer's number as its group `index`.
  Other regularizers treat what starts afresh as they treat a new head.
  Errors: ValueError at `init` for a leaf that starts afresh but is not trained in full,
  which would stay random, and for a vector whose name does not say whether it is a
  scale or a bias.
  """
  select = top_layers(layers, pattern, 'reinitialize')
  is_pooler = tree.matcher(POOLER)

  def fresh(names):
    return {*select(names), *filter(is_pooler, names)}

  def begin(key, params):
    top = fresh(list(tree.flatten(params)))

    def begun(name, leaf):
      return start_afresh(key, name, leaf, std) if name in top else leaf

    return tree.map_named(begun, params)

  def check(scope: Scope):
    # Its random values would be held for the whole run.
    held = fresh(scope.names) & scope.held
    if held:
      raise ValueError(
        f'reinitialize: {min(held)!r} starts afresh, but is not trained in full and '
        f'would stay random; compose it with last({layers}) or full'
      )

  return regularizer(Regularizer('reinitialize', fresh=fresh, begin=begin, check=check))


def start_afresh(key, name: str, leaf, std: float):
  """A fresh array in the place of a leaf.

  What is no weight, such as a counter, stays as it is. Errors: ValueError for a vector
  whose name says neither that it is a scale nor that it is a bias.
  """
  if not can_train(leaf):
    return leaf
  # Two axes or more are those of a kernel, or of the kernels of a stack of layers.
  if leaf.ndim >= 2:
    own_key = rng.stream(key, f'reinitialize/{name}')
    drawn = std * jax.random.normal(own_key, leaf.shape)
    return drawn.astype(leaf.dtype)
  last = name.rpartition('/')[2]
  if last in SCALES:
    return jnp.ones_like(leaf)
  if last in BIASES:
    return jnp.zeros_like(leaf)
  raise ValueError(
    f'reinitialize: {name!r} is a vector of which its name does not say whether it is '
    f'a scale ({", ".join(SCALES)}) or a bias ({", ".join(BIASES)})'
  )


def unfreeze(
  every: Count = 10,
  *,
  groups: Count = 1,
  head: str | None = HEAD,
  pattern: str = LAYERS,
) -> TransferMethod:
  """Gradual unfreezing from the top (Howard and Ruder 2018, section 3.3).

  The head learns from the first step, and `groups` more layers from the top every
  `every` steps. What stands behind the layers (a final norm, a pooler that the body
  keeps) comes with the top ones, and what is below the layers comes last. `every` is in
  steps: take those of an epoch for the paper's schedule. Without a head, the top layers
  learn from the first step.

  A leaf belongs to a layer by its name: what `lora` trains in a layer, or an adapter of
  it, waits for that layer. A leaf that is not yet free gets no update and no decay, and
  its moments stay zero. The optimizer counts the steps of the run, not those of a leaf,
  so Adam's bias correction is that of the run.
  Errors: ValueError at `init` where nothing that is trained belongs to a layer.
  """
  belongs = head_matcher(head)
  behind = tree.matcher(BEHIND)
  require_index(pattern, 'unfreeze')

  def check(scope: Scope):
    # New parts of a layer wait for it as its own leaves do.
    trained = [*scope.changed, *scope.new]
    if not depth_from_top(trained, pattern):
      raise ValueError(
        f'unfreeze: nothing that is trained belongs to a layer, as {pattern!r} '
        f'says{_such_as(scope)}; nearest: {tree.nearest(pattern, trained)}'
      )

  def first_steps(names) -> dict[str, int]:
    """The step from which on each leaf is trained."""
    body = [name for name in names if not belongs(name)]
    depths = depth_from_top(body, pattern)
    # What is below the layers, such as the embedding, is as deep as one more layer.
    below = max(depths.values(), default=-1) + 1
    for name in names:
      if behind(name):
        depths[name] = 0
    has_head = len(body) < len(names)
    # The head alone comes first.
    wait = 1 if has_head else 0
    first = {}
    for name in names:
      group = wait + depths.get(name, below) // groups
      first[name] = 0 if belongs(name) else every * group
    return first

  def mask(tx):
    return mask_until(tx, first_steps)

  return regularizer(Regularizer('unfreeze', check=check, mask=mask))


def mask_until(tx, first_steps):
  """`tx` that leaves every leaf alone until its step has come.

  first_steps(names) -> {name: the first step at which the leaf is trained}. Before, the
  optimizer sees no gradient of the leaf and gives it no update.
  """
  # Inside: the room loads jax alone.
  import optax

  def init(params):
    return jnp.zeros((), jnp.int32), tx.init(params)

  def update(updates, state, params=None):
    count, inner = state
    first = first_steps(list(tree.flatten(params)))

    def free(name, leaf):
      return jnp.where(count >= first[name], leaf, jnp.zeros_like(leaf))

    # Before the optimizer, so that the moments stay zero; and after it, against decay.
    updates = tree.map_named(free, updates)
    updates, inner = tx.update(updates, inner, params)
    return tree.map_named(free, updates), (count + 1, inner)

  return optax.GradientTransformation(init, update)


def _such_as(scope: Scope) -> str:
  """What is trained instead, in brackets for an error; '' where nothing is."""
  names = sorted([*scope.changed, *scope.new])
  if not names:
    return ''
  shown = ', '.join(map(repr, names[:3]))
  more = ', ...' if len(names) > 3 else ''
  return f' (what is: {shown}{more})'
