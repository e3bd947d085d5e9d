"""Where optimizer state lives: with the parameter that it belongs to.

>>> from jax.sharding import PartitionSpec as P
>>> tx = optax.adam(1e-3)
>>> axes = state_axes(tx, {'kernel': jax.ShapeDtypeStruct((4, 2), 'float32')}, {'kernel': P('embed', 'mlp')})
>>> axes[0].mu['kernel'], axes[0].count
(P('embed', 'mlp'), P())
"""

import jax
import optax
from jax.sharding import PartitionSpec

from tl_jax import tree


def state_axes(tx: optax.GradientTransformation, trainable, axes):
  """The tree of `tx.init(trainable)` with a PartitionSpec of logical axes at each leaf.

  `trainable` may be abstract; `axes` has its structure with PartitionSpec leaves. A
  leaf of the state whose name ends with a parameter's name and that has its shape
  (moments, averages) gets that parameter's axes; all others (counts, rates, Adafactor's
  rows and columns) are replicated: PartitionSpec().
  """
  state = jax.eval_shape(tx.init, trainable)
  shapes = {name: leaf.shape for name, leaf in tree.flatten(trainable).items()}
  axes = tree.flatten(axes)

  def place(name, leaf):
    owner = _owner(name, shapes)
    fits = owner is not None and shapes[owner] == leaf.shape
    return axes.get(owner, PartitionSpec()) if fits else PartitionSpec()

  return tree.map_named(place, state)


def _owner(name: str, names) -> str | None:
  """The longest of the names that ends `name` at a slash."""
  parts = name.split('/')
  tails = ('/'.join(parts[start:]) for start in range(len(parts)))
  return next((tail for tail in tails if tail in names), None)
