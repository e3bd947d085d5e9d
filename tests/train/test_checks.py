"""Settings of the two modes: what is unknown to one of them, and old configs."""

import json
import math

import pytest

from tl_jax import config, interop, models
from tl_jax.config import ConfigError
from tl_jax.train import assembly
from tl_jax.train.checks import read
from tl_jax.train.preparing import lines_on_defaults, lines_on_export
from tl_jax.train.restoring import read_settings
from tl_jax.train.settings import Pretrain, Transfer

TRANSFER = 'configs/transfer.py:task=sentiment'
PRETRAIN = 'configs/pretrain.py:tiny'


def test_the_task_chooses_the_mode():
  assert type(read(config.load(TRANSFER))) is Transfer
  assert type(read(config.load(PRETRAIN))) is Pretrain


@pytest.mark.parametrize(
  'file, key, value, nearest',
  [
    (TRANSFER, 'objective', dict(name='masked'), "'optim'"),
    (TRANSFER, 'unigram_bias', False, ''),
    (TRANSFER, 'data.mixture', {'austen': 1.0}, ''),
    (TRANSFER, 'data.column', '', ''),
    (TRANSFER, 'eval.batches', 0, "'patience'"),
    (PRETRAIN, 'data.examples_per_row', 0, ''),
  ],
)
def test_a_key_of_the_other_mode_is_unknown_whatever_its_value(
  file, key, value, nearest
):
  changed = config.load(file)
  *groups, name = key.split('.')
  group = changed
  for part in groups:
    group = group[part]
  with group.unlocked():
    group[name] = value
  with pytest.raises(
    ConfigError, match=f'^config.{key}: unknown key of .*; nearest: .*{nearest}'
  ):
    read(changed)


def test_a_mistyped_key_is_unknown_to_its_mode_alone():
  with pytest.raises(ConfigError, match="config.data.lenght: .*nearest: 'length'"):
    read(config.load(TRANSFER).to_dict() | dict(data=dict(lenght=8)))


def test_a_workdir_from_before_the_modes_opens_and_takes_no_foreign_override(tmp_path):
  old = config.load(TRANSFER).to_dict()
  old['objective'] = dict(name='classify')
  old['unigram_bias'] = False
  old['data'] |= dict(mixture={}, column='')
  old['eval']['batches'] = 0
  (tmp_path / 'config.json').write_text(json.dumps(dict(config=old)))
  settings = read_settings(tmp_path, [('data.batch', '8')])
  assert type(settings) is Transfer and settings.data.batch == 8
  with pytest.raises(ConfigError, match='config.eval.batches'):
    read_settings(tmp_path, [('eval.batches', '2')])


def test_a_workdir_with_a_key_of_an_earlier_name_opens(tmp_path):
  old = config.load(TRANSFER).to_dict()
  del old['data']['examples_per_row']
  old['data']['slots'] = 5
  (tmp_path / 'config.json').write_text(json.dumps(dict(config=old)))
  assert read_settings(tmp_path).data.examples_per_row == 5
  # The command line and a config say what the key is called now.
  with pytest.raises(
    ConfigError, match="data.slots: .*nearest: 'data.examples_per_row"
  ):
    config.load(TRANSFER, [('data.slots', '5')])
  with pytest.raises(ConfigError, match="data.slots: .*nearest: 'examples_per_row'"):
    read(old)


@pytest.mark.parametrize(
  'name, needed', [('seq2seq', 'a target text'), ('classify', 'the labels of a task')]
)
def test_an_objective_that_texts_do_not_train_says_what_it_needs(name, needed):
  changed = config.load(PRETRAIN, [('objective', str(dict(name=name)))])
  with pytest.raises(
    ConfigError, match=f"config.objective.name: '{name}' needs {needed}.*nearest: '"
  ):
    read(changed)


