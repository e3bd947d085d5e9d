"""One optimizer from a config.

It clips, chooses a direction, applies decay and rate, and averages, over what is
trained only.

>>> import jax.numpy as jnp
>>> held = ((r'held', None),)
>>> config = OptimConfig(name='sgd', lr=0.1, b1=0.0, clip=None, groups=held)
>>> tx = make_optimizer(config, ScheduleConfig(name='constant', steps=10))
>>> params = {'held': jnp.ones(1), 'kernel': jnp.ones(1)}
>>> updates, _ = tx.update(params, tx.init(params), params)
>>> [round(float(updates[name][0]), 3) for name in params]
[0.0, -0.1]
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Annotated

import optax

from tl_jax import layers, tree
from tl_jax.config import Fraction, NonNegative, Positive, Range, lookup
from tl_jax.optim.average import average
from tl_jax.optim.depth import Depths
from tl_jax.optim.groups import check_groups, freeze, group_of, parse_groups
from tl_jax.optim.leafwise import clip_by_global_norm, leaf_by_leaf
from tl_jax.optim.masters import with_masters
from tl_jax.optim.optimizers import OPTIMIZERS, MomentDtype
from tl_jax.optim.rate import scale_by_rate
from tl_jax.optim.schedules import (
  Schedule,
  ScheduleConfig,
  chosen_by,
  make_schedule,
)

# Lower layers learn slower, or as fast.
LayerDecay = Annotated[float, Range(low=0, above=True, high=1)]


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """Which optimizer, its peak rate and decay.

  None means the optimizer's own default, or off (clip, ema).

  decay: decoupled, which means that it is multiplied by the scheduled rate.
  clip: the global norm above which gradients are scaled down, over trained leaves.
  groups: ((regex of a whole name, {scale, decay} or None), ...). The first match wins.
    `scale` multiplies the rate, `decay` replaces the decay, None freezes.
  layer_decay: the rate of every layer is this times that of the layer above it, as in
    ELECTRA (`depth.Depths`).
  ema: the decay of the averaged weights.
  moment_dtype: how moments are held. bfloat16 is of the first one, uint8 of all, in the
    8-bit codes of Dettmers et al. 2022. Small leaves and biases stay in float32 there.
  master_weights: what is trained is held in bfloat16, as the forward pass reads it, and
    in float32 in the optimizer's state, where it is updated. Gradients are bfloat16.

  Bytes of a weight in a large matrix:

  | name | moment_dtype | master_weights | weight | optimizer | together |
  |---|---|---|---|---|---|
  | adamw | float32 | False | 4 | 8.00 | 12.00 |
  | adamw | bfloat16 | False | 4 | 6.00 | 10.00 |
  | adamw | uint8 | False | 4 | 2.03 | 6.03 |
  | adamw | float32 | True | 2 | 12.00 | 14.00 |
  | adamw | uint8 | True | 2 | 6.03 | 8.03 |
  | lion | float32 | False | 4 | 4.00 | 8.00 |
  | lion | bfloat16 | False | 4 | 2.00 | 6.00 |
  | lion | uint8 | False | 4 | 1.02 | 5.02 |
  | adafactor | | False | 4 | 0.01 | 4.01 |
  | adafactor | | True | 2 | 4.01 | 6.01 |

  `bert_adam` takes what `adamw` does, and `sgd` what `lion` does; `ema` is 4 more. The
  gradient is a temporary of 4 bytes, or of 2 under `master_weights`.

  Errors: ValueError for an unknown name, a malformed group, and a value that the chosen
  optimizer does not read.
  """

  name: str = 'adamw'
  lr: NonNegative = 1e-3
  decay: NonNegative = 0.0
  b1: Fraction | None = None
  b2: Fraction | None = None
  eps: Positive | None = None
  clip: Positive | None = 1.0
  groups: tuple = ()
  layer_decay: LayerDecay | None = None
  ema: Fraction | None = None
  moment_dtype: MomentDtype | None = None
  master_weights: bool = False

  def __post_init__(self):
    # Both are made to be refused here rather than when the optimizer is built.
    parse_groups(self.groups)
    direction(self)


def direction(config: OptimConfig) -> optax.GradientTransformation:
  """The named optimizer with what the config sets of its arguments."""
  optimizer = lookup(OPTIMIZERS, config.name, 'optim.name')
  given = {}
  for name in ('b1', 'b2', 'eps', 'moment_dtype'):
    value = getattr(config, name)
    if value is not None:
      given[name] = value
  chooser = f'optim.name={config.name!r}'
  return optimizer(**chosen_by(optimizer, given, chooser, 'optim'))


class Optimizer(optax.GradientTransformation):
  """An optax transformation that can be changed inside its average and frozen groups.

  within(wrap) -> the Optimizer whose updates are made by `wrap(tx, group_of)`. Its `tx`
  has made them until now, and `group_of(name)` says which Group a leaf is in. The
  average stays outside, so that it is of the weights as they are trained. The frozen
  groups stay outside, too, so that nothing which `wrap` adds moves them.
  """

  within: Callable[[Callable], 'Optimizer']


def by_depth(
  rates: tuple, layer_decay: float, names: Iterable[str] | None
) -> optax.GradientTransformation:
  """`scale_by_rate(*rates)` with rates that fall towards the embeddings.

  names: those of all parameters; None for those of the tree that is updated.
  """

  def of_tree(params) -> optax.GradientTransformation:
    known = names
    if names is None:
      # A leaf of several layers has the name of the first alone.
      held = layers.plan_of(params).values()
      known = [*tree.flatten(params), *itertools.chain.from_iterable(held)]
    slower = functools.partial(Depths.of(known).factor, layer_decay)
    return scale_by_rate(*rates, slower)

  def init(params):
    return of_tree(params).init(params)

  def update(updates, state, params=None):
    return of_tree(params).update(updates, state, params)

  return optax.GradientTransformation(init, update)


def make_optimizer(
  config: OptimConfig,
  schedule: ScheduleConfig | Schedule,
  names: Iterable[str] | None = None,
) -> Optimizer:
  """An optax transformation over a trainable tree.

  The tree may have None holes and structured leaves. `update` needs the parameters. A
  gradient that is no number is not hidden: with `clip` the whole update is NaN.

  `schedule` may be the function itself, whose factor may be traced: runs of several
  schedules then share a program.

  `names` are the names of all parameters of a run, where the tree is a part of them: a
  group about frozen ones is then no error.
  Errors: `init` raises ValueError for a group that matches no parameter among `names`
  or, without them, among the tree's own.
  """
  groups = parse_groups(config.groups)
  if names is not None:
    names = tuple(names)
  links = []
  if config.clip is not None:
    links.append(clip_by_global_norm(config.clip))
  links.append(leaf_by_leaf(direction(config)))
  schedule_factor = schedule
  if isinstance(schedule, ScheduleConfig):
    schedule_factor = make_schedule(schedule)
  rates = config.lr, config.decay, schedule_factor, groups
  if config.layer_decay is None:
    links.append(scale_by_rate(*rates))
  else:
    links.append(by_depth(rates, config.layer_decay, names))
  averages = [] if config.ema is None else [average(config.ema)]

  def build(links):
    chain = [*links, *averages]
    # optax.chain would put a single link's state into a tuple.
    tx = optax.chain(*chain) if len(chain) > 1 else chain[0]
    # Around the average, too, which is of the exact weights.
    if config.master_weights:
      tx = with_masters(tx)
    # Outermost, so that frozen leaves count in no norm and get no state.
    inner = freeze(tx, groups)

    def init(params):
      # Only now are the names of the parameters known.
      check_groups(groups, tree.flatten(params) if names is None else names)
      return inner.init(params)

    def update(updates, state, params=None):
      return inner.update(updates, state, params)

    def within(wrap):
      # One link from now on: it has the others inside.
      wrapped = wrap(optax.chain(*links), lambda name: group_of(name, groups))
      return build([wrapped])

    optimizer = Optimizer(init, update)
    optimizer.within = within
    return optimizer

  return build(links)
