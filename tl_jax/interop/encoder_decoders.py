"""What `config.json` says for the families of encoder-decoders: T5's and BART's.

>>> FAMILIES['t5'].heads['causal']
'T5ForConditionalGeneration'
"""

from tl_jax.interop.family import ACTIVATIONS, Family, classes


def _read_t5(config):
  how = config.get('feed_forward_proj', 'relu').split('-')
  width, layers = config.get('d_model', 512), config.get('num_layers', 6)
  activation = 'gelu_new' if how == ['gated', 'gelu'] else how[-1]
  head = config['head']
  encoder_only = head == 'token' or config['class'].endswith('EncoderModel')
  decoder_layers = config.get('num_decoder_layers') or layers
  scaled = config.get('scale_decoder_outputs', config.get('tie_word_embeddings', True))
  return dict(
      gated=how[0] == 'gated', activation=ACTIVATIONS[activation],
      output_scale=width ** -0.5 if scaled and head == 'causal' else 1.0,
      kind='encoder' if encoder_only else 'encoder-decoder',
      decoder_layers=0 if encoder_only or decoder_layers == layers else decoder_layers,
      # Whatever the config says, transformers ties them unless the file has two.
      tied=True, head_bias=head != 'causal', pool='last' if head == 'classifier' else 'mean',
      pooler='tanh' if head == 'classifier' else '')


def _write_t5(arch):
  how = {'gelu_tanh': 'gelu' if arch.gated else 'gelu_new'}.get(arch.activation, arch.activation)
  return dict(feed_forward_proj=f'gated-{how}' if arch.gated else how, is_gated_act=arch.gated,
              num_decoder_layers=arch.decoder_layers or arch.layers, is_encoder_decoder=arch.kind != 'encoder',
              scale_decoder_outputs=arch.output_scale != 1.0 or arch.head != 'causal',
              decoder_start_token_id=0)


_T5_HEADS = ('classifier', 'token', 'span')
_T5 = Family(
    dict(vocabulary=('vocab_size', 32128), width=('d_model', 512), layers=('num_layers', 6), heads=('num_heads', 8),
         head_dim=('d_kv', 64), mlp=('d_ff', 2048), norm_eps=('layer_norm_epsilon', 1e-6),
         relative_buckets=('relative_attention_num_buckets', 32),
         relative_distance=('relative_attention_max_distance', 128)),
    dict(norm='rms', norm_place='before', bias='none', positions='relative', attention_scale=1.0, init='fan_in'),
    classes('T5', *_T5_HEADS, causal='T5ForConditionalGeneration'), _read_t5, _write_t5)


def _read_umt5(config):
  return _read_t5(dict(feed_forward_proj='gated-gelu', num_layers=8) | config)


def _read_mt5(config):
  # It never scales what the vocabulary product reads, whether the table is tied or not.
  return _read_umt5(config) | dict(output_scale=1.0)


def _write_mt5(arch):
  said = _write_t5(arch)
  del said['scale_decoder_outputs']
  return said


_MT5 = Family(
    _T5.keys | dict(vocabulary=('vocab_size', 250112), layers=('num_layers', 8), heads=('num_heads', 6),
                    mlp=('d_ff', 1024)),
    _T5.fixed, classes('MT5', *_T5_HEADS, causal='MT5ForConditionalGeneration'), _read_mt5, _write_mt5)
_UMT5 = _MT5._replace(
    fixed=_T5.fixed | dict(positions='relative_by_layer'),
    heads=classes('UMT5', *_T5_HEADS, causal='UMT5ForConditionalGeneration'), read=_read_umt5, write=_write_t5)


def _read_bart(config):
  layers, decoder_layers = config.get('encoder_layers', 12), config.get('decoder_layers', 12)
  width = config.get('d_model', 1024)
  heads, decoder_heads = config.get('encoder_attention_heads', 16), config.get('decoder_attention_heads', 16)
  mlp, decoder_mlp = config.get('encoder_ffn_dim', 4096), config.get('decoder_ffn_dim', 4096)
  return dict(decoder_layers=0 if decoder_layers == layers else decoder_layers, norm_eps=1e-5,
              decoder_heads=0 if decoder_heads == heads else decoder_heads,
              decoder_mlp=0 if decoder_mlp == mlp else decoder_mlp,
              max_positions=config.get('max_position_embeddings', 1024) + 2,
              embedding_scale=width ** 0.5 if config.get('scale_embedding') else 1.0,
              pooler='tanh' if config['head'] == 'classifier' else '')


_BART = Family(
    dict(vocabulary=('vocab_size', 50265), width=('d_model', 1024), layers=('encoder_layers', 12),
         heads=('encoder_attention_heads', 16), mlp=('encoder_ffn_dim', 4096),
         activation=('activation_function', 'gelu'), init_std=('init_std', 0.02)),
    dict(kind='encoder-decoder', embedding_norm=True, position_offset=2, pool='last', init='normal'),
    classes('Bart', 'classifier', 'span', causal='BartForConditionalGeneration'), _read_bart,
    lambda arch: dict(decoder_layers=arch.decoder_layers or arch.layers, decoder_ffn_dim=arch.decoder.mlp,
                      decoder_attention_heads=arch.decoder.heads, max_position_embeddings=arch.max_positions - 2,
                      scale_embedding=arch.embedding_scale != 1.0, is_encoder_decoder=True))

FAMILIES = {'t5': _T5, 'mt5': _MT5, 'umt5': _UMT5, 'bart': _BART}
