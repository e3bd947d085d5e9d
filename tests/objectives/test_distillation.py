"""distill: the terms are the formulas, only the student learns, and what it learns is
the teacher.
"""

from typing import Any, NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings

from tl_jax import objectives, parallel, transfer
from tl_jax.models import Compute, arch, build
from tl_jax.objectives.distillation import (
  Teacher,
  attention_divergence,
  distill,
  projecting,
  soft_divergence,
)
from tl_jax.train.step import init_state, make_step


class Answers(NamedTuple):
  hidden: Any
  logits: Any = None
  states: Any = None
  attentions: Any = None


CLASSIFY = objectives.classify(labels=3)
LABELLED = {
  'tokens': jnp.ones((4, 2), jnp.int32),
  'labels': jnp.array([0, 1, -1, 2]),
  'features': jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), 'float32'),
}


def linear(params, batch, *, key=None, train=False, score=None, keep=()):
  """A classifier of features whose states and attention are linear in its parameters
  too.
  """
  logits = batch['features'] @ params['kernel']
  hidden = jnp.einsum('rf,lfw->rlw', batch['features'], params['states'])
  attentions = jax.nn.softmax(
    jnp.einsum('rf,hqfk->rhqk', batch['features'], params['attention'])
  )
  return Answers(
    hidden,
    logits,
    [2 * hidden, hidden] if 'states' in keep else None,
    [attentions] if 'attentions' in keep else None,
  )


def draw(seed, width=4, scale=1.0):
  generator = np.random.default_rng(seed)
  shapes = dict(kernel=(5, 3), states=(2, 5, width), attention=(2, 2, 5, 2))
  return {
    name: jnp.asarray(generator.normal(0, scale, shape), 'float32')
    for name, shape in shapes.items()
  }


def loss_of(objective, params, batch, key=None, apply=linear):
  """What the objective says of a model's answers, in one program."""
  return jax.jit(
    lambda params, batch, key: objective.loss(
      lambda *args, **more: apply(params, *args, **more), batch, key
    )
  )(params, batch, key)


def terms_of(objective, params, batch=LABELLED, key=None, apply=linear):
  """Every term divided by its weight, and the coefficients."""
  terms, metrics = loss_of(objective, params, batch, key, apply)
  weights = objective.weights(batch)
  assert set(terms) == set(weights) and set(terms) - {'classify'} <= set(metrics)
  return {
    name: (float(term.sum / weights[name]), term.coefficient)
    for name, term in terms.items()
  }


def kl(p, q):
  return (p * (np.log(p) - np.log(q))).sum(-1)


def softmax(x):
  return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_every_term_is_its_formula():
  ours, theirs = draw(1), draw(2)
  objective = distill(
    CLASSIFY,
    (linear, theirs),
    temperature=2.0,
    task=0.5,
    logits=3.0,
    hidden=0.25,
    attention=0.75,
    layers=((0, 1), (1, 1)),
  )
  found = terms_of(objective, ours)
  a, b = (
    linear(params, LABELLED, keep=('states', 'attentions')) for params in (ours, theirs)
  )
  a, b = jax.tree.map(np.asarray, (a, b))
  assert found['classify'] == (terms_of(CLASSIFY, ours)['classify'][0], 0.5)
  wanted = 4 * kl(softmax(b.logits / 2), softmax(a.logits / 2)).mean()
  np.testing.assert_allclose(found['distill_logits'], (wanted, 3.0), rtol=1e-5)
  wanted = (
    np.square(a.states[0] - b.states[1]).mean()
    + np.square(a.states[1] - b.states[1]).mean()
  ) / 2
  np.testing.assert_allclose(found['distill_hidden'], (wanted, 0.25), rtol=1e-5)
  np.testing.assert_allclose(
    found['distill_attention'],
    (kl(b.attentions[0], a.attentions[0]).mean(), 0.75),
    rtol=1e-5,
  )


def test_last_states_by_square_or_cosine():
  ours, theirs = draw(1), draw(2)
  a, b = (np.asarray(linear(params, LABELLED).hidden) for params in (ours, theirs))
  cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
  for measure, wanted in (
    ('squared', np.square(a - b).mean()),
    ('cosine', (1 - cosine).mean()),
  ):
    objective = distill(
      CLASSIFY, (linear, theirs), logits=0, hidden=1.0, measure=measure
    )
    np.testing.assert_allclose(
      terms_of(objective, ours)['distill_hidden'][0], wanted, rtol=1e-5
    )


