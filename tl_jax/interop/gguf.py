"""GGUF files of Llama-like models: dequantised one tensor at a time, under the names of Hugging Face.

>>> open_gguf('/no/such/model.gguf')
Traceback (most recent call last):
ValueError: /no/such/model.gguf: no such file
"""

import json
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from tl_jax import tree
from tl_jax.data import tokenizers
from tl_jax.interop.tensors import Tensors

FAMILIES = {'llama': 'llama', 'qwen2': 'qwen2', 'qwen3': 'qwen3'}   # general.architecture to model_type
_MODULES = {
    'attn_q': 'self_attn.q_proj', 'attn_k': 'self_attn.k_proj', 'attn_v': 'self_attn.v_proj',
    'attn_output': 'self_attn.o_proj', 'attn_q_norm': 'self_attn.q_norm', 'attn_k_norm': 'self_attn.k_norm',
    'attn_norm': 'input_layernorm', 'ffn_gate': 'mlp.gate_proj', 'ffn_up': 'mlp.up_proj', 'ffn_down': 'mlp.down_proj',
    'ffn_norm': 'post_attention_layernorm'}
_WHOLE = {'token_embd.weight': 'model.embed_tokens.weight', 'output_norm.weight': 'model.norm.weight',
          'output.weight': 'lm_head.weight'}
# How the byte-pair vocabularies that are around cut a text before merging, by tokenizer.ggml.pre.
_LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
           r"|\s+(?!\S)|\s+")
_SPLITS = {'llama-bpe': _LLAMA3, 'llama3': _LLAMA3, 'qwen2': _LLAMA3.replace('{1,3}', '')}


class Gguf(NamedTuple):
  """A file as `load` wants it: config.json, tensors by their Hugging Face names, tokenizer or None."""
  config: dict
  tensors: Tensors
  tokenizer: Any


