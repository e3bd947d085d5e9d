"""Descriptions of packages: which stands for a source, and how one reads."""

import pytest

from tl_jax.config import ConfigError
from tl_jax.data.fetch import debian
from tl_jax.data.fetch.packages import Brought

RELEASE = 'Origin: Debian\nLabel: Debian\nSuite: oldstable\nVersion: 12.15\n'
ENTRY = """Package: {name}
{source}Version: 1.0
Depends: other (>= 1),
 another
Description: {synopsis}
Description-md5: {md5}
Section: games
"""
TEXT = """Package: {name}
Description-md5: {md5}
Description-en: {synopsis}
 {text}
 goes on here.
 .
 The end.
"""


def lists(path, packages, suite='mirror+https_debian_dists_bookworm', release=RELEASE):
  """Files of a suite's lists, as apt names them; a package is (name, source, text)."""
  entries = []
  texts = []
  for number, (name, source, text) in enumerate(packages):
    facts = dict(name=name, md5=number, synopsis=f'The {name}', text=text)
    facts['source'] = f'Source: {source}\n' if source else ''
    entries.append(ENTRY.format(**facts))
    texts.append(TEXT.format(**facts))
  files = {
    f'{suite}_InRelease': release,
    f'{suite}_main_binary-amd64_Packages': '\n'.join(entries),
    f'{suite}_main_i18n_Translation-en': '\n'.join(texts),
  }
  package = debian.DEBIAN_FULL.packages[0]
  for name, content in files.items():
    (path / name).write_text(content)
    yield Brought(package, path / name, '')


def test_one_package_stands_for_its_source(tmp_path):
  packages = [
    ('chess-data', 'chess (1.0-2)', 'Data of it'),
    ('chess', '', 'A game'),
    ('libgo1', 'go', 'A library'),
    ('go-server', 'go', 'A server'),
    ('copy-of-chess', '', 'A game'),
    ('transitional-server', '', 'Moved'),
  ]
  found = {record.key: record for record in debian.read(lists(tmp_path, packages))}
  # What says the same in other words alone is left out.
  assert sorted(found) == ['chess', 'go-server']
  assert found['go-server'].group == 'go'
  assert found['chess'].example == {
    'id': 'chess',
    'source': 'chess',
    'section': 'games',
    'synopsis': 'The chess',
    'text': 'A game goes on here.\n\nThe end.',
  }


def test_lists_of_updates_and_of_others_are_not_read(tmp_path):
  files = [*lists(tmp_path, [('chess', '', 'A game')])]
  update = RELEASE.replace('oldstable', 'oldstable-updates')
  files += lists(tmp_path, [('new', '', 'Newer')], 'a_dists_bookworm-updates', update)
  other = RELEASE.replace('Label: Debian', 'Label: Vendor')
  files += lists(tmp_path, [('tool', '', 'A tool')], 'b_dists_main', other)
  assert [record.key for record in debian.read(files)] == ['chess']
  with pytest.raises(ConfigError, match='no source of apt .* is a suite of Debian'):
    list(debian.read(files[-3:]))


def test_items_of_a_list_keep_their_lines():
  field = (
    'Words\n It has\n  * one thing\n    that is long\n  * another\n .\n Done:\n   f(x)'
  )
  assert debian.parse_description(field) == (
    'Words',
    'It has\n* one thing that is long\n* another\n\nDone:\nf(x)',
  )
