"""SQuAD's scores against definitions written from its papers, and on every edge."""

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.metrics import exact_match, squad, squad_v2

# Words that normalizing changes, drops or leaves, and what may stand between them.
PARTS = st.sampled_from(
  ['the', 'The', 'a', 'an', 'A', 'cat', 'Cat', 'cats', 'then', "cat's", 'U.S.', '5']
  + [' ', '  ', '\t', '\n', '-', '.', '’', '—', '(', 'é', 'İ', '東', '_', '\xa0']
)
TEXTS = st.lists(PARTS, max_size=7).map(''.join)
EXAMPLES = st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)))
# An answer that stays as it is: its emptiness is that of its normalized text.
PLAIN = st.sampled_from(['', 'cat', 'red cat', 'red red dog'])
QUESTIONS = st.lists(st.tuples(PLAIN, st.lists(PLAIN, max_size=2)), max_size=8)


def words_of(text):
  """The words that are compared: what is no punctuation, in lower case, no article."""
  kept = text.lower().translate(str.maketrans('', '', string.punctuation))
  # An article is cut out of "the-cat" once its dash is a curly one, and leaves a space.
  pieces = re.split(r'\bthe\b|\ban\b|\ba\b', kept)
  return [word for piece in pieces for word in piece.split()]


def word_f1(first, second):
  """Twice the pairs of equal words over the number of all words."""
  left = list(second)
  pairs = 0
  for word in first:
    if word in left:
      left.remove(word)
      pairs += 1
  return 2 * pairs / (len(first) + len(second)) if pairs else 0.0


def columns(examples):
  return [left for left, _ in examples], [right for _, right in examples]


def mean(values):
  return pytest.approx(sum(values) / len(values) if values else 0.0)


@settings(max_examples=150, deadline=None)
@given(EXAMPLES)
def test_squad_is_its_definition(examples):
  exact = []
  overlaps = []
  for prediction, answers in examples:
    predicted = words_of(prediction)
    exact.append(any(predicted == words_of(answer) for answer in answers))
    overlaps.append(max(word_f1(predicted, words_of(answer)) for answer in answers))
  found = squad(*columns(examples))
  assert found == {'squad_exact_match': mean(exact), 'squad_f1': mean(overlaps)}
  normalized = exact_match(*columns(examples), normalize=True)
  assert found['squad_exact_match'] == normalized['exact_match']


@settings(max_examples=150, deadline=None)
@given(EXAMPLES)
def test_squad_v2_is_its_definition(examples):
  scores = {True: [], False: []}
  for prediction, answers in examples:
    predicted = words_of(prediction)
    accepted = [words_of(answer) for answer in answers]
    accepted = [words for words in accepted if words] or [[]]
    exact = predicted in accepted
    overlap = max(word_f1(predicted, words) for words in accepted)
    has_answer = any(answers)
    scores[has_answer].append((exact, max(exact, overlap)))
  found = squad_v2(*columns(examples))
  exact, overlaps = columns(scores[True] + scores[False])
  assert found['squad_v2_exact_match'] == mean(exact)
  assert found['squad_v2_f1'] == mean(overlaps)
  for part, name in ((True, 'has_answer'), (False, 'no_answer')):
    exact, overlaps = columns(scores[part])
    assert (f'squad_v2_{name}_f1' in found) == bool(exact)
    if exact:
      assert found[f'squad_v2_{name}_exact_match'] == mean(exact)
      assert found[f'squad_v2_{name}_f1'] == mean(overlaps)


@settings(max_examples=100, deadline=None)
@given(QUESTIONS, st.data())
def test_no_threshold_is_better_than_the_best_and_it_reaches_what_it_says(
  examples, data
):
  doubts = data.draw(
    st.lists(
      st.sampled_from(range(-20, 20)),
      min_size=len(examples),
      max_size=len(examples),
      unique=True,
    )
  )
  predictions, references = columns(examples)
  found = squad_v2(predictions, references, no_answer=doubts)
  for name in ('squad_v2_exact_match', 'squad_v2_f1'):
    scores = {
      threshold: squad_v2(
        predictions, references, no_answer=doubts, threshold=threshold
      )
      for threshold in (-100, *doubts)
    }
    best = name.replace('v2', 'v2_best')
    assert found[best] == pytest.approx(max(each[name] for each in scores.values()))
    chosen = found[f'{best}_threshold']
    # The official script says 0.0 where nothing is answered, though 0 does not exceed 0.
    if chosen or 0 not in doubts:
      reached = squad_v2(predictions, references, no_answer=doubts, threshold=chosen)
      assert reached[name] == pytest.approx(found[best])