@settings(max_examples=30, deadline=None)
@given(
  st.lists(st.floats(-20, 20), min_size=3, max_size=3),
  st.floats(-5, 5),
  st.floats(0.5, 8),
)
def test_the_divergence_is_at_least_zero_and_zero_for_the_teacher_itself(
  logits, shift, temperature
):
  theirs = jnp.array([1.0, -2.0, 0.5])
  assert soft_divergence(jnp.array(logits), theirs, temperature) >= -1e-5
  np.testing.assert_allclose(
    soft_divergence(theirs + shift, theirs, temperature), 0.0, atol=1e-4
  )


def test_a_high_temperature_matches_logits():
  """Hinton et al. 2015, eq. 4: the gradient tends to that of half the mean square of
  centred logits.
  """
  ours, theirs = jnp.array([0.3, -0.2, 0.5]), jnp.array([-1.0, 0.4, 0.2])
  gradient = jax.grad(lambda x: soft_divergence(x, theirs, 1e3))(ours)
  difference = ours - ours.mean() - theirs + theirs.mean()
  np.testing.assert_allclose(gradient, difference / 3, rtol=2e-2, atol=1e-3)


def test_hidden_attention_counts_for_nothing():
  theirs = jnp.array([[[[0.5, 0.5, 0.0]]]])
  value, gradient = jax.value_and_grad(lambda x: attention_divergence(x, theirs).sum())(
    jnp.array([[[[0.5, 0.5, 0]]]])
  )
  assert value == 0 and np.isfinite(gradient).all()


def test_padding_and_unscored_items_weigh_nothing():
  ours, theirs = draw(1), draw(2)
  whole = {**LABELLED, 'segments': jnp.array([[1, 1], [1, 0], [0, 0], [0, 0]])}
  cut = {name: value[:2] for name, value in LABELLED.items()} | {
    'segments': whole['segments'][:2]
  }
  objective = distill(CLASSIFY, (linear, theirs), hidden=1.0)
  for name, (value, _) in terms_of(objective, ours, whole).items():
    np.testing.assert_allclose(
      value, terms_of(objective, ours, cut)[name][0], rtol=1e-6
    )


def test_only_the_student_gets_a_gradient():
  def loss(ours, theirs):
    objective = distill(
      CLASSIFY, (linear, theirs), hidden=1.0, attention=1.0, layers=((1, 1),)
    )
    terms, _ = objective.loss(
      lambda *args, **more: linear(ours, *args, **more), LABELLED, None
    )
    return sum(term.coefficient * term.sum for term in terms.values())

  ours, theirs = jax.jit(jax.grad(loss, (0, 1)))(draw(1), draw(2))
  assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(ours))
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(theirs))


def test_the_teacher_is_asked_without_dropout_for_the_same_positions():
  seen = []

  def recording(params, batch, **keywords):
    seen.append(keywords)
    return linear(params, batch, **keywords)

  objective = distill(CLASSIFY, (recording, draw(2)))
  terms_of(objective, draw(1), key=jax.random.key(0), apply=recording)
  student, teacher = seen[:2]
  assert student['train'] and student['key'] is not None
  assert not teacher['train'] and teacher['key'] is None


def test_a_student_of_logits_alone_becomes_its_teacher():
  theirs = draw(2)
  features = jnp.asarray(np.random.default_rng(3).normal(size=(64, 5)), 'float32')
  batch = {
    'tokens': jnp.ones((64, 1), jnp.int32),
    'labels': jnp.full(64, -1),
    'features': features,
  }
  objective, tx = (
    distill(CLASSIFY, (linear, theirs), temperature=2.0, task=0.0),
    optax.adam(0.05),
  )

  def loss(params):
    terms, _ = objective.loss(
      lambda *args, **more: linear(params, *args, **more), batch, None
    )
    return terms['distill_logits'].sum / 64

  def step(carry, _):
    value, gradient = jax.value_and_grad(loss)(carry[0])
    updates, state = tx.update(gradient, carry[1])
    return (optax.apply_updates(carry[0], updates), state), value

  start = draw(1)
  (ours, _), losses = jax.lax.scan(step, (start, tx.init(start)), None, length=400)
  assert losses[-1] < 1e-3 * losses[0]
  chance = lambda params: jax.nn.softmax(linear(params, LABELLED).logits)
  np.testing.assert_allclose(chance(ours), chance(theirs), atol=0.02)


