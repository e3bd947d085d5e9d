"""transplant: every leaf of both trees is accounted for, or nothing is moved."""

import json
import subprocess
import sys

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from tl_jax import tree
from tl_jax.transfer import Account, transplant

NAMES = (
  'embedding/tokens',
  'layers/0/query/kernel',
  'layers/0/query/bias',
  'layers/1/query/kernel',
  'head/bias',
)


def model(rows=5, value=1.0, names=NAMES, dtype=np.float32, **shapes):
  """A tree with these names; the embedding has `rows` rows, everything else is (2, 3)."""
  known = {
    'embedding/tokens': (rows, 3),
    **{name.replace('__', '/'): shape for name, shape in shapes.items()},
  }
  return tree.unflatten(
    {
      name: np.full(known.get(name, (2, 3)), value + place, dtype)
      for place, name in enumerate(names)
    }
  )


def error_of(source, target, **rules):
  with pytest.raises(ValueError, match='^transplant: ') as caught:
    transplant(source, target, **rules)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_equal_trees_are_copied():
  source, target = model(), model(value=9.0)
  params, account = transplant(source, target)
  assert account.counts == {
    'copied': 5,
    'renamed': 0,
    'resized': 0,
    'fresh': 0,
    'dropped': 0,
  }
  assert account.parameters['copied'] == tree.count(source)
  for name, leaf in tree.flatten(params).items():
    np.testing.assert_array_equal(leaf, tree.flatten(source)[name])
    assert isinstance(leaf, jax.Array)


@settings(max_examples=40)
@given(st.data())
def test_every_leaf_is_accounted_for_under_any_rules(data):
  """Whatever the fate of each leaf, the rules that say so explain both trees, and
  values go where they should.
  """
  fates = {
    name: data.draw(
      st.sampled_from(['copied', 'renamed', 'resized', 'fresh', 'dropped', 'both']),
      name,
    )
    for name in NAMES
  }
  chosen = lambda *wanted: tuple(name for name, fate in fates.items() if fate in wanted)
  source = {
    name: np.full((4, 3), 1.0 + place, np.float32)
    for place, name in enumerate(NAMES)
    if fates[name] != 'fresh'
  }
  target = {
    f'new/{name}' if fates[name] == 'renamed' else name: np.full(
      (6, 3) if fates[name] == 'resized' else (4, 3), -1.0 - place, np.float32
    )
    for place, name in enumerate(NAMES)
    if fates[name] != 'dropped'
  }
  params, account = transplant(
    tree.unflatten(source),
    tree.unflatten(target),
    rename=[(name, f'new/{name}') for name in chosen('renamed')],
    fresh=chosen('fresh', 'both'),
    drop=chosen('dropped', 'both'),
    resize=chosen('resized'),
  )
  params = tree.flatten(params)
  assert params.keys() == target.keys()
  for place, name in enumerate(NAMES):
    outcomes = sorted(
      entry.outcome
      for entry in account.entries
      if name in (entry.source, entry.target) or entry.target == f'new/{name}'
    )
    assert outcomes == (
      ['dropped', 'fresh'] if fates[name] == 'both' else [fates[name]]
    )
    moved = params.get(f'new/{name}' if fates[name] == 'renamed' else name)
    if fates[name] in ('copied', 'renamed'):
      assert (moved == 1 + place).all()
    if fates[name] == 'resized':
      assert (moved[:4] == 1 + place).all() and (moved[4:] == -1 - place).all()
    if fates[name] in ('fresh', 'both'):
      assert (moved == -1 - place).all()
  assert sum(account.counts.values()) == len(target) + len(chosen('dropped', 'both'))
  assert {entry.target for entry in account.entries} - {None} == set(target)
  assert {entry.source for entry in account.entries} - {None} == set(source)


@pytest.mark.parametrize(
  'old, new', [((5, 3), (8, 3)), ((8, 3), (5, 3)), ((3, 5), (3, 8)), ((5,), (8,))]
)
def test_resized_rows_are_the_sources_and_further_ones_the_targets_own(old, new):
  source, target = (
    {'w': np.arange(np.prod(old), dtype=np.float32).reshape(old)},
    {'w': np.full(new, -1, np.float32)},
  )
  params, account = transplant(source, target, resize=['w'])
  assert params['w'].shape == new and account.counts['resized'] == 1
  kept = tuple(slice(min(sizes)) for sizes in zip(old, new, strict=True))
  np.testing.assert_array_equal(params['w'][kept], source['w'][kept])
  assert int((params['w'] == -1).sum()) == params['w'].size - source['w'][kept].size
  assert 'resize=' in error_of(source, target)


