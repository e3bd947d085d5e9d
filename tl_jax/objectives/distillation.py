"""Distillation: a student learns from a teacher, beside or instead of the labels.

>>> bits = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
>>> found = soft_divergence(bits, bits[:1], temperature=1.0)
>>> [round(float(value), 4) for value in found]
[0.0, 0.1438]

It follows the teacher in up to three things, each a term of the loss:

- `distill_logits`: temperature ** 2 * KL(teacher, student) of the softmax of logits /
  temperature, a mean over what the objective scores (Hinton et al. 2015, eq. 1 and
  section 2.1). It is for logits of classes, not of real values.
- `distill_hidden`: a mean over tokens that are no padding. Of states (rows, length,
  width) it is the mean over width of squared differences (TinyBERT, Jiao et al. 2020,
  eq. 8), or 1 - cosine (DistilBERT, Sanh et al. 2019, section 3). These are the states
  of the last layer. With `layers` it is a mean over its pairs (student's layer,
  teacher's layer), where 0 is the embedding. A student of another width learns a map to
  the teacher's: `projecting`.
- `distill_attention`: KL(teacher, student) of the attention weights of the pairs in
  `layers`, a mean over heads, pairs and queries (MiniLM, Wang et al. 2020, section
  3.1). Both must have as many heads.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax import leaves, rng
from tl_jax.config import NonNegative, Positive
from tl_jax.objectives.classify import real_examples
from tl_jax.objectives.losses import weighted_sum
from tl_jax.objectives.types import Array, Mean, Objective, Term
from tl_jax.segments import segments_of

LOGITS = 'distill_logits'
HIDDEN = 'distill_hidden'
ATTENTION = 'distill_attention'


class Teacher(NamedTuple):
  """A model that is only asked, and its parameters.

  It is asked by apply(params, batch, *, key, train, score) -> Outputs. The parameters
  belong on the student's mesh. Where a step is compiled they should be an argument of
  it, because a constant of the program would be copied into it: jit(lambda state,
  batch, params: make_step(model, distill(objective, Teacher(apply, params)), method,
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
  """The objective, and a term for everything in which a teacher is followed.

  `logits`, `hidden` and `attention` are the coefficients of the new terms, which the
  head of this module defines; 0 leaves a term out. The coefficients of the objective's
  own terms are multiplied by `task`. `measure` is of the hidden states. The teacher
  sees the batch that the objective gives the student, without dropout, and gets no
  gradient.

  With `layers` both models are asked for `keep`: apply(..., keep=('states',
  'attentions')) -> Outputs with `states`, one (rows, length, width) for the embedding
  and each layer, and `attentions`, one (rows, heads, queries, keys) for each layer.
  Every term is a metric, too.
  Errors: ValueError for numbers that ask for nothing, attention without a pair of
  layers, and outputs that do not fit each other.
  """
  coefficients = {LOGITS: logits, HIDDEN: hidden, ATTENTION: attention}
  wanted = {name: number for name, number in coefficients.items() if number}
  _check_request(wanted, measure, layers)
  teacher = Teacher(*teacher)
  # What the models must return beside their usual outputs.
  kept = ()
  if hidden and layers:
    kept += ('states',)
  if attention:
    kept += ('attentions',)

  def weights(batch):
    # The logits are of what is scored, the states of every token.
    items = {LOGITS: _scored, HIDDEN: _tokens, ATTENTION: _tokens}
    own = {name: items[name](batch).sum() for name in wanted}
    return objective.weights(batch) | own

  def loss(forward, batch, key):
    calls = []

    # The objective decides how the model is called. We note the call, to repeat it with
    # the teacher, and ask the student for more.
    def listening(*args, keep=(), **keywords):
      outputs = forward(*args, **keywords, **_keeping(*keep, *kept))
      calls.append((args, keywords, outputs))
      return outputs

    terms, metrics = objective.loss(listening, batch, key)
    if len(calls) != 1:
      raise ValueError(
        f'distill: the objective asks the model {len(calls)} times; it must ask once'
      )
    args, keywords, student = calls[0]
    keywords = keywords | _keeping(*kept) | dict(key=None, train=False)
    answer = teacher.apply(teacher.params, *args, **keywords)
    answer = jax.lax.stop_gradient(answer)

    sums = _sums(wanted, student, answer, batch, temperature, measure, layers)
    totals = weights(batch)
    scaled = {}
    for name, term in terms.items():
      scaled[name] = term._replace(coefficient=task * term.coefficient)
    followed = {}
    means = {}
    for name, value in sums.items():
      followed[name] = Term(value, wanted[name])
      means[name] = Mean(value, totals[name])
    return scaled | followed, metrics | means

  return objective._replace(weights=weights, loss=loss)


def _check_request(wanted: dict, measure: str, layers) -> None:
  """Refuses a distillation that asks for nothing, or for what there is not."""
  if not wanted:
    raise ValueError(
      'distill: logits, hidden and attention are all 0; one of them must be above'
    )
  if measure not in ('squared', 'cosine'):
    raise ValueError(
      f"distill: measure is {measure!r}, but must be 'squared' or 'cosine'"
    )
  # The embedding, layer 0, has no attention.
  has_attention = any(min(pair) > 0 for pair in layers)
  if ATTENTION in wanted and not has_attention:
    raise ValueError(
      "distill: attention needs layers, pairs of (student's layer, teacher's layer) "
      'from 1'
    )


def _keeping(*names: str) -> dict:
  """The keyword that asks a model for more outputs; a model need not know it."""
  return {'keep': names} if names else {}


def _sums(
  wanted, student, teacher, batch, temperature: float, measure: str, layers
) -> dict[str, Array]:
  """The weighted sum of every wanted term, of two Outputs."""
  sums = {}
  if LOGITS in wanted:
    logits = _fitting('logits', student.logits, teacher.logits)
    values = soft_divergence(*logits, temperature)
    sums[LOGITS] = _sum('logits', values, _scored(batch))
  if HIDDEN in wanted:
    values = _state_distances(student, teacher, measure, layers)
    mean = sum(values) / len(values)
    sums[HIDDEN] = _sum('hidden', mean, _tokens(batch))
  if ATTENTION in wanted:
    values = _attention_divergences(student, teacher, layers)
    mean = sum(values) / len(values)
    sums[ATTENTION] = _sum('attentions', mean, _tokens(batch))
  return sums


def _state_distances(student, teacher, measure: str, layers) -> list[Array]:
  """The distance (rows, length) of every pair of layers, or of the last layers."""
  if not layers:
    return [state_distance(student.hidden, teacher.hidden, measure)]
  distances = []
  for own, other in layers:
    first, second = student.states[own], teacher.states[other]
    distances.append(state_distance(first, second, measure))
  return distances


def _attention_divergences(student, teacher, layers) -> list[Array]:
  """The divergence (rows, queries) of every pair of layers that have attention."""
  found = []
  for own, other in layers:
    if min(own, other) > 0:
      # Layers are numbered from 1: `states` begin with the embedding, these do not.
      own_weights = student.attentions[own - 1]
      other_weights = teacher.attentions[other - 1]
      fitting = _fitting('attentions', own_weights, other_weights)
      found.append(attention_divergence(*fitting))
  return found


def soft_divergence(student: Array, teacher: Array, temperature: float) -> Array:
  """temperature ** 2 * KL(teacher, student) of two logits (..., classes).

  The divergence, float32 (...) in nats, is that of the softmax of logits / temperature.
  """
  ours = jax.nn.log_softmax(student.astype(jnp.float32) / temperature)
  theirs = jax.nn.log_softmax(teacher.astype(jnp.float32) / temperature)
  # The factor keeps the size of the gradient, which falls with temperature ** 2.
  return temperature**2 * _divergence(jnp.exp(theirs), theirs, ours)


def state_distance(student: Array, teacher: Array, measure: str) -> Array:
  """How far two states (..., width) are apart: float32 (...).

  `measure` 'squared' is the mean squared difference, 'cosine' is 1 - cosine.
  """
  student, teacher = _fitting('hidden', student, teacher)
  student = student.astype(jnp.float32)
  teacher = teacher.astype(jnp.float32)
  if measure == 'squared':
    return jnp.square(student - teacher).mean(-1)
  cosine = (_unit(student) * _unit(teacher)).sum(-1)
  return 1 - cosine


def _unit(states: Array) -> Array:
  """The states (..., width), each of length 1; a state of zeros stays one."""
  squares = jnp.square(states).sum(-1, keepdims=True)
  # The root of a sum that is kept above 0 has a gradient at a state of zeros.
  return states * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))


