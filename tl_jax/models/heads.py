"""From text to vectors and from vectors to answers: embeddings, vocabulary logits,
classification of packed examples.

>>> segments, examples = jnp.array([[1, 1, 2]]), jnp.array([[1, 2, 0]])
>>> example_mean(jnp.ones((1, 3, 2)), segments, examples).shape
(1, 3, 2)
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import leaves, parallel
from tl_jax.models.arch import Arch
from tl_jax.models.columns import take_columns
from tl_jax.models.layers import Linear, Norm, activate, dropout, initializer


class Embedding(nn.Module):
  """Token, position and type vectors (batch, length, width).

  Where the tokens have a width of their own, an encoder projects the sum (ALBERT,
  ELECTRA). A decoder projects the tokens, as its positions have the width of the layers
  (OPT-350M); it projects back behind the last layer.
  `positions` may have more columns than `tokens`. Those in front are of a prompt (n,
  width) among the parameters (Lester et al. 2021, section 2), once or more times. They
  get positions, types and the norm as tokens do.
  """

  arch: Arch
  rate: float
  dtype: object

  @nn.compact
  def __call__(self, tokens, positions, types=None, key=None):
    arch = self.arch
    draw = initializer(arch, std=1.0)
    inner = arch.embedding_width or arch.width
    is_encoder = arch.kind == 'encoder'
    project = Linear(arch.width, is_encoder, initializer(arch), name='project')
    table = self.param('tokens', draw, (arch.vocabulary, inner))
    x = _take(table, tokens) * arch.embedding_scale
    in_front = positions.shape[1] - tokens.shape[1]
    if in_front:
      x = _behind(self.get_variable('params', 'prompt'), in_front, x)
    if arch.embedding_width and arch.kind == 'decoder':
      x = project(_together(x))
    if arch.position_table:
      x = x + self._position_vectors(positions, x.shape[-1])
    if arch.types:
      x = x + self._type_vectors(positions, types, x.shape[-1])
    x = _together(x)
    if arch.embedding_norm:
      x = Norm(arch, name='norm')(x)
    # Up to here in the dtype of the parameters, from here on in that of the computation.
    x = dropout(x.astype(self.dtype), self.rate, key, 'embedding')
    if arch.embedding_width and is_encoder:
      x = project(x)
    return x

  def _position_vectors(self, positions, width: int):
    """The vectors (batch, columns, width) of the positions, learned or sinusoidal."""
    arch = self.arch
    if arch.positions == 'sinusoidal':
      table = jnp.asarray(sinusoids(arch.max_positions, width))
    else:
      draw = initializer(arch, std=1.0)
      table = self.param('positions', draw, (arch.max_positions, width))
    # Padding may count beyond the table. What it gets there is read by nobody.
    rows = jnp.minimum(positions + arch.position_offset, arch.max_positions - 1)
    return _take(table, rows)

  def _type_vectors(self, positions, types, width: int):
    """The vectors (batch, columns, width) of the types; all are 0 where there are none."""
    draw = initializer(self.arch, std=1.0)
    table = self.param('types', draw, (self.arch.types, width))
    rows = jnp.zeros_like(positions) if types is None else types
    return _take(table, rows)


# The axes of the mesh that may cut the columns of an embedding, in their order.
COLUMNS = ('fsdp', 'sequence', 'tensor')


def _take(table, index):
  """The rows `index` (batch, columns) of a table: (batch, columns, width).

  Every device looks up a part of the width, for the batch of all devices that have the
  other parts. So it needs no other part of the table, nor of the gradient.
  """
  index = parallel.constrain(index, 'data', None)
  found = leaves.take(table, index)
  return parallel.constrain(found, 'data', None, COLUMNS)


def _together(x):
  """Vectors (batch, columns, width) whole again, each device with those of its rows."""
  # Along one axis of the mesh after the other: XLA knows no exchange along several.
  x = parallel.constrain(x, 'data', None, COLUMNS[:2])
  x = parallel.constrain(x, 'data', 'sequence', COLUMNS[:1])
  return parallel.constrain(x, 'batch', 'length', None)


def _behind(prompt, in_front: int, x):
  """x (batch, length, width) behind so many columns of copies of a prompt (n, width)."""
  prompt = prompt.astype(x.dtype)
  prompt = jnp.tile(prompt, (in_front // prompt.shape[0], 1))
  front = jnp.broadcast_to(prompt, (x.shape[0], *prompt.shape))
  return jnp.concatenate([front, x], 1)


@functools.lru_cache(maxsize=8)
def sinusoids(positions: int, width: int) -> np.ndarray:
  """A table (positions, width) of Vaswani et al. (2017), 3.5: the sines, then the
  cosines.

  From angles in float64, as in float32 those of late positions are off by 1e-5.
  """
  column = np.arange(width)
  frequencies = 10000.0 ** (-2 * (column // 2) / width)
  angles = np.arange(positions)[:, None] * frequencies
  sines = np.sin(angles[:, 0::2])
  cosines = np.cos(angles[:, 1::2])
  table = np.concatenate([sines, cosines], 1)
  return table.astype(np.float32)


class VocabularyHead(nn.Module):
  """What gives states (..., width) their logits over the vocabulary: BERT's masked
  head, or a causal head.
  """

  arch: Arch

  @nn.compact
  def __call__(self, hidden, table) -> leaves.Readout:
    arch = self.arch
    inner = arch.embedding_width or arch.width
    if arch.head == 'masked':
      # ModernBERT, whose pooler has a norm, has no bias here either.
      use_bias = not arch.pooler_norm
      transform = Linear(inner, use_bias, initializer(arch), name='transform')
      hidden = activate(arch.head_activation or arch.activation, transform(hidden))
      hidden = Norm(arch, name='norm')(hidden)
    weight = table
    if not arch.tied:
      weight = self.param('kernel', initializer(arch), (inner, arch.vocabulary))
    bias = None
    if arch.head_bias:
      bias = self.param('bias', nn.initializers.zeros, (arch.vocabulary,))
    return leaves.Readout(
      hidden * arch.output_scale, weight, bias, arch.tied, arch.logit_cap
    )


class Pooler(nn.Module):
  """The dense layer and activation before a classifier; ModernBERT's has a norm instead
  of a bias.
  """

  arch: Arch

  @nn.compact
  def __call__(self, x):
    arch = self.arch
    kernel = self.param('kernel', initializer(arch), (arch.width, arch.width))
    x = leaves.matmul(x, kernel)
    if not arch.pooler_norm:
      bias = self.param('bias', nn.initializers.zeros, (arch.width,))
      x = leaves.add_bias(x, bias)
    x = activate(arch.pooler, x)
    if arch.pooler_norm:
      x = Norm(arch, name='norm')(x)
    return x


class LabelHead(nn.Module):
  """Logits (..., labels) in float32 of an example or a token; ELECTRA's replaced-token
  head has a layer of its own.
  """

  arch: Arch

  @nn.compact
  def __call__(self, x):
    arch = self.arch
    if arch.head == 'replaced':
      x = Linear(arch.width, True, initializer(arch), name='transform')(x)
      x = activate(arch.head_activation or arch.activation, x)
    shape = x.shape[-1], outputs(arch)
    kernel = self.param('kernel', initializer(arch), shape)
    x = leaves.matmul(x, kernel)
    if arch.head_bias:
      bias = self.param('bias', nn.initializers.zeros, (outputs(arch),))
      x = leaves.add_bias(x, bias)
    return x.astype(jnp.float32)


def outputs(arch: Arch) -> int:
  """How many numbers a head gives for an example or a token: start and end of a span,
  one for a candidate, or one per label.
  """
  return {'span': 2, 'replaced': 1, 'choice': 1}.get(arch.head, arch.labels)


def label(arch: Arch, params: dict, x, rate: float, key):
  """Logits (..., labels) from vectors (..., width), through the pooler where this head
  reads one.
  """
  if arch.pools:
    holder = params if arch.keeps_pooler else params['head']
    x = Pooler(arch).apply({'params': holder['pooler']}, x)
  x = dropout(x, rate, key, 'classifier')
  return LabelHead(arch).apply({'params': params['head']}, x)


def answer_pairs(arch: Arch, params: dict, x):
  """Logits (..., 2) in float32 of pairs of texts, from vectors (..., width) through the
  pooler of the body: does the second text follow the first (0), or not (1)?

  Raises ValueError for a model without such a head or pooler.
  """
  if not (arch.pair_head and arch.keeps_pooler):
    raise ValueError('keep: a model without a pooler and a head for pairs has no pair')
  x = Pooler(arch).apply({'params': params['pooler']}, x)
  head = Linear(2, True, initializer(arch))
  return head.apply({'params': params['head']['pair']}, x).astype(jnp.float32)


# The score of a candidate that is not there: its probability is 0.
NO_CANDIDATE = -1e9


def by_question(arch: Arch, logits, batch):
  """The scores of candidates by their questions; logits of another head as they are.

  logits (batch, candidates, 1) become (batch, questions, candidates) where the batch
  has `examples` of that shape. A question with fewer candidates than others has
  `NO_CANDIDATE` in the places behind them. Otherwise they become (batch, candidates).
  """
  if arch.head != 'choice':
    return logits
  scores = logits[..., 0]
  examples = batch.get('examples')
  if examples is None or examples.ndim < 3:
    return scores
  return jnp.where(examples > 0, scores.reshape(examples.shape), NO_CANDIDATE)


def unread(arch: Arch, pair: bool = False) -> tuple[str, ...]:
  """Patterns of the parameters that this head does not read: they have no gradient.

  pair: is the head for pairs read, too?
  """
  patterns = []
  if pair:
    return ()
  if arch.keeps_pooler and not arch.pools:
    patterns.append(r'pooler/.*')
  if arch.pair_head:
    patterns.append(r'head/pair/.*')
  return tuple(patterns)


def adopt_pooler(arch: Arch, params: dict) -> tuple[Arch, dict]:
  """A finished model as the source of another: the pooler that BERT's first task
  brought belongs to the body now.

  Other models are returned as they are.
  """
  if not arch.pools or arch.pooler_place != 'new':
    return arch, params
  head = dict(params['head'])
  pooler = head.pop('pooler')
  params = {**params, 'pooler': pooler, 'head': head}
  return dataclasses.replace(arch, pooler_place='body'), params


def example_members(segments, examples):
  """Boolean (batch, examples, length): which tokens belong to each example.

  examples (batch, examples): the numbers of their segments, 0 for none.
  """
  examples = examples[:, :, None]
  return (segments[:, None, :] == examples) & (examples > 0)


def example_mean(hidden, segments, examples):
  """The mean vector (batch, examples, width) of each example's tokens; zeros for none."""
  members = example_members(segments, examples)
  # A product with zeros and ones: the tokens of other examples contribute exact zeros.
  total = jnp.einsum('bsl,bld->bsd', members.astype(hidden.dtype), hidden)
  count = jnp.maximum(members.sum(-1), 1)
  return total / count[..., None].astype(hidden.dtype)


