"""Standard output closed, full, or read by nobody: the process ends as if it had been
read.
"""

import os
import pathlib
import pty
import re
import subprocess
import sys
import time

import pytest

from tl_jax.cli import console

ROOT = pathlib.Path(__file__).resolve().parents[2]
TALK = """
import sys
from tl_jax.cli import console
console.PATIENCE = 0.2
console.open_outlets()
for _ in range({lines}):
  console.say('x' * 100)
console.complain('end')
open(sys.argv[1], 'w').write('finished')
"""


def talk(path, lines, shell):
  command = f'"{sys.executable}" -c "$TALK" "{path}" {shell}'
  environment = {
    **os.environ,
    'PYTHONPATH': str(ROOT),
    'TALK': TALK.format(lines=lines),
  }
  return subprocess.run(
    ['bash', '-c', f'set -o pipefail; {command}'],
    env=environment,
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )


@pytest.mark.parametrize(
  'shell',
  [
    '>&-',
    '>/dev/full',
    '| head -n 1',
    '| true',
    '>&- 2>&-',
    '>/dev/full 2>/dev/full',
    '<&-',
    '| sleep 3',
  ],
)
def test_nothing_that_happens_to_the_output_ends_the_run(tmp_path, shell):
  done = talk(tmp_path / 'file', 5000, shell)
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'file').read_text() == 'finished'
  assert 'Error' not in done.stderr


def test_all_is_written_to_one_who_reads(tmp_path):
  done = talk(tmp_path / 'file', 3000, '| cat')
  assert done.stdout == ('x' * 100 + '\n') * 3000 and done.stderr == 'end\n'


def test_a_stalled_pipe_takes_what_fits_and_no_more_time(monkeypatch):
  monkeypatch.setattr(console, 'PATIENCE', 0.05)
  read, write = os.pipe()
  outlet = console.Outlet(write)
  for _ in range(100):
    assert outlet.write(b'y' * 5000) == 5000
  assert outlet.patience == 0.0
  assert set(os.read(read, 1 << 20)) == {ord('y')}
  outlet.write(b'z')
  assert os.read(read, 1 << 20).endswith(b'z')
  os.close(read)
  os.close(write)
  assert outlet.write(b'y') == 1


def test_the_time_left_is_of_the_work_that_is_left(monkeypatch, capsys):
  """A third of the work in half of the steps leaves twice the time."""
  now = [100.0]
  monkeypatch.setattr(console.time, 'monotonic', lambda: now[0])
  screen = console.Screen()
  screen.progress('pretrain', 0, 10, share=0.0)
  now[0] = 130.0
  screen.progress('pretrain', 5, 10, share=1 / 3, loss=2.0)
  screen.progress('even', 0, 10)
  now[0] = 160.0
  screen.progress('even', 5, 10)
  lines = capsys.readouterr().out.splitlines()
  assert lines[1] == 'pretrain 5/10  loss 2  60 s left'
  assert lines[3].split() == ['even', '5/10', '30', 's', 'left']


LIVE = """
import sys, time
from tl_jax.cli import console
try:
  with console.Screen() as screen:
    with screen.busy('compiling the step'):
      time.sleep(0.6)
    screen.progress('pretrain', 1, 10, loss=2.5)
    time.sleep(0.3)
    raise ValueError('the data ended')
except ValueError as error:
  console.complain(f'error: {error}')
print('last line')
"""


def on_a_terminal(script):
  """What a script writes to a terminal of 80 columns, with its control sequences."""
  main, terminal = pty.openpty()
  environment = {
    **os.environ,
    'PYTHONPATH': str(ROOT),
    'TERM': 'xterm',
    'COLUMNS': '80',
  }
  process = subprocess.Popen(
    [sys.executable, '-c', script],
    stdout=terminal,
    stderr=terminal,
    stdin=terminal,
    env=environment,
  )
  os.close(terminal)
  written = b''
  while True:
    try:
      part = os.read(main, 1 << 16)
    except OSError:
      # Linux says so when the other side has closed.
      break
    if not part:
      break
    written += part
  process.wait(timeout=60)
  os.close(main)
  return written.decode()


def test_the_bar_is_closed_before_an_error_is_said():
  written = on_a_terminal(LIVE)
  shown = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', written)
  assert re.search(r'compiling the step\s+0:00:00', shown)
  lines = [line.strip() for line in re.split(r'[\r\n]+', shown) if line.strip()]
  assert lines[-2:] == ['error: the data ended', 'last line']
  assert lines[-3].startswith('pretrain') and '1/10' in lines[-3]
  # Nothing is drawn, erased or hidden after the error.
  assert '\x1b' not in written[written.index('error:') :]


def test_work_without_a_measure_is_told_again_while_it_lasts(monkeypatch, capsys):
  monkeypatch.setattr(console, 'SILENCE', 0.05)
  said = ''
  with console.Screen() as screen, screen.busy('compiling'):
    # On a busy machine the lines come late, but they come.
    deadline = time.monotonic() + 60
    while said.count('\n') < 3 and time.monotonic() < deadline:
      time.sleep(0.05)
      said += capsys.readouterr().out
  first, *again = said.splitlines()
  assert first == 'compiling ...'
  assert len(again) >= 2
  assert all(re.fullmatch(r'compiling: \d+ s so far', line) for line in again)
