"""Text by name: embedded sets, public tensorflow-datasets, and files of the user.

All come in one random-access form.

>>> from tl_jax.data import sources
>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.jsonl'
>>> _ = path.write_text('{"text": "good", "label": 1, "split": "train"}\\n')
>>> sources.load(str(path), 'train')[0]['text']
'good'
"""

import dataclasses
import importlib
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax.config import near_paths, nearest

EMBEDDED = (
  'austen',
  'debian',
  'help_sample',
  'shakespeare',
  'vader_amazon',
  'vader_movie',
  'vader_nyt',
  'vader_tweets',
)
# Sets that `tl-jax data fetch` brings.
FETCHED = (
  'spam',
  'debian_full',
  'help_en_de',
  'help_en_fr',
  'help_en_it',
  'brown',
  'newsgroups',
)
# The sets of tensorflow-datasets that are known here. Builders that its import does not
# register stand with the module that has them.
PUBLIC = {
  'ag_news_subset': '',
  'aeslc': '',
  'imdb_reviews': '',
  'lm1b': '',
  'opus': '',
  'samsum': '',
  'para_crawl': '',
  'glue': 'text.glue',
  'c4': 'text.c4',
  'wikipedia': 'text.wikipedia',
  'wiki40b': 'text',
  'openbookqa': 'text',
  'cnn_dailymail': 'summarization.cnn_dailymail',
  'xsum': 'summarization.xsum',
  'gigaword': 'summarization.gigaword',
  'wmt14_translate': 'translate',
  'wmt16_translate': 'translate.wmt16',
  'squad': 'question_answering',
  'snli': 'text',
  'anli': 'text',
  'yelp_polarity_reviews': 'text',
  'amazon_us_reviews': 'structured',
  'piqa': 'text',
  'math_dataset': 'text',
  'tiny_shakespeare': 'text',
}
# Examples that are read together where all are wanted.
_BATCH = 1024
# A split with a range, as train[:10%].
_SPLIT = re.compile(r'\s*([\w.-]+)\s*(\[[^\]]*\])?\s*')


@dataclasses.dataclass(frozen=True)
class Source:
  """A split of a set as a random-access sequence of plain dicts.

  Their values are str, int, float, bool, arrays and lists. `manifest` names the
  content: equal manifests mean equal examples in equal order. `skipped` counts what was
  left out when the set was read, by reason. `classes` gives the names of the classes of
  each labelled field.

  A source of the user's own files says more. `files` has the sha256 of each by its
  path. `places` has the (file, line) of every example. `divided` is true where train
  and test were told apart by the hash of the texts. `others` are the other splits of
  the file. `told` is what was found out about the file, such as what parts its cells,
  in lines that a run prints at its start.
  """

  name: str
  split: str
  records: Any = dataclasses.field(repr=False)
  manifest: str = dataclasses.field(repr=False)
  skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)
  classes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  files: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
  places: Sequence[tuple] = dataclasses.field(default=(), repr=False)
  divided: bool = False
  others: Sequence[str] = ()
  told: Sequence[str] = ()

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index):
    """One example for an integer; a list of them for a slice or several integers."""
    if isinstance(index, slice):
      return self.gather(range(*index.indices(len(self))))
    if isinstance(index, (list, tuple, range, np.ndarray)):
      return self.gather(index)
    if not -len(self) <= index < len(self):
      raise IndexError(f'{self.name}: {index} is outside of {len(self)} examples')
    return self.gather([int(index) % len(self)])[0]

  def __iter__(self) -> Iterator[dict]:
    for start in range(0, len(self), _BATCH):
      yield from self[start : start + _BATCH]

  def gather(self, indices) -> list[dict]:
    """The examples at these indices, read together."""
    indices = [int(index) for index in indices]
    if not indices:
      return []
    # Sources of tfds read several records at once, in parallel.
    read = getattr(self.records, '__getitems__', None)
    found = read(indices) if read else [self.records[index] for index in indices]
    return [_plain(example) for example in found]

  def column(self, field: str) -> list:
    """One field of every example.

    Raises ValueError with the nearest names if there is no such field.
    """
    if len(self) and field not in self[0]:
      raise ValueError(
        f'{self.name}: no field {field!r}; nearest: {nearest(field, self[0])}'
      )
    return list(self.values(field))

  def values(self, field: str) -> Iterator:
    """One field of every example, one after the other.

    Of prepared sets nothing else is decoded where it is a text.
    """
    records = self.records
    decode = records.decoder(field) if isinstance(records, _Prepared) else None
    if decode is None:
      yield from (example[field] for example in self)
      return
    for start in range(0, len(self), _BATCH):
      stop = min(start + _BATCH, len(self))
      for record in records.read(range(start, stop)):
        yield _plain(decode(record))


