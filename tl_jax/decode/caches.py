"""What a decoder remembers between two tokens, laid out for several sequences per
prompt.

>>> import jax.numpy as jnp
>>> cache = repeat({'keys': jnp.array([[1], [2]]), 'length': jnp.array(7)}, 2)
>>> reorder(cache, jnp.array([[1, 1], [1, 0]]))['keys'].tolist()
[[1], [1], [2], [2]]

A decoder is a value with three fields: prefill(params, batch, capacity) -> (logits
(rows, vocabulary) after the last real token of each row, cache), step(params, cache,
tokens (rows,)) -> (logits, cache), and kind, 'decoder' or 'encoder-decoder'. Its cache
is a dict; every leaf but a scalar has the rows as its leading axis, and what stands
under 'memory' is the same for all sequences of one prompt.
"""

import jax
import jax.numpy as jnp

from tl_jax.config import ConfigError
from tl_jax.decode.settings import IDS, Decoding


def prompt_of(decoder, batch: dict):
  """(tokens, segments) of what the new tokens follow. Errors: ValueError for a batch of
  another kind.
  """
  if decoder.kind not in ('decoder', 'encoder-decoder'):
    raise ValueError(
      f"decoder.kind: {decoder.kind!r} is not one of 'decoder', 'encoder-decoder'"
    )
  for prefix in ('', 'decoder_') if decoder.kind == 'encoder-decoder' else ('',):
    for name in (prefix + 'tokens', prefix + 'segments'):
      if name not in batch:
        raise ValueError(
          f'batch: no {name!r}, which a model of kind {decoder.kind!r} needs'
        )
    tokens, segments = batch[prefix + 'tokens'], batch[prefix + 'segments']
    if (
      jnp.ndim(tokens) != 2
      or jnp.shape(tokens) != jnp.shape(segments)
      or 0 in jnp.shape(tokens)
    ):
      raise ValueError(
        f'batch: {prefix}tokens and {prefix}segments must both be (rows, length), got '
        f'{jnp.shape(tokens)} and {jnp.shape(segments)}'
      )
  return tokens, segments


def prefill(decoder, params, batch: dict, settings: Decoding):
  """(float32 logits for the first new token, a cache with room for all of them).
  Errors: ConfigError for an id.
  """
  tokens, _ = prompt_of(decoder, batch)
  logits, cache = decoder.prefill(
    params, batch, tokens.shape[1] + settings.max_new_tokens
  )
  vocabulary = logits.shape[-1]
  _check_ids(settings, vocabulary)
  return logits.astype(jnp.float32), cache


def _check_ids(settings: Decoding, vocabulary: int) -> None:
  """ConfigError for an id that the vocabulary does not have; `start` is part of the
  prompt.
  """
  named = {name: getattr(settings, name) for name in IDS if name != 'start'}
  named |= {'pad': (settings.pad,), 'bad_words': sum(settings.bad_words, ())}
  for name, ids in named.items():
    for token in ids:
      if token >= vocabulary:
        raise ConfigError(
          f'{name}: {token} is outside the vocabulary of {vocabulary}; the last id is {vocabulary - 1}'
        )


def repeat(tree, times: int):
  """Every leaf with each row `times` times, side by side."""
  return (
    tree
    if times == 1
    else jax.tree.map(
      lambda leaf: leaf if jnp.ndim(leaf) == 0 else jnp.repeat(leaf, times, axis=0),
      tree,
    )
  )


def reorder(cache: dict, parents):
  """The cache in which sequence j of prompt i goes on from sequence parents[i, j] of
  the same prompt.
  """
  rows, beams = parents.shape

  def move(leaf):
    if jnp.ndim(leaf) == 0:
      return leaf
    split = leaf.reshape(rows, beams, *leaf.shape[1:])
    # Row by row, so that a mesh over the rows need not exchange anything.
    return pick(split, parents).reshape(leaf.shape)

  return {
    name: part if name == 'memory' else jax.tree.map(move, part)
    for name, part in cache.items()
  }


def pick(array, indices):
  """array[i, indices[i]] for every row i."""
  return jax.vmap(lambda row, index: row[index])(array, indices)
