"""Cells for other seeds and other examples."""

import types

import pytest

from tl_jax.evals.statistics import t_interval
from tl_jax.report import populations, text
from tl_jax.report.cells import Run, cells

VALUES = (0.70, 0.72, 0.77)


def cell_of(half, values=VALUES, seeds=None, lacking=()):
  runs = []
  for seed, value in enumerate(values):
    ends = {'accuracy': [value - half, value + half]}
    if seed in lacking:
      ends = {}
    result = dict(metrics={'accuracy': value}, intervals=ends, n=400)
    runs.append(Run('lora', 'mine', seed, result=result))
  return cells(runs, 'accuracy', seeds=seeds)['lora', 'mine']


def test_both_sources_widen_the_interval():
  alone = t_interval(VALUES)
  narrow = populations.interval_of(cell_of(1e-9), 'accuracy')
  assert (narrow.low, narrow.high) == pytest.approx((alone.low, alone.high))
  wide = populations.interval_of(cell_of(0.05), 'accuracy')
  # Examples that all runs share do not average out over seeds.
  assert wide.high - wide.mean > 0.05 and wide.df > narrow.df
  percent = populations.interval_of(cell_of(0.0), 'accuracy')
  assert percent.mean == pytest.approx(alone.mean)


def test_a_single_run_has_its_examples_alone_and_an_old_one_nothing():
  found = populations.interval_of(cell_of(0.05, VALUES[:1]), 'accuracy', factor=100.0)
  assert (found.low, found.high, found.n) == (pytest.approx(65), pytest.approx(75), 1)
  assert populations.interval_of(cell_of(0.05, lacking=(1,)), 'accuracy') is None
  assert populations.interval_of(cell_of(0.05), 'f1') is None


def test_the_table_says_what_is_missing():
  outcome = types.SimpleNamespace(
    table=types.SimpleNamespace(headline='accuracy', factor=1.0, digits=2),
    cells=None,
  )
  runs = [Run('full', 'mine', 0, reason='diverged')]
  for seed, value in enumerate(VALUES[:2]):
    result = dict(metrics={'accuracy': value}, intervals={'accuracy': [0.6, 0.8]})
    runs.append(Run('lora', 'mine', seed, result=result))
  outcome.cells = cells(runs, 'accuracy', seeds=range(3))
  head, *lines = text.of_populations(outcome)
  assert head[1] == 'mine'
  found = {line[0]: line[1] for line in lines}
  assert found['full'] == '–'
  assert found['lora'].startswith('0.71 [0.') and found['lora'].endswith('(n=2 of 3)')
  # Runs of an earlier version have none, and no table of dashes.
  for run in runs:
    if run.result:
      run.result.pop('intervals')
  outcome.cells = cells(runs, 'accuracy', seeds=range(3))
  assert text.of_populations(outcome) == []
