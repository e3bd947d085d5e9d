"""Low-rank changes of frozen matrices: LoRA and what has been made of it.

>>> import jax, jax.numpy as jnp
>>> method = lora(r'.*/kernel', rank=4)
>>> params = {'dense': {'kernel': jnp.ones((8, 6)), 'bias': jnp.ones(6)}}
>>> trainable, frozen = method.init(jax.random.key(1), params)
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
from tl_jax.config.checks import LARGEST
from tl_jax.leaves import Directed, LowRank
from tl_jax.leaves.matrices import column_norms
from tl_jax.leaves.quantized import Kind
from tl_jax.transfer.composition import compose
from tl_jax.transfer.method import HEAD, TransferMethod, leaf_edit
from tl_jax.transfer.quantized import quantized

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
  float32 or wider.

  alpha: by default `rank`, a scale of one.
  init: how a is drawn. `kaiming` is that of the authors' loralib: uniform with bound 1
  / sqrt(in). `gaussian` is normal, as in the paper, with PEFT's deviation, 1 / rank. b
  is zero in both, so the start is the pre-trained model to the bit. `pissa` splits w
  into its `rank` principal singular directions, which are trained, and the rest, which
  is held (PiSSA, Meng et al. 2024).
  tables: the names of embeddings. Of a matched one a is zero and b is drawn from N(0,
  1), as in PEFT.
  stabilized: the scale is alpha / sqrt(rank) (rsLoRA, Kalajdzievski 2023, theorem 3.2).
  dropout: applies to what goes into a.
  ranks, alphas: ((pattern of whole names, number), ...); the first that matches
  replaces `rank` or `alpha`.
  head: the leaves that it matches are trained in full, even where the pattern matches
  them too. The default is the head of our models and may match nothing, because foreign
  params need not have a head; one that is given must match.
  Errors: ValueError for a pattern that matches nothing, and for a matched leaf that is
  not a floating-point matrix.
  """
  lookup(INITS, init, 'lora: init')
  plan = Plan(
    'lora',
    rank=rank,
    alpha=alpha,
    stabilized=stabilized,
    ranks=pairs(ranks, 'ranks'),
    alphas=pairs(alphas, 'alphas'),
    tables=tables,
    init=init,
  )
  plan.require_numbers()

  def edit(key, name, w):
    scale = plan.scale(name)
    base, a, b = plan.start(key, name, w)
    trained = LowRank(None, a, b, scale, dropout)
    held = LowRank(base, None, None, scale, dropout)
    return trained, held

  def edit_axes(name, spec):
    scale = plan.scale(name)
    a, b = low_rank_axes(spec)
    trained = LowRank(None, a, b, scale, dropout)
    held = LowRank(spec, None, None, scale, dropout)
    return trained, held

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

  norm (out,) is that of every output column of w + alpha / rank * a @ b. The magnitude
  m (out,) is trained and starts as the norms of w. All else is as in `lora`.
  """
  lookup(INITS, init, 'dora: init')
  plan = Plan(
    'dora',
    rank=rank,
    alpha=alpha,
    stabilized=stabilized,
    ranks=pairs(ranks, 'ranks'),
    alphas=pairs(alphas, 'alphas'),
    # Here an embedding starts as every other matrix does.
    tables='',
    init=init,
  )
  plan.require_numbers()

  def edit(key, name, w):
    scale = plan.scale(name)
    base, a, b = plan.start(key, name, w)
    trained = Directed(None, a, b, column_norms(w), scale, dropout)
    held = Directed(base, None, None, None, scale, dropout)
    return trained, held

  def edit_axes(name, spec):
    scale = plan.scale(name)
    a, b = low_rank_axes(spec)
    # Norms are by output, in every layer of a stack.
    magnitude = PartitionSpec(*a[:-2], b[-1])
    trained = Directed(None, a, b, magnitude, scale, dropout)
    held = Directed(spec, None, None, None, scale, dropout)
    return trained, held

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
  """LoRA over a base in 16, 8 or 4 bits (QLoRA, Dettmers et al. 2023, eq. 5).

  held: the matrices whose base is held so, of the kind `kind`. All else is as in
  `lora`.
  """
  base = quantized(held, kind=kind)
  change = lora(pattern, rank=rank, alpha=alpha, head=head, dropout=dropout)
  return compose(base, change)


def draw_kaiming(key, shape, dtype):
  """U(-1 / sqrt(in), 1 / sqrt(in)): kaiming_uniform with a = sqrt(5), as torch draws a
  linear layer.
  """
  bound = 1 / math.sqrt(shape[-2])
  return jax.random.uniform(key, shape, dtype, -bound, bound)


def draw_gaussian(key, shape, dtype):
  """N(0, 1 / rank**2)."""
  return jax.random.normal(key, shape, dtype) / shape[-1]


# `pissa` draws nothing: it takes both factors from the matrix.
INITS = {'kaiming': draw_kaiming, 'gaussian': draw_gaussian, 'pissa': None}


class Plan(NamedTuple):
  """The rank, the scale and the start of every edited leaf.

  what: the method, for errors. The other fields are the arguments of `lora`.
  """

  what: str
  rank: int
  alpha: float | None
  stabilized: bool
  ranks: tuple
  alphas: tuple
  tables: str
  init: str

  def require_numbers(self) -> None:
    """Raises ValueError for a rank or an alpha that is none, without any params."""
    self.scale('')

  def size(self, name: str) -> int:
    """The rank of a leaf."""
    rank = first_match(self.ranks, name, self.rank)
    if not rank >= 1 or int(rank) != rank:
      raise ValueError(
        f'{self.what}: rank is {rank}, but must be an integer of at least 1'
      )
    if rank > LARGEST:
      raise ValueError(f'{self.what}: rank is {rank}, which does not fit into 32 bits')
    return int(rank)

  def scale(self, name: str) -> float:
    """What a leaf's a @ b is multiplied by."""
    rank = self.size(name)
    alpha = first_match(self.alphas, name, self.alpha)
    # Without an alpha the scale is one, or sqrt(rank) where it is stabilized.
    divisor = math.sqrt(rank) if self.stabilized else rank
    scale = (rank if alpha is None else alpha) / divisor
    if not 0 < scale < math.inf:
      raise ValueError(f'{self.what}: alpha is {alpha}, but must be a positive number')
    return scale

  def start(self, key, name: str, w):
    """(what is held, a, b) of a matrix w: what is held and scale * a @ b sum to w."""
    shape = np.shape(w)
    # A quantised matrix is no array, but says which array it stands for.
    dtype = w.dtype if leaves.is_structured(w) else jnp.result_type(w)
    if len(shape) < 2 or not jnp.issubdtype(dtype, jnp.floating):
      raise ValueError(
        f'{self.what}: {name!r} is not a floating-point matrix: shape {shape}, dtype '
        f'{dtype}'
      )
    rank = self.size(name)
    wide = jnp.promote_types(dtype, jnp.float32)
    if self.init == 'pissa':
      return principal(w, rank, self.scale(name), wide, f'{self.what}: {name!r}')
    *stack, size_in, size_out = shape
    shape_a = (*stack, size_in, rank)
    shape_b = (*stack, rank, size_out)
    # A lookup takes rows of a, whose zeros make the change zero, as in PEFT.
    if self.tables and re.fullmatch(self.tables, name):
      b = jax.random.normal(key, shape_b, wide)
      return w, jnp.zeros(shape_a, wide), b
    draw = INITS[self.init]
    return w, draw(key, shape_a, wide), jnp.zeros(shape_b, wide)


