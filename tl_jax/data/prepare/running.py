"""A corpus prepared: filtered chunk by chunk, without duplicates, written in shards.

>>> import tempfile
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> _ = (folder / 'a.txt').write_text('One.\\nTwo.\\nOne.\\n')
>>> corpus = Corpus({'a': str(folder / 'a.txt')}, steps=('exact',))
>>> found = prepare(corpus, folder / 'out')
>>> found['kept'], found['removed']
(2, {'exact': 1})

Every chunk is a file under a key of all that it depends on, which is there or is not. So
a run that was killed goes on with the chunk that it was at, and ends with the same bytes.
"""

import dataclasses
import gzip
import io
import json
import pathlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tl_jax import config as configs
from tl_jax import files
from tl_jax.data.prepare import batch as batches
from tl_jax.data.prepare import (
  decontamination,
  duplicates,
  perplexity,
  reading,
  statistics,
  weighing,
)
from tl_jax.data.prepare.decontamination import Runs
from tl_jax.data.prepare.filtering import SHOWN, Filtered, filtered
from tl_jax.data.prepare.perplexity import Scorer
from tl_jax.data.prepare.settings import Corpus
from tl_jax.data.prepare.statistics import Statistics, overlap

# Of what chunks depend on besides the config: another number when a rule changes.
VERSION = 1
MANIFEST = 'manifest.json'
SHARDS = 'corpus'
_CHUNKS = 'chunks'
# Of so many chunks it is told how far the work has come.
_TOLD = 10


class Chunk(NamedTuple):
  """A chunk that is kept on disk: of which source it is, and its file."""

  source: str
  path: pathlib.Path

  def read(self) -> Filtered:
    return Filtered.from_bytes(self.path.read_bytes())


def ignore(told: str) -> None:
  """Nobody is told."""


def prepare(
  corpus: Corpus,
  folder: pathlib.Path,
  tell: Callable[[str], None] = ignore,
  scorer: Scorer | None = None,
) -> dict[str, Any]:
  """Prepares a corpus below a folder; returns what its manifest holds.

  What is there already of the same config, texts and model is not made again.

  scorer: the model of `corpus.perplexity`, where one is named.
  Raises ConfigError for a source or a scorer that is not there, and ValueError for what
  cannot be read.
  """
  require(corpus)
  wanted = corpus.perplexity.model or corpus.perplexity.reference
  if wanted and scorer is None:
    raise configs.ConfigError(
      f'perplexity: {wanted}: nobody opened it; scorer=... does'
    )
  key = _key(corpus, scorer)
  known = files.find_json(folder / MANIFEST) or {}
  if known.get('key') == key and _is_whole(folder, known):
    # It may have been killed behind its manifest.
    shutil.rmtree(folder / _CHUNKS, ignore_errors=True)
    tell(f'{folder}: is there already')
    return known
  chunks = list(_chunks(corpus, folder / _CHUNKS / key, tell))
  fates = _fates(corpus, chunks, scorer, tell)
  # From now on the files are no longer those of an earlier corpus.
  (folder / MANIFEST).unlink(missing_ok=True)
  manifest = _written(corpus, folder, key, chunks, fates, tell)
  content = files.encode(manifest, indent=1) + '\n'
  # Last: a folder with a manifest is whole.
  files.write_atomically(folder / MANIFEST, content.encode())
  shutil.rmtree(folder / _CHUNKS, ignore_errors=True)
  return manifest


def _is_whole(folder: pathlib.Path, manifest: Mapping[str, Any]) -> bool:
  """Are all files of a corpus there, as they were written?"""
  for name, said in manifest['files'].items():
    path = folder / SHARDS / name
    if not path.is_file() or files.digest(path)[1] != said['sha256']:
      return False
  return True


def require(corpus: Corpus) -> None:
  """Raises ConfigError for sources that are not there."""
  named = {f'sources.{name}': source for name, source in corpus.sources.items()}
  for place, source in enumerate(corpus.evaluation):
    named[f'evaluation[{place}]'] = source
  named['classifier.good'] = corpus.classifier.good
  named['perplexity.reference'] = corpus.perplexity.reference
  named['selection.target'] = corpus.selection.target
  for name, source in named.items():
    if source:
      reading.require(name, source, corpus.directory)


def _key(corpus: Corpus, scorer: Scorer | None) -> str:
  """A digest of the config, of all texts and of the model that scores them."""
  named = [
    *corpus.sources.values(),
    *corpus.evaluation,
    corpus.classifier.good,
    corpus.selection.target,
  ]
  sums = [reading.digest(name, corpus.directory) for name in named if name]
  model = '' if scorer is None else scorer.digest
  return configs.digest([VERSION, dataclasses.asdict(corpus), sums, model])[:16]


