"""Laws of mixtures: which source a row comes from, whoever reads it and from where."""

import itertools

import fake_devices
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.data import mixing, pipeline
from tl_jax.data.tokens import TokenList


def source_of(count, first, seed=0):
  """Examples of which every token is the number of its example."""
  draw = np.random.default_rng(seed)
  arrays = []
  for number in range(first, first + count):
    arrays.append(np.full(draw.integers(1, 12), number))
  return pipeline.Examples(TokenList(arrays))


def sources():
  return dict(a=source_of(40, 1), b=source_of(9, 1001), c=source_of(25, 2001))


def staged(batch=8, **more):
  """Three stages; of b only three passes, of c only some tokens."""
  parts = sources()
  chosen = mixing.budget(parts['c'].tokens, 60, 0, 'c')
  given = dict(
    weights=dict(a=60.0, b=41.0, c=0.0),
    stages=((30, dict(a=1.0, c=2.0)), (60, dict(a=1.0, b=1.0, c=1.0))),
    epochs=dict(b=3),
    subset=dict(c=chosen),
  )
  how = dict(seed=5, length=16, batch=batch) | given | more
  return pipeline.stream(parts, **how)


def ids_of(batch):
  """The numbers of the examples of every row, in their order."""
  rows = []
  for tokens, segments in zip(batch['tokens'], batch['segments'], strict=True):
    starts = np.flatnonzero(np.diff(segments, prepend=0) > 0)
    rows.append(tokens[starts].tolist())
  return rows


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 200), st.sampled_from([1, 2, 4]), st.randoms())
def test_any_hosts_and_devices_read_the_same_global_batch(step, hosts, random):
  """After any resume: every host opens the stream anew and knows the step alone."""
  whole = ids_of(staged().batch_at(step))
  order = list(range(8))
  random.shuffle(order)
  found = {}
  for rows in np.split(np.array(order), hosts):
    own = staged().batch_at(step, rows)
    found |= dict(zip(rows.tolist(), ids_of(own), strict=True))
  assert [found[row] for row in range(8)] == whole


@settings(max_examples=20, deadline=None)
@given(
  st.integers(0, 150),
  st.sampled_from([1, 2, 4]),
  st.sampled_from([1, 2, 4]),
  st.randoms(),
)
def test_micro_batches_are_the_same_wherever_a_run_goes_on(
  step, hosts, accumulate, random
):
  """Packed, shuffled, mixed and staged, and accumulated as a step does: by stride.

  Whoever resumes at a step opens the stream anew; hosts have the rows of their devices,
  which lie in any order. Each step from there on has the rows of a run that went on.
  """
  undisturbed = staged()
  devices = list(range(8))
  random.shuffle(devices)
  for number in range(step, step + 2):
    whole = undisturbed.batch_at(number)
    found = {name: np.zeros_like(array) for name, array in whole.items()}
    for rows in np.split(np.array(devices), hosts):
      own = staged().batch_at(number, rows)
      for name in found:
        found[name][rows] = own[name]
    for name, array in whole.items():
      parts = [array[first::accumulate] for first in range(accumulate)]
      again = found[name].reshape(-1, accumulate, *array.shape[1:]).swapaxes(0, 1)
      assert np.array_equal(again, parts)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 199), max_size=6), st.integers(0, 5))
def test_a_run_that_is_stopped_at_any_steps_reads_every_example_once(stops, seed):
  """The rows of all its legs together are those of the epochs, none twice."""
  legs = [0, *sorted(set(stops)), 200]
  read = {}
  for first, last in itertools.pairwise(legs):
    resumed = staged(seed=seed)
    for row in range(first * 8, last * 8):
      source, epoch, members = resumed.locate(row)
      read.setdefault((source, epoch), []).extend(members.tolist())
  sizes = {0: 40, 1: 9, 2: len(mixing.budget(sources()['c'].tokens, 60, 0, 'c'))}
  newest = {source: max(e for s, e in read if s == source) for source, _ in read}
  orders = {}
  for (source, epoch), members in read.items():
    assert len(set(members)) == len(members)
    # That of the last step is not read up; three passes are all there is of b.
    if epoch < newest[source] or source == 1:
      assert len(members) == sizes[source]
      orders.setdefault(source, set()).add(tuple(members))
  for source in (0, 1):
    assert len(orders[source]) == sum(source == s for s, _ in read) - (source == 0)


