"""Conversations as examples: what is learned, and what goes where one is too long."""

import dataclasses
import pathlib

import numpy as np
import pytest

from tl_jax import data, objectives, tasks
from tl_jax.config import ConfigError
from tl_jax.data.conversations import Turn

CONVERSATION = tasks.PROBLEMS['conversation']
SYSTEM = Turn('system', 'Be kind.')
FIRST = (Turn('user', 'Who runs?'), Turn('assistant', 'A red cat.', learned=True))
SECOND = (Turn('user', 'And who sits?'), Turn('assistant', 'A cow.', learned=True))
WHOLE = (SYSTEM, *FIRST, *SECOND)


@pytest.fixture(scope='module')
def tokenizer():
  texts = [f'{turn.role}: {turn.content}' for turn in WHOLE]
  return data.tokenizers.train(texts * 9, 'bpe', 400)


def encode(tokenizer, turns, length=128, target_length=16):
  writer = tasks.Writer('decoder', tokenizer.eos)
  limits = tasks.Limits(length, pathlib.Path(), target_length, writer=writer)
  found = CONVERSATION.encode([''], [turns], tokenizer, limits)
  ids = found.examples.tokens[0]
  text = tokenizer.decode(ids, special=True)
  learned = tokenizer.decode(ids[found.examples.learned[0] > 0], special=True)
  return found, text, learned


def test_every_answer_of_a_packed_row_is_predicted_and_nothing_else(tokenizer):
  writer = tasks.Writer('decoder', tokenizer.eos)
  limits = tasks.Limits(96, pathlib.Path(), 16, writer=writer)
  found = CONVERSATION.encode([''] * 2, [WHOLE, FIRST], tokenizer, limits).examples
  (batch,) = data.evaluation(found, length=96, batch=1)
  assert batch['segments'].max() == 2
  prepared = objectives.causal().prepare(None, batch)
  predicted = prepared['targets'][prepared['target_weights'] > 0]
  text = tokenizer.decode(np.asarray(predicted), special=True)
  # The first answer belongs to both conversations.
  for answer, count in ((' A red cat.</s>', 2), (' A cow.</s>', 1)):
    assert text.count(answer) == count
    text = text.replace(answer, '')
  assert not text


def test_a_prompt_ends_where_the_last_answer_begins(tokenizer):
  found, text, _ = encode(tokenizer, WHOLE)
  ids = tasks.prompt_of(found.examples, 0)
  before = text[: text.rindex(' A cow.')]
  assert tokenizer.decode(ids, special=True) == before
  assert not any(cut.count for cut in found.cut)


def test_the_oldest_exchange_goes_first_and_the_system_stays(tokenizer):
  whole, _, _ = encode(tokenizer, WHOLE)
  length = len(whole.examples.tokens[0]) - 1 + 8
  found, text, learned = encode(tokenizer, WHOLE, length, target_length=16)
  assert text.startswith('system: Be kind.\nuser: And who sits?\n')
  assert learned == ' A cow.</s>'
  assert [cut.count for cut in found.cut] == [1, 0]


def test_then_the_question_is_cut_never_what_follows_it(tokenizer):
  long = (Turn('user', 'Who runs? ' * 30), FIRST[1])
  found, text, learned = encode(tokenizer, long, length=48)
  assert text.startswith('user: Who runs?') and len(found.examples.tokens[0]) <= 48
  assert 'assistant: A red cat.</s>' in text and learned == ' A red cat.</s>'
  with pytest.raises(ConfigError, match='config.data.length: no room for a question'):
    encode(tokenizer, long, length=18)


def test_a_long_answer_is_cut_and_ended(tokenizer):
  found, text, learned = encode(tokenizer, SECOND, target_length=3)
  ids = found.examples.tokens[0]
  assert ids[-1] == tokenizer.eos and found.examples.learned[0][-3:].tolist() == [1] * 3
  assert ' A cow.</s>'.startswith(learned.removesuffix('</s>'))
  assert [cut.count for cut in found.cut] == [0, 1]


def test_a_template_without_ends_is_given_one(tokenizer):
  pytest.importorskip('jinja2')
  template = '{% for m in messages %}{{ m.content + "\\n" }}{% endfor %}'
  own = dataclasses.replace(tokenizer, chat_template=template)
  assert CONVERSATION.end(own) is None
  _, text, learned = encode(own, FIRST)
  assert text == 'Who runs?\nA red cat.\n</s>' and learned == 'A red cat.\n</s>'


def test_a_text_without_an_answer_is_what_a_user_says(tokenizer):
  (turns,) = CONVERSATION.ask(['Who runs?'])
  found, _, _ = encode(tokenizer, turns)
  prompt = tokenizer.decode(tasks.prompt_of(found.examples, 0), special=True)
  assert prompt == 'user: Who runs?\nassistant:'
