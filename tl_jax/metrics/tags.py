"""Metrics of tagged words: accuracy of the tags, and F1 of the entities they mark.

A tag is O, outside of every entity, or a prefix and a type: B-PER begins an entity, I-PER
goes on with it, E-PER ends it, S-PER is one of a single word.

>>> entity_f1([['B-PER', 'I-PER', 'O']], [['B-PER', 'I-PER', 'B-LOC']])['entity_f1']
0.6666666666666666
>>> tag_accuracy([['DET', 'NOUN']], [['DET', 'VERB']])
{'tag_accuracy': 0.5}
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from tl_jax.config import nearest
from tl_jax.metrics.edges import same_length

# The prefixes that a tag may have in each scheme.
SCHEMES = {'IOB2': 'BI', 'BIOES': 'BIES'}
_OUTSIDE = ('O', '_')
# An entity (sentence, type, first word, word after its last).
Entity = tuple[int, str, int, int]
# A tag as prefix and type.
Tag = tuple[str, str]


def tag_accuracy(predictions, references) -> dict[str, float]:
  """The fraction of all words whose tag is right.

  Both are lists of sentences, which are lists of tags; any tags do. It is 0.0 where
  there is no word. Errors: ValueError where two sentences differ in length.
  """
  hits = 0
  total = 0
  for _, predicted, expected in _sentences(predictions, references, 'tag_accuracy'):
    hits += sum(map(str.__eq__, predicted, expected))
    total += len(expected)
  return {'tag_accuracy': hits / total if total else 0.0}


def entity_f1(
  predictions, references, *, scheme: str | None = None
) -> dict[str, float]:
  """Precision, recall and F1 of entities: of the same type, from the same first word to
  the same last one.

  Both are lists of sentences, which are lists of tags.

  entity_precision, entity_recall, entity_f1: of all entities together.
  entity_f1_macro: the plain mean of the F1 over the types that occur on either side.
  All are 0.0 where their formula divides by zero.

  scheme: without one, every tag that is not O is part of an entity, also where nothing
  began it, as in conlleval (Tjong Kim Sang & Buchholz 2000) and seqeval's default mode.
  'IOB2' and 'BIOES' only count entities that are written as the scheme asks, as
  seqeval's strict mode does. Errors: ValueError for a tag that is none of the scheme,
  and where two sentences differ in length.
  """
  if scheme is not None and scheme not in SCHEMES:
    close = nearest(scheme, SCHEMES)
    raise ValueError(f'entity_f1: no scheme {scheme!r}; nearest: {close}')
  found: set[Entity] = set()
  right: set[Entity] = set()
  for row, predicted, expected in _sentences(predictions, references, 'entity_f1'):
    found.update(_entities(row, predicted, scheme))
    right.update(_entities(row, expected, scheme))
  hits = len(found & right)
  return {
    'entity_precision': hits / len(found) if found else 0.0,
    'entity_recall': hits / len(right) if right else 0.0,
    'entity_f1': _f1(hits, len(found), len(right)),
    'entity_f1_macro': _macro(found, right),
  }


def types_of(lists: Iterable[Sequence[Sequence[str]]]) -> list[str]:
  """The types of all entities in several lists of sentences, in order."""
  kinds = set()
  for sentences in lists:
    for row, sentence in enumerate(sentences):
      kinds.update(kind for _, kind, _, _ in _entities(row, sentence, None))
  return sorted(kinds)


def counts_by_type(predictions, references, types: Sequence[str]) -> np.ndarray:
  """How many entities of each type every sentence has: right ones, then all that are
  predicted, then all that are expected, float64 (n, 3 types).
  """
  places = {kind: place for place, kind in enumerate(types)}
  counts = np.zeros((len(references), 3, len(types)))
  for row, predicted, expected in _sentences(predictions, references, 'entity_f1'):
    # As sets: nothing is right twice.
    found = set(_entities(row, predicted, None))
    right = set(_entities(row, expected, None))
    for part, entities in enumerate((found & right, found, right)):
      for _, kind, _, _ in entities:
        counts[row, part, places[kind]] += 1
  return counts.reshape(len(references), 3 * len(types))


def _macro(found: set[Entity], right: set[Entity]) -> float:
  """The mean F1 of the types that occur on either side."""
  hits = Counter(kind for _, kind, _, _ in found & right)
  predicted = Counter(kind for _, kind, _, _ in found)
  expected = Counter(kind for _, kind, _, _ in right)
  kinds = sorted(predicted.keys() | expected.keys())
  scores = [_f1(hits[kind], predicted[kind], expected[kind]) for kind in kinds]
  return math.fsum(scores) / len(scores) if scores else 0.0


def _f1(hits: int, predicted: int, expected: int) -> float:
  return 2 * hits / (predicted + expected) if hits else 0.0


def _entities(row: int, tags: Sequence[str], scheme: str | None) -> Iterator[Entity]:
  """The entities of a sentence."""
  prefixes = SCHEMES[scheme or 'BIOES']
  pairs = [_prefix_and_type(tag, prefixes, row) for tag in tags]
  spans = _marked(pairs) if scheme is None else _well_formed(pairs, scheme)
  for kind, first, end in spans:
    yield row, kind, first, end


def _prefix_and_type(tag: str, prefixes: str, row: int) -> Tag:
  """The two parts of a tag. An entity may have no type: it is then `_`."""
  if tag == 'O':
    return _OUTSIDE
  prefix, _, kind = tag.partition('-')
  if prefix not in tuple(prefixes):
    marks = ', '.join(f'{mark}-TYPE' for mark in prefixes)
    raise ValueError(
      f'entity_f1: sentence {row} has the tag {tag!r}; it must be O or one of {marks}'
    )
  return prefix, kind or '_'


def _marked(tags: Sequence[Tag]) -> Iterator[tuple[str, int, int]]:
  """Every run of tags that are not O, cut where one entity must end and another begin."""
  first = None
  last_prefix, last_kind = _OUTSIDE
  # The O behind the last word ends what is still open.
  for place, (prefix, kind) in enumerate([*tags, _OUTSIDE]):
    is_outside = prefix == 'O'
    is_new = prefix in 'BS' or last_prefix in 'OES' or kind != last_kind
    if first is not None and (is_outside or is_new):
      yield last_kind, first, place
      first = None
    if is_new and not is_outside:
      first = place
    last_prefix, last_kind = prefix, kind


def _well_formed(tags: Sequence[Tag], scheme: str) -> Iterator[tuple[str, int, int]]:
  """The entities that are written as a scheme asks.

  In IOB2 one is B and any number of I of its type. In BIOES it is S, or B, any number of
  I and E of one type.
  """
  first = None
  open_kind = ''
  for place, (prefix, kind) in enumerate([*tags, _OUTSIDE]):
    if first is not None and prefix in 'IE' and kind == open_kind:
      if prefix == 'E':
        yield kind, first, place + 1
        first = None
      continue
    # Without an E, the next tag that does not go on ends an entity of IOB2.
    if first is not None and scheme == 'IOB2':
      yield open_kind, first, place
    first = None
    if prefix == 'S':
      yield kind, place, place + 1
    elif prefix == 'B':
      first = place
      open_kind = kind


def _sentences(
  predictions, references, what: str
) -> Iterator[tuple[int, list[str], list[str]]]:
  """The number of every sentence, its predicted tags and the right ones."""
  same_length(predictions, references, what)
  for row, (predicted, expected) in enumerate(
    zip(predictions, references, strict=True)
  ):
    length = same_length(predicted, expected, f'{what}: sentence {row}')
    tags = [*predicted, *expected]
    if not all(isinstance(tag, str) for tag in tags):
      raise ValueError(f'{what}: sentence {row} must be a list of tags as text')
    yield row, tags[:length], tags[length:]
