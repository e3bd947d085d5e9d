"""Metrics of free texts: counted by hand, against sacrebleu, and on every edge."""

import numpy as np
import pytest

from tl_jax import metrics
from tl_jax.metrics import copying, distinct, repetition, self_bleu

FREE = (distinct, repetition, self_bleu)
TEXTS = ['the cat sat on the mat', 'The cat sat, on a hat!', 'a storm at sea']


def test_distinct_counts_all_texts_together():
  found = distinct(['a b a b', 'a b c'])
  # a b c of 7 words; ab ba bc of 5 pairs; aba bab abc of 3.
  assert found == {
    'distinct_1': 3 / 7,
    'distinct_2': 3 / 5,
    'distinct_3': 1.0,
  }
  # Case and punctuation make no other word.
  assert distinct(['A!', 'a'])['distinct_1'] == 0.5


def test_repetition_is_within_each_text():
  # Three of the four 4-grams are the first again; the other text has two different ones.
  assert repetition(['x x x x x x x', 'a b c d e']) == {'repetition_4': 0.375}
  assert repetition(['a b a b'], size=2) == {'repetition_2': pytest.approx(1 / 3)}
  # Two equal texts repeat each other, not themselves.
  assert repetition(['a b c d e'] * 2) == {'repetition_4': 0.0}


def test_self_bleu_is_the_mean_of_sacrebleu_over_the_texts():
  sacrebleu = pytest.importorskip('sacrebleu')
  expected = []
  for place, text in enumerate(TEXTS):
    others = TEXTS[:place] + TEXTS[place + 1 :]
    expected.append(sacrebleu.sentence_bleu(text, others).score)
  assert self_bleu(TEXTS)['self_bleu'] == pytest.approx(sum(expected) / 3)
  assert self_bleu(['a b c d'] * 3)['self_bleu'] == pytest.approx(100.0)
  some = self_bleu(TEXTS * 50, most=3)['self_bleu']
  assert some == pytest.approx(self_bleu([TEXTS[0], TEXTS[2], TEXTS[2]])['self_bleu'])


def test_copying_is_of_the_texts_that_were_read():
  read = ['He saw the old man and the sea.', 'the sea was calm']
  written = ['Then he saw the old man go', 'the sea was wild']
  # he-saw-the-old and saw-the-old-man, of 4 and 1 four-grams; of 3 five-grams one.
  assert copying(written, read, sizes=(4, 5)) == {
    'copying_4': 2 / 5,
    'copying_5': 1 / 3,
    'longest_copy': 5.0,
  }
  # A passage ends where its text does.
  assert copying(['and the sea the sea was calm'], read)['longest_copy'] == 4.0
  assert copying(read, read) == {
    'copying_4': 1.0,
    'copying_8': 1.0,
    'longest_copy': 8.0,
  }
  assert set(copying(['nothing of it stands there'], read).values()) == {0.0}


def test_long_ngrams_are_copied_where_they_stand_as_a_whole():
  """Each size counts as if it were looked for alone."""
  generator = np.random.default_rng(0)
  draw = lambda words: ' '.join(generator.choice(['a', 'b', 'c'], words))
  read, written = [draw(60) for _ in range(5)], [draw(30) for _ in range(5)]

  def grams(texts, size):
    for text in texts:
      words = text.split()
      yield from (tuple(words[i : i + size]) for i in range(len(words) - size + 1))

  found = copying(written, read, sizes=(3, 6, 8))
  for size in (3, 6, 8):
    known = set(grams(read, size))
    share = np.mean([gram in known for gram in grams(written, size)])
    assert found[f'copying_{size}'] == pytest.approx(share)
  assert 0 < found['copying_8'] < found['copying_6'] < 1


@pytest.mark.parametrize('texts', [[], [''], ['', '  '], ['...', '?']])
def test_nothing_to_count_is_zero(texts):
  for metric in FREE:
    assert set(metric(texts).values()) == {0.0}
  assert set(copying(texts, TEXTS).values()) == {0.0}
  assert set(copying(TEXTS, texts).values()) == {0.0}


def test_a_text_alone_is_like_no_other():
  assert self_bleu(['a b c']) == {'self_bleu': 0.0}
  # Short texts have no 4-gram.
  assert repetition(['a a a']) == {'repetition_4': 0.0}


@pytest.mark.parametrize('metric', FREE)
def test_references_do_not_count(metric):
  assert metric(TEXTS) == metric(TEXTS, ['x', ['y', 'z'], 'w'])


@pytest.mark.parametrize('metric', [*FREE, copying])
def test_what_is_no_list_of_texts_is_named(metric):
  with pytest.raises(
    ValueError, match=f'{metric.__name__}: predictions must be a list'
  ):
    metric('a text', [])
  with pytest.raises(ValueError, match='example 1 of the predictions must be a text'):
    metric(['a', None], [])
  with pytest.raises(ValueError, match='example 0 of the references must be a text'):
    copying(['a'], [3])


def test_any_script_has_words():
  assert distinct(['今天天气'])['distinct_1'] == 0.75
  assert copying(['今天天气很好'], ['昨天天气很好'])['longest_copy'] == 5.0


def test_every_one_is_a_metric_by_name():
  for metric in (*FREE, copying):
    assert metrics.METRICS[metric.__name__] is metric
  assert {metric.__name__ for metric in (*FREE, copying)} == set(metrics.FREE)
