"""Transfer: from a checkpoint, or from scratch, to a labelled task under a method.

>>> from tl_jax import config
>>> transfer(config.load('configs/transfer.py:task=sentiment,method=lora,init=/no/such/workdir'), '/tmp/never')
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: config.init: /no/such/workdir: not 'scratch', a workdir or a Hugging Face folder
"""

import dataclasses
import pathlib
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax import checkpoint, evals, interop, objectives, optim, parallel, tasks, tree
from tl_jax import transfer as methods
from tl_jax.config import ConfigError
from tl_jax.train import loop, notes, pieces, texts
from tl_jax.train.baselines import run_baseline
from tl_jax.train.checks import check_fit, read
from tl_jax.train.clock import Clock
from tl_jax.train.compilation import together
from tl_jax.train.features import Reader
from tl_jax.train.information import fisher_of
from tl_jax.train.pieces import NEW
from tl_jax.train.pretraining import average, placed_batches
from tl_jax.train.restoring import keep_tokenizer, load, meta
from tl_jax.train.results import Result, digest_examples, write_predictions
from tl_jax.train.settings import SCRATCH, Pretrain, Settings
from tl_jax.train.watch import SILENT, Watch, peak_bytes
from tl_jax.train.workdir import Run, open_run


class Own(NamedTuple):
  """What is data to the program of a run: runs that differ in nothing else share the
  program.
  """

  seed: Any
  rate: Any
  decay: Any

  @classmethod
  def of(cls, settings: Settings) -> 'Own':
    return cls(
      np.uint32(settings.seed),
      np.float32(settings.optim.lr),
      np.float32(settings.optim.decay),
    )


class Prepared(NamedTuple):
  """A transfer that is ready to run: nothing in it depends on the seed or the number of
  labels.
  """

  settings: Settings
  task: tasks.Task
  tokenizer: Any
  train: texts.Labelled
  test: texts.Labelled
  parts: pieces.Pieces
  source: interop.Loaded | None
  fisher: dict | None = None

  def params(self, seed):
    """The model's first parameters: the source's, and fresh ones for what is new;
    `seed` may be traced.
    """
    fresh = pieces.make_params(self.parts.model, seed)
    return fresh if self.source is None else transplanted(self.source.params, fresh)[0]

  def weighed(self, state, fisher=None):
    """A first state with the Fisher information of the source in it, where the method
    is EWC.
    """
    fisher = self.fisher if fisher is None else fisher
    if fisher is None:
      return state
    return state._replace(frozen=methods.with_fisher(state.frozen, fisher))

  def account(self) -> methods.Account:
    """What becomes of every leaf of the source and of the model, whatever the seed is;
    nothing is computed.
    """
    found = []

    def transplant():
      fresh = pieces.make_params(self.parts.model, 0)
      if self.source is None:
        found.append(methods.transplant({}, fresh, fresh=['.*'])[1])
      else:
        found.append(transplanted(self.source.params, fresh)[1])

    jax.eval_shape(transplant)
    return found[0]

  def given(self) -> dict:
    """What the first state of every run of this signature is made from, in the memory
    of the host.
    """
    params = None if self.source is None else self.source.params
    return parallel.to_host(dict(params=params, fisher=self.fisher))

  def first_state(self, given: dict, own: 'Own'):
    """A run's state at step 0, from what `given` returned and its own values, which may
    be traced.

    As a jitted function it shares no buffer with the source, so that the state may be
    donated.
    """
    params = pieces.make_params(self.parts.model, own.seed)
    if given['params'] is not None:
      params, _ = transplanted(given['params'], params)
    state = self.weighed(self.parts.init(params, own.seed), given['fisher'])
    return state._replace(
      opt_state=optim.set_rate(state.opt_state, own.rate, own.decay)
    )

  def keep_tokenizer(self, folder: pathlib.Path) -> None:
    """Writes the tokenizer into the folder of a run, unless it is there."""
    if (folder / texts.TOKENIZER).is_file():
      return
    if self.source is None:
      self.tokenizer.save(folder / texts.TOKENIZER)
    else:
      keep_tokenizer(folder, self.source)

  def files(self) -> dict[str, str]:
    """The sha256 of every file of the user that the task is read from, by path."""
    return notes.files_of(self.task.own_sources)

  def notes(self, settings: Settings, chosen: np.ndarray) -> list[str]:
    """What a run of these settings says of its examples, of which it is trained on the
    `chosen`.
    """
    return notes.of_task(settings, self.task, self.train, self.test, chosen)

  def stream(self, settings: Settings):
    """The rows that a run of these settings sees, and the indices of the labelled
    examples they come from.
    """
    chosen = texts.choose_labels(settings, self.task, self.train)
    return texts.labelled_stream(settings, self.train, chosen, self.tokenizer), chosen


