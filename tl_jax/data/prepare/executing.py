"""Who filters a corpus: this process, several of them, or a cluster, by datatrove.

>>> from tl_jax.data.prepare.settings import Execution
>>> require(Execution(executor='slurm'))
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: config.execution.partition: slurm needs one

The executors are those of datatrove (Penedo et al. 2024). They share out the chunks of
`chunking`, and what comes of them does not depend on who made which.
"""

import contextlib
import dataclasses
import importlib
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import tl_jax
from tl_jax.config import ConfigError
from tl_jax.data.prepare import chunking
from tl_jax.data.prepare.settings import Corpus, Execution

# How often it is looked whether workers live, and how long the end of all may take.
_LOOK_SECONDS = 0.5
_END_SECONDS = 5.0
# Below the folder of the chunks: what executors say of their tasks.
_TASKS = 'tasks'


def require(execution: Execution) -> None:
  """Raises ConfigError for an executor that cannot work here."""
  if execution.is_alone:
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
    chunking.filter_share(corpus, folder, 0, 1, tell)
    return
  if execution.executor == 'slurm':
    raise ConfigError(
      'config.execution.executor: slurm filters in jobs of its own; `submit` asks for '
      'them, as tl-jax data prepare does'
    )
  tell(f'{execution.workers} {execution.executor} workers filter')
  work = Work(corpus, folder.absolute(), is_child=execution.executor == 'local')
  executor = _EXECUTORS[execution.executor](work, execution)
  # Each says much of what its tasks do; what is wrong with a text is said once.
  with _quiet():
    if execution.executor == 'local':
      _watched(executor)
    else:
      executor.run()
  if chunking.chunks_of(corpus, folder) is None:
    logs = folder / _TASKS / 'logs'
    raise ConfigError(f'config.execution: tasks failed; what they say: {logs}')


def _watched(executor) -> None:
  """Runs an executor of this machine.

  Raises ConfigError where a worker was killed, whose task the executor would wait for.
  """
  import multiprocess

  failures: list[Exception] = []

  def run() -> None:
    try:
      executor.run()
    except (OSError, RuntimeError, ValueError) as error:
      failures.append(error)

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  workers: set = set()
  while thread.is_alive():
    thread.join(_LOOK_SECONDS)
    workers.update(multiprocess.active_children())
    if any(map(_was_killed, workers)):
      # At its end the executor ends those of its workers that are slow to.
      thread.join(_END_SECONDS)
      if thread.is_alive():
        raise ConfigError(
          'config.execution.workers: one was killed, maybe for its memory; fewer of '
          'them, or a smaller config.chunk, take less'
        )
  if failures:
    raise failures[0]


def _was_killed(worker) -> bool:
  """Did a process end by a signal that nobody here sends?"""
  code = worker.exitcode or 0
  return code < 0 and code != -signal.SIGTERM


@dataclasses.dataclass
class Work:
  """The step of a pipeline that filters the share of a task.

  is_child: is it done in processes that end when this one does?
  """

  corpus: Corpus
  folder: pathlib.Path
  is_child: bool = False

  def __call__(self, documents: Any, rank: int = 0, tasks: int = 1) -> None:
    """Filters a share; the documents of an earlier step are none."""
    del documents
    try:
      chunking.filter_share(self.corpus, self.folder, rank, tasks, _ignore)
    except ValueError as error:
      # Some kinds of it could not be handed to another process.
      raise ValueError(str(error)) from None

  def __setstate__(self, state: dict[str, Any]) -> None:
    """Where it comes into another process."""
    self.__dict__.update(state)
    if self.is_child:
      _disable_log()
      threading.Thread(target=_end_with_parent, daemon=True).start()


def _ignore(told: str) -> None:
  """Nobody looks at the screen of a task."""


def _end_with_parent() -> None:
  """Ends this process as soon as the one that started it is gone.

  Else a run that is started again would meet the tasks of the one that was killed.
  """
  import multiprocess

  parent = multiprocess.parent_process()
  if parent is not None:
    parent.join()
    os._exit(1)


def _disable_log() -> None:
  from loguru import logger

  logger.disable('datatrove')


@contextlib.contextmanager
def _quiet():
  from loguru import logger

  _disable_log()
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


def _local(work: Work, execution: Execution):
  from datatrove.executor import LocalPipelineExecutor

  return LocalPipelineExecutor(**_common(work, execution))


def _ray(work: Work, execution: Execution):
  from datatrove.executor import RayPipelineExecutor

  return RayPipelineExecutor(
    **_common(work, execution),
    mem_per_cpu_gb=execution.memory,
  )


_EXECUTORS = {'local': _local, 'ray': _ray}


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