def test_rename_takes_the_first_pattern_that_matches_and_expands_groups():
  source = tree.unflatten(
    {
      'bert/layer/0/kernel': np.ones(2),
      'bert/layer/1/kernel': np.ones(2),
      'bert/x': np.ones(2),
    }
  )
  target = tree.unflatten(
    {
      'layers/0/kernel': np.zeros(2),
      'layers/1/kernel': np.zeros(2),
      'rest/x': np.zeros(2),
    }
  )
  _, account = transplant(
    source,
    target,
    rename=[
      (r'bert/layer/(\d+)/(.*)', r'layers/\1/\2'),
      (r'bert/', r'rest/'),
      (r'bert/(.*)', r'rest/\1'),
    ][::2],
  )
  assert account.counts['renamed'] == 3
  assert [(entry.source, entry.target) for entry in account.entries][-1] == (
    'bert/x',
    'rest/x',
  )


def test_one_leaf_may_go_to_several_places_without_sharing_a_buffer():
  source = {'layers': {'0': {'kernel': jnp.ones(3)}}}
  target = {
    stack: {'layers': {'0': {'kernel': jnp.zeros(3)}}}
    for stack in ('encoder', 'decoder')
  }
  params, account = transplant(
    source,
    target,
    rename=[(r'layers/(.*)', (r'encoder/layers/\1', r'decoder/layers/\1'))],
  )
  assert account.counts['renamed'] == 2
  first, second = jax.tree.leaves(params)
  assert (first == 1).all() and (second == 1).all()
  assert first.unsafe_buffer_pointer() != second.unsafe_buffer_pointer()
  jax.block_until_ready(
    jax.jit(lambda a, b: (a + 1, b + 1), donate_argnums=(0, 1))(first, second)
  )


def test_floats_are_cast_to_floats_and_recorded():
  params, account = transplant(model(dtype=np.float32), model(dtype=jnp.bfloat16))
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
  assert {(entry.source_dtype, entry.target_dtype) for entry in account.entries} == {
    ('float32', 'bfloat16')
  }
  assert 'float32 to bfloat16' in str(account)
  wide, _ = transplant(model(dtype=np.float64), model(dtype=np.float32))
  assert {leaf.dtype for leaf in jax.tree.leaves(wide)} == {jnp.dtype('float32')}


@pytest.mark.parametrize(
  'old, new', [(np.int32, np.float32), (np.float32, np.int8), (np.int32, np.int8)]
)
def test_other_dtypes_are_not_cast(old, new):
  message = error_of({'w': np.ones(2, old)}, {'w': np.ones(2, new)})
  assert (
    np.dtype(old).name in message and np.dtype(new).name in message and "'w'" in message
  )


def test_what_is_unexplained_is_named_with_shapes_nearest_names_and_a_rule():
  source = model()
  message = error_of(source, model(rows=7))
  assert (
    "'embedding/tokens' is (5, 3) in the source and (7, 3) in the target: resize=('embedding/tokens',)"
    in message
  )
  message = error_of(source, model(names=(*NAMES, 'head/kernel')))
  assert (
    "target 'head/kernel' (2, 3) has no source" in message
    and "fresh=('head/kernel',)" in message
  )
  message = error_of(source, model(names=NAMES[:-1]))
  assert (
    "source 'head/bias' (2, 3) has no place in the target" in message
    and "drop=('head/bias',)" in message
  )
  message = error_of(source, model(names=(*NAMES[:-1], 'heads/bias')))
  assert (
    "nearest 'heads/bias' (2, 3)" in message
    and "nearest 'head/bias' (2, 3)" in message
    and 'rename' in message
  )
  message = error_of(source, model(head__bias=(4, 7)))
  assert (
    '(2, 3) in the source and (4, 7)' in message and "fresh=('head/bias',)" in message
  )
  message = error_of(source, model(head__bias=(6,)))
  assert '(2, 3) in the source and (6,)' in message


@pytest.mark.parametrize(
  'rules',
  [
    {'fresh': ['head/bias'], 'drop': ['head/bias']},
    {'fresh': ['head/.*'], 'drop': ['head/.*']},
  ],
)
def test_the_rules_that_an_error_suggests_explain_the_leaf(rules):
  params, account = transplant(model(), model(value=-9.0, head__bias=(4, 7)), **rules)
  assert (params['head']['bias'] == -5).all() and account.counts[
    'fresh'
  ] == account.counts['dropped'] == 1


def test_a_fresh_leaf_does_not_silently_lose_its_source():
  message = error_of(model(), model(), fresh=['head/bias'])
  assert (
    "source 'head/bias' (2, 3) goes to 'head/bias' (2, 3), which is fresh: drop=('head/bias',)"
    in message
  )


