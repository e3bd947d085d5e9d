"""Metrics of a committed step, long after its run.

>>> evaluate('/no/such/workdir')
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: /no/such/workdir: not a workdir (no config.json in it)
"""

import functools
import pathlib
from collections.abc import Callable, Sequence

import jax

from tl_jax import evals, files, models, parallel, tasks
from tl_jax.config import ConfigError
from tl_jax.evals import calibrating
from tl_jax.evals.calibrating import Answers
from tl_jax.evals.intervals import of_task, said
from tl_jax.train import assembly, calibration, datasets, notes, programs, results
from tl_jax.train.evaluators import MixtureEvaluator, TextEvaluator
from tl_jax.train.memory import require_memory
from tl_jax.train.reporter import NULL_REPORTER, Reporter
from tl_jax.train.restoring import (
  Opened,
  choose_step,
  generation_of,
  known_of,
  open_step,
  read_settings,
  source_of,
)
from tl_jax.train.results import (
  PREDICTIONS,
  keep_predictions,
  predictions_of,
  require_numbers,
)
from tl_jax.train.running import make_mesh
from tl_jax.train.settings import Settings, Transfer
from tl_jax.train.workdir import require_same_command
from tl_jax.train.writing import writer_of


def evaluate(
  workdir,
  step: int | None = None,
  overrides=(),
  reporter: Reporter = NULL_REPORTER,
  output: str | None = None,
  reliability: bool = False,
) -> dict:
  """Metrics of a committed step on the test split: of the task, or of the objective
  after pre-training.

  Predictions on a task go to the file `output`. Without one they go into the workdir,
  where it can be written: to predictions.jsonl if there is none yet, else beside it, as
  `results.keep_predictions` says. What a run left is never overwritten.
  With `config.eval.calibrate` it also has the `calibration` of `evals.calibrating`, by a
  temperature that is fitted to what the run held out. reliability: are the curves of
  how often the model is right, by how sure it is, among what is returned?
  Several processes share the work after pre-training. On a task each does it all, and
  the first writes.
  Raises ValueError naming the workdir, step, override or output.
  """
  path = pathlib.Path(workdir)
  # First, so that a wrong override is refused where there is no device to use.
  settings = read_settings(path, overrides)
  step = choose_step(path, step)
  if output is not None:
    _require_output(path, settings, pathlib.Path(files.require_local(output, 'output')))
  task = None
  if isinstance(settings, Transfer):
    known = known_of(path, step)
    task = datasets.open_task(settings.task, settings.data.directory, known)
  calibration.require_held_out(settings, task, path)
  if reliability:
    calibration.require_figure(task)
  require_memory(settings, assembly.smallest_arch(settings, task), trains=False)
  parallel.start()
  parallel.keep_freed_memory()
  with parallel.telling_failures():
    require_same_command(path, dict(step=step, overrides=list(map(list, overrides))))
    opened = open_step(path, settings, step)
    require_memory(settings, opened.arch, trains=False)
    if task is None:
      name, metrics, count = _evaluate_mixture(opened, path)
      # Sums of tokens: what single examples add to them is not kept.
      intervals = {}
      more = {}
    else:
      metrics, answers = _evaluate_task(opened, task, path, reporter, output)
      name = task.name
      count = len(answers.targets)
      intervals = of_task(task, answers.raw, answers.targets, metrics)
      more = _calibrate(opened, task, path, answers, reliability)
  values = results.shown(metrics, intervals)
  reporter.info(f'{name} at step {opened.step}, n={count}: {values}')
  if intervals:
    reporter.info('in brackets: ' + said())
  for line in calibrating.told(more.get('calibration', {})):
    reporter.info(line)
  found = dict(task=name, step=opened.step, metrics=metrics, n=count)
  return found | results.spread(intervals) | more


def _require_output(path: pathlib.Path, settings: Settings, output: pathlib.Path):
  """Raises ConfigError for an output that cannot be, before anything is computed."""
  if not isinstance(settings, Transfer):
    raise ConfigError(f'--output: {path}: pre-training has no task, so no predictions')
  if output.is_dir() or not output.parent.is_dir():
    raise ConfigError(f'--output: {output}: needs a file in a folder that is there')
  own = path / PREDICTIONS
  if own.exists() and output.resolve() == own.resolve():
    raise ConfigError(f'--output: {output}: is what the run itself left; name another')


def _evaluate_task(
  opened: Opened,
  task: tasks.Task,
  path: pathlib.Path,
  reporter: Reporter,
  output: str | None,
) -> tuple[dict[str, float], Answers]:
  """(the metrics of a task on its test split, what the model answers there)."""
  for line in notes.told(task):
    reporter.info(line)
  test, measure = make_measure(opened, task, path)
  metrics, found = measure(opened.params)
  require_numbers(opened.step, metrics, found)
  if jax.process_index() == 0:
    content = predictions_of(task, test, found)
    _write_predictions(path, opened.step, content, reporter, output)
  return metrics, Answers(found, test.targets)


