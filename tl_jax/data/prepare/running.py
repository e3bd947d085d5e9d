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
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tl_jax import config as configs
from tl_jax import files
from tl_jax.config import ConfigError
from tl_jax.data.folders import DOCUMENTS, MANIFEST
from tl_jax.data.prepare import (
  choosing,
  chunking,
  decontamination,
  executing,
  reading,
)
from tl_jax.data.prepare.account import Account
from tl_jax.data.prepare.chunking import Chunk
from tl_jax.data.prepare.perplexity import Scorer
from tl_jax.data.prepare.settings import Corpus
from tl_jax.data.prepare.shards import Shards

# Of what chunks depend on besides the config: another number when a rule changes.
VERSION = 4
_RULES = 'the rules'
_CHUNKS = 'chunks'
# Reasons that are named where no document stays.
_NAMED = 3
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

  What is there already of the same config, texts and model is not made again; that of
  others is left as it is. Whoever `corpus.execution` says filters; what Slurm is to
  filter is submitted before.

  scorer: the model of `corpus.perplexity`, where one is named.
  Raises ConfigError for a source or a scorer that is not there, for a folder that has
  something else, and where no document stays; ValueError for what cannot be read.
  """
  require(corpus, folder)
  wanted = corpus.perplexity.model or corpus.perplexity.reference
  if wanted and scorer is None:
    raise ConfigError(f'perplexity: {wanted}: nobody opened it; scorer=... does')
  inputs = _inputs(corpus, scorer)
  key = _key(corpus, inputs)
  known = _known(folder, key, inputs)
  if known is not None:
    # It may have been killed behind its manifest.
    shutil.rmtree(folder / _CHUNKS, ignore_errors=True)
    tell(f'{folder}: is there already')
    return known
  chunks = _chunks(corpus, folder / _CHUNKS / key, tell)
  fates = choosing.fates_of(corpus, chunks, scorer, tell)
  _require_left(chunks, fates)
  made = folder / _CHUNKS / DOCUMENTS
  said = _written(corpus, made, chunks, fates)
  manifest = dict(key=key, inputs=inputs, config=corpus.described(), **said)
  content = files.encode(manifest, indent=1) + '\n'
  # A corpus is there as a whole or not at all.
  files.purge(folder / DOCUMENTS)
  made.rename(folder / DOCUMENTS)
  files.write_atomically(folder / MANIFEST, content.encode())
  count = len(manifest['files'])
  tell(f'{manifest["kept"]:,} documents in {count} files: {folder / DOCUMENTS}')
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
  require(corpus, folder)
  inputs = _inputs(corpus, scorer)
  key = _key(corpus, inputs)
  chunks = folder / _CHUNKS / key
  if _known(folder, key, inputs) or chunking.chunks_of(corpus, chunks) is not None:
    return []
  return executing.submit(corpus, chunks, folder / _JOBS, command)


def _known(
  folder: pathlib.Path, key: str, inputs: Mapping[str, str]
) -> dict[str, Any] | None:
  """The manifest of a corpus with this key whose files are all there, None for none.

  Raises ConfigError where the corpus there was made of something else.
  """
  found = files.find_json(folder / MANIFEST)
  if found is None:
    return None
  if found['key'] == key:
    return found if _is_whole(folder, found) else None
  before = found.get('inputs', {})
  changed = [name for name in before if before[name] != inputs.get(name)]
  raise ConfigError(
    f'{folder / MANIFEST}: the corpus there was made before a change of '
    f'{", ".join(changed) or _RULES}; take another workdir'
  )


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
    path = folder / DOCUMENTS / name
    if not path.is_file() or files.digest(path)[1] != said['sha256']:
      return False
  return True


def require(corpus: Corpus, folder: pathlib.Path) -> None:
  """Raises ConfigError for what would end the work later: who cannot filter, a folder
  that has something else, a source that is not there or has no text.
  """
  executing.require(corpus.execution)
  _require_own(corpus, folder)
  for key, source in _named(corpus).items():
    reading.require(key, source, corpus.column, corpus.directory)
  for place, source in enumerate(corpus.evaluation):
    texts = reading.documents(source, corpus.column, corpus.directory)
    if not any(decontamination.runs_of([text]) for _, text in texts):
      raise ConfigError(
        f'config.evaluation[{place}]: {source}: no text has '
        f'{decontamination.SHORTEST} words, and fewer are found anywhere'
      )


def _require_own(corpus: Corpus, folder: pathlib.Path) -> None:
  """Raises ConfigError for a folder with another corpus, or with files of others."""
  path = folder / MANIFEST
  if not path.exists():
    # The chunks of a run that was killed are beside what it has written.
    if (folder / DOCUMENTS).exists() and not (folder / _CHUNKS).exists():
      raise ConfigError(
        f'{folder / DOCUMENTS}: nothing says that it was prepared by this config; take '
        'another workdir'
      )
    return
  found = files.find_json(path) or {}
  if not {'key', 'config', 'files'} <= found.keys():
    raise ConfigError(f'{path}: not that of a corpus; take another workdir')
  usual = Corpus(corpus.sources).described()
  where = f'{path}: the corpus there has another config'
  configs.require_same(found['config'], corpus.described(), where, usual=usual)


def _named(corpus: Corpus) -> dict[str, str]:
  """All sources of texts by the keys of the config that name them."""
  named = {f'sources.{name}': source for name, source in corpus.sources.items()}
  for place, source in enumerate(corpus.evaluation):
    named[f'evaluation[{place}]'] = source
  named['classifier.good'] = corpus.classifier.good
  named['perplexity.reference'] = corpus.perplexity.reference
  named['selection.target'] = corpus.selection.target
  return {key: source for key, source in named.items() if source}


def _inputs(corpus: Corpus, scorer: Scorer | None) -> dict[str, str]:
  """What changes with the content of each source, of the model and of the rules."""
  found = {}
  for key, source in _named(corpus).items():
    found[f'config.{key}'] = reading.digest(source, corpus.directory)
  if scorer is not None:
    found['config.perplexity'] = scorer.digest
  # An earlier version of the rules is another one.
  found[_RULES] = str(VERSION)
  return found


def _key(corpus: Corpus, inputs: Mapping[str, str]) -> str:
  """A digest of the config and of all that is read."""
  return configs.digest([corpus.described(), inputs])[:16]


def _require_left(chunks: Sequence[Chunk], fates: Sequence[str]) -> None:
  """Raises ConfigError where no document stays, with what took most of them."""
  if not all(fates):
    return
  removed = Counter(fates)
  for chunk in chunks:
    removed.update(chunk.read().removed)
  count = removed.total()
  reasons = [f'{reason} ({number:,})' for reason, number in removed.most_common(_NAMED)]
  raise ConfigError(
    f'no document of {count:,} stays; most were left out by {", ".join(reasons)}; '
    'config.steps and the groups of the config say by what they are judged'
  )


def _written(
  corpus: Corpus,
  folder: pathlib.Path,
  chunks: list[Chunk],
  fates: list[str],
) -> dict[str, Any]:
  """Writes what stays into a folder, and returns what there is to say of it."""
  # A run that was killed may have left some of it.
  files.purge(folder)
  account = Account(corpus)
  shards = Shards(folder, corpus.shard, corpus.output)
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
  return dict(files=written, **account.said())
