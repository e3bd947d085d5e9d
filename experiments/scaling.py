"""How far off a loss is that is forecast from small runs, of two that were held back.

  python experiments/scaling.py --workdir=W

Decoders of two widths learn Jane Austen's novels for 300, 600 and 1,200 steps of 16 rows
of 64 tokens, and the wider one learns from 60,000 tokens, which 300 and 600 steps read
five and ten times over. The rate of each falls along a cosine that ends with the run, as
a law is of runs that were meant to be so long (Hoffmann et al. 2022). From their last
held-out losses both laws forecast two runs that were held back: four times as long as
the longest, and four times as long on the 60,000 tokens, which it then reads forty
times. It takes a quarter of an hour on two cores. One seed; nothing was tuned.

An earlier set of runs had a constant rate, and the losses on the way were points, too. A
run four times as long was 5.8 % better than its forecast and outside the interval. Those
losses were no power law: their exponents, from one hundred steps to the next, rose from
.09 to .20, as the models were still learning to look back. And the interval was of runs
that were held back among others as long, so that it could not know how far a law was
carried. What `tl-jax forecast-loss` says of both is new since then.
"""

import argparse
import json
import pathlib
import sys
from typing import NamedTuple

from tl_jax import config, train
from tl_jax.report import Claim, losses

CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 'pretrain.py'
FEW = 60_000


class Size(NamedTuple):
  """A run: its width, its steps, and how many tokens it may see, 0 for all."""

  width: int
  steps: int
  unique: int = 0

  @property
  def name(self) -> str:
    return f'width-{self.width}-steps-{self.steps}-unique-{self.unique or "all"}'


LENGTHS = (300, 600, 1200)
SMALL = tuple(Size(width, steps) for width in (32, 64) for steps in LENGTHS)
REPEATED = (Size(64, 300, FEW), Size(64, 600, FEW))
LONGER = Size(64, 4800)
MORE_REPEATED = Size(64, 2400, FEW)


def run(folder: pathlib.Path, size: Size, is_smoke: bool) -> pathlib.Path:
  """The workdir of a finished run."""
  c = config.load(f'{CONFIG}:tiny-gpt,text=austen')
  steps = size.steps // 20 if is_smoke else size.steps
  c.model = dict(family='tiny-gpt', width=size.width, mlp=4 * size.width)
  c.tokenizer.size = 512
  c.compute.dropout = 0.0
  c.data.accumulate = 1
  if size.unique:
    c.data.unique = dict(austen=size.unique)
  c.schedule.update(name='cosine', warmup=max(1, steps // 20), steps=steps)
  c.eval.update(every=0, batches=16)
  c.checkpoint.every = steps
  c.log.update(every=100, tensorboard=False)
  workdir = folder / size.name
  train.run(c, workdir)
  return workdir


def forecast_of(known: list[pathlib.Path], held_back: pathlib.Path) -> dict[str, dict]:
  """form -> what it forecasts of a run that it has not seen, and what that came to."""
  (last,) = losses.points_of(held_back, on_the_way=False)
  asked = losses.Asked(last.tokens, last.parameters, last.unique)
  found = losses.forecast_loss(list(map(str, known)), asked, on_the_way=False)
  said = {}
  for name in losses.FORMS:
    interval = found.at(name)
    said[name] = dict(
      forecast=interval.mean,
      low=interval.low,
      high=interval.high,
      measured=last.loss,
      error=abs(interval.mean / last.loss - 1),
    )
  return said


def is_inside(one: dict) -> float:
  """1 where what was measured is in the interval, else 0."""
  return float(one['low'] <= one['measured'] <= one['high'])


def claims(found: dict[str, dict]) -> tuple[Claim, ...]:
  """What is claimed of errors in parts of one."""
  plain, constrained = losses.FORMS
  longer, repeated = found[LONGER.name], found[MORE_REPEATED.name]
  gain = repeated[plain]['error'] - repeated[constrained]['error']
  return (
    Claim(
      'four times as long: at most 5 % off',
      lambda _: longer[plain]['error'],
      at_most=0.05,
    ),
    Claim(
      'its loss is in the 80 % interval',
      lambda _: is_inside(longer[plain]),
      at_least=1.0,
    ),
    Claim(
      'repeated forty times: the loss is in the 80 % interval of the data-constrained law',
      lambda _: is_inside(repeated[constrained]),
      at_least=1.0,
    ),
    Claim(
      'repeated forty times: the data-constrained law is nearer',
      lambda _: gain,
      above=0.0,
    ),
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, type=pathlib.Path)
  parser.add_argument('--smoke', action='store_true', help='a twentieth of the steps')
  options = parser.parse_args()
  known = [run(options.workdir, size, options.smoke) for size in (*SMALL, *REPEATED)]
  found = {}
  for size in (LONGER, MORE_REPEATED):
    held_back = run(options.workdir, size, options.smoke)
    found[size.name] = forecast_of(known, held_back)
  sys.stdout.write('| held back | law | forecast | measured | error |\n')
  sys.stdout.write('|---|---|---|---|---|\n')
  for run_name, forms in found.items():
    for name, one in forms.items():
      interval = f'{one["forecast"]:.3f} [{one["low"]:.3f}, {one["high"]:.3f}]'
      error = f'{100 * one["error"]:.1f} %'
      cells = [run_name, name, interval, f'{one["measured"]:.3f}', error]
      sys.stdout.write(f'| {" | ".join(cells)} |\n')
  for claim in claims(found):
    judged = claim.judge(None)
    sys.stdout.write(f'{judged.verdict}: {judged.text}\n')
  (options.workdir / 'scaling.json').write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
  main()