def test_two_leaves_for_one_place_are_refused():
  message = error_of(
    {'a': np.ones(1), 'b': np.ones(1)}, {'a': np.ones(1)}, rename=[('b', 'a')]
  )
  assert "'a' and 'b' both go to 'a'" in message


def test_many_unexplained_leaves_are_counted():
  names = [f'layers/{i}/kernel' for i in range(40)]
  message = error_of(
    model(names=names),
    model(names=[name.replace('layers', 'blocks') for name in names]),
  )
  assert (
    message.startswith('transplant: 80 unexplained')
    and message.endswith('and 76 more')
    and len(message) < 1000
  )


@pytest.mark.parametrize(
  'rules, what',
  [
    (
      {'rename': [('heads/(.*)', r'head/\1')]},
      "transplant: rename: the pattern 'heads/.* matches no parameter",
    ),
    ({'fresh': ['haed/.*']}, 'transplant: fresh: .*nearest'),
    ({'drop': 'haed/.*'}, 'transplant: drop: '),
    (
      {'resize': ['embeding/tokens']},
      "transplant: resize: .*nearest: 'embedding/tokens'",
    ),
    ({'drop': ['*']}, 'is not a regular expression'),
    ({'rename': [('head/.*', r'\7')]}, 'transplant: rename: '),
  ],
)
def test_a_rule_that_cannot_work_is_refused(rules, what):
  with pytest.raises(ValueError, match=what) as caught:
    transplant(model(), model(), **rules)
  assert '\n' not in str(caught.value)


def test_the_account_is_json_and_a_table():
  source, target = (
    model(names=(*NAMES, 'old')),
    model(rows=9, names=('new/bias', *NAMES[:4], 'fresh')),
  )
  _, account = transplant(
    source,
    target,
    rename=[('head/bias', 'new/bias')],
    fresh=['fresh'],
    drop=['old'],
    resize=['embedding/.*'],
  )
  assert isinstance(account, Account)
  loaded = json.loads(json.dumps(account.to_json(), allow_nan=False))
  assert loaded['counts'] == {
    'copied': 3,
    'renamed': 1,
    'resized': 1,
    'fresh': 1,
    'dropped': 1,
  }
  assert loaded['parameters']['resized'] == 27 and len(loaded['leaves']) == 7
  assert [leaf for leaf in loaded['leaves'] if leaf['outcome'] == 'renamed'] == [
    {
      'outcome': 'renamed',
      'target': 'new/bias',
      'source': 'head/bias',
      'source_shape': [2, 3],
      'source_dtype': 'float32',
      'target_shape': [2, 3],
      'target_dtype': 'float32',
    }
  ]
  lines = str(account).splitlines()
  assert lines == [
    'outcome  leaf                   leaves  parameters  note',
    'resized  embedding/tokens            1          27  (5, 3) to (9, 3)',
    'fresh    fresh                       1           6',
    'copied   layers/*/query/bias         1           6',
    'copied   layers/*/query/kernel       2          12',
    'renamed  new/bias                    1           6  from head/bias',
    'dropped  old                         1           6',
  ]


def test_structure_and_containers_are_the_targets():
  params, _ = transplant(
    {'a': {'0': np.ones(1), '1': np.ones(1)}}, {'a': [np.zeros(1), np.zeros(1), None]}
  )
  assert params == {'a': [1, 1, None]}


SHARDED = """
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from tl_jax.transfer import transplant
mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
place = lambda array: jax.device_put(array, NamedSharding(mesh, P('data')))
target = {name: place(np.zeros((8, 3), np.float32)) for name in 'abcd'}
source = {'a': np.ones((8, 3), np.float32), 'b': jax.device_put(np.ones((8, 3), np.float16), jax.devices()[2]),
          'c': jax.device_put(np.ones((6, 3), np.float32), jax.devices()[1])}
params, account = transplant(source, target, fresh=['d'], resize=['c'])
assert all(params[name].sharding == target[name].sharding for name in 'abcd')
assert [float(params[name].sum()) for name in 'abcd'] == [24, 24, 18, 0]
assert (np.asarray(params['c'])[:6] == 1).all()
"""


def test_leaves_take_the_sharding_of_the_target():
  command = [
    sys.executable,
    '-W',
    'error',
    '-c',
    'import os\n'
    'os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"' + SHARDED,
  ]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr


def test_uncommitted_targets_leave_the_result_uncommitted():
  params, _ = transplant(model(), jax.tree.map(jnp.asarray, model()))
  assert not any(leaf.committed for leaf in jax.tree.leaves(params))
