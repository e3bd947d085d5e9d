"""A meeting of all processes of a run, before they compute together.

>>> meet('the first step', 'ready')     # alone: there is nobody to wait for
{0: 'ready'}
"""

import collections
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator

import jax

from tl_jax.parallel import watching

# A program may take one process long to compile that another finds in its cache.
WAIT_SECONDS = 3600
# After so long, the log says for whom this process waits.
NOTICE_SECONDS = 60
# How often a waiting process looks whether another has failed.
LOOK_SECONDS = 2
# Where in the store of the coordinator the processes leave word.
HOSTS = 'tl_jax/hosts'
FAILURES = 'tl_jax/failures'
_LOG = logging.getLogger(__name__)
# Of meetings by name, and of runs: each has a place of its own in the store.
_counts = collections.Counter()


def meet(name: str, word: str = '', seconds: float = WAIT_SECONDS) -> dict[int, str]:
  """The words of all processes by rank, once every one has come to the meeting of this
  name.

  A collective waits for the others half a minute, no more, before it fails. So all meet
  before they run a program for the first time. Every process must hold the same
  meetings; several may have one name. Signals are heard meanwhile.

  Raises TimeoutError that names the processes which have not come in so many seconds.
  Raises RuntimeError that names a process which has failed meanwhile, and its error.
  """
  client = _client()
  if client is None or jax.process_count() == 1:
    return {0: word}
  with watching.during('meeting', f'the meeting {name!r}'):
    return _meet(client, name, word, seconds)


def _meet(client, name: str, word: str, seconds: float) -> dict[int, str]:
  """`meet`, where there are others."""
  _counts[name] += 1
  place = f'tl_jax/meetings/{name}/{_counts[name]}'
  client.key_value_set(f'{place}/{jax.process_index()}', word)
  failures = []

  # In a thread, because nothing interrupts the barrier: neither a signal nor the news
  # that another process has failed.
  def wait():
    try:
      client.wait_at_barrier(place, int(1000 * seconds))
    except jax.errors.JaxRuntimeError as error:
      failures.append(error)

  thread = threading.Thread(target=wait, name='meeting', daemon=True)
  thread.start()
  noticed = False
  began = time.monotonic()
  thread.join(LOOK_SECONDS)
  while thread.is_alive():
    _require_no_failure(client)
    if not noticed and time.monotonic() - began > NOTICE_SECONDS:
      noticed = True
      _LOG.warning('waiting for %s to come to %r', _absent(client, place), name)
    thread.join(LOOK_SECONDS)
  if failures:
    reason = str(failures[0]).partition('\n')[0]
    absent = _absent(client, place) or 'a process that has ended'
    raise TimeoutError(
      f'{absent} did not come to {name!r} within {seconds:g} s; its own output says '
      f'why ({reason})'
    ) from failures[0]
  return _by_rank(client, place)


@contextlib.contextmanager
def telling_failures() -> Iterator[None]:
  """Tells the other processes when this one fails in here, so that none waits for it.

  Every process must enter it as often as the others.
  """
  _counts[FAILURES] += 1
  try:
    yield
  except BaseException as error:
    client = _client()
    if client is not None:
      reason = ' '.join(f'{type(error).__name__}: {error}'.split())
      # The error itself matters more than that it could not be told.
      with contextlib.suppress(jax.errors.JaxRuntimeError):
        client.key_value_set(f'{_failures()}/{jax.process_index()}', reason)
    raise


def _failures() -> str:
  """Where the failures of this run are told, and not those of one before it."""
  return f'{FAILURES}/{_counts[FAILURES]}'


def _require_no_failure(client) -> None:
  """Raises RuntimeError that names a process which has failed."""
  for rank, reason in sorted(_by_rank(client, _failures()).items()):
    host = _by_rank(client, HOSTS).get(rank, 'on an unknown machine')
    raise RuntimeError(f'process {rank} ({host}) has failed: {reason}')


def introduce(process: int) -> None:
  """Tells the others the machine of this process, for their complaints."""
  _client().key_value_set(f'{HOSTS}/{process}', socket.gethostname())


def _client():
  # jax has no public way to meet without a device.
  from jax._src import distributed

  return distributed.global_state.client


def _absent(client, place: str) -> str:
  """The processes that have not come, with the names of their machines where known."""
  came = _by_rank(client, place)
  hosts = _by_rank(client, HOSTS)
  absent = [rank for rank in range(jax.process_count()) if rank not in came]
  named = []
  for rank in absent:
    host = hosts.get(rank, 'on an unknown machine')
    named.append(f'process {rank} ({host})')
  return ', '.join(named)


def _by_rank(client, place: str) -> dict[int, str]:
  """What the processes have left in a place."""
  # The key of each ends in the rank of who left it.
  found = client.key_value_dir_get(f'{place}/')
  return {int(key.rpartition('/')[2]): value for key, value in found}
