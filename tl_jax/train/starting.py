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

from tl_jax import interop, models, optim, rng, transfer, tree
from tl_jax.train.assembly import HEAD_PATTERNS, Components
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
    # Of one dtype: a Python number is weakly typed, and jit would compile once more.
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


class Start(NamedTuple):
  """How runs of one program start.

  take_over(source, fresh): `continued` or `transplanted`.
  """

  parts: Components
  take_over: Callable

  def state(self, given: Given, own: Own) -> TrainState:
    """The state at step 0; `given` and `own` may be traced."""
    state = self.parts.init(self.params(given, own.seed), own.seed)
    # In the state and not in the program, which runs of other rates share.
    opt_state = optim.set_rate(state.opt_state, own.rate, own.decay)
    state = state._replace(opt_state=opt_state)
    if given.fisher is None:
      return state
    return state._replace(frozen=transfer.with_fisher(state.frozen, given.fisher))

  def params(self, given: Given, seed):
    """The model's first parameters; `seed` may be traced."""
    params = make_params(self.parts.model, seed)
    if given.params is not None:
      params, _ = self.take_over(given.params, params)
    if given.bias is not None:
      params['head']['bias'] = jnp.asarray(given.bias)
    return params

  def account(self, source: interop.Loaded | None) -> transfer.Account:
    """What becomes of every leaf of a source, whatever the seed; without one, that all
    is fresh.
    """
    found = []

    def note():
      fresh = make_params(self.parts.model, 0)
      if source is None:
        found.append(transfer.transplant({}, fresh, fresh=['.*'])[1])
      else:
        found.append(self.take_over(source.params, fresh)[1])

    # Names and shapes decide, so tracing is enough: a large model is not made twice.
    jax.eval_shape(note)
    return found[0]


def make_params(model: models.Model, seed):
  """Fresh parameters of a run's seed, which may be traced."""
  return model.init(rng.stream(jax.random.key(seed), 'init'))


def transplanted(source, target):
  """The source's values in the target's tree, for a new task, and the account of all
  leaves.

  The head is new, and with it a pooler that is none of the body.
  """
  given, taken = tree.flatten(source), tree.flatten(target)
  is_new, is_pooler = tree.matcher(HEAD_PATTERNS), tree.matcher(transfer.POOLER)
  fresh = [re.escape(name) for name in taken if is_new(name)]
  # The new task may read the text without the pooler that the source has.
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
