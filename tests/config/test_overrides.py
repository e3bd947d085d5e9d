"""Text becomes the type that stands in its place; configs become canonical text."""

import json
import re

import ml_collections
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax import config


def sample():
  c = ml_collections.ConfigDict(
    {
      'seed': 0,
      'optim': {'lr': 0.1, 'betas': (0.9, 0.99), 'groups': (('bias', {'decay': 0.0}),)},
      'pack': True,
      'name': 'x',
      'widths': (1, 2),
      'names': ('a',),
      'teacher': None,
      'empty': (),
      'data': {'mixture': {'books': 0.5}, 'path': '/a'},
    }
  )
  c.lock()
  return c


RIGHT = [
  ('seed', '1_000', 1000),
  ('seed', '-3', -3),
  ('optim.lr', '1e-4', 1e-4),
  ('optim.lr', '1', 1.0),
  ('optim.lr', '-1_0.5', -10.5),
  ('pack', 'false', False),
  ('pack', '0', False),
  ('pack', 'no', False),
  ('pack', 'True', True),
  ('name', '12', '12'),
  ('name', '', ''),
  ('name', 'a=b,c', 'a=b,c'),
  ('optim.betas', '(1, 0.5)', (1.0, 0.5)),
  ('optim.betas', '[0.5,0.5]', (0.5, 0.5)),
  ('widths', '24', (24,)),
  ('widths', '(24,)', (24,)),
  ('widths', '1,2', (1, 2)),
  ('widths', '', ()),
  ('names', 'a,b', ('a', 'b')),
  ('names', "('a,b',)", ('a,b',)),
  ('names', 'a b', ('a b',)),
  ('teacher', 'path', 'path'),
  ('teacher', '3', 3),
  ('teacher', 'true', True),
  ('teacher', '(1, [2])', (1, (2,))),
  ('teacher', '1e-4', 1e-4),
  ('teacher', 'None', None),
  ('name', 'None', None),
  ('optim.lr', 'None', None),
  ('empty', 'a,1', ('a', '1')),
  ('empty', '(1, 2.0)', (1, 2.0)),
  ('optim.groups', "((('kernel'), {'decay': 0.1}),)", (('kernel', {'decay': 0.1}),)),
]


@pytest.mark.parametrize(('key', 'text', 'value'), RIGHT)
def test_typed_by_what_is_there(key, text, value):
  c = sample()
  config.override(c, key, text)
  group = c
  for part in key.split('.'):
    group = group[part]
  assert group == value and type(group) is type(value)


WRONG = [
  ('seed', '1.5', "config.seed: '1.5' is not an integer"),
  ('seed', '1e3', 'config.seed:'),
  ('seed', 'true', 'config.seed:'),
  ('seed', '', 'config.seed:'),
  ('optim.lr', 'abc', 'config.optim.lr:'),
  ('optim.lr', 'nan', 'config.optim.lr:'),
  ('optim.lr', 'inf', 'config.optim.lr:'),
  ('pack', '2', 'config.pack:'),
  ('widths', '1.5', 'config.widths: every item must be int'),
  ('optim.betas', 'a', 'config.optim.betas:'),
  ('optim', '3', 'config.optim: is a group'),
  ('optim.lrr', '1', "config.optim.lrr: unknown key; nearest: 'optim.lr'"),
  ('optm.lr', '1', "config.optm.lr: unknown key; nearest: 'optim.lr'"),
  ('lr', '1', "config.lr: unknown key; nearest: 'optim.lr'"),
  (
    'data.mixture.boks',
    '1',
    "config.data.mixture.boks: unknown key; nearest: 'data.mixture.books'",
  ),
  ('seed.x', '1', 'config.seed.x: unknown key'),
  ('', '1', 'config.: unknown key'),
  ('.', '1', 'config..: unknown'),
]


@pytest.mark.parametrize(('key', 'text', 'message'), WRONG)
def test_what_cannot_be_is_refused(key, text, message):
  c = sample()
  before = config.digest(c)
  with pytest.raises(config.ConfigError, match='^' + re.escape(message)):
    config.override(c, key, text)
  assert config.digest(c) == before


def test_a_group_is_replaced_whole_by_a_literal():
  c = sample()
  config.override(c, 'data.mixture', "{'web': 1.0}")
  assert c.data.mixture.to_dict() == {'web': 1.0}


