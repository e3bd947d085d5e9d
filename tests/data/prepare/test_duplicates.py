"""Documents that are there twice, by MinHash and exactly."""

import numpy as np
import pytest

from tl_jax.data.prepare import batch, duplicates

WORDS = np.array([f'word{number}' for number in range(5000)])


def draw(generator, size=300):
  return list(generator.choice(WORDS, size))


def found_share(changed, pairs=60):
  """The share of pairs that are found when so many words of 300 are others."""
  generator = np.random.default_rng(changed)
  texts = []
  for _ in range(pairs):
    words = draw(generator)
    other = list(words)
    for place in generator.choice(300, changed, replace=False):
      other[place] = 'other'
    texts += [' '.join(words), ' '.join(other)]
  firsts = duplicates.clusters(duplicates.signatures(batch.of(texts)))
  return np.mean(firsts[1::2] == firsts[::2])


@pytest.mark.parametrize(
  'changed, least, most', [(1, 0.98, 1.0), (3, 0.95, 1.0), (60, 0.0, 0.1), (300, 0, 0)]
)
def test_pairs_are_found_as_often_as_the_buckets_promise(changed, least, most):
  assert least <= found_share(changed) <= most


def test_case_and_signs_do_not_count():
  texts = ['The quick brown fox jumps over it.', 'the QUICK, brown fox - jumps over it']
  first, second = duplicates.signatures(batch.of(texts))
  assert (first == second).all()


def test_the_key_of_a_document_is_of_no_batch():
  generator = np.random.default_rng(0)
  texts = [' '.join(draw(generator, size)) for size in (3, 40, 200)]
  whole = duplicates.signatures(batch.of(texts))
  alone = [duplicates.signatures(batch.of([text]))[0] for text in reversed(texts)]
  np.testing.assert_array_equal(whole, alone[::-1])


def test_short_documents_are_the_same_only_where_they_are():
  texts = ['one two', 'One  two', 'one three', '']
  firsts = duplicates.clusters(duplicates.signatures(batch.of(texts)))
  assert firsts.tolist() == [0, 0, 2, 3]


def test_what_is_like_a_third_is_of_one_cluster():
  keys = np.arange(1, 1 + 4 * duplicates.BUCKETS, dtype=np.uint64).reshape(4, -1)
  keys[1, 0] = keys[3, 0]
  keys[2, 5] = keys[3, 5]
  assert duplicates.clusters(keys).tolist() == [0, 1, 1, 1]


def test_fingerprints_are_of_words_in_any_case_and_spacing():
  one = duplicates.fingerprint(' The end\n')
  assert one == duplicates.fingerprint('the  END') != duplicates.fingerprint('the end.')
