"""Files of questions on passages as tasks."""

import json

import pytest

from tl_jax import tasks
from tl_jax.config import ConfigError
from tl_jax.tasks import labels
from tl_jax.tasks.own import Reading, read_task

PASSAGE = 'Ann ran to Oslo.'


def row(number, **more):
  answers = dict(text=['Oslo'], answer_start=[11])
  split = 'test' if number < 2 else 'train'
  return (
    dict(
      id=str(number),
      question=f'Where {number}?',
      context=PASSAGE,
      answers=answers,
      split=split,
    )
    | more
  )


def write(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return str(path)


def test_rows_of_squad_are_known_by_their_fields(tmp_path):
  task = read_task(write(tmp_path / 'a.jsonl', [row(number) for number in range(6)]))
  assert task.problem.name == labels.SPAN == 'span' and task.labels == ()
  texts, targets = tasks.labelled(task, 'train')
  assert len(texts) == 4 and targets[0].texts == ('Oslo',)
  assert targets[0].places == ((11, 15),)
  assert 'answers to 6 questions' in task.told[-1]


def test_questions_without_an_answer_are_counted(tmp_path):
  empty = dict(text=[], answer_start=[])
  rows = [
    row(number, answers=empty) if number % 3 == 0 else row(number)
    for number in range(6)
  ]
  task = read_task(write(tmp_path / 'a.jsonl', rows))
  assert task.labels == ('no answer',) and task.headline == 'squad_v2_f1'
  assert '2 of them without an answer' in task.told[-1]
  assert task.problem.count(tasks.labelled(task, 'train')[1], 1) == [1]


def test_columns_of_a_table_are_said_by_the_kind(tmp_path):
  path = tmp_path / 'a.csv'
  lines = ['question,passage,answer,split']
  for number in range(6):
    lines.append(f'Who {number}?,Ann met Ann.,Ann,{"test" if number < 2 else "train"}')
  path.write_text('\n'.join(lines))
  task = read_task(str(path), Reading(kind='span'))
  assert 'there several times, of which the first counts' in task.told[-1]
  # Without a place it may be a text to write.
  with pytest.raises(ConfigError, match='text'):
    read_task(str(path))


def test_other_columns_may_be_said(tmp_path):
  renamed = []
  for number in range(6):
    own = row(number)
    renamed.append(
      dict(q=own['question'], page=PASSAGE, found=own['answers'], split=own['split'])
    )
  path = write(tmp_path / 'a.jsonl', renamed)
  task = read_task(path, Reading(kind='span', text='q+page', label='found'))
  assert tasks.labelled(task, 'test')[0][0].first == 'Where 0?'
  with pytest.raises(
    ConfigError, match='no column of question and passage; the file has q,'
  ):
    read_task(path, Reading(kind='span'))
  with pytest.raises(ConfigError, match='no column of answers; .* label=COLUMN'):
    read_task(path, Reading(kind='span', text='q+page'))
  with pytest.raises(ConfigError, match=r'text=QUESTION\+PASSAGE'):
    read_task(path, Reading(kind='span', text='q'))
