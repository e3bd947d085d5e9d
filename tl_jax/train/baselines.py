"""Runs of the classic baselines: the examples of a transfer, without a model.

>>> evals.CLASSIFIERS['tf-idf'](['good', 'bad'], [1, 0], ['good', 'bad'], 3).shape
(2, 3)
"""

from typing import Any, NamedTuple

from tl_jax import evals, tasks
from tl_jax.train import notes
from tl_jax.train.datasets import TaskExamples
from tl_jax.train.reporter import NULL_REPORTER, Reporter, peak_bytes
from tl_jax.train.results import Result, digest_split, write_predictions
from tl_jax.train.settings import Transfer
from tl_jax.train.workdir import Run


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
    task, name = self.corpus.task, settings.method['name']
    test = self.corpus.test
    said = notes.told(task)
    for line in said:
      reporter.info(line)
    with run.clock.phase('training'):
      # Its seconds are those of fitting and predicting, for which it has one call.
      found, labels = self._answer(name, settings)
    if run.is_primary:
      write_predictions(run.path / 'predictions.jsonl', task, test, found)
    digest = digest_split(task, test)
    metrics = tasks.score(task, found, test.targets, self.corpus.training_texts())
    reporter.info(
      f'{task.name}, {name}: '
      + ', '.join(f'{key} {value:.4f}' for key, value in metrics.items())
    )
    return run.finish(
      Result(
        task=task.name,
        method=name,
        init=settings.init,
        seed=settings.seed,
        labels=labels,
        metrics=metrics,
        n=len(test.texts),
        examples=digest,
        trained=[],
        trained_parameters=0,
        total_parameters=0,
        steps=0,
        peak_bytes=peak_bytes(),
        notes=said,
        signatures=tasks.signatures(task, test.targets),
        **run.clock.totals(),
      )
    )

  def _answer(self, name: str, settings: Transfer) -> tuple[Any, int]:
    """(the answers to the test examples, how many examples were learned from)."""
    test = self.corpus.test
    if name in evals.WRITERS:
      return evals.WRITERS[name](test.texts), 0
    # As a model would be: what it is compared with has seen the same examples.
    chosen = self.corpus.draw(settings).trained
    train = self.corpus.train
    seen = [train.texts[index] for index in chosen]
    classify = evals.CLASSIFIERS[name]
    found = classify(seen, train.targets[chosen], test.texts, self.corpus.task.outputs)
    return found, len(set(chosen.tolist()))
