"""What `config.json` says for each family of Hugging Face: their keys, their classes, and what a table cannot tell.

>>> FAMILIES['bert'].heads['masked']
'BertForMaskedLM'
"""

from collections.abc import Callable
from typing import NamedTuple

from tl_jax.interop import rotary
from tl_jax.models import Arch

ACTIVATIONS = {
    'gelu': 'gelu', 'gelu_new': 'gelu_tanh', 'gelu_pytorch_tanh': 'gelu_tanh', 'gelu_fast': 'gelu_tanh',
    'gelu_python': 'gelu', 'quick_gelu': 'quick_gelu', 'relu': 'relu', 'silu': 'silu', 'swish': 'silu', 'tanh': 'tanh'}
THEIRS = {'gelu_tanh': 'gelu_new'} | {name: name for name in ('gelu', 'quick_gelu', 'relu', 'silu', 'tanh')}


class Family(NamedTuple):
  """How one `model_type` says what we say.

  keys: our field to (their key, their default). fixed: fields that are always so. heads: our head to their class;
  the first is the body alone. read(config) and write(arch) do what a table cannot. only: their keys with the values
  that we compute; another is refused.
  """
  keys: dict
  fixed: dict
  heads: dict
  read: Callable[[dict], dict] = lambda config: {}
  write: Callable[[Arch], dict] = lambda arch: {}
  only: dict = {}


def _classes(name: str, *heads: str, **others: str) -> dict:
  suffixes = dict(masked='ForMaskedLM', causal='ForCausalLM', classifier='ForSequenceClassification',
                  token='ForTokenClassification', span='ForQuestionAnswering')
  return {'none': f'{name}Model'} | {head: name + suffixes[head] for head in heads} | others


_BERT_KEYS = dict(
    vocabulary=('vocab_size', 30522), width=('hidden_size', 768), layers=('num_hidden_layers', 12),
    heads=('num_attention_heads', 12), mlp=('intermediate_size', 3072), activation=('hidden_act', 'gelu'),
    norm_eps=('layer_norm_eps', 1e-12), max_positions=('max_position_embeddings', 512),
    types=('type_vocab_size', 2), init_std=('initializer_range', 0.02))
_BERT_ONLY = dict(position_embedding_type=('absolute',), is_decoder=(False,), add_cross_attention=(False,))
_BERT_HEADS = ('masked', 'classifier', 'token', 'span')
_BERT = Family(_BERT_KEYS, dict(embedding_norm=True), _classes('Bert', *_BERT_HEADS), only=_BERT_ONLY)


def _pooler(activation: str, heads=('none', 'classifier')) -> Callable[[dict], dict]:
  return lambda config: dict(pooler=activation if config['head'] in heads else '')


_BERT = _BERT._replace(read=_pooler('tanh'))
_ROBERTA = Family(
    _BERT_KEYS | dict(vocabulary=('vocab_size', 50265)),
    dict(embedding_norm=True, position_offset=2, head_activation='gelu'), _classes('Roberta', *_BERT_HEADS),
    _pooler('tanh'), only=_BERT_ONLY | dict(pad_token_id=(1,)))
_DISTILBERT = Family(
    dict(vocabulary=('vocab_size', 30522), width=('dim', 768), layers=('n_layers', 6), heads=('n_heads', 12),
         mlp=('hidden_dim', 3072), activation=('activation', 'gelu'), max_positions=('max_position_embeddings', 512),
         init_std=('initializer_range', 0.02)),
    dict(embedding_norm=True), _classes('DistilBert', *_BERT_HEADS), _pooler('relu', ('classifier',)))


def _read_electra(config):
  inner = config.get('embedding_size', 128)
  activation = ACTIVATIONS[config.get('hidden_act', 'gelu')] if config['head'] == 'replaced' else 'gelu'
  return dict(embedding_width=0 if inner == config.get('hidden_size', 256) else inner, head_activation=activation,
              pooler='gelu' if config['head'] == 'classifier' else '')


