"""The families of Hugging Face: the names of their parameters, and what `config.json`
says of each: its keys, its classes, and what a table cannot tell.

>>> FAMILIES['bert'].heads['masked']
'BertForMaskedLM'
"""

from collections.abc import Callable

from tl_jax.interop import decoders, encoder_decoders, encoder_names, rotary
from tl_jax.interop.family import ACTIVATIONS, THEIRS, Family, classes

_BERT_KEYS = dict(
  vocabulary=('vocab_size', 30522),
  width=('hidden_size', 768),
  layers=('num_hidden_layers', 12),
  heads=('num_attention_heads', 12),
  mlp=('intermediate_size', 3072),
  activation=('hidden_act', 'gelu'),
  norm_eps=('layer_norm_eps', 1e-12),
  max_positions=('max_position_embeddings', 512),
  types=('type_vocab_size', 2),
  init_std=('initializer_range', 0.02),
)
_BERT_ONLY = dict(
  position_embedding_type=('absolute',),
  is_decoder=(False,),
  add_cross_attention=(False,),
)
_BERT_HEADS = ('masked', 'classifier', 'choice', 'token', 'span')
# Heads that read one vector of each text.
_OF_TEXTS = ('classifier', 'choice')
# The pooler of BERT and ALBERT is pre-trained with the body, by the head for pairs, and
# stays under every head.
_BODY_POOLER = dict(pooler='tanh', pooler_place='body')
_BERT = Family(
  encoder_names.BERT,
  _BERT_KEYS,
  dict(embedding_norm=True) | _BODY_POOLER,
  classes('Bert', *_BERT_HEADS),
  only=_BERT_ONLY,
)


def _pooler(activation: str, heads=('none', *_OF_TEXTS)) -> Callable[[dict], dict]:

  def read(config):
    return dict(pooler=activation if config['head'] in heads else '')

  return read


_ROBERTA = Family(
  encoder_names.ROBERTA,
  _BERT_KEYS | dict(vocabulary=('vocab_size', 50265)),
  dict(embedding_norm=True, position_offset=2, head_activation='gelu'),
  classes('Roberta', *_BERT_HEADS),
  _pooler('tanh'),
  only=_BERT_ONLY | dict(pad_token_id=(1,)),
)
# RoBERTa under other names; what their configurations leave out is BERT's.
_XLM_ROBERTA = _ROBERTA._replace(
  keys=_BERT_KEYS, heads=classes('XLMRoberta', *_BERT_HEADS)
)
_CAMEMBERT = _XLM_ROBERTA._replace(heads=classes('Camembert', *_BERT_HEADS))
_MPNET_KEYS = {
  field: key for field, key in _BERT_KEYS.items() if field != 'types'
} | dict(vocabulary=('vocab_size', 30527))
_MPNET = Family(
  encoder_names.MPNET,
  _MPNET_KEYS,
  dict(
    embedding_norm=True,
    positions='learned_relative',
    position_offset=2,
    head_activation='gelu',
  ),
  classes('MPNet', *_BERT_HEADS),
  _pooler('tanh'),
  # Its class makes 32 buckets whatever the configuration says.
  lambda arch: dict(relative_attention_num_buckets=32),
  dict(relative_attention_num_buckets=(32,)),
)


def _read_deberta(config):
  _require_deberta(config)
  width = config.get('hidden_size', 1536)
  heads = config.get('num_attention_heads', 24)
  head_dim = config.get('attention_head_size') or 0
  # A score is the sum of so many products, which its scale counts.
  products = 1 + len(_position_terms(config))
  head_width = head_dim or width // heads
  has_table = config.get('position_biased_input', True)
  fields = dict(
    positions='learned' if has_table else 'none',
    attention_scale=(head_width * products) ** -0.5,
    head_dim=head_dim,
    pooler='',
  )
  if config['head'] in _OF_TEXTS:
    fields['pooler'] = ACTIVATIONS[config.get('pooler_hidden_act', 'gelu')]
  if config.get('relative_attention'):
    farthest = config.get('max_relative_positions', -1)
    if farthest < 1:
      # -1 stands for the length of the text.
      farthest = config.get('max_position_embeddings', 512)
    fields |= dict(
      positions='disentangled',
      relative_buckets=config['position_buckets'],
      relative_distance=farthest,
    )
  return fields


def _position_terms(config) -> set[str]:
  """Which scores against relative positions there are, of `p2c` and `c2p`."""
  terms = config.get('pos_att_type') or ()
  if isinstance(terms, str):
    terms = terms.lower().split('|')
  return {term.strip() for term in terms} & {'p2c', 'c2p'}


