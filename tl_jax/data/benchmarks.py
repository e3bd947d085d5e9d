r"""GLUE and SuperGLUE from the files that their authors publish.

>>> import tempfile
>>> folder = pathlib.Path(tempfile.mkdtemp()) / 'RTE'
>>> folder.mkdir()
>>> lines = 'index\tsentence1\tsentence2\tlabel\n0\tIt rains.\tIt is wet.\tentailment\n'
>>> _ = (folder / 'train.tsv').write_text(lines)
>>> load('glue/rte', 'train', folder.parent)[0]['label']
0

The folders are those of the published archives, as `CoLA` and `BoolQ`. The fields of a
record are those that tensorflow-datasets gives, so that a task reads either.
"""

import json
import logging
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tl_jax.data import slices, store, tokenizers
from tl_jax.data.sources import Source
from tl_jax.files import digest

_LOG = logging.getLogger(__name__)
# Folders beside or above those of the tasks.
ABOVE = ('', 'glue', 'glue_data', 'superglue', 'super_glue')
# A row of a table may be broken, as a few of QQP are. More than one in so many tells
# that it is the file that is wrong.
MOST_BROKEN = 100
# The label of an example whose label is kept back.
UNKNOWN = -1


class Set(NamedTuple):
  """A task of a benchmark as its files have it.

  folder: of the archive. fields: our name of a field to the column of theirs. label:
  the column of the label. labels: their names in order; () for numbers. splits: the
  file of each split. bare: the columns of the files that have no header.
  """

  folder: str
  fields: dict[str, str]
  label: str = 'label'
  labels: tuple[str, ...] = ()
  splits: dict[str, str] = {}
  bare: tuple[str, ...] = ()


_TSV = dict(train='train.tsv', validation='dev.tsv', test='test.tsv')
_JSONL = dict(train='train.jsonl', validation='val.jsonl', test='test.jsonl')
_ENTAILED = ('entailment', 'not_entailment')
_BINARY = ('0', '1')


def _same(*names: str) -> dict[str, str]:
  return dict(zip(names, names, strict=True))


_MNLI = dict(
  train='train.tsv',
  validation_matched='dev_matched.tsv',
  validation_mismatched='dev_mismatched.tsv',
  test_matched='test_matched.tsv',
  test_mismatched='test_mismatched.tsv',
)
GLUE = {
  'cola': Set(
    'CoLA',
    _same('sentence'),
    labels=_BINARY,
    splits=_TSV,
    bare=('source', 'label', 'mark', 'sentence'),
  ),
  'sst2': Set('SST-2', _same('sentence'), labels=_BINARY, splits=_TSV),
  'mrpc': Set(
    'MRPC',
    dict(sentence1='#1 String', sentence2='#2 String'),
    'Quality',
    _BINARY,
    _TSV,
  ),
  'stsb': Set('STS-B', _same('sentence1', 'sentence2'), 'score', splits=_TSV),
  'qqp': Set('QQP', _same('question1', 'question2'), 'is_duplicate', _BINARY, _TSV),
  'mnli': Set(
    'MNLI',
    dict(premise='sentence1', hypothesis='sentence2'),
    'gold_label',
    ('entailment', 'neutral', 'contradiction'),
    _MNLI,
  ),
  'qnli': Set('QNLI', _same('question', 'sentence'), labels=_ENTAILED, splits=_TSV),
  'rte': Set('RTE', _same('sentence1', 'sentence2'), labels=_ENTAILED, splits=_TSV),
  'wnli': Set('WNLI', _same('sentence1', 'sentence2'), labels=_BINARY, splits=_TSV),
}
_TRUTH = ('false', 'true')
SUPERGLUE = {
  'boolq': Set('BoolQ', _same('question', 'passage'), labels=_TRUTH, splits=_JSONL),
  'cb': Set(
    'CB',
    _same('premise', 'hypothesis'),
    labels=('entailment', 'contradiction', 'neutral'),
    splits=_JSONL,
  ),
  'copa': Set(
    'COPA',
    _same('premise', 'choice1', 'choice2', 'question'),
    labels=_BINARY,
    splits=_JSONL,
  ),
  'multirc': Set('MultiRC', _same('passage'), splits=_JSONL),
  'record': Set('ReCoRD', _same('passage', 'qas'), splits=_JSONL),
  'rte': Set('RTE', _same('premise', 'hypothesis'), labels=_ENTAILED, splits=_JSONL),
  'wic': Set(
    'WiC', _same('word', 'sentence1', 'sentence2'), labels=_TRUTH, splits=_JSONL
  ),
  'wsc': Set('WSC', _same('text', 'target'), labels=_TRUTH, splits=_JSONL),
}
BENCHMARKS = {'glue': GLUE, 'super_glue': SUPERGLUE}


def set_of(name: str) -> Set | None:
  """The task of a benchmark that is named as `glue/rte`; None for another name."""
  benchmark, _, task = name.partition('/')
  return BENCHMARKS.get(benchmark, {}).get(task)


def folder_of(name: str, root: pathlib.Path) -> pathlib.Path | None:
  """The folder below `root` that has the files of a task; None where there is none.

  Its name may be in any case, and it may lie in one for the benchmark.
  """
  found = set_of(name)
  if found is None:
    return None
  files = set(found.splits.values())
  # One folder may hold several benchmarks, each in a folder of its own.
  for above in _folders(root, ABOVE):
    for folder in _folders(above, (found.folder.lower(),)):
      # tensorflow-datasets has folders of these names, too, and RTE is in both sets.
      if any((folder / file).is_file() for file in files):
        return folder
  return None


