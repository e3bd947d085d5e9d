"""Published numbers: found by name, carrying their provenance, never two for one cell."""

import pytest

from tl_jax.report import published


def test_numbers_carry_where_they_come_from():
  found = published(
    'ulmfit',
    table='Table 4 (val error)',
    rows={'scratch': 'Without pretraining'},
    columns={'reviews': 'IMDb', 'news': 'AG'},
  )
  values = {key: number.value for key, number in found.items()}
  assert values == {('scratch', 'reviews'): 5.63, ('scratch', 'news'): 5.52}
  number = found['scratch', 'reviews']
  assert (number.text, number.paper, number.provenance, number.checked) == (
    '5.63',
    'ULMFiT',
    'paper text',
    True,
  )


def test_a_printed_text_that_is_no_number_stays_text():
  number = published('ulmfit', table='Figure 3 text')[
    'supervised, 100 labels', 'IMDb / AG'
  ]
  assert (number.value, number.text) == (None, '10x / 20x')


def test_one_printed_row_may_stand_beside_two_of_ours():
  found = published(
    'ulmfit',
    table='Table 4 (val error)',
    rows={'a': 'With pretraining', 'b': 'With pretraining'},
    columns=['AG'],
  )
  assert {key: number.text for key, number in found.items()} == {
    ('a', 'AG'): '5.38',
    ('b', 'AG'): '5.38',
  }


@pytest.mark.parametrize(
  ('name', 'arguments', 'words'),
  [
    ('ulmfitt', {}, "'ulmfitt' is unknown; nearest: 'ulmfit'"),
    ('ulmfit', dict(table='Table 4'), "table 'Table 4' is unknown; nearest: .*Table 4"),
    ('ulmfit', dict(rows=['CoVee']), "row 'CoVee' is unknown; nearest: 'CoVe'"),
    (
      'ulmfit',
      dict(columns={'x': 'IMDB'}),
      "column 'IMDB' is unknown; nearest: 'IMDb'",
    ),
    ('ulmfit', dict(metric='scores'), "metric 'scores' is unknown; nearest: 'score'"),
    ('ulmfit', dict(rows=['Full']), 'two numbers for'),
  ],
)
def test_an_unknown_or_ambiguous_name_is_an_error(name, arguments, words):
  with pytest.raises(ValueError, match=words):
    published(name, **arguments)
