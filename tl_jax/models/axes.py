"""The logical axes of every parameter, by its name: what the sharding rules of
`parallel` speak about.

>>> tuple(logical_axes('layers/0/attention/query/kernel'))
('embed', 'heads')
"""

import re

from jax.sharding import PartitionSpec

from tl_jax import tree

# The first row that matches counts; a parameter that none matches is an error, so that
# nothing is placed by accident.
AXES = (
  (r'.*embedding/(tokens|types|positions)', ('vocabulary', None)),
  (r'.*/(query|key|value)/kernel', ('embed', 'heads')),
  (r'.*/(query|key|value)/bias', ('heads',)),
  (r'.*/(attention|cross)/out/kernel', ('heads', 'embed')),
  (r'.*/mlp/(in|gate)/kernel', ('embed', 'mlp')),
  (r'.*/mlp/(in|gate)/bias', ('mlp',)),
  (r'.*/mlp/out/kernel', ('mlp', 'embed')),
  (r'.*/(query|key)_norm/(scale|bias)', (None,)),
  (r'.*embedding/project/kernel', (None, 'embed')),
  (r'final_project/kernel', ('embed', None)),
  (r'.*relative/kernel', (None, 'heads')),
  (r'.*relative/table', ('vocabulary', None)),
  (r'(head|pooler)/.*kernel', ('embed', None)),
  (r'.*(bias|scale)', (None,)),
)


def logical_axes(name: str) -> PartitionSpec:
  """The logical axes of one parameter. Raises ValueError for a name that no row of the
  table explains.
  """
  for pattern, axes in AXES:
    if re.fullmatch(pattern, name):
      return PartitionSpec(*axes)
  raise ValueError(f'{name}: no row of tl_jax.models.axes.AXES names its axes')


def axes_of(params):
  """A PartitionSpec of logical names for every leaf of a parameter tree."""
  return tree.map_named(lambda name, _: logical_axes(name), params)
