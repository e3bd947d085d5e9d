"""Probes of all layers of a small model: one pass, and nothing chosen by the test."""

import json

import numpy as np
import pytest

from tl_jax.train import encoding, probing
from tl_jax.train.settings import TaskChoice


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  """A file whose words say the label, for train and test."""
  generator = np.random.default_rng(0)
  words = (['fine', 'great'], ['poor', 'dull'])
  rows = []
  for place in range(120):
    label = place % 2
    text = f'a {generator.choice(words[label])} film {place}'
    split = 'test' if place % 3 == 0 else 'train'
    rows.append(dict(text=text, label=('good', 'bad')[label], split=split))
  path = tmp_path_factory.mktemp('probing') / 'films.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def asked(path, init, **more):
  return probing.Asked(TaskChoice(name=str(path)), str(init), **more)


def test_all_layers_and_methods(pretrained, path, tmp_path, monkeypatch):
  found = probing.probe(asked(path, pretrained), tmp_path)
  assert (found.layers, found.train, len(found.cells)) == (2, 80, 6)
  assert found.best.probe.accuracy == max(cell.probe.accuracy for cell in found.cells)
  plain = found.as_dict()
  right = (found.predictions == found.test.targets).mean()
  assert plain['metrics']['accuracy'] == pytest.approx(right)
  assert found.best.accuracy.mean == pytest.approx(right) and right > 0.8
  # Another number of labels takes the vectors that are there.
  monkeypatch.setattr(encoding, 'open_subject', None)
  fewer = probing.probe(asked(path, pretrained, labels=20), tmp_path)
  assert (fewer.train, fewer.seconds_of_encoding) == (20, 0)


def test_the_test_split_chooses_nothing(pretrained, path, tmp_path, monkeypatch):
  found = probing.probe(asked(path, pretrained), tmp_path)
  plain = probing.datasets.read_test

  def turned(*arguments):
    test = plain(*arguments)
    return test._replace(targets=1 - test.targets)

  monkeypatch.setattr(probing.datasets, 'read_test', turned)
  other = probing.probe(asked(path, pretrained), tmp_path)
  assert other.best[:2] == found.best[:2]
  assert other.best.accuracy.mean == pytest.approx(1 - found.best.accuracy.mean)


def test_predictions_are_lines_of_a_run(pretrained, path, tmp_path):
  found = probing.probe(asked(path, pretrained), tmp_path)
  lines = [json.loads(line) for line in probing.predictions_of(found).splitlines()]
  assert [line['index'] for line in lines] == list(range(40))
  right = sum(line['target'] == line['prediction'] for line in lines)
  assert right / 40 == pytest.approx(found.best.accuracy.mean)


@pytest.mark.parametrize(
  ('more', 'said'),
  [
    (dict(pooling='men'), "--pooling: 'men' is not a choice; nearest: 'mean'"),
    (dict(labels=99), '--labels: 99 asked for; there are 80'),
  ],
)
def test_what_cannot_be_is_named(more, said, pretrained, path, tmp_path):
  with pytest.raises(ValueError, match=said):
    probing.probe(asked(path, pretrained, **more), tmp_path)
