"""What becomes of a sweep when members and processes end in all the ways they can."""

import os
import pathlib
import signal
import sys
import threading

import pytest

from tl_jax import checkpoint, files
from tl_jax.scale import ledger as ledgers
from tl_jax.scale import members, processes, scheduling, space, sweep
from tl_jax.scale.ledger import Ledger
from tl_jax.scale.processes import folder_of

WORKER = pathlib.Path(__file__).with_name('pretended_worker.py')


@pytest.fixture(autouse=True)
def pretended(monkeypatch):
  monkeypatch.setattr(processes, 'COMMAND', (sys.executable, str(WORKER)))
  monkeypatch.setattr(scheduling, 'PAUSE', 0.05)


@pytest.fixture
def base(tmp_path):
  path = tmp_path / 'base.json'
  path.write_text('{"seed": 0}')
  return str(path)


def listing_of(base, workdir, seeds):
  found = space.base(base) * space.product(seed=seeds)
  listing = members.expand(found, 'sweep.py')
  workdir.mkdir(exist_ok=True)
  members.write_listing(listing, workdir)
  return listing


def run(listing, workdir, **named):
  outcome = sweep.run(listing, workdir, **named)
  return outcome, [found.state for found in outcome.standings]


def starts(listing, workdir):
  counts = []
  for member in listing.members:
    path = folder_of(workdir, member) / 'starts'
    counts.append(len(path.read_text()) if path.exists() else 0)
  return counts


def test_what_fails_leaves_a_reason_and_the_others_go_on(base, tmp_path):
  """10: good, 11: killed, 12: a fault of the code, 14: says why it failed."""
  workdir = tmp_path / 'w'
  listing = listing_of(base, workdir, [10, 11, 20, 12, 14, 30])
  outcome, states = run(listing, workdir)
  assert states == ['done', 'failed', 'done', 'failed', 'failed', 'done']
  assert outcome.code == 1
  reasons = [found.reason for found in outcome.standings]
  assert 'killed by SIGKILL' in reasons[1] and 'logs/' in reasons[1]
  assert 'TypeError: a fault of the code' in reasons[3]
  assert reasons[4] == 'diverged'
  # The same is in the ledger, with who ran it.
  last = Ledger(workdir).latest()
  assert [last[member.id]['state'] for member in listing.members] == states
  assert 'SIGKILL' in last[listing.members[1].id]['reason']
  # Again: what is finished is not repeated, nor what would only fail again.
  assert run(listing, workdir)[1] == states
  assert starts(listing, workdir) == [1, 2, 1, 2, 1, 1]


def test_a_member_that_kills_whoever_reads_it_is_found(base, tmp_path):
  workdir = tmp_path / 'w'
  listing = listing_of(base, workdir, [10, 20, 15, 30, 40])
  outcome, states = run(listing, workdir)
  assert states == ['done', 'done', 'failed', 'done', 'done']
  assert 'SIGKILL' in outcome.standings[2].reason
  assert starts(listing, workdir) == [1, 1, 0, 1, 1]


def test_several_workers_share_the_members(base, tmp_path):
  workdir = tmp_path / 'w'
  listing = listing_of(base, workdir, range(10, 80, 10))
  outcome, states = run(listing, workdir, workers=3)
  assert states == ['done'] * 7 and outcome.code == 0
  assert starts(listing, workdir) == [1] * 7
  pids = {line['pid'] for line in Ledger(workdir).lines() if 'pid' in line}
  assert len(pids) > 2


def test_a_member_over_its_time_is_stopped_and_the_others_go_on(base, tmp_path):
  workdir = tmp_path / 'w'
  listing = listing_of(base, workdir, [13, 20])
  limits = scheduling.Limits(member=3.0)
  outcome, states = run(listing, workdir, limits=limits)
  assert states == ['stopped', 'done'] and outcome.code == 1
  assert outcome.standings[0].reason == 'over its time limit of 3 s'
  # Its time is over all starts: it is not begun again, unless it gets more.
  run(listing, workdir, limits=limits)
  assert starts(listing, workdir) == [1, 1]
  run(listing, workdir, limits=scheduling.Limits(member=6.0))
  assert starts(listing, workdir) == [2, 1]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR2, None])
def test_a_stopped_sweep_goes_on_later(base, tmp_path, number):
  """By a signal, or where the time of the sweep is over."""
  workdir = tmp_path / 'w'
  listing = listing_of(base, workdir, [13, 20])
  limits = scheduling.Limits(sweep=1.5 if number is None else None)
  if number is not None:
    threading.Timer(1.5, os.kill, (os.getpid(), number)).start()
  outcome, states = run(listing, workdir, limits=limits)
  assert states == ['stopped', 'waiting'] and outcome.code == 75
  words = scheduling.SWEEP_IS_OVER if number is None else scheduling.BY_SIGNAL
  assert outcome.standings[0].reason == words


def test_a_member_in_use_is_left_to_its_holder(base, tmp_path, monkeypatch):
  monkeypatch.setattr(scheduling, 'PATIENCE', 0.2)
  workdir = tmp_path / 'w'
  listing = listing_of(base, workdir, [10, 20])
  folder = folder_of(workdir, listing.members[0])
  with checkpoint.Workdir(folder):
    outcome, states = run(listing, workdir)
  assert states == ['waiting', 'done'] or states == ['running', 'done']
  assert starts(listing, workdir) == [0, 1]
  assert run(listing, workdir)[1] == ['done', 'done']


def test_where_no_worker_can_run_the_sweep_ends(base, tmp_path, monkeypatch):
  command = (sys.executable, '-c', 'raise SystemExit("there is no jax")')
  monkeypatch.setattr(processes, 'COMMAND', command)
  workdir = tmp_path / 'w'
  listing = listing_of(base, workdir, range(10, 90, 10))
  with pytest.raises(RuntimeError, match='there is no jax'):
    run(listing, workdir)


def test_some_members_by_their_numbers(base, tmp_path):
  workdir = tmp_path / 'w'
  listing = listing_of(base, workdir, [10, 20, 30])
  outcome, states = run(listing, workdir, members=[listing.member(1)])
  assert states == ['done'] and starts(listing, workdir) == [0, 1, 0]


def test_what_a_killed_start_left_is_named_and_goes_on(base, tmp_path):
  workdir = tmp_path / 'w'
  listing = listing_of(base, workdir, [10])
  (member,) = listing.members
  folder_of(workdir, member).mkdir(parents=True)
  Ledger(workdir).note(member.id, ledgers.RUNNING, pid=2**22 - 1)
  said = []
  _, states = run(listing, workdir, say=said.append)
  assert states == ['done']
  assert any('its process is gone' in text for text in said)
  noted = [line['state'] for line in Ledger(workdir).lines()]
  assert noted == ['running', 'stopped', 'running', 'done']


def test_one_start_at_a_time(tmp_path):
  busy = pytest.raises(checkpoint.WorkdirBusy)
  with sweep.only_start(tmp_path / 'w'), busy, sweep.only_start(tmp_path / 'w'):
    pass
  assert files.find_json(tmp_path / 'w' / 'lock') is None
