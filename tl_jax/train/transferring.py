"""Transfer: from a checkpoint, or from scratch, to a labelled task under a method.

>>> from tl_jax import config
>>> transfer(config.load('configs/transfer.py:task=sentiment,method=lora,init=/no/such/workdir'), '/tmp/never')
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: config.init: /no/such/workdir: not 'scratch', a workdir or a Hugging Face folder
"""

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax import evals, interop, objectives, parallel, tasks, tree
from tl_jax import transfer as methods
from tl_jax.config import ConfigError
from tl_jax.train import loop, pieces, texts
from tl_jax.train.checks import check_fit, read
from tl_jax.train.clock import Clock
from tl_jax.train.features import Reader
from tl_jax.train.information import fisher_of
from tl_jax.train.pieces import NEW
from tl_jax.train.pretraining import average, placed_batches
from tl_jax.train.restoring import keep_tokenizer, load, meta
from tl_jax.train.results import Result, digest_examples
from tl_jax.train.settings import SCRATCH, Settings
from tl_jax.train.watch import SILENT, Watch, peak_bytes
from tl_jax.train.workdir import Run, open_run


class Prepared(NamedTuple):
  """A transfer that is ready to run: nothing in it depends on the seed or the number of labels."""
  settings: Settings
  task: tasks.Task
  tokenizer: Any
  train: texts.Labelled
  test: texts.Labelled
  parts: pieces.Pieces
  source: interop.Loaded | None
  fisher: dict | None = None

  def params(self, seed):
    """The model's first parameters: the source's, and fresh ones for what is new; `seed` may be traced."""
    fresh = pieces.make_params(self.parts.model, seed)
    return fresh if self.source is None else transplanted(self.source.params, fresh)[0]

  def weighed(self, state):
    """A first state with the Fisher information of the source in it, where the method is EWC."""
    if self.fisher is None:
      return state
    frozen = methods.with_fisher(state.frozen, self.fisher)
    return state._replace(frozen=jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), frozen, state.frozen))

  def stream(self, settings: Settings):
    """The rows that a run of these settings sees, and the indices of the labelled examples they come from."""
    chosen = texts.choose_labels(settings, self.task, self.train)
    return texts.labelled_stream(settings, self.train, chosen, self.tokenizer), chosen


def transplanted(source, target):
  """The source's values in the target's tree; heads and poolers are new."""
  new = tree.matcher(*NEW)
  kept = lambda params: [pattern for pattern in NEW if any(map(tree.matcher(pattern), tree.flatten(params)))]
  return methods.transplant(source, target, fresh=kept(target), drop=kept(source) if any(
      new(name) for name in tree.flatten(source)) else ())


def prepare(settings: Settings, folder: pathlib.Path, first: bool = True) -> Prepared:
  """Opens the source, the task and its texts, and builds the model. Raises ConfigError where they do not fit."""
  task = texts.task_of(settings)
  head = dict(head='classifier', labels=task.outputs)
  source = None if settings.init == SCRATCH else load(settings.init)
  if source is None:
    tokenizer = texts.make_tokenizer(
        settings, lambda: tasks.labelled(task, 'train', settings.data.directory or None)[0], folder, first)
    arch = pieces.base_arch(settings, vocabulary=tokenizer.vocabulary_size, **head)
  else:
    tokenizer = source.tokenizer
    if tokenizer is None:
      raise ConfigError(f'config.init: {settings.init} has no tokenizer')
    if first:
      keep_tokenizer(folder, source)
    arch = dataclasses.replace(interop.with_head(source, 'classifier'), **head)
    check_fit(settings, arch)
  objective = objectives.classify(labels=task.outputs, kind=task.kind, groups=task.groups)
  parts = pieces.assemble(settings, arch, objective)
  train, test = (texts.labelled(settings, task, tokenizer, split, folder) for split in ('train', 'test'))
  return Prepared(settings, task, tokenizer, train, test, parts, source, source_information(settings))


def source_information(settings: Settings) -> dict | None:
  """What EWC weighs by. ConfigError where the source was trained on no task."""
  if 'ewc' not in pieces.method_name(settings).split('+'):
    return None
  if not (pathlib.Path(settings.init) / 'checkpoints').is_dir():
    raise ConfigError(f'config.method: ewc weighs by what the task of config.init needs, but {settings.init} is no '
                      'workdir of a transfer; l2sp pulls without')
  return fisher_of(settings.init)


