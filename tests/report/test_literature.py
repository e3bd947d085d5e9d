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
    (
      'ulmfit',
      dict(metric={'IMDb': 'scores'}),
      "metric 'scores' is unknown; nearest: 'score'",
    ),
    (
      'ulmfit',
      dict(metric={'IMDB': 'score'}),
      "metric of the column 'IMDB' is unknown; nearest: 'IMDb'",
    ),
    ('ulmfit', dict(rows=['Full']), 'two numbers for'),
  ],
)
def test_an_unknown_or_ambiguous_name_is_an_error(name, arguments, words):
  with pytest.raises(ValueError, match=words):
    published(name, **arguments)


def test_two_columns_may_stand_for_two_metrics_of_a_printed_task(monkeypatch):
  line = dict(
    paper='P', table='T', row='LoRA', task='MRPC', provenance='here', checked='yes'
  )
  lines = [
    {**line, 'metric': 'accuracy', 'value': '90.2'},
    {**line, 'metric': 'F1', 'value': '92.9'},
    {**line, 'task': 'RTE', 'metric': 'accuracy', 'value': '86.6'},
  ]
  monkeypatch.setattr('tl_jax.report.literature._read', lambda name: lines)
  found = published(
    'lora',
    columns={'MRPC accuracy': 'MRPC', 'MRPC F1': 'MRPC', 'RTE': 'RTE'},
    metric={'MRPC accuracy': 'accuracy', 'MRPC F1': 'F1'},
  )
  assert {column: number.text for (_, column), number in found.items()} == {
    'MRPC accuracy': '90.2',
    'MRPC F1': '92.9',
    'RTE': '86.6',
  }
