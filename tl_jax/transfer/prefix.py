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
from tl_jax.transfer.method import HEAD, TransferMethod

ATTENTION = r'(.*/)?layers/\d+/(attention|cross)'
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

  The default is all of them: of an encoder-decoder the encoder's, the decoder's own and
  that to the encoder. `network`: they are what a two-layer network of that hidden size
  makes of a trained (length, network) table (section 4.3), tanh between; the network is
  left behind by `fuse`. Otherwise drawn from a normal of deviation `std`.
  """

  def places(named):
    found = {}
    for name in named:
      match = re.fullmatch(rf'(?P<part>{pattern})/key/kernel', name)
      if match:
        part = match['part']
        found[f'{part}/prefix'] = tuple(
          require_kernel(named, f'{part}/{kind}/kernel', 'prefix')
          for kind in ('key', 'value')
        )
    if not found:
      tree.require_match([f'{pattern}/key/kernel'], named, 'prefix')
    return found

  def make(key, kernels):
    dtype = jnp.promote_types(kernels[0].dtype, jnp.float32)
    draw = lambda name, kernel: (
      std * jax.random.normal(rng.stream(key, name), (length, kernel.shape[-1]), dtype)
    )
    return Prefix(draw('key', kernels[0]), draw('value', kernels[1]))

  def make_axes(specs):
    return Prefix(*(PartitionSpec(None, last_axis(spec)) for spec in specs))

  method = inserting_method(
    places,
    make,
    make_axes,
    head=head,
    what='prefix',
    inserts=rf'{pattern}/prefix(/.*)?',
  )._replace(reserve=length)
  return method if network is None else through_network(method, length, network, std)


def through_network(
  method: TransferMethod, length: int, hidden: int, std: float
) -> TransferMethod:
  """Prefixes that a network makes: the table and the network are trained in their
  place.
  """

  def prefixes(params):
    flat = jax.tree_util.tree_leaves_with_path(params, is_leaf=leaves.is_structured)
    return {tree.name_of(path): leaf for path, leaf in flat if isinstance(leaf, Prefix)}

  def without(params):
    return jax.tree.map(
      lambda leaf: None if isinstance(leaf, Prefix) else leaf,
      params,
      is_leaf=leaves.is_structured,
    )

  def init(key, params, axes=None):
    trainable, frozen = method.init(key, params, axes)
    found = prefixes(trainable)
    draw = lambda name, *shape: (
      std * jax.random.normal(rng.stream(key, f'{NETWORK}/{name}'), shape)
    )
    made = dict(
      table=draw('table', length, hidden),
      kernel=draw('kernel', hidden, hidden),
      bias=jnp.zeros(hidden),
    )
    for name, leaf in found.items():
      slot = name.replace('/', '.')
      for kind in ('keys', 'values'):
        width = getattr(leaf, kind).shape[-1]
        made[f'{slot}.{kind}'] = dict(
          kernel=draw(f'{slot}.{kind}', hidden, width), bias=jnp.zeros(width)
        )
    return {**without(trainable), NETWORK: made}, {**frozen, NETWORK: None}

  def axes(given):
    trainable, frozen = method.axes(given)
    made = dict(table=PartitionSpec(), kernel=PartitionSpec(), bias=PartitionSpec())
    for name in prefixes(trainable):
      for kind in ('keys', 'values'):
        made[f'{name.replace("/", ".")}.{kind}'] = dict(
          kernel=PartitionSpec(), bias=PartitionSpec()
        )
    return {**without(trainable), NETWORK: made}, {**frozen, NETWORK: None}

  def merge(trainable, frozen, *, key=None, step=None):
    params = method.merge(trainable, frozen, key=key, step=step)
    made = params.get(NETWORK) if isinstance(params, dict) else None
    if made is None:
      return params
    state = jnp.tanh(made['table'] @ made['kernel'] + made['bias'])
    slots = {name.rsplit('.', 1)[0] for name in made if '.' in name}
    make = lambda slot, kind: (
      state @ made[f'{slot}.{kind}']['kernel'] + made[f'{slot}.{kind}']['bias']
    )
    params = set_holes(
      params,
      {
        slot.replace('.', '/'): Prefix(make(slot, 'keys'), make(slot, 'values'))
        for slot in sorted(slots)
      },
    )
    return params

  def fuse(trainable, frozen):
    params = dict(merge(trainable, frozen))
    params.pop(NETWORK, None)
    return leaves.fuse(params)

  def inserts(name):
    return method.inserts(name) or name.startswith(f'{NETWORK}/')

  return method._replace(init=init, axes=axes, merge=merge, fuse=fuse, inserts=inserts)


def set_holes(params, new: dict):
  """The tree with leaves at these names, whatever stood there."""
  cleared = tree.map_named(
    lambda name, leaf: None if name in new else leaf,
    params,
    is_leaf=leaves.is_structured,
  )
  return insert(cleared, new)
