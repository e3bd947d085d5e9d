"""Many short transfers as one: members that differ in seed, labels or learning rate share one compiled step.

Each member keeps its own parameters, optimizer state, data order and result; nothing it computes depends on who
else is in the cohort. On accelerators the members advance together, by `vmap` of the step with the frozen base
shared. On a CPU, which one member already fills, they advance in turn through the same executable: measured there,
vmap takes 1.3 times the CPU time and 2.6 times the wall time of turns (width 128, 8 rows of 64, 5 members).

>>> from tl_jax import config
>>> one, other = (config.load('configs/transfer.py:task=sentiment', [('seed', seed)]) for seed in '12')
>>> signature(one) == signature(other)
True
"""

import pathlib
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import checkpoint, evals, optim, parallel, tasks
from tl_jax import config as configs
from tl_jax.config import ConfigError
from tl_jax.train import loop, texts, transferring
from tl_jax.train.checks import read
from tl_jax.train.clock import Clock
from tl_jax.train.compilation import compile_ahead
from tl_jax.train.features import Reader
from tl_jax.train.pretraining import pretrain
from tl_jax.train.results import Result, digest_examples
from tl_jax.train.settings import Settings
from tl_jax.train.watch import SILENT, Watch, peak_bytes
from tl_jax.train.workdir import open_run

# What members of one cohort may differ in: all of it is data to the step.
OWN = (('seed',), ('task', 'labels'), ('optim', 'lr'), ('optim', 'decay'))


class Member(NamedTuple):
  """One run of a cohort: its settings, where its files go, and the rows it sees."""
  settings: Settings
  config: Any
  folder: pathlib.Path
  chosen: np.ndarray
  stream: Any


class Trained(NamedTuple):
  """A member's last state, its logged rows, its test curve [(step, seconds, metrics)], its seconds of training."""
  state: Any
  rows: list
  curve: list
  seconds: float


def signature(config) -> str:
  """Equal for configs that one compiled step can serve."""
  plain = configs.to_json(config)
  for *groups, key in OWN:
    node = plain
    for group in groups:
      node = node.get(group, {})
    node.pop(key, None)
  return configs.digest(plain)


def execute(runs: Iterable[tuple[Any, pathlib.Path]], watch: Watch = SILENT, together: bool | None = None) -> None:
  """Runs every (config, folder), those of one signature as a cohort; each folder gets its result.json.

  A member that fails leaves failed.json with the reason, and the others go on. `together` None decides by platform.
  """
  parallel.keep_freed_memory()
  groups: dict[str, list] = {}
  for config, folder in runs:
    groups.setdefault(signature(config), []).append((config, pathlib.Path(folder)))
  for group in groups.values():
    if 'task' not in group[0][0]:
      for config, folder in group:
        pretrain(config, folder, watch)
    elif group[0][0].method.name in evals.BASELINES:
      run_baselines(group)
    else:
      run_cohort(group, watch, jax.default_backend() != 'cpu' if together is None else together)


def run_cohort(group: list[tuple[Any, pathlib.Path]], watch: Watch = SILENT, together: bool = False) -> None:
  """Trains the members of one signature and writes their results."""
  settings = [read(config) for config, _ in group]
  folder = group[0][1].parent
  folder.mkdir(parents=True, exist_ok=True)
  ready = transferring.prepare(settings[0], folder)
  members = []
  for (config, place), own in zip(group, settings, strict=True):
    stream, chosen = ready.stream(own)
    members.append(Member(own, config, place, chosen, stream))
  reader = Reader(ready)
  judge = transferring.Judge(reader)
  title = f'{ready.task.name}, {settings[0].method["name"]}'
  train = train_together if together else train_in_turn
  for member, trained in train(reader, members, judge, watch, title):
    leave(ready, member, trained, judge, watch)


def starter(ready: transferring.Prepared):
  """A function of a member: its state at step 0, with its seed's head (and base, from scratch), its rate and decay."""
  init = jax.jit(ready.parts.init)
  def first_state(member: Member):
    seed, optimizer = member.settings.seed, member.settings.optim
    state = init(ready.params(seed), jnp.uint32(seed))
    state = ready.weighed(state)
    return state._replace(opt_state=optim.set_rate(state.opt_state, optimizer.lr, optimizer.decay))
  return first_state


def train_in_turn(reader, members, judge, watch, title):
  """Each member to its end before the next, all through one executable."""
  ready, settings = reader.ready, reader.ready.settings
  step, first_state, program = jax.jit(ready.parts.step, donate_argnums=0), starter(ready), None
  for number, member in enumerate(members, 1):
    state, rows, curve = first_state(member), [], []
    began, paused = time.monotonic(), 0.0
    stream = reader.stream(member.stream, state)
    if program is None:
      program = compile_ahead(step, state, stream.batch_at(0))
      paused += program.seconds
    for index in range(settings.schedule.steps):
      state, metrics = program.call(state, stream.batch_at(index))
      if (index + 1) % settings.log.every == 0 or index + 1 == settings.schedule.steps:
        rows.append((index + 1, metrics, optim.learning_rate(state.opt_state)))
      if settings.eval.every and (index + 1) % settings.eval.every == 0 and index + 1 < settings.schedule.steps:
        jax.block_until_ready(state)
        stopped = time.monotonic()
        curve.append((index + 1, stopped - began - paused, judge.metrics(state)))
        paused += time.monotonic() - stopped
    jax.block_until_ready(state)
    watch.progress(title, number, len(members))
    yield member, Trained(state, rows, curve, time.monotonic() - began - paused)


