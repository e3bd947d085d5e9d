"""A run's folder while it is being written: lock, config, metrics, TensorBoard, checkpoints.

>>> import tempfile
>>> with open_run({'seed': 1}, tempfile.mkdtemp()) as run:
...   run.write_json('result.json', {'steps': 3})
...   run.store.steps()
[]
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from tl_jax import checkpoint, parallel
from tl_jax import config as configs
from tl_jax.train.loop import Recorder
from tl_jax.train.settings import Settings

# What may change between two starts of one run: how much is told and kept, never what is computed.
CHANGEABLE = (r'log(\..*)?', r'checkpoint(\..*)?', r'eval(\..*)?', r'mesh(\..*)?', r'sharding', r'data\.directory')


class Run(NamedTuple):
  """An open workdir. Every process has one; only the first holds the lock and writes."""
  path: pathlib.Path
  first: bool
  workdir: checkpoint.Workdir | None
  store: checkpoint.Store

  def write_json(self, name: str, value: Any) -> None:
    if self.first:
      self.workdir.write_json(name, value)

  def read_json(self, name: str) -> Any:
    return checkpoint.Workdir(self.path, write=False).read_json(name)

  def restore_latest(self, like):
    """The newest good checkpoint in this structure, or None; metrics after it are dropped."""
    restored = self.store.restore_latest(like)
    if self.first:
      self.workdir.truncate_metrics(None if restored is None else restored.step)
    return restored

  def recorder(self, settings: Settings, evaluate: Callable, meta: dict) -> Recorder:
    """Where the loop leaves its figures: metrics.jsonl, TensorBoard beside it, checkpoints that carry `meta`."""
    board = None
    if self.first and settings.log.tensorboard:
      import tensorboardX
      board = tensorboardX.SummaryWriter(str(self.path / 'tensorboard'))

    def record(row: dict) -> None:
      if self.first:
        self.workdir.append_metrics(row)
      if board is not None:
        for name, value in row.items():
          if name != 'step':
            board.add_scalar(name, value, row['step'])
        board.flush()

    def save(step: int, state) -> None:
      self.store.save(step, state, meta | dict(next_batch=step))

    def evaluated(step: int, state) -> dict:
      values = evaluate(state)
      if self.first:
        self.workdir.append_evaluation(dict(step=step, **{f'test/{name}': value for name, value in values.items()}))
      if board is not None:
        for name, value in values.items():
          board.add_scalar(f'test/{name}', value, step)
      return values
    return Recorder(record, save, evaluated)


@contextlib.contextmanager
def open_run(config, path) -> Iterator[Run]:
  """Takes the workdir, binds its config, and never leaves with a save in flight.

  Raises ValueError for a path or config that cannot be, WorkdirBusy, SaveFailed.
  """
  parallel.start()
  parallel.keep_freed_memory()
  path, first = pathlib.Path(path), jax.process_index() == 0
  workdir = checkpoint.Workdir(path) if first else None
  try:
    if first:
      workdir.bind_config(configs.to_json(config), CHANGEABLE)
    keep = configs.plain(config).get('checkpoint', {}).get('keep', 3)
    store = checkpoint.Store(path / 'checkpoints', keep=keep)
    store.prepare()
    try:
      yield Run(path, first, workdir, store)
    finally:
      store.wait()
  finally:
    if workdir is not None:
      workdir.close()