def _calibrate(
  opened: Opened,
  task: tasks.Task,
  path: pathlib.Path,
  test: Answers,
  reliability: bool,
) -> dict:
  """What `evaluate` gives besides, where it is asked for: `calibration`, by a temperature
  that is fitted to what the run held out, and the curves of `reliability`.
  """
  more = {}
  if opened.settings.eval.calibrate:
    split = _encode(opened, task, calibration.held_out(opened, path), path)
    _, raw = _measure_labels(opened, task, split)(opened.params)
    fitted = Answers(raw, split.targets)
    more['calibration'] = calibrating.calibration(task, fitted, test)
  if reliability:
    fitted = more.get('calibration', {})
    more['reliability'] = calibrating.curves(task, test, fitted)
  return more


def _write_predictions(
  path: pathlib.Path,
  step: int,
  content: bytes,
  reporter: Reporter,
  output: str | None,
) -> None:
  """Writes predictions where they were asked for, or into the workdir at `path`."""
  if output is not None:
    files.write_atomically(pathlib.Path(output), content)
    return
  try:
    kept = keep_predictions(path, step, content)
  except OSError as error:
    # The metrics are what was asked for; a folder that is mounted to be read still has
    # them.
    reporter.info(f'{PREDICTIONS} is not written: {path}: {error.strerror}')
    return
  if kept.name != PREDICTIONS:
    reporter.info(f'{kept}: the predictions; {PREDICTIONS} stays as the run left it')


def make_measure(
  opened: Opened, task: tasks.Task, path: pathlib.Path
) -> tuple[datasets.Labelled, Callable]:
  """(test split, params -> (its metrics, what the model answers)) of a task.

  The workdir is at `path`. What is compiled is compiled once
  for all parameters.
  """
  settings = opened.settings
  test = datasets.read_test(task, settings.data.directory, settings.task.test)
  test = _encode(opened, task, test, path)
  if task.problem.answer == 'logits':
    return test, _measure_labels(opened, task, test)
  trained = _trained_texts(opened, path) if 'copying' in task.metrics else ()
  return test, _measure_texts(opened, task, test, trained)


def _encode(
  opened: Opened, task: tasks.Task, split: datasets.Labelled, path: pathlib.Path
) -> datasets.Labelled:
  """A split as the model of a workdir reads it."""
  settings, tokenizer, arch = opened.settings, opened.tokenizer, opened.arch
  source = source_of(opened, generation_of(path))
  writer = writer_of(task, arch, tokenizer, source)
  choice, group = settings.task, settings.data
  limits = datasets.limits_of(choice, group, arch, writer, path, opened.pairs)
  positions = opened.method.prompt_positions
  return datasets.encode(task, split, group, positions, tokenizer, limits)


def _trained_texts(opened: Opened, path: pathlib.Path) -> list[str]:
  """The texts that the run of a workdir learned from, whatever it is tried on."""
  own = read_settings(path)
  task = datasets.open_task(own.task, own.data.directory, opened.known)
  return datasets.texts_of(task, datasets.read_split(task, 'train', own.data.directory))


def _measure_labels(opened: Opened, task: tasks.Task, test: datasets.Labelled):
  """params -> (metrics, outputs (n, labels))."""
  settings = opened.settings
  model = models.build(opened.arch, settings.compute, ordered=True)
  apply = programs.outputs_of_params(model)
  pad, batch = opened.tokenizer.pad, settings.data.batch
  batches = datasets.labelled_pass(settings.data, test, pad, batch)

  def measure(params):
    outputs = functools.partial(evals.outputs, apply, params, batches)
    found = datasets.Portion.of(test).collected(task, outputs)
    return tasks.score(task, found, test.targets), found

  return measure


def _measure_texts(
  opened: Opened, task: tasks.Task, test: datasets.Labelled, trained: Sequence[str]
):
  """params -> (metrics, n texts)."""
  settings, arch = opened.settings, opened.arch
  writer = test.limits.writer
  objective = assembly.objective_of(settings, task, opened.tokenizer, writer)
  parts = assembly.assemble(settings, arch, objective, opened.method)
  decoder = models.decoder(arch, settings.compute)
  mesh = make_mesh(settings.mesh, settings.data)
  sharding = parallel.batch_sharding(mesh)
  evaluator = TextEvaluator(
    task, test, settings.data, parts, decoder, opened.tokenizer, sharding, trained
  )

  def measure(params):
    with jax.set_mesh(mesh):
      placed = parallel.place(params, parallel.replicated(mesh))
      return evaluator.measure(placed, datasets.Portion.of(test))

  return measure


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
