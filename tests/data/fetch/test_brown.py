"""Passages of the Brown corpus: words, tags, and the text that they are of."""

from tiny_packages import write_tar

from tl_jax.data.fetch import brown
from tl_jax.data.fetch.packages import Brought

SENTENCE = "\tThe/at jury/nn (/( of/in 1/2/cd )/) said/vbd ``/`` no/rb ''/'' ?/. ?/.\n"


def test_passages_have_a_tag_for_every_token(tmp_path):
  files = {'package/CONTENTS': b'A01. A paper', 'package/cats.txt': b'ca01 news'}
  for name in ('ca01', 'cr09'):
    # Ten tokens each: the first passage is full with six sentences.
    files[f'package/{name}'] = ('\n\n' + SENTENCE * 11).encode()
  path = write_tar(tmp_path / 'a.tgz', files)
  found = list(brown.read([Brought(brown.BROWN.packages[0], path, '')]))
  assert [record.key for record in found] == ['ca01/0', 'ca01/1', 'cr09/0', 'cr09/1']
  first = found[0].example
  assert (first['label'], found[3].example['label']) == ('reportage', 'humor')
  assert len(first['tokens']) == len(first['tags']) == 66
  assert first['tags'][:11] == [
    'at',
    'nn',
    '(',
    'in',
    'cd',
    ')',
    'vbd',
    '``',
    'rb',
    "''",
    '.',
  ]
  assert first['text'].startswith('The jury (of 1/2) said "no"? The jury')
  assert found[0].group == found[1].group == 'ca01'
