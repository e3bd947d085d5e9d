"""How much the body of a trained model matters to its own task: the diagonal Fisher
information.

>>> fisher_of('/no/such/workdir')
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: /no/such/workdir: not a workdir (no config.json in it)
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from tl_jax import models, tasks, tree
from tl_jax.config import ConfigError
from tl_jax.train import datasets, programs, writing
from tl_jax.train.assembly import HEAD_PATTERNS
from tl_jax.train.restoring import Opened, generation_of, open_workdir, source_of
from tl_jax.train.settings import Pretrain

EXAMPLES = 64


def fisher_of(path) -> dict:
  """The information of the body of a workdir, by the names that `load` gives its
  leaves, on what it was trained on.
  """
  path = pathlib.Path(path)
  opened = open_workdir(path)
  # As `load` does it: the next run asks by the names that its source has.
  arch, params = models.adopt_pooler(opened.arch, opened.params)
  return information(opened._replace(arch=arch, params=params), path)


class Answers(NamedTuple):
  """What a model says of the examples of its task.

  log_probabilities(logits, example) -> (cases,), or (tokens, cases) of texts, from the
  logits of a row. examples: arrays (n, ...), one in a row. held: names of leaves that
  belong to the task alone. samples: how many answers are drawn of each example; 0 where
  there are so few that each counts by its probability.
  """

  log_probabilities: Callable
  examples: dict
  held: Callable[[str], bool]
  samples: int


def information(opened: Opened, path: pathlib.Path, count: int = EXAMPLES) -> dict:
  """The diagonal Fisher information of a body on about `count` labelled examples that
  it was trained on.

  The expectation over the model's own predictions (Kirkpatrick et al. 2017, section 2),
  as the objective of the task reads them: of a label among those of the example's own
  task, or of several independent decisions. Of texts to write it is that of the tokens
  of the target, each given the prompt and the right tokens before it; there are too many
  to go through, so that they are drawn. ConfigError for a model that was trained on no
  task, and for a regression, whose outputs do not say how sure they are.
  """
  settings = opened.settings
  if isinstance(settings, Pretrain):
    raise ConfigError(
      f'{path}: a workdir of pre-training; Fisher information is taken on the task of '
      'a transfer'
    )
  task = datasets.open_task(settings.task, settings.data.directory, opened.known)
  of_task = _of_texts if task.problem.answer == 'generate' else _of_labels
  found = of_task(opened, task, path, count)
  # What the model says without dropout, which `apply` leaves out by itself.
  model = models.build(opened.arch, settings.compute, ordered=True)
  leaves = tree.flatten(opened.params)
  own = {name: leaf for name, leaf in leaves.items() if found.held(name)}

  def log_probabilities(body, example):
    params = tree.unflatten({**body, **own})
    logits = model.apply(params, jax.tree.map(lambda leaf: leaf[None], example)).logits
    # In float32: probabilities near 1 are all the same in half precision.
    return found.log_probabilities(logits.astype('float32'), example)

  body = {name: leaf for name, leaf in leaves.items() if name not in own}
  key = jax.random.key(settings.seed)
  program = programs.fisher_diagonal(
    log_probabilities, found.examples, key, found.samples
  )
  return program(body)


def _of_labels(
  opened: Opened, task: tasks.Task, path: pathlib.Path, count: int
) -> Answers:
  """What a classifier says of examples."""
  prediction = task.problem.objective(task.facts()).prediction
  if prediction is None or prediction.log_probabilities is None:
    raise ConfigError(
      f'{path}: fisher needs predictions that are probabilities; {task.name} is of '
      f'kind {task.problem.name!r}'
    )

  def log_probabilities(logits, example):
    label = example['labels'].reshape(-1)[0]
    return prediction.log_probabilities(logits.reshape(task.outputs), label)

  # Held: the head answers the task before, and the next run has another one.
  held = tree.matcher(HEAD_PATTERNS)
  examples = training_examples(opened, task, path, count)
  return Answers(log_probabilities, examples, held, samples=0)


def _of_texts(
  opened: Opened, task: tasks.Task, path: pathlib.Path, count: int
) -> Answers:
  """What a model that writes says of every token of the targets."""
  source = source_of(opened, generation_of(path))
  writer = writing.writer_of(task, opened.arch, opened.tokenizer, source)
  objective = task.problem.objective(task.facts(writer=writer))
  examples = training_examples(opened, task, path, count, writer)

  def log_probabilities(logits, example):
    # The gradient of a sum of independent draws has, squared, the sum of their squares
    # for its expectation. What is no target has the same probability whatever is drawn.
    weights = example['target_weights'][:, None]
    return weights * jax.nn.log_softmax(logits[0])

  # No leaf is the task's alone: the next run goes on with the head that writes.
  prepared = objective.prepare(None, examples)
  return Answers(log_probabilities, prepared, lambda name: False, samples=1)


def training_examples(
  opened: Opened,
  task: tasks.Task,
  path: pathlib.Path,
  count: int,
  writer: tasks.Writer | None = None,
) -> dict:
  """About `count` of the labelled examples of a run, a batch of one row for each:
  arrays (n, ...).

  writer: how the model writes texts, where they are asked for.
  """
  settings, pad = opened.settings, opened.tokenizer.pad
  # One in a row: the information sums squares of the gradients of single examples.
  group = dataclasses.replace(settings.data, pack=False)
  corpus = datasets.TaskExamples.open(settings, task)
  writer = writer or tasks.Writer()
  limits = datasets.limits_of(
    settings.task, group, opened.arch, writer, path, opened.pairs
  )
  train = datasets.encode(task, corpus.train, group, 0, opened.tokenizer, limits)
  chosen = corpus.draw(settings).trained
  part = (
    tasks.group_of(task, train.targets[chosen])
    if task.parts
    else np.zeros(len(chosen), int)
  )
  chosen = spread(chosen, part, count)
  rows = list(datasets.labelled_pass(group, train, pad, 1, chosen))
  return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def spread(chosen: np.ndarray, part: np.ndarray, count: int) -> np.ndarray:
  """About `count` of the chosen (n,), each part of them (n,) in its share and with at
  least one.

  They lie as far apart as they can, because files are often sorted by their labels.

  >>> spread(np.arange(10, 20), np.array([0] * 8 + [1] * 2), 5).tolist()
  [10, 12, 14, 16, 18]
  """
  if count >= len(chosen):
    return chosen
  kept = []
  for number in np.unique(part):
    own = chosen[part == number]
    share = max(1, count * len(own) // len(chosen))
    kept.append(own[np.arange(share) * len(own) // share])
  return np.concatenate(kept)
