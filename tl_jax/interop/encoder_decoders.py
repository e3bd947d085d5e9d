"""What `config.json` says for the families of encoder-decoders: T5's and BART's.

>>> FAMILIES['t5'].heads['causal']
'T5ForConditionalGeneration'
"""

from tl_jax.interop import encoder_decoder_names
from tl_jax.interop.family import ACTIVATIONS, Family, classes


def _read_t5(config):
  head = config['head']
  how = config.get('feed_forward_proj', 'relu').split('-')
  # transformers reads "gated-gelu" as the approximation.
  activation = 'gelu_new' if how == ['gated', 'gelu'] else how[-1]
  # Whatever the config says of `tied`, transformers ties them unless the file has two.
  fields = dict(kind='encoder', tied=True, pool='mean', pooler='', output_scale=1.0)
  fields['gated'] = how[0] == 'gated'
  fields['activation'] = ACTIVATIONS[activation]
  fields['head_bias'] = head != 'causal'
  fields['start'] = config.get('decoder_start_token_id') or 0
  if head == 'classifier':
    fields |= dict(pool='last', pooler='tanh')
  # Before there was a key for the scale, a tied table was scaled.
  scaled = config.get('scale_decoder_outputs', config.get('tie_word_embeddings', True))
  # Nothing else reads the scale, but a model with another head may have this one again.
  if scaled:
    fields['output_scale'] = config.get('d_model', 512) ** -0.5
  if head != 'token' and not config['class'].endswith('EncoderModel'):
    fields |= dict(kind='encoder-decoder') | _decoder_layers(config)
  return fields


def _decoder_layers(config) -> dict:
  """The layers of T5's decoder, where they are not as many as the encoder's."""
  layers = config.get('num_layers', 6)
  own = config.get('num_decoder_layers') or layers
  return dict(decoder_layers=0 if own == layers else own)


def _write_t5(arch):
  how = arch.activation
  # transformers reads "gated-gelu" as the approximation.
  if how == 'gelu_tanh':
    how = 'gelu' if arch.gated else 'gelu_new'
  keys = dict(decoder_start_token_id=arch.start, is_gated_act=arch.gated)
  keys['feed_forward_proj'] = f'gated-{how}' if arch.gated else how
  keys['num_decoder_layers'] = arch.decoder_layers or arch.layers
  keys['is_encoder_decoder'] = arch.kind != 'encoder'
  keys['scale_decoder_outputs'] = arch.output_scale != 1.0
  return keys


_T5_HEADS = ('classifier', 'token', 'span')
_T5_KEYS = dict(
  vocabulary=('vocab_size', 32128),
  width=('d_model', 512),
  layers=('num_layers', 6),
  heads=('num_heads', 8),
  head_dim=('d_kv', 64),
  mlp=('d_ff', 2048),
  norm_eps=('layer_norm_epsilon', 1e-6),
  relative_buckets=('relative_attention_num_buckets', 32),
  relative_distance=('relative_attention_max_distance', 128),
)
_T5_FIXED = dict(
  norm='rms',
  norm_place='before',
  bias='none',
  positions='relative',
  attention_scale=1.0,
  init='fan_in',
)
_T5 = Family(
  encoder_decoder_names.T5,
  _T5_KEYS,
  _T5_FIXED,
  classes('T5', *_T5_HEADS, causal='T5ForConditionalGeneration'),
  _read_t5,
  _write_t5,
)


def _read_umt5(config):
  return _read_t5(dict(feed_forward_proj='gated-gelu', num_layers=8) | config)


def _read_mt5(config):
  # It never scales what the vocabulary product reads, whether the table is tied or not.
  return _read_umt5(config) | dict(output_scale=1.0)


def _write_mt5(arch):
  keys = _write_t5(arch)
  del keys['scale_decoder_outputs']
  return keys


_MT5_KEYS = _T5.keys | dict(
  vocabulary=('vocab_size', 250112),
  layers=('num_layers', 8),
  heads=('num_heads', 6),
  mlp=('d_ff', 1024),
)
_MT5 = Family(
  encoder_decoder_names.T5,
  _MT5_KEYS,
  _T5.fixed,
  classes('MT5', *_T5_HEADS, causal='MT5ForConditionalGeneration'),
  _read_mt5,
  _write_mt5,
)
_UMT5 = _MT5._replace(
  names=encoder_decoder_names.UMT5,
  fixed=_T5.fixed | dict(positions='relative_by_layer'),
  heads=classes('UMT5', *_T5_HEADS, causal='UMT5ForConditionalGeneration'),
  read=_read_umt5,
  write=_write_t5,
)


