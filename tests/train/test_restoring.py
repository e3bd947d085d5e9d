"""What a workdir gives back: the tokenizer of a folder of others survives a transfer
and an export.
"""

import json
import re
import shutil

import jax
import pytest
from ml_collections import ConfigDict

from tl_jax import config, data, interop, models, train
from tl_jax.interop.tokenizers import load_tokenizer, save_tokenizer
from tl_jax.train import tokenizing

TEXTS = [
  'the train is late again',
  'a good day for the garden',
  'no reply since monday',
  'what a lovely evening',
]
TEMPLATE = (
  "{% for message in messages %}{{ message['content'] }}{{ eos_token }}{% endfor %}"
)
ROLES = ('pad', 'unk', 'cls', 'sep', 'mask', 'bos', 'eos')


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """A folder whose tokenizer says what its tokenizer.json alone does not."""
  folder = tmp_path_factory.mktemp('source')
  backend = data.tokenizers.train(TEXTS, 'wordpiece', 200, sentinels=0).backend
  roles = {'bos': backend.token_to_id('the'), 'eos': backend.token_to_id('##e')}
  tokenizer = data.tokenizers.wrap(
    backend,
    roles,
    padding_side='left',
    chat_template=TEMPLATE,
    settings=dict(
      bos_token='the',
      eos_token='##e',
      pad_token='[PAD]',
      cls_token='[CLS]',
      sep_token='[SEP]',
      mask_token='[MASK]',
      unk_token='[UNK]',
      model_max_length=64,
    ),
  )
  arch = models.arch(
    'tiny', vocabulary=tokenizer.vocabulary_size, layers=1, width=16, heads=2, mlp=16
  )
  model = models.build(arch)
  interop.save(
    folder, interop.Loaded(model, model.init(jax.random.key(0)), tokenizer, arch)
  )
  # with the pieces of its roles among the added tokens
  save_tokenizer(folder, load_tokenizer(folder))
  return folder


def moved(init, workdir, steps=1):
  train.transfer(
    config.load(
      f'configs/transfer.py:task=sentiment,method=probe,init={init},labels=8',
      [
        ('schedule.steps', str(steps)),
        ('schedule.warmup', '0'),
        ('data.length', '32'),
        ('data.batch', '4'),
        ('task.test', '8'),
        ('log.tensorboard', 'false'),
      ],
    ),
    workdir,
  )
  return workdir


def said(tokenizer):
  return {role: getattr(tokenizer, role) for role in ROLES} | dict(
    side=tokenizer.padding_side,
    template=tokenizer.chat_template,
    digest=tokenizer.digest,
    settings=tokenizer.settings,
  )


def test_a_transfer_and_its_export_keep_the_files_of_a_tokenizer(source, tmp_path):
  expected = said(load_tokenizer(source))
  assert (expected['side'], expected['template']) == ('left', TEMPLATE)
  assert (
    expected['bos'] != expected['cls']
    and expected['settings']['model_max_length'] == 64
  )
  one = moved(source, tmp_path / 'one')
  two = moved(one, tmp_path / 'two')
  for workdir in (one, two):
    loaded = train.load(workdir)
    assert (
      said(loaded.tokenizer) == expected == said(train.open_workdir(workdir).tokenizer)
    )
  exported = interop.save(tmp_path / 'exported', loaded)
  assert said(load_tokenizer(exported)) == expected
  for name in (
    'tokenizer.json',
    'tokenizer_config.json',
    'special_tokens_map.json',
    'chat_template.jinja',
  ):
    assert (exported / name).read_bytes() == (source / name).read_bytes(), name


