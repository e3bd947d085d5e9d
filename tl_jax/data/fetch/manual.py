"""Paragraphs of the LibreOffice help in two languages, aligned by their ids.

>>> page = '<p id="par_id1">Choose <span class="menuitem">File - Save</span>.</p>'
>>> paragraphs(page)
{'par_id1': 'Choose File > Save.'}
"""

import html.parser
import re
from collections.abc import Callable, Iterable, Iterator

from tl_jax.data import subsets
from tl_jax.data.fetch import archives
from tl_jax.data.fetch.fetched import TEXT, FetchedSet, Record
from tl_jax.data.fetch.packages import Brought, Package

# The fewest and the most words of a paragraph, in either language.
WORDS = (4, 60)
# A paragraph this many times as long as its translation says something else.
RATIO = 2.5
# Elements whose text is a way through menus, and the dash between its stations: each
# language, and each translator, writes another one.
_MENUS = ('menuitem', 'emph')
_STATION = re.compile(r'\s+[-\u2010-\u2015]\s+|\s*\u25b8\s*')
# What a reader does not see, or sees on another system only.
_HIDDEN = ('MAC', 'UNIX', 'WIN')
# Elements without an end.
_VOID = ('area', 'br', 'col', 'hr', 'img', 'input', 'link', 'meta', 'wbr')
_PAGE = re.compile(r'.*/help/[^/]+/text/(.*\.html)')


class _Page(html.parser.HTMLParser):
  """Collects the text of the paragraphs that have an id."""

  def __init__(self):
    super().__init__()
    self.found: dict[str, list[str]] = {}
    # The id of the paragraph that is open, and the open elements in it: whether each
    # is hidden, and whether it is a way through menus.
    self._id = ''
    self._inside: list[tuple[bool, bool]] = []

  def handle_starttag(self, tag, attrs):
    given = dict(attrs)
    identifier = given.get('id') or ''
    if tag == 'p' and identifier.startswith('par_'):
      self._id = identifier
      self._inside = []
      # An id that comes twice is of a part which two pages share; the first one counts.
      if identifier in self.found or given.get('class') == 'code':
        self._id = ''
      else:
        self.found[identifier] = []
    elif self._id and tag not in _VOID:
      classes = set((given.get('class') or '').split())
      is_hidden = not classes.isdisjoint(_HIDDEN)
      is_menu = not classes.isdisjoint(_MENUS)
      self._inside.append((is_hidden, is_menu))

  def handle_endtag(self, tag):
    if tag == 'p':
      self._id = ''
    elif self._inside and tag not in _VOID:
      self._inside.pop()

  def handle_data(self, data):
    if not self._id or any(hidden for hidden, _ in self._inside):
      return
    if any(menu for _, menu in self._inside):
      data = _STATION.sub(' > ', data)
    self.found[self._id].append(data)


def paragraphs(page: str) -> dict[str, str]:
  """The text of every paragraph of a page, by its id."""
  reader = _Page()
  reader.feed(page)
  reader.close()
  found = {}
  for name, parts in reader.found.items():
    # Lines of a page may break anywhere.
    words = ''.join(parts).split()
    found[name] = ' '.join(words)
  return found


def reader(language: str) -> Callable[[Iterable[Brought]], Iterator[Record]]:
  """Reads the help packages of English and of `language`, in this order.

  All paragraphs of a page are on the same side. A paragraph whose English came before
  is left out, and so is one that is no pair with its translation.
  """

  def read(brought: Iterable[Brought]) -> Iterator[Record]:
    english, other = (_pages(file) for file in brought)
    seen = set()
    for page, texts in sorted(english.items()):
      translated = other.get(page, {})
      for identifier, text in texts.items():
        translation = translated.get(identifier, '')
        words = subsets.fingerprint(text)
        if words in seen or not _is_pair(text, translation):
          continue
        seen.add(words)
        key = f'{page}#{identifier}'
        yield Record(key, page, {'id': key, 'en': text, language: translation})

  return read


def _pages(file: Brought) -> dict[str, dict[str, str]]:
  """The paragraphs of every page of a package, by the path below its language."""
  found = {}
  for name, content in archives.members(file.path):
    page = _PAGE.fullmatch(name)
    if page:
      found[page.group(1)] = paragraphs(content.decode('utf-8'))
  return found


def _is_pair(text: str, translation: str) -> bool:
  """Are these a paragraph and its translation, of the lengths that are wanted?

  The two have as many ways through menus, and they are not the same text.
  """
  fewest, most = WORDS
  for each in (text, translation):
    if not fewest <= len(each.split()) <= most:
      return False
    # What looks like a way through menus and is not marked as one may be a dash as well.
    if _STATION.search(each):
      return False
  if text.count(' > ') != translation.count(' > '):
    return False
  shorter, longer = sorted([len(text), len(translation)])
  if longer > RATIO * shorter:
    return False
  return subsets.fingerprint(text) != subsets.fingerprint(translation)


def _help(language: str, title: str, size: int, sha256: str) -> FetchedSet:
  """The set of English and another language."""
  version = '4:7.4.7-1+deb12u14'
  english = '8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712'
  return FetchedSet(
    name=f'help_en_{language}',
    purpose=f'paragraphs of the LibreOffice help in English and {title}',
    packages=(
      Package('apt', 'libreoffice-help-en-us', version, 1_753_504, english),
      Package('apt', f'libreoffice-help-{language}', version, size, sha256),
    ),
    licence='MPL 2.0',
    fields={'id': TEXT, 'en': TEXT, language: TEXT},
    read=reader(language),
  )


HELP_EN_DE = _help(
  'de',
  'German',
  3_293_908,
  '00490b63c509ac96f7f212d6a6e40452d3e0d1f97ccf4b824dd5ec4c01e8277f',
)
HELP_EN_FR = _help(
  'fr',
  'French',
  3_237_008,
  'c796530d3e95af1ea4d054076682efc8aad2b569ae9513f3d4a776b2df3fd206',
)
HELP_EN_IT = _help(
  'it',
  'Italian',
  3_183_388,
  '7fa29342a302bb495981fdabf98f3a9c3628123f3f191b2a5c95cb583c9ff212',
)
