"""ELECTRA by its config: run, resumed, opened in transformers, transferred."""

import json
import shutil

import jax
import numpy as np
import pytest
from tiny_runs import SMALL

from tl_jax import config, interop, train, tree

MODEL = (
  'model',
  "{'family': 'tiny-electra', 'layers': 1, 'width': 16, 'mlp': 16, 'heads': 2, "
  "'generator': 8, 'embedding_width': 12}",
)


def settings_of(*more):
  small = [*SMALL, MODEL, ('data.accumulate', '1'), ('eval.batches', '1')]
  steps = [('schedule.steps', '4'), ('checkpoint.every', '2')]
  spec = 'configs/pretrain.py:tiny-electra,text=vader_nyt'
  return config.load(spec, [*small, *steps, *more])


def saved(workdir):
  return tree.flatten(jax.tree.map(np.asarray, train.restore(workdir)))


@pytest.mark.slow
def test_it_trains_resumes_bit_for_bit_and_goes_into_a_transfer(tmp_path):
  result = train.pretrain(settings_of(), tmp_path / 'run')
  assert {'loss/generator', 'loss/replaced', 'replaced_accuracy'} <= set(
    result['metrics']
  )

  shutil.copytree(tmp_path / 'run', tmp_path / 'again')
  shutil.rmtree(tmp_path / 'again' / 'checkpoints' / '4')
  (tmp_path / 'again' / 'result.json').unlink()
  train.pretrain(settings_of(), tmp_path / 'again')
  first, second = saved(tmp_path / 'run'), saved(tmp_path / 'again')
  for name, leaf in first.items():
    np.testing.assert_array_equal(leaf, second[name], err_msg=name)

  loaded = train.load(tmp_path / 'run')
  folder = interop.save(tmp_path / 'exported', loaded)
  _opens_in_transformers(folder, loaded)

  chosen = [('data.length', '16'), ('task.test', '8'), ('log.tensorboard', 'false')]
  spec = f'configs/transfer.py:task=sentiment,init={tmp_path / "run"},labels=8'
  short = [('schedule.steps', '1'), ('schedule.warmup', '0'), ('data.batch', '4')]
  train.transfer(config.load(spec, [*chosen, *short]), tmp_path / 'transfer')
  account = json.loads((tmp_path / 'transfer' / 'account.json').read_text())
  outcomes = {leaf['target']: leaf['outcome'] for leaf in account['leaves']}
  assert outcomes['layers/0/mlp/in/kernel'] == 'copied'
  assert outcomes['embedding/tokens'] == 'copied'
  assert 'generator' not in str(train.restore(tmp_path / 'transfer').keys())


def _opens_in_transformers(folder, loaded):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  ids = np.random.default_rng(0).integers(5, 50, (2, 9))

  def theirs(name, path):
    model = getattr(transformers, name).from_pretrained(path).eval()
    with torch.no_grad():
      return model(input_ids=torch.tensor(ids)).logits.numpy()

  ours = loaded.model.apply(loaded.params, dict(tokens=ids)).logits
  expected = theirs('ElectraForPreTraining', folder)
  np.testing.assert_allclose(ours, expected, atol=1e-4)
  words = loaded.model.apply(loaded.params, dict(tokens=ids), generator=True).logits
  expected = theirs('ElectraForMaskedLM', folder / 'generator')
  np.testing.assert_allclose(words, expected, atol=1e-4)
  # Both folders come back, each as what it is.
  assert interop.load(folder).arch.head == 'replaced'
  assert interop.load(folder / 'generator').arch.head == 'masked'
