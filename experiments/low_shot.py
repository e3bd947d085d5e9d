"""Fewer labels: what a small pre-trained encoder saves, after ULMFiT (Howard and Ruder
2018, Figure 3, Tables 4 and 6).

  tl-jax demo   # scale demo, minutes on 2 cores
  tl-jax table experiments/low_shot.py --scale=mini --workdir=W

An encoder is pre-trained on unlabelled text, the test texts left out, and then trained
from scratch, as a probe, with LoRA and in full at several label counts, beside TF-IDF
with logistic regression. The question is where a sentence was published: film review,
product review, tweet or editorial. Every run has the same number of steps and is judged
at its last one; every row has one learning rate, the best of two or three by mean
accuracy over 8, 32 and 256 labels on seeds 100 to 102 (scale `tune`), which are not in
the table. The probe was chosen there as the method of the claims.
"""

from ml_collections import ConfigDict

from tl_jax.report import Claim, Scale, Table

COUNTS = (8, 16, 32, 64, 256)
RATES = {'scratch': 2e-3, 'probe': 3e-3, 'lora': 1e-3, 'full': 5e-4}
METHODS = {
  'scratch': dict(name='full'),
  'probe': dict(name='probe'),
  'full': dict(name='full'),
  'lora': dict(name='lora', pattern=r'.*/(query|value)/kernel', rank=8, alpha=16.0),
  'tf-idf': dict(name='tf-idf'),
}
CHOSEN = 'probe'  # the pre-trained method that the claims are about, fixed beforehand


