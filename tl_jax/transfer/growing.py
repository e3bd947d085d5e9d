"""Models made deeper, shallower or wider from their own parameters, with the
architecture that describes them.

>>> every_second(6), stacked(3, 6), interleaved(3, 6)
((0, 2, 4), (0, 1, 2, 0, 1, 2), (0, 0, 1, 1, 2, 2))
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import rng, tree

Tree = Any
Stack = Literal['encoder', 'decoder']


def every_second(layers: int) -> tuple[int, ...]:
  """The layers that DistilBERT starts from: the first, third, fifth (Sanh et al. 2019,
  section 3).
  """
  return tuple(range(0, layers, 2))


def stacked(layers: int, grown: int) -> tuple[int, ...]:
  """The stack on top of itself: 0 1 2 0 1 2 (progressive stacking, Gong et al. 2019,
  doubles this way).
  """
  return tuple(index % layers for index in range(grown))


def interleaved(layers: int, grown: int) -> tuple[int, ...]:
  """Every layer beside its copies: 0 0 1 1 2 2 (Chang et al. 2018, for residual
  networks).
  """
  return tuple(index * layers // grown for index in range(grown))


def shrink_depth(
  params: Tree, arch, keep: Sequence[int] | None = None, *, stack: Stack | None = None
):
  """(params, arch) with the layers `keep` alone, in that order; by default every second
  one (`every_second`).

  params: {'layers': {'0': ...}} and the rest; stack: which of an encoder-decoder's
  stacks. Every layer keeps the attention window that it had. Errors: ValueError for
  indices that are no layers, repeat or are none, for a `stack` that is missing or too
  much, and for layers that share parameters (ALBERT).
  """
  depth = _depth(arch, stack)
  keep = every_second(depth) if keep is None else tuple(keep)
  if not keep or len(set(keep)) < len(keep) or not set(keep) <= set(range(depth)):
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
  """(params, arch) of `layers` layers, copies of those there are: `stacked` or
  `interleaved`.

  Neither keeps the function; both are starts from which training is faster than from
  nothing (Gong et al. 2019). Every copy is an array of its own and keeps its layer's
  attention window. Errors: ValueError for fewer layers than there are, for an unknown
  `how`, and as `shrink_depth`.
  """
  depth = _depth(arch, stack)
  if layers < depth:
    raise ValueError(
      f'layers: {layers}, but there are {depth} already; shrink_depth makes a model shallower'
    )
  if how not in ('stack', 'interleave'):
    raise ValueError(
      f"how: {how!r} is neither 'stack' nor 'interleave'; nearest: "
      f'{tree.nearest(how, ("stack", "interleave"), most=1)}'
    )
  return _with_layers(
    params, arch, (stacked if how == 'stack' else interleaved)(depth, layers), stack
  )


def _depth(arch, stack: Stack | None) -> int:
  if (arch.kind == 'encoder-decoder') != (stack is not None):
    raise ValueError(
      f'stack: {stack!r} of a model of kind {arch.kind!r}; must be '
      + ("'encoder' or 'decoder'" if arch.kind == 'encoder-decoder' else 'None')
    )
  if arch.layer_groups:
    raise ValueError(
      'layer_groups: layers that share parameters are as many as the architecture says; change `layers`'
    )
  return arch.decoder_layers or arch.layers if stack == 'decoder' else arch.layers


def _with_layers(params: Tree, arch, order: tuple[int, ...], stack: Stack | None):
  """The stack whose layer i is the old one order[i]."""
  if arch.skip_first_norm and (order[0] != 0 or 0 in order[1:]):
    raise ValueError(
      'skip_first_norm: the first layer has no norm before its attention and fits in no other place; '
      f'layer 0 must come first and once, not {order}'
    )
  body = params[stack] if stack else params
  layers, seen = {}, set()
  for place, index in enumerate(order):
    layer = body['layers'][str(index)]
    # One buffer at two places of a state could not be donated.
    layers[str(place)] = jax.tree.map(jnp.array, layer) if index in seen else layer
    seen.add(index)
  body = {**body, 'layers': layers}
  depths = dict(layers=len(order))
  if stack:
    other = _depth(arch, 'encoder' if stack == 'decoder' else 'decoder')
    encoder, decoder = (
      (other, len(order)) if stack == 'decoder' else (len(order), other)
    )
    depths = dict(layers=encoder, decoder_layers=0 if decoder == encoder else decoder)
  for field in ('windows', 'rotary_layers'):
    depths[field] = _reordered(field, getattr(arch, field), order, stack)
  return {**params, stack: body} if stack else body, dataclasses.replace(arch, **depths)


def _reordered(
  field: str, pattern: tuple, order: tuple[int, ...], stack: Stack | None
) -> tuple:
  """What an architecture says by layer, in the new order of the layers; the old pattern
  where that still says it.
  """
  if len(set(pattern)) > 1 and stack:
    raise ValueError(
      f'{field}: {pattern} by layer hold for both stacks and cannot follow the layers of one'
    )
  moved = tuple(pattern[index % len(pattern)] for index in order)
  same = all(
    pattern[place % len(pattern)] == value for place, value in enumerate(moved)
  )
  return pattern if same else moved


# Per leaf and axis, what the axis counts; `+` copies what it counts, `/` shares it
# among the copies of what is read.
ROLES = (
  (r'(.*/)?embedding/tokens', ('', 'inner+')),
  (r'(.*/)?embedding/(positions|types)', ('', 'place+')),
  (r'(.*/)?embedding/norm/(scale|bias)', ('place+',)),
  (r'(.*/)?embedding/project/kernel', ('inner/', 'width+')),
  (r'(.*/)?embedding/project/bias', ('width+',)),
  (r'.*/query/kernel', ('width/', 'heads+')),
  (r'.*/(key|value)/kernel', ('width/', 'key_heads+')),
  (r'.*/query/bias', ('heads+',)),
  (r'.*/(key|value)/bias', ('key_heads+',)),
  (r'.*/query_norm/(scale|bias)', ('query_norm+',)),
  (r'.*/key_norm/(scale|bias)', ('key_norm+',)),
  (r'.*/(attention|cross)/out/kernel', ('heads/', 'width+')),
  (r'.*/mlp/(in|gate)/kernel', ('width/', 'mlp+')),
  (r'.*/mlp/(in|gate)/bias', ('mlp+',)),
  (r'.*/mlp/out/kernel', ('mlp/', 'width+')),
  (r'.*/out/bias', ('width+',)),
  (r'(.*/)?relative/kernel', ('', 'head+')),
  (r'relative/table', ('', 'width+')),
  (r'relative/norm/(scale|bias)', ('width+',)),
  (r'.*_norm/(scale|bias)', ('width+',)),
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

  Unit i of the grown model is unit i modulo the old number, and what reads the copies
  shares the old weight among them (for Transformers, bert2BERT's function-preserving
  initialisation, Chen et al. 2022). mlp: any number of hidden units; heads: of the old
  width, a multiple of the queries to one key head; width: of the residual stream, a
  multiple of the old one, since a norm keeps its mean and variance only where every
  unit has as many copies. A head over the tied table reads every unit of the wider
  table, so `output_scale` becomes smaller by as much.
  key: None shares evenly, and then copies get equal gradients and stay equal, unless
  something random (dropout) tells them apart; with a key the shares are random, which
  breaks that and keeps the function too. Errors: ValueError for a number that is
  smaller than it was or does not divide, and for a leaf that is none of our models'.
  """
  wide, heads, mlp = width or arch.width, heads or arch.heads, mlp or arch.mlp
  queries = arch.heads // (arch.kv_heads or arch.heads)
  if wide % arch.width:
    raise ValueError(
      f'width: {wide} is no multiple of {arch.width}; norms keep their values under equal copies only'
    )
  if heads < arch.heads or heads % queries:
    raise ValueError(
      f'heads: {heads}, but must be at least {arch.heads} and a multiple of {queries}'
    )
  if arch.query_norm == 'width' and heads % arch.heads:
    raise ValueError(
      f'heads: {heads} is no multiple of {arch.heads}; the norm over all heads keeps its values under '
      'equal copies only'
    )
  if arch.decoder_heads or arch.decoder_mlp:
    raise ValueError(
      'decoder_heads, decoder_mlp: a decoder with sizes of its own cannot be widened'
    )
  if mlp < arch.mlp:
    raise ValueError(f'mlp: {mlp}, but must be at least {arch.mlp}')
  head = arch.head_dim or arch.width // arch.heads
  inner = arch.embedding_width or wide
  cyclic = lambda new, old, block=1: (
    np.arange(new)[:, None] % old * block + np.arange(block)
  ).reshape(-1)
  stream, table = (
    cyclic(wide, arch.width),
    cyclic(inner, arch.embedding_width or arch.width),
  )
  units = dict(
    width=stream,
    inner=table,
    mlp=cyclic(mlp, arch.mlp),
    head=cyclic(heads, arch.heads),
    heads=cyclic(heads, arch.heads, head),
    key_heads=cyclic(heads // queries, arch.heads // queries, head),
    # A norm of every head has the width of a head, which stays.
    query_norm=cyclic(heads, arch.heads, head) if arch.query_norm == 'width' else None,
    key_norm=cyclic(heads // queries, arch.heads // queries, head)
    if arch.query_norm == 'width'
    else None,
    place=table if arch.kind == 'encoder' else stream,
    transform=table if arch.head == 'masked' else stream,
    read=table if arch.head in ('masked', 'causal') else stream,
  )
  grown = tree.map_named(lambda name, leaf: _widened(name, leaf, units, key), params)
  tied = arch.tied and arch.head in ('masked', 'causal')
  return grown, dataclasses.replace(
    arch,
    width=wide,
    heads=heads,
    mlp=mlp,
    kv_heads=arch.kv_heads and heads // queries,
    head_dim=0 if wide % heads == 0 and wide // heads == head else head,
    output_scale=arch.output_scale
    * (arch.width / wide if tied and not arch.embedding_width else 1.0),
  )


def _widened(name: str, leaf, units: dict[str, np.ndarray], key):
  """One leaf with the units of every axis copied, or shared among their copies."""
  roles = next((roles for pattern, roles in ROLES if re.fullmatch(pattern, name)), None)
  if roles is None or len(roles) != jnp.ndim(leaf):
    raise ValueError(
      f'grow_width: {name!r} of shape {jnp.shape(leaf)} is no parameter of a model of ours; '
      'fuse a method into its parameters first'
    )
  for axis, role in enumerate(roles):
    origin = units.get(role[:-1])
    if origin is None or len(origin) == leaf.shape[axis]:
      continue
    leaf = jnp.take(leaf, origin, axis)
    if role.endswith('/'):
      shape = [-1 if place == axis else 1 for place in range(leaf.ndim)]
      own_key = None if key is None else rng.stream(key, f'{name}/{axis}')
      leaf = (leaf * _shares(origin, own_key).reshape(shape)).astype(leaf.dtype)
  return leaf


def _shares(origin: np.ndarray, key) -> np.ndarray:
  """The weight of every copy, float32 (new,): the copies of one old unit sum to 1."""
  draws = (
    np.ones(len(origin))
    if key is None
    else np.asarray(
      jax.random.uniform(key, origin.shape, minval=0.5, maxval=1.5), np.float64
    )
  )
  return (draws / np.bincount(origin, draws)[origin]).astype(np.float32)
