"""One computation in the form that is fast where it runs.

>>> import jax.numpy as jnp
>>> float(by_platform(jnp.ones(3), cpu=jnp.sum, default=jnp.prod))  # on a CPU
3.0
"""

from collections.abc import Callable
from typing import Any

import jax


def by_platform(*operands: Any, cpu: Callable, default: Callable) -> Any:
  """What `cpu` makes of the operands on CPUs, and `default` everywhere else.

  A process alone may lower a program for chips that it does not have: which form it
  takes is left open until then, as a conditional with one branch. Several processes
  compute on what they have, and no conditional is made: XLA on CPU runs the sums over
  processes that are inside of conditionals in any order, and a sum then meets another
  one of the other process.
  """
  if jax.process_count() == 1:
    return jax.lax.platform_dependent(*operands, cpu=cpu, default=default)
  chosen = cpu if jax.default_backend() == 'cpu' else default
  return chosen(*operands)
