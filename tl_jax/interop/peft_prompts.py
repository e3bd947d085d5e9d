"""Prefixes and prompts in the tensors of peft: one table for the whole model.

>>> decoder_rows(3), decoder_rows(4)
([0, 2, 1], [0, 2, 0, 2])
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from tl_jax import leaves, tree

PROMPT = 'embedding/prompt'
TENSOR = 'prompt_embeddings'


def stack_of(arch) -> tuple[str, int]:
  """(the stack whose layers peft gives a prefix, the number of its layers).

  Raises ValueError for a model whose layers share their parameters.
  """
  if arch.layer_groups:
    raise ValueError(
      'layer_groups: layers share their parameters, and peft gives each a prefix of '
      'its own'
    )
  if arch.kind == 'encoder-decoder':
    return 'decoder/', arch.decoder_layers or arch.layers
  return '', arch.layers


def decoder_rows(layers: int) -> list[int]:
  """Which of peft's rows each layer of the decoder of an encoder-decoder reads.

  peft doubles the list of its rows, as if for self-attention and cross-attention, and
  deals the result out by two to a layer. Of the two, the first is read.
  """
  return [2 * layer % layers for layer in range(layers)]


def rows_of(stack: str, layers: int) -> Sequence[int]:
  """The row of peft's table that each layer of a stack reads."""
  return decoder_rows(layers) if stack else range(layers)


def slot_of(stack: str, layer: int) -> str:
  """The name of the prefix of a layer."""
  return f'{stack}layers/{layer}/attention/prefix'


def write_prefix(
  arch, family: str, flat: dict, where: dict, stabilized: bool
) -> tuple[dict, dict]:
  """(config, tensors) of Prefix leaves.

  The one tensor (n, layers * 2 * width) holds the keys and the values of each layer in
  turn. Raises ValueError where a layer has no prefix, where another part of the model
  has one, and where two layers that share a row of peft differ.
  """
  found = {}
  for name, leaf in flat.items():
    if isinstance(leaf, leaves.Prefix):
      found[name] = leaf
  stack, layers = stack_of(arch)
  wanted = [slot_of(stack, layer) for layer in range(layers)]
  for name in sorted(found.keys() ^ set(wanted)):
    where_only = 'the decoder' if stack else 'every layer'
    fault = 'this is another' if name in found else 'this one has none'
    raise ValueError(
      f'{name}: peft gives prefixes to {where_only} only, and to all layers of it; '
      f'{fault}'
    )
  whole = []
  for name in wanted:
    keys = np.asarray(found[name].keys)
    values = np.asarray(found[name].values)
    whole.append(np.concatenate([keys, values], -1))
  rows = rows_of(stack, layers)
  table = fill_rows(rows, whole, wanted)
  width = arch.decoder.key_heads * arch.decoder.head_width
  declared = dict(
    num_virtual_tokens=len(whole[0]),
    # Where d_kv * heads is not d_model, peft finds wrong sizes unless it is told.
    token_dim=width,
    num_attention_heads=arch.decoder.key_heads,
    num_layers=layers,
    # Of an encoder-decoder peft counts both stacks, though one of them has prefixes.
    num_transformer_submodules=2 if stack else 1,
    encoder_hidden_size=width,
    # The file holds the prefix itself, not the network that made it in training.
    prefix_projection=False,
  )
  return declared, {TENSOR: np.concatenate(table, -1)}


def fill_rows(rows: Sequence[int], whole: list, wanted: list[str]) -> list[np.ndarray]:
  """The rows of peft's table from the prefixes (n, 2 * width) of the layers.

  A row that no layer reads is zeros. Raises ValueError that names the layer, for two
  that read one row and differ.
  """
  table = [np.zeros_like(whole[0])] * len(whole)
  for layer, row in enumerate(rows):
    is_taken = row in rows[:layer]
    if is_taken and not np.array_equal(table[row], whole[layer]):
      raise ValueError(
        f'{wanted[layer]}: peft gives it the prefix of layer {rows.index(row)}, as it '
        'does in decoders with an even number of layers; it differs'
      )
    table[row] = whole[layer]
  return table


def read_prefix(adapter, arch, params: dict, where: dict, found: dict) -> dict:
  """The Prefix leaves, by name, of the tensors `found`, which lose their table."""
  stack, layers = stack_of(arch)
  width = arch.decoder.key_heads * arch.decoder.head_width
  table = take_table(adapter, found, 2 * layers * width, 1)
  # The axes: position, row, keys or values, width of all heads together.
  parts = table.reshape(len(table), layers, 2, width)
  new = {}
  for layer, row in enumerate(rows_of(stack, layers)):
    keys = jnp.array(parts[:, row, 0])
    values = jnp.array(parts[:, row, 1])
    new[slot_of(stack, layer)] = leaves.Prefix(keys, values)
  return new


def take_table(adapter, found: dict, width: int, submodules: int) -> np.ndarray:
  """The table `prompt_embeddings` (n, width), which `found` loses.

  submodules: 2 where peft may hold n more rows, for the decoder of an encoder-decoder;
  nothing reads these. Raises ValueError for a table of another shape.
  """
  if TENSOR not in found:
    near = tree.nearest(TENSOR, found)
    raise ValueError(f'tensor {TENSOR!r} is missing; nearest: {near}')
  table = found.pop(TENSOR)()
  length = adapter.declared.get('num_virtual_tokens')
  # A config without the key fits no table.
  lengths = (length, length * submodules) if length else ()
  shapes = [(rows, width) for rows in lengths]
  if table.shape not in shapes:
    raise ValueError(
      f'tensor {TENSOR!r} has shape {table.shape}, for this base and '
      f'num_virtual_tokens = {length} it must be {length, width}'
    )
  return table[:length]


def write_prompt(
  arch, family: str, flat: dict, where: dict, stabilized: bool
) -> tuple[dict, dict]:
  """(config, tensors) of a prompt (n, width)."""
  prompt = np.asarray(flat[PROMPT])
  length, width = prompt.shape
  declared = dict(
    num_virtual_tokens=length,
    token_dim=width,
    num_attention_heads=arch.heads,
    num_layers=arch.layers,
    # A prompt stands before one text, that of the encoder where there are two.
    num_transformer_submodules=1,
    # The file holds the numbers; this start needs no tokenizer.
    prompt_tuning_init='RANDOM',
  )
  return declared, {TENSOR: prompt}


def read_prompt(adapter, arch, params: dict, where: dict, found: dict) -> dict:
  """The prompt (n, width), by name, of the tensors `found`, which lose it."""
  width = params['embedding/tokens'].shape[1]
  submodules = 1 if arch.kind == 'decoder' else 2
  return {PROMPT: jnp.array(take_table(adapter, found, width, submodules))}
