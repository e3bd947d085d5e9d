"""`config.json` alone: what it says of published models, and what is refused by name."""

import dataclasses
import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402

from tl_jax import models  # noqa: E402
from tl_jax.interop import FAMILIES, configs, kinds  # noqa: E402


def test_the_first_folders_of_gemma_said_gelu_and_meant_its_approximation():
  said = dict(model_type='gemma', architectures=['GemmaForCausalLM'])
  assert configs.read(said | dict(hidden_act='gelu')).activation == 'gelu_tanh'
  assert configs.read(said | dict(hidden_act='relu')).activation == 'relu'


def test_deberta_as_its_authors_wrote_it():
  said = dict(
    model_type='deberta-v2',
    attention_probs_dropout_prob=0.1,
    hidden_act='gelu',
    hidden_dropout_prob=0.1,
    hidden_size=768,
    initializer_range=0.02,
    intermediate_size=3072,
    max_position_embeddings=512,
    relative_attention=True,
    position_buckets=256,
    norm_rel_ebd='layer_norm',
    share_att_key=True,
    pos_att_type='p2c|c2p',
    layer_norm_eps=1e-7,
    max_relative_positions=-1,
    position_biased_input=False,
    num_attention_heads=12,
    num_hidden_layers=12,
    type_vocab_size=0,
    vocab_size=128100,
  )
  found = configs.read(said, 'masked')
  named = models.arch('deberta-v3-base', head='masked', pooler='')
  assert dataclasses.replace(found, attention_scale=named.attention_scale) == named
  assert found.attention_scale == pytest.approx(named.attention_scale)


@pytest.mark.parametrize(
  ('name', 'family'),
  [
    ('bart-base', 'bart'),
    ('gpt2', 'gpt2'),
    ('llama3.2-1b', 'llama'),
    ('t5-small', 't5'),
  ],
)
def test_a_family_is_found_for_an_architecture_that_came_from_none(name, family):
  from tl_jax.interop import configs

  assert configs.fitting(models.arch(name)) == family


@pytest.mark.parametrize(
  ('config', 'kind'),
  [
    (dict(model_type='deberta', architectures=['DebertaForMaskedLM']), 'encoder'),
    (dict(model_type='nomic_bert', architectures=['NomicBertModel']), 'encoder'),
    (dict(model_type='longformer', type_vocab_size=1), 'encoder'),
    (
      dict(model_type='gpt_bigcode', architectures=['GPTBigCodeForCausalLM']),
      'decoder',
    ),
    (dict(model_type='cohere', num_key_value_heads=8), 'decoder'),
    (
      dict(model_type='led', is_encoder_decoder=True, architectures=['LEDModel']),
      'encoder-decoder',
    ),
    (
      dict(model_type='longt5', architectures=['LongT5ForConditionalGeneration']),
      'encoder-decoder',
    ),
  ],
)
def test_hints_name_models_of_the_same_kind(config, kind):
  with pytest.raises(ValueError, match='nearest: ') as error:
    configs.family_of(config)
  named = re.findall("'([^']+)'", str(error.value).partition('nearest: ')[2])
  assert named and {kinds.kind_of_family(FAMILIES[name]) for name in named} == {kind}


def test_where_nothing_tells_the_kind_all_families_are_named():
  with pytest.raises(
    ValueError, match="model_type 'mystery' is not supported; supported: "
  ) as error:
    configs.family_of(dict(model_type='mystery'))
  assert all(repr(name) in str(error.value) for name in FAMILIES)


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('conv_kernel_size', 3),
    ('embedding_size', 16),
    ('share_att_key', False),
    ('pos_att_type', 'c2p'),
    ('position_buckets', -1),
    ('norm_rel_ebd', 'none'),
    ('position_biased_input', True),
    ('pooler_hidden_size', 7),
  ],
)
def test_variants_of_deberta_that_are_not_computed_are_named(key, value):
  config = cases.fixture('deberta-v2-Model')['config']
  with pytest.raises(ValueError, match=key):
    configs.read(config | {key: value})


@pytest.mark.parametrize(
  'said',
  [
    dict(rope_scaling=dict(type='longrope', short_factor=[1.0], long_factor=[2.0])),
    dict(rope_parameters=dict(rope_type='longrope', rope_theta=1e4)),
    dict(partial_rotary_factor=0.75),
    dict(rope_scaling=dict(type='yarn', factor=2.0)),
    dict(rope_parameters=dict(rope_type='default', partial_rotary_factor=0.5)),
  ],
)
def test_rotary_positions_of_longer_models_are_refused_by_name(said):
  with pytest.raises(
    ValueError, match='rotary_scaling|short_factor|yarn|partial_rotary_factor'
  ):
    configs.read(dict(model_type='phi3', architectures=['Phi3ForCausalLM']) | said)


def test_a_kind_of_task_that_transformers_does_not_know_leaves_no_word_of_another():
  arch = models.arch('bert-base', head='classifier', labels=2)
  before = configs.write(arch, 'bert', None, ('low', 'high'), 'regression')
  assert configs.read_labels(before, arch) == (('low', 'high'), 'regression')
  after = configs.write(arch, 'bert', before, ('low', 'high'), 'ranks')
  assert configs.read_labels(after, arch) == (('low', 'high'), '')
