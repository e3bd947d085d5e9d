"""What the pre-training data does to transfer: how often it is repeated, of how many
kinds it is, and whether it was filtered or chosen.

  tl-jax data fetch spam
  tl-jax table experiments/pretrain_data.py --scale=mini --workdir=W
  tl-jax table experiments/pretrain_data.py --scale=further --workdir=W

Encoders as those of low_shot.py are pre-trained on the same number of tokens, and each is
then trained on few labelled sentences of the task `register`: where a sentence was
published, film reviews, product reviews, tweets or editorials. A row is what was read in
pre-training: all six kinds of text, as much of each as there is, or so few tokens of them
that they are read 4, 16, 64 or 256 times (Muennighoff et al. 2023 did so with decoders,
judged by loss), or one kind alone, which is read as often as the budget wants. `scratch`
has seen nothing. Rows differ in nothing else: the tokenizer is that of the row
`repeats-1`, the rate of a transfer that of low_shot.py.

E-mails are what nobody has cleaned: quotes, signatures, advertisements, copies. Beside the
six kinds, half of the tokens each, they are read as they are or as `tl-jax data prepare`
leaves them. That is a fourteenth of the words, which is then read four times; so the row
`mails-raw-few` reads as few of the raw ones as often. It was added after `mini` had shown
the filtered ones behind the raw ones.

All seven together are a pool of documents, of which a third is read: at random, chosen for
its likeness to the texts of the task (DSIR, Xie et al. 2023), or that of middle perplexity
for a decoder that read a random third (Marion et al. 2023).

The scale `further` was added for what `mini` had left open: sixteen other draws of labels
instead of five, half of them with encoders of another seed of pre-training.
"""

import json
import pathlib

from ml_collections import ConfigDict

from tl_jax import config, train
from tl_jax.data import prepare
from tl_jax.report import Claim, Scale, Table
from tl_jax.train import scoring

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
    return _as_others(c, seed, scale, paths)

  return pretrain


def alone(source: str):
  """The step that pre-trains on one kind of text."""

  def pretrain(seed: int, scale: Scale, **paths) -> ConfigDict:
    c = LOW_SHOT.pretrain(seed, scale)
    c.data.mixture = {source: 1.0}
    return _as_others(c, seed, scale, paths)

  return pretrain


def of_corpus(name: str):
  """The step that pre-trains on the corpus of another step."""

  def pretrain(seed: int, scale: Scale, **paths) -> ConfigDict:
    return alone(f'{paths[name]}/corpus')(seed, scale, **paths)

  return pretrain


def beside_kinds(name: str, unique: int = 0):
  """The step that pre-trains on a corpus and on the six kinds, half of the tokens each.

  unique: tokens of the corpus that are read, again and again; 0 for all of them.
  """

  def pretrain(seed: int, scale: Scale, **paths) -> ConfigDict:
    c = LOW_SHOT.pretrain(seed, scale)
    prepared = f'{paths[name]}/corpus'
    mixture = {prepared: sum(WORDS.values())}
    for kind, source in KINDS.items():
      mixture[source] = WORDS[kind]
    c.data.mixture = mixture
    if unique:
      c.data.unique = {prepared: unique}
    return _as_others(c, seed, scale, paths)

  return pretrain


def _as_others(c: ConfigDict, seed: int, scale: Scale, paths) -> ConfigDict:
  """The same pieces for all: a row shall differ by what the model has read alone."""
  # A scale with several encoders of a row turns by turn starts from each.
  c.seed = seed % scale.settings.get('encoders', 1)
  if FIRST in paths:
    c.tokenizer = dict(path=f'{paths[FIRST]}/tokenizer.json')
  return c


def corpus(**said):
  """The step that prepares a corpus; a value is a function of the steps before."""

  def prepared(seed: int, scale: Scale, **paths) -> dict:
    return dict(corpus={name: value(paths) for name, value in said.items()})

  return prepared


def reader(seed: int, scale: Scale, **paths) -> ConfigDict:
  """A decoder of the size of the encoders, which finds documents perplexing.

  It is one for all seeds, with pieces of its own.
  """
  c = of_corpus('pool')(0, scale, pool=paths['pool'])
  c.model.family = 'tiny-gpt'
  c.objective = dict(name='causal')
  c.unigram_bias = False
  return c


def execute(members: list) -> None:
  """Makes the corpora among the members here, and has all others trained."""
  runs = []
  for settings, directory in members:
    if 'corpus' in settings:
      _prepare(settings['corpus'], directory)
    else:
      runs.append((settings, directory))
  if runs:
    train.execute(runs)


