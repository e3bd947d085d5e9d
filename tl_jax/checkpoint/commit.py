"""What happens to a step in the background, from its arrays to its commit.

>>> str(explain(OSError(28, 'No space left on device'), 7, Path('/'), 10)).split(';')[0]
'step 7 was not saved in /: No space left on device'
"""

import dataclasses
import errno
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from tl_jax import files
from tl_jax.checkpoint import arrays, processes, record

# The ending of a step that is being written, and the folders beside the steps.
PARTIAL = '.partial'
TRASH = 'trash'
QUARANTINE = 'quarantine'
_LOG = logging.getLogger(__name__)
# No space, no quota left, or a file larger than the system allows.
_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SaveFailed(RuntimeError):
  """A step that is not committed, and why; `errno` is set where the system said so."""

  def __init__(self, message: str, number: int | None = None):
    super().__init__(message)
    self.errno = number


@dataclasses.dataclass
class Save:
  """One step on its way to the disk.

  `after` runs in the first process once the step is committed, before any is told.
  `copied` is set once no device buffer is needed. `error` and `seconds` are there at
  the end.
  """

  directory: Path
  step: int
  tag: str
  leaves: dict[str, dict]
  arrays: dict[str, Any]
  meta: Any
  after: Callable[[], None] = lambda: None
  copied: threading.Event = dataclasses.field(default_factory=threading.Event)
  error: Exception | None = None
  seconds: float = 0.0

  @property
  def partial(self) -> Path:
    return self.directory / f'{self.step}{PARTIAL}'

  @property
  def bytes(self) -> int:
    return sum(array.nbytes for array in self.arrays.values())


def run(save: Save) -> None:
  """Writes and commits a step.

  Whatever goes wrong ends up in `save.error`, with the partial step removed.
  """
  started = time.perf_counter()
  try:
    _together(save, 'begin', _begin)
    _together(save, 'written', _write)
    _together(save, 'committed', _commit)
  # `Store.wait` raises it in the caller's thread.
  except Exception as error:  # noqa: BLE001
    if not isinstance(error, SaveFailed):
      error = explain(error, save.step, save.directory, save.bytes)
    save.error = error
    _discard(save)
  finally:
    # Also after an error, or the caller would wait for ever.
    save.copied.set()
    # The copies are as large as the state.
    save.arrays = {}
    save.seconds = time.perf_counter() - started


def _together(save: Save, stage: str, action) -> None:
  """Does the action in every process.

  If it failed in one, all of them raise, with the rank named.
  """
  failure = None
  word = ''
  try:
    action(save)
  # The others must hear of it before it is raised.
  except Exception as error:  # noqa: BLE001
    failure = explain(error, save.step, save.directory, save.bytes)
    word = str(failure)
  words = processes.gather(f'{save.tag}/{stage}', word)
  if failure:
    raise failure
  for rank, other in enumerate(words):
    if other:
      raise SaveFailed(f'process {rank}: {other}')


def _begin(save: Save) -> None:
  """Makes an empty folder for the step."""
  if processes.is_first():
    if os.path.lexists(save.partial):
      files.purge(save.partial)
    save.partial.mkdir()
    (save.partial / record.ARRAYS).mkdir()


def _write(save: Save) -> None:
  """Writes the arrays of this process."""
  save.leaves = arrays.seal(save.leaves, save.arrays)
  arrays.write(save.partial / record.ARRAYS, save.arrays, save.copied.set)


def _commit(save: Save) -> None:
  """Adds the record and gives the step its name; then deletes what is too old."""
  if not processes.is_first():
    return
  commit = record.make_record(
    save.partial, save.step, save.leaves, save.meta, time.time(), _versions()
  )
  record.write_record(save.partial, commit)
  final = save.directory / str(save.step)
  if os.path.lexists(final):
    # A committed step gets here only when the caller asked to replace it; anything else
    # is kept for a look.
    committed = final.is_dir() and (final / record.NAME).exists()
    files.move_aside(final, save.directory / (TRASH if committed else QUARANTINE))
  os.rename(save.partial, final)
  files.flush(save.directory)
  # The step is committed: a disk that does not delete is no reason to fail it.
  try:
    save.after()
  except OSError as error:
    _LOG.warning(
      'old steps in %s could not be deleted: %s', save.directory, error.strerror
    )


def _versions() -> dict[str, str]:
  return {name: metadata.version(name) for name in ('jax', 'orbax-checkpoint', 'numpy')}


def _discard(save: Save) -> None:
  """Removes a step that failed; if that fails too, the error gets a note."""
  if not processes.is_first():
    return
  try:
    if os.path.lexists(save.partial):
      files.purge(save.partial)
  except OSError as error:
    save.error.add_note(f'{save.partial} could not be removed: {error.strerror}')


def explain(
  error: BaseException, step: int, directory: Path, needed: int
) -> SaveFailed:
  """The error of a save in one line that names step and folder.

  Where space ran out it says how many bytes are needed and how many are free.
  """
  number, reason = _cause(error)
  message = f'step {step} was not saved in {directory}: {reason}'
  if number in _SPACE:
    message += f'; it needs about {needed} bytes, {_free(directory)}'
  failure = SaveFailed(message, number)
  failure.__cause__ = error
  return failure


def _cause(error: BaseException) -> tuple[int | None, str]:
  """(number of the system's error or None, reason) of an error or what caused it."""
  seen = error
  while seen is not None:
    number = _number_of(seen)
    if number:
      place = ''
      if isinstance(seen, OSError) and seen.filename:
        place = f': {seen.filename}'
      return number, os.strerror(number) + place
    seen = seen.__cause__ or seen.__context__
  reason = ' '.join(str(error).split())[:400]
  return None, f'{type(error).__name__}: {reason}'


def _number_of(error: BaseException) -> int | None:
  """The errno of an error, also where it is only written in its message."""
  if isinstance(error, OSError):
    return error.errno
  # tensorstore, which writes for orbax, raises ValueErrors with the number in the text.
  found = re.search(r'(?:OS error |os_error_code=\W*)(\d+)', str(error))
  return int(found[1]) if found else None


def _free(directory: Path) -> str:
  """How much space is left, for a message."""
  try:
    space = shutil.disk_usage(directory).free
    nodes = os.statvfs(directory)
  except OSError:
    return 'free space unknown'
  # A disk of many small files may be full with bytes to spare; some count no inodes.
  no_inode = nodes.f_files and not nodes.f_favail
  return f'{space} are free' + (', but no inode is' if no_inode else '')
