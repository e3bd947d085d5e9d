"""Transfer to a labelled task: from a checkpoint, or from scratch for comparison.

  tl-jax transfer --config=configs/transfer.py:task=sentiment,method=lora,init=/tmp/demo,labels=100 --workdir=/tmp/lora
  tl-jax transfer --config=configs/transfer.py:task=mine.csv,method=full,init=/tmp/demo --workdir=/tmp/mine

task: a name of `tl_jax.tasks`, or a .csv or .jsonl file with the columns text and label. method: full, probe, bitfit,
norms, last, lora. init: a workdir of `pretrain` or `transfer`, or scratch. labels: how many labelled examples; 0: all.
"""

from ml_collections import ConfigDict

from tl_jax.config import arguments

ARGUMENTS = ('task=sentiment', 'task=novel,method=probe', 'task=genre,method=bitfit', 'task=tweets,method=norms',
             'task=register,method=last', 'task=intensity,method=lora,labels=100')
# One rule per method, whatever the task and the number of labels: this rate, these steps, the last checkpoint.
LEARNING_RATES = {'full': 5e-4, 'probe': 1e-2, 'bitfit': 2e-3, 'norms': 2e-3, 'last': 5e-4, 'lora': 2e-3}


def get_config(arg: str = '') -> ConfigDict:
  a = arguments(arg, task='sentiment', method='full', init='scratch', labels=0)
  c = ConfigDict()
  c.seed = 0
  c.init = a.init
  c.model = dict(family='tiny' if a.init == 'scratch' else '')   # empty: the family of the checkpoint
  c.compute = dict(dtype='float32', remat='none', layers='auto', dropout=0.1)
  c.task = dict(name=a.task, labels=a.labels, test=0)                # test 0: the whole split
  c.method = method(a.method)
  c.tokenizer = dict(kind='wordpiece', size=2048, lowercase=True, path='')   # used where there is no checkpoint
  c.data = dict(length=128, batch=16, accumulate=1, pack=True, slots=0, directory='')
  c.optim = dict(name='adamw', lr=LEARNING_RATES.get(a.method, 1e-3), decay=0.01, clip=1.0, ema=None,
                 groups=((r'.*(bias|scale)', dict(decay=0.0)),))
  c.schedule = dict(name='linear', warmup=10, steps=100)
  c.mesh = dict(data=-1, fsdp=1, tensor=1, sequence=1, cohort=1)
  c.sharding = 'fsdp'
  c.checkpoint = dict(every=100, keep=1)
  c.eval = dict(every=0, batches=0)
  c.log = dict(every=10, tensorboard=True)
  return c


def method(name: str) -> dict:
  if name == 'lora':
    return dict(name='lora', pattern=r'.*/(query|value)/kernel', rank=8, alpha=16.0)
  if name == 'last':
    return dict(name='last', k=1)
  return dict(name=name)
