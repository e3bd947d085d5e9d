"""Evaluation: what comes after training, and never trains.

>>> from tl_jax.evals.statistics import t_interval
>>> t_interval([1.0, 2.0, 3.0]).n
3
"""

from tl_jax.evals.baselines import (
  BASELINES,
  CHOOSERS,
  CLASSIFIERS,
  READERS,
  TAGGERS,
  WRITERS,
)
from tl_jax.evals.evaluate import outputs

__all__ = [
  'BASELINES',
  'CHOOSERS',
  'CLASSIFIERS',
  'READERS',
  'TAGGERS',
  'WRITERS',
  'outputs',
  'settings_of',
  'write',
]


def __getattr__(name: str):
  if name not in ('settings_of', 'write'):
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  # Not above: it loads jax, of which a report that draws curves has no use.
  from tl_jax.evals import generation

  return getattr(generation, name)
