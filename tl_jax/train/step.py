"""The one training step: pre-training and every way of transfer are this function of
(state, batch).

>>> make_step.__name__
'make_step'
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tl_jax import layers, optim, rng
from tl_jax.train.frozen import kept_in


class TrainState(NamedTuple):
  """All that a run needs to go on: the step it is at, what is trained, what is not, the
  optimizer, the random key.

  It is named, with leaves of its own for every layer, or held, with one for all layers
  of a stack (see `holding`).
  """

  step: Any
  trainable: Any
  frozen: Any
  opt_state: Any
  key: Any


def init_state(
  params, method, tx, seed, axes=None, frozen_dtype: str = 'float32'
) -> TrainState:
  """The state at step 0 from a model's parameters; `seed` is an integer (it may be
  traced, for a cohort). frozen_dtype: see `frozen.kept_in`.
  """
  key = jax.random.key(seed)
  # Each draws from a stream of its own name: where a method draws more, nothing else
  # changes.
  trainable, frozen = method.init(rng.stream(key, 'method'), params, axes)
  # Behind the method, which starts from the exact weights.
  if frozen_dtype != 'float32':
    frozen = kept_in(frozen, frozen_dtype)
  opt_state = method.optimizer(tx).init(trainable)
  # Made of exact weights; from here on those are read which the step reads.
  trainable = optim.read_weights(trainable, opt_state)
  return TrainState(jnp.zeros((), jnp.int32), trainable, frozen, opt_state, key)


def averaged(state: TrainState):
  """The averaged weights where the optimizer keeps them, else the trained ones."""
  found = optim.ema_params(state.opt_state, state.trainable)
  return state.trainable if found is None else found


def merged(method, trainable, frozen, **how):
  """The parameters of the model, named or held as the state is from which they are.

  how: `key` and `step` of `TransferMethod.merge`. The method sees names in any case.
  """
  parts = layers.Parts()
  params = method.merge(parts.take(trainable), parts.take(frozen), **how)
  return parts.put_back(params)


def make_step(model, objective, method, tx, accumulate: int = 1) -> Callable:
  """(state, batch) -> (state, metrics), pure and jit-ready; metrics are scalars.

  The loss is the sum over terms of coefficient * sum / weight with the weight of the
  whole batch (rows of all devices and micro-batches), so sharding, accumulation and
  packing average exactly. The batch's rows are split into `accumulate` micro-batches by
  stride, which leaves every device the rows it holds.
  """
  # R-Drop minimizes another objective, and a regularizer may decay toward the source.
  objective, tx = method.objective(objective), method.optimizer(tx)

  def loss_of(trainable, state, batch, weights, index):
    params = merged(
      method,
      trainable,
      state.frozen,
      key=rng.stream(state.key, 'merge', state.step),
      step=state.step,
    )

    def forward(*args, **keywords):
      return model.apply(params, *args, **keywords)

    # A function of the step, so that a resumed run draws what it would have drawn.
    key = rng.stream(rng.stream(state.key, 'dropout', state.step), 'micro', index)
    terms, metrics = objective.loss(forward, batch, key)
    # Where a weight is 0 the sum is 0, too: the term is 0 and not a NaN.
    loss = sum(
      term.coefficient * term.sum / jnp.maximum(weights[name], 1e-9)
      for name, term in terms.items()
    )
    return loss, metrics

  gradient = jax.value_and_grad(loss_of, has_aux=True)

  def accumulated(state, batch, weights):
    if accumulate == 1:
      return gradient(state.trainable, state, batch, weights, 0)
    # By stride: in blocks, the rows of one part would all lie on a few of the devices.
    micro = jax.tree.map(
      lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch
    )

    def body(total, item):
      return jax.tree.map(
        jnp.add, total, gradient(state.trainable, state, item[0], weights, item[1])
      ), None

    first = jax.tree.map(lambda x: x[0], micro)
    # A scan wants to know the shapes of its sum before the first part.
    zeros = jax.tree.map(
      # Gradients of narrow weights are added up in float32.
      lambda x: jnp.zeros(x.shape, jnp.float32 if x.dtype == jnp.bfloat16 else x.dtype),
      jax.eval_shape(gradient, state.trainable, state, first, weights, jnp.int32(0)),
    )
    return jax.lax.scan(body, zeros, (micro, jnp.arange(accumulate)))[0]

  def penalty_of(trainable, frozen):
    return method.penalty(layers.unstacked(trainable), layers.unstacked(frozen))

  def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
    # Before the batch is split: masks do not depend on the number of its parts.
    batch = objective.prepare(rng.stream(state.key, 'prepare', state.step), batch)
    (loss, means), gradients = accumulated(state, batch, objective.weights(batch))
    # Once per step: a penalty is no mean over examples, which accumulation would add up.
    penalty, pull = jax.value_and_grad(penalty_of)(state.trainable, state.frozen)
    gradients = jax.tree.map(jnp.add, gradients, pull)
    updates, opt_state = tx.update(gradients, state.opt_state, state.trainable)
    metrics = {
      name: mean.sum / jnp.maximum(mean.weight, 1e-9) for name, mean in means.items()
    }
    # The norm is that before clipping, which shows a run that goes astray.
    metrics |= dict(loss=loss + penalty, gradient_norm=optim.global_norm(gradients))
    trainable = optax.apply_updates(state.trainable, updates)
    trainable = optim.read_weights(trainable, opt_state)
    return TrainState(
      state.step + 1, trainable, state.frozen, opt_state, state.key
    ), metrics

  return step
