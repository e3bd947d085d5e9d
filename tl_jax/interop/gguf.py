"""GGUF files of Llama-like models: their tensors under the names of Hugging Face.

A tensor is dequantised when it is read.

>>> open_gguf('/no/such/model.gguf')
Traceback (most recent call last):
ValueError: /no/such/model.gguf: no such file
"""

import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from tl_jax import tree
from tl_jax.config.disguises import START_BYTES, looks_like
from tl_jax.config.near import beside
from tl_jax.interop import gguf_config
from tl_jax.interop.tensors import Tensors

FACTORS = 'rope_freqs.weight'
# The modules of a layer, `blk.0.attn_q` and so on, by their Hugging Face names.
_MODULES = {
  'attn_q': 'self_attn.q_proj',
  'attn_k': 'self_attn.k_proj',
  'attn_v': 'self_attn.v_proj',
  'attn_output': 'self_attn.o_proj',
  'attn_q_norm': 'self_attn.q_norm',
  'attn_k_norm': 'self_attn.k_norm',
  'attn_norm': 'input_layernorm',
  'ffn_gate': 'mlp.gate_proj',
  'ffn_up': 'mlp.up_proj',
  'ffn_down': 'mlp.down_proj',
  'ffn_norm': 'post_attention_layernorm',
}
# Norms behind attention and behind the feed-forward map.
_OUTPUT_NORMS = {
  'post_attention_norm': 'post_attention_layernorm',
  'post_ffw_norm': 'post_feedforward_layernorm',
}
_GEMMA_MODULES = _MODULES | _OUTPUT_NORMS | {'ffn_norm': 'pre_feedforward_layernorm'}
# Where an architecture has other modules: norms of what a half of a layer makes, or
# maps that are held as one.
_MODULES_OF = {
  'gemma2': _GEMMA_MODULES,
  'gemma3': _GEMMA_MODULES,
  'olmo2': _MODULES | _OUTPUT_NORMS,
  'phi3': _MODULES | {'attn_qkv': 'self_attn.qkv_proj', 'ffn_up': 'mlp.gate_up_proj'},
}
# Tensors that are of no layer, by their whole names.
_WHOLE = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
}


# What reading a damaged file raises: its numbers are sizes and places of other ones.
_DAMAGED = (
  ValueError,
  KeyError,
  IndexError,
  TypeError,
  OverflowError,
  ZeroDivisionError,
)


class Gguf(NamedTuple):
  """A file as `load` wants it.

  config: as config.json has it. tensors: by their Hugging Face names.
  tokenizer: the file's, or None. generation: as generation_config.json has it, or None.
  """

  config: dict
  tensors: Tensors
  tokenizer: Any
  generation: dict | None


def open_gguf(path) -> Gguf:
  """Reads a file with the library `gguf` (extra `gguf`).

  All that its metadata and tensors say about the numbers is followed, or refused by
  name: ValueError that names the file and what is wrong.
  """
  from tl_jax.interop import gguf_tokenizer

  path = pathlib.Path(path)
  reader = _reader(path)
  try:
    metadata = {}
    for key, field in reader.fields.items():
      metadata[key] = field.contents()
    held = {tensor.name: tensor for tensor in reader.tensors}
    # No tensor of the model: it says how the frequencies of positions are scaled.
    factors = held.pop(FACTORS, None)
    if factors is not None:
      factors = _values(factors)
    shapes = {name: _shape(tensor) for name, tensor in held.items()}
    config = gguf_config.read(metadata, shapes, factors)
    name = metadata['general.architecture']
    modules = _MODULES_OF.get(name, _MODULES)
    found = {}
    for own_name, tensor in held.items():
      found[_their_name(own_name, modules)] = tensor
    tokenizer = gguf_tokenizer.read(path, metadata)
  except _DAMAGED as error:
    raise ValueError(_named(path, error)) from error
  tensors = _tensors(path, config, found, gguf_config.ARCHITECTURES[name])
  return Gguf(config, tensors, tokenizer, gguf_config.generation(metadata))