_ELECTRA = Family(
    _BERT_KEYS | dict(width=('hidden_size', 256), heads=('num_attention_heads', 4), mlp=('intermediate_size', 1024)),
    dict(embedding_norm=True), _classes('Electra', *_BERT_HEADS, replaced='ElectraForPreTraining'),
    _read_electra, lambda arch: dict(embedding_size=arch.embedding_width or arch.width), _BERT_ONLY)
_ALBERT = Family(
    _BERT_KEYS | dict(
        vocabulary=('vocab_size', 30000), width=('hidden_size', 4096), heads=('num_attention_heads', 64),
        mlp=('intermediate_size', 16384), activation=('hidden_act', 'gelu_new'),
        embedding_width=('embedding_size', 128), layer_groups=('num_hidden_groups', 1)),
    dict(embedding_norm=True), _classes('Albert', *_BERT_HEADS), _pooler('tanh'),
    only=_BERT_ONLY | dict(inner_group_num=(1,)))


def _read_modernbert(config):
  layers = config.get('num_hidden_layers', 22)
  every = config.get('global_attn_every_n_layers', 3)
  kinds = config.get('layer_types') or ['sliding_attention' if i % every else 'full_attention' for i in range(layers)]
  base, local, scaling = rotary.read(config, 160000.0, config.get('local_rope_theta') or 10000.0, 'global_rope_theta')
  activation = ACTIVATIONS[config.get('classifier_activation', 'gelu')]
  return dict(windows=rotary.windows(kinds, 2 * (config.get('local_attention', 128) // 2)), rotary_base=base,
              local_rotary_base=local, rotary_scaling=scaling, head_activation=activation,
              pooler=activation if config['head'] in ('classifier', 'token', 'span') else '',
              pool={'cls': 'first', 'mean': 'mean'}[config.get('classifier_pooling', 'cls')])


_MODERNBERT = Family(
    dict(vocabulary=('vocab_size', 50368), width=('hidden_size', 768), layers=('num_hidden_layers', 22),
         heads=('num_attention_heads', 12), mlp=('intermediate_size', 1152),
         activation=('hidden_activation', 'gelu'), norm_eps=('norm_eps', 1e-5),
         max_positions=('max_position_embeddings', 8192), init_std=('initializer_range', 0.02)),
    dict(gated=True, norm='layer_unbiased', norm_place='before', skip_first_norm=True, bias='none', positions='rotary',
         embedding_norm=True, pooler_norm=True),
    _classes('ModernBert', *_BERT_HEADS), _read_modernbert,
    lambda arch: rotary.write(arch, nested=True) | dict(
        local_attention=max(arch.windows) or 128, classifier_activation=THEIRS[arch.head_activation or 'gelu'],
        classifier_pooling={'first': 'cls', 'mean': 'mean'}.get(arch.pool, arch.pool)),
    dict(norm_bias=(False,), attention_bias=(False,), mlp_bias=(False,), classifier_bias=(False,), decoder_bias=(True,),
         classifier_pooling=('cls', 'mean')))

_DECODER = dict(kind='decoder', norm_place='before', pool='last', init='normal')
_GPT2 = Family(
    dict(vocabulary=('vocab_size', 50257), width=('n_embd', 768), layers=('n_layer', 12), heads=('n_head', 12),
         activation=('activation_function', 'gelu_new'), norm_eps=('layer_norm_epsilon', 1e-5),
         max_positions=('n_positions', 1024), init_std=('initializer_range', 0.02)),
    _DECODER, _classes('GPT2', 'classifier', 'token', 'span', causal='GPT2LMHeadModel'),
    lambda config: dict(mlp=config.get('n_inner') or 4 * config.get('n_embd', 768)),
    lambda arch: dict(n_inner=arch.mlp),
    dict(scale_attn_weights=(True,), scale_attn_by_inverse_layer_idx=(False,), add_cross_attention=(False,)))


def _read_opt(config):
  width = config.get('hidden_size', 768)
  inner = config.get('word_embed_proj_dim') or width
  return dict(norm_place='before' if config.get('do_layer_norm_before', True) else 'after', norm_eps=1e-5,
              embedding_width=0 if inner == width else inner, bias='all' if config.get('enable_bias', True) else 'none',
              max_positions=config.get('max_position_embeddings', 2048) + 2)


_OPT = Family(
    dict(vocabulary=('vocab_size', 50272), width=('hidden_size', 768), layers=('num_hidden_layers', 12),
         heads=('num_attention_heads', 12), mlp=('ffn_dim', 3072), activation=('activation_function', 'relu'),
         init_std=('init_std', 0.02)),
    _DECODER | dict(position_offset=2), _classes('OPT', 'causal', 'classifier', 'span'), _read_opt,
    lambda arch: dict(do_layer_norm_before=arch.norm_place == 'before', enable_bias=arch.bias == 'all',
                      word_embed_proj_dim=arch.embedding_width or arch.width,
                      max_position_embeddings=arch.max_positions - 2),
    dict(_remove_final_layer_norm=(False,), layer_norm_elementwise_affine=(True,)))


def _read_llama(config):
  bias = {(True, True): 'all', (True, False): 'attention', (False, True): 'mlp', (False, False): 'none'}
  base, _, scaling = rotary.read(config, 10000.0)
  heads = config.get('num_attention_heads', 32)
  return dict(kv_heads=config.get('num_key_value_heads') or heads, rotary_base=base, rotary_scaling=scaling,
              head_dim=config.get('head_dim') or config.get('hidden_size', 4096) // heads,
              bias=bias[bool(config.get('attention_bias')), bool(config.get('mlp_bias'))])


def _write_llama(arch):
  return rotary.write(arch) | dict(
      num_key_value_heads=arch.key_heads, head_dim=arch.head_width, attention_bias=arch.has_bias('out'),
      mlp_bias=arch.has_bias('mlp'))


_LLAMA_KEYS = dict(
    vocabulary=('vocab_size', 32000), width=('hidden_size', 4096), layers=('num_hidden_layers', 32),
    heads=('num_attention_heads', 32), mlp=('intermediate_size', 11008), activation=('hidden_act', 'silu'),
    norm_eps=('rms_norm_eps', 1e-6), max_positions=('max_position_embeddings', 2048),
    init_std=('initializer_range', 0.02))
_LLAMA_HEADS = ('causal', 'classifier', 'token', 'span')
_LLAMA_FIXED = _DECODER | dict(gated=True, norm='rms', positions='rotary')
_LLAMA = Family(_LLAMA_KEYS, _LLAMA_FIXED, _classes('Llama', *_LLAMA_HEADS), _read_llama, _write_llama)
_MISTRAL = Family(
    _LLAMA_KEYS | dict(mlp=('intermediate_size', 14336), max_positions=('max_position_embeddings', 131072)),
    _LLAMA_FIXED, _classes('Mistral', *_LLAMA_HEADS),
    lambda config: _read_llama(dict(num_key_value_heads=8) | config) | dict(
        windows=(config.get('sliding_window', 4096) or 0,), bias='none'),
    lambda arch: _write_llama(arch) | dict(sliding_window=max(arch.windows) or None))


def _read_qwen(config, bias, **more):
  layers, first = config.get('num_hidden_layers', 32), config.get('max_window_layers', 28)
  sliding = bool(config.get('use_sliding_window')) and bool(config.get('sliding_window', 4096))
  kinds = config.get('layer_types') or [
      'sliding_attention' if sliding and i >= first else 'full_attention' for i in range(layers)]
  return _read_llama(dict(num_key_value_heads=32) | config) | more | dict(
      windows=rotary.windows(kinds, config.get('sliding_window') or 0), bias=bias)


def _write_qwen(arch):
  return _write_llama(arch) | rotary.write_windows(arch) | dict(use_sliding_window=any(arch.windows))


_QWEN2 = Family(
    _LLAMA_KEYS | dict(vocabulary=('vocab_size', 151936), mlp=('intermediate_size', 22016),
                       max_positions=('max_position_embeddings', 32768)),
    _LLAMA_FIXED, _classes('Qwen2', *_LLAMA_HEADS), lambda config: _read_qwen(config, 'qkv'), _write_qwen)
_QWEN3 = _QWEN2._replace(
    fixed=_LLAMA_FIXED | dict(query_norm=True), heads=_classes('Qwen3', *_LLAMA_HEADS),
    read=lambda config: _read_qwen(dict(head_dim=128) | config,
                                   'attention' if config.get('attention_bias') else 'none'))


def _read_gemma(config, pattern, base, local, window):
  layers = config.get('num_hidden_layers', 26)
  every = config.get('sliding_window_pattern') or config.get('_sliding_window_pattern') or pattern
  kinds = config.get('layer_types') or [
      'sliding_attention' if (i + 1) % every else 'full_attention' for i in range(layers)]
  base, local, scaling = rotary.read(config, base, local and (config.get('rope_local_base_freq') or local))
  width = config.get('hidden_size', 2304)
  return dict(
      kv_heads=config.get('num_key_value_heads', 4), head_dim=config.get('head_dim', 256), rotary_base=base,
      local_rotary_base=local, rotary_scaling=scaling, embedding_scale=width ** 0.5,
      windows=rotary.windows(kinds, config.get('sliding_window', window) or 0),
      attention_scale=config.get('query_pre_attn_scalar', 256) ** -0.5,
      bias='attention' if config.get('attention_bias') else 'none')


def _write_gemma(arch):
  return rotary.write(arch, nested=bool(arch.local_rotary_base)) | rotary.write_windows(arch) | dict(
      num_key_value_heads=arch.key_heads, head_dim=arch.head_width, attention_bias=arch.has_bias('out'),
      query_pre_attn_scalar=rotary.whole(arch.attention_scale ** -2),
      attn_logit_softcapping=arch.attention_cap or None, final_logit_softcapping=arch.logit_cap or None)


def _caps(config, attention, logit):
  return dict(attention_cap=config.get('attn_logit_softcapping', attention) or 0.0,
              logit_cap=config.get('final_logit_softcapping', logit) or 0.0)


_GEMMA_KEYS = _LLAMA_KEYS | dict(
    vocabulary=('vocab_size', 256000), width=('hidden_size', 2304), layers=('num_hidden_layers', 26),
    heads=('num_attention_heads', 8), mlp=('intermediate_size', 9216),
    activation=('hidden_activation', 'gelu_pytorch_tanh'), max_positions=('max_position_embeddings', 8192))
_GEMMA_FIXED = _LLAMA_FIXED | dict(norm='rms_shifted', norm_place='both')
_GEMMA2 = Family(
    _GEMMA_KEYS, _GEMMA_FIXED, _classes('Gemma2', 'causal', 'classifier', 'token'),
    lambda config: _read_gemma(config, 2, 10000.0, 0.0, 4096) | _caps(config, 50.0, 30.0), _write_gemma,
    dict(use_bidirectional_attention=(False, None)))
_GEMMA3 = Family(
    _GEMMA_KEYS | dict(vocabulary=('vocab_size', 262208), max_positions=('max_position_embeddings', 131072)),
    _GEMMA_FIXED | dict(query_norm=True),
    {'none': 'Gemma3TextModel', 'causal': 'Gemma3ForCausalLM', 'classifier': 'Gemma3TextForSequenceClassification'},
    lambda config: _read_gemma(config, 6, 1e6, 10000.0, 4096) | _caps(config, None, None), _write_gemma,
    dict(use_bidirectional_attention=(False, None)))


def _read_t5(config):
  how = config.get('feed_forward_proj', 'relu').split('-')
  width = config.get('d_model', 512)
  scaled = config.get('scale_decoder_outputs', config.get('tie_word_embeddings', True))
  activation = 'gelu_new' if how == ['gated', 'gelu'] else how[-1]
  encoder_only = config['head'] == 'token' or config['class'] == 'T5EncoderModel'
  decoder_layers = config.get('num_decoder_layers') or config.get('num_layers', 6)
  return dict(
      gated=how[0] == 'gated', activation=ACTIVATIONS[activation],
      output_scale=width ** -0.5 if scaled and config['head'] == 'causal' else 1.0,
      kind='encoder' if encoder_only else 'encoder-decoder',
      decoder_layers=0 if encoder_only or decoder_layers == config.get('num_layers', 6) else decoder_layers,
      pool='last' if config['head'] == 'classifier' else 'mean',
      pooler='tanh' if config['head'] == 'classifier' else '')


def _write_t5(arch):
  how = {'gelu_tanh': 'gelu' if arch.gated else 'gelu_new'}.get(arch.activation, arch.activation)
  return dict(feed_forward_proj=f'gated-{how}' if arch.gated else how, is_gated_act=arch.gated,
              num_decoder_layers=arch.decoder_layers or arch.layers, is_encoder_decoder=arch.kind != 'encoder',
              scale_decoder_outputs=arch.output_scale != 1.0 or arch.head != 'causal',
              decoder_start_token_id=0)


_T5 = Family(
    dict(vocabulary=('vocab_size', 32128), width=('d_model', 512), layers=('num_layers', 6), heads=('num_heads', 8),
         head_dim=('d_kv', 64), mlp=('d_ff', 2048), norm_eps=('layer_norm_epsilon', 1e-6),
         relative_buckets=('relative_attention_num_buckets', 32),
         relative_distance=('relative_attention_max_distance', 128)),
    dict(norm='rms', norm_place='before', bias='none', positions='relative', attention_scale=1.0, init='fan_in'),
    _classes('T5', 'classifier', 'token', 'span', causal='T5ForConditionalGeneration'), _read_t5, _write_t5)


def _read_bart(config):
  layers, decoder_layers = config.get('encoder_layers', 12), config.get('decoder_layers', 12)
  width = config.get('d_model', 1024)
  for part in ('ffn_dim', 'attention_heads'):
    encoder, decoder = f'encoder_{part}', f'decoder_{part}'
    if config.get(encoder) != config.get(decoder):
      raise ValueError(f'config.json: {decoder} {config.get(decoder)} is not {encoder} {config.get(encoder)}')
  return dict(decoder_layers=0 if decoder_layers == layers else decoder_layers, norm_eps=1e-5,
              max_positions=config.get('max_position_embeddings', 1024) + 2,
              embedding_scale=width ** 0.5 if config.get('scale_embedding') else 1.0,
              pooler='tanh' if config['head'] == 'classifier' else '')


_BART = Family(
    dict(vocabulary=('vocab_size', 50265), width=('d_model', 1024), layers=('encoder_layers', 12),
         heads=('encoder_attention_heads', 16), mlp=('encoder_ffn_dim', 4096),
         activation=('activation_function', 'gelu'), init_std=('init_std', 0.02)),
    dict(kind='encoder-decoder', embedding_norm=True, position_offset=2, pool='last', init='normal'),
    _classes('Bart', 'classifier', 'span', causal='BartForConditionalGeneration'), _read_bart,
    lambda arch: dict(decoder_layers=arch.decoder_layers or arch.layers, decoder_ffn_dim=arch.mlp,
                      decoder_attention_heads=arch.heads, max_position_embeddings=arch.max_positions - 2,
                      scale_embedding=arch.embedding_scale != 1.0, is_encoder_decoder=True))

FAMILIES = {
    'bert': _BERT, 'roberta': _ROBERTA, 'distilbert': _DISTILBERT, 'electra': _ELECTRA, 'albert': _ALBERT,
    'modernbert': _MODERNBERT, 'gpt2': _GPT2, 'opt': _OPT, 'llama': _LLAMA, 'mistral': _MISTRAL, 'qwen2': _QWEN2,
    'qwen3': _QWEN3, 'gemma2': _GEMMA2, 'gemma3_text': _GEMMA3, 't5': _T5, 'bart': _BART}
