"""What `config.json` says for the families of decoders.

>>> FAMILIES['gpt2'].heads['causal']
'GPT2LMHeadModel'
"""

from tl_jax.interop import decoder_names, rotary
from tl_jax.interop.family import Family, classes

# What all of them have; a class of a text is read at its last token.
_DECODER = dict(kind='decoder', norm_place='before', pool='last', init='normal')
_GPT2_KEYS = dict(
  vocabulary=('vocab_size', 50257),
  width=('n_embd', 768),
  layers=('n_layer', 12),
  heads=('n_head', 12),
  activation=('activation_function', 'gelu_new'),
  norm_eps=('layer_norm_epsilon', 1e-5),
  max_positions=('n_positions', 1024),
  init_std=('initializer_range', 0.02),
)
# Variants that the class of GPT-2 has and we do not compute.
_GPT2_ONLY = dict(
  scale_attn_weights=(True,),
  scale_attn_by_inverse_layer_idx=(False,),
  add_cross_attention=(False,),
)
_GPT2 = Family(
  decoder_names.GPT2,
  _GPT2_KEYS,
  _DECODER,
  classes('GPT2', 'classifier', 'token', 'span', causal='GPT2LMHeadModel'),
  lambda config: dict(mlp=config.get('n_inner') or 4 * config.get('n_embd', 768)),
  lambda arch: dict(n_inner=arch.mlp),
  _GPT2_ONLY,
)


def _read_opt(config):
  width = config.get('hidden_size', 768)
  inner = config.get('word_embed_proj_dim') or width
  norm_before = config.get('do_layer_norm_before', True)
  has_bias = config.get('enable_bias', True)
  # The table has two rows before that of the first position.
  positions = config.get('max_position_embeddings', 2048) + 2
  return dict(
    norm_place='before' if norm_before else 'after',
    # Its class says it; no key does.
    norm_eps=1e-5,
    embedding_width=0 if inner == width else inner,
    bias='all' if has_bias else 'none',
    max_positions=positions,
  )


_OPT_KEYS = dict(
  vocabulary=('vocab_size', 50272),
  width=('hidden_size', 768),
  layers=('num_hidden_layers', 12),
  heads=('num_attention_heads', 12),
  mlp=('ffn_dim', 3072),
  activation=('activation_function', 'relu'),
  init_std=('init_std', 0.02),
)
_OPT = Family(
  decoder_names.OPT,
  _OPT_KEYS,
  _DECODER | dict(position_offset=2),
  classes('OPT', 'causal', 'classifier', 'span'),
  _read_opt,
  lambda arch: dict(
    do_layer_norm_before=arch.norm_place == 'before',
    enable_bias=arch.bias == 'all',
    word_embed_proj_dim=arch.embedding_width or arch.width,
    max_position_embeddings=arch.max_positions - 2,
  ),
  dict(_remove_final_layer_norm=(False,), layer_norm_elementwise_affine=(True,)),
)


# By whether attention and MLP have a bias.
_BIASES = {
  (True, True): 'all',
  (True, False): 'attention',
  (False, True): 'mlp',
  (False, False): 'none',
}


def _read_llama(config):
  base, _, scaling = rotary.read(config, 10000.0)
  heads = config.get('num_attention_heads', 32)
  head_dim = config.get('head_dim')
  if not head_dim:
    head_dim = config.get('hidden_size', 4096) // heads
  in_attention = bool(config.get('attention_bias'))
  in_mlp = bool(config.get('mlp_bias'))
  return dict(
    kv_heads=config.get('num_key_value_heads') or heads,
    rotary_base=base,
    rotary_scaling=scaling,
    head_dim=head_dim,
    bias=_BIASES[in_attention, in_mlp],
  )


def _write_llama(arch):
  return rotary.write(arch) | dict(
    num_key_value_heads=arch.key_heads,
    head_dim=arch.head_width,
    attention_bias=arch.has_bias('out'),
    mlp_bias=arch.has_bias('mlp'),
  )