def transplanted(source, target):
  """The source's values in the target's tree.

  The head is new, and with it a pooler that is none of the body.
  """
  given, taken = tree.flatten(source), tree.flatten(target)
  is_new, is_pooler = tree.matcher(NEW), tree.matcher(methods.POOLER)
  fresh = [re.escape(name) for name in taken if is_new(name)]
  left = [name for name in given if is_pooler(name) and name not in taken]
  drop = [re.escape(name) for name in [*filter(is_new, given), *left]]
  return methods.transplant(source, target, fresh=fresh, drop=drop)


def prepare(
  settings: Settings,
  folder: pathlib.Path,
  first: bool = True,
  cache: pathlib.Path | None = None,
) -> Prepared:
  """Opens the source, the task and its texts, and builds the model.

  The tokenizer is kept in `folder`, the encoded texts below `cache` (by default in
  `folder`), where other runs find them. Raises ConfigError where things do not fit.
  """
  task = texts.task_of(settings)
  entry = objectives.OBJECTIVES['classify']
  head = dict(head=entry.head, labels=task.outputs)
  source = None if settings.init == SCRATCH else load(settings.init)
  if source is None:
    tokenizer = texts.make_tokenizer(
      settings,
      lambda: tasks.labelled(task, 'train', settings.data.directory or None)[0],
      folder,
      first,
    )
    arch = pieces.base_arch(settings, vocabulary=tokenizer.vocabulary_size, **head)
  else:
    tokenizer = source.tokenizer
    if tokenizer is None:
      raise ConfigError(f'config.init: {settings.init} has no tokenizer')
    if first:
      keep_tokenizer(folder, source)
    arch = dataclasses.replace(interop.with_head(source, entry.head), **head)
    check_fit(settings, arch)
  objective = entry.make(labels=task.outputs, kind=task.kind, groups=task.groups)
  parts = pieces.assemble(settings, arch, objective)
  require_dropout(settings, parts.method)
  tokenizer = texts.parsing(settings, tokenizer, settings.init)
  cache = folder if cache is None else cache
  train, test = (
    texts.labelled(settings, task, tokenizer, split, cache)
    for split in ('train', 'test')
  )
  return Prepared(
    settings, task, tokenizer, train, test, parts, source, source_information(settings)
  )


def require_dropout(settings: Settings, method: methods.TransferMethod) -> None:
  """Raises ConfigError for R-Drop without dropout: its two passes would be one."""
  names = [how.name for how in method.regularizers]
  if 'rdrop' in names and settings.compute.dropout == 0:
    raise ConfigError(
      'config.compute.dropout: 0.0, but rdrop compares two passes that differ in their dropout alone'
    )


def source_information(settings: Settings) -> dict | None:
  """What EWC weighs by. ConfigError where the source was trained on no task."""
  if 'ewc' not in pieces.method_name(settings).split('+'):
    return None
  if not (pathlib.Path(settings.init) / 'checkpoints').is_dir():
    raise ConfigError(
      f'config.method: ewc weighs by what the task of config.init needs, but {settings.init} is no '
      'workdir of a transfer; l2sp pulls without'
    )
  return fisher_of(settings.init)


def transfer(config, workdir, watch: Watch = SILENT) -> dict:
  """Trains one method on one task, or goes on where the workdir is; returns what
  result.json holds.

  Raises ConfigError before a device is touched, WorkdirBusy, Stopped after a signal,
  Diverged.
  """
  settings = read(config)
  if isinstance(settings, Pretrain):
    raise ConfigError(
      'config.task: missing; this is the config of pre-training, not of a transfer'
    )
  with open_run(config, workdir) as run:
    finished = run.result(settings.schedule.steps)
    if finished is not None:
      return finished
    if settings.method['name'] in evals.BASELINES:
      return run_baseline(settings, run, watch)
    return make_trainer(settings, run).run(settings, run, watch)