SMALL = dict(vocabulary=13, width=8, layers=1, heads=2, mlp=8, max_positions=8)
TEACHER = build(arch('tiny-gpt', head='causal', **(SMALL | dict(width=12))))
STUDENT = build(arch('tiny-gpt', head='causal', **SMALL))


@pytest.mark.slow
def test_models_train_on_one_mesh_with_the_teacher_as_an_argument():
  """Whole rows or two micro-batches, all weights sum over the global batch; the teacher
  is no constant.
  """
  student = projecting(STUDENT, 12)
  mesh = parallel.make_mesh(parallel.MeshShape())
  method, tx = transfer.full(), optax.sgd(0.1)
  batch = {
    'tokens': jnp.arange(24).reshape(4, 6) % 13,
    'segments': jnp.array([[1] * 6, [1] * 4 + [0] * 2] * 2),
  }

  def step(accumulate):
    def run(state, batch, params):
      objective = distill(
        objectives.causal(), Teacher(TEACHER.apply, params), temperature=2.0, hidden=1.0
      )
      return make_step(student, objective, method, tx, accumulate)(state, batch)

    return jax.jit(run)

  with jax.set_mesh(mesh):
    sharding = parallel.batch_sharding(mesh)
    batch = parallel.place_batch(batch, sharding, 4)
    params = jax.device_put(TEACHER.init(jax.random.key(5)), parallel.replicated(mesh))
    state = init_state(student.init(jax.random.key(0)), method, tx, 0)
    whole, metrics = step(1)(state, batch, params)
    parts, found = step(2)(state, batch, params)
  for name in ('loss', 'distill_logits', 'distill_hidden'):
    np.testing.assert_allclose(metrics[name], found[name], rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    whole.trainable,
    parts.trainable,
  )
  changed = np.abs(
    whole.trainable['distillation']['kernel']
    - state.trainable['distillation']['kernel']
  )
  assert changed.max() > 0
  assert jax.tree.structure(student.axes) == jax.tree.structure(state.trainable)


def test_masked_positions_alone_are_compared():
  def positional(params, batch, *, key=None, train=False, score=None, keep=()):
    table = params[batch['tokens']]
    return Answers(table, jnp.take_along_axis(table, score[..., None], 1))

  masked = objectives.masked(vocabulary=13, mask_id=1, special_ids=(0, 1), rate=0.3)
  ours, theirs = (jax.random.normal(jax.random.key(seed), (13, 13)) for seed in (1, 2))
  objective = distill(masked, (positional, theirs))
  batch = jax.jit(objective.prepare)(
    jax.random.key(0), {'tokens': jnp.arange(12).reshape(2, 6) % 11 + 2}
  )
  terms, metrics = loss_of(objective, ours, batch, apply=positional)
  seen = np.take_along_axis(np.asarray(batch['tokens']), np.asarray(batch['score']), 1)
  wanted = kl(softmax(np.asarray(theirs)[seen]), softmax(np.asarray(ours)[seen])).sum()
  np.testing.assert_allclose(terms['distill_logits'].sum, wanted, rtol=1e-5)
  assert metrics['distill_logits'].weight == objective.weights(batch)['masked'] == 4


@pytest.mark.parametrize(
  ('keywords', 'message'),
  [
    (dict(logits=0), 'all 0'),
    (dict(measure='mean'), 'measure'),
    (dict(attention=1.0), 'layers'),
    (dict(attention=1.0, layers=((0, 0),)), 'layers'),
  ],
)
def test_what_asks_for_nothing_is_refused(keywords, message):
  with pytest.raises(ValueError, match=message):
    distill(CLASSIFY, (linear, draw(2)), **keywords)


@pytest.mark.parametrize(
  ('student', 'teacher', 'keywords', 'message'),
  [
    (
      Answers(jnp.ones((4, 2, 4)), jnp.ones((4, 3))),
      Answers(jnp.ones((4, 2, 4)), jnp.ones((4, 5))),
      {},
      r'logits of the student have shape \(4, 3\)',
    ),
    (
      Answers(jnp.ones((4, 2, 4)), jnp.ones((4, 3))),
      Answers(jnp.ones((4, 2, 4))),
      {},
      'teacher gives no logits',
    ),
    (
      Answers(jnp.ones((4, 2, 4)), jnp.ones((4, 3))),
      Answers(jnp.ones((4, 2, 5)), jnp.ones((4, 3))),
      dict(hidden=1.0),
      'projecting',
    ),
  ],
)
def test_outputs_that_do_not_fit_are_named(student, teacher, keywords, message):
  objective = distill(
    CLASSIFY, (lambda params, *args, **more: teacher, None), **keywords
  )
  with pytest.raises(ValueError, match=message) as caught:
    objective.loss(lambda *args, **more: student, LABELLED, None)
  assert '\n' not in str(caught.value)