def open_gguf(path) -> Gguf:
  """Reads a file with the library `gguf` (extra `gguf`). Raises ValueError that names the file and what is wrong."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f'{path}: no such file')
  try:
    from gguf import GGUFReader
  except ImportError as error:
    raise ValueError(f"{path}: GGUF files need the library gguf: pip install 'tl-jax[gguf]'") from error
  with open(path, 'rb') as file:
    if file.read(4) != b'GGUF':
      raise ValueError(f'{path}: not a GGUF file')
  try:
    reader = GGUFReader(path)
    fields = {name: field for name, field in reader.fields.items()}
    value = lambda name, default=None: fields[name].contents() if name in fields else default
    config = _config(value)
    found = {_their_name(tensor.name): tensor for tensor in reader.tensors if not tensor.name.startswith('rope_')}
  except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
    raise ValueError(f'{path}: {" ".join(str(error).split())[:300]}') from error
  return Gguf(config, _tensors(path, config, found), _tokenizer(path, value))


def _config(value) -> dict:
  architecture = value('general.architecture')
  if architecture not in FAMILIES:
    raise ValueError(f'general.architecture {architecture!r} is not supported; nearest: '
                     f'{tree.nearest(str(architecture), FAMILIES)}')
  read = lambda key, default=None: value(f'{architecture}.{key}', default)
  if read('rope.scaling.type', 'none') != 'none':
    raise ValueError(f'rope.scaling.type {read("rope.scaling.type")!r} is not supported')
  heads = read('attention.head_count')
  return dict(
      model_type=FAMILIES[architecture], architectures=[{'llama': 'Llama'}.get(architecture, architecture.title())
                                                        + 'ForCausalLM'],
      vocab_size=read('vocab_size') or len(value('tokenizer.ggml.tokens', [])), hidden_size=read('embedding_length'),
      num_hidden_layers=read('block_count'), num_attention_heads=heads,
      num_key_value_heads=read('attention.head_count_kv', heads), intermediate_size=read('feed_forward_length'),
      head_dim=read('attention.key_length') or read('embedding_length') // heads, hidden_act='silu',
      rms_norm_eps=read('attention.layer_norm_rms_epsilon', 1e-5), rope_theta=read('rope.freq_base', 10000.0),
      max_position_embeddings=read('context_length'), bos_token_id=value('tokenizer.ggml.bos_token_id'),
      eos_token_id=value('tokenizer.ggml.eos_token_id'), pad_token_id=value('tokenizer.ggml.padding_token_id'))


def _their_name(name: str) -> str:
  found = re.fullmatch(r'blk\.(\d+)\.([a-z_]+)\.(weight|bias)', name)
  if name in _WHOLE:
    return _WHOLE[name]
  if not found or found[2] not in _MODULES:
    raise ValueError(f'tensor {name[:100]!r} is not one of a Llama-like model; nearest: '
                     f'{tree.nearest(name, [*_WHOLE, *_MODULES])}')
  return f'model.layers.{found[1]}.{_MODULES[found[2]]}.{found[3]}'


def _tensors(path: pathlib.Path, config: dict, found: dict) -> Tensors:
  """Tensors that dequantise to float32 when they are read; a rotated map is put back into halves."""
  from gguf.quants import dequantize
  shape = lambda name: tuple(int(size) for size in found[name].shape[::-1])

  def read(name: str) -> np.ndarray:
    tensor = found[name]
    try:
      array = dequantize(tensor.data, tensor.tensor_type).reshape(shape(name)).astype(np.float32, copy=False)
    except (NotImplementedError, ValueError) as error:
      raise ValueError(f'{path}: tensor {name!r} of type {tensor.tensor_type.name}: {error}') from error
    if config['model_type'] == 'llama' and re.search(r'\.(q|k)_proj\.', name):
      # The format keeps pairs (2i, 2i + 1) side by side; halves are (i, i + half).
      heads = config['num_attention_heads' if '.q_proj.' in name else 'num_key_value_heads']
      array = array.reshape(heads, -1, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
    return array

  return Tensors(tuple(sorted(found)), shape, lambda name: np.dtype(np.float32), read, {})


def _tokenizer(path: pathlib.Path, value):
  """The byte-pair or sentencepiece tokenizer that the file carries; None for another kind."""
  if value('tokenizer.ggml.model') == 'llama':
    return _sentencepiece(path, value)
  if value('tokenizer.ggml.model') != 'gpt2':
    return None
  from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
  pieces, kinds = value('tokenizer.ggml.tokens'), value('tokenizer.ggml.token_type', [])
  merges = [tuple(merge.split(' ', 1)) for merge in value('tokenizer.ggml.merges')]
  backend = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
  kind, level = value('tokenizer.ggml.pre', 'default'), pre_tokenizers.ByteLevel(add_prefix_space=False)
  if kind in ('smollm', 'codeshell', 'exaone', 'starcoder'):
    level = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level])
  elif kind in _SPLITS:
    level = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_SPLITS[kind]), 'isolated'),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
  backend.pre_tokenizer, backend.decoder = level, decoders.ByteLevel()
  special = [AddedToken(piece, special=True, normalized=False) for piece, what in zip(pieces, kinds, strict=False)
             if what == 3]
  backend.add_special_tokens(special)
  return tokenizers.wrap(Tokenizer.from_str(json.dumps(json.loads(backend.to_str()))))


def _sentencepiece(path: pathlib.Path, value):
  """A vocabulary with scores, as Llama 2 and Mistral have it; the roles are those that the file numbers."""
  from tl_jax.interop import sentencepiece, tokenizer_settings
  from tl_jax.interop.tokenizers import load_pieces
  names = tuple(value('tokenizer.ggml.tokens'))
  types = tuple(map(int, value('tokenizer.ggml.token_type', [sentencepiece.NORMAL] * len(names))))
  unknown = value('tokenizer.ggml.unknown_token_id')
  unknown = types.index(sentencepiece.UNKNOWN) if unknown is None and sentencepiece.UNKNOWN in types else unknown or 0
  pieces = sentencepiece.Pieces(
      'bpe', names, tuple(map(float, value('tokenizer.ggml.scores'))), types, unknown, sentencepiece.BYTE in types, b'',
      bool(value('tokenizer.ggml.add_space_prefix', True)), squeeze=False)
  roles = {role: names[number] for role, key in (('bos', 'bos'), ('eos', 'eos'), ('unk', 'unknown'), ('pad', 'padding'))
           if (number := value(f'tokenizer.ggml.{key}_token_id')) is not None and 0 <= number < len(names)}
  settings = {f'add_{role}_token': bool(value(f'tokenizer.ggml.add_{role}_token', role == 'bos'))
              for role in ('bos', 'eos')}
  said = tokenizer_settings.Said('LlamaTokenizer', 'llama', settings, roles, [], None,
                                 value('tokenizer.chat_template'))
  return load_pieces(path, pieces, said)
