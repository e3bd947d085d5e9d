"""Pre-training: from a mixture of texts to committed checkpoints that transfer starts
from.

>>> from tl_jax import config
>>> tiny = config.load('configs/pretrain.py:tiny', [('schedule.steps', '0')])
>>> pretrain(tiny, '/tmp/never')
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: config.schedule.steps: must be an integer >= 1, got 0 (int)
"""

import itertools
import math
import pathlib
import re
from typing import Any, NamedTuple

import jax

from tl_jax import config as configs
from tl_jax import (
  data,
  interop,
  models,
  objectives,
  optim,
  parallel,
  rng,
  transfer,
  tree,
)
from tl_jax.config import ConfigError
from tl_jax.train import loop, notes, pieces, texts
from tl_jax.train.checks import check_fit, read
from tl_jax.train.compilation import together
from tl_jax.train.pieces import NEW
from tl_jax.train.restoring import keep_tokenizer, load, meta
from tl_jax.train.results import Result
from tl_jax.train.settings import SCRATCH, Settings, Transfer
from tl_jax.train.watch import SILENT, Watch, peak_bytes
from tl_jax.train.workdir import Run, open_run

ENOUGH_TEXTS = 100_000  # of one source, to train a tokenizer on


class Prepared(NamedTuple):
  """A pre-training run that is ready to start: everything but the state.

  files: the sha256 of the user's files that are read, by path; told: what a run says of
  its texts.
  """

  settings: Settings
  tokenizer: Any
  examples: dict
  stream: data.pipeline.Stream
  parts: pieces.Pieces
  files: dict[str, str]
  told: list[str]
  source: interop.Loaded | None = None

  def params(self, seed):
    """The model's first parameters, those of the source where there is one; `seed` may
    be traced.
    """
    params = pieces.make_params(self.parts.model, seed)
    if self.source is not None:
      params = continued(self.source.params, params)[0]
    if self.settings.unigram_bias:
      bias = texts.log_frequencies(
        self.settings, self.examples, self.parts.model.arch.vocabulary
      )
      params['head']['bias'] = jax.numpy.asarray(bias)
    return params


def prepare(settings: Settings, folder: pathlib.Path, first: bool = True) -> Prepared:
  """Trains or reads the tokenizer, encodes the mixture and builds the model; `folder`
  keeps what took time.
  """
  mixture = texts.mixture_texts(settings)
  source = None if settings.init == SCRATCH else load(settings.init)
  if source is None:
    tokenizer = texts.make_tokenizer(
      settings, lambda: _some_texts(mixture), folder, first
    )
  else:
    tokenizer = source_tokenizer(settings, source, folder, first)
  tokenizer = texts.parsing(settings, tokenizer, settings.init)
  examples = texts.mixture_examples(settings, tokenizer, folder, mixture)
  stream = texts.pretraining_stream(settings, examples, tokenizer)
  parts = build_pieces(settings, tokenizer, arch_of(settings, tokenizer, source))
  return Prepared(
    settings,
    tokenizer,
    examples,
    stream,
    parts,
    notes.files_of(mixture.values()),
    notes.of_mixture(mixture, examples),
    source,
  )


def source_tokenizer(
  settings: Settings, source: interop.Loaded, folder: pathlib.Path, first: bool
):
  """The tokenizer of the model that a run starts from, kept in its folder. ConfigError
  where it has none.
  """
  if source.tokenizer is None:
    raise ConfigError(f'config.init: {settings.init} has no tokenizer')
  if first:
    keep_tokenizer(folder, source)
  return source.tokenizer


def continued(source, target):
  """The source's values in the target's tree: a head that the source has not, or of
  another kind, starts afresh.
  """
  givers, takers = tree.flatten(source), tree.flatten(target)
  fits = lambda name: (
    name in givers and name in takers and givers[name].shape == takers[name].shape
  )
  is_new = tree.matcher(NEW, transfer.POOLER)
  others = lambda names: [
    re.escape(name) for name in names if is_new(name) and not fits(name)
  ]
  return transfer.transplant(source, target, fresh=others(takers), drop=others(givers))


