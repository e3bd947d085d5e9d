"""The parts of a run: its architecture, its objective, and with both the model, the
optimizer and the step.

>>> kinds_of(['layers/0/mlp/in/kernel', 'layers/1/mlp/in/kernel'])
['layers/*/mlp/in/kernel']
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from tl_jax import config as configs
from tl_jax import interop, layers, models, objectives, optim, tasks, transfer, tree
from tl_jax.train import vectors
from tl_jax.train.placing import require_tensor
from tl_jax.train.settings import SCRATCH, Pretrain, Settings
from tl_jax.train.step import TrainState, init_state, make_step

# What a new task starts afresh.
HEAD_PATTERNS = transfer.HEAD
SAID = 8  # kinds of leaves that a line on training names
# What an objective reads that no text has.
MISSING_IN_A_MIXTURE = {
  'pairs': 'a target text for every text',
  'labels': 'the labels of a task, so a config of a transfer with config.task',
}


def base_arch(group: Mapping, **fields) -> models.Arch:
  """The architecture that `config.model` names, with the fields that only a run knows:
  its vocabulary, its head.
  """
  group = dict(group)
  family = group.pop('family', '')
  if not family:
    raise configs.ConfigError(
      'config.model.family: missing; a run from scratch needs one of: '
      + tree.nearest('bert', models.FAMILIES, most=8)
    )
  pieces = fields.get('vocabulary')
  rows = group.get('vocabulary')
  if None not in (pieces, rows):
    # More rows than pieces: a table whose size devices divide. Fewer cannot be.
    if rows < pieces:
      raise configs.ConfigError(
        f'config.model.vocabulary: {rows} rows, but the tokenizer has {pieces} pieces; '
        'leave it out, or give more'
      )
    fields['vocabulary'] = rows
  _require_fields(group)
  arch = models.arch(family, **group | fields)
  # So that what is learned from scratch has the head of what is pre-trained.
  if 'head_bias' not in group:
    arch = interop.classifiers.in_its_family(arch, arch.head)
  arch = with_generator(arch)
  # Without the head for pairs nothing trains BERT's pooler: it comes with the first task.
  if arch.pooler_place == 'body' and not arch.pair_head:
    arch = dataclasses.replace(arch, pooler_place='new')
  return arch


def _require_fields(group: Mapping) -> None:
  """Raises ConfigError for a key that no model has; the family is a key beside them."""
  known = ['family', *(field.name for field in dataclasses.fields(models.Arch))]
  for key in group:
    if key not in known:
      close = configs.nearest(key, known)
      raise configs.ConfigError(f'config.model.{key}: unknown key; nearest: {close}')


def with_generator(arch: models.Arch) -> models.Arch:
  """The architecture with a generator where its head learns from one."""
  if arch.head != 'replaced' or arch.generator:
    return arch
  # A quarter of the width, as of the paper's small and large models.
  return dataclasses.replace(arch, generator=max(1, arch.width // 4))


def head_of(settings: Settings, task: tasks.Task | None) -> dict:
  """The fields of an architecture that the task chooses, or in pre-training the
  objective.
  """
  if task is None:
    entry = objectives.OBJECTIVES[settings.objective['name']]
    return dict(head=entry.head, **entry.fields)
  return task.arch


def smallest_arch(settings: Settings, task: tasks.Task | None) -> models.Arch | None:
  """The architecture of a run from scratch before there is a tokenizer for it.

  None for any other model, which is known only when it is opened.
  """
  if settings.init != SCRATCH:
    return None
  # One piece at least: how many there are depends on the texts.
  return base_arch(settings.model, vocabulary=1, **head_of(settings, task))


def reading_of(settings: Settings) -> dict:
  """What a transfer's config says of how its new classifier reads the text.

  The rest of `config.model` is the source's where there is one.
  """
  if isinstance(settings, Pretrain):
    return {}
  said = settings.model
  return {field: said[field] for field in interop.classifiers.READING if field in said}


def with_reading(arch: models.Arch, settings: Settings) -> models.Arch:
  """The architecture with what a transfer's config says of how its classifier reads.

  Raises ConfigError that names the key of a value that is none, and a key that another
  head does not read.
  """
  reading = reading_of(settings)
  for key in reading:
    # A vector has nothing behind its pooling.
    is_read = arch.reads_examples and (arch.head != vectors.HEAD or key == 'pool')
    if not is_read:
      raise configs.ConfigError(
        f'config.model.{key}: only a classifier reads it, and this task has the head '
        f'{arch.head!r}; leave it out'
      )
  fields = {field.name: getattr(arch, field.name) for field in dataclasses.fields(arch)}
  return configs.struct(models.Arch, fields | reading, 'config.model')


def require_kind(
  settings: Settings, task: tasks.Task | None, kind: str, model: str
) -> None:
  """Raises ConfigError for an objective or a task that no model of this kind can have.

  model: what the error calls the model.
  """
  if isinstance(settings, Pretrain):
    name = settings.objective['name']
    able = objectives.OBJECTIVES[name].kinds
    if kind not in able:
      raise configs.ConfigError(
        f'config.objective.name: {name!r} needs a model of kind '
        f'{" or ".join(map(repr, able))}; {model} is of kind {kind!r}, which has '
        f'{", ".join(_objectives_of(kind))}'
      )
    return
  # Of a run that is read again without its files, there is no task to ask.
  if task is None or kind in task.problem.kinds:
    return
  key = 'target' if settings.task.target else 'name'
  able = ' or '.join(map(repr, task.problem.kinds))
  raise configs.ConfigError(
    f'config.task.{key}: {task.name} is of kind {task.problem.name!r}, which models of '
    f'kind {able} answer; {model} is of kind {kind!r}'
  )


def _objectives_of(kind: str) -> list[str]:
  """The objectives of texts alone that a model of this kind can have."""
  found = []
  for name, entry in objectives.OBJECTIVES.items():
    if entry.reads == 'text' and kind in entry.kinds:
      found.append(name)
  return found


def require_pooler(settings: Settings, arch: models.Arch, model: str) -> None:
  """Raises ConfigError for an objective on pairs of segments and a model whose body has
  no pooler for it.

  model: what the error calls the model.
  """
  if arch.pair_head and not arch.keeps_pooler:
    raise configs.ConfigError(
      f'config.objective.name: {settings.objective["name"]!r} needs a pooler in the body, '
      f'as BERT and ALBERT have it; {model} has none'
    )


def require_fit(settings: Settings, arch: models.Arch, reserved: int) -> None:
  """Raises ConfigError for rows longer than the model's positions, and for heads that
  the tensor axis does not divide.

  reserved: how many positions of every example the method keeps for itself.
  """
  if arch.room is not None:
    _require_positions(settings, arch.room, reserved)
  # 1 for an axis that takes what is left: only the devices say how much that is.
  require_tensor(arch, settings.mesh.axis_size('tensor'))


def _require_positions(settings: Settings, room: int, reserved: int) -> None:
  """Raises ConfigError for rows that, with what the method keeps, need more than the
  `room` positions of the model.
  """
  length = settings.data.length
  if reserved >= room:
    key = 'length' if 'length' in settings.method else 'name'
    raise configs.ConfigError(
      f'config.method.{key}: {settings.method[key]} keeps {reserved} positions of every '
      f'example, but the model has {room} (config.model.max_positions), of which '
      f'config.data.length takes {length}; nearest: {max(0, room - length)}'
    )
  if length > room - reserved:
    kept = f', {reserved} of them kept by config.method' if reserved else ''
    raise configs.ConfigError(
      f'config.data.length: rows of {length} tokens, but the model has {room} '
      f'positions (config.model.max_positions){kept}'
    )


def require_parts(
  settings: Settings,
  task: tasks.Task | None,
  method: transfer.TransferMethod | None,
) -> None:
  """Raises ConfigError for a model and an objective that cannot be, before there is a
  tokenizer or a source to make them with. A baseline, of `method` None, has neither.
  """
  fields = {}
  if isinstance(settings, Pretrain):
    entry_of(settings.objective)
    fields = head_of(settings, None)
  if settings.init != SCRATCH:
    _require_objective(settings)
    _require_no_model(settings)
    return
  arch = base_arch(settings.model, **fields)
  family = f'config.model.family {settings.model["family"]!r}'
  # Before the keys of the objective: those of one that the model cannot have help none.
  require_kind(settings, task, arch.kind, family)
  _require_objective(settings)
  require_pooler(settings, arch, family)
  reserved = 0 if method is None else method.reserved_positions
  require_fit(settings, arch, reserved)


def _require_objective(settings: Settings) -> None:
  """Raises ConfigError for an objective of pre-training that cannot be made."""
  if not isinstance(settings, Pretrain):
    return
  make_objective(settings.objective, settings.data.length, objectives.Nominal())
  objective = settings.objective['name']
  if settings.unigram_bias and objectives.OBJECTIVES[objective].head != 'masked':
    raise configs.ConfigError(
      'config.unigram_bias: only the head of objective masked has a bias, not that of '
      f'{objective!r}'
    )


def _require_no_model(settings: Settings) -> None:
  """Raises ConfigError for a model beside the one that a run starts from.

  How a new classifier reads the text is no part of that model.
  """
  reading = reading_of(settings)
  for key, value in settings.model.items():
    if key in reading or (key == 'family' and not value):
      continue
    raise configs.ConfigError(
      f'config.model.{key}: {value!r}, but the model is that of config.init; leave it out'
    )
  # Over any architecture: only what is said is looked at.
  with_reading(models.Arch(head='classifier'), settings)


def make_objective(group: Mapping, length: int, tokenizer) -> objectives.Objective:
  """The objective that `config.objective` names, for rows of `length` tokens of this
  tokenizer.

  Raises ConfigError for one that text alone does not train.
  """
  entry = entry_of(group)
  # Told of the tokenizer's pieces, not of the model's rows: its table may be longer
  # than what is ever drawn from it.
  facts = entry.facts(tokenizer, length)
  return configs.call(entry.make, group, 'config.objective', **facts)


def entry_of(group: Mapping):
  """What is known of the objective that `config.objective` names.

  Raises ConfigError for one that text alone does not train.
  """
  name = group.get('name')
  _require_no_key(name)
  entry = configs.lookup(objectives.OBJECTIVES, name, 'config.objective.name')
  if entry.reads != 'text':
    able = [
      name for name, entry in objectives.OBJECTIVES.items() if entry.reads == 'text'
    ]
    needed = MISSING_IN_A_MIXTURE[entry.reads]
    raise configs.ConfigError(
      f'config.objective.name: {name!r} needs {needed}, but config.data.mixture has '
      f'texts alone; nearest: {configs.nearest(name, able)}'
    )
  return entry


def _require_no_key(name: Any) -> None:
  """Raises ConfigError for the name of a switch of another objective.

  What others call an objective may be one here: a prefix LM is a causal one.
  """
  for owner, entry in objectives.OBJECTIVES.items():
    parameter = inspect.signature(entry.make).parameters.get(str(name))
    if parameter is not None and parameter.default is False:
      raise configs.ConfigError(
        f'config.objective.name: {name!r} is a key of {owner!r}: objective={owner} and '
        f'--config.objective.{name}=True'
      )


def objective_of(
  settings: Settings,
  task: tasks.Task | None,
  tokenizer,
  writer: tasks.Writer,
  class_weights: tuple[float, ...] = (),
) -> objectives.Objective:
  """What a run minimizes: the task says it, or in pre-training the config.

  writer: how the model writes texts. class_weights: what an example of each class weighs;
  () where all weigh 1. Raises ConfigError for targets that cannot be smoothed.
  """
  if task is not None:
    facts = task.facts(
      smoothing=settings.task.smoothing,
      writer=writer,
      class_weights=class_weights,
      **dataclasses.asdict(settings.task.contrast),
    )
    try:
      return task.problem.objective(facts)
    except ValueError as error:
      raise configs.ConfigError(f'config.task.{error}') from error
  return make_objective(settings.objective, settings.data.length, tokenizer)


class Components(NamedTuple):
  """What a run is made of.

  `init(params, seed)` is its first state, `step(state, batch)` the next one.
  `step_at(state, batch, factor)` is the step whose schedule gives `factor`, which may be
  traced: runs that differ in their schedules share it; one alone needs none. groups: those
  of the optimizer, with the leaves that get no gradient among the frozen ones.
  """

  model: models.Model
  objective: objectives.Objective
  method: transfer.TransferMethod
  tx: optax.GradientTransformation
  init: Callable
  step: Callable
  groups: optim.Groups
  step_at: Callable | None = None


def make_arch(
  settings: Settings,
  task: tasks.Task | None,
  reserved: int,
  source: interop.Loaded | None,
  tokenizer,
) -> models.Arch:
  """The architecture of a run: its source's, or the config's with the tokenizer's
  vocabulary; in any case with the head that it trains.

  reserved: how many positions of every example the method keeps for itself.
  """
  head = head_of(settings, task)
  if source is None:
    arch = base_arch(settings.model, vocabulary=tokenizer.vocabulary_size, **head)
    # BART's decoder starts with the token that ends a text, whose id in the family is
    # that of another vocabulary.
    if arch.start > 0 and 'start' not in settings.model:
      arch = dataclasses.replace(arch, start=tokenizer.eos)
    return vectors.with_pool(arch, settings)
  arch = dataclasses.replace(interop.with_head(source, head['head']), **head)
  arch = with_generator(arch)
  require_kind(settings, task, arch.kind, settings.init)
  arch = with_reading(vectors.with_pool(arch, settings), settings)
  require_fit(settings, arch, reserved)
  return arch


def assemble(
  settings: Settings,
  arch: models.Arch,
  objective: objectives.Objective,
  method: transfer.TransferMethod,
) -> Components:
  """Puts the parts together; the settings say how to compute and how to optimize.

  Raises ConfigError for a method or optimizer group that fits no parameter, and for
  methods or an objective that do not go together.
  """
  model = models.build(arch, settings.compute, ordered=True)
  names = list(tree.flatten(model.axes))
  # Without a gradient a leaf would still decay: it is kept as it came.
  pair = objective.segments is not None
  still = tuple((pattern, None) for pattern in models.unread(arch, pair))
  groups = still + tuple(settings.optim.groups)
  config = dataclasses.replace(settings.optim, groups=groups)
  # Of so many epochs the steps are not known before the texts are encoded; until then
  # any number will do, for no shape depends on it.
  schedule = settings.schedule
  schedule = schedule.of_steps(schedule.steps or max(1, schedule.warmup))
  tx = optim.make_optimizer(config, schedule, names)
  accumulate = settings.data.accumulate

  def step_at(state, batch, factor):
    own = optim.make_optimizer(config, lambda count: factor, names)
    return make_step(model, objective, method, own, accumulate)(state, batch)

  frozen = settings.compute.frozen

  def init(params, seed):
    return init_state(params, method, tx, seed, frozen_dtype=frozen)

  try:
    step = make_step(model, objective, method, tx, accumulate)
    # Traced, not computed: whether patterns match shows before there is a parameter.
    jax.eval_shape(lambda: init(model.init(jax.random.key(0)), 0))
  except ValueError as error:
    # On one line, as every error of a config.
    raise configs.ConfigError(f'config: {" ".join(str(error).split())}') from error
  parsed = optim.parse_groups(groups)
  return Components(model, objective, method, tx, init, step, parsed, step_at)


def trained_leaves(parts: Components, trainable) -> dict[str, Any]:
  """The leaves that a run moves, by name.

  These are what its method trains without what its optimizer freezes.
  """
  return {
    name: leaf
    for name, leaf in tree.flatten(trainable).items()
    if optim.group_of(name, parts.groups) is not None
  }


def fused_shapes(parts: Components, state: TrainState):
  """The shapes of the model that comes out of a state, named or held."""

  def fuse(trainable, frozen):
    return parts.method.fuse(layers.unstacked(trainable), layers.unstacked(frozen))

  return jax.eval_shape(fuse, state.trainable, state.frozen)


def kinds_of(names) -> list[str]:
  """The names with a star for the number of a layer, each once."""
  return list(dict.fromkeys(re.sub(r'(?<=/)\d+(?=/)', '*', name) for name in names))


def said_of_training(parts: Components, method: str, state: TrainState) -> str:
  """A line on what a method trains: how many parameters, and which."""
  trained = trained_leaves(parts, state.trainable)
  total = tree.count(fused_shapes(parts, state))
  kinds = kinds_of(trained)
  more = f' and {len(kinds) - SAID} more' if len(kinds) > SAID else ''
  count = f'{tree.count(trained):,} of {total:,} parameters'
  return f'{method} trains {count}: {", ".join(kinds[:SAID])}{more}'
