"""Processes of this machine that filter a corpus together.

>>> told = []
>>> progress = Progress(told.append, pause=0.0)
>>> progress.add(500); progress.add(700)
>>> told
['500 documents filtered', '1,200 documents filtered']

They share nothing but the folder of the chunks. Each says on a pipe of its own how many
documents it has filtered; the end of the pipe is its end, however it came.
"""

import multiprocessing
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait

from tl_jax.config import ConfigError
from tl_jax.data.prepare import chunking
from tl_jax.data.prepare.settings import Corpus

# Seconds between two lines about how far the work has come.
_PAUSE = 10.0


class Progress:
  """Tells how many documents were filtered, of all processes together."""

  def __init__(self, tell: Callable[[str], None], pause: float = _PAUSE):
    self._tell = tell
    self._pause = pause
    self._documents = 0
    # When it was last told, by the monotonic clock; what is done soon needs no line.
    self._then = time.monotonic()

  def add(self, documents: int) -> None:
    """Counts documents that were filtered just now."""
    self._documents += documents
    now = time.monotonic()
    if now - self._then >= self._pause:
      self._then = now
      self._tell(f'{self._documents:,} documents filtered')


def filter_together(corpus: Corpus, folder: pathlib.Path, progress: Progress) -> None:
  """Filters all chunks in as many processes as `corpus.execution` says.

  Raises ValueError for what cannot be read, ConfigError where a process was killed and
  RuntimeError where one failed otherwise.
  """
  # A fork of this process would have its locks, but not the threads that hold them.
  context = multiprocessing.get_context('spawn')
  processes = {}
  try:
    for rank in range(corpus.execution.workers):
      receiver, sender = context.Pipe(duplex=False)
      process = context.Process(
        target=_filter, args=(corpus, folder, rank, sender), daemon=True
      )
      process.start()
      processes[receiver] = process
      # Held by the process alone, so that its end is that of the pipe.
      sender.close()
    listened = list(processes)
    while listened:
      for receiver in wait(listened):
        if not _heard(receiver, progress):
          listened.remove(receiver)
          _require_good_end(processes[receiver])
  finally:
    for process in processes.values():
      process.terminate()
      process.join()


def _heard(receiver: Connection, progress: Progress) -> bool:
  """Takes what a process says; False where it has ended.

  Raises the error that it met.
  """
  try:
    said = receiver.recv()
  except EOFError:
    return False
  if isinstance(said, Exception):
    raise said
  progress.add(said)
  return True


def _require_good_end(process: multiprocessing.Process) -> None:
  """Raises an error for a process that did not end by itself, or not well."""
  process.join()
  if process.exitcode < 0:
    raise ConfigError(
      'config.execution.workers: one was killed, maybe for its memory; fewer of them, '
      'or a smaller config.chunk, take less'
    )
  if process.exitcode:
    raise RuntimeError('a worker failed; what it said stands above')


def _filter(corpus: Corpus, folder: pathlib.Path, rank: int, said: Connection) -> None:
  """What one of the processes does."""
  # Ctrl-C reaches all of them; the one that started them ends the others.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()
  workers = corpus.execution.workers
  try:
    chunking.filter_share(corpus, folder, rank, workers, said.send)
  except ValueError as error:
    # Some kinds of it could not be handed to another process.
    said.send(ValueError(str(error)))


def _end_with_parent() -> None:
  """Ends this process as soon as the one that started it is gone.

  Else a run that is started again would meet the workers of the one that was killed.
  """
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
    os._exit(1)
