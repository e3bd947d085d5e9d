"""Tasks whose answers are texts: summaries, translations, continuations.

>>> task = translation('translate', 'wmt14_translate/de-en', 'en', 'de')
>>> task.example({'en': 'a cow', 'de': 'eine Kuh'})[:2]
(('a cow',), 'eine Kuh')
>>> halves('Two lines\\nof a poem')
('Two lines', 'of a poem')
"""

import functools

from tl_jax.metrics import FREE
from tl_jax.tasks.problems import PROBLEMS, Example
from tl_jax.tasks.task import Task

# The fewest words of either half of a passage.
FEWEST_WORDS = 20


def _pair(record, text: str, target: str) -> Example | None:
  """A record with a text and what it should become; None where one is empty."""
  # Lines of a corpus may bring their ends along, which nobody should learn to write.
  asked = record[text].strip()
  answer = record[target].strip()
  return Example((asked,), answer) if asked and answer else None


def summary(
  name: str, source: str, text: str, target: str, *, headline: str = 'rougeL'
) -> Task:
  """A text in few words, scored by ROUGE. `headline` is the ROUGE that a table shows."""
  read = functools.partial(_pair, text=text, target=target)
  return Task(
    name,
    source,
    read,
    problem=PROBLEMS['text'],
    metrics=('rouge',),
    headline=headline,
  )


def translation(name: str, source: str, text: str, target: str) -> Task:
  """A text in another language: the fields are called as the languages are."""
  read = functools.partial(_pair, text=text, target=target)
  return Task(
    name,
    source,
    read,
    problem=PROBLEMS['text'],
    metrics=('chrf', 'bleu'),
    headline='chrf',
  )


def continuation(name: str, sources: tuple[str, ...]) -> Task:
  """How a passage goes on, from its first half.

  There are many good answers and one is known: ROUGE and chrF say how close an answer
  comes to the author's. How varied answers are and how much of them is copied says more.
  The likeliest text soon repeats itself, so that texts are drawn, from the likeliest
  pieces that have most of the probability together (Holtzman et al. 2020).
  """

  def read(record):
    first, second = halves(record['text'])
    if min(len(first.split()), len(second.split())) < FEWEST_WORDS:
      return None
    return Example((first,), second)

  # Few words are those of the author: chrF sees likeness below the word.
  metrics = ('rouge', 'chrf', *FREE)
  return Task(
    name,
    sources,
    read,
    problem=PROBLEMS['text'],
    metrics=metrics,
    decoding=dict(method='sample', top_p=0.95),
  )


def halves(text: str) -> tuple[str, str]:
  """A text in two parts: cut at the end of a line or a sentence, near its middle."""
  middle = len(text) // 2
  # The last character is looked at by none: what follows it would be empty.
  ends = [place + 1 for place in range(len(text) - 1) if _ends_at(text, place)]
  cut = min(ends, key=lambda place: abs(place - middle), default=len(text))
  return text[:cut].strip(), text[cut:].strip()


def _ends_at(text: str, place: int) -> bool:
  """Does a line or a sentence end with the character at this place?"""
  mark = text[place]
  return mark == '\n' or (mark in '.?!' and text[place + 1].isspace())
