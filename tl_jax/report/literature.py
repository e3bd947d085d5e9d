"""Numbers that papers printed, each with where it comes from.

>>> imdb = published('ulmfit', table='Table 4 (val error)', rows={'scratch': 'Without pretraining'})['scratch', 'IMDb']
>>> imdb.value, imdb.checked
(5.63, True)
"""

import csv
import dataclasses
import importlib.resources
import itertools
from collections.abc import Iterable, Mapping

from tl_jax.config import nearest


@dataclasses.dataclass(frozen=True)
class Published:
  """A printed number: `text` as printed, `value` None where that is no single number,
  `checked` against the source.
  """

  value: float | None
  text: str
  paper: str
  table: str
  metric: str
  provenance: str
  checked: bool


def published(
  name: str,
  *,
  table: str | None = None,
  metric: str | None = None,
  rows: Mapping | Iterable | None = None,
  columns: Mapping | Iterable | None = None,
) -> dict[tuple, Published]:
  """(row, column) -> Published from the packaged file `name`.csv, for the rows and
  columns that are asked for.

  table, metric: narrow the file down. rows, columns: dicts from a name of our own to
  the printed one, or an iterable of printed names, or None for all. ValueError: an
  unknown name, with the nearest, or two numbers for one cell.
  """
  lines = _read(name)
  for field, wanted in (('table', table), ('metric', metric)):
    if wanted is not None:
      _require(wanted, [line[field] for line in lines], f'published({name!r}): {field}')
      lines = [line for line in lines if line[field] == wanted]
  row_names = _names(rows, [line['row'] for line in lines], f'published({name!r}): row')
  column_names = _names(
    columns, [line['task'] for line in lines], f'published({name!r}): column'
  )
  found: dict[tuple, Published] = {}
  for line in lines:
    for key in itertools.product(
      row_names.get(line['row'], ()), column_names.get(line['task'], ())
    ):
      if key in found:
        raise ValueError(
          f'published({name!r}): two numbers for {key}; choose `table` and `metric`, such as '
          f'table={line["table"]!r}, metric={line["metric"]!r}'
        )
      found[key] = Published(
        _number(line['value']),
        line['value'],
        line['paper'],
        line['table'],
        line['metric'],
        line['provenance'],
        line['checked'] == 'yes',
      )
  return found


def _read(name: str) -> list[dict]:
  folder = importlib.resources.files('tl_jax.report').joinpath('published')
  names = [
    entry.name.removesuffix('.csv')
    for entry in folder.iterdir()
    if entry.name.endswith('.csv')
  ]
  _require(name, names, 'published')
  return list(
    csv.DictReader(folder.joinpath(f'{name}.csv').read_text('utf-8').splitlines())
  )


def _require(name: str, known: Iterable[str], what: str) -> None:
  known = list(dict.fromkeys(known))
  if name not in known:
    raise ValueError(
      f'{what} {name!r} is unknown; nearest: {nearest(str(name), known)}'
    )


def _names(chosen, known: list[str], what: str) -> dict[str, list]:
  """Printed name -> our names for it."""
  if not isinstance(chosen, Mapping):
    chosen = {name: name for name in (known if chosen is None else chosen)}
  names: dict[str, list] = {}
  for own, printed in chosen.items():
    _require(printed, known, what)
    names.setdefault(printed, []).append(own)
  return names


def _number(text: str) -> float | None:
  try:
    return float(text)
  except ValueError:
    return None
