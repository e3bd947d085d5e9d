"""Metrics of how probable a model finds texts that it did not write.

>>> minimal_pairs([[-5.0, -7.0], [-3.0, -2.0]], ['agreement', 'islands'])['pair_accuracy']
0.5
>>> last_word([[0.0, 1.0], [-2.0, 0.0]], ['end', 'fin'])['last_word_accuracy']
0.5
"""

import sys

import numpy as np

from tl_jax.metrics.edges import same_length

# A name above another one in the name of a group, as `phenomenon/paradigm`.
ABOVE = '/'


def minimal_pairs(predictions, references) -> dict[str, float]:
  """The share of pairs whose acceptable sentence is the more probable one (Warstadt et
  al. 2020): of all pairs, and of those of each group.

  predictions (n, 2): log-probabilities of the acceptable and of the other sentence. Two
  that are equal are no success. references: the name of the group of each pair, such as
  `phenomenon/paradigm`, or '' for none.

  pair_accuracy: of all; 0.0 for none. NAME/pair_accuracy: of each group, and of those
    above it. Errors: ValueError for numbers that are not finite, or not two of each.
  """
  same_length(predictions, references, 'minimal_pairs')
  right = successes(predictions)
  found = {'pair_accuracy': share(right)}
  for name, is_member in members(references).items():
    found[f'{name}/pair_accuracy'] = share(right[is_member])
  return found


def last_word(predictions, references) -> dict[str, float]:
  """Accuracy and perplexity of the last words of texts (Paperno et al. 2016).

  predictions (n, 2): the log-probability of each word, of all its tokens, and 1 where
  each of these is the most probable token, else 0. references: the words.

  last_word_accuracy: the mean of the second; 0.0 for no words. last_word_perplexity: the
    exponential of the mean negative log-probability of a word; 0.0 for no words, a value
    that none can have. Errors: ValueError for numbers that are not finite, or not two of
    each, and for a log-probability above 0.
  """
  count = same_length(predictions, references, 'last_word')
  rows = _twos(predictions, 'last_word')
  if not count:
    return {'last_word_accuracy': 0.0, 'last_word_perplexity': 0.0}
  # A little above 0 is the rounding of a probability of 1.
  if (rows[:, 0] > 1e-6).any():
    raise ValueError('last_word: a log-probability is above 0')
  # By word, not by token: models with other tokenizers are compared.
  mean = rows.mean(axis=0)
  perplexity = perplexities(mean[0])
  return {'last_word_accuracy': share(rows[:, 1]), 'last_word_perplexity': perplexity}


def successes(predictions) -> np.ndarray:
  """Is the first of two numbers the greater one? bool (n,)."""
  rows = _twos(predictions, 'minimal_pairs')
  # Strictly: a model that says the same of both tells nothing.
  return rows[:, 0] > rows[:, 1]


def members(references) -> dict[str, np.ndarray]:
  """name -> which of n pairs are in the group, bool (n,); of all groups in order."""
  known: dict[str, list[int]] = {}
  for place, reference in enumerate(references):
    # A pair counts for its paradigm and for the phenomenon above it.
    for name in _names(reference):
      known.setdefault(name, []).append(place)
  found = {}
  # Sorted, so that results of one benchmark have one order whatever that of the files.
  for name in sorted(known):
    is_member = np.zeros(len(references), bool)
    is_member[known[name]] = True
    found[name] = is_member
  return found


def perplexities(mean):
  """exp(-mean) of mean log-probabilities, at most the largest float."""
  # Beyond it, exp warns of its overflow.
  limit = np.log(sys.float_info.max)
  found = np.exp(np.minimum(-mean, limit))
  return float(found) if np.ndim(found) == 0 else found


def share(right: np.ndarray) -> float:
  """The mean of zeros and ones; 0.0 of none."""
  return float(right.mean()) if len(right) else 0.0


def _names(reference: str) -> list[str]:
  """A group and those above it; none of ''."""
  parts = reference.split(ABOVE) if reference else []
  return [ABOVE.join(parts[:count]) for count in range(1, len(parts) + 1)]


def _twos(predictions, what: str) -> np.ndarray:
  """The predictions as finite numbers (n, 2)."""
  if not len(predictions):
    return np.zeros((0, 2))
  rows = np.asarray(predictions, np.float64)
  if rows.ndim != 2 or rows.shape[1] != 2:
    raise ValueError(f'{what}: predictions of shape {rows.shape}; each has two numbers')
  if not np.isfinite(rows).all():
    raise ValueError(f'{what}: predictions hold numbers that are not finite')
  return rows
