"""From log-probabilities of candidates to scores that can be compared.

A candidate is less probable the longer it is, and the more seldom it is anywhere. Brown
et al. (2020), section 2.4, divide by the number of tokens, or by the probability that
the candidate has behind a context without the question. Zhao et al. (2021) calibrate by
inputs that say nothing.

>>> found = Found(np.log([[0.2, 0.1]]), [1, 2], [4, 8], np.log([0.4, 0.05]))
>>> scores(found)['unconditional'].round(3).tolist()
[[-0.693, 0.693]]
>>> np.exp(calibrated(np.log([[0.6, 0.3]]), np.log([[0.5, 0.1]]))).round(3).tolist()
[[0.8, 2.0]]
"""

from typing import Any, NamedTuple

import numpy as np

Array = Any
# What a candidate may be ranked by.
SCORES = ('sum', 'token', 'character', 'unconditional', 'calibrated')


class Found(NamedTuple):
  """What a model says of the candidates (c,) of n examples.

  sums (n, c): log P(candidate | prompt), -inf where an example has fewer candidates.
  tokens, characters (c,) or (n, c): of each candidate. unconditional (c,) or (n, c): log
  P(candidate | answer context). content_free (n, m, c): log P(candidate | prompt of an
  input that says nothing), of m such inputs; None where nobody asked.
  """

  sums: Array
  tokens: Array
  characters: Array
  unconditional: Array
  content_free: Array = None


def scores(found: Found) -> dict[str, np.ndarray]:
  """The scores (n, c) of the candidates by their names, the higher the better."""
  sums = np.asarray(found.sums, np.float64)
  made = dict(
    sum=sums,
    token=sums / np.asarray(found.tokens),
    character=sums / np.asarray(found.characters),
    unconditional=sums - np.asarray(found.unconditional),
  )
  if found.content_free is not None:
    rows = [calibrated(sums[[n]], each) for n, each in enumerate(found.content_free)]
    made['calibrated'] = np.concatenate(rows)
  return made


def calibrated(sums: Array, content_free: Array) -> np.ndarray:
  """log W p (n, c) of contextual calibration (Zhao et al. 2021, section 5).

  p are the probabilities of the candidates, made to sum to one. p_cf is their mean over
  inputs that say nothing, made to sum to one after it. W = diag(p_cf)^-1 and b = 0: the
  candidate with the largest part of W p is the answer.

  Args:
    sums (n, c): log-probabilities behind the prompts of n examples.
    content_free (m, c): behind the same prompts of m such inputs.
  """
  content_free = np.asarray(content_free, np.float64)
  mean = np.logaddexp.reduce(content_free, 0)
  # What is not there has no probability with either.
  with np.errstate(invalid='ignore'):
    return _normalized(np.asarray(sums, np.float64)) - _normalized(mean)


def _normalized(sums: np.ndarray) -> np.ndarray:
  """Log-probabilities (..., c) that sum to one."""
  return sums - np.logaddexp.reduce(sums, -1, keepdims=True)
