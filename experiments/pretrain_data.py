"""What the pre-training data does to transfer: how often it is repeated, and of how many
kinds it is.

  tl-jax table experiments/pretrain_data.py --scale=mini --workdir=W

Encoders as those of low_shot.py are pre-trained on the same number of tokens, and each is
then trained on few labelled sentences of the task `register`: where a sentence was
published, film reviews, product reviews, tweets or editorials. A row is what was read in
pre-training: all six kinds of text, as much of each as there is, or so few tokens of them
that they are read 4, 16, 64 or 256 times (Muennighoff et al. 2023 did so with decoders,
judged by loss), or one kind alone, which is read as often as the budget wants. `scratch`
has seen nothing. Rows differ in nothing else: the tokenizer is that of the row
`repeats-1`, the rate of a transfer that of low_shot.py.
"""

import pathlib

from ml_collections import ConfigDict

from tl_jax import config
from tl_jax.report import Claim, Scale, Table

LOW_SHOT = config.execute(pathlib.Path(__file__).with_name('low_shot.py'))
REPEATS = (1, 4, 16, 64, 256)
KINDS = {
  'films': 'vader_movie/rating',
  'products': 'vader_amazon/rating',
  'tweets': 'vader_tweets/rating',
  'editorials': 'vader_nyt/rating',
  'novels': 'austen',
  'packages': 'debian',
}
# Words of the train split of each, in thousands: as often as these it is read.
WORDS = dict(films=161, products=49, tweets=45, editorials=73, novels=562, packages=109)
COUNTS = (16, 64)
FIRST = 'repeats-1'


def repeated(count: int):
  """The step that pre-trains on so few tokens that they are read `count` times."""

  def pretrain(seed: int, scale: Scale, **paths) -> ConfigDict:
    c = LOW_SHOT.pretrain(seed, scale)
    tokens = c.data.batch * c.data.length * c.schedule.steps
    total = sum(WORDS.values())
    mixture = {}
    unique = {}
    for name, source in KINDS.items():
      share = WORDS[name] / total
      mixture[source] = share
      unique[source] = round(share * tokens / count)
    c.data.mixture = mixture
    c.data.unique = unique
    return _with_tokenizer(c, paths)

  return pretrain


def alone(source: str):
  """The step that pre-trains on one kind of text."""

  def pretrain(seed: int, scale: Scale, **paths) -> ConfigDict:
    c = LOW_SHOT.pretrain(seed, scale)
    c.data.mixture = {source: 1.0}
    return _with_tokenizer(c, paths)

  return pretrain


def _with_tokenizer(c: ConfigDict, paths) -> ConfigDict:
  """The same pieces for all: a row shall differ by what the model has read alone."""
  if FIRST in paths:
    c.tokenizer = dict(path=f'{paths[FIRST]}/tokenizer.json')
  return c


def run(row: str, column: int, seed: int, scale: Scale, **paths) -> ConfigDict:
  """One transfer: a row is what was read before, a column the number of labels."""
  method = 'scratch' if row == 'scratch' else 'full'
  before = FIRST if row == 'scratch' else row
  return LOW_SHOT.run(method, column, seed, scale, paths[before])


def between(better: str, worse: str, count: int = COUNTS[0]):
  """What one row has above another, as a function of the cells."""
  return lambda cells: cells[better, count] - cells[worse, count]


BEFORE = {f'repeats-{count}': repeated(count) for count in REPEATS}
BEFORE |= {name: alone(source) for name, source in KINDS.items()}
CLAIMS = (
  Claim(
    'four passes over the text cost at most 2 points beside fresh text',
    between('repeats-4', FIRST),
    at_least=-2.0,
  ),
  Claim(
    '256 passes over hardly any text are worse than fresh text',
    between(FIRST, 'repeats-256'),
    above=0.0,
  ),
  Claim(
    'text that was read 256 times is still better than none',
    between('repeats-256', 'scratch'),
    above=0.0,
  ),
  *(
    Claim(f'all kinds are better than {name} alone', between(FIRST, name), above=0.0)
    for name in KINDS
  ),
)
# One pass over all six.
SMALL = LOW_SHOT.SETTINGS | dict(layers=2, pretrain=600, transfer=120, test=400)
SMOKE = LOW_SHOT.SMOKE | dict(pretrain=400)

TABLE = Table(
  title='What the pre-training data does to transfer',
  source='after Muennighoff et al. (2023) and Raffel et al. (2020), section 3.4',
  rows=('scratch', *BEFORE),
  columns=COUNTS,
  seeds=(11, 12, 13, 14, 15),
  run=run,
  before=BEFORE,
  headline='accuracy',
  reference='scratch',
  factor=100,
  unit=' %',
  digits=1,
  extra=('steps', 'training_seconds'),
  claims=CLAIMS,
  scales={
    # Of so few tokens a 256th part has no whole sentence.
    'smoke': Scale(
      rows=('scratch', FIRST, 'repeats-16', 'novels'),
      columns=COUNTS[:1],
      seeds=(11, 12),
      settings=SMOKE,
    ),
    'mini': Scale(settings=SMALL),
  },
)