def attention_divergence(student: Array, teacher: Array) -> Array:
  """KL(teacher, student) of attention weights, a mean over heads.

  The weights are (rows, heads, queries, keys); the result is (rows, queries), in nats.
  """
  student = student.astype(jnp.float32)
  teacher = teacher.astype(jnp.float32)
  # A masked key has the weight 0, whose logarithm would be infinite.
  floor = jnp.finfo(jnp.float32).tiny
  teacher_logs = jnp.log(jnp.maximum(teacher, floor))
  student_logs = jnp.log(jnp.maximum(student, floor))
  return _divergence(teacher, teacher_logs, student_logs).mean(1)


def _divergence(chances: Array, logs: Array, other: Array) -> Array:
  """The sum over the last axis of chances * (logs - other), 0 where the chance is 0."""
  possible = chances > 0
  # Chosen twice: an infinite log in the branch not taken would make the gradient NaN.
  difference = jnp.where(possible, logs, 0.0) - other
  return jnp.where(possible, chances * difference, 0.0).sum(-1)


def projecting(model, width: int):
  """The student with a learned map from its states to a teacher's (TinyBERT, eq. 8).

  Its `hidden`, and its `states`, are multiplied by a matrix (own width, width). The
  matrix is the parameter `distillation/kernel`. No other output depends on it, and it
  is dropped when training is over.
  """

  def init(key):
    params = model.init(key)
    shape = (model.arch.width, width)
    draws = jax.random.normal(rng.stream(key, 'distillation/kernel'), shape)
    kernel = draws * model.arch.width**-0.5
    return {**params, 'distillation': {'kernel': kernel}}

  def apply(params, *args, **keywords):
    own = {name: part for name, part in params.items() if name != 'distillation'}
    kernel = params['distillation']['kernel']
    outputs = model.apply(own, *args, **keywords)
    projected = outputs._replace(hidden=leaves.matmul(outputs.hidden, kernel))
    if getattr(outputs, 'states', None) is None:
      return projected
    states = [leaves.matmul(state, kernel) for state in outputs.states]
    return projected._replace(states=states)

  kernel_axes = jax.sharding.PartitionSpec('embed', None)
  axes = {**model.axes, 'distillation': {'kernel': kernel_axes}}
  return model._replace(init=init, apply=apply, axes=axes)


