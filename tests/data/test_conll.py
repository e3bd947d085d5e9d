"""Files with a word on every line."""

import gzip

import pytest

from tl_jax.data import conll


def read(path, content):
  path.write_text(content)
  return list(conll.rows(path))


@pytest.mark.parametrize('between', [' ', '\t', '   '])
def test_columns_are_parted_by_tabs_or_spaces(tmp_path, between):
  content = f'EU{between}NNP{between}B-ORG\nis{between}VBZ{between}O\n'
  ((line, row),) = read(tmp_path / 'a.conll', content)
  assert line == 1
  assert row['tokens'] == ['EU', 'is'] and row['tags'] == ['B-ORG', 'O']
  assert row['2'] == ['NNP', 'VBZ'] and row['3'] == row['tags']


def test_documents_and_empty_lines_end_sentences(tmp_path):
  content = '-DOCSTART- -X- O\n\n\nEU O\n \nis O\n-DOCSTART- -X- O\nhe O'
  found = read(tmp_path / 'a.conll', content)
  assert [(line, row['tokens']) for line, row in found] == [
    (4, ['EU']),
    (6, ['is']),
    (8, ['he']),
  ]


def test_a_word_between_tabs_may_hold_spaces(tmp_path):
  ((_, row),) = read(tmp_path / 'a.conll', '10 000\tNUM\n')
  assert row['tokens'] == ['10 000']


def test_universal_dependencies_have_their_columns(tmp_path):
  cells = ['_'] * 6
  lines = ['# text = vamonos', '1-2 vamonos _ _ _'.replace(' ', '\t') + '\t_' * 5]
  for place, (word, upos, xpos) in enumerate(
    [('vamos', 'VERB', 'V'), ('nos', 'PRON', 'P')]
  ):
    lines.append('\t'.join([str(place + 1), word, word, upos, xpos, *cells[:5]]))
  lines.append('\t'.join(['2.1', 'left', *cells[:6], '_', '_']))
  ((line, row),) = read(tmp_path / 'a.conllu', '\n'.join(lines))
  assert line == 3 and row['tokens'] == ['vamos', 'nos']
  assert row['tags'] == row['upos'] == row['4'] == ['VERB', 'PRON']
  assert row['xpos'] == ['V', 'P']


def test_named_columns_are_found_by_their_names(tmp_path):
  content = '# global.columns = ID NER FORM\n1 B-PER Ann\n2 O sings\n'
  ((_, row),) = read(tmp_path / 'a.conll', content)
  assert row['tokens'] == ['Ann', 'sings'] and row['tags'] == ['B-PER', 'O']


def test_a_number_sign_is_a_word_where_it_has_the_columns_of_one(tmp_path):
  content = '# a comment of some words\nAnn O\n# O\n\n# O\n5 O\n'
  found = read(tmp_path / 'a.conll', content)
  assert [row['tokens'] for _, row in found] == [['Ann', '#'], ['#', '5']]


@pytest.mark.parametrize(
  ('content', 'complaint'),
  [
    ('EU B-ORG\nis VBZ O\n', 'a.conll:2: 3 columns; a word of this file has 2'),
    ('EU B-ORG\nis\n', 'a.conll:2: 1 columns; a word of this file has 2'),
    ('EU\tB-ORG\nis\t\n', 'a.conll:2: column 2 is empty'),
  ],
)
def test_a_wrong_line_is_named(tmp_path, content, complaint):
  with pytest.raises(ValueError, match=complaint):
    read(tmp_path / 'a.conll', content)


def test_words_without_tags_have_none(tmp_path):
  ((_, row),) = read(tmp_path / 'a.conll', 'EU\nis\n')
  assert row == {'tokens': ['EU', 'is'], '1': ['EU', 'is']}


def test_packed_files_are_unpacked(tmp_path):
  path = tmp_path / 'a.conllu.gz'
  cells = '\t'.join(['1', 'go', 'go', 'VERB', *'______'])
  path.write_bytes(gzip.compress(cells.encode()))
  ((_, row),) = conll.rows(path)
  assert row['tags'] == ['VERB']


def test_texts_do_not_look_like_words(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('It rains.\n\nThe sun shines again.\n')
  assert not conll.looks_so(path)
  path.write_text('It PRON\nrains VERB\n\nSun NOUN\n')
  assert conll.looks_so(path)
