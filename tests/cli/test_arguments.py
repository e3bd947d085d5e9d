"""Overrides are found among the words, and every unknown flag has a nearest one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.cli.arguments import Parser, split_overrides
from tl_jax.config import ConfigError

KEYS = st.from_regex(r'[a-z]+(\.[a-z]+){0,2}', fullmatch=True)


@given(
  st.lists(st.tuples(KEYS, st.text())),
  st.lists(st.sampled_from(['--workdir=w', '--config=a.py', 'word'])),
)
def test_overrides_keep_their_order_and_text(overrides, others):
  words = [f'--config.{key}={text}' for key, text in overrides]
  assert split_overrides([*others, *words]) == (others, overrides)
  assert split_overrides([*words, *others]) == (others, overrides)


def test_a_value_may_be_the_next_word():
  assert split_overrides(['--config.a', '-3', '--config.b=', 'c']) == (
    ['c'],
    [('a', '-3'), ('b', '')],
  )
  for words in (['--config.a'], ['--config.a', '--config.b=1']):
    with pytest.raises(ConfigError, match=r'^--config\.a: needs a value'):
      split_overrides(words)


def test_flags_are_not_abbreviated_and_not_invented():
  parser = Parser(prog='p', allow_abbrev=False)
  parser.add_argument('--workdir')
  assert parser.parse(['--workdir', 'w']).workdir == 'w'
  for word in ('--work=w', '--workdirs', '--Workdir=3'):
    with pytest.raises(ConfigError, match=r"^p: unknown flag .*nearest: '--workdir'"):
      parser.parse([word])
  with pytest.raises(ConfigError, match='unrecognized arguments: x'):
    parser.parse(['x'])
