"""Trees to merge, and how a merged tree is compared."""

import jax.numpy as jnp
import numpy as np

from tl_jax import tree

SHAPES = {
  'embedding/tokens': (7, 4),
  'layers/0/kernel': (4, 6),
  'layers/0/bias': (6,),
  'norm/scale': (4,),
}


def random_trees(count, seed=0, dtype=np.float32):
  """Trees of normal values."""
  generator = np.random.default_rng(seed)
  return [
    tree.unflatten(
      {
        name: generator.normal(size=shape).astype(dtype)
        for name, shape in SHAPES.items()
      }
    )
    for _ in range(count)
  ]


def agree(found, expected, tolerance=1e-5):
  expected = (
    expected
    if isinstance(expected, dict) and set(expected) == set(SHAPES)
    else tree.flatten(expected)
  )
  assert list(tree.flatten(found)) == list(expected)
  for name, leaf in tree.flatten(found).items():
    np.testing.assert_allclose(
      np.asarray(leaf, np.float64),
      expected[name],
      rtol=tolerance,
      atol=tolerance,
      err_msg=name,
    )


def by_leaf(function, *trees):
  """function(name, leaf of each tree) in float64, by name."""
  return {
    name: function(
      name, *(np.asarray(tree.flatten(each)[name], np.float64) for each in trees)
    )
    for name in tree.flatten(trees[0])
  }


def values(*numbers):
  return {'w': jnp.array(numbers, jnp.float32)}
