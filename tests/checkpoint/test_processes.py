"""Words between processes; with one process there is only its own. Two are tried in
test_store.py.
"""

import jax
import pytest

from tl_jax.checkpoint import processes


def test_one_process_hears_itself_and_commits():
  assert processes.gather('a', 'b') == ['b'] and processes.is_first()


class Board(dict):
  """A key-value service of two processes in which keys that nobody sets run out."""

  def key_value_set(self, key, value):
    self[key] = value

  def blocking_key_value_get(self, key, milliseconds):
    if key not in self:
      raise jax.errors.JaxRuntimeError(f'DEADLINE_EXCEEDED after {milliseconds}')
    return self[key]


def test_two_processes_hear_each_other_and_silence_has_a_rank(monkeypatch):
  board = Board({'a/1': '"from one"'})
  monkeypatch.setattr(processes, '_client', lambda: board)
  monkeypatch.setattr(processes.jax, 'process_count', lambda: 2)
  monkeypatch.setattr(processes.jax, 'process_index', lambda: 0)
  assert processes.gather('a', 'from zero') == ['from zero', 'from one']
  with pytest.raises(TimeoutError, match='process 1 did not answer within 5 s'):
    processes.gather('b', 'x', seconds=5)
  monkeypatch.setattr(processes.jax, 'process_index', lambda: 1)
  assert (
    processes.gather('a', 'from one') == ['from zero', 'from one']
    and not processes.is_first()
  )
