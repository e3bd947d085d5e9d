"""Optimizer state lies where its parameter lies."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from tl_jax import tree
from tl_jax.leaves import LowRank
from tl_jax.optim import (
  OPTIMIZERS,
  OptimConfig,
  ScheduleConfig,
  make_optimizer,
  state_axes,
)

PARAMS = {
  'dense': {'kernel': jax.ShapeDtypeStruct((256, 128), jnp.float32), 'bias': None},
  'head': {
    'kernel': LowRank(
      None,
      jax.ShapeDtypeStruct((128, 2), jnp.float32),
      jax.ShapeDtypeStruct((2, 9), jnp.float32),
    ),
    'bias': jax.ShapeDtypeStruct((9,), jnp.float32),
  },
}
AXES = {
  'dense': {'kernel': P('embed', 'mlp'), 'bias': None},
  'head': {
    'kernel': LowRank(None, P('embed', None), P(None, 'vocabulary')),
    'bias': P('vocabulary'),
  },
}


def build(name, **more):
  return make_optimizer(
    OptimConfig(name=name, ema=0.9, **more), ScheduleConfig(steps=5)
  )


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_every_leaf_of_the_state_has_axes_that_fit_it(name):
  tx = build(name)
  state, axes = jax.eval_shape(tx.init, PARAMS), state_axes(tx, PARAMS, AXES)
  assert jax.tree.structure(axes) == jax.tree.structure(state)
  placed = tree.flatten(axes)
  for path, leaf in tree.flatten(state).items():
    assert len(placed[path]) <= leaf.ndim
    if leaf.ndim == 0:
      assert placed[path] == P()
  owners = {name: P(*spec) for name, spec in tree.flatten(AXES).items()}
  for owner, spec in owners.items():
    mirrors = [
      place
      for path, place in placed.items()
      if path.endswith('average/' + owner)
      or path.endswith(('mu/' + owner, 'nu/' + owner, 'trace/' + owner))
    ]
    assert mirrors and all(place == spec for place in mirrors)


def test_moments_and_average_lie_with_their_parameter_and_the_rest_is_replicated():
  placed = tree.flatten(state_axes(build('adamw'), PARAMS, AXES))
  kernel = [spec for path, spec in placed.items() if path.endswith('dense/kernel')]
  assert kernel == [P('embed', 'mlp')] * 3
  assert all(
    spec == P()
    for path, spec in placed.items()
    if path.rpartition('/')[2] in ('count', 'rate', 'decay')
  )


def kernel_axes(name, shape, axes=AXES['dense']['kernel'], **more):
  """The axes of what an optimizer keeps of a kernel of this shape, by kind."""
  params = {'kernel': jax.ShapeDtypeStruct(shape, jnp.float32)}
  tx = make_optimizer(OptimConfig(name=name, **more), ScheduleConfig(steps=5))
  placed = tree.flatten(state_axes(tx, params, {'kernel': axes}))
  kinds = {}
  for path, spec in placed.items():
    if path.endswith('/kernel'):
      kinds[path.split('/')[-2]] = spec
  return kinds


@pytest.mark.parametrize(
  'shape, row, column',
  [
    # optax takes the mean of rows over the longer axis.
    ((256, 128), P('mlp'), P('embed')),
    ((128, 256), P('embed'), P('mlp')),
    ((128, 128), P('embed'), P('mlp')),
  ],
)
def test_the_rows_and_columns_of_adafactor_lie_along_the_axis_that_they_have(
  shape, row, column
):
  found = kernel_axes('adafactor', shape)
  assert (found['v_row'], found['v_col']) == (row, column)
  # What a factored matrix does not use is one number.
  assert found['v'] == P()


def test_the_factors_of_stacked_square_matrices_keep_the_axis_of_layers():
  found = kernel_axes('adafactor', (3, 128, 128), P('layers', 'embed', 'mlp'))
  assert found['v_row'] == P('layers', 'embed')
  assert found['v_col'] == P('layers', 'mlp')


def test_a_matrix_that_is_not_factored_has_its_moments_where_it_lies():
  found = kernel_axes('adafactor', (64, 128))
  assert found == {'v_row': P(), 'v_col': P(), 'v': P('embed', 'mlp')}


def test_codes_and_scales_lie_with_their_parameter():
  found = kernel_axes('adamw', (64, 512), moment_dtype='uint8')
  assert found == dict.fromkeys(('codes', 'scales'), P('embed', 'mlp'))


def test_masters_lie_with_their_parameter():
  found = kernel_axes('sgd', (64, 512), b1=0.0, master_weights=True)
  assert found == {'masters': P('embed', 'mlp')}


def test_the_longest_name_wins():
  vector = jax.ShapeDtypeStruct((4,), jnp.float32)
  params = {'kernel': vector, 'inner': {'kernel': vector}}
  placed = tree.flatten(
    state_axes(
      build('lion'), params, {'kernel': P('embed'), 'inner': {'kernel': P('mlp')}}
    )
  )
  assert {spec for path, spec in placed.items() if path.endswith('inner/kernel')} == {
    P('mlp')
  }


def test_frozen_groups_have_no_axes():
  tx = build('adamw', groups=((r'dense/.*', None),))
  assert not any('dense' in path for path in tree.flatten(state_axes(tx, PARAMS, AXES)))
