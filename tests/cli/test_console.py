"""Standard output closed, full, or read by nobody: the process ends as if it had been read."""

import os
import pathlib
import subprocess
import sys

import pytest

from tl_jax.cli import console

ROOT = pathlib.Path(__file__).resolve().parents[2]
TALK = '''
import sys
from tl_jax.cli import console
console.PATIENCE = 0.2
console.open_outlets()
for _ in range({lines}):
  console.say('x' * 100)
console.complain('end')
open(sys.argv[1], 'w').write('finished')
'''


def talk(path, lines, shell):
  command = f'"{sys.executable}" -c "$TALK" "{path}" {shell}'
  environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'TALK': TALK.format(lines=lines)}
  return subprocess.run(['bash', '-c', f'set -o pipefail; {command}'], env=environment, capture_output=True, text=True,
                        timeout=60, check=False)


@pytest.mark.parametrize('shell', ['>&-', '>/dev/full', '| head -n 1', '| true', '>&- 2>&-', '>/dev/full 2>/dev/full',
                                   '<&-', '| sleep 3'])
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