def _reader(path: pathlib.Path):
  """The library's reader of a file. Raises ValueError if the file is no GGUF file."""
  if not path.is_file():
    raise ValueError(f'{path}: no such file{beside(path)}')
  try:
    from gguf import GGUFReader
  except ImportError as error:
    raise ValueError(
      f"{path}: GGUF files need the library gguf: pip install 'tl-jax[gguf]'"
    ) from error
  # Else the library's message would be about a magic number.
  with open(path, 'rb') as file:
    start = file.read(START_BYTES)
  if not start.startswith(b'GGUF'):
    found = looks_like(start)
    instead = f', but {found}' if found else ''
    raise ValueError(f'{path}: not a GGUF file{instead}')
  try:
    return GGUFReader(path)
  except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
    raise ValueError(_named(path, error)) from error


def _named(path: pathlib.Path, error: Exception) -> str:
  """An error in one line that begins with the file."""
  text = ' '.join(str(error).split())[:400]
  return text if text.startswith(str(path)) else f'{path}: {text}'


def _their_name(name: str, modules: dict[str, str]) -> str:
  """The Hugging Face name of a tensor. Raises ValueError for one that is not known."""
  found = re.fullmatch(r'blk\.(\d+)\.([a-z_]+)\.(weight|bias)', name)
  if name in _WHOLE:
    return _WHOLE[name]
  if not found or found[2] not in modules:
    raise ValueError(
      f'tensor {name[:100]!r} is not one of a Llama-like model; nearest: '
      f'{tree.nearest(name, [*_WHOLE, *modules])}'
    )
  layer, module, kind = found.groups()
  return f'model.layers.{layer}.{modules[module]}.{kind}'


def _shape(tensor) -> tuple[int, ...]:
  """The shape of an array; the format has the fastest axis first."""
  outermost_first = tensor.shape[::-1]
  return tuple(int(size) for size in outermost_first)


def _values(tensor) -> np.ndarray:
  """The float32 values of a tensor. Raises ValueError that names it and its type."""
  from gguf.quants import dequantize

  try:
    found = dequantize(tensor.data, tensor.tensor_type)
    return found.reshape(_shape(tensor)).astype(np.float32, copy=False)
  # Types that the library can name, but not read, are not implemented there.
  except (NotImplementedError, ValueError) as error:
    raise ValueError(
      f'tensor {tensor.name!r} of type {tensor.tensor_type.name}: {error}'
    ) from error


def _tensors(
  path: pathlib.Path,
  config: dict,
  found: dict,
  architecture: gguf_config.Architecture,
) -> Tensors:
  """Tensors that dequantise to float32 when they are read, as Hugging Face has them.

  The query and key maps of a rotated architecture are put back into halves. A norm that
  is stored plus one loses its one.
  """

  def read(name: str) -> np.ndarray:
    try:
      array = _values(found[name])
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from error
    # Our norms of a Gemma add the one themselves, as those of Hugging Face do.
    if architecture.added_one and name.endswith('norm.weight'):
      return array - 1
    if architecture.rotated and '.q_proj.' in name:
      return _into_halves(array, config['num_attention_heads'])
    if architecture.rotated and '.k_proj.' in name:
      return _into_halves(array, config['num_key_value_heads'])
    return array

  shape = lambda name: _shape(found[name])
  dtype = lambda name: np.dtype(np.float32)
  return Tensors(tuple(sorted(found)), shape, dtype, read, {})


def _into_halves(array: np.ndarray, heads: int) -> np.ndarray:
  """A map (heads * width, ...) with the rows of each head in the order of Hugging Face.

  The format keeps the two rows that are rotated together side by side, at 2i and
  2i + 1; Hugging Face has them half a head apart.
  """
  pairs = array.reshape(heads, -1, 2, *array.shape[1:])
  return pairs.swapaxes(1, 2).reshape(array.shape)
