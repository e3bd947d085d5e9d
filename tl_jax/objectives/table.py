"""The objectives by name. Each file of an objective says what a run must know of it.

>>> entry = OBJECTIVES['masked']
>>> entry.head, entry.kinds, entry.facts(Nominal(), length=8)['mask_id']
('masked', ('encoder',), 4)
"""

from typing import NamedTuple

from tl_jax.objectives.causal import CAUSAL
from tl_jax.objectives.classify import CLASSIFY
from tl_jax.objectives.denoisers import DENOISING, JOINED
from tl_jax.objectives.electra import ELECTRA
from tl_jax.objectives.infilling import INFILLING
from tl_jax.objectives.masked import MASKED
from tl_jax.objectives.segment_pairs import NEXT_SENTENCE, SENTENCE_ORDER
from tl_jax.objectives.seq2seq import SEQ2SEQ
from tl_jax.objectives.span import SPAN


class Nominal(NamedTuple):
  """What objectives ask of a tokenizer, in the place of one that is not there yet."""

  vocabulary_size: int = 100
  mask: int = 4
  pad: int = 0
  eos: int = 3
  special_ids: tuple = (0, 1, 2, 3, 4)
  sentinels: tuple = (5, 6, 7)

  @property
  def continues(self) -> list[bool]:
    """Every piece is a word."""
    return [False] * self.vocabulary_size

  def encode(self, text: str, *, special: bool) -> list[int]:
    """An id for each character: no text has more."""
    del special
    return [self.vocabulary_size - 1] * len(text)


OBJECTIVES = {
  'masked': MASKED,
  'electra': ELECTRA,
  'next_sentence': NEXT_SENTENCE,
  'sentence_order': SENTENCE_ORDER,
  'causal': CAUSAL,
  'span': SPAN,
  'denoisers': DENOISING,
  'joined_denoisers': JOINED,
  'infilling': INFILLING,
  'seq2seq': SEQ2SEQ,
  'classify': CLASSIFY,
}
