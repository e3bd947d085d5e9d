"""The published sizes of decoders, as fields of `Arch`.

>>> SIZES['gpt2']['layers'], SIZES['gpt2']['width']
(12, 768)
"""

_GPT_BLOCK = dict(
  kind='decoder',
  norm_place='before',
  norm_eps=1e-5,
  activation='gelu_tanh',
  vocabulary=50257,
  max_positions=1024,
  pool='last',
  head_bias=False,
  init='normal',
)


def gpt(layers: int, width: int, heads: int, **fields) -> dict:
  """GPT-2 (Radford et al. 2019)."""
  size = dict(layers=layers, width=width, heads=heads, mlp=4 * width)
  return _GPT_BLOCK | size | fields


_GPT2 = {
  'gpt2': gpt(12, 768, 12),
  'gpt2-medium': gpt(24, 1024, 16),
  'gpt2-large': gpt(36, 1280, 20),
  'gpt2-xl': gpt(48, 1600, 25),
}

# The width of the band of the locally banded layers, which the authors did not publish.
BAND = 256


def gpt3(layers: int, width: int, heads: int, head_dim: int) -> dict:
  """GPT-3 (Brown et al. 2020, table 2.1). Layers with dense attention and layers with
  locally banded attention take turns.
  """
  size = gpt(layers, width, heads, head_dim=head_dim)
  return size | dict(max_positions=2048, windows=(0, BAND))


# Where the printed heads x head_dim is not the width (XL, 13B), the plain name has
# heads and head_dim that agree with the width.
_GPT3 = {
  'gpt3-small': gpt3(12, 768, 12, 64),
  'gpt3-medium': gpt3(24, 1024, 16, 64),
  'gpt3-large': gpt3(24, 1536, 16, 96),
  'gpt3-xl': gpt3(24, 2048, 16, 128),
  'gpt3-xl-as-printed': gpt3(24, 2048, 24, 128),
  'gpt3-2.7b': gpt3(32, 2560, 32, 80),
  'gpt3-6.7b': gpt3(32, 4096, 32, 128),
  'gpt3-13b': gpt3(40, 5120, 40, 128),
  'gpt3-13b-as-printed': gpt3(40, 5140, 40, 128),
  'gpt3-175b': gpt3(96, 12288, 96, 128),
}

_OPT_CHANGES = dict(
  activation='relu',
  vocabulary=50272,
  max_positions=2050,
  position_offset=2,
)


def opt(layers: int, width: int, heads: int, **fields) -> dict:
  """OPT (Zhang et al. 2022)."""
  return gpt(layers, width, heads) | _OPT_CHANGES | fields


_OPT = {
  'opt-125m': opt(12, 768, 12),
  'opt-350m': opt(24, 1024, 16, norm_place='after', embedding_width=512),
  'opt-1.3b': opt(24, 2048, 32),
  'opt-2.7b': opt(32, 2560, 32),
  'opt-6.7b': opt(32, 4096, 32),
}

