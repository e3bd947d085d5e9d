"""The watchdog: what hangs is told of once, with the stacks; what goes on never is."""

import pathlib
import socket
import threading
import time

import pytest

from tl_jax.parallel import watching
from tl_jax.parallel.watching import Watchdog, current, during, enter, limit_of, rest


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
  """A process that has done nothing yet, with times that a test can wait for."""
  monkeypatch.setattr(watching, '_course', watching._Course())
  monkeypatch.setattr(watching, 'LEAST_SECONDS', 300)


def stacks_in(folder):
  return [path.read_text() for path in sorted(folder.glob('stacks-*.txt'))]


def test_what_hangs_is_told_of_once_with_its_stacks(tmp_path, caplog):
  dog = Watchdog(tmp_path)
  for _ in range(5):
    enter('step', 'step 7')
  enter('step', 'step 8')
  dog.look(0.0)
  dog.look(299.0)
  assert not stacks_in(tmp_path)
  dog.look(2.0)
  dog.look(1000.0)
  (text,) = stacks_in(tmp_path)
  assert text.count('step 8 has taken 301 s') == 1
  assert f'the only process on {socket.gethostname()}' in text
  assert 'test_what_hangs_is_told_of_once_with_its_stacks' in text
  (line,) = caplog.messages
  assert 'step 8 has taken 301 s' in line and 'waits for the devices' in line
  assert str(tmp_path) in line and '\n' not in line


def test_the_file_gets_more_of_them(tmp_path):
  dog = Watchdog(tmp_path)
  for what in ('the checkpoint of step 3', 'the checkpoint of step 4'):
    with during('save', what):
      dog.look(0.0)
      dog.look(2000.0)
  (text,) = stacks_in(tmp_path)
  assert 'checkpoint of step 3' in text and 'checkpoint of step 4' in text


def test_what_goes_on_is_never_told_of(tmp_path):
  dog = Watchdog(tmp_path)
  for number in range(1000):
    enter('step', f'step {number}')
    dog.look(200.0)
  rest()
  dog.look(0.0)
  dog.look(10_000.0)
  assert not stacks_in(tmp_path)


def test_slow_steps_have_more_time(monkeypatch):
  ticks = iter([0.0, 40.0, 90.0, 130.0, 180.0])
  monkeypatch.setattr(watching.time, 'monotonic', lambda: next(ticks))
  assert limit_of('step') == watching.FIRST_SECONDS
  for number in range(5):
    enter('step', f'step {number}')
  # 40, 50, 40 and 50 seconds
  assert limit_of('step') == watching.TIMES * 45
  assert limit_of('save') == watching.FIRST_SECONDS


def test_what_is_inside_has_a_time_of_its_own(tmp_path):
  dog = Watchdog(tmp_path)
  enter('step', 'step 3')
  dog.look(0.0)
  dog.look(1700.0)
  with during('evaluation', 'the evaluation of step 3'):
    dog.look(0.0)
    dog.look(1700.0)
    assert current().what == 'the evaluation of step 3'
  assert current().what == 'step 3'
  dog.look(1700.0)
  dog.look(0.0)
  assert not stacks_in(tmp_path)


def test_the_thread_looks_and_ends(tmp_path, monkeypatch):
  monkeypatch.setattr(watching, 'LOOK_SECONDS', 0.02)
  monkeypatch.setattr(watching, 'LEAST_SECONDS', 0.1)
  monkeypatch.setattr(watching, 'FIRST_SECONDS', 0.1)
  with Watchdog(tmp_path), Watchdog(tmp_path / 'of a member'):
    names = [thread.name for thread in threading.enumerate()]
    assert names.count('watchdog') == 1
    enter('rows', 'the rows of step 1')
    until = time.monotonic() + 10
    while not stacks_in(tmp_path) and time.monotonic() < until:
      time.sleep(0.02)
  (text,) = stacks_in(tmp_path)
  assert 'the rows of step 1' in text and 'waits for the threads that read' in text
  assert current() is None
  assert 'watchdog' not in [thread.name for thread in threading.enumerate()]


def test_a_process_that_was_suspended_did_not_hang(tmp_path, monkeypatch):
  """The clock went on, but the thread that looks slept as well."""
  monkeypatch.setattr(watching, 'LOOK_SECONDS', 0.01)
  dog = Watchdog(tmp_path)
  passed = []
  monkeypatch.setattr(dog, 'look', passed.append)
  ticks = iter([0.0, 0.01, 5000.0])
  monkeypatch.setattr(watching.time, 'monotonic', lambda: next(ticks))
  waits = iter([False, False, True])
  monkeypatch.setattr(dog._ended, 'wait', lambda seconds: next(waits))
  dog._watch()
  assert passed == [0.01, 0.02]


def test_a_folder_that_cannot_be_written_stops_nothing(caplog):
  dog = Watchdog(pathlib.Path('/no/such/folder'))
  enter('save', 'the checkpoint of step 2')
  dog.look(0.0)
  dog.look(5000.0)
  assert 'has taken 5000 s' in caplog.text and 'could not be written' in caplog.text


def test_it_costs_a_step_next_to_nothing():
  began = time.perf_counter()
  for number in range(10_000):
    enter('step', f'step {number}')
  assert (time.perf_counter() - began) / 10_000 < 50e-6
