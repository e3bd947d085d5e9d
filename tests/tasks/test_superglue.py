"""What a model reads of the tasks of SuperGLUE, and how they are scored."""

import numpy as np
import pytest

from tl_jax import tasks
from tl_jax.tasks import superglue


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
