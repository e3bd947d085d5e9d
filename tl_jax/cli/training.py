"""The verbs of a run: `pretrain`, `transfer`, `evaluate`.

>>> PRETRAIN.overrides, TRANSFER.overrides, EVALUATE.overrides
(True, True, True)
"""

import argparse
import pathlib

from tl_jax import config
from tl_jax.cli.console import reporting
from tl_jax.cli.verb import Verb, add_overrides, add_workdir, require_workdir


def _add_training(parser):
  parser.add_argument(
    '--config',
    required=True,
    metavar='C',
    help='FILE.py, FILE.py:argument, FILE.json or FILE.toml; a .py file is executed',
  )
  add_workdir(parser)
  add_overrides(parser, 'overrides one value, as in --config.optim.lr=1e-4')


def _pretrain(flags, overrides) -> int:
  # The config is checked before the import of jax, which takes seconds.
  loaded = config.load(flags.config, overrides)
  from tl_jax import train

  with reporting() as reporter:
    train.pretrain(loaded, flags.workdir, reporter)
  return 0


def _transfer(flags, overrides) -> int:
  loaded = config.load(flags.config, overrides)
  from tl_jax import train

  with reporting() as reporter:
    train.transfer(loaded, flags.workdir, reporter)
  return 0


def _add_evaluate(parser):
  add_workdir(parser, what='the folder of a finished or interrupted run')
  parser.add_argument(
    '--step',
    type=_step,
    metavar='N',
    help='a committed step (default: that which the run kept: the newest, or the best '
    'on validation)',
  )
  parser.add_argument(
    '--output',
    metavar='FILE.jsonl',
    help='where the predictions go (default: predictions.jsonl of the workdir if there '
    'is none yet, else predictions-STEP.jsonl; what the run left is not overwritten)',
  )
  parser.add_argument(
    '--reliability',
    metavar='FILE',
    help='a figure, .svg or .png, of how often the model is right by how sure it is',
  )
  add_overrides(parser, 'overrides one value of the saved config')


def _step(text: str) -> int:
  """The type of a flag that names a committed step."""
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f'needs the number of a step, got {text!r}')
  return int(text)


def _evaluate(flags, overrides) -> int:
  from tl_jax.report import reliability

  require_workdir(flags.workdir)
  figure = flags.reliability and pathlib.Path(flags.reliability)
  if figure:
    reliability.require(figure)
  # Slow to import: what the command line alone gets wrong is said before.
  from tl_jax import train

  given = flags.workdir, flags.step, overrides
  with reporting() as reporter:
    found = train.evaluate(*given, reporter, flags.output, bool(figure))
    if figure:
      reliability.draw(figure, found['task'], found['reliability'])
      reporter.info(f'{figure}: the figure')
  return 0


NOTES = """after pre-training it is the loss of the test texts. of a task there is a line
for each test example: text, target, prediction; or source, prediction, reference.

on other files, with a column `split` or not, and in other ways:
  tl-jax evaluate --workdir=/tmp/lora --config.task.name=other.csv --output=other.jsonl
  tl-jax evaluate --workdir=/tmp/lora --config.task.files.test=new.csv --output=new.jsonl
  tl-jax evaluate --workdir=/tmp/t5 --config.task.metrics="('bleu', 'chrf')" \\
    --config.task.decoding="{'method': 'beam', 'beams': 4}" --output=beam.jsonl

how sure it is and how often right, and both after a temperature is fitted to what the
run held out (Guo et al. 2017), by which no prediction changes:
  tl-jax evaluate --workdir=/tmp/lora --reliability=sure.svg --config.eval.calibrate=True

classes of another file are those of the model by their names, in whatever order they
stand there; one that the model does not know is refused.
"""

PRETRAIN = Verb(
  purpose='pre-trains a model; run again with the same workdir, it resumes',
  example='tl-jax pretrain --config=configs/pretrain.py:tiny --workdir=/tmp/base '
  '--config.optim.lr=1e-3',
  flags=_add_training,
  action=_pretrain,
  overrides=True,
  configs=('configs/pretrain.py', 'configs/adapt.py', 'configs/recipes.py'),
)
TRANSFER = Verb(
  purpose='takes a checkpoint to a task under a method',
  example='tl-jax transfer '
  '--config=configs/transfer.py:task=sentiment,method=lora,init=/tmp/base '
  '--workdir=/tmp/lora',
  flags=_add_training,
  action=_transfer,
  overrides=True,
  configs=('configs/transfer.py',),
)
EVALUATE = Verb(
  purpose='metrics of a committed step; writes its predictions',
  example='tl-jax evaluate --workdir=/tmp/lora --step=200',
  flags=_add_evaluate,
  action=_evaluate,
  overrides=True,
  notes=NOTES,
)
