"""The published sizes of encoders, as fields of `Arch`.

>>> SIZES['bert-base']['layers'], SIZES['bert-base']['width']
(12, 768)
"""

# The pooler belongs to the body: the head for the next sentence pre-trains it.
_BERT_BLOCK = dict(
  types=2,
  embedding_norm=True,
  pooler='tanh',
  pooler_place='body',
)


def bert(layers: int, width: int, **fields) -> dict:
  """BERT (Devlin et al. 2018) and its miniatures (Turc et al. 2019)."""
  size = dict(layers=layers, width=width, heads=width // 64, mlp=4 * width)
  return _BERT_BLOCK | size | fields


_BERT = {
  'bert-tiny': bert(2, 128),
  'bert-mini': bert(4, 256),
  'bert-small': bert(4, 512),
  'bert-medium': bert(8, 512),
  'bert-base': bert(12, 768),
  'bert-large': bert(24, 1024),
}

_ROBERTA_CHANGES = dict(
  vocabulary=50265,
  norm_eps=1e-5,
  max_positions=514,
  position_offset=2,
  types=1,
  head_activation='gelu',
  pooler_place='head',
)


def roberta(layers: int, width: int, **fields) -> dict:
  """RoBERTa (Liu et al. 2019): BERT whose positions start at row 2."""
  return bert(layers, width) | _ROBERTA_CHANGES | fields


# XLM-RoBERTa (Conneau et al. 2019) and CamemBERT (Martin et al. 2019) are RoBERTa with
# vocabularies of their own.
_ROBERTA = {
  'roberta-base': roberta(12, 768),
  'roberta-large': roberta(24, 1024),
  'xlm-roberta-base': roberta(12, 768, vocabulary=250002),
  'xlm-roberta-large': roberta(24, 1024, vocabulary=250002),
  'camembert-base': roberta(12, 768, vocabulary=32005),
  'camembert-large': roberta(24, 1024, vocabulary=32005),
}

# MPNet (Song et al. 2020): RoBERTa's positions and T5's bias, no types.
_MPNET_CHANGES = dict(vocabulary=30527, positions='learned_relative', types=0)
_MPNET = {'mpnet-base': roberta(12, 768) | _MPNET_CHANGES}

# A score is the sum of three products of heads of 64, which the scale counts.
_DEBERTA_CHANGES = dict(
  vocabulary=128100,
  types=0,
  norm_eps=1e-7,
  positions='disentangled',
  relative_buckets=256,
  relative_distance=512,
  attention_scale=(3 * 64) ** -0.5,
  pooler='gelu',
  pooler_place='head',
)


def deberta_v3(layers: int, width: int, **fields) -> dict:
  """DeBERTa version 3 (He et al. 2021b). It has relative positions alone, and a pooler
  before classifiers alone.
  """
  return bert(layers, width) | _DEBERTA_CHANGES | fields


_DEBERTA = {
  'deberta-v3-xsmall': deberta_v3(12, 384),
  'deberta-v3-small': deberta_v3(6, 768),
  'deberta-v3-base': deberta_v3(12, 768),
  'deberta-v3-large': deberta_v3(24, 1024),
  'mdeberta-v3-base': deberta_v3(12, 768, vocabulary=251000),
}

# DistilBERT (Sanh et al. 2019) has neither token types nor BERT's pooler.
_DISTILBERT = {
  'distilbert': bert(6, 768, types=0, pooler='relu', pooler_place='head'),
}

_ELECTRA_CHANGES = dict(pooler='gelu', pooler_place='head', head_activation='gelu')


def electra(layers: int, width: int, heads: int, **fields) -> dict:
  """ELECTRA (Clark et al. 2020)."""
  size = bert(layers, width, heads=heads, embedding_width=0)
  return size | _ELECTRA_CHANGES | fields


_ELECTRA = {
  'electra-small': electra(12, 256, 4, embedding_width=128, generator=64),
  'electra-base': electra(12, 768, 12, generator=256),
  'electra-large': electra(24, 1024, 16, generator=256),
}

_ALBERT_CHANGES = dict(
  vocabulary=30000,
  embedding_width=128,
  layer_groups=1,
  activation='gelu_tanh',
)


def albert(layers: int, width: int, heads: int) -> dict:
  """ALBERT version 2 (Lan et al. 2020): all layers share the parameters of one."""
  return bert(layers, width, heads=heads) | _ALBERT_CHANGES


_ALBERT = {
  'albert-base': albert(12, 768, 12),
  'albert-large': albert(24, 1024, 16),
  'albert-xlarge': albert(24, 2048, 16),
  'albert-xxlarge': albert(12, 4096, 64),
}

_MODERNBERT_BLOCK = dict(
  gated=True,
  norm='layer_unbiased',
  norm_eps=1e-5,
  norm_place='before',
  skip_first_norm=True,
  bias='none',
  embedding_norm=True,
  pooler='gelu',
  pooler_norm=True,
)
# Every third layer attends to the whole text.
_MODERNBERT_POSITIONS = dict(
  positions='rotary',
  max_positions=8192,
  rotary_base=160000.0,
  local_rotary_base=10000.0,
  windows=(0, 128, 128),
)


def modernbert(layers: int, width: int, heads: int, mlp: int) -> dict:
  """ModernBERT (Warner et al. 2024)."""
  size = dict(vocabulary=50368, layers=layers, width=width, heads=heads, mlp=mlp)
  return size | _MODERNBERT_BLOCK | _MODERNBERT_POSITIONS


_MODERNBERT = {
  'modernbert-base': modernbert(22, 768, 12, 1152),
  'modernbert-large': modernbert(28, 1024, 16, 2624),
}

SIZES = {
  **_BERT,
  **_ROBERTA,
  **_MPNET,
  **_DEBERTA,
  **_DISTILBERT,
  **_ELECTRA,
  **_ALBERT,
  **_MODERNBERT,
}
