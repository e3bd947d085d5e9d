"""CI's parts of the slow tests: whole files, every file once, of about the same length."""

import pathlib
import subprocess
import sys

import parts

TESTS = pathlib.Path(__file__).parent


def test_every_file_is_in_exactly_one_part_whatever_the_order():
  files = [*parts.SECONDS, *(f'room/test_{number}.py' for number in range(30))]
  dealt = parts.deal(files, 3)
  assert sorted(sum(dealt, [])) == sorted(files)
  assert parts.deal(reversed(files), 3) == dealt


def test_parts_take_about_the_same_time():
  files = [*parts.SECONDS, *(f'room/test_{number}.py' for number in range(30))]
  totals = [sum(map(parts._seconds, part)) for part in parts.deal(files, 3)]
  assert max(totals) - min(totals) <= parts.OTHERS


def test_the_files_with_a_time_of_their_own_exist():
  assert [file for file in parts.SECONDS if not (TESTS / file).is_file()] == []


def test_a_part_has_its_files_and_what_starts_too_late_is_counted_by_file():
  files = [TESTS / 'test_parts.py', TESTS / 'test_rng.py']
  options = ['-n', '0', '-p', 'no:cacheprovider', '--part=1/2', '--minutes=0']
  command = [sys.executable, '-m', 'pytest', *options, *map(str, files)]
  done = subprocess.run(
    command, cwd=TESTS.parent, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stdout
  assert 'test_rng.py: not started within 0 minutes' in done.stdout
  assert 'test_parts.py: not started' not in done.stdout
