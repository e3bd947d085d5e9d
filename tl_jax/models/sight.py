"""Which keys each query sees: said by segments and positions, made into a mask where a
form of attention wants one.

>>> segments = jnp.array([[1, 2, 0]])
>>> Sight((segments, segments)).mask().astype(int).tolist()
[[[1, 0, 0], [0, 1, 0], [0, 0, 0]]]
"""

from typing import Any, NamedTuple

import jax.numpy as jnp


class Sight(NamedTuple):
  """Which keys each query sees, without an array of all pairs of them.

  segments: (of the queries (batch, queries), of the keys (batch, keys)). A query sees
  the keys of its segment, and 0 is padding, which nobody sees.
  positions: likewise; None where positions hide nothing.
  causal: a query sees no later position.
  window: its span; 0 for all. It may be traced.
  windows: the values that a traced window may have.
  in_order: within a segment, positions are columns counted from some column on. Then a
  kernel that counts columns hides what the positions would hide.
  prefix: so many further keys stand in front, and every query sees them.
  """

  segments: tuple
  positions: tuple | None = None
  causal: bool = False
  window: Any = 0
  windows: tuple[int, ...] = (0,)
  in_order: bool = True
  prefix: int = 0

  def mask(self):
    """Boolean (batch, queries, prefix + keys)."""
    query_segments, key_segments = self.segments
    if self.positions is None:
      mask = visible(query_segments, key_segments)
    elif self.causal:
      mask = visible(*self.segments, *self.positions, window=self.window)
    else:
      mask = visible(*self.segments) & near(*self.positions, self.window)
    if not self.prefix:
      return mask
    seen = jnp.ones((*mask.shape[:2], self.prefix), bool)
    return jnp.concatenate([seen, mask], -1)

  @property
  def hides_by_position(self) -> bool:
    """Does it matter where in its segment a key stands?"""
    return self.positions is not None and (self.causal or any(self.windows))


def visible(
  query_segments, key_segments, query_positions=None, key_positions=None, *, window=0
):
  """Boolean (batch, queries, keys): same segment, no padding; causal and within the
  window where positions are given.

  A window w > 0 lets a query see itself and the w - 1 tokens before it; it may be
  traced.
  """
  queries = query_segments[:, :, None]
  keys = key_segments[:, None, :]
  mask = (queries == keys) & (keys > 0)
  if query_positions is not None:
    distance = query_positions[:, :, None] - key_positions[:, None, :]
    is_near = (window == 0) | (distance < window)
    mask &= (distance >= 0) & is_near
  return mask


def near(query_positions, key_positions, window):
  """Boolean (batch, queries, keys) of an encoder's band: |distance| <= window / 2;
  everything where window is 0.
  """
  distance = jnp.abs(query_positions[:, :, None] - key_positions[:, None, :])
  return (window == 0) | (2 * distance <= window)
