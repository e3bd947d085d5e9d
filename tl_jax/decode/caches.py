"""The caches of a decoder between two tokens, for several sequences per prompt.

>>> import jax.numpy as jnp
>>> cache = repeat({'keys': jnp.array([[1], [2]]), 'length': jnp.array(7)}, 2)
>>> reorder(cache, jnp.array([[1, 1], [1, 0]]))['keys'].tolist()
[[1], [1], [2], [2]]

A decoder is a value with three fields:

  prefill(params, batch, capacity) -> (logits (rows, vocabulary) after the last real
    token of each row, cache)
  step(params, cache, tokens (rows,)) -> (logits (rows, vocabulary), cache)
  kind: 'decoder' or 'encoder-decoder'

Its cache is a dict. Every leaf but a scalar has the rows as its leading axis. What
stands under 'memory' is the same for all sequences of one prompt.
"""

import jax
import jax.numpy as jnp

from tl_jax.config import ConfigError
from tl_jax.decode.settings import IDS, Decoding


def prompt_of(decoder, batch: dict):
  """The tokens and segments, int32 (rows, length), that the new tokens follow.

  Errors: ValueError where the batch is not one for a model of this kind.
  """
  kinds = ('decoder', 'encoder-decoder')
  if decoder.kind not in kinds:
    names = ', '.join(map(repr, kinds))
    raise ValueError(f'decoder.kind: {decoder.kind!r} is not one of {names}')
  tokens, segments = _part(decoder, batch, '')
  if decoder.kind == 'encoder-decoder':
    tokens, segments = _part(decoder, batch, 'decoder_')
  return tokens, segments


def _part(decoder, batch: dict, prefix: str):
  """The checked tokens and segments of a batch under the names with this prefix."""
  for name in (prefix + 'tokens', prefix + 'segments'):
    if name not in batch:
      raise ValueError(
        f'batch: no {name!r}, which a model of kind {decoder.kind!r} needs'
      )
  tokens, segments = batch[prefix + 'tokens'], batch[prefix + 'segments']
  shape = jnp.shape(tokens)
  if len(shape) != 2 or shape != jnp.shape(segments) or 0 in shape:
    raise ValueError(
      f'batch: {prefix}tokens and {prefix}segments must both be (rows, length), got '
      f'{shape} and {jnp.shape(segments)}'
    )
  return tokens, segments


def prefill(decoder, params, batch: dict, settings: Decoding):
  """Reads the prompts: (logits, cache).

  The logits for the first new token are float32 (rows, vocabulary). The cache has room
  for all new tokens. Errors: ConfigError for an id outside the vocabulary.
  """
  tokens, _ = prompt_of(decoder, batch)
  capacity = tokens.shape[1] + settings.max_new_tokens
  logits, cache = decoder.prefill(params, batch, capacity)
  _check_ids(settings, logits.shape[-1])
  # The processors and the sums of log-probabilities need more than bfloat16.
  return logits.astype(jnp.float32), cache


def _check_ids(settings: Decoding, vocabulary: int) -> None:
  """Refuses an id that the vocabulary does not have: ConfigError.

  The ids of `start` are part of the prompt and were checked with it.
  """
  named = {name: getattr(settings, name) for name in IDS if name != 'start'}
  named['pad'] = (settings.pad,)
  named['bad_words'] = sum(settings.bad_words, ())
  for name, ids in named.items():
    for token in ids:
      if token >= vocabulary:
        raise ConfigError(
          f'{name}: {token} is outside the vocabulary of {vocabulary}; the last id is '
          f'{vocabulary - 1}'
        )


def repeat(tree, times: int):
  """Every leaf (rows, ...) as (rows * times, ...), the copies of a row side by side."""
  if times == 1:
    return tree

  def repeated(leaf):
    # A scalar, as the length so far, is the same for all rows.
    return leaf if jnp.ndim(leaf) == 0 else jnp.repeat(leaf, times, axis=0)

  return jax.tree.map(repeated, tree)


def reorder(cache: dict, parents):
  """The cache after beams were chosen.

  parents: int32 (rows, beams). Sequence j of prompt i goes on from sequence
  parents[i, j] of the same prompt.
  """
  rows, beams = parents.shape

  def move(leaf):
    if jnp.ndim(leaf) == 0:
      return leaf
    split = leaf.reshape(rows, beams, *leaf.shape[1:])
    # Row by row, so that a mesh over the rows need not exchange anything.
    return pick(split, parents).reshape(leaf.shape)

  # The memory of an encoder is the same for all beams, so that it need not be copied.
  moved = {}
  for name, part in cache.items():
    # All sequences of a prompt have one memory, so that none of it moves.
    moved[name] = part if name == 'memory' else jax.tree.map(move, part)
  return moved


def pick(array, indices):
  """array[i, indices[i]] for every row i."""
  return jax.vmap(lambda row, index: row[index])(array, indices)