_LLAMA_KEYS = dict(
  vocabulary=('vocab_size', 32000),
  width=('hidden_size', 4096),
  layers=('num_hidden_layers', 32),
  heads=('num_attention_heads', 32),
  mlp=('intermediate_size', 11008),
  activation=('hidden_act', 'silu'),
  norm_eps=('rms_norm_eps', 1e-6),
  max_positions=('max_position_embeddings', 2048),
  init_std=('initializer_range', 0.02),
)
_LLAMA_HEADS = ('causal', 'classifier', 'token', 'span')
_LLAMA_FIXED = _DECODER | dict(gated=True, norm='rms', positions='rotary')
_LLAMA = Family(
  decoder_names.LLAMA,
  _LLAMA_KEYS,
  _LLAMA_FIXED,
  classes('Llama', *_LLAMA_HEADS),
  _read_llama,
  _write_llama,
)
_MISTRAL_KEYS = _LLAMA_KEYS | dict(
  mlp=('intermediate_size', 14336), max_positions=('max_position_embeddings', 131072)
)
_MISTRAL = Family(
  decoder_names.MISTRAL,
  _MISTRAL_KEYS,
  _LLAMA_FIXED,
  classes('Mistral', *_LLAMA_HEADS),
  lambda config: (
    _read_llama(dict(num_key_value_heads=8) | config)
    | dict(windows=(config.get('sliding_window', 4096) or 0,), bias='none')
  ),
  lambda arch: _write_llama(arch) | dict(sliding_window=max(arch.windows) or None),
)


def _read_qwen(config, bias, **more):
  kinds = config.get('layer_types')
  if not kinds:
    layers = config.get('num_hidden_layers', 32)
    first = config.get('max_window_layers', 28)
    # Both must say so: configs have a window that `use_sliding_window` turns off.
    slides = config.get('use_sliding_window') and config.get('sliding_window', 4096)
    last_kind = rotary.LOCAL if slides else rotary.GLOBAL
    before = min(first, layers)
    kinds = [rotary.GLOBAL] * before + [last_kind] * (layers - before)
  windows = rotary.windows(kinds, config.get('sliding_window') or 0)
  fields = _read_llama(dict(num_key_value_heads=32) | config)
  return fields | more | dict(windows=windows, bias=bias)


def _write_qwen(arch):
  keys = _write_llama(arch) | rotary.write_windows(arch)
  # Without this its class leaves out the windows that the keys above tell.
  keys['use_sliding_window'] = any(arch.windows)
  return keys


_QWEN2_KEYS = _LLAMA_KEYS | dict(
  vocabulary=('vocab_size', 151936),
  mlp=('intermediate_size', 22016),
  max_positions=('max_position_embeddings', 32768),
)
_QWEN2 = Family(
  decoder_names.LLAMA,
  _QWEN2_KEYS,
  _LLAMA_FIXED,
  classes('Qwen2', *_LLAMA_HEADS),
  lambda config: _read_qwen(config, 'qkv'),
  _write_qwen,
)
_QWEN3 = _QWEN2._replace(
  fixed=_LLAMA_FIXED | dict(query_norm=True),
  heads=classes('Qwen3', *_LLAMA_HEADS),
  read=lambda config: _read_qwen(
    dict(head_dim=128) | config, 'attention' if config.get('attention_bias') else 'none'
  ),
)


def _read_gemma(config, pattern, base, local, window):
  """pattern: every so many layers one is global. base, local: of the rotary positions;
  0 where local layers have no base of their own. window: of the local layers.
  """
  kinds = config.get('layer_types')
  if not kinds:
    layers = config.get('num_hidden_layers', 26)
    every = config.get('sliding_window_pattern')
    every = every or config.get('_sliding_window_pattern') or pattern
    kinds = []
    for number in range(1, layers + 1):
      kinds.append(rotary.LOCAL if number % every else rotary.GLOBAL)
  if local:
    local = config.get('rope_local_base_freq') or local
  base, local, scaling = rotary.read(config, base, local)
  width = config.get('hidden_size', 2304)
  window = config.get('sliding_window', window) or 0
  attention_width = config.get('query_pre_attn_scalar', 256)
  has_bias = config.get('attention_bias')
  return dict(
    kv_heads=config.get('num_key_value_heads', 4),
    head_dim=config.get('head_dim', 256),
    rotary_base=base,
    local_rotary_base=local,
    rotary_scaling=scaling,
    embedding_scale=width**0.5,
    windows=rotary.windows(kinds, window),
    attention_scale=attention_width**-0.5,
    bias='attention' if has_bias else 'none',
  )


