"""What the parameters of encoders are called in Hugging Face checkpoints.

>>> BERT.body['embedding/norm']
'embeddings.LayerNorm'
"""

from tl_jax.interop.name_map import TOKEN_HEADS, Names, layers

_POOLED_HEAD = {'head/pooler': 'classifier.dense', 'head': 'classifier.out_proj'}

_BERT_EMBEDDING = {
  'embedding/tokens': 'embeddings.word_embeddings.weight',
  'embedding/positions': 'embeddings.position_embeddings.weight',
  'embedding/types': 'embeddings.token_type_embeddings.weight',
  'embedding/norm': 'embeddings.LayerNorm',
}
_BERT_LAYER = {
  'attention/query': 'attention.self.query',
  'attention/key': 'attention.self.key',
  'attention/value': 'attention.self.value',
  'attention/out': 'attention.output.dense',
  'attention_norm': 'attention.output.LayerNorm',
  'mlp/in': 'intermediate.dense',
  'mlp/out': 'output.dense',
  'mlp_norm': 'output.LayerNorm',
}
_BERT_LAYERS = layers('', 'encoder.layer', _BERT_LAYER)
_BERT_BODY = _BERT_EMBEDDING | _BERT_LAYERS | {'pooler': 'pooler.dense'}
_BERT_MASKED = {
  'head/transform': 'cls.predictions.transform.dense',
  'head/norm': 'cls.predictions.transform.LayerNorm',
  'head/bias': 'cls.predictions.bias',
  'head/kernel': 'cls.predictions.decoder.weight',
  'head/pair': 'cls.seq_relationship',
}
# A pooler that the task brought lies where a pre-trained one does.
_BERT_CLASSIFIER = {'head': 'classifier', 'head/pooler': 'bert.pooler.dense'}
_BERT_HEADS = {
  'masked': _BERT_MASKED,
  'classifier': _BERT_CLASSIFIER,
  'choice': _BERT_CLASSIFIER,
}
BERT = Names(
  _BERT_BODY,
  TOKEN_HEADS | _BERT_HEADS,
  'bert.',
  tied_names=('cls.predictions.bias', 'cls.predictions.decoder.bias'),
  extra=(r'pooler\..*', r'cls\.seq_relationship\..*', r'cls\.predictions\.decoder\..*'),
)

_ROBERTA_MASKED = {
  'head/transform': 'lm_head.dense',
  'head/norm': 'lm_head.layer_norm',
  'head/bias': 'lm_head.bias',
  'head/kernel': 'lm_head.decoder.weight',
}
# Under its scores of candidates lies the pooler of the body, as BERT's.
_ROBERTA_HEADS = TOKEN_HEADS | {'masked': _ROBERTA_MASKED, 'classifier': _POOLED_HEAD}
_ROBERTA_CHOICE = {'head': 'classifier', 'head/pooler': 'roberta.pooler.dense'}
_MPNET_CHOICE = {'head': 'classifier', 'head/pooler': 'mpnet.pooler.dense'}
ROBERTA = Names(
  _BERT_BODY,
  _ROBERTA_HEADS | {'choice': _ROBERTA_CHOICE},
  'roberta.',
  tied_names=('lm_head.bias', 'lm_head.decoder.bias'),
  extra=(r'pooler\..*', r'lm_head\.decoder\..*'),
)

_MPNET_LAYER = _BERT_LAYER | {
  'attention/query': 'attention.attn.q',
  'attention/key': 'attention.attn.k',
  'attention/value': 'attention.attn.v',
  'attention/out': 'attention.attn.o',
  'attention_norm': 'attention.LayerNorm',
}
_MPNET_REST = {
  'relative/kernel': 'encoder.relative_attention_bias.weight|as-is',
  'pooler': 'pooler.dense',
}
MPNET = Names(
  _BERT_EMBEDDING | layers('', 'encoder.layer', _MPNET_LAYER) | _MPNET_REST,
  _ROBERTA_HEADS | {'choice': _MPNET_CHOICE},
  'mpnet.',
  tied_names=ROBERTA.tied_names,
  extra=ROBERTA.extra,
)