def load(name: str, split: str = 'train', data_dir=None, columns=None) -> Source:
  """The examples of a split of a set or of a file.

  `name` is an embedded set (`vader_movie`: labelled texts; `vader_movie/rating`: all
  texts with ratings), a fetched one (`spam`) or a public tensorflow-datasets name
  (`glue/sst2`) prepared below `data_dir`, or a file or a folder as `files.load` reads
  them, with its `columns`. The files of GLUE and SuperGLUE as they are published may lie
  below `data_dir`, too, as `benchmarks` reads them.
  `split` is `train`, `test`, or a part such as `train[:10%]` or `train[100:200]`.
  Raises ValueError of one line for a set, a split or a line that cannot be read.
  """
  name = str(name)
  # An unknown name is refused before tensorflow-datasets is imported.
  require(name, data_dir)
  if _is_file(name):
    from tl_jax.data import files, large

    columns = columns or files.Columns()
    reader = large if large.is_large(name, columns) else files
    return reader.load(name, split, columns)
  base, _, config = name.partition('/')
  if base in EMBEDDED:
    return _embedded(name, base, config or None, split, data_dir)
  if name in FETCHED:
    from tl_jax.data import fetch, store

    builder, key = fetch.open_builder(name, data_dir)
    return _from_builder(name, builder, split, store.digest(key, split))
  from tl_jax.data import benchmarks

  if benchmarks.folder_of(name, _root(data_dir)):
    return benchmarks.load(name, split, _root(data_dir))
  return _public(name, base, split, data_dir)


def require(name: str, data_dir=None) -> None:
  """Raises ValueError of one line where no set and no file is of this name.

  Nor is there a set that has yet to be fetched. Nothing is opened.
  """
  name = str(name)
  if not name.strip():
    raise ValueError('a source without a name; give a set, a file or a folder')
  if _is_file(name):
    from tl_jax.data import files

    files.require(name)
    return
  if name in FETCHED:
    from tl_jax.data import fetch

    fetch.require_here(name, data_dir)
    return
  if _is_known(name):
    return
  if name.startswith('super_glue/'):
    _require_published(name, data_dir)
    return
  # Or a set that the user prepared with tensorflow-datasets, which no whole path names.
  if not os.path.isabs(name) and (_root(data_dir) / name).is_dir():
    return
  if os.path.isdir(name):
    from tl_jax.data import files

    files.require(name)
  near = [*near_paths(name), *EMBEDDED, *FETCHED, *PUBLIC]
  raise ValueError(
    f'no set, no file and no folder is named {name!r}; nearest: {nearest(name, near)}'
  )


def _require_published(name: str, data_dir) -> None:
  """Raises ValueError where the published files of a task are not here.

  tensorflow-datasets reads SuperGLUE by TensorFlow alone.
  """
  from tl_jax.data import benchmarks

  if benchmarks.set_of(name) and not benchmarks.folder_of(name, _root(data_dir)):
    raise ValueError(
      f'data: {name!r} is read from its published files; say {benchmarks.missing(name)}'
    )


def _is_file(name: str) -> bool:
  """Does a name mean a file or folder of the user, rather than a set?"""
  from tl_jax.data import files

  # A folder `glue` beside the user must not hide the set of that name; a file may.
  return os.path.isfile(name) or (not _is_known(name) and files.is_file(name))


def _is_known(name: str) -> bool:
  """Is this a set of this package or of the list of public ones, in any config?"""
  base = name.partition('/')[0]
  return base in EMBEDDED or base in PUBLIC or name in FETCHED


def _root(data_dir) -> pathlib.Path:
  """The folder below which sets are prepared."""
  from tl_jax.data import store

  return pathlib.Path(data_dir) if data_dir else store.cache_root()


def _embedded(name: str, base: str, config: str | None, split: str, data_dir) -> Source:
  """The source of a set of this package, of its first config where none is named."""
  from tl_jax.data import builders, store

  builder_class, _ = builders.EMBEDDED[base]
  configs = [each.name for each in builder_class.BUILDER_CONFIGS]
  if config is None and configs:
    config = configs[0]
  if config is not None and config not in configs:
    known = [f'{base}/{each}' for each in configs] or [base]
    raise ValueError(f'data: no set {name!r}; nearest: {nearest(name, known)}')
  builder, key = builders.prepare(base, config, _root(data_dir))
  return _from_builder(name, builder, split, store.digest(key, split))


def _public(name: str, base: str, split: str, data_dir) -> Source:
  """The source of a set of tensorflow-datasets that was prepared before."""
  from tl_jax.data import store

  try:
    builder = _public_builder(name, base, str(_root(data_dir)))
  except (ImportError, ValueError, RuntimeError, OSError) as error:
    raise ValueError(f'data: {name!r} cannot be opened: {_one_line(error)}') from error
  # Never prepared here: that would download, or start Apache Beam.
  if not builder.info.splits:
    from tl_jax.data import benchmarks

    published = ''
    if benchmarks.set_of(name):
      published = f'; its published files: {benchmarks.missing(name)}'
    raise ValueError(
      f'data: {name!r} is not prepared; it would be read from {builder.data_path}'
      f'{published}'
    )
  # The name has the version. Hashing gigabytes for the content would take minutes.
  sizes = {}
  for key, value in builder.info.splits.items():
    sizes[key] = [value.num_examples, list(value.shard_lengths or ())]
  manifest = store.digest(builder.info.full_name, split, sizes)
  return _from_builder(name, builder, split, manifest)


