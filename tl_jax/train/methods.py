"""The transfer method of a run: what `config.method` names, or several composed.

>>> name_of({'name': 'compose', 'methods': (('lora', {}), ('l2sp', {}))})
'lora+l2sp'
"""

import dataclasses
import inspect
import pathlib
from collections.abc import Mapping

from tl_jax import checkpoint, evals, models, tasks, transfer, tree
from tl_jax import config as configs
from tl_jax.config import ConfigError
from tl_jax.train.settings import SCRATCH, Pretrain, Settings, Transfer

# What answers from its prompt alone (Brown et al. 2020).
IN_CONTEXT = tasks.Prompting.name
# Names of methods that train nothing.
UNTRAINED = (*evals.BASELINES, IN_CONTEXT)
# Besides those with one label per example, the kinds that a model is asked in context.
ASKED = ('choice', 'text', 'minimal_pairs', 'last_word')
# What adds to the loss of other methods, or changes their weights, and trains nothing.
REGULARIZERS = (
  transfer.l2sp,
  transfer.prior_decay,
  transfer.mixout,
  transfer.ewc,
  transfer.reinitialize,
)


def name_of(group) -> str:
  """How results call the method of `config.method`: several names with + between."""
  if group['name'] != 'compose':
    return group['name']
  return '+'.join(part for part, _ in group['methods'])


def method_of(
  settings: Settings, task: tasks.Task | None
) -> transfer.TransferMethod | None:
  """The method of a run; None for a baseline and in context, where no model is trained.

  Raises ConfigError for a method that cannot be, or that the task cannot have.
  """
  is_transfer = isinstance(settings, Transfer)
  name = settings.method.get('name')
  if is_transfer and name in UNTRAINED:
    if name == IN_CONTEXT:
      prompting = prompting_of(settings)
      # Before anything is loaded: a label may be misspelt.
      if task is not None:
        prompting.words_of(task.labels)
    # Of a run that is read again without its files, there is no task to ask.
    if task is not None:
      _require_answers(name, task)
    return None
  if task is not None and task.problem.answer == 'likelihood':
    raise ConfigError(
      f'config.method.name: {name}: of {task.name}, which is of kind '
      f'{task.problem.name!r}, nothing is learned; nearest: {IN_CONTEXT}'
    )
  group, fresh_head = settings.method, brings_head(settings, task)
  method = make(group, fresh_head, of_pretraining=isinstance(settings, Pretrain))
  # Without a task this is pre-training, or a run that has been made already.
  if task is not None:
    require_regularizers(method, settings.init, settings.compute)
  return method


def prompting_of(settings: Settings) -> tasks.Prompting:
  """How a model is asked in context. Raises ConfigError that names the key."""
  if settings.init == SCRATCH:
    raise ConfigError(
      f'config.init: {SCRATCH!r}, but in_context needs a model that has learned to '
      'write; name a workdir or a folder'
    )
  if settings.task.template:
    raise ConfigError(
      'config.task.template: of texts that a run learns to write; in context it is '
      'config.method.template'
    )
  return configs.struct(tasks.Prompting, settings.method, 'config.method')


def brings_head(settings: Settings, task: tasks.Task | None) -> bool:
  """Is the head of a run new, so that a method trains it along?

  A text is written by the head that the model has: a method treats it like the rest,
  in a transfer and where the pre-training of a decoder goes on.
  """
  if task is not None:
    return task.problem.fresh_head
  # Without a task this is pre-training, or a transfer that is read again.
  goes_on = isinstance(settings, Pretrain) and settings.init != SCRATCH
  return not (goes_on and settings.objective.get('name') == 'causal')


def settled(
  settings: Settings,
  method: transfer.TransferMethod,
  arch: models.Arch,
  source,
  folder: pathlib.Path | None = None,
) -> transfer.TransferMethod:
  """The method of a run whose model is known: it trains a head that is new after all.

  source: the parameters that the run starts from. folder: the workdir, where a run may
  have begun. It goes on with what it trains.
  """
  if brings_head(settings, None) or not isinstance(settings, Pretrain):
    return method
  begun = None if folder is None else stored_names(folder)
  if begun is not None:
    is_new = trains_head(begun)
  else:
    is_new = not arch.tied and transfer.OUTPUT not in tree.flatten(source)
  return make(settings.method, is_new, of_pretraining=True)


def stored_names(workdir: pathlib.Path) -> set[str] | None:
  """The names of what the newest checkpoint of a workdir holds; None without any."""
  store = checkpoint.Store(workdir / 'checkpoints')
  for step in reversed(store.steps()):
    try:
      return set(store.leaves(step))
    except checkpoint.DamagedStep:
      continue
  return None


