"""The problem of multiple choice: its encoding, its answers and its columns."""

import json

import numpy as np
import pytest

from tl_jax import models, tasks
from tl_jax.config import ConfigError
from tl_jax.data import tokenizers
from tl_jax.data.candidates import Choices
from tl_jax.tasks import PROBLEMS, Limits, Reading

CHOICE = PROBLEMS['choice']
TEXTS = [
  Choices('it rains', ('take an umbrella', 'sleep', 'run')),
  Choices('the sun shines', ('sleep', 'go out')),
]
NONE = models.NO_CANDIDATE
SCORES = np.array([[0.5, -1.0, 2.0], [1.0, 3.0, NONE]])


def test_every_candidate_stands_in_the_frame_of_a_pair(tmp_path):
  tokenizer = tokenizers.train(list(TEXTS) * 3, kind='wordpiece', size=200)
  limits = Limits(24, tmp_path, pairs=True, types=2)
  examples, _ = CHOICE.encode(TEXTS, np.array([0, 1]), tokenizer, limits)
  ids = examples.tokens[1].tolist()
  frame = [tokenizer.prefix[0], *tokenizer.encode('the sun shines', special=False)]
  frame.append(tokenizer.suffix[0])
  assert ids[: len(frame)] == frame and ids.count(tokenizer.suffix[0]) == 4
  types = examples.types[1].tolist()
  assert types[: len(frame)] == [0] * len(frame) and types[len(frame)] == 1
  assert len(types) == len(ids)


def test_scores_of_absent_candidates_are_in_no_answer():
  task = tasks.Task('t', 's', None, problem=CHOICE)
  targets = np.array([2, 1])
  assert tasks.score(task, SCORES, targets) == {'choice_accuracy': 1.0}
  line = CHOICE.line(TEXTS[1], 0, SCORES[1], SCORES[1], ())
  assert line['outputs'] == [1.0, 3.0] and line['prediction'] == '1'
  assert line['candidates'] == ['sleep', 'go out'] and line['target'] == '0'
  assert CHOICE.probabilities(SCORES)[1, 2] == 0.0


def write(path, *rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return str(path)


def row(number, **fields):
  return dict(question=f'Q{number}?', options=['w', 'x'], answer='A') | fields


def test_the_columns_of_a_file_can_be_said(tmp_path):
  rows = [row(n, passage=f'P{n}.', right='B') for n in range(9)]
  path = write(tmp_path / 'a.jsonl', *rows)
  asked, target = read_one(path)
  assert (asked.question, asked.answers, target) == ('P0.', ('Q0? w', 'Q0? x'), 0)
  asked, target = read_one(path, Reading(kind='choice', text='question', label='right'))
  assert (asked.question, asked.answers, target) == ('Q0?', ('w', 'x'), 1)


def read_one(path, how=None):
  task = tasks.find(path, None, how or Reading())
  assert task.problem is CHOICE
  examples = []
  for split in ('train', 'test'):
    examples += zip(*rows_of(task, split), strict=True)
  return min(examples, key=lambda pair: str(pair[0]))


def rows_of(task, split):
  return tasks.labelled(task, split)


def test_questions_without_an_answer_are_left_out_and_told(tmp_path):
  rows = [row(n) for n in range(9)] + [row(9, answer=None)]
  task = tasks.find(write(tmp_path / 'a.jsonl', *rows), None, Reading())
  assert sum(len(rows_of(task, split)[0]) for split in ('train', 'test')) == 9
  assert any('1 of 10 rows have no label' in line for line in task.told)
  assert any('questions with 2 candidates' in line for line in task.told)


@pytest.mark.parametrize(
  ('rows', 'how', 'complaint'),
  [
    ([dict(text='a', label='b')], dict(kind='choice'), 'no questions with candidates'),
    (
      [dict(question='Q?', options=['a', 'b'])],
      dict(kind='choice'),
      'label=COLUMN names it',
    ),
    ([row(0)], dict(kind='choice', label='a+b'), 'one column of answers'),
    ([row(0)], dict(kind='choice', label='rihgt'), 'rihgt: missing'),
  ],
)
def test_what_is_no_question_is_refused_in_one_line(rows, how, complaint, tmp_path):
  path = write(tmp_path / 'a.jsonl', *rows)
  with pytest.raises(ConfigError, match=complaint.replace('?', r'\?')):
    tasks.find(path, None, Reading(**how))


@pytest.mark.parametrize('kind', ['any_choice', 'each_choice'])
def test_a_file_has_no_kind_of_several_right_candidates(kind, tmp_path):
  path = write(tmp_path / 'a.jsonl', row(0))
  with pytest.raises(ConfigError, match=f'{kind}.*whose questions are of kind .choice'):
    tasks.find(path, None, Reading(kind=kind))
