"""Runs whose optimizer takes less memory: they follow the plain one, and resume."""

import json
import shutil

import numpy as np
import pytest
import tiny_runs

from tl_jax import checkpoint, config, train

SMALL = (
  ('model', "{'family': 'tiny', 'layers': 1, 'width': 64, 'heads': 2, 'mlp': 64}"),
  ('tokenizer.size', '300'),
  ('data.length', '16'),
  ('data.batch', '4'),
  ('data.accumulate', '2'),
  ('data.pack', 'false'),
  ('schedule.warmup', '1'),
  ('schedule.steps', '6'),
  ('checkpoint.every', '3'),
  ('log.every', '1'),
  ('log.tensorboard', 'false'),
)
NARROW = (
  ('compute.dtype', 'bfloat16'),
  ('optim.master_weights', 'true'),
  ('optim.moment_dtype', 'uint8'),
)


def transfer(path, workdir, *more):
  """Six steps with dropout and accumulation on a file of labelled texts."""
  spec = f'configs/transfer.py:task={path}'
  train.run(config.load(spec, (*SMALL, *more)), workdir)
  return workdir


def pretrain(workdir, *more):
  """Sixty steps of a masked pre-training on embedded text."""
  given = (
    ('model', "{'family': 'tiny', 'layers': 1, 'mlp': 128}"),
    ('tokenizer.size', '512'),
    ('data.length', '32'),
    ('optim.lr', '3e-3'),
    ('log.every', '1'),
    ('log.tensorboard', 'false'),
    ('eval.batches', '1'),
  )
  train.run(config.load('configs/pretrain.py:tiny', (*given, *more)), workdir)
  return workdir


def lines(workdir):
  """metrics.jsonl without what a clock says."""
  text = (workdir / 'metrics.jsonl').read_text()
  rows = [json.loads(line) for line in text.splitlines()]
  timed = ('tokens_per_second', 'waiting_share')
  return [{key: row[key] for key in row if key not in timed} for row in rows]


def final_loss(workdir):
  return np.mean([row['loss'] for row in lines(workdir)[-10:]])


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  return tiny_runs.write_task(tmp_path_factory.mktemp('own') / 'own.jsonl')


@pytest.fixture(scope='module')
def narrow(path, tmp_path_factory):
  """A run with masters and 8-bit moments."""
  return transfer(path, tmp_path_factory.mktemp('narrow') / 'run', *NARROW)


def leaves(workdir, step=6):
  return checkpoint.Store(workdir / 'checkpoints').leaves(step)


def test_what_is_saved_has_the_dtypes_that_were_asked_for(narrow):
  kernel = 'layers/0/attention/query/kernel'
  found = {}
  for name, (_, dtype) in leaves(narrow).items():
    if name.endswith(kernel):
      found[name.removesuffix(kernel).strip('/').split('/')[-1]] = dtype
  assert found == dict(
    trainable='bfloat16', masters='float32', codes='uint8', scales='float32'
  )


def test_a_run_with_masters_and_8_bit_moments_resumes_bit_for_bit(
  narrow, path, tmp_path
):
  again = tmp_path / 'run'
  shutil.copytree(narrow, again)
  shutil.rmtree(again / 'checkpoints' / '6')
  (again / 'result.json').unlink()
  transfer(path, again, *NARROW)
  assert lines(again) == lines(narrow)
  like = {}
  for name, (shape, dtype) in leaves(narrow).items():
    if not dtype.startswith('key<'):
      like[name] = np.zeros(shape, np.dtype(dtype))
  stores = [checkpoint.Store(path / 'checkpoints') for path in (narrow, again)]
  first, second = (store.restore(6, like) for store in stores)
  assert len(like) > 10
  for name, leaf in first.items():
    assert np.asarray(leaf).tobytes() == np.asarray(second[name]).tobytes(), name


@pytest.mark.parametrize('key', ['optim.master_weights', 'optim.moment_dtype'])
def test_a_run_does_not_go_on_with_another_choice(narrow, path, key):
  kept = [pair for pair in NARROW if pair[0] != key]
  with pytest.raises(ValueError, match=f'another config: {key}: ') as caught:
    transfer(path, narrow, *kept)
  assert '\n' not in str(caught.value)


def test_the_weights_of_a_run_with_masters_are_those_that_it_read(narrow):
  params = train.restore(narrow)
  assert params['layers']['0']['attention']['query']['kernel'].dtype == 'bfloat16'


@pytest.mark.slow
def test_runs_with_narrow_states_follow_the_plain_one(tmp_path):
  plain = final_loss(pretrain(tmp_path / 'plain'))
  start = lines(tmp_path / 'plain')[0]['loss']
  assert plain < start - 0.5
  for key, value in (*NARROW[1:], ('optim.moment_dtype', 'bfloat16')):
    name = f'{key}-{value}'
    found = final_loss(pretrain(tmp_path / name, (key, value)))
    # Of what was learned, at most 2 % are lost to rounding.
    assert found == pytest.approx(plain, abs=0.02 * (start - plain)), name