def _chunks(corpus: Corpus, folder: pathlib.Path, tell: Callable) -> Iterator[Chunk]:
  """Every chunk, filtered now or by an earlier run."""
  folder.mkdir(parents=True, exist_ok=True)
  known = _evaluation_runs(corpus)
  for name, source in corpus.sources.items():
    found = reading.documents(source, corpus.column, corpus.directory)
    for number, documents in enumerate(reading.chunks(found, corpus.chunk)):
      path = folder / f'{name}-{number:06d}.npz'
      if not path.exists():
        content = filtered(corpus, documents, known).to_bytes()
        files.write_atomically(path, content)
        if (number + 1) % _TOLD == 0:
          tell(f'{name}: {(number + 1) * corpus.chunk:,} documents filtered')
      yield Chunk(name, path)


def _evaluation_runs(corpus: Corpus) -> Runs:
  texts = []
  for name in corpus.evaluation:
    texts += reading.texts(name, corpus.column, corpus.directory)
  return decontamination.runs_of(texts)


def _fates(
  corpus: Corpus, chunks: list[Chunk], scorer: Scorer | None, tell: Callable
) -> list[str]:
  """Why each document that the rules left is left out after all, '' where it stays.

  That are the steps that look at all documents together.
  """
  # Of every document a few bytes, so that millions fit into memory.
  prints = []
  keys = []
  for chunk in chunks:
    found = chunk.read()
    prints += [row.tobytes() for row in found.fingerprints]
    keys.append(found.keys)
  fates = [''] * len(prints)
  if 'exact' in corpus.steps:
    _mark_again(fates, prints)
  if 'near' in corpus.steps and prints:
    _mark_near(fates, np.concatenate(keys))
  tell(f'{len(prints):,} documents compared, {sum(map(bool, fates)):,} are there twice')
  if corpus.classifier.good or scorer is not None or corpus.selection.target:
    # These steps have all texts in memory.
    texts = [text for chunk in chunks for text in chunk.read().texts]
    _mark_by_quality(fates, texts, corpus)
    if scorer is not None and chunks:
      folder = chunks[0].path.parent
      _mark_by_perplexity(fates, texts, corpus, scorer, folder, tell)
    _mark_by_target(fates, texts, corpus)
  return fates


def _mark_again(fates: list[str], prints: list[bytes]) -> None:
  """Leaves out what stood before, but for case and white space."""
  seen = set()
  for place, own in enumerate(prints):
    if own in seen:
      fates[place] = 'exact'
    seen.add(own)


def _mark_near(fates: list[str], keys: np.ndarray) -> None:
  """Leaves out all but the first document of those that are nearly the same."""
  # What is out already is the first of no cluster.
  left = np.flatnonzero([not fate for fate in fates])
  firsts = duplicates.clusters(keys[left])
  for place in left[firsts != np.arange(len(left))]:
    fates[place] = 'near'


def _mark_by_quality(fates: list[str], texts: list[str], corpus: Corpus) -> None:
  """Leaves out what a classifier takes for worse than good texts."""
  if not corpus.classifier.good:
    return
  left, own = _left(fates, texts)
  good = reading.texts(corpus.classifier.good, corpus.column, corpus.directory)
  scores = weighing.scores_of(own, good, corpus.seed)
  stays = weighing.kept_by(scores, corpus.classifier.alpha, corpus.seed)
  _mark(fates, left[~stays], 'classifier')


def _mark_by_perplexity(
  fates: list[str],
  texts: list[str],
  corpus: Corpus,
  scorer: Scorer,
  folder: pathlib.Path,
  tell: Callable,
) -> None:
  """Leaves out what a model finds too likely or too unlikely."""
  left, own = _left(fates, texts)
  scores = perplexity.remembered(own, scorer, folder, corpus.chunk, tell)
  rule = corpus.perplexity
  reasons = perplexity.reasons_of(scores, rule.keep, rule.share)
  for place, reason in zip(left, reasons, strict=True):
    fates[place] = reason


def _mark_by_target(fates: list[str], texts: list[str], corpus: Corpus) -> None:
  """Leaves out what is less like a target's texts."""
  if not corpus.selection.target:
    return
  left, own = _left(fates, texts)
  target = reading.texts(corpus.selection.target, corpus.column, corpus.directory)
  weights = weighing.weights_of(own, target)
  stays = weighing.chosen_by(weights, corpus.selection.share, corpus.seed)
  _mark(fates, left[~stays], 'selection')


