"""Runs whose losses are of one law, and those whose are not."""

import shutil

import numpy as np
import pytest
from tiny_runs import write_finished

from tl_jax import checkpoint, config
from tl_jax.report import comparable


def run(folder, *overrides, loss=3.0, examples='a'):
  result = dict(steps=2, tokens=100, metrics=dict(loss=loss), examples=examples)
  write_finished(folder, result, overrides)
  (folder / 'tokenizer.json').write_text('{}')
  return folder


@pytest.fixture
def first(tmp_path):
  return run(tmp_path / 'first')


OTHERS = [
  ([('objective.rate', '0.3')], r'config.objective.rate is 0.3, there 0.15'),
  ([('objective.masking', 'words')], 'config.objective.masking'),
  ([('data.mixture', "{'austen': 1.0}")], r'config.data.mixture is {"austen":1.0}'),
  ([('data.mixture', "{'austen': 0.9, 'vader_movie': 0.1}")], 'config.data.mixture'),
  ([('data.length', '8')], 'config.data.length is 8, there 16'),
  ([('data.column', 'body')], 'config.data.column'),
  ([('data.stages', "((1, {'austen': 1.0}),)")], 'config.data.stages'),
]


@pytest.mark.parametrize(('other', 'message'), OTHERS)
def test_what_makes_a_loss_another_one_is_refused(first, other, message, tmp_path):
  second = run(tmp_path / 'second', *other, loss=2.0)
  with pytest.raises(config.ConfigError, match=f'second: no run of .*first: {message}'):
    comparable.require([first, second])


def test_another_objective_is_named_first(first, tmp_path):
  made = [
    ('model', "{'family': 'tiny-gpt', 'layers': 1, 'width': 16, 'heads': 2}"),
    ('objective', "{'name': 'causal'}"),
  ]
  second = run(tmp_path / 'second', *made, loss=2.0)
  message = 'first: config.objective.name is "causal", there "masked"; give'
  with pytest.raises(config.ConfigError, match=message):
    comparable.require([first, second])


SAME = [
  [('data.unique', "{'austen': 60000}"), ('data.epochs', "{'austen': 4.0}")],
  [('data.mixture', "{'austen': 2, 'vader_movie': 2}")],
  [('schedule.steps', '9'), ('optim.lr', '0.1'), ('data.batch', '8'), ('seed', '3')],
  [('model', "{'family': 'tiny', 'layers': 2, 'width': 32, 'heads': 2}")],
  # As a config has it that leaves out what is usual.
  [('objective', "{'name': 'masked'}")],
]


@pytest.mark.parametrize('other', SAME)
def test_what_a_law_is_of_may_differ(first, other, tmp_path):
  assert comparable.require([first, run(tmp_path / 'second', *other, loss=2.0)]) == []


def test_another_tokenizer_is_refused_by_its_file(first, tmp_path):
  second = run(tmp_path / 'second', loss=2.0)
  (second / 'tokenizer.json').write_text('{"a": 1}')
  with pytest.raises(config.ConfigError, match='another tokenizer'):
    comparable.require([first, second])


@pytest.mark.parametrize('link', [False, True], ids=['copy', 'link'])
def test_a_run_counts_once(first, link, tmp_path):
  again = tmp_path / 'again'
  if link:
    again.symlink_to(first)
  else:
    shutil.copytree(first, again)
  with pytest.raises(config.ConfigError, match='again: the same run as .*first'):
    comparable.require([first, again])


def test_other_held_out_rows_are_said(first, tmp_path):
  second = run(tmp_path / 'second', loss=2.0, examples='b')
  (line,) = comparable.require([first, second])
  assert 'not measured on the same held-out rows' in line


def saying(folder, **meta):
  """The run, with a checkpoint that says this."""
  store = checkpoint.Store(folder / 'checkpoints')
  store.save(2, dict(a=np.zeros(1)), meta)
  store.wait()
  return folder


def test_of_two_digests_of_a_tokenizer_no_file_is_asked(first, tmp_path):
  saying(first, tokenizer=dict(digest='a'))
  second = run(tmp_path / 'second', loss=2.0)
  (second / 'tokenizer.json').write_text('{"a": 1}')
  saying(second, tokenizer=dict(digest='a'))
  assert comparable.require([first, second]) == []
  third = saying(run(tmp_path / 'third', loss=1.0), tokenizer=dict(digest='b'))
  with pytest.raises(config.ConfigError, match='third: .*another tokenizer'):
    comparable.require([first, second, third])


def test_files_are_known_by_their_content(first, tmp_path):
  saying(first, sets=dict(austen='1'), files={'/a/b.txt': '2'})
  moved = [('data.mixture', "{'austen': 1.0, 'c.txt': 1.0}")]
  second = run(tmp_path / 'second', *moved, loss=2.0)
  saying(second, sets=dict(austen='1'), files={'/c.txt': '2'})
  assert comparable.require([first, second]) == []
  changed = saying(run(tmp_path / 'third', loss=1.0), sets=dict(austen='3'))
  with pytest.raises(config.ConfigError, match='third: .* have changed'):
    comparable.require([first, changed])
