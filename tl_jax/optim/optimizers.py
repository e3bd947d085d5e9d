"""Directions: what an optimizer makes of a gradient before the rate and the decay.

>>> params = {'bias': jnp.zeros(2)}
>>> gradients = {'bias': jnp.array([3.0, -2.0])}
>>> direction, _ = lion().update(gradients, lion().init(params), params)
>>> direction['bias'].tolist()
[1.0, -1.0]
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tl_jax.config import Fraction, Positive


class MomentState(NamedTuple):
  """The first and second moments of the gradient, shaped like the parameters."""

  mu: Any
  nu: Any


def adamw(
  *, b1: Fraction = 0.9, b2: Fraction = 0.999, eps: Positive = 1e-8
) -> optax.GradientTransformation:
  """Adam with bias correction (Kingma and Ba 2014, algorithm 1).

  The decay, which follows, is decoupled as in Loshchilov and Hutter 2017.
  """
  return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)


def bert_adam(
  *, b1: Fraction = 0.9, b2: Fraction = 0.999, eps: Positive = 1e-6
) -> optax.GradientTransformation:
  """Adam as BERT's code has it: m / (sqrt(v) + eps), without bias correction.

  The missing correction makes fine-tuning unstable (Mosbach et al. 2020, Zhang et al.
  2020); `adamw` has it.
  """

  def init(params):
    # Two trees, because a buffer that stands in a state twice cannot be donated.
    mu = jax.tree.map(jnp.zeros_like, params)
    nu = jax.tree.map(jnp.zeros_like, params)
    return MomentState(mu, nu)

  def update(updates, state, params=None):
    del params
    mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
    nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.nu, updates)
    direction = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
    return direction, MomentState(mu, nu)

  return optax.GradientTransformation(init, update)


def adafactor(*, eps: Positive = 1e-30) -> optax.GradientTransformation:
  """Adafactor with T5's settings (Shazeer and Stern 2018, algorithm 4; Raffel et al.
  2020, section 3.1.2).

  Second moments are factored into rows and columns for matrices of 128 by 128 or more,
  with decay 1 - t^-0.8. The update is clipped to a root mean square of 1 per leaf. It
  is scaled by that of the leaf (at least 1e-3), so that `lr` is relative.

  T5 has no momentum and does not clip the global norm. It pre-trains with lr=0.01 and
  `inverse_sqrt` (hold=10_000), and fine-tunes with a constant 0.001.
  """
  moments = optax.scale_by_factored_rms(
    decay_rate=0.8, min_dim_size_to_factor=128, epsilon=eps
  )
  # The clip is of the relative update, so that it comes before the scale of the leaf.
  clip = optax.clip_by_block_rms(1.0)
  relative = optax.scale_by_param_block_rms(min_scale=1e-3)
  return optax.chain(moments, clip, relative)


def lion(*, b1: Fraction = 0.9, b2: Fraction = 0.99) -> optax.GradientTransformation:
  """The sign of an interpolated momentum (Chen et al. 2023, algorithm 2)."""
  return optax.scale_by_lion(b1=b1, b2=b2)


def sgd(*, b1: Fraction = 0.9) -> optax.GradientTransformation:
  """Heavy-ball momentum: m = b1 m + g; b1=0 is plain gradient descent without state."""
  # A trace with b1=0 would keep a state that it does not need.
  if not b1:
    return optax.identity()
  return optax.trace(decay=b1)


OPTIMIZERS = {
  'adamw': adamw,
  'bert_adam': bert_adam,
  'adafactor': adafactor,
  'lion': lion,
  'sgd': sgd,
}