_DEBERTA_LAYER = _BERT_LAYER | {
  'attention/query': 'attention.self.query_proj',
  'attention/key': 'attention.self.key_proj',
  'attention/value': 'attention.self.value_proj',
}
_DEBERTA_RELATIVE = {
  'relative/table': 'encoder.rel_embeddings.weight',
  'relative/norm': 'encoder.LayerNorm',
}
# The masked head has two spellings: that of the authors, which pre-trained it, and that
# of transformers' older classes, which could not read the first.
_DEBERTA_MASKED = {
  'head/transform': 'lm_predictions.lm_head.dense',
  'head/norm': 'lm_predictions.lm_head.LayerNorm',
  'head/bias': 'lm_predictions.lm_head.bias',
  'head/kernel': 'cls.predictions.decoder.weight',
}
_DEBERTA_LEGACY = {
  'lm_predictions.lm_head.dense.weight': ('cls.predictions.transform.dense.weight',),
  'lm_predictions.lm_head.dense.bias': ('cls.predictions.transform.dense.bias',),
  'lm_predictions.lm_head.LayerNorm.weight': (
    'cls.predictions.transform.LayerNorm.weight',
  ),
  'lm_predictions.lm_head.LayerNorm.bias': (
    'cls.predictions.transform.LayerNorm.bias',
  ),
  'lm_predictions.lm_head.bias': (
    'cls.predictions.decoder.bias',
    'cls.predictions.bias',
  ),
}
_DEBERTA_CLASSIFIER = {'head/pooler': 'pooler.dense', 'head': 'classifier'}
_DEBERTA_HEADS = {
  'masked': _DEBERTA_MASKED,
  'classifier': _DEBERTA_CLASSIFIER,
  'choice': _DEBERTA_CLASSIFIER,
}
DEBERTA_V2 = Names(
  _BERT_EMBEDDING | layers('', 'encoder.layer', _DEBERTA_LAYER) | _DEBERTA_RELATIVE,
  TOKEN_HEADS | _DEBERTA_HEADS,
  'deberta.',
  extra=(
    r'(lm_|mask_|cls\.)predictions\..*',
    r'embeddings\.position_embeddings\.weight',
    r'encoder\.LayerNorm\..*',
  ),
  others=_DEBERTA_LEGACY,
)

_DISTILBERT_LAYER = {
  'attention/query': 'attention.q_lin',
  'attention/key': 'attention.k_lin',
  'attention/value': 'attention.v_lin',
  'attention/out': 'attention.out_lin',
  'attention_norm': 'sa_layer_norm',
  'mlp/in': 'ffn.lin1',
  'mlp/out': 'ffn.lin2',
  'mlp_norm': 'output_layer_norm',
}
_DISTILBERT_MASKED = {
  'head/transform': 'vocab_transform',
  'head/norm': 'vocab_layer_norm',
  'head/bias': 'vocab_projector.bias',
  'head/kernel': 'vocab_projector.weight',
}
_DISTILBERT_CLASSIFIER = {'head/pooler': 'pre_classifier', 'head': 'classifier'}
_DISTILBERT_HEADS = {
  'masked': _DISTILBERT_MASKED,
  'classifier': _DISTILBERT_CLASSIFIER,
  'choice': _DISTILBERT_CLASSIFIER,
}
DISTILBERT = Names(
  _BERT_EMBEDDING | layers('', 'transformer.layer', _DISTILBERT_LAYER),
  TOKEN_HEADS | _DISTILBERT_HEADS,
  'distilbert.',
  extra=(r'vocab_projector\.weight',),
)

