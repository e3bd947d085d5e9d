"""Documents that repeat themselves."""

import numpy as np
import pytest

from tl_jax.data.prepare import batch, repetition
from tl_jax.data.prepare.repetition import Repetition

WORDS = [f'word{number}' for number in range(400)]
PLAIN = ' '.join(WORDS)


def reason(text):
  return repetition.reasons(batch.of([text]), Repetition())[0]


@pytest.mark.parametrize(
  'text, found',
  [
    (PLAIN, ''),
    ('\n\n'.join([PLAIN[:300], *['the same paragraph'] * 9]), 'repeated paragraphs'),
    (
      '\n'.join([PLAIN[:900], *[f'{w} {w}' for w in WORDS[:6]], *['a'] * 9]),
      'repeated lines',
    ),
    (
      '\n'.join([PLAIN[:200], *WORDS[:20], PLAIN[:200]]),
      'characters of repeated lines',
    ),
    (' '.join(f'so on {word}' for word in WORDS[:90]), 'top 2-gram'),
    (' '.join([PLAIN, *WORDS[:150]]), 'repeated 5-grams'),
  ],
)
def test_each_kind_of_repetition_leaves_something_out(text, found):
  assert reason(text) == (f'repetition: {found}' if found else '')


def test_bounds_are_never_below_the_count_word_by_word():
  """What is left without a count would be left with one, too."""
  generator = np.random.default_rng(0)
  texts = []
  for size in (3, 5, 9, 20, 60):
    texts += [' '.join(generator.choice(WORDS[:size], 150)) for _ in range(6)]
  texts += [' '.join([*WORDS[:size], *WORDS[3:size]]) for size in (20, 40)]
  made = batch.of(texts)
  hashes = batch.mixed(made.ids.astype(np.uint64) + np.uint64(1))
  for size in (2, 3, 4):
    found = repetition._top_bound(
      made, *batch.grams(hashes, made.documents, size), size
    )
    exact = [repetition._top(words, size) for words in made.words]
    assert (found >= exact).all()
  for size in (5, 7, 10):
    runs = batch.grams(hashes, made.documents, size)
    found = repetition._repeated_bound(made, *runs, size)
    exact = [repetition._repeated(words, size) for words in made.words]
    assert (found >= exact).all() and max(exact) > 0


def test_runs_do_not_reach_from_one_document_into_the_next():
  halves = [' '.join(WORDS[:50]), ' '.join(WORDS[:50])]
  rules = Repetition(top=(1.0 - 1e-9,) * 3)
  assert repetition.reasons(batch.of(halves), rules) == ['', '']
