"""Prompt tuning: trained vectors in front of every example.

>>> import jax, jax.numpy as jnp
>>> params = {'embedding': {'tokens': jnp.ones((9, 4))}}
>>> trainable, _ = prompt(length=3).init(jax.random.key(0), params)
>>> trainable['embedding']['prompt'].shape
(3, 4)
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tl_jax.config import Count
from tl_jax.transfer.insertion import inserting_method, last_axis, require_kernel
from tl_jax.transfer.method import HEAD, TransferMethod

TABLE = 'embedding/tokens'
PROMPT = 'embedding/prompt'


def prompt(
  length: Count = 20,
  *,
  init: Literal['vocabulary', 'text', 'random'] = 'vocabulary',
  tokens: tuple = (),
  common: Count = 5000,
  head: str | None = HEAD,
) -> TransferMethod:
  """Trains `length` vectors that stand before the tokens of each example (Lester et al.
  2021, section 2). Every example of a packed row has them before it.

  init: `vocabulary` starts each as the vector of one of the first `common` tokens,
  drawn without repetition (section 3.2: the 5,000 most common). `text` starts them as
  the vectors of the token ids `tokens`, from the front and again if they do not
  suffice, as in PEFT. `random` is uniform in [-0.5, 0.5].
  Errors: ValueError for `text` without tokens, and for a token that the table does not
  have.
  """
  if (init == 'text') != bool(tokens):
    raise ValueError("prompt: init='text' and tokens=(ids, ...) go together")
  if init not in ('vocabulary', 'text', 'random'):
    raise ValueError(
      f"prompt: init is {init!r}, but must be 'vocabulary', 'text' or 'random'"
    )

  def places(named):
    return {PROMPT: require_kernel(named, TABLE, 'prompt')}

  def make(key, table):
    rows, width = table.shape
    if init == 'random':
      return jax.random.uniform(key, (length, width), jnp.float32, -0.5, 0.5)
    if init == 'text':
      if not all(0 <= token < rows for token in tokens):
        raise ValueError(f'prompt: tokens {tokens} are not all from 0 to {rows - 1}')
      chosen = jnp.resize(jnp.asarray(tokens), (length,))
    else:
      pool = min(common, rows)
      # A small vocabulary has fewer tokens than a long prompt needs.
      chosen = jax.random.choice(key, pool, (length,), replace=length > pool)
    # Trained in at least float32, where small steps are not lost.
    wide = jnp.promote_types(table.dtype, jnp.float32)
    return jnp.asarray(table)[chosen].astype(wide)

  def make_axes(spec):
    return PartitionSpec(None, last_axis(spec))

  method = inserting_method(
    places, make, make_axes, head=head, what='prompt', inserts=PROMPT
  )
  # Unlike those of a prefix, its positions make the row longer.
  return method._replace(reserved_positions=length, prompt_positions=length)