def _require_deberta(config) -> None:
  """Raises ValueError that names the key of a variant which is not computed."""
  width = config.get('hidden_size', 1536)
  refused = {}
  refused['conv_kernel_size'] = (config.get('conv_kernel_size') or 0) > 0
  for key in ('embedding_size', 'pooler_hidden_size'):
    refused[key] = config.get(key, width) != width
  if config.get('relative_attention'):
    listed = str(config.get('norm_rel_ebd', 'none')).lower()
    norms = [norm.strip() for norm in listed.split('|')]
    buckets = config.get('position_buckets') or -1
    refused['position_biased_input'] = config.get('position_biased_input', True)
    refused['pos_att_type'] = _position_terms(config) != {'p2c', 'c2p'}
    refused['share_att_key'] = not config.get('share_att_key')
    refused['position_buckets'] = buckets < 1
    refused['norm_rel_ebd'] = 'layer_norm' not in norms
  for key, wrong in refused.items():
    if wrong:
      raise ValueError(
        f'config.json: {key} = {config.get(key)!r} is not supported; as DeBERTa-v3 has it, is'
      )


def _write_deberta(arch):
  if arch.head == 'masked' and not arch.tied:
    raise ValueError('tied: the masked head of a deberta-v2 uses the token table')
  relative = arch.positions == 'disentangled'
  # The scale tells how many kinds of scores are added up.
  scale = arch.attention_scale or arch.head_width**-0.5
  count = round(scale**-2 / arch.head_width) - 1
  terms = ['p2c', 'c2p'][: max(count, 0)]
  keys = dict(relative_attention=relative, legacy=False)
  keys['position_biased_input'] = arch.positions == 'learned'
  keys['pos_att_type'] = terms or None
  keys['pooler_hidden_size'] = arch.width
  keys['pooler_hidden_act'] = THEIRS[arch.pooler or 'gelu']
  if arch.head_dim:
    keys['attention_head_size'] = arch.head_width
  if relative:
    keys |= dict(
      share_att_key=True,
      norm_rel_ebd='layer_norm',
      position_buckets=arch.relative_buckets,
      max_relative_positions=arch.relative_distance,
    )
  return keys


_DEBERTA_V2_KEYS = _BERT_KEYS | dict(
  vocabulary=('vocab_size', 128100),
  width=('hidden_size', 1536),
  layers=('num_hidden_layers', 24),
  heads=('num_attention_heads', 24),
  mlp=('intermediate_size', 6144),
  norm_eps=('layer_norm_eps', 1e-7),
  types=('type_vocab_size', 0),
)
_DEBERTA_V2 = Family(
  encoder_names.DEBERTA_V2,
  _DEBERTA_V2_KEYS,
  dict(embedding_norm=True),
  classes('DebertaV2', *_BERT_HEADS),
  _read_deberta,
  _write_deberta,
)
_DISTILBERT_KEYS = dict(
  vocabulary=('vocab_size', 30522),
  width=('dim', 768),
  layers=('n_layers', 6),
  heads=('n_heads', 12),
  mlp=('hidden_dim', 3072),
  activation=('activation', 'gelu'),
  max_positions=('max_position_embeddings', 512),
  init_std=('initializer_range', 0.02),
)
_DISTILBERT = Family(
  encoder_names.DISTILBERT,
  _DISTILBERT_KEYS,
  dict(embedding_norm=True),
  classes('DistilBert', *_BERT_HEADS),
  _pooler('relu', _OF_TEXTS),
)


def _read_electra(config):
  inner = config.get('embedding_size', 128)
  # The generator's head has gelu whatever the layers have; the discriminator's has
  # theirs.
  activation = 'gelu'
  if config['head'] == 'replaced':
    activation = ACTIVATIONS[config.get('hidden_act', 'gelu')]
  width = config.get('hidden_size', 256)
  if config['head'] == 'choice':
    _require_summary(config)
  return dict(
    embedding_width=0 if inner == width else inner,
    head_activation=activation,
    pooler='gelu' if config['head'] in _OF_TEXTS else '',
  )


def _require_summary(config) -> None:
  """Raises ValueError for another pooler before the scores of candidates than ELECTRA's
  own.
  """
  usual = dict(summary_type='first', summary_use_proj=True, summary_activation='gelu')
  for key, value in usual.items():
    if config.get(key, value) != value:
      raise ValueError(
        f'config.json: {key} = {config[key]!r} is not supported; {value!r} is'
      )


