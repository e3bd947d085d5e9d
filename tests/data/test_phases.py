"""Batches that grow read the rows of batches that do not; rows of other lengths have an
order of their own.
"""

import numpy as np
import pytest

from tl_jax.data import pipeline
from tl_jax.data.phases import Phased, Sizes
from tl_jax.data.tokens import TokenList


def source_of(count=90):
  """Examples of which every token is the number of its example."""
  draw = np.random.default_rng(0)
  arrays = [np.full(draw.integers(1, 12), 1 + number) for number in range(count)]
  return pipeline.Examples(TokenList(arrays))


def rows_of(stream, first, last):
  """The tokens of all rows of some steps, in order."""
  return [row.tolist() for step in range(first, last) for row in tokens(stream, step)]


def tokens(stream, step, rows=None):
  return stream.batch_at(step, rows)['tokens']


def stream_of(length=16, **more):
  parts = dict(a=source_of(), b=source_of(30))
  given = dict(weights=dict(a=2.0, b=1.0), seed=3, batch=8)
  return pipeline.stream(parts, length=length, **(given | more))


GROWING = Sizes((0, 5, 9), (2, 4, 8))


@pytest.mark.parametrize('step', [0, 1, 4, 5, 8, 9, 30])
def test_the_rows_before_a_step_are_those_of_all_steps_before(step):
  assert GROWING.before(step) == sum(map(GROWING.at, range(step)))


def test_batches_that_grow_read_the_rows_of_batches_that_do_not():
  whole, growing = stream_of(), stream_of(sizes=GROWING)
  found = rows_of(growing, 0, 20)
  assert [len(tokens(growing, step)) for step in (0, 4, 5, 9)] == [2, 2, 4, 8]
  assert found == rows_of(whole, 0, 20)[: len(found)]
  read = sum(whole.tokens_at(step) for step in range(9))
  # 2 * 5 + 4 * 4 + 8 * 6 rows are nine steps of eight and two rows more.
  grown = sum(growing.tokens_at(step) for step in range(15))
  assert read < grown < read + whole.tokens_at(9)


def test_stages_begin_at_their_step_however_many_rows_came_before():
  stages = ((7, dict(b=1.0)),)
  growing = stream_of(sizes=GROWING, stages=stages)
  assert {growing.locate(row)[0] for row in range(GROWING.before(7))} == {0, 1}
  later = range(GROWING.before(7), GROWING.before(30))
  assert {growing.locate(row)[0] for row in later} == {1}


def phased(**more):
  """Short rows, long ones, and short ones again, on which it goes on."""
  short = stream_of(12, sizes=Sizes((0, 6, 9), (4, 0, 4)), **more)
  long = stream_of(24, sizes=Sizes((0, 6, 9), (0, 2, 0)), **more)
  return Phased((short, long), (0, 6, 9), (0, 1, 0))


def test_rows_of_a_length_go_on_where_those_of_that_length_ended():
  found = phased()
  shapes = [tokens(found, step).shape for step in (0, 5, 6, 8, 9)]
  assert shapes == [(4, 12), (4, 12), (2, 24), (2, 24), (4, 12)]
  alone = rows_of(stream_of(12, batch=4), 0, 9)
  assert rows_of(found, 0, 6) + rows_of(found, 9, 12) == alone
  assert rows_of(found, 6, 9) == rows_of(stream_of(24, batch=2), 0, 3)


def test_any_hosts_read_the_same_global_batch_of_every_phase():
  for step in (3, 7, 10):
    whole = tokens(phased(), step)
    for rows in np.array_split(np.random.default_rng(step).permutation(len(whole)), 2):
      np.testing.assert_array_equal(tokens(phased(), step, rows), whole[rows])


def test_passes_are_those_of_all_phases():
  found = phased()
  rows = {name: rows for name, (rows, _) in found.passes(12).items()}
  assert sum(rows.values()) == 6 * 4 + 3 * 2 + 3 * 4
  # What was read of long rows is part of a pass, too.
  assert found.passes(9)['a'][1] > found.passes(6)['a'][1]


def test_a_stage_that_begins_in_another_phase_holds_in_this_one():
  found = phased(stages=((3, dict(a=1.0)), (4, dict(b=1.0))))
  _, long = found.streams
  assert {long.locate(row)[0] for row in range(6)} == {1}