def principal(w, rank: int, scale: float, wide, what: str):
  """(w - scale * a @ b, a, b), where scale * a @ b is the best approximation of w of
  this rank.

  what: the method and the leaf, for errors. Errors: ValueError for a rank above the
  matrix's.
  """
  most = min(w.shape[-2:])
  if rank > most:
    raise ValueError(
      f'{what} has shape {w.shape}: pissa takes a rank of at most {most}, got {rank}'
    )
  plain = leaves.dense(w).astype(wide)
  left, values, right = jnp.linalg.svd(plain, full_matrices=False)
  # Each factor gets the root of a singular value, and of the scale of their product.
  root = jnp.sqrt(values[..., :rank] / scale)
  a = left[..., :rank] * root[..., None, :]
  b = root[..., :, None] * right[..., :rank, :]
  # The default precision of a TPU would leave the error of bfloat16 in the base.
  product = jnp.matmul(a, b, precision='highest')
  rest = (plain - scale * product).astype(w.dtype)
  # The rest is held in as few bits as the matrix was.
  if isinstance(w, leaves.Quantized):
    rest = leaves.quantize(rest, w.kind)
  return rest, a, b


def low_rank_axes(spec) -> tuple[PartitionSpec, PartitionSpec]:
  """The axes of a (..., in, rank) and b (..., rank, out) from those of the matrix."""
  if isinstance(spec, leaves.Quantized):
    spec = spec.codes
  # A spec may be shorter than the array: the axes that it leaves out are not sharded.
  missing = (None,) * (2 - len(spec))
  *stack, axis_in, axis_out = (*spec, *missing)
  return PartitionSpec(*stack, axis_in, None), PartitionSpec(*stack, None, axis_out)


def first_match(numbers: tuple, name: str, default):
  """The number of the first pair (pattern, number) whose pattern matches the name."""
  for pattern, number in numbers:
    if re.fullmatch(pattern, name):
      return number
  return default


def pairs(given, field: str) -> tuple:
  """((pattern, number), ...) as given. Raises ValueError for what is no such pair."""
  checked = []
  for pair in given:
    if not _is_pair(pair):
      raise ValueError(f'{field}: must be pairs (pattern, number), got {pair!r}')
    pattern, number = pair
    # It raises ValueError for a pattern that is no regular expression.
    tree.matcher(pattern)
    checked.append((pattern, number))
  return tuple(checked)


def _is_pair(value) -> bool:
  """Is it a pattern and a number?"""
  if not isinstance(value, (tuple, list)) or len(value) != 2:
    return False
  pattern, number = value
  return isinstance(pattern, str) and isinstance(number, (int, float))


def as_patterns(pattern) -> tuple[str, ...]:
  """One pattern or several, as several."""
  return (pattern,) if isinstance(pattern, str) else tuple(pattern)
