"""The tensors of each method of peft, and the structured leaves that they are here.

>>> decoder_rows(3), decoder_rows(4)
([0, 2, 1], [0, 2, 0, 2])
"""

import collections
import re

import jax.numpy as jnp
import numpy as np

from tl_jax import leaves, tree
from tl_jax.interop import names, peft_config
from tl_jax.leaves.matrices import column_norms

PROMPTED = ('PREFIX_TUNING', 'PROMPT_TUNING')
PROMPT_TENSOR = 'prompt_embeddings'
EMBEDDING = r'(.*/)?embedding/(tokens|positions|types)'
LORA_PART = r'(?P<module>.+)\.(?P<part>lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector)(\.weight)?'
MODEL = 'base_model.model.'


def groups_of(where: dict) -> dict[str, list[str]]:
  """Our matrices by the module of theirs that holds them, in the order of its parts."""
  found = collections.defaultdict(list)
  for name, place in where.items():
    if place.name.endswith('.weight'):
      found[place.name.removesuffix('.weight')].append(name)
  return {
    module: sorted(group, key=lambda name: where[name].part)
    for module, group in found.items()
  }


def write_lora(
  arch, family: str, flat: dict, where: dict, stabilized: bool
) -> tuple[dict, dict]:
  """(config, tensors) of LowRank or Directed leaves."""
  edited = {
    name: leaf
    for name, leaf in flat.items()
    if isinstance(leaf, (leaves.LowRank, leaves.Directed))
  }
  if len({type(leaf) for leaf in edited.values()}) > 1:
    raise ValueError(
      'an adapter of peft is all LoRA or all DoRA, these parameters hold both'
    )
  dora = isinstance(next(iter(edited.values())), leaves.Directed)
  groups, found, ranks, scales = groups_of(where), {}, {}, {}
  for module, group in groups.items():
    if not edited.keys() & set(group):
      continue
    table = re.fullmatch(EMBEDDING, group[0])
    require_untied(arch, group[0])
    a, b, scales[module] = join([flat[name] for name in group])
    ranks[module] = a.shape[1]
    kinds = (
      ('lora_embedding_A', 'lora_embedding_B')
      if table
      else ('lora_A.weight', 'lora_B.weight')
    )
    found |= {f'{MODEL}{module}.{kinds[0]}': a.T, f'{MODEL}{module}.{kinds[1]}': b.T}
    if dora:
      found[f'{MODEL}{module}.lora_magnitude_vector'] = np.concatenate(
        [
          np.asarray(
            flat[name].magnitude if name in edited else column_norms(flat[name]),
            a.dtype,
          )
          for name in group
        ]
      )
  rates = {leaf.rate for leaf in edited.values()}
  said = peft_config.lora_numbers(ranks, scales, stabilized) | dict(
    lora_dropout=max(rates),
    use_rslora=stabilized,
    use_dora=dora,
    bias='none',
    init_lora_weights=True,
    fan_in_fan_out=not names.NAMES[family].turned,
    target_modules=peft_config.short_names(
      ranks, {place.name.rpartition('.')[0] for place in where.values()}
    ),
  )
  return said, {name: np.ascontiguousarray(array) for name, array in found.items()}


def require_untied(arch, name: str) -> None:
  """Raises ValueError for an edited table that is the output layer too."""
  if name == 'embedding/tokens' and arch.tied and arch.head in ('masked', 'causal'):
    raise ValueError(
      f'{name}: peft edits the embedding but not the output that is tied to it, ours edits both'
    )


def join(parts: list) -> tuple[np.ndarray, np.ndarray, float]:
  """(a, b, scale) of one matrix from the leaves of its equal parts, of which some may
  be edited.

  a side by side and b by blocks: the rank is the sum of those of the parts, unless all
  have the same a.
  """
  edited = [
    leaf for leaf in parts if isinstance(leaf, (leaves.LowRank, leaves.Directed))
  ]
  scale = edited[0].scale
  arrays = {id(leaf): (np.asarray(leaf.a), np.asarray(leaf.b)) for leaf in edited}
  first = arrays[id(edited[0])][0]
  shared = all(np.array_equal(arrays[id(leaf)][0], first) for leaf in edited)
  rows = (
    first.shape[1] if shared else sum(arrays[id(leaf)][0].shape[1] for leaf in edited)
  )
  blocks, at = [], 0
  for leaf in parts:
    block = np.zeros((rows, leaf.shape[-1]), first.dtype)
    if id(leaf) in arrays:
      b = arrays[id(leaf)][1]
      block[at : at + len(b)] = b if leaf.scale == scale else b * (leaf.scale / scale)
      at += 0 if shared else len(b)
    blocks.append(block)
  a = first if shared else np.concatenate([arrays[id(leaf)][0] for leaf in edited], 1)
  return a, np.concatenate(blocks, 1), scale