def train_together(reader, members, judge, watch, title):
  """All members a step at a time; what no member trains, and all share, is not copied."""
  ready, settings = reader.ready, reader.ready.settings
  states = list(map(starter(ready), members))
  # What a seed draws (a new head that is held, a random subset, where a pull starts) each member has for itself.
  shared = jax.tree.map(lambda first, *rest: all(np.array_equal(first, other) for other in rest),
                        *(state.frozen for state in states))
  frozen = jax.tree.map(lambda same, *own: own[0] if same else stack(own), shared, *(state.frozen for state in states))
  places = jax.tree.map(lambda same: None if same else 0, shared)
  state = stack([state._replace(frozen=None) for state in states])._replace(frozen=frozen)
  axes = state._replace(step=0, trainable=0, frozen=places, opt_state=0, key=0)
  step = jax.jit(jax.vmap(ready.parts.step, in_axes=(axes, 0), out_axes=(axes, 0)), donate_argnums=0)
  pick = lambda tree, index: jax.tree.map(lambda leaf: leaf[index], tree)
  def member_state(state, index):
    own = pick(state._replace(frozen=None), index)
    held = jax.tree.map(lambda same, leaf: leaf if same else leaf[index], shared, state.frozen)
    return own._replace(frozen=held)
  began, paused = time.monotonic(), 0.0
  streams = [reader.stream(member.stream, one) for member, one in zip(members, states, strict=True)]
  rows, curves = [[] for _ in members], [[] for _ in members]
  for index in range(settings.schedule.steps):
    batches = [stream.batch_at(index) for stream in streams]
    state, metrics = step(state, {name: np.stack([batch[name] for batch in batches]) for name in batches[0]})
    last = index + 1 == settings.schedule.steps
    if (index + 1) % settings.log.every == 0 or last:
      rate = jax.vmap(optim.learning_rate)(state.opt_state)
      for place, kept in enumerate(rows):
        kept.append((index + 1, pick(metrics, place), rate[place]))
    if settings.eval.every and (index + 1) % settings.eval.every == 0 and not last:
      jax.block_until_ready(state)
      stopped = time.monotonic()
      for place, curve in enumerate(curves):
        curve.append((index + 1, (stopped - began - paused) / len(members), judge.metrics(member_state(state, place))))
      paused += time.monotonic() - stopped
    watch.progress(title, index + 1, settings.schedule.steps)
  jax.block_until_ready(state)
  share = (time.monotonic() - began - paused) / len(members)
  for place, member in enumerate(members):
    yield member, Trained(member_state(state, place), rows[place], curves[place], share)


def stack(trees):
  """One tree whose leaves carry the members as their first axis."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def leave(ready: transferring.Prepared, member: Member, trained: Trained, judge: transferring.Judge,
          watch: Watch) -> None:
  """Writes a member's workdir; a member that diverged gets failed.json instead of a result."""
  with checkpoint.Workdir(member.folder) as workdir:
    workdir.bind_config(configs.to_json(member.config), ('.*',))
    workdir.truncate_metrics(None)
    for step, metrics, rate in jax.device_get(trained.rows):
      row = dict(step=step, **{name: float(value) for name, value in metrics.items()}, learning_rate=float(rate))
      if not loop.finite(row):
        workdir.write_json('failed.json', dict(reason=f'step {step}: loss {row["loss"]}', step=step))
        watch.say(f'{member.folder}: failed at step {step}, loss {row["loss"]}')
        return
      workdir.append_metrics(row)
    found = judge.outputs(trained.state)
    clock = Clock(dict(seconds=trained.seconds, training_seconds=trained.seconds))
    result = transferring.make_result(
        ready, member.settings, len(set(member.chosen.tolist())), found, trained.state, clock)
    for step, seconds, values in trained.curve:
      values = {f'test/{name}': value for name, value in values.items()}
      workdir.append_evaluation(dict(step=step, seconds=round(seconds, 4), **values))
    workdir.write_json('result.json', result.to_json())


def run_baselines(group: list[tuple[Any, pathlib.Path]]) -> None:
  """Classic baselines on the same labelled examples and the same test split."""
  for config, folder in group:
    run_baseline(config, folder)


def run_baseline(config, folder) -> dict:
  """Fits a baseline and judges it as a transfer would be; returns what result.json holds."""
  settings = read(config)
  name = settings.method['name']
  task = texts.task_of(settings)
  if task.kind != 'single_label':
    raise ConfigError(
        f'config.method.name: {name} needs a task with one label per example; '
        f'{task.name} is of kind {task.kind!r}')
  with open_run(config, folder) as run:
    finished = run.result(steps=0)
    if finished is not None:
      return finished
    train, test = (texts.labelled_texts(settings, task, split) for split in ('train', 'test'))
    chosen = texts.choose_labels(settings, task, train)
    seen = [train.texts[index] for index in chosen]
    with run.clock.phase('training'):
      found = evals.BASELINES[name](seen, train.targets[chosen], test.texts, task.outputs)
    if run.first:
      transferring.write_predictions(run.path / 'predictions.jsonl', task, test, found)
    return run.finish(Result(
        task=task.name,
        method=name,
        init=settings.init,
        seed=settings.seed,
        labels=len(set(chosen.tolist())),
        metrics=tasks.score(task, found, test.targets),
        n=len(test.texts),
        examples=digest_examples(test.texts, test.targets),
        trained_parameters=0,
        total_parameters=0,
        steps=0,
        peak_bytes=peak_bytes(),
        **run.clock.totals()))

