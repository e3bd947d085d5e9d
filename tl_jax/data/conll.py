r"""Files with a word on every line, as the shared tasks of CoNLL have them.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.conll'
>>> _ = path.write_text('EU NNP B-ORG\nrejects VBZ O\n\nHe PRP O\n')
>>> line, row = next(rows(path))
>>> row['tokens'], row['tags'], row['2']
(['EU', 'rejects'], ['B-ORG', 'O'], ['NNP', 'VBZ'])

An empty line ends a sentence. The columns of a line are parted by tabs, or where it has
none by white space.
"""

import itertools
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

from tl_jax.data import lines

ENDINGS = ('.conll', '.conllu', '.iob', '.iob2', '.bio')
# In the place of a delimiter: what parts the cells of a row are the ends of lines.
LINES = '\n'
# What CoNLL-2003 puts between two documents.
_DOCUMENT = '-DOCSTART-'
# The columns of CoNLL-U (Nivre et al. 2020), and which of them are the word and its tag.
_UNIVERSAL = (
  *('id', 'form', 'lemma', 'upos', 'xpos'),
  *('feats', 'head', 'deprel', 'deps', 'misc'),
)
_WORDS = ('form', 'word', 'token', 'text')
_TAGS = ('upos', 'tag', 'ner', 'ne', 'label')
# How a file of CoNLL-U Plus names its columns.
_NAMES = re.compile(r'#\s*global\.columns\s*=\s*(.+)')
# Of CoNLL-U, lines that are no words: several words in one, and words left out.
_NO_WORD = re.compile(r'\d+[-.]\d+')

# Lines that tell whether a file is one of these.
SAMPLE = 1000

Line = tuple[int, list[str]]


def ignore(told: str) -> None:
  """Nobody is told."""


def rows(path: pathlib.Path, tell: Callable = ignore) -> Iterator[tuple[int, dict]]:
  """(line, row) of every sentence: `tokens`, `tags`, and every column by its number.

  The word is the first column and the tag is the last one, unless the file names its
  columns. These have their names, too. The numbers count from 1. Without a second
  column there are no `tags`. Raises ValueError `file:line: ...` for a line with other
  columns than those before it.
  """
  names = _UNIVERSAL if _is_universal(path) else ()
  sentence: list[Line] = []
  width = 0
  for number, text in lines.read(path, tell):
    found = _NAMES.match(text)
    if found:
      said = found.group(1)
      names = said.lower().split()
      continue
    cells = _cells(text)
    if not cells or cells[0] == _DOCUMENT:
      # What stands there is of no sentence, and ends one.
      if sentence:
        yield _row(sentence, names)
      sentence = []
      continue
    if _is_left_out(cells, names, width, bool(sentence)):
      continue
    # The first word says how many columns all have.
    width = width or len(cells)
    _require_width(path, number, cells, width, names)
    word = (number, cells)
    sentence.append(word)
  if sentence:
    yield _row(sentence, names)


def looks_so(path: pathlib.Path) -> bool:
  """Has a file of text a word on every line, with as many columns each?

  There are empty lines then, and no line is longer than a few columns.
  """
  widths = set()
  has_gap = False
  numbered = lines.read(path, ignore)
  for _, text in itertools.islice(numbered, SAMPLE):
    cells = _cells(text)
    if not cells:
      has_gap = True
      continue
    is_word = cells[0] != _DOCUMENT and not text.startswith('# ')
    if is_word:
      widths.add(len(cells))
  # Texts have lines of many lengths, and long ones.
  if not has_gap or len(widths) != 1:
    return False
  (width,) = widths
  return width <= len(_UNIVERSAL)


def _is_universal(path: pathlib.Path) -> bool:
  return lines.unpacked(path.name).endswith('.conllu')


def _cells(text: str) -> list[str]:
  """The columns of a line; [] of an empty one."""
  if not text.strip():
    return []
  # Between tabs a word may hold spaces.
  if '\t' in text:
    line = text.rstrip('\r\n')
    return [cell.strip() for cell in line.split('\t')]
  return text.split()


def _is_left_out(
  cells: list[str], names: Sequence[str], width: int, is_inside: bool
) -> bool:
  """Is a line no word: a comment, or what CoNLL-U has besides?"""
  first = cells[0]
  if 'id' in names[:1] and _NO_WORD.fullmatch(first):
    return True
  # Comments stand before a sentence.
  if is_inside or not first.startswith('#'):
    return False
  # A number sign is a word, too, if it has the columns of one.
  wanted = len(names) or width or 2
  return len(cells) != wanted


def _require_width(
  path, number: int, cells: list[str], width: int, names: Sequence[str]
) -> None:
  """Raises ValueError for a line with other columns than there are, or an empty word."""
  wanted = len(names) or width
  count = len(cells)
  if count != wanted:
    raise ValueError(
      f'{path}:{number}: {count} columns; a word of this file has {wanted}'
    )
  if not all(cells):
    place = cells.index('') + 1
    raise ValueError(f'{path}:{number}: column {place} is empty')


def _row(sentence: list[Line], names: Sequence[str]) -> tuple[int, dict]:
  """(line of the beginning, row) of a sentence."""
  words = [cells for _, cells in sentence]
  columns = [list(column) for column in zip(*words, strict=True)]
  # A file without names has none here.
  named = dict(zip(names, columns, strict=False))
  row = {}
  row['tokens'] = _first_of(_WORDS, named) or columns[0]
  for place, column in enumerate(columns, 1):
    row[str(place)] = column
  row.update(named)
  tags = _first_of(_TAGS, named)
  if tags is None and len(columns) > 1:
    tags = columns[-1]
  if tags is not None:
    row['tags'] = tags
  line, _ = sentence[0]
  return line, row


def _first_of(known: Sequence[str], named: dict) -> list[str] | None:
  """The first column of a file that has one of these names."""
  for name in known:
    if name in named:
      return named[name]
  return None