_ELECTRA_KEYS = _BERT_KEYS | dict(
  width=('hidden_size', 256),
  heads=('num_attention_heads', 4),
  mlp=('intermediate_size', 1024),
)
_ELECTRA = Family(
  encoder_names.ELECTRA,
  _ELECTRA_KEYS,
  dict(embedding_norm=True),
  classes('Electra', *_BERT_HEADS, replaced='ElectraForPreTraining'),
  _read_electra,
  lambda arch: dict(embedding_size=arch.embedding_width or arch.width),
  _BERT_ONLY,
)
_ALBERT_KEYS = _BERT_KEYS | dict(
  vocabulary=('vocab_size', 30000),
  width=('hidden_size', 4096),
  heads=('num_attention_heads', 64),
  mlp=('intermediate_size', 16384),
  activation=('hidden_act', 'gelu_new'),
  embedding_width=('embedding_size', 128),
  layer_groups=('num_hidden_groups', 1),
)
_ALBERT = Family(
  encoder_names.ALBERT,
  _ALBERT_KEYS,
  dict(embedding_norm=True) | _BODY_POOLER,
  classes('Albert', *_BERT_HEADS),
  only=_BERT_ONLY | dict(inner_group_num=(1,)),
)


def _read_modernbert(config):
  kinds = config.get('layer_types')
  if not kinds:
    layers = config.get('num_hidden_layers', 22)
    every = config.get('global_attn_every_n_layers', 3)
    kinds = [rotary.LOCAL if i % every else rotary.GLOBAL for i in range(layers)]
  local = config.get('local_rope_theta') or 10000.0
  base, local, scaling = rotary.read(config, 160000.0, local, 'global_rope_theta')
  activation = ACTIVATIONS[config.get('classifier_activation', 'gelu')]
  has_pooler = config['head'] in (*_OF_TEXTS, 'token', 'span')
  pools = {'cls': 'first', 'mean': 'mean'}
  pool = pools[config.get('classifier_pooling', 'cls')]
  # A token sees half of the window on each side, so an odd one is one less.
  each_side = config.get('local_attention', 128) // 2
  return dict(
    windows=rotary.windows(kinds, 2 * each_side),
    rotary_base=base,
    local_rotary_base=local,
    rotary_scaling=scaling,
    head_activation=activation,
    pooler=activation if has_pooler else '',
    pool=pool,
  )


_MODERNBERT_KEYS = dict(
  vocabulary=('vocab_size', 50368),
  width=('hidden_size', 768),
  layers=('num_hidden_layers', 22),
  heads=('num_attention_heads', 12),
  mlp=('intermediate_size', 1152),
  activation=('hidden_activation', 'gelu'),
  norm_eps=('norm_eps', 1e-5),
  max_positions=('max_position_embeddings', 8192),
  init_std=('initializer_range', 0.02),
)
_MODERNBERT_FIXED = dict(
  gated=True,
  norm='layer_unbiased',
  norm_place='before',
  skip_first_norm=True,
  bias='none',
  positions='rotary',
  embedding_norm=True,
  pooler_norm=True,
)
_MODERNBERT_ONLY = dict(
  norm_bias=(False,),
  attention_bias=(False,),
  mlp_bias=(False,),
  classifier_bias=(False,),
  decoder_bias=(True,),
  classifier_pooling=('cls', 'mean'),
)
_MODERNBERT = Family(
  encoder_names.MODERNBERT,
  _MODERNBERT_KEYS,
  _MODERNBERT_FIXED,
  classes('ModernBert', *_BERT_HEADS),
  _read_modernbert,
  lambda arch: (
    rotary.write(arch, nested=True)
    | dict(
      local_attention=max(arch.windows) or 128,
      classifier_activation=THEIRS[arch.head_activation or 'gelu'],
      classifier_pooling={'first': 'cls', 'mean': 'mean'}.get(arch.pool, arch.pool),
    )
  ),
  _MODERNBERT_ONLY,
)


# By `model_type` of config.json. An architecture that came from none of them, and that
# several can express, is written as the first of these.
FAMILIES = {
  'bert': _BERT,
  'roberta': _ROBERTA,
  'xlm-roberta': _XLM_ROBERTA,
  'camembert': _CAMEMBERT,
  'distilbert': _DISTILBERT,
  'electra': _ELECTRA,
  'albert': _ALBERT,
  'mpnet': _MPNET,
  'deberta-v2': _DEBERTA_V2,
  'modernbert': _MODERNBERT,
  **decoders.FAMILIES,
  **encoder_decoders.FAMILIES,
}
