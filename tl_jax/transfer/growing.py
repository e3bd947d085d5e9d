"""Models made deeper, shallower or wider from their own parameters, with the
architecture that describes them.

>>> every_second(6), stacked(3, 6), interleaved(3, 6)
((0, 2, 4), (0, 1, 2, 0, 1, 2), (0, 0, 1, 1, 2, 2))
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import rng, tree

Tree = Any
Stack = Literal['encoder', 'decoder']


def every_second(layers: int) -> tuple[int, ...]:
  """The layers that DistilBERT starts from: the first, the third, the fifth and so on
  (Sanh et al. 2019, section 3).
  """
  return tuple(range(0, layers, 2))


def stacked(layers: int, grown: int) -> tuple[int, ...]:
  """The stack on top of itself, 0 1 2 0 1 2: progressive stacking doubles this way
  (Gong et al. 2019).
  """
  return tuple(index % layers for index in range(grown))


def interleaved(layers: int, grown: int) -> tuple[int, ...]:
  """Every layer beside its copies, 0 0 1 1 2 2 (Chang et al. 2018, for residual
  networks).
  """
  return tuple(index * layers // grown for index in range(grown))


def shrink_depth(
  params: Tree, arch, keep: Sequence[int] | None = None, *, stack: Stack | None = None
):
  """(params, arch) of the model with the layers `keep` alone, in that order.

  params: {'layers': {'0': ...}} and the rest. keep: indices of layers; by default every
  second one (`every_second`). stack: which of an encoder-decoder's stacks to shrink;
  None for a model of one stack. Every layer keeps the attention window that it had.
  Errors: ValueError where `keep` is empty, repeats an index or has one that is no
  layer; for a `stack` that is missing or that the model does not have; and for layers
  that share parameters (ALBERT).
  """
  depth = _depth(arch, stack)
  keep = every_second(depth) if keep is None else tuple(keep)
  repeats = len(set(keep)) < len(keep)
  are_layers = set(keep) <= set(range(depth))
  if not keep or repeats or not are_layers:
    raise ValueError(
      f'keep: {keep}, but must be different layers from 0 to {depth - 1}'
    )
  return _with_layers(params, arch, keep, stack)


def grow_depth(
  params: Tree,
  arch,
  layers: int,
  how: Literal['stack', 'interleave'] = 'stack',
  *,
  stack: Stack | None = None,
):
  """(params, arch) of a model of `layers` layers, which are copies of those there are.

  how: `stack` arranges them as `stacked` does, `interleave` as `interleaved` does.
  Neither keeps the function. Both are starts from which training is faster than from
  random parameters (Gong et al. 2019). Every copy is an array of its own and keeps its
  layer's attention window. Errors: ValueError for fewer layers than there are, for an
  unknown `how`, and for the same stacks and models as in `shrink_depth`.
  """
  depth = _depth(arch, stack)
  if layers < depth:
    raise ValueError(
      f'layers: {layers}, but there are {depth} already; shrink_depth makes a model '
      'shallower'
    )
  if how not in ('stack', 'interleave'):
    nearest = tree.nearest(how, ('stack', 'interleave'), most=1)
    raise ValueError(
      f"how: {how!r} is neither 'stack' nor 'interleave'; nearest: {nearest}"
    )
  arrange = stacked if how == 'stack' else interleaved
  return _with_layers(params, arch, arrange(depth, layers), stack)


def _depth(arch, stack: Stack | None) -> int:
  """The number of layers of the stack. Raises ValueError for a stack that is none."""
  has_two_stacks = arch.kind == 'encoder-decoder'
  if has_two_stacks != (stack is not None):
    allowed = "'encoder' or 'decoder'" if has_two_stacks else 'None'
    raise ValueError(
      f'stack: {stack!r} of a model of kind {arch.kind!r}; must be {allowed}'
    )
  # One set of parameters is read at several depths (ALBERT): there is none to copy.
  if arch.layer_groups:
    raise ValueError(
      'layer_groups: layers that share parameters are as many as the architecture '
      'says; change `layers`'
    )
  # `decoder_layers` is 0 where the decoder is as deep as the encoder.
  if stack == 'decoder' and arch.decoder_layers:
    return arch.decoder_layers
  return arch.layers


def _with_layers(params: Tree, arch, order: tuple[int, ...], stack: Stack | None):
  """(params, arch) of the model whose layer i of the stack is the old one order[i]."""
  # ModernBERT leaves out the first norm because the embedding is normed already.
  if arch.skip_first_norm and (order[0] != 0 or 0 in order[1:]):
    raise ValueError(
      'skip_first_norm: the first layer has no norm before its attention and fits in '
      f'no other place; layer 0 must come first and once, not {order}'
    )
  body = params[stack] if stack else params
  body = {**body, 'layers': _arranged(body['layers'], order)}
  changes = _depths(arch, len(order), stack)
  # These two say something of every layer, which moves with the layer.
  for field in ('windows', 'rotary_layers'):
    changes[field] = _reordered(field, getattr(arch, field), order, stack)
  grown = {**params, stack: body} if stack else body
  return grown, dataclasses.replace(arch, **changes)


def _arranged(layers: dict, order: tuple[int, ...]) -> dict:
  """The layers in the order given, each time but the first as a copy."""
  arranged = {}
  seen = set()
  for place, index in enumerate(order):
    layer = layers[str(index)]
    if index in seen:
      # One buffer at two places of a state could not be donated.
      layer = jax.tree.map(jnp.array, layer)
    arranged[str(place)] = layer
    seen.add(index)
  return arranged


def _depths(arch, depth: int, stack: Stack | None) -> dict[str, int]:
  """What the architecture says of its depths when the stack has another one."""
  if stack is None:
    return {'layers': depth}
  if stack == 'encoder':
    encoder = depth
    decoder = _depth(arch, 'decoder')
  else:
    encoder = _depth(arch, 'encoder')
    decoder = depth
  return {'layers': encoder, 'decoder_layers': 0 if decoder == encoder else decoder}


def _reordered(
  field: str, pattern: tuple, order: tuple[int, ...], stack: Stack | None
) -> tuple:
  """The values of a field by layer, in the new order of the layers.

  pattern: the values, repeated over the layers. It is returned as it is where it still
  says the same. Errors: ValueError for a pattern of two stacks.
  """
  if stack and len(set(pattern)) > 1:
    raise ValueError(
      f'{field}: {pattern} by layer hold for both stacks and cannot follow the layers '
      'of one'
    )
  moved = tuple(pattern[index % len(pattern)] for index in order)
  period = len(pattern)
  repeated = tuple(pattern[place % period] for place in range(len(order)))
  # A short pattern keeps the architecture equal to the one that a config would name.
  return pattern if moved == repeated else moved


# For every leaf, the kind of unit that each of its axes counts, or '' for an axis that
# stays. `+` copies the entries of a unit that is written. `/` also divides them among
# the copies of a unit that is read, so that the sum over all copies is the old one.
EMBEDDING_ROLES = (
  (r'(.*/)?embedding/tokens', ('', 'inner+')),
  (r'(.*/)?embedding/(positions|types)', ('', 'place+')),
  (r'(.*/)?embedding/norm/(scale|bias)', ('place+',)),
  (r'(.*/)?embedding/project/kernel', ('inner/', 'width+')),
  (r'(.*/)?embedding/project/bias', ('width+',)),
)
ATTENTION_ROLES = (
  (r'.*/query/kernel', ('width/', 'heads+')),
  (r'.*/(key|value)/kernel', ('width/', 'key_heads+')),
  (r'.*/query/bias', ('heads+',)),
  (r'.*/(key|value)/bias', ('key_heads+',)),
  (r'.*/query_norm/(scale|bias)', ('query_norm+',)),
  (r'.*/key_norm/(scale|bias)', ('key_norm+',)),
  (r'.*/(attention|cross)/out/kernel', ('heads/', 'width+')),
)
MLP_ROLES = (
  (r'.*/mlp/(in|gate)/kernel', ('width/', 'mlp+')),
  (r'.*/mlp/(in|gate)/bias', ('mlp+',)),
  (r'.*/mlp/out/kernel', ('mlp/', 'width+')),
  (r'.*/out/bias', ('width+',)),
)
NORM_ROLES = ((r'.*_norm/(scale|bias)', ('width+',)),)
POSITION_ROLES = (
  (r'(.*/)?relative/kernel', ('', 'head+')),
  (r'relative/table', ('', 'width+')),
  (r'relative/norm/(scale|bias)', ('width+',)),
)
HEAD_ROLES = (
  (r'final_project/kernel', ('width/', 'inner+')),
  (r'(head/)?pooler/kernel', ('width/', 'width+')),
  (r'(head/)?pooler/(norm/)?(bias|scale)', ('width+',)),
  (r'head/pair/kernel', ('width/', '')),
  (r'head/pair/bias', ('',)),
  (r'head/transform/kernel', ('width/', 'transform+')),
  (r'head/transform/bias', ('transform+',)),
  (r'head/norm/(scale|bias)', ('inner+',)),
  (r'head/kernel', ('read/', '')),
  (r'head/bias', ('',)),
)
# The first that matches counts: the norms of queries and keys stand before all others.
ROLES = (
  *EMBEDDING_ROLES,
  *ATTENTION_ROLES,
  *MLP_ROLES,
  *POSITION_ROLES,
  *NORM_ROLES,
  *HEAD_ROLES,
)


def grow_width(
  params: Tree,
  arch,
  *,
  width: int | None = None,
  heads: int | None = None,
  mlp: int | None = None,
  key=None,
):
  """(params, arch) of a wider model that computes the same function, up to rounding
  (Net2WiderNet, Chen et al. 2016).

  Unit i of the wider model is a copy of unit i modulo the old number. Whatever reads
  the copies divides the old weight among them (for Transformers, bert2BERT's
  function-preserving initialisation, Chen et al. 2022).

  width: of the residual stream, a multiple of the old one, because a norm keeps its
  mean and variance only where every unit has equally many copies.
  heads: query heads of the old head width, a multiple of the query heads that share one
  key head.
  mlp: hidden units, any number that is not below the old one.
  key: None divides evenly. The copies then get equal gradients and stay equal, unless
  something random (dropout) tells them apart. With a key the parts are random, which
  breaks the symmetry and keeps the function too.
  A head over the tied table reads every unit of the wider table, so `output_scale`
  becomes smaller by the same factor.
  Errors: ValueError for a number that is smaller than it was or that does not divide,
  and for a leaf that no model of ours has.
  """
  sizes = Sizes(width or arch.width, heads or arch.heads, mlp or arch.mlp)
  _require_wider(arch, sizes)
  origins = _origins(arch, sizes)

  def widen(name, leaf):
    return _widened(name, leaf, origins, key)

  return tree.map_named(widen, params), _wider_arch(arch, sizes)


class Sizes(NamedTuple):
  """The sizes of the wider model: residual stream, query heads, MLP units."""

  width: int
  heads: int
  mlp: int


def _require_wider(arch, sizes: Sizes) -> None:
  """Raises ValueError for the first size at which the function could not be kept."""
  if sizes.width % arch.width:
    raise ValueError(
      f'width: {sizes.width} is no multiple of {arch.width}; norms keep their values '
      'under equal copies only'
    )
  # Query heads that share a key head stay together, so heads grow by whole groups.
  group = _query_group(arch)
  if sizes.heads < arch.heads or sizes.heads % group:
    raise ValueError(
      f'heads: {sizes.heads}, but must be at least {arch.heads} and a multiple of '
      f'{group}'
    )
  # A norm over all heads is like one of the stream: every head needs as many copies.
  if arch.query_norm == 'width' and sizes.heads % arch.heads:
    raise ValueError(
      f'heads: {sizes.heads} is no multiple of {arch.heads}; the norm over all heads '
      'keeps its values under equal copies only'
    )
  if arch.decoder_heads or arch.decoder_mlp:
    raise ValueError(
      'decoder_heads, decoder_mlp: a decoder with sizes of its own cannot be widened'
    )
  # No norm stands over the hidden units, so any larger number will do.
  if sizes.mlp < arch.mlp:
    raise ValueError(f'mlp: {sizes.mlp}, but must be at least {arch.mlp}')


def _query_group(arch) -> int:
  """How many query heads share one key head."""
  return arch.heads // (arch.kv_heads or arch.heads)


def _head_dim(arch) -> int:
  """The width of one head, which growing keeps."""
  return arch.head_dim or arch.width // arch.heads


def _reads_vocabulary(arch) -> bool:
  """Does the head score every token of the vocabulary?"""
  return arch.head in ('masked', 'causal')


def _origins(arch, sizes: Sizes) -> dict[str, np.ndarray]:
  """For every kind of unit in `ROLES`, the old unit (new units,) of each new one."""
  head = _head_dim(arch)
  group = _query_group(arch)
  old_key_heads = arch.heads // group
  new_key_heads = sizes.heads // group
  stream = _cyclic(sizes.width, arch.width)
  query_units = _cyclic(sizes.heads, arch.heads, head)
  key_units = _cyclic(new_key_heads, old_key_heads, head)
  # Tokens with a width of their own (ELECTRA-small) keep it. An encoder adds positions
  # and types before it projects to the stream, and its head projects back.
  table = stream
  if arch.embedding_width:
    table = _cyclic(arch.embedding_width, arch.embedding_width)
  origins = {
    'width': stream,
    'inner': table,
    'heads': query_units,
    'key_heads': key_units,
  }
  origins['mlp'] = _cyclic(sizes.mlp, arch.mlp)
  origins['head'] = _cyclic(sizes.heads, arch.heads)
  origins['place'] = table if arch.kind == 'encoder' else stream
  origins['transform'] = table if arch.head == 'masked' else stream
  origins['read'] = table if _reads_vocabulary(arch) else stream
  if arch.query_norm == 'width':
    # A norm of every head instead has the width of a head, which stays.
    origins['query_norm'] = query_units
    origins['key_norm'] = key_units
  return origins


def _cyclic(new: int, old: int, block: int = 1) -> np.ndarray:
  """The old unit of each of new * block units: blocks repeat, and stay in one piece."""
  blocks = np.arange(new) % old
  units = blocks[:, None] * block + np.arange(block)
  return units.reshape(-1)


def _wider_arch(arch, sizes: Sizes):
  """The architecture of the wider model."""
  head = _head_dim(arch)
  # 0 says that the heads divide the width among them.
  is_divided = sizes.width == sizes.heads * head
  output_scale = arch.output_scale
  if arch.tied and _reads_vocabulary(arch) and not arch.embedding_width:
    # The tied table is read as often as it has copies, and cannot be divided: the
    # embedding uses it too.
    output_scale *= arch.width / sizes.width
  # 0 says that there are as many key heads as query heads.
  key_heads = arch.kv_heads and sizes.heads // _query_group(arch)
  return dataclasses.replace(
    arch,
    width=sizes.width,
    heads=sizes.heads,
    mlp=sizes.mlp,
    kv_heads=key_heads,
    head_dim=0 if is_divided else head,
    output_scale=output_scale,
  )


def _widened(name: str, leaf, origins: dict[str, np.ndarray], key):
  """One leaf with the units of every axis copied, or shared among their copies."""
  roles = _roles(name)
  if roles is None or len(roles) != jnp.ndim(leaf):
    raise ValueError(
      f'grow_width: {name!r} of shape {jnp.shape(leaf)} is no parameter of a model of '
      'ours; fuse a method into its parameters first'
    )
  for axis, role in enumerate(roles):
    # Without its last sign, the role is the name of the unit.
    origin = origins.get(role[:-1])
    # A size that stays changes nothing.
    if origin is None or len(origin) == leaf.shape[axis]:
      continue
    leaf = jnp.take(leaf, origin, axis)
    if role.endswith('/'):
      # A stream of the leaf and the axis: no draw depends on another leaf.
      own_key = None if key is None else rng.stream(key, f'{name}/{axis}')
      shares = _shares(origin, own_key)
      others = [other for other in range(leaf.ndim) if other != axis]
      leaf = (leaf * np.expand_dims(shares, others)).astype(leaf.dtype)
  return leaf


def _roles(name: str) -> tuple[str, ...] | None:
  """The roles of the axes of a leaf, None for one that no model of ours has."""
  for pattern, roles in ROLES:
    if re.fullmatch(pattern, name):
      return roles
  return None


def _shares(origin: np.ndarray, key) -> np.ndarray:
  """The weight of every copy, float32 (new,): the copies of one old unit sum to 1."""
  if key is None:
    draws = np.ones(len(origin))
  else:
    # Away from 0, so that no copy is lost.
    uniform = jax.random.uniform(key, origin.shape, minval=0.5, maxval=1.5)
    draws = np.asarray(uniform, np.float64)
  totals = np.bincount(origin, draws)
  return (draws / totals[origin]).astype(np.float32)
