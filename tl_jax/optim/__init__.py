"""Optimizers: optax transformations whose peak rate and decay are data.

They take trees with holes and structured leaves.

>>> import jax.numpy as jnp
>>> schedule = ScheduleConfig(name='constant', steps=10)
>>> tx = make_optimizer(OptimConfig(name='adamw', lr=1e-3), schedule)
>>> state = set_rate(tx.init({'kernel': jnp.ones((2, 2)), 'held': None}), 0.5)
>>> float(learning_rate(state))
0.5
"""

from tl_jax.optim.average import ema_params
from tl_jax.optim.build import OptimConfig, Optimizer, direction, make_optimizer
from tl_jax.optim.groups import Groups, check_groups, group_of, parse_groups
from tl_jax.optim.leafwise import global_norm
from tl_jax.optim.masters import narrowed, read_weights
from tl_jax.optim.optimizers import OPTIMIZERS
from tl_jax.optim.rate import RateState, learning_rate, set_rate
from tl_jax.optim.schedules import SCHEDULES, ScheduleConfig, make_schedule
from tl_jax.optim.sharding import state_axes

__all__ = [
  'OPTIMIZERS',
  'SCHEDULES',
  'Groups',
  'OptimConfig',
  'Optimizer',
  'RateState',
  'ScheduleConfig',
  'check_groups',
  'direction',
  'ema_params',
  'global_norm',
  'group_of',
  'learning_rate',
  'make_optimizer',
  'make_schedule',
  'narrowed',
  'parse_groups',
  'read_weights',
  'set_rate',
  'state_axes',
]
