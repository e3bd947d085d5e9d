"""Documents are the same whatever the form of the files that they are written in."""

import pytest

from tl_jax import data
from tl_jax.data.prepare.shards import FORMATS, Shards

DOCUMENTS = [
  dict(id='a:1', source='a', text='One.\nTwo "quoted".'),
  dict(id='a:2', source='a', text='Grüße, 你好, \U0001f600'),
  dict(id='b:1', source='b', text='half of a pair: \ud83d'),
]


def written(folder, output, size=2):
  shards = Shards(folder, size, output)
  for document in DOCUMENTS:
    shards.add(document)
  return shards.close()


@pytest.mark.parametrize('output', FORMATS)
def test_what_is_written_is_read_again(tmp_path, output):
  said = written(tmp_path / 'corpus', output)
  assert [file['documents'] for file in said.values()] == [2, 1]
  found = data.load(str(tmp_path / 'corpus'), 'all')
  texts = [example['text'] for example in found]
  assert texts == [*(one['text'] for one in DOCUMENTS[:2]), 'half of a pair: ?']


@pytest.mark.parametrize('output', FORMATS)
def test_the_same_documents_make_the_same_bytes(tmp_path, output):
  assert written(tmp_path / 'one', output) == written(tmp_path / 'other', output)
