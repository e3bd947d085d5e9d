"""The token table and the output layer that an adapter brings.

They may be tied or not, and have more rows than those of the base.

>>> rows_of({'embed_tokens.weight': (32, 16)}, 'embed_tokens.weight', 'lm_head.weight')
32
"""

import dataclasses

import numpy as np

from tl_jax import models
from tl_jax.interop import names
from tl_jax.interop.huggingface import Loaded
from tl_jax.interop.peft_config import Adapter

OVER_WORDS = ('masked', 'causal')


def settle(
  adapter: Adapter, base: Loaded, arch: models.Arch, family: str, found: dict
) -> tuple[Loaded, models.Arch]:
  """The base and the architecture under the tables of an adapter's file.

  found: a function that reads each tensor, by the name that the base gives it. What
  is a second name of one table is taken out of it.

  A base whose output layer is its token table is untied where the adapter has them
  apart. The vocabulary becomes that of the adapter's tables. Raises ValueError that
  names the tensor, where its rows fit neither the other table nor the base.
  """
  table, output = tables_of(family, arch)
  if arch.tied:
    drop_table_of_base(base, found, output)
  present = [name for name in (table, output) if name in found]
  if not present:
    return base, arch

  # How many rows, before a second name of the table is taken out.
  shapes = {name: found[name]().shape for name in present}
  rows = rows_of(shapes, table, output)

  if arch.tied:
    if is_untied(adapter, found, table, output):
      base = untie(base)
      arch = dataclasses.replace(arch, tied=False)
    else:
      # One table, which the file holds under one of its names or under both.
      tied = [found.pop(name) for name in present]
      found[table] = tied[0]
      present = [table]

  if rows == arch.vocabulary:
    return base, arch
  require_all_tables(present, rows, arch, table, output)
  return base, dataclasses.replace(arch, vocabulary=rows)


def tables_of(family: str, arch: models.Arch) -> tuple[str, str | None]:
  """(the tensor of the token table, that of the output layer over the vocabulary).

  The second is None for a head that does not name tokens.
  """
  table = names.place(family, arch.head, 'embedding/tokens').name
  if arch.head not in OVER_WORDS:
    return table, None
  return table, names.place(family, arch.head, 'head/kernel').name


def drop_table_of_base(base: Loaded, found: dict, output: str | None) -> None:
  """Takes the output layer out of `found` where it is the token table of the base.

  A head that is saved whole holds that table a second time, and nothing is untied.
  """
  if output not in found:
    return
  held = np.asarray(base.params['embedding']['tokens'])
  if np.array_equal(found[output](), held):
    found.pop(output)


def require_all_tables(
  present: list[str], rows: int, arch: models.Arch, table: str, output: str | None
) -> None:
  """Raises ValueError where the adapter resizes one of two tables of the model."""
  needed = {table}
  if output is not None and not arch.tied:
    needed.add(output)
  if not needed <= set(present):
    raise ValueError(
      f'tensor {present[0]!r} has {rows} rows, the base has {arch.vocabulary}: '
      'resize the vocabulary of the base first'
    )


def rows_of(shapes: dict, table: str, output: str | None) -> int:
  """The number of rows of the tables that are there. ValueError where they differ."""
  present = [name for name in (table, output) if name in shapes]
  rows = {name: shapes[name][0] for name in present}
  if len(set(rows.values())) > 1:
    raise ValueError(
      f'tensor {output!r} has {rows[output]} rows, but {table!r} has {rows[table]}'
    )
  return next(iter(rows.values()))


def is_untied(adapter: Adapter, found: dict, table: str, output: str | None) -> bool:
  """Does the adapter have an output layer apart from its token table, over a tied base?

  peft copies a module that it saves, which unties it, unless told otherwise. A table
  that it saves without being asked, as after a resize, stays the tied one.
  """
  # A head that names no tokens has nothing to be tied.
  if output is None:
    return False
  if table in found and output in found:
    return not np.array_equal(found[table](), found[output]())
  if adapter.declared.get('ensure_weight_tying'):
    return False
  only = table if table in found else output
  return adapter.saves(only.rpartition('.')[0])


def untie(base: Loaded) -> Loaded:
  """The same function with an output layer of its own, which starts as the table."""
  arch = dataclasses.replace(base.arch, tied=False)
  head = dict(base.params.get('head', {}))
  # The table is (vocabulary, width), a kernel (width, vocabulary).
  head['kernel'] = base.params['embedding']['tokens'].T
  params = dict(base.params) | dict(head=head)
  return base._replace(model=models.build(arch), params=params, arch=arch)
