"""The settings of launchers, and what every launcher makes of them.

>>> launch = read({'name': 'rates'}, [('parallel', '8'), ('time', '4h')])
>>> launch.parallel, launch.seconds
(8, 14400.0)
"""

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tl_jax import config as configs
from tl_jax.config import ConfigError, Count, Natural
from tl_jax.scale.launchers.accelerators import Accelerator, find

UNITS = {'': 1, 's': 1, 'm': 60, 'h': 3600, 'd': 86400}
# EX_TEMPFAIL: saved, start it again.
AGAIN = 75
# What no second start mends: an error of the code or of the members, and of the command.
FINAL = (1, 2)
# Kubernetes puts pods under names that are longer by what it needs to tell them apart.
LONGEST_NAME = 38


@dataclasses.dataclass(frozen=True)
class Launch:
  """Where and how the jobs of a sweep run. Each launcher reads some of the fields."""

  # of the jobs; empty: that of the sweep file
  name: str = ''
  # v5e:4x4, h100:8; empty: none
  accelerator: str = ''
  # slices of TPUs, or machines with GPUs, of one job
  slices: Count = 1
  # members in a job, of those that one compiled step serves: a cohort
  together: Count = 1
  # jobs at once; 0: as many as there is room for
  parallel: Natural = 0
  # starts of a job after the first one: it has saved, or was preempted
  restarts: Natural = 10
  # the longest that a job may take, as 4h
  time: str = ''
  # the container
  image: str = ''
  cluster: str = ''
  project: str = ''
  zone: str = ''
  namespace: str = ''
  # Kueue's local queue; Slurm's partition
  queue: str = ''
  # who pays on Slurm; Kubernetes' service account
  account: str = ''
  priority: str = ''
  spot: bool = False
  # of a machine without TPUs
  cpus: Natural = 0
  # as 32G
  memory: str = ''
  # the workdir as the jobs see it; empty: as it is here
  workdir: str = ''
  # a bucket or a claim of a volume, and where it is mounted
  bucket: str = ''
  claim: str = ''
  mount: str = '/mnt/sweep'
  # how the command is called there
  command: str = 'tl-jax'
  # lines of shell before it
  setup: str = ''
  env: dict[str, str] = dataclasses.field(default_factory=dict)
  # is it handed in where the tool is installed?
  submit: bool = True

  @property
  def seconds(self) -> float | None:
    """The longest time of a job; None for none. Raises ConfigError for no time."""
    if not self.time:
      return None
    found = re.fullmatch(r'(\d+(?:\.\d+)?)([smhd]?)', self.time.strip())
    if not found:
      raise ConfigError(f'launcher.time: {self.time!r}; give a time, as 90m or 4h')
    return float(found[1]) * UNITS[found[2]]

  @property
  def device(self) -> Accelerator | None:
    return find(self.accelerator) if self.accelerator else None

  def settled(self) -> 'Launch':
    """The settings with the slices that the name of the accelerator says.

    Raises ConfigError where both say some.
    """
    device = self.device
    if device is None or device.slices == 1:
      return self
    if self.slices > 1:
      raise ConfigError(
        f'launcher.slices: {self.slices}, but {self.accelerator!r} says it already'
      )
    return dataclasses.replace(self, slices=device.slices)


def read(given: Mapping[str, Any], overrides: Iterable[tuple[str, str]] = ()) -> Launch:
  """The settings of a sweep file's LAUNCH, with those of the command line over them.

  Raises ConfigError for an unknown setting, with the nearest.
  """
  values = {field.name: _default(field) for field in dataclasses.fields(Launch)}
  launch = configs.struct(Launch, dict(given), 'launcher')
  settled = dataclasses.asdict(launch)
  for key, text in overrides:
    name, _, inner = key.partition('.')
    if name not in values:
      near = configs.nearest(name, values)
      raise ConfigError(f'launcher.{key}: unknown setting; nearest: {near}')
    if name == 'env' and inner:
      settled['env'] = {**settled['env'], inner: text}
      continue
    settled[name] = configs.typed(text, values[name], f'launcher.{key}')
  return configs.struct(Launch, settled, 'launcher')


def _default(field: dataclasses.Field) -> Any:
  return {} if field.default is dataclasses.MISSING else field.default


class Work(NamedTuple):
  """What is to be run.

  file: the sweep file. workdir: that of the sweep, on this machine. jobs: the members of
  each job, as `--member` takes them. flags: more words of the command.
  """

  file: str
  workdir: pathlib.Path
  jobs: tuple[str, ...]
  flags: tuple[str, ...] = ()

  def name(self, launch: Launch) -> str:
    """The name of the jobs, as every tool takes it: letters, digits and dashes."""
    given = launch.name or pathlib.PurePath(self.file).stem
    plain = re.sub(r'[^a-z0-9-]+', '-', given.lower()).strip('-')
    # A name of Kubernetes begins with a letter.
    named = plain if plain[:1].isalpha() else f'sweep-{plain}'
    return named[:LONGEST_NAME].strip('-')

  def job_name(self, launch: Launch, member: str) -> str:
    """The name of one job: that of its first member is no other job's."""
    return f'{self.name(launch)}-{re.match("[0-9]+", member)[0]}'

  def there(self, launch: Launch) -> str:
    """The workdir as the jobs see it."""
    return launch.workdir or str(self.workdir)

  def words(self, launch: Launch, member: str) -> list[str]:
    """The command that runs some members."""
    return [
      *shlex.split(launch.command),
      'sweep',
      self.file,
      f'--workdir={self.there(launch)}',
      f'--member={member}',
      *self.flags,
    ]

  def shell(self, launch: Launch, member: str) -> str:
    """The command as a line of shell, with `member` as an expression of the shell."""
    words = self.words(launch, '')
    words.remove('--member=')
    # Not quoted, as all other words are.
    return f'{shlex.join(words)} --member={member}'


class Emitted(NamedTuple):
  """Text for a tool.

  files: name -> content, in the folder that the text is written to. command: what hands
  it in, called in that folder. tool: the program that must be there.
  """

  files: dict[str, str]
  command: tuple[str, ...]
  tool: str


@dataclasses.dataclass(frozen=True)
class Launcher:
  """A kind of cluster, and the text that it takes.

  reads: the names of its settings, in one text, besides those that all launchers read.
  needs: those among them that must be given.
  """

  name: str
  reads: str
  needs: tuple[str, ...]
  text: Callable[[Launch, Work], Emitted]

  def emit(self, launch: Launch, work: Work) -> Emitted:
    """The text. Raises ConfigError for a setting that is missing or that is not read."""
    fields = dataclasses.fields(Launch)
    common = {'name', 'together', 'workdir', 'command', 'submit'}
    read_here = common | set(self.reads.split())
    for field in fields:
      is_given = getattr(launch, field.name) != _default(field)
      if is_given and field.name not in read_here:
        raise ConfigError(f'launcher.{field.name}: {self.name} does not read it')
    for name in self.needs:
      if not getattr(launch, name):
        raise ConfigError(
          f'launcher.{name}: {self.name} needs it, as --launcher.{name}=VALUE or in LAUNCH'
        )
    return self.text(launch.settled(), work)


def exports(env: Mapping[str, str]) -> list[str]:
  """Lines of shell that set variables."""
  return [f'export {name}={shlex.quote(value)}' for name, value in env.items()]


def script(lines: Sequence[str]) -> str:
  """A script of bash."""
  return '\n'.join(['#!/bin/bash', *lines]) + '\n'
