"""Steps: what goes in comes out, bit for bit; what is damaged is never taken for good."""

import logging
import os
import random
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.checkpoint.record import CheckpointError, DamagedStep
from tl_jax.checkpoint.store import Store
from tl_jax.leaves import LowRank


class State(NamedTuple):
  step: object
  trainable: object
  opt_state: object
  key: object


def make_state(seed=0):
  kernel = jax.random.normal(jax.random.key(seed), (8, 4))
  trainable = {
    'dense': {
      'kernel': LowRank(
        kernel.astype(jnp.bfloat16), kernel[:, :2], kernel[:2], scale=2.0
      ),
      'bias': None,
    },
    'layers': [kernel, (kernel[0], np.float32(seed))],
    'table': jax.random.normal(jax.random.key(seed + 1), (160, 120)),
    'empty': jnp.zeros((0, 3)),
    'zeros': jnp.zeros((160, 120)),
    'flags': jnp.array([True, False]),
  }
  return State(
    jnp.int32(seed),
    trainable,
    optax.adamw(1e-3).init(trainable),
    jax.random.split(jax.random.key(seed), 2),
  )


def abstract(tree):
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def raw(leaf):
  return np.asarray(
    jax.random.key_data(leaf)
    if jnp.issubdtype(getattr(leaf, 'dtype', int), jax.dtypes.prng_key)
    else leaf
  )


def assert_same(left, right):
  assert jax.tree.structure(left) == jax.tree.structure(right)
  for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
    assert getattr(one, 'dtype', type(one)) == getattr(other, 'dtype', type(other))
    assert (
      raw(one).shape == raw(other).shape and raw(one).tobytes() == raw(other).tobytes()
    )


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  store = Store(tmp_path_factory.mktemp('steps'))
  for step in (1, 2, 3):
    store.save(step, make_state(step), {'rows': step * 8})
  store.wait()
  return store


@pytest.fixture
def store(saved, tmp_path):
  shutil.copytree(saved.directory, tmp_path / 'copy')
  return Store(tmp_path / 'copy')


def test_the_whole_state_comes_back(saved):
  for step in saved.steps():
    assert_same(saved.restore(step, abstract(make_state())), make_state(step))
    assert_same(saved.restore(step, make_state()), make_state(step))
  restored = saved.restore_latest(abstract(make_state()))
  assert restored.step == 3 and restored.meta == saved.meta(3) == {'rows': 24}
  assert_same(restored.state, make_state(3))


DTYPES = [
  'float32',
  'bfloat16',
  'float16',
  'int8',
  'uint8',
  'int32',
  'bool',
  'complex64',
  'float8_e4m3fn',
  'uint32',
]


@settings(max_examples=12)
@given(
  st.dictionaries(
    st.text(min_size=1, max_size=6).filter(lambda name: '/' not in name),
    st.tuples(
      st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3), st.booleans()
    ),
    max_size=5,
  )
)
def test_any_dict_of_arrays_comes_back_bit_for_bit(tmp_path_factory, kinds):
  random_bytes, tree = np.random.default_rng(0), {}
  for name, (dtype, shape, large) in kinds.items():
    shape = (*shape, 40_000) if large and np.prod(shape) else shape
    dtype = jnp.dtype(dtype)
    content = random_bytes.integers(
      0, 2, np.prod(shape, dtype=int) * dtype.itemsize, np.uint8
    ) * (1 if dtype.kind == 'b' else random_bytes.integers(1, 255))
    tree[name] = np.frombuffer(content.astype(np.uint8), dtype).reshape(shape)
  store = Store(tmp_path_factory.mktemp('steps'))
  store.save(0, tree)
  store.wait()
  assert_same(store.restore(0, tree), tree)
  assert store.verify(0) == []


