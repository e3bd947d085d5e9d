"""Laws of sources too large to be planned whole: a row costs one window's planning."""

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.data import mixing, packing, pipeline, windows

COUNT = 20_000
# Some rows of a source of so many examples, for seed 3.
PINNED = [[16137], [14919, 16541, 18237, 18562], [6489, 4721], [17188, 9639]]


@dataclasses.dataclass(frozen=True)
class Counted:
  """What a token cache is, with token arrays that are made when they are asked for."""

  lengths: np.ndarray

  @functools.cached_property
  def index(self):
    return np.arange(len(self.lengths), dtype=np.int32)

  def __len__(self):
    return len(self.lengths)

  def __getitem__(self, i):
    return np.full(self.lengths[i], i + 1)


def counted(count, seed=0, longest=40):
  return Counted(np.random.default_rng(seed).integers(1, longest, count, np.int32))


def examples(count=COUNT, labels=False, targets=False):
  return pipeline.Examples(
    counted(count),
    np.arange(count) % 2 if labels else None,
    counted(count, 1, 30) if targets else None,
  )


def make(**more):
  return pipeline.stream(examples(), **{'seed': 3, 'length': 64, 'batch': 8, **more})


@pytest.fixture
def small(monkeypatch):
  """Windows of some 5,000 examples, so that an epoch has four."""
  monkeypatch.setattr(windows, 'SIZE', 2**12)


def epoch_of(part, epoch):
  """The members of every row of an epoch, in order."""
  return [row for window in range(part.windows) for row in part.plan(epoch, window)]


CASES = {
  'packed': {},
  'a subset': {'subset': np.arange(0, COUNT, 2)},
  'not packed': {'pack': False},
  'text for a shorter row': {
    'room': pipeline.Room(48, lambda lengths: (lengths * 3 + 3) // 4)
  },
}


@pytest.mark.parametrize('more', CASES.values(), ids=CASES)
def test_every_example_is_in_one_row_of_an_epoch(small, more):
  part = make(**more).parts[0]
  wanted = np.sort(more.get('subset', np.arange(COUNT)))
  for epoch in (0, 5):
    rows = epoch_of(part, epoch)
    assert np.array_equal(np.sort(np.concatenate(rows)), wanted)
    assert all(len(row) for row in rows)
    room = (
      more['room'] if 'room' in more else pipeline.Room(64, lambda lengths: lengths)
    )
    lengths = room.taken(part.examples.tokens.lengths)
    assert max(lengths[row].sum() for row in rows) <= room.size


def test_labels_and_targets_are_packed_as_in_small_sources(small):
  both = pipeline.stream(
    examples(9000, True, True),
    seed=3,
    length=64,
    batch=8,
    examples_per_row=3,
    target_length=48,
  )
  part = both.parts[0]
  rows = epoch_of(part, 1)
  assert part.windows == 2
  assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(9000))
  assert max(map(len, rows)) == 3
  targets = part.examples.targets.lengths
  assert max(targets[row].sum() for row in rows) <= 48
  batch = both.batch_at(700)
  held = batch['examples'] > 0
  assert (batch['labels'][held] == batch['identifiers'][held] % 2).all()


@pytest.mark.parametrize('examples_per_row', [1, 2])
def test_no_row_is_empty_where_examples_do_not_share_rows(small, examples_per_row):
  """All examples fill a row of their own, so no row can be parted for a margin."""
  full = pipeline.Examples(Counted(np.full(COUNT + 3, 64, np.int32)))
  source = pipeline.stream(
    full, seed=0, length=64, batch=8, examples_per_row=examples_per_row
  )
  rows = epoch_of(source.parts[0], 0)
  assert len(rows) == COUNT + 3 and all(len(row) == 1 for row in rows)


@settings(max_examples=30)
@given(st.integers(0, 2**40), st.integers(0, 3))
def test_a_row_is_where_its_window_says(row, seed):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(windows, 'SIZE', 2**11)
    part = make(seed=seed).parts[0]
    epoch, members = part.locate(row)
    rows = part._first_row(part.windows)
    assert epoch == row // rows and len(members)
    window = next(
      number
      for number in range(part.windows)
      if part._first_row(number + 1) > row % rows
    )
    inside = row % rows - part._first_row(window)
    assert np.array_equal(members, part.plan(epoch, window)[inside])


def test_hosts_and_resumes_read_the_same_batches(small):
  run = make()
  draw = np.random.default_rng(0)
  for step in (0, 1, 700, 10_000, 10**6):
    whole = run.batch_at(step)
    for hosts in (1, 2, 4):
      order = draw.permutation(8)
      for rows in np.split(order, hosts):
        part = make().batch_at(step, rows)
        assert all(np.array_equal(whole[name][rows], part[name]) for name in whole)
    assert run.tokens_at(step) == np.count_nonzero(whole['segments'])


