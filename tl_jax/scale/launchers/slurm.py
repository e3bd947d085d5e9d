"""Slurm: one array of jobs, each of which saves when it is warned and is queued again.

>>> import pathlib
>>> from tl_jax.scale.launchers.launch import Launch, Work
>>> work = Work('rates.py', pathlib.Path('/work'), ('0', '1', '2'))
>>> print(SLURM.emit(Launch(parallel=2), work).files['slurm.sh'].split('\\n')[2])
#SBATCH --array=0-2%2

`--signal=USR2@90` warns the processes of a step 90 seconds before the end of its time.
They save and exit with 75; then the script has itself queued again.
"""

import shlex

from tl_jax.scale.launchers.launch import (
  AGAIN,
  Emitted,
  Launch,
  Launcher,
  Work,
  exports,
)
from tl_jax.scale.launchers.launch import script as script_of
from tl_jax.scale.members import as_ranges, numbers_of

# Seconds before its end at which a job is warned.
WARNING = 90


def text(launch: Launch, work: Work) -> Emitted:
  """The script for sbatch."""
  member, table, indices = _members(work)
  array = as_ranges(indices)
  if launch.parallel:
    array = f'{array}%{launch.parallel}'
  options = [
    f'--job-name={work.name(launch)}',
    f'--array={array}',
    f'--output={work.there(launch)}/logs/slurm-%A_%a.log',
    # A job that is queued again goes on in its log.
    '--open-mode=append',
    '--requeue',
    f'--signal=USR2@{WARNING}',
    *_resources(launch),
  ]
  lines = [f'#SBATCH {shlex.quote(option)}' for option in options]
  lines += ['', *exports(launch.env), *launch.setup.splitlines(), *table]
  lines += [
    f'srun --unbuffered {work.shell(launch, member)}',
    'code=$?',
    f'if [ "$code" -eq {AGAIN} ] && '
    f'[ "${{SLURM_RESTART_COUNT:-0}}" -lt {launch.restarts} ]; then',
    '  scontrol requeue "$SLURM_JOB_ID"',
    'fi',
    'exit "$code"',
  ]
  return Emitted({'slurm.sh': script_of(lines)}, ('sbatch', 'slurm.sh'), 'sbatch')


def _members(work: Work) -> tuple[str, list[str], list[int]]:
  """(what stands behind --member=, lines of shell before it, indices of the array)."""
  if all(job.isdecimal() for job in work.jobs):
    # The number of a job is that of its member, in whatever is told about it.
    indices = [number for job in work.jobs for number in numbers_of(job)]
    return '"$SLURM_ARRAY_TASK_ID"', [], indices
  table = [f'members=({" ".join(work.jobs)})']
  return '"${members[$SLURM_ARRAY_TASK_ID]}"', table, list(range(len(work.jobs)))


def _resources(launch: Launch) -> list[str]:
  """The options of sbatch about machines and time."""
  options = [f'--nodes={launch.slices}']
  device = launch.device
  gpus = device.chips_per_host if device is not None else 0
  # Processes of several machines find each other by Slurm, a process for each GPU.
  tasks = gpus if gpus and launch.slices > 1 else 1
  options.append(f'--ntasks-per-node={tasks}')
  if gpus:
    options.append(f'--gpus-per-node={gpus}')
  if launch.seconds is not None:
    options.append(f'--time={_clock(launch.seconds)}')
  named = {
    '--partition': launch.queue,
    '--account': launch.account,
    '--qos': launch.priority,
    '--cpus-per-task': launch.cpus,
    '--mem': launch.memory,
  }
  for option, value in named.items():
    if value:
      options.append(f'{option}={value}')
  return options


def _clock(seconds: float) -> str:
  """Seconds as hours:minutes:seconds.

  >>> _clock(5400)
  '1:30:00'
  """
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02d}:{rest:02d}'


SLURM = Launcher(
  name='slurm',
  reads=(
    'accelerator slices parallel restarts time queue account priority cpus memory setup '
    'env'
  ),
  needs=(),
  text=text,
)
