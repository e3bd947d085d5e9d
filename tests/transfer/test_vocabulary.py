"""transfer_vocabulary: tokens spelled alike keep their rows to the bit, the others are
made of old rows.
"""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from tl_jax import tree
from tl_jax.models import arch, build
from tl_jax.transfer.vocabulary import (
  match_tokens,
  sparsemax,
  transfer_vocabularies,
  transfer_vocabulary,
)

OLD = ['[PAD]', 'a', 'b', 'c', 'd']
TABLE = np.arange(10, dtype=np.float32).reshape(5, 2) ** 2
WORDS = st.lists(st.sampled_from('abcdefghijkl'), min_size=1, max_size=12, unique=True)


@settings(max_examples=40, deadline=None)
@given(
  WORDS,
  WORDS,
  st.sampled_from(['mean', 'covariance', 'neighbours']),
  st.sampled_from([(), (3,)]),
  st.booleans(),
)
def test_shared_tokens_keep_their_rows_and_others_are_finite(
  old, new, how, width, last
):
  table = (
    np.random.default_rng(0).normal(size=(len(old) + 2, *width)).astype(np.float32)
  )
  axis = -1 if last else 0
  given_table = np.moveaxis(table, 0, axis)
  moved, report = transfer_vocabulary(
    given_table,
    old,
    new,
    how,
    key=jax.random.key(0),
    axis=axis,
    vectors=np.eye(len(new)) + 0.5,
  )
  moved = np.moveaxis(np.asarray(moved), axis, 0)
  assert moved.shape == (len(new), *width) and np.isfinite(moved).all()
  for row, token in enumerate(new):
    if token in old:
      np.testing.assert_array_equal(moved[row], table[old.index(token)])
  assert report.copied == len(set(old) & set(new)) and report.dropped == len(
    set(old) - set(new)
  )
  assert report.copied + report.made + report.mean == len(new)


def test_the_same_vocabulary_changes_nothing():
  for how in ('mean', 'covariance'):
    moved, report = transfer_vocabulary(TABLE, OLD, OLD, how, key=jax.random.key(0))
    np.testing.assert_array_equal(moved, TABLE)
    assert (report.copied, report.made, report.dropped) == (5, 0, 0)


def test_mean_leaves_out_rows_beyond_the_tokens():
  padded = np.concatenate([TABLE, np.full((3, 2), 1e6, np.float32)])
  moved, _ = transfer_vocabulary(padded, OLD, ['x', 'a'])
  np.testing.assert_allclose(moved, [TABLE.mean(0), TABLE[1]])


def test_covariance_draws_have_the_mean_and_the_covariance_of_the_table():
  generator = np.random.default_rng(1)
  table = (
    generator.normal(size=(400, 3)) @ generator.normal(size=(3, 3)) + 5.0
  ).astype(np.float32)
  old, new = [f'o{i}' for i in range(400)], [f'n{i}' for i in range(20000)]
  moved, _ = transfer_vocabulary(table, old, new, 'covariance', key=jax.random.key(2))
  wanted = np.cov(table.T, bias=True)
  np.testing.assert_allclose(
    np.mean(moved, 0), table.mean(0), atol=0.05 * np.sqrt(wanted.max())
  )
  np.testing.assert_allclose(
    np.cov(np.asarray(moved).T), wanted, atol=0.05 * wanted.max()
  )
  near, _ = transfer_vocabulary(
    table, old, new, 'covariance', key=jax.random.key(2), spread=1e-4
  )
  np.testing.assert_allclose(
    np.cov(np.asarray(near).T), 1e-4 * wanted, atol=1e-4 * 0.05 * wanted.max()
  )


def test_a_table_with_fewer_rows_than_columns_is_drawn_from():
  moved, _ = transfer_vocabulary(
    np.eye(2, 6, dtype=np.float32),
    ['a', 'b'],
    ['x'],
    'covariance',
    key=jax.random.key(0),
  )
  assert np.isfinite(moved).all() and not np.asarray(moved)[0, 2:].any()


def test_neighbours_weigh_the_shared_tokens_by_their_likeness():
  new = ['a', 'b', 'x', 'y', 'zero']
  vectors = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
  moved, report = transfer_vocabulary(TABLE, OLD, new, 'neighbours', vectors=vectors)
  np.testing.assert_allclose(moved[2], (TABLE[1] + TABLE[2]) / 2, rtol=1e-6)
  np.testing.assert_allclose(moved[3], TABLE[1], rtol=1e-6)
  np.testing.assert_allclose(moved[4], TABLE.mean(0), rtol=1e-6)
  assert (report.copied, report.made, report.mean, report.dropped) == (2, 2, 1, 3)


def test_without_a_shared_token_neighbours_are_the_mean():
  moved, report = transfer_vocabulary(
    TABLE, OLD, ['x'], 'neighbours', vectors=np.ones((1, 2))
  )
  np.testing.assert_allclose(moved[0], TABLE.mean(0))
  assert (report.made, report.mean) == (0, 1)


