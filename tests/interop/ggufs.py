"""GGUF files as the converter of llama.cpp writes them, of small Hugging Face folders."""

import math

import gguf
import numpy as np

from tl_jax.interop.tensors import open_tensors

ARCHITECTURES = {
  'llama': 'llama',
  'mistral': 'llama',
  'qwen2': 'qwen2',
  'qwen3': 'qwen3',
  'gemma2': 'gemma2',
  'gemma3_text': 'gemma3',
  'gemma': 'gemma',
  'granite': 'granite',
  'olmo2': 'olmo2',
  'smollm3': 'smollm3',
  'phi3': 'phi3',
}
ROTATED = ('llama', 'granite', 'smollm3')
NORMAL, UNKNOWN, CONTROL, OWN = 1, 2, 3, 4


def llama3_factors(base, head_dim, factor, low, high, length):
  """What the converter makes of rope_type llama3: float32 (head_dim / 2,)."""
  found = []
  for i in range(head_dim // 2):
    wave = 2 * math.pi * base ** (2 * i / head_dim)
    smooth = (length / wave - low) / (high - low)
    if wave < length / high:
      found.append(1.0)
    elif wave > length / low:
      found.append(factor)
    else:
      found.append(1 / ((1 - smooth) / factor + smooth))
  return np.array(found, np.float32)


def begin(path, architecture, config):
  """A writer with the metadata that every model has."""
  out = gguf.GGUFWriter(str(path), architecture)
  out.add_type('model')
  out.add_context_length(config['max_position_embeddings'])
  out.add_embedding_length(config['hidden_size'])
  out.add_block_count(config['num_hidden_layers'])
  out.add_feed_forward_length(config['intermediate_size'])
  out.add_head_count(config['num_attention_heads'])
  out.add_head_count_kv(config['num_key_value_heads'])
  head_dim = (
    config.get('head_dim') or config['hidden_size'] // config['num_attention_heads']
  )
  out.add_key_length(head_dim)
  out.add_value_length(head_dim)
  out.add_rope_dimension_count(head_dim)
  out.add_layer_norm_rms_eps(config['rms_norm_eps'])
  out.add_file_type(0)
  return out


def positions(out, config):
  """The rotary metadata of a config; the factors of `rope_freqs.weight`, or None."""
  said = config['rope_parameters']
  if 'full_attention' in said:
    out.add_float32(
      'gemma3.rope.freq_base_swa', said['sliding_attention']['rope_theta']
    )
    said = said['full_attention']
  out.add_rope_freq_base(said['rope_theta'])
  if said['rope_type'] == 'linear':
    out.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    out.add_rope_scaling_factor(said['factor'])
  if said['rope_type'] != 'llama3':
    return None
  head_dim = (
    config.get('head_dim') or config['hidden_size'] // config['num_attention_heads']
  )
  return llama3_factors(
    said['rope_theta'],
    head_dim,
    *(
      said[key]
      for key in (
        'factor',
        'low_freq_factor',
        'high_freq_factor',
        'original_max_position_embeddings',
      )
    ),
  )


def tensors(folder, config):
  """{name in the file: array} of a folder."""
  kind = config['model_type']
  architecture = ARCHITECTURES[kind]
  names = gguf.get_tensor_name_map(
    gguf.MODEL_ARCH[architecture.upper()], config['num_hidden_layers']
  )
  held, found = open_tensors(folder), {}
  for name in held.names:
    array = np.array(held.read(name))
    if kind.startswith('gemma') and name.endswith('norm.weight'):
      array = array + 1
    for part, heads in (
      ('q_proj', 'num_attention_heads'),
      ('k_proj', 'num_key_value_heads'),
    ):
      if part in name and architecture in ROTATED:
        array = (
          array.reshape(config[heads], 2, -1, *array.shape[1:])
          .swapaxes(1, 2)
          .reshape(array.shape)
        )
    module, _, suffix = name.rpartition('.')
    found[f'{names.get_name(module)}.{suffix}'] = array
  return found


def convert(folder, config, path, *, quantize=None, finish=None):
  """Writes the file of a folder.

  quantize: the type of matrices, as GGMLQuantizationType.Q8_0. finish(writer): says more.
  """
  out = begin(path, ARCHITECTURES[config['model_type']], config)
  factors = positions(out, config)
  kind = config['model_type']
  if kind in ('gemma2', 'gemma3_text'):
    out.add_attention_scale(config['query_pre_attn_scalar'] ** -0.5)
    out.add_sliding_window_pattern(
      [each == 'sliding_attention' for each in config['layer_types']]
    )
  if kind in ('gemma2', 'gemma3_text', 'mistral', 'phi3'):
    out.add_sliding_window(config['sliding_window'])
  if kind == 'gemma2':
    out.add_attn_logit_softcapping(config['attn_logit_softcapping'])
    out.add_final_logit_softcapping(config['final_logit_softcapping'])
  if kind == 'granite':
    out.add_attention_scale(config['attention_multiplier'])
    out.add_embedding_scale(config['embedding_multiplier'])
    out.add_residual_scale(config['residual_multiplier'])
    out.add_logit_scale(config['logits_scaling'])
  if finish is not None:
    finish(out)
  if factors is not None:
    out.add_tensor('rope_freqs.weight', factors)
  for name, array in tensors(folder, config).items():
    if quantize is None or array.ndim == 1:
      out.add_tensor(name, array.astype(np.float32))
    else:
      out.add_tensor(name, gguf.quantize(array, quantize), raw_dtype=quantize)
  write(out)
  return path


def write(out):
  """Writes all that a writer holds."""
  out.write_header_to_file()
  out.write_kv_data_to_file()
  out.write_tensors_to_file()
  out.close()


def vocabulary(out, names, types, merges, *, pre='llama-bpe', template=None, **numbers):
  """Says a byte-pair vocabulary; numbers: ids by role (bos, eos, eot, pad, unk)."""
  out.add_vocab_size(len(names))
  out.add_tokenizer_model('gpt2')
  if pre is not None:
    out.add_tokenizer_pre(pre)
  out.add_token_list(names)
  out.add_token_types(types)
  out.add_token_merges(merges)
  for role, number in numbers.items():
    getattr(out, f'add_{role}_token_id')(number)
  if template is not None:
    out.add_chat_template(template)