@given(
  st.floats(allow_nan=False, allow_infinity=False),
  st.integers(),
  st.text(),
  st.booleans(),
)
def test_what_is_written_is_read(number, whole, text, flag):
  c = sample()
  for key, value in [
    ('optim.lr', number),
    ('seed', whole),
    ('name', text),
    ('pack', flag),
  ]:
    config.override(c, key, str(value))
  assert (c.optim.lr, c.seed, c.pack) == (number, whole, flag)
  assert c.name == (None if text == 'None' else text)
  assert config.digest(c) == config.digest(
    json.loads(json.dumps(config.to_json(c), allow_nan=False))
  )


def test_digest_ignores_order_and_sees_values():
  assert config.digest({'a': 1, 'b': (1, 2)}) == config.digest({'b': [1, 2], 'a': 1})
  values = [1, 1.5, True, '1', None, (1,), {'a': 1}]
  assert len({config.digest({'a': value}) for value in values}) == len(values)
  assert re.fullmatch('[0-9a-f]{64}', config.digest({}))


def test_references_are_resolved_in_json():
  c = ml_collections.ConfigDict({'a': 2})
  c.b = c.get_ref('a') * 3
  assert config.to_json(c) == {'a': 2, 'b': 6}


@pytest.mark.parametrize(
  'value', [float('nan'), float('inf'), print, {1: 2}, {'a': (float('nan'),)}, object()]
)
def test_what_json_cannot_hold_is_refused(value):
  with pytest.raises(config.ConfigError, match=r'^config\.a'):
    config.to_json({'a': value})


DEFAULTS = dict(task='sentiment', method='full', init='scratch', labels=None, seed=0)


def test_arguments():
  parse = lambda text: config.arguments(text, **DEFAULTS).to_dict()
  assert parse(None) == parse('') == DEFAULTS
  assert parse('topics') == {**DEFAULTS, 'task': 'topics'}
  assert parse('topics,method=lora')['method'] == 'lora'
  whole = parse('task=a.csv,method=lora,init=/x,y/1,labels=100,seed=2')
  assert whole == dict(task='a.csv', method='lora', init='/x,y/1', labels=100, seed=2)
  assert parse('method=lora').get('task') == 'sentiment'
  assert parse('/data/x=1/f.csv')['task'] == '/data/x=1/f.csv'


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('tsk=a', "argument 'tsk': unknown; nearest: 'task'"),
    ('task=a,task=b', "argument 'task': given twice"),
    ('seed=x', "argument 'seed': 'x' is not an integer"),
    ('a,task=b', "argument 'task': given twice"),
  ],
)
def test_bad_arguments(text, message):
  with pytest.raises(config.ConfigError, match='^' + re.escape(message)):
    config.arguments(text, **DEFAULTS)


def test_names_are_parted_by_a_plus_that_is_not_escaped(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'c++.csv').write_text('')
  assert config.names(r'a\+b.csv+c') == ('a+b.csv', 'c')
  assert config.names('c++.csv') == ('c++.csv',)
  assert config.names('d+.csv') == ('d', '.csv')
  with pytest.raises(config.ConfigError, match="'a' stands twice in 'a\\+b\\+a'"):
    config.names('a+b+a')
  with pytest.raises(config.ConfigError, match="'./a.csv' stands twice"):
    config.names('a.csv+./a.csv')


def test_a_comma_before_a_key_parts_arguments_unless_it_is_escaped():
  found = config.arguments(r'task=a\,label=b.csv,label=c,d', task='', label='')
  assert found.to_dict() == {'task': 'a,label=b.csv', 'label': 'c,d'}


@pytest.mark.parametrize('text', ['austen+', '+austen', 'austen++debian', ' +a'])
def test_a_name_that_is_empty_is_refused(text):
  with pytest.raises(config.ConfigError, match='no name on one side of a +'):
    config.names(text)


def test_a_group_that_shows_not_all_of_its_keys_takes_others():
  made = ml_collections.ConfigDict({'model': {'family': 'tiny'}, 'optim': {'lr': 1.0}})
  for key, text in (('width', '64'), ('pool', 'mean'), ('pair_head', 'True')):
    config.override(made, f'model.{key}', text)
  assert made.model.to_dict() == dict(
    family='tiny', width=64, pool='mean', pair_head=True
  )
  for key in ('optim.lrr', 'model.family.x', 'model.', 'modl.width', 'method.rank'):
    with pytest.raises(config.ConfigError, match=f'config.{key}: unknown key'):
      config.override(made, key, '1')
