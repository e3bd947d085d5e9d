"""Floating point operations of a function, counted in its jaxpr: no compiler is needed.

Only products count, as in the usual accounts (Kaplan et al. 2020, Chowdhery et al.
2022): a multiplication and an addition are two operations.

>>> import jax.numpy as jnp
>>> def twice(x, w): return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]
>>> shapes = jnp.ones((4, 8)), jnp.ones((2, 8, 8))
>>> count(jax.make_jaxpr(twice)(*shapes))
1024.0
"""

import math
from collections.abc import Callable

import jax
from jax.interpreters import partial_eval


def count(closed, rounds: int = 1) -> float:
  """The operations of a closed jaxpr, over all devices together.

  What no output needs is not counted. rounds: how often a loop goes round whose end
  depends on the data. Of branches the dearest counts.
  """
  # The compiler drops it, too: a logits product that no loss reads is not work.
  jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
  return _of_jaxpr(jaxpr, rounds)


def _of_jaxpr(jaxpr, rounds: int) -> float:
  """The operations of an open jaxpr."""
  total = 0.0
  for equation in jaxpr.eqns:
    # Whatever has no rule of its own has at most other functions inside.
    rule = RULES.get(equation.primitive.name, _of_inner)
    total += rule(equation, rounds)
  return total


def _of_dot(equation, rounds: int) -> float:
  """2 x batch x rows x columns x what is summed over."""
  del rounds
  (summed, _), _ = equation.params['dimension_numbers']
  left = equation.invars[0].aval.shape
  length = math.prod(left[axis] for axis in summed)
  return 2.0 * math.prod(equation.outvars[0].aval.shape) * length


def _of_convolution(equation, rounds: int) -> float:
  """2 x outputs x the taps of the kernel of each."""
  del rounds
  # Of a grouped one the kernel has the inputs of a group alone.
  kernel = equation.invars[1].aval.shape
  numbers = equation.params['dimension_numbers']
  outputs = kernel[numbers.rhs_spec[0]]
  taps = math.prod(kernel) / outputs
  return 2.0 * math.prod(equation.outvars[0].aval.shape) * taps


def _of_scan(equation, rounds: int) -> float:
  body = equation.params['jaxpr'].jaxpr
  return equation.params['length'] * _of_jaxpr(body, rounds)


def _of_while(equation, rounds: int) -> float:
  """A loop whose end depends on the data: it goes round `rounds` times."""
  # The condition is read once more than the body; that is of no account here.
  condition = equation.params['cond_jaxpr'].jaxpr
  body = equation.params['body_jaxpr'].jaxpr
  # Of a loop inside it the number is not known either; once is the least.
  return rounds * (_of_jaxpr(condition, 1) + _of_jaxpr(body, 1))


def _of_branches(equation, rounds: int) -> float:
  branches = equation.params['branches']
  return max(_of_jaxpr(branch.jaxpr, rounds) for branch in branches)


def _of_shard_map(equation, rounds: int) -> float:
  """What a device does, times the devices of the axes that are mapped by hand."""
  mesh = equation.params['mesh']
  # Along the other axes the compiler divides the work itself.
  axes = equation.params.get('manual_axes') or mesh.axis_names
  devices = math.prod(mesh.shape[axis] for axis in axes)
  return devices * _of_jaxpr(_opened(equation.params['jaxpr']), rounds)


def _of_kernel(equation, rounds: int) -> float:
  """A kernel: what its author says of its cost, else its body for every place of the
  grid.
  """
  estimate = equation.params.get('cost_estimate')
  if estimate is not None:
    return float(estimate.flops)
  # A size of the grid that only the run knows is taken to be one.
  grid = [size for size in equation.params['grid_mapping'].grid if type(size) is int]
  return math.prod(grid) * _of_jaxpr(_opened(equation.params['jaxpr']), rounds)


def _of_inner(equation, rounds: int) -> float:
  """Whatever has a jaxpr inside: jit, checkpoint, custom derivatives. Else nothing."""
  total = 0.0
  for value in equation.params.values():
    if _is_jaxpr(value):
      total += _of_jaxpr(_opened(value), rounds)
  return total


def _is_jaxpr(value) -> bool:
  return hasattr(_opened(value), 'eqns')


def _opened(value):
  """The jaxpr of a closed one; anything else as it is."""
  return getattr(value, 'jaxpr', value)


RULES: dict[str, Callable] = {
  'dot_general': _of_dot,
  'conv_general_dilated': _of_convolution,
  'scan': _of_scan,
  'while': _of_while,
  'cond': _of_branches,
  'shard_map': _of_shard_map,
  'pallas_call': _of_kernel,
}


def of_function(function: Callable, *arguments) -> float:
  """The operations of a function of arrays or shapes."""
  return count(jax.make_jaxpr(function)(*arguments))
