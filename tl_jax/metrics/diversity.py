"""Metrics of written texts that have no one right answer: how varied they are, how much
they repeat, and how much of them is copied.

Words are those of `tokenize`, n-grams are n words in a row. Of the first three only the
predictions count: references may be given, as to every metric, and are not looked at.

>>> distinct(['a b a b', 'a c'])['distinct_1']
0.5
>>> repetition(['so so so so so so'])['repetition_4']
0.6666666666666667
>>> copying(['we saw a red cat run'], ['a red cat runs', 'saw a red cat'], sizes=[3])
{'copying_3': 0.5, 'longest_copy': 4.0}
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

import numpy as np

from tl_jax.metrics.edges import finite
from tl_jax.metrics.text import scorer_of, tokenize

NGrams = list[tuple[str, ...]]
Places = Mapping[tuple[str, ...], list[tuple[int, int]]]


def distinct(predictions, references=()) -> dict[str, float]:
  """Distinct-1, -2 and -3 (Li et al. 2016): of all n-grams of all texts together, the
  part that is different from every one before it.

  They are in 0..1, and the more varied the texts the higher. Sets of other sizes do not
  compare: the more texts, the lower. Without an n-gram a value is 0.0.
  """
  del references
  words = _words(predictions, 'distinct')
  scores = {}
  for size in (1, 2, 3):
    found = [gram for text in words for gram in _ngrams(text, size)]
    scores[f'distinct_{size}'] = _share(len(set(found)), len(found))
  return scores


def repetition(predictions, references=(), *, size: int = 4) -> dict[str, float]:
  """The part of a text's n-grams that it already had (Welleck et al. 2020, seq-rep-n).

  It is in 0..1, the mean over the texts that have an n-gram; 0.0 where none has.
  """
  del references
  parts = []
  for text in _words(predictions, 'repetition'):
    found = _ngrams(text, size)
    # A text that is too short neither repeats itself nor varies.
    if found:
      parts.append(1 - len(set(found)) / len(found))
  return {f'repetition_{size}': _share(sum(parts), len(parts))}


def self_bleu(predictions, references=(), *, most: int = 100) -> dict[str, float]:
  """Self-BLEU in 0..100 (Zhu et al. 2018): the mean BLEU of every text with all others
  as its references, as sacrebleu scores a sentence.

  The more alike the texts, the higher. Of more than `most` texts that number is taken,
  evenly spread, since the work grows with the square. Texts without a word score 0.0 and
  are nobody's reference; fewer than two others give 0.0.
  """
  del references
  _words(predictions, 'self_bleu')
  places = range(len(predictions))
  if len(predictions) > most:
    places = np.linspace(0, len(predictions) - 1, most).astype(int)
  chosen = [predictions[place] for place in places]
  # A text without a word is like no other, and no other is like it.
  written = [text for text in chosen if text.strip()]
  if len(written) < 2:
    return {'self_bleu': 0.0}
  scorer = scorer_of('self_bleu')
  total = 0.0
  for place, text in enumerate(written):
    others = written[:place] + written[place + 1 :]
    total += scorer.sentence_score(text, others).score
  return {'self_bleu': finite(total / len(chosen))}


def copying(
  predictions, references, *, sizes: Sequence[int] = (4, 8)
) -> dict[str, float]:
  """How much of the predictions stands word for word in other texts, as those that a
  model was trained on (McCoy et al. 2023).

  references: these texts, however many. copying_N: the part in 0..1 of all N-grams of
  the predictions that one of the texts has, for each of the sizes. longest_copy: the
  words of the longest passage that one of the texts has, if they are as many as the
  least size. All are 0.0 where nothing is copied.
  """
  least = min(sizes)
  written = _words(predictions, 'copying')
  wanted = {gram for text in written for gram in _ngrams(text, least)}
  places = _places(wanted, _words(references, 'copying', 'references'), least)
  # How long the passage is that ends at each word, of all texts one after the other.
  passages = [length for text in written for length in _passages(text, places, least)]
  scores = {}
  for size in sizes:
    total = sum(max(0, len(text) - size + 1) for text in written)
    # The N words before the end of a passage of N words or more are an N-gram of it.
    copied = sum(length >= size for length in passages)
    scores[f'copying_{size}'] = _share(copied, total)
  return {**scores, 'longest_copy': float(max(passages, default=0))}


def _passages(words: list[str], places: Places, size: int) -> Iterator[int]:
  """The length of the longest passage that ends with each n-gram; 0 where none does."""
  # The length of the passage that ends at each place of the texts.
  lengths: dict[tuple[int, int], int] = {}
  for gram in _ngrams(words, size):
    # A word further in both is the same passage.
    lengths = {
      (source, place): lengths.get((source, place - 1), size - 1) + 1
      for source, place in places.get(gram, ())
    }
    yield max(lengths.values(), default=0)


def _places(wanted: Container, texts: Sequence[list[str]], size: int) -> Places:
  """Where each of the n-grams that are wanted stands, as pairs (text, place)."""
  # The texts may be a whole corpus: of other n-grams nothing is kept.
  found = defaultdict(list)
  for number, text in enumerate(texts):
    for place, gram in enumerate(_ngrams(text, size)):
      if gram in wanted:
        found[gram].append((number, place))
  return found


def _words(texts: Iterable, what: str, name: str = 'predictions') -> list[list[str]]:
  """The words of every text. Raises ValueError for what is no list of texts."""
  if isinstance(texts, str):
    raise ValueError(f'{what}: {name} must be a list of texts, not one')
  found = []
  for row, text in enumerate(texts):
    if not isinstance(text, str):
      raise ValueError(f'{what}: example {row} of the {name} must be a text')
    found.append(tokenize(text))
  return found


def _ngrams(words: Sequence[str], size: int) -> NGrams:
  return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]


def _share(part: float, total: int) -> float:
  return part / total if total else 0.0
