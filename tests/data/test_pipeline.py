"""Laws of the order: a batch is a function of (seed, step), whoever reads it."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.data import mixing, packing, pipeline, subsets
from tl_jax.data.tokens import TokenList


def examples(count=50, seed=0, labels=True, targets=False, first=0):
  draw = np.random.default_rng(seed)
  arrays = [np.full(draw.integers(1, 12), first + i + 1) for i in range(count)]
  others = (
    TokenList([np.full(draw.integers(1, 9), first + i + 1) for i in range(count)])
    if targets
    else None
  )
  return pipeline.Examples(
    TokenList(arrays), np.arange(count) % 2 if labels else None, others
  )


def equal(a, b):
  return a.keys() == b.keys() and all(
    np.array_equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a
  )


def members(batch):
  return batch['identifiers'][batch['examples'] > 0].tolist()


def shape(**more):
  return {'seed': 3, 'length': 16, 'batch': 4, 'examples_per_row': 5, **more}


def mixed(**more):
  parts = {'a': examples(20, 1, False), 'b': examples(7, 2, False, first=1000)}
  return pipeline.stream(
    parts, **shape(examples_per_row=None, weights={'a': 0.75, 'b': 0.25}, **more)
  )


@pytest.mark.parametrize(
  'make',
  [
    lambda: pipeline.stream(examples(), **shape()),
    lambda: pipeline.stream(examples(labels=False), **shape(pack=False)),
    lambda: pipeline.stream(examples(targets=True), **shape(target_length=12)),
    mixed,
  ],
)
def test_a_batch_is_a_function_of_its_step(make):
  forwards, backwards = make(), make()
  steps = list(range(40))
  expected = [forwards.batch_at(step) for step in steps]
  for step in reversed(steps):
    assert equal(expected[step], backwards.batch_at(step))


@given(
  st.integers(0, 60),
  st.lists(st.integers(0, 3), min_size=1, max_size=6),
  st.integers(0, 3),
)
def test_any_rows_of_a_batch_can_be_read(step, rows, seed):
  source = pipeline.stream(examples(), **shape(seed=seed))
  whole = source.batch_at(step)
  assert equal(
    {name: array[rows] for name, array in whole.items()},
    source.batch_at(step, np.array(rows)),
  )


@pytest.mark.parametrize(
  'make', [lambda: pipeline.stream(examples(), **shape()), mixed]
)
def test_the_tokens_of_a_batch_are_known_without_reading_it(make):
  source = make()
  for step in (0, 7, 300):
    assert source.tokens_at(step) == np.count_nonzero(source.batch_at(step)['segments'])


@pytest.mark.parametrize('threads, prefetch', [(0, 1), (1, 1), (4, 16)])
@pytest.mark.parametrize('start', [0, 1, 13])
def test_threads_and_resume_change_nothing(threads, prefetch, start):
  expected = [
    pipeline.stream(examples(), **shape()).batch_at(step) for step in range(start, 20)
  ]
  source = pipeline.stream(examples(), **shape())
  found = list(pipeline.batches(source, start, 20, threads=threads, prefetch=prefetch))
  assert len(found) == len(expected) and all(map(equal, found, expected))


def test_an_epoch_reads_every_example_once_in_a_new_order():
  source = pipeline.stream(examples(), **shape(batch=1))
  epochs = {}
  for row in range(60):
    _, epoch, found = source.locate(row)
    epochs.setdefault(epoch, []).extend(found.tolist())
  assert (
    sorted(epochs[0]) == sorted(epochs[1]) == list(range(50)) and epochs[0] != epochs[1]
  )
  assert source.epoch_of(0) == {'': 0} and source.epoch_of(59) == {'': max(epochs)}


def test_a_seed_changes_the_order():
  batches = [
    pipeline.stream(examples(), **shape(seed=seed)).batch_at(0)['tokens']
    for seed in range(4)
  ]
  assert len({batch.tobytes() for batch in batches}) == 4


def test_a_subset_is_all_that_is_read():
  source = pipeline.stream(examples(), **shape(subset=[3, 4, 40]))
  assert {i for step in range(9) for i in members(source.batch_at(step))} == {3, 4, 40}


def test_labels_follow_their_examples():
  batch = pipeline.stream(examples(), **shape()).batch_at(2)
  for row in range(4):
    for slot, segment in enumerate(batch['examples'][row]):
      if segment:
        number = batch['identifiers'][row, slot]
        assert (
          batch['tokens'][row][batch['segments'][row] == segment] == number + 1
        ).all()
        assert batch['labels'][row, slot] == number % 2


def test_targets_share_the_segments_of_their_sources():
  batch = pipeline.stream(examples(targets=True), **shape(target_length=12)).batch_at(1)
  for row in range(4):
    for segment in range(1, batch['segments'][row].max() + 1):
      sides = [
        batch[f'{side}tokens'][row][batch[f'{side}segments'][row] == segment]
        for side in ('', 'decoder_')
      ]
      assert (
        set(sides[0].tolist()) == set(sides[1].tolist())
        and len(set(sides[0].tolist())) == 1
      )


def test_a_mixture_keeps_its_weights_exactly():
  source = mixed()
  parts = [source.locate(row)[0] for row in range(2 * mixing.BLOCK)]
  for block in (parts[: mixing.BLOCK], parts[mixing.BLOCK :]):
    assert np.bincount(block).tolist() == [768, 256]
  assert set(source.epoch_of(400)) == {'a', 'b'}


@pytest.mark.parametrize(
  'weights, message',
  [
    ({'a': 1.0, 'b': -1.0}, 'data.mixture.b'),
    ({'a': 1.0, 'b': float('nan')}, 'data.mixture.b'),
    ({'a': 0.0, 'b': 0.0}, 'sum to 0'),
    ({'a': 1.0, 'c': 1.0}, "'b'|'c'"),
  ],
)
def test_wrong_weights_are_named(weights, message):
  parts = {'a': examples(5, labels=False), 'b': examples(5, labels=False)}
  with pytest.raises(ValueError, match=message):
    pipeline.stream(parts, seed=0, length=16, batch=2, weights=weights)


@given(
  st.lists(st.floats(0, 1e6), min_size=1, max_size=5).filter(
    lambda weights: sum(weights) > 0
  )
)
def test_shares_fill_a_block(weights):
  named = {str(i): weight for i, weight in enumerate(weights)}
  shares = mixing.shares(named)
  assert sum(shares.values()) == mixing.BLOCK
  assert all((share > 0) == (named[name] > 0) for name, share in shares.items())


@pytest.mark.parametrize('hosts', [1, 2])
@pytest.mark.parametrize('batch', [2, 6, 40])
@pytest.mark.parametrize('pack', [True, False])
def test_an_evaluation_counts_every_example_once(batch, hosts, pack):
  passes = [
    pipeline.evaluation(
      examples(),
      length=16,
      batch=batch,
      examples_per_row=5,
      pack=pack,
      rows=range(host, batch, hosts),
    )
    for host in range(hosts)
  ]
  found = [i for each in passes for one in each for i in members(one)]
  assert sorted(found) == list(range(50))
  assert {one['tokens'].shape for each in passes for one in each} == {
    (batch // hosts, 16)
  }
  last = passes[-1][len(passes[-1]) - 1]
  assert (last['identifiers'][last['examples'] == 0] == -1).all()


@pytest.mark.parametrize('pack', [True, False])
@pytest.mark.parametrize('wanted', [1, 3, 1000])
def test_the_first_batches_are_those_of_the_whole_pass(monkeypatch, wanted, pack):
  # Parts of four examples are packed on their own.
  plan = functools.partial(packing.plan, window=4)
  monkeypatch.setattr(packing, 'WINDOW', 4)
  monkeypatch.setattr(packing, 'plan', plan)
  form = {'length': 16, 'batch': 2, 'examples_per_row': 5, 'pack': pack}
  whole = pipeline.evaluation(examples(), **form)
  some = pipeline.evaluation(examples(), **form, batches=wanted)
  assert len(some) == min(wanted, len(whole)) and len(whole) > 3
  assert all(equal(whole[step], some[step]) for step in range(len(some)))


def test_what_cannot_be_read_is_refused():
  source = pipeline.stream(examples(), **shape())
  with pytest.raises(ValueError, match='row 4 of a batch of 4 rows'):
    source.batch_at(0, [3, 4])
  with pytest.raises(ValueError, match='examples_per_row'):
    pipeline.stream(examples(), seed=0, length=16, batch=4)
  with pytest.raises(ValueError, match='3 labels for 2 examples'):
    pipeline.Examples(TokenList([np.ones(2), np.ones(2)]), [1, 2, 3])


def test_real_and_several_labels_are_float():
  data = pipeline.Examples(TokenList([np.ones(3)] * 6), np.arange(12).reshape(6, 2))
  batch = pipeline.stream(data, **shape()).batch_at(0)
  assert batch['labels'].shape == (4, 5, 2) and batch['labels'].dtype == np.float32
  assert pipeline.Examples(
    TokenList([np.ones(3)] * 2), [0.5, -0.5]
  ).labels.tolist() == [[0.5], [-0.5]]


def test_labels_of_skipped_documents_are_skipped():
  encoded = TokenList([np.ones(2), np.ones(3)])
  object.__setattr__(encoded, 'index', np.array([0, 2]))
  assert pipeline.with_labels(encoded, [7, 8, 9]).labels.tolist() == [7, 9]


def test_the_order_is_the_one_that_checkpoints_remember():
  """Pins the order, because a resumed run depends on it: change it only together with
  the checkpoint format.
  """
  source = pipeline.stream(
    examples(8), **shape(batch=2, pack=False, examples_per_row=1)
  )
  expected = np.arange(8)[subsets.permutation(8, subsets.seed_of(3, 'source/'), 0)]
  assert [
    i for step in range(4) for i in members(source.batch_at(step))
  ] == expected.tolist()
