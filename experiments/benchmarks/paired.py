"""The training steps of two checkouts in turn: is the later one slower?

  git worktree add /tmp/before COMMIT
  python experiments/benchmarks/paired.py /tmp/before .

Each checkout times its own steps with its own `timed_steps.py`, in a process that stays.
In every round both are timed, the one that begins alternating, and of some calls in a
row the fastest counts. Shown are medians over rounds: milliseconds, and the ratio of
the first checkout to the second by wall time and by the seconds of all cores; above 1
the second is faster. On a machine that others use, the latter says more. `equal` says
whether all calls of both gave the same losses, bit for bit.
"""

import argparse
import os
import statistics
import sys
from pathlib import Path

from tl_jax import config

performance = config.execute(Path(__file__).with_name('performance.py'))

WORKS = ('minilm bfloat16', 'bert bfloat16', 'gpt2 bfloat16', 'lora bfloat16')
HEADER = (
  'step',
  'before, ms',
  'after, ms',
  'ratio',
  'range',
  'by cores',
  'range',
  'equal',
)


def start(checkout: Path, work: str):
  """The process of a checkout, its step compiled."""
  script = checkout / 'experiments' / 'benchmarks' / 'timed_steps.py'
  return performance.Timed('tl_jax', work, str(script), PYTHONPATH=str(checkout))


def compare(checkouts: list[Path], work: str, rounds: int, calls: int) -> list[dict]:
  """The answers of every round: {'before': answer, 'after': answer}."""
  sides = {}
  found = []
  try:
    for name, checkout in zip(('before', 'after'), checkouts, strict=True):
      sides[name] = start(checkout, work)
    for number in range(rounds):
      # Whoever comes second finds the caches of the first.
      order = list(sides) if number % 2 == 0 else list(reversed(sides))
      found.append({name: fastest(sides[name], calls) for name in order})
  finally:
    for side in sides.values():
      side.close()
  return found


def fastest(side, calls: int) -> dict:
  """The least seconds and core seconds of some calls, and what each of them gave."""
  answers = [side.once() for _ in range(calls)]
  return dict(
    seconds=min(answer['seconds'] for answer in answers),
    core_seconds=min(answer['core_seconds'] for answer in answers),
    values=[answer['value'] for answer in answers],
  )


def ratios(found: list[dict], of: str) -> tuple[str, str]:
  """(the median over rounds of before over after, its range)."""
  each = [answer['before'][of] / answer['after'][of] for answer in found]
  return f'{statistics.median(each):.3f}', f'{min(each):.3f}-{max(each):.3f}'


def row(work: str, found: list[dict]) -> str:
  """A row of the table in Markdown."""
  times = []
  for name in ('before', 'after'):
    seconds = statistics.median(answer[name]['seconds'] for answer in found)
    times.append(f'{1e3 * seconds:.1f}')
  is_equal = all(
    answer['before']['values'] == answer['after']['values'] for answer in found
  )
  by_time = ratios(found, 'seconds')
  by_cores = ratios(found, 'core_seconds')
  equal = 'yes' if is_equal else 'no'
  return f'| {" | ".join((work, *times, *by_time, *by_cores, equal))} |'


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('before', type=Path)
  parser.add_argument('after', type=Path)
  parser.add_argument('--works', nargs='+', default=WORKS)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--calls', type=int, default=3, help='in a row (default: 3)')
  options = parser.parse_args()
  checkouts = [options.before.resolve(), options.after.resolve()]
  os.environ['JAX_PLATFORMS'] = 'cpu'
  sys.stdout.write(f'| {" | ".join(HEADER)} |\n{"|---" * len(HEADER)}|\n')
  for work in options.works:
    found = compare(checkouts, work, options.rounds, options.calls)
    sys.stdout.write(row(work, found) + '\n')
    sys.stdout.flush()


if __name__ == '__main__':
  main()
