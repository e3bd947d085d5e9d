"""Large corpora of the user: read once, line by line, and mapped from then on.

A file of texts that is small is held in the memory, parsed. One of gigabytes is kept as
a file of its texts, one after the other, beside the places where they end, and a text
is read when it is asked for. What it holds, in which order, is the same; but of so many
texts fewer than a fifth are held out as test.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.jsonl'
>>> _ = path.write_text('{"text": "good"}\\n{"text": "bad"}\\n')
>>> source = load(path, 'all', files.Columns(label=()))
>>> [example['text'] for example in source]
['good', 'bad']
"""

import array
import json
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tl_jax.data import files, slices, store, subsets
from tl_jax.data.sources import Source

# Bytes on the disk, of a file or of all files of a folder, from which on it is large: it
# would be parsed whenever it is asked for.
LARGE = files.KEPT_BYTES
# So many texts tell what a model knows of all.
HELD = 10_000
# Of what is kept; an older one is made again.
FORMAT = 1
TEXTS, ENDS, SPLITS, ABOUT = 'texts.bin', 'ends.npy', 'splits.npy', 'about.json'
_LOG = logging.getLogger(__name__)


def is_large(path, columns: files.Columns) -> bool:
  """Is this a corpus of texts alone that had better not be held in the memory?"""
  has_texts_alone = columns == files.Columns(
    columns.text, (), delimiter=columns.delimiter
  )
  if not has_texts_alone or not columns.text:
    return False
  return sum(file.stat().st_size for file in files.files_of(path)) > LARGE


def load(path, split: str, columns: files.Columns) -> Source:
  """The texts of a split of a file or a folder, as `files.load` says, without what else
  stands in a row.

  What is read of it is kept below the folder of prepared sets, by the content of the
  files. Raises ValueError as `files.load` does.
  """
  path = pathlib.Path(path)
  digests = files.digests_of(path)

  # Called only where the folder is not there.
  def write(folder: pathlib.Path) -> None:
    _write(folder, path, columns)

  key = store.digest('texts', list(digests.values()), list(columns.text), FORMAT)
  if columns.delimiter:
    key = store.digest(key, columns.delimiter)
  folder = store.commit(store.cache_root() / f'texts-{key[:16]}', write)
  about = json.loads((folder / ABOUT).read_text())
  names = np.asarray(about['splits'])
  splits = names[np.load(folder / SPLITS, mmap_mode='r', allow_pickle=False)]
  divided = about['divided']
  chosen = slices.select(path, splits, split, divided)
  told = tuple(about['told'])
  return Source(
    str(path),
    split,
    Texts(folder, chosen),
    files.manifest_of(columns, digests, split, told),
    about['skipped'],
    files=digests,
    divided=divided,
    others=sorted({*about['splits']} - {split}),
    told=told,
  )


class Texts(Sequence):
  """The chosen texts of a kept corpus as examples, read where they are asked for."""

  def __init__(self, folder: pathlib.Path, chosen: np.ndarray):
    self._texts = np.memmap(folder / TEXTS, np.uint8, 'r')
    self._ends = np.load(folder / ENDS, mmap_mode='r', allow_pickle=False)
    self._chosen = chosen

  def __len__(self) -> int:
    return len(self._chosen)

  def __getitem__(self, place) -> dict[str, Any]:
    row = int(self._chosen[place])
    start = int(self._ends[row - 1]) if row else 0
    text = self._texts[start : int(self._ends[row])].tobytes()
    return {'text': text.decode('utf-8', 'surrogatepass')}


def _write(folder: pathlib.Path, path: pathlib.Path, columns: files.Columns) -> None:
  """Reads all texts of a corpus into the files of a folder.

  Raises ValueError for the first line that cannot be read, and where there is no text.
  """
  _LOG.warning(
    '%s is large: its texts are read once and kept below %s', path, folder.parent
  )
  skipped = {'empty text': 0}
  told: list[str] = []
  ends = array.array('q')
  splits = Splits()
  size = 0
  with open(folder / TEXTS, 'wb') as out:
    for example, split in files.examples_of(path, columns, told.append, skipped):
      text = str(example['text'])
      size += out.write(text.encode('utf-8', 'surrogatepass'))
      ends.append(size)
      splits.add(text, split)
  if not ends:
    raise files.without_texts(path, skipped)
  numbers, line = splits.settled()
  if line:
    told.append(line)
  np.save(folder / ENDS, np.frombuffer(ends, np.int64), allow_pickle=False)
  np.save(folder / SPLITS, numbers, allow_pickle=False)
  about = dict(
    splits=list(splits.known),
    skipped=skipped,
    told=list(dict.fromkeys(told)),
    divided=bool(splits.keys),
  )
  (folder / ABOUT).write_text(json.dumps(about) + '\n')


class Splits:
  """The split of every text, as a number.

  known: the number of each split by its name. keys: the fingerprints of the texts that
  a hash divides.
  """

  def __init__(self):
    self.known: dict[str, int] = {}
    self.keys = array.array('Q')
    self._numbers = array.array('H')

  def add(self, text: str, split: str | None) -> None:
    """The next text, with its split or None where its hash decides."""
    if split is None:
      key = subsets.fingerprint(text)
      self.keys.append(key)
      split = 'test' if subsets.is_of_test(key) else 'train'
    self._numbers.append(self.known.setdefault(split, len(self.known)))

  def settled(self) -> tuple[np.ndarray, str]:
    """(the number of every text, uint16 (n,); what there is to say of it, '' for
    nothing).

    Where a hash divides them, some `HELD` texts suffice for the test, and the rest of
    the fifth is trained on, too.
    """
    numbers = np.array(self._numbers, np.uint16)
    if not self.keys or 'test' not in self.known:
      return numbers, ''
    is_test = numbers == self.known['test']
    parts = -(-int(is_test.sum()) // HELD)
    if parts == 1:
      return numbers, ''
    # The part is a function of the text alone: equal texts stay together.
    keys = np.frombuffer(self.keys, np.uint64) // np.uint64(100)
    returned = is_test & (keys % np.uint64(parts) != 0)
    numbers[returned] = self.known['train']
    held = int((numbers == self.known['test']).sum())
    return numbers, f'{held} of {len(numbers)} texts are held out as test'