def _prepare(settings: dict, directory: pathlib.Path) -> None:
  """Leaves a corpus in the directory, or why there is none."""
  directory.mkdir(parents=True, exist_ok=True)
  try:
    found = config.struct(prepare.Corpus, settings, 'corpus')
    model = found.perplexity.model
    opened = scoring.scorer(model) if model else None
    manifest = prepare.prepare(found, directory, scorer=opened)
  except ValueError as error:
    # Such as a set that nobody fetched: all other rows are made.
    said = dict(reason=str(error), retry=True)
    (directory / 'failed.json').write_text(json.dumps(said) + '\n')
    return
  said = dict(metrics=dict(documents=manifest['kept']))
  (directory / 'result.json').write_text(json.dumps(said) + '\n')


def run(row: str, column: int, seed: int, scale: Scale, **paths) -> ConfigDict:
  """One transfer: a row is what was read before, a column the number of labels."""
  method = 'scratch' if row == 'scratch' else 'full'
  before = FIRST if row == 'scratch' else row
  return LOW_SHOT.run(method, column, seed, scale, paths[before])


def between(better: str, worse: str, count: int = COUNTS[0]):
  """What one row has above another, as a function of the cells."""
  return lambda cells: cells[better, count] - cells[worse, count]


def of_pool(**said):
  """A third of the pool's documents, chosen as said."""
  pool = lambda paths: {'pool': f'{paths["pool"]}/corpus'}
  return corpus(sources=pool, steps=lambda paths: (), **said)


BEFORE = {f'repeats-{count}': repeated(count) for count in REPEATS}
BEFORE |= {name: alone(source) for name, source in KINDS.items()}
# What is prepared, each step of those before it.
MAILS = dict(sources=lambda paths: {'mails': 'spam'}, column=lambda paths: 'body')
# So many tokens of the train split are left when mails are filtered.
FEW = 140_000
TASK = ('films', 'products', 'tweets', 'editorials')
THIRD = 1 / 3
BEFORE |= {
  'mails': corpus(**MAILS, steps=lambda paths: ()),
  'filtered': corpus(**MAILS),
  'pool': corpus(
    sources=lambda paths: KINDS | {'mails': f'{paths["mails"]}/corpus'},
    steps=lambda paths: (),
  ),
  'task': corpus(
    sources=lambda paths: {name: KINDS[name] for name in TASK}, steps=lambda paths: ()
  ),
  'like': of_pool(
    selection=lambda paths: dict(target=f'{paths["task"]}/corpus', share=THIRD)
  ),
  'reader': reader,
  'likely': of_pool(
    perplexity=lambda paths: dict(model=paths['reader'], keep='middle', share=THIRD)
  ),
}
PREPARED = {
  'mails-raw': beside_kinds('mails'),
  'mails-filtered': beside_kinds('filtered'),
  'mails-raw-few': beside_kinds('mails', unique=FEW),
  'third-random': of_corpus('pool'),
  'third-like-task': of_corpus('like'),
  'third-middle': of_corpus('likely'),
}
BEFORE |= PREPARED
ROWS = ('scratch', *(f'repeats-{count}' for count in REPEATS), *KINDS, *PREPARED)
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
  Claim(
    'beside the six kinds, filtered mails are better than raw ones',
    between('mails-filtered', 'mails-raw'),
    above=0.0,
  ),
  Claim(
    'beside the six kinds, filtered mails are better than as many raw ones',
    between('mails-filtered', 'mails-raw-few'),
    above=0.0,
  ),
  Claim(
    'a third that is like the texts of the task is better than one at random',
    between('third-like-task', 'third-random'),
    above=0.0,
  ),
  Claim(
    'a third of middle perplexity is better than one at random',
    between('third-middle', 'third-random'),
    above=0.0,
  ),
)
# One pass over all six.
SMALL = LOW_SHOT.SETTINGS | dict(layers=2, pretrain=600, transfer=120, test=400)
SMOKE = LOW_SHOT.SMOKE | dict(pretrain=400)

TABLE = Table(
  title='What the pre-training data does to transfer',
  source='after Muennighoff et al. (2023) and Raffel et al. (2020), section 3.4',
  rows=ROWS,
  columns=COUNTS,
  seeds=(11, 12, 13, 14, 15),
  run=run,
  execute=execute,
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
    # The rows of the claims that five seeds could not tell, and of the latest three.
    'further': Scale(
      rows=('scratch', FIRST, 'repeats-4', 'repeats-256', 'films', 'novels', *PREPARED),
      columns=COUNTS[:1],
      seeds=tuple(range(21, 37)),
      settings=SMALL | dict(encoders=2),
    ),
  },
)