# (our field, their key behind `encoder_` and `decoder_`, the value where there is none)
_BART_SIDES = (
  ('layers', 'layers', 12),
  ('heads', 'attention_heads', 16),
  ('mlp', 'ffn_dim', 4096),
)


def _read_bart(config, offset=2):
  """offset: rows of the table of positions before the first."""
  fields = dict(norm_eps=1e-5, pooler='', embedding_scale=1.0)
  for field, key, default in _BART_SIDES:
    encoder = config.get(f'encoder_{key}', default)
    decoder = config.get(f'decoder_{key}', default)
    fields[f'decoder_{field}'] = 0 if decoder == encoder else decoder
  fields['max_positions'] = config.get('max_position_embeddings', 1024) + offset
  if config.get('scale_embedding'):
    fields['embedding_scale'] = config.get('d_model', 1024) ** 0.5
  if config['head'] == 'classifier':
    fields['pooler'] = 'tanh'
  return fields


def _write_bart(arch):
  return dict(
    decoder_layers=arch.decoder_layers or arch.layers,
    decoder_ffn_dim=arch.decoder.mlp,
    decoder_attention_heads=arch.decoder.heads,
    max_position_embeddings=arch.room,
    scale_embedding=arch.embedding_scale != 1.0,
    is_encoder_decoder=True,
  )


def _read_own_bart(config):
  start = config.get('decoder_start_token_id')
  return _read_bart(config) | dict(start=2 if start is None else start)


def _write_own_bart(arch):
  found = _write_bart(arch)
  # Its decoder starts with the token that ends a text, and with that transformers ends
  # texts that are too long; where nothing is said, it is 2.
  if arch.start > 0:
    found['forced_eos_token_id'] = arch.start
  # A checkpoint from before there was `start` has 0 in its place.
  if arch.start > 0 or arch.repeats_text:
    found['decoder_start_token_id'] = arch.start
  return found


_BART_KEYS = dict(
  vocabulary=('vocab_size', 50265),
  width=('d_model', 1024),
  layers=('encoder_layers', 12),
  heads=('encoder_attention_heads', 16),
  mlp=('encoder_ffn_dim', 4096),
  activation=('activation_function', 'gelu'),
  init_std=('init_std', 0.02),
)
_BART_FIXED = dict(kind='encoder-decoder', pool='last', init='normal')
_LEARNED = dict(embedding_norm=True, position_offset=2)
_BART = Family(
  encoder_decoder_names.BART,
  _BART_KEYS,
  _BART_FIXED | _LEARNED,
  classes('Bart', 'classifier', 'span', causal='BartForConditionalGeneration'),
  _read_own_bart,
  _write_own_bart,
)
# Before a text, its decoder reads the token of the language, which the text ends with.
_MBART = _BART._replace(
  fixed=_BART_FIXED | _LEARNED | dict(norm_place='before', start=-1),
  heads=classes('MBart', 'classifier', 'span', causal='MBartForConditionalGeneration'),
  read=_read_bart,
  write=_write_bart,
)
_PEGASUS = Family(
  encoder_decoder_names.SINUSOIDAL,
  _BART_KEYS,
  _BART_FIXED | dict(positions='sinusoidal', norm_place='before'),
  classes('Pegasus', causal='PegasusForConditionalGeneration'),
  lambda config: _read_bart(config, 0),
  _write_bart,
)


def _read_marian(config):
  rows = config.get('vocab_size', 58101)
  if (config.get('decoder_vocab_size') or rows) != rows:
    raise ValueError(
      f'config.json: decoder_vocab_size = {config["decoder_vocab_size"]!r} is not supported; '
      f'{rows}, the vocab_size, is'
    )
  return _read_bart(config, 0)


def _write_marian(arch):
  last = arch.vocabulary - 1
  keys = _write_bart(arch)
  keys['decoder_vocab_size'] = arch.vocabulary
  keys |= dict(eos_token_id=0, pad_token_id=last, decoder_start_token_id=last)
  return keys


_MARIAN = Family(
  encoder_decoder_names.SINUSOIDAL,
  _BART_KEYS | dict(vocabulary=('vocab_size', 58101)),
  _BART_FIXED | dict(positions='sinusoidal'),
  classes('Marian', causal='MarianMTModel'),
  _read_marian,
  _write_marian,
  dict(share_encoder_decoder_embeddings=(True,)),
)

FAMILIES = {
  't5': _T5,
  'mt5': _MT5,
  'umt5': _UMT5,
  'bart': _BART,
  'mbart': _MBART,
  'marian': _MARIAN,
  'pegasus': _PEGASUS,
}
