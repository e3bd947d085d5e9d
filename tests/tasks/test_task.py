"""Tasks: every embedded one reads, files need no code, scores have the names they
promise.
"""

import numpy as np
import pytest

from tl_jax import tasks
from tl_jax.config import ConfigError

EMBEDDED = (
  'sentiment',
  'products',
  'tweets',
  'editorials',
  'intensity',
  'register',
  'novel',
  'genre',
)


@pytest.mark.parametrize('name', EMBEDDED)
def test_every_embedded_task_has_every_label_on_both_sides(name):
  task = tasks.find(name)
  for split in ('train', 'test'):
    texts, targets = tasks.labelled(task, split)
    assert len(texts) == len(targets) > 400 and all(
      isinstance(text, str) and text.strip() for text in texts
    )
    if task.problem.exclusive:
      assert set(targets.tolist()) == set(range(len(task.labels)))
    else:
      assert targets.shape[1] == task.outputs and np.isfinite(targets).all()


@pytest.mark.parametrize('name', EMBEDDED)
def test_no_test_text_is_trained_on(name):
  task = tasks.find(name)
  train, test = (set(tasks.labelled(task, split)[0]) for split in ('train', 'test'))
  assert not train & test


# Those of candidates have outputs of another shape; test_superglue scores them.
OF_CANDIDATES = ('place', 'worths')


@pytest.mark.parametrize(
  'name',
  [
    name for name, task in tasks.TASKS.items() if task.problem.form not in OF_CANDIDATES
  ],
)
def test_the_headline_is_among_the_scores(name):
  task = tasks.TASKS[name]
  generator = np.random.default_rng(0)
  if task.problem.answer == 'generate':
    examples = [tasks.Example(('a text',), f'word {number}') for number in range(40)]
    answers = ['word 1'] * 40
    scores = tasks.score(task, answers, task.problem.gather(examples), ['word 1'])
    assert task.headline in scores and np.isfinite([*scores.values()]).all()
    return
  outputs = generator.normal(size=(40, task.outputs))
  classes = generator.integers(0, len(task.labels), 40)
  targets = (
    generator.normal(size=(40, 1)) if task.problem.name == 'regression' else classes
  )
  scores = tasks.score(task, outputs, targets)
  assert task.headline in scores and all(
    np.isfinite(value) for value in scores.values()
  )


def test_a_right_answer_scores_one():
  task = tasks.find('novel')
  targets = np.arange(12) % len(task.labels)
  assert (
    tasks.score(task, np.eye(len(task.labels))[targets], targets)['accuracy'] == 1.0
  )


def test_f1_is_of_the_second_of_two_classes_and_of_more_their_mean():
  two = tasks.find('sentiment')
  # All are taken for the first class, which is right for one of four.
  found = tasks.score(two, np.eye(2)[[0, 0, 0, 0]], np.array([0, 1, 1, 1]))
  assert found['f1'] == 0.0 and found['f1_macro'] == pytest.approx(0.2)
  many = tasks.find('topic')
  answers = np.eye(12)
  found = tasks.score(many, answers[[1, 1, 1, 1]], np.array([0, 1, 1, 1]))
  # The test holds classes 0 and 1 alone, but of twelve none is the positive one.
  assert 'f1' not in found
  assert found['f1_macro'] == pytest.approx((0 + 6 / 7) / 2)
  both = tasks.find('sentiment+topic')
  found = tasks.score(both, np.eye(14)[[1, 2]], np.array([1, 2]))
  assert 'f1' not in found and 'topic/f1' not in found
  assert found['sentiment/f1'] == found['topic/f1_macro'] == 1.0


def test_a_file_is_a_task(tmp_path):
  path = tmp_path / 'mails.csv'
  rows = [
    f'"mail number {index} about things",{"spam" if index % 3 else "ham"}'
    for index in range(60)
  ]
  path.write_text('\n'.join(['text,label', *rows]))
  task = tasks.find(str(path))
  assert task.labels == ('ham', 'spam')
  texts = {split: tasks.labelled(task, split)[0] for split in ('train', 'test')}
  assert len(texts['train']) + len(texts['test']) == 60 and texts['test']


def test_a_file_with_one_label_is_no_task(tmp_path):
  path = tmp_path / 'mails.csv'
  path.write_text(
    'text,label\n' + '\n'.join(f'text {index},same' for index in range(20))
  )
  with pytest.raises(ConfigError, match='field label'):
    tasks.find(str(path))


def test_an_unknown_task_names_the_nearest():
  with pytest.raises(ConfigError, match="'sentiment'"):
    tasks.find('sentimant')


def test_tasks_together_keep_their_labels_and_their_scores():
  both = tasks.find('sentiment+topic')
  assert (
    both.outputs == 14
    and both.groups == ((0, 2), (2, 14))
    and both.labels[2] == 'topic: games'
  )
  texts, targets = tasks.labelled(both, 'test')
  parts = [tasks.labelled(part, 'test') for part in both.parts]
  assert texts == parts[0][0] + parts[1][0] and targets.tolist() == [
    *parts[0][1],
    *(parts[1][1] + 2),
  ]
  # The largest output of all is another task's label, which is no answer.
  outputs = np.zeros((len(texts), 14), np.float32)
  outputs[np.arange(len(texts)), targets] = 1.0
  other = np.where(targets < 2, 5, 0)
  outputs[np.arange(len(texts)), other] = 2.0
  values = tasks.score(both, outputs, targets)
  assert (
    values['accuracy']
    == values['sentiment/accuracy']
    == values['topic/accuracy']
    == 1.0
  )
  np.testing.assert_array_equal(tasks.decide(both, outputs, targets), targets)
  with pytest.raises(ConfigError, match='intensity is of kind'):
    tasks.find('sentiment+intensity')


def test_a_part_without_a_test_example_has_no_score():
  both = tasks.find('sentiment+products')
  found = tasks.score(both, np.eye(4)[[0, 1]], np.array([0, 1]))
  assert found['accuracy'] == found['sentiment/accuracy'] == 1.0
  assert not any(name.startswith('products/') for name in found)


def test_free_texts_are_scored_beside_their_authors():
  task = tasks.scored_by(tasks.find('continue'), ('distinct', 'copying'))
  assert task.headline == 'distinct_2'
  targets = task.problem.gather(
    [
      tasks.Example(('a',), 'one two three four', ('one two three four', 'five five')),
      tasks.Example(('b',), 'one two six seven'),
    ]
  )
  written = ['go on go on go on', 'one two three four']
  scores = tasks.score(task, written, targets, ['and one two three four', 'b'])
  # on-go and go-on, and three of the other.
  assert scores['distinct_2'] == 5 / 8 and scores['reference/distinct_2'] == 5 / 6
  assert scores['copying_4'] == 1 / 4 and scores['reference/copying_4'] == 1 / 2
  with pytest.raises(ValueError, match='copying: continue: needs the texts'):
    tasks.score(task, written, targets)
