"""The small parts of a block: linear maps, norms, activations, dropout, the MLP.

>>> ACTIVATIONS['relu'](-1.0).item()
0.0
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax import leaves, rng
from tl_jax.leaves import ACTIVATIONS
from tl_jax.leaves.products import column_sums
from tl_jax.models.arch import Arch


def initializer(arch: Arch, scale: float = 1.0, std: float | None = None):
  """The initializer of a kernel (in, out); `scale` shrinks it, `std` overrides what
  fan-in would give.
  """

  def draw(key, shape, dtype=jnp.float32):
    if arch.init == 'truncated':
      values = jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)
      return scale * arch.init_std * values
    values = jax.random.normal(key, shape, dtype)
    if arch.init == 'normal':
      return scale * arch.init_std * values
    return scale * (std or shape[0] ** -0.5) * values

  return draw


def dropout(x, rate: float, key, name: str):
  """Inverted dropout (Srivastava et al. 2014) with the mask of the stream `name`; no
  key, no dropout.
  """
  own_key = None if key is None else rng.stream(key, name)
  return leaves.drop(x, rate, own_key)


class Linear(nn.Module):
  """x (..., in) -> (..., features). The kernel is 2-D (in, out) and may be any
  structured leaf.
  """

  features: int
  use_bias: bool
  kernel_init: object

  @nn.compact
  def __call__(self, x):
    shape = x.shape[-1], self.features
    kernel = self._weight('kernel', self.kernel_init, shape)
    y = leaves.matmul(x, kernel)
    if self.use_bias:
      bias = self._weight('bias', nn.initializers.zeros, (self.features,))
      y = leaves.add_bias(y, bias)
    return y

  def _weight(self, name: str, draw, shape):
    """A parameter, which may be any structured leaf."""
    if self.has_variable('params', name):
      given = self.get_variable('params', name)
      # `param` would compare the shape of the leaf's first array, which a quantised leaf
      # has packed.
      if leaves.is_structured(given):
        return given
    return self.param(name, draw, shape)


class Norm(nn.Module):
  """Layer norm (Ba et al. 2016) or RMS norm (Zhang and Sennrich 2019), in float32
  whatever the dtype of x.
  """

  arch: Arch

  @nn.compact
  def __call__(self, x):
    kind = self.arch.norm
    shape = (x.shape[-1],)
    zeros, ones = nn.initializers.zeros, nn.initializers.ones
    # Gemma stores by how much the scale differs from 1.
    shifted = kind == 'rms_shifted'
    scale = self.param('scale', zeros if shifted else ones, shape)
    bias = self.param('bias', zeros, shape) if kind == 'layer' else None
    if shifted:
      scale = 1.0 + scale
    centred = kind.startswith('layer')
    return normalize(x, scale, bias, centred, self.arch.norm_eps)


def normalize(x, scale, bias, centred: bool, eps: float):
  """x (..., width) centred if asked for, over its root mean square, times scale
  (width,), plus bias (width,) or None.

  Computed in float32. In bfloat16 the gradient is written out, so that only x is kept
  for it and sums over rows are products; in float32 it is left to jax, forward mode
  included.
  """
  if x.dtype == jnp.bfloat16:
    return _normalize_narrow(x, scale, bias, centred, eps)
  return _normalize(x, scale, bias, centred, eps)


def _standard(x, centred: bool, eps: float):
  """(y (..., width), inverse (..., 1)) in float32: x over its root mean square, and one
  over the latter. Where asked for, x is centred first.
  """
  y = x.astype(jnp.float32)
  if centred:
    y = y - y.mean(-1, keepdims=True)
  variance = jnp.square(y).mean(-1, keepdims=True)
  inverse = jax.lax.rsqrt(variance + eps)
  return y * inverse, inverse


def _normalize(x, scale, bias, centred, eps):
  y, _ = _standard(x, centred, eps)
  y = y * scale
  if bias is not None:
    y = y + bias
  return y.astype(x.dtype)


_normalize_narrow = jax.custom_vjp(_normalize, nondiff_argnums=(3, 4))


def _normalize_forward(x, scale, bias, centred, eps):
  return _normalize(x, scale, bias, centred, eps), (x, scale, bias)


def _normalize_backward(centred, eps, kept, gradient):
  x, scale, bias = kept
  y, inverse = _standard(x, centred, eps)
  wide = gradient.astype(jnp.float32)
  inner = wide * scale
  along = (inner * y).mean(-1, keepdims=True)
  dx = inner - y * along
  if centred:
    dx = dx - inner.mean(-1, keepdims=True)
  dx = (inverse * dx).astype(x.dtype)
  scaled = (wide * y).astype(x.dtype)
  dscale = column_sums(scaled).astype(scale.dtype)
  dbias = None
  if bias is not None:
    dbias = column_sums(gradient).astype(bias.dtype)
  return dx, dscale, dbias


_normalize_narrow.defvjp(_normalize_forward, _normalize_backward)


@functools.partial(jax.checkpoint, static_argnums=(0,))
def activate(name: str, x):
  """An activation by name, computed in float32; for the gradient only x is kept."""
  return ACTIVATIONS[name](x.astype(jnp.float32)).astype(x.dtype)


class Mlp(nn.Module):
  """act(x W_in) W_out, or act(x W_gate) * (x W_in) W_out where the family is gated
  (Shazeer 2020).
  """

  arch: Arch
  rate: float

  @nn.compact
  def __call__(self, x, key=None):
    arch = self.arch
    linear = functools.partial(Linear, use_bias=arch.has_bias('mlp'))
    draw = initializer(arch)
    y = linear(arch.mlp, kernel_init=draw, name='in')(x)
    if arch.gated:
      gate = linear(arch.mlp, kernel_init=draw, name='gate')(x)
      y = activate(arch.activation, gate) * y
    else:
      y = activate(arch.activation, y)
    # T5 and UMT5 drop units inside the MLP, too.
    if arch.positions in ('relative', 'relative_by_layer'):
      y = dropout(y, self.rate, key, 'mlp-inside')
    draw_out = initializer(arch, residual_scale(arch))
    return linear(arch.width, kernel_init=draw_out, name='out')(y)


def residual_scale(arch: Arch) -> float:
  """GPT-2 shrinks what adds to the residual stream by sqrt(2 layers) (Radford et al.
  2019, 2.3).
  """
  return (2 * arch.layers) ** -0.5 if arch.init == 'normal' else 1.0
