"""The cells of a row."""

import pytest

from tl_jax.data import cells
from tl_jax.data.separated import NoColumn


def test_a_missing_column_is_named_with_those_there_are():
  row = dict(text='a', kind='b')
  with pytest.raises(
    NoColumn, match='a.csv:2: label: missing; the line has text, kind'
  ):
    cells.label('a.csv', 2, row, ('label',), labelled=True)
  assert cells.label('a.csv', 2, row, ('label',), labelled=False) == {}


def test_indicators_name_their_columns():
  row = dict(price='1.0', speed='False', size='')
  found = cells.label('a.csv', 2, row, ('price', 'speed'), labelled=True)
  assert found == {'label': ['price']}
  gone = cells.label('a.csv', 2, row, ('price', 'size'), labelled=True)
  assert gone == {'label': None}
  with pytest.raises(ValueError, match='each holds 0 or 1'):
    cells.label('a.csv', 2, dict(price='2', size='1'), ('price', 'size'), labelled=True)


def test_texts_are_listed_behind_the_first():
  row = dict(one=' a ', two='', three='c')
  names = ('one', 'two', 'three')
  assert cells.listed('a.csv', 2, row, names, True) == {'label': ['a', 'c']}
  assert cells.listed('a.csv', 2, row, names[1:], True) == {'label': None}
