"""Files of the user as sources: texts, and labels if any, checked line by line.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.csv'
>>> _ = path.write_text('text,label,split\\ngood film,pos,train\\n')
>>> load(path, 'train')[0]
{'text': 'good film', 'label': 'pos'}
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tl_jax.config import beside
from tl_jax.data import (
  cells,
  choices,
  conversations,
  folders,
  lines,
  missing,
  pairs,
  passages,
  slices,
  store,
  subsets,
  tables,
  tokenizers,
  words,
)
from tl_jax.data.sources import Source
from tl_jax.files import digest, find_json

ENDINGS = folders.ENDINGS
# A file up to this size stays parsed: a run asks for its texts several times.
KEPT_BYTES = 2**26
ALL = slices.ALL


@dataclasses.dataclass(frozen=True)
class Columns:
  """The columns of a file that are read.

  Several columns of `text` make one text, `name: value` each, as T5 writes the parts of
  an example (Raffel et al. 2020, appendix D). Two of them are a `pairs.Pair`, which has
  the two texts apart for those who read such. Several columns of `label` hold 0 or 1
  each, and an example's label is the list of the columns with a 1. Without a `label` no
  column is looked at. Without a `text`, too, an example is a row as it stands, as
  `ROWS` say: whoever reads it knows what its columns are.

  With `labelled` every example has the column of labels; without it, a label that is
  there is checked. Either way the label may be missing, as `missing.is_missing` tells.

  With `conversation` the columns are one of `conversations.FORMS`; a row that has
  another of these forms is read by that. The label of an example is the tuple of its
  turns, None where nothing is learned of them. Its text are the turns before the last
  answer.

  With `choices` a row is a question with candidates, as `choices.read` reads it, and
  `text` and `label` are fields of its question and its answer. The text of an example
  is a `Choices`, its label the place of the right candidate or None.

  `delimiter` is the character that parts the cells of .csv, .tsv and .txt files; ''
  leaves it to the header. With it a .txt file is a table, too.

  With `tagged` a row is a sentence with a tag for every word, in one column of `text`
  and one of `label`. The text of an example is `words.Words`, its label the list of the
  tags or None.

  With `passages` a row is a question on a passage with its answers, as `passages.read`
  reads it. The text of an example is a `passages.PassageQuestion`, its label
  `passages.Answers` or None.

  With `listed` columns of `label` hold texts, and an example's label is the list of
  those that are there, behind the first.
  """

  text: tuple[str, ...] = ('text',)
  label: tuple[str, ...] = ('label',)
  labelled: bool = False
  conversation: bool = False
  choices: bool = False
  delimiter: str = ''
  listed: bool = False
  tagged: bool = False
  passages: bool = False


ROWS = Columns(text=(), label=())


class Table(NamedTuple):
  """A parsed file: examples, the split of each, and the (file, line) of each.

  `divided` is true where the splits come from the hashes of the texts, since the file
  has no column `split`. `files` has the sha256 of every file that was read, by path.
  `told` is what was found out about the file, in lines that a run prints at its start.
  """

  path: pathlib.Path
  columns: Columns
  files: dict[str, str]
  examples: list[dict]
  splits: list[str]
  places: list[tuple[pathlib.Path, int]]
  skipped: dict[str, int]
  divided: bool
  classes: dict[str, tuple[str, ...]]
  told: tuple[str, ...] = ()

  def without(self, rows: Sequence[int], told: str) -> 'Table':
    """The table without some of its rows, with a line that tells so.

    Where hashes divide the file, they divide what is left of it.
    """
    gone = set(rows)
    kept = [row for row in range(len(self.examples)) if row not in gone]
    examples = [self.examples[row] for row in kept]
    splits = [self.splits[row] for row in kept]
    if self.divided:
      splits = _by_hash(list(map(_own_text, examples)))
    return self._replace(
      examples=examples,
      splits=splits,
      places=[self.places[row] for row in kept],
      told=(*self.told, told),
    )

  def divided_by(self, texts: Sequence[str]) -> 'Table':
    """The table divided by the hashes of other texts, one for each example."""
    return self._replace(splits=_by_hash(texts))

  def source(self, split: str) -> Source:
    """The examples of a split as a source."""
    chosen = slices.select(self.path, self.splits, split, self.divided)
    manifest = manifest_of(self.columns, self.files, split, self.told)
    examples = [self.examples[place] for place in chosen]
    places = [self.places[place] for place in chosen]
    others = sorted({*self.splits} - {split})
    return Source(
      str(self.path),
      split,
      examples,
      manifest,
      self.skipped,
      self.classes,
      self.files,
      places,
      self.divided,
      others,
      self.told,
    )


def manifest_of(
  columns: Columns, digests: dict[str, str], split: str, told: Sequence[str]
) -> str:
  """What names the content of a split of files that are read by these columns."""
  options = [list(columns.text), list(columns.label)]
  for name in ('conversation', 'choices', 'listed', 'tagged', 'passages'):
    if getattr(columns, name):
      options.append(name)
  if columns.delimiter:
    options.append(f'delimiter {columns.delimiter}')
  # The default columns are not part of the key: caches from before there was a choice
  # stay valid.
  own = () if columns == Columns() else (options,)
  # The same bytes read in another way are other examples.
  return store.digest('file', list(digests.values()), split, *own, *told)


def is_file(name) -> bool:
  """Does a name mean a file by its ending, or a folder with such files?"""
  if folders.ending(name):
    return True
  return os.path.isdir(name) and bool(folders.files_in(name))


def require(path) -> None:
  """Raises ValueError for a path that is no file or folder of texts; opens nothing."""
  path = pathlib.Path(path)
  if not path.exists():
    raise ValueError(f'{path}: no such file{beside(path)}')
  if not path.is_file() and not path.is_dir():
    raise ValueError(f'{path}: not a regular file')
  # Only a manifest of a corpus says how many documents were kept.
  if 'kept' in (find_json(path / folders.MANIFEST) or {}):
    raise ValueError(
      f'{path}: a corpus was prepared there; take {path / folders.DOCUMENTS}'
    )
  if path.is_dir():
    folders.require_one_kind(path)
  if path.is_file() and not folders.ending(path):
    raise ValueError(
      f'{path}: the ending is none of {", ".join(folders.ENDINGS)}, each also with .gz '
      'or .zst'
    )


def load(path, split: str = 'train', columns: Columns | None = None) -> Source:
  """The examples of a split of a file or of a folder: of .txt files, or of tables.

  An example is a dict of text, label and whatever else is there. Files end with .csv,
  .tsv, .jsonl, .json, .parquet or .txt, in any case, and may be packed (.gz, .zst).

  The column `split` says where an example belongs. Without it 20 % of the texts go to
  `test` by their hash, so that equal texts stay together whatever the order of the
  file. The tables of a folder may say it by their names, as train-0001.parquet. The
  split `all` is the whole file. Empty texts are skipped and counted. Raises
  ValueError `file:line: field` for the first line that cannot be read.
  """
  return read(path, columns or Columns()).source(split)


def files_of(path) -> list[pathlib.Path]:
  """The file itself, or those of a folder. Raises ValueError as `require` does."""
  path = pathlib.Path(path)
  require(path)
  return folders.files_in(path) if path.is_dir() else [path]


def digests_of(path) -> dict[str, str]:
  """The sha256 of a file, or of every file of a folder, by path.

  Raises ValueError for one that cannot be read, and where all of them are empty.
  """
  found = {}
  size = 0
  try:
    for file in files_of(path):
      count, found[str(file)] = digest(file)
      size += count
  except OSError as error:
    raise ValueError(f'{path}: cannot be read: {error.strerror or error}') from error
  if not size:
    raise ValueError(f'{path}: the file is empty')
  return found


def read(path, columns: Columns) -> Table:
  """A file or a folder, parsed. Raises ValueError as `load` does."""
  path = pathlib.Path(path)
  # The digests are the key of the parsed file: one that changed is parsed again.
  digests = digests_of(path)
  size = sum(file.stat().st_size for file in files_of(path))
  parse = _parse_kept if size <= KEPT_BYTES else _parse
  return parse(path, tuple(digests.items()), columns)


def _parse(path: pathlib.Path, digests: tuple, columns: Columns) -> Table:
  """The table of a file; `digests` tell a changed file from one that was parsed."""
  skipped = {'empty text': 0}
  told: list[str] = []
  places: list[tuple[pathlib.Path, int]] = []
  found = list(examples_of(path, columns, told.append, skipped, places))
  if not found:
    raise without_texts(path, skipped)
  examples = [example for example, _ in found]
  splits = [split for _, split in found]
  divided = splits[0] is None
  if divided:
    splits = _by_hash(list(map(_own_text, examples)))
  return Table(
    path,
    columns,
    dict(digests),
    examples,
    splits,
    places,
    skipped,
    divided,
    _classes(path, columns),
    tuple(dict.fromkeys(told)),
  )


def examples_of(
  path: pathlib.Path,
  columns: Columns,
  tell: Callable,
  skipped: dict[str, int],
  places: list | None = None,
) -> Iterator[tuple[dict, str | None]]:
  """Yields every example that has a text with its split, None where the hash decides.

  tell: is called with what was found out about the file. skipped: what is left out is
  counted there. places: takes the (file, line) of each.
  """
  # Does the file have splits of its own? The first row decides.
  own = None
  wanted = columns.text + (columns.label if columns.labelled else ())
  rows = tables.rows(path, wanted, tell, delimiter=columns.delimiter)
  for file, line, row in rows:
    example, split = _checked(file, line, row, columns)
    if own is None:
      own = split is not None
    if own != (split is not None):
      raise ValueError(f'{file}:{line}: split: given on some lines and not on others')
    if not _own_text(example).strip():
      skipped['empty text'] += 1
      continue
    if places is not None:
      places.append((file, line))
    yield example, split


def without_texts(path: pathlib.Path, skipped: dict[str, int]) -> ValueError:
  """The error of a file of which nothing is left."""
  empty = skipped['empty text']
  if empty:
    return ValueError(f'{path}: no example with a text ({empty} empty)')
  return ValueError(f'{path}: no example; there is nothing in it')


def _own_text(example: dict) -> str:
  """The text of an example; all that there is of a row without one."""
  text = example.get('text')
  return text if isinstance(text, str) else json.dumps(example, default=str)


_parse_kept = functools.lru_cache(maxsize=4)(_parse)


def _classes(path: pathlib.Path, columns: Columns) -> dict[str, tuple[str, ...]]:
  """{'label': names} where the file or the choice of columns names the classes."""
  if len(columns.label) > 1 and not columns.listed:
    return {'label': columns.label}
  names = tables.classes(path).get(columns.label[0] if columns.label else '')
  if columns.tagged and not names:
    names = _names_beside(path)
  return {'label': names} if names else {}


def _names_beside(path: pathlib.Path) -> tuple[str, ...]:
  """The names of tags in a file labels.txt beside others, a line each; () for none."""
  file = (path if path.is_dir() else path.parent) / folders.NAMES
  if not file.is_file():
    return ()
  return tuple(line.strip() for _, line in lines.read(file, tables.ignore))


def _by_hash(texts: Sequence[str]) -> list[str]:
  """`train` or `test` for every text; of two different texts or more, both have one."""
  keys = [subsets.fingerprint(text) for text in texts]
  in_test = {key: subsets.is_of_test(key) for key in keys}
  # A few texts may all fall on one side: then the one with the least hash moves.
  if len(in_test) > 1 and len(set(in_test.values())) == 1:
    least = min(in_test)
    in_test[least] = not in_test[least]
  return ['test' if in_test[key] else 'train' for key in keys]


def _checked(file, line: int, row: dict, columns: Columns):
  """(example, split or None) of one row.

  Raises ValueError that names file, line and field.
  """
  split = row.get('split')
  if 'split' in row and not _is_split(split):
    raise cells.wrong(file, line, row, 'split', wanted='the name of a split')
  example = {name: value for name, value in row.items() if name != 'split'}
  example |= _read(file, line, row, columns, example)
  return example, split.strip() if split else None


def _read(file, line: int, row: dict, columns: Columns, example: dict) -> dict:
  """The text and the label of a row, or all that it has of a file of rows."""
  if columns.conversation:
    return _conversation(file, line, row, columns)
  if columns.choices:
    return question_of(file, line, row, columns)
  if columns.tagged:
    return sentence_of(file, line, row, columns)
  if columns.passages:
    return passage_of(file, line, row, columns)
  if columns == ROWS:
    return {name: _plain(value) for name, value in example.items()}
  text = text_of(file, line, row, columns)
  return {'text': text} | _target(file, line, row, columns)


def _plain(value: Any) -> Any:
  """A value with its texts as tokenizers take them."""
  if isinstance(value, str):
    return tokenizers.plain(value)
  if isinstance(value, list):
    return list(map(_plain, value))
  if isinstance(value, dict):
    return {name: _plain(inner) for name, inner in value.items()}
  return value


def _conversation(file, line: int, row: dict, columns: Columns) -> dict[str, Any]:
  """{'text': what comes before the last answer, 'label': the turns} of a row."""
  # A file that somebody put together from several has rows of several forms.
  fields = conversations.fields_of(row) or (columns.text[0], columns.label[0])
  try:
    turns = conversations.turns_of(row, fields)
  except ValueError as error:
    raise ValueError(f'{file}:{line}: {error}') from error
  # A row of which nothing is learned is no empty text, and has no label.
  text = conversations.transcript(turns[:-1]) if turns else str(row)
  return {'text': text, 'label': turns or None}


def question_of(file, line: int, row: dict, columns: Columns) -> dict[str, Any]:
  """{'text': the question with its candidates, 'label': a place or None} of a row.

  Without a column of labels no answer is looked at.
  """
  row = _plain(row)
  text = columns.text
  answer = columns.label[0] if columns.label else ''
  fields = choices.fields_of(row, text, answer)
  for name in (*text, *columns.label):
    if name not in row:
      raise cells.wrong(file, line, row, name)
  if fields is None:
    raise ValueError(f'{file}:{line}: no question with candidates')
  fields = fields._replace(answer=answer)
  try:
    asked, place = choices.read(row, fields)
  except ValueError as error:
    raise ValueError(f'{file}:{line}: {error}') from error
  return {'text': asked, 'label': place}


def passage_of(file, line: int, row: dict, columns: Columns) -> dict[str, Any]:
  """{'text': the question on its passage, 'label': its answers or None} of a row.

  Without a column of labels no answer is looked at.
  """
  for name in (*columns.text, *columns.label):
    if name not in row:
      raise cells.wrong(file, line, row, name)
  question, passage = columns.text
  fields = passages.Fields(question, passage, ''.join(columns.label))
  try:
    asked, answers = passages.read(row, fields)
  except ValueError as error:
    raise ValueError(f'{file}:{line}: {error}') from error
  return {'text': asked, 'label': answers}


def sentence_of(file, line: int, row: dict, columns: Columns) -> dict[str, Any]:
  """{'text': the words, 'label': their tags or None} of a row.

  Without a column of labels no tag is looked at.
  """
  for name in (*columns.text, *columns.label):
    if name not in row:
      raise cells.wrong(file, line, row, name)
  try:
    found, tags = words.read(row, columns.text[0], ''.join(columns.label))
  except ValueError as error:
    raise ValueError(f'{file}:{line}: {error}') from error
  return {'text': found, 'label': tags}


def _is_split(value) -> bool:
  """Is this a name that an expression such as `train[:10%]+test` can hold?"""
  if not isinstance(value, str) or missing.is_missing(value):
    return False
  return bool(re.fullmatch(r'[\w.-]+', value.strip()))


def text_of(file, line: int, row: dict, columns: Columns) -> str:
  """The text of a row, of several columns if so told; a `Pair` of two.

  A null of JSON or Parquet is an empty text. Raises ValueError for a column that is not
  there or holds no text.
  """
  parts = [cells.text_in(file, line, row, name) for name in columns.text]
  text = parts[0]
  # Names alone are no text: a row whose columns are all empty counts as empty.
  if len(parts) > 1 and any(part.strip() for part in parts):
    named = zip(columns.text, parts, strict=True)
    lines = [f'{name}: {part}' for name, part in named]
    text = tokenizers.plain('\n'.join(lines))
  if len(parts) != 2:
    return text
  first, second = parts
  return pairs.Pair(first, second, text)


def _target(file, line: int, row: dict, columns: Columns) -> dict[str, Any]:
  """{'label': value} of a row, whatever its columns hold."""
  # Texts may be anything: what would be no label is one all the same.
  read = cells.listed if columns.listed else cells.label
  return read(file, line, row, columns.label, columns.labelled)
