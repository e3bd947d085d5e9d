"""What an export tells whoever opens it: with peft, of a T5 that classifies, of an
ELECTRA and of a prefix language model.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import config, interop, train
from tl_jax import models as networks
from tl_jax.cli import main as command
from tl_jax.cli import models
from tl_jax.data import tokenizers


@pytest.mark.parametrize(
  ('base', 'verb'),
  [('qwen.gguf', '`tl-jax import qwen.gguf BASE`'), ('QWEN.GGUF', 'import QWEN.GGUF')],
)
def test_a_gguf_file_is_no_base_of_peft(base, verb):
  line = models._of_base(base)
  assert verb in line and '--base=BASE' in line and len(line) < 200


def test_a_workdir_is_no_base_of_peft_and_a_folder_or_a_name_is(tmp_path):
  (tmp_path / 'run' / 'checkpoints').mkdir(parents=True)
  line = models._of_base(str(tmp_path / 'run'))
  assert f'`tl-jax export {tmp_path / "run"} BASE`' in line
  assert models._of_base(str(tmp_path)) == models._of_base('someone/model') == ''
  assert '--format=hf' in models._of_base('scratch')


def test_the_labels_of_an_adapter_are_for_whoever_opens_it():
  adapted = interop.Loaded(None, {}, None, None, labels=('neg', 'pos'))
  assert "id2label={0: 'neg', 1: 'pos'}" in models._of_labels(adapted)
  many = adapted._replace(labels=tuple(map(str, range(100))))
  line = models._of_labels(many)
  assert 'labels.json' in line and len(line) < 200
  assert models._of_labels(adapted._replace(labels=())) == ''


def test_an_electra_is_exported_with_its_generator_which_is_told(tmp_path, capsys):
  tokenizer = tokenizers.train(['a good film'] * 20, 'wordpiece', 300)
  arch = networks.arch(
    'tiny-electra', layers=1, vocabulary=tokenizer.vocabulary_size, head='replaced'
  )
  model = networks.build(arch)
  loaded = interop.Loaded(model, model.init(jax.random.key(0)), tokenizer, arch)
  target = tmp_path / 'out'
  models._write(loaded, str(target))
  said = capsys.readouterr().out.splitlines()
  assert said[1].startswith(f'{target}/generator: the generator that it learned from')
  assert interop.load(target / 'generator').arch.head == 'masked'


@pytest.mark.parametrize(
  ('spec', 'prefixes'),
  [
    ('pretrain.py:tiny-gpt', False),
    ('pretrain.py:tiny-gpt,objective=joined_denoisers', True),
    ('pretrain.py:tiny', False),
    ('transfer.py:task=sentiment', False),
  ],
)
def test_a_workdir_knows_whether_it_read_prefixes(tmp_path, spec, prefixes):
  made = config.to_json(config.load(f'configs/{spec}'))
  (tmp_path / 'config.json').write_text(json.dumps(dict(config=made)))
  assert train.reads_prefixes(tmp_path) == prefixes
  if 'prefix' in made.get('objective', {}):
    made['objective']['prefix'] = True
    (tmp_path / 'config.json').write_text(json.dumps(dict(config=made)))
    assert train.reads_prefixes(tmp_path)


@pytest.mark.slow
def test_a_t5_that_classifies_as_transformers_does_is_exported(tmp_path, capsys):
  tokenizer = tokenizers.train(['a good film', 'a bad film'] * 20, 'wordpiece', 300)
  arch = networks.arch(
    'tiny-t5', layers=1, vocabulary=tokenizer.vocabulary_size, head='causal'
  )
  model = networks.build(arch)
  params = model.init(jax.random.key(0))
  base = tmp_path / 't5'
  interop.save(base, interop.Loaded(model, params, tokenizer, arch))

  def transfer(name, **reading):
    words = [
      f'--config=configs/transfer.py:task=sentiment,init={base},labels=8',
      f'--workdir={tmp_path / name}',
      f'--config.model={reading}',
      '--config.schedule.steps=2',
      '--config.schedule.warmup=1',
      '--config.data.length=32',
      '--config.data.batch=4',
      '--config.task.test=20',
      '--config.log.tensorboard=false',
    ]
    assert command.main(['transfer', *words]) == 0
    return command.main(['export', str(tmp_path / name), str(tmp_path / f'{name}-out')])

  assert transfer('mean') == 2
  said = capsys.readouterr()
  assert 'not for export: T5ForSequenceClassification' in said.out
  assert 'cannot be exported: T5ForSequenceClassification' in said.err
  assert transfer('last', pool='last', pooler='tanh') == 0
  assert 'not for export' not in capsys.readouterr().out
  ours, theirs = train.load(tmp_path / 'last'), interop.load(tmp_path / 'last-out')
  batch = {'tokens': jnp.array([tokenizer.encode('a good film')])}
  answers = [each.model.apply(each.params, batch).logits for each in (ours, theirs)]
  assert np.array_equal(*answers)
