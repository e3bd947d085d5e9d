"""What finished runs say of their losses, and the published laws."""

import json

import pytest
from tiny_runs import write_finished

from tl_jax.config import ConfigError
from tl_jax.evals import scaling
from tl_jax.report import losses

LAW = scaling.Law(1.8, 200.0, 500.0, 0.33, 0.30)


def test_published_laws_are_those_of_their_papers():
  found = losses.published_laws()
  chinchilla, refit, constrained = found.values()
  assert chinchilla.loss(70e9, 1.4e12) == pytest.approx(1.9366, abs=1e-4)
  assert (refit.floor, refit.beta) == (1.81686, 0.36585)
  value = constrained.loss(6.34e9, 242e9, 25e9)
  assert value == pytest.approx(2.2256440889984477, rel=1e-12)


def write_run(
  folder, parameters=1000, tokens=4000, unique=1000, task='pretrain', loss=3.0
):
  result = dict(
    task=task,
    steps=40,
    tokens=tokens,
    unique_tokens=unique,
    total_parameters=parameters,
    metrics=dict(loss=loss),
  )
  write_finished(folder, result)
  lines = [dict(step=10, **{'test/loss': 5.0}), dict(step=40, **{'test/loss': 3.5})]
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  (folder / 'evaluations.jsonl').write_text(text)
  return folder


def test_a_run_says_its_losses_and_their_tokens(tmp_path):
  folder = write_run(tmp_path / 'run')
  (last,) = losses.points_of(folder, on_the_way=False)
  assert last == (str(folder), 1000, 4000, 1000, 3.0)
  first, again = losses.points_of(folder, on_the_way=True)
  # The last loss is that of the result, which is of more text.
  assert again == last
  assert (first.tokens, first.unique, first.loss) == (1000, 1000, 5.0)


def test_what_is_no_run_of_pre_training_is_named(tmp_path):
  with pytest.raises(ConfigError, match='nowhere: no finished run'):
    losses.points_of(tmp_path / 'nowhere', False)
  for name, more in (('old', dict(tokens=0)), ('task', dict(task='sentiment'))):
    folder = write_run(tmp_path / name, **more)
    with pytest.raises(ConfigError, match=f'{name}: result.json does not say how many'):
      losses.points_of(folder, False)


def test_runs_that_do_not_suffice_are_refused(tmp_path):
  folders = []
  for number in range(3):
    folders.append(str(write_run(tmp_path / str(number), loss=3.0 + number)))

  def asked(count, on_the_way=False, parameters=0.0):
    wanted = losses.Asked(1e6, parameters, 0.0)
    return losses.forecast_loss(folders[:count], wanted, on_the_way)

  with pytest.raises(ConfigError, match='2 losses are too few'):
    asked(2)
  with pytest.raises(ConfigError, match='all runs have as many tokens'):
    asked(3)
  with pytest.raises(ConfigError, match='--parameters=5000: all runs have 1000'):
    asked(3, True, 5000.0)


def asked_of(tokens, parameters=1000, unique=0.0):
  """What is said of a question to two runs of 1,000 parameters."""
  laws = dict.fromkeys(
    losses.FORMS, scaling.Forecast(LAW, (LAW,), (0.1,), True, (0.1,))
  )
  points = [scaling.Point(name, 1000, 4000, 4000, 3.0) for name in 'ab']
  asked = losses.Asked(tokens, parameters, unique or tokens)
  return ' '.join(losses.sentences(losses.Found(asked, tuple(points), laws)))


def test_what_no_run_at_hand_is_like_is_said():
  assert 'at hand' not in asked_of(4000)
  assert 'No run at hand has so few tokens, the shortest 4k' in asked_of(1000)
  assert 'so few parameters, the smallest 1k' in asked_of(4000, 10)
  said = asked_of(4000, unique=1e9)
  assert '1 passes' in said and '1B unique tokens are more than the 4k' in said
