"""What classes weigh: as the config says, or so that all count the same."""

import json

import numpy as np
import pytest

from tl_jax import config
from tl_jax.config import ConfigError
from tl_jax.train import preparing
from tl_jax.train.checks import check
from tl_jax.train.cohort import signature
from tl_jax.train.weighting import balanced

SMALL = [
  ('model', "{'family': 'tiny', 'layers': 1, 'width': 16, 'heads': 2, 'mlp': 16}"),
  ('tokenizer.size', '300'),
  ('data.length', '16'),
]


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  """A file with three times as many train examples of one class as of the other."""
  names = ('a.rare', 'usual', 'usual', 'usual')
  rows = [
    dict(text=f'w{place}', label=names[place % 4], split='train') for place in range(12)
  ]
  rows += [dict(row, text=f't {row["text"]}', split='test') for row in rows[:4]]
  found = tmp_path_factory.mktemp('own') / 'own.jsonl'
  found.write_text('\n'.join(map(json.dumps, rows)))
  return found


def make_config(path, weights, more=()):
  pairs = [*SMALL, ('task.weights', weights), *more]
  return config.load(f'configs/transfer.py:task={path}', pairs)


def weight_of(ready, label):
  """What an example of a class weighs in the loss of a run."""
  batch = dict(labels=np.array([[label]]), examples=np.array([[1]]))
  return float(ready.parts.objective.weights(batch)['classify'])


def test_classes_weigh_what_is_said(path, tmp_path):
  checked = check(make_config(path, "{'a.rare': 5}"))
  ready = preparing.prepare(checked, tmp_path)
  assert [weight_of(ready, label) for label in (0, 1)] == [5, 1]
  line = f"{path}: an example weighs by its class: 'a.rare' 5, 'usual' 1"
  assert line in ready.notes(checked.settings, np.arange(12))


def test_balanced_classes_count_the_same(path, tmp_path):
  ready = preparing.prepare(check(make_config(path, 'balanced')), tmp_path)
  rare, usual = (weight_of(ready, label) for label in (0, 1))
  assert 3 * rare == pytest.approx(9 * usual) == pytest.approx(6)
  # Of few labels the classes have as many each.
  few = check(make_config(path, 'balanced', [('task.labels', '4')]))
  ready = preparing.prepare(few, tmp_path)
  assert [weight_of(ready, label) for label in (0, 1)] == [1, 1]


def test_every_task_counts_as_much_as_without_weights():
  targets = np.array([0, 0, 0, 1, 3, 3])
  weights = balanced(targets, ((0, 2), (2, 5)))
  assert weights[targets[:4]].sum() == pytest.approx(4)
  assert weights[targets[4:]].tolist() == [1, 1] and weights[[2, 4]].tolist() == [1, 1]


@pytest.mark.parametrize(
  'weights, reason',
  [
    ("{'rere': 2}", "config.task.weights.rere: no class of .*nearest: 'a.rare'"),
    ("{'usual': 0}", 'config.task.weights'),
    ('balancd', 'config.task.weights.*balanced'),
  ],
)
def test_a_weight_that_cannot_be_is_named(path, weights, reason):
  with pytest.raises(ConfigError, match=reason):
    check(make_config(path, weights))


def test_numbers_have_no_classes():
  spec = 'configs/transfer.py:task=intensity'
  made = config.load(spec, [*SMALL, ('task.weights', 'balanced')])
  with pytest.raises(ConfigError, match="config.task.weights: .*'regression'"):
    check(made)


def test_members_of_other_examples_have_a_loss_of_their_own(path):
  def same(weights):
    configs = [make_config(path, weights, [('seed', seed)]) for seed in '12']
    return len(set(map(signature, configs))) == 1

  assert same('None') and same("{'usual': 2}") and not same('balanced')