def _write_gemma(arch):
  # They say the scale of attention by the width whose inverse root it is.
  scalar = arch.attention_scale**-2 if arch.attention_scale else arch.head_width
  keys = rotary.write(arch, nested=bool(arch.local_rotary_base))
  keys |= rotary.write_windows(arch)
  keys['num_key_value_heads'] = arch.key_heads
  keys['head_dim'] = arch.head_width
  keys['attention_bias'] = arch.has_bias('out')
  keys['query_pre_attn_scalar'] = rotary.whole(scalar)
  keys['attn_logit_softcapping'] = arch.attention_cap or None
  keys['final_logit_softcapping'] = arch.logit_cap or None
  return keys


def _caps(config, attention, logit):
  attention = config.get('attn_logit_softcapping', attention)
  logit = config.get('final_logit_softcapping', logit)
  # null and 0 both say that there is no cap.
  return dict(attention_cap=attention or 0.0, logit_cap=logit or 0.0)


_GEMMA_KEYS = _LLAMA_KEYS | dict(
  vocabulary=('vocab_size', 256000),
  width=('hidden_size', 2304),
  layers=('num_hidden_layers', 26),
  heads=('num_attention_heads', 8),
  mlp=('intermediate_size', 9216),
  activation=('hidden_activation', 'gelu_pytorch_tanh'),
  max_positions=('max_position_embeddings', 8192),
)
# From the second on: a norm on either side of every sublayer.
_GEMMA_FIXED = _LLAMA_FIXED | dict(norm='rms_shifted', norm_place='both')


def _read_gemma1(config):
  fields = _read_llama(dict(num_key_value_heads=16, head_dim=256) | config)
  fields |= dict(embedding_scale=config.get('hidden_size', 3072) ** 0.5)
  if config.get('hidden_act') == 'gelu':
    # The first folders said "gelu" and meant its approximation.
    fields['activation'] = 'gelu_tanh'
  return fields


_GEMMA = Family(
  decoder_names.LLAMA,
  _LLAMA_KEYS
  | dict(
    vocabulary=('vocab_size', 256000),
    width=('hidden_size', 3072),
    layers=('num_hidden_layers', 28),
    heads=('num_attention_heads', 16),
    mlp=('intermediate_size', 24576),
    activation=('hidden_act', 'gelu_pytorch_tanh'),
    max_positions=('max_position_embeddings', 8192),
  ),
  _LLAMA_FIXED | dict(norm='rms_shifted'),
  classes('Gemma', 'causal', 'classifier', 'token'),
  _read_gemma1,
  _write_llama,
  dict(use_bidirectional_attention=(False, None), mlp_bias=(False, None)),
)
_GEMMA2 = Family(
  decoder_names.GEMMA2,
  _GEMMA_KEYS,
  _GEMMA_FIXED,
  classes('Gemma2', 'causal', 'classifier', 'token'),
  lambda config: _read_gemma(config, 2, 10000.0, 0.0, 4096) | _caps(config, 50.0, 30.0),
  _write_gemma,
  dict(use_bidirectional_attention=(False, None)),
)
_GEMMA3_KEYS = _GEMMA_KEYS | dict(
  vocabulary=('vocab_size', 262208), max_positions=('max_position_embeddings', 131072)
)
_GEMMA3 = Family(
  decoder_names.GEMMA2,
  _GEMMA3_KEYS,
  _GEMMA_FIXED | dict(query_norm=True),
  {
    'none': 'Gemma3TextModel',
    'causal': 'Gemma3ForCausalLM',
    'classifier': 'Gemma3TextForSequenceClassification',
  },
  lambda config: _read_gemma(config, 6, 1e6, 10000.0, 4096) | _caps(config, None, None),
  _write_gemma,
  dict(use_bidirectional_attention=(False, None)),
)


def _read_granite(config):
  fields = _read_llama(config)
  fields['embedding_scale'] = config.get('embedding_multiplier', 1.0)
  fields['attention_scale'] = config.get('attention_multiplier', 1.0)
  fields['residual_scale'] = config.get('residual_multiplier', 1.0)
  # They divide the logits, we multiply them. No other head does, but a model that has
  # one now may have the vocabulary's again.
  fields['output_scale'] = 1.0 / config.get('logits_scaling', 1.0)
  return fields


def _write_granite(arch):
  attention = arch.attention_scale or arch.head_width**-0.5
  multipliers = dict(
    embedding_multiplier=arch.embedding_scale,
    attention_multiplier=attention,
    residual_multiplier=arch.residual_scale,
    logits_scaling=rotary.whole(1.0 / arch.output_scale),
  )
  return _write_llama(arch) | multipliers


