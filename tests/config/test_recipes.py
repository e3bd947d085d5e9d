"""The recipes have the numbers of their papers: sizes, tokens, and rates at steps."""

import json
import re

import numpy as np
import pytest
from tiny_runs import SMALL

from tl_jax import config, models, optim
from tl_jax.cli.main import main
from tl_jax.train import phases
from tl_jax.train.checks import read

RECIPES = config.execute('configs/recipes.py')


def settings_of(recipe, more=''):
  return read(config.load(f'configs/recipes.py:{recipe}{more}'), where_made=False)


def rate_at(settings, step):
  factor = optim.make_schedule(settings.schedule)(step)
  return float(np.asarray(factor)) * settings.optim.lr


def count_of(settings, **fields):
  return models.count(models.arch(**settings.model, **fields))


# Of the body with its pooler (google-research/bert; Liu et al. 2019; Raffel et al. 2020).
COUNTS = {
  'bert-2-128': 4_385_920,
  'bert-4-256': 11_170_560,
  'bert-4-512': 28_763_648,
  'bert-8-512': 41_373_184,
  'bert-12-768': 109_482_240,
  'bert-base': 109_482_240,
  'bert-large': 335_141_888,
  'roberta-base': 124_645_632,
}


@pytest.mark.parametrize('recipe', COUNTS)
def test_a_recipe_has_the_size_that_was_published(recipe):
  assert count_of(settings_of(recipe)) == COUNTS[recipe]


# In millions, and the tokens of a batch in the units of table 2.1. Of 13B with the width
# 5,120 of its heads; with the printed 5,140 they are 12,952.9.
GPT3 = {
  'gpt3-small': (125.2, '0.5M', 6e-4),
  'gpt3-medium': (355.9, '0.5M', 3e-4),
  'gpt3-large': (760.3, '0.5M', 2.5e-4),
  'gpt3-xl': (1315.7, '1M', 2e-4),
  'gpt3-2.7b': (2651.6, '1M', 1.6e-4),
  'gpt3-6.7b': (6658.4, '2M', 1.2e-4),
  'gpt3-13b': (12853.4, '2M', 1e-4),
  'gpt3-175b': (174604.3, '3.2M', 0.6e-4),
}


