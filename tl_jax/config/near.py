"""What was meant by a name that is none, or by a path that is not there.

>>> nearest('lrr', ['lr', 'decay'])
"'lr'"

>>> import tempfile
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> (folder / 'reviews.csv').touch(); (folder / 'texts').mkdir()
>>> [path.removeprefix(f'{folder}/') for path in near_paths(folder / 'review.csv')]
['reviews.csv']
>>> [path.removeprefix(f'{folder}/') for path in near_paths(f'{folder}/textz/')]
['texts/']
>>> beside(folder / 'other')
''
"""

import difflib
import os
import pathlib
from collections.abc import Iterable

from tl_jax.config.renamed import new_name

# Of a folder with more entries, as one with a file for each of millions of texts, the
# others are not looked at.
MOST_ENTRIES = 10_000
# How alike two names are that may be taken for each other, from 0 to 1.
ALIKE = 0.6


def nearest(name: str, candidates: Iterable[str], most: int = 3) -> str:
  """The candidates that look most like `name`, as text for an error message.

  A candidate counts by its whole name and by its last dotted part. What a key of an
  earlier version is called today comes first.
  """
  last = str(name).rpartition('.')[2]
  meant = new_name(last)

  def likeness(candidate):
    candidate_last = candidate.rpartition('.')[2]
    if candidate_last == meant:
      return 1.0
    whole_ratio = difflib.SequenceMatcher(None, str(name), candidate).ratio()
    last_ratio = difflib.SequenceMatcher(None, last, candidate_last).ratio()
    # Of two candidates that fit as well, the one that fits as a whole comes first.
    return max(whole_ratio, 0.95 * last_ratio)

  ranked = sorted(map(str, candidates), key=likeness, reverse=True)
  close = [candidate for candidate in ranked if likeness(candidate) >= 0.5]
  # Where nothing is close, any names at all still say what kind of name is wanted.
  offered = (close or ranked)[:most]
  return ', '.join(map(repr, offered)) or 'none'


def near_paths(path: str | os.PathLike, most: int = 3) -> list[str]:
  """The files and folders whose names are like that of a path which is not there.

  They are written as the path is, a folder with a slash at its end. Where the folder of
  the path is not there either, they are like the first part that is not. None is near a
  path that is there.
  """
  if os.path.lexists(path):
    return []
  missing = pathlib.Path(path).expanduser()
  try:
    while not missing.parent.is_dir() and missing.parent != missing:
      missing = missing.parent
    names = _entries(missing.parent)
  # A folder that may not be read, or a name that no file can have, offers nothing.
  except (OSError, ValueError):
    return []
  close = difflib.get_close_matches(missing.name, names, most, ALIKE)
  found = [missing.parent / name for name in close]
  return [f'{each}/' if each.is_dir() else str(each) for each in found]


def _entries(folder: pathlib.Path) -> list[str]:
  """The names in a folder, in order."""
  found = []
  with os.scandir(folder) as entries:
    for entry in entries:
      if len(found) == MOST_ENTRIES:
        break
      found.append(entry.name)
  return sorted(found)


def beside(path: str | os.PathLike) -> str:
  """The end of a message on a path that is not there: what it may have meant, if any."""
  near = near_paths(path)
  return f'; nearest: {", ".join(map(repr, near))}' if near else ''
