"""The token cache: a source encoded once, memory mapped afterwards.

>>> import tempfile
>>> from tl_jax.data import tokenizers
>>> texts = [{'text': 'one two'}, {'text': ''}, {'text': 'two one two'}]
>>> tokenizer = tokenizers.train([text['text'] for text in texts], size=80)
>>> cached = tokenize(texts, tokenizer, tempfile.mkdtemp())
>>> len(cached), cached.counts['empty'], cached.index.tolist()
(2, 1, [0, 2])
"""

import dataclasses
import functools
import json
import mmap
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from tl_jax.data import pieces, sources, store, subsets, wordwise

# Tokens in one file: some 100 to 250 MB.
SHARD = 2**26
# Documents encoded together, by the threads of the backend.
BATCH = 1000
# Characters after which no more are added.
CHARACTERS = 2**22
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
    _write(folder, map(str, _values(source, field)), tokenizer, options, key)

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
  return store.digest(list(map(str, _values(source, field))))


def _values(source: Iterable[dict], field: str) -> Iterable:
  """One field of every example of a source, or of a plain sequence of examples."""
  if isinstance(source, sources.Source):
    return source.values(field)
  return (example[field] for example in source)


def _layout_of(tokenizer, options) -> pieces.Layout:
  """What the pieces of a tokenizer look like.

  Raises ValueError where `max_length` has room for nothing but special tokens.
  """
  wanted = options['special']
  found = pieces.Layout(
    prefix=tuple(tokenizer.prefix) if wanted else (),
    suffix=tuple(tokenizer.suffix) if wanted else (),
    most=options['max_length'],
    split=options['split'],
    ends_once=tokenizer.cls is None or not wanted,
  )
  if found.most is not None and found.most <= found.framed:
    raise ValueError(
      f'config.data.length: {found.most} leaves no room beside {found.framed} special tokens; '
      f'nearest: {found.framed + 1}'
    )
  return found


class _Shards:
  """Writes pieces one after the other into files of at most `SHARD` tokens.

  The arrays of `lengths` and `shards` have a number for every piece: its tokens, and its
  file. `sizes` has the tokens of every file.
  """

  def __init__(self, folder: pathlib.Path, dtype):
    self.folder = folder
    self.dtype = dtype
    self.lengths: list[np.ndarray] = []
    self.shards: list[np.ndarray] = []
    self.sizes: list[int] = []
    self._file = None

  def __enter__(self) -> '_Shards':
    return self

  def __exit__(self, *_) -> None:
    if self._file is not None:
      self._file.close()

  def append(self, ids: np.ndarray, lengths: np.ndarray) -> None:
    """Adds pieces of these lengths, whose ids lie one after the other.

    A new file begins where a piece would make the last one too large.
    """
    ids = ids.astype(self.dtype)
    self.lengths.append(lengths.astype(np.int32))
    while len(lengths):
      ends = np.cumsum(lengths)
      room = SHARD - self.sizes[-1] if self.sizes else -1
      if ends[0] > room:
        self._begin_file()
        # A piece that is larger than a file has one of its own.
        room = max(SHARD, ends[0])
      count = int(np.searchsorted(ends, room, side='right'))
      size = int(ends[count - 1])
      self._file.write(ids[:size].tobytes())
      self.shards.append(np.full(count, len(self.sizes) - 1, np.int32))
      self.sizes[-1] += size
      ids, lengths = ids[size:], lengths[count:]

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
  layout = _layout_of(tokenizer, options)
  counts = dict.fromkeys(('documents', 'empty', 'truncated', 'split'), 0)
  index, whole = [], []
  with _Shards(folder, dtype) as written:
    for first, ids, lengths in _encoded(texts, tokenizer):
      numbers = np.arange(first, first + len(lengths))
      counts['documents'] += len(lengths)
      if not options['keep_empty']:
        filled = lengths > 0
        counts['empty'] += int(np.count_nonzero(~filled))
        numbers, lengths = numbers[filled], lengths[filled]
      laid = pieces.lay(ids, lengths, layout)
      parts = np.bincount(laid.documents, minlength=len(lengths))
      kept = np.bincount(laid.documents, laid.lengths, minlength=len(lengths))
      counts['split'] += int(np.count_nonzero(parts > 1))
      counts['truncated'] += int(np.count_nonzero(kept < lengths + layout.framed))
      whole.append(lengths + layout.framed)
      written.append(laid.ids, laid.lengths)
      index.append(numbers[laid.documents])
  arrays = {'lengths': written.lengths, 'index': index, 'shards': written.shards}
  # Where nothing was truncated, the pieces say it.
  if counts['truncated']:
    arrays['whole'] = whole
  for name, parts in arrays.items():
    # Without a document there is no array.
    numbers = np.concatenate([np.zeros(0, np.int32), *parts]).astype(np.int32)
    np.save(folder / f'{name}.npy', numbers, allow_pickle=False)
    if name == 'lengths':
      counts['pieces'] = len(numbers)
  counts['tokens'] = sum(written.sizes)
  description = {
    'key': key,
    'dtype': np.dtype(dtype).name,
    'sizes': written.sizes,
    'counts': counts,
    'options': options,
  }
  text = json.dumps(description, indent=1, sort_keys=True) + '\n'
  (folder / 'description.json').write_text(text)


def _encoded(
  texts: Iterable[str], tokenizer
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
  """(number of the first text, ids, lengths) of batches of texts.

  The ids, without special tokens, lie one after the other; `lengths` has those of each.
  """
  encoder = wordwise.encoder_of(tokenizer)
  for first, batch in _batches(texts):
    yield first, *encoder.encode(batch)


def _batches(texts: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
  """(number of the first text, texts) in batches."""
  batch: list[str] = []
  first = characters = 0
  for text in texts:
    batch.append(text)
    characters += len(text)
    # A thousand books would be too many.
    if len(batch) == BATCH or characters >= CHARACTERS:
      yield first, batch
      first += len(batch)
      batch, characters = [], 0
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
    files.append(_as_plain(mapped))
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
  return _as_plain(np.load(path, mmap_mode='r', allow_pickle=False))


def _as_plain(mapped: np.memmap) -> np.ndarray:
  """An array as any other: numpy's class for mapped ones is slow to take parts of."""
  return np.asarray(mapped)
