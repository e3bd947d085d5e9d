"""The problem of tags: a label for every word of a sentence.

>>> TAGS.read(np.array([1, 0, -1]), ('O', 'B-PER'))
['B-PER', 'O']
>>> metrics_of(('B-PER', 'O')), metrics_of(('ADJ', 'NOUN'))
(('entity_f1', 'tag_accuracy'), ('tag_accuracy',))

Targets and predictions are int32 (n, words): the numbers of tags, -1 behind the last
word of a sentence.
"""

import re
from collections.abc import Sequence

import numpy as np

from tl_jax import objectives
from tl_jax.data import pipeline
from tl_jax.data.tagged import NO_TAG, windows
from tl_jax.tasks.problems import columns
from tl_jax.tasks.problems.labels import softmax
from tl_jax.tasks.problems.problem import (
  Array,
  Encoded,
  Example,
  Facts,
  Limits,
  Problem,
)

# A tag that says where a word stands in an entity of some type.
_OF_ENTITY = re.compile(r'[BI]-.')


def metrics_of(labels: Sequence[str]) -> tuple[str, ...]:
  """The metrics of a task with these tags: F1 of entities where the tags mark such."""
  if any(map(_OF_ENTITY.match, labels)):
    return 'entity_f1', 'tag_accuracy'
  return ('tag_accuracy',)


def _encode(texts, targets, tokenizer, limits: Limits) -> Encoded:
  """The windows of every sentence. Nothing is cut: every word has its tag."""
  tags = targets[targets != NO_TAG].astype(np.int32)
  tokens = windows(texts, tokenizer, limits.length, tags)
  return Encoded(pipeline.Examples(tokens), ())


def _objective(facts: Facts) -> objectives.Objective:
  return objectives.tags(labels=facts.outputs, smoothing=facts.smoothing)


def _rows(examples: list[Example]) -> Array:
  """The tags of all sentences, int32 (n, words)."""
  lengths = [len(example.target) for example in examples]
  shape = len(examples), max(lengths, default=0)
  found = np.full(shape, NO_TAG, np.int32)
  for row, example in enumerate(examples):
    end = lengths[row]
    found[row, :end] = example.target
  return found


def _collect(outputs: Array, tokens, numbers: Array, targets: Array) -> Array:
  """What a model says of every word, as sentences have it: float32 (n, words, 2).

  outputs (words, labels): of the words of all sentences, one after the other. The
  first number is the tag, the second its probability. Both are -1 behind the last word.
  """
  # The targets have as many words as the sentences.
  del tokens, numbers
  found = np.full((*targets.shape, 2), float(NO_TAG), np.float32)
  # A tag says less than the outputs, but those of many words and tags are large.
  chances = softmax(outputs)
  tags = chances.argmax(-1)
  best = chances.max(-1)
  is_word = targets != NO_TAG
  found[is_word] = np.stack([tags, best], -1)
  return found


def _decide(raw: Array, targets: Array, groups: tuple) -> Array:
  """The tags (n, words) that a model says."""
  del targets, groups
  tags = np.asarray(raw)[..., 0]
  return tags.astype(np.int32)


def _read(value, labels: tuple[str, ...]) -> list[str]:
  """The names of the tags of a sentence."""
  return [labels[tag] for tag in value if tag != NO_TAG]


def _line(text, target, prediction, raw, labels) -> dict:
  words = list(text.words)
  count = len(words)
  chances = raw[:count, 1].tolist()
  # A float32 has about seven digits.
  rounded = [round(chance, 6) for chance in chances]
  right = _read(target, labels)
  said = _read(prediction, labels)
  return dict(tokens=words, target=right, prediction=said, probabilities=rounded)


def _count(targets: Array, labels: int) -> list[int]:
  """How many words have each tag."""
  tags = targets[targets != NO_TAG]
  counts = np.bincount(tags, minlength=labels)
  return counts.tolist()


def _plain(values) -> list[list[int]]:
  """The numbers of the tags of every sentence."""
  found = []
  for row in values:
    own = [tag for tag in row if tag != NO_TAG]
    found.append(own)
  return found


def _move(target, places: list[int], labels: int) -> tuple[int, ...]:
  del labels
  return tuple(places[tag] for tag in target)


TAGS = Problem(
  name='tags',
  head='token',
  # transformers has no such head for an encoder-decoder that reads both of its sides.
  kinds=('encoder', 'decoder'),
  fresh_head=True,
  answer='logits',
  form='tags',
  scores=('entity_f1', 'tag_accuracy'),
  metrics=('tag_accuracy',),
  headline='tag_accuracy',
  metrics_of=metrics_of,
  outputs=lambda labels: labels,
  from_column=columns.read_tags,
  gather=_rows,
  encode=_encode,
  objective=_objective,
  decide=_decide,
  plain=_plain,
  read=_read,
  count=_count,
  line=_line,
  move=_move,
  collect=_collect,
)
