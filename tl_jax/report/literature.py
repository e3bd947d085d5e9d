"""Numbers that papers printed, each with where it comes from.

>>> scratch = {'scratch': 'Without pretraining'}
>>> numbers = published('ulmfit', table='Table 4 (val error)', rows=scratch)
>>> numbers['scratch', 'IMDb'].value, numbers['scratch', 'IMDb'].checked
(5.63, True)
"""

import csv
import dataclasses
import importlib.resources
import itertools
from collections.abc import Hashable, Iterable, Mapping

from tl_jax.config import nearest


@dataclasses.dataclass(frozen=True)
class Published:
  """A printed number.

  value: None where what is printed is no single number, such as a range.
  text: as printed.
  paper, table, metric: where it stands and what it is.
  provenance: how it came here. checked: whether it was compared with the source.
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
  metric: str | Mapping[Hashable, str] | None = None,
  rows: Mapping | Iterable | None = None,
  columns: Mapping | Iterable | None = None,
) -> dict[tuple, Published]:
  """(row, column) -> Published, from the packaged file `name`.csv.

  table: narrows the file down to one.
  metric: narrows it down to one, or to one for each of our columns, as a dict. So two
    columns of ours may stand for two metrics of a printed task.
  rows, columns: which of them are wanted, and under which names. A dict leads from a
  name of our own to the printed one; an iterable has printed names; None is all.
  Raises ValueError for an unknown name, with the nearest one, and for two numbers of one
  cell.
  """
  where = f'published({name!r})'
  lines = _read(name)
  if table is not None:
    lines = _narrowed(lines, 'table', table, where)
  if isinstance(metric, str):
    lines = _narrowed(lines, 'metric', metric, where)
  row_names = _names(rows, [line['row'] for line in lines], f'{where}: row')
  column_names = _names(columns, [line['task'] for line in lines], f'{where}: column')
  metrics = metric if isinstance(metric, Mapping) else {}
  _check_metrics(metrics, column_names, lines, where)
  found: dict[tuple, Published] = {}
  for line in lines:
    # A printed row may have several names of our own, each a cell; unwanted ones, none.
    own_rows = row_names.get(line['row'], ())
    own_columns = column_names.get(line['task'], ())
    for row, column in itertools.product(own_rows, own_columns):
      if metrics.get(column, line['metric']) != line['metric']:
        continue
      key = row, column
      if key in found:
        raise ValueError(
          f'{where}: two numbers for {key}; choose `table` and `metric`, such as '
          f'table={line["table"]!r}, metric={line["metric"]!r}'
        )
      found[key] = _published(line)
  return found


def _published(line: Mapping[str, str]) -> Published:
  """The number in one line of a file."""
  return Published(
    value=_number(line['value']),
    text=line['value'],
    paper=line['paper'],
    table=line['table'],
    metric=line['metric'],
    provenance=line['provenance'],
    checked=line['checked'] == 'yes',
  )


def _read(name: str) -> list[dict]:
  """The lines of a packaged file, each a dict by column."""
  folder = importlib.resources.files('tl_jax.report').joinpath('published')
  files = [entry.name for entry in folder.iterdir() if entry.name.endswith('.csv')]
  _require(name, [file.removesuffix('.csv') for file in files], 'published')
  text = folder.joinpath(f'{name}.csv').read_text('utf-8')
  return list(csv.DictReader(text.splitlines()))


def _narrowed(lines: list[dict], field: str, wanted: str, where: str) -> list[dict]:
  """The lines whose field has the value that is wanted."""
  _require(wanted, [line[field] for line in lines], f'{where}: {field}')
  return [line for line in lines if line[field] == wanted]


def _require(name: str, known: Iterable[str], what: str) -> None:
  # Every line of a file names its row; the complaint should name it once.
  known = list(dict.fromkeys(known))
  if name not in known:
    raise ValueError(
      f'{what} {name!r} is unknown; nearest: {nearest(str(name), known)}'
    )


def _names(chosen, known: list[str], what: str) -> dict[str, list]:
  """Printed name -> our names for it; several of ours may stand for one."""
  if chosen is None:
    chosen = known
  if not isinstance(chosen, Mapping):
    chosen = {name: name for name in chosen}
  names: dict[str, list] = {}
  for own, printed in chosen.items():
    _require(printed, known, what)
    names.setdefault(printed, []).append(own)
  return names


def _check_metrics(
  metrics: Mapping, column_names: Mapping[str, list], lines: list[dict], where: str
) -> None:
  """Raises ValueError for a column that is not ours and for a metric not printed."""
  own_columns = list(itertools.chain.from_iterable(column_names.values()))
  printed = [line['metric'] for line in lines]
  for column, metric in metrics.items():
    _require(column, own_columns, f'{where}: metric of the column')
    _require(metric, printed, f'{where}: metric')


def _number(text: str) -> float | None:
  """The number that was printed; None for a range, a bound or a dash."""
  try:
    return float(text)
  except ValueError:
    return None
