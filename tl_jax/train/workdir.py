"""A run's folder while it is being written: lock, config, metrics, TensorBoard,
checkpoints.

>>> import tempfile
>>> with open_run({'seed': 1}, tempfile.mkdtemp()) as run:
...   run.write_json('result.json', {'steps': 3})
...   run.store.steps()
[]
"""

import contextlib
import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from tl_jax import checkpoint, files, interop, models, parallel, transfer
from tl_jax import config as configs
from tl_jax.checkpoint.commit import QUARANTINE
from tl_jax.checkpoint.workdir import CONFIG
from tl_jax.config import ConfigError
from tl_jax.interop import tokenizer_settings as spoken
from tl_jax.train import length, results
from tl_jax.train.board import Board
from tl_jax.train.clock import Clock
from tl_jax.train.course import Course, Watch
from tl_jax.train.loop import Recorder
from tl_jax.train.settings import Settings, usual
from tl_jax.train.tokenizing import TOKENIZER
from tl_jax.train.traces import Before

# What the starts of a run took so far; result.json has it at the end.
SECONDS = 'seconds.json'

# What may change between two starts of one run: how much is told and kept, never what
# is computed.
CHANGEABLE = (
  r'log(\..*)?',
  r'checkpoint(\..*)?',
  r'eval',
  r'eval\.(every|batches|patience)',
  r'mesh(\..*)?',
  r'sharding(_overrides)?',
  r'compute\.layers',
  r'data\.directory',
)


