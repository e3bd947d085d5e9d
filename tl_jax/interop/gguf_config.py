"""What the metadata of a GGUF file says of its model, as config.json says it.

>>> said = {'general.architecture': 'bert'}
>>> read(said, {}, None)  # doctest: +ELLIPSIS
Traceback (most recent call last):
ValueError: general.architecture 'bert' is not supported; 'llama', 'qwen2', 'qwen3', ...
"""

from typing import Any, NamedTuple

import numpy as np

from tl_jax import tree
from tl_jax.interop import rotary
from tl_jax.interop.sentencepiece import CONTROL


class Architecture(NamedTuple):
  """A `general.architecture`: our `model_type` for it, its class, and what is its own.

  keys: more metadata of it that is followed. added_one: are norms stored plus one?
  rotated: do the maps of queries and keys have the two halves of a head in turn?
  """

  model_type: str
  cls: str
  keys: tuple[str, ...] = ()
  added_one: bool = False
  rotated: bool = False


_GEMMA_KEYS = (
  'attention.sliding_window',
  'attention.sliding_window_pattern',
  'attention.scale',
  'attn_logit_softcapping',
  'final_logit_softcapping',
)
ARCHITECTURES = {
  'llama': Architecture(
    'llama', 'LlamaForCausalLM', ('attention.sliding_window',), rotated=True
  ),
  'qwen2': Architecture('qwen2', 'Qwen2ForCausalLM'),
  'qwen3': Architecture('qwen3', 'Qwen3ForCausalLM'),
  'granite': Architecture(
    'granite',
    'GraniteForCausalLM',
    ('attention.scale', 'embedding_scale', 'residual_scale', 'logit_scale'),
    rotated=True,
  ),
  'olmo2': Architecture('olmo2', 'Olmo2ForCausalLM'),
  'smollm3': Architecture('smollm3', 'SmolLM3ForCausalLM', rotated=True),
  'phi3': Architecture('phi3', 'Phi3ForCausalLM', ('attention.sliding_window',)),
  'gemma': Architecture('gemma', 'GemmaForCausalLM', added_one=True),
  'gemma2': Architecture('gemma2', 'Gemma2ForCausalLM', _GEMMA_KEYS, added_one=True),
  'gemma3': Architecture(
    'gemma3_text',
    'Gemma3ForCausalLM',
    (*_GEMMA_KEYS, 'rope.freq_base_swa'),
    added_one=True,
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
# Metadata that changes nothing with one of these values; another value is refused.
NEUTRAL = {
  'expert_count': (0,),
  'expert_used_count': (0,),
  'expert_shared_count': (0,),
  'use_parallel_residual': (False,),
  'attention.causal': (True,),
  'attention.clamp_kqv': (0,),
  'attention.max_alibi_bias': (0,),
  'attention.sliding_window': (0,),
  'attn_logit_softcapping': (0,),
  'final_logit_softcapping': (0,),
  'logit_scale': (0, 1),
  'residual_scale': (0, 1),
  'embedding_scale': (0, 1),
  'rope.scaling.attn_factor': (0, 1),
  'rope.scaling.yarn_ext_factor': (0,),
  'rope.scaling.yarn_log_multiplier': (0,),
  'rope.scaling.alpha': (0,),
}
# Control tokens that end a text or a turn, whether or not the file numbers them.
ENDS = (
  *('<|eot_id|>', '<|eom_id|>', '<|im_end|>', '<|end|>', '<|return|>', '<|call|>'),
  *('<end_of_turn>', '<|endoftext|>', '<|end_of_text|>', '<end_of_utterance>', '<EOT>'),
)
# What is recommended for sampling, and what generation_config.json calls it.
SAMPLING = 'general.sampling.'
SAMPLERS = dict(
  temp='temperature',
  top_k='top_k',
  top_p='top_p',
  min_p='min_p',
  penalty_repeat='repetition_penalty',
)


def read(said: dict[str, Any], shapes: dict[str, tuple], factors) -> dict:
  """The config.json of a file's metadata.

  said: its keys with their values. shapes: of its tensors, by their names in the file.
  factors: what its `rope_freqs.weight` divides the frequencies by, or None.
  Raises ValueError that names a key or tensor which would change the numbers and which
  is not followed.
  """
  name = said.get('general.architecture')
  if name not in ARCHITECTURES:
    raise ValueError(
      f'general.architecture {name!r} is not supported; '
      f'{", ".join(map(repr, ARCHITECTURES))} are'
    )
  architecture = ARCHITECTURES[name]
  _check_whole(said)
  own = {
    key.removeprefix(f'{name}.'): value
    for key, value in said.items()
    if key.startswith(f'{name}.')
  }
  own = {key: _single(f'{name}.{key}', value) for key, value in own.items()}
  heads = _need(own, name, 'attention.head_count')
  width = _need(own, name, 'embedding_length')
  head_dim = own.get('attention.key_length') or width // heads
  _check_keys(name, architecture, own, head_dim)
  config = dict(
    model_type=architecture.model_type,
    architectures=[architecture.cls],
    vocab_size=own.get('vocab_size') or shapes.get('token_embd.weight', (0,))[0],
    hidden_size=width,
    num_hidden_layers=_need(own, name, 'block_count'),
    num_attention_heads=heads,
    num_key_value_heads=own.get('attention.head_count_kv', heads),
    intermediate_size=_need(own, name, 'feed_forward_length'),
    head_dim=head_dim,
    rms_norm_eps=_need(own, name, 'attention.layer_norm_rms_epsilon'),
    max_position_embeddings=_need(own, name, 'context_length'),
    attention_bias='blk.0.attn_output.bias' in shapes,
    **{
      f'{role}_token_id': said.get(f'tokenizer.ggml.{key}_token_id')
      for role, key in (('bos', 'bos'), ('eos', 'eos'), ('pad', 'padding'))
    },
  )
  positions = _positions(name, own, factors, head_dim)
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


def generation(said: dict[str, Any]) -> dict | None:
  """What a file says of decoding, as generation_config.json says it.

  All that ends a text does: what the file numbers, and control tokens that llama.cpp
  knows by their names. What is recommended for sampling is followed; the rest of it
  keeps its key, so that it is named where it is not followed.
  """
  numbered = (f'tokenizer.ggml.{end}_token_id' for end in ('eos', 'eot', 'eom'))
  ends = [said[key] for key in numbered if said.get(key) is not None]
  if ends:
    ends += _named_ends(said)
  found = dict(eos_token_id=list(dict.fromkeys(ends))) if ends else {}
  if said.get('tokenizer.ggml.suppress_tokens'):
    found['suppress_tokens'] = list(said['tokenizer.ggml.suppress_tokens'])
  for role, key in (('bos', 'bos'), ('pad', 'padding')):
    number = said.get(f'tokenizer.ggml.{key}_token_id')
    found |= {} if number is None else {f'{role}_token_id': number}
  recommended = {key: value for key, value in said.items() if key.startswith(SAMPLING)}
  for key, value in recommended.items():
    found[SAMPLERS.get(key.removeprefix(SAMPLING), key)] = value
  if recommended:
    found['do_sample'] = True
  return found or None


def _named_ends(said) -> list[int]:
  """The control tokens whose names end a text or a turn."""
  names = said.get('tokenizer.ggml.tokens', ())
  types = said.get('tokenizer.ggml.token_type', ())
  pairs = enumerate(zip(names, types, strict=False))
  return [i for i, (name, kind) in pairs if name in ENDS and kind == CONTROL]


def _check_whole(said) -> None:
  """ValueError for a file that is no whole model."""
  if said.get('general.type', 'model') != 'model':
    raise ValueError(
      f'general.type {said["general.type"]!r} is not supported, only a model'
    )
  if said.get('split.count', 1) > 1:
    raise ValueError(
      f'split.count {said["split.count"]}: one of several files; merge them with '
      'llama-gguf-split --merge'
    )


def _need(own, name: str, key: str):
  if own.get(key) is None:
    raise ValueError(f'{name}.{key} is missing')
  return own[key]


def _single(key: str, value):
  """The one value of metadata that may be given for every layer."""
  if not isinstance(value, list) or key.endswith('sliding_window_pattern'):
    return value
  if len(set(value)) != 1:
    raise ValueError(f'{key}: layers that differ are not supported: {value[:16]}')
  return value[0]


def _check_keys(name: str, architecture: Architecture, own, head_dim: int) -> None:
  """ValueError that names metadata of the model which we do not follow."""
  followed = {*FOLLOWED, *HARMLESS, *architecture.keys}
  allowed = NEUTRAL | {
    'attention.value_length': (head_dim,),
    'rope.dimension_count': (head_dim,),
    'attention.scale': (head_dim**-0.5,),
  }
  for key, value in own.items():
    idle = any(np.isclose(value, one) for one in allowed.get(key, ()))
    if key in followed or idle:
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
  if factors is None and scaled:
    return dict(rope_theta=base, rope_type='linear', factor=float(factor))
  if factors is None:
    return dict(rope_theta=base, rope_type='default')
  if scaled:
    raise ValueError(
      f"tensor 'rope_freqs.weight': {name}.rope.scaling.factor {factor} besides it is "
      'not supported'
    )
  if np.shape(factors) != (head_dim // 2,):
    raise ValueError(
      f"tensor 'rope_freqs.weight' has shape {np.shape(factors)}; a head of {head_dim} "
      f'needs {(head_dim // 2,)}'
    )
  try:
    return rotary.from_factors(factors, base)
  except ValueError as error:
    raise ValueError(f"tensor 'rope_freqs.weight': {error}") from error


def _llama(own, shapes) -> dict:
  """A Llama, or the Mistral that a window makes of it."""
  window = own.get('attention.sliding_window')
  found = dict(mlp_bias='blk.0.ffn_up.bias' in shapes)
  if not window:
    return found
  return found | dict(
    model_type='mistral', architectures=['MistralForCausalLM'], sliding_window=window
  )


def _granite(own, shapes, head_dim: int) -> dict:
  """The multipliers of a Granite; one that is missing or zero is not applied."""
  return dict(
    mlp_bias='blk.0.ffn_up.bias' in shapes,
    attention_multiplier=own.get('attention.scale') or head_dim**-0.5,
    embedding_multiplier=own.get('embedding_scale') or 1.0,
    residual_multiplier=own.get('residual_scale') or 1.0,
    logits_scaling=own.get('logit_scale') or 1.0,
  )


def _gemma(name: str, own, config: dict, positions: dict) -> dict:
  """What a Gemma has of its own."""
  scale = own.get('attention.scale') or _gemma_scale(name, config)
  caps = {'gemma2': (50.0, 30.0), 'gemma3': (None, None)}[name]
  if name == 'gemma3':
    local_base = float(own.get('rope.freq_base_swa', 10000.0))
    near = dict(rope_theta=local_base, rope_type='default')
    wide = positions if 'rope.freq_base' in own else positions | dict(rope_theta=1e6)
    positions = {rotary.GLOBAL: wide, rotary.LOCAL: near}
  window = {'gemma2': 4096, 'gemma3': 1024}[name]
  return dict(
    hidden_activation='gelu_pytorch_tanh',
    query_pre_attn_scalar=rotary.whole(scale**-2),
    sliding_window=own.get('attention.sliding_window') or window,
    layer_types=_gemma_layers(name, own, config['num_hidden_layers']),
    attn_logit_softcapping=own.get('attn_logit_softcapping', caps[0]) or None,
    final_logit_softcapping=own.get('final_logit_softcapping', caps[1]) or None,
    rope_parameters=positions,
  )


def _gemma_scale(name: str, config: dict) -> float:
  """What a Gemma multiplies its scores by.

  The largest ones take the width per head for it, and no metadata says so: llama.cpp
  knows them by their number of layers, and so do we.
  """
  largest = {'gemma2': 46, 'gemma3': 62}[name]
  if config['num_hidden_layers'] == largest:
    return (config['hidden_size'] / config['num_attention_heads']) ** -0.5
  return config['head_dim'] ** -0.5


def _gemma_layers(name: str, own, layers: int) -> list[str]:
  """The kind of every layer: the last of so many is without a window, or as listed."""
  usual = {'gemma2': 2, 'gemma3': 6}[name]
  pattern = own.get('attention.sliding_window_pattern', usual)
  if not isinstance(pattern, list):
    pattern = [(i + 1) % pattern != 0 for i in range(layers)]
  if len(pattern) != layers:
    raise ValueError(
      f'{name}.attention.sliding_window_pattern: {len(pattern)} layers, not {layers}'
    )
  return [rotary.LOCAL if each else rotary.GLOBAL for each in pattern]
