"""Files of questions with candidates as strangers publish them."""

import csv
import json

import pytest

from tl_jax.data import choices, files, texts

ARC = dict(text=['wax', 'iron'], label=['A', 'B'])
CASES = {
  'hellaswag': (
    dict(ctx_a='A', ctx_b='b', ctx='A b', endings=['one.', 'two.'], label=1),
    ('A b', ('one.', 'two.'), 1),
  ),
  'swag': (
    dict(sent1='He sits.', sent2='He', ending0='eats', ending1='runs', label='1'),
    ('He sits.', ('He eats', 'He runs'), 1),
  ),
  'arc': (
    dict(question='Which melts?', choices=ARC, answerKey='B'),
    ('Which melts?', ('wax', 'iron'), 1),
  ),
  'arc of its authors': (
    dict(
      question=dict(
        stem='Which?',
        choices=[dict(text='wax', label='1'), dict(text='iron', label='2')],
      ),
      answerKey='1',
    ),
    ('Which?', ('wax', 'iron'), 0),
  ),
  'openbookqa': (
    dict(question_stem='The sun', choices=ARC, answerKey='A'),
    ('The sun', ('wax', 'iron'), 0),
  ),
  'race': (
    dict(article='Text.', question='Why _ ?', options=['x', 'y'], answer='A'),
    ('Text.', ('Why x ?', 'Why y ?'), 0),
  ),
  'race with a question': (
    dict(article='Text.', question='Why?', options=['x', 'y'], answer='B'),
    ('Text.', ('Why? x', 'Why? y'), 1),
  ),
  'copa': (
    dict(premise='It fell.', choice1='a', choice2='b', question='cause', label=0),
    ('It fell. What was the cause of this?', ('a', 'b'), 0),
  ),
  'piqa': (dict(goal='Cut it', sol1='a', sol2='b', label=1), ('Cut it', ('a', 'b'), 1)),
  'social iqa': (
    dict(context='C.', question='Q?', answerA='a', answerB='b', label='2'),
    ('C.', ('Q? a', 'Q? b'), 1),
  ),
  'winogrande': (
    dict(sentence='It is _ now.', option1='hot', option2='cold', answer='2'),
    ('', ('It is hot now.', 'It is cold now.'), 1),
  ),
  'mmlu': (
    dict(question='1 + 1?', choices=['1', '2', '3'], answer=1),
    ('1 + 1?', ('1', '2', '3'), 1),
  ),
  'letters': (
    dict(question='Q?', A='w', B='x', C='y', D='z', E='', answer='D'),
    ('Q?', ('w', 'x', 'y', 'z'), 3),
  ),
  'the answer by its text': (
    dict(question='Q?', options=['w', 'x'], answer='x'),
    ('Q?', ('w', 'x'), 1),
  ),
}


@pytest.mark.parametrize('name', CASES)
def test_published_forms_are_found_by_their_fields(name):
  row, (question, answers, place) = CASES[name]
  asked, found = choices.read(row, choices.fields_of(row))
  assert (asked.question, asked.answers, found) == (question, answers, place)


@pytest.mark.parametrize('said', ['', '-1', None, float('nan')])
def test_a_kept_back_answer_is_none(said):
  row = dict(ctx='A', endings=['one', 'two'], label=said)
  assert choices.read(row, choices.fields_of(row))[1] is None


@pytest.mark.parametrize(
  ('change', 'complaint'),
  [
    (dict(label='2'), "label: '2' is none of the 2 candidates 0, 1"),
    (dict(label='C'), "label: 'C' is none of the 2 candidates"),
    (dict(endings=['one']), 'a question needs two candidates'),
    (dict(endings=['one', None]), "the candidate 'None' is no text"),
    (dict(ctx=5), "ctx: '5' is no text"),
  ],
)
def test_a_wrong_row_is_named_with_its_field(change, complaint, tmp_path):
  good = dict(ctx='A', endings=['one', 'two'], label=0)
  path = tmp_path / 'a.jsonl'
  path.write_text('\n'.join(map(json.dumps, [good, good | change])))
  columns = files.Columns(('ctx',), ('label',), labelled=True, choices=True)
  with pytest.raises(ValueError) as caught:
    files.read(path, columns)
  line = str(caught.value)
  assert line.startswith(f'{path}:2: ') and complaint in line


def test_a_number_is_no_place_where_the_file_names_its_candidates():
  # The answer 1 of a file whose candidates are A and B may be the first or the second.
  row = dict(question='Q?', choices=ARC, answerKey=1)
  with pytest.raises(ValueError, match='none of the 2 candidates A, B'):
    choices.read(row, choices.fields_of(row))


@pytest.mark.parametrize(
  'row',
  [
    dict(text='a', label='b'),
    dict(premise='a', hypothesis='b', label=0),
    dict(question='Q?', A='alone', answer='A'),
    dict(choices=['a', 'b'], label=0),
  ],
)
def test_other_rows_have_no_candidates(row):
  assert choices.fields_of(row) is None


def test_questions_are_asked_of_a_table_without_answers(tmp_path):
  path = tmp_path / 'a.csv'
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerows([['question', 'A', 'B', 'C'], ['Q?', 'x', 'y', 'z']])
    writer.writerow(['R?', 'x', 'y', ''])
  first, second = texts.read_choices(path)
  assert first.answers == ('x', 'y', 'z') and second.answers == ('x', 'y')
  assert first.names == ('A', 'B', 'C')