# Eight devices in some order, parted among hosts: what each host reads, and what all
# devices hold together.
DEVICES = """
import jax, numpy as np
from tl_jax import parallel
from data.test_mixing import staged

whole = staged().batch_at(31)
draw = np.random.default_rng(0)
for hosts in (1, 2, 4):
  devices = draw.permutation(np.array(jax.devices()))
  mesh = jax.sharding.Mesh(devices, ('data',))
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
  read = []
  for own in np.split(draw.permutation(devices), hosts):
    held = parallel.host_rows(sharding, 8, set(own))
    part = staged().batch_at(31, held)
    assert np.array_equal(part['tokens'], whole['tokens'][held])
    read += held.tolist()
  assert sorted(read) == list(range(8))
  placed = parallel.place_batch(whole, sharding, 8, np.arange(8))
  assert np.array_equal(jax.device_get(placed['tokens']), whole['tokens'])
  for shard in placed['tokens'].addressable_shards:
    assert np.array_equal(shard.data, whole['tokens'][shard.index])
print('same')
"""


@pytest.mark.slow
def test_devices_in_any_order_hold_the_rows_that_are_theirs():
  assert fake_devices.run(DEVICES)[0].strip() == 'same'


def test_parts_of_a_step_are_parts_of_its_batch():
  """Accumulation divides a batch: half as many rows twice are the same rows."""
  later = (60, dict(a=1.0, c=2.0)), (120, dict(a=1.0, b=1.0, c=1.0))
  whole, halves = staged(8), staged(4, stages=later)
  for step in (0, 29, 30, 59, 60, 100):
    parts = ids_of(halves.batch_at(2 * step)) + ids_of(halves.batch_at(2 * step + 1))
    assert parts == ids_of(whole.batch_at(step))


def test_each_example_is_read_once_in_every_epoch_of_its_source():
  run = staged()
  read = {}
  for row in range(200 * 8):
    source, epoch, members = run.locate(row)
    read.setdefault((run.names[source], epoch), []).extend(members.tolist())
  orders = {}
  for (name, epoch), members in read.items():
    last = max(other for source, other in read if source == name)
    assert len(set(members)) == len(members)
    if epoch < last:
      orders.setdefault(name, []).append(members)
  chosen = mixing.budget(sources()['c'].tokens, 60, 0, 'c').tolist()
  everything = dict(a=list(range(40)), b=list(range(9)), c=sorted(chosen))
  for name, epochs in orders.items():
    assert all(sorted(members) == everything[name] for members in epochs)
  # No two passes are in one order; those of a handful of pieces may be by chance.
  for name in ('a', 'b'):
    different = {tuple(members) for members in orders[name]}
    assert len(different) == len(orders[name]) > 1


def test_weights_change_at_their_steps():
  run = pipeline.stream(
    sources(),
    seed=0,
    length=16,
    batch=1,
    weights=dict(a=1.0, b=0.0, c=0.0),
    stages=((100, dict(b=1.0)), (2148, dict(b=1.0, c=3.0))),
  )
  found = np.array([run.locate(row)[0] for row in range(2148 + 1024)])
  assert set(found[:100]) == {0} and set(found[100:2148]) == {1}
  assert np.bincount(found[2148:]).tolist() == [0, 256, 768]
  # What a source gave before is not read again.
  stage = run.course.stage_of(2148)
  assert stage.before == (100, 2048, 0)


