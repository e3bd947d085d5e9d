"""What a model computes, as data: one frozen dataclass, and the published sizes by name.

>>> arch('bert-base').width, arch('bert-base', layers=6).layers
(768, 6)
"""

import dataclasses
from typing import Literal

from tl_jax.config import Count, Fraction, NonNegative, Positive, lookup, struct


@dataclasses.dataclass(frozen=True)
class Arch:
  """Only facts that change the function computed; how it is computed is `Compute`, how it is trained is elsewhere."""
  kind: Literal['encoder', 'decoder', 'encoder-decoder'] = 'encoder'
  vocabulary: Count = 30522
  width: Count = 768
  layers: Count = 12                   # of each stack
  heads: Count = 12
  kv_heads: int = 0                    # grouped queries; 0: as many as heads
  head_dim: int = 0                    # 0: width / heads; GPT-3 XL and 13B and T5-11B need their own
  mlp: Count = 3072
  gated: bool = False                  # T5 1.1, Llama: act(x W_gate) * (x W_in)
  activation: Literal['gelu', 'gelu_tanh', 'relu', 'silu'] = 'gelu'  # erf; GPT-2; T5; Llama
  norm: Literal['layer', 'rms'] = 'layer'  # rms: T5, Llama
  norm_eps: Positive = 1e-12
  norm_first: bool = False             # pre-norm (GPT, T5) or post-norm (BERT)
  bias: bool = True                    # biases of the linear maps
  positions: Literal['learned', 'rotary', 'relative', 'none'] = 'learned'  # relative: T5
  max_positions: Count = 512
  rotary_base: Positive = 10000.0
  relative_buckets: Count = 32
  relative_distance: Count = 128
  windows: tuple[int, ...] = (0,)      # attention span by layer, repeated; 0: unlimited (GPT-3: 0, band)
  types: int = 0                       # token types (BERT: 2)
  embedding_norm: bool = False         # BERT
  embedding_scale: Positive = 1.0
  attention_scale: NonNegative = 0.0   # 0: head_dim ** -0.5 (T5: 1)
  tied: bool = True                    # the vocabulary product uses the token table
  tied_scale: Positive = 1.0           # T5: width ** -0.5 before the tied product
  pool: Literal['first', 'mean', 'last'] = 'first'  # what a classifier reads of each example
  pooler: bool = False                 # BERT's tanh layer between pool and head
  head: Literal['none', 'masked', 'causal', 'classifier'] = 'none'
  labels: Count = 2
  init: Literal['truncated', 'normal', 'fan_in'] = 'truncated'  # BERT; GPT, residuals / sqrt(2 layers); T5
  init_std: Positive = 0.02

  def __post_init__(self):
    if not self.head_dim and self.width % self.heads:
      raise ValueError(f'heads: width {self.width} is not divisible by {self.heads} heads; give head_dim')
    if self.heads % (self.kv_heads or self.heads):
      raise ValueError(f'kv_heads: {self.heads} heads are not divisible by {self.kv_heads}')

  @property
  def key_heads(self) -> int:
    return self.kv_heads or self.heads

  @property
  def head_width(self) -> int:
    return self.head_dim or self.width // self.heads


@dataclasses.dataclass(frozen=True)
class Compute:
  """How the function is computed: none of this changes what it is, up to rounding and dropout."""
  dtype: Literal['float32', 'bfloat16'] = 'float32'  # of activations and products; parameters stay float32
  remat: Literal['none', 'dots', 'full'] = 'none'    # what the backward pass recomputes; dots: all but products
  layers: Literal['auto', 'unroll', 'scan'] = 'auto'  # auto: unroll on CPU, where a loop costs a third of the step
  dropout: Fraction = 0.0


def _bert(layers: int, width: int, **fields) -> dict:
  return dict(layers=layers, width=width, heads=width // 64, mlp=4 * width, types=2, embedding_norm=True,
              pooler=True) | fields


def _gpt(layers: int, width: int, heads: int, **fields) -> dict:
  return dict(kind='decoder', layers=layers, width=width, heads=heads, mlp=4 * width, norm_first=True, norm_eps=1e-5,
              activation='gelu_tanh', vocabulary=50257, max_positions=1024, pool='last', init='normal') | fields


def _t5(layers: int, width: int, heads: int, mlp: int, **fields) -> dict:
  return dict(kind='encoder-decoder', layers=layers, width=width, heads=heads, head_dim=64, mlp=mlp, activation='relu',
              norm='rms', norm_eps=1e-6, norm_first=True, bias=False, positions='relative', attention_scale=1.0,
              vocabulary=32128, tied_scale=width ** -0.5, pool='mean', init='fan_in') | fields


# Published sizes: BERT (Devlin et al. 2018) and its miniatures (Turc et al. 2019), GPT-2 (Radford et al. 2019),
# T5 (Raffel et al. 2020); `tiny*` are seconds-sized models of the three shapes for tests and first runs.
FAMILIES = {
    'tiny': _bert(2, 64, heads=2, max_positions=128),
    'tiny-gpt': _gpt(2, 64, 2, max_positions=128),
    'tiny-t5': _t5(2, 64, 2, 128, head_dim=32),
    'demo': _bert(3, 128, heads=4, max_positions=128, pool='mean', pooler=False),
    'bert-tiny': _bert(2, 128),
    'bert-mini': _bert(4, 256),
    'bert-small': _bert(4, 512),
    'bert-medium': _bert(8, 512),
    'bert-base': _bert(12, 768),
    'bert-large': _bert(24, 1024),
    'gpt2': _gpt(12, 768, 12),
    'gpt2-medium': _gpt(24, 1024, 16),
    'gpt2-large': _gpt(36, 1280, 20),
    'gpt2-xl': _gpt(48, 1600, 25),
    't5-small': _t5(6, 512, 8, 2048),
    't5-base': _t5(12, 768, 12, 3072),
    't5-large': _t5(24, 1024, 16, 4096),
}


def arch(family: str, **fields) -> Arch:
  """The named size with any field changed. Raises ConfigError with the nearest name."""
  return struct(Arch, lookup(FAMILIES, family, 'config.model.family') | fields, 'config.model')
