"""What a run is watched on: validation, and never the test. When it ends by that, and
whose model it keeps.
"""

import json
import shutil

import numpy as np
import pytest
from hearing import Said

from tl_jax import config, train
from tl_jax.checkpoint import Store
from tl_jax.config import ConfigError
from tl_jax.train import drawing, loop, notes
from tl_jax.train.checks import check
from tl_jax.train.course import Course
from tl_jax.train.datasets import TaskExamples

NAMES = ('neg', 'neu', 'pos')
SMALL = [
  ('model', "{'family': 'tiny', 'layers': 1, 'width': 16, 'heads': 2, 'mlp': 16}"),
  ('tokenizer.size', '300'),
  ('data.length', '16'),
  ('data.batch', '4'),
  ('schedule.steps', '24'),
  ('schedule.warmup', '0'),
  ('optim.lr', '3e-2'),
  ('compute.dropout', '0.0'),
  ('log.every', '1'),
  ('log.tensorboard', 'false'),
  ('checkpoint.every', '3'),
]
WATCHED = [('eval.every', '2'), ('eval.patience', '3'), ('eval.keep', 'best')]


def rows_of(count=48):
  """Texts that say their class, five of which are known by nothing else."""
  splits = ('train', 'train', 'validation', 'test')
  return [
    dict(
      text=f'{NAMES[place % 3] if place % 5 else "ko"} w{place % 7}',
      label=NAMES[place % 3],
      split=splits[place // 3 % 4],
    )
    for place in range(count)
  ]


def write(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def make_config(path, more=()):
  return config.load(f'configs/transfer.py:task={path}', [*SMALL, *more])


def lines(path):
  """The lines of a file without what a clock says."""
  found = [json.loads(line) for line in path.read_text().splitlines()]
  timed = ('seconds', 'tokens_per_second', 'waiting_share')
  return [{key: row[key] for key in row if key not in timed} for row in found]


@pytest.fixture(scope='module')
def watched(tmp_path_factory):
  """(folder, result, what was told) of a run that ends by its validation."""
  folder = tmp_path_factory.mktemp('watched')
  path, said = write(folder / 'own.jsonl', rows_of()), Said()
  made = make_config(path, WATCHED)
  return folder, train.transfer(made, folder / 'w', said.reporter), said


def test_a_run_ends_by_its_validation_and_keeps_its_best_step(watched):
  folder, result, said = watched
  points = [
    (row['step'], row['validation/accuracy'])
    for row in lines(folder / 'w' / 'evaluations.jsonl')
  ]
  best = max(points, key=lambda point: point[1])
  assert result['step'] == best[0] > 2
  assert result['steps'] == best[0] + 6 < 24
  assert result['stopped'] == (
    f'accuracy on validation was not better than at step {best[0]} in 3 evaluations'
  )
  assert any(line.startswith(f'stopped at step {result["steps"]}: ') for line in said)
  assert 'validated on the 12 examples of its validation split' in str(said)
  for step, value in points:
    shown = f' at step {step}: validation/accuracy {value:.4f}'
    assert sum(shown in line for line in said) == 1
  assert f' at step {best[0]}, the best (test, n={result["n"]}): accuracy ' in said[-1]
  # The newest and the best, though one is to be kept.
  assert Store(folder / 'w' / 'checkpoints').steps() == [best[0], result['steps']]
  # What is evaluated, restored or started from is the model that was judged.
  assert train.evaluate(folder / 'w', step=result['steps'])['step'] == result['steps']
  again = train.evaluate(folder / 'w')['metrics']
  assert again == pytest.approx(result['metrics'], abs=1e-5)


def test_a_finished_run_stays_finished_until_more_patience_is_asked_for(
  watched, tmp_path
):
  folder, result, _ = watched
  shutil.copytree(folder / 'w', tmp_path / 'w')
  again = train.transfer(make_config(folder / 'own.jsonl', WATCHED), tmp_path / 'w')
  assert again == result
  patient = [*WATCHED, ('eval.patience', '4')]
  more = train.transfer(make_config(folder / 'own.jsonl', patient), tmp_path / 'w')
  assert more['steps'] > result['steps']


def stopped_at(step, monkeypatch, made, workdir):
  """A run that a signal stops at a step."""
  with monkeypatch.context() as patched:
    patched.setattr(
      loop._Loop, '_must_stop', lambda self, number, stopping: number == step
    )
    train.transfer(made, workdir)


# Between evaluations, at one, at the best, and where it is over anyway.
@pytest.mark.parametrize('stop', [3, 4, 8, 14])
def test_a_run_that_was_stopped_ends_where_one_without_a_pause_does(
  watched, tmp_path, monkeypatch, stop
):
  folder, result, _ = watched
  made = make_config(folder / 'own.jsonl', WATCHED)
  with pytest.raises(train.Stopped):
    stopped_at(stop, monkeypatch, made, tmp_path)
  again = train.transfer(made, tmp_path)
  for key in ('steps', 'step', 'stopped', 'metrics'):
    assert again[key] == result[key]
  for name in ('metrics.jsonl', 'evaluations.jsonl', 'predictions.jsonl'):
    assert lines(tmp_path / name) == lines(folder / 'w' / name)
  assert Store(tmp_path / 'checkpoints').steps() == [result['step'], result['steps']]


def changed(rows, split):
  """The rows with the labels of one split exchanged for others."""
  turned = dict(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True))
  return [
    row | dict(label=turned[row['label']]) if row['split'] == split else row
    for row in rows
  ]


def test_another_test_changes_nothing_in_training(watched, tmp_path):
  folder, result, _ = watched
  path = write(tmp_path / 'own.jsonl', changed(rows_of(), 'test'))
  other = train.transfer(make_config(path, WATCHED), tmp_path / 'w')
  assert other['metrics'] != result['metrics']
  assert (other['steps'], other['step']) == (result['steps'], result['step'])
  for name in ('metrics.jsonl', 'evaluations.jsonl'):
    assert lines(tmp_path / 'w' / name) == lines(folder / 'w' / name)


def test_another_validation_changes_when_a_run_ends(watched, tmp_path):
  folder, result, _ = watched
  path = write(tmp_path / 'own.jsonl', changed(rows_of(), 'validation'))
  other = train.transfer(make_config(path, WATCHED), tmp_path / 'w')
  assert (other['steps'], other['step']) != (result['steps'], result['step'])
  # The same steps up to there, by other eyes.
  both = min(other['steps'], result['steps'])
  own, before = (lines(each / 'w' / 'metrics.jsonl') for each in (tmp_path, folder))
  assert own[:both] == before[:both]


def examples_of(path, more=()):
  checked = check(make_config(path, more))
  return TaskExamples.open(checked.settings, checked.task), checked.settings


def texts_of(path, more=()):
  """(texts that are trained on, texts that are held out) of a run."""
  corpus, settings = examples_of(path, more)
  drawn = corpus.draw(settings)
  return tuple([corpus.train.texts[index] for index in part] for part in drawn)


@pytest.fixture(scope='module')
def unsplit(tmp_path_factory):
  """A file with a test split, and none for validation; two thirds are of one class."""
  names = ('neg', 'pos', 'pos')
  rows = [
    dict(
      text=f'w{place}',
      label=names[place % 3],
      split='test' if place % 5 == 0 else 'train',
    )
    for place in range(150)
  ]
  return write(tmp_path_factory.mktemp('unsplit') / 'own.jsonl', rows)


def test_examples_are_held_out_only_where_a_run_is_watched(unsplit):
  trained, held_out = texts_of(unsplit)
  assert len(trained) == 120 and not held_out
  trained, held_out = texts_of(unsplit, [('eval.every', '1')])
  assert (len(trained), len(held_out)) == (108, 12)
  assert not {*trained} & {*held_out}
  # Two thirds of them are of the larger class, as of all.
  assert sum(int(text[1:]) % 3 != 0 for text in held_out) == 8
  corpus, settings = examples_of(unsplit, [('eval.every', '1')])
  drawn = corpus.draw(settings)
  told, line = notes.of_task(corpus, drawn.trained, corpus.watched(settings))
  assert 'label: 2 classes' in told
  assert '12 of its 120 train examples held out for validation' in line
  assert line.endswith('trained on 108')
  asked = [('eval.every', '1'), ('task.holdout', '30')]
  assert len(texts_of(unsplit, asked)[1]) == 30


def test_what_is_held_out_is_of_the_seed_and_the_texts(unsplit, tmp_path):
  first = texts_of(unsplit, [('eval.every', '1')])
  other = texts_of(unsplit, [('eval.every', '1'), ('seed', '1')])
  assert {*first[1]} != {*other[1]}
  turned = unsplit.read_text().splitlines()[::-1]
  path = tmp_path / 'turned.jsonl'
  path.write_text('\n'.join(turned))
  assert {*texts_of(path, [('eval.every', '1')])[1]} == {*first[1]}


def test_few_labels_are_the_same_with_and_without_validation(unsplit):
  few = [('task.labels', '12')]
  alone, _ = texts_of(unsplit, few)
  trained, held_out = texts_of(unsplit, [*few, ('eval.every', '1')])
  assert trained == alone and not {*trained} & {*held_out}


def test_a_text_that_is_held_out_is_trained_on_nowhere(tmp_path):
  rows = [
    dict(text=f'w{place % 20}', label=NAMES[place % 2], split='train')
    for place in range(40)
  ]
  rows += [dict(text=f't{place}', label=NAMES[place], split='test') for place in (0, 1)]
  path = write(tmp_path / 'own.jsonl', rows)
  trained, held_out = texts_of(path, [('eval.every', '1'), ('task.holdout', '8')])
  assert len(held_out) == 8 and len(trained) <= 32
  assert not {*trained} & {*held_out}


def test_more_than_there_is_to_hold_out_is_refused(unsplit):
  for more, nearest in ((('task.labels', '70'), 50), (('task.labels', '0'), 119)):
    corpus, settings = examples_of(
      unsplit, [more, ('eval.every', '1'), ('task.holdout', '120')]
    )
    with pytest.raises(ConfigError, match=f'config.task.holdout.*nearest: {nearest}$'):
      corpus.draw(settings)


def test_a_run_does_not_go_on_with_other_examples(unsplit, tmp_path, monkeypatch):
  with pytest.raises(train.Stopped):
    stopped_at(1, monkeypatch, make_config(unsplit), tmp_path)
  with pytest.raises(ConfigError, match='config.eval.every: some examples are held'):
    train.transfer(make_config(unsplit, [('eval.every', '1')]), tmp_path)


@pytest.mark.parametrize('key', [('eval.patience', '2'), ('eval.keep', 'best')])
def test_nothing_ends_or_is_best_without_evaluations(unsplit, key):
  with pytest.raises(
    ConfigError, match=rf'config.{key[0]}: .* needs evaluations, but eval.every=0'
  ):
    check(make_config(unsplit, [key]))


def test_a_lower_loss_is_the_better_one():
  course = Course('loss', patience=1, keeps_best=True)
  course.add(1, dict(loss=2.0))
  course.add(2, dict(loss=1.0))
  assert course.best == 2 and not course.reason and course.has_new_best
  course.add(3, dict(loss=1.0))
  assert course.pinned == (2,) and course.reason and not course.has_new_best


def test_counts_of_what_is_held_out():
  assert [drawing.held_out_count(*case) for case in ((0.1, 4), (0.5, 9), (7, 9))] == [
    1,
    4,
    7,
  ]
  assert np.array_equal(drawing.tempered([np.arange(3)], 1.0), np.arange(3))
