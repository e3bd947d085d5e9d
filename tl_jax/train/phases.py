"""Phases of pre-training, in which rows are shorter or batches smaller than at its end:
BERT's first 900,000 steps, and batches that grow as GPT-3's do.

>>> group = MixtureData(length=512, phases=((90, dict(length=128)),))
>>> [(phase.first, phase.data.length) for phase in of(group)]
[(0, 128), (90, 512)]
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tl_jax import config as configs
from tl_jax.config import ConfigError
from tl_jax.data.phases import Sizes
from tl_jax.train.settings import Data, MixtureData, Settings

# What a phase may say of its rows.
KEYS = ('length', 'batch')


class Phase(NamedTuple):
  """Steps whose rows have one shape: from the step `first` on those of `data`."""

  first: int
  data: Data

  @property
  def shape(self) -> tuple[int, int]:
    """(rows, tokens of each) of a batch."""
    return self.data.batch, self.data.length


def of(group: Data) -> list[Phase]:
  """The phases of a run, the last of which has no end."""
  if not isinstance(group, MixtureData) or not group.phases:
    return [Phase(0, group)]
  plain = dataclasses.replace(group, phases=())
  found = []
  first = 0
  for last, shape in group.phases:
    found.append(Phase(first, dataclasses.replace(plain, **shape)))
    first = last
  return [*found, Phase(first, plain)]


def ends(settings: Settings) -> list[tuple[Phase, int]]:
  """The phases of a run with the steps at which they end."""
  steps = settings.schedule.steps
  every = of(settings.data)
  # A run may be over before its last phase begins.
  stops = [min(phase.first, steps) for phase in every[1:]]
  return list(zip(every, [*stops, steps], strict=True))


def room_before(settings: Settings, step: int) -> int:
  """How many tokens the rows of all steps before this one have room for."""
  tokens = 0
  before = 0
  for phase, last in ends(settings):
    rows, length = phase.shape
    steps = min(step, last) - before
    tokens += max(0, steps) * rows * length
    before = last
  return tokens


def whole_steps(settings: Settings) -> float:
  """How many steps of the last phase read as many tokens as the run does."""
  rows, length = of(settings.data)[-1].shape
  return room_before(settings, settings.schedule.steps) / (rows * length)


def told(settings: Settings) -> list[str]:
  """What a run says of its phases at its start, and of what it ends too early for.

  A run may go on with more steps, so that this is no error.
  """
  steps = settings.schedule.steps
  group = settings.data
  # Of epochs the steps are not known before the texts are.
  if steps is None or not isinstance(group, MixtureData):
    return []
  ends_at = f'but the run ends at step {steps} (config.schedule.steps)'
  lines = []
  for number, (step, _) in enumerate(group.stages):
    if step >= steps:
      lines.append(f'config.data.stages[{number}] begins at step {step}, {ends_at}')
  begun = []
  for phase in of(group):
    if phase.first < steps:
      begun.append(phase.data.length)
      continue
    rows, length = phase.shape
    shape = f'batches of {rows} rows of {length} tokens'
    lines.append(f'config.data.phases: {shape} begin at step {phase.first}, {ends_at}')
  if len(lengths(group)) > 1:
    # Of one measure from the first look to the last.
    never = '' if group.length in begun else ', in which it never trains'
    lines.append(
      f'held-out texts are read in rows of {group.length} tokens (config.data.length) '
      f'throughout{never}'
    )
  return lines


def lengths(group: Data) -> list[int]:
  """The lengths of rows, each once, that of the last phase at the end."""
  # A dict keeps the place at which it first saw a key.
  backwards = dict.fromkeys(phase.data.length for phase in reversed(of(group)))
  return list(reversed(backwards))


def sizes(group: Data, length: int) -> Sizes:
  """How many rows of this length every step reads."""
  firsts, rows = [], []
  for phase in of(group):
    firsts.append(phase.first)
    rows.append(phase.data.batch if phase.data.length == length else 0)
  return Sizes(tuple(firsts), tuple(rows))


def require(settings: Settings) -> None:
  """Raises ConfigError for phases that cannot be."""
  group = settings.data
  if not getattr(group, 'phases', ()):
    return
  before = 0
  for number, (last, shape) in enumerate(group.phases):
    where = f'config.data.phases[{number}]'
    if last <= before:
      raise ConfigError(f'{where}: step {last} does not come after {before}')
    before = last
    for key in shape:
      configs.lookup(dict.fromkeys(KEYS), key, where)
    _require_room(where, group, shape)
  _require_changes(of(group))
  _require_countable(settings)


def _require_changes(every: Sequence[Phase]) -> None:
  """Raises ConfigError for a phase that goes on in the next one as it was: its step
  would be compiled twice for nothing.
  """
  for number, (phase, following) in enumerate(itertools.pairwise(every)):
    if phase.shape == following.shape:
      rows, length = phase.shape
      raise ConfigError(
        f'config.data.phases[{number}]: has batches of {rows} rows of {length} tokens, as '
        f'what follows it has; leave it out, or give it another of {", ".join(KEYS)}'
      )


def _require_room(where: str, group: MixtureData, shape: Mapping[str, int]) -> None:
  """Raises ConfigError for a phase that needs more than the last one."""
  length = shape.get('length', group.length)
  if length > group.length:
    raise ConfigError(
      f'{where}.length: {length}, but the rows of the last phase, which the model is '
      f'made for, have config.data.length {group.length}; --config.data.phases="()" is '
      'a run without phases'
    )
  # What a run needs is planned for its last phase.
  tokens = length * shape.get('batch', group.batch)
  most = group.length * group.batch
  if tokens > most:
    raise ConfigError(
      f'{where}.batch: {tokens:,} tokens of a batch, but those of the last phase have '
      f'{most:,}; nearest: {most // length}, or --config.data.phases="()" for a run '
      'without phases'
    )


def _require_countable(settings: Settings) -> None:
  """Raises ConfigError for what is counted in rows of one shape."""
  if settings.schedule.epochs is not None:
    raise ConfigError(
      'config.schedule.epochs: a run in phases is counted in config.schedule.steps'
    )
  group = settings.data
  if len(lengths(group)) == 1:
    return
  for key in ('epochs', 'unique'):
    if getattr(group, key):
      raise ConfigError(
        f'config.data.{key}: counts what is read of a source in pieces of one length, '
        'but config.data.phases have several'
      )
