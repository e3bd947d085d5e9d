"""Metrics of a committed step, long after its run.

>>> evaluate('/no/such/workdir')
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: /no/such/workdir: not a workdir (no config.json in it)
"""

import pathlib

import jax

from tl_jax import evals, models, parallel, tasks
from tl_jax.train import assembly, datasets, notes, programs
from tl_jax.train.evaluators import MixtureEvaluator
from tl_jax.train.memory import require_memory
from tl_jax.train.reporter import NULL_REPORTER, Reporter
from tl_jax.train.restoring import (
  Opened,
  choose_step,
  known_of,
  open_step,
  read_settings,
)
from tl_jax.train.results import require_numbers, write_predictions
from tl_jax.train.running import make_mesh
from tl_jax.train.settings import Transfer
from tl_jax.train.workdir import require_same_command


def evaluate(
  workdir, step: int | None = None, overrides=(), reporter: Reporter = NULL_REPORTER
) -> dict:
  """Metrics of a committed step on the test split: of the task, or of the objective
  after pre-training.

  Writes predictions.jsonl into the workdir of a transfer, where it can be written.
  Several processes share the work after pre-training. On a task each does it all, and
  the first writes.
  Raises ValueError naming the workdir, step or override.
  """
  path = pathlib.Path(workdir)
  # First, so that a wrong override is refused where there is no device to use.
  settings = read_settings(path, overrides)
  step = choose_step(path, step)
  task = None
  if isinstance(settings, Transfer):
    known = known_of(path, step)
    task = datasets.open_task(settings.task, settings.data.directory, known)
  require_memory(settings, assembly.smallest_arch(settings, task), trains=False)
  parallel.start()
  parallel.keep_freed_memory()
  with parallel.telling_failures():
    require_same_command(path, dict(step=step, overrides=list(map(list, overrides))))
    opened = open_step(path, settings, step)
    require_memory(settings, opened.arch, trains=False)
    if task is None:
      name, metrics, count = _evaluate_mixture(opened, path)
    else:
      name, metrics, count = _evaluate_task(opened, task, path, reporter)
  reporter.info(
    f'{name} at step {opened.step}: '
    + ', '.join(f'{key} {value:.4f}' for key, value in metrics.items())
  )
  return dict(task=name, step=opened.step, metrics=metrics, n=count)


def _evaluate_task(
  opened: Opened, task: tasks.Task, path: pathlib.Path, reporter: Reporter
):
  settings, tokenizer = opened.settings, opened.tokenizer
  group = settings.data
  for line in notes.told(task):
    reporter.info(line)
  test = datasets.read_split(task, 'test', group.directory, settings.task.test)
  positions = opened.method.prompt_positions
  test = datasets.encode(task, test, group, positions, tokenizer, path)
  model = models.build(opened.arch, settings.compute)
  apply = programs.outputs_of_params(model)
  batches = datasets.labelled_pass(group, test, tokenizer.pad, group.batch)
  found = evals.outputs(apply, opened.params, batches, len(test.texts))
  require_numbers(opened.step, {}, found)
  try:
    if jax.process_index() == 0:
      write_predictions(path / 'predictions.jsonl', task, test, found)
  except OSError as error:
    # The metrics are what was asked for; a folder that is mounted to be read still has
    # them.
    reporter.info(f'predictions.jsonl is not written: {path}: {error.strerror}')
  return task.name, tasks.score(task, found, test.targets), len(test.texts)


def _evaluate_mixture(opened: Opened, path: pathlib.Path):
  settings = opened.settings
  # The architecture is that of the checkpoint, which may have come from another model.
  length, tokenizer = settings.data.length, opened.tokenizer
  objective = assembly.make_objective(settings.objective, length, tokenizer)
  parts = assembly.assemble(settings, opened.arch, objective, opened.method)
  mesh = make_mesh(settings.mesh, settings.data)
  with jax.set_mesh(mesh):
    sharding = parallel.batch_sharding(mesh)
    evaluator = MixtureEvaluator(settings, parts, tokenizer, path, sharding)
    params = parallel.place(opened.params, parallel.replicated(mesh))
    metrics = evaluator.measure(params)
  require_numbers(opened.step, metrics, None)
  return 'pretrain', metrics, int(metrics.pop('examples'))
