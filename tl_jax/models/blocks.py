"""One layer, and the layers of a stack in turn: unrolled or scanned, in full or for the
columns that are read.

>>> layer_name(Arch(layer_groups=1), 5, 12)
'0'
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax import parallel, rng
from tl_jax.layers import Parts
from tl_jax.leaves.products import PRODUCT
from tl_jax.models.arch import Arch, Compute
from tl_jax.models.attention import SEEN, Attention
from tl_jax.models.blockwise import is_long
from tl_jax.models.columns import key_columns, take_columns
from tl_jax.models.layers import Mlp, Norm, dropout
from tl_jax.models.relative import PositionBias, RelativeBias
from tl_jax.models.rotary import Reach, layer_reach, rotary_frequencies
from tl_jax.models.sight import Sight


class Block(nn.Module):
  """One layer: attention, attention over a memory where there is one, MLP; each with
  its norms and residual.

  attention: how it is computed, as `Compute.attention` names it. in_order: do positions
  count columns, as `Sight` has it?
  """

  arch: Arch
  rate: float
  causal: bool
  first: bool = False
  attention: str = 'xla'
  in_order: bool = True

  @nn.compact
  def __call__(self, x, context, reach, key=None, cache=None):
    """(x, the layer's cache or None) after the layer, from x (batch, length, width).

    context: what all layers of the stack see. With `columns` (batch, n) in it the
    layer makes these alone, (batch, n, width); they attend to all.
    """
    arch = self.arch
    columns = context.get('columns')
    caches = {}
    # The few columns that a head reads and the keys of a cache are nothing for a kernel.
    is_plain = columns is not None or cache is not None
    form = 'xla' if is_plain else self.attention

    def pick(y):
      return y if columns is None else take_columns(y, columns)

    def attend(y, name, memory, sight, key, **more):
      attention = Attention(arch, self.rate, form, name=name)
      held = None if cache is None else cache[name]
      y, caches[name] = attention(y, memory, sight, key=key, cache=held, **more)
      return y

    # Without a cache the keys are those of the columns themselves.
    own = context['segments'], context['positions']
    keys = context.get('keys', own)
    queries = pick(context['segments']), pick(context['positions'])
    segments, positions = queries
    sight = _sight(self, reach, queries, keys, context.get('seen'))
    bias = _position_bias(self, context, positions, keys[1], pick)
    places = dict(bias=bias, positions=(positions, context['positions']))
    if arch.positions == 'rotary':
      places['frequencies'] = _frequencies(arch, reach, context.get('last'), pick)
    if 'relative' in context:
      table, rows = context['relative']
      places['relative'] = table, pick(rows)

    def attend_to_text(y):
      return attend(pick(y), 'attention', y, sight, key, **places)

    x = _sublayer(self, x, 'attention', attend_to_text, key, narrow=pick)
    if 'memory_segments' in context:
      seen = Sight((segments, context['memory_segments']))
      cross_key = None if key is None else rng.stream(key, 'cross')

      def attend_to_memory(y):
        return attend(y, 'cross', context['memory'], seen, cross_key)

      x = _sublayer(self, x, 'cross', attend_to_memory, key)
    mlp = Mlp(arch, self.rate, name='mlp')
    x = _sublayer(self, x, 'mlp', lambda y: mlp(y, key), key)
    # Some columns are no stretch of the text, so they are not sharded along it.
    length = 'length' if columns is None else None
    x = parallel.constrain(x, 'batch', length, None)
    return x, None if cache is None else caches


# The parts of a block are functions, not methods: flax writes the name of a method into
# the compiled program.


def _unchanged(x):
  return x


def _sublayer(block: Block, x, name: str, run, key, narrow=_unchanged):
  """x and what `run` makes of it, added up, with the norms around it.

  narrow: the columns of x that go on. `run` itself reads all of them.
  """
  arch = block.arch
  read = x
  skips_norm = name == 'attention' and block.first and arch.skip_first_norm
  if arch.norm_place in ('before', 'both') and not skips_norm:
    read = Norm(arch, name=f'{name}_norm')(x)
  x = narrow(x)
  given = narrow(read)
  y = run(read)
  if arch.norm_place in ('both', 'output'):
    y = Norm(arch, name=f'{name}_out_norm')(y)
  y = dropout(y, block.rate, key, name)
  if arch.residual_scale != 1.0:
    y = y * arch.residual_scale
  finish = _unchanged
  if arch.norm_place == 'after':
    finish = Norm(arch, name=f'{name}_norm')
  if block.has_variable('params', f'{name}_adapter'):
    adapter = block.get_variable('params', f'{name}_adapter')
    y = y + _adapt(adapter, given, x, y, finish)
  return finish(x + y)


def _adapt(adapter, given, x, y, finish):
  """What an adapter makes of the sublayer's input, its output, or the finished sum."""
  if adapter.place == 'parallel':
    return adapter(given)
  if adapter.place == 'output':
    return adapter(y)
  return adapter(finish(x + y))


def _sight(block: Block, reach, queries, keys, seen=None) -> Sight:
  """Which keys each query attends to, of (segments, positions) of both.

  seen (batch, keys): above 0 for keys that every query of their segment attends to.
  """
  segments, positions = queries
  key_segments, key_positions = keys
  if seen is not None:
    # No query stands before the first place.
    key_positions = jnp.where(seen > 0, 0, key_positions)
  return Sight(
    (segments, key_segments),
    (positions, key_positions),
    block.causal,
    reach.window,
    block.arch.windows,
    block.in_order,
  )


def _position_bias(block: Block, context, positions, key_positions, pick):
  """What is added to the scores by position: (batch, heads, queries, keys), a
  `PositionBias` where rows are long, or None.

  It is the same for all layers of the stack, or each layer has a table of its own.
  """
  arch = block.arch
  bias = context['bias']
  if bias is not None:
    # `pick` takes columns along axis 1, where a bias has its heads.
    bias = pick(bias.swapaxes(1, 2)).swapaxes(1, 2)
  by_layer = arch.positions == 'relative_by_layer'
  table = context.get('table')
  if not by_layer and table is None:
    return bias
  # The keys of a prefix stand before those of the text.
  prefix = block.get_variable('params', 'attention', {}).get('prefix')
  count = 0 if prefix is None else prefix.keys.shape[0]
  columns = key_columns(key_positions, count)
  both_ways = not block.causal
  if not by_layer:
    return PositionBias(table, positions, columns, both_ways, arch.relative_distance)
  whole = not is_long(*positions.shape, arch.heads, columns.shape[1])
  return RelativeBias(arch, both_ways, whole, name='relative')(positions, columns)


def _frequencies(arch: Arch, reach, last, pick) -> tuple:
  """The rotary frequencies (of the queries, of the keys).

  last: the last position of each column's text, where the frequencies depend on it.
  """
  query_last = None if last is None else pick(last)
  return (
    rotary_frequencies(arch, reach, query_last),
    rotary_frequencies(arch, reach, last),
  )


class Layered(NamedTuple):
  """What a stack of layers made: x (batch, length, width).

  states, attentions: of each layer, where they were to be kept, else None.
  read (batch, n, width): the last layer's states of the columns that were asked for,
  else None.
  """

  x: Any
  states: Any = None
  attentions: Any = None
  read: Any = None


class _Layers(NamedTuple):
  """The layers of a stack, each with its parameters, key and reach.

  block: as all layers are, but for a first one without a norm. parts: what puts the
  parameters of several layers together.
  """

  block: Block
  remat: str
  parts: Parts
  params: list
  keys: list
  reaches: list

  def run(self, index: int, x, context: dict, kept: bool):
    """(x, softmax weights if they are to be kept) of one layer."""
    is_first = index == 0 and self.block.arch.skip_first_norm
    block = self.block.clone(first=is_first)
    params, key, reach = self.params[index], self.keys[index], self.reaches[index]
    return _traced_layer(block, self.remat, kept, reach, x, params, key, context)

  def scan(self, first: int, last: int, x, context: dict, keep):
    """(x, states, softmax weights) of the layers from `first` until `last`, in one loop.

    The states (layers, batch, length, width) and the weights are None where `keep` does
    not ask for them.
    """
    join = lambda *own: self.parts.stack(own)
    params = jax.tree.map(join, *self.params[first:last])
    keys = None
    if self.keys[first] is not None:
      keys = jnp.stack(self.keys[first:last])
    common, reach = _common_reach(self.reaches[first:last])
    kept = 'attentions' in keep

    def body(x, layer):
      own_params, own_key, own_reach = layer
      x, weights = _apply_layer(
        self.block,
        self.remat,
        kept,
        common or own_reach,
        x,
        own_params,
        own_key,
        context,
      )
      return x, (x if 'states' in keep else None, weights)

    x, (states, weights) = jax.lax.scan(body, x, (params, keys, reach))
    return x, states, weights


def _common_reach(reaches: list[Reach]) -> tuple[Reach | None, Reach | None]:
  """(the reach of all layers or None, else the reach of each as arrays (layers,)).

  A mask that no layer changes is made once, in front of the loop, and is not kept for
  every layer until its gradient.
  """
  if len(set(reaches)) == 1:
    return reaches[0], None
  parts = zip(*reaches, strict=True)
  return None, Reach(*(jnp.array(part) for part in parts))


def _layers(block: Block, params: dict, layers: int, compute: Compute, key) -> _Layers:
  """The layers of a stack, by index. Those of a group have the parameters of the group."""
  parts = Parts()
  named = parts.take({'layers': params})['layers']
  own_params, keys, reaches = [], [], []
  for index in range(layers):
    own_params.append(named[layer_name(block.arch, index, layers)])
    own_key = None if key is None else rng.stream(key, 'layer', index)
    keys.append(own_key)
    reaches.append(layer_reach(block.arch, index))
  return _Layers(block, compute.remat, parts, own_params, keys, reaches)


def _scanned(stack: _Layers, compute: Compute, columns) -> tuple[int, int]:
  """(first, last): the layers from `first` until `last` are scanned, those before
  `first` unrolled. The layer `last`, where there is one, makes `columns`.

  A first layer without a norm is not scanned, for its parameters have a structure of
  their own. Nor are layers scanned whose parameters differ in structure or shape, as
  where some have adapters, or each a rank of its own.
  """
  last = len(stack.params) - (columns is not None)
  first = min(int(stack.block.arch.skip_first_norm), last)
  if scans(compute) and _alike(stack.params[first:last]):
    return first, last
  return last, last


def run_layers(
  block: Block,
  params: dict,
  x,
  context: dict,
  layers: int,
  compute: Compute,
  key,
  keep=(),
  columns=None,
) -> Layered:
  """x (batch, length, width) through all layers of a stack.

  params: {'0': ..., '1': ...}, named or held (see `tl_jax.layers`). Layers that are
  scanned are read from the stacks that are held; what is not held is stacked on the fly.
  columns (batch, n): the last layer runs twice, for all columns and for these alone.
  For these it computes keys and values of all columns, and everything else of these
  alone. Where nobody uses `Layered.x`, the compiler drops the rest of the first run.
  """
  kept = 'attentions' in keep
  stack = _layers(block, params, layers, compute, key)
  first, last = _scanned(stack, compute, columns)
  states, attentions = [x], []
  for index in range(first):
    x, weights = stack.run(index, x, context, kept)
    states.append(x)
    attentions.append(weights)
  if first < last:
    x, scanned_states, scanned_weights = stack.scan(first, last, x, context, keep)
    if scanned_states is not None:
      states.extend(scanned_states)
    if scanned_weights is not None:
      attentions.extend(scanned_weights)
  read = None
  if columns is not None:
    narrow = context | dict(columns=columns)
    read, _ = stack.run(last, x, narrow, kept=False)
    x, weights = stack.run(last, x, context, kept)
    states.append(x)
    attentions.append(weights)
  if 'states' not in keep:
    states = None
  if not kept:
    attentions = None
  return Layered(x, states, attentions, read)


def _apply_layer(
  block: Block,
  remat: str,
  kept: bool,
  reach: Reach,
  x,
  params: dict,
  key,
  context: dict,
):
  """(x, softmax weights if they are to be kept) of one layer."""

  def run(x, params, key, context):
    variables = {'params': params}
    if not kept:
      x, _ = block.apply(variables, x, context, reach, key)
      return x, None
    made, seen = block.apply(variables, x, context, reach, key, mutable=[SEEN])
    x, _ = made
    # flax keeps a tuple of everything that was sown under a name.
    return x, seen[SEEN]['attention']['weights'][0]

  if remat == 'none':
    return run(x, params, key, context)
  # The policy None recomputes everything.
  policy = None
  if remat == 'dots':
    policy = jax.checkpoint_policies.save_only_these_names(PRODUCT)
  return jax.checkpoint(run, policy=policy)(x, params, key, context)


# Layers that are alike are traced once; the compiler sees each of them in its place.
_traced_layer = jax.jit(_apply_layer, static_argnums=(0, 1, 2, 3))


def _alike(layers: list) -> bool:
  """Can the parameters of these layers be stacked?"""

  def form(layer):
    arrays, structure = jax.tree.flatten(layer)
    return structure, [(array.shape, array.dtype) for array in arrays]

  return all(form(layer) == form(layers[0]) for layer in layers[1:])


def layer_name(arch: Arch, index: int, layers: int) -> str:
  """Whose parameters layer `index` of a stack uses: its own, or its group's."""
  if arch.layer_groups:
    index = index * arch.layer_groups // layers
  return str(index)


def scans(compute: Compute) -> bool:
  """Do layers that are alike run in a loop, on the platform that is traced for?"""
  if compute.layers != 'auto':
    return compute.layers == 'scan'
  platform = parallel.target_platform()
  if platform == 'gpu':
    # A loop copies what it keeps for the backward pass into arrays of all layers, and
    # out of them again. With `remat` that is little, and the memory is wanted.
    return compute.remat != 'none'
  return platform != 'cpu'
