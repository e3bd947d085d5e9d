"""Descriptions of Debian packages: the synopsis, the long text, and the section.

>>> parse_description('Play chess\\n A game for two.\\n .\\n  * fast\\n  * small')
('Play chess', 'A game for two.\\n\\n* fast\\n* small')
"""

import collections
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tl_jax.config import ConfigError
from tl_jax.data import subsets
from tl_jax.data.fetch.fetched import TEXT, FetchedSet, Record
from tl_jax.data.fetch.packages import LISTS, Brought, Package

# Parts of a source package that are described by what they are a part of.
_PART = re.compile(r'-(dev|doc|dbg|dbgsym|common|data|utils|tools|bin|examples)$|^lib')
_ITEM = re.compile(r'[-*+o] ')
# The file of a list: what all lists of a suite begin with, and which of them it is.
_NAME = re.compile(r'(.*_dists_[^_]+)_(.*)')


class Binary(NamedTuple):
  """A binary package: what its own entry and that of its description say."""

  name: str
  source: str
  section: str
  synopsis: str
  text: str


def read(brought: Iterable[Brought]) -> Iterator[Record]:
  """One description for each source package of Debian main; none comes twice.

  Other packages of a source describe themselves in like words. Raises ConfigError where
  apt's sources on this machine are those of another archive.
  """
  lists = {file.path.name: file.path for file in brought}
  by_source: dict[str, Binary] = {}
  for suite in _suites(lists):
    for binary in _binaries(lists, suite):
      other = by_source.get(binary.source)
      if other is None or _rank(binary) < _rank(other):
        by_source[binary.source] = binary
  seen = set()
  for source, binary in sorted(by_source.items()):
    words = subsets.fingerprint(binary.text)
    if words in seen:
      continue
    seen.add(words)
    example = {
      'id': binary.name,
      'source': source,
      'section': binary.section,
      'synopsis': binary.synopsis,
      'text': binary.text,
    }
    yield Record(binary.name, source, example)


def _suites(lists: dict) -> list[str]:
  """What the names of the lists of Debian's own suites begin with.

  A suite is read itself; updates to it describe what it has already.
  """
  found = []
  for name, path in sorted(lists.items()):
    match = _NAME.fullmatch(name)
    if not match or match.group(2) not in ('InRelease', 'Release'):
      continue
    text = path.read_text(encoding='utf-8', errors='replace')
    is_debian = re.search(r'^Label: Debian$', text, re.M)
    is_update = re.search(r'^Suite: \S+-\S+$', text, re.M)
    if is_debian and not is_update:
      found.append(match.group(1))
  if not found:
    raise ConfigError('no source of apt on this machine is a suite of Debian')
  return found


def _binaries(lists: dict, suite: str) -> Iterator[Binary]:
  """The described packages of one suite's free software."""
  texts = {}
  # The address of a mirror may hold any character.
  suite = re.escape(suite)
  for entry in _entries(lists, rf'{suite}_main_i18n_Translation-en'):
    texts[entry['Package'], entry['Description-md5']] = entry['Description-en']
  for entry in _entries(lists, rf'{suite}_main_binary-[^_]+_Packages'):
    name = entry['Package']
    described = texts.get((name, entry['Description-md5']))
    if described is None:
      continue
    synopsis, text = parse_description(described)
    # Some have nothing to say that the synopsis has not, and some are but a pointer to
    # the package that took their place.
    if not synopsis or not text or 'transitional' in synopsis.lower():
      continue
    # The version of a source may stand behind its name.
    source = (entry['Source'] or name).split()[0]
    yield Binary(name, source, entry['Section'], synopsis, text)


def _entries(lists: dict, pattern: str) -> Iterator[dict[str, str]]:
  """The entries of the lists of a pattern of names; '' for a field that is not there.

  The further lines of a field begin with a space.
  """
  for name, path in sorted(lists.items()):
    if not re.fullmatch(pattern, name):
      continue
    for entry in path.read_text(encoding='utf-8').split('\n\n'):
      fields = collections.defaultdict(str)
      for field in re.split(r'\n(?! )', entry):
        key, _, value = field.partition(':')
        fields[key] = value.strip()
      yield fields


def parse_description(field: str) -> tuple[str, str]:
  """(synopsis, text) of a description as the archive has it.

  A line of the text begins with a space, an empty one is a full stop, and further
  spaces are of a list or a table. The lines of a paragraph or of an item are joined.
  """
  synopsis, *lines = field.split('\n')
  found = ['']
  in_list = False
  for line in lines:
    content = line.strip()
    begins_item = _ITEM.match(content) is not None
    is_set = line.startswith('  ')
    if content == '.':
      found += ['', '']
      in_list = False
    elif begins_item or (is_set and not in_list):
      found.append(content)
      in_list = begins_item
    else:
      found[-1] = f'{found[-1]} {content}'.strip()
  text = re.sub(r'\n{3,}', '\n\n', '\n'.join(found))
  return synopsis.strip(), text.strip()


def _rank(binary: Binary) -> tuple:
  """The least has the description that stands for its source."""
  own = binary.name == binary.source
  return not own, bool(_PART.search(binary.name)), binary.name


DEBIAN_FULL = FetchedSet(
  name='debian_full',
  purpose='33,900 descriptions of Debian packages, with synopsis and section',
  packages=(Package(client='apt', name=LISTS, size=15_800_000),),
  licence='free software: each description under the terms of its package',
  fields={'id': TEXT, 'source': TEXT, 'section': TEXT, 'synopsis': TEXT, 'text': TEXT},
  read=read,
)
