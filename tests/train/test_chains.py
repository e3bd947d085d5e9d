"""Chains: pre-training that goes on from a checkpoint, an intermediate task, a second
task.
"""

import json

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given, settings

import tl_jax
from tl_jax import config, models, tree
from tl_jax.config import ConfigError
from tl_jax.train import preparing, run
from tl_jax.train.checks import check
from tl_jax.train.datasets import open_task
from tl_jax.train.drawing import tempered
from tl_jax.train.information import fisher_of, information, spread, training_examples
from tl_jax.train.restoring import open_workdir
from tl_jax.train.starting import Own

SMALL = [
  ('data.length', '32'),
  ('data.batch', '4'),
  ('schedule.steps', '4'),
  ('schedule.warmup', '1'),
  ('log.tensorboard', 'false'),
]


def go(file, workdir, *more):
  run(config.load(f'configs/{file}', [*SMALL, *more]), workdir)
  return workdir


@pytest.fixture(scope='module')
def adapted(pretrained, tmp_path_factory):
  return go(
    f'adapt.py:init={pretrained},text=debian',
    tmp_path_factory.mktemp('chain') / 'adapted',
  )


def test_pre_training_goes_on_with_the_same_tokenizer_and_head(pretrained, adapted):
  account = json.loads((adapted / 'account.json').read_text())
  assert account['counts']['copied'] == len(account['leaves'])
  before, after = (tree.flatten(tl_jax.restore(path)) for path in (pretrained, adapted))
  assert before.keys() == after.keys()
  assert not np.array_equal(before['head/bias'], after['head/bias'])
  assert tl_jax.load(pretrained).tokenizer.encode('an editor') == tl_jax.load(
    adapted
  ).tokenizer.encode('an editor')
  # Four small steps from there: far nearer to it than a model of another seed would be.
  name = 'layers/0/mlp/in/kernel'
  assert np.abs(after[name] - before[name]).max() < 0.1 * np.abs(before[name]).max()


def test_an_intermediate_task_and_two_methods_at_once(adapted):
  first = go(
    f'transfer.py:task=topic,method=full,init={adapted},labels=12',
    adapted.parent / 'first',
    ('task.test', '12'),
  )
  last = go(
    f'transfer.py:task=sentiment,method=lora+l2sp,init={first},labels=8',
    adapted.parent / 'second',
    ('task.test', '8'),
  )
  result = json.loads((last / 'result.json').read_text())
  assert result['method'] == 'lora+l2sp'
  assert result['trained_parameters'] < result['total_parameters'] / 5
  outcomes = {
    leaf['target']: leaf['outcome']
    for leaf in json.loads((last / 'account.json').read_text())['leaves']
  }
  assert (
    outcomes['head/kernel'] == 'fresh'
    and outcomes['layers/0/mlp/in/kernel'] == 'copied'
  )


@pytest.mark.slow
def test_ewc_weighs_by_the_task_before(pretrained, tmp_path):
  first = go(
    f'transfer.py:task=topic,method=full,init={pretrained},labels=12',
    tmp_path / 'before',
    ('task.test', '12'),
  )
  file = f'configs/transfer.py:task=sentiment,method=ewc,init={first},labels=8'
  ready = preparing.prepare(check(config.load(file, SMALL)), tmp_path / 'before')
  state = ready.start.state(ready.given(), Own.of(ready.settings))
  held, fisher = state.frozen.weights[0].awaited, fisher_of(first)
  assert held.keys() == fisher.keys() and not any(
    name.startswith('head/') for name in held
  )
  for name, leaf in held.items():
    np.testing.assert_allclose(leaf, fisher[name], rtol=1e-4, atol=1e-9)
  assert max(float(leaf.max()) for leaf in held.values()) > 0
  with pytest.raises(ConfigError, match='a workdir of pre-training'):
    go(
      f'transfer.py:task=sentiment,method=ewc,init={pretrained},labels=8',
      tmp_path / 'never',
    )


