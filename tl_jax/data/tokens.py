"""The token cache: a source encoded once, memory mapped afterwards.

>>> import tempfile
>>> from tl_jax.data import tokenizers
>>> texts = [{'text': 'one two'}, {'text': ''}, {'text': 'two one two'}]
>>> tokenizer = tokenizers.train([text['text'] for text in texts], size=80)
>>> cached = tokenize(texts, tokenizer, tempfile.mkdtemp())
>>> len(cached), cached.counts['empty'], cached.index.tolist()
(2, 1, [0, 2])
"""

import array
import dataclasses
import functools
import json
import mmap
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from tl_jax.data import store, subsets

# Tokens in one file: some 100 to 250 MB.
SHARD = 2**26
# Documents encoded together, by the threads of the backend.
BATCH = 1000
# Of the files: another number makes every cache anew.
FORMAT = 1
# Pieces in which tokens are counted: all but those of large sources.
ENOUGH = 100_000
# Pieces whose places are told by one number, and by their lengths.
BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class Tokens:
  """Encoded documents, mapped from the files of a cache: `tokens[i]` are the ids of i.

  `lengths` int32 (n,) has the number of tokens of each. `index` int32 (n,) says which
  example of the source each came from, `shard` int32 (n,) in which of `files` it lies.
  They are mapped as well. `starts` int64 has how many tokens lie before every
  `BLOCK`th piece. `counts` has how many documents were read, empty, truncated and
  split, and how many pieces and tokens there are. `whole` int32 (n,) has the lengths
  before any was truncated; None of a cache from before they were kept.
  """

  folder: pathlib.Path
  lengths: np.ndarray = dataclasses.field(repr=False)
  index: np.ndarray = dataclasses.field(repr=False)
  shard: np.ndarray = dataclasses.field(repr=False)
  starts: np.ndarray = dataclasses.field(repr=False)
  files: tuple[np.ndarray, ...] = dataclasses.field(repr=False)
  counts: dict[str, int]
  key: str
  whole: np.ndarray | None = dataclasses.field(default=None, repr=False)

  def __len__(self) -> int:
    return len(self.lengths)

  def __getitem__(self, i: int) -> np.ndarray:
    if not -len(self) <= i < len(self):
      raise IndexError(f'{self.folder}: {i} is outside of {len(self)} pieces')
    i %= len(self)
    block, inside = divmod(i, BLOCK)
    start = self.starts[block] + self.lengths[i - inside : i].sum(dtype=np.int64)
    # Counted over all files so far, then within its own.
    shard = self.shard[i]
    start -= self._before[shard]
    return self.files[shard][start : start + self.lengths[i]]

  @functools.cached_property
  def _before(self) -> np.ndarray:
    """How many tokens lie in the files before each, int64."""
    return np.cumsum([0, *map(len, self.files)])


@dataclasses.dataclass(frozen=True)
class TokenList:
  """What `Tokens` is, for token arrays that are in memory."""

  arrays: Sequence[np.ndarray]

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    return np.array([len(array) for array in self.arrays], np.int32)

  @functools.cached_property
  def index(self) -> np.ndarray:
    return np.arange(len(self.arrays), dtype=np.int32)

  def __len__(self) -> int:
    return len(self.arrays)

  def __getitem__(self, i: int) -> np.ndarray:
    return self.arrays[i]


def tokenize(
  source,
  tokenizer,
  directory,
  field: str = 'text',
  max_length: int | None = None,
  *,
  split: bool = False,
  special: bool = True,
  keep_empty: bool = False,
) -> Tokens:
  """The tokens of `field` of every example, from the cache below `directory`.

  What is not there yet is encoded and kept. `max_length` counts the tokens of a piece,
  special ones included. A longer document is cut and counted; with `split` it becomes
  several pieces. Documents without a token are skipped and counted; `keep_empty` keeps
  them, so that the rows of two fields stay side by side.

  The cache is keyed by the content of source and tokenizer and by the options. A folder
  whose checksums are wrong is made again. Raises ValueError when nothing is left.
  """
  manifest = getattr(source, 'manifest', None) or _content(source, field)
  options = {
    'field': field,
    'max_length': max_length,
    'split': split,
    'special': special,
    'keep_empty': keep_empty,
    'format': FORMAT,
  }
  # Only where it holds: the keys of all other caches stay what they were before it.
  if getattr(tokenizer, 'parse_special', False):
    options['parse_special'] = True
  key = store.digest(manifest, tokenizer.digest, options)

  # Called only where the folder is not there: then the texts are read.
  def write(folder):
    texts = (str(example[field]) for example in source)
    _write(folder, texts, tokenizer, options, key)

  folder = store.commit(pathlib.Path(directory) / f'tokens-{key[:16]}', write)
  found = _read(folder)
  if not len(found):
    name = getattr(source, 'name', 'the source')
    documents = found.counts['documents']
    empty = found.counts['empty']
    raise ValueError(f'{name}: no text is left of {documents} ({empty} empty)')
  return found


