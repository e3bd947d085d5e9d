"""What a classifier says of a text, as a person reads it.

>>> import numpy as np
>>> part = Part('', 'single_label', ('bad', 'good'))
>>> describe((part,), np.array([[0.0, 2.0]]))[0]['label']
'good'
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax import tasks
from tl_jax.data.candidates import Choices
from tl_jax.data.passages import PassageQuestion
from tl_jax.data.words import Words
from tl_jax.tasks import PROBLEMS
from tl_jax.tasks.problems import span

# Digits of a probability or a value.
DIGITS = 6


class Part(NamedTuple):
  """One question that a classifier answers: the kind of answer, and the labels.

  name: of the task, where a model answers several.
  """

  name: str
  kind: str
  labels: tuple[str, ...]

  @property
  def outputs(self) -> int:
    """How many numbers of the head are about this question."""
    return len(self.labels)


def parts_of(
  kind: str, labels: Sequence[str], count: int, names: Sequence[str] = ()
) -> tuple[Part, ...]:
  """The questions that a head of `count` outputs answers.

  Without a kind, one output is a value and several are those of a label each; without
  labels these are called as transformers calls them. With `names` of several tasks,
  each has the labels that begin with its name, as `tasks.together` writes them.

  >>> parts_of('', (), 2)[0].labels
  ('LABEL_0', 'LABEL_1')
  >>> [part.labels for part in parts_of('single_label', ('a: x', 'b: x'), 2, 'ab')]
  [('x',), ('x',)]
  """
  kind = kind or ('single_label' if count > 1 else 'regression')
  # A folder may name other than its outputs, or nothing.
  labels = tuple(labels)
  if len(labels) != count:
    labels = tuple(f'LABEL_{place}' for place in range(count))
  if len(names) < 2:
    return (Part('', kind, labels),)
  known = tasks.Known(kind, labels)
  return tuple(Part(name, kind, tasks.part_of(known, name).labels) for name in names)


def describe(parts: Sequence[Part], found: np.ndarray) -> list[dict[str, Any]]:
  """What outputs (n, labels) say of each of n texts.

  Of one label per text: `label`, `probability`, `probabilities` by name. Of any number
  of labels: `labels`, `probabilities`. Of a number: `value`. A model of several tasks
  says these by the name of each, in `tasks`. Where a text has no output, all are None.
  """
  if len(parts) == 1:
    return _describe_part(parts[0], found)
  by_name = {}
  first = 0
  for part in parts:
    own = found[:, first : first + part.outputs]
    by_name[part.name] = _describe_part(part, own)
    first += part.outputs
  answers = []
  for place in range(len(found)):
    own = {name: said[place] for name, said in by_name.items()}
    answers.append(dict(tasks=own))
  return answers


def _describe_part(part: Part, found: np.ndarray) -> list[dict[str, Any]]:
  """What the outputs (n, labels) of one question say of each text."""
  problem = PROBLEMS[part.kind]
  # Unlabelled: no target says which of several questions is asked.
  nowhere = np.zeros(len(found), int)
  decided = problem.decide(found, nowhere, ((0, part.outputs),))
  if problem.probabilities is None:
    return [_value(numbers) for numbers in found]
  chances = problem.probabilities(found)
  said = []
  for choice, row in zip(decided, chances, strict=True):
    # Without tokens, nothing was said of the text.
    is_known = not np.isnan(row).any()
    name = problem.read(choice, part.labels) if is_known else None
    by_label = zip(part.labels, row.tolist(), strict=True)
    each = {
      label: round(chance, DIGITS) if is_known else None for label, chance in by_label
    }
    if problem.exclusive:
      chance = None if name is None else each[name]
      said.append(dict(label=name, probability=chance, probabilities=each))
    else:
      said.append(dict(labels=name, probabilities=each))
  return said


def describe_choices(texts: Sequence[Choices], found: np.ndarray) -> list[dict]:
  """What scores (n, candidates) say of each of n questions.

  `choice` is the place of the best candidate from 0, `label` what the file calls it,
  `answer` its text. `probabilities` are in the order of the candidates.
  """
  said = []
  problem = PROBLEMS['choice']
  for text, scores in zip(texts, found, strict=True):
    place = problem.read(scores, ())
    own = scores[: len(text.answers)]
    chances = [round(chance, DIGITS) for chance in problem.probabilities(own).tolist()]
    said.append(
      dict(
        choice=place,
        label=text.names[place],
        answer=text.answers[place],
        probability=chances[place],
        probabilities=chances,
      )
    )
  return said


def describe_tags(
  texts: Sequence[Words], labels: Sequence[str], found: np.ndarray
) -> list[dict]:
  """What outputs (words, labels) say of the words of all sentences, by sentence.

  `tokens` are the words, `tags` theirs, `probabilities` those of these tags.
  """
  chances = PROBLEMS['single_label'].probabilities(found)
  places = chances.argmax(-1).tolist()
  best = chances.max(-1, initial=0.0).tolist()
  said = []
  first = 0
  for text in texts:
    own = slice(first, first + len(text.words))
    said.append(
      dict(
        tokens=list(text.words),
        tags=[labels[place] for place in places[own]],
        probabilities=[round(chance, DIGITS) for chance in best[own]],
      )
    )
    first = own.stop
  return said


def _value(numbers: np.ndarray) -> dict[str, Any]:
  """The number that is predicted, or all of them where there are several."""
  rounded = []
  for number in numbers.tolist():
    rounded.append(None if math.isnan(number) else round(number, DIGITS))
  return dict(value=rounded[0] if len(rounded) == 1 else rounded)


def describe_spans(
  texts: Sequence[PassageQuestion], raw: np.ndarray, has_none: bool
) -> list[dict[str, Any]]:
  """What a model says of questions on passages, as `tasks.problems.span` has it.

  `answer` is a part of the passage from the character `start` to `end`. has_none: may
  it be empty where no answer is the most probable? Then it has no place. `no_answer` is
  the probability of that among the best answers.
  """
  said = []
  for text, numbers in zip(texts, raw, strict=True):
    chances = span.chances_of(numbers)
    is_none = has_none and span.doubt_of(numbers) > 0
    best = int(chances[1:].argmax()) + 1
    begin, end = numbers[best, :2].astype(int).tolist()
    place = 0 if is_none else best
    # Of spans that do not exist there is no text either.
    is_none = is_none or begin < 0
    said.append(
      dict(
        id=text.name,
        answer='' if is_none else span.text_of(numbers, text.second),
        start=None if is_none else begin,
        end=None if is_none else end,
        probability=round(float(chances[place]), DIGITS),
        no_answer=round(float(chances[0]), DIGITS),
      )
    )
  return said
