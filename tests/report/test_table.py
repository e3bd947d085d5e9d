"""Claims are held, missed or undecided for stated reasons; tables and scales say what
is wrong with them.
"""

import math

import pytest

from tl_jax.evals.curves import label_curve, labels_saved
from tl_jax.evals.statistics import Interval
from tl_jax.report.cells import AbsentCell
from tl_jax.report.table import Claim, Scale, Table


def table_of(**fields):
  return Table(
    **{
      **dict(
        title='T',
        source='S',
        rows=('lora', 'full'),
        columns=(16, 64),
        seeds=range(3),
        run=lambda row, column, seed, scale: {},
        headline='accuracy',
      ),
      **fields,
    }
  )


@pytest.mark.parametrize(
  ('bound', 'value', 'verdict'),
  [
    (dict(at_least=1.0), Interval(2.0, 1.0, 3.0, 5), 'held'),
    (dict(above=1.0), Interval(2.0, 1.0, 3.0, 5), 'missed'),
    (dict(above=1.0), Interval(2.0, 1.1, 3.0, 5), 'held'),
    (dict(above=1.0), Interval(0.5, 0.0, 1.0, 5), 'missed'),
    (dict(at_least=1.0), Interval(0.5, 0.0, 0.9, 5), 'missed'),
    (dict(at_least=1.0), Interval(1.5, 0.5, 2.5, 5), 'missed'),
    (dict(at_most=1.0), Interval(0.5, 0.0, 1.0, 5), 'held'),
    (dict(below=1.0), Interval(0.5, 0.0, 1.0, 5), 'missed'),
    (dict(below=1.0), Interval(2.0, 1.0, 3.0, 5), 'missed'),
    (dict(at_least=1.0), Interval(math.inf, 2.0, math.inf, 5), 'held'),
    (dict(at_most=1.0), Interval(0.5, 0.1, math.inf, 5), 'missed'),
    (dict(at_least=1.0), Interval(1.0, None, None, 3), 'held'),
    (dict(at_least=1.0), Interval(0.0, None, None, 3), 'missed'),
    (dict(at_least=1.0), Interval(9.0, None, None, 1), 'undecided'),
    (dict(at_least=1.0), Interval(None), 'undecided'),
    (dict(at_least=1.0), 1, 'held'),
    (dict(above=1.0), 1.0, 'missed'),
    (dict(at_most=-1.0), 0.0, 'missed'),
  ],
)
def test_a_claim_is_held_only_by_all_of_its_interval(bound, value, verdict):
  found = Claim('words', lambda cells: value, **bound).judge(None)
  assert found.verdict == verdict
  assert found.reason or verdict != 'undecided'
  assert next(iter(bound)).replace('_', ' ') in found.bound


def test_a_claim_about_labels_saved_uses_the_multiplier():
  rows = [
    {'method': 'b', 'labels': labels, 'seed': seed, 'value': value + seed / 100}
    for labels, value in ((10, 0.5), (100, 0.9))
    for seed in range(3)
  ]
  better = [
    {'method': 'a', 'labels': 10, 'seed': seed, 'value': 0.99 + seed / 100}
    for seed in range(3)
  ]
  saved = labels_saved(label_curve(better, 'a'), label_curve(rows, 'b'), 10)
  assert Claim('words', lambda cells: saved, at_least=2).judge(None).verdict == 'held'


def test_what_is_left_out_at_a_scale_is_undecided_and_a_typing_error_is_an_error():
  def absent(cells):
    raise AbsentCell('left out')

  def unknown(cells):
    raise ValueError('no such row')

  assert Claim('words', absent, above=0).judge(None).reason == 'left out'
  with pytest.raises(ValueError, match='no such row'):
    Claim('words', unknown, above=0).judge(None)


@pytest.mark.parametrize('bounds', [{}, dict(above=0, below=1)])
def test_a_claim_has_exactly_one_bound(bounds):
  with pytest.raises(ValueError, match='exactly one'):
    Claim('words', lambda cells: 0, **bounds)


@pytest.mark.parametrize(
  ('fields', 'words'),
  [
    (dict(rows=('a', 'a')), 'rows has a name twice'),
    (dict(seeds=(0, 0)), 'seeds has a name twice'),
    (dict(columns=()), 'at least one'),
    (dict(headline=('f1', 'f1')), 'headline must be a metric or a dict'),
    (dict(headline={16: 'f1'}), 'headline has no metric for 64'),
    (
      dict(headline={16: 'f1', 65: 'f1'}),
      "headline 65 is unknown; nearest: '16', '64'",
    ),
    (dict(before=lambda scale: {}), 'before must be a dict from names to functions'),
    (dict(before={'seed': lambda seed, scale: {}}), "before has a step 'seed'"),
    (dict(reference='fll'), "reference 'fll' is unknown; nearest: 'full'"),
    (dict(factor=0), 'factor must be above 0'),
    (dict(factor=math.nan), 'factor must be above 0'),
    (
      dict(scales={'mini': Scale(rows=('lra',))}),
      r"scales\['mini'\].rows 'lra' is unknown; nearest: 'lora'",
    ),
    (dict(scales={'mini': Scale(columns=(17,))}), 'columns 17 is unknown'),
  ],
)
def test_a_table_that_cannot_be_made_is_an_error(fields, words):
  with pytest.raises(ValueError, match=words):
    table_of(**fields)


def test_a_scale_takes_what_it_does_not_name_from_the_table():
  table = table_of(
    scales={
      'smoke': Scale(columns=(64,), seeds=(7,), settings={'steps': 3}),
      'paper': Scale(),
    }
  )
  smoke, paper = table.at('smoke'), table.at('paper')
  assert (smoke.name, smoke.rows, smoke.columns, smoke.seeds) == (
    'smoke',
    ('lora', 'full'),
    (64,),
    (7,),
  )
  assert (paper.columns, paper.seeds) == ((16, 64), (0, 1, 2))
  assert table.at(Scale(rows=('full', 'lora'))).rows == ('lora', 'full')


@pytest.mark.parametrize(
  ('scale', 'words'),
  [
    ('smok', "scale 'smok' is unknown; its scales: 'smoke', 'full'$"),
    (Scale(seeds=()), 'no seeds'),
    (Scale(rows=()), 'no rows'),
    (Scale(rows=('lora', 'x')), "rows 'x' is unknown"),
  ],
)
def test_a_scale_that_is_not_there_is_an_error(scale, words):
  with pytest.raises(ValueError, match=words):
    table_of(scales={'smoke': Scale(), 'full': Scale()}).at(scale)