def _public_builder(name: str, base: str, root: str):
  """The tfds builder of a public set, or of one that the user prepared below `root`."""
  import tensorflow_datasets as tfds

  if base not in PUBLIC:
    return tfds.core.read_only_builder.builder_from_files(name, data_dir=root)
  # Importing the module registers its builders.
  if PUBLIC[base]:
    importlib.import_module(f'tensorflow_datasets.{PUBLIC[base]}')
  return tfds.builder(name, data_dir=root, file_format='array_record')


def _from_builder(name: str, builder, split: str, manifest: str) -> Source:
  """The Source of a prepared tfds builder.

  Raises ValueError that names the splits if there is no such split.
  """
  # tfds takes the same grammar, but says what is wrong in many lines.
  for part in split.split('+'):
    match = _SPLIT.fullmatch(part)
    if not match or match.group(1) not in builder.info.splits:
      wanted = match.group(1) if match else split
      there = ', '.join(sorted(builder.info.splits))
      raise ValueError(f'data: {name!r} has no split {wanted!r}; it has {there}')
  try:
    records = builder.as_data_source(split=split)
  except (ValueError, AssertionError, NotImplementedError, OSError) as error:
    raise ValueError(
      f'data: split {split!r} of {name!r} cannot be read: {_one_line(error)}'
    ) from error
  classes = _classes(builder.info.features)
  return Source(name, split, _Prepared(records), manifest, {}, classes)


@dataclasses.dataclass(frozen=True)
class _Prepared:
  """The records of a set that tfds has prepared, `records` as tfds reads them."""

  records: Any

  def __len__(self) -> int:
    return len(self.records)

  def __getitems__(self, indices) -> list[dict]:
    return self.records.__getitems__(indices)

  def read(self, indices) -> Sequence[bytes]:
    """The records at these indices, not decoded."""
    return self.records.data_source.__getitems__(list(indices))

  def decoder(self, field: str) -> Callable[[bytes], bytes] | None:
    """What decodes one field of a record that was read; None where it is no text.

    An example has all fields, of which some are much larger than their text.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.proto import tf_example_pb2

    info = self.records.dataset_info
    # The files of other formats hold no examples of this form.
    if info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
      return None
    feature = dict(info.features).get(field)
    # One with an encoder is a list of numbers.
    if type(feature) is not tfds.features.Text or feature.shape:
      return None
    read = tf_example_pb2.Example.FromString
    return lambda record: read(record).features.feature[field].bytes_list.value[0]


def _classes(features) -> dict[str, tuple[str, ...]]:
  """The class names of every labelled field of a tfds feature dict."""
  found = {}
  for name, feature in features.items():
    if getattr(feature, 'names', None):
      found[name] = tuple(feature.names)
  return found


def map_examples(source: Source, function: Callable[[dict], dict], key: str) -> Source:
  """The source with `function` applied to every example when it is read.

  `key` names the function in the manifest: another function needs another key.
  """
  from tl_jax.data import store

  records = _Mapped(source, function)
  manifest = store.digest(source.manifest, key)
  return dataclasses.replace(source, records=records, manifest=manifest)


@dataclasses.dataclass(frozen=True)
class _Mapped:
  """The records of a mapped source; nothing is computed before it is asked for."""

  source: Source
  function: Callable[[dict], dict]

  def __len__(self) -> int:
    return len(self.source)

  def __getitems__(self, indices) -> list[dict]:
    return [self.function(example) for example in self.source.gather(indices)]


def _plain(value):
  """The value with text as str and numbers as Python numbers, also inside of it."""
  if isinstance(value, bytes):
    return value.decode('utf-8', 'replace')
  if isinstance(value, dict):
    return {name: _plain(inner) for name, inner in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(inner) for inner in value]
  if isinstance(value, np.generic):
    return _plain(value.item())
  if isinstance(value, np.ndarray):
    return _plain_array(value)
  return value


def _plain_array(array: np.ndarray):
  """A scalar for an array without axes, a list for one of objects, else the array."""
  if array.ndim == 0:
    return _plain(array.item())
  # tfds gives several texts as an array of bytes objects.
  if array.dtype == object:
    return [_plain(inner) for inner in array.tolist()]
  return array


def _one_line(error: BaseException) -> str:
  """The message of a library's error in at most 200 characters of one line."""
  text = ' '.join(str(error).split())
  return text if len(text) <= 200 else text[:197] + '...'
