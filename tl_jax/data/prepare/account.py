"""What happened to the documents of every source, in numbers and examples.

>>> found = Account(Corpus({'a': 'a.txt'})).said()
>>> found['kept'], found['removed']
(0, {})
"""

from collections import Counter
from typing import Any

import numpy as np

from tl_jax.data.prepare import batch as batches
from tl_jax.data.prepare import statistics
from tl_jax.data.prepare.filtering import SHOWN, Filtered
from tl_jax.data.prepare.quality import CUT
from tl_jax.data.prepare.settings import Corpus
from tl_jax.data.prepare.statistics import Statistics, overlap


class Account:
  """What happened to the documents of every source."""

  def __init__(self, corpus: Corpus):
    self._most = corpus.examples
    self._removed: Counter = Counter()
    self._examples: dict[str, list] = {}
    self._before = dict.fromkeys(corpus.sources, Statistics())
    self._after = dict.fromkeys(corpus.sources, Statistics())
    # Of the documents that stay: what C4's rule took out of them.
    self._cuts = {name: np.zeros(len(CUT), np.int64) for name in corpus.sources}

  def add(self, source: str, found: Filtered, fates: list[str]) -> None:
    """Counts a chunk, whose documents have these fates."""
    self._removed.update(found.removed)
    for reason, rows in found.examples.items():
      self._show(reason, rows)
    for place, text, fate in zip(found.places, found.texts, fates, strict=True):
      if fate:
        self._removed[fate] += 1
        self._show(fate, [(place, text[:SHOWN])])
    self._before[source] += found.before
    stays = np.array([not fate for fate in fates], bool)
    self._cuts[source] += found.cuts[stays].sum(0)
    kept = [text for text, fate in zip(found.texts, fates, strict=True) if not fate]
    # Most chunks lose some documents to the last steps.
    is_whole = len(kept) == len(found.texts)
    after = found.after if is_whole else statistics.of(batches.of(kept))
    self._after[source] += after

  def _show(self, reason: str, rows) -> None:
    own = self._examples.setdefault(reason, [])
    own += rows[: self._most - len(own)]

  def said(self) -> dict[str, Any]:
    """What a manifest has of it."""
    names = list(self._before)
    shared = []
    for number, one in enumerate(names):
      for other in names[number + 1 :]:
        share = overlap(self._before[one], self._before[other])
        shared.append(dict(one=one, other=other, share=share))
    return dict(
      kept=sum(found.documents for found in self._after.values()),
      removed=dict(sorted(self._removed.items())),
      examples=dict(sorted(self._examples.items())),
      before={name: found.shown() for name, found in self._before.items()},
      after={name: found.shown() for name, found in self._after.items()},
      cuts={
        name: dict(zip(CUT, map(int, found), strict=True))
        for name, found in self._cuts.items()
      },
      overlap=shared,
    )
