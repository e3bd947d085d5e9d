"""The first state of a run: the parameters of its source taken over into the tree of its
model, and fresh ones for what is new.

>>> source = {'body': 1.0, 'head': {'bias': 2.0}}
>>> target = {'body': 0.0, 'head': {'bias': 0.0}}
>>> float(transplanted(source, target)[0]['head']['bias'])
0.0
>>> float(continued(source, target)[0]['head']['bias'])
2.0
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import models, optim, transfer, tree
from tl_jax.train.assembly import HEAD_PATTERNS, Components, make_params
from tl_jax.train.settings import Settings
from tl_jax.train.step import TrainState


class Own(NamedTuple):
  """What is data to the program of a run: runs that differ in nothing else share the
  program.
  """

  seed: Any
  rate: Any
  decay: Any

  @classmethod
  def of(cls, settings: Settings) -> 'Own':
    # As arrays of one dtype: a Python number would be compiled into the program.
    return cls(
      np.uint32(settings.seed),
      np.float32(settings.optim.lr),
      np.float32(settings.optim.decay),
    )


class Given(NamedTuple):
  """What the first states of all runs of one program are made from; each may be None.

  params: those of the source. bias: the first one of the head, (vocabulary,). fisher:
  the information by which EWC weighs, by the names of the leaves.
  """

  params: Any = None
  bias: np.ndarray | None = None
  fisher: dict | None = None


def first_state(
  parts: Components, take_over: Callable, given: Given, own: Own
) -> TrainState:
  """The state at step 0; `given` and `own` may be traced.

  take_over(source, fresh): `continued` or `transplanted`.
  """
  params = first_params(parts.model, take_over, given, own.seed)
  state = parts.init(params, own.seed)
  # In the state and not in the program, which runs of other rates share.
  opt_state = optim.set_rate(state.opt_state, own.rate, own.decay)
  state = state._replace(opt_state=opt_state)
  if given.fisher is None:
    return state
  return state._replace(frozen=transfer.with_fisher(state.frozen, given.fisher))


def first_params(model: models.Model, take_over: Callable, given: Given, seed):
  """The model's first parameters; `seed` may be traced."""
  params = make_params(model, seed)
  if given.params is not None:
    params, _ = take_over(given.params, params)
  if given.bias is not None:
    params['head']['bias'] = jnp.asarray(given.bias)
  return params


def transplanted(source, target):
  """The source's values in the target's tree, for a new task, and the account of all
  leaves.

  The head is new, and with it a pooler that is none of the body.
  """
  given, taken = tree.flatten(source), tree.flatten(target)
  is_new, is_pooler = tree.matcher(HEAD_PATTERNS), tree.matcher(transfer.POOLER)
  fresh = [re.escape(name) for name in taken if is_new(name)]
  left = [name for name in given if is_pooler(name) and name not in taken]
  drop = [re.escape(name) for name in [*filter(is_new, given), *left]]
  return transfer.transplant(source, target, fresh=fresh, drop=drop)


def continued(source, target):
  """The source's values in the target's tree, for more pre-training, and the account of
  all leaves.

  A head that the source has not, or of another kind, starts afresh.
  """
  givers, takers = tree.flatten(source), tree.flatten(target)
  is_new = tree.matcher(HEAD_PATTERNS, transfer.POOLER)

  def fits(name):
    if name not in givers or name not in takers:
      return False
    return jnp.shape(givers[name]) == jnp.shape(takers[name])

  def unfitting(names):
    return [re.escape(name) for name in names if is_new(name) and not fits(name)]

  return transfer.transplant(
    source, target, fresh=unfitting(takers), drop=unfitting(givers)
  )


def account_of(model: models.Model, params, take_over: Callable) -> transfer.Account:
  """The account of take_over(params, fresh), which nothing depends on the seed of; of
  `params` None, that all is fresh.
  """
  found = []

  def note():
    fresh = make_params(model, 0)
    if params is None:
      found.append(transfer.transplant({}, fresh, fresh=['.*'])[1])
    else:
      found.append(take_over(params, fresh)[1])

  # Names and shapes decide, so tracing is enough: a large model is not made twice.
  jax.eval_shape(note)
  return found[0]
