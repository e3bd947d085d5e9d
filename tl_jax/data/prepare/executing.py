"""Who filters a corpus: this process, several of them, or a cluster.

>>> from tl_jax.data.prepare.settings import Execution
>>> require(Execution(executor='slurm'))
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: config.execution.partition: slurm needs one

The executors of clusters are those of datatrove (Penedo et al. 2024). All share out the
chunks of `chunking`, and what comes of them does not depend on who made which.
"""

import contextlib
import dataclasses
import importlib
import pathlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tl_jax
from tl_jax.config import ConfigError
from tl_jax.data.prepare import chunking
from tl_jax.data.prepare.settings import Corpus, Execution
from tl_jax.data.prepare.workers import Progress, filter_together

# Below the folder of the chunks: what executors say of their tasks.
_TASKS = 'tasks'


def require(execution: Execution) -> None:
  """Raises ConfigError for an executor that cannot work here."""
  if execution.executor == 'local':
    return
  if execution.executor == 'slurm':
    if not execution.partition:
      raise ConfigError('config.execution.partition: slurm needs one')
    if shutil.which('sbatch') is None:
      raise ConfigError('config.execution.executor: slurm: there is no sbatch on PATH')
  needed = ['datatrove']
  if execution.executor == 'ray':
    needed.append('ray')
  for name in needed:
    _require_library(name, execution)


def _require_library(name: str, execution: Execution) -> None:
  try:
    importlib.import_module(name)
  except ImportError as error:
    said = f'{execution.executor} with {execution.workers} workers'
    extra = 'ray' if name == 'ray' else 'tl-jax[corpus]'
    raise ConfigError(
      f"config.execution: {said} needs {name}: pip install '{extra}'"
    ) from error


def filter_all(
  corpus: Corpus, folder: pathlib.Path, tell: Callable[[str], None]
) -> None:
  """Filters all chunks, and returns when they are there.

  Raises ValueError for what cannot be read, and ConfigError where tasks of a cluster
  failed.
  """
  execution = corpus.execution
  if execution.is_alone:
    chunking.filter_share(corpus, folder, 0, 1, Progress(tell).add)
    return
  if execution.executor == 'slurm':
    raise ConfigError(
      'config.execution.executor: slurm filters in jobs of its own; `submit` asks for '
      'them, as tl-jax data prepare does'
    )
  tell(f'{execution.workers} {execution.executor} workers filter')
  if execution.executor == 'local':
    filter_together(corpus, folder, Progress(tell))
  else:
    _filter_by_ray(corpus, folder)


def _filter_by_ray(corpus: Corpus, folder: pathlib.Path) -> None:
  """Filters all chunks in tasks of Ray. Raises ConfigError where these failed."""
  from datatrove.executor import RayPipelineExecutor

  executor = RayPipelineExecutor(
    **_common(Work(corpus, folder.absolute()), corpus.execution),
    mem_per_cpu_gb=corpus.execution.memory,
  )
  # It says much of what its tasks do; what is wrong with a text is said once.
  with _quiet():
    executor.run()
  if chunking.chunks_of(corpus, folder) is None:
    logs = folder / _TASKS / 'logs'
    raise ConfigError(f'config.execution: tasks failed; what they say: {logs}')


@dataclasses.dataclass
class Work:
  """The step of a pipeline that filters the share of a task."""

  corpus: Corpus
  folder: pathlib.Path

  def __call__(self, documents: Any, rank: int = 0, tasks: int = 1) -> None:
    """Filters a share; the documents of an earlier step are none."""
    del documents
    try:
      chunking.filter_share(self.corpus, self.folder, rank, tasks, _ignore)
    except ValueError as error:
      # Some kinds of it could not be handed to another process.
      raise ValueError(str(error)) from None


def _ignore(documents: int) -> None:
  """Nobody looks at the screen of a task."""


@contextlib.contextmanager
def _quiet():
  from loguru import logger

  logger.disable('datatrove')
  try:
    yield
  finally:
    logger.enable('datatrove')


def _common(work: Work, execution: Execution) -> dict[str, Any]:
  return dict(
    pipeline=[work],
    tasks=execution.workers,
    workers=execution.workers,
    logging_dir=str(work.folder / _TASKS),
    # The chunks say what is done, whatever the number of tasks was.
    skip_completed=False,
  )


def submit(
  corpus: Corpus, folder: pathlib.Path, logs: pathlib.Path, command: Sequence[str]
) -> list[str]:
  """Asks Slurm to filter, and then to run a command; returns the numbers of both jobs.

  folder: of the chunks. logs: the folder of what the jobs say. command: what makes a
  corpus of chunks that are all there.
  """
  from datatrove.executor import SlurmPipelineExecutor

  common = _common(Work(corpus, folder.absolute()), corpus.execution)
  asked = _slurm(corpus.execution)
  first = SlurmPipelineExecutor(
    **{**common, 'logging_dir': str(logs.absolute() / 'filter')},
    **asked,
    job_name='tl-jax-filter',
  )
  last = SlurmPipelineExecutor(
    pipeline=[Command(tuple(command))],
    tasks=1,
    logging_dir=str(logs.absolute() / 'write'),
    skip_completed=False,
    # It begins when all tasks of the first one have ended well.
    depends=first,
    **asked,
    job_name='tl-jax-write',
  )
  with _quiet():
    last.run()
  return [first.job_id, last.job_id]


def _slurm(execution: Execution) -> dict[str, Any]:
  """What all jobs of Slurm are asked for."""
  # The same Python and code as here, unless something else is said.
  programs = shlex.quote(str(pathlib.Path(sys.executable).parent))
  code = shlex.quote(str(pathlib.Path(tl_jax.__file__).parents[1]))
  same = f'export PATH={programs}:$PATH PYTHONPATH={code}:$PYTHONPATH'
  return dict(
    time=execution.time,
    partition=execution.partition,
    qos=execution.qos,
    mem_per_cpu_gb=execution.memory,
    env_command=execution.setup or same,
  )


@dataclasses.dataclass
class Command:
  """The step of a pipeline that runs a command."""

  command: tuple[str, ...]

  def __call__(self, documents: Any, rank: int = 0, tasks: int = 1) -> None:
    """Runs it. Raises subprocess.CalledProcessError where it fails."""
    subprocess.run(self.command, check=True)
