"""Directions: what an optimizer makes of a gradient before the rate and the decay.

>>> params = {'bias': jnp.zeros(2)}
>>> gradients = {'bias': jnp.array([3.0, -2.0])}
>>> direction, _ = lion().update(gradients, lion().init(params), params)
>>> direction['bias'].tolist()
[1.0, -1.0]
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tl_jax.config import ConfigError, Fraction, Positive
from tl_jax.optim.blockwise import in_blocks

# How moments are held. bfloat16: the first one, because the second changes by less than
# its precision in an update. uint8: all, in blocks of 8-bit codes.
MomentDtype = Literal['float32', 'bfloat16', 'uint8']


class MomentState(NamedTuple):
  """The first and second moments of the gradient, shaped like the parameters."""

  mu: Any
  nu: Any


def _held(
  make: Callable[..., optax.GradientTransformation], moment_dtype: MomentDtype
) -> optax.GradientTransformation:
  """make(dtype of the first moment, None for the parameter's), its moments held so."""
  if moment_dtype == 'bfloat16':
    return make(jnp.bfloat16)
  held = make(None)
  return in_blocks(held) if moment_dtype == 'uint8' else held


def adamw(
  *,
  b1: Fraction = 0.9,
  b2: Fraction = 0.999,
  eps: Positive = 1e-8,
  moment_dtype: MomentDtype = 'float32',
) -> optax.GradientTransformation:
  """Adam with bias correction (Kingma and Ba 2014, algorithm 1). Elementwise.

  The decay, which follows, is decoupled as in Loshchilov and Hutter 2017.
  """

  def make(dtype):
    return optax.scale_by_adam(b1=b1, b2=b2, eps=eps, mu_dtype=dtype)

  return _held(make, moment_dtype)


def bert_adam(
  *,
  b1: Fraction = 0.9,
  b2: Fraction = 0.999,
  eps: Positive = 1e-6,
  moment_dtype: MomentDtype = 'float32',
) -> optax.GradientTransformation:
  """Adam as BERT's code has it: m / (sqrt(v) + eps), without bias correction.

  The missing correction makes fine-tuning unstable (Mosbach et al. 2020, Zhang et al.
  2020); `adamw` has it. Elementwise.
  """

  def make(dtype):
    return _uncorrected_adam(b1, b2, eps, dtype)

  return _held(make, moment_dtype)


def _uncorrected_adam(b1, b2, eps, mu_dtype) -> optax.GradientTransformation:
  """`bert_adam` with its first moment in `mu_dtype`; None is that of the parameter."""

  def init(params):
    # Two trees, because a buffer that stands in a state twice cannot be donated.
    mu = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=mu_dtype), params)
    nu = jax.tree.map(jnp.zeros_like, params)
    return MomentState(mu, nu)

  def update(updates, state, params=None):
    del params
    mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
    nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.nu, updates)
    direction = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
    held = jax.tree.map(lambda m, old: m.astype(old.dtype), mu, state.mu)
    return direction, MomentState(held, nu)

  return optax.GradientTransformation(init, update)


def adafactor(*, eps: Positive = 1e-30) -> optax.GradientTransformation:
  """Adafactor with T5's settings (Shazeer and Stern 2018, algorithm 4; Raffel et al.
  2020, section 3.1.2).

  Second moments are factored into rows and columns for matrices of 128 by 128 or more,
  with decay 1 - t^-0.8. The update is clipped to a root mean square of 1 per leaf. It
  is scaled by that of the leaf (at least 1e-3), so that `lr` is relative.

  T5 has no momentum and does not clip the global norm. It pre-trains with lr=0.01 and
  `inverse_sqrt` (hold=10_000), and fine-tunes with a constant 0.001.

  It is made leaf by leaf, for it takes means over whole matrices and leaves.
  """
  moments = optax.scale_by_factored_rms(
    decay_rate=0.8, min_dim_size_to_factor=128, epsilon=eps
  )
  # The clip is of the relative update, so that it comes before the scale of the leaf.
  clip = optax.clip_by_block_rms(1.0)
  relative = optax.scale_by_param_block_rms(min_scale=1e-3)
  return optax.chain(moments, clip, relative)


def lion(
  *,
  b1: Fraction = 0.9,
  b2: Fraction = 0.99,
  moment_dtype: MomentDtype = 'float32',
) -> optax.GradientTransformation:
  """The sign of an interpolated momentum (Chen et al. 2023, algorithm 2). Elementwise."""

  def make(dtype):
    return optax.scale_by_lion(b1=b1, b2=b2, mu_dtype=dtype)

  return _held(make, moment_dtype)


def sgd(
  *, b1: Fraction = 0.9, moment_dtype: MomentDtype = 'float32'
) -> optax.GradientTransformation:
  """Heavy-ball momentum: m = b1 m + g; b1=0 is plain gradient descent without state.

  Elementwise. Errors: ConfigError for a `moment_dtype` beside b1=0.
  """
  # A trace with b1=0 would keep a state that it does not need.
  if not b1:
    if moment_dtype != 'float32':
      raise ConfigError(
        f'optim.moment_dtype: {moment_dtype!r}, but sgd with b1=0 has no moments'
      )
    return optax.identity()

  def make(dtype):
    return optax.trace(decay=b1, accumulator_dtype=dtype)

  return _held(make, moment_dtype)


OPTIMIZERS = {
  'adamw': adamw,
  'bert_adam': bert_adam,
  'adafactor': adafactor,
  'lion': lion,
  'sgd': sgd,
}