def test_numbers_keep_their_kind(tmp_path):
  state = {
    'a': 3,
    'b': 1.5,
    'c': True,
    'd': np.float16(2),
    'e': np.arange(3),
    'f': jax.random.key(1, impl='rbg'),
  }
  store = Store(tmp_path)
  store.save(1, state)
  store.wait()
  assert_same(store.restore(1, {**state, 'a': 0, 'b': 0.0, 'c': False}), state)
  assert type(store.restore(1, {'c': False})['c']) is bool


def test_the_state_may_be_donated_as_soon_as_save_returns(tmp_path):
  update = jax.jit(
    lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0
  )
  state = {'small': jnp.zeros(10), 'large': jnp.zeros((300, 300))}
  store = Store(tmp_path, keep=None)
  for step in range(6):
    store.save(step, state)
    state = update(state)
  store.wait()
  for step in range(6):
    restored = store.restore(step, abstract(state))
    assert all((leaf == step).all() for leaf in jax.tree.leaves(restored))


def test_a_part_is_restored_by_its_names(saved):
  state = make_state(2)
  assert_same(
    saved.restore(2, {'trainable': abstract(state.trainable)}),
    {'trainable': state.trainable},
  )
  assert_same(
    saved.restore(2, {'trainable': {'table': np.zeros((160, 120), np.float32)}}),
    {'trainable': {'table': np.asarray(state.trainable['table'])}},
  )
  assert saved.restore(2, {'trainable': None}) == {'trainable': None}
  with pytest.raises(
    CheckpointError, match="no leaf 'trainable/tabel'; nearest: 'trainable/table'"
  ):
    saved.restore(2, {'trainable': {'tabel': np.zeros(3)}})
  with pytest.raises(
    CheckpointError,
    match=r"'trainable/table' has the shape \(160, 120\), asked for \(161, 120\)",
  ):
    saved.restore_latest({'trainable': {'table': np.zeros((161, 120), np.float32)}})


def test_a_cast_is_asked_for(saved):
  like = {'trainable': {'table': jax.ShapeDtypeStruct((160, 120), jnp.bfloat16)}}
  with pytest.raises(CheckpointError, match='dtype float32, asked for bfloat16'):
    saved.restore(1, like)
  table = saved.restore(1, like, cast=True)['trainable']['table']
  assert table.dtype == jnp.bfloat16
  assert (table == make_state(1).trainable['table'].astype(jnp.bfloat16)).all()


def test_steps_that_are_not_there_are_listed(saved, tmp_path):
  with pytest.raises(CheckpointError, match=r'no step 9; committed steps: 1, 2, 3'):
    saved.restore(9, {})
  assert (
    Store(tmp_path / 'none').restore_latest({'a': 1}) is None
    and Store(tmp_path / 'none').steps() == []
  )
  assert not (tmp_path / 'none').exists()
  with pytest.raises(CheckpointError, match='no step 1; committed steps: none'):
    Store(tmp_path).meta(1)


def test_a_committed_step_is_replaced_only_when_asked(store):
  with pytest.raises(CheckpointError, match='committed already'):
    store.save(3, {'a': 1})
  store.save(3, {'a': 1}, replace=True)
  store.wait()
  assert store.restore(3, {'a': 0}) == {'a': 1} and store.steps() == [1, 2, 3]


@pytest.mark.parametrize(
  ('keep', 'left'), [(2, [4, 9]), (1, [9]), (0, [2, 3, 4, 9]), (None, [2, 3, 4, 9])]
)
def test_the_newest_stay_by_number_not_by_time(tmp_path, keep, left):
  store = Store(tmp_path, keep=keep)
  for step in (2, 9, 3, 4):
    store.save(step, {'a': step})
  store.wait()
  assert store.steps() in (left, sorted({*left, 9}))
  assert not (tmp_path / 'trash').exists()


def files_of(step_folder):
  return sorted(path for path in step_folder.rglob('*') if path.is_file())


