"""What the metadata of a GGUF file says of its model, as config.json says it.

>>> metadata = {'general.architecture': 'bert'}
>>> read(metadata, {}, None)  # doctest: +ELLIPSIS
Traceback (most recent call last):
ValueError: general.architecture 'bert' is not supported; 'llama', 'qwen2', 'qwen3', ...
"""

from typing import Any, NamedTuple

import numpy as np

from tl_jax import tree
from tl_jax.interop import rotary
from tl_jax.interop.sentencepiece import CONTROL


class Architecture(NamedTuple):
  """What a `general.architecture` is in the words of Hugging Face.

  model_type and cls: of its config.json.
  keys: metadata that is followed besides `FOLLOWED`.
  added_one: does the file store the scales of norms plus one?
  rotated: do the rows of the query and key maps alternate between the two halves of a
  head, as llama.cpp rotates neighbours?
  """

  model_type: str
  cls: str
  keys: tuple[str, ...] = ()
  added_one: bool = False
  rotated: bool = False


_WINDOW_KEYS = ('attention.sliding_window',)
_GRANITE_KEYS = ('attention.scale', 'embedding_scale', 'residual_scale', 'logit_scale')
_GEMMA_KEYS = (
  'attention.sliding_window',
  'attention.sliding_window_pattern',
  'attention.scale',
  'attn_logit_softcapping',
  'final_logit_softcapping',
)
_GEMMA3_KEYS = (*_GEMMA_KEYS, 'rope.freq_base_swa')
ARCHITECTURES = {
  'llama': Architecture('llama', 'LlamaForCausalLM', _WINDOW_KEYS, rotated=True),
  'qwen2': Architecture('qwen2', 'Qwen2ForCausalLM'),
  'qwen3': Architecture('qwen3', 'Qwen3ForCausalLM'),
  'granite': Architecture('granite', 'GraniteForCausalLM', _GRANITE_KEYS, rotated=True),
  'olmo2': Architecture('olmo2', 'Olmo2ForCausalLM'),
  'smollm3': Architecture('smollm3', 'SmolLM3ForCausalLM', rotated=True),
  'phi3': Architecture('phi3', 'Phi3ForCausalLM', _WINDOW_KEYS),
  'gemma': Architecture('gemma', 'GemmaForCausalLM', added_one=True),
  'gemma2': Architecture('gemma2', 'Gemma2ForCausalLM', _GEMMA_KEYS, added_one=True),
  'gemma3': Architecture(
    'gemma3_text', 'Gemma3ForCausalLM', _GEMMA3_KEYS, added_one=True
  ),
}
# Metadata that every architecture here has and that is followed.
FOLLOWED = (
  'vocab_size',
  'context_length',
  'embedding_length',
  'block_count',
  'feed_forward_length',
  'attention.head_count',
  'attention.head_count_kv',
  'attention.key_length',
  'attention.layer_norm_rms_epsilon',
  'rope.freq_base',
  'rope.scaling.type',
  'rope.scaling.factor',
  'rope.scale_linear',
)
# Metadata that changes no number of what is computed here.
HARMLESS = (
  'tensor_data_layout',
  'pooling_type',
  'rope.scaling.finetuned',
  'rope.scaling.original_context_length',
)
# Numbers of something that a model does not have where they are zero.
_ABSENT_AT_ZERO = (
  'expert_count',
  'expert_used_count',
  'expert_shared_count',
  'attention.clamp_kqv',
  'attention.max_alibi_bias',
  'attention.sliding_window',
  'attn_logit_softcapping',
  'final_logit_softcapping',
  'rope.scaling.yarn_ext_factor',
  'rope.scaling.yarn_log_multiplier',
  'rope.scaling.alpha',
)
# Multipliers: llama.cpp does not apply one that is zero.
_MULTIPLIERS = (
  'logit_scale',
  'residual_scale',
  'embedding_scale',
  'rope.scaling.attn_factor',
)
# Metadata that changes nothing with one of these values; another value is refused.
NEUTRAL = {'use_parallel_residual': (False,), 'attention.causal': (True,)}
NEUTRAL |= dict.fromkeys(_ABSENT_AT_ZERO, (0,))
NEUTRAL |= dict.fromkeys(_MULTIPLIERS, (0, 1))
# Control tokens that end a text or a turn, whether or not the file numbers them. They
# are those that llama.cpp knows by name.
ENDS = (
  *('<|eot_id|>', '<|eom_id|>', '<|im_end|>', '<|end|>', '<|return|>', '<|call|>'),
  *('<end_of_turn>', '<|endoftext|>', '<|end_of_text|>', '<end_of_utterance>', '<EOT>'),
)
# The keys of what is recommended for sampling, by the names of generation_config.json.
SAMPLING = 'general.sampling.'
SAMPLERS = dict(
  temp='temperature',
  top_k='top_k',
  top_p='top_p',
  min_p='min_p',
  penalty_repeat='repetition_penalty',
)


