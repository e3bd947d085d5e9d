"""Low-rank changes of frozen matrices: LoRA and what has been made of it.

>>> import jax, jax.numpy as jnp
>>> method = lora(r'.*/kernel', rank=4)
>>> trainable, frozen = method.init(jax.random.key(1), {'dense': {'kernel': jnp.ones((8, 6)), 'bias': jnp.ones(6)}})
>>> {name: leaf.shape for name, leaf in tree.flatten(trainable).items()}
{'dense/kernel/a': (8, 4), 'dense/kernel/b': (4, 6)}
"""

import math
import re
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from tl_jax import leaves, tree
from tl_jax.config import Count, Fraction, Positive, lookup
from tl_jax.leaves import Directed, LowRank
from tl_jax.leaves.matrices import column_norms
from tl_jax.leaves.quantized import Kind
from tl_jax.transfer.method import HEAD, TransferMethod, leaf_edit

ATTENTION = r'.*/(query|value)/kernel'
TABLES = r'(.*/)?embedding/[^/]+'


def lora(
  pattern: str | tuple[str, ...] = ATTENTION,
  *,
  rank: Count = 8,
  alpha: Positive | None = None,
  head: str | None = HEAD,
  init: Literal['kaiming', 'gaussian', 'pissa'] = 'kaiming',
  dropout: Fraction = 0.0,
  stabilized: bool = False,
  ranks: tuple = (),
  alphas: tuple = (),
  tables: str = TABLES,
) -> TransferMethod:
  """Trains w + alpha / rank * a @ b in the place of every matrix w that the pattern
  matches (Hu et al. 2021, eq. 3).

  Works on any pytree of arrays: w is (in, out), or (..., in, out) with the leading axes
  a stack of layers, each with its own a (..., in, rank) and b (..., rank, out), in
  float32 or wider. `alpha` is `rank` by default, a scale of one. a is drawn as in the
  authors' loralib, `kaiming`: uniform with bound 1 / sqrt(in); or `gaussian`, as in the
  paper, whose deviation, 1 / rank, is PEFT's. b is zero, so the start is the
  pre-trained model to the bit; in an embedding, whose names `tables` matches, a is zero
  and b is drawn from N(0, 1), which is PEFT's. `pissa` splits w into its principal
  `rank` singular directions, which are trained, and the rest, which is held (PiSSA,
  Meng et al. 2024). `stabilized` scales by alpha / sqrt(rank) (rsLoRA, Kalajdzievski
  2023, theorem 3.2). `dropout` applies to what goes into a. ranks, alphas: ((pattern of
  whole names, number), ...), the first that matches replaces `rank`, `alpha`. Leaves
  that `head` matches are trained in full even where the pattern matches them too. Its
  default is the `head` of our models and may match nothing, so foreign params need not
  have a head; one that is given must match.
  Errors: ValueError for a pattern that matches nothing, and for a matched leaf that is
  not a floating-point matrix.
  """
  lookup(INITS, init, 'lora: init')
  plan = Plan(
    'lora',
    rank,
    alpha,
    stabilized,
    pairs(ranks, 'ranks'),
    pairs(alphas, 'alphas'),
    tables,
    init,
  )
  plan.scale('')

  def edit(key, name, w):
    size, scale = plan.size(name), plan.scale(name)
    base, a, b = plan.start(key, name, w, size, scale)
    return LowRank(None, a, b, scale, dropout), LowRank(
      base, None, None, scale, dropout
    )

  def edit_axes(name, spec):
    scale, (a, b) = plan.scale(name), low_rank_axes(spec)
    return LowRank(None, a, b, scale, dropout), LowRank(
      spec, None, None, scale, dropout
    )

  return leaf_edit(edit, edit_axes, *as_patterns(pattern), head=head, what='lora')


def dora(
  pattern: str | tuple[str, ...] = ATTENTION,
  *,
  rank: Count = 8,
  alpha: Positive | None = None,
  head: str | None = HEAD,
  init: Literal['kaiming', 'gaussian'] = 'kaiming',
  dropout: Fraction = 0.0,
  stabilized: bool = False,
  ranks: tuple = (),
  alphas: tuple = (),
) -> TransferMethod:
  """Trains m * (w + alpha / rank * a @ b) / norm in the place of every matrix w (DoRA,
  Liu et al. 2024, eq. 5).

  norm and the trained magnitude m (out,) are by output column; m starts as the norms of
  w. All else is as in `lora`.
  """
  lookup(INITS, init, 'dora: init')
  plan = Plan(
    'dora',
    rank,
    alpha,
    stabilized,
    pairs(ranks, 'ranks'),
    pairs(alphas, 'alphas'),
    '',
    init,
  )
  plan.scale('')

  def edit(key, name, w):
    size, scale = plan.size(name), plan.scale(name)
    base, a, b = plan.start(key, name, w, size, scale)
    norms = column_norms(w)
    return (
      Directed(None, a, b, norms, scale, dropout),
      Directed(base, None, None, None, scale, dropout),
    )

  def edit_axes(name, spec):
    scale, (a, b) = plan.scale(name), low_rank_axes(spec)
    return (
      Directed(None, a, b, PartitionSpec(*a[:-2], b[-1]), scale, dropout),
      Directed(spec, None, None, None, scale, dropout),
    )

  return leaf_edit(edit, edit_axes, *as_patterns(pattern), head=head, what='dora')


