"""Encoded texts and conversations are kept, and made anew for all that changes them."""

import dataclasses

import numpy as np
import pytest

from tl_jax import data, tasks
from tl_jax.data.conversations import Turn
from tl_jax.train import keeping

TEXTS = ['a red cat runs far', 'a cow', '']
ANSWERS = [('a cat', 'the cat'), ('the cow sits',), ('none',)]
TURNS = (Turn('user', 'Who runs?'), Turn('assistant', 'A red cat.', learned=True))
LATER = (*TURNS, Turn('user', 'And?'), Turn('assistant', 'A cow.', learned=True))
CASES = ('encoder-decoder', 'decoder', 'conversation')


@pytest.fixture(scope='module')
def tokenizer():
  return data.tokenizers.train(['a red cat runs far user assistant'] * 9, 'bpe', 300)


def case(name, tokenizer, folder, **more):
  """(problem, texts, targets, tokenizer, limits)."""
  kind = 'encoder-decoder' if name == 'encoder-decoder' else 'decoder'
  writer = tasks.Writer(kind, tokenizer.eos, tokenizer.pad)
  limits = tasks.Limits(40, folder, target_length=6, writer=writer)._replace(**more)
  texts, found = TEXTS, ANSWERS
  if name == 'conversation':
    texts, found = ['', ''], [TURNS, LATER]
  targets = np.empty(len(found), object)
  targets[:] = found
  problem = tasks.PROBLEMS['conversation' if name == 'conversation' else 'text']
  return problem, texts, targets, tokenizer, limits


@pytest.mark.parametrize('name', CASES)
def test_what_is_kept_is_what_is_encoded_and_is_not_encoded_again(
  name, tokenizer, tmp_path
):
  problem, texts, targets, _, limits = case(name, tokenizer, tmp_path)
  fresh = problem.encode(texts, targets, tokenizer, limits)
  keeping.encoded(problem, texts, targets, tokenizer, limits)
  # A tokenizer that can encode nothing more.
  idle = dataclasses.replace(tokenizer, backend=None)
  kept = keeping.encoded(problem, texts, targets, idle, limits)
  for field in dataclasses.fields(fresh.examples):
    one, two = (getattr(each.examples, field.name) for each in (fresh, kept))
    if field.name in keeping.LISTS and one is not None:
      assert len(one) == len(two)
      one, two = np.concatenate(one.arrays), np.concatenate(two.arrays)
    np.testing.assert_array_equal(one, two)
    assert getattr(one, 'dtype', None) == getattr(two, 'dtype', None)
  for one, two in zip(fresh.cut, kept.cut, strict=True):
    assert one[:3] == two[:3] and one.whole.tolist() == two.whole.tolist()
  assert sum(cut.count for cut in kept.cut) > 0


@pytest.mark.parametrize('name', CASES)
def test_all_that_changes_the_tokens_is_part_of_the_key(name, tokenizer, tmp_path):
  def folders(**changes):
    some, texts, targets, own, limits = case(name, tokenizer, tmp_path)
    own = dataclasses.replace(own, **changes.pop('tokenizer', {}))
    targets = changes.pop('targets', targets)
    limits = limits._replace(**changes)
    keeping.encoded(some, texts, targets, own, limits)
    return len(list(tmp_path.glob('examples-*')))

  writer = case(name, tokenizer, tmp_path)[-1].writer
  other = case(name, tokenizer, tmp_path)[2].copy()
  other[0] = ('other',) if name != 'conversation' else LATER
  assert folders() == folders() == 1
  changes = [
    dict(length=39),
    dict(target_length=5),
    dict(writer=writer._replace(eos=5)),
    dict(targets=other),
    dict(tokenizer=dict(parse_special=True)),
    dict(tokenizer=dict(digest='of another')),
  ]
  if name != 'conversation':
    changes.append(dict(template='see {text}'))
  for count, change in enumerate(changes, 2):
    assert folders(**change) == count, change


def test_a_chat_template_is_part_of_the_key(tokenizer, tmp_path):
  pytest.importorskip('jinja2')
  problem, texts, targets, _, limits = case('conversation', tokenizer, tmp_path)
  found = []
  for mark in 'ab':
    template = "{% for m in messages %}{{ '" + mark + "' + m['content'] }}{% endfor %}"
    own = dataclasses.replace(tokenizer, chat_template=template)
    kept = keeping.encoded(problem, texts, targets, own, limits)
    found.append(tokenizer.decode(kept.examples.tokens[0], special=True)[0])
  assert found == ['a', 'b']


def test_a_problem_of_ones_own_is_not_kept(tokenizer, tmp_path):
  problem, *rest = case('decoder', tokenizer, tmp_path)
  keeping.encoded(dataclasses.replace(problem), *rest)
  assert not list(tmp_path.glob('examples-*'))
