"""The logical axes of parameters, as the rules of a pod cut them."""

import math

import jax
import pytest
from jax.sharding import PartitionSpec

from tl_jax import models
from tl_jax.parallel.placement import _parameter_spec, rules_of


class PodMesh:
  """Sixteen devices along fsdp, in sizes alone."""

  shape = dict(cohort=1, data=1, fsdp=16, tensor=1, sequence=1)


def held_by_each(model, abstract) -> int:
  """How many entries of the parameters one device of the pod holds."""
  rules = rules_of('fsdp', PodMesh.shape)

  def held(logical, leaf):
    spec, cannot = _parameter_spec(logical, leaf.shape, PodMesh(), rules)
    assert not cannot
    cut = [axis for axis in spec if axis is not None]
    return leaf.size // math.prod(PodMesh.shape[axis] for axis in cut)

  is_spec = lambda node: isinstance(node, PartitionSpec)
  return sum(jax.tree.leaves(jax.tree.map(held, model.axes, abstract, is_leaf=is_spec)))


@pytest.mark.parametrize(
  'family, head',
  [('bert-base', 'masked'), ('gpt2', 'causal'), ('llama3.1-8b', 'causal')],
)
def test_a_vocabulary_that_does_not_divide_is_held_by_nobody(family, head):
  """30522 and 50257 entries on 16 devices: vectors alone are whole."""
  model = models.build(models.arch(family, head=head))
  abstract = jax.eval_shape(model.init, jax.random.key(0))
  leaves = jax.tree.leaves(abstract)
  vectors = sum(leaf.size for leaf in leaves if leaf.ndim == 1)
  matrices = sum(leaf.size for leaf in leaves if leaf.ndim > 1)
  found = held_by_each(model, abstract)
  assert matrices / 16 <= found <= matrices / 16 + vectors
