"""The chunks of a corpus: files of documents that were filtered together.

>>> parts = [Part('a', number, f'{number}.jsonl') for number in range(2)]
>>> [(part.path, place, of) for part, place, of in share(parts, rank=2, tasks=3)]
[('0.jsonl', 1, 2)]

Every chunk is a file below a folder, which is there or is not, and it is the same
whoever filters it: so any number of tasks share the work, at once or one after the
other, and a task that was killed leaves nothing to undo.
"""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tl_jax import files
from tl_jax.data.prepare import decontamination, reading
from tl_jax.data.prepare.decontamination import Runs
from tl_jax.data.prepare.filtering import Filtered, filtered
from tl_jax.data.prepare.settings import Corpus


class Chunk(NamedTuple):
  """A chunk that is kept on disk: of which source it is, and its file."""

  source: str
  path: pathlib.Path

  def read(self) -> Filtered:
    return Filtered.from_bytes(self.path.read_bytes())


class Part(NamedTuple):
  """A file of a source, or the whole of one that has no files of rows.

  number: of the part within the source.
  """

  source: str
  number: int
  path: str

  def chunk(self, folder: pathlib.Path, number: int) -> Chunk:
    """The chunk of this number below a folder."""
    name = f'{self.source}-{self.number:05d}-{number:06d}.npz'
    return Chunk(self.source, folder / name)

  def chunks(self, folder: pathlib.Path) -> list[Chunk] | None:
    """All chunks in order, None where one of them is not there yet."""
    path = self.count_path(folder)
    if not path.exists():
      return None
    found = [self.chunk(folder, number) for number in range(int(path.read_text()))]
    is_there = all(chunk.path.exists() for chunk in found)
    return found if is_there else None

  def count_path(self, folder: pathlib.Path) -> pathlib.Path:
    """The file that says how many chunks there are."""
    return folder / f'{self.source}-{self.number:05d}.count'


def parts_of(corpus: Corpus) -> list[Part]:
  """The parts of all sources, in order."""
  found = []
  for name, source in corpus.sources.items():
    for number, path in enumerate(reading.parts(source)):
      found.append(Part(name, number, path))
  return found


def share(
  parts: Sequence[Part], rank: int, tasks: int
) -> Iterator[tuple[Part, int, int]]:
  """(part, place, readers) of what one of so many tasks does.

  Of each part it filters every chunk whose number leaves `place` when it is divided by
  `readers`. Each part is read by one task, unless there are more tasks than parts.
  """
  # Tasks of one group share the same parts.
  groups = min(len(parts), tasks)
  group = rank % groups
  readers = len(range(group, tasks, groups))
  for part in parts[group::groups]:
    yield part, rank // groups, readers


def filter_share(
  corpus: Corpus,
  folder: pathlib.Path,
  rank: int,
  tasks: int,
  done: Callable[[int], None],
) -> None:
  """Filters what one of so many tasks does, and leaves what is there as it is.

  done: is told of how many documents each chunk was.
  """
  folder.mkdir(parents=True, exist_ok=True)
  known = _evaluation_runs(corpus)
  for part, place, readers in share(parts_of(corpus), rank, tasks):
    if part.chunks(folder) is None:
      _filter_part(corpus, folder, part, known, place, readers, done)


def _filter_part(
  corpus: Corpus,
  folder: pathlib.Path,
  part: Part,
  known: Runs,
  place: int,
  readers: int,
  done: Callable[[int], None],
) -> None:
  documents = reading.documents(part.path, corpus.column, corpus.directory)
  count = 0
  for number, some in enumerate(reading.chunks(documents, corpus.chunk)):
    count = number + 1
    path = part.chunk(folder, number).path
    if number % readers == place and not path.exists():
      content = filtered(corpus, some, known).to_bytes()
      files.write_atomically(path, content)
      done(len(some))
  # Each of its readers comes to the same number.
  files.write_atomically(part.count_path(folder), str(count).encode())


def _evaluation_runs(corpus: Corpus) -> Runs:
  texts = []
  for name in corpus.evaluation:
    texts += reading.texts(name, corpus.column, corpus.directory)
  return decontamination.runs_of(texts)


def chunks_of(corpus: Corpus, folder: pathlib.Path) -> list[Chunk] | None:
  """The chunks of all sources in order, None where one is not there yet."""
  found: list[Chunk] = []
  for part in parts_of(corpus):
    own = part.chunks(folder)
    if own is None:
      return None
    found += own
  return found
