"""The objectives by name. Each file of an objective says what a run must know of it.

>>> entry = OBJECTIVES['masked']
>>> entry.head, entry.kinds, entry.facts(Nominal(), length=8)['mask_id']
('masked', ('encoder',), 4)
"""

from typing import NamedTuple

from tl_jax.objectives.causal import CAUSAL
from tl_jax.objectives.classify import CLASSIFY
from tl_jax.objectives.masked import MASKED
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
  continues: None = None


OBJECTIVES = {
  'masked': MASKED,
  'causal': CAUSAL,
  'span': SPAN,
  'seq2seq': SEQ2SEQ,
  'classify': CLASSIFY,
}
