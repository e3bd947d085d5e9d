"""Words and their tags in rows of files."""

import numpy as np
import pytest

from tl_jax.data import files, texts, words


@pytest.mark.parametrize(
  ('row', 'fields'),
  [
    (dict(tokens=['a'], ner_tags=[1], pos_tags=[2]), ('tokens', 'ner_tags')),
    (dict(words=['a'], tags=['O'], ner_tags=[1]), ('words', 'tags')),
    (dict(tokens=['a']), ('tokens', '')),
    (dict(tokens='a b', tags='X Y'), None),
    (dict(text='a'), None),
  ],
)
def test_fields_are_found_by_their_names(row, fields):
  assert words.fields_of(row) == fields


def test_said_fields_are_read():
  row = dict(form=['a', 'b'], upos=['X', 'Y'], tokens=['c'])
  assert words.fields_of(row, 'form', 'upos') == ('form', 'upos')
  found, tags = words.read(row, 'form', 'upos')
  assert found.words == ('a', 'b') and tags == ['X', 'Y']


def test_a_sentence_knows_where_its_words_stand():
  found = words.Words(['New York', 'is', 'ü'])
  assert [found[first:end] for first, end in found.spans] == list(found.words)
  assert isinstance(found.spans, np.ndarray) and words.Words(()).spans.shape == (0, 2)


@pytest.mark.parametrize(
  ('row', 'complaint'),
  [
    (dict(tokens=['a', 'b'], tags=['O']), 'tags: 1 tags for 2 words'),
    (dict(tokens=['a', ' '], tags=['O', 'O']), "tokens: ' ' among the words is none"),
    (dict(tokens=['a', 3], tags=['O', 'O']), 'tokens: 3 among the words is none'),
    (dict(tokens=7, tags=['O']), "tokens: '7' is no list of words"),
    (dict(tokens=['a'], tags=[1.5]), 'tags: .* is no list of tags'),
    (dict(tokens=['a'], tags=[True]), 'tags: .* is no list of tags'),
  ],
)
def test_what_is_no_sentence_is_named(row, complaint):
  with pytest.raises(ValueError, match=complaint):
    words.read(row, 'tokens', 'tags')


def test_texts_are_parted_by_white_space():
  found, tags = words.read(dict(tokens='a  b', tags='X Y'), 'tokens', 'tags')
  assert found.words == ('a', 'b') and tags == ['X', 'Y']
  assert words.read(dict(tokens='a'), 'tokens', 'tags')[1] is None


def test_asked_words_come_from_files_of_any_form(tmp_path):
  wanted = [('It', 'rains'), ('Sun',)]
  contents = {
    'a.conll': 'It O\nrains O\n\nSun O\n',
    'a.tsv': 'It\tO\nrains\tO\n\nSun\tO\n',
    'lines.txt': 'It rains\nSun\n',
    'words.txt': 'It O\nrains O\n\nSun O\n',
    'a.jsonl': '{"tokens": ["It", "rains"]}\n{"tokens": ["Sun"], "tags": ["O", "O"]}\n',
    'b.jsonl': '{"text": "It rains"}\n{"text": "Sun"}\n',
  }
  for name, content in contents.items():
    (tmp_path / name).write_text(content)
    found = texts.read_words(tmp_path / name)
    assert [each.words for each in found] == wanted, name


def test_names_of_numbered_tags_stand_beside_the_file(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"tokens": ["Ann", "sings"], "ner_tags": [1, 0]}\n')
  columns = files.Columns(('tokens',), ('ner_tags',), labelled=True, tagged=True)
  assert files.read(path, columns).classes == {}
  (tmp_path / 'labels.txt').write_text('O\nB-PER\n')
  files._parse_kept.cache_clear()
  assert files.read(path, columns).classes == {'label': ('O', 'B-PER')}


def test_names_of_numbered_tags_are_in_the_features_of_parquet(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import parquet

  inner = '{"names": ["O", "B-PER"], "_type": "ClassLabel"}'
  features = [
    f'{{"feature": {inner}, "_type": "Sequence"}}',
    f'[{inner}]',
  ]
  for place, feature in enumerate(features):
    table = pyarrow.table(dict(tokens=[['Ann', 'sings']], ner_tags=[[1, 0]]))
    said = f'{{"info": {{"features": {{"ner_tags": {feature}}}}}}}'
    table = table.replace_schema_metadata({'huggingface': said})
    path = tmp_path / f'{place}.parquet'
    parquet.write_table(table, path)
    columns = files.Columns(('tokens',), ('ner_tags',), labelled=True, tagged=True)
    found = files.read(path, columns)
    assert found.classes == {'label': ('O', 'B-PER')}
    assert found.examples[0]['label'] == [1, 0]
