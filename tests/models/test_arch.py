"""Architectures: bad values are named, relative buckets are T5's."""

import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.config import ConfigError
from tl_jax.models import FAMILIES, arch, axes_of, build
from tl_jax.models.relative import relative_bucket


@pytest.mark.parametrize(
  'fields, named',
  [
    (dict(widht=4), "nearest: 'width'"),
    (dict(heads=5), 'heads'),
    (dict(heads=4, kv_heads=3), 'kv_heads'),
    (dict(norm='batch'), 'config.model.norm'),
    (dict(layers=0), 'config.model.layers'),
    (dict(norm_eps=float('nan')), 'config.model.norm_eps'),
  ],
)
def test_bad_fields_are_named(fields, named):
  with pytest.raises(ConfigError, match=named):
    arch('tiny', **fields)


def test_an_unknown_family_names_the_nearest():
  with pytest.raises(ConfigError, match='bert-base'):
    arch('bert-bass')


@pytest.mark.parametrize('family', FAMILIES)
def test_every_family_builds(family):
  model = build(arch(family, layers=1, vocabulary=50))
  assert model.arch.layers == 1


def test_a_parameter_without_axes_is_an_error():
  with pytest.raises(ValueError, match='strange'):
    axes_of({'strange': jnp.ones(3)})


def reference_bucket(distance, both_ways, buckets=32, farthest=128):
  """T5's formula, one number at a time."""
  bucket = 0
  if both_ways:
    buckets //= 2
    bucket, distance = (buckets if distance > 0 else 0), abs(distance)
  else:
    distance = -min(distance, 0)
  exact = buckets // 2
  if distance < exact:
    return bucket + distance
  far = exact + int(
    np.float32(np.log(np.float32(distance) / exact) / np.log(farthest / exact))
    * (buckets - exact)
  )
  return bucket + min(far, buckets - 1)


@pytest.mark.parametrize('both_ways', [True, False])
def test_relative_buckets(both_ways):
  # on an edge float rounding decides
  distances = [d for d in range(-200, 201) if abs(d) not in (16, 32, 64, 128)]
  found = relative_bucket(
    jnp.array(distances), both_ways=both_ways, buckets=32, farthest=128
  )
  assert found.tolist() == [reference_bucket(d, both_ways) for d in distances]
