"""What a cohort saves: CPU seconds of members in one process, against a process for each.

  # one process is timed, and counted for all: minutes
  python experiments/benchmarks/cohorts.py --init=FOLDER
  python experiments/benchmarks/cohorts.py --init=FOLDER --rows=2 --modes together
  python experiments/benchmarks/cohorts.py --init=FOLDER --seeds=1 --rates=16 --top='4|5'

Members are transfers by LoRA (rank 8 on query and value) of the model in FOLDER to
`sentiment`: 500 labels, rows of 32 tokens, `--steps` of them, at every pair of a seed
and a rate. Those of one seed see the same rows. With --top only those layers are
adapted. A process finds its programs in a folder that one before it has filled, and so
does a cohort.

CPU seconds are those of a whole process, with its import; they do not depend on the load
of a machine as wall seconds do, and yet grow where other processes want the same cache.
Those of a step, with --steady, are the difference of a run of all steps and of one of a third, so that
start and end are not in them.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

from tl_jax import config, train
from tl_jax.train import cohort

MODES = ('processes', 'in turn', 'together', 'as chosen')
TOP = r'.*layers/({})/.*/(query|value)/kernel'


def member_config(arguments, seed: int, rate: float, steps: int):
  """The config of one member."""
  more = [
    ('seed', str(seed)),
    ('optim.lr', str(rate)),
    ('schedule.steps', str(steps)),
    ('schedule.warmup', str(steps // 10)),
    ('data.batch', str(arguments.rows)),
    ('data.length', '32'),
    ('task.labels', '500'),
    ('task.test', '64'),
    ('eval.every', '0'),
    ('log.every', '10'),
    ('log.tensorboard', 'false'),
  ]
  if arguments.top:
    more.append(('method.pattern', TOP.format(arguments.top)))
  spec = f'configs/transfer.py:task=sentiment,method=lora,init={arguments.init}'
  return config.load(spec, more)


def runs_of(arguments, folder: pathlib.Path, steps: int) -> list:
  """(config, folder) of every member."""
  found = []
  for seed in range(arguments.seeds):
    for place in range(arguments.rates):
      path = folder / f'{seed}-{place}'
      rate = 1e-3 / (1 + place)
      found.append((member_config(arguments, seed, rate, steps), path))
  return found


def work(arguments) -> None:
  """What a child process does: one member, or all of them."""
  folder = pathlib.Path(arguments.child)
  runs = runs_of(arguments, folder, arguments.steps)
  if arguments.modes == ['processes']:
    train.run(*runs[0])
    return
  together = {'in turn': False, 'together': True, 'as chosen': None}
  cohort.execute(runs, together=together[arguments.modes[0]])
  missing = [str(path) for _, path in runs if not (path / 'result.json').is_file()]
  if missing:
    sys.exit(f'no result: {", ".join(missing)}')


def seconds(arguments, mode: str, steps: int, cache: str) -> float:
  """CPU seconds of one child process."""
  given = [f'--init={arguments.init}', f'--rows={arguments.rows}', f'--modes={mode}']
  given += [f'--seeds={arguments.seeds}', f'--rates={arguments.rates}']
  given += [f'--steps={steps}', f'--top={arguments.top}']
  variables = dict(JAX_PLATFORMS='cpu', JAX_COMPILATION_CACHE_DIR=cache)
  variables['JAX_ENABLE_COMPILATION_CACHE'] = '1'
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, __file__, f'--child={folder}', *given]
    subprocess.run(command, check=True, env=os.environ | variables)
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  used = after.ru_utime - before.ru_utime
  return used + after.ru_stime - before.ru_stime


def measure(arguments, mode: str) -> tuple[float, float]:
  """(CPU seconds of all members, milliseconds of a member's step)."""
  members = arguments.seeds * arguments.rates
  third = arguments.steps // 3
  with tempfile.TemporaryDirectory() as cache:
    # The first of each fills the folder of programs: of a schedule of other steps the
    # program is another one.
    _, whole = (seconds(arguments, mode, arguments.steps, cache) for _ in range(2))
    if not arguments.steady:
      return (members if mode == 'processes' else 1) * whole, float('nan')
    _, part = (seconds(arguments, mode, third, cache) for _ in range(2))
  steps = arguments.steps - third
  if mode == 'processes':
    return members * whole, 1000 * (whole - part) / steps
  return whole, 1000 * (whole - part) / steps / members


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--init', required=True, help='the folder of a model')
  parser.add_argument('--rows', type=int, default=8, help='rows of a step')
  parser.add_argument('--seeds', type=int, default=4)
  parser.add_argument('--rates', type=int, default=4)
  parser.add_argument('--steps', type=int, default=60)
  parser.add_argument('--top', default='', help='layers that are adapted, as 4|5')
  parser.add_argument('--steady', action='store_true', help='steps are timed, too')
  parser.add_argument('--modes', nargs='+', choices=MODES, default=list(MODES))
  parser.add_argument('--child', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.child:
    work(arguments)
    return
  members = arguments.seeds * arguments.rates
  say = sys.stdout.write
  say(f'{members} members, {arguments.rows} rows of 32, {arguments.steps} steps\n')
  say(f'{"":12} {"CPU s":>8} {"ratio":>6} {"ms/step":>8} {"ratio":>6}\n')
  first = None
  for mode in arguments.modes:
    whole, step = measure(arguments, mode)
    first = first or (whole, step)
    ratios = first[0] / whole, first[1] / step
    say(f'{mode:12} {whole:8.1f} {ratios[0]:6.2f} {step:8.1f} {ratios[1]:6.2f}\n')


if __name__ == '__main__':
  main()