@pytest.fixture(scope='module')
def both(pretrained, tmp_path_factory):
  """A workdir of two tasks at once."""
  return go(
    f'transfer.py:task=sentiment+topic,method=full,init={pretrained},labels=24',
    tmp_path_factory.mktemp('chain') / 'both',
    ('task.test', '40'),
    ('task.temperature', '2.0'),
    ('schedule.steps', '6'),
  )


@pytest.mark.slow
def test_information_of_two_tasks_is_that_of_examples_of_both_over_their_own_labels(
  both,
):
  opened = open_workdir(both)
  task = open_task(opened.settings.task, '')
  examples = training_examples(opened, task, both, 6)
  labels = examples['labels'].reshape(-1)
  assert len(labels) == 6 and set(labels < 2) == {True, False}
  model, name = models.build(opened.arch), 'layers/0/attention_norm/scale'

  def outputs(leaf, example):
    params = tree.unflatten({**tree.flatten(opened.params), name: leaf})
    return model.apply(
      params, {key: value[None] for key, value in example.items()}
    ).logits.reshape(-1)

  wanted = 0.0
  for index, label in enumerate(labels):
    example = {key: value[index] for key, value in examples.items()}
    logits, slopes = (
      function(tree.flatten(opened.params)[name], example)
      for function in (outputs, jax.jacrev(outputs))
    )
    own = slice(0, 2) if label < 2 else slice(2, 14)
    chances = np.exp(logits[own]) / np.exp(logits[own]).sum()
    scores = slopes[own] - (chances[:, None] * slopes[own]).sum(0)
    wanted += (chances[:, None] * np.square(scores)).sum(0) / 6
  found = information(opened, both, 6)
  np.testing.assert_allclose(found[name], wanted, rtol=1e-3, atol=1e-9)
  assert max(float(leaf.max()) for leaf in found.values()) > 0


def test_a_few_examples_are_spread_over_all_and_every_part_has_one():
  chosen, part = np.arange(100, 200), np.repeat([0, 1], [97, 3])
  few = spread(chosen, part, 10)
  assert few[-1] >= 197 and len(few) == 10 and (np.diff(few[:-1]) >= 10).all()
  assert np.array_equal(spread(chosen, part, 100), chosen)


def test_two_tasks_share_a_body_and_have_a_head_each(both):
  workdir = both
  result = json.loads((workdir / 'result.json').read_text())
  assert (
    result['labels'] == 48
    and {'accuracy', 'sentiment/accuracy', 'topic/accuracy'} <= result['metrics'].keys()
  )
  rows = [
    json.loads(line)
    for line in (workdir / 'predictions.jsonl').read_text().splitlines()
  ]
  assert {row['target'].split(':')[0] for row in rows} == {'sentiment', 'topic'}
  assert all(
    row['target'].split(':')[0] == row['prediction'].split(':')[0] for row in rows
  )
  assert tl_jax.load(workdir).arch.labels == 14


def test_what_cannot_go_on_is_named(adapted):
  with pytest.raises(
    ConfigError, match="objective.name: 'causal' needs a model of kind 'decoder'"
  ):
    go(f'adapt.py:init={adapted},objective=causal', adapted.parent / 'never')


@settings(max_examples=40)
@given(st.lists(st.integers(1, 300), min_size=2, max_size=4), st.floats(1.0, 50.0))
def test_temperature_evens_out_what_tasks_contribute(sizes, temperature):
  starts = np.cumsum([0, *sizes])
  chosen = [
    np.arange(first, end) for first, end in zip(starts, starts[1:], strict=False)
  ]
  found = tempered(chosen, temperature)
  counts = np.array([np.isin(found, part).sum() for part in chosen])
  shares = np.array(sizes) ** (1 / temperature)
  np.testing.assert_allclose(
    counts, np.maximum(1, shares / shares.sum() * sum(sizes)), atol=0.51
  )
  for part, count in zip(chosen, counts, strict=True):
    assert len(set(found) & set(part)) == min(len(part), count)
