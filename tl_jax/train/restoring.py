"""Back from a workdir: its settings, its parameters with the method merged and fused,
its tokenizer.

>>> restore('/no/such/workdir')
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: /no/such/workdir: not a workdir (no config.json in it)
"""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from tl_jax import (
  checkpoint,
  files,
  interop,
  models,
  objectives,
  optim,
  tasks,
  transfer,
  tree,
)
from tl_jax import config as configs
from tl_jax.config import ConfigError
from tl_jax.data import chats, tokenizers
from tl_jax.interop.huggingface import GENERATION
from tl_jax.train import (
  assembly,
  datasets,
  methods,
  starting,
  tokenizing,
  vectors,
  writing,
)
from tl_jax.train.checks import read, without_foreign_keys
from tl_jax.train.frozen import kept_in
from tl_jax.train.settings import Pretrain, Settings

_LOG = logging.getLogger(__name__)


class Opened(NamedTuple):
  """A committed step of a run: params is a nested dict, the method merged and fused;
  settings those of the run.

  trainable and frozen are what `method` made of them, the average in the place of the
  weights where the run kept one. pairs: does it read two texts in a frame?
  """

  settings: Settings
  arch: models.Arch
  params: Any
  tokenizer: Any
  step: int
  trainable: Any
  frozen: Any
  method: transfer.TransferMethod
  known: tasks.Known | None = None
  pairs: bool = False

  @property
  def named(self) -> dict:
    """`labels` and `kind` of `interop.Loaded`, which are of labels."""
    if self.known is None or not self.known.labels:
      return {}
    return dict(labels=self.known.labels, kind=self.known.kind)

  @property
  def writes(self) -> bool:
    """Did the run learn to write texts?"""
    return (
      self.known is not None and tasks.PROBLEMS[self.known.kind].answer == 'generate'
    )


def meta(
  arch: models.Arch,
  tokenizer: tokenizers.Tokenizer,
  read: Mapping[str, str],
  task: tasks.Task | None = None,
  frame: str = '',
) -> dict:
  """What a checkpoint must say of itself to be opened without the run that made it.

  tokenizer: that of the run. read: the sha256 of the user's files that the run trains
  on, by path. task: that of a transfer, for the names of its labels belong to the
  outputs of the model, and how it decodes to the texts that the model writes. frame: in
  which two texts stand; '' where none do.
  """
  said = None
  if task is not None:
    said = dict(
      kind=task.problem.name, labels=list(task.labels), decoding=dict(task.decoding)
    )
  # Without the key two texts are one to the model, as to all before there was a frame.
  if frame:
    said['frame'] = frame
  return dict(
    arch=dataclasses.asdict(arch),
    tokenizer=tokenizing.marks(tokenizer),
    files=dict(read),
    task=said,
  )


def _task_of(path: pathlib.Path, step: int) -> Mapping[str, Any]:
  """What a committed step says of its task; {} where it was trained on none."""
  return checkpoint.Store(path / 'checkpoints').meta(step).get('task') or {}


def known_of(path: pathlib.Path, step: int) -> tasks.Known | None:
  """The kind and the labels that a committed step says of its outputs; None where it
  says nothing of them.
  """
  said = _task_of(path, step)
  return tasks.Known(said['kind'], tuple(said['labels'])) if said else None


def decoding_of(path: pathlib.Path, step: int) -> dict[str, Any]:
  """How the task of a committed step decodes; {} where it says nothing of it."""
  return _task_of(path, step).get('decoding', {})


def frames_pairs(path: pathlib.Path, step: int) -> bool:
  """Does a committed step say that its model reads two texts in a frame?"""
  return bool(_task_of(path, step).get('frame'))


def choose_step(path: pathlib.Path, step: int | None) -> int:
  """The step whose state is the model of a workdir, where none is named.

  It is the newest good one, or the one that this says is the best on validation.
  """
  if step is not None:
    return step
  store = checkpoint.Store(path / 'checkpoints')
  newest = store.newest_good()
  best = store.meta(newest).get('best')
  if best is None or best == newest:
    return newest
  if best in store.steps() and not store.verify(best):
    return best
  _LOG.warning('step %d, the best, is damaged or gone; step %d is used', best, newest)
  return newest