def test_a_flipped_byte_anywhere_is_noticed_and_named(store):
  chosen = random.Random(1)
  paths = files_of(store.directory / '3')
  for path in chosen.choices(paths, k=40) + paths:
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
    path.write_bytes(flipped)
    problems = store.verify(3)
    assert problems and path.name in problems[0]
    assert path.name in ('commit.json', '_METADATA') or 'leaf ' in problems[0]
    with pytest.raises(DamagedStep, match=path.name):
      store.restore(3, abstract(make_state()))
    path.write_bytes(content)
  assert store.verify(3) == []


def test_a_flipped_byte_among_the_small_names_its_leaf(store):
  path = store.directory / '3' / 'arrays' / 'small' / '0'
  leaves = {
    name: leaf
    for name, leaf in store._record(3)['leaves'].items()
    if leaf['folder'] == 'small'
  }
  content = path.read_bytes()
  for name, leaf in leaves.items():
    flipped = bytearray(content)
    flipped[leaf['start'] + leaf['bytes'] - 1] ^= 1
    path.write_bytes(flipped)
    (problem,) = store.verify(3)
    assert problem.startswith(f'leaf {name!r}: ')


def zero(path):
  path.write_bytes(b'\0' * path.stat().st_size)


def swap(path):
  shutil.copy(str(path).replace('/3/', '/2/'), path)


