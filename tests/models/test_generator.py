"""A generator beside a discriminator: one table, two sizes."""

import jax
import numpy as np
import pytest

from tl_jax import models


@pytest.mark.parametrize(
  'family, sizes',
  [
    ('electra-small', (64, 1, 256, 128)),
    ('electra-base', (256, 4, 1024, 768)),
    ('electra-large', (256, 4, 1024, 1024)),
  ],
)
def test_generators_have_the_published_sizes(family, sizes):
  small = models.generator_arch(models.arch(family, head='replaced'))
  assert (small.width, small.heads, small.mlp, small.embedding_width) == sizes


def test_the_generator_is_a_model_of_its_own():
  small = dict(layers=1, vocabulary=30, width=16, mlp=16, heads=2, generator=8)
  model = models.build(models.arch('tiny-electra', head='replaced', **small))
  params = model.init(jax.random.key(0))
  alone = models.build(models.generator_arch(model.arch))
  own = models.generator_params(params)
  expected = jax.eval_shape(alone.init, jax.random.key(0))
  assert jax.tree.structure(own) == jax.tree.structure(expected)
  batch = dict(tokens=np.arange(10).reshape(1, 10))
  np.testing.assert_array_equal(
    model.apply(params, batch, generator=True).logits, alone.apply(own, batch).logits
  )
  assert own['embedding']['tokens'] is params['embedding']['tokens']
  # A classifier has no use for it.
  other = models.build(models.arch('tiny-electra', head='classifier', **small))
  assert 'generator' not in other.init(jax.random.key(0))['head']
