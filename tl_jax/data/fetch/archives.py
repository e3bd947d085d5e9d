"""The files inside of packages, read one after the other without unpacking them.

>>> import io, tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'a.tgz'
>>> with tarfile.open(path, 'w:gz') as archive:
...   archive.addfile(tarfile.TarInfo('package/empty.txt'))
>>> list(members(path))
[('package/empty.txt', b'')]
"""

import contextlib
import pathlib
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator


def members(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
  """(name, content) of every regular file in a .tgz, .deb or .whl file, in its order."""
  # Nothing is written under a name that stands in an archive.
  if path.suffix == '.whl':
    with zipfile.ZipFile(path) as archive:
      for name in archive.namelist():
        yield name, archive.read(name)
    return
  with _opened(path) as archive:
    for member in archive:
      file = archive.extractfile(member) if member.isreg() else None
      if file is not None:
        yield member.name, file.read()


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[tarfile.TarFile]:
  """The tar file that a package is, or has inside."""
  if path.suffix != '.deb':
    with tarfile.open(path) as archive:
      yield archive
    return
  # dpkg-deb knows all compressions of its format, and is wherever apt-get is.
  command = ['dpkg-deb', '--fsys-tarfile', path]
  with (
    subprocess.Popen(command, stdout=subprocess.PIPE) as process,
    tarfile.open(fileobj=process.stdout, mode='r|') as archive,
  ):
    yield archive
    # The end of a tar file is padded; whoever writes it must not find a closed pipe.
    process.stdout.read()
