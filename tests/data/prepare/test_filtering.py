"""The rules on a chunk, and a chunk as a file."""

import numpy as np
import pytest

from tl_jax.data.prepare import Corpus, batch, decontamination, language, statistics
from tl_jax.data.prepare.filtering import Filtered, filtered

ENGLISH = 'It was the best of times and it was the worst of times for all of us.'
GERMAN = 'Es war die beste und auch die schlechteste Zeit, die wir je hatten.'
FRENCH = "C'était le meilleur et le pire des temps pour nous tous dans la ville."


@pytest.mark.parametrize(
  'text, words',
  [
    ('I do.--But why?', 'I|do.--But|why|?'),
    ('here--"yes," and', 'here--"yes|,|"|and'),
    ('a long--way off--', 'a|long|--|way|off--'),
    ('stop--(it is', 'stop--(it|is'),
    ('Mr. and Mrs. E. W. Bell', 'Mr.|and|Mrs.|E.|W.|Bell'),
    ('I cannot, canton', 'I|can|not|,|canton'),
    ("don't C++ a.txt 3,000.5", "don|'t|C++|a.txt|3,000.5"),
    ('Well... "so"; end.', 'Well|...|"|so|"|;|end|.'),
    ('see https://a.org/b?c=1.', 'see|https://a.org/b?c=1|.'),
  ],
)
def test_words_are_those_of_tokenizers_of_english(text, words):
  assert batch.split(text) == words.split('|')


def test_languages_are_told_by_small_words():
  names, shares = language.languages(batch.of([ENGLISH, GERMAN, FRENCH, '123 456', '']))
  assert names == ['en', 'de', 'fr', '', ''] and (shares[:3] > 0.3).all()


def test_a_language_that_is_not_wanted_is_left_out():
  corpus = Corpus({'a': 'a'}, steps=(), languages=('en', 'fr'))
  documents = [('1', ENGLISH), ('2', GERMAN), ('3', FRENCH), ('4', '123')]
  found = filtered(corpus, documents, {})
  assert found.places == ['1', '3']
  assert found.removed == {'language: de': 1, 'language: unknown': 1}
  assert found.examples['language: de'] == [('2', GERMAN)]


def test_a_chunk_is_the_same_from_its_file():
  corpus = Corpus({'a': 'a'}, steps=())
  found = filtered(corpus, [('1', ENGLISH), ('2', ' '), ('3', 'lone \ud83d half')], {})
  again = Filtered.from_bytes(found.to_bytes())
  assert (again.places, again.texts) == (found.places, found.texts)
  assert again.removed == found.removed and again.examples == found.examples
  np.testing.assert_array_equal(again.keys, found.keys)
  np.testing.assert_array_equal(again.fingerprints, found.fingerprints)
  assert again.before.shown() == found.before.shown()


@pytest.mark.parametrize('words, is_seen', [(13, True), (12, False)])
def test_runs_of_thirteen_words_are_found(words, is_seen):
  asked = [f'w{number}' for number in range(30)]
  known = decontamination.runs_of([' '.join(asked)])
  text = 'before it, ' + ', '.join(asked[5 : 5 + words]).upper() + ' and behind'
  assert decontamination.is_seen(batch.of([text]), known).tolist() == [is_seen]


def test_short_evaluation_texts_count_as_a_whole():
  known = decontamination.runs_of(
    ['one two three four five six seven eight', 'too short']
  )
  texts = ['so: One two three, four five six seven eight.', 'two three four too short']
  assert decontamination.is_seen(batch.of(texts), known).tolist() == [True, False]


def test_statistics_of_parts_add_up_to_those_of_the_whole():
  texts = [ENGLISH, GERMAN, FRENCH, ENGLISH + ' ' + GERMAN]
  whole = statistics.of(batch.of(texts))
  parts = statistics.of(batch.of(texts[:1])) + statistics.of(batch.of(texts[1:]))
  assert parts.shown() == pytest.approx(whole.shown())
  np.testing.assert_array_equal(parts.sketch, whole.sketch)


def test_overlap_is_the_share_of_runs_that_both_have():
  generator = np.random.default_rng(0)
  words = [f'w{number}' for number in generator.permutation(9000)]
  one = statistics.of(batch.of([' '.join(words[:6000])]))
  other = statistics.of(batch.of([' '.join(words[3000:])]))
  # 3,000 of 9,000 runs; of 4,096 of these that is told to two points.
  assert statistics.overlap(one, other) == pytest.approx(1 / 3, abs=0.03)
  assert statistics.overlap(one, one) == 1.0
  assert statistics.overlap(one, statistics.Statistics()) == 0.0
