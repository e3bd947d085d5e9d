"""Perplexity of tokens under a language model.

>>> import math
>>> round(perplexity([math.log(0.5), math.log(0.5)], [7, 9])['perplexity'], 6)
2.0
"""

import sys

import numpy as np

from tl_jax.metrics.edges import finite


def perplexity(predictions, references) -> dict[str, float]:
  """The exponential of the mean negative log-likelihood per token.

  Gives `perplexity`, `loss` (nats per token) and `tokens`.

  references: token ids of any shape, negative where there is no token to predict.
  predictions: natural log-probabilities of those tokens, of the same shape; or logits
    with one more axis, the vocabulary, which are normalised here.

  No tokens at all give 0.0, a value that no text can have (the least is 1.0). A
  likelihood of zero gives the largest float.
  Errors: ValueError for other shapes, NaN, a log-probability above 0, and an id outside
  the vocabulary.
  """
  scores = np.asarray(predictions, np.float64)
  tokens = np.asarray(references)
  fits = scores.shape[: tokens.ndim] == tokens.shape
  if not fits or scores.ndim - tokens.ndim not in (0, 1):
    raise ValueError(
      f'perplexity: predictions of shape {scores.shape} for references of shape '
      f'{tokens.shape}'
    )
  if tokens.size and tokens.dtype.kind not in 'iu':
    raise ValueError('perplexity: references must be integer token ids')
  real = tokens >= 0
  if not real.any():
    return {'perplexity': 0.0, 'loss': 0.0, 'tokens': 0.0}
  return _perplexity(_of_tokens(scores[real], tokens[real]))


def _perplexity(log_likelihoods: np.ndarray) -> dict[str, float]:
  """The perplexity of one or more tokens (n,)."""
  loss = finite(-log_likelihoods.mean())
  # Beyond it, exp warns of its overflow.
  limit = np.log(sys.float_info.max)
  perplexity = finite(np.exp(min(loss, limit)))
  tokens = float(len(log_likelihoods))
  return {'perplexity': perplexity, 'loss': loss, 'tokens': tokens}


def _of_tokens(scores: np.ndarray, tokens: np.ndarray) -> np.ndarray:
  """The log-likelihoods (n,) of tokens, from themselves or logits (n, vocabulary)."""
  if np.isnan(scores).any():
    raise ValueError('perplexity: predictions have a value that is NaN')
  if scores.ndim == 2:
    return _log_likelihood(scores, tokens)
  # A little above 0 is the rounding of a probability of 1.
  if (scores > 1e-6).any():
    raise ValueError(
      'perplexity: a log-probability is above 0; logits need a last axis of vocabulary '
      'size'
    )
  return scores


def _log_likelihood(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
  """log softmax of the logits (n, vocabulary) at the tokens (n,)."""
  if tokens.max() >= logits.shape[1]:
    raise ValueError(
      f'perplexity: the token {tokens.max()} is outside the vocabulary of '
      f'{logits.shape[1]} logits'
    )
  top = logits.max(axis=1)
  if not np.isfinite(top).all():
    raise ValueError(
      'perplexity: the logits of a token hold infinity, or nothing else than minus '
      'infinity'
    )
  # Less the highest logit, so that no exponential overflows.
  shares = np.exp(logits - top[:, None])
  total = np.log(shares.sum(axis=1))
  chosen = logits[np.arange(len(tokens)), tokens]
  return chosen - top - total
