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
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from tl_jax.data import store

SHARD = 2**26  # tokens in one file
BATCH = 1000  # documents encoded together
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Tokens:
  """Encoded documents: `[i]` ids, `lengths` int32 (n,), `index` int32 (n,) the example
  of the source each came from.

  `counts` says what happened: documents, empty, truncated, split, pieces, tokens.
  """

  folder: pathlib.Path
  lengths: np.ndarray = dataclasses.field(repr=False)
  index: np.ndarray = dataclasses.field(repr=False)
  shard: np.ndarray = dataclasses.field(repr=False)
  start: np.ndarray = dataclasses.field(repr=False)
  files: tuple[np.ndarray, ...] = dataclasses.field(repr=False)
  counts: dict[str, int]
  key: str

  def __len__(self) -> int:
    return len(self.lengths)

  def __getitem__(self, i: int) -> np.ndarray:
    if not -len(self) <= i < len(self):
      raise IndexError(f'{self.folder}: {i} is outside of {len(self)} pieces')
    start = self.start[i]
    return self.files[self.shard[i]][start : start + self.lengths[i]]


@dataclasses.dataclass(frozen=True)
class TokenList:
  """The same interface for token arrays that are in memory."""

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
  """The tokens of `field` of every example, from the cache below `directory` if they
  are there.

  max_length: tokens per piece, special ones included; a longer document is cut and
  counted, or, with `split`, becomes several pieces. Documents without a token are
  skipped and counted (`keep_empty` keeps them, so that rows of two fields stay side by
  side). The cache is keyed by the content of source and tokenizer and by the options; a
  folder whose checksums are wrong is made again. Raises ValueError when nothing is
  left.
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
  if getattr(tokenizer, 'parse_special', False):
    options['parse_special'] = True
  key = store.digest(manifest, tokenizer.digest, options)

  def write(folder):
    texts = (str(example[field]) for example in source)
    _write(folder, texts, tokenizer, options, key)

  folder = store.commit(pathlib.Path(directory) / f'tokens-{key[:16]}', write)
  found = _read(folder)
  if not len(found):
    name = getattr(source, 'name', 'the source')
    raise ValueError(
      f'{name}: no text is left of {found.counts["documents"]} ({found.counts["empty"]} empty)'
    )
  return found


def open_tokens(folder) -> Tokens:
  """The cache in a folder, with every checksum verified; ValueError names the damaged
  file.
  """
  broken = store.damage(folder)
  if broken:
    raise ValueError(
      f'{pathlib.Path(folder) / broken}: damaged or missing; delete the folder to make it again'
    )
  return _read(pathlib.Path(folder))


def _content(source: Iterable[dict], field: str) -> str:
  """The content hash of a plain sequence of examples."""
  return store.digest([str(example[field]) for example in source])


def _pieces(ids: list[int], tokenizer, options) -> list[list[int]]:
  """A document as one or more pieces of at most `max_length` tokens, special ones
  included.
  """
  prefix, suffix = (
    (list(tokenizer.prefix), list(tokenizer.suffix)) if options['special'] else ([], [])
  )
  length = options['max_length']
  if length is None or len(prefix) + len(ids) + len(suffix) <= length:
    return [prefix + ids + suffix]
  if not options['split']:
    return [prefix + ids[: length - len(prefix) - len(suffix)] + suffix]
  # an encoder sees its frame around every piece
  if tokenizer.cls is not None and options['special']:
    room = length - len(prefix) - len(suffix)
    return [prefix + ids[i : i + room] + suffix for i in range(0, len(ids), room)]
  whole = prefix + ids + suffix  # a decoder reads on: the end is marked once
  return [whole[i : i + length] for i in range(0, len(whole), length)]


def _write(
  folder: pathlib.Path, texts: Iterable[str], tokenizer, options, key: str
) -> None:
  """Encodes all texts into shards, lengths and a description."""
  dtype = np.uint16 if tokenizer.vocabulary_size <= 2**16 else np.int32
  framed = (len(tokenizer.prefix) + len(tokenizer.suffix)) if options['special'] else 0
  if options['max_length'] is not None and options['max_length'] <= framed:
    raise ValueError(
      f'max_length: {options["max_length"]} leaves no room beside {framed} special tokens'
    )
  counts = dict.fromkeys(
    ('documents', 'empty', 'truncated', 'split', 'pieces', 'tokens'), 0
  )
  lengths, index, shards, sizes = [], [], [], []
  file = None
  try:
    for first, batch in _batches(texts):
      for number, ids in enumerate(tokenizer.encode_batch(batch, special=False), first):
        counts['documents'] += 1
        if not ids and not options['keep_empty']:
          counts['empty'] += 1
          continue
        pieces = _pieces(ids, tokenizer, options)
        counts['split'] += len(pieces) > 1
        counts['truncated'] += sum(map(len, pieces)) < len(ids) + framed
        for piece in pieces:
          if file is None or sizes[-1] + len(piece) > SHARD:
            if file is not None:
              file.close()
            file = open(folder / f'tokens-{len(sizes):05d}.bin', 'wb')  # noqa: SIM115 - closed below
            sizes.append(0)
          file.write(np.asarray(piece, dtype).tobytes())
          lengths.append(len(piece))
          index.append(number)
          shards.append(len(sizes) - 1)
          sizes[-1] += len(piece)
  finally:
    if file is not None:
      file.close()
  counts['pieces'], counts['tokens'] = len(lengths), int(sum(sizes))
  for name, values in (('lengths', lengths), ('index', index), ('shards', shards)):
    np.save(folder / f'{name}.npy', np.array(values, np.int32), allow_pickle=False)
  description = {
    'key': key,
    'dtype': np.dtype(dtype).name,
    'sizes': sizes,
    'counts': counts,
    'options': options,
  }
  (folder / 'description.json').write_text(
    json.dumps(description, indent=1, sort_keys=True) + '\n'
  )


def _batches(texts: Iterable[str]):
  """(number of the first text, texts) in batches."""
  batch, first = [], 0
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
  lengths, index, shards = (
    np.load(folder / f'{name}.npy', allow_pickle=False)
    for name in ('lengths', 'index', 'shards')
  )
  starts = np.cumsum(lengths, dtype=np.int64) - lengths
  before = np.concatenate([[0], np.cumsum(description['sizes'])]).astype(np.int64)
  files = tuple(
    np.memmap(folder / f'tokens-{i:05d}.bin', description['dtype'], 'r')
    if size
    else np.zeros(0, np.int32)
    for i, size in enumerate(description['sizes'])
  )
  return Tokens(
    folder,
    lengths,
    index,
    shards,
    starts - before[shards] if len(shards) else starts,
    files,
    description['counts'],
    description['key'],
  )