def test_two_epochs_share_no_order(small):
  part = make().parts[0]
  first, second = (np.concatenate(epoch_of(part, epoch)) for epoch in (0, 1))
  # By chance one example in so many is in its place, and as many follow the same one.
  assert np.count_nonzero(first == second) < 10
  follows = np.empty((2, COUNT), int)
  for order, place in zip((first, second), follows, strict=True):
    place[order] = np.roll(order, -1)
  assert np.count_nonzero(follows[0] == follows[1]) < 15
  # Windows are drawn anew: two share what chance gives them, a quarter.
  together = np.intersect1d(part.plan(0, 0).members, part.plan(1, 0).members)
  assert abs(len(together) / (COUNT / part.windows) - 1 / part.windows) < 0.03


def test_windows_cost_two_rows_in_a_hundred_at_most():
  """Beside the plan of all examples together, at the size that runs have."""
  draw = np.random.default_rng(0)
  lengths = np.minimum(draw.lognormal(5.6, 1.1, 2 * windows.SIZE), 512).astype(np.int32)
  data = pipeline.Examples(Counted(np.maximum(lengths, 1)))
  part = pipeline.stream(data, seed=0, length=512, batch=8).parts[0]
  # Whole rows of tokens, which no plan can do with fewer than.
  fewest = int(lengths.sum()) / 512
  assert fewest < part._first_row(part.windows) < 1.02 * fewest


def test_a_late_step_plans_two_windows(small, monkeypatch):
  planned = []
  plan = packing.plan

  def watched(lengths, row_length, order, *more, **options):
    planned.append(len(order))
    return plan(lengths, row_length, order, *more, **options)

  monkeypatch.setattr(packing, 'plan', watched)
  source = pipeline.stream(examples(10**6), seed=0, length=64, batch=8)
  assert planned == []
  window = 10**6 // source.parts[0].windows + 1
  source.batch_at(0)
  assert len(planned) == 1 and max(planned) <= window
  planned.clear()
  # A batch may end in the window that follows.
  source.batch_at(10**9)
  assert len(planned) <= 2 and max(planned) <= window


def test_windows_begin_where_a_plan_of_all_takes_long(small):
  sizes = {
    count: type(pipeline.stream(examples(count), seed=0, length=64, batch=8).parts[0])
    for count in (100, 2**13 - 1, 2**13)
  }
  assert list(sizes.values()) == [pipeline.Epochs, pipeline.Epochs, windows.Windows]


def test_what_is_not_shuffled_is_planned_whole(small):
  """Windows of a source that is sorted by length need unequal numbers of rows."""
  source = pipeline.stream(
    pipeline.Examples(Counted(np.sort(counted(COUNT).lengths))),
    seed=0,
    length=64,
    batch=COUNT,
    shuffle=False,
  )
  rows = [source.locate(row) for row in range(COUNT)]
  first = [members for _, epoch, members in rows if epoch == 0]
  assert np.array_equal(np.sort(np.concatenate(first)), np.arange(COUNT))


def test_a_mixture_has_small_and_large_sources(small):
  parts = {'a': examples(), 'b': examples(50)}
  source = pipeline.stream(
    parts, seed=0, length=64, batch=8, weights={'a': 0.75, 'b': 0.25}
  )
  assert [type(part) for part in source.parts] == [windows.Windows, pipeline.Epochs]
  alone = pipeline.stream(examples(), seed=0, length=64, batch=8)
  assert alone.parts[0].windows == source.parts[0].windows
  found = [source.locate(row)[0] for row in range(mixing.BLOCK)]
  assert np.bincount(found).tolist() == [768, 256]
  assert source.epoch_of(400)['a'] == 0 and source.epoch_of(400)['b'] > 10


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60), st.data())
def test_a_plan_is_given_as_many_rows_as_it_is_due(lengths, data):
  packed = packing.plan(lengths, 12)
  rows = data.draw(st.integers(packed.rows, len(lengths)))
  found = windows.due(packed, rows)
  assert found.rows == rows and all(len(row) for row in found)
  assert np.array_equal(found.members, packed.members)
  assert set(packed.starts) <= set(found.starts)


def test_rows_that_a_window_has_not_wait_and_the_log_says_so(
  small, monkeypatch, caplog
):
  monkeypatch.setattr(windows, 'SPARE', -40)
  monkeypatch.setattr(windows, 'MARGIN', 0)
  part = make().parts[0]
  rows = epoch_of(part, 0)
  assert len(rows) == part._first_row(part.windows)
  members = np.concatenate(rows)
  assert COUNT * 0.9 < len(members) < COUNT
  assert len(np.unique(members)) == len(members)
  assert 'what is in the others is read in the next epoch' in caplog.text


def test_the_order_is_the_one_that_checkpoints_remember(small):
  """Pins the rows, because a resumed run depends on them."""
  part = make().parts[0]
  found = [part.locate(row)[1].tolist() for row in (0, 1, 12_345, 987_654)]
  assert found == PINNED
