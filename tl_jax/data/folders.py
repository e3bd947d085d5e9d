"""Folders of texts or of tables: the files in them that are read.

>>> import tempfile
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> for name in ('a.csv', 'b.jsonl.gz', 'labels.txt', 'notes.pdf'):
...   (folder / name).touch()
>>> [path.name for path in files_in(folder)]
['a.csv', 'b.jsonl.gz']
"""

import pathlib
import re
from collections.abc import Iterable

from tl_jax.data import conll, lines

ENDINGS = ('.csv', '.tsv', '.jsonl', '.json', '.parquet', '.txt', *conll.ENDINGS)
# Names of the tags that files have by number.
NAMES = 'labels.txt'
# Files in a folder that tensorflow-datasets or datasets has prepared.
PREPARED = ('dataset_info.json', 'dataset_dict.json')
# What a folder has in which `data prepare` made a corpus: what it is, and its documents.
MANIFEST = 'manifest.json'
DOCUMENTS = 'corpus'
# A split as files and folders are called by it.
_SPLIT = re.compile('(train|test|validation|valid|dev|val)(?![a-z])', re.IGNORECASE)


def ending(name) -> str:
  """The format that a file's name ends with, as `.csv`; '' where it names none.

  Case does not matter, and a last `.gz` or `.zst` is left out.
  """
  plain = lines.unpacked(name)
  for known in ENDINGS:
    if plain.endswith(known):
      return known
  return ''


def files_in(folder) -> list[pathlib.Path]:
  """The .txt files at any depth below a folder, or else its tables, by their paths.

  Who reads a folder has asked `require_one_kind` before, so that none is left out.
  """
  texts, others = _texts_and_tables(folder)
  return texts or others


def require_one_kind(folder: pathlib.Path) -> None:
  """Raises ValueError for a folder in which there is nothing to read, or both texts and
  tables: of one of them each file is an example, of the other one each row.
  """
  texts, others = _texts_and_tables(folder)
  if texts and others:
    raise ValueError(
      f'{folder}: has texts (.txt: {len(texts)}, as {texts[0].relative_to(folder)}) and '
      f'tables ({len(others)}, as {others[0].relative_to(folder)}); name a folder of one '
      'kind, or the files themselves'
    )
  if texts or others:
    return
  if not any(folder.iterdir()):
    raise ValueError(f'{folder}: an empty folder')
  for name in PREPARED:
    if (folder / name).is_file():
      raise ValueError(f'{folder}: not files of texts: a library prepared it ({name})')
  raise ValueError(
    f'{folder}: a folder without .txt files or tables ({", ".join(ENDINGS)})'
  )


def _texts_and_tables(folder) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
  """The .txt files at any depth below a folder and its tables, by their paths.

  Of a folder that a library prepared for itself, the tables are none of the user's.
  Beside tables a `labels.txt` is no text, and beside files of words none is.
  """
  found = pathlib.Path(folder).rglob('*')
  paths = sorted(filter(pathlib.Path.is_file, found))
  texts = []
  others = []
  for path in paths:
    if ending(path) == '.txt':
      texts.append(path)
    elif _is_table(path):
      others.append(path)
  names = {path.name for path in paths}
  if not names.isdisjoint(PREPARED):
    return texts, []
  if others and _are_beside(texts, others):
    return [], others
  return texts, others


def _are_beside(texts: Iterable[pathlib.Path], tables: Iterable[pathlib.Path]) -> bool:
  """Do texts only tell of the tables in their folder?

  Names of tags do, and whatever somebody says of files of words.
  """
  endings = set(map(ending, tables))
  if not endings.isdisjoint(conll.ENDINGS):
    return True
  return all(path.name == NAMES for path in texts)


def _is_table(path: pathlib.Path) -> bool:
  """Does a file hold rows, by its name? Hidden files are not the user's."""
  return bool(ending(path)) and not path.name.startswith('.')


def split_of(file: pathlib.PurePath) -> str:
  """The split that the name of a file begins with, or is that of a folder above it.

  >>> split_of(pathlib.PurePath('train-00000-of-00002.parquet'))
  'train'
  >>> split_of(pathlib.PurePath('dev/part_1.csv')), split_of(pathlib.PurePath('trains.csv'))
  ('dev', '')
  """
  for name in (file.name, *reversed(file.parent.parts)):
    found = _SPLIT.match(name)
    if found:
      return found.group().lower()
  return ''
