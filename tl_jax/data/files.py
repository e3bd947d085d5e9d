"""CSV and JSON-lines files of the user, with fields text and label, checked line by line.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.csv'
>>> _ = path.write_text('text,label,split\\ngood film,pos,train\\n')
>>> load(path, 'train')[0]
{'text': 'good film', 'label': 'pos'}
"""

import csv
import json
import math
import pathlib
import re

from tl_jax.data import store, subsets
from tl_jax.data.sources import Source

TEST_PERCENT = 20
LONGEST = 2**28                 # characters of one field: more than any real text, less than a decompression bomb


def load(path, split: str = 'train') -> Source:
  """The examples of a split of a `.csv`, `.tsv` or `.jsonl` file: dicts of text, label and whatever else is there.

  Without a field `split`, a text goes to `test` by its hash, 20 % of them, so equal texts stay together. Empty texts
  are skipped and counted. Raises ValueError `file:line: field` for the first line that cannot be read.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f'{path}: no such file')
  rows = _json_rows(path) if path.suffix.lower() == '.jsonl' else _csv_rows(path)
  splits: dict[str, list[dict]] = {}
  skipped = {'empty text': 0}
  own = None
  for line, row in rows:
    example, name = _checked(path, line, row)
    if own is None:
      own = name is not None
    if own != (name is not None):
      raise ValueError(f'{path}:{line}: split: given on some lines and not on others')
    if not example['text'].strip():
      skipped['empty text'] += 1
      continue
    if name is None:
      name = 'test' if subsets.fingerprint(example['text']) % 100 < TEST_PERCENT else 'train'
    splits.setdefault(name, []).append(example)
  if not splits:
    raise ValueError(f'{path}: no example with a text ({skipped["empty text"]} empty)')
  manifest = store.digest('file', store.file_digest(path), split)
  return Source(str(path), split, _select(path, splits, split), manifest, skipped)


def _select(path, splits: dict[str, list[dict]], expression: str) -> list[dict]:
  """The examples that a split expression such as `train[:10%]+test` names."""
  found = []
  for part in expression.split('+'):
    match = re.fullmatch(r'\s*([\w.-]+)\s*(?:\[(-?\d+%?)?:(-?\d+%?)?\])?\s*', part)
    name = match.group(1) if match else part
    if name not in splits:
      raise ValueError(f'{path}: no split {name!r}; it has {", ".join(sorted(splits))}')
    examples = splits[name]
    start, stop = (_bound(match.group(i), len(examples)) for i in (2, 3))
    found += examples[start:stop]
  if not found:
    raise ValueError(f'{path}: split {expression!r} has no examples')
  return found


def _bound(text: str | None, count: int) -> int | None:
  if text is None:
    return None
  return round(count * int(text[:-1]) / 100) if text.endswith('%') else int(text)


def _lines(path):
  """(line number, line without its end) of a UTF-8 file; a byte-order mark is dropped."""
  with open(path, 'rb') as file:
    for number, line in enumerate(file, 1):
      if number == 1:
        line = line.removeprefix(b'\xef\xbb\xbf')
      try:
        text = line.decode('utf-8')
      except UnicodeDecodeError as error:
        raise ValueError(f'{path}:{number}: byte {error.start}: not UTF-8') from error
      yield number, text


def _json_rows(path):
  for number, line in _lines(path):
    if not line.strip():
      continue
    try:
      row = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
      raise ValueError(f'{path}:{number}: not JSON: {" ".join(str(error).split())[:120]}') from error
    if not isinstance(row, dict):
      raise ValueError(f'{path}:{number}: a JSON object is needed, this is a {type(row).__name__}')
    yield number, row


def _unique(pairs):
  row = dict(pairs)
  if len(row) != len(pairs):
    names = [name for name, _ in pairs]
    raise ValueError(f'the field {next(name for name in names if names.count(name) > 1)!r} is given twice')
  return row


def _csv_rows(path):
  delimiter = '\t' if path.suffix.lower() == '.tsv' else ','
  csv.field_size_limit(LONGEST)
  reader = csv.reader((line for _, line in _lines(path)), delimiter=delimiter, strict=True)
  header = None
  start = 1
  try:
    for cells in reader:
      line, start = start, reader.line_num + 1
      if not cells:
        continue
      if header is None:
        header = [cell.strip() for cell in cells]
        _check_header(path, header)
        continue
      if len(cells) != len(header):
        raise ValueError(f'{path}:{line}: {len(cells)} fields, the header has {len(header)}')
      yield line, dict(zip(header, cells, strict=True))
  except csv.Error as error:
    raise ValueError(f'{path}:{start}: {error}') from error


def _check_header(path, header: list[str]) -> None:
  if len(set(header)) != len(header):
    raise ValueError(f'{path}:1: a column is named twice: {", ".join(header)}')
  if 'text' not in header:
    raise ValueError(f'{path}:1: text: no such column; it has {", ".join(header)}')


def _checked(path, line: int, row: dict):
  """(example, split or None) of one row; ValueError that names file, line and field."""
  text = row.get('text')
  if not isinstance(text, str):
    raise ValueError(f'{path}:{line}: text: {_what(row, "text")}')
  if 'label' in row:
    _check_label(path, line, row)
  split = row.get('split')
  if 'split' in row and (not isinstance(split, str) or not re.fullmatch(r'[\w.-]+', split.strip())):
    raise ValueError(f'{path}:{line}: split: {_what(row, "split")}')
  try:
    text.encode('utf-8')
  except UnicodeEncodeError:
    text = text.encode('utf-8', 'replace').decode('utf-8')      # a lone surrogate from a \\ud800 escape
  example = {**{name: value for name, value in row.items() if name != 'split'}, 'text': text}
  if isinstance(example.get('label'), str):
    example['label'] = example['label'].strip()
  return example, split.strip() if split else None


def _check_label(path, line: int, row: dict) -> None:
  label = row['label']
  values = label if isinstance(label, list) else [label]
  for value in values:
    wrong = not isinstance(value, (str, int, float))
    wrong = wrong or (isinstance(value, str) and not value.strip())
    if wrong or (isinstance(value, float) and not math.isfinite(value)):
      raise ValueError(f'{path}:{line}: label: {_what(row, "label")}')


def _what(row: dict, field: str) -> str:
  if field not in row:
    return f'missing; the line has {", ".join(map(str, list(row)[:8])) or "nothing"}'
  value = row[field]
  if value is None or value == '':
    return 'empty'
  return f'{str(value)[:40]!r} ({type(value).__name__}) is not allowed'
