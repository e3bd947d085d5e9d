"""Forecasts from a file to what is said: which examples are used, and what is refused."""

import csv

import numpy as np
import pytest

from tl_jax.train import forecasting
from tl_jax.train.settings import TaskChoice

WORDS = dict(good=['fine', 'great', 'lovely'], bad=['poor', 'dull', 'weak'])


def write(path, count, header=('text', 'label'), split=None):
  """A file of texts whose words say their label, but for every fifth of them."""
  generator = np.random.default_rng(0)
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow([*header, *(['split'] if split else [])])
    for place in range(count):
      label = ('good', 'bad')[place % 2]
      said = label if generator.random() < 0.8 else ('bad', 'good')[place % 2]
      text = f'a {generator.choice(WORDS[said])} film, number {place}'
      writer.writerow([text, label, *([split(place)] if split else [])])
  return path


def asked(path, init, **more):
  return forecasting.Asked(TaskChoice(name=str(path)), (str(init),), repeats=2, **more)


def test_all_labels_of_a_file_are_at_hand(pretrained, tmp_path):
  path = write(tmp_path / 'a.csv', 60)
  found = forecasting.forecast(asked(path, pretrained, target=0.7), tmp_path / 'v')
  assert (found.labels, found.share) == (60, 0.5)
  assert found.ahead == [120, 300, 600]
  assert {one.name for one in found.candidates} == {pretrained.name, 'TF-IDF'}
  means = [one.accuracy_at(120).mean for one in found.candidates]
  assert means == sorted(means, reverse=True)
  # The words say it: TF-IDF learns that from 60 texts.
  words = next(one for one in found.candidates if one.name == 'TF-IDF')
  assert words.accuracy_at(120).low < 0.8 < words.accuracy_at(600).high
  plain = found.as_dict()
  assert plain['candidates'][0]['labels_for_target']['level'] == 0.8


def test_texts_that_stand_there_twice_tell_nothing_of_each_other(pretrained, tmp_path):
  """Labels that nothing tells are guessed, however often a text is in the file."""
  labels = np.random.default_rng(0).permutation(['good', 'bad'] * 10)
  path = tmp_path / 'a.csv'
  rows = [f'"text, {place * 7919}",{label}' for place, label in enumerate(labels)]
  path.write_text('\n'.join(['text,label', *rows * 3]))
  found = forecasting.forecast(asked(path, pretrained), tmp_path / 'v')
  assert found.labels == 60
  for one in found.candidates:
    # Three in four and more would be right if one could know the others by heart.
    assert one.measured.errors[-1] > 0.25


def test_a_test_split_is_not_looked_at(pretrained, tmp_path):
  split = lambda place: 'test' if place % 3 == 0 else 'train'
  path = write(tmp_path / 'a.csv', 90, split=split)
  task = forecasting.datasets.open_task(TaskChoice(name=str(path)), '')
  texts, labels = forecasting.at_hand(task, asked(path, pretrained))
  assert len(texts) == len(labels) == 60
  fewer, _ = forecasting.at_hand(task, asked(path, pretrained, labels=30))
  assert len(fewer) == 30 and set(fewer) < set(texts)


def test_suggested_texts_are_of_the_pool_and_none_comes_twice(pretrained, tmp_path):
  path = write(tmp_path / 'a.csv', 40)
  pool = tmp_path / 'pool.txt'
  pool.write_text('\n'.join([f'a film of {place}' for place in range(20)] * 2 + ['']))
  found = forecasting.forecast(
    asked(path, pretrained, pool=str(pool), suggest=5), tmp_path / 'v'
  )
  texts = [text for text, _ in found.suggested]
  assert len(set(texts)) == 5 and set(texts) <= set(pool.read_text().splitlines())
  assert all(0.5 <= sure <= 1 for _, sure in found.suggested)


@pytest.mark.parametrize(
  ('count', 'more', 'said'),
  [
    (12, {}, '12 labels; a forecast needs 20'),
    (40, dict(labels=50), '--labels: 50 asked for; .* has 40'),
    (
      40,
      dict(same=True),
      "'bad' has 1 labels of different texts; .* needs two of each",
    ),
  ],
)
def test_too_few_labels_are_refused(count, more, said, pretrained, tmp_path):
  path = write(tmp_path / 'a.csv', count)
  if more.pop('same', False):
    lines = [f'fine {place},good\n' for place in range(count)]
    path.write_text(
      ''.join(['text,label\n', *lines, *['Poor,bad\n', 'poor,bad\n'] * 5])
    )
  with pytest.raises(ValueError, match=said):
    forecasting.forecast(asked(path, pretrained, **more), tmp_path / 'v')


def test_tasks_without_classes_are_refused(pretrained, tmp_path):
  path = tmp_path / 'a.csv'
  rows = [f'text {place},{place / 7:.2f}' for place in range(40)]
  path.write_text('\n'.join(['text,label', *rows]))
  with pytest.raises(ValueError, match="kind 'regression'; a forecast is of tasks"):
    forecasting.forecast(asked(path, pretrained), tmp_path / 'v')
