"""How much the body of a trained model matters to its own task: the diagonal Fisher
information.

>>> fisher_of('/no/such/workdir')
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: /no/such/workdir: not a workdir (no config.json in it)
"""

import pathlib

import jax
import numpy as np

from tl_jax import data, models, tasks, tree
from tl_jax.config import ConfigError
from tl_jax.train import datasets, programs
from tl_jax.train.assembly import HEAD_PATTERNS
from tl_jax.train.restoring import Opened, open_workdir
from tl_jax.train.settings import Pretrain
from tl_jax.train.tokenizing import token_cache

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


def information(opened: Opened, path: pathlib.Path, count: int = EXAMPLES) -> dict:
  """The diagonal Fisher information of a body on about `count` labelled examples that
  it was trained on.

  The expectation over the model's own predictions (Kirkpatrick et al. 2017, section 2),
  as the objective of the task reads them: of a label among those of the example's own
  task, or of several independent decisions. ConfigError for a model that was trained on
  no task, and for a regression, whose outputs do not say how sure they are.
  """
  settings = opened.settings
  if isinstance(settings, Pretrain):
    raise ConfigError(
      f'{path}: a workdir of pre-training; Fisher information is taken on the task of '
      'a transfer'
    )
  task = datasets.open_task(settings.task, settings.data.directory, opened.known)
  prediction = task.problem.objective(task.facts()).prediction
  if prediction is None or prediction.log_probabilities is None:
    raise ConfigError(
      f'{path}: fisher needs predictions that are probabilities; {task.name} is of '
      f'kind {task.problem.name!r}'
    )
  # What the model says without dropout, which `apply` leaves out by itself.
  model = models.build(opened.arch, settings.compute)
  examples = training_examples(opened, task, path, count)
  is_new, leaves = tree.matcher(HEAD_PATTERNS), tree.flatten(opened.params)
  # Held: the head answers the task before, and the next run has another one.
  own = {name: leaf for name, leaf in leaves.items() if is_new(name)}

  def log_probabilities(body, example):
    params = tree.unflatten({**body, **own})
    logits = model.apply(params, jax.tree.map(lambda leaf: leaf[None], example)).logits
    label = example['labels'].reshape(-1)[0]
    # In float32: probabilities near 1 are all the same in half precision.
    return prediction.log_probabilities(
      logits.reshape(task.outputs).astype('float32'), label
    )

  body = {name: leaf for name, leaf in leaves.items() if not is_new(name)}
  return programs.fisher_diagonal(log_probabilities, examples)(body)


def training_examples(
  opened: Opened, task: tasks.Task, path: pathlib.Path, count: int
) -> dict:
  """About `count` of the labelled examples of a run, a batch of one row for each:
  arrays (n, ...).
  """
  settings, pad = opened.settings, opened.tokenizer.pad
  group = settings.data
  corpus = datasets.TaskExamples.open(settings, task)
  limits = tasks.Limits(
    group.length, token_cache(path), pairs=opened.pairs, types=opened.arch.types
  )
  train = datasets.encode(task, corpus.train, group, 0, opened.tokenizer, limits)
  chosen = corpus.draw(settings).trained
  part = (
    tasks.group_of(task, train.targets[chosen])
    if task.parts
    else np.zeros(len(chosen), int)
  )
  # One in a row: the information sums squares of the gradients of single examples.
  rows = list(
    data.evaluation(
      train.examples,
      length=group.length,
      batch=1,
      pack=False,
      pad=pad,
      subset=spread(chosen, part, count),
    )
  )
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
