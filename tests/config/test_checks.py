"""Groups become dataclasses and keyword arguments, or a line that names what is wrong."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any, Literal

import ml_collections
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax import config


@dataclasses.dataclass(frozen=True)
class Inner:
  rate: config.Probability = 0.1
  kind: Literal['a', 'b'] = 'a'


@dataclasses.dataclass(frozen=True)
class Outer:
  lr: config.Positive
  steps: config.Count = 1
  decay: config.NonNegative | None = None
  pack: bool = True
  name: str = 'x'
  betas: tuple[float, float] = (0.9, 0.999)
  widths: tuple[int, ...] = ()
  mixture: dict[str, config.Positive] = dataclasses.field(default_factory=dict)
  groups: tuple = ()
  inner: Inner = Inner()
  drop: config.Fraction = 0.0

  def __post_init__(self):
    if self.steps == 13:
      raise ValueError('thirteen steps\nare unlucky')


def build(**keys):
  return config.struct(Outer, {'lr': 1e-3, **keys}, path='config.optim')


WRONG = [
  (dict(lrr=1), "config.optim.lrr: unknown key; nearest: 'lr'"),
  (dict(lr=0), 'config.optim.lr: must be a finite number > 0, got 0 (int)'),
  (dict(lr=-1.0), 'config.optim.lr: must be'),
  (dict(lr=math.inf), 'config.optim.lr: must be'),
  (dict(lr=math.nan), 'config.optim.lr: must be'),
  (dict(lr='1e-3'), 'config.optim.lr: must be'),
  (dict(lr=True), 'config.optim.lr: must be'),
  (dict(lr=None), 'config.optim.lr: must be'),
  (dict(steps=True), 'config.optim.steps: must be an integer >= 1'),
  (dict(steps=np.bool_(True)), 'config.optim.steps: must be'),
  (dict(steps=0), 'config.optim.steps: must be'),
  (dict(steps=1.0), 'config.optim.steps: must be'),
  (dict(lr=1e39), 'config.optim.lr: 1e+39 (float) does not fit into 32 bits'),
  (dict(steps=2**31), 'config.optim.steps: 2147483648 (int) does not fit into 32'),
  (dict(steps=10**20), 'config.optim.steps: 100000000000000000000 (int) does not'),
  (dict(widths=(2**63,)), 'config.optim.widths[0]: 9223372036854775808 (int) does'),
  (dict(steps=13), 'config.optim: thirteen steps are unlucky'),
  (dict(decay=-0.1), 'config.optim.decay: must be a finite number >= 0'),
  (dict(decay='x'), 'config.optim.decay: must be'),
  (dict(pack=1), 'config.optim.pack: must be true or false'),
  (dict(pack='false'), 'config.optim.pack: must be true or false'),
  (dict(name=3), 'config.optim.name: must be text'),
  (dict(name=None), 'config.optim.name: must be text, got None'),
  (dict(betas=(0.9,)), 'config.optim.betas: needs 2 items, got 1'),
  (dict(betas=(0.9, 'x')), 'config.optim.betas[1]: must be'),
  (dict(betas=0.9), 'config.optim.betas: must be a tuple'),
  (dict(widths=[1, 2.5]), 'config.optim.widths[1]: must be an integer'),
  (dict(mixture={'books': -1}), 'config.optim.mixture.books: must be'),
  (dict(mixture=3), 'config.optim.mixture: must be a group of keys'),
  (dict(inner=dict(rte=1)), "config.optim.inner.rte: unknown key; nearest: 'rate'"),
  (
    dict(inner=dict(rate=1.01)),
    'config.optim.inner.rate: must be a finite number >= 0 and <= 1',
  ),
  (dict(inner=dict(kind='c')), "config.optim.inner.kind: 'c' is not a choice"),
  (dict(inner=3), 'config.optim.inner: must be a group of keys'),
  (dict(drop=1.0), 'config.optim.drop: must be a finite number >= 0 and < 1'),
]


@pytest.mark.parametrize(
  ('keys', 'message'), WRONG, ids=[f'{index}' for index in range(len(WRONG))]
)
def test_wrong_is_one_line_that_names_the_key(keys, message):
  with pytest.raises(config.ConfigError, match='^' + re.escape(message)) as caught:
    build(**keys)
  assert '\n' not in str(caught.value)


def test_right_values_are_normalised():
  outer = build(
    lr=1,
    steps=np.int64(3),
    decay=0,
    betas=[1, 0],
    widths=[1],
    mixture={'books': 1},
    groups=[['a', {'decay': [0]}]],
    inner={'rate': 1},
    drop=np.float32(0.5),
  )
  assert outer == Outer(
    1.0,
    3,
    0.0,
    True,
    'x',
    (1.0, 0.0),
    (1,),
    {'books': 1.0},
    (('a', {'decay': (0,)}),),
    Inner(1.0),
    0.5,
  )
  assert (
    type(outer.lr) is float and type(outer.steps) is int and type(outer.drop) is float
  )


def test_missing_key_and_a_group_that_is_none():
  with pytest.raises(config.ConfigError, match=r'^config\.optim\.lr: missing'):
    config.struct(Outer, {}, path='config.optim')
  with pytest.raises(
    config.ConfigError, match=r'^config\.optim: must be a group of keys, got 3'
  ):
    config.struct(Outer, 3, path='config.optim')


@given(
  st.floats(),
  st.sampled_from(
    [config.Positive, config.NonNegative, config.Fraction, config.Probability]
  ),
)
def test_ranges_hold_exactly_where_they_say(value, annotation):
  limits = {
    config.Positive: value > 0,
    config.NonNegative: value >= 0,
    config.Fraction: 0 <= value < 1,
    config.Probability: 0 <= value <= 1,
  }
  right = abs(value) <= float(np.finfo(np.float32).max) and limits[annotation]
  if right:
    assert config.check(value, annotation, 'x') == value
  else:
    with pytest.raises(config.ConfigError):
      config.check(value, annotation, 'x')


@given(
  st.dictionaries(
    st.sampled_from(['lr', 'steps', 'decay', 'pack', 'name']),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
  )
)
def test_a_struct_of_the_right_types_or_an_error_never_between(keys):
  try:
    built = config.struct(Outer, keys, 'c')
  except config.ConfigError as error:
    assert str(error).startswith('c') and '\n' not in str(error)
    return
  assert type(built.lr) is float and built.lr > 0 and math.isfinite(built.lr)
  assert (
    type(built.steps) is int
    and built.steps >= 1
    and type(built.pack) is bool
    and type(built.name) is str
  )
  assert built.decay is None or type(built.decay) is float


def test_struct_of_a_config_dict_with_references():
  group = ml_collections.ConfigDict({'steps': 4, 'lr': 0.5})
  group.widths = (1, 2)
  group.decay = group.get_ref('steps') * 2
  assert config.struct(Outer, group, 'c') == Outer(0.5, 4, 8.0, widths=(1, 2))
  built = Outer(1.0)
  assert config.struct(Outer, built, 'c') is built


def objective(
  tokenizer,
  *,
  rate: config.Probability = 0.15,
  whole_word: bool = False,
  hook: Callable[[], Any] = print,
):
  if whole_word and tokenizer is None:
    raise ValueError('whole words need a tokenizer')
  return tokenizer, rate, whole_word


def test_call_checks_the_keys_it_passes():
  assert config.call(
    objective, {'name': 'masked', 'rate': 1}, 'config.objective', tokenizer='t'
  ) == ('t', 1.0, False)
  for keys, message in [
    (dict(rat=1), r"^config\.objective\.rat: unknown key; nearest: 'rate'"),
    (dict(rate=2), r'^config\.objective\.rate: must be'),
    (dict(tokenizer=1), r'^config\.objective\.tokenizer: unknown key'),
    (dict(hook=3), r'^config\.objective\.hook: must be'),
    (dict(whole_word=True), r'^config\.objective: whole words need'),
  ]:
    with pytest.raises(config.ConfigError, match=message):
      config.call(objective, keys, 'config.objective', tokenizer=None)
  with pytest.raises(config.ConfigError, match=r'^c\.tokenizer: missing'):
    config.call(objective, {}, 'c')


def test_call_passes_the_name_to_a_function_that_has_one_and_takes_partials_and_dataclasses():
  import functools

  assert config.call(lambda *, name: name, {'name': 'n'}, 'c') == 'n'
  assert config.call(functools.partial(objective, 't'), {'rate': 0.5}, 'c') == (
    't',
    0.5,
    False,
  )
  assert config.call(Inner, {'name': 'inner', 'rate': 0}, 'c') == Inner(0.0)


def test_errors_of_another_kind_pass_through_call():
  def broken():
    raise KeyError('x')

  with pytest.raises(KeyError):
    config.call(broken, {}, 'c')


def test_lookup_and_nearest():
  table = {'adamw': 1, 'adafactor': 2}
  assert config.lookup(table, 'adamw', 'config.optim.name') == 1
  with pytest.raises(
    config.ConfigError,
    match=r"^config\.optim\.name: unknown name 'adamv'; nearest: 'adamw'",
  ):
    config.lookup(table, 'adamv', 'config.optim.name')
  with pytest.raises(config.ConfigError, match='must be a name, got None'):
    config.lookup(table, None, 'config.optim.name')
  assert config.nearest('lr', ['optim.lr', 'schedule.steps']).startswith("'optim.lr'")
  assert config.nearest('x', []) == 'none'
