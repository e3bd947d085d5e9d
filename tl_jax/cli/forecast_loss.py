"""The verb `forecast-loss`: what a larger pre-training would come to, from small ones.

>>> FORECAST_LOSS.example
'tl-jax forecast-loss /tmp/small /tmp/middle /tmp/large --all --tokens=1e9 --workdir=/tmp/law'
"""

import argparse
import pathlib

from tl_jax import files
from tl_jax.cli.console import in_columns, say
from tl_jax.cli.verb import Verb, add_workdir


def _number(text: str) -> float:
  """The type of a flag that is a number of tokens or parameters, as 3e9."""
  try:
    found = float(text)
  except ValueError:
    found = 0.0
  # Not a number fails every comparison.
  if not 1 <= found < 1e30:
    raise argparse.ArgumentTypeError(f'needs a number >= 1, as 3e9; got {text!r}')
  return found


def _add_forecast_loss(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('runs', nargs='+', metavar='RUN', help='workdirs of pre-training')
  parser.add_argument(
    '--tokens', required=True, type=_number, metavar='N', help='of the larger run'
  )
  parser.add_argument(
    '--parameters',
    type=_number,
    default=0.0,
    metavar='N',
    help='of the larger run (default: those of the largest at hand)',
  )
  parser.add_argument(
    '--unique',
    type=_number,
    default=0.0,
    metavar='N',
    help='how many of its tokens are different ones (default: all)',
  )
  parser.add_argument(
    '--all',
    action='store_true',
    help='takes the held-out losses on the way, too: right where the learning rate does '
    'not fall towards the end',
  )
  parser.add_argument('--seed', type=int, default=0, metavar='N', help='default: 0')
  add_workdir(parser, what='where the page and all numbers are written')


def _forecast_loss(flags, _) -> int:
  from tl_jax.report import losses

  asked = losses.Asked(flags.tokens, flags.parameters, flags.unique)
  found = losses.forecast_loss(flags.runs, asked, flags.all, flags.seed)
  workdir = pathlib.Path(flags.workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  text = files.encode(found.as_dict(), indent=1) + '\n'
  files.write_atomically(workdir / 'forecast.json', text.encode())
  files.write_atomically(workdir / 'forecast.html', losses.page(found).encode())
  for line in in_columns(losses.table(found)):
    say(line)
  say('')
  for line in losses.sentences(found):
    say(line)
  say(f'report: {workdir / "forecast.html"}')
  return 0


NOTES = """fits L = E + A / N^alpha + B / D^beta to the held-out losses of finished runs, N
parameters and D tokens each (Hoffmann et al. 2022), and its data-constrained form, in
which repeated tokens are worth less (Muennighoff et al. 2023). runs of several sizes and
lengths say most. they differ in these, in rates and batches, and in how much of a source
they may see; runs of another objective, tokenizer, length of rows, init, or of other
sources and shares, are refused. intervals (80 %) are over
points drawn again, the errors on runs that were held back in their turn, and those of
laws fitted to a half and a quarter of the tokens: they grow with the distance. a run that
is no power law yet, or overfits, is named.

forecast.html has the plot of loss against tokens and the published constants beside
those that were fitted, forecast.json all numbers.
"""

FORECAST_LOSS = Verb(
  purpose='the loss of a larger pre-training, with its interval, from small ones',
  example='tl-jax forecast-loss /tmp/small /tmp/middle /tmp/large --all --tokens=1e9 '
  '--workdir=/tmp/law',
  flags=_add_forecast_loss,
  action=_forecast_loss,
  notes=NOTES,
)
