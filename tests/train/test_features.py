"""A transfer that trains its head alone reads features: the same rows and losses, the
body run once for an example.
"""

import dataclasses

import jax
import numpy as np
import pytest

from tl_jax import config, parallel, train
from tl_jax.train import datasets, evaluators, preparing, running
from tl_jax.train.checks import check
from tl_jax.train.datasets import Portion
from tl_jax.train.features import (
  EvaluationInputs,
  FeatureCache,
  Featured,
  holds_body,
)
from tl_jax.train.programs import fingerprint

TINY = [
  ('model', "{'family': 'tiny', 'layers': 1}"),
  ('tokenizer.size', '512'),
  ('data.length', '32'),
  ('data.batch', '4'),
  ('task.test', '60'),
  ('compute.dropout', '0.0'),
  ('schedule.steps', '3'),
  ('schedule.warmup', '1'),
  ('log.every', '1'),
  ('log.tensorboard', 'false'),
]


def make_config(method, labels=24, more=()):
  return config.load(
    f'configs/transfer.py:task=sentiment,method={method},labels={labels}',
    [*TINY, *more],
  )


@pytest.fixture(scope='module')
def ready(tmp_path_factory):
  return preparing.prepare(
    check(make_config('probe')), tmp_path_factory.mktemp('probe')
  )


def state_of(ready, seed=1):
  return ready.parts.init(ready.params(seed), seed)


def test_a_step_on_features_is_the_step_on_tokens(ready):
  state, step = state_of(ready), jax.jit(ready.parts.step)
  stream = ready.corpus.stream(ready.settings)[0]
  evaluator = evaluators.TaskEvaluator(ready.corpus, ready.parts)
  featured = evaluator.training_rows(stream, state, 0, 3)
  assert isinstance(featured, Featured)
  plain = state
  for index in range(3):
    batch = featured.batch_at(index)
    assert (
      'tokens' not in batch and batch['features'].shape[:2] == batch['labels'].shape
    )
    state, found = step(state, batch)
    plain, expected = step(plain, stream.batch_at(index))
    np.testing.assert_allclose(found['loss'], expected['loss'], atol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    state.trainable,
    plain.trainable,
  )


def most_in_a_row(batches):
  """The most examples that a row of these batches has."""
  return max((batch['identifiers'] >= 0).sum(-1).max() for batch in batches)


def test_rows_with_one_example_give_the_same_features(ready, tmp_path):
  alone = preparing.prepare(
    check(make_config('probe', more=[('data.pack', 'false')])), tmp_path
  )
  # The shortest ones: of others no two fit into a row.
  numbers = np.argsort(ready.corpus.train.examples.tokens.lengths)[:14]
  found = []
  most = []
  for one in (ready, alone):
    train_split = one.corpus.train
    inputs = EvaluationInputs(one.corpus, one.parts)
    cache = FeatureCache(one.corpus, one.parts, inputs)
    found.append(cache._run(state_of(one), train_split, numbers).vectors)
    most.append(most_in_a_row(inputs.batches(train_split, numbers)))
  packed, unpacked = found
  assert most[0] > 1 == most[1]
  assert packed.shape == (len(numbers), ready.parts.model.arch.width)
  np.testing.assert_allclose(packed, unpacked, atol=1e-5)


def test_the_judge_says_of_features_what_it_says_of_texts(ready):
  state = state_of(ready)
  evaluator = evaluators.TaskEvaluator(ready.corpus, ready.parts)
  found = evaluator.outputs(state)
  evaluator._features = None
  np.testing.assert_allclose(found, evaluator.outputs(state), atol=1e-6)


def test_a_portion_is_measured_on_features_as_on_texts(ready):
  state, numbers = state_of(ready), np.array([7, 2, 11, 30, 31])
  evaluator = evaluators.TaskEvaluator(ready.corpus, ready.parts)
  portion = Portion(ready.corpus.train, numbers)
  found = evaluator.watch(portion).measure(state)
  evaluator._features = None
  assert evaluator.watch(portion).measure(state) == found
  # Every example has its own label, whatever its number in the split.
  texts = [portion.split.texts[number] for number in numbers]
  alone = portion.split._replace(texts=texts, targets=portion.targets)
  encoded = datasets.encode(
    ready.task,
    alone,
    ready.settings.data,
    0,
    ready.tokenizer,
    portion.split.limits,
  )
  assert evaluator.watch(Portion(encoded, np.arange(5))).measure(state) == found


