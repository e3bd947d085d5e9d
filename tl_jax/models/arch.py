"""What a model computes, as data: one frozen dataclass, and how it is computed as
another.

>>> Arch(width=64, heads=4, mlp=256).head_width
16
"""

import dataclasses
from typing import Literal

from tl_jax.config import Count, Fraction, Natural, NonNegative, Positive

Activation = Literal['gelu', 'gelu_tanh', 'quick_gelu', 'relu', 'silu', 'tanh']


@dataclasses.dataclass(frozen=True)
class Arch:
  """What function a model computes. How it is computed is `Compute`; how it is trained
  is elsewhere.
  """

  kind: Literal['encoder', 'decoder', 'encoder-decoder'] = 'encoder'
  vocabulary: Count = 30522
  width: Count = 768
  # of each stack
  layers: Count = 12
  # of the decoder of an encoder-decoder; 0: as many as layers
  decoder_layers: Natural = 0
  # of its layers; 0: as many as heads
  decoder_heads: Natural = 0
  # of its layers; 0: as wide as mlp
  decoder_mlp: Natural = 0
  # ALBERT: so many sets of parameters, shared by layers; 0: each layer its own
  layer_groups: Natural = 0
  # ALBERT, ELECTRA, OPT-350M: token vectors, projected to width; 0: no projection
  embedding_width: Natural = 0
  heads: Count = 12
  # grouped queries; 0: as many as heads
  kv_heads: Natural = 0
  # 0: width / heads; GPT-3 XL and 13B, T5, Gemma, Qwen 3 need their own
  head_dim: Natural = 0
  mlp: Count = 3072
  # T5 1.1, Llama, ModernBERT: act(x W_gate) * (x W_in)
  gated: bool = False
  # gelu: erf; gelu_tanh: GPT-2, Gemma; relu: T5, OPT; silu: Llama
  activation: Activation = 'gelu'
  # unbiased: ModernBERT; rms: T5, Llama; shifted: Gemma multiplies by 1 + scale
  norm: Literal['layer', 'layer_unbiased', 'rms', 'rms_shifted'] = 'layer'
  norm_eps: Positive = 1e-12
  # of the residual sum: BERT; of what a sublayer reads: GPT, T5, Llama; of what it
  # reads and makes: Gemma 2; makes: OLMo 2
  norm_place: Literal['after', 'before', 'both', 'output'] = 'after'
  # ModernBERT: no norm before the first attention
  skip_first_norm: bool = False
  # RMS norms of queries and keys: of every head (Qwen 3, Gemma 3), or over the width of
  # all heads (OLMo 2)
  query_norm: Literal[False, True, 'width'] = False
  # of the linear maps; qkv: Qwen 2.5
  bias: Literal['all', 'none', 'qkv', 'attention', 'mlp'] = 'all'
  # sinusoidal: Marian, Pegasus; relative: a bias by the distance, one for all layers
  # (T5); relative_by_layer: each layer its own (UMT5); learned_relative: a bias and a
  # table (MPNet); disentangled: scores of contents against positions (DeBERTa)
  positions: Literal[
    'learned',
    'sinusoidal',
    'rotary',
    'relative',
    'relative_by_layer',
    'learned_relative',
    'disentangled',
    'none',
  ] = 'learned'
  max_positions: Count = 512
  # row of the table for position 0 (RoBERTa, OPT, BART: 2)
  position_offset: Natural = 0
  rotary_base: Positive = 10000.0
  # of layers with a window (Gemma 3, ModernBERT); 0: the same
  local_rotary_base: NonNegative = 0.0
  # (factor,) or Llama 3's (factor, low, high, original length), where there is no
  # window; or LongRoPE's (factor of what is turned, original length, and the divisors
  # of each frequency in texts up to that length, then in longer ones)
  rotary_scaling: tuple[float, ...] = ()
  # by layer, repeated; a layer without knows no positions (SmolLM3)
  rotary_layers: tuple[bool, ...] = (True,)
  relative_buckets: Count = 32
  relative_distance: Count = 128
  # attention span by layer, repeated; 0: unlimited (GPT-3: 0, band)
  windows: tuple[Natural, ...] = (0,)
  # token types (BERT: 2)
  types: Natural = 0
  # BERT, BART, ModernBERT
  embedding_norm: bool = False
  # Gemma: sqrt(width)
  embedding_scale: Positive = 1.0
  # of what a sublayer adds to the residual stream (Granite)
  residual_scale: Positive = 1.0
  # 0: head_dim ** -0.5 (T5: 1)
  attention_scale: NonNegative = 0.0
  # Gemma 2: cap * tanh(score / cap); 0: none
  attention_cap: NonNegative = 0.0
  # Gemma 2
  logit_cap: NonNegative = 0.0
  # the vocabulary product uses the token table
  tied: bool = True
  # T5: width ** -0.5 before the vocabulary product
  output_scale: Positive = 1.0
  # what a classifier reads of each example; of an encoder-decoder, last: the last token
  # of the decoder (BART, T5), else the encoder alone
  pool: Literal['first', 'mean', 'last'] = 'first'
  # the token before the text, where a classifier has the decoder read it too (T5: that
  # of padding); -1: the text's own last token (mBART)
  start: int = 0
  # dense layer and activation before a classifier (BERT: tanh)
  pooler: Literal['', 'gelu', 'gelu_tanh', 'quick_gelu', 'relu', 'silu', 'tanh'] = ''
  # Whose layer the pooler is. body: BERT, ALBERT, whose pre-training makes it; it stays
  # under every head. new: theirs where pre-training made none; it comes with the first
  # task. head: RoBERTa, ELECTRA, ModernBERT, BART, T5.
  pooler_place: Literal['body', 'new', 'head'] = 'head'
  # ModernBERT: no bias, a norm behind it, and before token and span heads too
  pooler_norm: bool = False
  # embedding: none of its own, the vector of each example as it is pooled
  head: Literal[
    'none',
    'masked',
    'causal',
    'classifier',
    'choice',
    'token',
    'span',
    'replaced',
    'embedding',
  ] = 'none'
  # masked, replaced; '': the activation (RoBERTa, ELECTRA: gelu whatever the layers
  # have)
  head_activation: Literal[
    '', 'gelu', 'gelu_tanh', 'quick_gelu', 'relu', 'silu', 'tanh'
  ] = ''
  # BERT's head for the next sentence and ALBERT's for the order of two, beside the
  # masked one: kept with its checkpoint; some objectives read it.
  pair_head: bool = False
  # replaced: the width of ELECTRA's generator, which pre-training has beside it; 0: none
  generator: Natural = 0
  # of the last product (GPT, Llama: none; BART has one on its logits)
  head_bias: bool = True
  labels: Count = 2
  # BERT; GPT, residuals / sqrt(2 layers); T5
  init: Literal['truncated', 'normal', 'fan_in'] = 'truncated'
  init_std: Positive = 0.02

  def __post_init__(self):
    if self.positions == 'disentangled':
      self._require_disentangled()
    self._require_heads()
    self._require_patterns()
    self._require_rotary_scaling()
    self._require_layer_groups()
    if self.pair_head and self.head != 'masked':
      raise ValueError(
        f'pair_head: stands beside a masked head, not beside {self.head!r}'
      )

  def _require_heads(self):
    """Raises ValueError where the heads of a stack do not share out its width."""
    if not self.head_dim and self.width % self.heads:
      raise ValueError(
        f'heads: width {self.width} is not divisible by {self.heads} heads; give head_dim'
      )
    of_decoder = self.decoder_heads or self.decoder_mlp
    if of_decoder and self.kind != 'encoder-decoder':
      raise ValueError(
        f'decoder_heads, decoder_mlp: a model of kind {self.kind!r} has one stack; '
        'use heads and mlp'
      )
    if self.decoder_heads and not self.head_dim and self.width % self.decoder_heads:
      raise ValueError(
        f'decoder_heads: width {self.width} is not divisible by {self.decoder_heads} heads; '
        'give head_dim'
      )
    if self.heads % self.key_heads:
      raise ValueError(
        f'kv_heads: {self.heads} heads are not divisible by {self.kv_heads}'
      )

  def _require_patterns(self):
    """Raises ValueError for a pattern over the layers that says nothing of any."""
    for field in ('windows', 'rotary_layers'):
      if not getattr(self, field):
        raise ValueError(f'{field}: needs a value for one layer at least')

  def _require_rotary_scaling(self):
    """Raises ValueError for numbers that make none of the three scalings."""
    differ = self.local_rotary_base or not all(self.rotary_layers)
    if self.long_rotary and differ:
      raise ValueError(
        'rotary_scaling: divisors by the length of the text are for models whose '
        'layers all turn alike'
      )
    # LongRoPE has two numbers and two divisors for every frequency.
    frequencies = self.head_width // 2
    if len(self.rotary_scaling) not in (0, 1, 4, 2 + 2 * frequencies):
      raise ValueError(
        'rotary_scaling: needs (), (factor,), (factor, low, high, length) or (factor, length, and '
        f'twice {frequencies} divisors), not {self.rotary_scaling}'
      )

  def _require_layer_groups(self):
    """Raises ValueError for more groups than layers, or groups over two stacks."""
    too_many = self.layer_groups > self.layers
    if self.layer_groups and (too_many or self.kind == 'encoder-decoder'):
      raise ValueError(
        f'layer_groups: {self.layer_groups} for {self.layers} layers of one stack'
      )

  def _require_disentangled(self):
    if self.kind != 'encoder' or self.key_heads != self.heads:
      raise ValueError(
        f'positions: disentangled ones are of an encoder with a key head to every query, not of a '
        f'{self.kind} with {self.heads} and {self.key_heads}'
      )
    if not 1 < self.relative_buckets // 2 < self.relative_distance - 1:
      raise ValueError(
        f'relative_buckets: {self.relative_buckets} for distances up to {self.relative_distance}'
      )

  @property
  def generates(self) -> bool:
    """Is there a generator beside the discriminator?"""
    return self.head == 'replaced' and self.generator > 0

  @property
  def decoder(self) -> 'Arch':
    """The architecture of an encoder-decoder's decoder, which may have sizes of its own."""
    return dataclasses.replace(
      self,
      heads=self.decoder_heads or self.heads,
      mlp=self.decoder_mlp or self.mlp,
      decoder_heads=0,
      decoder_mlp=0,
    )

  @property
  def key_heads(self) -> int:
    return self.kv_heads or self.heads

  @property
  def head_width(self) -> int:
    return self.head_dim or self.width // self.heads

  @property
  def room(self) -> int | None:
    """How many positions the text may have; None where no table limits them."""
    if not self.position_table:
      return None
    return self.max_positions - self.position_offset

  @property
  def long_rotary(self) -> bool:
    """Do rotary positions depend on the length of the text (LongRoPE)?"""
    return len(self.rotary_scaling) > 4

  @property
  def position_table(self) -> bool:
    """Is there a vector for every position, learned or not, and so a last one?"""
    return self.positions in ('learned', 'sinusoidal', 'learned_relative')

  @property
  def position_bias(self) -> bool:
    """Have all layers of a stack one bias by the distance of query and key?"""
    return self.positions in ('relative', 'learned_relative')

  @property
  def relative(self) -> bool:
    """Do scores depend on the distance of query and key, in buckets?"""
    return self.position_bias or self.positions in ('relative_by_layer', 'disentangled')

  @property
  def pools(self) -> bool:
    """Is there a pooler between the hidden states and what the model answers?"""
    if self.head == 'none':
      return self.keeps_pooler
    answers = self.reads_examples and self.head != 'embedding'
    is_read = answers or (self.pooler_norm and self.reads_tokens)
    return bool(self.pooler) and is_read

  @property
  def reads_examples(self) -> bool:
    """Does the head read one vector of each example, or of each of its candidates?"""
    return self.head in ('classifier', 'choice', 'embedding')

  @property
  def reads_tokens(self) -> bool:
    """Has the head labels for every token?"""
    return self.head in ('token', 'span')

  @property
  def repeats_text(self) -> bool:
    """Does the decoder of an encoder-decoder read the text that the encoder reads?"""
    if self.head == 'embedding':
      return False
    is_classifier = self.reads_examples and self.pool == 'last'
    return is_classifier and self.kind == 'encoder-decoder'

  @property
  def keeps_pooler(self) -> bool:
    """Does the body have a pooler of its own, under whatever head? RoBERTa's has one
    where there is no head.
    """
    is_body = self.head in ('none', 'embedding')
    if is_body and self.pooler_place == 'head':
      return self.pooler == 'tanh' and self.kind == 'encoder' and not self.pooler_norm
    return bool(self.pooler) and self.pooler_place == 'body'

  def has_bias(self, part: Literal['qkv', 'out', 'mlp']) -> bool:
    """Do the linear maps of this part have a bias?"""
    settings = {
      'qkv': ('all', 'attention', 'qkv'),
      'out': ('all', 'attention'),
      'mlp': ('all', 'mlp'),
    }
    return self.bias in settings[part]