_ELECTRA_MASKED = {
  'head/transform': 'generator_predictions.dense',
  'head/norm': 'generator_predictions.LayerNorm',
  'head/bias': 'generator_lm_head.bias',
  'head/kernel': 'generator_lm_head.weight',
}
_ELECTRA_REPLACED = {
  'head/transform': 'discriminator_predictions.dense',
  'head': 'discriminator_predictions.dense_prediction',
}
_ELECTRA_HEADS = {
  'masked': _ELECTRA_MASKED,
  'replaced': _ELECTRA_REPLACED,
  'classifier': _POOLED_HEAD,
  'choice': {'head/pooler': 'sequence_summary.summary', 'head': 'classifier'},
}
ELECTRA = Names(
  _BERT_EMBEDDING | {'embedding/project': 'embeddings_project'} | _BERT_LAYERS,
  TOKEN_HEADS | _ELECTRA_HEADS,
  'electra.',
  extra=(r'generator_lm_head\.weight',),
)

# A group has one layer: another `inner_group_num` than 1 is refused.
_ALBERT_LAYER = {
  'attention/query': 'albert_layers.0.attention.query',
  'attention/key': 'albert_layers.0.attention.key',
  'attention/value': 'albert_layers.0.attention.value',
  'attention/out': 'albert_layers.0.attention.dense',
  'attention_norm': 'albert_layers.0.attention.LayerNorm',
  'mlp/in': 'albert_layers.0.ffn',
  'mlp/out': 'albert_layers.0.ffn_output',
  'mlp_norm': 'albert_layers.0.full_layer_layer_norm',
}
_ALBERT_REST = {
  'embedding/project': 'encoder.embedding_hidden_mapping_in',
  'pooler': 'pooler',
}
_ALBERT_MASKED = {
  'head/transform': 'predictions.dense',
  'head/norm': 'predictions.LayerNorm',
  'head/bias': 'predictions.bias',
  'head/kernel': 'predictions.decoder.weight',
  'head/pair': 'sop_classifier.classifier',
}
_ALBERT_CLASSIFIER = {'head': 'classifier', 'head/pooler': 'albert.pooler'}
_ALBERT_HEADS = {
  'masked': _ALBERT_MASKED,
  'classifier': _ALBERT_CLASSIFIER,
  'choice': _ALBERT_CLASSIFIER,
}
ALBERT = Names(
  _BERT_EMBEDDING
  | _ALBERT_REST
  | layers('', 'encoder.albert_layer_groups', _ALBERT_LAYER),
  TOKEN_HEADS | _ALBERT_HEADS,
  'albert.',
  tied_names=('predictions.bias', 'predictions.decoder.bias'),
  extra=(r'pooler\..*', r'sop_classifier\..*', r'predictions\.decoder\..*'),
)

_MODERNBERT_LAYER = {
  'attention/query': 'attn.Wqkv|0',
  'attention/key': 'attn.Wqkv|1',
  'attention/value': 'attn.Wqkv|2',
  'attention/out': 'attn.Wo',
  'attention_norm': 'attn_norm',
  'mlp/gate': 'mlp.Wi|0',
  'mlp/in': 'mlp.Wi|1',
  'mlp/out': 'mlp.Wo',
  'mlp_norm': 'mlp_norm',
}
_MODERNBERT_REST = {
  'embedding/tokens': 'embeddings.tok_embeddings.weight',
  'embedding/norm': 'embeddings.norm',
  'final_norm': 'final_norm',
}
_MODERNBERT_MASKED = {
  'head/transform': 'head.dense',
  'head/norm': 'head.norm',
  'head/bias': 'decoder.bias',
  'head/kernel': 'decoder.weight',
}
_MODERNBERT_LABELS = {
  'head/pooler': 'head.dense',
  'head/pooler/norm': 'head.norm',
  'head': 'classifier',
}
_MODERNBERT_HEADS = {
  'masked': _MODERNBERT_MASKED,
  'classifier': _MODERNBERT_LABELS,
  'choice': _MODERNBERT_LABELS,
  'token': _MODERNBERT_LABELS,
  'span': _MODERNBERT_LABELS,
}
MODERNBERT = Names(
  _MODERNBERT_REST | layers('', 'layers', _MODERNBERT_LAYER),
  _MODERNBERT_HEADS,
  'model.',
  extra=(r'decoder\.weight',),
)
