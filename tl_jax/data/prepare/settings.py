"""What is done to a corpus: the groups of a config of `data prepare`.

>>> Corpus(sources={'a': 'a.jsonl'}, steps=('exakt',))
Traceback (most recent call last):
ValueError: steps: 'exakt'; nearest: 'exact'
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tl_jax.config import nearest, standing_twice
from tl_jax.config.checks import Count, Natural, Positive, Share
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
  alpha: Positive = 9.0


@dataclasses.dataclass(frozen=True)
class Selection:
  """Documents that are like a target's texts (DSIR, Xie et al. 2023).

  target: a source of such texts, '' for no selection. share: of the documents that stay.
  """

  target: str = ''
  share: Share = 0.5


# Who filters, and how documents are written.
EXECUTORS = ('local', 'slurm', 'ray')
OUTPUTS = ('jsonl', 'parquet')


@dataclasses.dataclass(frozen=True)
class Execution:
  """Who filters; what comes of it does not depend on that.

  executor: one of `EXECUTORS`. workers: processes, or jobs, at the same time. memory: GB
  of each job. partition, time, qos: what Slurm is asked for. setup: a shell command
  before each job, '' for this Python on the PATH.
  """

  executor: str = 'local'
  workers: Count = 1
  memory: Count = 4
  partition: str = ''
  time: str = '24:00:00'
  qos: str = ''
  setup: str = ''

  def __post_init__(self):
    _require_one('executor', self.executor, EXECUTORS)

  @property
  def is_alone(self) -> bool:
    """Does this process filter by itself?"""
    return self.executor == 'local' and self.workers == 1


def _require_one(name: str, value: str, known: Sequence[str]) -> None:
  if value not in known:
    raise ValueError(f'{name}: {value!r}; nearest: {nearest(value, known)}')


def _require_once(name: str, values: Iterable[str]) -> None:
  again = standing_twice(values)
  if again is not None:
    raise ValueError(f'{name}: {again!r} stands there twice')


# The steps that are said by name, in order.
STEPS = ('gopher', 'repetition', 'c4', 'fineweb', 'exact', 'near')


@dataclasses.dataclass(frozen=True)
class Corpus:
  """A corpus and what is done to it, step by step.

  sources: name -> a file, a folder or a set. column: that of the texts. directory: where
  sets lie. steps: those of `STEPS` that are taken. languages: those that stay, () for
  all. gopher, repetition, c4, fineweb: the bounds of these rules. evaluation: sources
  whose text is in no document. classifier, perplexity, selection: the choices among all
  documents, in this order. output: one of `OUTPUTS`. shard: documents of a file that is
  written. chunk: documents that are filtered together. examples: of what a reason left
  out, that the report shows. execution: who does it.
  """

  sources: Mapping[str, str]
  column: str = ''
  directory: str = ''
  seed: Natural = 0
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
  output: str = 'jsonl'
  shard: Count = 10_000
  chunk: Count = 1000
  examples: Natural = 3
  execution: Execution = Execution()

  def __post_init__(self):
    if not self.sources:
      raise ValueError('sources: names no text; text=FILE in the config gives one')
    _require_one('output', self.output, OUTPUTS)
    _require_once('sources', self.sources.values())
    for key in ('steps', 'languages', 'evaluation'):
      _require_once(key, getattr(self, key))
    for name in self.steps:
      _require_one('steps', name, STEPS)
    for name in self.languages:
      if name not in LANGUAGES:
        raise ValueError(
          f'languages: {name!r} is not known; nearest: {nearest(name, LANGUAGES)}'
        )

  def described(self) -> dict[str, Any]:
    """The settings that what is written depends on."""
    found = dataclasses.asdict(self)
    del found['execution']
    return found
