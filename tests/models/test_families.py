"""The published sizes have the published numbers of parameters."""

import pytest

from tl_jax.models import FAMILIES, arch, count

# Of the body (BERT and its kin with the pooler), or with the head that the published
# count includes.
COUNTS = {
  'bert-tiny': 4_385_920,
  'bert-mini': 11_170_560,
  'bert-small': 28_763_648,
  'bert-medium': 41_373_184,
  'bert-base': 109_482_240,
  'bert-large': 335_141_888,
  'roberta-base': 124_645_632,
  'albert-base': 11_683_584,
  'xlm-roberta-base': 278_043_648,
  'xlm-roberta-large': 559_890_432,
  'camembert-base': 110_621_952,
  'smollm3-3b': 3_075_098_624,
  'granite3.1-2b': 2_533_531_648,
  'granite3.1-8b': 8_170_848_256,
  'deberta-v3-xsmall': 70_682_112,
  'deberta-v3-small': 141_304_320,
  'deberta-v3-base': 183_831_552,
  'deberta-v3-large': 434_012_160,
  'mdeberta-v3-base': 278_218_752,
  'mpnet-base': 109_486_464,
  'gemma-2b': 2_506_172_416,
  'gemma-7b': 8_537_680_896,
  'gpt2': 124_439_808,
  'gpt2-medium': 354_823_168,
  'gpt2-large': 774_030_080,
  'gpt2-xl': 1_557_611_200,
  'opt-125m': 125_239_296,
  'opt-350m': 331_196_416,
  'llama3.2-1b': 1_235_814_400,
  'llama3.2-3b': 3_212_749_824,
  'smollm2-135m': 134_515_008,
  'smollm2-360m': 361_821_120,
  'smollm2-1.7b': 1_711_376_384,
  'qwen2.5-0.5b': 494_032_768,
  'qwen2.5-1.5b': 1_543_714_304,
  'qwen3-0.6b': 596_049_920,
  'qwen3-1.7b': 1_720_574_976,
  'gemma2-2b': 2_614_341_888,
  'gemma2-9b': 9_241_705_984,
  'gemma3-1b': 999_885_952,
  'gemma3-270m': 268_098_176,
  't5-small': 60_506_624,
  't5-base': 222_903_552,
  't5-large': 737_668_096,
  't5-3b': 2_851_598_336,
  't5-11b': 11_307_321_344,
  'bart-base': 139_420_416,
  'bart-large': 406_291_456,
}
WITH_HEAD = {
  'llama3.1-8b': 8_030_261_248,
  'mistral-7b': 7_241_732_096,
  'qwen2.5-7b': 7_615_616_512,
  'qwen3-8b': 8_190_735_360,
  'olmo2-1b': 1_484_916_736,
  'olmo2-7b': 7_298_617_344,
  'olmo2-13b': 13_716_198_400,
  'phi3-mini': 3_821_079_552,
  'phi3-medium': 13_960_238_080,
  'phi4': 14_659_507_200,
  't5-1.1-small': 76_961_152,
  't5-1.1-base': 247_577_856,
  't5-1.1-large': 783_150_080,
  't5-1.1-xl': 2_849_757_184,
}

# One size of each family is quick; the others differ from it in numbers alone.
QUICK = (
  'deberta-v3-base',
  'mpnet-base',
  'smollm3-3b',
  'olmo2-7b',
  'phi3-mini',
  'bert-tiny',
  'bert-base',
  'roberta-base',
  'xlm-roberta-base',
  'gemma-2b',
  'albert-base',
  'gpt2',
  'opt-125m',
  'opt-350m',
  'llama3.2-1b',
  'smollm2-135m',
  'qwen2.5-0.5b',
  'qwen3-0.6b',
  'gemma2-2b',
  'gemma3-270m',
  't5-small',
  'bart-base',
  'mistral-7b',
  't5-1.1-small',
  'gpt3-small',
  'gpt3-xl-as-printed',
)


def sizes(*rows):
  return [
    pytest.param(*row, marks=[] if row[0] in QUICK else pytest.mark.slow)
    for row in rows
  ]


@pytest.mark.parametrize('name', sizes(*zip(COUNTS)))
def test_bodies(name):
  assert count(arch(name)) == COUNTS[name]


@pytest.mark.parametrize('name', sizes(*zip(WITH_HEAD)))
def test_models_with_a_table_for_the_output(name):
  assert count(arch(name, head='causal')) == WITH_HEAD[name]


def test_cased_bert():
  assert count(arch('bert-base', vocabulary=28996)) == 108_310_272


def test_poolers_of_classifiers_do_not_belong_to_the_body():
  assert count(arch('distilbert')) == 66_362_880
  assert (
    count(arch('distilbert', head='classifier'))
    == 66_362_880 + 768 * 768 + 768 + 2 * 768 + 2
  )


@pytest.mark.parametrize(
  ('name', 'millions'),
  sizes(
    ('gpt3-small', 125),
    ('gpt3-medium', 356),
    ('gpt3-large', 760),
    ('gpt3-xl', 1316),
    ('gpt3-xl-as-printed', 1517),
    ('gpt3-2.7b', 2652),
    ('gpt3-6.7b', 6658),
    ('gpt3-13b', 12853),
    ('gpt3-13b-as-printed', 12936),
    ('gpt3-175b', 174604),
  ),
)
def test_gpt3(name, millions):
  assert round(count(arch(name)) / 1e6) == millions


def test_gpt3_takes_dense_and_banded_layers_in_turn():
  assert all(
    FAMILIES[name]['windows'] == (0, 256)
    for name in FAMILIES
    if name.startswith('gpt3')
  )
  assert (
    arch('gpt3-xl-as-printed').heads * arch('gpt3-xl-as-printed').head_width
    != arch('gpt3-xl').width
  )
