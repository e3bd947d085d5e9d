"""What a set is that is fetched: its packages, its terms, its fields, and its reader.

>>> FetchedSet('notes', 'notes of nobody', (), 'CC0', {'text': TEXT}, read=iter).size
0
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from tl_jax.data import subsets
from tl_jax.data.fetch.packages import Brought, Package

# The kinds of a field, beside a tuple of class names: a text, and a list of texts.
TEXT = 'text'
TEXTS = 'texts'


class Record(NamedTuple):
  """An example of a set, under a key of its own.

  group: what decides its split. Examples of one group are on the same side. given: the
  split where the publisher of the set says it.
  """

  key: str
  group: str
  example: dict[str, Any]
  given: str = ''

  @property
  def split(self) -> str:
    """`train` or `test`."""
    if self.given:
      return self.given
    return 'test' if subsets.in_test(self.group) else 'train'


@dataclasses.dataclass(frozen=True)
class FetchedSet:
  """A set that a registry's client brings and that is prepared on this machine.

  purpose: what is in it, in a line. licence: its terms, in a line. fields: the kind of
  each field of an example. read(brought) gives the records of the brought files.
  revision: of `read`; another one is prepared in another folder.
  """

  name: str
  purpose: str
  packages: tuple[Package, ...]
  licence: str
  fields: dict[str, str | tuple[str, ...]]
  read: Callable[[Iterable[Brought]], Iterator[Record]]
  revision: int = 1

  @property
  def size(self) -> int:
    """Bytes that are downloaded, or were when this was written."""
    return sum(package.size for package in self.packages)