class Run(NamedTuple):
  """An open workdir. Every process has one; only the first holds the lock and writes.

  config: the run's config as plain JSON values; every checkpoint carries it.
  """

  path: pathlib.Path
  is_primary: bool
  workdir: checkpoint.Workdir | None
  store: checkpoint.Store
  config: dict
  clock: Clock

  def write_json(self, name: str, value: Any) -> None:
    if self.is_primary:
      self.workdir.write_json(name, value)

  def read_json(self, name: str) -> Any:
    return checkpoint.Workdir(self.path, write=False).read_json(name)

  def result(self, settings: Settings) -> dict | None:
    """What result.json holds, or None where the run of these settings is not finished.

    A finished run is never run, evaluated or written again. Where its last step is
    damaged, it is not finished, and goes on from an older one; where its steps have
    been deleted to save space, its result stays.
    """
    found = files.find_json(self.path / results.FILE)
    if found is None:
      return None
    newest, saved = self._said_by_newest('course')
    if newest is not None:
      course = Course.of(settings, (saved or {}).get('metric', ''))
      course.go_on(saved)
      is_last = newest >= self._steps(settings, newest) or bool(course.reason)
      if not is_last or self.store.verify(newest):
        return None
    elif found['trained'] and found['steps'] < (settings.schedule.steps or 0):
      raise ConfigError(
        f'config.schedule.steps: {settings.schedule.steps}, but the run there has ended '
        f'at step {found["steps"]}, and its checkpoints are gone; take another workdir'
      )
    self.clock.stop()
    return found

  def _steps(self, settings: Settings, newest: int) -> float:
    """How many steps a run of these settings has, of which the newest is committed."""
    if settings.schedule.steps is not None:
      return settings.schedule.steps
    saved = self.store.meta(newest)
    before = saved['config']['schedule']['epochs']
    # Of more epochs nobody knows yet how many they are.
    # The texts were the same, or the run could not go on.
    return saved['steps'] if before == settings.schedule.epochs else math.inf

  def finish(self, result: results.Result) -> dict:
    """Writes result.json, and takes back that an earlier start failed; returns what is
    written.
    """
    value = result.to_json()
    self.write_json(results.FILE, value)
    self.clock.stop()
    if self.is_primary:
      (self.path / results.FAILED).unlink(missing_ok=True)
    return value

  def write_account(
    self, account: transfer.Account, source: interop.Loaded | None, init: str
  ) -> None:
    """account.json: what happened to every leaf, and which step of `init` was taken."""
    step = None if source is None else source.step
    self.write_json('account.json', dict(init=init, init_step=step) | account.to_json())

  def restore_latest(self, like, arch: models.Arch):
    """The newest good checkpoint in this structure, or None; metrics after it are
    dropped.

    All processes meet before: one may prepare for long what another found ready.
    Raises ValueError where the newest is of another architecture: shapes alone do
    not tell 2 heads from 4.
    """
    parallel.meet('the prepared run')
    restored = self.store.restore_latest(like, whole=True)
    if restored is not None:
      saved = restored.meta['arch']
      where = (
        f'{self.store.directory / str(restored.step)}: saved with another architecture'
      )
      own = files.clean(dataclasses.asdict(arch))
      configs.require_same(files.clean(models.complete(saved)), own, where)
    if self.is_primary:
      self.workdir.truncate_metrics(None if restored is None else restored.step)
    return restored

  def require_files(self, files: Mapping[str, str], kind: str = 'files') -> None:
    """Raises ValueError that names a file of the user, or one of the `sets`, which the
    newest step was not trained on.

    files: the sha256 of every file that the run reads, by path, or what names the
    content of every set. Half a run on one content and half on another is neither.
    """
    step, made = self._said_by_newest(kind)
    if made is None:
      return
    for path in sorted(made.keys() | files.keys()):
      if made.get(path) != files.get(path):
        raise ConfigError(
          f'{path}: its content is not that from which step {step} was trained; a run goes '
          'on only with the same data: put it back, or take another workdir'
        )

  def require_trained_on(self, examples: str) -> None:
    """Raises ConfigError where the newest step was trained on other examples.

    examples: a digest of those that the run trains on.
    """
    step, made = self._said_by_newest('trained_on')
    if made not in (None, examples):
      raise ConfigError(
        f'config.eval.every: some examples are held out for validation where a run is '
        f'evaluated on its way, so step {step} was trained on others; take another '
        'workdir, or the old value'
      )

  def require_frame(self, frame: str) -> None:
    """Raises ConfigError where two texts of an example stand in a frame, as `frame`
    says, and the newest step was trained on them joined, by an earlier version.
    """
    step, made = self._said_by_newest('task')
    if frame and made is not None and not made.get('frame'):
      raise ConfigError(
        f'config.task.text: step {step} was trained on two texts joined into one; today '
        f'they are read as {frame}; take another workdir'
      )

  def _said_by_newest(self, key: str) -> tuple[int | None, Any]:
    """(newest step, what its checkpoint says of itself by this key), None for none."""
    step = self.store.latest()
    return step, None if step is None else self.store.meta(step).get(key)

  def recorder(
    self, settings: Settings, watch: Watch, course: Course, meta: dict
  ) -> Recorder:
    """Where the loop leaves its figures: metrics.jsonl, TensorBoard beside it,
    checkpoints that carry `meta`.

    watch: how a state is measured in the midst of a run; the course takes what is found.
    """
    board = None
    if self.is_primary and settings.log.tensorboard:
      board = Board(self.path / 'tensorboard')

    def record(row: dict) -> None:
      if self.is_primary:
        self.workdir.append_metrics(row)
      figures = dict(row)
      step = figures.pop('step')
      if board is not None:
        board.draw(step, figures)

    def save(step: int, state) -> None:
      said = meta | course.to_json() | dict(next_batch=step, config=self.config)
      # That a run is over may be known only after its last step was saved.
      again = bool(course.reason) and self.store.latest() == step
      self.store.save(step, state, said, replace=again, pinned=course.pinned)
      # A run that goes on from this step counts the seconds up to it.
      self.clock.keep(now=True)

    def evaluated(step: int, state) -> dict[str, float]:
      # Before: what a point of the curve cost, not what it took to measure.
      trained = self.clock.totals()['training_seconds']
      values = watch.measure(state)
      course.add(step, values)
      named = {f'{watch.split}/{name}': value for name, value in values.items()}
      if self.is_primary:
        self.workdir.append_evaluation(dict(step=step, seconds=trained, **named))
      if board is not None:
        board.draw(step, named)
      return named

    return Recorder(record, save, evaluated, self.clock, course)


def require_config_of_steps(store: checkpoint.Store, config: dict) -> None:
  """Raises ValueError that names what differs from the config that saved the newest
  step.
  """
  step = store.latest()
  made = None if step is None else store.meta(step).get('config')
  if made is not None:
    length.require_no_shorter(made, config)
    where = f'{store.directory / str(step)}: saved by a run with another config'
    allowed = CHANGEABLE + length.may_change(made, config)
    configs.require_same(made, config, where, allowed, usual())