def read_lora(adapter, arch, params: dict, where: dict, found: dict) -> dict:
  """The leaves of the tensors `found`, which lose them. Raises ValueError for another
  rank than the config says.
  """
  groups, parts, new = groups_of(where), collections.defaultdict(dict), {}
  for name in list(found):
    match = re.fullmatch(LORA_PART, name)
    if match and match['module'] in groups:
      parts[match['module']][match['part']] = found.pop(name)()
  if not parts and not found:
    raise ValueError('holds no tensor lora_A of any module')
  for module, held in parts.items():
    kinds = (
      ('lora_embedding_A', 'lora_embedding_B')
      if 'lora_embedding_A' in held
      else ('lora_A', 'lora_B')
    )
    if missing := set(kinds) - set(held):
      raise ValueError(
        f'tensor {module}.{min(missing)} is missing, the other half is there'
      )
    a, b = (held[kind].T for kind in kinds)
    rank, group = adapter.rank(module), groups[module]
    size_in, sizes = (
      params[group[0]].shape[0],
      [params[name].shape[-1] for name in group],
    )
    if (a.shape[-1], b.shape[0]) != (rank, rank):
      raise ValueError(
        f'{module}: lora_A and lora_B are of rank {a.shape[-1]} and {b.shape[0]}, '
        f'{peft_config.CONFIG} says {rank}'
      )
    if (a.shape[0], b.shape[-1]) != (size_in, sum(sizes)):
      raise ValueError(
        f'{module}: made for a matrix of {a.shape[0], b.shape[-1]}, the base has {size_in, sum(sizes)}'
      )
    require_untied(arch, group[0])
    scale, rate = adapter.scale(module), float(adapter.said.get('lora_dropout') or 0.0)
    magnitude = held.get('lora_magnitude_vector')
    if (magnitude is None) == bool(adapter.said.get('use_dora')):
      raise ValueError(
        f'{module}: use_dora is {adapter.said.get("use_dora")}, but lora_magnitude_vector is '
        f'{"missing" if magnitude is None else "there"}'
      )
    for name, columns in zip(group, spans(sizes), strict=True):
      pair = (params[name], jnp.array(a), jnp.array(b[:, columns]))
      new[name] = (
        leaves.LowRank(*pair, scale, rate)
        if magnitude is None
        else leaves.Directed(
          *pair, jnp.array(magnitude.reshape(-1)[columns]), scale, rate
        )
      )
  return new


def spans(sizes: list[int]) -> list[slice]:
  """Where parts of these sizes lie side by side."""
  ends = np.cumsum(sizes)
  return [
    slice(int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True)
  ]


def write_ia3(
  arch, family: str, flat: dict, where: dict, stabilized: bool
) -> tuple[dict, dict]:
  """(config, tensors) of Scaled leaves."""
  found, sides = {}, {}
  for module, group in groups_of(where).items():
    scaled = [flat[name] for name in group if isinstance(flat[name], leaves.Scaled)]
    if not scaled:
      continue
    side = sides[module] = scaled[0].side
    if side == 'in' and len(group) > 1:
      raise ValueError(
        f'{group[0]}: peft scales the inputs of {module} whole, and it is {len(group)} matrices here'
      )
    vectors = [
      np.asarray(flat[name].scale)
      if isinstance(flat[name], leaves.Scaled)
      else np.ones(flat[name].shape[-1], np.float32)
      for name in group
    ]
    vector = np.concatenate(vectors)
    found[f'{MODEL}{module}.ia3_l'] = vector[None] if side == 'in' else vector[:, None]
  modules = {place.name.rpartition('.')[0] for place in where.values()}
  inner = peft_config.short_names(
    {module for module, side in sides.items() if side == 'in'}, modules
  )
  outer = peft_config.short_names(
    {module for module, side in sides.items() if side == 'out'}, modules
  )
  return dict(
    target_modules=sorted(inner + outer),
    feedforward_modules=inner,
    init_ia3_weights=True,
    fan_in_fan_out=not names.NAMES[family].turned,
  ), found


def read_ia3(adapter, arch, params: dict, where: dict, found: dict) -> dict:
  """The Scaled leaves of the tensors `found`, which lose them; a scaled output takes
  the bias beside it along.
  """
  groups, new = groups_of(where), {}
  for tensor in list(found):
    module, _, part = tensor.rpartition('.')
    if part != 'ia3_l' or module not in groups:
      continue
    vector, group = found.pop(tensor)(), groups[module]
    sizes = [params[name].shape[-1] for name in group]
    side = 'in' if vector.shape[0] == 1 else 'out'
    if vector.size != (params[group[0]].shape[0] if side == 'in' else sum(sizes)):
      raise ValueError(
        f'{tensor}: has shape {vector.shape}, the base a matrix of '
        f'{params[group[0]].shape[0], sum(sizes)}'
      )
    for name, columns in zip(group, spans(sizes), strict=True):
      scale = jnp.array(
        vector.reshape(-1) if side == 'in' else vector.reshape(-1)[columns]
      )
      new[name] = leaves.Scaled(params[name], scale, side)
      bias = f'{name.removesuffix("kernel")}bias'
      if side == 'out' and bias in params:
        new[bias] = leaves.Scaled(params[bias], scale)
  if not new and not found:
    raise ValueError('holds no tensor ia3_l of any module')
  return new


