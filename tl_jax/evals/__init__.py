"""Evaluation: what comes after training, and never trains.

>>> from tl_jax.evals.statistics import t_interval
>>> t_interval([1.0, 2.0, 3.0]).n
3
"""

from tl_jax.evals.baselines import BASELINES
from tl_jax.evals.evaluate import outputs
from tl_jax.evals.generation import write

__all__ = ['BASELINES', 'outputs', 'write']
