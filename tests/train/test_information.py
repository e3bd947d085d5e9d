"""How much a model that writes matters to its own task, for EWC and for merging."""

import json

import jax
import numpy as np
import pytest

from tl_jax import config, files, train, tree
from tl_jax.cli import main as command
from tl_jax.train import preparing
from tl_jax.train.checks import check
from tl_jax.train.information import fisher_of
from tl_jax.train.starting import Own

SHAPES = ('tiny-t5', 'tiny-gpt')
QUICK = [
  ('tokenizer.kind', 'bpe'),
  ('tokenizer.size', '320'),
  ('data.length', '32'),
  ('data.batch', '4'),
  ('data.target_length', '8'),
  ('schedule.steps', '2'),
  ('schedule.warmup', '1'),
  ('log.tensorboard', 'false'),
]
COLORS = ('red', 'blue', 'green', 'pink', 'gray')


def write(path, rows):
  lines = [
    json.dumps(row | dict(split=('train', 'test')[number % 5 == 0]))
    for number, row in enumerate(rows)
  ]
  path.write_text('\n'.join(lines))
  return path


def go(file, workdir, init, method='full', more=()):
  spec = f'configs/transfer.py:task={file},init={init},method={method}'
  if 'chats' not in str(file):
    spec += ',target=answer'
  return train.transfer(config.load(spec, [*QUICK, *more]), workdir)


@pytest.fixture(scope='module', params=SHAPES)
def folders(request, tmp_path_factory):
  """A folder with the workdirs `first` and `second` of two tasks from one base."""
  root = tmp_path_factory.mktemp(request.param)
  # A prompt that the model is given, and a word that it never learns to write.
  rows = [dict(text=f'a {color} cat', answer=color) for color in COLORS * 2]
  back = [dict(text=f'a {color} cat', answer=f'cat {color}') for color in COLORS * 2]
  one, two = write(root / 'one.jsonl', rows), write(root / 'two.jsonl', back)
  small = dict(family=request.param, layers=1, width=16, heads=2, mlp=16)
  if request.param == 'tiny-t5':
    small |= dict(head_dim=8, output_scale=0.25)
  go(one, root / 'base', 'scratch', more=[('model', str(small))])
  go(one, root / 'first', root / 'base')
  go(two, root / 'second', root / 'base')
  return root


def test_the_information_is_that_of_the_targets(folders):
  found = fisher_of(folders / 'first')
  params = tree.flatten(train.load(folders / 'first').params)
  # The head that writes is one with the rest: the next run goes on with it.
  assert found.keys() == params.keys()
  assert all(np.isfinite(leaf).all() and (leaf >= 0).all() for leaf in found.values())
  again = fisher_of(folders / 'first')
  for name, leaf in found.items():
    np.testing.assert_array_equal(leaf, again[name])
    assert leaf.max() > 0 or name.endswith('bias'), name


def test_ewc_weighs_by_what_was_written_before(folders, tmp_path):
  spec = f'configs/transfer.py:task={folders}/two.jsonl,target=answer,method=ewc'
  loaded = config.load(f'{spec},init={folders}/first', QUICK)
  ready = preparing.prepare(check(loaded), tmp_path)
  state = ready.start.state(ready.given(), Own.of(ready.settings))
  held, fisher = state.frozen.weights[0].awaited, fisher_of(folders / 'first')
  assert held.keys() == fisher.keys()
  for name, leaf in held.items():
    np.testing.assert_allclose(leaf, fisher[name], rtol=1e-3, atol=1e-7)

  def change(strength):
    more = [('method.strength', str(strength)), ('optim.lr', '1e-2')]
    more += [('schedule.steps', '8'), ('optim.clip', 'None')]
    workdir = tmp_path / str(strength)
    go(folders / 'two.jsonl', workdir, folders / 'first', 'ewc', more)
    before, after = (
      tree.flatten(train.load(path).params) for path in (folders / 'first', workdir)
    )
    moved = [fisher[name] * (after[name] - before[name]) ** 2 for name in fisher]
    return float(sum(leaf.sum() for leaf in moved))

  # It holds what the task before needs.
  assert change(1e4) < 0.5 * change(0.0)


def test_models_that_write_merge_by_their_information(folders, tmp_path):
  paths = [str(folders / name) for name in ('first', 'second')]
  out = tmp_path / 'merged'
  assert command.main(['merge', 'fisher', *paths, f'--output={out}']) == 0
  report = files.decode((out / 'merge.json').read_text())
  assert [row['metric'] for row in report['sources']] == ['rougeL'] * 2
  bodies = [tree.flatten(train.load(path).params) for path in paths]
  merged = tree.flatten(train.load(out / 'first').params)
  one, two = (fisher_of(path) for path in paths)
  name = 'embedding/tokens'
  weights = [np.asarray(each[name]) + 1e-6 for each in (one, two)]
  pair = [body[name] for body in bodies]
  expected = (weights[0] * pair[0] + weights[1] * pair[1]) / sum(weights)
  clear = sum(weights) > 1e-4
  np.testing.assert_allclose(merged[name][clear], expected[clear], rtol=1e-2, atol=1e-4)
  # What ends its texts goes along.
  said = json.loads((out / 'first' / 'generation_config.json').read_text())
  assert said['eos_token_id'] == [train.load(paths[0]).tokenizer.eos]
  assert jax.tree.all(jax.tree.map(lambda leaf: bool(np.isfinite(leaf).all()), merged))