@pytest.mark.slow
def test_what_a_folder_says_of_decoding_is_kept_in_a_workdir(tmp_path):
  """Of a BART, that its decoder begins with the end and not with the pad."""
  tokenizer = data.tokenizers.train(TEXTS, 'bpe', 300, sentinels=0)
  arch = models.arch(
    'bart-base',
    vocabulary=tokenizer.vocabulary_size,
    layers=1,
    width=16,
    heads=2,
    mlp=16,
  )
  model = models.build(arch)
  folder, loaded = (
    tmp_path / 'bart',
    interop.Loaded(model, model.init(jax.random.key(0)), tokenizer, arch),
  )
  interop.save(folder, loaded)
  (folder / 'generation_config.json').write_text(
    json.dumps(dict(decoder_start_token_id=3, num_beams=2))
  )
  found = train.load(moved(folder, tmp_path / 'one'))
  settings, _ = interop.generation_settings(found, {})
  assert (settings['start'], settings['beams']) == ((3,), 2)
  found = train.load(moved(tmp_path / 'one', tmp_path / 'two'))
  assert interop.text_ids(found) == {
    key: settings[key] for key in interop.text_ids(found)
  }
  assert interop.text_ids(found)['start'] == (3,)


def test_a_workdir_with_nothing_but_a_tokenizer_opens(tmp_path):
  from tl_jax.train.tokenizing import keep_tokenizer, open_tokenizer

  own = data.tokenizers.train(TEXTS, 'wordpiece', 200)
  own.save(tmp_path / 'tokenizer.json')
  assert said(open_tokenizer(tmp_path)) == said(own)
  keep_tokenizer(tmp_path / 'again', interop.Loaded(None, None, own, None))
  assert [path.name for path in (tmp_path / 'again').iterdir()] == ['tokenizer.json']
  save_tokenizer(tmp_path, own)
  assert open_tokenizer(tmp_path).digest == own.digest


def test_another_tokenizer_than_that_of_a_step_is_refused(pretrained, tmp_path):
  """By who opens the model and by the run that would go on; what is kept stays."""
  workdir = tmp_path / 'one'
  shutil.copytree(pretrained, workdir)
  kept = workdir / 'tokenizer.json'
  other = data.tokenizers.train(TEXTS, 'wordpiece', 512)
  other.save(kept)
  swapped = kept.read_bytes()
  expected = (
    f'{kept}: not the tokenizer that step 6 was trained with: the digest of its'
  )
  with pytest.raises(config.ConfigError, match=re.escape(expected)):
    train.open_workdir(workdir)
  with pytest.raises(config.ConfigError, match=re.escape(expected)):
    moved(workdir, tmp_path / 'two')
  settings = json.loads((workdir / 'config.json').read_text())['config']
  longer = ConfigDict(settings | dict(schedule=settings['schedule'] | dict(steps=8)))
  with pytest.raises(config.ConfigError, match=re.escape(expected)):
    train.pretrain(longer, workdir)
  assert kept.read_bytes() == swapped


def test_a_source_whose_tokenizer_was_changed_is_not_gone_on_from(source, tmp_path):
  """And the one that the steps were trained with is not written over."""
  init = tmp_path / 'init'
  shutil.copytree(source, init)
  kept = moved(init, tmp_path / 'one') / 'tokenizer.json'
  before = kept.read_bytes()
  pieces = json.loads((init / 'tokenizer.json').read_text())
  vocabulary = pieces['model']['vocab']
  first, second = [piece for piece in vocabulary if piece.isalpha()][:2]
  vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
  (init / 'tokenizer.json').write_text(json.dumps(pieces))
  with pytest.raises(
    config.ConfigError, match=f'config.init: {init}: not the tokenizer'
  ):
    moved(init, tmp_path / 'one', steps=2)
  assert kept.read_bytes() == before


def test_a_tokenizer_that_is_written_in_other_words_is_the_same():
  """As by another release of its library; by the same one its rules are others."""
  tokenizer = data.tokenizers.train(TEXTS, 'wordpiece', 200)
  made = tokenizing.marks(tokenizer) | dict(digest='of other words')
  older = dict(tokenizer=made | dict(release='0.1'))
  tokenizing.require_same(tokenizer, older, 'step 1', 'here')
  tokenizing.require_same(tokenizer, {}, 'step 1', 'here')
  with pytest.raises(config.ConfigError, match='its rules, not its pieces, differ'):
    tokenizing.require_same(tokenizer, dict(tokenizer=made), 'step 1', 'here')