DAMAGES = {
  'empty': lambda path: os.truncate(path, 0),
  'half': lambda path: os.truncate(path, path.stat().st_size // 2),
  'last': lambda path: os.truncate(path, path.stat().st_size - 1),
  'deleted': os.unlink,
  'zeroed': zero,
  'swapped': swap,
}


@pytest.mark.parametrize(
  'damage',
  [
    pytest.param(
      damage,
      id=name,
      marks=[] if name in ('last', 'deleted', 'swapped') else pytest.mark.slow,
    )
    for name, damage in DAMAGES.items()
  ],
)
def test_every_damaged_file_sends_restore_to_an_older_step(
  saved, tmp_path, damage, caplog
):
  for number, path in enumerate(files_of(saved.directory / '3')):
    store = Store(shutil.copytree(saved.directory, tmp_path / str(number)))
    victim = store.directory / path.relative_to(saved.directory)
    damage(victim)
    if victim.exists() and victim.read_bytes() == path.read_bytes():
      continue
    verdicts = store.verdicts()
    assert [bool(verdict.problems) for verdict in verdicts] == [False, False, True]
    caplog.clear()
    restored = store.restore_latest(
      {
        'step': jnp.int32(0),
        'trainable': abstract(make_state().trainable),
        'opt_state': abstract(make_state().opt_state),
      }
    )
    assert restored.step == 2 and store.steps() == [1, 2] and path.name in caplog.text
    assert [
      entry.name.split('-')[0] for entry in (store.directory / 'quarantine').iterdir()
    ] == ['3']


def test_when_all_are_damaged_nothing_starts_afresh(store):
  for step in (1, 2, 3):
    os.truncate(store.directory / str(step) / 'arrays' / 'small' / '0', 5)
  for _ in range(2):
    with pytest.raises(DamagedStep, match='no good step is left'):
      store.restore_latest(abstract(make_state()))
  assert store.steps() == []


def test_a_reader_of_a_damaged_step_changes_nothing(store):
  os.truncate(store.directory / '3' / 'commit.json', 5)
  before = sorted(os.listdir(store.directory))
  assert store.restore_latest(abstract(make_state()), quarantine=False).step == 2
  assert sorted(os.listdir(store.directory)) == before and store.steps() == [1, 2]
  with pytest.raises(DamagedStep, match=r'3/commit\.json'):
    store.restore(3, {})


@pytest.mark.parametrize('place', ['commit.json', 'arrays/small/0'])
def test_the_newest_good_step_passes_over_a_damaged_one_aloud(store, caplog, place):
  assert store.newest_good() == 3 and not caplog.text
  os.truncate(store.directory / '3' / place, 5)
  before = sorted(os.listdir(store.directory))
  assert store.newest_good() == 2
  assert 'step 3 is damaged' in caplog.text and place in caplog.text
  assert sorted(os.listdir(store.directory)) == before
  for step in (1, 2):
    os.truncate(store.directory / str(step) / place, 5)
  with pytest.raises(CheckpointError, match='no good committed step'):
    store.newest_good()


def test_a_surplus_leaf_is_refused_where_the_whole_state_is_asked_for(store):
  part = {'trainable': abstract(make_state().trainable)}
  assert store.restore_latest(part).step == 3
  with pytest.raises(CheckpointError, match=r"leaf 'opt_state/.*' is not asked for"):
    store.restore_latest(part, whole=True)


def test_what_is_not_a_step_is_ignored(store, caplog):
  (store.directory / '10').mkdir()
  for name in ('9', '.DS_Store', '3.tmp'):
    (store.directory / name).write_text('')
  for name in ('abc', '007', '-1', '٣', 'lost+found', '12.orbax-checkpoint-tmp'):
    (store.directory / name).mkdir()
  (store.directory / '11').symlink_to('nowhere')
  with caplog.at_level(logging.WARNING):
    assert store.steps() == [1, 2, 3] and store.latest() == 3
  assert caplog.text.count('is ignored') == 1 and '/10 is ignored' in caplog.text
  assert [verdict.step for verdict in store.verdicts()] == [1, 2, 3]
  assert store.restore_latest(abstract(make_state())).step == 3
  for step in (9, 10, 11):
    store.save(step, {'a': step})
  store.wait()
  assert store.steps() == [9, 10, 11] and (store.directory / 'abc').is_dir()


def test_what_a_crash_left_is_removed_at_the_start(store):
  for name in ('4.partial/arrays', 'trash/2-abc/arrays'):
    (store.directory / name).mkdir(parents=True)
  assert store.steps() == [1, 2, 3] and (store.directory / '4.partial').exists()
  store.prepare()
  assert sorted(os.listdir(store.directory)) == ['1', '2', '3']


def test_the_step_of_another_folder_is_not_deleted(store, tmp_path):
  other = Store(tmp_path / 'elsewhere')
  other.save(0, {'a': 1})
  other.wait()
  (store.directory / '0').symlink_to(tmp_path / 'elsewhere' / '0')
  assert store.steps() == [0, 1, 2, 3]
  store.save(4, {'a': 1})
  store.wait()
  assert store.steps() == [2, 3, 4] and other.verify(0) == []


@pytest.mark.parametrize(
  'make',
  [lambda path: path.write_text(''), lambda path: path.symlink_to('nowhere/at/all')],
)
def test_a_folder_that_cannot_be_written_is_named_before_training(tmp_path, make):
  make(tmp_path / 'steps')
  with pytest.raises(ValueError, match="steps': cannot be written: ") as caught:
    Store(tmp_path / 'steps').prepare()
  assert '\n' not in str(caught.value)
  with pytest.raises(ValueError, match='mount'):
    Store('gs://bucket/run')


def test_arguments_are_checked_before_anything_is_written(tmp_path):
  store = Store(tmp_path)
  for step, state, meta in (
    (-1, {}, None),
    (1, {'a': 'text'}, None),
    (1, {}, {'a': object()}),
  ):
    with pytest.raises(ValueError, match=r'step -1|leaf|meta'):
      store.save(step, state, meta)
  assert store.poll() and store.steps() == []
  store.save(1, {})
  store.wait()
  assert store.restore(1, {}) == {} and store.verify(1) == []


def test_a_step_that_must_not_be_used_is_none_any_more(tmp_path):
  store = Store(tmp_path)
  for step in (1, 2):
    store.save(step, {'w': np.ones(2)})
  store.wait()
  store.reject(2)
  store.reject(7)
  assert store.steps() == [1]
  assert (tmp_path / 'quarantine').is_dir()
