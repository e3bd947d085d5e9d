"""A model of runs of words: probabilities that sum to one, and text that was planted."""

import gzip
import json
import math
import random

import numpy as np
import pytest
from planted import MENU, prose

from tl_jax.data import prepare
from tl_jax.data.prepare import Corpus, ngrams
from tl_jax.data.prepare.perplexity import Perplexity

TEXTS = ['a b a c', 'b a b', 'c a b a c']


def test_what_may_follow_sums_to_one():
  score = ngrams.learned(TEXTS)

  def chance(context, word):
    # A text has one probability: that of all its words, one after the other.
    whole = score([f'{context} {word}'])[0] ** -len(f'{context} {word}'.split())
    return whole * score([context])[0] ** len(context.split())

  for context in ('a', 'b a', 'z', 'z b', 'c a b'):
    # `z` stands for all that was not seen.
    chances = [chance(context, word) for word in 'abcz']
    assert sum(chances) == pytest.approx(1, abs=1e-9) and min(chances) > 0


def test_the_probability_of_a_run_is_discounted_and_interpolated():
  # `a` is 5 of 12 words, of 3 kinds; behind `b` three of three are `a`.
  alone = (5 - 0.75) / 12 + 0.75 * 3 / 12 / 4
  behind = (3 - 0.75) / 3 + 0.75 * 1 / 3 * alone
  before = (4 - 0.75) / 12 + 0.75 * 3 / 12 / 4
  (found,) = ngrams.learned(TEXTS)(['b a'])
  assert found == pytest.approx((before * behind) ** -0.5)


def test_a_text_without_words_and_a_reference_without_any():
  one, none = ngrams.learned(TEXTS)(['a', ''])
  assert one > 1 and math.isnan(none)
  assert ngrams.learned([])(['a b'])[0] == 1


def test_shuffled_words_and_boilerplate_are_left_out(tmp_path):
  texts = prose(800, words=50)
  generator = random.Random(0)
  shuffled = [' '.join(generator.sample(text.split(), 50)) for text in texts[:40]]
  menus = [
    ' '.join(generator.choice(MENU) for _ in range(30)) + f' {place}'
    for place in range(120)
  ]
  clean = texts[40:240]
  (tmp_path / 'web.txt').write_text('\n'.join([*clean, *shuffled, *menus[:40]]))
  (tmp_path / 'read.txt').write_text('\n'.join([*texts[240:], *menus[40:]]))
  rule = Perplexity(reference=str(tmp_path / 'read.txt'), share=200 / 280)
  corpus = Corpus({'web': str(tmp_path / 'web.txt')}, steps=(), perplexity=rule)
  scorer = ngrams.scorer(rule.reference)
  found = prepare.prepare(corpus, tmp_path / 'out', scorer=scorer)
  with gzip.open(tmp_path / 'out' / 'corpus' / 'part-00000.jsonl.gz', 'rt') as file:
    kept = {json.loads(line)['text'] for line in file}
  assert len(kept & set(clean)) >= 0.95 * len(kept)
  assert len(kept & {*shuffled, *menus}) <= 0.05 * 80
  assert found['kept'] == 200 and len(found['removed']) == 2


def test_it_is_the_same_whatever_the_company():
  score = ngrams.learned(TEXTS)
  others = ['a b c', 'q', 'b a c a']
  alone = [score([text])[0] for text in others]
  np.testing.assert_allclose(score(others), alone)
