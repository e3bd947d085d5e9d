"""Clients of registries: what they are asked, and what is made of their answers."""

import shutil
import subprocess

import pytest
import tiny_packages

from tl_jax import files
from tl_jax.data.fetch import archives, packages
from tl_jax.data.fetch.packages import FetchError, Package


@pytest.fixture
def offered(tmp_path, monkeypatch):
  return tiny_packages.clients(tmp_path, monkeypatch)


@pytest.fixture
def room(tmp_path):
  (tmp_path / 'room').mkdir()
  return tmp_path / 'room'


def script(offered, name, text):
  (offered.parent / 'programs' / name).write_text(f'#!/bin/sh\n{text}\n')


def deb(folder, files, version='2:1.0-1'):
  """A .deb file with these files, made as Debian makes them."""
  if shutil.which('dpkg-deb') is None:
    pytest.skip('no dpkg-deb')
  tree = folder / 'tree'
  for name, content in files.items():
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_bytes(content)
  control = [
    'Package: tiny',
    f'Version: {version}',
    'Architecture: all',
    'Maintainer: None <none@example.com>',
    'Description: tiny',
  ]
  (tree / 'DEBIAN').mkdir()
  (tree / 'DEBIAN' / 'control').write_text('\n'.join(control) + '\n')
  path = folder / f'tiny_{version.replace(":", "%3a")}_all.deb'
  subprocess.run(['dpkg-deb', '--build', tree, path], check=True, capture_output=True)
  shutil.rmtree(tree)
  return path


def test_apt_works_in_a_folder_of_its_own(offered, room, tmp_path):
  (offered / 'lists' / 'a_Packages').write_text('Package: a\n')
  (offered / 'lists' / 'empty').write_text('')
  (found,) = packages.bring([Package('apt', packages.LISTS)], room)
  assert found.path.read_text() == 'Package: a\n'
  (call,) = (tmp_path / 'calls').read_text().splitlines()
  for name in ('Dir::State', 'Dir::State::Lists', 'Dir::State::status', 'Dir::Cache'):
    assert f'{name}={room}' in call
  assert 'Acquire::Languages=en update' in call


def test_a_deb_file_says_its_version(offered, room, tmp_path):
  path = deb(offered, {'usr/share/a.txt': b'text', 'usr/share/b.txt': b''})
  (found,) = packages.bring([Package('apt', 'tiny', '1.0-0', sha256='x')], room)
  # Another version than the one that was seen is as good: apt has verified it.
  assert found.package.version == '2:1.0-1'
  assert found.sha256 == files.digest(path)[1]
  inside = {name.lstrip('./'): data for name, data in archives.members(found.path)}
  assert inside == {'usr/share/a.txt': b'text', 'usr/share/b.txt': b''}
  assert 'Languages=none update' in (tmp_path / 'calls').read_text()


def test_a_known_version_must_have_the_known_content(offered, room):
  deb(offered, {'a.txt': b'text'})
  with pytest.raises(FetchError, match='the sha256 of what apt brought is'):
    list(packages.bring([Package('apt', 'tiny', '2:1.0-1', sha256='x')], room))


def test_the_reason_of_a_client_is_told(offered, room):
  complaint = 'npm error code E404\nnpm error no such package\nnpm error A complete log'
  script(offered, 'npm', f'echo "{complaint}" >&2; exit 1')
  with pytest.raises(FetchError) as caught:
    list(packages.bring([Package('npm', 'none', '1.0')], room))
  text = str(caught.value)
  assert text.startswith('none 1.0: npm could not bring it: npm error code E404 / npm')
  assert '\n' not in text and 'log' not in text


def test_lists_that_could_not_be_had_are_no_lists(offered, room):
  # apt-get update ends well where a source does not answer.
  script(offered, 'apt-get', 'echo "W: Failed to fetch InRelease" >&2')
  with pytest.raises(FetchError, match='package lists: apt-get could not .*Failed'):
    list(packages.bring([Package('apt', packages.LISTS)], room))


def test_a_client_that_brings_nothing_is_not_believed(offered, room):
  script(offered, 'npm', 'true')
  with pytest.raises(FetchError, match='ended well and brought no file'):
    list(packages.bring([Package('npm', 'none', '1.0')], room))
