"""Regularizers: what keeps trained parameters near where they started, whatever method trains them.

>>> import jax.numpy as jnp
>>> method = l2sp(0.5)
>>> trainable, frozen = method.init(None, {'kernel': jnp.ones(2)})
>>> float(method.penalty({'kernel': jnp.ones(2) * 3}, frozen))
2.0
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax import rng, tree
from tl_jax.config import Count, Fraction, NonNegative
from tl_jax.transfer.method import HEAD, TransferMethod
from tl_jax.transfer.partitions import LAYERS, depth_from_top, full, top_layers

Tree = Any


class Anchored(NamedTuple):
  """What a method holds, and where what it trains started; `weights` of EWC's penalty."""
  frozen: Tree
  start: Tree
  weights: Tree = None


def regularizer(wraps: Callable[[TransferMethod], TransferMethod]) -> TransferMethod:
  """A method that wraps those it is composed with, and `full` on its own."""
  return wraps(full())._replace(wraps=wraps)


def anchored(method: TransferMethod, *, weights=lambda trainable: None, weight_axes=lambda axes: None,
             **functions) -> TransferMethod:
  """The method with a copy of its first trainable leaves beside what it holds; `functions` replace its own."""
  held = lambda frozen: frozen.frozen if isinstance(frozen, Anchored) else frozen

  def init(key, params, axes=None):
    trainable, frozen = method.init(key, params, axes)
    # A copy, because a state that holds one buffer twice cannot be donated.
    return trainable, Anchored(frozen, jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), trainable),
                               weights(trainable))

  def axes(given):
    trainable, frozen = method.axes(given)
    return trainable, Anchored(frozen, trainable, weight_axes(trainable))

  plain = dict(
      merge=lambda trainable, frozen, *, key=None, step=None: method.merge(trainable, held(frozen), key=key, step=step),
      fuse=lambda trainable, frozen: method.fuse(trainable, held(frozen)),
      penalty=lambda trainable, frozen: method.penalty(trainable, held(frozen)))
  return method._replace(init=init, axes=axes, **plain | functions)


def l2sp(strength: NonNegative = 1e-2, *, new: NonNegative | None = None, head: str = HEAD) -> TransferMethod:
  """Adds strength / 2 |w - w0|^2 over pre-trained leaves and new / 2 |w|^2 over the head (L2-SP, Li et al. 2018).

  `new` is `strength` by default.
  """
  belongs, beta = tree.matcher(head), strength if new is None else new

  def wraps(method):
    def penalty(trainable, frozen):
      def term(name, leaf, start):
        away = leaf.astype(jnp.float32) if belongs(name) else leaf.astype(jnp.float32) - start.astype(jnp.float32)
        return (beta if belongs(name) else strength) / 2 * jnp.square(away).sum()
      terms = jax.tree.leaves(tree.map_named(term, trainable, frozen.start))
      return method.penalty(trainable, frozen.frozen) + sum(terms)
    return anchored(method, penalty=penalty)

  return regularizer(wraps)


def ewc(fisher: Tree = None, strength: NonNegative = 1.0, *, head: str = HEAD) -> TransferMethod:
  """Adds strength / 2 sum F (w - w0)^2 (Kirkpatrick et al. 2017, eq. 3), F from `fisher`: a tree like the params.

  `tl_jax.transfer.fisher_diagonal` estimates one. Leaves that `fisher` does not have are free. Without one every leaf
  counts 1 but those of the head, until `with_fisher` says more: a run takes the information of the model it starts
  from.
  """
  named, belongs = None if fisher is None else tree.flatten(fisher), tree.matcher(head)
  pulled = lambda name: not belongs(name) if named is None else name in named

  def wraps(method):
    def weights(trainable):
      if named is not None and not any(map(pulled, tree.flatten(trainable))):
        raise ValueError('ewc: fisher has none of the trained leaves; nearest: '
                         + tree.nearest(next(iter(tree.flatten(trainable)), ''), named))
      value = lambda name, leaf: jnp.ones(leaf.shape) if named is None else jnp.asarray(named[name])
      return tree.map_named(lambda name, leaf: value(name, leaf) if pulled(name) else None, trainable)

    def penalty(trainable, frozen):
      values, start = tree.flatten(frozen.weights), tree.flatten(frozen.start)
      total = sum((value * jnp.square(leaf - start[name])).sum()
                  for name, leaf in tree.flatten(trainable).items() if (value := values.get(name)) is not None)
      return method.penalty(trainable, frozen.frozen) + strength / 2 * total

    def weight_axes(axes):
      return tree.map_named(lambda name, spec: spec if pulled(name) else None, axes)

    return anchored(method, weights=weights, weight_axes=weight_axes, penalty=penalty)

  return regularizer(wraps)


def with_fisher(frozen: Tree, fisher: dict) -> Tree:
  """What a method holds, with the information `fisher` (by name) in the place of the ones of an `ewc` in it.

  A leaf that `fisher` does not have becomes free. Nothing changes where there is no `ewc`.
  """
  if not isinstance(frozen, Anchored):
    return frozen
  if frozen.weights is None:
    return frozen._replace(frozen=with_fisher(frozen.frozen, fisher))
  value = lambda name, one: jnp.asarray(fisher[name], one.dtype) if name in fisher else jnp.zeros_like(one)
  return frozen._replace(weights=tree.map_named(value, frozen.weights))


