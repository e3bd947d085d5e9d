"""The objectives by name, each with all that a run must know of it.

>>> entry = OBJECTIVES['masked']
>>> entry.head, entry.kinds, entry.facts(Nominal(), length=8)['mask_id']
('masked', ('encoder',), 4)
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from tl_jax.objectives.causal import causal
from tl_jax.objectives.classify import classify
from tl_jax.objectives.masked import masked
from tl_jax.objectives.seq2seq import seq2seq
from tl_jax.objectives.span import span
from tl_jax.objectives.types import Objective

KINDS = ('encoder', 'decoder', 'encoder-decoder')


class Entry(NamedTuple):
  """An objective as a config names it.

  make(**options, **facts) -> Objective: the constructor.
  head: the head of the model whose outputs it reads.
  kinds: the kinds of model that can have it.
  facts(tokenizer, length) -> dict: the arguments of `make` that no config gives.
    `length` counts the tokens of a row.
  reads: what its batches hold: text alone, text with a target text, or text with
    labels.
  """

  make: Callable[..., Objective]
  head: str
  kinds: tuple[str, ...]
  facts: Callable[[Any, int], dict]
  reads: Literal['text', 'pairs', 'labels'] = 'text'


class Nominal(NamedTuple):
  """What objectives ask of a tokenizer, in the place of one that is not there yet."""

  vocabulary_size: int = 100
  mask: int = 4
  pad: int = 0
  eos: int = 3
  special_ids: tuple = (0, 1, 2, 3, 4)
  sentinels: tuple = (5, 6, 7)
  continues: None = None


def _no_facts(tokenizer, length) -> dict:
  del tokenizer, length
  return {}


def _facts_of_masked(tokenizer, length) -> dict:
  del length
  return dict(
    vocabulary=tokenizer.vocabulary_size,
    mask_id=tokenizer.mask,
    special_ids=tokenizer.special_ids,
    continues=tokenizer.continues,
  )


def _facts_of_span(tokenizer, length) -> dict:
  return dict(
    sentinels=tokenizer.sentinels,
    pad_id=tokenizer.pad,
    eos_id=tokenizer.eos,
    length=length,
  )


def _facts_of_seq2seq(tokenizer, length) -> dict:
  del length
  # T5's decoder starts at the padding id.
  return dict(start_id=tokenizer.pad)


OBJECTIVES = {
  'masked': Entry(masked, 'masked', ('encoder',), _facts_of_masked),
  'causal': Entry(causal, 'causal', ('decoder',), _no_facts),
  'span': Entry(span, 'causal', ('encoder-decoder',), _facts_of_span),
  'seq2seq': Entry(
    seq2seq, 'causal', ('encoder-decoder',), _facts_of_seq2seq, reads='pairs'
  ),
  # Its facts are the labels of a task, not of a tokenizer.
  'classify': Entry(classify, 'classifier', KINDS, _no_facts, reads='labels'),
}
