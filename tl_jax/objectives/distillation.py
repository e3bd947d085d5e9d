"""Distillation: a student learns from what a teacher says and holds, beside or instead
of the labels.

>>> bits = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
>>> [round(float(value), 4) for value in soft_divergence(bits, bits[:1], temperature=1.0)]
[0.0, 0.1438]
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax import leaves, rng
from tl_jax.config import NonNegative, Positive
from tl_jax.objectives.losses import segments_of, weighted_sum
from tl_jax.objectives.types import Array, Mean, Objective, Term

LOGITS, HIDDEN, ATTENTION = 'distill_logits', 'distill_hidden', 'distill_attention'


class Teacher(NamedTuple):
  """A model that is only asked: apply(params, batch, *, key, train, score) -> Outputs,
  and its parameters.

  The parameters belong on the student's mesh. Where a step is compiled they may be an
  argument of it, so that they are no constant of the program: jit(lambda state, batch,
  params: make_step(model, distill(objective, Teacher(apply, params)), method,
  tx)(state, batch)).
  """

  apply: Callable
  params: Any


def distill(
  objective: Objective,
  teacher: Teacher | tuple,
  *,
  temperature: Positive = 1.0,
  task: NonNegative = 1.0,
  logits: NonNegative = 1.0,
  hidden: NonNegative = 0.0,
  attention: NonNegative = 0.0,
  layers: Sequence[tuple[int, int]] = (),
  measure: Literal['squared', 'cosine'] = 'squared',
) -> Objective:
  """The objective, times `task`, and a term for everything that a teacher is to be
  followed in, times its number.

  The teacher sees the batch that the objective gives the student, without dropout, and
  gets no gradient.

  - `distill_logits`: temperature ** 2 * KL(teacher, student) of the softmax of logits /
    temperature, a mean over what
    the objective scores (Hinton et al. 2015, eq. 1 and section 2.1). For logits of
    classes, not of real values.
  - `distill_hidden`: of states (rows, length, width), the mean over width of squared
    differences (TinyBERT, Jiao et
    al. 2020, eq. 8), or 1 - cosine (DistilBERT, Sanh et al. 2019, section 3), a mean
    over tokens that are no padding.
    States of the last layer; or with `layers` a mean over its pairs (student's layer,
    teacher's), where 0 is the
    embedding. A student of another width learns a map to the teacher's: `projecting`.
  - `distill_attention`: KL(teacher, student) of the attention weights of the pairs in
    `layers`, a mean over heads,
    pairs and queries (MiniLM, Wang et al. 2020, section 3.1). Both must have as many
    heads.

  `layers` asks both models for `keep`: apply(..., keep=('states', 'attentions')) ->
  Outputs with `states` (one (rows, length, width) for the embedding and each layer) and
  `attentions` (one (rows, heads, queries, keys) for each layer).
  Every term is a metric too. Errors: ValueError for numbers that ask for nothing,
  attention without a pair of layers, and outputs that do not fit each other.
  """
  wanted = {
    name: coefficient
    for name, coefficient in (
      (LOGITS, logits),
      (HIDDEN, hidden),
      (ATTENTION, attention),
    )
    if coefficient
  }
  if not wanted:
    raise ValueError(
      'distill: logits, hidden and attention are all 0; one of them must be above'
    )
  if measure not in ('squared', 'cosine'):
    raise ValueError(
      f"distill: measure is {measure!r}, but must be 'squared' or 'cosine'"
    )
  if attention and not any(min(pair) > 0 for pair in layers):
    raise ValueError(
      "distill: attention needs layers, pairs of (student's layer, teacher's layer) from 1"
    )
  teacher = Teacher(*teacher)
  kept = tuple(
    name
    for name, used in (('states', hidden and layers), ('attentions', attention))
    if used
  )

  def keeping(*names):
    return {'keep': names} if names else {}

  def weights(batch):
    items = {LOGITS: _scored, HIDDEN: _tokens, ATTENTION: _tokens}
    return objective.weights(batch) | {
      name: items[name](batch).sum() for name in wanted
    }

  def loss(forward, batch, key):
    calls = []

    def listening(*args, keep=(), **keywords):
      calls.append(
        (args, keywords, forward(*args, **keywords, **keeping(*keep, *kept)))
      )
      return calls[-1][-1]

    terms, metrics = objective.loss(listening, batch, key)
    if len(calls) != 1:
      raise ValueError(
        f'distill: the objective asks the model {len(calls)} times; it must ask once'
      )
    args, keywords, student = calls[0]
    answer = teacher.apply(
      teacher.params, *args, **(keywords | keeping(*kept) | dict(key=None, train=False))
    )
    answer = jax.lax.stop_gradient(answer)
    sums = _sums(wanted, student, answer, batch, temperature, measure, layers)
    totals = weights(batch)
    terms = {
      name: term._replace(coefficient=task * term.coefficient)
      for name, term in terms.items()
    }
    terms |= {name: Term(value, wanted[name]) for name, value in sums.items()}
    return terms, metrics | {
      name: Mean(value, totals[name]) for name, value in sums.items()
    }

  return objective._replace(weights=weights, loss=loss)


def _sums(
  wanted, student, teacher, batch, temperature: float, measure: str, layers
) -> dict[str, Array]:
  """The weighted sum of every wanted term."""
  sums = {}
  if LOGITS in wanted:
    values = soft_divergence(
      *_fitting('logits', student.logits, teacher.logits), temperature
    )
    sums[LOGITS] = _sum('logits', values, _scored(batch))
  if HIDDEN in wanted:
    pairs = [(student.states[a], teacher.states[b]) for a, b in layers] or [
      (student.hidden, teacher.hidden)
    ]
    values = [state_distance(*pair, measure) for pair in pairs]
    sums[HIDDEN] = _sum('hidden', sum(values) / len(values), _tokens(batch))
  if ATTENTION in wanted:
    values = [
      attention_divergence(
        *_fitting('attentions', student.attentions[a - 1], teacher.attentions[b - 1])
      )
      for a, b in layers
      if min(a, b) > 0
    ]
    sums[ATTENTION] = _sum('attentions', sum(values) / len(values), _tokens(batch))
  return sums


def soft_divergence(student: Array, teacher: Array, temperature: float) -> Array:
  """temperature ** 2 * KL(teacher, student) in nats (...) of logits (..., classes) over
  temperature, in float32.
  """
  ours, theirs = (
    jax.nn.log_softmax(x.astype(jnp.float32) / temperature) for x in (student, teacher)
  )
  return temperature**2 * _divergence(jnp.exp(theirs), theirs, ours)


def state_distance(student: Array, teacher: Array, measure: str) -> Array:
  """How far states (..., width) are apart (...): the mean squared difference, or 1 -
  cosine; in float32.
  """
  student, teacher = (
    x.astype(jnp.float32) for x in _fitting('hidden', student, teacher)
  )
  if measure == 'squared':
    return jnp.square(student - teacher).mean(-1)
  # The root of a sum that is kept above 0 has a gradient at a state of zeros.
  unit = lambda x: (
    x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))
  )
  return 1 - (unit(student) * unit(teacher)).sum(-1)


def attention_divergence(student: Array, teacher: Array) -> Array:
  """KL(teacher, student) in nats (rows, queries) of weights (rows, heads, queries,
  keys), a mean over heads.
  """
  student, teacher = (x.astype(jnp.float32) for x in (student, teacher))
  floor = jnp.finfo(jnp.float32).tiny
  logs = [jnp.log(jnp.maximum(x, floor)) for x in (teacher, student)]
  return _divergence(teacher, *logs).mean(1)


def _divergence(chances: Array, logs: Array, other: Array) -> Array:
  """The sum over the last axis of chances * (logs - other), 0 where the chance is 0."""
  return jnp.where(
    chances > 0, chances * (jnp.where(chances > 0, logs, 0.0) - other), 0.0
  ).sum(-1)


def projecting(model, width: int):
  """The student whose `hidden` (and `states`) are mapped to a teacher's width by a
  matrix it learns (TinyBERT, eq. 8).

  The matrix (own width, width) is the parameter `distillation/kernel`, which no other
  output depends on and which is dropped when training is over.
  """

  def init(key):
    params = model.init(key)
    draws = jax.random.normal(
      rng.stream(key, 'distillation/kernel'), (model.arch.width, width)
    )
    return {**params, 'distillation': {'kernel': draws * model.arch.width**-0.5}}

  def apply(params, *args, **keywords):
    own = {name: part for name, part in params.items() if name != 'distillation'}
    outputs = model.apply(own, *args, **keywords)
    project = lambda x: leaves.matmul(x, params['distillation']['kernel'])
    more = (
      {}
      if getattr(outputs, 'states', None) is None
      else dict(states=[project(x) for x in outputs.states])
    )
    return outputs._replace(hidden=project(outputs.hidden), **more)

  axes = {
    **model.axes,
    'distillation': {'kernel': jax.sharding.PartitionSpec('embed', None)},
  }
  return model._replace(init=init, apply=apply, axes=axes)


def _fitting(what: str, student, teacher) -> tuple:
  """Both as they are. ValueError where there is none, or the shapes differ."""
  if student is None or teacher is None:
    raise ValueError(
      f'distill: the {"student" if student is None else "teacher"} gives no {what}; check its head'
    )
  if student.shape != teacher.shape:
    raise ValueError(
      f"distill: the {what} of the student have shape {student.shape}, the teacher's {teacher.shape}; "
      + (
        'wrap the student in projecting'
        if what == 'hidden'
        else 'both must have the same'
      )
    )
  return student, teacher


def _sum(what: str, values: Array, weights: Array) -> Array:
  if values.shape != weights.shape:
    raise ValueError(
      f'distill: the {what} are for items of shape {values.shape}, but the batch weighs {weights.shape}'
    )
  return weighted_sum(values, weights)


def _scored(batch) -> Array:
  """The weight of every item that has logits: scored tokens, or examples, whether their
  label is known or not.
  """
  if 'target_weights' in batch:
    return batch['target_weights'].astype(jnp.float32)
  if 'examples' in batch:
    return (batch['examples'] > 0).astype(jnp.float32)
  return (segments_of(batch) > 0).any(-1).astype(jnp.float32)


def _tokens(batch) -> Array:
  """1 for every token that is no padding, of the decoder where the batch has one."""
  side = 'decoder_' if 'decoder_tokens' in batch else ''
  return (segments_of(batch, f'{side}tokens', f'{side}segments') > 0).astype(
    jnp.float32
  )