def test_passes_end_and_the_others_go_on():
  run = staged()
  rows = [run.locate(row) for row in range(200 * 8)]
  epochs = [epoch for source, epoch, _ in rows if run.names[source] == 'b']
  assert set(epochs) == {0, 1, 2}
  assert len(epochs) == sum(run.parts[1].rows_in(epoch) for epoch in range(3))
  # Before it was left out it had its share, and the last of its rows ended a stage.
  last = max(row for row, found in enumerate(rows) if run.names[found[0]] == 'b')
  assert last + 1 in [stage.first for stage in run.course.stages]
  counted = run.passes(200)
  assert counted['b'][0] == len(epochs) and sum(n for n, _ in counted.values()) == 1600


def test_a_mixture_that_is_read_up_ends():
  run = pipeline.stream(
    sources(), seed=0, length=16, batch=4, epochs=dict(a=1, b=0.5, c=2)
  )
  rows = run.course.end
  read = [run.locate(row) for row in range(rows)]
  members = [member for part, _, found in read for member in found if part == 0]
  assert sorted(members) == list(range(40))
  with pytest.raises(ValueError, match=f'row {rows} of a mixture that ends after'):
    run.locate(rows)


def test_mixing_by_size_is_that_of_t5():
  sizes = dict(large=10**6, middle=10**4, small=100)
  equal = dict.fromkeys(sizes, 1.0)
  one = mixing.by_size(equal, sizes, temperature=1.0)
  assert one == {name: float(size) for name, size in sizes.items()}
  two = mixing.by_size(equal, sizes, temperature=2.0)
  assert two == dict(large=1000.0, middle=100.0, small=10.0)
  capped = mixing.by_size(equal, sizes, temperature=1.0, cap=10**4)
  assert capped['large'] == capped['middle'] == 10**4 and capped['small'] == 100
  # At a high temperature all are alike.
  hot = mixing.by_size(equal, sizes, temperature=1e6)
  assert max(hot.values()) / min(hot.values()) == pytest.approx(1, abs=1e-4)


def test_weights_of_101_percent_are_shares_of_the_whole():
  table = dict(crawl=60.0, web=22.0, first=8.0, second=8.0, wiki=3.0)
  found = mixing.shares(table)
  assert sum(found.values()) == mixing.BLOCK
  for name, weight in table.items():
    assert abs(found[name] - mixing.BLOCK * weight / 101) <= 1


def test_a_budget_is_of_tokens_and_the_smaller_begins_the_larger():
  tokens = source_of(500, 1).tokens
  small, large = (mixing.budget(tokens, most, 0, 'a') for most in (300, 1200))
  assert large[: len(small)].tolist() == small.tolist()
  for chosen, most in ((small, 300), (large, 1200)):
    assert most - 12 < tokens.lengths[chosen].sum() <= most
  other = mixing.budget(tokens, 300, 1, 'a')
  assert set(other) != set(small)
  total = int(tokens.lengths.sum())
  assert sorted(mixing.budget(tokens, total, 0, 'a')) == list(range(500))
  with pytest.raises(ValueError, match=rf'data.unique.a: .* the source has {total}'):
    mixing.budget(tokens, total + 1, 0, 'a')


@pytest.mark.parametrize(
  ('more', 'message'),
  [
    (dict(stages=((0, dict(a=1.0)),)), r'stages\[0\]: step 0 does not come after 0'),
    (dict(stages=((5, dict(d=1.0)),)), r"stages\[0\]: 'd' has a weight or a source"),
    (dict(stages=((5, dict(a=0.0)),)), r'stages\[0\]: the weights sum to 0'),
    (dict(stages=((5, dict(a=float('nan'))),)), r'stages\[0\].a: the weight nan'),
    (dict(epochs=dict(d=1.0)), "data.epochs: 'd' is no source"),
    (dict(subset=[1]), 'a subset of a mixture is given by source'),
    (dict(subset=dict(d=[1])), "a subset of 'd', which is no source"),
  ],
)
def test_what_cannot_be_is_named(more, message):
  with pytest.raises(ValueError, match=message):
    pipeline.stream(sources(), seed=0, length=16, batch=4, **more)
