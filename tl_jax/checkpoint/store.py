"""The steps of a run: saved in the background, verified before they are restored.

>>> import tempfile
>>> import numpy as np
>>> store = Store(tempfile.mkdtemp(), keep=2)
>>> store.save(10, {'w': np.arange(3)}, {'rows': 640})
>>> seconds = store.wait()
>>> store.latest(), store.restore(10, {'w': np.zeros(3, int)})['w'].tolist(), store.meta(10)
(10, [0, 1, 2], {'rows': 640})
"""

import functools
import itertools
import logging
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tl_jax import files
from tl_jax.checkpoint import arrays, commit, processes, record
from tl_jax.checkpoint.record import CheckpointError, DamagedStep

_LOG = logging.getLogger(__name__)
# Words between processes need tags that were never used. All processes save and restore
# in the same order, so that they count alike.
_COUNTER = itertools.count()
# A step that its trainer deleted while it was read: no damage, so nothing is lost.
_DELETED = 'deleted'


class Verdict(NamedTuple):
  """A step, and whether its files are good.

  `size` is in bytes, `time` in Unix seconds. `problems` is empty when every file is
  what was committed.
  """

  step: int
  size: int
  time: float
  problems: list[str]


class Restored(NamedTuple):
  step: int
  state: Any
  meta: Any


def _is_step(name: str) -> bool:
  """Is this the name of a step's folder? `007` is none: it would be read as 7."""
  return name.isascii() and name.isdecimal() and str(int(name)) == name