def trains_head(stored) -> bool:
  """Do the names in a checkpoint say that the whole output layer is trained?

  Earlier versions took that of a decoder for a new head in all pre-training.
  """
  return f'trainable/{transfer.OUTPUT}' in stored


def _require_answers(name: str, task: tasks.Task) -> None:
  """Raises ConfigError for a task whose answers a baseline, or a prompt, cannot give."""
  if name == IN_CONTEXT:
    has_answers = task.problem.exclusive or task.problem.name in ASKED
    fits = has_answers and not task.parts
    answers = 'one label per example, candidates, or texts to write'
  elif name in evals.WRITERS:
    fits, answers = task.problem.answer == 'generate', 'texts to write'
  elif name in evals.TAGGERS:
    fits, answers = task.problem.form == 'tags', 'a tag for every word'
  elif name in evals.READERS:
    fits, answers = task.problem.form == 'span', 'answers that stand in passages'
  elif name in evals.CHOOSERS:
    fits, answers = task.problem.form == 'place', 'candidates, one of which is right'
  else:
    fits, answers = task.problem.exclusive, 'one label per example'
  if not fits:
    raise ConfigError(
      f'config.method.name: {name} needs a task with {answers}; '
      f'{task.name} is of kind {task.problem.name!r}'
    )


def make(
  group, fresh_head: bool = True, of_pretraining: bool = False
) -> transfer.TransferMethod:
  """The method of `config.method`. Raises ConfigError that names the key.

  Without a `fresh_head` the head is pre-trained like the rest, and a method treats it
  so. A regularizer does so in transfers alone: pre-training never pulled at a head.
  """
  spared = REGULARIZERS if of_pretraining else ()
  # A probe trains the head and nothing else, fresh or not.
  keep_head = (transfer.probe, *spared)
  return _make(group, 'config.method', None if fresh_head else keep_head)


def _make(group, path: str, keep_head: tuple | None) -> transfer.TransferMethod:
  """The method of a group at `path`; that of `compose` has groups of its own.

  keep_head: what treats the head as new although it is pre-trained; None where it is
  new.
  """
  if group.get('name') == 'compose':
    parts = configs.struct(Composed, group, path).methods
    return transfer.compose(
      *(
        _make({'name': name} | dict(options), f'{path}.methods.{name}', keep_head)
        for name, options in parts
      )
    )
  # `compose` is among the names, so that it can be the nearest to a misspelt one.
  constructor = configs.lookup(
    transfer.METHODS | {'compose': None, IN_CONTEXT: None},
    group.get('name'),
    f'{path}.name',
  )
  if constructor is None:
    raise ConfigError(
      f'{path}.name: {group["name"]} stands alone, as the one method of a transfer'
    )
  given = {}
  # The config may name the leaves of a head itself.
  if 'head' in inspect.signature(constructor).parameters and 'head' not in group:
    is_new = keep_head is None or constructor in keep_head
    # As a plain string it means every head, that of a decoder too.
    given['head'] = str(transfer.HEAD) if is_new else None
  return configs.call(constructor, group, path, **given)


def require_regularizers(
  method: transfer.TransferMethod, init: str, compute: models.Compute
) -> None:
  """Raises ConfigError for a regularizer that a transfer cannot have.

  EWC weighs by the task that the source was trained on. R-Drop compares two passes,
  which would be one without dropout.
  """
  names = regularizers_of(method)
  if 'ewc' in names and not (pathlib.Path(init) / 'checkpoints').is_dir():
    raise ConfigError(
      f'config.method: ewc weighs by what the task of config.init needs, but {init} is no '
      'workdir of a transfer; l2sp pulls without'
    )
  if 'rdrop' in names and compute.dropout == 0:
    raise ConfigError(
      'config.compute.dropout: 0.0, but rdrop compares two passes that differ in '
      'their dropout alone'
    )


def regularizers_of(method: transfer.TransferMethod) -> list[str]:
  """The names of all regularizers of a method."""
  return [how.name for how in method.regularizers]


@dataclasses.dataclass(frozen=True)
class Composed:
  """Several methods as one: ((name, options), ...), in this order."""

  name: str
  methods: tuple

  def __post_init__(self):
    for pair in self.methods:
      if not _is_named_group(pair):
        raise ValueError(f'methods: must be pairs (name, options), got {pair!r}')


def _is_named_group(pair) -> bool:
  """Is this (name, options), as a config writes one method of several?"""
  return len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Mapping)
