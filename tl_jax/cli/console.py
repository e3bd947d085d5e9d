"""Standard output and error as best effort: a closed, full or stalled pipe never ends a
run.

>>> say('step 1', 'loss 2.0')
step 1 loss 2.0
"""

import contextlib
import io
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Iterator, Sequence

# Seconds that a stalled pipe may hold up a write.
PATIENCE = 10.0
# Seconds between two lines of progress where there is no terminal.
PAUSE = 2.0
# Seconds between two lines about work that cannot say how far it has come.
SILENCE = 30.0


class Outlet(io.RawIOBase):
  """Writes to a file descriptor, and drops what cannot be written in `PATIENCE`
  seconds.

  So a reader that is gone or asleep costs a run some lines of output, never the run.
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
    # A copy: the buffer behind a memoryview is used again.
    data = bytes(data)
    try:
      for start in range(0, len(data), select.PIPE_BUF):
        # A pipe that select calls writable takes PIPE_BUF bytes without blocking.
        if not select.select([], [self.descriptor], [], self.patience)[1]:
          # Wait once for a reader, not for every line that follows.
          self.patience = 0.0
          break
        self.patience = PATIENCE
        os.write(self.descriptor, data[start : start + select.PIPE_BUF])
    except (OSError, ValueError):
      # Nobody listens any more: a full device, a closed pipe. The run goes on.
      return len(data)
    return len(data)


def open_outlets() -> None:
  """Makes sys.stdout and sys.stderr best effort.

  Descriptors 0 to 2 that are closed are opened on /dev/null, so that no file of the run
  gets one of these numbers and then the output of a library.
  """
  descriptor = os.open(os.devnull, os.O_RDWR)
  while descriptor <= 2:
    descriptor = os.open(os.devnull, os.O_RDWR)
  # The last one is above 2: it was only the proof that these are taken.
  os.close(descriptor)
  sys.stdout = _open_text(1)
  sys.stderr = _open_text(2)


def _open_text(descriptor: int) -> io.TextIOWrapper:
  writer = io.BufferedWriter(Outlet(descriptor))
  # UTF-8 whatever the locale says: a progress bar is no ASCII. A lone surrogate, as in
  # the name of a file, is spelled out instead of ending the run.
  return io.TextIOWrapper(
    writer, encoding='utf-8', errors='backslashreplace', line_buffering=True
  )


def say(*words) -> None:
  """Prints one line to the user."""
  print(*words, flush=True)


def complain(message: str) -> None:
  """Prints one line to standard error."""
  # One line also for an error of a library that writes many.
  print(' '.join(str(message).split()), file=sys.stderr, flush=True)


class Notices(logging.Handler):
  """Says what the library logs as a line of the command.

  Whoever runs a verb did not ask which module warns, nor how grave it thinks that is.
  """

  def emit(self, record: logging.LogRecord) -> None:
    complain(record.getMessage())


@contextlib.contextmanager
def notices() -> Iterator[None]:
  """Lets the warnings of the library reach standard error as lines of the command."""
  logger = logging.getLogger('tl_jax')
  handler = Notices(logging.WARNING)
  logger.addHandler(handler)
  # Handlers above, such as the one that absl sets up, would say it once more.
  before = logger.propagate
  logger.propagate = False
  try:
    yield
  finally:
    logger.propagate = before
    logger.removeHandler(handler)


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
    self._title = ''
    # When a line was last printed and when the work began, by the monotonic clock.
    self._then = 0.0
    self._began = 0.0
    # Where the work began, in steps and as a share: a resumed run does not begin at 0.
    self._first = 0
    self._first_share = 0.0
    self._bar = None
    self._task = None

  def __enter__(self) -> 'Screen':
    return self

  def __exit__(self, *_) -> None:
    self._close()

  @contextlib.contextmanager
  def busy(self, text: str) -> Iterator[None]:
    """Says what is being done and for how long, while it is done."""
    # A bar and a spinner would draw over each other.
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
    began = time.monotonic()
    done = threading.Event()

    def remind():
      while not done.wait(SILENCE):
        say(f'{text}: {_duration(time.monotonic() - began)} so far')

    # A daemon, so that it does not keep a process alive that is ending by an error.
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
      # No markup: brackets in a text are brackets.
      self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

  def progress(
    self, title: str, done: int, total: int, share: float | None = None, **figures
  ) -> None:
    """How far the work `title` has come, with the newest figures.

    share: which part of the work that is, where its steps are not alike.
    """
    if share is None:
      share = done / total if total else 1.0
    # Steps that go back are the next run of a table, under the same title.
    if title != self._title or done < self._first:
      self._close()
      self._title = title
      self._then = 0.0
      self._began = time.monotonic()
      self._first = done
      self._first_share = share
    counted = f'{done}/{total}'
    if sys.stdout.isatty():
      self._draw(title, counted, share, figures)
    elif done == total or time.monotonic() - self._then >= PAUSE:
      self._print(title, counted, share, figures)
    if done == total:
      self._close()

  def _print(self, title: str, counted: str, share: float, figures: dict) -> None:
    """One line of progress."""
    self._then = time.monotonic()
    shown = [f'{name} {_figure(value)}' for name, value in figures.items()]
    text = ' '.join(shown) + self._left(share)
    say(f'{title} {counted} ', text)

  def _left(self, share: float) -> str:
    """The time left at the pace so far; '' at the beginning and at the end."""
    passed = share - self._first_share
    if passed <= 0 or share >= 1:
      return ''
    seconds = (time.monotonic() - self._began) * (1 - share) / passed
    return f'  {_duration(seconds)} left'

  def _draw(self, title: str, counted: str, share: float, figures: dict) -> None:
    """The live bar, opened at the first call."""
    if self._bar is None:
      # Slow to import, and not needed where there is no terminal.
      from rich import progress

      self._bar = progress.Progress(
        progress.TextColumn('{task.description}'),
        progress.BarColumn(),
        progress.TextColumn('{task.fields[counted]}'),
        progress.TextColumn('{task.fields[figures]}'),
        progress.TimeElapsedColumn(),
        progress.TextColumn('left'),
        progress.TimeRemainingColumn(),
        refresh_per_second=4,
      )
      begin = dict(figures='', counted=counted, completed=share)
      self._task = self._bar.add_task(title, total=1.0, **begin)
      self._bar.start()
    shown = []
    for name, value in figures.items():
      shown.append(f'{name.replace("_", " ")} {_figure(value)}')
    # A step without figures leaves those of the step before it on the screen.
    fields = {'figures': '  '.join(shown)} if shown else {}
    self._bar.update(self._task, completed=share, counted=counted, **fields)

  def _close(self) -> None:
    if self._bar is not None:
      self._bar.stop()
    self._bar = None
    self._title = ''


def _duration(seconds: float) -> str:
  """A time a person reads: 45 s, 3 min, 2.5 h."""
  if seconds < 90:
    return f'{seconds:.0f} s'
  if seconds < 5400:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3600:.1f} h'


def _figure(value) -> str:
  """A number with four digits; anything else, such as a word, as it is."""
  try:
    return f'{float(value):.4g}'
  except (TypeError, ValueError):
    return str(value)


@contextlib.contextmanager
def reporting():
  """What a run tells goes to the screen; afterwards, also after an error, no bar is
  left on it.
  """
  from tl_jax import train

  # The library prints nothing: it tells, and only the command line has a screen.
  with Screen() as screen:
    yield train.Reporter(screen.say, screen.progress, screen.busy)


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
  """The lines of a table whose columns stand below each other.

  >>> in_columns([['', 'now'], ['TF-IDF', '0.5']])
  ['        now', 'TF-IDF  0.5']
  """
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = []
  for row in rows:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    lines.append('  '.join(cells).rstrip())
  return lines