class Store:
  """Committed steps in a folder.

  `keep` is how many of the newest stay; None or <= 0 keeps all.

  On disk: `<step>/commit.json` names every file of the step with its size and SHA-256,
  and `<step>/arrays/` is an orbax checkpoint (PyTree, zarr, one folder per leaf).
  `<step>.partial` is a step being written, `trash/` is being deleted, `quarantine/`
  holds damaged steps. With several processes all call `save`, `wait`, `restore` and
  `restore_latest`; the first one commits. Reading writes nothing.
  """

  def __init__(self, directory: str | os.PathLike, keep: int | None = 3):
    self.directory = Path(
      os.path.abspath(files.require_local(directory, 'checkpoints'))
    )
    self.keep = keep
    self._pinned: frozenset[int] = frozenset()
    self._prepared = False
    self._current: tuple[commit.Save, threading.Thread] | None = None
    self._warned: set[str] = set()

  def prepare(self) -> None:
    """Makes the folder ready for writing.

    Proves that it can be written and deletes what a crash left behind. `save` does it
    once; call it before compiling. Raises ValueError of one line that names the path.
    """
    if self._prepared:
      return
    if processes.is_first():
      try:
        self.directory.mkdir(parents=True, exist_ok=True)
        files.write_atomically(self.directory / '.probe', b'')
        (self.directory / '.probe').unlink()
        for entry in list(self.directory.iterdir()):
          if entry.name.endswith(commit.PARTIAL):
            files.purge(entry)
        files.purge(self.directory / commit.TRASH)
      except OSError as error:
        raise ValueError(
          f'checkpoints {str(self.directory)!r}: cannot be written: {error.strerror}'
        ) from error
    self._prepared = True

  def save(
    self,
    step: int,
    state: Any,
    meta: Any = None,
    *,
    replace: bool = False,
    pinned: Collection[int] = (),
  ) -> None:
    """Copies the state to the host and commits it in the background.

    A save that is still in flight is finished first.

    Args:
      step: at least 0. A committed step raises ValueError, unless `replace`.
      state: any pytree of arrays, random keys and numbers; it may be donated as soon as
      this returns.
      meta: anything strict JSON can hold; NaN becomes null.
      pinned: steps that stay from now on, besides the newest `keep`.
    Raises SaveFailed if the save before it failed.
    """
    self.wait()
    self.prepare()
    step = int(step)
    if step < 0:
      raise ValueError(f'step {step}: a step is at least 0')
    if not replace and processes.is_first() and self._is_committed(step):
      raise CheckpointError(
        f'{self.directory / str(step)}: the step is committed already'
      )
    # Not before the save in flight has deleted: this step is not committed yet.
    self._pinned = frozenset(pinned)
    leaves, copies = arrays.take(state)
    tag = f'tl_jax/{self.directory}/{step}/{next(_COUNTER)}'
    save = commit.Save(
      self.directory,
      step,
      tag,
      leaves,
      copies,
      files.clean(meta, 'meta'),
      self._delete_oldest,
    )
    thread = threading.Thread(target=commit.run, args=(save,), name=f'save-{step}')
    self._current = save, thread
    thread.start()
    # An array that is still on devices: the caller may not donate it before it is
    # copied.
    if any(not hasattr(array, 'flags') for array in copies.values()):
      save.copied.wait()

  def poll(self) -> bool:
    """Is no save in flight? Raises SaveFailed if the last one failed."""
    if self._current is None:
      return True
    if self._current[1].is_alive():
      return False
    self.wait()
    return True

  def wait(self) -> float:
    """Waits for the save in flight and returns its seconds in the background.

    Raises SaveFailed if it failed. Call it in `finally`: without it a process may end
    with success while its last step is lost.
    """
    if self._current is None:
      return 0.0
    save, thread = self._current
    thread.join()
    self._current = None
    if save.error is not None:
      raise save.error
    return save.seconds

  def _delete_oldest(self) -> None:
    """Deletes all but the newest `keep` steps and those that are pinned."""
    if self.keep is None or self.keep <= 0:
      return
    trash = self.directory / commit.TRASH
    # Renamed before it is deleted: half a step must not be taken for a damaged one.
    for step in self.steps()[: -self.keep]:
      if step in self._pinned:
        continue
      files.move_aside(self.directory / str(step), trash)
    files.purge(trash)

  def _folders(self) -> Iterator[tuple[int, Path]]:
    """Folders named by a step, ascending; what is in them is not looked at."""
    try:
      names = os.listdir(self.directory)
    except (FileNotFoundError, NotADirectoryError):
      return
    for step in sorted(int(name) for name in names if _is_step(name)):
      folder = self.directory / str(step)
      if folder.is_dir():
        yield step, folder

  def _load(self, folder: Path) -> dict | None:
    """The record of a step, or None for a folder that never was one.

    Raises DamagedStep for a folder with arrays and no record.
    """
    found = record.load_record(folder)
    if found is None and (folder / record.ARRAYS).exists():
      raise DamagedStep(f'{folder / record.NAME}: it is missing')
    # Said once: steps are listed again and again.
    if found is None and folder.exists() and str(folder) not in self._warned:
      self._warned.add(str(folder))
      _LOG.warning(
        '%s is ignored: it holds no %s, so it is not a step', folder, record.NAME
      )
    return found

  def _is_committed(self, step: int) -> bool:
    try:
      return self._load(self.directory / str(step)) is not None
    except DamagedStep:
      return False

  def steps(self) -> list[int]:
    """The committed steps, ascending; files are not verified."""
    return [step for step, folder in self._folders() if self._is_committed(step)]

  def latest(self) -> int | None:
    """The newest committed step."""
    steps = self.steps()
    return steps[-1] if steps else None

  def _record(self, step: int) -> dict:
    """The record of a step. Raises CheckpointError with the steps there are."""
    found = self._load(self.directory / str(int(step)))
    if found is None:
      there = ', '.join(map(str, self.steps())) or 'none'
      raise CheckpointError(
        f'{self.directory}: no step {step}; committed steps: {there}'
      )
    return found

  def meta(self, step: int) -> Any:
    """What was given to `save` as meta."""
    return self._record(step)['meta']

  def leaves(self, step: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name -> (shape, dtype) of everything saved in a step."""
    leaves = self._record(step)['leaves']
    found = {}
    for name, leaf in leaves.items():
      found[name] = tuple(leaf['shape']), leaf['dtype']
    return found

  def verify(self, step: int) -> list[str]:
    """One line per damaged file of a step, naming leaf and file; empty means good."""
    try:
      found = self._record(step)
    except DamagedStep as error:
      return [str(error)]
    return record.find_problems(self.directory / str(step), found)

  def verdicts(self) -> list[Verdict]:
    """Every step, ascending, damaged ones too."""
    verdicts = []
    for step, folder in self._folders():
      # A damaged record is a verdict here, not an error.
      try:
        found = self._load(folder)
      except DamagedStep as error:
        verdicts.append(Verdict(step, 0, 0.0, [str(error)]))
        continue
      if found is not None:
        problems = record.find_problems(folder, found)
        verdicts.append(Verdict(step, found['bytes'], found['time'], problems))
    return verdicts

  def newest_good(self) -> int:
    """The newest step whose every file is what was committed. Nothing is moved.

    A damaged step is passed over with a warning that names its leaf and file.
    Raises CheckpointError where no step is good.
    """
    for step, folder in reversed(list(self._folders())):
      try:
        found = self._load(folder)
        problems = [] if found is None else record.find_problems(folder, found)
      except DamagedStep as error:
        found = None
        problems = [str(error)]
      if found is not None and not problems:
        return step
      if problems:
        _LOG.warning('step %d is damaged: %s; an older step is used', step, problems[0])
    raise CheckpointError(f'{self.directory}: no good committed step')

  def restore(self, step: int, like: Any, *, cast: bool = False) -> Any:
    """The state of one step, in the structure and on the shardings of `like`.

    Args:
      like: a tree of arrays or jax.ShapeDtypeStruct, all of what was saved or a part;
      names decide, None is a hole.
      cast: lets floating-point leaves change their dtype.
    Raises CheckpointError of one line that names leaf and both shapes, the damaged
    file, or the steps there are.
    """
    found = self._record(step)
    folder = self.directory / str(step)
    names = arrays.match(found['leaves'], like, str(folder), cast)
    self._require_good(folder, found, names)
    return arrays.read(folder / record.ARRAYS, found['leaves'], like)

  def _require_good(self, folder: Path, found: dict, names) -> None:
    """Raises DamagedStep unless the files that these leaves need are good.

    Raises CheckpointError where the step is gone.
    """
    problems = record.find_problems(folder, found, names)
    if problems and not folder.exists():
      raise CheckpointError(
        f'{folder}: the step was deleted meanwhile; committed steps: {self.steps()}'
      )
    if problems:
      others = len(problems) - 1
      more = f' and {others} more files' if others > 0 else ''
      raise DamagedStep(f'step {found["step"]} is damaged: {problems[0]}{more}')

  def restore_latest(
    self, like: Any, *, cast: bool = False, quarantine: bool = True, whole: bool = False
  ) -> Restored | None:
    """The newest good step, or None where nothing was ever saved.

    A damaged step is moved to `quarantine/`, if `quarantine` says so and the folder can
    be written. A warning names its leaf and file, and the next older step is used.

    With `whole`, a saved leaf that `like` does not have is a CheckpointError: the state
    of another optimizer may hold all that this one asks for, and more. Raises
    DamagedStep when steps were saved and none is good.
    """
    check = functools.partial(arrays.match, like=like, cast=cast, whole=whole)
    # One process chooses, or two could see different steps while one is being deleted.
    word = self._choose(check, quarantine) if processes.is_first() else ''
    tag = f'tl_jax/{self.directory}/choose/{next(_COUNTER)}'
    word = processes.gather(tag, word)[0]
    if not word.isdecimal():
      if word:
        raise DamagedStep(word)
      return None
    step = int(word)
    found = self._record(step)
    folder = self.directory / word
    check(found['leaves'], where=str(folder))
    state = arrays.read(folder / record.ARRAYS, found['leaves'], like)
    return Restored(step, state, found['meta'])

  def _choose(self, check, quarantine: bool) -> str:
    """The newest good step as a word, '' when there never was one, or an error.

    The error is raised by all processes. `check(leaves, where=folder)` gives the names
    of the leaves that are asked for.
    """
    # Why each step that was looked at is not used.
    passed: dict[int, str] = {}
    while True:
      remaining = [
        (step, folder) for step, folder in self._folders() if step not in passed
      ]
      step = self._newest_of(remaining, check, quarantine, passed)
      if step is not None:
        return str(step)
      # Deleted while it was read: there may be newer ones now, so look again.
      if _DELETED not in [passed.get(step) for step, _ in remaining]:
        break
    return self._why_none(passed)

  def _why_none(self, passed: dict[int, str]) -> str:
    """The error where steps were saved and none is left; '' where none ever was."""
    kept = self.directory / commit.QUARANTINE
    were_damaged = any(reason != _DELETED for reason in passed.values())
    if were_damaged or (kept.is_dir() and any(kept.iterdir())):
      reason = next(iter(passed.values()), f'see {kept}')
      return (
        f'{self.directory}: no good step is left ({reason}); start afresh in an empty '
        'workdir, or repair one'
      )
    return ''

  def _newest_of(
    self,
    folders: list[tuple[int, Path]],
    check,
    quarantine: bool,
    passed: dict[int, str],
  ) -> int | None:
    """The newest good one of these steps, or None.

    Those that are damaged are set aside, and `passed` is told why. The search ends at a
    step that was deleted meanwhile.
    """
    for step, folder in reversed(folders):
      try:
        found = self._load(folder)
        if found is None:
          continue
        names = check(found['leaves'], where=str(folder))
        self._require_good(folder, found, names)
        return step
      except DamagedStep as error:
        passed[step] = str(error)
        self._set_aside(step, folder, str(error), quarantine)
      except CheckpointError:
        # What is asked for does not fit a step that is there: the caller is wrong.
        if folder.exists():
          raise
        passed[step] = _DELETED
        return None
    return None

  def reject(self, step: int) -> None:
    """Moves a committed step that is whole, but must not be used, to quarantine."""
    folder = self.directory / str(step)
    if processes.is_first() and folder.is_dir():
      files.move_aside(folder, self.directory / commit.QUARANTINE)

  def _set_aside(self, step: int, folder: Path, reason: str, quarantine: bool) -> None:
    """Moves a damaged step to quarantine, if so told, and warns."""
    if quarantine:
      try:
        folder = files.move_aside(folder, self.directory / commit.QUARANTINE)
      except OSError as error:
        _LOG.warning(
          'step %d could not be moved to quarantine: %s', step, error.strerror
        )
    _LOG.warning('%s; it is now %s and an older step is used', reason, folder)