def open_tokens(folder) -> Tokens:
  """The cache in a folder, with every checksum verified.

  Raises ValueError that names the damaged file.
  """
  broken = store.damage(folder)
  if broken:
    path = pathlib.Path(folder) / broken
    raise ValueError(f'{path}: damaged or missing; delete the folder to make it again')
  return _read(pathlib.Path(folder))


def frequencies(encoded, vocabulary: int, chosen=None) -> np.ndarray:
  """How often each token occurs in `Tokens` or a `TokenList`, int64 (vocabulary,).

  Of a large source as many pieces are counted as suffice, evenly spread. `chosen` has
  the numbers of those that count, all by default.
  """
  counts = np.zeros(vocabulary, np.int64)
  counted = range(len(encoded)) if chosen is None else chosen
  for place in subsets.spread(len(counted), ENOUGH):
    i = int(counted[place])
    # Adds one for each, as often as a token is there.
    np.add.at(counts, encoded[i], 1)
  return counts


def _content(source: Iterable[dict], field: str) -> str:
  """The content hash of a plain sequence of examples."""
  return store.digest([str(example[field]) for example in source])


def _pieces(ids: list[int], tokenizer, options) -> list[list[int]]:
  """A document as one or more pieces of at most `max_length` tokens, special ones
  included.
  """
  prefix, suffix = _frame(tokenizer, options)
  whole = prefix + ids + suffix
  length = options['max_length']
  if length is None or len(whole) <= length:
    return [whole]
  room = length - len(prefix) - len(suffix)
  if not options['split']:
    return [prefix + ids[:room] + suffix]
  # An encoder sees its frame around every piece.
  if tokenizer.cls is not None and options['special']:
    parts = (ids[start : start + room] for start in range(0, len(ids), room))
    return [prefix + part + suffix for part in parts]
  # A decoder reads on from piece to piece, so the end is marked once.
  return [whole[i : i + length] for i in range(0, len(whole), length)]


def _frame(tokenizer, options) -> tuple[list[int], list[int]]:
  """The special tokens before and behind every piece; none unless they are wanted."""
  if not options['special']:
    return [], []
  return list(tokenizer.prefix), list(tokenizer.suffix)


class _Shards:
  """Writes pieces one after the other into files of at most `SHARD` tokens.

  `lengths` and `shards` have a number for every piece: its tokens, and its file.
  `sizes` has the tokens of every file.
  """

  def __init__(self, folder: pathlib.Path, dtype):
    self.folder = folder
    self.dtype = dtype
    self.lengths = array.array('i')
    self.shards = array.array('i')
    self.sizes: list[int] = []
    self._file = None

  def __enter__(self) -> '_Shards':
    return self

  def __exit__(self, *_) -> None:
    if self._file is not None:
      self._file.close()

  def append(self, piece: list[int]) -> None:
    """Adds a piece; a new file begins where it would make the last one too large."""
    if self._file is None or self.sizes[-1] + len(piece) > SHARD:
      self._begin_file()
    self._file.write(np.asarray(piece, self.dtype).tobytes())
    self.lengths.append(len(piece))
    self.shards.append(len(self.sizes) - 1)
    self.sizes[-1] += len(piece)

  def _begin_file(self) -> None:
    if self._file is not None:
      self._file.close()
    path = self.folder / f'tokens-{len(self.sizes):05d}.bin'
    self._file = open(path, 'wb')  # noqa: SIM115 - closed by the next one, or at exit
    self.sizes.append(0)