_GRANITE = Family(
  decoder_names.LLAMA,
  _LLAMA_KEYS,
  _LLAMA_FIXED,
  classes('Granite', 'causal'),
  _read_granite,
  _write_granite,
)

_OLMO2_KEYS = _LLAMA_KEYS | dict(
  vocabulary=('vocab_size', 50304), norm_eps=('rms_norm_eps', 1e-5)
)
_OLMO2 = Family(
  decoder_names.OLMO2,
  _OLMO2_KEYS,
  # One norm over the queries of all heads, where others have one for each head.
  _LLAMA_FIXED | dict(norm_place='output', query_norm='width'),
  classes('Olmo2', 'causal', 'classifier'),
  _read_llama,
  _write_llama,
  dict(mlp_bias=(False, None)),
)


def _read_smollm3(config):
  layers = config.get('num_hidden_layers', 36)
  every = config.get('no_rope_layer_interval', 4)
  # Despite its name, the list has 1 for the layers that have rotary positions.
  marks = config.get('no_rope_layers')
  if not marks:
    marks = [number % every for number in range(1, layers + 1)]
  rotary_layers = [bool(value) for value in marks[:layers]]
  window = config.get('sliding_window') or 0
  kinds = config.get('layer_types')
  if not kinds:
    # Where windows are used, the layers without rotary positions have them.
    slides = bool(config.get('use_sliding_window')) and window
    without = rotary.LOCAL if slides else rotary.GLOBAL
    kinds = [rotary.GLOBAL if rotates else without for rotates in rotary_layers]
  base, _, scaling = rotary.read(config, 2000000.0)
  fields = _read_llama(dict(num_key_value_heads=4) | config)
  fields['rotary_base'] = base
  fields['rotary_scaling'] = scaling
  fields['windows'] = rotary.windows(kinds, window)
  fields['rotary_layers'] = rotary.shortest(rotary_layers)
  return fields


def _write_smollm3(arch):
  pattern = arch.rotary_layers
  marks = []
  for layer in range(arch.layers):
    marks.append(int(pattern[layer % len(pattern)]))
  return _write_qwen(arch) | dict(no_rope_layers=marks)


_SMOLLM3_KEYS = _LLAMA_KEYS | dict(
  vocabulary=('vocab_size', 128256),
  width=('hidden_size', 2048),
  layers=('num_hidden_layers', 36),
  heads=('num_attention_heads', 16),
  max_positions=('max_position_embeddings', 32768),
)
_SMOLLM3 = Family(
  decoder_names.LLAMA,
  _SMOLLM3_KEYS,
  _LLAMA_FIXED,
  classes('SmolLM3', *_LLAMA_HEADS),
  _read_smollm3,
  _write_smollm3,
)


def _read_phi3(config):
  lengths = dict(max_position_embeddings=4096, original_max_position_embeddings=4096)
  fields = _read_llama(lengths | config)
  window = config.get('sliding_window') or 0
  fields['windows'] = (window,)
  return fields


def _write_phi3(arch):
  keys = _write_llama(arch)
  keys['sliding_window'] = max(arch.windows) or None
  if arch.long_rotary:
    # What stands here goes before what stands among the rotary parameters.
    keys['original_max_position_embeddings'] = int(arch.rotary_scaling[1])
  return keys


_PHI3_KEYS = _LLAMA_KEYS | dict(
  vocabulary=('vocab_size', 32064),
  width=('hidden_size', 3072),
  mlp=('intermediate_size', 8192),
  norm_eps=('rms_norm_eps', 1e-5),
  max_positions=('max_position_embeddings', 4096),
)
_PHI3 = Family(
  decoder_names.PHI3,
  _PHI3_KEYS,
  _LLAMA_FIXED,
  classes('Phi3', 'causal', 'classifier', 'token'),
  _read_phi3,
  _write_phi3,
  dict(attention_bias=(False, None), mlp_bias=(False, None)),
)

FAMILIES = {
  'gpt2': _GPT2,
  'opt': _OPT,
  'llama': _LLAMA,
  'mistral': _MISTRAL,
  'qwen2': _QWEN2,
  'qwen3': _QWEN3,
  'gemma': _GEMMA,
  'gemma2': _GEMMA2,
  'gemma3_text': _GEMMA3,
  'granite': _GRANITE,
  'olmo2': _OLMO2,
  'smollm3': _SMOLLM3,
  'phi3': _PHI3,
}
