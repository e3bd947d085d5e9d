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
  leaf of the state belongs to the parameter whose name ends its own. By its shape it
  gets, of the parameter's axes:

  - all: moments, averages, masters, 8-bit codes, and the scales of their blocks;
  - all but one: the rows and columns of Adafactor, which are means over the other one;
  - none, PartitionSpec(): counts, rates, and places that are not used.
  """
  # Shapes alone: nothing is put on a device before its place is known.
  state = jax.eval_shape(tx.init, trainable)
  shapes = {name: leaf.shape for name, leaf in tree.flatten(trainable).items()}
  axes = tree.flatten(axes)

  def place(name, leaf):
    owner = _owner(name, shapes)
    if owner is None or owner not in axes:
      return PartitionSpec()
    kind = name.removesuffix(owner).rstrip('/')
    return _axes_of(kind, leaf.shape, shapes[owner], axes[owner])

  return tree.map_named(place, state)


def _axes_of(
  kind: str, shape: tuple[int, ...], owner: tuple[int, ...], spec: PartitionSpec
) -> PartitionSpec:
  """The axes of a leaf of the state, from the shape and the axes of its parameter.

  kind: the name of the leaf before that of the parameter.
  """
  if shape == owner:
    return spec
  # A spec may name the first dimensions only.
  names = [*spec, *[None] * (len(owner) - len(spec))]
  if len(shape) == len(owner):
    # An axis of blocks is cut as that of their values.
    divides = [whole % part == 0 for part, whole in zip(shape, owner, strict=True)]
    is_used = max(shape, default=1) > 1
    return PartitionSpec(*names) if is_used and all(divides) else PartitionSpec()
  reduced = _reduced(kind, shape, owner)
  if reduced is None:
    return PartitionSpec()
  del names[reduced]
  return PartitionSpec(*names)


def _reduced(kind: str, shape: tuple[int, ...], owner: tuple[int, ...]) -> int | None:
  """The axis of the parameter over which the leaf of the state is a mean, or None."""
  fits = []
  for axis in range(len(owner)):
    if owner[:axis] + owner[axis + 1 :] == shape:
      fits.append(axis)
  if len(fits) < 2:
    return fits[0] if fits else None
  # A square matrix: optax takes the mean of rows over the longest axis, the last of
  # equals, and that of columns over the one before it.
  is_column = kind.endswith('v_col')
  return fits[-2] if is_column else fits[-1]


def _owner(name: str, names) -> str | None:
  """The longest of the names that ends `name` at a slash."""
  parts = name.split('/')
  for start in range(len(parts)):
    tail = '/'.join(parts[start:])
    if tail in names:
      return tail
  return None