def pretrain(_: int, scale: Scale) -> ConfigDict:
  """The pre-training run that all rows but scratch start from, and whose tokenizer all
  rows use. It is one run for all seeds.
  """
  s = scale.settings
  c = ConfigDict()
  c.seed = 0
  c.model = dict(
    family='demo',
    width=s['width'],
    layers=s['layers'],
    heads=s['width'] // 32,
    mlp=4 * s['width'],
  )
  c.compute = dict(
    dtype='float32', remat='none', layers='auto', attention='auto', dropout=0.0
  )
  c.objective = dict(name='masked', rate=0.2, masking='pieces')
  c.tokenizer = dict(kind='wordpiece', size=s['vocabulary'], lowercase=True, path='')
  c.data = dict(
    mixture=dict(s['mixture']),
    length=64,
    batch=s['batch'],
    accumulate=1,
    pack=True,
    directory='',
  )
  c.optim = dict(
    name='adamw',
    lr=3e-3,
    decay=0.01,
    clip=1.0,
    ema=None,
    groups=((r'.*(bias|scale)', dict(decay=0.0)),),
  )
  c.schedule = dict(name='linear', warmup=s['pretrain'] // 20, steps=s['pretrain'])
  c.unigram_bias = True
  c.mesh = dict(data=-1, fsdp=1, tensor=1, sequence=1, cohort=1)
  c.sharding = 'fsdp'
  c.checkpoint = dict(every=max(1, s['pretrain'] // 4), keep=1)
  c.eval = dict(every=0, batches=8)
  c.log = dict(every=max(1, s['pretrain'] // 50), tensorboard=True)
  return c


def run(row: str, column: int, seed: int, scale: Scale, pretrained: str) -> ConfigDict:
  """One transfer: a row is a method, a column the number of labels."""
  s = scale.settings
  c = ConfigDict()
  c.seed = seed
  from_scratch = row in ('scratch', 'tf-idf')
  c.init = 'scratch' if from_scratch else pretrained
  # From scratch: the model that was pre-trained; else that of the checkpoint.
  c.model = pretrain(0, scale).model if from_scratch else dict(family='')
  c.compute = dict(
    dtype='float32', remat='none', layers='auto', attention='auto', dropout=0.0
  )
  # Half as many as for the test: a curve is looked at often.
  c.task = dict(
    name='register', labels=column, test=s['test'], holdout=s['test'] / 2 or 0.1
  )
  c.method = METHODS[row]
  # A row that starts from the pre-trained model has its tokenizer anyway.
  c.tokenizer = dict(path=f'{pretrained}/tokenizer.json' if from_scratch else '')
  c.data = dict(
    length=64, batch=4, accumulate=1, pack=True, examples_per_row=8, directory=''
  )
  c.optim = dict(
    name='adamw',
    lr=RATES.get(row, 1e-3),
    decay=0.01,
    clip=1.0,
    ema=None,
    groups=((r'.*(bias|scale)', dict(decay=0.0)),),
  )
  c.schedule = dict(name='linear', warmup=5, steps=s['transfer'])
  c.mesh = dict(data=1, fsdp=1, tensor=1, sequence=1, cohort=-1)
  c.sharding = 'fsdp'
  c.checkpoint = dict(every=s['transfer'], keep=1)
  c.eval = dict(every=s['evaluate'])
  c.log = dict(every=max(1, s['transfer'] // 10), tensorboard=False)
  return c


def gain(count: int):
  """What pre-training gains at so many labels, as a function of the cells."""
  return lambda cells: cells[CHOSEN, count] - cells['scratch', count]


def beats_scratch(count: int) -> Claim:
  return Claim(
    f'at {count} labels the pre-trained {CHOSEN} beats training from scratch',
    gain(count),
    above=0.0,
  )


def gain_over_words(cells):
  """What pre-training gains over a classifier that knows nothing but counts of words."""
  return cells[CHOSEN, COUNTS[1]] - cells['tf-idf', COUNTS[1]]


def shrinkage(cells):
  """By how much the gain at the fewest labels exceeds that at the most."""
  fewest, most = gain(COUNTS[0])(cells), gain(COUNTS[-1])(cells)
  return fewest.mean - most.mean


EMBEDDED = {
  'vader_movie/rating': 0.4,
  'vader_nyt/rating': 0.25,
  'vader_tweets/rating': 0.2,
  'vader_amazon/rating': 0.15,
}
SETTINGS = dict(
  width=128,
  layers=2,
  vocabulary=4096,
  batch=32,
  pretrain=600,
  transfer=120,
  evaluate=40,
  test=400,
  mixture=EMBEDDED,
)
# Does everything run?
SMOKE = SETTINGS | dict(
  width=32,
  layers=1,
  vocabulary=1024,
  batch=8,
  pretrain=20,
  transfer=8,
  evaluate=4,
  test=80,
)
# A deeper encoder, trained for longer, and three times the test examples.
MINI = SETTINGS | dict(layers=4, pretrain=6000, transfer=200, evaluate=50, test=1200)
# As BERT-base, on public text; all test examples.
PAPER = SETTINGS | dict(
  width=768,
  layers=12,
  vocabulary=30522,
  batch=256,
  pretrain=100_000,
  transfer=1000,
  evaluate=100,
  test=0,
  mixture={'c4/en': 1.0},
)
SCALES = {
  'smoke': Scale(columns=(8, 32), seeds=(11, 12), settings=SMOKE),
  'demo': Scale(settings=SETTINGS),
  # The seeds that the rates were chosen on.
  'tune': Scale(columns=(8, 32, 256), seeds=(100, 101, 102), settings=SETTINGS),
  'mini': Scale(settings=MINI),
  'paper': Scale(settings=PAPER),
}
CLAIMS = (
  # Where labels are few; with many, nothing is claimed.
  *map(beats_scratch, COUNTS[:3]),
  Claim(
    f'at {COUNTS[1]} labels the pre-trained {CHOSEN} beats TF-IDF with logistic '
    'regression',
    gain_over_words,
    above=0.0,
  ),
  Claim(
    'the gain shrinks with labels: less at the most labels than at the fewest',
    shrinkage,
    above=0.0,
  ),
)

TABLE = Table(
  title='Fewer labels after pre-training',
  source='after ULMFiT (Howard and Ruder 2018), Figure 3 and Tables 4 and 6',
  rows=('tf-idf', 'scratch', 'probe', 'lora', 'full'),
  columns=COUNTS,
  seeds=(11, 12, 13, 14, 15),
  run=run,
  before={'pretrained': pretrain},
  headline='accuracy',
  reference='scratch',
  factor=100,
  unit=' %',
  digits=1,
  extra=('trained_parameters', 'steps', 'training_seconds'),
  claims=CLAIMS,
  scales=SCALES,
)