def read(metadata: dict[str, Any], shapes: dict[str, tuple], factors) -> dict:
  """The config.json of a file's metadata.

  metadata: the values of the file by their keys. shapes: of its tensors, by their names
  in the file. factors: what its `rope_freqs.weight` divides the frequencies by, or None.
  Raises ValueError that names a key or tensor which would change the numbers and which
  is not followed.
  """
  name = metadata.get('general.architecture')
  if name not in ARCHITECTURES:
    raise ValueError(
      f'general.architecture {name!r} is not supported; '
      f'{", ".join(map(repr, ARCHITECTURES))} are'
    )
  _check_whole(metadata)
  own = _own_metadata(metadata, name)
  config = _common(name, own, metadata, shapes)
  head_dim = config['head_dim']
  positions = _positions(name, own, factors, head_dim)
  # Apart from the others: Gemma 2 and 3 call the activation by another key.
  if name in ('gemma2', 'gemma3'):
    return config | _gemma(name, own, config, positions)
  config |= dict(hidden_act='silu', rope_parameters=positions)
  if name == 'llama':
    config |= _llama(own, shapes)
  elif name == 'granite':
    config |= _granite(own, shapes, head_dim)
  elif name == 'smollm3':
    # No metadata says so: every fourth layer has no rotary positions.
    config |= dict(no_rope_layer_interval=4)
  elif name == 'phi3':
    config |= dict(sliding_window=own.get('attention.sliding_window') or None)
  elif name == 'gemma':
    config |= dict(hidden_act='gelu_pytorch_tanh')
  return config


def _own_metadata(metadata, name: str) -> dict[str, Any]:
  """The metadata of the architecture `name`, by keys without its prefix."""
  own = {}
  for key, value in metadata.items():
    if key.startswith(f'{name}.'):
      own_key = key.removeprefix(f'{name}.')
      own[own_key] = _single(key, value)
  return own


# Keys of config.json that every file must say, with its own keys.
_NEEDED = dict(
  num_hidden_layers='block_count',
  intermediate_size='feed_forward_length',
  rms_norm_eps='attention.layer_norm_rms_epsilon',
  max_position_embeddings='context_length',
)


def _common(name: str, own, metadata, shapes: dict[str, tuple]) -> dict:
  """The part of config.json that every architecture here has.

  Raises ValueError for a key that is missing, and for one that is not followed.
  """
  heads = _need(own, name, 'attention.head_count')
  width = _need(own, name, 'embedding_length')
  head_dim = own.get('attention.key_length') or width // heads
  # Before the rest, so that what is not supported is named first.
  _check_keys(name, own, head_dim)
  architecture = ARCHITECTURES[name]
  # Not every file says how many tokens there are; the table has a row for each.
  rows, *_ = shapes.get('token_embd.weight', (0,))
  config = dict(
    model_type=architecture.model_type,
    architectures=[architecture.cls],
    hidden_size=width,
    num_attention_heads=heads,
    head_dim=head_dim,
  )
  config['vocab_size'] = own.get('vocab_size') or rows
  config['num_key_value_heads'] = own.get('attention.head_count_kv', heads)
  for key, own_key in _NEEDED.items():
    config[key] = _need(own, name, own_key)
  # No metadata speaks of biases; they are there or not.
  config['attention_bias'] = 'blk.0.attn_output.bias' in shapes
  for role, key in (('bos', 'bos'), ('eos', 'eos'), ('pad', 'padding')):
    found = metadata.get(f'tokenizer.ggml.{key}_token_id')
    config[f'{role}_token_id'] = found
  return config


def generation(metadata: dict[str, Any]) -> dict | None:
  """What a file says of decoding, as generation_config.json says it; None for nothing.

  A text ends at the tokens that the file numbers as ends, and at the control tokens
  that llama.cpp knows by their names. What is recommended for sampling is followed. A
  recommendation that has no name there keeps its key, so that a warning can name it.
  """
  found = {}
  ends = _ends(metadata)
  if ends:
    found['eos_token_id'] = ends
  if metadata.get('tokenizer.ggml.suppress_tokens'):
    found['suppress_tokens'] = list(metadata['tokenizer.ggml.suppress_tokens'])
  for role, key in (('bos', 'bos'), ('pad', 'padding')):
    number = metadata.get(f'tokenizer.ggml.{key}_token_id')
    if number is not None:
      found[f'{role}_token_id'] = number
  recommended = [key for key in metadata if key.startswith(SAMPLING)]
  for key in recommended:
    theirs = SAMPLERS.get(key.removeprefix(SAMPLING), key)
    found[theirs] = metadata[key]
  if recommended:
    found['do_sample'] = True
  return found or None


