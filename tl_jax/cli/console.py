"""Standard output and error as best effort: a closed, full or stalled pipe never ends a
run.

>>> say('step 1', 'loss 2.0')
step 1 loss 2.0
"""

import contextlib
import io
import os
import select
import sys
import threading
import time
from collections.abc import Iterator

PATIENCE = 10.0
PAUSE = 2.0
# So long is work silent that cannot say how far it has come, where nothing moves on the
# screen.
SILENCE = 30.0


class Outlet(io.RawIOBase):
  """Writes to a file descriptor; what cannot be written, or not within `PATIENCE`
  seconds, is dropped.
  """

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
        os.write(self.descriptor, data[start : start + select.PIPE_BUF])
    except (OSError, ValueError):
      # Nobody listens any more: a full device, a closed pipe. The run goes on.
      return len(data)
    return len(data)


def open_outlets() -> None:
  """Makes sys.stdout and sys.stderr best effort, and keeps descriptors 0 to 2 from
  being taken by other files.
  """
  descriptor = os.open(os.devnull, os.O_RDWR)
  while descriptor <= 2:
    descriptor = os.open(os.devnull, os.O_RDWR)
  os.close(descriptor)
  for number, name in ((1, 'stdout'), (2, 'stderr')):
    writer = io.BufferedWriter(Outlet(number))
    setattr(
      sys,
      name,
      io.TextIOWrapper(
        writer, encoding='utf-8', errors='backslashreplace', line_buffering=True
      ),
    )


def say(*words) -> None:
  """Prints one line to the user."""
  print(*words, flush=True)


def complain(message: str) -> None:
  """Prints one line to standard error."""
  print(' '.join(str(message).split()), file=sys.stderr, flush=True)


class Screen:
  """What a person sees of a run: lines of text, and a bar with figures and the time
  left.

  On a terminal the bar is live; elsewhere a line is printed at most once in `PAUSE`
  seconds, and at the end of work. Leaving its context takes the bar away, so that an
  error stands on a line of its own.

  >>> screen = Screen()
  >>> screen.progress('pretrain', 1, 10, loss=2.5); screen.progress('pretrain', 2, 10)
  pretrain 1/10  loss 2.5
  >>> screen.progress('pretrain', 10, 10, loss=1.0)
  pretrain 10/10  loss 1
  """

  def __init__(self):
    self._title, self._then, self._began, self._first = '', 0.0, 0.0, 0
    self._bar, self._task = None, None

  def __enter__(self) -> 'Screen':
    return self

  def __exit__(self, *_) -> None:
    self._close()

  @contextlib.contextmanager
  def busy(self, text: str) -> Iterator[None]:
    """Says what is being done and for how long, while it is done."""
    self._close()
    showing = self._spin(text) if sys.stdout.isatty() else self._remind(text)
    with showing:
      yield

  @contextlib.contextmanager
  def _spin(self, text: str) -> Iterator[None]:
    """A spinner with the time that has passed; it is gone when the work is done."""
    from rich import progress

    columns = (
      progress.SpinnerColumn(),
      progress.TextColumn('{task.description}'),
      progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, transient=True, refresh_per_second=4) as spinner:
      spinner.add_task(text, total=None)
      yield

  @contextlib.contextmanager
  def _remind(self, text: str) -> Iterator[None]:
    """A line at once, and another after every `SILENCE` seconds."""
    say(f'{text} ...')
    began, done = time.monotonic(), threading.Event()

    def remind():
      while not done.wait(SILENCE):
        say(f'{text}: {_duration(time.monotonic() - began)} so far')

    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
      yield
    finally:
      done.set()
      reminder.join()

  def say(self, text: str) -> None:
    """One line, above the bar where there is one."""
    if self._bar is None:
      say(text)
    else:
      self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

  def progress(self, title: str, done: int, total: int, **figures) -> None:
    """How far the work `title` has come, with the newest figures."""
    if title != self._title or done < self._first:
      self._close()
      self._title, self._then, self._began, self._first = (
        title,
        0.0,
        time.monotonic(),
        done,
      )
    if sys.stdout.isatty():
      self._draw(title, done, total, figures)
    else:
      self._print(title, done, total, figures)
    if done == total:
      self._close()

  def _print(self, title, done, total, figures) -> None:
    now = time.monotonic()
    if done != total and now - self._then < PAUSE:
      return
    self._then, passed = now, done - self._first
    left = (
      f'  {_duration((now - self._began) * (total - done) / passed)} left'
      if passed > 0 and done < total
      else ''
    )
    say(
      f'{title} {done}/{total} ',
      ' '.join(f'{name} {_figure(value)}' for name, value in figures.items()) + left,
    )

  def _draw(self, title, done, total, figures) -> None:
    if self._bar is None:
      from rich import progress

      self._bar = progress.Progress(
        progress.TextColumn('{task.description}'),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn('{task.fields[figures]}'),
        progress.TimeElapsedColumn(),
        progress.TextColumn('left'),
        progress.TimeRemainingColumn(),
        refresh_per_second=4,
      )
      self._task = self._bar.add_task(title, total=total, figures='', completed=done)
      self._bar.start()
    text = '  '.join(
      f'{name.replace("_", " ")} {_figure(value)}' for name, value in figures.items()
    )
    self._bar.update(self._task, completed=done, **({'figures': text} if text else {}))

  def _close(self) -> None:
    if self._bar is not None:
      self._bar.stop()
    self._bar, self._title = None, ''


def _duration(seconds: float) -> str:
  """A time a person reads: 45 s, 3 min, 2.5 h."""
  if seconds < 90:
    return f'{seconds:.0f} s'
  return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'


def _figure(value) -> str:
  try:
    return f'{float(value):.4g}'
  except (TypeError, ValueError):
    return str(value)
