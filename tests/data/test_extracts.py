"""Windows of passages behind their questions, and where answers stand in them."""

import types

import numpy as np
import pytest

from tl_jax.data import extracts, pipeline, tokenizers
from tl_jax.data.passages import Answers, PassageQuestion

WORDS = [f'w{number}' for number in range(40)]
PASSAGE = ' '.join(WORDS)
QUESTION = 'where is w17'


@pytest.fixture(scope='module')
def tokenizer():
  return tokenizers.train([PASSAGE, QUESTION] * 3, size=200, least=1)


def encoded(tokenizer, text='w17', length=24, question=QUESTION):
  start = PASSAGE.index(text)
  asked = PassageQuestion(question, PASSAGE)
  found, _ = extracts.encode([asked], tokenizer, length, [Answers((text,), (start,))])
  return found


def test_windows_cover_the_passage_behind_the_question(tokenizer):
  found = encoded(tokenizer)
  question = tokenizer.encode(QUESTION, special=False)
  passage = tokenizer.encode(PASSAGE, special=False)
  cls, sep = tokenizer.prefix[0], tokenizer.suffix[0]
  assert len(found) > 2 and found.units.sum() == found.sizes.sum()
  covered = set()
  for window in found.windows:
    assert len(window.ids) <= 24
    count = len(window.places)
    own = window.ids[window.first : window.first + count]
    assert window.ids.tolist() == [cls, *question, sep, *own, sep]
    assert window.types.tolist() == [0] * (len(question) + 2) + [1] * (count + 1)
    for place, (begin, end) in zip(own, window.places, strict=True):
      assert (
        PASSAGE[begin:end] in tokenizer.decode([place])
        or '##' in tokenizer.pieces[place]
      )
    covered |= {tuple(place) for place in window.places.tolist()}
  assert len(covered) == len(passage)


def test_every_token_is_central_in_one_window(tokenizer):
  found = encoded(tokenizer)
  places = np.concatenate([window.places[window.central] for window in found.windows])
  assert len(places) == len(np.unique(places, axis=0))
  assert len(places) == len(tokenizer.encode(PASSAGE, special=False))


def test_context_counts_on_the_poorer_side():
  # Of BERT's own example: `bought` ends the second window and is within the third.
  first, second, third = extracts.central([(0, 5), (3, 8), (6, 11)])
  assert not second[7 - 3] and third[7 - 6]
  assert first[2] and second[5 - 3] and third[10 - 6]


def test_an_answer_has_columns_where_it_is_whole(tokenizer):
  found = encoded(tokenizer, 'w17 w18')
  hits = 0
  for window, (first, last) in zip(found.windows, found.answers, strict=True):
    start = PASSAGE.index('w17 w18')
    inside = window.places[0, 0] <= start and window.places[-1, 1] >= start + 7
    assert ((first, last) != (0, 0)) == inside
    if inside:
      hits += 1
      begin = window.places[first - window.first, 0]
      end = window.places[last - window.first, 1]
      assert PASSAGE[begin:end] == 'w17 w18'
  assert hits > 0


def test_an_answer_within_a_word_has_the_whole_tokens(tokenizer):
  asked = PassageQuestion('which', 'w10-w11 w12')
  found, _ = extracts.encode([asked], tokenizer, 24, [Answers(('11',), (5,))])
  (window,) = found.windows
  first, last = found.answers[0] - window.first
  begin, end = window.places[first, 0], window.places[last, 1]
  assert '11' in asked.second[begin:end]


def test_an_answer_begins_behind_the_space_that_a_token_has():
  spans = [(0, 3), (3, 7), (7, 9), (9, 10)]
  spaced = types.SimpleNamespace(
    encode_batch=lambda texts, special: [[5]] * len(texts),
    encode_spans=lambda texts: [([6, 7, 8, 9], spans)],
    pair=(('A', 0), (2, 0), ('B', 1)),
  )
  asked = PassageQuestion('who', 'Ann ran  .')
  found, _ = extracts.encode([asked], spaced, 24, [Answers(('ran',), (4,))])
  (window,) = found.windows
  # A token of spaces alone has no character.
  assert window.places.tolist() == [[0, 3], [4, 7], [9, 9], [9, 10]]
  assert (found.answers[0] - window.first).tolist() == [1, 1]


def test_no_answer_points_at_the_first_token(tokenizer):
  asked = PassageQuestion(QUESTION, PASSAGE)
  found, _ = extracts.encode([asked], tokenizer, 24, [Answers()])
  assert not found.answers.any()


def test_a_long_question_is_cut_and_one_without_room_refused(tokenizer):
  asked = PassageQuestion(' '.join(WORDS * 4), PASSAGE)
  found, sizes = extracts.encode([asked], tokenizer, 100)
  assert sizes[0] > extracts.QUESTION
  assert all(window.first == extracts.QUESTION + 2 for window in found.windows)
  with pytest.raises(ValueError, match='no room for a passage beside 64 tokens'):
    extracts.encode([asked], tokenizer, 67)


def test_rows_have_the_columns_of_their_windows(tokenizer):
  asked = [PassageQuestion('where', 'w1 w2'), PassageQuestion('where is', 'w3')]
  answers = [Answers(('w2',), (3,)), Answers(('w3',), (0,))]
  found, _ = extracts.encode(asked, tokenizer, 16, answers)
  examples = pipeline.Examples(found, types=found.types)
  layout = pipeline.Layout(32, examples_per_row=3)
  row = layout.fill(examples, [1, 0])
  tokens = row['tokens']
  for place, text in enumerate(['w3', 'w2']):
    first, last = row['labels'][place]
    assert tokenizer.decode(tokens[first : last + 1]) == text
  assert row['examples'].tolist() == [1, 2, 0]
  numbers = row['identifiers'][row['identifiers'] >= 0]
  assert sorted(numbers) == list(range(found.units.sum()))
  # A window's columns: that of no answer, then those of the passage.
  start = len(found[1])
  assert row['identifiers'][start] == 0 and row['identifiers'][0] == found.units[0]
