"""Fetched sets: brought, verified, and prepared as sets of tensorflow-datasets.

>>> import tempfile
>>> is_here('spam', tempfile.mkdtemp())
False
"""

import contextlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from tl_jax import files
from tl_jax.config import ConfigError, lookup
from tl_jax.data import store
from tl_jax.data.fetch import packages
from tl_jax.data.fetch.fetched import TEXT, TEXTS, FetchedSet, Record
from tl_jax.data.fetch.sets import SETS

# How a prepared folder says what it was made of.
ORIGIN = 'origin.json'
VERSION = '1.0.0'
# What tells a person what is being done, and for how long.
Busy = Callable[[str], AbstractContextManager]


def find(name: str) -> FetchedSet:
  """The set of a name. Raises ConfigError with the nearest names."""
  return lookup(SETS, name, 'data fetch')


def folder_of(name: str, directory=None) -> pathlib.Path:
  """Where a set is, or would be."""
  found = SETS[name]
  # Another package, or another reading of it, is another set.
  made_of = [[each.client, each.spec, each.sha256] for each in found.packages]
  fields = sorted((field, kind) for field, kind in found.fields.items())
  key = store.digest(found.revision, made_of, fields)[:12]
  root = pathlib.Path(directory) if directory else store.cache_root()
  return root / f'{name}-{key}'


def is_here(name: str, directory=None) -> bool:
  """Has this set been fetched?"""
  return (folder_of(name, directory) / store.MANIFEST).is_file()


def command(name: str, directory=None) -> str:
  """The command that fetches a set."""
  where = f' --directory={directory}' if directory else ''
  return f'tl-jax data fetch {name}{where}'


def require_here(name: str, directory=None) -> None:
  """Raises ConfigError that says how to get a set which was not fetched."""
  if not is_here(name, directory):
    raise ConfigError(
      f'data: {name!r} is not on this machine; {command(name, directory)} brings it '
      f'({megabytes(SETS[name].size)})'
    )


def megabytes(size: int) -> str:
  """A number of bytes as a person reads it."""
  return f'{size / 1e6:.1f} MB'


def fetch(name: str, directory=None, busy: Busy = contextlib.nullcontext) -> dict:
  """Brings and prepares a set, and returns how many examples each split has.

  A set that is here is not brought again, unless a file of it is damaged. It may be
  killed at any time and run again: a set is there as a whole or not at all. Raises
  ConfigError where a client is missing, and FetchError where it brings nothing or
  something else.
  """
  found = find(name)
  folder = folder_of(name, directory)

  def write(temporary: pathlib.Path) -> None:
    # What is killed here is cleared away with the folder.
    downloads = temporary / 'packages'
    downloads.mkdir()
    brought = []
    coming = packages.bring(found.packages, downloads)
    with busy(f'{name}: bringing {megabytes(found.size)}'):
      brought.extend(coming)
    with busy(f'{name}: preparing'):
      _prepare(found, brought, temporary)
    shutil.rmtree(downloads)

  if not _is_whole(folder):
    otherwise = f'or copy the folder {folder} from a machine where it was fetched'
    packages.require_clients(found.packages, otherwise)
  store.commit(folder, write)
  return counts(name, directory)


def _is_whole(folder: pathlib.Path) -> bool:
  """Is a prepared set there, and no file of it damaged?"""
  return folder.is_dir() and not store.damage(folder, store.CHECKED)


def _prepare(found: FetchedSet, brought: list, folder: pathlib.Path) -> None:
  """Writes the examples as array_record files, and what they were made of."""
  import tensorflow_datasets as tfds

  records = sorted(found.read(brought))
  # A package that is another one inside than it was must not become an empty set.
  if not {record.split for record in records} >= {'train', 'test'}:
    names = ', '.join(file.path.name for file in brought)
    raise packages.FetchError(f'{found.name}: no examples were found in {names}')
  tfds.disable_progress_bar()
  # tfds announces itself on stdout, which belongs to the caller.
  with contextlib.redirect_stdout(io.StringIO()):
    make_builder = _builder_class(found, records)
    builder = make_builder(data_dir=str(folder), file_format='array_record')
    builder.download_and_prepare()
  made_of = {'licence': found.licence, 'files': list(map(_file_entry, brought))}
  text = json.dumps(made_of, indent=1) + '\n'
  (folder / ORIGIN).write_text(text, encoding='utf-8')


def _file_entry(file: packages.Brought) -> dict[str, str]:
  """What is remembered of a file that a client brought."""
  return {
    'client': file.package.client,
    'package': file.package.name,
    'version': file.package.version,
    'file': file.path.name,
    'sha256': file.sha256,
  }


def _builder_class(found: FetchedSet, records: Iterable[Record]):
  """The tfds builder of a set whose examples are at hand."""
  import tensorflow_datasets as tfds

  by_split: dict[str, list[Record]] = {'train': [], 'test': []}
  for record in records:
    by_split[record.split].append(record)

  # Not registered: whoever reads a prepared set needs its folder only.
  class Fetched(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set that is made of packages."""

    name = found.name
    VERSION = tfds.core.Version(VERSION)

    def _info(self):
      features = {field: _feature(kind) for field, kind in found.fields.items()}
      return tfds.core.DatasetInfo(
        builder=self,
        description=found.purpose,
        features=tfds.features.FeaturesDict(features),
        license=found.licence,
      )

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples(split) for split in by_split}

    def _generate_examples(self, split):
      for record in by_split[split]:
        yield record.key, record.example

  return Fetched


def _feature(kind: str | tuple[str, ...]):
  """The tfds feature of a kind of field."""
  from tensorflow_datasets import features

  if kind == TEXT:
    return features.Text()
  if kind == TEXTS:
    return features.Sequence(features.Text())
  return features.ClassLabel(names=list(kind))


def open_builder(name: str, directory=None):
  """(tfds builder, key of its content) of a set that was fetched.

  Raises ConfigError of one line where it was not, and where a file of it is damaged.
  """
  require_here(name, directory)
  folder = folder_of(name, directory)
  broken = store.damage(folder, store.CHECKED)
  if broken:
    raise ConfigError(
      f'data: {name!r}: the file {folder / broken} is damaged; '
      f'{command(name, directory)} brings the set again'
    )
  import tensorflow_datasets as tfds

  builder = tfds.builder_from_directory(os.fspath(folder / name / VERSION))
  # The same command on two days may bring two releases of an archive.
  key = store.digest(folder.name, files.digest(folder / ORIGIN)[1])[:12]
  return builder, key


def counts(name: str, directory=None) -> dict[str, int]:
  """How many examples each split of a fetched set has."""
  builder, _ = open_builder(name, directory)
  return {split: info.num_examples for split, info in builder.info.splits.items()}


def origin(name: str, directory=None) -> dict:
  """What a fetched set was made of: its licence, and its files with their checksums."""
  text = (folder_of(name, directory) / ORIGIN).read_text(encoding='utf-8')
  return json.loads(text)