@pytest.mark.parametrize('recipe', GPT3)
def test_gpt3_has_the_numbers_of_table_2_1(recipe):
  size, batch, rate = GPT3[recipe]
  settings = settings_of(recipe)
  made = models.arch(**settings.model)
  width, layers = made.width, made.layers
  formula = 12 * layers * width**2 + 13 * layers * width
  formula += (50_257 + 2048 + 2) * width
  assert models.count(made) == formula
  assert formula / 1e6 == pytest.approx(size, abs=0.06)
  group = settings.data
  assert group.batch * group.length == pytest.approx(
    1e6 * float(batch.rstrip('M')), rel=0.05
  )
  read_by = lambda step: group.length * phases.sizes(group, group.length).before(step)
  steps = settings.schedule.steps
  assert read_by(steps) == pytest.approx(300e9, rel=1e-4)
  # Warm-up over 375 million tokens, then a cosine to a tenth over 260 billion in all.
  warmup, bottom = settings.schedule.warmup, steps - settings.schedule.settled
  assert read_by(warmup) == pytest.approx(375e6, rel=1e-3)
  assert read_by(bottom) == pytest.approx(260e9, rel=1e-4)
  assert rate_at(settings, warmup) == pytest.approx(rate)
  assert rate_at(settings, warmup // 2) == pytest.approx(rate / 2, rel=0.02)
  middle = (warmup + bottom) // 2
  assert rate_at(settings, middle) == pytest.approx(0.55 * rate, rel=1e-3)
  for step in (bottom + 1, (bottom + steps) // 2, steps):
    assert rate_at(settings, step) == pytest.approx(0.1 * rate)
  assert (settings.optim.b2, settings.optim.eps, settings.optim.clip) == (0.95, 1e-8, 1)


@pytest.mark.parametrize('recipe', ['gpt3-small', 'gpt3-175b'])
def test_batches_of_gpt3_grow_as_a_line_does_over_billions_of_tokens(recipe):
  group = settings_of(recipe).data
  rows, _, tokens = RECIPES.GPT3_SIZES[recipe]
  assert 4e9 <= tokens <= 12e9
  own = phases.sizes(group, group.length)
  assert own.rows[0] * group.length == 2**15
  for first, batch in zip(own.firsts, own.rows, strict=True):
    read_before = own.before(first) * group.length
    line = 16 + (rows - 16) * read_before / tokens
    assert batch == pytest.approx(line, rel=1e-3)


def test_the_two_phases_of_bert_are_one_run():
  """A line from step 0 to 0 at a million, of which the first 10,000 are overridden."""
  settings = settings_of('bert-base')
  shapes = [(phase.shape, last) for phase, last in phases.ends(settings)]
  assert shapes == [((256, 128), 900_000), ((256, 512), 10**6)]
  assert settings.optim.name == 'bert_adam'
  assert rate_at(settings, 5000) == pytest.approx(0.5e-4)
  for step in (10_000, 455_000, 899_999, 950_000, 999_000):
    expected = 1e-4 * (1 - step / 10**6)
    assert rate_at(settings, step) == pytest.approx(expected, rel=1e-3)


def test_roberta_and_t5_and_those_who_go_on():
  roberta = settings_of('roberta-large')
  assert roberta.data.batch * roberta.schedule.steps == 8192 * 500_000
  assert rate_at(roberta, 30_000) == pytest.approx(4e-4)
  assert rate_at(roberta, 265_000) == pytest.approx(2e-4)
  assert roberta.optim.clip is None and roberta.optim.b2 == 0.98
  t5 = settings_of('t5-base')
  assert t5.schedule.steps * t5.data.batch * t5.data.length == 2**19 * 2**16
  for step in (0, 10_000, 40_000):
    assert rate_at(t5, step) == pytest.approx(1 / max(step, 10_000) ** 0.5)
  dapt = settings_of('dapt', ',init=/models/roberta')
  assert (dapt.data.batch, dapt.schedule.steps, dapt.optim.lr) == (2048, 12_500, 5e-4)
  # A warm-up of 6 %.
  assert rate_at(dapt, 375) == pytest.approx(2.5e-4)
  assert rate_at(dapt, 750) == pytest.approx(5e-4)
  tapt = settings_of('tapt', ',init=/models/roberta,text=mails.csv')
  assert (tapt.data.batch, tapt.schedule.epochs, tapt.optim.lr) == (256, 100.0, 1e-4)
  assert tapt.data.mixture == {'mails.csv': 1.0}


def test_electra_bart_and_ul2_have_the_numbers_of_their_papers():
  electra = settings_of('electra-small')
  assert (electra.data.batch, electra.data.length) == (128, 128)
  assert electra.objective == dict(name='electra', rate=0.15, weight=50.0)
  for step in (5000, 10_000, 600_000):
    expected = 5e-4 * (0.5 if step == 5000 else 1 - step / 10**6)
    assert rate_at(electra, step) == pytest.approx(expected, rel=1e-3)
  # A quarter as wide; a third of the base model.
  widths = {name: models.arch(name).generator for name in RECIPES.ELECTRA}
  assert widths == {'electra-small': 64, 'electra-base': 256}
  large = settings_of('bart-large')
  assert large.data.batch * large.schedule.steps == 8192 * 500_000
  assert large.objective['rate'] == 0.3 and large.objective['mean'] == 3.0
  ul2 = settings_of('ul2')
  tokens = ul2.schedule.steps * ul2.data.batch * ul2.data.length
  assert tokens == pytest.approx(1e12, rel=0.05)
  assert len(ul2.objective['mixture']) == 7 and ul2.compute.dropout == 0


def test_bert_is_asked_for_the_next_sentence():
  for recipe in ('bert-large', 'bert-2-128'):
    objective = settings_of(recipe).objective
    assert objective['name'] == 'next_sentence'
    assert (objective['rate'], objective['duplicates']) == (0.15, 10)
    assert (objective['masking'], objective['short']) == ('pieces', 0.1)


# Of the docstring: parameters, tokens and FLOPs of the recipes that have one of each.
SAID = dict(
  (name, rest)
  for name, *rest in re.findall(
    r'\| ([\w.-]+) \| ([\d.]+)([MB]) \| ([\d.]+)([BT]) \| ([\d.e]+) \|', RECIPES.__doc__
  )
)


def test_the_table_has_all_but_those_of_several_sizes():
  assert set(RECIPES.MAKERS) - set(SAID) == {*RECIPES.MINIATURES, *RECIPES.GPT3_SIZES}


@pytest.mark.parametrize('recipe', SAID)
def test_the_table_says_the_size_of_each(recipe):
  size, unit, tokens, many, flops = SAID[recipe]
  settings = settings_of(recipe)
  group = settings.data
  count = count_of(settings)
  assert count == pytest.approx(float(size) * dict(M=1e6, B=1e9)[unit], rel=0.005)
  read_tokens = 0
  for length in phases.lengths(group):
    rows = phases.sizes(group, length).before(settings.schedule.steps)
    read_tokens += rows * length
  wanted = float(tokens) * dict(B=1e9, T=1e12)[many]
  assert read_tokens == pytest.approx(wanted, rel=0.06)
  assert 6 * count * read_tokens == pytest.approx(float(flops), rel=0.06)


def test_gpt3_reads_what_table_2_2_says():
  """The passes that the docstring names are those of its weights."""
  weights = settings_of('gpt3-small').data.mixture
  assert sum(weights.values()) == 101
  lines = re.findall(
    r'\| (\w+) \| (\d+)B \| (\d+) % \| [\d.]+ \| ([\d.]+) \|', RECIPES.__doc__
  )
  assert {name for name, *_ in lines} == set(weights)
  for name, tokens, weight, passes in lines:
    assert weights[name] == float(weight)
    found = 300 * float(weight) / 101 / float(tokens)
    assert found == pytest.approx(float(passes), rel=0.03)


def test_all_miniatures_are_there():
  sizes = {tuple(map(int, name.split('-')[1:])) for name in RECIPES.MINIATURES}
  assert len(sizes) == 24
  assert sizes == {(a, b) for a in range(2, 13, 2) for b in (128, 256, 512, 768)}


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('bert-bass', "'bert-bass' is unknown; nearest: 'bert-base'"),
    ('gpt3-small,init=/tmp/x', 'argument init: is of dapt and tapt'),
    ('dapt', 'argument init: dapt goes on from a model'),
  ],
)
def test_what_is_no_recipe_is_said(argument, message):
  with pytest.raises(config.ConfigError, match=message):
    config.load(f'configs/recipes.py:{argument}')


