"""Laws of pairs that are cut when they are read: a row costs one window's cutting."""

import numpy as np
import pytest

from tl_jax.data import cuts, mixing, pipeline, tokens
from tl_jax.data.segment_pairs import Documents, Rules, draw_pairs

FRAME = ((2, 0), ('A', 0), (3, 0), ('B', 1), (3, 1))
COUNT = 400
TWICE = 2 * COUNT
# Some rows for seed 3.
PINNED = [[7832], [4378], [8372]]


def documents(count=COUNT, longest=9):
  """Documents of sentences of tokens, no token twice."""
  draw = np.random.default_rng(0)
  sizes = draw.integers(1, 12, count)
  ends = np.cumsum(draw.integers(1, longest, sizes.sum()))
  parts = np.split(np.arange(10, 10 + ends[-1]), ends[:-1])
  return Documents(tokens.TokenList(parts), np.cumsum([0, *sizes]), 11)


RULES = Rules(24)


def found(rules=RULES, duplicates=2):
  return cuts.Cuts(documents(), FRAME, rules, duplicates)


def make(pack=True, subset=None, **more):
  pairs = found(**more)
  examples = pipeline.Examples(pairs, types=pairs.types)
  return pipeline.stream(
    examples,
    seed=3,
    length=24,
    batch=8,
    pack=pack,
    examples_per_row=2 if pack else 1,
    subset=subset,
  )


@pytest.fixture
def small(monkeypatch):
  """Windows of some 100 cuts, so that an epoch has eight."""
  monkeypatch.setattr(cuts, 'SIZE', 100)


def epoch_of(part, epoch):
  """The members of every row of an epoch, in order."""
  return [row for window in range(part.windows) for row in part.plan(epoch, window)]


def test_pairs_are_those_of_the_whole_plan():
  whole = draw_pairs(documents(), FRAME, Rules(24), duplicates=2)
  lazy = found()
  members = lazy.members(range(len(lazy)))
  assert len(members) == len(whole)
  assert lazy.lengths[members].tolist() == whole.lengths.tolist()
  for i, member in enumerate(members):
    assert lazy[member].tolist() == whole[i].tolist()
    assert lazy.types[member].tolist() == whole.types[i].tolist()
  labels = lazy.fill(members, 0, len(members))['labels']
  assert labels.tolist() == whole.labels.tolist()


@pytest.mark.parametrize('swaps', [False, True])
@pytest.mark.parametrize('pack', [False, True])
def test_every_pair_is_in_one_row_of_an_epoch(small, swaps, pack):
  run = make(pack=pack, rules=Rules(24, 0.3, swaps))
  (part,) = run.parts
  pairs = part.examples.tokens
  wanted = np.sort(pairs.members(range(TWICE)))
  for epoch in (0, 5):
    rows = epoch_of(part, epoch)
    assert len(rows) == part.rows_in(epoch)
    members = np.concatenate(rows)
    # Rows that a window does not need are of cuts that are none of the epoch's.
    again = members[members >= TWICE * pairs.documents.longest]
    assert len(np.unique(members)) == len(members) == len(wanted) + len(again)
    assert set(wanted) <= set(members.tolist())
    assert max(pairs.lengths[row].sum() for row in rows) <= 24
    assert 0 < len(again) < len(wanted)


def test_what_is_cut_once_more_is_little_in_large_windows(monkeypatch):
  # A quarter of the usual size, where it is twice as much.
  monkeypatch.setattr(cuts, 'SIZE', 2**12)
  pairs = found(duplicates=25)
  examples = pipeline.Examples(pairs, types=pairs.types)
  stream = pipeline.stream(examples, seed=0, length=24, batch=8, examples_per_row=1)
  (part,) = stream.parts
  plan = part.plan(0, 1)
  assert part.windows == 2 and plan.rows == len(plan.members)
  share = np.mean(plan.members >= len(pairs) * pairs.documents.longest)
  assert 0 < share < 0.1


def test_hosts_and_resumes_read_the_same_batches(small):
  run = make()
  draw = np.random.default_rng(0)
  for step in (0, 1, 700, 10**6):
    whole = run.batch_at(step)
    for hosts in (1, 2, 4):
      for rows in np.split(draw.permutation(8), hosts):
        part = make().batch_at(step, rows)
        assert all(np.array_equal(whole[name][rows], part[name]) for name in whole)
    assert run.tokens_at(step) == np.count_nonzero(whole['segments'])


def test_rows_hold_whole_pairs_with_labels_and_types(small):
  run = make()
  pairs = run.parts[0].examples.tokens
  batch = run.batch_at(3)
  for row in range(8):
    _, _, members = run.locate(3 * 8 + row)
    begin = 0
    for place, member in enumerate(members):
      end = begin + len(pairs[member])
      assert batch['tokens'][row, begin:end].tolist() == pairs[member].tolist()
      assert batch['types'][row, begin:end].tolist() == pairs.types[member].tolist()
      pair = pairs.pair(member)
      assert batch['labels'][row, place] == pair.label
      assert batch['identifiers'][row, place] == pair.first.document
      begin = end
    assert not batch['segments'][row, begin:].any()


def test_two_epochs_share_no_order(small):
  (part,) = make().parts
  first, second = (np.concatenate(epoch_of(part, epoch)) for epoch in (0, 1))
  both = min(len(first), len(second))
  assert np.count_nonzero(first[:both] == second[:both]) < 10
  # Nor do the pairs of a document stand side by side.
  longest = part.examples.tokens.documents.longest
  neighbours = np.diff(first // longest) == 0
  assert neighbours.mean() < 0.05


def test_a_late_step_cuts_two_windows(small):
  run = make()
  (part,) = run.parts
  cut = []
  read = part.examples.tokens.documents
  part.examples.tokens.__dict__['pairs'] = lambda number: (
    cut.append(number) or read.pairs(number, Rules(24))
  )
  run.batch_at(10**9)
  assert len({number % TWICE for number in cut}) <= 3 * 101


def test_budgets_and_sizes_are_of_documents(small):
  pieces = found().pieces
  held = documents()
  sizes = [len(held.whole(number)) for number in range(COUNT)]
  assert pieces.lengths[np.arange(COUNT, TWICE)].tolist() == sizes
  assert pieces.lengths.sum() == 2 * sum(sizes)
  assert pieces[COUNT + 7].tolist() == held.whole(7).tolist()
  chosen = mixing.budget(pieces, 500, 0, 'a')
  assert 440 < pieces.lengths[chosen].sum() <= 500
  (part,) = make(subset=chosen).parts
  members = np.concatenate(epoch_of(part, 0))
  longest = found().documents.longest
  assert set(members // longest % TWICE) == set(chosen.tolist())


def test_the_order_is_the_one_that_checkpoints_remember(small):
  """Pins the rows, because a resumed run depends on them."""
  run = make()
  rows = [run.parts[0].locate(row)[1].tolist() for row in (0, 1, 12_345)]
  assert rows == PINNED
