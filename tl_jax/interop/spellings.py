"""The tensors of a folder under the names of today, however its writer spelled them.

>>> modern('bert.embeddings.LayerNorm.gamma')
'bert.embeddings.LayerNorm.weight'

Published files are of all ages. The oldest ones name the scale and the shift of a norm
as TensorFlow did, `gamma` and `beta`. Some hold a body with the prefix of its class,
some without, and some in a wrapper (`module.` of data parallel training). A writer of
tensors that share memory keeps one of their names, and may choose any.
"""

import collections
import re
from collections.abc import Iterable

import numpy as np

from tl_jax.interop import names
from tl_jax.interop.name_map import LAYER, Names
from tl_jax.interop.tensors import Tensors

_OLD = {'gamma': 'weight', 'beta': 'bias'}


def modern(name: str) -> str:
  """The name with `gamma` and `beta` of a norm as `weight` and `bias`."""
  module, dot, leaf = name.rpartition('.')
  return module + dot + _OLD.get(leaf, leaf)


def settle(folder: Tensors, family: str, head: str, tied: bool) -> tuple[Tensors, bool]:
  """The same tensors under the names that `names.place` gives for this head.

  Returns the tensors, and whether the body has no prefix. tied: does the config say
  that the product over the vocabulary uses the token table? Then the one stands for
  the other where it is missing. Raises ValueError for two tensors of one name.
  """
  spelled, bare = _without_wrapper(folder.names, family, head)
  for own, others in _synonyms(family, head, tied, bare):
    present = [name for name in others if name in spelled]
    if own not in spelled and present:
      spelled[own] = spelled.pop(present[0])
  return _renamed(folder, spelled), bare


def with_zeros(folder: Tensors, family: str, wanted: dict[str, tuple]) -> Tensors:
  """The same tensors, and zeros for those that the family leaves out where they are so.

  wanted: the shapes of all tensors that the model needs, by name.
  """
  absent = {}
  for name in names.NAMES[family].zeros:
    if name in wanted and name not in folder.names:
      absent[name] = wanted[name]
  if not absent:
    return folder
  dtype = folder.dtype(folder.names[0])

  def shape(name):
    return absent[name] if name in absent else folder.shape(name)

  def kind(name):
    return dtype if name in absent else folder.dtype(name)

  def read(name):
    if name in absent:
      return np.zeros(absent[name], dtype)
    return folder.read(name)

  every = tuple(sorted({*folder.names, *absent}))
  return Tensors(every, shape, kind, read, folder.metadata)


def _without_wrapper(found: Iterable[str], family: str, head: str):
  """({a name of today: the name in the file}, has the body no prefix?)."""
  spec = names.NAMES[family]
  base = spec.bases.get(head, spec.base)
  prefix = _body_prefix(found, spec)
  wrapper = prefix
  # The longest first, as one may end in another.
  for known in sorted({spec.base, *spec.bases.values()}, key=len, reverse=True):
    if known and prefix.endswith(known):
      wrapper = prefix.removesuffix(known)
      break
  spelled = {}
  for name in found:
    inner = name.removeprefix(wrapper)
    if prefix and name.startswith(prefix):
      inner = base + name.removeprefix(prefix)
    inner = modern(inner)
    if inner in spelled:
      raise ValueError(f'tensors {spelled[inner]!r} and {name!r} are both {inner!r}')
    spelled[inner] = name
  return spelled, bool(base) and not prefix


def _body_prefix(found: Iterable[str], spec: Names) -> str:
  """What stands before most tensors of the first layer; where there is none, `base`."""
  roots = set()
  for theirs in spec.body.values():
    root, layer, _ = theirs.partition(LAYER)
    if layer:
      roots.add(root)
  either = '|'.join(map(re.escape, sorted(roots)))
  first = re.compile(rf'((?:.*\.)?)(?:{either})0\..+')
  matches = (first.fullmatch(name) for name in found)
  counts = collections.Counter(match[1] for match in matches if match)
  return counts.most_common(1)[0][0] if counts else spec.base


def _synonyms(family: str, head: str, tied: bool, bare: bool):
  """[(the tensor that is read, those that may be stored in its stead)]."""
  spec = names.NAMES[family]
  base = '' if bare else spec.bases.get(head, spec.base)
  tables = [base + name for name in spec.tables]
  for other in ('masked', 'causal'):
    if tied and other in spec.heads:
      tables.append(names.place(family, other, 'head/kernel').name)
  own = names.place(family, head, 'embedding/tokens', bare=bare).name
  found = [(own, tables)]
  if spec.tied_names:
    bias, *repeated = spec.tied_names
    found.append((bias, repeated))
  return [*found, *spec.others.items()]


def _renamed(folder: Tensors, spelled: dict[str, str]) -> Tensors:
  """The tensors under the keys of `spelled`; the folder refuses a name it lacks."""

  def under(find):
    return lambda name: find(spelled.get(name, name))

  every = tuple(sorted(spelled))
  shape, dtype, read = map(under, (folder.shape, folder.dtype, folder.read))
  return Tensors(every, shape, dtype, read, folder.metadata)
