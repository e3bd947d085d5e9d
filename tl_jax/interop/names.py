"""Where every parameter lies in a Hugging Face checkpoint: the maps of the families,
read in both directions.

>>> found = place('bert', 'masked', 'layers/3/attention/query/kernel')
>>> found.name, found.transpose
('bert.encoder.layer.3.attention.self.query.weight', True)
"""

import collections
import functools
import re
from typing import NamedTuple

import numpy as np

from tl_jax import tree
from tl_jax.interop.families import FAMILIES
from tl_jax.interop.name_map import LAYER, Names

# By `model_type` of config.json.
NAMES = {model_type: family.names for model_type, family in FAMILIES.items()}
# What our leaves are called in PyTorch: the scale of a norm is a weight there, too.
LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}
# What modules of any family keep beside their parameters. Older files hold them, newer
# ones do not.
ALWAYS_EXTRA = (r'.*\b(position_ids|token_type_ids)', r'.*\brotary_emb\.\w+')
_LAYER_NUMBER = re.compile(r'(?<=layers/)\d+')


class Place(NamedTuple):
  """Where a parameter lies in a checkpoint.

  name: of the tensor. transpose: is it stored (out, in)? part: which part of the
  tensor's outputs the parameter is, where several of ours are stored as one.
  columns: where the part begins and ends among the outputs. The sizes of all parts say
  it, so `places` fills it in; None: all outputs.
  row: is it a vector that is stored with a leading axis of 1?
  """

  name: str
  transpose: bool = False
  part: int = 0
  columns: tuple[int, int] | None = None
  row: bool = False


def place(
  family: str, head: str, name: str, *, gated: bool = False, bare: bool = False
) -> Place:
  """Where our parameter `name` lies in a checkpoint of the family with this head.

  gated: has the model a gated MLP? T5 calls its input maps otherwise then. bare: is the
  checkpoint of the body alone, whose names have no `base`? Raises ValueError for a
  parameter that the family has no name for.
  """
  names = NAMES[family]
  number = _LAYER_NUMBER.search(name)
  pattern = _LAYER_NUMBER.sub(LAYER, name)
  module, _, leaf = pattern.rpartition('/')
  key, stored = _row(names, head, pattern, gated)
  if key is None:
    raise ValueError(
      f'{name}: a {family} checkpoint with head {head!r} has no place for it'
    )
  theirs, _, mark = stored.partition('|')
  # A row is of a whole parameter or of a module, whose leaves have names of their own.
  if key == module:
    theirs = f'{theirs}.{LEAVES[leaf]}'
  if not bare and key not in names.heads.get(head, {}):
    theirs = names.bases.get(head, names.base) + theirs
  if number:
    theirs = theirs.replace(LAYER, number.group())
  transpose = leaf == 'kernel' and _is_transposed(names, mark)
  part = int(mark) if mark.isdecimal() else 0
  return Place(theirs, transpose=transpose, part=part, row=mark == 'row')


def _row(names: Names, head: str, pattern: str, gated: bool):
  """The row of the map that explains a parameter: (its key, its value), else (None, '').

  pattern: our name, with `LAYER` for the number of the layer.
  """
  module = pattern.rpartition('/')[0]
  tables = [names.heads.get(head, {}), names.body]
  if gated:
    tables.insert(1, names.gated)
  for table in tables:
    # A row of the whole parameter is an exception to the row of its module.
    for key in (pattern, module):
      if key in table:
        return key, table[key]
  return None, ''


def _is_transposed(names: Names, mark: str) -> bool:
  """Is a kernel stored (out, in), where the map marks it so?"""
  if mark == 'as-is':
    return False
  return names.transposed or mark == 'transposed'


def is_spare(family: str, name: str, kind: str) -> bool:
  """May a folder of the family hold this tensor though a model of this kind has no use
  for it?

  It may be a buffer, or of another head. An encoder that was made of an encoder-decoder
  leaves the tensors of the decoder.
  """
  names = NAMES[family]
  below = _without_base(names, name)
  for pattern in names.extra + names.tied_names + ALWAYS_EXTRA:
    if re.fullmatch(pattern, name) or re.fullmatch(pattern, below):
      return True
  has_decoder = any(ours.startswith('decoder/') for ours in names.body)
  if kind == 'encoder' and has_decoder and below.startswith('decoder.'):
    return True
  return _is_of_a_head(names, name)


def _without_base(names: Names, name: str) -> str:
  """The name of a tensor below the first `base` that it begins with."""
  for base in (names.base, *names.bases.values()):
    if base and name.startswith(base):
      return name.removeprefix(base)
  return name


def _is_of_a_head(names: Names, name: str) -> bool:
  """Is the tensor of any head that the family has?"""
  for head in names.heads.values():
    for stored in head.values():
      module = stored.partition('|')[0]
      if name == module or name.startswith(f'{module}.'):
        return True
  return False


def from_theirs(where: Place, tensor: np.ndarray) -> np.ndarray:
  """Our array, as a view of a whole tensor of theirs."""
  if where.row:
    tensor = tensor[0]
  ours = tensor.T if where.transpose else tensor
  if where.columns is None:
    return ours
  return ours[..., slice(*where.columns)]


def to_theirs(places: dict[str, Place], arrays: dict) -> dict[str, np.ndarray]:
  """Their tensors by name, from our arrays by name: the inverse of `from_theirs` over a
  whole model.
  """
  return {name: read() for name, _, _, read in lazily(places, arrays)}


def lazily(places: dict[str, Place], arrays: dict):
  """Yields (name, shape, dtype, read) of each of their tensors, in the order of their
  names. `read()` makes the one tensor, so that a whole model is never held twice.
  """
  groups = collections.defaultdict(list)
  for name, where in places.items():
    groups[where.name].append((where, arrays[name]))
  for name in sorted(groups):
    parts = groups[name]
    parts.sort(key=lambda pair: pair[0].part)
    where, first = parts[0]
    outputs = sum(array.shape[-1] for _, array in parts)
    ours = *first.shape[:-1], outputs
    shape = _stored_shape(where, ours)
    # Bound to these parts: a closure would see those of the last tensor.
    read = functools.partial(_join, parts)
    yield name, shape, np.dtype(first.dtype), read


def _stored_shape(where: Place, shape: tuple) -> tuple:
  if where.row:
    return (1, *shape)
  return shape[::-1] if where.transpose else shape


def _join(parts: list) -> np.ndarray:
  """One tensor of theirs from [(place, our array)], the parts in their order."""
  where, first = parts[0]
  ours = np.asarray(first)
  if len(parts) > 1:
    arrays = [np.asarray(array) for _, array in parts]
    ours = np.concatenate(arrays, -1)
  if where.row:
    ours = ours[None]
  elif where.transpose:
    ours = ours.T
  return np.ascontiguousarray(ours)


def places(
  family: str, head: str, params, *, gated: bool = False, bare: bool = False
) -> dict[str, Place]:
  """The place of every parameter of a tree of arrays, or of their shapes."""
  flat = tree.flatten(params)
  found = {}
  for name in flat:
    found[name] = place(family, head, name, gated=gated, bare=bare)
  together = collections.defaultdict(list)
  for name, where in found.items():
    together[where.name].append(name)
  for parts in together.values():
    if len(parts) == 1:
      continue
    # Several parameters are the outputs of one tensor, side by side.
    begin = 0
    for name in sorted(parts, key=lambda name: found[name].part):
      end = begin + flat[name].shape[-1]
      found[name] = found[name]._replace(columns=(begin, end))
      begin = end
  return found
