"""Where tokens stand among the columns of a stack: behind the keys of a prefix and the
vectors of a prompt.

>>> import jax.numpy as jnp
>>> key_columns(jnp.array([[2, 3]]), prefix=2).tolist()
[[0, 1, 2, 3]]
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from tl_jax.config import ConfigError
from tl_jax.segments import one_right, segments_of


class Placed(NamedTuple):
  """Where every column stands: segments and positions (batch, prompt + length), types
  of that shape or None.

  in_order: within a segment, positions are columns counted from some column on.
  seen (batch, prompt + length): above 0 for the columns that every other of their
  segment sees, whatever the positions say; None where there are none.
  """

  segments: Any
  positions: Any
  types: Any
  prompt: int
  in_order: bool = True
  seen: Any = None


def prefix_length(part: dict) -> int:
  """How many keys stand before the tokens in every layer of a stack with these
  parameters.
  """
  longest = 0
  for layer in part['layers'].values():
    prefix = layer['attention'].get('prefix')
    # Of layers that are held together, the first has the keys of all.
    if prefix is not None and prefix.keys is not None:
      longest = max(longest, prefix.keys.shape[0])
  return longest


def taken(part: dict, prompt) -> int:
  """How many positions of every text a prefix and a prompt (n, width), or None, take."""
  count = prefix_length(part)
  if prompt is not None:
    count += prompt.shape[0]
  return count


def key_columns(positions, prefix: int):
  """The positions (batch, prefix + keys) of all that is looked at, from those of the
  tokens, which come behind it.
  """
  if not prefix:
    return positions
  front = jnp.arange(prefix, dtype=positions.dtype)
  front = jnp.broadcast_to(front, (positions.shape[0], prefix))
  return jnp.concatenate([front, positions], 1)


def repeat_text(batch: dict, start: int) -> dict:
  """The batch with its own texts, one column to the right, as what a decoder reads.

  So the decoder of a classifier reads the text (Lewis et al. 2020, section 3.1), and its
  state at the last column has seen all tokens before it. Each text begins with the token
  `start`; -1 stands for the text's own last token (mBART).
  """
  tokens = batch['tokens']
  segments = segments_of(batch)
  first = start
  if start < 0:
    same = segments[:, None, :] == segments[:, :, None]
    # Of each token, the last column with its segment: the first one from behind.
    from_behind = jnp.argmax(same[..., ::-1], -1)
    last = segments.shape[1] - 1 - from_behind
    first = jnp.take_along_axis(tokens, last, 1)
  # What moves in on the left is 0, padding: the first text of a row begins there.
  goes_on = segments == one_right(segments)
  read = dict(
    decoder_tokens=jnp.where(goes_on, one_right(tokens), first),
    decoder_segments=segments,
  )
  if 'positions' in batch:
    read['decoder_positions'] = batch['positions']
  return {**batch, **read}


def place(part: dict, prompt, segments, positions, types, examples) -> Placed:
  """The columns of a stack: a prompt (n, width) once before each of `examples`
  (batch, examples), and the tokens.

  Tokens stand behind prompt and prefix. Where columns are in memory says nothing, so
  the prompts are all in front.
  """
  positions = positions + prefix_length(part)
  if prompt is None:
    return Placed(segments, positions, types, 0)
  count = prompt.shape[0]
  rows, most = examples.shape
  columns = count * most

  def before(front, x):
    front = jnp.broadcast_to(front, (rows, columns))
    return jnp.concatenate([front.astype(x.dtype), x], 1)

  # A copy of the prompt is of the segment of its example, so that no other sees it.
  copies = jnp.tile(jnp.arange(count), most)
  front = copies[None] + prefix_length(part)
  segments = before(jnp.repeat(examples, count, 1), segments)
  positions = before(front, positions + count)
  if types is not None:
    types = before(jnp.zeros((1, 1), jnp.int32), types)
  return Placed(segments, positions, types, columns)


def keeps_distances(placed: Placed, windows: tuple[int, ...]) -> bool:
  """Is a distance in positions one in columns, where a window of a layer asks for it?

  The prompts of several examples stand apart from their texts, which keeps the order
  alone.
  """
  return not (placed.prompt and any(windows))


def with_seen(placed: Placed, seen, windows: tuple[int, ...]) -> Placed:
  """The columns with those that all of their segment see, seen (batch, length).

  windows: of the layers. Raises ConfigError where one would hide what is to be seen.
  """
  if any(windows):
    raise ConfigError(
      'config.objective: all tokens see the prefix of a text, but config.model.windows '
      'hides what is far; leave one of them out'
    )
  # Those of a prompt are in front of all, so they are seen anyway.
  columns = jnp.pad(seen, ((0, 0), (placed.prompt, 0)))
  return placed._replace(in_order=False, seen=columns)


def take_columns(x, columns):
  """What x (batch, length, ...) has in columns (batch, n): (batch, n, ...)."""
  further = [1] * (x.ndim - 2)
  return jnp.take_along_axis(x, columns.reshape(*columns.shape, *further), 1)
