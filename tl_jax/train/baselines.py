"""Runs of the classic baselines: the examples of a transfer, without a model.

>>> evals.CLASSIFIERS['tf-idf'](['good', 'bad'], [1, 0], ['good', 'bad'], 3).shape
(2, 3)
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from tl_jax import evals, tasks
from tl_jax.evals.intervals import of_task
from tl_jax.tasks.problems import choice, span
from tl_jax.train import notes, results
from tl_jax.train.datasets import TaskExamples
from tl_jax.train.reporter import NULL_REPORTER, Reporter, peak_bytes
from tl_jax.train.results import Result, digest_split, write_predictions
from tl_jax.train.settings import Transfer
from tl_jax.train.workdir import Run


class Answered(NamedTuple):
  """What was answered to the test examples without any training.

  found: numbers (n, labels) or n texts. labels: how many examples were learned from.
  notes: what the run said. metrics, intervals: those beside the task's own. more: what
  predictions.jsonl has of each example besides; () for nothing. parameters: of the
  model.
  """

  found: Any
  labels: int
  notes: tuple[str, ...] = ()
  metrics: Mapping[str, float] = MappingProxyType({})
  more: Sequence[Mapping[str, Any]] = ()
  parameters: int = 0
  intervals: Mapping[str, Sequence[float]] = MappingProxyType({})


class Baseline(NamedTuple):
  """A baseline of the examples that it is fitted to; it runs as a trainer does."""

  corpus: TaskExamples

  def run(
    self, settings: Transfer, run: Run, reporter: Reporter = NULL_REPORTER
  ) -> dict:
    """Fits the baseline and judges it as a transfer would be; returns what result.json
    holds.

    Raises ConfigError for more labels than there are.
    """
    name = settings.method['name']
    said = notes.told(self.corpus.task)
    for line in said:
      reporter.info(line)
    with run.clock.phase('training'):
      # Its seconds are those of fitting and predicting, for which it has one call.
      found, labels = self._answer(name, settings)
    made = Answered(found, labels, tuple(said))
    return conclude(self.corpus, made, settings, run, reporter)

  def _answer(self, name: str, settings: Transfer) -> tuple[Any, int]:
    """(the answers to the test examples, how many examples were learned from)."""
    test = self.corpus.test
    if name in evals.WRITERS:
      return evals.WRITERS[name](test.texts), 0
    if name in evals.READERS:
      places = evals.READERS[name](test.texts)
      return span.raw_of(places), 0
    if name in evals.CHOOSERS:
      return choice.raw_of(evals.CHOOSERS[name](test.texts)), 0
    # As a model would be: what it is compared with has seen the same examples.
    chosen = self.corpus.draw(settings).trained
    train = self.corpus.train
    seen = [train.texts[index] for index in chosen]
    count = len(set(chosen.tolist()))
    if name in evals.TAGGERS:
      return evals.TAGGERS[name](seen, train.targets[chosen], test.texts), count
    classify = evals.CLASSIFIERS[name]
    found = classify(seen, train.targets[chosen], test.texts, self.corpus.task.outputs)
    return found, count


def conclude(
  corpus: TaskExamples,
  answered: Answered,
  settings: Transfer,
  run: Run,
  reporter: Reporter,
) -> dict:
  """Judges answers as those of a transfer would be, and writes predictions and result;
  returns what result.json holds.
  """
  task, test = corpus.task, corpus.test
  name, found = settings.method['name'], answered.found
  if run.is_primary:
    path = run.path / 'predictions.jsonl'
    write_predictions(path, task, test, found, answered.more)
  metrics = tasks.score(task, found, test.targets, corpus.training_texts())
  metrics |= answered.metrics
  intervals = of_task(task, found, test.targets, metrics)
  # None of the task's own values has such a name.
  intervals |= answered.intervals
  reporter.info(f'{task.name}, {name}: {results.shown(metrics, intervals)}')
  return run.finish(
    Result(
      task=task.name,
      method=name,
      init=settings.init,
      seed=settings.seed,
      labels=answered.labels,
      metrics=metrics,
      n=len(test.texts),
      examples=digest_split(task, test),
      trained=[],
      trained_parameters=0,
      total_parameters=answered.parameters,
      steps=0,
      peak_bytes=peak_bytes(),
      notes=list(answered.notes),
      signatures=tasks.signatures(task, test.targets),
      **results.spread(intervals),
      **run.clock.totals(),
    )
  )