def example_columns(arch: Arch, segments, examples):
  """The column (batch, examples) of the first or last token of each example, as the
  family reads it; any for none.
  """
  members = example_members(segments, examples)
  if arch.pool == 'last':
    from_the_end = jnp.argmax(members[..., ::-1], -1)
    return segments.shape[-1] - 1 - from_the_end
  return jnp.argmax(members, -1)


def pool(arch: Arch, hidden, segments, examples):
  """One vector (batch, examples, width) for each example, as the family reads it."""
  if arch.pool == 'mean':
    return example_mean(hidden, segments, examples)
  return take_columns(hidden, example_columns(arch, segments, examples))


def examples_of(batch: dict, segments):
  """The examples to classify (batch, examples), and whether the caller packed them.

  Each is given by the number of its segment, 0 for none. Outside jit the segments say
  how many there are; inside, a packed batch must say it in `examples`.
  """
  if 'examples' in batch:
    examples = batch['examples']
    # Those of questions are (batch, questions, candidates).
    return examples.reshape(len(examples), -1), True
  most = 1
  # A traced value cannot say how many examples there are.
  if 'segments' in batch and not isinstance(segments, jax.core.Tracer):
    most = int(np.asarray(segments).max())
  if most <= 1:
    rows = segments.shape[0]
    return jnp.ones((rows, 1), jnp.int32), False
  examples = jnp.arange(1, most + 1)[None]
  is_member = segments[:, None, :] == examples[:, :, None]
  return jnp.where(is_member.any(-1), examples, 0), True


def first_columns(arch: Arch, batch, segments):
  """The column (batch, examples) of each example that is read for all of it."""
  examples, _ = examples_of(batch, segments)
  return example_columns(arch, segments, examples)


def of_texts(pooled, batch):
  """Vectors (batch, texts, width) in float32, those of one example side by side."""
  pooled = pooled.astype(jnp.float32)
  shape = batch['examples'].shape if 'examples' in batch else ()
  if len(shape) < 3:
    return pooled
  return pooled.reshape(*shape[:2], -1)
