"""What a model reads of the tasks of SuperGLUE, and how they are scored."""

import numpy as np
import pytest

from tl_jax import models, tasks
from tl_jax.tasks import suites, superglue


def example_of(name, **record):
  task = tasks.find(name)
  assert task.splits == dict(train='train', test='validation')
  (text,), target, _ = task.example(record)
  return text, target


@pytest.mark.parametrize(
  ('name', 'record', 'pair', 'label'),
  [
    (
      'boolq',
      dict(question='is it', passage='It is.', label=1),
      ('is it', 'It is.'),
      1,
    ),
    ('cb', dict(premise='a', hypothesis='b', label=2), ('a', 'b'), 2),
    ('superglue_rte', dict(premise='a', hypothesis='b', label=0), ('a', 'b'), 0),
    (
      'wic',
      dict(word='bank', sentence1='A bank.', sentence2='The bank.', label=1),
      ('bank: A bank.', 'The bank.'),
      1,
    ),
    (
      'wsc',
      dict(
        text='Tom met Bob when he came .',
        target=dict(span1_text='Bob', span1_index=2, span2_text='he', span2_index=4),
        label=1,
      ),
      ('Tom met Bob when *he* came .', 'Bob'),
      1,
    ),
  ],
)
def test_a_record_is_a_pair_in_the_form_that_is_stated(name, record, pair, label):
  text, target = example_of(name, **record)
  assert (text.first, text.second) == pair and target == label


def test_copa_is_a_choice():
  record = dict(premise='It fell.', choice1='a', choice2='b', question='effect')
  text, target = example_of('copa', label=1, **record)
  assert text.question == 'It fell. What happened as a result?' and target == 1
  assert text.answers == ('a', 'b')


def test_cb_is_scored_by_the_mean_f1_of_its_classes():
  outputs = np.eye(3)[[0, 0, 1]]
  found = tasks.score(superglue.CB, outputs, np.array([0, 1, 1]))
  assert superglue.CB.headline == 'f1_macro'
  assert found['f1_macro'] == pytest.approx(2 / 3)
  assert found['accuracy'] == pytest.approx(2 / 3)


def test_multirc_has_the_answers_of_every_question_of_a_paragraph():
  answers = [dict(text='x', label=1), dict(text='y', label=0)]
  questions = [
    dict(question='Q?', answers=answers),
    dict(question='R?', answers=[*answers, dict(text='z', label=1)]),
  ]
  record = dict(passage=dict(text='P.', questions=questions))
  first, second = superglue.MULTIRC.example(record)
  assert first.inputs[0].question == 'P.' and first.target == (1.0, 0.0)
  assert second.inputs[0].answers == ('R? x', 'R? y', 'R? z')
  targets = superglue.MULTIRC.problem.gather([first, second])
  scores = np.array([[1.0, -1.0, models.NO_CANDIDATE], [1.0, -1.0, -1.0]])
  found = tasks.score(superglue.MULTIRC, scores, targets)
  # Of three right answers two are found.
  assert found == {'answer_f1': pytest.approx(0.8), 'question_match': 0.5}


def test_record_fills_the_gap_with_every_entity_once():
  text = 'Tom Smith met Tom .\n@highlight\nHe paid'
  entities = [dict(start=0, end=8), dict(start=14, end=16), dict(start=0, end=8)]
  query = dict(query='@placeholder left', answers=[dict(text='the Tom Smith')])
  record = dict(passage=dict(text=text, entities=entities), qas=[query])
  (example,) = superglue.RECORD.example(record)
  (asked,) = example.inputs
  assert asked.answers == ('Tom Smith left', 'Tom left')
  assert '@highlight' not in asked.question
  assert example.target == (1.0, pytest.approx(2 / 3))
  targets = superglue.RECORD.problem.gather([example])
  found = tasks.score(superglue.RECORD, np.array([[0.0, 1.0]]), targets)
  assert found == {'best_answer_f1': pytest.approx(2 / 3), 'best_answer_match': 0.0}


def test_every_number_of_a_benchmark_is_of_a_task_here():
  for name in suites.NAMES:
    assert tasks.find(name).problem.answer == 'logits'
