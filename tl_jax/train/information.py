"""How much the body of a trained model matters to its own task: the diagonal Fisher information.

>>> fisher_of('/no/such/workdir')
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: /no/such/workdir: not a workdir (no config.json in it)
"""

import pathlib

import jax
import numpy as np

from tl_jax import data, models, transfer, tree
from tl_jax.config import ConfigError
from tl_jax.train import texts
from tl_jax.train.pieces import NEW
from tl_jax.train.restoring import Opened, open_workdir

EXAMPLES = 64


def fisher_of(path) -> dict:
  """The information of the body of a workdir, by the names of its leaves, on what it was trained on."""
  path = pathlib.Path(path)
  return information(open_workdir(path), path)


def information(opened: Opened, path: pathlib.Path, count: int = EXAMPLES) -> dict:
  """The diagonal Fisher information of a body on up to `count` labelled examples that it was trained on.

  The expectation over the model's own predictions (Kirkpatrick et al. 2017, section 2). ConfigError for a model that
  was not trained on a task with one label per example.
  """
  settings, tokenizer = opened.settings, opened.tokenizer
  if settings.task is None:
    raise ConfigError(f'{path}: a workdir of pre-training; Fisher information is taken on the task of a transfer')
  task = texts.task_of(settings)
  if task.kind != 'single_label':
    raise ConfigError(f'{path}: fisher needs a task with one label per example; {task.name} is of kind {task.kind!r}')
  model = models.build(opened.arch, settings.compute)
  train = texts.labelled(settings, task, tokenizer, 'train', path)
  chosen = texts.choose_labels(settings, task, train)[:count]
  rows = list(data.evaluation(train.examples, length=settings.data.length, batch=1, pack=False, pad=tokenizer.pad,
                              subset=chosen))
  examples = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
  is_new, leaves = tree.matcher(*NEW), tree.flatten(opened.params)
  own = {name: leaf for name, leaf in leaves.items() if is_new(name)}

  def log_probabilities(body, example):
    params = tree.unflatten({**body, **own})
    logits = model.apply(params, jax.tree.map(lambda leaf: leaf[None], example)).logits
    return jax.nn.log_softmax(logits.reshape(task.outputs).astype('float32'))

  body = {name: leaf for name, leaf in leaves.items() if not is_new(name)}
  return jax.jit(lambda body: transfer.fisher_diagonal(log_probabilities, body, examples, batch=1))(body)
