"""Equal files of two steps are one on the disk, and neither run can notice."""

import os

import numpy as np
import pytest

from tl_jax.checkpoint import Store, share_files


def make(folder, head):
  store = Store(folder)
  state = dict(base=np.arange(50_000.0), head=np.full(50_000, head), small=np.zeros(3))
  store.save(7, state)
  store.wait()
  return store


def inode(store, leaf):
  return os.stat(store.directory / '7' / 'arrays' / leaf / '0').st_ino


@pytest.fixture
def shared(tmp_path):
  """Two stores whose steps share what is equal, and what was known of them."""
  known = {}
  stores = [make(tmp_path / name, head) for name, head in (('one', 1.0), ('two', 2.0))]
  saved = [share_files(store.directory / '7', known) for store in stores]
  assert saved == [0, 400_000]
  return *stores, known


def test_equal_files_are_one_and_others_are_not(shared):
  one, two, known = shared
  assert inode(one, 'base') == inode(two, 'base') and inode(one, 'head') != inode(
    two, 'head'
  )
  assert one.verify(7) == two.verify(7) == []
  assert sorted(path.name for path in two.directory.iterdir()) == ['7']
  # once more: nothing is lost
  assert share_files(two.directory / '7', known) == 400_000
  assert two.restore(7, dict(head=np.zeros(50_000)))['head'][0] == 2.0


def test_deleting_a_step_leaves_the_other_whole(shared):
  one, two, _ = shared
  one.keep = 1
  one.save(8, dict(x=np.zeros(1)))
  one.wait()
  assert one.steps() == [8]
  assert (
    two.verify(7) == []
    and two.restore(7, dict(base=np.zeros(50_000)))['base'][-1] == 49_999
  )


def test_a_damaged_or_missing_file_is_not_taken(tmp_path):
  for damage in (
    lambda path: path.write_bytes(bytes(path.stat().st_size)),
    lambda path: path.unlink(),
  ):
    known = {}
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    one, two = make(folder / 'one', 1.0), make(folder / 'two', 2.0)
    share_files(one.directory / '7', known)
    damage(one.directory / '7' / 'arrays' / 'base' / '0')
    assert share_files(two.directory / '7', known) == 0
    assert two.verify(7) == []
    # The next one takes the good file.
    three = make(folder / 'three', 3.0)
    assert share_files(three.directory / '7', known) == 400_000
    assert inode(two, 'base') == inode(three, 'base')


def test_a_file_system_without_links_keeps_copies(tmp_path, monkeypatch):
  def refuse(*_):
    raise OSError(1, 'not permitted')

  monkeypatch.setattr(os, 'link', refuse)
  known = {}
  stores = [make(tmp_path / name, 1.0) for name in ('one', 'two')]
  assert [share_files(store.directory / '7', known) for store in stores] == [0, 0]
  assert stores[1].verify(7) == []
