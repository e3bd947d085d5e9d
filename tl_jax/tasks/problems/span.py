"""The problem of spans: the answer to a question is a part of a passage.

>>> target = Target('Ann ran.', ('Ann',), ((0, 3),))
>>> raw = raw_of([(0, 3)])
>>> decide(raw, np.array([target, None], object)[:1], ((0, 0),)).tolist()
['Ann']

What a model says of a question is float32 (1 + BEST, 3): in the first row the score of
no answer behind two -1, then the best spans as their first character, the one behind
their last, and their score.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax import objectives
from tl_jax.config import ConfigError
from tl_jax.data import extracts, pipeline
from tl_jax.data.extracts import Extracts
from tl_jax.data.pairs import are_framed
from tl_jax.data.passages import Answers
from tl_jax.tasks.problems import columns
from tl_jax.tasks.problems.problem import (
  Array,
  Cut,
  Encoded,
  Example,
  Facts,
  Limits,
  Problem,
)

# Spans of a question that are kept, and tokens that begin or end the best ones of a
# window: those of BERT.
BEST = 20
# The score of a span that is not there.
NOWHERE = -1e9


class Target(NamedTuple):
  """What is right of a question: the answers in its passage, and where they stand.

  texts: () where the passage does not answer. places: (first, end) of their characters.
  """

  passage: str
  texts: tuple[str, ...] = ()
  places: tuple[tuple[int, int], ...] = ()


def metrics_of(labels: Sequence[str]) -> tuple[str, ...]:
  """SQuAD 2.0's where some questions have no answer, else those of 1.1."""
  return ('squad_v2',) if labels else ('squad',)


def _gather(examples: list[Example]) -> Array:
  found = np.empty(len(examples), object)
  for place, example in enumerate(examples):
    answers = example.target or Answers()
    (asked,) = example.inputs
    places = []
    for text, start in zip(answers.texts, answers.starts, strict=False):
      places.append((start, start + len(text)))
    found[place] = Target(asked.second, answers.texts, tuple(places))
  return found


def _encode(texts, targets, tokenizer, limits: Limits) -> Encoded:
  """The windows of every question. Of a passage nothing is cut."""
  if not are_framed(texts[:1], tokenizer):
    raise ConfigError(
      'config.task.kind: span: the tokenizer puts nothing between a question and its '
      'passage; a model that reads pairs has one that does'
    )
  answers = []
  for target in targets:
    starts = tuple(first for first, _ in target.places)
    answers.append(Answers(target.texts, starts))
  tokens, sizes = extracts.encode(texts, tokenizer, limits.length, answers)
  types = tokens.types if limits.types > 1 else None
  longest = limits.answer_length or extracts.LONGEST
  tokens = dataclasses.replace(tokens, longest=longest)
  # No longer row has more of a question: which length would is not said.
  asked = Cut('question', int((sizes > extracts.QUESTION).sum()), extracts.QUESTION)
  # A model that learns longer answers than it may give would give bits of others.
  lengths = tokens.answer_lengths
  answered = Cut.of('answer', lengths[lengths > 0], longest)
  return Encoded(pipeline.Examples(tokens, types=types), (asked, answered))


def _objective(facts: Facts) -> objectives.Objective:
  return objectives.extract(smoothing=facts.smoothing)


def collect(outputs: Array, tokens: Extracts, numbers: Array) -> Array:
  """What a model says of the chosen questions, float32 (n, 1 + BEST, 3).

  outputs (units, 2): the scores of every column of their windows as the first and as the
  last of an answer, question after question. No span has more than `tokens.longest`.
  """
  found = np.empty((len(numbers), 1 + BEST, 3), np.float32)
  # The windows of a question stand side by side.
  firsts = np.searchsorted(tokens.index, np.asarray(numbers))
  start = 0
  for row, (number, first) in enumerate(zip(numbers, firsts.tolist(), strict=True)):
    spans: dict[tuple[int, int], float] = {}
    null = np.inf
    window = first
    while window < len(tokens) and tokens.index[window] == number:
      end = start + int(tokens.sizes[window])
      scores = outputs[start:end]
      null = min(null, float(scores[0].sum()))
      _add_spans(spans, scores[1:], tokens.windows[window], tokens.longest)
      start = end
      window += 1
    found[row] = _best_of(spans, null)
  return found


