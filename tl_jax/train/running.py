"""Runs of either mode, as one story: open, prepare, start, fit, evaluate, result.

>>> from tl_jax import config
>>> tiny = config.load('configs/pretrain.py:tiny', [('schedule.steps', '0')])
>>> pretrain(tiny, '/tmp/never')
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: config.schedule.steps: must be an integer >= 1, got 0 (int)
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from tl_jax import checkpoint, data, layers, models, parallel, tree
from tl_jax.config import ConfigError
from tl_jax.evals import calibrating
from tl_jax.parallel import watching
from tl_jax.train import (
  assembly,
  length,
  loop,
  methods,
  phases,
  programs,
  results,
  tokenizing,
)
from tl_jax.train.baselines import Baseline
from tl_jax.train.checks import Checked, check, require_divisible, require_run
from tl_jax.train.clock import Clock
from tl_jax.train.compilation import together
from tl_jax.train.course import Course
from tl_jax.train.datasets import TaskExamples
from tl_jax.train.evaluators import Evaluation, Evaluator, make_evaluator
from tl_jax.train.incontext import InContext
from tl_jax.train.memory import require_memory
from tl_jax.train.placing import lines_on_uncut, require_overrides, require_tensor
from tl_jax.train.preparing import Prepared, prepare
from tl_jax.train.reporter import NULL_REPORTER, Reporter, peak_bytes
from tl_jax.train.restoring import meta
from tl_jax.train.results import Diverged, Result, write_predictions
from tl_jax.train.settings import Data, Settings, Transfer
from tl_jax.train.starting import Given, Own
from tl_jax.train.step import TrainState
from tl_jax.train.workdir import Run, open_run


def pretrain(config, workdir, reporter: Reporter = NULL_REPORTER) -> dict:
  """Pre-trains, as `run` does. Raises ConfigError for the config of a transfer."""
  if config.get('task') is not None:
    raise ConfigError(
      'config.task: this is the config of a transfer, not of pre-training'
    )
  return run(config, workdir, reporter)


def transfer(config, workdir, reporter: Reporter = NULL_REPORTER) -> dict:
  """Trains one method on one task, as `run` does. Raises ConfigError for the config of
  pre-training.
  """
  require_run(config)
  if config.get('task') is None:
    raise ConfigError(
      'config.task: missing; this is the config of pre-training, not of a transfer'
    )
  return run(config, workdir, reporter)


def run(config, workdir, reporter: Reporter = NULL_REPORTER) -> dict:
  """Runs a config to its end, or goes on where its workdir is; returns what result.json
  holds.

  Raises ConfigError before a device is touched, WorkdirBusy, Stopped after a signal,
  Diverged.
  """
  checked = check(config)
  settings = checked.settings
  # A finished run needs none.
  if not (pathlib.Path(workdir) / results.FILE).is_file():
    arch = assembly.smallest_arch(settings, checked.task)
    if arch is not None:
      models.require_form(arch, settings.compute)
    require_memory(settings, arch)
    require_overrides(settings, arch, checked.method)
  with open_run(config, workdir) as opened:
    finished = opened.result(settings)
    if finished is not None:
      goes_on = opened.store.latest() is not None
      line = said_of_finished(finished, settings, goes_on)
      reporter.info(f'{line}; its result: {opened.path / results.FILE}')
      return finished
    learner = make_learner(checked, opened)
    return learner.run(settings, opened, reporter)


def said_of_finished(finished: dict, settings: Settings, goes_on: bool) -> str:
  """Of a run that was over before this start, where it ended and what lets it go on.

  finished: what its result.json holds. goes_on: are there steps to go on from? A
  baseline has none.
  """
  steps = settings.schedule.steps
  ended = finished['steps']
  if finished.get('stopped') and steps is not None and ended < steps:
    return (
      f'stopped at step {ended} of {steps}: {finished["stopped"]}; more '
      'config.eval.patience lets it go on'
    )
  if not goes_on:
    return 'finished before'
  key = 'epochs' if steps is None else 'steps'
  return f'finished before, at step {ended}; more config.schedule.{key} lets it go on'


def make_learner(checked: Checked, run: Run) -> 'Trainer | Baseline | InContext':
  """What learns in a run, with its examples: the trainer of a model, its prompts, or a
  baseline.

  Raises ConfigError where things do not fit.
  """
  if checked.method is not None:
    return make_trainer(checked, run)
  corpus = TaskExamples.open(checked.settings, checked.task)
  if checked.settings.method['name'] == methods.IN_CONTEXT:
    return InContext(corpus, make_mesh(checked.settings.mesh, checked.settings.data))
  return Baseline(corpus)


def make_trainer(
  checked: Checked, run: Run, cache: pathlib.Path | None = None
) -> 'Trainer':
  """The trainer of a run; `cache` is where encoded texts are kept. Raises ConfigError
  where things do not fit.
  """
  settings = checked.settings
  # First, because to prepare may take minutes.
  mesh = make_mesh(settings.mesh, settings.data)
  platform = mesh.devices.flat[0].platform
  models.require_platform(settings.compute.attention, platform)
  ready = prepare(checked, run.path, run.is_primary, cache)
  # Known before only where the config says the size of the axis.
  require_tensor(ready.parts.model.arch, mesh.shape['tensor'])
  return Trainer(ready, mesh)


def make_mesh(shape: parallel.MeshShape, group: Data):
  """The mesh of this machine's devices. Raises ConfigError where it or the batch does
  not fit them.
  """
  try:
    mesh = parallel.make_mesh(shape)
  except ValueError as error:
    raise ConfigError(str(error)) from error
  # Checked before without devices, as far as it goes: an axis may take what is left.
  require_divisible(group, mesh.shape)
  return mesh


def placed_batches(
  stream: data.pipeline.Stream,
  first: int,
  settings: Settings,
  sharding,
  arch: models.Arch,
):
  """(global batch on the mesh, tokens in it) from step `first` to the last one, read
  ahead by threads.

  Raises ValueError for ids that the model has no row for, before they reach a device.
  """
  for phase, last in phases.ends(settings):
    rows = phase.data.batch
    held = parallel.host_rows(sharding, rows)
    begin = max(first, phase.first)
    if begin >= last:
      continue
    batches = data.batches(stream, begin, last, rows=held)
    for step, batch in enumerate(batches, begin):
      models.require_rows(arch, batch)
      yield parallel.place_batch(batch, sharding, rows, held), stream.tokens_at(step)


class Trainer:
  """A prepared run on a mesh, for any number of runs that differ in nothing but `Own`
  and their labels.

  The step and the forward pass of the evaluation are compiled once, the test split is
  laid into rows once.
  """

  def __init__(self, ready: Prepared, mesh):
    if ready.source is not None:
      # The memory of the devices is for the states of the runs.
      params = parallel.to_host(ready.source.params)
      ready = ready._replace(source=ready.source._replace(params=params))
    self.ready, self.mesh = ready, mesh
    self._files: dict = {}  # of the checkpoints so far, by size and checksum
    self.sharding = parallel.batch_sharding(mesh)
    with jax.set_mesh(mesh):
      where = (
        mesh,
        ready.settings.sharding,
        parallel.parse_overrides(ready.settings.sharding_overrides),
      )
      self.shardings = programs.state_shardings(ready.parts, *where)
      self._named_shardings = programs.named_shardings(ready.parts, *where)
    # first_of(given, own): the state at step 0 in the form that the step takes.
    self.first_of = programs.in_form(ready.start.state, self.shardings)
    first_state = programs.first_state(ready.start.state, self.shardings)
    self._first_state = together(first_state)
    self._to_named = together(programs.named_state(self._named_shardings))
    self._to_held = together(programs.held_state(self.shardings))
    # The step of each schedule and shape of rows, jitted or compiled.
    self._steps: dict[Any, Any] = {}

  @functools.cached_property
  def given(self) -> Given:
    """What first states are made from; a run that goes on may never ask for it."""
    return self.ready.given()

  @functools.cached_property
  def evaluator(self) -> Evaluator:
    """What evaluates the states of all runs."""
    return make_evaluator(self.ready, self.sharding)

  def run(
    self, settings: Settings, run: Run, reporter: Reporter = NULL_REPORTER
  ) -> dict:
    """Trains one run, or goes on where its workdir is; returns what result.json holds."""
    arch = self.ready.parts.model.arch
    epochs = settings.schedule.epochs
    settings, stream, chosen = self.admit(settings, run)
    if epochs is not None:
      reporter.info(f'{epochs:g} epochs = {settings.schedule.steps} steps')
    for line in self.ready.lines(settings, chosen):
      reporter.info(line)
    parts = self.ready.parts
    for line in lines_on_uncut(parts.model, parts.method, self.mesh, settings):
      reporter.info(line)
    recorder = self.recorder(settings, run, chosen)
    state = self.start(settings, run, recorder.course, reporter)
    with jax.set_mesh(self.mesh):
      method = methods.name_of(settings.method)
      reporter.info(assembly.said_of_training(self.ready.parts, method, state))
      # The state says where the run is: a damaged step may have been passed over.
      first, last = int(state.step), settings.schedule.steps
      rows = self.evaluator.training_rows(stream, state, first, last)
      batches = placed_batches(rows, first, settings, self.sharding, arch)
      fitted = loop.fit(
        settings,
        self._legs(settings),
        state,
        batches,
        recorder,
        reporter,
        'transfer' if isinstance(settings, Transfer) else 'pretrain',
      )
      # The next run of this signature takes the compiled steps.
      for (phase, _), leg in zip(phases.ends(settings), fitted.legs, strict=True):
        self._steps[settings.schedule, *phase.shape] = leg.program
      state, course = fitted.state, recorder.course
      return self.finish(settings, run, state, chosen, course, reporter)

  def admit(self, settings: Settings, run: Run) -> tuple:
    """(the settings of a run with its epochs as steps, the rows that it sees, the
    numbers of its examples).

    Raises ConfigError for more labels than there are, and where an earlier start was
    trained on something else.
    """
    run.require_files(self.ready.files())
    run.require_files(self.ready.sets(), 'sets')
    init = '' if self.ready.source is None else settings.init
    tokenizing.require_read_by_newest(run.path, self.ready.tokenizer, init)
    stream, chosen = self.ready.corpus.stream(settings)
    run.require_trained_on(results.digest_numbers(chosen))
    run.require_frame(self.ready.frame)
    return length.in_steps(settings, stream), stream, chosen

  def _legs(self, settings: Settings) -> list[loop.Leg]:
    """The steps of a run with its schedule, which an earlier one may have compiled, a
    step for each phase.
    """
    legs = []
    for phase, last in phases.ends(settings):
      key = settings.schedule, *phase.shape
      if key not in self._steps:
        self._steps[key] = self._step_of(settings, phase.data)
      legs.append(loop.Leg(self._steps[key], last))
    return legs

  def _step_of(self, settings: Settings, group: Data):
    """The jitted step of a run with its schedule, on rows of this group."""
    ready = self.ready
    parts = ready.parts
    objective = parts.objective
    is_as_prepared = settings.schedule == ready.settings.schedule
    if group.length != ready.settings.data.length:
      # An objective may make texts as long as the rows.
      is_as_prepared = False
      chosen = settings.objective
      objective = assembly.make_objective(chosen, group.length, ready.tokenizer)
    if not is_as_prepared:
      own = dataclasses.replace(ready.settings, schedule=settings.schedule)
      parts = assembly.assemble(own, parts.model.arch, objective, parts.method)
    return programs.step(parts, self.shardings, self.sharding)

  def start(
    self, settings: Settings, run: Run, course: Course, reporter: Reporter
  ) -> TrainState:
    """The state of the newest good checkpoint, whose course is taken over, or a fresh
    one with its account in account.json.
    """
    state = self.restore(settings, run, course, reporter)
    if state is not None:
      return state
    self.describe(settings, run)
    # Not on the mesh: the information of EWC is of one example after the other, which no
    # axis divides.
    given = self.given
    with jax.set_mesh(self.mesh):
      return self._first_state(given, Own.of(settings))

  def restore(
    self, settings: Settings, run: Run, course: Course, reporter: Reporter
  ) -> TrainState | None:
    """The state of the newest good checkpoint, whose course is taken over; None where
    there is none.
    """
    with jax.set_mesh(self.mesh):
      restored = run.restore_latest(self._abstract(), self.ready.parts.model.arch)
    if restored is None:
      return None
    reporter.info(f'resumed at step {restored.step} of {settings.schedule.steps}')
    for line in length.said_of_longer(restored.meta, settings, restored.step):
      reporter.info(line)
    course.go_on(restored.meta.get('course'))
    return self._held(restored.state)

  def describe(self, settings: Settings, run: Run) -> None:
    """Leaves in a workdir what a run starts from: the account of every leaf, and the
    tokenizer.
    """
    account = self.ready.account
    if account is not None:
      run.write_account(account, self.ready.source, settings.init)
    if run.is_primary:
      # A member of a cohort has another folder than that of the run that was prepared.
      tokenizing.keep(run.path, self.ready.tokenizer, self.ready.source)

  def recorder(self, settings: Settings, run: Run, chosen: np.ndarray) -> loop.Recorder:
    """Where a run leaves its figures that is trained on the examples `chosen`."""
    ready = self.ready
    watch = self.evaluator.watch(ready.corpus.watched(settings))
    said = meta(
      ready.parts.model.arch, ready.tokenizer, ready.files(), ready.task, ready.frame
    )
    steps = settings.schedule.steps
    said |= dict(sets=ready.sets())
    said |= dict(trained_on=results.digest_numbers(chosen), steps=steps)
    course = Course.of(settings, watch.metric)
    recorder = run.recorder(settings, watch, course, said)

    def save(step: int, state: TrainState) -> None:
      recorder.save(step, self._named(state))

    return recorder._replace(save=save)

  def finish(
    self,
    settings: Settings,
    run: Run,
    state,
    chosen: np.ndarray,
    course: Course,
    reporter: Reporter = NULL_REPORTER,
  ) -> dict:
    """Evaluates the last state of a run that was trained on the examples `chosen`, or
    the best one of its course, and writes what it says.
    """
    # The last step is on the disk before a result says that the run is finished.
    with watching.during('save', 'the checkpoint of the last step'):
      run.store.wait()
    ended = int(state.step)
    judged = self.best_state(run, course, state)
    with watching.during('evaluation', f'the evaluation of step {int(judged.step)}'):
      found = self.evaluator.evaluate(judged)
    try:
      results.require_numbers(int(judged.step), found.metrics, found.outputs)
    except Diverged:
      # Nobody shall start from it.
      run.store.reject(int(judged.step))
      raise
    if run.is_primary:
      # Members hold the same base: on the disk it is there once.
      for step in run.store.steps():
        checkpoint.share_files(run.store.directory / str(step), self._files)
      if found.outputs is not None:
        path = run.path / 'predictions.jsonl'
        write_predictions(path, self.ready.task, self.ready.corpus.test, found.outputs)
    calibration = self._calibration(settings, judged, found)
    for line in calibrating.told(calibration):
      reporter.info(line)
    made = make_result(self.ready, settings, chosen, found, judged, run.clock)
    made = dataclasses.replace(
      made, steps=ended, stopped=course.reason, calibration=calibration
    )
    result = run.finish(made)
    if course.reason:
      reporter.info(f'stopped at step {ended}: {course.reason}')
    values = results.shown(result['metrics'], result['intervals'])
    # The best by what it was watched on, which is never the test split.
    at_best = f' at step {made.step}, the best' if course.keeps_best else ''
    tested = f'test, n={made.n}'
    reporter.info(f'{self.ready.title}{at_best} ({tested}): {values}')
    return result

  def _calibration(self, settings: Settings, state, found: Evaluation) -> dict:
    """What a temperature changes that is fitted to the validation examples; {} where no
    run asks for it.
    """
    corpus = self.ready.corpus
    if self.ready.task is None or not settings.eval.calibrate:
      return {}
    held_out = self.evaluator.answers(state, corpus.held_out(settings))
    test = calibrating.Answers(found.outputs, corpus.test.targets)
    return calibrating.calibration(corpus.task, held_out, test)

  def best_state(self, run: Run, course: Course, last: TrainState) -> TrainState:
    """The state that is the model of a run: its last one, or the best of its course."""
    if not course.keeps_best or course.best == int(last.step):
      return last
    return self._held(run.store.restore(course.best, self._abstract()))

  def _abstract(self) -> TrainState:
    """What a checkpoint is restored into: the named state."""
    return programs.abstract_state(self.ready.parts, self._named_shardings)

  def _held(self, named: TrainState) -> TrainState:
    """A named state in the form that the step takes."""
    if not layers.is_held(self.shardings):
      return named
    with jax.set_mesh(self.mesh):
      return self._to_held(named)

  def _named(self, state: TrainState) -> TrainState:
    """A state with leaves of its own for every layer, as checkpoints have it."""
    if not layers.is_held(self.shardings):
      return state
    with jax.set_mesh(self.mesh):
      return self._to_named(state)


def make_result(
  ready: Prepared,
  settings: Settings,
  chosen: np.ndarray,
  found: Evaluation,
  state,
  clock: Clock,
) -> Result:
  """The result of a run that was trained on the examples `chosen`, from the evaluation
  of the state that is its model.
  """
  trained = assembly.trained_leaves(ready.parts, state.trainable)
  # Of the model that comes out: what a method puts in may be folded into its weights.
  fused = assembly.fused_shapes(ready.parts, state)
  return Result(
    task=ready.corpus.name,
    method=methods.name_of(settings.method),
    init=settings.init,
    seed=settings.seed,
    labels=len(set(chosen.tolist())),
    metrics=found.metrics,
    n=found.count,
    examples=found.examples,
    trained=assembly.kinds_of(trained),
    trained_parameters=tree.count(trained),
    total_parameters=tree.count(fused),
    steps=settings.schedule.steps,
    step=int(state.step),
    peak_bytes=peak_bytes(),
    notes=ready.notes(settings, chosen),
    signatures=ready.signatures(),
    **ready.counted(settings),
    **results.spread(found.intervals),
    **clock.totals(),
  )
