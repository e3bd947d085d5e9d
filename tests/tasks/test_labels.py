"""Labels: one spelling each, in their order, and of the kind that their values say."""

import pytest

from tl_jax.config import ConfigError
from tl_jax.tasks import labels


@pytest.mark.parametrize(
  'spelling, name',
  [
    (1, '1'),
    (1.0, '1'),
    ('1.0', '1'),
    ('+1', '1'),
    ('-0.0', '0'),
    ('1e3', '1000'),
    (0.50, '0.5'),
    (True, 'true'),
    ('TRUE', 'true'),
    ('007', '007'),
    ('1.', '1.'),
    (' very\t good ', 'very good'),
    ('e\u0301', '\u00e9'),
    (12345678901234567890123456789, '12345678901234567890123456789'),
    ('1' + '0' * 50, '1' + '0' * 50),
    ('1e999', '1e999'),
  ],
)
def test_one_spelling(spelling, name):
  assert labels.spelled(spelling) == name


def test_numbers_are_sorted_as_numbers_and_texts_behind_them():
  names = [str(number) for number in range(12)]
  assert labels.in_order([*reversed(names), 'none', '-1', '2.5']) == (
    '-1',
    '0',
    '1',
    '2',
    '2.5',
    *names[3:],
    'none',
  )


def kind(*values):
  return labels.kind_of(
    values, [f'a.csv:{line}' for line in range(2, 2 + len(values))], 'label'
  )


def test_what_labels_are_when_nobody_says():
  assert (
    kind('good', 'bad', '007') == kind(0, 1, 2.0) == kind(True, False) == 'single_label'
  )
  assert kind('0.5', '1', '2') == kind(0.5, 1) == 'regression'
  assert (
    kind(['a'], []) == kind("['a', 'b']", '[]') == kind([0, 1], [1, 1]) == 'multi_label'
  )
  assert kind('[deleted]', 'kept') == 'single_label'
  # Stars from 1 to 5 are classes; as many numbers as examples are not.
  assert kind(*(list(range(1, 6)) * 4)) == 'single_label'
  with pytest.raises(
    ConfigError, match='20 different labels in 20 examples; say kind=regression'
  ):
    kind(*range(20))
  names = [f'name {number}' for number in range(20)]
  assert kind(*names, 'name 3') == 'single_label'
  with pytest.raises(
    ConfigError, match='20 different labels in 20 examples; say kind=single_label if'
  ):
    kind(*names)
  with pytest.raises(ConfigError, match="a.csv:3: label: 'n/a' is not a number"):
    kind('0.5', 'n/a', '1')
  with pytest.raises(ConfigError, match="a.csv:4: label: 'a' is no list"):
    kind(['a'], [], 'a')


@pytest.mark.parametrize(
  'names, message',
  [
    (('good', 'bad', 'Good'), "a:2: label: 'Good' differs from 'good'"),
    (('\ufb01t', 'fit'), "a:1: label: 'fit' differs"),
    (('true', 'false', '1'), "a:2: label: '1' beside 'false', 'true'"),
    (('0', 'no', 'false'), "a:2: label: 'false' beside '0'"),
  ],
)
def test_a_second_spelling_is_refused_where_it_stands(names, message):
  with pytest.raises(ConfigError, match=message):
    labels.require_one_spelling(
      names, [f'a:{line}' for line in range(len(names))], 'label'
    )


def test_sets_of_classes_in_every_form():
  places = ['a:1', 'a:2', 'a:3']
  assert labels.sets_of([['b', 'a'], [], ['a', 'a']], places, 'label') == [
    ('b', 'a'),
    (),
    ('a',),
  ]
  assert labels.sets_of(['a|b', '', "['b']"], places, 'label') == [
    ('a', 'b'),
    (),
    ('b',),
  ]
  assert labels.sets_of([[1, 0], [0, 0], [True, True]], places, 'label') == [
    ('0',),
    (),
    ('0', '1'),
  ]
  assert labels.sets_of([[1], [0], [1]], places, 'label') == [('1',), ('0',), ('1',)]
  with pytest.raises(ConfigError, match='a:2: label: an empty label'):
    labels.sets_of(['a', 'a||b', 'b'], places, 'label')


@pytest.mark.parametrize('value', ['nan', 'inf', 'n/a', '', None, [1]])
def test_what_is_no_number_is_refused(value):
  with pytest.raises(ConfigError, match='a:1: score: .* is not a finite number'):
    labels.number_of(value, 'a:1', 'score')
