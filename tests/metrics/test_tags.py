"""F1 of entities against seqeval, against entities written down, and on every edge."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.metrics import entity_f1, tag_accuracy

KINDS = ('PER', 'LOC', 'A-B', '_')


def sentences_of(prefixes):
  """Pairs of lists of sentences, with any tags in any order."""
  tags = st.sampled_from(
    ['O', *prefixes, *(f'{prefix}-{kind}' for prefix in prefixes for kind in KINDS)]
  )
  pair = st.lists(st.tuples(tags, tags), max_size=9)
  return st.lists(pair, min_size=1, max_size=5).map(two_sides)


def two_sides(sentences):
  return tuple([[pair[side] for pair in each] for each in sentences] for side in (0, 1))


@settings(max_examples=200, deadline=None)
@given(sentences_of('BIES'), st.sampled_from([None, 'BIOES']))
def test_entities_are_those_of_seqeval(sides, scheme):
  agree_with_seqeval(*sides, scheme)


@settings(max_examples=200, deadline=None)
@given(sentences_of('BI'), st.sampled_from([None, 'IOB2']))
def test_entities_of_two_prefixes_are_those_of_seqeval(sides, scheme):
  agree_with_seqeval(*sides, scheme)


def agree_with_seqeval(predicted, expected, scheme):
  reference = pytest.importorskip('seqeval.metrics')
  schemes = pytest.importorskip('seqeval.scheme')
  arguments = dict(zero_division=0)
  if scheme:
    named = {'IOB2': schemes.IOB2, 'BIOES': schemes.IOBES}[scheme]
    arguments.update(mode='strict', scheme=named)
  found = entity_f1(predicted, expected, scheme=scheme)
  scores = {
    'entity_precision': reference.precision_score,
    'entity_recall': reference.recall_score,
    'entity_f1': reference.f1_score,
  }
  for name, score in scores.items():
    assert found[name] == pytest.approx(float(score(expected, predicted, **arguments)))
  # Its own mean of no types at all is NaN.
  of_types = reference.f1_score(expected, predicted, average=None, **arguments)
  mean = sum(of_types) / len(of_types) if len(of_types) else 0.0
  assert found['entity_f1_macro'] == pytest.approx(mean)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.tuples(*[st.sampled_from('abc')] * 2), max_size=6)))
def test_accuracy_is_that_of_all_words(sentences):
  predicted, expected = two_sides(sentences)
  words = [pair for sentence in sentences for pair in sentence]
  right = sum(first == second for first, second in words)
  value = right / len(words) if words else 0.0
  assert tag_accuracy(predicted, expected) == {'tag_accuracy': pytest.approx(value)}


@pytest.mark.parametrize(
  ('tags', 'scheme', 'same'),
  [
    # What the tags mark, written in another way, or as nothing at all.
    ('I-X I-X O', None, 'B-X I-X O'),
    ('O E-X I-X', None, 'O S-X B-X'),
    ('B-X I-Y', None, 'B-X B-Y'),
    ('S-X I-X E-X', None, 'B-X B-X I-X'),
    ('B-X B-X', None, 'S-X S-X'),
    ('B I', None, 'B-_ I-_'),
    ('I-X I-X O', 'IOB2', 'O O O'),
    ('B-X I-Y I-X', 'IOB2', 'B-X O O'),
    ('B-X E-X E-X', 'BIOES', 'B-X E-X O'),
    ('B-X I-X O', 'BIOES', 'O O O'),
    ('B-X E-Y S-Y', 'BIOES', 'O O S-Y'),
    ('B-X B-X E-X', 'BIOES', 'O B-X E-X'),
    ('S-X I-X E-X', 'BIOES', 'S-X O O'),
  ],
)
def test_what_a_scheme_takes_for_an_entity(tags, scheme, same):
  found = entity_f1([tags.split()], [same.split()], scheme=scheme)
  marks_any = bool(set(same.split()) - {'O'})
  assert set(found.values()) == {1.0 if marks_any else 0.0}


def test_no_entity_reaches_into_the_next_sentence():
  one = [['B-X', 'I-X']]
  two = [['B-X'], ['I-X']]
  assert entity_f1(two, two)['entity_f1'] == 1.0
  assert entity_f1([['O', 'O']], one)['entity_f1'] == 0.0
  # Each is an entity of its own where nothing has to begin it.
  assert entity_f1([['B-X'], ['O']], two)['entity_recall'] == 0.5


def test_a_scheme_changes_the_score():
  arguments = ([['I-X', 'O']], [['B-X', 'O']])
  assert entity_f1(*arguments)['entity_f1'] == 1.0
  assert entity_f1(*arguments, scheme='IOB2')['entity_f1'] == 0.0


def test_types_count_alike_in_the_macro_mean_only():
  right = [['S-X', 'S-X', 'S-X', 'S-Y']]
  found = entity_f1([['S-X', 'S-X', 'S-X', 'O']], right)
  assert found == pytest.approx(
    {
      'entity_precision': 1.0,
      'entity_recall': 0.75,
      'entity_f1': 6 / 7,
      'entity_f1_macro': 0.5,
    }
  )


@pytest.mark.parametrize('sentences', [[], [[]], [['O', 'O'], []]])
@pytest.mark.parametrize('scheme', [None, 'IOB2', 'BIOES'])
def test_without_an_entity_all_is_zero(sentences, scheme):
  assert set(entity_f1(sentences, sentences, scheme=scheme).values()) == {0.0}


@pytest.mark.parametrize(
  ('predicted', 'expected', 'scheme', 'words'),
  [
    ([], [['O']], None, '0 predictions for 1 references'),
    ([['O']], [['O', 'O']], None, 'sentence 0: 1 predictions for 2 references'),
    (['O'], ['O'], None, 'must be a list'),
    ([[1]], [['O']], None, 'sentence 0 must be a list of tags'),
    ([['PER']], [['O']], None, "the tag 'PER'"),
    ([['U-PER']], [['O']], None, 'B-TYPE, I-TYPE, E-TYPE, S-TYPE'),
    ([['O-PER']], [['O']], None, "the tag 'O-PER'"),
    ([['']], [['O']], None, "the tag ''"),
    ([['O']], [['S-PER']], 'IOB2', 'one of B-TYPE, I-TYPE$'),
    ([['O']], [['O']], 'IOB', "nearest: 'IOB2'"),
  ],
)
def test_bad_input_is_an_error_of_one_line(predicted, expected, scheme, words):
  with pytest.raises(ValueError, match=words) as caught:
    entity_f1(predicted, expected, scheme=scheme)
  assert '\n' not in str(caught.value)