def test_an_objective_that_asks_twice_is_refused():
  twice = lambda objective: objective._replace(
    loss=lambda forward, batch, key: (
      forward(batch),
      objective.loss(forward, batch, key),
    )[1]
  )
  with pytest.raises(ValueError, match='2 times'):
    terms_of(distill(twice(CLASSIFY), (linear, draw(2))), draw(1))


BODY = dict(hidden=1.0, attention=0.5, layers=((0, 0), (1, 2)))
ROWS = {
  'tokens': jnp.arange(24).reshape(4, 6) % 13,
  'segments': jnp.array([[1] * 6, [1] * 4 + [0] * 2] * 2),
}


@pytest.mark.slow
@pytest.mark.parametrize('family', ['tiny', 'tiny-gpt', 'tiny-t5'])
def test_layers_of_real_models_are_followed(family):
  """A teacher of two layers and a student of one, however their layers are run."""
  small = SMALL | dict(head='classifier', labels=3)
  batch = ROWS | {'labels': jnp.array([0, 1, 2, 0])}
  teacher = build(arch(family, **(small | dict(layers=2))))
  theirs = jax.tree.map(lambda leaf: 2 * leaf, teacher.init(jax.random.key(2)))
  student = build(arch(family, **small))
  ours = student.init(jax.random.key(1))
  keep = dict(keep=('states', 'attentions'))
  a, b = jax.tree.map(
    np.asarray,
    (student.apply(ours, batch, **keep), teacher.apply(theirs, batch, **keep)),
  )
  found = terms_of(
    distill(CLASSIFY, (teacher.apply, theirs), **BODY), ours, batch, apply=student.apply
  )
  real = np.asarray(batch['segments']) > 0
  squares = [
    np.square(a.states[i] - b.states[j]).mean(-1)[real].mean()
    for i, j in BODY['layers']
  ]
  np.testing.assert_allclose(found['distill_hidden'][0], np.mean(squares), rtol=1e-4)
  p, q = (
    np.where(weights > 0, weights, 1e-30)
    for weights in (b.attentions[1], a.attentions[0])
  )
  wanted = (p * np.log(p / q)).sum(-1).mean(1)[real].mean()
  assert wanted > 0
  np.testing.assert_allclose(found['distill_attention'][0], wanted, rtol=1e-3)


def test_a_model_that_is_its_own_teacher_has_nothing_to_learn():
  params = STUDENT.init(jax.random.key(0))
  objective = distill(
    objectives.causal(),
    (STUDENT.apply, params),
    hidden=1.0,
    attention=1.0,
    layers=((0, 0), (1, 1)),
  )
  batch = objective.prepare(jax.random.key(0), ROWS)
  terms, _ = loss_of(objective, params, batch, apply=STUDENT.apply)
  assert all(
    abs(terms[name].sum) < 1e-5
    for name in ('distill_logits', 'distill_hidden', 'distill_attention')
  )


def test_scanned_models_train_to_follow_every_layer():
  """The step is compiled with the layers scanned, recomputed and mapped to the
  teacher's width; it lowers the terms.
  """
  compute = Compute(layers='scan', remat='full')
  shape = SMALL | dict(layers=2)
  student = projecting(build(arch('tiny-gpt', head='causal', **shape), compute), 12)
  teacher = build(arch('tiny-gpt', head='causal', **(shape | dict(width=12))), compute)
  theirs = jax.tree.map(lambda leaf: 3 * leaf, teacher.init(jax.random.key(5)))
  objective = distill(
    objectives.causal(),
    Teacher(teacher.apply, theirs),
    task=0,
    logits=0,
    hidden=1.0,
    attention=1.0,
    layers=((0, 0), (1, 1), (2, 2)),
  )
  method, tx = transfer.full(), optax.adam(0.005)
  step = jax.jit(make_step(student, objective, method, tx))
  state = init_state(student.init(jax.random.key(0)), method, tx, 0)
  seen = []
  for _ in range(100):
    state, metrics = step(state, ROWS)
    seen.append(metrics)
  for name in ('distill_hidden', 'distill_attention'):
    assert 0 < seen[-1][name] < 0.7 * seen[0][name], name
