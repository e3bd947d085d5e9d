"""Pre-training on pairs of segments by its config: run, resumed, transferred, opened."""

import json
import shutil

import jax
import numpy as np
import pytest
from tiny_runs import SMALL

from tl_jax import config, interop, train, tree
from tl_jax.data import cuts
from tl_jax.train.checks import check

LINES = [('objective.sentences', 'lines'), ('objective.duplicates', '2')]


def corpus(folder):
  """Some texts, each of documents with a sentence on every line."""
  folder.mkdir()
  words = ['sun', 'rain', 'wind', 'snow', 'fog', 'hail', 'cloud', 'storm']
  for name in 'abcdefghijkl':
    lines = []
    for place in range(15):
      if place % 5 == 0:
        lines.append('')
      lines.append(
        ' '.join(words[(place + i + ord(name)) % 8] for i in range(3 + place % 4))
      )
    (folder / f'{name}.txt').write_text('\n'.join(lines))
  return folder


def settings_of(folder, objective, *more):
  spec = f'configs/pretrain.py:tiny,objective={objective},text={folder}'
  small = [*SMALL, ('data.accumulate', '1'), ('tokenizer.size', '100')]
  steps = [('schedule.steps', '4'), ('checkpoint.every', '2'), ('eval.batches', '1')]
  return config.load(spec, [*small, *steps, *LINES, *more])


def saved(workdir):
  return tree.flatten(jax.tree.map(np.asarray, train.restore(workdir)))


# Two layers that share their parameters, and tokens of a width of their own.
ALBERT = (
  'model',
  "{'family': 'albert-base', 'layers': 2, 'width': 16, 'heads': 2, 'mlp': 16, "
  "'embedding_width': 8}",
)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('objective', 'family', 'window'),
  [
    ('next_sentence', 'Bert', cuts.SIZE),
    ('next_sentence', 'Bert', 4),
    ('sentence_order', 'Bert', cuts.SIZE),
    ('sentence_order', 'Bert', 4),
    ('sentence_order', 'Albert', cuts.SIZE),
  ],
)
def test_it_trains_resumes_bit_for_bit_and_goes_into_a_transfer(
  objective, family, window, tmp_path, monkeypatch
):
  """Planned whole, and in windows of pairs that are cut when they are read."""
  monkeypatch.setattr(cuts, 'SIZE', window)
  folder = corpus(tmp_path / 'texts')
  more = [ALBERT] if family == 'Albert' else []
  settings = settings_of(folder, objective, *more)
  result = train.pretrain(settings, tmp_path / 'run')
  assert {'loss/masked', 'loss/pair', 'pair_accuracy'} <= result['metrics'].keys()
  trained = {'pooler/kernel', 'head/pair/kernel'}
  assert trained <= set(result['trained'])

  shutil.copytree(tmp_path / 'run', tmp_path / 'again')
  shutil.rmtree(tmp_path / 'again' / 'checkpoints' / '4')
  (tmp_path / 'again' / 'result.json').unlink()
  train.pretrain(settings, tmp_path / 'again')
  first, second = saved(tmp_path / 'run'), saved(tmp_path / 'again')
  for name, leaf in first.items():
    np.testing.assert_array_equal(leaf, second[name], err_msg=name)

  loaded = train.load(tmp_path / 'run')
  exported = interop.save(tmp_path / 'exported', loaded)
  written = json.loads((exported / 'config.json').read_text())
  assert written['architectures'] == [f'{family}ForPreTraining']
  _opens_in_transformers(exported, loaded, family)
  # It comes back whole: the same model, the same numbers.
  again = interop.load(exported)
  assert again.arch.pair_head and again.arch.layer_groups == loaded.arch.layer_groups
  jax.tree.map(np.testing.assert_array_equal, loaded.params, again.params)

  chosen = [('data.length', '16'), ('task.test', '8'), ('log.tensorboard', 'false')]
  spec = f'configs/transfer.py:task=sentiment,init={tmp_path / "run"},labels=8'
  short = [('schedule.steps', '1'), ('schedule.warmup', '0'), ('data.batch', '4')]
  train.transfer(config.load(spec, [*chosen, *short]), tmp_path / 'transfer')
  account = json.loads((tmp_path / 'transfer' / 'account.json').read_text())
  outcomes = {leaf['target']: leaf['outcome'] for leaf in account['leaves']}
  assert outcomes['pooler/kernel'] == 'copied'
  assert outcomes['layers/0/mlp/in/kernel'] == 'copied'
  classifier = train.load(tmp_path / 'transfer')
  exported = interop.save(tmp_path / 'classifier', classifier)
  _classifies_in_transformers(exported, classifier)


def _opens_in_transformers(folder, loaded, family):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  name = f'{family}ForPreTraining'
  theirs = getattr(transformers, name).from_pretrained(folder).eval()
  ids = np.random.default_rng(0).integers(5, 50, (2, 9))
  types = (np.arange(9) > 4) + 0 * ids
  with torch.no_grad():
    expected = theirs(input_ids=torch.tensor(ids), token_type_ids=torch.tensor(types))
  batch = dict(tokens=ids, types=types)
  ours = loaded.model.apply(loaded.params, batch, keep=('pair',))
  words = expected.prediction_logits
  pairs = expected['sop_logits' if family == 'Albert' else 'seq_relationship_logits']
  np.testing.assert_allclose(ours.logits, words.numpy(), atol=1e-4)
  np.testing.assert_allclose(ours.pair[:, 0], pairs.numpy(), atol=1e-4)


def _classifies_in_transformers(folder, loaded):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  open_ = transformers.AutoModelForSequenceClassification.from_pretrained
  theirs = open_(folder).eval()
  ids = np.random.default_rng(1).integers(5, 50, (2, 9))
  with torch.no_grad():
    expected = theirs(input_ids=torch.tensor(ids)).logits.numpy()
  ours = loaded.model.apply(loaded.params, dict(tokens=ids)).logits
  np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_a_model_without_a_pooler_of_its_own_is_refused(tmp_path):
  folder = corpus(tmp_path / 'texts')
  model = "{'family': 'roberta-base'}"
  with pytest.raises(config.ConfigError, match='needs a pooler in the body'):
    check(settings_of(folder, 'next_sentence', ('model', model)))
  with pytest.raises(config.ConfigError, match='sentences'):
    check(settings_of(folder, 'next_sentence', ('objective.sentences', 'words')))