def test_pieces_are_averaged():
  cut = {'ab': [1, 2], 'ccd': [3, 3, 4], '?': []}
  moved, report = transfer_vocabulary(
    TABLE, OLD, ['ab', 'ccd', '?', 'a'], 'neighbours', pieces=cut.get
  )
  np.testing.assert_allclose(moved[0], TABLE[1:3].mean(0))
  np.testing.assert_allclose(moved[1], TABLE[[3, 3, 4]].mean(0), rtol=1e-6)
  np.testing.assert_allclose(moved[2], TABLE.mean(0))
  assert (report.copied, report.made, report.mean) == (1, 2, 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=8), st.floats(-2, 2))
def test_sparsemax_is_a_distribution_in_order_and_ignores_a_shift(scores, shift):
  scores = np.array([scores])
  found = sparsemax(scores)
  np.testing.assert_allclose(found.sum(), 1.0, atol=1e-9)
  assert (found >= 0).all() and found.argmax() == np.flatnonzero(
    found[0] == found.max()
  )[0]
  np.testing.assert_allclose(sparsemax(scores + shift), found, atol=1e-9)
  np.testing.assert_allclose(
    sparsemax(np.array([[1.0, 0.5, -1.0]])), [[0.75, 0.25, 0.0]]
  )


@pytest.mark.parametrize(
  ('family', 'fields', 'changed'),
  [
    ('tiny', dict(head='masked'), {'embedding/tokens', 'head/bias'}),
    (
      'tiny',
      dict(head='masked', tied=False),
      {'embedding/tokens', 'head/bias', 'head/kernel'},
    ),
    ('tiny', dict(head='classifier', labels=3), {'embedding/tokens'}),
    ('tiny-gpt', dict(head='causal'), {'embedding/tokens'}),
    ('tiny-t5', dict(head='causal', tied=False), {'embedding/tokens', 'head/kernel'}),
  ],
)
def test_every_leaf_of_a_vocabulary_moves_and_the_model_runs(family, fields, changed):
  fields = dict(layers=1, width=8, heads=2, mlp=8, max_positions=16) | fields
  params = build(arch(family, vocabulary=8, **fields)).init(jax.random.key(0))
  new = ['[PAD]', 'd', 'new', 'b', 'other', 'more', 'a']
  moved, report = transfer_vocabularies(
    params, OLD, new, 'covariance', key=jax.random.key(1)
  )
  model = build(arch(family, vocabulary=len(new), **fields))
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  assert set(report.leaves) == changed
  assert jax.tree.map(jnp.shape, moved) == jax.tree.map(jnp.shape, shapes)
  before, after = tree.flatten(params), tree.flatten(moved)
  assert {name for name in before if before[name] is not after[name]} == changed
  # A text of shared tokens means the same to both, token by token.
  batches = [
    {
      f'{part}tokens': jnp.array([[vocabulary.index(token) for token in 'badab']])
      for part in ('', 'decoder_')
    }
    for vocabulary in (OLD, new)
  ]
  old_model = build(arch(family, vocabulary=8, **fields))
  first, second = old_model.apply(params, batches[0]), model.apply(moved, batches[1])
  np.testing.assert_allclose(first.hidden, second.hidden, atol=1e-6)
  if first.logits.shape[-1] == 8:
    shared = [token for token in new if token in OLD]
    pick = lambda logits, vocabulary: logits[
      ..., np.array([vocabulary.index(token) for token in shared])
    ]
    np.testing.assert_allclose(
      pick(first.logits, OLD), pick(second.logits, new), atol=1e-6
    )


def test_dtypes_stay():
  moved, _ = transfer_vocabulary(jnp.asarray(TABLE, jnp.bfloat16), OLD, ['x', 'a'])
  assert moved.dtype == jnp.bfloat16


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: transfer_vocabulary(TABLE, OLD, ['x'], 'covariance'), 'key'),
    (
      lambda: transfer_vocabulary(TABLE, OLD, ['x'], 'neighbors'),
      "nearest: 'neighbours'",
    ),
    (lambda: transfer_vocabulary(TABLE, OLD, ['x'], 'neighbours'), 'vectors'),
    (
      lambda: transfer_vocabulary(
        TABLE, OLD, ['x'], 'neighbours', vectors=np.ones((2, 2))
      ),
      'vectors',
    ),
    (
      lambda: transfer_vocabulary(
        TABLE, OLD, ['x'], 'neighbours', pieces=lambda token: [9]
      ),
      "'x' gives",
    ),
    (lambda: transfer_vocabulary(TABLE[:3], OLD, ['x']), '3 rows'),
    (lambda: transfer_vocabulary(TABLE, OLD, []), 'empty'),
    (
      lambda: transfer_vocabularies({'embed/tokens': TABLE}, OLD, ['x']),
      'embed/tokens',
    ),
    (
      lambda: transfer_vocabularies(
        {'embedding': {'tokens': TABLE}}, OLD, ['x'], 'covariance'
      ),
      'key',
    ),
  ],
)
def test_what_is_missing_is_named(call, message):
  with pytest.raises(ValueError, match=message) as caught:
    call()
  assert '\n' not in str(caught.value)


def test_origins_of_a_repeated_old_token_are_its_first_row():
  assert match_tokens(['a', 'a', 'b'], ['b', 'a'], 'mean').rows.tolist() == [2, 0]