def open_workdir(path, step: int | None = None, overrides=()) -> Opened:
  """The newest good committed step of a workdir, or the given one. Writes nothing.

  overrides: ('eval.batches', '2') pairs that change the settings it is opened with.
  Raises ValueError naming the workdir, the steps there are, or the damaged leaf.
  """
  path = pathlib.Path(path)
  settings = read_settings(path, overrides)
  return open_step(path, settings, step)


def open_step(
  path: pathlib.Path, settings: Settings, step: int | None = None
) -> Opened:
  """A committed step of a workdir whose settings have been read; the newest good one if
  none is named.
  """
  store = checkpoint.Store(path / 'checkpoints')
  step = choose_step(path, step)
  known = known_of(path, step)
  arch, stored = arch_of(store.meta(step), f'{path}: step {step}')
  # After pre-training nothing is known but what is there.
  if known is None:
    goes_on = not methods.brings_head(settings, None)
    fresh_head = not goes_on or methods.trains_head(store.leaves(step))
  else:
    fresh_head = tasks.PROBLEMS[known.kind].fresh_head
  method = methods.make(settings.method, fresh_head, of_pretraining=known is None)
  # For the shapes of its state alone: nothing is trained, so any objective will do.
  parts = assembly.assemble(settings, arch, idle_objective(), method)
  abstract = jax.eval_shape(lambda: parts.init(starting.make_params(parts.model, 0), 0))
  like = dict(trainable=abstract.trainable, frozen=abstract.frozen)
  # The average is beside the moments, which may be twice the model: they are read only
  # where there is one.
  if settings.optim.ema is not None:
    like['opt_state'] = abstract.opt_state
  wanted = {stored(name): leaf for name, leaf in tree.flatten(like).items()}
  found = store.restore(step, wanted)
  state = tree.map_named(lambda name, _: found[stored(name)], like)
  averaged = None
  if 'opt_state' in state:
    averaged = optim.ema_params(state['opt_state'], state['trainable'])
  trainable = state['trainable'] if averaged is None else averaged
  # The sum of a narrow base and what was trained is not rounded.
  frozen = state['frozen']
  if settings.compute.frozen != 'float32':
    frozen = kept_in(frozen, 'float32')
  params = parts.method.fuse(trainable, frozen)
  parse_special = settings.tokenizer.parse_special
  tokenizer = tokenizing.parsing(tokenizing.open_tokenizer(path), parse_special)
  kept = str(path / tokenizing.TOKENIZER)
  tokenizing.require_same(tokenizer, store.meta(step), f'step {step}', kept)
  return Opened(
    settings,
    arch,
    params,
    tokenizer,
    step,
    trainable,
    frozen,
    method,
    known,
    frames_pairs(path, step),
  )


def arch_of(meta: dict, where: str) -> tuple[models.Arch, Callable[[str], str]]:
  """The architecture in a checkpoint's meta, and a function from our names of leaves to
  those in the checkpoint.

  Before `pooler_place` there was one name for every pooler.
  """
  arch = configs.struct(models.Arch, models.complete(meta['arch']), where)
  if 'pooler_place' in meta['arch']:
    return arch, lambda name: name
  return arch, lambda name: name.replace('head/pooler/', 'pooler/')


def read_settings(path: pathlib.Path, overrides=()) -> Settings:
  """The settings that a workdir was made with, some of them overridden."""
  if not (path / 'config.json').is_file():
    near = configs.beside(path)
    raise ConfigError(f'{path}: not a workdir (no config.json in it){near}')
  stored = checkpoint.Workdir(path, write=False).read_json('config.json')
  # What the workdir meant, in the words of today.
  written = configs.with_new_names(stored['config'])
  config = ConfigDict(without_foreign_keys(written))
  for key, text in overrides:
    configs.override(config, key, text)
  return read(config, where_made=False)