class Trainer:
  """A prepared transfer on a mesh, for any number of runs that differ in nothing but
  `Own` and their labels.

  The step and the forward pass of the evaluation are compiled once, the test split is
  laid into rows once.
  """

  def __init__(self, ready: Prepared, mesh):
    self.mesh = mesh
    self.given = ready.given()
    if ready.source is not None:
      # The memory of the devices is for the states of the runs.
      ready = ready._replace(source=ready.source._replace(params=self.given['params']))
    self.ready = ready
    self.sharding = parallel.batch_sharding(self.mesh)
    self.account = ready.account()
    self._files: dict = {}  # of the checkpoints so far, by size and checksum
    with jax.set_mesh(self.mesh):
      self.shardings = pieces.state_shardings(
        ready.parts, self.mesh, ready.settings.sharding
      )
      self.reader = Reader(ready, self.sharding)
      self.judge = Judge(self.reader)
    self._first_state = together(
      jax.jit(ready.first_state, out_shardings=self.shardings)
    )
    self._step = pieces.compile_step(ready.parts, self.shardings, self.sharding)

  @property
  def title(self) -> str:
    """Task and method, for whoever watches."""
    return f'{self.ready.task.name}, {pieces.method_name(self.ready.settings)}'

  def run(self, settings: Settings, run: Run, watch: Watch = SILENT) -> dict:
    """Trains one run, or goes on where its workdir is; returns what result.json holds."""
    run.require_files(self.ready.files())
    stream, chosen = self.ready.stream(settings)
    for line in self.ready.notes(settings, chosen):
      watch.say(line)
    with jax.set_mesh(self.mesh):
      state = self.start(settings, run, watch)
      watch.say(pieces.said_of_training(self.ready.parts, settings, state))
      step = int(state.step)
      stream = self.reader.stream(stream, state, step)
      batches = placed_batches(
        stream, step, settings, self.sharding, self.ready.parts.model.arch
      )
      fitted = loop.fit(
        settings,
        self._step,
        state,
        batches,
        self.recorder(settings, run),
        watch,
        'transfer',
      )
      self._step = fitted.program or self._step
      return self.finish(settings, run, fitted.state, chosen, watch)

  def start(self, settings: Settings, run: Run, watch: Watch = SILENT):
    """The state of the newest good checkpoint, or a fresh one with its account in
    account.json.
    """
    abstract = pieces.abstract_state(self.ready.parts, self.shardings)
    restored = run.restore_latest(abstract, self.ready.parts.model.arch)
    if restored is not None:
      watch.say(f'resumed at step {restored.step} of {settings.schedule.steps}')
      return restored.state
    self.describe(settings, run)
    return self._first_state(self.given, Own.of(settings))

  def describe(self, settings: Settings, run: Run) -> None:
    """Leaves in a workdir what a run starts from: the account of every leaf, and the
    tokenizer.
    """
    run.write_account(self.account, self.ready.source, settings.init)
    if run.first:
      self.ready.keep_tokenizer(run.path)

  def recorder(self, settings: Settings, run: Run) -> loop.Recorder:
    said = meta(self.ready.parts.model.arch, self.ready.files(), self.ready.task)
    return run.recorder(settings, self.judge.metrics, said)

  def finish(
    self, settings: Settings, run: Run, state, chosen: np.ndarray, watch: Watch = SILENT
  ) -> dict:
    """Judges the last state of a run that was trained on the examples `chosen`, and
    writes what it says.
    """
    run.store.wait()
    found = self.judge.outputs(state)
    if run.first:
      # Members hold the same base: on the disk it is there once.
      for step in run.store.steps():
        checkpoint.share_files(run.store.directory / str(step), self._files)
      write_predictions(
        run.path / 'predictions.jsonl', self.ready.task, self.ready.test, found
      )
    result = run.finish(
      make_result(self.ready, settings, chosen, found, state, run.clock)
    )
    watch.say(
      f'{self.title}: '
      + ', '.join(f'{name} {value:.4f}' for name, value in result['metrics'].items())
    )
    return result


def make_trainer(
  settings: Settings, run: Run, cache: pathlib.Path | None = None
) -> Trainer:
  """The trainer of a run; `cache` is where encoded texts are kept. Raises ConfigError
  where things do not fit.
  """
  mesh = pieces.make_mesh(settings)  # first, because to prepare may take minutes
  return Trainer(prepare(settings, run.path, run.first, cache), mesh)


class Judge:
  """Evaluates states of one compiled forward pass on the task's test split."""

  def __init__(self, reader: Reader):
    self._reader, self._ready = reader, reader.ready

    def forward(state, batch):
      params = self._ready.parts.method.merge(average(state), state.frozen)
      return self._ready.parts.model.apply(params, batch).logits

    forward = together(jax.jit(forward))
    self._apply = lambda state, batch: parallel.to_host(
      forward(state, reader.place(batch))
    )

  def outputs(self, state) -> np.ndarray:
    """What the model says of every test example, float32 (n, labels)."""
    return evals.outputs(
      self._apply, state, self._reader.evaluation(state), len(self._ready.test.texts)
    )

  def metrics(self, state) -> dict[str, float]:
    """The task's metrics on the whole test split."""
    return tasks.score(self._ready.task, self.outputs(state), self._ready.test.targets)


def make_result(
  ready: Prepared, settings: Settings, chosen, found, state, clock: Clock
) -> Result:
  """The result of a run that was trained on the examples `chosen`.

  found (n, labels): what its last state says of the test examples.
  """
  trained = pieces.trained_leaves(ready.parts, state.trainable)
  fused = jax.eval_shape(ready.parts.method.fuse, state.trainable, state.frozen)
  return Result(
    task=ready.task.name,
    method=pieces.method_name(settings),
    init=settings.init,
    seed=settings.seed,
    labels=len(set(chosen.tolist())),
    metrics=tasks.score(ready.task, found, ready.test.targets),
    n=len(ready.test.texts),
    examples=digest_examples(ready.test.texts, ready.test.targets),
    trained=pieces.kinds_of(trained),
    trained_parameters=tree.count(trained),
    total_parameters=tree.count(fused),
    steps=settings.schedule.steps,
    peak_bytes=peak_bytes(),
    notes=ready.notes(settings, chosen),
    **clock.totals(),
  )