def qlora(
  pattern: str | tuple[str, ...] = ATTENTION,
  *,
  kind: Kind = 'nf4',
  held: str = r'.*layers/.*/kernel',
  rank: Count = 8,
  alpha: Positive | None = None,
  head: str | None = HEAD,
  dropout: Fraction = 0.0,
) -> TransferMethod:
  """LoRA over a base in 16, 8 or 4 bits (QLoRA, Dettmers et al. 2023, eq. 5): `held`
  says which matrices are.
  """
  from tl_jax.transfer.composition import compose
  from tl_jax.transfer.quantized import quantized

  return compose(
    quantized(held, kind=kind),
    lora(pattern, rank=rank, alpha=alpha, head=head, dropout=dropout),
  )


def draw_kaiming(key, shape, dtype):
  """U(-1/sqrt(in), 1/sqrt(in)): kaiming_uniform with a = sqrt(5), what torch gives a
  linear layer.
  """
  bound = 1 / math.sqrt(shape[-2])
  return jax.random.uniform(key, shape, dtype, -bound, bound)


def draw_gaussian(key, shape, dtype):
  """N(0, 1 / rank**2)."""
  return jax.random.normal(key, shape, dtype) / shape[-1]


INITS = {'kaiming': draw_kaiming, 'gaussian': draw_gaussian, 'pissa': None}


class Plan(NamedTuple):
  """The rank, the scale and the start of every edited leaf."""

  what: str
  rank: int
  alpha: float | None
  stabilized: bool
  ranks: tuple
  alphas: tuple
  tables: str
  init: str

  def size(self, name: str) -> int:
    """The rank of a leaf."""
    rank = first_match(self.ranks, name, self.rank)
    if not rank >= 1 or int(rank) != rank:
      raise ValueError(
        f'{self.what}: rank is {rank}, but must be an integer of at least 1'
      )
    return int(rank)

  def scale(self, name: str) -> float:
    """What a leaf's a @ b is multiplied by."""
    rank = self.size(name)
    alpha = first_match(self.alphas, name, self.alpha)
    scale = (
      1.0
      if alpha is None and not self.stabilized
      else (rank if alpha is None else alpha)
      / (math.sqrt(rank) if self.stabilized else rank)
    )
    if not 0 < scale < math.inf:
      raise ValueError(f'{self.what}: alpha is {alpha}, but must be a positive number')
    return scale

  def start(self, key, name: str, w, rank: int, scale: float):
    """(what is held, a, b) of a matrix."""
    shape, dtype = (
      np.shape(w),
      w.dtype if leaves.is_structured(w) else jnp.result_type(w),
    )
    if len(shape) < 2 or not jnp.issubdtype(dtype, jnp.floating):
      raise ValueError(
        f'{self.what}: {name!r} is not a floating-point matrix: shape {shape}, dtype {dtype}'
      )
    *stack, size_in, size_out = shape
    wide = jnp.promote_types(dtype, jnp.float32)
    if self.init == 'pissa':
      return principal(w, rank, scale, wide, f'{self.what}: {name!r}')
    if self.tables and re.fullmatch(self.tables, name):
      return (
        w,
        jnp.zeros((*stack, size_in, rank), wide),
        jax.random.normal(key, (*stack, rank, size_out), wide),
      )
    return (
      w,
      INITS[self.init](key, (*stack, size_in, rank), wide),
      jnp.zeros((*stack, rank, size_out), wide),
    )


def principal(w, rank: int, scale: float, wide, what: str):
  """(w - scale * a @ b, a, b) with scale * a @ b the best approximation of w of this
  rank.
  """
  if rank > min(w.shape[-2:]):
    raise ValueError(
      f'{what} has shape {w.shape}: pissa takes a rank of at most {min(w.shape[-2:])}, got {rank}'
    )
  plain = leaves.dense(w).astype(wide)
  left, values, right = jnp.linalg.svd(plain, full_matrices=False)
  root = jnp.sqrt(values[..., :rank] / scale)
  a, b = (
    left[..., :rank] * root[..., None, :],
    root[..., :, None] * right[..., :rank, :],
  )
  rest = (plain - scale * jnp.matmul(a, b, precision='highest')).astype(w.dtype)
  return (
    leaves.quantize(rest, w.kind) if isinstance(w, leaves.Quantized) else rest,
    a,
    b,
  )


def low_rank_axes(spec) -> tuple[PartitionSpec, PartitionSpec]:
  """The axes of a and b from those of the matrix."""
  spec = spec.codes if isinstance(spec, leaves.Quantized) else spec
  *stack, axis_in, axis_out = (*spec, *(None,) * (2 - len(spec)))
  return PartitionSpec(*stack, axis_in, None), PartitionSpec(*stack, None, axis_out)


def first_match(numbers: tuple, name: str, default):
  return next(
    (number for pattern, number in numbers if re.fullmatch(pattern, name)), default
  )


def pairs(given, field: str) -> tuple:
  """((pattern, number), ...), checked."""
  for pair in given:
    if (
      not isinstance(pair, (tuple, list))
      or len(pair) != 2
      or not isinstance(pair[0], str)
      or not isinstance(pair[1], (int, float))
    ):
      raise ValueError(f'{field}: must be pairs (pattern, number), got {pair!r}')
    tree.matcher(pair[0])
  return tuple((pattern, number) for pattern, number in given)


def as_patterns(pattern) -> tuple[str, ...]:
  return (pattern,) if isinstance(pattern, str) else tuple(pattern)