def mixout(rate: Fraction = 0.7, *, mask: Literal['element', 'column'] = 'element', pattern: str = r'.*kernel',
           head: str = HEAD) -> TransferMethod:
  """At every step, entries of the trained matrices go back to where they started, with probability `rate`.

  w -> (mask w0 + (1 - mask) w - rate w0) / (1 - rate) (Lee et al. 2020; dropout's form, whose mean is w). `element`
  draws every entry, as the paper says; `column` is what the authors' code does: one draw for all
  outputs of an input, so that whole rows of an (in, out) kernel are swapped. The head and leaves that the pattern does
  not match are not mixed. Without a key, in evaluation, nothing is.
  """
  wanted, belongs = tree.matcher(pattern), tree.matcher(head)

  def wraps(method):
    def merge(trainable, frozen, *, key=None, step=None):
      if key is None or not isinstance(frozen, Anchored):
        held = frozen.frozen if isinstance(frozen, Anchored) else frozen
        return method.merge(trainable, held, key=key, step=step)

      def mix(name, leaf, start):
        if not wanted(name) or belongs(name) or leaf.ndim < 2:
          return leaf
        shape = leaf.shape if mask == 'element' else (*leaf.shape[:-1], 1)
        back = jax.random.bernoulli(rng.stream(key, f'mixout/{name}'), rate, shape)
        mixed = jnp.where(back, start, leaf)
        return ((mixed - rate * start) / (1 - rate)).astype(leaf.dtype)

      mixed = tree.map_named(mix, trainable, frozen.start)
      return method.merge(mixed, frozen.frozen, key=key, step=step)
    return anchored(method, merge=merge)

  return regularizer(wraps)


class DecayState(NamedTuple):
  """The optimizer's own state, and where the decay pulls to."""
  inner: Any
  start: Tree


def learning_rate(opt_state):
  """The scheduled rate in an optimizer state that keeps its peak `rate` and the schedule's `factor`."""
  keeps = lambda node: hasattr(node, 'rate') and hasattr(node, 'factor')
  found = [node for node in jax.tree.leaves(opt_state, is_leaf=keeps) if keeps(node)]
  if not found:
    raise ValueError('prior_decay: the optimizer keeps no rate; make it with tl_jax.optim.make_optimizer')
  return found[0].rate * found[0].factor


def prior_decay(decay: NonNegative = 0.01, *, head: str = HEAD) -> TransferMethod:
  """Decoupled decay towards the pre-trained weights, w - rate decay (w - w0), in the place of towards zero.

  Wiese et al. 2017, called decay(w_pre) in Lee et al. 2020; a new head still decays towards zero. It is
  added to the optimizer's own decay, so set `optim.decay` to 0 beside it.
  """
  import optax  # the room loads jax alone
  belongs = tree.matcher(head)

  def optimizer(tx):
    def init(params):
      return DecayState(tx.init(params), jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params))

    def update(updates, state, params=None):
      updates, inner = tx.update(updates, state.inner, params)
      step = learning_rate(inner) * decay
      away = lambda name, leaf, start: leaf if belongs(name) else leaf - start
      pulled = tree.map_named(lambda name, update, leaf, start: update - step * away(name, leaf, start),
                              updates, params, state.start)
      return pulled, DecayState(inner, state.start)

    return optax.GradientTransformation(init, update)

  def wraps(method):
    return method._replace(optimizer=lambda tx: optimizer(method.optimizer(tx)))

  return regularizer(wraps)


def reinitialize(layers: Count = 1, *, std: NonNegative = 0.02, pattern: str = LAYERS) -> TransferMethod:
  """The top layers start afresh (Zhang et al. 2021): kernels from N(0, std^2), biases 0, norms 1 and 0.

  `pattern` matches the leaves of layers, with the layer's number as its group `index`.
  """
  def wraps(method):
    def init(key, params, axes=None):
      flat = tree.flatten(params)
      top = set(top_layers(layers, pattern, 'reinitialize')(list(flat)))

      def fresh(name, leaf):
        if name not in top:
          return leaf
        if leaf.ndim >= 2:
          return (std * jax.random.normal(rng.stream(key, f'reinitialize/{name}'), leaf.shape)).astype(leaf.dtype)
        return jnp.ones_like(leaf) if name.endswith('scale') else jnp.zeros_like(leaf)

      return method.init(key, tree.map_named(fresh, params), axes)
    return method._replace(init=init)

  return regularizer(wraps)


def unfreeze(every: Count = 10, *, groups: Count = 1, head: str | None = HEAD, pattern: str = LAYERS) -> TransferMethod:
  """Gradual unfreezing (Howard and Ruder 2018, section 3.3): the head learns from the first step, and `groups` more
  layers from the top every `every` steps; what is below the layers comes last. Say `every` in steps: those of an epoch
  for the paper's schedule.

  A leaf that is not yet free gets no update and no decay, and its moments stay zero. The optimizer counts the steps of
  the run, not those of a leaf, so Adam's bias correction is that of the run.
  """
  import optax  # the room loads jax alone
  belongs = tree.matcher(*filter(None, [head]))

  def optimizer(tx):
    def start(names) -> dict[str, int]:
      depths = depth_from_top(names, pattern)
      deepest = max(depths.values(), default=-1) + 1
      first = lambda name: 0 if belongs(name) else every * (1 + depths.get(name, deepest) // groups)
      return {name: first(name) for name in names}

    def init(params):
      return jnp.zeros((), jnp.int32), tx.init(params)

    def update(updates, state, params=None):
      count, inner = state
      steps = start(list(tree.flatten(params)))
      mask = lambda tree_: tree.map_named(
          lambda name, leaf: jnp.where(count >= steps[name], leaf, jnp.zeros_like(leaf)), tree_)
      updates, inner = tx.update(mask(updates), inner, params)
      return mask(updates), (count + 1, inner)

    return optax.GradientTransformation(init, update)

  def wraps(method):
    return method._replace(optimizer=lambda tx: optimizer(method.optimizer(tx)))

  return regularizer(wraps)