def transfer(config, workdir, watch: Watch = SILENT) -> dict:
  """Trains one method on one task, or goes on where the workdir is; returns what result.json holds.

  Raises ConfigError before a device is touched, WorkdirBusy, Stopped after a signal, Diverged.
  """
  settings = read(config)
  if settings.task is None:
    raise ConfigError('config.task: missing; this is the config of pre-training, not of a transfer')
  with open_run(config, workdir) as run:
    finished = run.result(settings.schedule.steps)
    if finished is not None:
      return finished
    mesh = pieces.make_mesh(settings)
    ready = prepare(settings, run.path, run.first)
    stream, chosen = ready.stream(settings)
    with jax.set_mesh(mesh):
      shardings = pieces.state_shardings(ready.parts, mesh, settings.sharding)
      sharding = parallel.batch_sharding(mesh)
      state = start(ready, shardings, run, watch)
      reader = Reader(ready, sharding)
      stream = reader.stream(stream, state, int(state.step))
      batches = placed_batches(stream, int(state.step), settings, sharding, ready.parts.model.arch)
      step = pieces.compile_step(ready.parts, shardings, sharding)
      judge = Judge(reader)
      recorder = run.recorder(settings, judge.metrics, meta(ready.parts.model.arch))
      fitted = loop.fit(settings, step, state, batches, recorder, watch, 'transfer')
      run.store.wait()
      found = judge.outputs(fitted.state)
    if run.first:
      write_predictions(run.path / 'predictions.jsonl', ready.task, ready.test, found)
    labels = len(set(chosen.tolist()))
    result = run.finish(make_result(ready, settings, labels, found, fitted.state, run.clock))
    watch.say(f'{ready.task.name}, {pieces.method_name(settings)}: '
              + ', '.join(f'{name} {value:.4f}' for name, value in result['metrics'].items()))
    return result


def start(ready: Prepared, shardings, run: Run, watch: Watch):
  """The state of the newest good checkpoint, or a fresh one with its account in account.json."""
  arch = ready.parts.model.arch
  restored = run.restore_latest(pieces.abstract_state(ready.parts, shardings), arch)
  if restored is not None:
    watch.say(f'resumed at step {restored.step} of {ready.settings.schedule.steps}')
    return restored.state
  seed = ready.settings.seed
  params = pieces.make_params(ready.parts.model, seed)
  account = methods.transplant({}, params, fresh=['.*'])[1]
  if ready.source is not None:
    params, account = transplanted(ready.source.params, params)
  run.write_account(account, ready.source, ready.settings.init)
  # Through jit, so that no buffer of the source is shared with a state that is donated.
  state = jax.jit(lambda params: ready.parts.init(params, seed), out_shardings=shardings)(parallel.to_host(params))
  return ready.weighed(state)


class Judge:
  """Evaluates states of one compiled forward pass on the task's test split."""

  def __init__(self, reader: Reader):
    self._reader, self._ready = reader, reader.ready

    def forward(state, batch):
      params = self._ready.parts.method.merge(average(state), state.frozen)
      return self._ready.parts.model.apply(params, batch).logits
    forward = jax.jit(forward)
    self._apply = lambda state, batch: parallel.to_host(forward(state, reader.place(batch)))

  def outputs(self, state) -> np.ndarray:
    """What the model says of every test example, float32 (n, labels)."""
    return evals.outputs(self._apply, state, self._reader.evaluation(state), len(self._ready.test.texts))

  def metrics(self, state) -> dict[str, float]:
    """The task's metrics on the whole test split."""
    return tasks.score(self._ready.task, self.outputs(state), self._ready.test.targets)


def make_result(ready: Prepared, settings: Settings, labels: int, found, state, clock: Clock) -> Result:
  """The result of a run that was trained on `labels` examples; found (n, labels) is what its state says of the test."""
  fused = jax.eval_shape(ready.parts.method.fuse, state.trainable, state.frozen)
  return Result(
      task=ready.task.name,
      method=pieces.method_name(settings),
      init=settings.init,
      seed=settings.seed,
      labels=labels,
      metrics=tasks.score(ready.task, found, ready.test.targets),
      n=len(ready.test.texts),
      examples=digest_examples(ready.test.texts, ready.test.targets),
      trained_parameters=tree.count(state.trainable),
      total_parameters=tree.count(fused),
      steps=settings.schedule.steps,
      peak_bytes=peak_bytes(),
      **clock.totals())


def write_predictions(path: pathlib.Path, task: tasks.Task, split: texts.Labelled, found: np.ndarray) -> None:
  """One JSON line per example: text, target, prediction, outputs."""
  labels = tasks.choose(task, found, split.targets) if task.kind == 'single_label' else None
  with path.open('w', encoding='utf-8') as file:
    for index, (text, target, output) in enumerate(zip(split.texts, split.targets, found, strict=True)):
      single = task.kind == 'single_label'
      row = dict(index=index, text=text, target=task.labels[int(target)] if single else np.asarray(target).tolist(),
                 prediction=task.labels[int(labels[index])] if single else output.round(6).tolist(),
                 outputs=[round(float(value), 6) for value in output])
      file.write(json.dumps(row, ensure_ascii=False) + '\n')