def test_the_body_sees_each_example_once(ready):
  inputs = EvaluationInputs(ready.corpus, ready.parts)
  cache, seen = FeatureCache(ready.corpus, ready.parts, inputs), []
  run, cache._read = (
    cache._read,
    lambda state, batch: seen.append(batch['identifiers']) or run(state, batch),
  )
  state = state_of(ready)
  stream, chosen = ready.corpus.stream(ready.settings)
  cache.featured(stream, state, 0, 3)
  identifiers = np.concatenate([x.reshape(-1) for x in seen])
  used = np.concatenate(
    [stream.batch_at(step)['identifiers'].reshape(-1) for step in range(3)]
  )
  assert sorted(identifiers[identifiers >= 0]) == sorted(set(used[used >= 0])) and set(
    used
  ) <= {-1, *chosen}
  # The test split of one body is kept, that of another is not taken for it.
  seen.clear()
  first = cache.test(state)[0]['features']
  count = len(seen)
  assert count and cache.test(state)[0]['features'] is first and len(seen) == count
  assert (
    not np.array_equal(cache.test(state_of(ready, 2))[0]['features'], first)
    and len(seen) == 2 * count
  )


def test_a_mark_tells_bodies_apart():
  leaves = [np.zeros(3, np.float32), np.ones((2, 2), np.float32)]
  marks = [
    tuple(np.asarray(fingerprint(tree)))
    for tree in (
      leaves,
      leaves[::-1],
      [leaves[0], leaves[1] + 1e-6],
      [-leaves[0], leaves[1]],
      [leaves[0], np.array([[1, 2], [1, 1]], np.float32)],
      [leaves[0], np.array([[1, 1], [2, 1]], np.float32)],
    )
  ]
  assert len(set(marks)) == len(marks)


@pytest.mark.parametrize(
  'method, held',
  [('probe', True), ('probe+l2sp', True), ('bitfit', False), ('lora', False)],
)
def test_only_a_head_alone_reads_features(tmp_path, method, held):
  made = preparing.prepare(check(make_config(method)), tmp_path)
  assert holds_body(made.parts) is held


def test_a_probe_goes_on_from_a_checkpoint_to_the_same_end(tmp_path):
  more = [
    ('schedule.steps', '4'),
    ('checkpoint.every', '2'),
    ('checkpoint.keep', '5'),
    ('compute.dropout', '0.1'),
  ]
  whole = train.transfer(make_config('probe', more=more), tmp_path / 'whole')
  train.transfer(make_config('probe', more=more), tmp_path / 'cut')
  # Back to step 2.
  for path in (tmp_path / 'cut' / 'checkpoints').glob('*4*'):
    path.rename(tmp_path / path.name)
  (tmp_path / 'cut' / 'result.json').unlink()
  for _ in range(2):  # the second time there is no step left to read for
    again = train.transfer(make_config('probe', more=more), tmp_path / 'cut')
    assert again['metrics'] == whole['metrics']
  jax.tree.map(
    np.testing.assert_array_equal,
    train.restore(tmp_path / 'whole'),
    train.restore(tmp_path / 'cut'),
  )


def test_prompts_pack_as_many_examples_as_makes_the_rows_shortest(tmp_path):
  made = preparing.prepare(
    check(make_config('prompt', more=[('method.length', '8')])), tmp_path
  )
  train = made.corpus.train
  found = train.examples_per_row
  assert 1 <= found < 4
  assert made.corpus.stream(made.settings)[0].batch_at(0)['labels'].shape == (4, found)
  assert datasets.examples_per_row_of(made.settings.data, train.examples, 0) == 4


def test_ids_without_a_row_are_refused_before_a_device_sees_them(ready):
  arch = dataclasses.replace(ready.parts.model.arch, vocabulary=9)
  sharding = parallel.batch_sharding(parallel.make_mesh(parallel.MeshShape()))
  stream, settings = ready.corpus.stream(ready.settings)[0], ready.settings
  with pytest.raises(
    ValueError, match=r'tokens: an id of \d+, but the table has 9 rows'
  ):
    next(running.placed_batches(stream, 0, settings, sharding, arch))
  small = ready.parts._replace(model=ready.parts.model._replace(arch=arch))
  with pytest.raises(ValueError, match='9 rows'):
    EvaluationInputs(ready.corpus, small)