def pretrain(config, workdir, watch: Watch = SILENT) -> dict:
  """Pre-trains, or goes on where the workdir is; returns what result.json holds.

  Raises ConfigError before a device is touched, WorkdirBusy, Stopped after a signal,
  Diverged.
  """
  settings = read(config)
  if isinstance(settings, Transfer):
    raise ConfigError(
      'config.task: this is the config of a transfer, not of pre-training'
    )
  with open_run(config, workdir) as run:
    finished = run.result(settings.schedule.steps)
    if finished is not None:
      return finished
    mesh = pieces.make_mesh(settings)
    ready = prepare(settings, run.path, run.first)
    parts, tokenizer = ready.parts, ready.tokenizer
    run.require_files(ready.files)
    for line in [*ready.told, f'tokenizer: {tokenizer.vocabulary_size} pieces']:
      watch.say(line)
    with jax.set_mesh(mesh):
      shardings = pieces.state_shardings(parts, mesh, settings.sharding)
      sharding = parallel.batch_sharding(mesh)
      state = _start(ready, shardings, run, watch)
      watch.say(pieces.said_of_training(parts, settings, state))
      judge = judge_mixture(settings, parts, tokenizer, run.path, sharding)
      evaluate = lambda state: judge(parts.method.merge(average(state), state.frozen))
      batches = placed_batches(
        ready.stream, int(state.step), settings, sharding, parts.model.arch
      )
      step = pieces.compile_step(parts, shardings, sharding)
      recorder = run.recorder(settings, evaluate, meta(parts.model.arch, ready.files))
      fitted = loop.fit(settings, step, state, batches, recorder, watch, 'pretrain')
      run.store.wait()
      metrics = evaluate(fitted.state)
    trained = pieces.trained_leaves(parts, fitted.state.trainable)
    result = run.finish(
      Result(
        task='pretrain',
        method=pieces.method_name(settings),
        init=settings.init,
        seed=settings.seed,
        labels=0,
        n=int(metrics.pop('examples')),
        metrics=metrics,
        examples=digest_mixture(settings, tokenizer, run.path),
        trained=pieces.kinds_of(trained),
        trained_parameters=tree.count(trained),
        total_parameters=tree.count((fitted.state.trainable, fitted.state.frozen)),
        steps=settings.schedule.steps,
        peak_bytes=peak_bytes(),
        notes=ready.told,
        **run.clock.totals(),
      )
    )
    watch.say(
      'pretrain: ' + ', '.join(f'{name} {value:.4f}' for name, value in metrics.items())
    )
    return result


def arch_of(
  settings: Settings, tokenizer, source: interop.Loaded | None
) -> models.Arch:
  """The architecture of a pre-training run: its source's, or the config's with the
  tokenizer's vocabulary.
  """
  head = objectives.OBJECTIVES[settings.objective['name']].head
  if source is None:
    return pieces.base_arch(settings, vocabulary=tokenizer.vocabulary_size, head=head)
  arch = interop.with_head(source, head)
  pieces.require_kind(settings, arch)
  check_fit(settings, arch)
  return arch


def build_pieces(settings: Settings, tokenizer, arch: models.Arch) -> pieces.Pieces:
  """Model, objective, method and optimizer of a pre-training run."""
  # Told of the tokenizer's pieces, not of the model's rows: its table may be longer
  # than what is ever drawn from it.
  objective = pieces.make_objective(settings, tokenizer)
  return pieces.assemble(settings, arch, objective)