def _left(fates: list[str], texts: list[str]) -> tuple[np.ndarray, list[str]]:
  left = np.flatnonzero([not fate for fate in fates])
  return left, [texts[place] for place in left]


def _mark(fates: list[str], places: np.ndarray, reason: str) -> None:
  for place in places:
    fates[place] = reason


def _written(
  corpus: Corpus,
  folder: pathlib.Path,
  key: str,
  chunks: list[Chunk],
  fates: list[str],
  tell: Callable,
) -> dict[str, Any]:
  """Writes what stays, and returns what there is to say of it."""
  account = Account(corpus)
  shards = Shards(folder / SHARDS, corpus.shard)
  start = 0
  for chunk in chunks:
    found = chunk.read()
    own = fates[start : start + len(found.texts)]
    start += len(found.texts)
    account.add(chunk.source, found, own)
    for place, text, fate in zip(found.places, found.texts, own, strict=True):
      if not fate:
        shards.add(dict(id=place, source=chunk.source, text=text))
  written = shards.close()
  said = account.said()
  tell(f'{said["kept"]:,} documents in {len(written)} files: {shards.folder}')
  return dict(key=key, config=dataclasses.asdict(corpus), files=written, **said)


class Account:
  """What happened to the documents of every source."""

  def __init__(self, corpus: Corpus):
    self._most = corpus.examples
    self._removed: Counter = Counter()
    self._examples: dict[str, list] = {}
    self._before = dict.fromkeys(corpus.sources, Statistics())
    self._after = dict.fromkeys(corpus.sources, Statistics())

  def add(self, source: str, found: Filtered, fates: list[str]) -> None:
    """Counts a chunk, whose documents have these fates."""
    self._removed.update(found.removed)
    for reason, rows in found.examples.items():
      self._show(reason, rows)
    for place, text, fate in zip(found.places, found.texts, fates, strict=True):
      if fate:
        self._removed[fate] += 1
        self._show(fate, [(place, text[:SHOWN])])
    self._before[source] += found.before
    kept = [text for text, fate in zip(found.texts, fates, strict=True) if not fate]
    # Most chunks lose some documents to the last steps.
    is_whole = len(kept) == len(found.texts)
    after = found.after if is_whole else statistics.of(batches.of(kept))
    self._after[source] += after

  def _show(self, reason: str, rows) -> None:
    own = self._examples.setdefault(reason, [])
    own += rows[: self._most - len(own)]

  def said(self) -> dict[str, Any]:
    """What a manifest has of it."""
    names = list(self._before)
    shared = []
    for number, one in enumerate(names):
      for other in names[number + 1 :]:
        share = overlap(self._before[one], self._before[other])
        shared.append(dict(one=one, other=other, share=share))
    return dict(
      kept=sum(found.documents for found in self._after.values()),
      removed=dict(sorted(self._removed.items())),
      examples=dict(sorted(self._examples.items())),
      before={name: found.shown() for name, found in self._before.items()},
      after={name: found.shown() for name, found in self._after.items()},
      overlap=shared,
    )


class Shards:
  """Files of documents, a line of JSON each, packed; the same for the same documents."""

  def __init__(self, folder: pathlib.Path, size: int):
    self.folder = folder
    self._size = size
    self._lines: list[str] = []
    self._written: dict[str, dict[str, Any]] = {}

  def add(self, document: dict[str, str]) -> None:
    """Adds a document; a full file is written."""
    self._lines.append(json.dumps(document, ensure_ascii=False) + '\n')
    if len(self._lines) == self._size:
      self._write()

  def close(self) -> dict[str, dict[str, Any]]:
    """Writes the last file; returns the documents and the sha256 of each by its name."""
    if self._lines:
      self._write()
    # An earlier run of another config may have had more of them, and one that was killed
    # may have left a part of one.
    for path in sorted(self.folder.glob('*part-*')):
      if path.name not in self._written:
        path.unlink()
    return self._written

  def _write(self) -> None:
    name = f'part-{len(self._written):05d}.jsonl.gz'
    content = io.BytesIO()
    # Without the time of day, which would make equal files differ.
    with gzip.GzipFile(fileobj=content, mode='wb', mtime=0, compresslevel=6) as file:
      file.write(''.join(self._lines).encode('utf-8', 'replace'))
    self.folder.mkdir(parents=True, exist_ok=True)
    path = self.folder / name
    files.write_atomically(path, content.getvalue())
    _, checksum = files.digest(path)
    self._written[name] = dict(documents=len(self._lines), sha256=checksum)
    self._lines = []
