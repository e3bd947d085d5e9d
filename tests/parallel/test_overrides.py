"""Overrides: single arrays lie where a config says, and what cannot be is one line."""

import jax
import pytest
from jax.sharding import PartitionSpec

from tl_jax.config import ConfigError
from tl_jax.parallel import overridden, parse_overrides, require_matches, shardings

SIZES = dict(cohort=1, data=2, fsdp=4, tensor=2, sequence=1)
SHAPES = {
  'embedding': {'tokens': jax.ShapeDtypeStruct((12, 8), 'float32')},
  'layers': {'0': {'kernel': jax.ShapeDtypeStruct((8, 6), 'float32')}},
}
AXES_OF = {
  'embedding': {'tokens': PartitionSpec('vocabulary', None)},
  'layers': {'0': {'kernel': PartitionSpec('embed', 'mlp')}},
}


def placed(*overrides):
  found = overridden(parse_overrides(overrides), AXES_OF, SHAPES, SIZES)
  return found['embedding']['tokens'], found['layers']['0']['kernel']


def test_an_override_takes_the_place_of_the_preset():
  tokens, kernel = placed(('embedding/tokens', (None, ('fsdp', 'tensor'))))
  assert tokens == PartitionSpec(None, ('fsdp', 'tensor'))
  assert kernel == PartitionSpec('embed', 'mlp')
  assert placed() == (PartitionSpec('vocabulary', None), PartitionSpec('embed', 'mlp'))


def test_the_first_that_matches_counts_and_lists_are_tuples():
  tokens, kernel = placed(['.*kernel', [None, 'tensor']], ['.*', []])
  assert kernel == PartitionSpec(None, 'tensor')
  assert tokens == PartitionSpec()


def test_names_of_mesh_axes_stand_for_themselves():
  class Mesh:
    shape = SIZES

  from tl_jax.parallel.placement import _physical, rules_of

  spec = PartitionSpec(('fsdp', 'tensor'), None)
  found = _physical(spec, (16, 3), Mesh(), rules_of('replicate', SIZES))
  assert found == PartitionSpec(('fsdp', 'tensor'), None)
  assert shardings.__name__ == 'shardings'


@pytest.mark.parametrize(
  'override, message',
  [
    (
      ('embedding/tokens', ('fsdb', None)),
      r"sharding_overrides\[0\]: 'fsdb' is no axis of the mesh; nearest: 'fsdp'",
    ),
    (('(', ()), 'not a regular expression'),
    (('.*', 'fsdp'), 'one axis or None for each dimension'),
    ('embedding/tokens', r'must be \(regex, axes\)'),
    (('.*', ('fsdp', 'fsdp')), "'fsdp' cuts two dimensions"),
    (('.*', (('fsdp', None),)), 'None is no axis'),
    (
      ('.*kernel', (None, 'fsdp')),
      r'fsdp 4 does not divide dimension 1 of layers/0/kernel, which is 6; nearest: 3',
    ),
    (
      ('.*tokens', (('fsdp', 'tensor'),)),
      r'fsdp 4 x tensor 2 does not divide dimension 0 of embedding/tokens, which is 12',
    ),
    (('.*tokens', (None, None, 'fsdp')), r'3 axes, but embedding/tokens has 2 dimens'),
  ],
)
def test_what_cannot_be_is_one_line(override, message):
  with pytest.raises(ConfigError, match=message) as caught:
    placed(override)
  assert '\n' not in str(caught.value)


def test_a_pattern_that_matches_nothing_has_the_nearest_names():
  overrides = parse_overrides((('embeding/tokens', ()),))
  with pytest.raises(ConfigError, match=r"overrides\[0\].*nearest: 'embedding/tokens'"):
    require_matches(overrides, ['embedding/tokens', 'layers/0/kernel'])