_LLAMA_BLOCK = dict(
  kind='decoder',
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


def llama(
  layers: int, width: int, heads: int, kv_heads: int, mlp: int, **fields
) -> dict:
  """Llama (Touvron et al. 2023) and those who kept its block."""
  size = dict(layers=layers, width=width, heads=heads, kv_heads=kv_heads, mlp=mlp)
  return _LLAMA_BLOCK | size | fields


_LLAMA3_CHANGES = dict(
  vocabulary=128256,
  max_positions=131072,
  rotary_base=500000.0,
  rotary_scaling=(32.0, 1.0, 4.0, 8192.0),
)


def llama3(layers: int, width: int, heads: int, mlp: int, **fields) -> dict:
  """Llama 3.1 and 3.2 (Grattafiori et al. 2024)."""
  return llama(layers, width, heads, 8, mlp) | _LLAMA3_CHANGES | fields


_LLAMA3_1_CHANGES = dict(tied=False, rotary_scaling=(8.0, 1.0, 4.0, 8192.0))
_LLAMA = {
  'llama3.2-1b': llama3(16, 2048, 32, 8192),
  'llama3.2-3b': llama3(28, 3072, 24, 8192, head_dim=128),
  'llama3.1-8b': llama3(32, 4096, 32, 14336, **_LLAMA3_1_CHANGES),
}

_MISTRAL_CHANGES = dict(
  vocabulary=32000,
  max_positions=32768,
  windows=(4096,),
  tied=False,
)
_MISTRAL = {'mistral-7b': llama(32, 4096, 32, 8, 14336, **_MISTRAL_CHANGES)}

_SMOLLM2_CHANGES = dict(vocabulary=49152, max_positions=8192, rotary_base=1e5)
_SMOLLM2 = {
  'smollm2-135m': llama(30, 576, 9, 3, 1536, **_SMOLLM2_CHANGES),
  'smollm2-360m': llama(32, 960, 15, 5, 2560, **_SMOLLM2_CHANGES),
  'smollm2-1.7b': llama(24, 2048, 32, 32, 8192, **_SMOLLM2_CHANGES)
  | dict(rotary_base=130000.0),
}

# SmolLM3 (Hugging Face 2025): Llama's block, whose every fourth layer knows no positions
# (Yang et al. 2025).
_SMOLLM3_CHANGES = dict(
  vocabulary=128256,
  max_positions=65536,
  norm_eps=1e-6,
  rotary_base=5e6,
  rotary_layers=(True, True, True, False),
)
_SMOLLM3 = {'smollm3-3b': llama(36, 2048, 16, 4, 11008, **_SMOLLM3_CHANGES)}

_GRANITE_CHANGES = dict(
  vocabulary=49155,
  max_positions=131072,
  rotary_base=5e6,
  embedding_scale=12.0,
  residual_scale=0.22,
)


def granite(
  layers: int, width: int, heads: int, mlp: int, head_dim: int, logits_scaling: float
) -> dict:
  """Granite 3.1 (Granite Team 2024): Llama's block with four multipliers, after Yang et
  al. 2022.
  """
  scales = dict(attention_scale=1 / head_dim, output_scale=1 / logits_scaling)
  return llama(layers, width, heads, 8, mlp) | _GRANITE_CHANGES | scales


_GRANITE = {
  'granite3.1-2b': granite(40, 2048, 32, 8192, head_dim=64, logits_scaling=8.0),
  'granite3.1-8b': granite(40, 4096, 32, 12800, head_dim=128, logits_scaling=16.0),
}

_OLMO2_CHANGES = dict(
  vocabulary=100352,
  max_positions=4096,
  norm_eps=1e-6,
  rotary_base=500000.0,
  norm_place='output',
  query_norm='width',
  tied=False,
)


def olmo2(layers: int, width: int, heads: int, mlp: int, **fields) -> dict:
  """OLMo 2 (OLMo Team 2024). Norms stand behind the sublayers, and over the whole width
  of queries and keys.
  """
  return llama(layers, width, heads, heads, mlp) | _OLMO2_CHANGES | fields


_OLMO2 = {
  'olmo2-1b': olmo2(16, 2048, 16, 8192),
  'olmo2-7b': olmo2(32, 4096, 32, 11008),
  'olmo2-13b': olmo2(40, 5120, 40, 13824),
}

_PHI3_CHANGES = dict(
  vocabulary=32064,
  max_positions=4096,
  windows=(2047,),
  tied=False,
)


def phi3(
  layers: int, width: int, heads: int, kv_heads: int, mlp: int, **fields
) -> dict:
  """Phi-3 (Abdin et al. 2024): Llama's block."""
  return llama(layers, width, heads, kv_heads, mlp) | _PHI3_CHANGES | fields


_PHI4_CHANGES = dict(
  vocabulary=100352,
  max_positions=16384,
  rotary_base=250000.0,
  windows=(0,),
)
_PHI = {
  'phi3-mini': phi3(32, 3072, 32, 32, 8192),
  'phi3-medium': phi3(40, 5120, 40, 10, 17920),
  'phi4': phi3(40, 5120, 40, 10, 17920, **_PHI4_CHANGES),
}

_QWEN2_CHANGES = dict(
  vocabulary=151936,
  max_positions=32768,
  rotary_base=1e6,
  norm_eps=1e-6,
  bias='qkv',
)


def qwen2(
  layers: int, width: int, heads: int, kv_heads: int, mlp: int, **fields
) -> dict:
  """Qwen 2.5 (Yang et al. 2024)."""
  return llama(layers, width, heads, kv_heads, mlp) | _QWEN2_CHANGES | fields


_QWEN3_CHANGES = dict(max_positions=40960, head_dim=128, bias='none', query_norm=True)


def qwen3(layers: int, width: int, heads: int, mlp: int, **fields) -> dict:
  """Qwen 3 (Yang et al. 2025)."""
  return qwen2(layers, width, heads, 8, mlp) | _QWEN3_CHANGES | fields


_QWEN2_7B = dict(vocabulary=152064, max_positions=131072, tied=False)
_QWEN = {
  'qwen2.5-0.5b': qwen2(24, 896, 14, 2, 4864),
  'qwen2.5-1.5b': qwen2(28, 1536, 12, 2, 8960),
  'qwen2.5-7b': qwen2(28, 3584, 28, 4, 18944, **_QWEN2_7B),
  'qwen3-0.6b': qwen3(28, 1024, 16, 3072),
  'qwen3-1.7b': qwen3(28, 2048, 16, 6144),
  'qwen3-8b': qwen3(36, 4096, 32, 12288, tied=False),
}

_GEMMA_CHANGES = dict(
  vocabulary=256000,
  max_positions=8192,
  head_dim=256,
  activation='gelu_tanh',
  norm='rms_shifted',
)


def gemma(layers: int, width: int, heads: int, kv_heads: int, mlp: int) -> dict:
  """Gemma (Gemma Team 2024): Llama's block with wide heads and scaled embeddings."""
  scales = dict(norm_eps=1e-6, embedding_scale=width**0.5)
  return llama(layers, width, heads, kv_heads, mlp) | _GEMMA_CHANGES | scales


_GEMMA2_CHANGES = dict(
  norm_place='both',
  attention_cap=50.0,
  logit_cap=30.0,
  attention_scale=256**-0.5,
  windows=(4096, 0),
)


def gemma2(layers: int, width: int, heads: int, kv_heads: int, mlp: int) -> dict:
  """Gemma 2 (Gemma Team 2024). Scores and logits are capped, norms stand before and
  after each sublayer, and every second layer is local.
  """
  return gemma(layers, width, heads, kv_heads, mlp) | _GEMMA2_CHANGES


_GEMMA3_CHANGES = dict(
  vocabulary=262144,
  max_positions=32768,
  attention_cap=0.0,
  logit_cap=0.0,
  query_norm=True,
  rotary_base=1e6,
  local_rotary_base=10000.0,
  windows=(512,) * 5 + (0,),
)


def gemma3(layers: int, width: int, heads: int, kv_heads: int, mlp: int) -> dict:
  """Gemma 3 (Gemma Team 2025), text only: five local layers to one global."""
  return gemma2(layers, width, heads, kv_heads, mlp) | _GEMMA3_CHANGES


_GEMMA = {
  'gemma-2b': gemma(18, 2048, 8, 1, 16384),
  'gemma-7b': gemma(28, 3072, 16, 16, 24576),
  'gemma2-2b': gemma2(26, 2304, 8, 4, 9216),
  'gemma2-9b': gemma2(42, 3584, 16, 8, 14336),
  'gemma3-270m': gemma3(18, 640, 4, 1, 2048),
  'gemma3-1b': gemma3(26, 1152, 4, 1, 6912),
}

SIZES = {
  **_GPT2,
  **_GPT3,
  **_OPT,
  **_LLAMA,
  **_MISTRAL,
  **_SMOLLM2,
  **_SMOLLM3,
  **_GRANITE,
  **_OLMO2,
  **_PHI,
  **_QWEN,
  **_GEMMA,
}