def _fitting(what: str, student, teacher) -> tuple:
  """Both as they are. ValueError where there is none, or the shapes differ."""
  if student is None or teacher is None:
    which = 'student' if student is None else 'teacher'
    raise ValueError(f'distill: the {which} gives no {what}; check its head')
  if student.shape != teacher.shape:
    if what == 'hidden':
      advice = 'wrap the student in projecting'
    else:
      advice = 'both must have the same'
    raise ValueError(
      f'distill: the {what} of the student have shape {student.shape}, the '
      f"teacher's {teacher.shape}; {advice}"
    )
  return student, teacher


def _sum(what: str, values: Array, weights: Array) -> Array:
  """The weighted sum; ValueError where values and weights are not of the same items."""
  if values.shape != weights.shape:
    raise ValueError(
      f'distill: the {what} are for items of shape {values.shape}, but the batch '
      f'weighs {weights.shape}'
    )
  return weighted_sum(values, weights)


def _scored(batch) -> Array:
  """The weight of every item that has logits, a scored token or an example.

  An example counts whether its label is known or not: the teacher needs no label.
  """
  if 'target_weights' in batch:
    return batch['target_weights'].astype(jnp.float32)
  if 'examples' in batch:
    return real_examples(batch).astype(jnp.float32)
  is_example = (segments_of(batch) > 0).any(-1)
  return is_example.astype(jnp.float32)


def _tokens(batch) -> Array:
  """1 for every token that is no padding, of the decoder where the batch has one."""
  side = 'decoder_' if 'decoder_tokens' in batch else ''
  segments = segments_of(batch, f'{side}tokens', f'{side}segments')
  return (segments > 0).astype(jnp.float32)
