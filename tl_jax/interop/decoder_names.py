"""What the parameters of decoders are called in Hugging Face checkpoints.

>>> GPT2.body['final_norm']
'ln_f'
"""

from tl_jax.interop.name_map import TOKEN_HEADS, Names, layers

_GPT2_LAYER = {
  'attention/query': 'attn.c_attn|0',
  'attention/key': 'attn.c_attn|1',
  'attention/value': 'attn.c_attn|2',
  'attention/out': 'attn.c_proj',
  'attention_norm': 'ln_1',
  'mlp/in': 'mlp.c_fc',
  'mlp/out': 'mlp.c_proj',
  'mlp_norm': 'ln_2',
}
_GPT2_REST = {
  'embedding/tokens': 'wte.weight',
  'embedding/positions': 'wpe.weight',
  'final_norm': 'ln_f',
}
# The layers of GPT-2 store kernels (in, out), as we do; its heads are ordinary linear
# maps of PyTorch, (out, in).
_GPT2_HEADS = {
  'causal': {'head/kernel': 'lm_head.weight|transposed'},
  'classifier': {'head/kernel': 'score.weight|transposed'},
  'token': {'head/kernel': 'classifier.weight|transposed', 'head': 'classifier'},
  'span': {'head/kernel': 'qa_outputs.weight|transposed', 'head': 'qa_outputs'},
}
GPT2 = Names(
  _GPT2_REST | layers('', 'h', _GPT2_LAYER),
  TOKEN_HEADS | _GPT2_HEADS,
  'transformer.',
  transposed=False,
  extra=(r'h\.\d+\.attn\.(masked_)?bias', r'lm_head\.weight'),
)

_SCORE_HEADS = {
  'causal': {'head': 'lm_head'},
  'classifier': {'head': 'score'},
  'token': {'head': 'score'},
  'span': {'head': 'qa_outputs'},
}

_OPT_LAYER = {
  'attention/query': 'self_attn.q_proj',
  'attention/key': 'self_attn.k_proj',
  'attention/value': 'self_attn.v_proj',
  'attention/out': 'self_attn.out_proj',
  'attention_norm': 'self_attn_layer_norm',
  'mlp/in': 'fc1',
  'mlp/out': 'fc2',
  'mlp_norm': 'final_layer_norm',
}
_OPT_REST = {
  'embedding/tokens': 'decoder.embed_tokens.weight',
  'embedding/positions': 'decoder.embed_positions.weight',
  # OPT-350M alone: its token vectors are narrower than its layers.
  'embedding/project': 'decoder.project_in',
  'final_project': 'decoder.project_out',
  'final_norm': 'decoder.final_layer_norm',
}
OPT = Names(
  _OPT_REST | layers('', 'decoder.layers', _OPT_LAYER),
  _SCORE_HEADS,
  'model.',
  extra=(r'lm_head\.weight',),
)

_LLAMA_LAYER = {
  'attention/query': 'self_attn.q_proj',
  'attention/key': 'self_attn.k_proj',
  'attention/value': 'self_attn.v_proj',
  'attention/query_norm': 'self_attn.q_norm',
  'attention/key_norm': 'self_attn.k_norm',
  'attention/out': 'self_attn.o_proj',
  'attention_norm': 'input_layernorm',
  'mlp/gate': 'mlp.gate_proj',
  'mlp/in': 'mlp.up_proj',
  'mlp/out': 'mlp.down_proj',
  'mlp_norm': 'post_attention_layernorm',
}
_LLAMA_REST = {'embedding/tokens': 'embed_tokens.weight', 'final_norm': 'norm'}
LLAMA = Names(
  _LLAMA_REST | layers('', 'layers', _LLAMA_LAYER),
  _SCORE_HEADS,
  'model.',
  # The class for questions calls its body otherwise.
  {'span': 'transformer.'},
  extra=(r'lm_head\.weight',),
)
# Mistral's class for questions keeps `model.`.
MISTRAL = LLAMA._replace(bases={})


def _llama_but(modules: dict) -> Names:
  """Llama's map where a layer calls some modules otherwise."""
  return LLAMA._replace(body=LLAMA.body | layers('', 'layers', modules))


_PHI3_LAYER = {
  'attention/query': 'self_attn.qkv_proj|0',
  'attention/key': 'self_attn.qkv_proj|1',
  'attention/value': 'self_attn.qkv_proj|2',
  'mlp/gate': 'mlp.gate_up_proj|0',
  'mlp/in': 'mlp.gate_up_proj|1',
}
PHI3 = _llama_but(_PHI3_LAYER)
# Norms stand behind the sublayers, so `post_attention_layernorm` is no longer the one
# before the MLP.
_OLMO2_LAYER = {
  'attention_out_norm': 'post_attention_layernorm',
  'mlp_out_norm': 'post_feedforward_layernorm',
}
OLMO2 = _llama_but(_OLMO2_LAYER)
_GEMMA2_LAYER = {
  'attention_out_norm': 'post_attention_layernorm',
  'mlp_norm': 'pre_feedforward_layernorm',
  'mlp_out_norm': 'post_feedforward_layernorm',
}
GEMMA2 = _llama_but(_GEMMA2_LAYER)