def complete(saved: dict) -> dict:
  """The fields of an architecture that an earlier version saved, and those that were
  added since then.
  """
  fields = {field.name: field.default for field in dataclasses.fields(Arch)}
  fields |= saved
  # Before there was `pooler_place`, every pooler came with its task.
  if 'pooler_place' not in saved:
    is_encoder = fields['kind'] == 'encoder'
    is_bert = fields['pooler'] == 'tanh' and not fields['position_offset']
    fields['pooler_place'] = 'new' if is_encoder and is_bert else 'head'
  return fields


@dataclasses.dataclass(frozen=True)
class Compute:
  """How the function is computed: none of this changes what it is, up to rounding and
  dropout.
  """

  # of activations and products; parameters stay float32; bfloat16 pays on TPU, GPU and
  # CPUs that have it (avx512_bf16)
  dtype: Literal['float32', 'bfloat16'] = 'float32'
  # what the backward pass recomputes; dots: all but products
  remat: Literal['none', 'dots', 'full'] = 'none'
  # auto: unroll on CPU, where a loop costs a third of the step, and on a GPU without
  # remat
  layers: Literal['auto', 'unroll', 'scan'] = 'auto'
  # splash: on a TPU; cudnn: on a GPU, in bfloat16; auto: these where they can, else xla,
  # which works in blocks where rows are long
  attention: Literal['auto', 'xla', 'splash', 'cudnn'] = 'auto'
  # the dtype in which a run keeps the kernels of layers and head that nothing trains;
  # with products in bfloat16 nothing else changes but the memory
  frozen: Literal['float32', 'bfloat16'] = 'float32'
  dropout: Fraction = 0.0