def stack_of(arch) -> tuple[str, int]:
  """The stack whose layers peft gives a prefix, and their number."""
  if arch.layer_groups:
    raise ValueError(
      'layer_groups: layers share their parameters, and peft gives each a prefix of its own'
    )
  return (
    ('decoder/', arch.decoder_layers or arch.layers)
    if arch.kind == 'encoder-decoder'
    else ('', arch.layers)
  )


def decoder_rows(layers: int) -> list[int]:
  """Which of peft's rows each decoder layer reads: it doubles the list and deals it out
  by two to a layer.
  """
  return [2 * layer % layers for layer in range(layers)]


def write_prefix(
  arch, family: str, flat: dict, where: dict, stabilized: bool
) -> tuple[dict, dict]:
  """(config, tensors) of Prefix leaves: (n, layers * 2 * width), the keys and the
  values of each layer in turn.
  """
  found = {name: leaf for name, leaf in flat.items() if isinstance(leaf, leaves.Prefix)}
  stack, layers = stack_of(arch)
  wanted = [f'{stack}layers/{layer}/attention/prefix' for layer in range(layers)]
  for name in sorted(found.keys() ^ set(wanted)):
    raise ValueError(
      f'{name}: peft gives prefixes to {"the decoder" if stack else "every layer"} only, and to all '
      f'layers of it; {"this is another" if name in found else "this one has none"}'
    )
  whole = [
    np.concatenate([np.asarray(leaf.keys), np.asarray(leaf.values)], -1)
    for leaf in map(found.get, wanted)
  ]
  rows = decoder_rows(layers) if stack else list(range(layers))
  table = [np.zeros_like(whole[0])] * layers
  for layer, row in enumerate(rows):
    if row in rows[:layer] and not np.array_equal(table[row], whole[layer]):
      raise ValueError(
        f'{wanted[layer]}: peft gives it the prefix of layer {rows.index(row)}, as it does in decoders '
        f'with an even number of layers; it differs'
      )
    table[row] = whole[layer]
  width, length = arch.decoder.key_heads * arch.decoder.head_width, len(whole[0])
  said = dict(
    num_virtual_tokens=length,
    token_dim=width,
    num_attention_heads=arch.decoder.key_heads,
    num_layers=layers,
    num_transformer_submodules=2 if stack else 1,
    encoder_hidden_size=width,
    prefix_projection=False,
  )
  return said, {PROMPT_TENSOR: np.concatenate(table, -1)}


def read_prefix(adapter, arch, params: dict, where: dict, found: dict) -> dict:
  """The Prefix leaves of `prompt_embeddings`."""
  stack, layers = stack_of(arch)
  width = arch.decoder.key_heads * arch.decoder.head_width
  table = take_table(adapter, found, 2 * layers * width, 1)
  rows = decoder_rows(layers) if stack else range(layers)
  parts = table.reshape(len(table), layers, 2, width)
  return {
    f'{stack}layers/{layer}/attention/prefix': leaves.Prefix(
      jnp.array(parts[:, row, 0]), jnp.array(parts[:, row, 1])
    )
    for layer, row in enumerate(rows)
  }


def take_table(adapter, found: dict, width: int, submodules: int) -> np.ndarray:
  """`prompt_embeddings` (n, width); for an encoder-decoder, peft may hold a second n
  rows that nothing reads.
  """
  if PROMPT_TENSOR not in found:
    raise ValueError(
      f'tensor {PROMPT_TENSOR!r} is missing; nearest: {tree.nearest(PROMPT_TENSOR, found)}'
    )
  table, length = found.pop(PROMPT_TENSOR)(), adapter.said.get('num_virtual_tokens')
  if (
    table.ndim != 2
    or table.shape[1] != width
    or table.shape[0] not in {length, length and length * submodules}
  ):
    raise ValueError(
      f'tensor {PROMPT_TENSOR!r} has shape {table.shape}, for this base and num_virtual_tokens = '
      f'{length} it must be {length, width}'
    )
  return table[:length]


def write_prompt(
  arch, family: str, flat: dict, where: dict, stabilized: bool
) -> tuple[dict, dict]:
  """(config, tensors) of a prompt (n, width)."""
  prompt = np.asarray(flat['embedding/prompt'])
  width = prompt.shape[1]
  return dict(
    num_virtual_tokens=len(prompt),
    token_dim=width,
    num_attention_heads=arch.heads,
    num_layers=arch.layers,
    num_transformer_submodules=1,
    prompt_tuning_init='RANDOM',
  ), {PROMPT_TENSOR: prompt}


def read_prompt(adapter, arch, params: dict, where: dict, found: dict) -> dict:
  """The prompt of `prompt_embeddings`."""
  width = params['embedding/tokens'].shape[1]
  return {
    'embedding/prompt': jnp.array(
      take_table(adapter, found, width, 2 if arch.kind != 'decoder' else 1)
    )
  }


WRITE = {
  'LORA': write_lora,
  'IA3': write_ia3,
  'PREFIX_TUNING': write_prefix,
  'PROMPT_TUNING': write_prompt,
}
READ = {
  'LORA': read_lora,
  'IA3': read_ia3,
  'PREFIX_TUNING': read_prefix,
  'PROMPT_TUNING': read_prompt,
}
