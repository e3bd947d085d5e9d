"""The logical axes of every parameter, by its name: what the sharding rules of
`parallel` speak about.

>>> tuple(logical_axes('layers/0/attention/query/kernel'))
('embed', 'heads')
"""

import re

from jax.sharding import PartitionSpec

from tl_jax import tree

# An embedding is cut along its width: every device looks up its columns of all rows, and
# adds up the gradient of these alone. Any vocabulary divides so.
_TABLES = (
  (r'.*embedding/(tokens|types|positions)', (None, 'columns')),
  (r'.*relative/table', ('vocabulary', None)),
)
# Kernels are (in, out). Into a sublayer `embed` comes first, out of it last, so that the
# product between the two needs no exchange.
_ATTENTION = (
  (r'.*/(query|key|value)/kernel', ('embed', 'heads')),
  (r'.*/(query|key|value)/bias', ('heads',)),
  (r'.*/(attention|cross)/out/kernel', ('heads', 'embed')),
  (r'.*/(query|key)_norm/(scale|bias)', (None,)),
  (r'.*relative/kernel', (None, 'heads')),
)
_MLP = (
  (r'.*/mlp/(in|gate)/kernel', ('embed', 'mlp')),
  (r'.*/mlp/(in|gate)/bias', ('mlp',)),
  (r'.*/mlp/out/kernel', ('mlp', 'embed')),
)
_OUTSIDE_LAYERS = (
  (r'.*embedding/project/kernel', (None, 'embed')),
  (r'final_project/kernel', ('embed', None)),
  (r'(head|pooler)/.*kernel', ('embed', None)),
)
# Last, for it matches vectors that rows above name more closely.
_VECTORS = ((r'.*(bias|scale)', (None,)),)
# The first row that matches counts. A parameter that none matches is an error, so that
# nothing is placed by accident.
AXES = _TABLES + _ATTENTION + _MLP + _OUTSIDE_LAYERS + _VECTORS


def logical_axes(name: str) -> PartitionSpec:
  """The logical axes of one parameter. Raises ValueError for a name that no row of the
  table explains.
  """
  for pattern, axes in AXES:
    if re.fullmatch(pattern, name):
      return PartitionSpec(*axes)
  raise ValueError(f'{name}: no row of tl_jax.models.axes.AXES names its axes')


def axes_of(params):
  """A PartitionSpec of logical names for every leaf of a parameter tree.

  An output layer over the vocabulary is told by its shape from one over labels.
  """
  shapes = {name: leaf.shape for name, leaf in tree.flatten(params).items()}
  vocabulary = shapes.get('embedding/tokens', (None,))[0]

  def axes(name, leaf):
    if name == 'head/kernel' and leaf.shape[-1] == vocabulary:
      return PartitionSpec('embed', 'words')
    return logical_axes(name)

  return tree.map_named(axes, params)
