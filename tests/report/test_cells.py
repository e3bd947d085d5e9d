"""Cells: grouping by seed, holes that are shown, pairing, and rows as curves."""

import json
import math

import pytest

from tl_jax.evals.statistics import paired_t_interval, t_interval
from tl_jax.report.cells import AbsentCell, Run, cells, read_lines


def run_of(row, column, seed, value, **result):
  return Run(row, column, seed, result={'metrics': {'accuracy': value}, **result})


RUNS = [
  run_of(row, column, seed, base + 0.01 * seed + 0.1 * (column == 'b'), seconds=seed)
  for row, base in (('lora', 0.7), ('full', 0.6))
  for column in 'ab'
  for seed in range(3)
]


def test_a_cell_has_the_interval_of_its_seeds_and_the_means_of_the_extra_numbers():
  table = cells(RUNS, 'accuracy', extra=('seconds', 'absent'))
  cell = table['lora', 'a']
  assert cell.interval == t_interval([0.7, 0.71, 0.72])
  assert (cell.n, dict(cell.holes), dict(cell.extra)) == (
    3,
    {},
    {'seconds': 1.0, 'absent': None},
  )
  assert [(cell.row, cell.column) for cell in table] == [
    (row, column) for row in ('lora', 'full') for column in 'ab'
  ]


def test_the_factor_changes_the_unit_of_everything():
  plain, percent = cells(RUNS, 'accuracy'), cells(RUNS, 'accuracy', factor=100)
  assert percent['lora', 'a'].mean == pytest.approx(100 * plain['lora', 'a'].mean)
  assert (percent['lora'] - percent['full']).mean == pytest.approx(10.0)


@pytest.mark.parametrize(
  ('runs', 'holes'),
  [
    (RUNS[1:], {0: 'not run'}),
    (
      [Run('lora', 'a', 0, reason='the loss became NaN'), *RUNS[1:]],
      {0: 'the loss became NaN'},
    ),
    ([Run('lora', 'a', 0), *RUNS[1:]], {0: 'no result'}),
  ],
)
def test_a_missing_seed_is_a_hole_with_a_reason(runs, holes):
  table = cells(runs, 'accuracy', seeds=range(3))
  cell = table['lora', 'a']
  assert (dict(cell.holes), cell.n, list(cell.values)) == (holes, 2, [1, 2])
  assert cell.interval == t_interval([0.71, 0.72])
  assert table['lora'].holes.keys() == {0}
  assert (table['lora', 'a'] - table['full', 'a']).n == 2


def test_a_cell_without_any_run_has_no_mean():
  cell = cells([*RUNS[:3], Run('full', 'a', 0)], 'accuracy')['full', 'a']
  assert (cell.mean, cell.n, len(cell.holes)) == (None, 0, 3)


def test_differences_are_paired_by_seed_in_whatever_order_the_runs_come():
  first, second = [0.1, 0.5, 0.3], [0.2, 0.1, 0.2]
  runs = [
    run_of(row, 'a', seed, value)
    for row, values in (('x', first), ('y', second))
    for seed, value in enumerate(values)
  ]
  for order in (runs, runs[::-1], runs[2:] + runs[:2]):
    table = cells(order, 'accuracy')
    found, expected = (
      table['x', 'a'] - table['y', 'a'],
      paired_t_interval(first, second),
    )
    assert (found.mean, found.low, found.high) == pytest.approx(
      (expected.mean, expected.low, expected.high)
    )


def test_a_row_averages_its_columns_seed_by_seed():
  row = cells(RUNS, 'accuracy')['lora']
  assert dict(row.values) == pytest.approx({0: 0.75, 1: 0.76, 2: 0.77})


@pytest.mark.parametrize(
  ('key', 'words'),
  [
    (('lorra', 'a'), "no row 'lorra'; nearest: 'lora'"),
    (('lora', 'c'), "no column 'c'"),
    ('ful', "nearest: 'full'"),
  ],
)
def test_an_unknown_name_gets_the_nearest(key, words):
  with pytest.raises(ValueError, match=words):
    cells(RUNS, 'accuracy')[key]


@pytest.mark.parametrize(
  ('runs', 'words'),
  [
    (RUNS + RUNS[:1], 'two runs'),
    ([run_of('a', 'b', 0, math.nan)], 'no number'),
    ([run_of('a', 'b', 0, None)], 'no number'),
  ],
)
def test_runs_that_cannot_be_grouped_are_errors(runs, words):
  with pytest.raises(ValueError, match=words):
    cells(runs, 'accuracy')


def test_a_row_is_a_curve_over_its_columns_or_the_labels_of_its_results():
  by_column = cells(
    [run_of('a', labels, 0, labels / 100) for labels in (64, 16)], 'accuracy'
  ).curve('a')
  by_result = cells(
    [
      run_of('a', f'{labels} labels', 0, labels / 100, labels=labels)
      for labels in (64, 16)
    ],
    'accuracy',
  ).curve('a')
  assert by_column == by_result
  assert (by_column.labels, by_column.means) == ([16, 64], [0.16, 0.64])
  with pytest.raises(AbsentCell, match='no run of the row'):
    cells([Run('a', 16, 0)], 'accuracy').curve('a')


def test_only_whole_lines_are_read(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  assert read_lines(path) == []
  path.write_text(json.dumps({'step': 1}) + '\n[2]\n' + '{"step": 2, "lo')
  assert read_lines(path) == [{'step': 1}]
  run = Run('a', 'b', 0, tmp_path, {'metrics': {'accuracy': 1.0}})
  table = cells([run], 'accuracy')
  assert table['a', 'b'].training(0) == [{'step': 1}]
  assert table['a', 'b'].training(9) == []


def test_a_column_has_the_metric_that_the_headline_gives_it():
  runs = [
    Run('lora', column, seed, result={'metrics': {'accuracy': 0.8, 'f1': seed / 10}})
    for column in 'ab'
    for seed in range(3)
  ]
  table = cells(runs, {'a': 'accuracy', 'b': 'f1'}, factor=100)
  assert table['lora', 'a'].values == {0: 80.0, 1: 80.0, 2: 80.0}
  assert table['lora', 'b'].values == {0: 0.0, 1: 10.0, 2: 20.0}
  # The mean over columns, seed by seed, as of GLUE.
  assert table['lora'].values == {0: 40.0, 1: 45.0, 2: 50.0}