def _add_spans(
  spans: dict, scores: Array, window: extracts.Window, longest: int
) -> None:
  """Adds the best spans of a window, or what they are worth there if it is more.

  scores (m, 2): of the tokens of the passage. longest: the most tokens of a span.
  """
  # An answer begins where most of the passage around it is in sight.
  starts = np.where(window.central, scores[:, 0], -np.inf)
  firsts = np.argsort(-starts, kind='stable')[:BEST]
  lasts = np.argsort(-scores[:, 1], kind='stable')[:BEST]
  sums = starts[firsts, None] + scores[None, lasts, 1]
  tokens = lasts[None, :] - firsts[:, None] + 1
  fits = (tokens >= 1) & (tokens <= longest) & np.isfinite(sums)
  for row, column in zip(*np.nonzero(fits), strict=True):
    begin = int(window.places[firsts[row], 0])
    end = int(window.places[lasts[column], 1])
    score = float(sums[row, column])
    # Some tokens stand for no character.
    if end > begin:
      spans[begin, end] = max(score, spans.get((begin, end), -np.inf))


def _best_of(spans: dict[tuple[int, int], float], null: float) -> Array:
  """The best spans behind the score of no answer, float32 (1 + BEST, 3)."""
  # Of equal ones the one that begins first.
  ordered = sorted(spans, key=lambda span: (-spans[span], span))
  found = np.full((1 + BEST, 3), -1, np.float32)
  found[:, 2] = NOWHERE
  found[0, 2] = null
  for row, span in enumerate(ordered[:BEST], 1):
    found[row] = *span, spans[span]
  return found


def raw_of(places: Sequence[tuple[int, int]]) -> Array:
  """As if a model were sure of these characters (first, end), one pair for a question."""
  found = [_best_of({place: 0.0}, NOWHERE) for place in places]
  return np.stack(found)


def text_of(raw: Array, passage: str) -> str:
  """The best span of a passage; '' where there is none."""
  # Of a span that is not there both are -1.
  begin, end, _ = raw[1]
  return passage[max(0, int(begin)) : max(0, int(end))].strip()


def doubt_of(raw: Array) -> Array:
  """By how much no answer scores higher than the best span, (...)."""
  raw = np.asarray(raw, np.float64)
  return raw[..., 0, 2] - raw[..., 1, 2]


def decide(raw: Array, targets: Array, groups: tuple) -> Array:
  """The answers (n,) as texts; '' where the passage has none and some have none."""
  (_, last), *_ = groups
  found = np.empty(len(targets), object)
  for place, target in enumerate(targets):
    has_none = last > 0 and doubt_of(raw[place]) > 0
    found[place] = '' if has_none else text_of(raw[place], target.passage)
  return found


def in_doubt(raw: Array, targets: Array) -> tuple[list[str], Array]:
  """(the best spans whatever no answer scores, how far that one is ahead of each)."""
  texts = []
  for numbers, target in zip(raw, targets, strict=True):
    texts.append(text_of(numbers, target.passage))
  return texts, doubt_of(raw)


def chances_of(raw: Array) -> Array:
  """The probabilities (1 + BEST,) of no answer and of the best spans among them."""
  scores = np.asarray(raw, np.float64)[:, 2]
  powers = np.exp(scores - scores.max())
  return powers / powers.sum()


def _plain(values) -> list:
  """Predictions as texts, targets as lists of all right ones."""
  found = []
  for value in values:
    found.append(value if isinstance(value, str) else list(value.texts))
  return found


def _read(value, labels: tuple[str, ...]) -> str | list[str]:
  del labels
  return value if isinstance(value, str) else list(value.texts)


def _line(text, target, prediction, raw, labels) -> dict:
  del labels
  # A float32 has about seven digits.
  outputs = [round(float(score), 6) for score in raw[:2, 2]]
  return dict(
    id=text.name,
    question=text.first,
    passage=text.second,
    target=list(target.texts),
    prediction=prediction,
    start=int(raw[1, 0]) if prediction else None,
    outputs=outputs,
  )


def _count(targets: Array, labels: int) -> list[int]:
  """How many questions have no answer, where some have none."""
  without = sum(not target.texts for target in targets)
  return [without][:labels]


def _written(targets: Array) -> list[str]:
  return [text for target in targets for text in target.texts]


SPAN = Problem(
  name='span',
  head='span',
  # Others have no piece between the question and the passage, or two sides to read.
  kinds=('encoder',),
  fresh_head=True,
  answer='logits',
  form='span',
  scores=('squad', 'squad_v2'),
  metrics=('squad',),
  headline='squad_f1',
  metrics_of=metrics_of,
  outputs=lambda labels: 0,
  from_column=columns.read_answers,
  gather=_gather,
  encode=_encode,
  objective=_objective,
  decide=decide,
  plain=_plain,
  read=_read,
  count=_count,
  line=_line,
  written=_written,
  collect=lambda outputs, tokens, numbers, targets: collect(outputs, tokens, numbers),
  in_doubt=in_doubt,
)
