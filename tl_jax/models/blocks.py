"""One layer, and the layers of a stack in turn: unrolled or scanned, in full or for the
columns that are read.

>>> layer_name(Arch(layer_groups=1), 5, 12)
'0'
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax import rng
from tl_jax.leaves.products import PRODUCT
from tl_jax.models.arch import Arch, Compute
from tl_jax.models.attention import SEEN, Attention, RelativeBias, near, visible
from tl_jax.models.columns import key_columns, take_columns
from tl_jax.models.layers import Mlp, Norm, dropout
from tl_jax.models.rotary import Reach, layer_reach, rotary_frequencies
from tl_jax.parallel import constrain


class Block(nn.Module):
  """One layer: attention, attention over a memory where there is one, MLP; each with
  its norms and residual.
  """

  arch: Arch
  rate: float
  causal: bool
  first: bool = False

  @nn.compact
  def __call__(self, x, context, reach, key=None, cache=None):
    """x (batch, length, width) and the layer's cache, or None, to the same; `context`
    is what all layers see.

    With `columns` (batch, n) in the context only those are made, (batch, n, width);
    they look at all.
    """
    arch, caches = self.arch, {}
    columns = context.get('columns')
    pick = lambda y: y if columns is None else take_columns(y, columns)

    def sublayer(x, name, run, narrow=lambda y: y):
      y = x
      skipped = name == 'attention' and self.first and arch.skip_first_norm
      if arch.norm_place in ('before', 'both') and not skipped:
        y = Norm(arch, name=f'{name}_norm')(x)
      x, given, y = narrow(x), narrow(y), run(y)
      if arch.norm_place in ('both', 'output'):
        y = Norm(arch, name=f'{name}_out_norm')(y)
      y = dropout(y, self.rate, key, name)
      if arch.residual_scale != 1.0:
        y = y * arch.residual_scale
      last = (
        Norm(arch, name=f'{name}_norm') if arch.norm_place == 'after' else lambda x: x
      )
      if self.has_variable('params', f'{name}_adapter'):
        adapter = self.get_variable('params', f'{name}_adapter')
        y = y + adapter(
          {'parallel': lambda: given, 'output': lambda: y, 'sum': lambda: last(x + y)}[
            adapter.place
          ]()
        )
      return last(x + y)

    def attend(y, name, memory, mask, key, **more):
      attention = Attention(arch, self.rate, name=name)
      y, caches[name] = attention(
        y, memory, mask, key=key, cache=None if cache is None else cache[name], **more
      )
      return y

    key_segments, key_positions = context.get(
      'keys', (context['segments'], context['positions'])
    )
    segments, positions = pick(context['segments']), pick(context['positions'])
    if self.causal:
      mask = visible(
        segments, key_segments, positions, key_positions, window=reach.window
      )
    else:
      mask = visible(segments, key_segments) & near(
        positions, key_positions, reach.window
      )
    bias = (
      None
      if context['bias'] is None
      else pick(context['bias'].swapaxes(1, 2)).swapaxes(1, 2)
    )
    if arch.positions == 'relative_by_layer':
      prefix = self.get_variable('params', 'attention', {}).get('prefix')
      columns_seen = key_columns(
        key_positions, 0 if prefix is None else prefix.keys.shape[0]
      )
      bias = RelativeBias(arch, not self.causal, name='relative')(
        positions, columns_seen
      )
    places = dict(bias=bias, positions=(positions, context['positions']))
    if arch.positions == 'rotary':
      ends = context.get('last')
      places['frequencies'] = tuple(
        rotary_frequencies(arch, reach, end)
        for end in (None if ends is None else pick(ends), ends)
      )
    if 'relative' in context:
      table, rows = context['relative']
      places['relative'] = table, pick(rows)
    x = sublayer(
      x,
      'attention',
      lambda y: attend(pick(y), 'attention', y, mask, key, **places),
      narrow=pick,
    )
    if 'memory_segments' in context:
      seen = visible(segments, context['memory_segments'])
      cross_key = None if key is None else rng.stream(key, 'cross')
      x = sublayer(
        x, 'cross', lambda y: attend(y, 'cross', context['memory'], seen, cross_key)
      )
    mlp = Mlp(arch, self.rate, name='mlp')
    x = sublayer(x, 'mlp', lambda y: mlp(y, key))
    return constrain(
      x, 'batch', 'length' if columns is None else None, None
    ), None if cache is None else caches


class Layered(NamedTuple):
  """What a stack of layers made: x (batch, columns, width), and what was to be kept of
  each layer, else None.

  read (batch, n, width): the last layer's states of the columns that were asked for,
  made without those of others.
  """

  x: Any
  states: Any = None
  attentions: Any = None
  read: Any = None


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
  """x through all layers of a stack; params {'0': ..., '1': ...}, stacked on the fly
  where the layers are scanned.

  Layers whose parameters differ in structure or shape (adapters in some, ranks of their
  own) are never scanned. With `columns` (batch, n) the last layer runs for those alone,
  too: of the states of all columns its keys and values are needed and nothing more, and
  where nobody uses `x`, nothing more is left of it in a compiled program.
  """
  arch = block.arch
  names = [layer_name(arch, index, layers) for index in range(layers)]
  keys = [
    None if key is None else rng.stream(key, 'layer', index) for index in range(layers)
  ]
  reaches = [layer_reach(arch, index) for index in range(layers)]
  kept = 'attentions' in keep

  def run_layer(index, x, context, kept=kept):
    own = block.clone(first=index == 0 and arch.skip_first_norm)
    return _traced_layer(
      own,
      compute.remat,
      kept,
      reaches[index],
      x,
      params[names[index]],
      keys[index],
      context,
    )

  # Scanned are the layers from `first` to `last`: not a first one without a norm, whose
  # parameters have a shape of their own, and not the last one where some columns are
  # read.
  last = layers - (columns is not None)
  first = min(int(arch.skip_first_norm), last)
  if not (_scans(compute) and _alike([params[name] for name in names[first:last]])):
    first = last
  states, attentions = [x], []
  for index in range(first):
    x, weights = run_layer(index, x, context)
    states.append(x)
    attentions.append(weights)
  if first < last:
    stacked = jax.tree.map(
      lambda *leaves: jnp.stack(leaves), *(params[name] for name in names[first:last])
    )
    own_keys = None if key is None else jnp.stack(keys[first:last])
    own_reach = Reach(
      *(jnp.array(part) for part in zip(*reaches[first:last], strict=True))
    )
    scanned = stacked, own_keys, own_reach

    def body(x, layer):
      layer_params, layer_key, reach = layer
      x, weights = _apply_layer(
        block, compute.remat, kept, reach, x, layer_params, layer_key, context
      )
      return x, (x if 'states' in keep else None, weights)

    x, (each, weights) = jax.lax.scan(body, x, scanned)
    states.extend([] if each is None else each)
    attentions.extend([] if weights is None else weights)
  read = None
  if columns is not None:
    read, _ = run_layer(last, x, context | dict(columns=columns), kept=False)
    x, weights = run_layer(last, x, context)
    states.append(x)
    attentions.append(weights)
  return Layered(
    x, states if 'states' in keep else None, attentions if kept else None, read
  )


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
    if not kept:
      return block.apply({'params': params}, x, context, reach, key)[0], None
    (x, _), seen = block.apply(
      {'params': params}, x, context, reach, key, mutable=[SEEN]
    )
    return x, seen[SEEN]['attention']['weights'][0]

  if remat != 'none':
    policy = (
      jax.checkpoint_policies.save_only_these_names(PRODUCT)
      if remat == 'dots'
      else None
    )
    run = jax.checkpoint(run, policy=policy)
  return run(x, params, key, context)


# Layers that are alike are traced once; the compiler sees each of them in its place.
_traced_layer = jax.jit(_apply_layer, static_argnums=(0, 1, 2, 3))


def _alike(layers: list) -> bool:
  """Can the parameters of these layers be stacked?"""
  kind = lambda layer: (
    jax.tree.structure(layer),
    [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(layer)],
  )
  return all(kind(layer) == kind(layers[0]) for layer in layers[1:])


def layer_name(arch: Arch, index: int, layers: int) -> str:
  """Whose parameters layer `index` of a stack uses: its own, or its group's."""
  return str(index * arch.layer_groups // layers if arch.layer_groups else index)


def _scans(compute: Compute) -> bool:
  return compute.layers == 'scan' or (
    compute.layers == 'auto' and jax.default_backend() != 'cpu'
  )
