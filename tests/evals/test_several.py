"""Several runs of each side: seeds and examples both count."""

import json

import numpy as np
import pytest

from tl_jax.config import ConfigError
from tl_jax.evals import comparing, several

COUNT = 400


def write(path, is_right):
  lines = []
  for index, right in enumerate(is_right):
    answer = 'good' if right else 'bad'
    lines.append(json.dumps(dict(text=str(index), target='good', prediction=answer)))
  path.write_text('\n'.join(lines))
  return path


def runs(folder, name, rates, seed):
  """A file for each rate, whose answers are right so often."""
  generator = np.random.default_rng(seed)
  found = []
  for number, rate in enumerate(rates):
    path = folder / f'{name}{number}.jsonl'
    found.append(write(path, generator.random(COUNT) < rate))
  return found


def test_what_another_seed_changes_as_much_is_no_difference(tmp_path):
  # Two runs alone differ by far; so do the seeds of a side.
  first = runs(tmp_path, 'a', (0.9, 0.7, 0.8), 0)
  second = runs(tmp_path, 'b', (0.7, 0.85, 0.75), 1)
  alone = comparing.compare(comparing.pair(first[0], second[0]))
  assert alone.comparisons[0].is_different()
  report = several.compare(first, second, 'accuracy')
  [found] = report.comparisons
  assert not found.is_different() and found.by_seed > 3 * found.by_example
  assert 'no difference at 5 % between A and B over 3 and 3 runs' in report.sentence


def test_what_all_seeds_show_is_a_difference(tmp_path):
  first = runs(tmp_path, 'a', (0.9, 0.89, 0.9), 0)
  second = runs(tmp_path, 'b', (0.8, 0.79, 0.81), 1)
  report = several.compare(first, second, 'accuracy')
  [found] = report.comparisons
  assert found.is_different() and found.difference.low > 0.05
  assert found.first.low < found.first.mean < found.first.high
  assert report.sentence.startswith('accuracy of A is higher than that of B by 0.')
  assert report.as_dict()['metrics']['accuracy']['different'] is True
  # The other way around it is the same with the other sign.
  [turned] = several.compare(second, first, 'accuracy').comparisons
  assert turned.difference.mean == pytest.approx(-found.difference.mean)
  assert turned.p_value == pytest.approx(found.p_value)


def test_intervals_cover_the_truth_for_new_seeds_and_new_examples(tmp_path):
  """Runs whose rates vary by seed around a common mean, on examples drawn anew."""
  generator = np.random.default_rng(5)
  covered = 0
  for trial in range(60):
    rates = np.clip(generator.normal(0.8, 0.03, 6), 0, 1)
    first = runs(tmp_path, 'a', rates[:3], [trial, 0])
    second = runs(tmp_path, 'b', rates[3:], [trial, 1])
    [found] = several.compare(first, second, 'accuracy', samples=100).comparisons
    covered += found.difference.low <= 0 <= found.difference.high
  assert covered >= 53


def test_every_side_needs_runs_of_its_own(tmp_path):
  first = runs(tmp_path, 'a', (0.9, 0.8), 0)
  second = runs(tmp_path, 'b', (0.9, 0.8), 1)
  with pytest.raises(ConfigError, match='B: .*b0.jsonl: several runs of one side need'):
    several.compare(first, second[:1])
  with pytest.raises(ConfigError, match='a1.jsonl: is named twice'):
    several.compare(first, [second[0], first[1]])
