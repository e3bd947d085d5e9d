"""Words that the processes of one run pass to each other.

No device takes part, so that a background thread may use them during a step.

>>> gather('written/1', 'good')
['good']
"""

import json

import jax

# As long as another process may take to write its part of a large model.
WAIT_SECONDS = 1200


def is_first() -> bool:
  """Is this the process that commits? A single process is."""
  return jax.process_count() == 1 or jax.process_index() == 0


def gather(tag: str, word: str, seconds: int = WAIT_SECONDS) -> list[str]:
  """The words of all processes, by rank.

  It returns once every process has called it with this tag. Raises TimeoutError that
  names the rank when a process says nothing for `seconds`.
  """
  if jax.process_count() == 1:
    return [word]
  client = _client()
  client.key_value_set(f'{tag}/{jax.process_index()}', json.dumps(word))
  if jax.process_index() != 0:
    return json.loads(_read(client, f'{tag}/all', 'process 0', seconds))
  # Process 0 collects, so that each of the others asks for one key and not for all.
  words = []
  for rank in range(jax.process_count()):
    word = _read(client, f'{tag}/{rank}', f'process {rank}', seconds)
    words.append(json.loads(word))
  client.key_value_set(f'{tag}/all', json.dumps(words))
  return words


def _client():
  """The client of jax's key-value store, which the coordinator of the run keeps."""
  from orbax.checkpoint import multihost

  return multihost.get_jax_distributed_client()


def _read(client, key: str, who: str, seconds: int) -> str:
  """Waits for a key that `who` sets. Raises TimeoutError that names it."""
  try:
    return client.blocking_key_value_get(key, seconds * 1000)
  except jax.errors.JaxRuntimeError as error:
    raise TimeoutError(
      f'{who} did not answer within {seconds} s while a checkpoint was being agreed on'
    ) from error
