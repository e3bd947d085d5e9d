"""A meeting of processes, with the service that jax gives them played by a dict."""

import jax
import pytest

from tl_jax.parallel import meet, meeting, telling_failures


class Service:
  """What the processes of a run share: words in places, and barriers."""

  def __init__(self, others=()):
    self.words = {'tl_jax/hosts/0': 'red', 'tl_jax/hosts/2': 'blue'}
    self.others = others
    self.places = []

  def key_value_set(self, key, value):
    self.words[key] = value

  def key_value_dir_get(self, place):
    return [(key, value) for key, value in self.words.items() if key.startswith(place)]

  def wait_at_barrier(self, place, milliseconds):
    self.places.append(place)
    for rank in self.others:
      self.words[f'{place}/{rank}'] = 'here'
    if len(self.others) < 2:
      meeting.threading.Event().wait(milliseconds / 1000)
      raise jax.errors.JaxRuntimeError('DEADLINE_EXCEEDED: Barrier timed out.\nmore')


@pytest.fixture
def gather(monkeypatch):
  """Makes this process the first of three, of which some others come to every meeting."""

  def put(*others):
    service = Service(others)
    monkeypatch.setattr(meeting, '_client', lambda: service)
    monkeypatch.setattr(jax, 'process_count', lambda: 3)
    monkeypatch.setattr(meeting, 'LOOK_SECONDS', 0.01)
    return service

  return put


def test_every_meeting_has_a_place_of_its_own(gather):
  service = gather(1, 2)
  for name in ('a', 'b', 'a'):
    assert meet(name, name) == {0: name, 1: 'here', 2: 'here'}
  assert len(set(service.places)) == 3


@pytest.mark.parametrize(
  'others, absent',
  [
    ([2], r'process 1 \(on an unknown machine\) did'),
    ([], r'process 1 \(on an unknown machine\), process 2 \(blue\) did'),
  ],
)
def test_who_is_absent_is_named(others, absent, gather):
  gather(*others)
  with pytest.raises(TimeoutError, match=f"^{absent} not come to 'here' within 0.05 s"):
    meet('here', seconds=0.05)


def test_who_is_waited_for_long_is_told(gather, monkeypatch, caplog):
  monkeypatch.setattr(meeting, 'NOTICE_SECONDS', 0.02)
  gather(2)
  with pytest.raises(TimeoutError):
    meet('here', seconds=0.2)
  assert [record.getMessage() for record in caplog.records] == [
    "waiting for process 1 (on an unknown machine) to come to 'here'"
  ]


def test_a_failure_is_told_to_those_who_wait_and_to_no_later_run(gather):
  service = gather(1)
  told = r'^process 2 \(blue\) has failed: ValueError: no'
  with pytest.raises(RuntimeError, match=told), telling_failures():
    place = meeting._failures()
    service.key_value_set(f'{place}/2', 'ValueError: no')
    meet('here', seconds=5)
  assert service.words[f'{place}/0'].startswith(
    'RuntimeError: process 2 (blue) has failed'
  )
  with telling_failures(), pytest.raises(TimeoutError):
    meet('here', seconds=0.05)
