"""Documents written in files: lines of JSON, packed, or Parquet.

>>> import tempfile
>>> shards = Shards(pathlib.Path(tempfile.mkdtemp()), size=2, output='jsonl')
>>> for number in range(3):
...   shards.add(dict(id=f'a:{number}', source='a', text='One.'))
>>> {name: said['documents'] for name, said in shards.close().items()}
{'part-00000.jsonl.gz': 2, 'part-00001.jsonl.gz': 1}
"""

import gzip
import io
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tl_jax import files

Document = dict[str, str]


class Format(NamedTuple):
  """How the name of a file ends, and what makes its content; equal for equal documents."""

  ending: str
  content: Callable[[Sequence[Document]], bytes]


def _jsonl(documents: Sequence[Document]) -> bytes:
  """A line of JSON for each document, packed."""
  lines = [json.dumps(document, ensure_ascii=False) + '\n' for document in documents]
  content = io.BytesIO()
  # Without the time of day, which would make equal files differ.
  with gzip.GzipFile(fileobj=content, mode='wb', mtime=0, compresslevel=6) as file:
    file.write(''.join(lines).encode('utf-8', 'replace'))
  return content.getvalue()


def _parquet(documents: Sequence[Document]) -> bytes:
  """A row for each document, columns packed with zstd."""
  # Inside: most runs write lines.
  import pyarrow
  from pyarrow import parquet

  columns: dict[str, list[bytes]] = {}
  for name in documents[0]:
    # Half of a surrogate pair is no text in UTF-8.
    values = [document[name].encode('utf-8', 'replace') for document in documents]
    columns[name] = values
  schema = pyarrow.schema([(name, pyarrow.binary()) for name in columns])
  table = pyarrow.table(columns, schema)
  texts = pyarrow.schema([(name, pyarrow.string()) for name in columns])
  content = io.BytesIO()
  parquet.write_table(table.cast(texts), content, compression='zstd')
  return content.getvalue()


FORMATS = dict(
  jsonl=Format('jsonl.gz', _jsonl),
  parquet=Format('parquet', _parquet),
)


class Shards:
  """Files of so many documents below a folder, the same for the same documents."""

  def __init__(self, folder: pathlib.Path, size: int, output: str):
    self.folder = folder
    self._size = size
    self._format = FORMATS[output]
    self._documents: list[Document] = []
    self._written: dict[str, dict[str, Any]] = {}

  def add(self, document: Document) -> None:
    """Adds a document; a full file is written."""
    self._documents.append(document)
    if len(self._documents) == self._size:
      self._write()

  def close(self) -> dict[str, dict[str, Any]]:
    """Writes the last file; returns the documents and the sha256 of each by its name."""
    if self._documents:
      self._write()
    return self._written

  def _write(self) -> None:
    name = f'part-{len(self._written):05d}.{self._format.ending}'
    self.folder.mkdir(parents=True, exist_ok=True)
    path = self.folder / name
    files.write_atomically(path, self._format.content(self._documents))
    _, checksum = files.digest(path)
    self._written[name] = dict(documents=len(self._documents), sha256=checksum)
    self._documents = []
