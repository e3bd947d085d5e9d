"""SkyPilot: a managed job for each job of the sweep, from one YAML file.

>>> import pathlib
>>> from tl_jax.scale.launchers.launch import Launch, Work
>>> found = task(Launch(accelerator='h100:8'), Work('rates.py', pathlib.Path('/w'), ('3',)))
>>> found['resources']['job_recovery']['recover_on_exit_codes']
[75]
"""

import shlex

import yaml

from tl_jax.config import ConfigError
from tl_jax.scale.launchers.launch import (
  AGAIN,
  Emitted,
  Launch,
  Launcher,
  Work,
  script,
)

VARIABLE = 'TL_JAX_MEMBER'


def text(launch: Launch, work: Work) -> Emitted:
  """The task, and a script that launches it once for each job."""
  found = task(launch, work)
  lines = ['set -e']
  for member in work.jobs:
    name = work.job_name(launch, member)
    words = ['sky', 'jobs', 'launch', '--yes', '--detach-run', f'--name={name}']
    words += [f'--env={VARIABLE}={member}', 'skypilot.yaml']
    lines.append(shlex.join(words))
  files = {
    'skypilot.yaml': yaml.safe_dump(found, sort_keys=False),
    'skypilot.sh': script(lines),
  }
  return Emitted(files, ('bash', 'skypilot.sh'), 'sky')


def task(launch: Launch, work: Work) -> dict:
  """The task as SkyPilot's YAML has it."""
  found = {'name': work.name(launch), 'num_nodes': launch.slices}
  found['resources'] = _resources(launch)
  found['envs'] = {**launch.env, VARIABLE: work.jobs[0]}
  if launch.bucket:
    source = f'gs://{launch.bucket}'
    found['file_mounts'] = {launch.mount: {'source': source, 'mode': 'MOUNT'}}
  if launch.setup:
    found['setup'] = launch.setup
  found['run'] = work.shell(launch, f'"${VARIABLE}"') + '\n'
  return found


def _resources(launch: Launch) -> dict:
  """What a job needs. Raises ConfigError for several slices of TPUs."""
  named = {
    'accelerators': _accelerators(launch),
    'infra': launch.zone,
    'image_id': f'docker:{launch.image}' if launch.image else '',
    # A plus: or more of it.
    'cpus': f'{launch.cpus}+' if launch.cpus else '',
    'memory': f'{launch.memory.rstrip("GBi")}+' if launch.memory else '',
    'use_spot': launch.spot,
  }
  found = {key: value for key, value in named.items() if value}
  found['job_recovery'] = {
    'max_restarts_on_errors': launch.restarts,
    'recover_on_exit_codes': [AGAIN],
  }
  return found


def _accelerators(launch: Launch) -> str:
  """The accelerators by SkyPilot's names; '' for none."""
  device = launch.device
  if device is None:
    return ''
  if not device.is_tpu:
    return f'{device.name.upper()}:{device.chips}'
  if launch.slices > 1:
    raise ConfigError(
      f'launcher.slices: {launch.slices}; SkyPilot starts one slice of TPUs'
    )
  return f'tpu-{device.tpu_type}'


SKYPILOT = Launcher(
  name='skypilot',
  reads=(
    'accelerator slices restarts image zone spot cpus memory bucket mount setup env'
  ),
  needs=(),
  text=text,
)
