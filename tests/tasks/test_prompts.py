"""Prompts with demonstrations: what stands in them, and how many fit."""

import dataclasses

import pytest

from tl_jax import config
from tl_jax.config import ConfigError
from tl_jax.data import tokenizers
from tl_jax.tasks import prompts
from tl_jax.tasks.prompts import Prompter, Prompting

WORDS = 'good bad film story review is it positive negative please judge'
SHOWN = (('bad film', 'negative'), ('good film', 'positive'), ('story', 'positive'))


@pytest.fixture(scope='module')
def tokenizer():
  return tokenizers.train([WORDS + ' :\n'] * 20, 'bpe', 420)


def prompter_of(tokenizer, room=200, longest=4, kind='decoder', **fields):
  fields = dict(template='review: {text}\nis it {target}', between='\n\n') | fields
  return Prompter(Prompting(**fields), tokenizer, kind, room, longest)


def test_a_prompt_is_demonstrations_and_a_question(tokenizer):
  prompter = prompter_of(tokenizer, instruction='please judge')
  (asked,) = prompter.ask(['good story'], [SHOWN[:1]])
  wanted = (
    'please judge\n\nreview: bad film\nis it negative\n\nreview: good story\nis it'
  )
  assert prompter.prompt('good story', SHOWN[:1]) == wanted
  prefix = list(tokenizer.prefix)
  assert asked == (prefix + tokenizer.encode(wanted, special=False), 1, False)


def test_an_answer_is_spelled_as_it_follows_a_prompt(tokenizer):
  prompter = prompter_of(tokenizer)
  prompt = prompter.prompt('good', ())
  before = tokenizer.encode(prompt, special=False)
  for word, ids in zip(
    ('positive', 'bad'), prompter.answers(['positive', 'bad']), strict=True
  ):
    assert before + ids == tokenizer.encode(f'{prompt} {word}', special=False)
  apart = prompter_of(tokenizer, kind='encoder-decoder')
  assert apart.answers(['bad']) == [tokenizer.encode('bad', special=False)]


def test_as_many_demonstrations_as_fit(tokenizer):
  prompter = prompter_of(tokenizer)
  sizes = []
  for count in range(4):
    prompt = prompter.prompt('good story', SHOWN[:count])
    ids = [*tokenizer.prefix, *tokenizer.encode(prompt, special=False)]
    sizes.append(len(ids))
  for room in range(sizes[0], sizes[3] + 1):
    small = prompter_of(tokenizer, room=room + 4)
    (asked,) = small.ask(['good story'], [SHOWN])
    assert asked.shots == sum(size <= room for size in sizes) - 1, room
    assert len(asked.ids) == sizes[asked.shots]
    assert not asked.is_cut


def test_a_text_is_cut_before_what_is_asked(tokenizer):
  small = prompter_of(tokenizer, room=24)
  (asked,) = small.ask(['good story ' * 30], [SHOWN])
  assert asked.is_cut and asked.shots == 0 and len(asked.ids) == 20
  text = tokenizer.decode(asked.ids)
  assert text.startswith('review: good story') and text.endswith('\nis it')
  with pytest.raises(ConfigError, match=r'config.data.length: no room for a text'):
    prompter_of(tokenizer, room=6).ask(['good'], [()])


def test_an_answer_context_is_what_stands_before_an_answer(tokenizer):
  frame = list(tokenizer.prefix)
  of = lambda text: frame + tokenizer.encode(text, special=False)
  assert prompter_of(tokenizer).context() == of('is it')
  assert prompter_of(tokenizer, answer_context='good').context() == of('good')
  bare = dataclasses.replace(tokenizer, prefix=(), bos=2)
  # A model must read something.
  assert prompter_of(bare, template='{text} {target}').context() == [2]


def test_draws_are_nested_and_depend_on_seed_and_text_alone():
  texts = [f'text {n}' for n in range(30)]
  (few,) = prompts.draw(texts, 4, 0, None)
  (many,) = prompts.draw(texts, 16, 0, None)
  assert many[:4] == few and len(set(many)) == 16
  assert prompts.draw(texts, 4, 1, None) != [few]
  (turned,) = prompts.draw(texts[::-1], 4, 0, None)
  assert [texts[::-1][n] for n in turned] == [texts[n] for n in few]
  assert prompts.draw(texts, 0, 0, None) == [[]]


def test_each_example_may_have_a_draw_of_its_own():
  texts = [f'text {n}' for n in range(30)]
  first, second = prompts.draw(texts, 4, 0, ['a', 'text 3'])
  assert first != second
  # Whoever else is asked.
  assert prompts.draw(texts, 4, 0, ['text 3']) == [second]
  # A text of both splits is no demonstration of itself.
  (all_others,) = prompts.draw(texts, 30, 0, ['TEXT  3'])
  assert sorted(all_others) == [n for n in range(30) if n != 3]


def test_words_of_labels():
  prompting = Prompting(words={'pos': 'good'})
  assert prompting.words_of(('neg', 'pos')) == ('neg', 'good')
  with pytest.raises(ConfigError, match="'pos' is no label; there are a, b"):
    prompting.words_of(('a', 'b'))
  with pytest.raises(ConfigError, match="'pos' needs words of its own, not 'good'"):
    prompting.words_of(('good', 'pos'))


@pytest.mark.parametrize(
  ('group', 'said'),
  [
    (dict(template='{text}'), 'must end with its {target}'),
    (dict(template='{target} {text}'), 'must end with its {target}'),
    (dict(template='it {target}'), 'must have one {text}'),
    (dict(score='sums'), "nearest: 'sum'"),
    (dict(shot=4), "config.method.shot: unknown key; nearest: 'shots'"),
    (dict(shots=-1), 'config.method.shots'),
    (dict(content_free=()), 'content_free'),
  ],
)
def test_what_cannot_be_is_refused_by_its_key(group, said):
  with pytest.raises(ConfigError) as caught:
    config.checks.struct(Prompting, dict(name='in_context') | group, 'config.method')
  assert said in str(caught.value) and str(caught.value).startswith('config.method')
