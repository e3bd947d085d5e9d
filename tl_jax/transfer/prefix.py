"""Prefix tuning: trained keys and values that every layer sees before those of the
tokens.

>>> import jax, jax.numpy as jnp
>>> linear = lambda: {'kernel': jnp.ones((4, 4))}
>>> params = {'layers': {'0': {'attention': {'key': linear(), 'value': linear()}}}}
>>> trainable, _ = prefix(length=3).init(jax.random.key(0), params)
>>> trainable['layers']['0']['attention']['prefix'].keys.shape
(3, 4)
"""

import re

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tl_jax import leaves, rng, tree
from tl_jax.config import Count, Positive
from tl_jax.leaves import Prefix
from tl_jax.transfer.insertion import (
  insert,
  inserting_method,
  last_axis,
  require_kernel,
)
from tl_jax.transfer.method import HEAD, TransferMethod, named_leaves

ATTENTION = r'(.*/)?layers/\d+/(attention|cross)'
# The name under which the network stands beside the model.
NETWORK = 'prefix_network'


def prefix(
  length: Count = 20,
  *,
  network: Count | None = None,
  std: Positive = 0.02,
  pattern: str = ATTENTION,
  head: str | None = HEAD,
) -> TransferMethod:
  """Trains `length` keys and values for every attention that the pattern matches (Li
  and Liang 2021, section 4.2).

  pattern: by default all of them: of an encoder-decoder the encoder's, the decoder's
  own and that to the encoder.
  network: the hidden size of a two-layer network that makes the keys and values of a
  trained table (length, network), with tanh between (section 4.3). `fuse` leaves the
  network behind. None trains the keys and values themselves.
  std: the deviation of the normal from which whatever is trained is drawn.
  """

  def places(named):
    found = {}
    for name in named:
      match = re.fullmatch(rf'(?P<part>{pattern})/key/kernel', name)
      if match:
        part = match['part']
        # The widths are those of the kernels: grouped key heads are narrow.
        key = require_kernel(named, f'{part}/key/kernel', 'prefix')
        value = require_kernel(named, f'{part}/value/kernel', 'prefix')
        found[f'{part}/prefix'] = key, value
    if not found:
      tree.require_match([f'{pattern}/key/kernel'], named, 'prefix')
    return found

  def make(key, kernels):
    dtype = jnp.promote_types(kernels[0].dtype, jnp.float32)

    def draw(name, kernel):
      shape = (length, kernel.shape[-1])
      return std * jax.random.normal(rng.stream(key, name), shape, dtype)

    keys = draw('key', kernels[0])
    values = draw('value', kernels[1])
    return Prefix(keys, values)

  def make_axes(specs):
    return Prefix(*(PartitionSpec(None, last_axis(spec)) for spec in specs))

  method = inserting_method(
    places,
    make,
    make_axes,
    head=head,
    what='prefix',
    inserts=rf'{pattern}/prefix(/.*)?',
  )
  method = method._replace(reserved_positions=length)
  if network is None:
    return method
  return through_network(method, length, network, std)


def through_network(
  method: TransferMethod, length: int, hidden: int, std: float
) -> TransferMethod:
  """Prefixes that a network makes: its table and weights are trained in their place.

  method: trains the prefixes themselves. hidden: the size of the network's hidden
  layer. The network stands beside the model, under the name `NETWORK`: a table (length,
  hidden), a kernel (hidden, hidden) and a bias (hidden,) that all prefixes share, and
  for every prefix a kernel and a bias that make its keys, and such a pair for its
  values.
  """

  def init(key, params, axes=None):
    trainable, frozen = method.init(key, params, axes)

    def draw(name, *shape):
      own_key = rng.stream(key, f'{NETWORK}/{name}')
      return std * jax.random.normal(own_key, shape)

    def linear(name, width):
      return {'kernel': draw(name, hidden, width), 'bias': jnp.zeros(width)}

    made = {
      'table': draw('table', length, hidden),
      'kernel': draw('kernel', hidden, hidden),
      'bias': jnp.zeros(hidden),
    }
    for name, leaf in _prefixes(trainable).items():
      slot = _slot(name)
      keys, values = f'{slot}.keys', f'{slot}.values'
      made[keys] = linear(keys, leaf.keys.shape[-1])
      made[values] = linear(values, leaf.values.shape[-1])
    # A hole in the other tree, so that both have the same names.
    return _with_network(trainable, made), {**frozen, NETWORK: None}

  def axes(given):
    trainable, frozen = method.axes(given)
    # It is small, so every device holds all of it.
    linear = {'kernel': PartitionSpec(), 'bias': PartitionSpec()}
    made = {'table': PartitionSpec(), **linear}
    for name in _prefixes(trainable):
      slot = _slot(name)
      made[f'{slot}.keys'] = dict(linear)
      made[f'{slot}.values'] = dict(linear)
    return _with_network(trainable, made), {**frozen, NETWORK: None}

  def merge(trainable, frozen, *, key=None, step=None):
    params = method.merge(trainable, frozen, key=key, step=step)
    made = params.get(NETWORK) if isinstance(params, dict) else None
    return params if made is None else set_holes(params, _made_prefixes(made))

  def fuse(trainable, frozen):
    params = dict(merge(trainable, frozen))
    # What it makes is in the params now.
    params.pop(NETWORK, None)
    return leaves.fuse(params)

  def inserts(name):
    return method.inserts(name) or name.startswith(f'{NETWORK}/')

  return method._replace(init=init, axes=axes, merge=merge, fuse=fuse, inserts=inserts)


def _slot(name: str) -> str:
  """The network's own name for a prefix, without slashes, which would make a tree."""
  return name.replace('/', '.')


def _prefixes(params) -> dict[str, Prefix]:
  """Every prefix by its name."""
  named = named_leaves(params)
  found = {}
  for name, leaf in named.items():
    if isinstance(leaf, Prefix):
      found[name] = leaf
  return found


def _with_network(trainable, made: dict) -> dict:
  """The tree with the network in the place of the prefixes, which become holes."""

  def without(leaf):
    return None if isinstance(leaf, Prefix) else leaf

  holed = jax.tree.map(without, trainable, is_leaf=leaves.is_structured)
  return {**holed, NETWORK: made}


def _made_prefixes(made: dict) -> dict[str, Prefix]:
  """What the network makes, by the names of the prefixes."""
  inner = made['table'] @ made['kernel'] + made['bias']
  state = jnp.tanh(inner)

  def linear(name):
    return state @ made[name]['kernel'] + made[name]['bias']

  slots = {name.rsplit('.', 1)[0] for name in made if '.' in name}
  prefixes = {}
  # Sorted, because the order of a set would make another program in every process.
  for slot in sorted(slots):
    name = slot.replace('.', '/')
    keys = linear(f'{slot}.keys')
    values = linear(f'{slot}.values')
    prefixes[name] = Prefix(keys, values)
  return prefixes


def set_holes(params, new: dict):
  """The tree with leaves at these names, whatever stood there."""

  def cleared(name, leaf):
    return None if name in new else leaf

  holed = tree.map_named(cleared, params, is_leaf=leaves.is_structured)
  return insert(holed, new)
