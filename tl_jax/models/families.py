"""The published sizes by name.

>>> arch('bert-base').width, arch('bert-base', layers=6).layers
(768, 6)
"""

from tl_jax.config import lookup, struct
from tl_jax.models.arch import Arch


def _bert(layers: int, width: int, **fields) -> dict:
  """BERT (Devlin et al. 2018) and its miniatures (Turc et al. 2019)."""
  return (
    dict(
      layers=layers,
      width=width,
      heads=width // 64,
      mlp=4 * width,
      types=2,
      embedding_norm=True,
      pooler='tanh',
      pooler_place='body',
    )
    | fields
  )


def _roberta(layers: int, width: int, **fields) -> dict:
  """RoBERTa (Liu et al. 2019): BERT whose positions start at row 2."""
  return (
    _bert(
      layers,
      width,
      vocabulary=50265,
      norm_eps=1e-5,
      max_positions=514,
      position_offset=2,
      types=1,
      head_activation='gelu',
      pooler_place='head',
    )
    | fields
  )


def _mpnet(layers: int, width: int) -> dict:
  """MPNet (Song et al. 2020): RoBERTa's positions and T5's bias, no types."""
  return _roberta(
    layers, width, vocabulary=30527, positions='learned_relative', types=0
  )


def _deberta_v3(layers: int, width: int, **fields) -> dict:
  """DeBERTa version 3 (He et al. 2021b): no positions but relative ones, a pooler
  before classifiers only.
  """
  return (
    _bert(
      layers,
      width,
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
    | fields
  )


def _electra(layers: int, width: int, embedding: int, heads: int, mlp: int) -> dict:
  """ELECTRA (Clark et al. 2020)."""
  return _bert(
    layers,
    width,
    embedding_width=embedding,
    heads=heads,
    mlp=mlp,
    pooler='gelu',
    pooler_place='head',
    head_activation='gelu',
  )


def _albert(layers: int, width: int, heads: int) -> dict:
  """ALBERT version 2 (Lan et al. 2020): one layer's parameters for all."""
  return _bert(
    layers,
    width,
    vocabulary=30000,
    embedding_width=128,
    heads=heads,
    layer_groups=1,
    activation='gelu_tanh',
  )


def _modernbert(layers: int, width: int, heads: int, mlp: int) -> dict:
  """ModernBERT (Warner et al. 2024)."""
  return dict(
    vocabulary=50368,
    layers=layers,
    width=width,
    heads=heads,
    mlp=mlp,
    gated=True,
    norm='layer_unbiased',
    norm_eps=1e-5,
    norm_place='before',
    skip_first_norm=True,
    bias='none',
    positions='rotary',
    max_positions=8192,
    rotary_base=160000.0,
    local_rotary_base=10000.0,
    windows=(0, 128, 128),
    embedding_norm=True,
    pooler='gelu',
    pooler_norm=True,
  )


def _gpt(layers: int, width: int, heads: int, **fields) -> dict:
  """GPT-2 (Radford et al. 2019)."""
  return (
    dict(
      kind='decoder',
      layers=layers,
      width=width,
      heads=heads,
      mlp=4 * width,
      norm_place='before',
      norm_eps=1e-5,
      activation='gelu_tanh',
      vocabulary=50257,
      max_positions=1024,
      pool='last',
      head_bias=False,
      init='normal',
    )
    | fields
  )


BAND = 256  # of the banded layers of GPT-3, which its authors did not publish


def _gpt3(layers: int, width: int, heads: int, head_dim: int) -> dict:
  """GPT-3 (Brown et al. 2020, table 2.1): dense and locally banded attention in turn."""
  return _gpt(
    layers, width, heads, head_dim=head_dim, max_positions=2048, windows=(0, BAND)
  )


def _opt(layers: int, width: int, heads: int, **fields) -> dict:
  """OPT (Zhang et al. 2022)."""
  return (
    _gpt(
      layers,
      width,
      heads,
      activation='relu',
      vocabulary=50272,
      max_positions=2050,
      position_offset=2,
    )
    | fields
  )


def _llama(
  layers: int, width: int, heads: int, kv_heads: int, mlp: int, **fields
) -> dict:
  """Llama (Touvron et al. 2023) and those who kept its block."""
  return (
    dict(
      kind='decoder',
      layers=layers,
      width=width,
      heads=heads,
      kv_heads=kv_heads,
      mlp=mlp,
      gated=True,
      activation='silu',
      norm='rms',
      norm_eps=1e-5,
      norm_place='before',
      bias='none',
      positions='rotary',
      pool='last',
      head_bias=False,
      init='normal',
    )
    | fields
  )


def _llama3(layers: int, width: int, heads: int, mlp: int, **fields) -> dict:
  """Llama 3.2 (Grattafiori et al. 2024)."""
  return (
    _llama(
      layers,
      width,
      heads,
      8,
      mlp,
      vocabulary=128256,
      max_positions=131072,
      rotary_base=500000.0,
      rotary_scaling=(32.0, 1.0, 4.0, 8192.0),
    )
    | fields
  )


def _qwen2(
  layers: int, width: int, heads: int, kv_heads: int, mlp: int, **fields
) -> dict:
  """Qwen 2.5 (Yang et al. 2024)."""
  return (
    _llama(
      layers,
      width,
      heads,
      kv_heads,
      mlp,
      vocabulary=151936,
      max_positions=32768,
      rotary_base=1e6,
      norm_eps=1e-6,
      bias='qkv',
    )
    | fields
  )


def _qwen3(layers: int, width: int, heads: int, mlp: int, **fields) -> dict:
  """Qwen 3 (Yang et al. 2025)."""
  return (
    _qwen2(
      layers,
      width,
      heads,
      8,
      mlp,
      max_positions=40960,
      head_dim=128,
      bias='none',
      query_norm=True,
    )
    | fields
  )


def _smollm3(layers: int, width: int, heads: int, kv_heads: int, mlp: int) -> dict:
  """SmolLM3 (Hugging Face 2025): Llama's block, whose every fourth layer knows no
  positions (Yang et al. 2025).
  """
  return _llama(
    layers,
    width,
    heads,
    kv_heads,
    mlp,
    vocabulary=128256,
    max_positions=65536,
    norm_eps=1e-6,
    rotary_base=5e6,
    rotary_layers=(True, True, True, False),
  )


def _granite(
  layers: int, width: int, heads: int, mlp: int, head_dim: int, logits_scaling: float
) -> dict:
  """Granite 3.1 (Granite Team 2024): Llama's block with four multipliers, after Yang et
  al. 2022.
  """
  return _llama(
    layers,
    width,
    heads,
    8,
    mlp,
    vocabulary=49155,
    max_positions=131072,
    rotary_base=5e6,
    embedding_scale=12.0,
    attention_scale=1 / head_dim,
    residual_scale=0.22,
    output_scale=1 / logits_scaling,
  )


def _olmo2(layers: int, width: int, heads: int, mlp: int, **fields) -> dict:
  """OLMo 2 (OLMo Team 2024): norms behind the sublayers, and of whole queries and keys."""
  return (
    _llama(
      layers,
      width,
      heads,
      heads,
      mlp,
      vocabulary=100352,
      max_positions=4096,
      norm_eps=1e-6,
      rotary_base=500000.0,
      norm_place='output',
      query_norm='width',
      tied=False,
    )
    | fields
  )


def _phi3(
  layers: int, width: int, heads: int, kv_heads: int, mlp: int, **fields
) -> dict:
  """Phi-3 (Abdin et al. 2024): Llama's block."""
  return (
    _llama(
      layers,
      width,
      heads,
      kv_heads,
      mlp,
      vocabulary=32064,
      max_positions=4096,
      windows=(2047,),
      tied=False,
    )
    | fields
  )


def _gemma(layers: int, width: int, heads: int, kv_heads: int, mlp: int) -> dict:
  """Gemma (Gemma Team 2024): Llama's block with wide heads and scaled embeddings."""
  return _llama(
    layers,
    width,
    heads,
    kv_heads,
    mlp,
    vocabulary=256000,
    max_positions=8192,
    head_dim=256,
    activation='gelu_tanh',
    norm='rms_shifted',
    norm_eps=1e-6,
    embedding_scale=width**0.5,
  )


def _gemma2(
  layers: int, width: int, heads: int, kv_heads: int, mlp: int, **fields
) -> dict:
  """Gemma 2 (Gemma Team 2024): caps, norms before and after, every second layer local."""
  return (
    _llama(
      layers,
      width,
      heads,
      kv_heads,
      mlp,
      vocabulary=256000,
      max_positions=8192,
      head_dim=256,
      activation='gelu_tanh',
      norm='rms_shifted',
      norm_eps=1e-6,
      norm_place='both',
      embedding_scale=width**0.5,
      attention_cap=50.0,
      logit_cap=30.0,
      attention_scale=256**-0.5,
      windows=(4096, 0),
    )
    | fields
  )


def _gemma3(
  layers: int, width: int, heads: int, kv_heads: int, mlp: int, **fields
) -> dict:
  """Gemma 3 (Gemma Team 2025), text only: five local layers to one global."""
  return (
    _gemma2(
      layers,
      width,
      heads,
      kv_heads,
      mlp,
      vocabulary=262144,
      max_positions=32768,
      attention_cap=0.0,
      logit_cap=0.0,
      query_norm=True,
      rotary_base=1e6,
      local_rotary_base=10000.0,
      windows=(512,) * 5 + (0,),
    )
    | fields
  )


def _t5(layers: int, width: int, heads: int, mlp: int, **fields) -> dict:
  """T5 (Raffel et al. 2020)."""
  return (
    dict(
      kind='encoder-decoder',
      layers=layers,
      width=width,
      heads=heads,
      head_dim=64,
      mlp=mlp,
      activation='relu',
      norm='rms',
      norm_eps=1e-6,
      norm_place='before',
      bias='none',
      positions='relative',
      attention_scale=1.0,
      vocabulary=32128,
      output_scale=width**-0.5,
      pool='mean',
      head_bias=False,
      init='fan_in',
    )
    | fields
  )


def _t5_1_1(layers: int, width: int, heads: int, mlp: int) -> dict:
  """T5 1.1 (Shazeer 2020): gated, and the output product has its own table."""
  return _t5(
    layers,
    width,
    heads,
    mlp,
    gated=True,
    activation='gelu_tanh',
    tied=False,
    output_scale=1.0,
  )


def _bart(layers: int, width: int, heads: int, **fields) -> dict:
  """BART (Lewis et al. 2020)."""
  return (
    dict(
      kind='encoder-decoder',
      layers=layers,
      width=width,
      heads=heads,
      mlp=4 * width,
      norm_eps=1e-5,
      vocabulary=50265,
      max_positions=1026,
      position_offset=2,
      embedding_norm=True,
      pool='last',
      pooler='tanh',
      init='normal',
    )
    | fields
  )


# Marian (Junczys-Dowmunt et al. 2018) and Pegasus (Zhang et al. 2020) learn no
# positions.
SINES = dict(positions='sinusoidal', position_offset=0, embedding_norm=False, pooler='')

# `tiny*` and `demo` are seconds-sized models for tests and first runs.
FAMILIES = {
  'tiny': _bert(2, 64, heads=2, max_positions=128),
  'tiny-gpt': _gpt(2, 64, 2, max_positions=128),
  'tiny-t5': _t5(2, 64, 2, 128, head_dim=32),
  'demo': _bert(
    3, 128, heads=4, max_positions=128, pool='mean', pooler='', pooler_place='head'
  ),
  'bert-tiny': _bert(2, 128),
  'bert-mini': _bert(4, 256),
  'bert-small': _bert(4, 512),
  'bert-medium': _bert(8, 512),
  'bert-base': _bert(12, 768),
  'bert-large': _bert(24, 1024),
  'roberta-base': _roberta(12, 768),
  'roberta-large': _roberta(24, 1024),
  # XLM-RoBERTa (Conneau et al. 2019) and CamemBERT (Martin et al. 2019) are RoBERTa
  # with vocabularies of their own.
  'xlm-roberta-base': _roberta(12, 768, vocabulary=250002),
  'xlm-roberta-large': _roberta(24, 1024, vocabulary=250002),
  'camembert-base': _roberta(12, 768, vocabulary=32005),
  'camembert-large': _roberta(24, 1024, vocabulary=32005),
  'mpnet-base': _mpnet(12, 768),
  'deberta-v3-xsmall': _deberta_v3(12, 384),
  'deberta-v3-small': _deberta_v3(6, 768),
  'deberta-v3-base': _deberta_v3(12, 768),
  'deberta-v3-large': _deberta_v3(24, 1024),
  'mdeberta-v3-base': _deberta_v3(12, 768, vocabulary=251000),
  # DistilBERT (Sanh et al. 2019) has neither token types nor BERT's pooler.
  'distilbert': _bert(6, 768, types=0, pooler='relu', pooler_place='head'),
  'electra-small': _electra(12, 256, 128, 4, 1024),
  'electra-base': _electra(12, 768, 768, 12, 3072) | dict(embedding_width=0),
  'electra-large': _electra(24, 1024, 1024, 16, 4096) | dict(embedding_width=0),
  'albert-base': _albert(12, 768, 12),
  'albert-large': _albert(24, 1024, 16),
  'albert-xlarge': _albert(24, 2048, 16),
  'albert-xxlarge': _albert(12, 4096, 64),
  'modernbert-base': _modernbert(22, 768, 12, 1152),
  'modernbert-large': _modernbert(28, 1024, 16, 2624),
  'gpt2': _gpt(12, 768, 12),
  'gpt2-medium': _gpt(24, 1024, 16),
  'gpt2-large': _gpt(36, 1280, 20),
  'gpt2-xl': _gpt(48, 1600, 25),
  # Where the printed heads x head_dim is not the width (XL, 13B), the plain name is
  # consistent.
  'gpt3-small': _gpt3(12, 768, 12, 64),
  'gpt3-medium': _gpt3(24, 1024, 16, 64),
  'gpt3-large': _gpt3(24, 1536, 16, 96),
  'gpt3-xl': _gpt3(24, 2048, 16, 128),
  'gpt3-xl-as-printed': _gpt3(24, 2048, 24, 128),
  'gpt3-2.7b': _gpt3(32, 2560, 32, 80),
  'gpt3-6.7b': _gpt3(32, 4096, 32, 128),
  'gpt3-13b': _gpt3(40, 5120, 40, 128),
  'gpt3-13b-as-printed': _gpt3(40, 5140, 40, 128),
  'gpt3-175b': _gpt3(96, 12288, 96, 128),
  'opt-125m': _opt(12, 768, 12),
  'opt-350m': _opt(24, 1024, 16, norm_place='after', embedding_width=512),
  'opt-1.3b': _opt(24, 2048, 32),
  'opt-2.7b': _opt(32, 2560, 32),
  'opt-6.7b': _opt(32, 4096, 32),
  'llama3.2-1b': _llama3(16, 2048, 32, 8192),
  'llama3.2-3b': _llama3(28, 3072, 24, 8192, head_dim=128),
  'llama3.1-8b': _llama3(
    32, 4096, 32, 14336, tied=False, rotary_scaling=(8.0, 1.0, 4.0, 8192.0)
  ),
  'mistral-7b': _llama(
    32,
    4096,
    32,
    8,
    14336,
    vocabulary=32000,
    max_positions=32768,
    windows=(4096,),
    tied=False,
  ),
  'smollm2-135m': _llama(
    30, 576, 9, 3, 1536, vocabulary=49152, max_positions=8192, rotary_base=1e5
  ),
  'smollm2-360m': _llama(
    32, 960, 15, 5, 2560, vocabulary=49152, max_positions=8192, rotary_base=1e5
  ),
  'smollm2-1.7b': _llama(
    24, 2048, 32, 32, 8192, vocabulary=49152, max_positions=8192, rotary_base=130000.0
  ),
  'smollm3-3b': _smollm3(36, 2048, 16, 4, 11008),
  'granite3.1-2b': _granite(40, 2048, 32, 8192, head_dim=64, logits_scaling=8.0),
  'granite3.1-8b': _granite(40, 4096, 32, 12800, head_dim=128, logits_scaling=16.0),
  'olmo2-1b': _olmo2(16, 2048, 16, 8192),
  'olmo2-7b': _olmo2(32, 4096, 32, 11008),
  'olmo2-13b': _olmo2(40, 5120, 40, 13824),
  'phi3-mini': _phi3(32, 3072, 32, 32, 8192),
  'phi3-medium': _phi3(40, 5120, 40, 10, 17920),
  'phi4': _phi3(
    40,
    5120,
    40,
    10,
    17920,
    vocabulary=100352,
    max_positions=16384,
    rotary_base=250000.0,
    windows=(0,),
  ),
  'qwen2.5-0.5b': _qwen2(24, 896, 14, 2, 4864),
  'qwen2.5-1.5b': _qwen2(28, 1536, 12, 2, 8960),
  'qwen2.5-7b': _qwen2(
    28, 3584, 28, 4, 18944, vocabulary=152064, max_positions=131072, tied=False
  ),
  'qwen3-0.6b': _qwen3(28, 1024, 16, 3072),
  'qwen3-1.7b': _qwen3(28, 2048, 16, 6144),
  'qwen3-8b': _qwen3(36, 4096, 32, 12288, tied=False),
  'gemma-2b': _gemma(18, 2048, 8, 1, 16384),
  'gemma-7b': _gemma(28, 3072, 16, 16, 24576),
  'gemma2-2b': _gemma2(26, 2304, 8, 4, 9216),
  'gemma2-9b': _gemma2(42, 3584, 16, 8, 14336),
  'gemma3-270m': _gemma3(18, 640, 4, 1, 2048),
  'gemma3-1b': _gemma3(26, 1152, 4, 1, 6912),
  't5-small': _t5(6, 512, 8, 2048),
  't5-base': _t5(12, 768, 12, 3072),
  't5-large': _t5(24, 1024, 16, 4096),
  't5-3b': _t5(24, 1024, 32, 16384, head_dim=128),
  't5-11b': _t5(24, 1024, 128, 65536, head_dim=128),
  't5-1.1-small': _t5_1_1(8, 512, 6, 1024),
  't5-1.1-base': _t5_1_1(12, 768, 12, 2048),
  't5-1.1-large': _t5_1_1(24, 1024, 16, 2816),
  'mt5-small': _t5_1_1(8, 512, 6, 1024) | dict(vocabulary=250112),
  'mt5-base': _t5_1_1(12, 768, 12, 2048) | dict(vocabulary=250112),
  'umt5-small': _t5_1_1(8, 512, 6, 1024)
  | dict(vocabulary=256384, positions='relative_by_layer'),
  'umt5-base': _t5_1_1(12, 768, 12, 2048)
  | dict(vocabulary=256384, positions='relative_by_layer'),
  't5-1.1-xl': _t5_1_1(24, 2048, 32, 5120),
  'bart-base': _bart(6, 768, 12),
  'mbart-large': _bart(
    12, 1024, 16, vocabulary=250027, norm_place='before', embedding_scale=32.0
  ),
  'marian-base': _bart(
    6,
    512,
    8,
    **SINES,
    vocabulary=58101,
    max_positions=512,
    activation='silu',
    embedding_scale=512**0.5,
  ),
  'pegasus-large': _bart(
    16,
    1024,
    16,
    **SINES,
    vocabulary=96103,
    max_positions=1024,
    activation='relu',
    norm_place='before',
    embedding_scale=32.0,
  ),
  'bart-large': _bart(12, 1024, 16),
}


def arch(family: str, **fields) -> Arch:
  """The named size with any field changed. Raises ConfigError with the nearest name."""
  return struct(
    Arch, lookup(FAMILIES, family, 'config.model.family') | fields, 'config.model'
  )
