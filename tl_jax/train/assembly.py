"""The parts of a run from its settings: model, objective, method, optimizer and step.

>>> kinds_of(['layers/0/mlp/in/kernel', 'layers/1/mlp/in/kernel'])
['layers/*/mlp/in/kernel']
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from tl_jax import config as configs
from tl_jax import models, objectives, optim, parallel, rng, transfer, tree
from tl_jax.train.settings import Pretrain, Settings
from tl_jax.train.step import TrainState, init_state, make_step

# What a new task starts afresh.
HEAD_PATTERNS = transfer.HEAD
SAID = 8  # kinds of leaves that a line on training names
# What an objective reads that no text has.
MISSING_IN_A_MIXTURE = {
  'pairs': 'a target text for every text',
  'labels': 'the labels of a task, so a config of a transfer with config.task',
}


class Components(NamedTuple):
  """What a run is made of.

  `init(params, seed)` is its first state, `step(state, batch)` the next one. groups:
  those of the optimizer, with the leaves that get no gradient among the frozen ones.
  """

  model: models.Model
  objective: objectives.Objective
  method: transfer.TransferMethod
  tx: optax.GradientTransformation
  init: Callable
  step: Callable
  groups: optim.Groups


def assemble(
  settings: Settings, arch: models.Arch, objective: objectives.Objective
) -> Components:
  """Puts the parts together.

  Raises ConfigError for a method or optimizer group that fits no parameter, and for
  methods or an objective that do not go together.
  """
  model = models.build(arch, settings.compute)
  method = make_method(settings)
  names = list(tree.flatten(model.axes))
  # Without a gradient a leaf would still decay: it is kept as it came.
  still = tuple((pattern, None) for pattern in models.unread(arch))
  groups = still + tuple(settings.optim.groups)
  config = dataclasses.replace(settings.optim, groups=groups)
  tx = optim.make_optimizer(config, settings.schedule, names)

  def init(params, seed):
    return init_state(params, method, tx, seed)

  try:
    step = make_step(model, objective, method, tx, settings.data.accumulate)
    jax.eval_shape(lambda: init(model.init(jax.random.key(0)), 0))
  except ValueError as error:
    raise configs.ConfigError(f'config: {" ".join(str(error).split())}') from error
  return Components(
    model, objective, method, tx, init, step, optim.parse_groups(groups)
  )


def trained_leaves(parts: Components, trainable) -> dict[str, Any]:
  """The leaves that a run moves, by name.

  These are what its method trains without what its optimizer freezes.
  """
  return {
    name: leaf
    for name, leaf in tree.flatten(trainable).items()
    if optim.group_of(name, parts.groups) is not None
  }


def kinds_of(names) -> list[str]:
  """The names with a star for the number of a layer, each once."""
  return list(dict.fromkeys(re.sub(r'(?<=/)\d+(?=/)', '*', name) for name in names))


def said_of_training(parts: Components, settings: Settings, state: TrainState) -> str:
  """A line on what a run trains: how many parameters, and which."""
  trained = trained_leaves(parts, state.trainable)
  total = tree.count(jax.eval_shape(parts.method.fuse, state.trainable, state.frozen))
  kinds = kinds_of(trained)
  more = f' and {len(kinds) - SAID} more' if len(kinds) > SAID else ''
  count = f'{tree.count(trained):,} of {total:,} parameters'
  return f'{method_name(settings)} trains {count}: {", ".join(kinds[:SAID])}{more}'


def make_mesh(settings: Settings):
  """The mesh of this machine's devices. Raises ConfigError where it or the batch does
  not fit them.
  """
  try:
    mesh = parallel.make_mesh(settings.mesh)
  except ValueError as error:
    raise configs.ConfigError(str(error)) from error
  ways = mesh.shape['data'] * mesh.shape['fsdp'] * settings.data.accumulate
  if settings.data.batch % ways:
    raise configs.ConfigError(
      f'config.data.batch: {settings.data.batch} rows are not divisible by data '
      f'{mesh.shape["data"]} x fsdp {mesh.shape["fsdp"]} x accumulate '
      f'{settings.data.accumulate}'
    )
  return mesh


def make_method(settings: Settings) -> transfer.TransferMethod:
  return _method(settings.method, 'config.method')


def method_name(settings: Settings) -> str:
  """How results call the method: the names of several with + between."""
  name = settings.method['name']
  return (
    '+'.join(part for part, _ in settings.method['methods'])
    if name == 'compose'
    else name
  )


def _method(group, path: str) -> transfer.TransferMethod:
  """The method of a config group; the group of `compose` has those of its `methods`, by
  name.
  """
  if group.get('name') == 'compose':
    parts = configs.struct(Composed, group, path).methods
    return transfer.compose(
      *(
        _method({'name': name} | dict(options), f'{path}.methods.{name}')
        for name, options in parts
      )
    )
  constructor = configs.lookup(
    transfer.METHODS | {'compose': None}, group.get('name'), f'{path}.name'
  )
  return configs.call(constructor, group, path)


@dataclasses.dataclass(frozen=True)
class Composed:
  """Several methods as one: ((name, options), ...), in this order."""

  name: str
  methods: tuple

  def __post_init__(self):
    for pair in self.methods:
      if (
        len(pair) != 2
        or not isinstance(pair[0], str)
        or not isinstance(pair[1], Mapping)
      ):
        raise ValueError(f'methods: must be pairs (name, options), got {pair!r}')


def make_objective(settings: Pretrain, tokenizer) -> objectives.Objective:
  """The pre-training objective, told what it must know of the tokenizer.

  Raises ConfigError for one that text alone does not train.
  """
  name = settings.objective.get('name')
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
  facts = entry.facts(tokenizer, settings.data.length)
  return configs.call(entry.make, settings.objective, 'config.objective', **facts)


def base_arch(settings: Settings, **fields) -> models.Arch:
  """The architecture that the config names, with the fields that only a run knows: its
  vocabulary, its head.
  """
  group = dict(settings.model)
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
  arch = models.arch(family, **group | fields)
  # None of our objectives trains BERT's pooler: it comes with the first task.
  if arch.pooler_place == 'body':
    arch = dataclasses.replace(arch, pooler_place='new')
  return arch


def require_kind(settings: Pretrain, arch: models.Arch) -> None:
  """Raises ConfigError for an objective that this kind of model cannot have."""
  name = settings.objective['name']
  needed = objectives.OBJECTIVES[name].kinds
  if arch.kind in needed:
    return
  family = settings.model.get('family')
  where = f'config.model.family {family!r}' if family else settings.init
  raise configs.ConfigError(
    f'config.objective.name: {name!r} needs a model of kind '
    f'{" or ".join(map(repr, needed))}; {where} is of kind {arch.kind!r}'
  )


def make_params(model: models.Model, seed):
  """Fresh parameters of a run's seed, which may be traced."""
  return model.init(rng.stream(jax.random.key(seed), 'init'))
