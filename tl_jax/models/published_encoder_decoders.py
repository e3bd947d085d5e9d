"""The published sizes of encoder-decoders, as fields of `Arch`.

>>> SIZES['t5-small']['layers'], SIZES['t5-small']['width']
(6, 512)
"""

_T5_BLOCK = dict(
  kind='encoder-decoder',
  head_dim=64,
  activation='relu',
  norm='rms',
  norm_eps=1e-6,
  norm_place='before',
  bias='none',
  positions='relative',
  attention_scale=1.0,
  vocabulary=32128,
  pool='mean',
  head_bias=False,
  init='fan_in',
)


def t5(layers: int, width: int, heads: int, mlp: int, **fields) -> dict:
  """T5 (Raffel et al. 2020)."""
  size = dict(layers=layers, width=width, heads=heads, mlp=mlp)
  return _T5_BLOCK | size | dict(output_scale=width**-0.5) | fields


_T5 = {
  't5-small': t5(6, 512, 8, 2048),
  't5-base': t5(12, 768, 12, 3072),
  't5-large': t5(24, 1024, 16, 4096),
  't5-3b': t5(24, 1024, 32, 16384, head_dim=128),
  't5-11b': t5(24, 1024, 128, 65536, head_dim=128),
}

_T5_1_1_CHANGES = dict(
  gated=True,
  activation='gelu_tanh',
  tied=False,
  output_scale=1.0,
)


def t5_1_1(layers: int, width: int, heads: int, mlp: int, **fields) -> dict:
  """T5 1.1 (Shazeer 2020): its MLP is gated, and the product over the vocabulary has a
  table of its own.
  """
  return t5(layers, width, heads, mlp) | _T5_1_1_CHANGES | fields


def ul2(layers: int, width: int, heads: int, mlp: int, **fields) -> dict:
  """UL2 (Tay et al. 2022): T5 1.1 with Swish in its gates."""
  return t5_1_1(layers, width, heads, mlp, activation='silu') | fields


_UMT5_CHANGES = dict(vocabulary=256384, positions='relative_by_layer')
_T5_1_1 = {
  't5-1.1-small': t5_1_1(8, 512, 6, 1024),
  't5-1.1-base': t5_1_1(12, 768, 12, 2048),
  't5-1.1-large': t5_1_1(24, 1024, 16, 2816),
  'mt5-small': t5_1_1(8, 512, 6, 1024, vocabulary=250112),
  'mt5-base': t5_1_1(12, 768, 12, 2048, vocabulary=250112),
  'umt5-small': t5_1_1(8, 512, 6, 1024, **_UMT5_CHANGES),
  'umt5-base': t5_1_1(12, 768, 12, 2048, **_UMT5_CHANGES),
  't5-1.1-xl': t5_1_1(24, 2048, 32, 5120),
  'ul2': ul2(32, 4096, 16, 16384, head_dim=256),
}

_BART_BLOCK = dict(
  kind='encoder-decoder',
  norm_eps=1e-5,
  vocabulary=50265,
  max_positions=1026,
  position_offset=2,
  embedding_norm=True,
  pool='last',
  pooler='tanh',
  start=2,
  init='normal',
)


def bart(layers: int, width: int, heads: int, **fields) -> dict:
  """BART (Lewis et al. 2020)."""
  size = dict(layers=layers, width=width, heads=heads, mlp=4 * width)
  return _BART_BLOCK | size | fields


_MBART_CHANGES = dict(
  vocabulary=250027, norm_place='before', embedding_scale=32.0, start=-1
)
# Marian (Junczys-Dowmunt et al. 2018) and Pegasus (Zhang et al. 2020) learn no
# positions.
_SINUSOIDAL = dict(
  positions='sinusoidal',
  position_offset=0,
  embedding_norm=False,
  pooler='',
  start=0,
)
_MARIAN_CHANGES = dict(
  vocabulary=58101,
  max_positions=512,
  activation='silu',
  embedding_scale=512**0.5,
)
_PEGASUS_CHANGES = dict(
  vocabulary=96103,
  max_positions=1024,
  activation='relu',
  norm_place='before',
  embedding_scale=32.0,
)
_BART = {
  'bart-base': bart(6, 768, 12),
  'mbart-large': bart(12, 1024, 16, **_MBART_CHANGES),
  'marian-base': bart(6, 512, 8, **_SINUSOIDAL, **_MARIAN_CHANGES),
  'pegasus-large': bart(16, 1024, 16, **_SINUSOIDAL, **_PEGASUS_CHANGES),
  'bart-large': bart(12, 1024, 16),
}

SIZES = {**_T5, **_T5_1_1, **_BART}
