"""Questions on passages as published files have them."""

import gzip
import json

import pytest

from tl_jax.data import files, passages, tables, texts
from tl_jax.data.passages import Answers, PassageQuestion

PASSAGE = 'Ann ran to Oslo. Bob ran to Oslo, too.'
ROW = dict(id='7', question='Where to?', context=PASSAGE)


def read(**fields):
  row = {**ROW, **fields}
  return passages.read(row, passages.fields_of(row))


@pytest.mark.parametrize(
  'fields',
  [
    # datasets, the authors, and columns of a table.
    dict(answers=dict(text=['Oslo', 'to Oslo'], answer_start=[11, 8])),
    dict(
      answers=[dict(text='Oslo', answer_start=11), dict(text='to Oslo', answer_start=8)]
    ),
    dict(answers=['Oslo', 'to Oslo'], answer_start=[11, 8]),
  ],
)
def test_answers_are_read_in_every_form(fields):
  asked, answers = read(**fields)
  assert isinstance(asked, PassageQuestion) and asked.name == '7'
  assert (asked.first, asked.second) == ('Where to?', PASSAGE)
  assert answers == Answers(('Oslo', 'to Oslo'), (11, 8))


@pytest.mark.parametrize(
  'fields',
  [
    dict(answers=dict(text=[], answer_start=[])),
    dict(answers=[], is_impossible=True, plausible_answers=[dict(text='Oslo')]),
    dict(answer='Oslo', answer_start='11', is_impossible='True'),
    dict(answers=[]),
  ],
)
def test_a_passage_may_have_no_answer(fields):
  assert read(**fields)[1] == Answers()


def test_cells_of_a_table_are_numbers_as_text():
  assert read(answer='Oslo', answer_start='11.0')[1] == Answers(('Oslo',), (11,))


def test_a_place_that_is_not_said_is_looked_for():
  assert read(answer='Bob')[1] == Answers(('Bob',), (17,), 1)
  assert read(answer='Oslo')[1] == Answers(('Oslo',), (11,), 2)
  assert read(answer='')[1] is None
  with pytest.raises(ValueError, match=r"answer: 'Rome' does not stand .*question 7"):
    read(answer='Rome')


@pytest.mark.parametrize(
  'start, match',
  [
    (10, r"'Oslo' does not stand at character 10 .* ' Osl' there; it stands at 11"),
    (300, r"has '' there; it stands at 11 \(question 7\)"),
    (None, 'answer_start None is no place'),
    (-4, 'answer_start -4 is no place'),
  ],
)
def test_a_wrong_place_is_named(start, match):
  with pytest.raises(ValueError, match=match):
    read(answers=dict(text=['Oslo'], answer_start=[start]))


@pytest.mark.parametrize('answers', [[None], [5], dict(text=[None], answer_start=[0])])
def test_an_answer_that_is_no_text_is_named(answers):
  with pytest.raises(ValueError, match=r'answers: .* is no text \(question 7\)'):
    read(answers=answers)


def test_an_empty_passage_is_refused():
  with pytest.raises(ValueError, match=r'context: an empty passage \(question 7\)'):
    read(context='  ', answers=[])
  with pytest.raises(ValueError, match="question: 'None' is no text"):
    read(question=None, answers=[])


def nested():
  asked = [
    dict(id='1', question='Who?', answers=[dict(text='Ann', answer_start=0)]),
    dict(id='2', question='Why?', answers=[], is_impossible=True),
  ]
  paragraphs = [dict(context=PASSAGE, qas=asked)]
  return dict(version='v2.0', data=[dict(title='Runs', paragraphs=paragraphs)])


@pytest.mark.parametrize('indent', [None, 2])
def test_files_of_the_authors_are_flat_rows(tmp_path, indent):
  path = tmp_path / 'dev.json.gz'
  path.write_bytes(gzip.compress(json.dumps(nested(), indent=indent).encode()))
  rows = [row for _, _, row in tables.rows(path)]
  assert [row['id'] for row in rows] == ['1', '2']
  assert rows[1]['context'] == PASSAGE and rows[0]['title'] == 'Runs'
  columns = files.Columns(('question', 'context'), ('answers',), passages=True)
  table = files.read(path, columns)
  assert [example['label'] for example in table.examples] == [
    Answers(('Ann',), (0,)),
    Answers(),
  ]
  assert [text.name for text in texts.read_passages(path)] == ['1', '2']


def test_a_damaged_file_of_the_authors_is_named(tmp_path):
  path = tmp_path / 'dev.json'
  document = nested()
  document['data'][0]['paragraphs'][0].pop('context')
  path.write_text(json.dumps(document))
  with pytest.raises(ValueError, match=r'dev.json: paragraphs: .* has no context'):
    list(tables.rows(path))
  document = nested()
  document['data'][0]['paragraphs'][0]['qas'] = ['Who?']
  path.write_text(json.dumps(document))
  with pytest.raises(ValueError, match=r"dev.json: qas: 'Who\?' is no question"):
    list(tables.rows(path))


def test_the_line_of_a_wrong_answer_is_named(tmp_path):
  path = tmp_path / 'a.jsonl'
  good = {**ROW, 'answers': dict(text=['Oslo'], answer_start=[11])}
  wrong = {**ROW, 'answers': dict(text=['Oslo'], answer_start=[1])}
  path.write_text('\n'.join(map(json.dumps, [good, wrong])))
  columns = files.Columns(('question', 'context'), ('answers',), passages=True)
  with pytest.raises(ValueError, match=r'a.jsonl:2: answers: .* it stands at 11'):
    files.read(path, columns)