def _write(
  folder: pathlib.Path, texts: Iterable[str], tokenizer, options, key: str
) -> None:
  """Encodes all texts into files of tokens, three arrays and a description.

  Raises ValueError where `max_length` has room for nothing but special tokens.
  """
  # Half the size on the disk where all ids fit 16 bits.
  dtype = np.uint16 if tokenizer.vocabulary_size <= 2**16 else np.int32
  framed = sum(map(len, _frame(tokenizer, options)))
  length = options['max_length']
  if length is not None and length <= framed:
    raise ValueError(
      f'max_length: {length} leaves no room beside {framed} special tokens'
    )
  counts = dict.fromkeys(('documents', 'empty', 'truncated', 'split'), 0)
  index = array.array('i')
  whole = array.array('i')
  with _Shards(folder, dtype) as written:
    for number, ids in _encoded(texts, tokenizer):
      counts['documents'] += 1
      if not ids and not options['keep_empty']:
        counts['empty'] += 1
        continue
      pieces = _pieces(ids, tokenizer, options)
      kept = sum(map(len, pieces))
      counts['split'] += len(pieces) > 1
      counts['truncated'] += kept < len(ids) + framed
      whole.append(len(ids) + framed)
      for piece in pieces:
        written.append(piece)
        index.append(number)
  counts['pieces'] = len(index)
  counts['tokens'] = sum(written.sizes)
  arrays = {'lengths': written.lengths, 'index': index, 'shards': written.shards}
  # Where nothing was truncated, the pieces say it.
  if counts['truncated']:
    arrays['whole'] = whole
  for name, values in arrays.items():
    numbers = np.array(values, np.int32)
    np.save(folder / f'{name}.npy', numbers, allow_pickle=False)
  description = {
    'key': key,
    'dtype': np.dtype(dtype).name,
    'sizes': written.sizes,
    'counts': counts,
    'options': options,
  }
  text = json.dumps(description, indent=1, sort_keys=True) + '\n'
  (folder / 'description.json').write_text(text)


def _encoded(texts: Iterable[str], tokenizer) -> Iterator[tuple[int, list[int]]]:
  """(number of the text, its ids without special tokens), encoded in batches."""
  for first, batch in _batches(texts):
    yield from enumerate(tokenizer.encode_batch(batch, special=False), first)


def _batches(texts: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
  """(number of the first text, texts) in batches."""
  batch: list[str] = []
  first = 0
  for text in texts:
    batch.append(text)
    if len(batch) == BATCH:
      yield first, batch
      first += len(batch)
      batch = []
  if batch:
    yield first, batch


def _read(folder: pathlib.Path) -> Tokens:
  """Maps the files of a folder that is known to be whole."""
  description = json.loads((folder / 'description.json').read_text())
  files = []
  for number, size in enumerate(description['sizes']):
    path = folder / f'tokens-{number:05d}.bin'
    # An empty file cannot be mapped; one that holds empty documents alone is empty.
    if not size:
      files.append(np.zeros(0, np.int32))
      continue
    mapped = np.memmap(path, description['dtype'], 'r')
    # A shuffled order jumps about: what lies behind a piece need not be read with it.
    mapped.base.madvise(mmap.MADV_RANDOM)
    files.append(mapped)
  lengths = map_array(folder / 'lengths.npy')
  counts = description['counts']
  # What was split into pieces is whole in them; what was truncated has a file.
  whole = lengths
  if counts['truncated']:
    kept = folder / 'whole.npy'
    whole = map_array(kept) if kept.exists() else None
  return Tokens(
    folder,
    lengths,
    map_array(folder / 'index.npy'),
    map_array(folder / 'shards.npy'),
    _starts(lengths),
    tuple(files),
    counts,
    description['key'],
    whole,
  )


def _starts(lengths: np.ndarray) -> np.ndarray:
  """How many tokens lie before every `BLOCK`th piece, int64.

  The lengths are read from the first to the last. After that they are in the memory of
  the system, and to read them in an order that is shuffled asks nothing of a slow disk.
  """
  whole = len(lengths) // BLOCK * BLOCK
  sums = lengths[:whole].reshape(-1, BLOCK).sum(1, dtype=np.int64)
  return np.concatenate([[0], np.cumsum(sums)])


def map_array(path: pathlib.Path) -> np.ndarray:
  """The array of a file, of which nothing is read yet."""
  # An array as any other: numpy's class for mapped ones is slow to take elements from.
  return np.asarray(np.load(path, mmap_mode='r', allow_pickle=False))
