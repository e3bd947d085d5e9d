"""The problem of multiple choice: which candidate of a question is right.

>>> CHOICE.read(np.array([-1.0, 2.0, 0.5]), ())
1

A model reads the question with each candidate and gives one number. The probabilities
are the softmax over the candidates of a question (Radford et al. 2018, section 3.3).
"""

import functools
from collections.abc import Sequence

import numpy as np

from tl_jax import models, objectives
from tl_jax.data import pipeline
from tl_jax.data.candidates import Candidates, flattened
from tl_jax.tasks.problems import columns, labels
from tl_jax.tasks.problems.problem import (
  KINDS,
  Array,
  Encoded,
  Example,
  Facts,
  Limits,
  Problem,
)


def _encode(texts, targets, tokenizer, limits: Limits) -> Encoded:
  """The candidates of every question, each cut to `limits.length` tokens."""
  flat, counts = flattened(texts)
  # Labels are those of questions, not of candidates.
  unlabelled = np.zeros(len(flat), np.int32)
  encoded = labels.encode(flat, unlabelled, tokenizer, limits)
  types = encoded.examples.types
  if types is not None:
    types = Candidates(types, counts)
  tokens = Candidates(encoded.examples.tokens, counts)
  examples = pipeline.Examples(tokens, labels=targets, types=types)
  cut = tuple(each._replace(what='candidate') for each in encoded.cut)
  return Encoded(examples, cut)


def _objective(facts: Facts, each: bool = False) -> objectives.Objective:
  return objectives.choice(smoothing=facts.smoothing, each=each)


def _places(examples: list[Example]) -> Array:
  """The places of the right candidates, int32 (n,)."""
  return np.asarray([example.target for example in examples], np.int32)


def there(scores) -> Array:
  """The scores, or worths, of the candidates that a question has, of (n,) of them."""
  scores = np.asarray(scores)
  return scores[scores > models.NO_CANDIDATE / 2]


def raw_of(scores: Sequence[Sequence[float]]) -> Array:
  """What a model that gives the candidates of each question these scores would say:
  float32 (n, most candidates), `NO_CANDIDATE` in the place of one that is not there.

  >>> raw_of([[1, 2], [3]]).tolist()
  [[1.0, 2.0], [3.0, -1000000000.0]]
  """
  most = max(map(len, scores))
  found = np.full((len(scores), most), models.NO_CANDIDATE, np.float32)
  for row, own in enumerate(scores):
    found[row, : len(own)] = own
  return found


def _decide(raw, targets: Array, groups: tuple) -> Array:
  """The scores themselves (n, candidates): the best one is the answer."""
  del targets, groups
  return raw


def _plain(values) -> list:
  """Targets as places, predictions as the scores of the candidates."""
  values = np.asarray(values)
  if values.ndim == 1:
    return values.tolist()
  return [there(scores).tolist() for scores in values]


def _read(value, names: tuple[str, ...]) -> int:
  """The place of a candidate, from 0: that of a target, or of the best score."""
  del names
  return int(np.argmax(value)) if np.ndim(value) else int(value)


def _line(text, target, prediction, raw, names) -> dict:
  place = _read(prediction, names)
  # Called as in the file, which may name them A, B and C.
  return dict(
    text=text.question,
    candidates=list(text.answers),
    target=text.names[int(target)],
    prediction=text.names[place],
    # A float32 has about seven digits.
    outputs=[round(float(value), 6) for value in there(raw)],
  )


# What all problems of candidates have alike.
_COMMON = dict(
  head='choice',
  kinds=KINDS,
  fresh_head=True,
  answer='logits',
  outputs=lambda labels: 0,
  encode=_encode,
  decide=_decide,
  read=_read,
  count=lambda targets, labels: [],
)


def _worths(examples: list[Example]) -> Array:
  """What the candidates of each question are worth: float32 (n, candidates), 1 for a
  right one, `NO_CANDIDATE` in the place of one that is not there.
  """
  return raw_of([example.target for example in examples])


def _plain_worths(values) -> list:
  """Scores, or worths, of the candidates that there are."""
  return [there(row).tolist() for row in np.asarray(values)]


def _line_of_worths(text, target, prediction, raw, names) -> dict:
  del prediction, names
  # Behind them stand the places of candidates of other questions.
  count = len(text.answers)
  return dict(
    text=text.question,
    candidates=list(text.answers),
    target=[round(float(value), 6) for value in target[:count]],
    outputs=[round(float(value), 6) for value in raw[:count]],
  )


CHOICE = Problem(
  name='choice',
  form='place',
  scores=('choice_accuracy', 'brier', 'calibration_error'),
  metrics=('choice_accuracy',),
  headline='choice_accuracy',
  from_column=columns.read_choices,
  gather=_places,
  objective=_objective,
  plain=_plain,
  line=_line,
  probabilities=labels.softmax,
  **_COMMON,
)
# Several candidates may be right, and the best one is the answer.
ANY_CHOICE = Problem(
  name='any_choice',
  form='worths',
  scores=('best_answer',),
  metrics=('best_answer',),
  headline='best_answer_f1',
  from_column=None,
  gather=_worths,
  objective=_objective,
  plain=_plain_worths,
  line=_line_of_worths,
  **_COMMON,
)
# Each candidate is right or wrong by itself.
EACH_CHOICE = Problem(
  name='each_choice',
  form='worths',
  scores=('answer_sets',),
  metrics=('answer_sets',),
  headline='answer_f1',
  from_column=None,
  gather=_worths,
  objective=functools.partial(_objective, each=True),
  plain=_plain_worths,
  line=_line_of_worths,
  **_COMMON,
)
