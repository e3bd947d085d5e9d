"""The verb `forecast`: how many labels a task needs, before they are there.

>>> FORECAST.example
'tl-jax forecast --task=mails.csv --init=A,B --workdir=/tmp/mails'
"""

import argparse
import csv
import io
import pathlib

from tl_jax import config, files
from tl_jax.cli.console import in_columns, reporting, say
from tl_jax.cli.verb import Verb, add_workdir
from tl_jax.config import ConfigError


def _share(text: str) -> float:
  """The type of a flag that is an accuracy, as .9 or 90%."""
  try:
    found = float(text.removesuffix('%')) / (100 if text.endswith('%') else 1)
  except ValueError:
    found = 0.0
  if not 0 < found < 1:
    raise argparse.ArgumentTypeError(f'needs an accuracy, as 0.9 or 90%; got {text!r}')
  return found


def _count(text: str) -> int:
  """The type of a flag that is a number of at least one."""
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'needs a number >= 1, got {text!r}')
  return int(text)


def _times(text: str) -> tuple[int, ...]:
  """The type of a flag that lists factors above 1, as 2,5,10."""
  parts = text.split(',')
  if not all(part.isdecimal() and int(part) > 1 for part in parts):
    raise argparse.ArgumentTypeError(f'needs numbers above 1, as 2,5,10; got {text!r}')
  return tuple(sorted({int(part) for part in parts}))


def _add_forecast(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--task',
    required=True,
    metavar='T',
    help='the labelled texts at hand: a file, or the name of a task',
  )
  parser.add_argument(
    '--init',
    required=True,
    metavar='A,B',
    help='the models to choose among: workdirs or folders, with commas between',
  )
  add_workdir(parser, what='where vectors are kept and the page is written')
  columns = parser.add_argument_group('the columns of a file')
  columns.add_argument('--text', default='', metavar='COLUMN', help='default: text')
  columns.add_argument('--label', default='', metavar='COLUMN', help='default: label')
  columns.add_argument(
    '--delimiter', default='', metavar='D', help='what parts cells, where it is unclear'
  )
  parser.add_argument(
    '--labels',
    type=_count,
    default=0,
    metavar='N',
    help='uses so many of the labels at hand, the classes in equal parts (default: all)',
  )
  parser.add_argument(
    '--target', type=_share, metavar='A', help='an accuracy that is wanted, as 0.9'
  )
  parser.add_argument(
    '--times',
    type=_times,
    default='2,5,10',
    metavar='N,N',
    help='how many times the labels something is said of (default: 2,5,10)',
  )
  parser.add_argument(
    '--repeats',
    type=_count,
    default=5,
    metavar='N',
    help='of the cross-validation (default: 5); the time grows with them',
  )
  parser.add_argument(
    '--trained',
    action='append',
    default=[],
    metavar='CONFIG',
    help='also trains each model by this config of a transfer; may be given again',
  )
  parser.add_argument(
    '--suggest',
    type=_count,
    default=0,
    metavar='N',
    help='names the N texts of --pool that are most worth a label',
  )
  parser.add_argument('--pool', default='', metavar='FILE', help='unlabelled texts')
  parser.add_argument('--seed', type=int, default=0, metavar='N', help='default: 0')
  parser.add_argument(
    '--dtype', default='', metavar='T', help='of the vectors: float32 or bfloat16'
  )


def _forecast(flags, _) -> int:
  # Half of a wish is a typing error, not a wish for less.
  if bool(flags.pool) != bool(flags.suggest):
    raise ConfigError('--suggest and --pool: how many texts, and of which file')
  from tl_jax.report import forecast_page
  from tl_jax.train import forecasting
  from tl_jax.train.settings import TaskChoice

  choice = TaskChoice(
    name=flags.task, text=flags.text, label=flags.label, delimiter=flags.delimiter
  )
  asked = forecasting.Asked(
    choice,
    config.names(flags.init.replace(',', '+')),
    flags.labels,
    flags.times,
    flags.target,
    flags.repeats,
    flags.seed,
    flags.dtype,
    pool=flags.pool,
    suggest=flags.suggest,
    trained=tuple(flags.trained),
  )
  # Made before anything is computed, so that a wrong one costs nothing.
  workdir = pathlib.Path(flags.workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  with reporting() as reporter:
    found = forecasting.forecast(asked, workdir / 'vectors', reporter)
  _write(workdir, found, forecast_page.page(found))
  for line in in_columns(forecast_page.table(found)):
    say(line)
  say('')
  for line in forecast_page.sentences(found):
    say(line)
  if found.suggested:
    say(f'{workdir / "suggested.csv"}: {len(found.suggested)} texts to label next')
  say(f'report: {workdir / "forecast.html"}')
  return 0


def _write(workdir: pathlib.Path, found, page: str) -> None:
  """Writes what was found into the workdir."""
  # Each at once, so that a run that was stopped leaves no half of a page.
  text = files.encode(found.as_dict(), indent=1) + '\n'
  files.write_atomically(workdir / 'forecast.json', text.encode())
  files.write_atomically(workdir / 'forecast.html', page.encode())
  if not found.suggested:
    return
  with io.StringIO(newline='') as rows:
    writer = csv.writer(rows, lineterminator='\n')
    writer.writerow(['text', 'label', 'sure'])
    for text, sure in found.suggested:
      # The column of labels is for a person to fill in.
      writer.writerow([text, '', f'{sure:.3f}'])
    files.write_atomically(workdir / 'suggested.csv', rows.getvalue().encode())


NOTES = """accuracies are in percent, with 80 % intervals of one training on so many labels
drawn anew. each model is run once over the texts; on its vectors, which stay as they are,
a logistic regression is trained some hundred times on parts of the labels; equal texts
are learned together or asked for together. TF-IDF stands beside. LogME and H-score rank
models without training anything. labels for a target: half of all trainings reach it with
the number, nine in ten with the upper end of its interval.

  tl-jax forecast --task=mails.csv --text=subject+body --label=folder --init=/models/minilm \\
    --target=0.9 --workdir=/tmp/mails
  tl-jax forecast --task=mails.csv --init=/models/minilm --suggest=50 --pool=unread.csv \\
    --workdir=/tmp/mails

  tl-jax forecast --task=mails.csv --init=/models/minilm --workdir=/tmp/mails \\
    --trained=configs/transfer.py:method=full --trained=configs/transfer.py:method=lora

--trained measures what training the model itself gives: 5 folds at 3 numbers of labels,
twice, are 30 runs below runs/, which a second start does not train again; what they
cost is printed.
forecast.html has the curves, forecast.json all numbers, suggested.csv the texts with a
column to fill in. run again, it takes the vectors that are there.
"""

FORECAST = Verb(
  purpose='how many labels a task needs, with which model, from the labels at hand',
  example='tl-jax forecast --task=mails.csv --init=A,B --workdir=/tmp/mails',
  flags=_add_forecast,
  action=_forecast,
  notes=NOTES,
)
