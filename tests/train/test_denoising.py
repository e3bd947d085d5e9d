"""UL2 and BART from their first step to transformers: pre-trained, resumed bitwise,
transferred, exported.
"""

import json
import shutil

import jax
import numpy as np
import pytest

import tl_jax
from tl_jax import config, train
from tl_jax.train import checks

# One layer of each stack.
MODEL = "{{'family': '{}', 'layers': 1, 'width': 16, 'heads': 2, 'mlp': 16}}"
FEW = [
  ('tokenizer.size', '512'),
  ('data.batch', '4'),
  ('data.mixture', "{'vader_amazon': 1.0}"),
  ('log.every', '1'),
  ('log.tensorboard', 'false'),
  ('eval.batches', '1'),
]
# What classifiers of these families in transformers have.
READING = {
  'tiny-ul2': "{'pool': 'last', 'pooler': 'tanh', 'head_bias': True}",
  'tiny-bart': "{'pool': 'last', 'pooler': 'tanh'}",
}


JOINED = ',objective=joined_denoisers'


def pretrain(family, workdir, argument=''):
  more = [*FEW, ('model', MODEL.format(family)), ('schedule.steps', '6')]
  more += [('checkpoint.every', '3'), ('schedule.warmup', '1')]
  spec = f'configs/pretrain.py:{family}{argument}'
  return train.run(config.load(spec, more), workdir)


def losses(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['loss'] for line in lines]


@pytest.fixture(scope='module', params=READING)
def trained(request, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run')
  pretrain(request.param, workdir)
  return request.param, workdir


def logits_of(model, batch):
  return np.asarray(model.model.apply(model.params, batch).logits)


@pytest.mark.slow
def test_a_run_that_goes_on_draws_and_learns_the_same(trained, tmp_path):
  family, workdir = trained
  again = tmp_path / 'run'
  shutil.copytree(workdir, again)
  # As after a kill behind the third step.
  (again / 'result.json').unlink()
  shutil.rmtree(again / 'checkpoints' / '6')
  pretrain(family, again)
  assert losses(again) == losses(workdir)
  whole, resumed = tl_jax.restore(workdir), tl_jax.restore(again)
  jax.tree.map(np.testing.assert_array_equal, whole, resumed)


@pytest.mark.slow
def test_what_was_pretrained_opens_in_transformers(trained, tmp_path):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  _, workdir = trained
  ours = tl_jax.load(workdir)
  tl_jax.save(tmp_path, ours, format='hf')
  theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
  # Both begin a text with what ends one (BART), or with padding (T5).
  start = theirs.config.decoder_start_token_id
  assert start == (ours.arch.start or ours.tokenizer.pad)
  random = np.random.default_rng(0)
  tokens = random.integers(40, 400, (2, 12))
  written = random.integers(40, 400, (2, 7))
  with torch.no_grad():
    found = theirs(
      input_ids=torch.tensor(tokens), decoder_input_ids=torch.tensor(written)
    )
  own = logits_of(ours, dict(tokens=tokens, decoder_tokens=written))
  assert np.abs(found.logits.numpy() - own).max() < 1e-4


@pytest.mark.slow
def test_it_transfers_to_sentiment_and_opens_in_transformers(trained, tmp_path):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  family, workdir = trained
  more = [('schedule.steps', '2'), ('schedule.warmup', '1'), ('task.test', '20')]
  more += [('model', READING[family]), ('log.tensorboard', 'false')]
  name = f'configs/transfer.py:task=sentiment,method=full,init={workdir},labels=20'
  train.run(config.load(name, more), tmp_path / 'run')
  ours = tl_jax.load(tmp_path / 'run')
  tl_jax.save(tmp_path / 'hf', ours, format='hf')
  open_ = transformers.AutoModelForSequenceClassification.from_pretrained
  theirs = open_(tmp_path / 'hf').eval()
  tokens = np.random.default_rng(0).integers(40, 400, (2, 12))
  tokens[:, -1] = ours.tokenizer.eos
  with torch.no_grad():
    found = theirs(input_ids=torch.tensor(tokens)).logits.numpy()
  own = logits_of(ours, dict(tokens=tokens))
  assert np.abs(found - own).max() < 1e-4


@pytest.mark.slow
def test_a_decoder_alone_restores_what_stands_before_it(tmp_path):
  """UL2 on a decoder: trained, resumed bit for bit, opened as what goes on with texts."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  whole, again = tmp_path / 'run', tmp_path / 'again'
  pretrain('tiny-gpt', whole, JOINED)
  shutil.copytree(whole, again)
  (again / 'result.json').unlink()
  shutil.rmtree(again / 'checkpoints' / '6')
  pretrain('tiny-gpt', again, JOINED)
  assert losses(again) == losses(whole)
  jax.tree.map(
    np.testing.assert_array_equal, tl_jax.restore(whole), tl_jax.restore(again)
  )
  ours = tl_jax.load(whole)
  tl_jax.save(tmp_path / 'hf', ours, format='hf')
  theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'hf').eval()
  tokens = np.random.default_rng(0).integers(40, 400, (2, 12))
  with torch.no_grad():
    found = theirs(input_ids=torch.tensor(tokens)).logits.numpy()
  own = logits_of(ours, dict(tokens=tokens))
  assert np.abs(found - own).max() < 1e-4


def test_two_texts_are_joined_for_a_decoder_alone():
  loaded = config.load(f'configs/pretrain.py:tiny-ul2{JOINED}')
  with pytest.raises(config.ConfigError, match="'joined_denoisers' needs a model of"):
    checks.check(loaded)
  loaded = config.load('configs/pretrain.py:tiny-gpt,objective=denoisers')
  with pytest.raises(config.ConfigError, match="'denoisers' needs a model of kind"):
    checks.check(loaded)


@pytest.mark.parametrize(
  ('family', 'key', 'value'),
  [('tiny', 'masking', 'words'), ('tiny-gpt', 'prefix', True)],
)
def test_a_setting_of_an_objective_is_taken_before_there_is_a_tokenizer(
  family, key, value
):
  loaded = config.load(
    f'configs/pretrain.py:{family}', [(f'objective.{key}', str(value))]
  )
  assert checks.check(loaded).settings.objective[key] == value


def test_a_denoiser_that_is_none_is_refused_with_the_nearest():
  more = [('objective.mixture', "{'r3_16': 1.0}")]
  loaded = config.load('configs/pretrain.py:tiny-ul2', more)
  with pytest.raises(config.ConfigError, match="unknown name 'r3_16'.*'r3_15'"):
    checks.check(loaded)
