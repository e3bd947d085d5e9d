"""What the parameters of encoder-decoders are called in Hugging Face checkpoints.

>>> T5.body['embedding/tokens']
'shared.weight'
"""

from tl_jax.interop.name_map import TOKEN_HEADS, Names, layers

# A writer may keep the shared token table under the name that a stack has for it.
_STACK_TABLES = ('encoder.embed_tokens.weight', 'decoder.embed_tokens.weight')
_SUMMARY_HEAD = {
  'head/pooler': 'classification_head.dense',
  'head': 'classification_head.out_proj',
}

_T5_SELF = {
  'attention/query': 'layer.0.SelfAttention.q',
  'attention/key': 'layer.0.SelfAttention.k',
  'attention/value': 'layer.0.SelfAttention.v',
  'attention/out': 'layer.0.SelfAttention.o',
  'attention_norm': 'layer.0.layer_norm',
}
_T5_CROSS = {
  'cross/query': 'layer.1.EncDecAttention.q',
  'cross/key': 'layer.1.EncDecAttention.k',
  'cross/value': 'layer.1.EncDecAttention.v',
  'cross/out': 'layer.1.EncDecAttention.o',
  'cross_norm': 'layer.1.layer_norm',
}
_T5_TABLE = 'layer.0.SelfAttention.relative_attention_bias.weight|as-is'
# Where a stack lies: our prefix and theirs. The last row is of an encoder that stands
# alone, which has no prefix with us.
_T5_STACKS = (('encoder/', 'encoder'), ('decoder/', 'decoder'), ('', 'encoder'))


def _t5_mlp(stack: str) -> str:
  """The MLP of a layer: its third sublayer in the decoder, else the second."""
  return f'layer.{2 if stack == "decoder" else 1}'


def _t5_stack(ours: str, theirs: str) -> dict:
  """The rows of one stack of T5, whose MLP is not gated."""
  mlp = _t5_mlp(theirs)
  modules = _T5_SELF | {
    'mlp/in': f'{mlp}.DenseReluDense.wi',
    'mlp/out': f'{mlp}.DenseReluDense.wo',
    'mlp_norm': f'{mlp}.layer_norm',
  }
  if theirs == 'decoder':
    modules |= _T5_CROSS
  rest = {
    # The first layer has the table of all.
    f'{ours}relative/kernel': f'{theirs}.block.0.{_T5_TABLE}',
    f'{ours}final_norm': f'{theirs}.final_layer_norm',
  }
  return layers(ours, f'{theirs}.block', modules) | rest


def _t5_gated_mlp(ours: str, theirs: str) -> dict:
  """The rows of a gated MLP, whose input maps are numbered: the gate is the first."""
  mlp = _t5_mlp(theirs)
  maps = {
    'mlp/gate': f'{mlp}.DenseReluDense.wi_0',
    'mlp/in': f'{mlp}.DenseReluDense.wi_1',
  }
  return layers(ours, f'{theirs}.block', maps)


_T5_BODY = {'embedding/tokens': 'shared.weight'}
_T5_GATED = {}
for _ours, _theirs in _T5_STACKS:
  _T5_BODY |= _t5_stack(_ours, _theirs)
  _T5_GATED |= _t5_gated_mlp(_ours, _theirs)
_T5_HEADS = {'causal': {'head/kernel': 'lm_head.weight'}, 'classifier': _SUMMARY_HEAD}
T5 = Names(
  _T5_BODY,
  _T5_HEADS | TOKEN_HEADS,
  '',
  {'classifier': 'transformer.', 'token': 'transformer.'},
  gated=_T5_GATED,
  extra=(
    r'(encoder|decoder)\.embed_tokens\.weight',
    r'lm_head\.weight',
    r'decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight',
  ),
  tables=_STACK_TABLES,
)

# Every layer of UMT5 has a table of its own.
_UMT5_TABLES = {}
for _ours, _theirs in _T5_STACKS:
  _UMT5_TABLES |= layers(_ours, f'{_theirs}.block', {'relative/kernel': _T5_TABLE})
UMT5 = T5._replace(body=_T5_BODY | _UMT5_TABLES)

_BART_SELF = {
  'attention/query': 'self_attn.q_proj',
  'attention/key': 'self_attn.k_proj',
  'attention/value': 'self_attn.v_proj',
  'attention/out': 'self_attn.out_proj',
  'attention_norm': 'self_attn_layer_norm',
}
_BART_CROSS = {
  'cross/query': 'encoder_attn.q_proj',
  'cross/key': 'encoder_attn.k_proj',
  'cross/value': 'encoder_attn.v_proj',
  'cross/out': 'encoder_attn.out_proj',
  'cross_norm': 'encoder_attn_layer_norm',
}
_BART_MLP = {'mlp/in': 'fc1', 'mlp/out': 'fc2', 'mlp_norm': 'final_layer_norm'}


def _bart_stack(side: str) -> dict:
  """The rows of one stack of BART. Those of the cross attention explain nothing in an
  encoder, which has none.
  """
  rest = {
    f'{side}/embedding/positions': f'{side}.embed_positions.weight',
    f'{side}/embedding/norm': f'{side}.layernorm_embedding',
    # mBART and Pegasus alone.
    f'{side}/final_norm': f'{side}.layer_norm',
  }
  modules = _BART_SELF | _BART_CROSS | _BART_MLP
  return layers(f'{side}/', f'{side}.layers', modules) | rest


_BART_TOKENS = {'embedding/tokens': 'shared.weight'}
_BART_HEADS = {
  'causal': {'head/kernel': 'lm_head.weight', 'head/bias': 'final_logits_bias|row'},
  'classifier': _SUMMARY_HEAD,
  'span': {'head': 'qa_outputs'},
}
BART = Names(
  _BART_TOKENS | _bart_stack('encoder') | _bart_stack('decoder'),
  _BART_HEADS,
  'model.',
  tables=_STACK_TABLES,
  zeros=('final_logits_bias',),
  extra=(
    r'(encoder|decoder)\.embed_tokens\.weight',
    r'lm_head\.weight',
    r'(encoder|decoder)\.version',
  ),
)
SINUSOIDAL = BART._replace(
  sines=('encoder.embed_positions.weight', 'decoder.embed_positions.weight')
)
