"""Where optimizer state lives: with the parameter that it belongs to.

>>> from jax.sharding import PartitionSpec as P
>>> tx = optax.adam(1e-3)
>>> params = {'kernel': jax.ShapeDtypeStruct((4, 2), 'float32')}
>>> axes = state_axes(tx, params, {'kernel': P('embed', 'mlp')})
>>> axes[0].mu['kernel'], axes[0].count
(P('embed', 'mlp'), P())
"""

import jax
import optax
from jax.sharding import PartitionSpec

from tl_jax import tree


def state_axes(tx: optax.GradientTransformation, trainable, axes):
  """The tree of `tx.init(trainable)` with a PartitionSpec of logical axes at each leaf.

  `trainable` may be abstract. `axes` has its structure with PartitionSpec leaves. A
  leaf of the state gets a parameter's axes where its name ends with the parameter's
  name and its shape is the same, as of moments and averages. All others (counts, rates,
  Adafactor's rows and columns) are replicated: PartitionSpec().
  """
  # Shapes alone: nothing is put on a device before its place is known.
  state = jax.eval_shape(tx.init, trainable)
  shapes = {name: leaf.shape for name, leaf in tree.flatten(trainable).items()}
  axes = tree.flatten(axes)

  def place(name, leaf):
    owner = _owner(name, shapes)
    # Adafactor's factors have the name of a parameter, but not its shape.
    if owner is None or shapes[owner] != leaf.shape:
      return PartitionSpec()
    return axes.get(owner, PartitionSpec())

  return tree.map_named(place, state)


def _owner(name: str, names) -> str | None:
  """The longest of the names that ends `name` at a slash."""
  parts = name.split('/')
  for start in range(len(parts)):
    tail = '/'.join(parts[start:])
    if tail in names:
      return tail
  return None