# A recipe in miniature: its objective, optimizer and phases, in steps that take no time.
# At its own rate so few of them would show nothing.
SIZES = [
  *(pair for pair in SMALL if pair[0] not in ('model', 'schedule.steps')),
  ('compute.dtype', 'float32'),
  ('optim.lr', '0.01'),
  ('eval.batches', '1'),
  ('log.every', '1'),
]
ONE_LAYER = dict(layers=1, width=16, heads=2, mlp=16)
STEPS = 16
# What one maker makes has the same miniature, whatever its size.
OF_EACH = ('bert-base', 'electra-base', 'bart-large', 't5-base', 'ul2', 'gpt3-175b')


def miniature_of(recipe, more=''):
  """The words of the command, with shapes that fit 16 steps."""
  spec = f'configs/recipes.py:{recipe},text=vader_nyt{more}'
  made = config.load(spec)
  family = made.model.family
  size = dict(family=family, **ONE_LAYER)
  if models.arch(family).generator:
    size.update(generator=8, embedding_width=12)
  if models.arch(family).head_dim:
    size.update(head_dim=8)
  chosen = [*SIZES, ('schedule.steps', str(STEPS)), ('model', repr(size))]
  if made.data.phases:
    (_, shape), *_ = made.data.phases
    small = {name: 8 if name == 'length' else 2 for name in shape}
    chosen.append(('data.phases', repr(((STEPS // 2, small),))))
  if 'settled' in made.schedule:
    chosen.append(('schedule.settled', '4'))
  return spec, chosen


def pretrained(spec, chosen, workdir):
  """The losses of a run by the verb."""
  words = [f'--config.{name}={value}' for name, value in chosen]
  assert main(['pretrain', f'--config={spec}', f'--workdir={workdir}', *words]) == 0
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['loss'] for line in lines]


def fell(losses):
  return np.mean(losses[-3:]) < losses[0]


@pytest.mark.parametrize('recipe', RECIPES.MAKERS)
def test_each_recipe_has_a_miniature(recipe):
  """All that one maker makes is trained alike, in a batch and at a rate of its own."""
  settings = read(config.load(*miniature_of(recipe)), where_made=False)
  assert settings.schedule.steps == STEPS
  assert count_of(settings, vocabulary=300) < 100_000


@pytest.mark.slow
@pytest.mark.parametrize('recipe', OF_EACH)
def test_a_recipe_in_miniature_is_pretrained_by_its_command(recipe, tmp_path):
  spec, chosen = miniature_of(recipe)
  losses = pretrained(spec, chosen, tmp_path)
  assert fell(losses)
  assert json.loads((tmp_path / 'result.json').read_text())['step'] == STEPS


@pytest.mark.slow
def test_roberta_in_miniature_goes_on_with_a_domain_and_with_a_task(tmp_path):
  first = tmp_path / 'roberta'
  assert fell(pretrained(*miniature_of('roberta-base'), first))

  steps = [*SIZES, ('schedule.steps', str(STEPS))]
  spec = f'configs/recipes.py:dapt,init={first},text=vader_amazon'
  assert fell(pretrained(spec, without_a_tokenizer(steps), tmp_path / 'dapt'))

  texts = tmp_path / 'mails.txt'
  texts.write_text('\n'.join(f'the letter {place} was read' for place in range(20)))
  spec = f'configs/recipes.py:tapt,init={tmp_path / "dapt"},text={texts}'
  unset = [pair for pair in SIZES if pair[0] != 'schedule.warmup']
  losses = pretrained(spec, without_a_tokenizer(unset), tmp_path / 'tapt')
  assert fell(losses)
  # A hundred passes over so few texts are more steps than one for each pass.
  assert len(losses) >= 100


def without_a_tokenizer(chosen):
  """Who goes on from a model has its tokenizer."""
  return [pair for pair in chosen if not pair[0].startswith('tokenizer')]