def _ends(metadata) -> list[int]:
  """The ids that end a text or a turn, each once; none if the file numbers none."""
  ends = []
  for role in ('eos', 'eot', 'eom'):
    number = metadata.get(f'tokenizer.ggml.{role}_token_id')
    if number is not None:
      ends.append(number)
  if ends:
    ends += _named_ends(metadata)
  # Not a set: the order stays, what is numbered first.
  return list(dict.fromkeys(ends))


def _named_ends(metadata) -> list[int]:
  """The ids of the control tokens whose names end a text or a turn."""
  names = metadata.get('tokenizer.ggml.tokens', ())
  types = metadata.get('tokenizer.ggml.token_type', ())
  ends = []
  for i, (name, kind) in enumerate(zip(names, types, strict=False)):
    if name in ENDS and kind == CONTROL:
      ends.append(i)
  return ends


def _check_whole(metadata) -> None:
  """Raises ValueError for a file that is no whole model."""
  kind = metadata.get('general.type', 'model')
  if kind != 'model':
    raise ValueError(f'general.type {kind!r} is not supported, only a model')
  count = metadata.get('split.count', 1)
  if count > 1:
    raise ValueError(
      f'split.count {count}: one of several files; merge them with '
      'llama-gguf-split --merge'
    )


def _need(own, name: str, key: str):
  """The value of a key of the architecture `name`. Raises ValueError without it."""
  if own.get(key) is None:
    raise ValueError(f'{name}.{key} is missing')
  return own[key]


def _single(key: str, value):
  """The one value of metadata that may be given for every layer."""
  # The pattern is about layers that differ; `_gemma_layers` reads it.
  if not isinstance(value, list) or key.endswith('sliding_window_pattern'):
    return value
  if len(set(value)) != 1:
    raise ValueError(f'{key}: layers that differ are not supported: {value[:16]}')
  return value[0]


def _check_keys(name: str, own, head_dim: int) -> None:
  """Raises ValueError that names metadata of the model which we do not follow."""
  followed = {*FOLLOWED, *HARMLESS, *ARCHITECTURES[name].keys}
  # Metadata that changes nothing where it says what is computed anyway.
  allowed = NEUTRAL | {
    'attention.value_length': (head_dim,),
    'rope.dimension_count': (head_dim,),
    'attention.scale': (head_dim**-0.5,),
  }
  for key, value in own.items():
    neutral = allowed.get(key, ())
    # Close, not equal: the file holds float32.
    changes_nothing = any(np.isclose(value, one) for one in neutral)
    if key in followed or changes_nothing:
      continue
    if key in allowed:
      raise ValueError(
        f'{name}.{key} = {value} is not supported; {allowed[key][-1]} is'
      )
    nearest = tree.nearest(key, [*followed, *allowed])
    raise ValueError(
      f'{name}.{key} = {str(value)[:40]} is not known; nearest: {nearest}'
    )


def _positions(name: str, own, factors, head_dim: int) -> dict:
  """`rope_parameters` of layers without a window."""
  base = float(own.get('rope.freq_base', 10000.0))
  factor = own.get('rope.scaling.factor') or own.get('rope.scale_linear') or 1.0
  # A factor without a type is linear, as llama.cpp reads it.
  kind = own.get('rope.scaling.type') or 'linear'
  if kind not in ('none', 'linear'):
    raise ValueError(
      f'{name}.rope.scaling.type {kind!r} is not supported; none and linear are'
    )
  scaled = kind == 'linear' and factor != 1.0
  if factors is not None:
    if scaled:
      raise ValueError(
        f"tensor 'rope_freqs.weight': {name}.rope.scaling.factor {factor} besides it "
        'is not supported'
      )
    return _positions_of_factors(factors, base, head_dim)
  if scaled:
    return dict(rope_theta=base, rope_type='linear', factor=float(factor))
  return dict(rope_theta=base, rope_type='default')


