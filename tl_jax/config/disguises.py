"""What a file is by its first bytes, where it is not what its name says.

>>> looks_like(b'version https://git-lfs.github.com/spec/v1')
'a Git LFS pointer; `git lfs pull` puts the file itself in its place'
>>> looks_like(b'Entry not found')
"a text file that begins with 'Entry not found'"
>>> looks_like(bytes(8))
''
"""

import codecs
import os

# So many bytes of a file tell what it is.
START_BYTES = 512
# What stands in the place of a file, whatever the file should be.
_POINTER = 'a Git LFS pointer; `git lfs pull` puts the file itself in its place'
_PAGE = 'an HTML page, as servers send in place of a file; download the file again'
# Formats by the bytes that each begins with.
_FORMATS = (
  (b'GGUF', 'a GGUF file'),
  (b'\x89HDF', 'an HDF5 file'),
  (b'\x1f\x8b', 'a gzip archive'),
  # A pickle begins with its protocol; torch packs it in a zip file.
  (b'\x80', 'a pickle, refused because opening it can run code'),
  (
    b'PK\3\4',
    'a zip archive, as torch packs a pickle in, refused because it can run code',
  ),
)


def stands_in(start: bytes) -> str:
  """What stands in the place of a file, by its first bytes; '' for a file itself."""
  if start.startswith(b'version https://git-lfs'):
    return _POINTER
  # Servers may put a byte-order mark or empty lines before the page.
  text = start.removeprefix(b'\xef\xbb\xbf').lstrip().lower()
  if text.startswith((b'<!doctype html', b'<html')):
    return _PAGE
  return ''


def require_content(path: str | os.PathLike, start: bytes) -> None:
  """Raises ValueError for a file that is a Git LFS pointer or an HTML page."""
  found = stands_in(start)
  if found:
    raise ValueError(f'{path}: {found}')


def looks_like(start: bytes) -> str:
  """What a file is by its first bytes, in words; '' where they do not tell."""
  if not start:
    return 'an empty file'
  found = stands_in(start)
  if found:
    return found
  for begin, name in _FORMATS:
    if start.startswith(begin):
      return name
  # What is cut within its last character is text all the same.
  reader = codecs.getincrementaldecoder('utf-8-sig')()
  try:
    text = reader.decode(start[:START_BYTES])
  except UnicodeDecodeError:
    return ''
  line = text.lstrip().partition('\n')[0].rstrip()
  if not line.isprintable() or not line:
    return ''
  return f'a text file that begins with {line[:40]!r}'


def not_json(content: bytes, reason) -> str:
  """What to say of a file that is not JSON, for a parser's `reason`."""
  # What begins as JSON does is JSON with a mistake, which the reason places.
  begins = content.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
  found = '' if begins in (b'{', b'[') else looks_like(content[:START_BYTES])
  return f'not JSON, but {found}' if found else f'not JSON: {reason}'
