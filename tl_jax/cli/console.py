"""Standard output and error as best effort: a closed, full or stalled pipe never ends a run.

>>> say('step 1', 'loss 2.0')
step 1 loss 2.0
"""

import io
import os
import select
import sys
import time

PATIENCE = 10.0
PAUSE = 2.0


class Outlet(io.RawIOBase):
  """Writes to a file descriptor; what cannot be written, or not within `PATIENCE` seconds, is dropped."""

  def __init__(self, descriptor: int):
    super().__init__()
    self.descriptor, self.patience = descriptor, PATIENCE

  def writable(self) -> bool:
    return True

  def fileno(self) -> int:
    return self.descriptor

  def isatty(self) -> bool:
    return os.isatty(self.descriptor)

  def write(self, data) -> int:
    data = bytes(data)
    try:
      for start in range(0, len(data), select.PIPE_BUF):
        # A pipe that select calls writable takes PIPE_BUF bytes without blocking.
        if not select.select([], [self.descriptor], [], self.patience)[1]:
          self.patience = 0.0
          break
        self.patience = PATIENCE
        os.write(self.descriptor, data[start:start + select.PIPE_BUF])
    except (OSError, ValueError):
      # Nobody listens any more: a full device, a closed pipe. The run goes on.
      return len(data)
    return len(data)


def open_outlets() -> None:
  """Makes sys.stdout and sys.stderr best effort, and keeps descriptors 0 to 2 from being taken by other files."""
  descriptor = os.open(os.devnull, os.O_RDWR)
  while descriptor <= 2:
    descriptor = os.open(os.devnull, os.O_RDWR)
  os.close(descriptor)
  for number, name in ((1, 'stdout'), (2, 'stderr')):
    writer = io.BufferedWriter(Outlet(number))
    setattr(sys, name, io.TextIOWrapper(writer, encoding='utf-8', errors='backslashreplace', line_buffering=True))


def say(*words) -> None:
  """Prints one line to the user."""
  print(*words, flush=True)


def complain(message: str) -> None:
  """Prints one line to standard error."""
  print(' '.join(str(message).split()), file=sys.stderr, flush=True)


class Progress:
  """Prints how far long work has come, at most once in `PAUSE` seconds for one title, and always its end.

  >>> progress = Progress()
  >>> progress('pretrain', 1, 10, loss=2.5); progress('pretrain', 2, 10)
  pretrain 1/10  loss 2.5
  >>> progress('pretrain', 10, 10, loss=1.0)
  pretrain 10/10  loss 1
  """

  def __init__(self):
    self._title, self._then = '', 0.0

  def __call__(self, title: str, done: int, total: int, **figures) -> None:
    now = time.monotonic()
    if title == self._title and done != total and now - self._then < PAUSE:
      return
    self._title, self._then = title, now
    say(f'{title} {done}/{total} ', ' '.join(f'{name} {_figure(value)}' for name, value in figures.items()))


def _figure(value) -> str:
  try:
    return f'{float(value):.4g}'
  except (TypeError, ValueError):
    return str(value)