def reads_prefixes(path) -> bool:
  """Did the run of a workdir pre-train a decoder to see the beginnings of texts as a
  whole?

  That is of the objective alone: the architecture is that of any decoder.
  """
  settings = read_settings(pathlib.Path(path))
  if not isinstance(settings, Pretrain):
    return False
  objective = settings.objective
  return bool(objective.get('prefix')) or objective['name'] == 'joined_denoisers'


def load(path, step: int | None = None, **how) -> interop.Loaded:
  """The model of a workdir's committed step, the newest good one if none is named, or
  of a Hugging Face folder.

  A pooler of BERT's that its task brought is one of the body here, as it is in the
  folder that `export` writes.
  how: `head`, `dtype`, `mesh`, `sharding`, `compute` of `interop.load`, for a folder.
  Raises ValueError that names the file, step or tensor.
  """
  path = pathlib.Path(files.require_local(path, 'model'))
  if not (path / 'checkpoints').is_dir():
    if step is not None:
      raise ConfigError(f'{path}: not a workdir, so it has no step {step}')
    return interop.load(path, **how)
  # Those of a workdir are in its config.
  if how:
    raise ConfigError(
      f'{path}: a workdir; {", ".join(sorted(how))} apply to Hugging Face folders'
    )
  return load_workdir(path, step)


def open_source(init: str) -> interop.Loaded:
  """The model that a run starts from, of which a check has said that it is here."""
  path = pathlib.Path(init)
  if (path / 'checkpoints').is_dir():
    return load_workdir(path)
  return interop.load(path)


def load_workdir(path: pathlib.Path, step: int | None = None) -> interop.Loaded:
  """The model of a committed step of a workdir; see `load`."""
  opened = open_workdir(path, step)
  generation = decoding_said(path, opened)
  return source_of(opened._replace(tokenizer=tokenizer_of(opened)), generation)


def decoding_said(path: pathlib.Path, opened: Opened) -> dict | None:
  """What generation_config.json says of the model of a run, wherever it goes.

  What the run learned to write is decoded as the run itself did.
  """
  said = generation_of(path)
  if not opened.writes:
    return said
  problem = tasks.PROBLEMS[opened.known.kind]
  longest = datasets.target_length(opened.settings.data, opened.arch)
  chosen = decoding_of(path, opened.step)
  end = problem.end(opened.tokenizer)
  return writing.declared(source_of(opened, said), longest, chosen, end)


def tokenizer_of(opened: Opened):
  """The tokenizer of a run for whoever opens its model elsewhere.

  Nobody else would know how the turns of conversations were put, so that a template
  says it.
  """
  if opened.known is None or opened.known.kind != 'conversation':
    return opened.tokenizer
  return chats.templated(opened.tokenizer)


def source_of(opened: Opened, generation: dict | None) -> interop.Loaded:
  """An opened step as the source of another model; see `interop.Loaded`."""
  arch, params = models.adopt_pooler(opened.arch, opened.params)
  pooling = vectors.pooling_of(arch, opened.settings.data.length)
  arch = vectors.as_body(arch)
  return interop.Loaded(
    models.build(arch),
    params,
    opened.tokenizer,
    arch,
    generation=generation,
    step=opened.step,
    pooling=pooling,
    **opened.named,
  )


def generation_of(path: pathlib.Path) -> dict | None:
  """What the model that a run started from says of decoding."""
  file = path / GENERATION
  return interop.contents.read_object(file) if file.is_file() else None


def idle_objective() -> objectives.Objective:
  """An objective for a model that is only read."""
  prediction = objectives.Prediction(
    # R-Drop asks for a prediction when it is made, though nothing calls it.
    lambda batch: 0.0,
    lambda first, second, labels: 0.0,
  )
  return objectives.Objective(
    lambda key, batch: batch,
    lambda batch: {},
    lambda forward, batch, key: ({}, {}),
    prediction,
  )


def restore(workdir, step: int | None = None):
  """The parameters of a committed step, method merged and fused, as a nested dict of
  arrays.
  """
  return open_workdir(workdir, step).params
