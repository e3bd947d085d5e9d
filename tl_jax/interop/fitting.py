"""A folder of tensors seen as a model: its head, and where each parameter lies.

>>> tied_names_of('bert', models.Arch(head='masked', tied=False))
('cls.predictions.bias', 'cls.predictions.decoder.bias')
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from tl_jax import models, tree
from tl_jax.interop import configs, names, spellings, tensors


class Fit(NamedTuple):
  """A folder seen as a model: where each parameter lies, and which tensors are left.

  config: what `config.json` says, with the class of a head that it does not name. bare:
  have the names of the body no prefix?
  """

  arch: models.Arch
  config: dict
  folder: tensors.Tensors
  where: dict[str, names.Place]
  unused: tuple[str, ...]
  bare: bool


def fit_folder(
  config: dict, folder: tensors.Tensors, family: str, head: str | None
) -> Fit:
  """The folder as a model with its own head, or with another. ValueError where it is
  none.
  """
  if head is not None and not configs.is_known(config):
    config = configs.naming(config, head)
  arch = configs.read(config, head)
  folder, bare = spellings.settle(folder, family, arch.head, arch.tied)
  if head is None and bare and not _holds_head(folder, family, arch.head):
    arch = configs.read(config, 'none')
  arch = _settle(arch, family, folder, bare)
  model = models.build(arch)
  abstract = jax.eval_shape(model.init, jax.random.key(0))
  where = names.places(family, arch.head, abstract, gated=arch.gated, bare=bare)
  tied_names = tied_names_of(family, arch)
  if tied_names and tied_names[1] in folder.names:
    where['head/bias'] = where['head/bias']._replace(name=tied_names[1])
  wanted = {}
  for name, shape, _, _ in names.lazily(where, tree.flatten(abstract)):
    wanted[name] = shape
  folder = spellings.with_zeros(folder, family, wanted)
  sines = sine_tables(family, arch, bare)
  _require_sines(folder, sines)
  unused = _check(wanted, folder, family, arch.kind, own_head=head is None, known=sines)
  return Fit(arch, config, folder, where, unused, bare)


def guess_head(config: dict, folder: tensors.Tensors, family: str) -> Fit:
  """The folder with the head that leaves the fewest tensors without a place.

  Of several that leave as many, the body alone, unless the names are those of a body
  below a head: a decoder's that uses the token table again has no tensor of its own.
  """
  if config.get('architectures'):
    fit = fit_folder(config, folder, family, None)
    if not fit.unused:
      return fit
  found, errors = [], {}
  for head in configs.heads_of(config):
    try:
      fit = fit_folder(configs.naming(config, head), folder, family, None)
    except ValueError as error:
      errors[head] = error
      continue
    if fit.arch.head == head:
      found.append(fit)
  if not found:
    raise errors['none']

  def badness(fit: Fit):
    is_body_below_head = fit.arch.head == 'none' and not fit.bare
    return len(fit.unused), is_body_below_head

  return min(found, key=badness)


def _settle(
  arch: models.Arch, family: str, folder: tensors.Tensors, bare: bool
) -> models.Arch:
  """What only the tensors tell: has the output a table of its own, is there a head for
  pairs, and is there a pooler.
  """

  def stored(name):
    return names.place(family, arch.head, name, bare=bare).name

  def holds(module):
    leaves = (f'{module}/kernel', f'{module}/bias')
    return all(stored(leaf) in folder.names for leaf in leaves)

  tied = True
  if arch.head in ('masked', 'causal'):
    own, table = stored('head/kernel'), stored('embedding/tokens')
    tied = _is_tied(folder, own, table, arch.tied)
  arch = dataclasses.replace(arch, tied=tied)
  if arch.head == 'masked' and family in configs.PAIRED:
    # ALBERT's has an output for each label of the config; of two texts there are two.
    whole = (2, arch.width)
    pair_head = False
    if holds('head/pair'):
      pair_head = folder.shape(stored('head/pair/kernel')) == whole
    arch = dataclasses.replace(arch, pair_head=pair_head)
  if arch.keeps_pooler and not arch.reads_examples and not holds('pooler'):
    if arch.pooler_place == 'body':
      arch = dataclasses.replace(arch, pooler_place='new')
    else:
      arch = dataclasses.replace(arch, pooler='')
  return arch


def _is_tied(folder: tensors.Tensors, own: str, table: str, declared: bool) -> bool:
  """Does the output use the token table? `own` and `table` are the names of the two.

  declared: what `config.json` says, which counts where the folder has no tensor `own`.
  """
  if own not in folder.names:
    return declared
  if table not in folder.names:
    return False
  return _equal(folder.read(own), folder.read(table))


def _holds_head(folder: tensors.Tensors, family: str, head: str) -> bool:
  """Is there a tensor of this head? A causal one may need none but the token table."""
  if head == 'causal':
    return True
  rows = names.NAMES[family].heads.get(head, {})
  # Behind a bar stands how the tensor is stored.
  modules = [theirs.partition('|')[0] for theirs in rows.values()]
  below = tuple(f'{module}.' for module in modules)
  return any(name in modules or name.startswith(below) for name in folder.names)


def tied_names_of(family: str, arch: models.Arch) -> tuple[str, ...]:
  """The two names of the bias of a masked head that has its own table, where the family
  stores it twice.
  """
  if arch.head != 'masked' or arch.tied:
    return ()
  return names.NAMES[family].tied_names


def sine_tables(family: str, arch: models.Arch, bare: bool) -> dict[str, np.ndarray]:
  """The tables of sinusoidal positions that a folder of the family holds, by name."""
  spec = names.NAMES[family]
  if not spec.sines:
    return {}
  table = models.sinusoids(arch.max_positions, arch.width)
  base = '' if bare else spec.base
  return {base + name: table for name in spec.sines}


def _require_sines(folder: tensors.Tensors, sines: dict[str, np.ndarray]) -> None:
  """Raises ValueError where a folder holds another table of positions than what is
  computed.
  """
  for name in sines.keys() & set(folder.names):
    computed = sines[name]
    table = folder.read(name).astype(np.float32)
    same_shape = table.shape == computed.shape
    # bfloat16, in which a folder may hold the table, rounds by up to 2e-3.
    if not same_shape or not np.allclose(table, computed, atol=5e-3):
      raise ValueError(
        f'tensor {name!r} is no table of sinusoidal positions {computed.shape}, '
        'which are computed'
      )


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
  if first.shape != second.shape or first.dtype != second.dtype:
    return False
  return first.tobytes() == second.tobytes()


def _check(
  wanted: dict,
  folder: tensors.Tensors,
  family: str,
  kind: str,
  *,
  own_head: bool,
  known=(),
) -> tuple[str, ...]:
  """The tensors that are not needed, nor `known` besides.

  Raises ValueError for a missing or surplus tensor and for a wrong shape.
  """
  for name, shape in wanted.items():
    if name not in folder.names:
      raise ValueError(
        f'tensor {name!r} is missing; nearest: {tree.nearest(name, folder.names)}'
      )
    if folder.shape(name) != shape:
      raise ValueError(
        f'tensor {name!r} has shape {folder.shape(name)}, config.json says {shape}'
      )
  surplus = sorted(set(folder.names) - {*wanted, *known})
  for name in surplus if own_head else ():
    if not names.is_spare(family, name, kind):
      raise ValueError(
        f'tensor {name[:200]!r} has no place in this {family}; nearest: '
        f'{tree.nearest(name, wanted)}'
      )
  return tuple(surplus)