def forget_false_start(path: pathlib.Path, store: checkpoint.Store) -> None:
  """Takes back what a start left that came to nothing: no step was saved, no result
  written.

  Another config takes the place of its config.json, for the command that was corrected
  must run. Its tokenizer goes in any case: it may have been trained on texts that were
  corrected.
  """
  quarantine = store.directory / QUARANTINE
  saved = store.latest() is not None or (
    quarantine.is_dir() and any(quarantine.iterdir())
  )
  before = files.find_json(path / CONFIG)
  if (
    saved or (path / results.FILE).exists() or before is None or 'config' not in before
  ):
    return
  for name in (
    CONFIG,
    TOKENIZER,
    spoken.CONFIG,
    spoken.MAP,
    spoken.ADDED,
    spoken.TEMPLATE,
  ):
    (path / name).unlink(missing_ok=True)


@contextlib.contextmanager
def open_run(config, path) -> Iterator[Run]:
  """Takes the workdir, binds its config, and never leaves with a save in flight.

  Raises ValueError for a path or config that cannot be, WorkdirBusy, SaveFailed. The
  other processes hear of what is raised here, instead of waiting for this one.
  """
  parallel.start()
  with parallel.telling_failures(), _opened(config, path) as run:
    yield run


def require_same_command(path, what: Any) -> None:
  """Raises ValueError, in every process, where one has another workdir or makes another
  run.

  A launcher may have started several processes for a run each. They must not be taken
  for one run, whose states would not be those of any.

  Args:
    path: the workdir, of which the name counts: machines may mount it in other places.
    what: the config of the run, or what else is asked for.
  """
  own = dict(workdir=pathlib.Path(path).absolute().name, config=files.clean(what))
  words = parallel.meet('the start', files.encode(own))
  first = files.decode(words[0])
  for rank, word in sorted(words.items()):
    differ = configs.compare(first, files.decode(word))
    if differ:
      raise ValueError(
        f'process {rank} does not make the run of process 0: '
        f'{"; ".join(differ.values())}. Processes that run together need the same '
        f'command; JAX_NUM_PROCESSES=1 lets each run alone'
      )


@contextlib.contextmanager
def _opened(config, path) -> Iterator[Run]:
  # What the workdir refuses is refused before a device is touched; alone, a process is
  # the first.
  is_primary = not jax.distributed.is_initialized() or jax.process_index() == 0
  bound = configs.to_json(config)
  require_same_command(path, bound)
  before = Before.of(path) if is_primary else None
  workdir = None
  try:
    workdir = checkpoint.Workdir(path) if is_primary else None
    with _prepared(workdir, pathlib.Path(path), config, bound) as run:
      yield run
  except ValueError:
    # Whoever mends the command finds the folder as if this one had not been given.
    if before is not None:
      before.bring_back()
    raise
  finally:
    if workdir is not None:
      workdir.close()
    if before is not None:
      before.drop_empty_folders()


@contextlib.contextmanager
def _prepared(
  workdir: checkpoint.Workdir | None, path: pathlib.Path, config, bound: dict
) -> Iterator[Run]:
  """The run of a config, bound to the workdir, which only the first process has."""
  keep = configs.plain(config).get('checkpoint', {}).get('keep', 3)
  store = checkpoint.Store(path / 'checkpoints', keep=keep)
  # Before config.json is written: in a copy without one, the steps alone know.
  require_config_of_steps(store, bound)
  is_primary = workdir is not None
  if is_primary:
    forget_false_start(workdir.path, store)
    found = files.find_json(workdir.path / CONFIG) or {}
    before = found.get('config', bound)
    length.require_no_shorter(before, bound)
    allowed = CHANGEABLE + length.may_change(before, bound)
    workdir.bind_config(bound, allowed, usual())
  # The others read no tokenizer of a false start.
  parallel.meet('the workdir')
  parallel.keep_freed_memory()
  store.prepare()
  write = functools.partial(workdir.write_json, SECONDS) if is_primary else None
  clock = Clock(files.find_json(path / SECONDS), write)
  try:
    with parallel.Watchdog(path):
      yield Run(path, is_primary, workdir, store, bound, clock)
  finally:
    clock.keep(now=True)
    store.wait()