def _some_texts(mixture: dict) -> list[str]:
  """What a tokenizer is trained on: the texts of every source, of a large one as many
  as suffice, evenly spread.
  """
  found = []
  for source in mixture.values():
    stride = max(1, len(source) // ENOUGH_TEXTS)
    found += [example['text'] for example in source[::stride]]
  return found


def _start(ready: Prepared, shardings, run: Run, watch: Watch):
  """The state of the newest good checkpoint, or a fresh one."""
  parts, settings = ready.parts, ready.settings
  arch = parts.model.arch
  restored = run.restore_latest(pieces.abstract_state(parts, shardings), arch)
  if restored is not None:
    watch.say(f'resumed at step {restored.step} of {settings.schedule.steps}')
    return restored.state
  if ready.source is None:
    first = jax.jit(
      lambda: parts.init(ready.params(settings.seed), settings.seed),
      out_shardings=shardings,
    )
    return together(first)()
  params = pieces.make_params(parts.model, settings.seed)
  account = continued(ready.source.params, params)[1]
  run.write_account(account, ready.source, settings.init)
  # Through jit, so that no buffer of the source is shared with a state that is donated.
  first = jax.jit(
    lambda params: parts.init(params, settings.seed), out_shardings=shardings
  )
  return together(first)(parallel.to_host(ready.params(settings.seed)))


def placed_batches(
  stream: data.pipeline.Stream,
  start: int,
  settings: Settings,
  sharding,
  arch: models.Arch,
):
  """(global batch on the mesh, tokens in it) from a step on, read ahead by threads.

  Raises ValueError for ids that the model has no row for, before they reach a device.
  """
  size = settings.data.batch
  held = parallel.host_rows(sharding, size)
  batches = data.batches(stream, start, settings.schedule.steps, rows=held)
  for step, batch in enumerate(batches, start):
    models.require_rows(arch, batch)
    yield parallel.place_batch(batch, sharding, size, held), stream.tokens_at(step)


def judge_mixture(
  settings: Settings, parts: pieces.Pieces, tokenizer, folder: pathlib.Path, sharding
):
  """A function of params: the objective on the mixture's test texts, the same draws
  every time.
  """
  examples = texts.mixture_examples(
    settings, tokenizer, folder, texts.mixture_texts(settings, 'test')
  )
  rows = texts.text_rows(settings, tokenizer)
  size = settings.data.batch
  held = parallel.host_rows(sharding, size)
  key = rng.stream(settings.seed, 'evaluation')

  @together
  @jax.jit
  def sums(params, batch, index):
    batch = parts.objective.prepare(jax.random.fold_in(key, index), batch)
    forward = lambda *args, **keywords: parts.model.apply(params, *args, **keywords)
    terms, means = parts.objective.loss(forward, batch, None)
    weights = parts.objective.weights(batch)
    sums = {
      f'loss/{name}': (term.coefficient * term.sum, weights[name])
      for name, term in terms.items()
    }
    return sums | {name: tuple(mean) for name, mean in means.items()}, batch[
      'segments'
    ].max(-1).sum()

  def judge(params) -> dict:
    totals, seen, index = {}, 0, 0
    # As many batches of each source, so that none is left out.
    most = -(-settings.eval.batches // len(examples)) or None
    for part in examples.values():
      batches = data.evaluation(
        part,
        length=rows.length,
        room=rows.room,
        batch=size,
        pack=settings.data.pack,
        pad=tokenizer.pad,
        rows=held,
      )
      for batch in itertools.islice(batches, most):
        found, count = jax.device_get(
          sums(params, parallel.place_batch(batch, sharding, size, held), index)
        )
        for name, (total, weight) in found.items():
          before = totals.get(name, (0.0, 0.0))
          totals[name] = before[0] + float(total), before[1] + float(weight)
        seen, index = seen + int(count), index + 1
    values = {
      name: total / max(weight, 1e-9) for name, (total, weight) in totals.items()
    }
    loss = sum(value for name, value in values.items() if name.startswith('loss/'))
    kept = {
      name: value for name, value in values.items() if not name.startswith('loss/')
    }
    return dict(loss=loss, perplexity=math.exp(min(loss, 700.0)), **kept, examples=seen)

  return judge


def digest_mixture(settings: Settings, tokenizer, folder: pathlib.Path) -> str:
  """A digest of the tokens that `judge_mixture` sees: texts and tokenizer, and the rows
  where it sees only some.
  """
  examples = texts.mixture_examples(
    settings, tokenizer, folder, texts.mixture_texts(settings, 'test')
  )
  seen = {name: part.tokens.key for name, part in examples.items()}
  if settings.eval.batches:
    group = settings.data
    seen['rows'] = [settings.eval.batches, group.batch, group.length, group.pack]
  return configs.digest(seen)[:16]


def average(state):
  """The averaged weights where the optimizer keeps them, else the trained ones."""
  averaged = optim.ema_params(state.opt_state, state.trainable)
  return state.trainable if averaged is None else averaged