def wrong_dials():
  """(family, objective, key, value) of everything that is a rate or a mean length."""
  rated = [
    ('tiny', dict(name='masked')),
    ('tiny-electra', dict(name='electra')),
    ('tiny', dict(name='next_sentence')),
    ('tiny', dict(name='sentence_order')),
    ('tiny-t5', dict(name='span')),
    ('tiny-bart', dict(name='infilling')),
  ]
  for family, objective in rated:
    for value in (0.0, 1.0, -0.1, math.nan):
      yield family, objective, 'rate', value
  for family, objective in rated[-2:]:
    for value in (0.0, 0.5, -3.0, math.nan):
      yield family, objective, 'mean', value
  yield 'tiny-bart', dict(name='infilling'), 'mean', 1000.0


@pytest.mark.parametrize(('family', 'objective', 'key', 'value'), list(wrong_dials()))
def test_a_dial_at_which_nothing_or_all_is_hidden_is_refused(
  family, objective, key, value
):
  loaded = config.load(f'configs/pretrain.py:{family}').to_dict()
  loaded['objective'] = objective | {key: value}
  with pytest.raises(ConfigError, match=f'config.objective.{key}: must be'):
    read(loaded)


def test_a_baseline_of_a_task_without_classes_is_refused_before_it_is_opened():
  with pytest.raises(ConfigError, match='method.name: tf-idf needs a task with one'):
    read(config.load('configs/transfer.py:task=intensity,method=tf-idf'))


def test_a_transfer_chooses_how_its_new_classifier_reads_and_no_more(tmp_path):
  (tmp_path / 'config.json').write_text('{}')
  file = f'configs/transfer.py:task=sentiment,init={tmp_path}'

  def of(**model):
    return read(config.load(file, [('model', repr(model))]))

  settings = of(pool='last', pooler='tanh', head_bias=True)
  t5 = models.arch('tiny-t5', head='classifier')
  arch = assembly.with_reading(t5, settings)
  assert (arch.pool, arch.pooler, arch.head_bias) == ('last', 'tanh', True)
  assert arch.width == t5.width
  assert assembly.with_reading(t5, of(family='')) == t5
  with pytest.raises(ConfigError, match="config.model.pool: only .* the head 'causal'"):
    assembly.with_reading(models.arch('tiny-t5', head='causal'), settings)
  with pytest.raises(ConfigError, match="config.model.pool: 'lats'.*'last'"):
    of(pool='lats')
  with pytest.raises(ConfigError, match='config.model.layers: 3, but the model is'):
    of(layers=3)


def test_a_run_says_at_its_start_what_its_export_would_refuse():
  def lines(**fields):
    arch = models.arch('tiny-t5', head='classifier', **fields)
    return lines_on_export(arch, None)

  assert lines()[0].startswith('not for export: T5ForSequenceClassification')
  assert lines(pool='last', pooler='tanh', head_bias=True) == []


def test_a_run_from_a_folder_says_what_its_defaults_take_it_for():
  settings = read(config.load(TRANSFER))
  of_workdir = interop.Loaded(None, None, None, None, step=4)
  assert lines_on_defaults(settings, None) == []
  assert lines_on_defaults(settings, of_workdir) == []
  (line,) = lines_on_defaults(settings, of_workdir._replace(step=None))
  assert 'config.optim.lr 0.0005, config.compute.dropout 0.1' in line


def test_a_published_checkpoint_gets_rates_of_its_own(tmp_path):
  def rate(method, init):
    return config.load(f'{TRANSFER},method={method},init={init}').optim.lr

  published = tmp_path / 'published'
  published.mkdir()
  (published / 'model.safetensors').touch()
  # A workdir has one rate before its run is made and after.
  workdir = tmp_path / 'workdir'
  before = rate('full', workdir)
  (workdir / 'checkpoints').mkdir(parents=True)
  (workdir / 'config.json').write_text('{}')
  for method in ('full', 'lora', 'l2sp', 'full+mixout'):
    own = rate(method, workdir)
    assert own == rate(method, 'scratch')
    assert own > rate(method, published)
  assert before == rate('full', workdir)
  assert rate('full', published) == rate('full', 'model.gguf') <= 1e-4
  assert rate('lora+l2sp', published) == rate('lora', published) == 1e-3