def _folders(root: pathlib.Path, names: tuple[str, ...]) -> Iterator[pathlib.Path]:
  """The folders in a folder that have one of these names in any case; '' is itself."""
  if '' in names:
    yield root
  if root.is_dir():
    for path in sorted(root.iterdir()):
      if path.name.lower() in names and path.is_dir():
        yield path


def missing(name: str) -> str:
  """Where the files of a task would be, in words."""
  found = set_of(name)
  first = next(iter(found.splits.values()))
  return f'config.data.directory=FOLDER that has {found.folder}/{first}'


def load(name: str, split: str, root) -> Source:
  """A split of a task from the files below `root`, as `sources.load` gives it.

  Raises ValueError of one line for a split or a file that is not there, and
  `file:line: field` for the first line that cannot be read.
  """
  found = set_of(name)
  folder = folder_of(name, pathlib.Path(root))
  base = re.match(r'\s*([\w.-]*)', split).group(1)
  if base not in found.splits:
    there = ', '.join(sorted(found.splits))
    raise ValueError(f'data: {name!r} has no split {base!r}; it has {there}')
  path = folder / found.splits[base]
  if not path.is_file():
    raise ValueError(f'data: {name!r} has no split {base!r}: {path}: no such file')
  # GLUE has tables, SuperGLUE lines of JSON.
  if path.suffix == '.tsv':
    records, broken = _read_table(path, found)
  else:
    records, broken = _read_lines(path, found), 0
  chosen = slices.select(path, [base] * len(records), split)
  _, checksum = digest(path)
  return Source(
    name,
    split,
    [records[place] for place in chosen],
    store.digest('benchmark', name, checksum, split),
    {'broken row': broken},
    {'label': found.labels} if found.labels else {},
  )


def _read_table(path: pathlib.Path, found: Set) -> tuple[list[dict], int]:
  """(the records of a table, how many of its rows are broken).

  A quotation mark is one as any character is: cells are parted by tabs alone.
  """
  header, first, rows = _cells(path, found)
  columns = _columns(path, header, found)
  last = max(map(header.index, columns))
  records = []
  broken = 0
  for number, row in enumerate(rows, first):
    # A row may have more cells than the header, as nobody reads them.
    if len(row) > last:
      cells = dict(zip(header, row, strict=False))
      records.append(_record(f'{path}:{number}', cells, found, len(records)))
      continue
    broken += 1
    if broken * MOST_BROKEN > len(rows):
      raise ValueError(
        f'{path}:{number}: {len(row)} cells; the header has {len(header)}'
      )
  if broken:
    _LOG.warning('%s: %d rows have too few cells and are left out', path, broken)
  return records, broken


def _cells(path: pathlib.Path, found: Set) -> tuple[list[str], int, list[list[str]]]:
  """(the header of a table, the line of its first row, the cells of its rows)."""
  # A mark of the byte order stands before MRPC's header.
  text = path.read_bytes().decode('utf-8-sig', 'replace')
  # Not splitlines, which takes characters within a sentence for ends of lines.
  lines = text.rstrip('\n').split('\n')
  rows = [line.rstrip('\r').split('\t') for line in lines]
  # CoLA has a header above its test alone.
  if found.bare and len(rows[0]) == len(found.bare):
    return list(found.bare), 1, rows
  return rows[0], 2, rows[1:]


def _columns(path: pathlib.Path, header: list[str], found: Set) -> list[str]:
  """The columns that are read. Raises ValueError for one that is not there."""
  columns = [*found.fields.values()]
  # A test whose labels are kept back has no such column.
  if found.label in header:
    columns.append(found.label)
  for column in columns:
    if column not in header:
      there = ', '.join(header)
      raise ValueError(f'{path}:1: {column}: missing; the header has {there}')
  return columns


def _read_lines(path: pathlib.Path, found: Set) -> list[dict]:
  """The records of a file of one JSON object a line."""
  records = []
  for number, line in enumerate(path.read_bytes().split(b'\n'), 1):
    # The last line has an end, too.
    if not line.strip():
      continue
    where = f'{path}:{number}'
    try:
      row = json.loads(line)
    except ValueError as error:
      raise ValueError(f'{where}: no JSON: {error}') from error
    if not isinstance(row, dict):
      raise ValueError(f'{where}: no JSON object')
    records.append(_record(where, row, found, len(records)))
  if not records:
    raise ValueError(f'{path}: no example; there is nothing in it')
  return records


def _record(where: str, row: dict[str, Any], found: Set, number: int) -> dict:
  """The fields of a row as tensorflow-datasets calls them, with its label."""
  record: dict[str, Any] = {'idx': number}
  for name, column in found.fields.items():
    if column not in row:
      there = ', '.join(row)
      raise ValueError(f'{where}: {column}: missing; the line has {there}')
    # Texts as tokenizers take them, as those of other files are.
    value = row[column]
    record[name] = tokenizers.plain(value) if isinstance(value, str) else value
  record['label'] = _label(where, row.get(found.label), found)
  return record


def _label(where: str, value: Any, found: Set) -> int | float:
  """The number of a label, or a number that is one; `UNKNOWN` where there is none."""
  if value is None:
    return UNKNOWN
  if found.label == 'score':
    try:
      return float(value)
    except (TypeError, ValueError):
      raise ValueError(f'{where}: {found.label}: {value!r} is no number') from None
  # JSON has true where the labels are called so.
  said = str(value).lower() if isinstance(value, bool) else str(value)
  if said not in found.labels:
    known = ', '.join(found.labels)
    raise ValueError(f'{where}: {found.label}: {said[:40]!r} is none of {known}')
  return found.labels.index(said)