def _positions_of_factors(factors, base: float, head_dim: int) -> dict:
  """`rope_parameters` of a `rope_freqs.weight`, which has a factor for each frequency.

  Raises ValueError for factors of another number, or that follow no rule we know.
  """
  half = (head_dim // 2,)
  if np.shape(factors) != half:
    raise ValueError(
      f"tensor 'rope_freqs.weight' has shape {np.shape(factors)}; a head of {head_dim} "
      f'needs {half}'
    )
  try:
    return rotary.from_factors(factors, base)
  except ValueError as error:
    raise ValueError(f"tensor 'rope_freqs.weight': {error}") from error


def _llama(own, shapes) -> dict:
  """The part of a Llama, or of the Mistral that a window makes of it."""
  window = own.get('attention.sliding_window')
  found = dict(mlp_bias='blk.0.ffn_up.bias' in shapes)
  if not window:
    return found
  # The format has no Mistral: only the window tells that it is one.
  return found | dict(
    model_type='mistral', architectures=['MistralForCausalLM'], sliding_window=window
  )


def _granite(own, shapes, head_dim: int) -> dict:
  """The multipliers of a Granite; one that is missing or zero is not applied."""
  attention = own.get('attention.scale') or head_dim**-0.5
  embedding = own.get('embedding_scale') or 1.0
  residual = own.get('residual_scale') or 1.0
  # The logits are divided by it, in spite of the name.
  logits = own.get('logit_scale') or 1.0
  return dict(
    mlp_bias='blk.0.ffn_up.bias' in shapes,
    attention_multiplier=attention,
    embedding_multiplier=embedding,
    residual_multiplier=residual,
    logits_scaling=logits,
  )


def _gemma(name: str, own, config: dict, positions: dict) -> dict:
  """The part of config.json that only a Gemma 2 or 3 has."""
  scale = own.get('attention.scale') or _gemma_scale(name, config)
  # Where a file does not say, what the published models have.
  if name == 'gemma2':
    window, score_cap, logit_cap = 4096, 50.0, 30.0
  else:
    window, score_cap, logit_cap = 1024, None, None
    positions = _gemma3_positions(own, positions)
  # A cap of zero is no cap.
  score_cap = own.get('attn_logit_softcapping', score_cap) or None
  logit_cap = own.get('final_logit_softcapping', logit_cap) or None
  layer_types = _gemma_layers(name, own, config['num_hidden_layers'])
  return dict(
    hidden_activation='gelu_pytorch_tanh',
    # Hugging Face has the number under the root, and it is whole there.
    query_pre_attn_scalar=rotary.whole(scale**-2),
    sliding_window=own.get('attention.sliding_window') or window,
    layer_types=layer_types,
    attn_logit_softcapping=score_cap,
    final_logit_softcapping=logit_cap,
    rope_parameters=positions,
  )


def _gemma3_positions(own, positions: dict) -> dict:
  """`rope_parameters` of a Gemma 3: one entry for each kind of layer.

  positions: as for layers without a window; their base is a million if it is not said.
  """
  local_base = float(own.get('rope.freq_base_swa', 10000.0))
  if 'rope.freq_base' not in own:
    positions = positions | dict(rope_theta=1e6)
  return {
    rotary.GLOBAL: positions,
    rotary.LOCAL: dict(rope_theta=local_base, rope_type='default'),
  }


def _gemma_scale(name: str, config: dict) -> float:
  """The factor of a Gemma's attention scores where the file does not say it.

  It is the inverse root of the head's width. The largest Gemma of each generation takes
  hidden size / heads for that width, and no metadata says so: llama.cpp knows it by its
  number of layers, and so do we.
  """
  largest = {'gemma2': 46, 'gemma3': 62}[name]
  if config['num_hidden_layers'] == largest:
    return (config['hidden_size'] / config['num_attention_heads']) ** -0.5
  return config['head_dim'] ** -0.5


def _gemma_layers(name: str, own, layers: int) -> list[str]:
  """The kind of every layer, with a window or without.

  The file lists the kinds, or gives a period whose last layer is without a window.
  Raises ValueError for a list of another length.
  """
  usual_period = {'gemma2': 2, 'gemma3': 6}[name]
  pattern = own.get('attention.sliding_window_pattern', usual_period)
  if not isinstance(pattern, list):
    every = pattern
    pattern = [number % every != 0 for number in range(1, layers + 1)]
  if len(pattern) != layers:
    raise ValueError(
      f'{name}.attention.sliding_window_pattern: {len(pattern)} layers, not {layers}'
    )
  return [rotary.LOCAL if windowed else rotary.GLOBAL for windowed in pattern]
