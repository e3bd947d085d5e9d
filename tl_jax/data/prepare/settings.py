"""What is done to a corpus: the groups of a config of `data prepare`.

>>> Corpus(sources={'a': 'a.jsonl'}, steps=('exakt',))
Traceback (most recent call last):
ValueError: steps: 'exakt'; nearest: 'exact'
"""

import dataclasses
from collections.abc import Mapping

from tl_jax.config import nearest
from tl_jax.config.checks import Count, Fraction
from tl_jax.data.prepare.language import WORDS as LANGUAGES
from tl_jax.data.prepare.perplexity import Perplexity
from tl_jax.data.prepare.quality import C4, FineWeb, Gopher
from tl_jax.data.prepare.repetition import Repetition


@dataclasses.dataclass(frozen=True)
class Classifier:
  """A classifier of quality, as that of GPT-3 (Brown et al. 2020, appendix A).

  good: a source of good texts, '' for no classifier. alpha: of the Pareto distribution;
  the smaller, the more of the worse documents stay.
  """

  good: str = ''
  alpha: float = 9.0

  def __post_init__(self):
    if self.alpha <= 0:
      raise ValueError(f'alpha: {self.alpha} is not above 0')


@dataclasses.dataclass(frozen=True)
class Selection:
  """Documents that are like a target's texts (DSIR, Xie et al. 2023).

  target: a source of such texts, '' for no selection. share: of the documents that stay.
  """

  target: str = ''
  share: Fraction = 0.5


# The steps that are said by name, in order.
STEPS = ('gopher', 'repetition', 'c4', 'fineweb', 'exact', 'near')


@dataclasses.dataclass(frozen=True)
class Corpus:
  """A corpus and what is done to it, step by step.

  sources: name -> a file, a folder or a set. column: that of the texts. directory: where
  sets lie. steps: those of `STEPS` that are taken. languages: those that stay, () for
  all. gopher, repetition, c4, fineweb: the bounds of these rules. evaluation: sources
  whose text is in no document. classifier, perplexity, selection: the choices among all
  documents, in this order. shard: documents of a
  file that is written. chunk: documents that are filtered together. examples: of what a
  reason left out, that the report shows.
  """

  sources: Mapping[str, str]
  column: str = ''
  directory: str = ''
  seed: int = 0
  steps: tuple[str, ...] = STEPS
  languages: tuple[str, ...] = ()
  gopher: Gopher = Gopher()
  repetition: Repetition = Repetition()
  c4: C4 = C4()
  fineweb: FineWeb = FineWeb()
  evaluation: tuple[str, ...] = ()
  classifier: Classifier = Classifier()
  perplexity: Perplexity = Perplexity()
  selection: Selection = Selection()
  shard: Count = 10_000
  chunk: Count = 1000
  examples: Count = 3

  def __post_init__(self):
    if not self.sources:
      raise ValueError('sources: names no text; text=FILE in the config gives one')
    for name in self.steps:
      if name not in STEPS:
        raise ValueError(f'steps: {name!r}; nearest: {nearest(name, STEPS)}')
    for name in self.languages:
      if name not in LANGUAGES:
        raise ValueError(
          f'languages: {name!r} is not known; nearest: {nearest(name, LANGUAGES)}'
        )
