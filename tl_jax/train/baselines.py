"""Runs of the classic baselines: the labelled examples and the test examples of a
transfer, without a model.

>>> evals.BASELINES['tf-idf'](['good', 'bad'], [1, 0], ['good', 'bad'], 3).shape
(2, 3)
"""

from tl_jax import evals, tasks
from tl_jax.config import ConfigError
from tl_jax.train import datasets, notes
from tl_jax.train.reporter import NULL_REPORTER, Reporter, peak_bytes
from tl_jax.train.results import Result, digest_examples, write_predictions
from tl_jax.train.settings import Transfer
from tl_jax.train.workdir import Run


def run_baseline(
  settings: Transfer,
  task: tasks.Task,
  run: Run,
  reporter: Reporter = NULL_REPORTER,
) -> dict:
  """Fits a baseline and judges it as a transfer would be; returns what result.json
  holds.

  Raises ConfigError for a task that the baseline cannot have, or more labels than there
  are.
  """
  name = settings.method['name']
  if not task.problem.exclusive:
    raise ConfigError(
      f'config.method.name: {name} needs a task with one label per example; '
      f'{task.name} is of kind {task.problem.name!r}'
    )
  corpus = datasets.TaskExamples.open(settings, task)
  train, test = corpus.train, corpus.test
  # As a model would be: what it is compared with has seen the same examples.
  chosen = corpus.draw(settings).trained
  said = notes.told(task)
  for line in said:
    reporter.info(line)
  seen = [train.texts[index] for index in chosen]
  with run.clock.phase('training'):
    # Its seconds are those of fitting and predicting, for which it has one call.
    found = evals.BASELINES[name](seen, train.targets[chosen], test.texts, task.outputs)
  if run.is_primary:
    write_predictions(run.path / 'predictions.jsonl', task, test, found)
  digest = digest_examples(test.texts, test.targets)
  metrics = tasks.score(task, found, test.targets)
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
      labels=len(set(chosen.tolist())),
      metrics=metrics,
      n=len(test.texts),
      examples=digest,
      trained=[],
      trained_parameters=0,
      total_parameters=0,
      steps=0,
      peak_bytes=peak_bytes(),
      notes=said,
      **run.clock.totals(),
    )
  )
