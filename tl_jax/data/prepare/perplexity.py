"""Documents chosen by how perplexed a language model is by them.

>>> scores = np.array([90.0, 12.0, 3.0, 40.0])
>>> reasons_of(scores, keep='middle', share=0.5)
['perplexity: above 40.00', '', 'perplexity: below 12.00', '']

CCNet (Wenzek et al. 2020, section 5.2) keeps what a model of good text finds likely: the
lowest. Marion et al. (2023) find the middle best: what is hardly likely is noise, and
what is very likely is boilerplate.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax import files
from tl_jax.config import nearest
from tl_jax.config.checks import Share

KEPT = ('lowest', 'middle', 'highest')


@dataclasses.dataclass(frozen=True)
class Perplexity:
  """Documents chosen by their perplexity.

  model: a workdir or a folder of a model. reference: a source of texts, whose runs of
  words are the model instead; with neither there is no such choice. keep: which part of
  the documents stays, in order of their perplexity; one of `KEPT`. share: how large it is.
  """

  model: str = ''
  reference: str = ''
  keep: str = 'middle'
  share: Share = 0.5

  def __post_init__(self):
    if self.model and self.reference:
      raise ValueError(
        'reference: there is a model already; one of both finds perplexities'
      )
    if self.keep not in KEPT:
      raise ValueError(f'keep: {self.keep!r}; nearest: {nearest(self.keep, KEPT)}')


class Scorer(NamedTuple):
  """A model that finds perplexities.

  digest: changes with the model. score: gives the perplexity of each text, NaN where it
  has none.
  """

  digest: str
  score: Callable[[Sequence[str]], np.ndarray]


def remembered(
  chunks: Iterable[Sequence[str]],
  count: int,
  scorer: Scorer,
  folder: pathlib.Path,
  tell: Callable[[str], None],
) -> np.ndarray:
  """The perplexity of each of so many texts, (count,), one chunk of them after the other.

  Each chunk leaves a file in the folder, so that a run that was killed asks for none of
  them again.
  """
  found = [np.zeros(0)]
  done = 0
  for number, texts in enumerate(chunks):
    done += len(texts)
    path = folder / f'perplexity-{number:06d}.f64'
    if not path.exists():
      scores = np.asarray(scorer.score(texts), '<f8') if texts else np.zeros(0)
      files.write_atomically(path, scores.tobytes())
      tell(f'perplexity of {done:,} of {count:,} documents')
    found.append(np.frombuffer(path.read_bytes(), '<f8'))
  return np.concatenate(found)


def reasons_of(scores: np.ndarray, keep: str, share: float) -> list[str]:
  """Why each document is left out, '' for those of the part that stays.

  Of documents with equal scores the first counts as the more likely one.
  """
  reasons = ['perplexity: no token'] * len(scores)
  known = np.flatnonzero(~np.isnan(scores))
  if not len(known):
    return reasons
  # A small share of few documents is one of them at least.
  count = max(1, round(share * len(known)))
  first = dict(
    lowest=0,
    middle=(len(known) - count) // 2,
    highest=len(known) - count,
  )[keep]
  order = known[np.argsort(scores[known], kind='stable')]
  stays = order[first : first + count]
  for place in stays:
    reasons[place] = ''
  for place in order[:first]:
    reasons[place] = f'perplexity: below {scores[stays[0]]:.2f}'
  for place in order[first + count :]:
    reasons[place] = f'perplexity: above {scores[stays[-1]]:.2f}'
  return reasons
