"""Questions with candidates in packed rows: every candidate is a segment of its own."""

import numpy as np

from tl_jax.data import packing, pipeline
from tl_jax.data.candidates import Candidates, Choices, flattened
from tl_jax.data.tokens import TokenList


def three_questions():
  """Candidates of 2, 3 and 1 tokens; of 1 and 1; of 2 and 2."""
  sizes = [2, 3, 1, 1, 1, 2, 2]
  flat = [np.full(size, number) for number, size in enumerate(sizes, 1)]
  return Candidates(TokenList(flat), np.array([3, 2, 2]))


def test_the_tokens_of_a_question_are_those_of_its_candidates_in_order():
  found = three_questions()
  assert found.lengths.tolist() == [6, 2, 4]
  assert found[0].tolist() == [1, 1, 2, 2, 2, 3] and found[2].tolist() == [6, 6, 7, 7]


def test_a_row_tells_the_candidates_of_its_questions_apart():
  labels = np.array([2, 0, 1])
  examples = pipeline.Examples(three_questions(), labels=labels)
  layout = pipeline.Layout(10, examples_per_row=2)
  row = layout.fill(examples, [1, 0])
  assert row['tokens'].tolist() == [4, 5, 1, 1, 2, 2, 2, 3, 0, 0]
  assert row['segments'].tolist() == [1, 2, 3, 3, 4, 4, 4, 5, 0, 0]
  assert row['positions'].tolist() == [0, 0, 0, 1, 0, 1, 2, 0, 0, 0]
  # A question with fewer candidates than another has 0 in the place of one.
  assert row['examples'].tolist() == [[1, 2, 0], [3, 4, 5]]
  assert row['labels'].tolist() == [0, 2] and row['identifiers'].tolist() == [1, 0]


def test_no_question_is_divided_between_rows():
  lengths = three_questions().lengths
  rows = [sorted(map(int, row)) for row in packing.plan(lengths, 8)]
  assert rows == [[0, 1], [2]]


def test_the_text_of_a_question_tells_questions_apart_by_their_candidates():
  first = Choices('It rains.', ('Go.', 'Stay.'))
  second = Choices('It rains.', ('Go.', 'Sleep.'))
  assert first != second and first.names == ('0', '1')
  flat, counts = flattened([first, Choices('', ('a', 'b', 'c'))])
  assert counts.tolist() == [2, 3] and flat[1].second == 'Stay.' and flat[2] == 'a'
