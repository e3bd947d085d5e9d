"""xpk: a workload for each job, by the command line of xpk 1.16.

>>> import pathlib
>>> from tl_jax.scale.launchers.launch import Launch, Work
>>> launch = Launch(cluster='c', image='i', accelerator='v5e:4x4')
>>> words(launch, Work('rates.py', pathlib.Path('/w'), ('3',)), '3')[:5]
['xpk', 'workload', 'create', '--workload=rates-3', '--cluster=c']

By itself xpk starts no workload again, and takes 75 for an error: both are asked for.
"""

import shlex

from tl_jax.config import ConfigError
from tl_jax.scale.launchers.launch import (
  AGAIN,
  Emitted,
  Launch,
  Launcher,
  Work,
  script,
)


def text(launch: Launch, work: Work) -> Emitted:
  """A script with a command for each job."""
  lines = ['set -e']
  for member in work.jobs:
    lines.append(shlex.join(words(launch, work, member)))
  return Emitted({'xpk.sh': script(lines)}, ('bash', 'xpk.sh'), 'xpk')


def words(launch: Launch, work: Work, member: str) -> list[str]:
  """The command line for one job."""
  device = launch.device
  if device is None or not device.is_tpu:
    raise ConfigError(
      f'launcher.accelerator: {launch.accelerator!r}; of xpk a TPU is asked, as v5e:4x4'
    )
  name = work.job_name(launch, member)
  found = ['xpk', 'workload', 'create', f'--workload={name}']
  found.append(f'--cluster={launch.cluster}')
  # By its shape, where a number of chips has several.
  found.append(f'--tpu-type={_type(launch)}')
  found.append(f'--num-slices={launch.slices}')
  found.append(f'--docker-image={launch.image}')
  optional = {
    '--project': launch.project,
    '--zone': launch.zone,
    '--priority': launch.priority,
  }
  found += [f'{flag}={value}' for flag, value in optional.items() if value]
  if launch.spot:
    found.append('--spot')
  for key, value in launch.env.items():
    found.append(f'--env={key}={value}')
  found.append(f'--max-restarts={launch.restarts}')
  found.append(f'--restart-on-exit-codes={AGAIN}')
  found.append(f'--command={shlex.join(work.words(launch, member))}')
  return found


def _type(launch: Launch) -> str:
  """The type of a slice by its shape, as v5litepod-4x4."""
  device = launch.device
  prefix = device.tpu_type.rpartition('-')[0]
  return f'{prefix}-{device.shape}'


XPK = Launcher(
  name='xpk',
  reads=('accelerator slices restarts image cluster project zone priority spot env'),
  needs=('cluster', 'image', 'accelerator'),
  text=text,
)