def test_the_threshold_is_searched_as_in_the_official_script():
  # Between the two equal doubts lies a score of 1.0 that no threshold reaches.
  found = squad_v2(['cat', 'dog'], [['cat'], []], no_answer=[0.5, 0.5])
  assert found['squad_v2_f1'] == 0.5
  assert found['squad_v2_best_f1'] == 1.0
  assert found['squad_v2_best_f1_threshold'] == 0.5
  # An article is no empty prediction to the search, and is one to the score.
  found = squad_v2(['the', 'cat'], [[], ['cat']], no_answer=[0.1, 0.9])
  assert found['squad_v2_exact_match'] == 1.0
  assert found['squad_v2_best_exact_match'] == 0.5
  assert found['squad_v2_best_exact_match_threshold'] == 0.0


def test_a_doubt_above_the_threshold_withholds_the_answer():
  arguments = (['cat', 'cat'], [['cat'], []])
  above = squad_v2(*arguments, no_answer=[0.4, 0.6], threshold=0.5)
  assert above['squad_v2_exact_match'] == above['squad_v2_f1'] == 1.0
  equal = squad_v2(*arguments, no_answer=[0.4, 0.6], threshold=0.6)
  assert equal['squad_v2_exact_match'] == 0.5
  # A probability never exceeds the threshold that is there by default.
  certain = squad_v2(*arguments, no_answer=[1.0, 1.0])
  assert certain['squad_v2_exact_match'] == 0.5


@pytest.mark.parametrize(
  ('prediction', 'answers', 'exact', 'f1'),
  [
    # Rounded as printed by the official script of version 1.1.
    ('the Denver Broncos', ['Denver Broncos', 'Broncos'], 1.0, 1.0),
    ('Broncos of Denver', ['Denver Broncos'], 0.0, 0.8),
    ('cat cat cat', ['cat dog'], 0.0, 0.4),
    ('U.S', 'US', 1.0, 1.0),
    ('well-known', 'well known', 0.0, 0.0),
    ('an A the', 'The', 1.0, 0.0),
    ('', ['', 'cat'], 1.0, 0.0),
    ('', 'cat', 0.0, 0.0),
  ],
)
def test_edges_of_squad(prediction, answers, exact, f1):
  found = squad([prediction], [answers])
  assert found == pytest.approx({'squad_exact_match': exact, 'squad_f1': f1})


@pytest.mark.parametrize(
  ('prediction', 'answers', 'part', 'value'),
  [
    ('', [], 'no_answer', 1.0),
    ('', '', 'no_answer', 1.0),
    ('the', [''], 'no_answer', 1.0),
    ('cat', [], 'no_answer', 0.0),
    # A reference of an article alone is an answer, which only the empty text matches.
    ('', ['the'], 'has_answer', 1.0),
    ('cat', ['the', 'cat'], 'has_answer', 1.0),
    ('', ['the', 'cat'], 'has_answer', 0.0),
  ],
)
def test_edges_of_squad_v2(prediction, answers, part, value):
  names = ['squad_v2', f'squad_v2_{part}']
  expected = {f'{name}_{score}': value for name in names for score in SCORES}
  assert squad_v2([prediction], [answers]) == expected


SCORES = ('exact_match', 'f1')


def test_nothing_to_score_is_zero():
  assert squad([], []) == {'squad_exact_match': 0.0, 'squad_f1': 0.0}
  found = squad_v2([], [], no_answer=[])
  assert len(found) == 6
  assert set(found.values()) == {0.0}


@pytest.mark.parametrize(
  ('metric', 'arguments', 'options', 'words'),
  [
    (squad, (['a'], []), {}, '1 predictions for 0 references'),
    (squad, ('a', ['a']), {}, 'must be a list'),
    (squad, ([None], ['a']), {}, 'example 0 must be a text'),
    (squad, (['a', 'a'], ['a', [None]]), {}, 'example 1 must be a text'),
    (squad, (['a'], [[]]), {}, 'example 0 has no reference'),
    (squad_v2, (['a'], [3]), {}, 'example 0 must be a text'),
    (squad_v2, (['a'], ['a']), {'no_answer': []}, '0 values of no_answer'),
    (squad_v2, (['a'], ['a']), {'no_answer': [float('nan')]}, 'not finite'),
  ],
)
def test_bad_input_is_an_error_of_one_line(metric, arguments, options, words):
  with pytest.raises(ValueError, match=words) as caught:
    metric(*arguments, **options)
  assert '\n' not in str(caught.value)
