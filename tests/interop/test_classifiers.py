"""Classifiers that transformers has not are refused in one line, with the setting for one
that it has.
"""

import ast
import dataclasses
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402

from tl_jax import interop, models, transfer  # noqa: E402
from tl_jax.interop import classifiers, configs, equivalence  # noqa: E402


def classifier(family, **fields):
  return models.arch(family, head='classifier', vocabulary=32, **fields)


@pytest.mark.parametrize('family', ['tiny-t5', 'mt5-small', 'umt5-small', 'bart-base'])
def test_the_mean_of_an_encoder_is_no_classifier_of_transformers(family):
  arch = classifier(family, pool='mean', pooler='')
  line = classifiers.refusal(arch)
  assert len(line) < 300 and 'ForSequenceClassification of transformers' in line
  setting = ast.literal_eval(line.partition('--config.model="')[2].partition('"')[0])
  assert setting.keys() <= set(classifiers.READING) and setting['pool'] == 'last'
  assert classifiers.refusal(dataclasses.replace(arch, **setting)) == ''


@pytest.mark.parametrize(
  ('family', 'fields', 'setting'),
  [
    ('tiny', dict(pool='mean'), "{'pool': 'first'}"),
    ('tiny-gpt', dict(pool='mean'), "{'pool': 'last'}"),
    ('roberta-base', dict(pool='last'), "{'pool': 'first'}"),
    ('modernbert-base', dict(pool='last'), "{'pool': 'first'}"),
    ('demo', {}, "{'pool': 'first', 'pooler': 'gelu'}"),
  ],
)
def test_so_are_other_pools_than_the_family_has(family, fields, setting):
  assert setting in classifiers.refusal(classifier(family, **fields))


@pytest.mark.parametrize('family', ['marian-base', 'pegasus-large'])
def test_a_family_without_a_classifier_is_named(family):
  line = classifiers.refusal(classifier(family))
  assert f'no classifier over a {family.partition("-")[0]}' in line and len(line) < 300


def test_the_encoder_of_t5_alone_has_no_classifier():
  line = classifiers.refusal(classifier('tiny-t5', kind='encoder'))
  assert 'no classifier over a t5 without its decoder' in line


@pytest.mark.parametrize(
  ('family', 'fields'),
  [
    ('tiny', {}),
    ('tiny-gpt', {}),
    ('modernbert-base', dict(pool='mean')),
    ('tiny-t5', dict(pool='last', pooler='tanh', head_bias=True)),
    ('bart-base', {}),
    ('mbart-large', {}),
  ],
)
def test_of_what_transformers_has_nothing_is_said(family, fields):
  assert classifiers.refusal(classifier(family, **fields)) == ''


FAMILIES = [
  *('tiny', 'roberta-base', 'electra-small', 'distilbert', 'deberta-v3-small'),
  *('modernbert-base', 'albert-base', 'mpnet-base', 'tiny-gpt', 'llama3.2-1b'),
  *('granite3.1-2b', 'opt-125m', 'tiny-t5', 't5-1.1-small', 'mt5-small', 'bart-base'),
]


def loaded_of(arch, config=None):
  """A model of this architecture without its parameters, of a workdir or of a folder."""
  return interop.Loaded(None, None, None, arch, config=config)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_workdir_and_its_export_learn_the_same_head(family):
  """A workdir that was pre-trained from scratch, and one that went on from a folder."""
  learned = 'masked' if models.arch(family).kind == 'encoder' else 'causal'
  own = models.arch(family, head=learned)
  config = configs.write(own, configs.fitting(own))
  read = dataclasses.replace(configs.read(config), pooler_place=own.pooler_place)
  folder = loaded_of(read, config)
  adapted = interop.with_head(folder, learned)
  for head in ('classifier', 'choice', 'token', 'span'):
    wanted = interop.with_head(folder, head)
    for arch in (own, adapted):
      found = interop.with_head(loaded_of(arch), head)
      assert equivalence.differences(found, wanted) == [], head
      # What no such head reads is there for whoever goes on with the vocabulary's.
      assert found.output_scale == wanted.output_scale == own.output_scale
      again = interop.with_head(loaded_of(found), learned)
      assert equivalence.differences(again, own) == []


def test_a_pooling_that_was_chosen_stays():
  demo = loaded_of(models.arch('demo', head='masked'))
  assert interop.with_head(demo, 'classifier').pool == 'mean'


def test_neither_a_folder_nor_an_adapter_is_written_of_another_classifier(tmp_path):
  arch = classifier('tiny-t5', layers=1, width=16, heads=2, head_dim=8, mlp=16)
  model = models.build(arch)
  method = transfer.lora(pattern=r'encoder/.*/query/kernel', rank=2)
  trainable, frozen = method.init(jax.random.key(0), model.init(jax.random.key(0)))
  plain = interop.Loaded(model, method.fuse(trainable, frozen), None, arch)
  with pytest.raises(ValueError, match='this classifier cannot be exported') as error:
    interop.save(tmp_path / 'no', plain)
  assert len(str(error.value)) < 300
  adapted = plain._replace(params=method.merge(trainable, frozen))
  # Under the config of its base, too, whose family has places for all parameters.
  for config in (None, dict(model_type='t5')):
    with pytest.raises(ValueError, match='this classifier cannot be exported'):
      interop.save_adapter(tmp_path / 'no', adapted._replace(config=config), trainable)
  assert not (tmp_path / 'no').exists()


def test_an_architecture_of_no_family_is_refused_in_one_short_line():
  arch = models.arch('tiny', residual_scale=0.5, embedding_scale=3.0, head='masked')
  with pytest.raises(ValueError, match='residual_scale|embedding_scale') as error:
    interop.huggingface.configs.fitting(arch)
  assert len(str(error.value)) < 300


@pytest.mark.parametrize(
  'case', [f'{family}-ForSequenceClassification' for family in ('t5', 'bart', 'mbart')]
)
def test_the_decoder_of_a_classifier_reads_the_text_again(case, tmp_path):
  found = cases.fixture(case)
  cases.materialise(tmp_path, found['config'], found['shapes'], found['gain'])
  loaded = interop.load(tmp_path)
  batch = {name: jnp.array(value) for name, value in found['batch'].items()}
  text = {name: batch[name] for name in ('tokens', 'segments')}
  alone = loaded.model.apply(loaded.params, text).logits
  # transformers was given no tokens of the decoder either.
  assert np.abs(np.asarray(alone) - found['logits']).max() < 1e-4
  # Two texts in one row are read as in rows of their own; the second is padded there.
  length = int(batch['segments'][1].sum())
  row = {
    name: jnp.concatenate([batch[name][0], batch[name][1, :length]])[None]
    for name in ('tokens', 'segments')
  }
  row['segments'] = row['segments'].at[0, -length:].set(2)
  packed = loaded.model.apply(loaded.params, row).logits
  assert np.abs(np.asarray(packed)[0] - found['logits'][:2]).max() < 1e-4


def test_what_a_decoder_begins_with_is_written_where_it_counts():
  def written(**fields):
    arch = models.arch('bart-base', vocabulary=32, **fields)
    found = configs.write(arch, 'bart')
    first = found.get('decoder_start_token_id')
    assert configs.read(found, arch.head).start == (2 if first is None else first)
    assert found.get('forced_eos_token_id') == (first or None)
    return first

  assert written(head='classifier', start=7) == 7
  assert written(head='causal', start=7) == 7
  assert written(head='classifier', start=0) == 0
  # What an older checkpoint does not say must not come between a text and its decoder.
  assert written(head='causal', start=0) is None
