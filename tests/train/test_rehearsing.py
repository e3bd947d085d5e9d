"""Runs as learners of a forecast: what they learn, that they are kept, what is refused."""

import json

import numpy as np
import pytest

from tl_jax import config
from tl_jax.config import ConfigError
from tl_jax.train import rehearsing

TRANSFER = 'configs/transfer.py'
SHORT = [
  ('schedule.steps', '30'),
  ('schedule.warmup', '2'),
  ('log.tensorboard', 'false'),
]


@pytest.fixture
def recipe(pretrained, tmp_path):
  """A short transfer of the whole model, as a file of settings."""
  found = config.load(f'{TRANSFER}:init={pretrained}', [*SHORT, ('data.length', '16')])
  path = tmp_path / 'short.json'
  path.write_text(json.dumps(config.to_json(found)))
  return rehearsing.Recipe(str(path), str(pretrained))


def test_a_run_learns_and_is_not_run_again(recipe, tmp_path):
  texts = ['a fine film', 'a poor film'] * 8
  targets = np.array([1, 0] * 8)
  seconds = []
  for _ in range(2):
    learn = rehearsing.learner(recipe, ('bad', 'good'), tmp_path / 'r', seconds.append)
    found = learn(texts, targets)(['a poor film', 'a fine film', 'a poor film'])
    assert found.argmax(1).tolist() == [0, 1, 0]
  # The second time it is read.
  assert seconds[0] == seconds[1] > 0
  assert len(list((tmp_path / 'r').glob('*.jsonl'))) == 1
  learn(texts[:8], targets[:8])(['a fine film'])
  assert len(list((tmp_path / 'r').glob('*.jsonl'))) == 2


def test_a_recipe_has_the_rates_of_its_model(pretrained):
  recipe = rehearsing.Recipe(f'{TRANSFER}:method=lora', str(pretrained))
  loaded = recipe.load('mine.csv')
  assert (loaded.task.name, loaded.init) == ('mine.csv', str(pretrained))
  assert recipe.method == 'lora'


@pytest.mark.parametrize('spec', ['method=in_context', 'method=tf-idf'])
def test_what_trains_no_model_is_refused(pretrained, spec):
  with pytest.raises(ConfigError, match='no config in which a model is trained'):
    _ = rehearsing.Recipe(f'{TRANSFER}:{spec}', str(pretrained)).method
