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

import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tl_jax import config as configs
from tl_jax import files
from tl_jax.data.prepare import choosing, chunking, executing, reading
from tl_jax.data.prepare.account import Account
from tl_jax.data.prepare.chunking import Chunk
from tl_jax.data.prepare.perplexity import Scorer
from tl_jax.data.prepare.settings import Corpus
from tl_jax.data.prepare.shards import Shards

# Of what chunks depend on besides the config: another number when a rule changes.
VERSION = 3
MANIFEST = 'manifest.json'
SHARDS = 'corpus'
_CHUNKS = 'chunks'
# What jobs of a cluster say.
_JOBS = 'jobs'


def ignore(told: str) -> None:
  """Nobody is told."""


def prepare(
  corpus: Corpus,
  folder: pathlib.Path,
  tell: Callable[[str], None] = ignore,
  scorer: Scorer | None = None,
) -> dict[str, Any]:
  """Prepares a corpus below a folder; returns what its manifest holds.

  What is there already of the same config, texts and model is not made again. Whoever
  `corpus.execution` says filters; what Slurm is to filter is submitted before.

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
  known = _known(folder, key)
  if known is not None:
    # It may have been killed behind its manifest.
    shutil.rmtree(folder / _CHUNKS, ignore_errors=True)
    tell(f'{folder}: is there already')
    return known
  chunks = _chunks(corpus, folder / _CHUNKS / key, tell)
  fates = choosing.fates_of(corpus, chunks, scorer, tell)
  # From now on the files are no longer those of an earlier corpus.
  (folder / MANIFEST).unlink(missing_ok=True)
  manifest = _written(corpus, folder, key, chunks, fates, tell)
  content = files.encode(manifest, indent=1) + '\n'
  # Last: a folder with a manifest is whole.
  files.write_atomically(folder / MANIFEST, content.encode())
  shutil.rmtree(folder / _CHUNKS, ignore_errors=True)
  return manifest


def submit(
  corpus: Corpus,
  folder: pathlib.Path,
  command: Sequence[str],
  scorer: Scorer | None = None,
) -> list[str]:
  """Has Slurm filter and then run a command that prepares the corpus.

  Returns the numbers of the jobs; none where everything is filtered already, so that
  `prepare` has nothing to wait for. Raises ConfigError as `prepare` does.
  """
  require(corpus)
  key = _key(corpus, scorer)
  chunks = folder / _CHUNKS / key
  if _known(folder, key) or chunking.chunks_of(corpus, chunks) is not None:
    return []
  return executing.submit(corpus, chunks, folder / _JOBS, command)


def _known(folder: pathlib.Path, key: str) -> dict[str, Any] | None:
  """The manifest of a corpus with this key whose files are all there, None for none."""
  found = files.find_json(folder / MANIFEST) or {}
  is_same = found.get('key') == key
  return found if is_same and _is_whole(folder, found) else None


def _chunks(
  corpus: Corpus, folder: pathlib.Path, tell: Callable[[str], None]
) -> list[Chunk]:
  """Every chunk, filtered now or by an earlier run."""
  found = chunking.chunks_of(corpus, folder)
  if found is None:
    executing.filter_all(corpus, folder, tell)
    found = chunking.chunks_of(corpus, folder)
  return found or []


def _is_whole(folder: pathlib.Path, manifest: Mapping[str, Any]) -> bool:
  """Are all files of a corpus there, as they were written?"""
  for name, said in manifest['files'].items():
    path = folder / SHARDS / name
    if not path.is_file() or files.digest(path)[1] != said['sha256']:
      return False
  return True


def require(corpus: Corpus) -> None:
  """Raises ConfigError for sources that are not there, and for who cannot filter."""
  executing.require(corpus.execution)
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
  return configs.digest([VERSION, corpus.described(), sums, model])[:16]


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
  shards = Shards(folder / SHARDS, corpus.shard, corpus.output)
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
  return dict(key=key, config=corpus.described(), files=written, **said)
