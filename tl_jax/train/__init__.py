"""Runs: built from a config, trained by one step, resumed from their workdir.

>>> make_step.__module__
'tl_jax.train.step'
"""

from tl_jax.train.checks import read
from tl_jax.train.cohort import execute
from tl_jax.train.evaluation import evaluate
from tl_jax.train.notebook import Built, build
from tl_jax.train.prediction import Request, predict
from tl_jax.train.reporter import NULL_REPORTER, Reporter
from tl_jax.train.restoring import load, open_workdir, reads_prefixes, restore
from tl_jax.train.results import Diverged
from tl_jax.train.running import pretrain, run, transfer
from tl_jax.train.settings import Settings
from tl_jax.train.step import TrainState, init_state, make_step
from tl_jax.train.stopping import Stopped

__all__ = [
  'NULL_REPORTER',
  'Built',
  'Diverged',
  'Request',
  'Settings',
  'Stopped',
  'TrainState',
  'Reporter',
  'build',
  'evaluate',
  'execute',
  'init_state',
  'load',
  'make_step',
  'open_workdir',
  'predict',
  'pretrain',
  'read',
  'reads_prefixes',
  'restore',
  'run',
  'transfer',
]
