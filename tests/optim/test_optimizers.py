"""Optimizers against hand-written numpy, groups, holes, averages, and the rate as data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tl_jax import tree
from tl_jax.config import ConfigError, struct
from tl_jax.leaves import LowRank
from tl_jax.optim import (
  OPTIMIZERS,
  OptimConfig,
  RateState,
  ScheduleConfig,
  ema_params,
  learning_rate,
  make_optimizer,
  read_weights,
  set_rate,
)

STEPS = 5
FLAT = ScheduleConfig(name='constant', steps=STEPS)
every = pytest.mark.parametrize('name', OPTIMIZERS)


def parameters(seed=0):
  draw = lambda *shape: jnp.asarray(
    np.random.default_rng(seed).normal(size=shape), jnp.float32
  )
  return {'dense': {'kernel': draw(4, 3), 'bias': draw(3)}, 'norm': {'scale': draw(3)}}


def gradients(params, step):
  random = np.random.default_rng(100 + step)
  return jax.tree.map(
    lambda p: jnp.asarray(random.normal(size=p.shape), jnp.float32), params
  )


def train(tx, params, state=None, steps=STEPS):
  state = tx.init(params) if state is None else state
  update = jax.jit(tx.update)
  for step in range(steps):
    updates, state = update(gradients(params, step), state, params)
    params = optax.apply_updates(params, updates)
  return params, state


def close(first, second, **tolerance):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, **{'rtol': 2e-5, 'atol': 1e-7, **tolerance}
    ),
    first,
    second,
  )


def test_bert_adam_is_the_optimizer_of_bert():
  groups = ((r'.*(bias|scale)', {'decay': 0.0}),)
  config = OptimConfig(name='bert_adam', lr=0.01, decay=0.1, clip=1.0, groups=groups)
  found, state = train(
    make_optimizer(config, ScheduleConfig(name='bert', steps=10, warmup=2)),
    parameters(),
  )
  p = {
    name: np.asarray(leaf, np.float64)
    for name, leaf in tree.flatten(parameters()).items()
  }
  m, v = ({name: np.zeros_like(x) for name, x in p.items()} for _ in range(2))
  for step in range(STEPS):
    g = {
      name: np.asarray(x, np.float64)
      for name, x in tree.flatten(gradients(parameters(), step)).items()
    }
    norm = np.sqrt(sum((x**2).sum() for x in g.values()))
    rate = 0.01 * (step / 2 if step < 2 else 1 - step / 10)
    for name in p:
      clipped = g[name] * min(1, 1.0 / norm)
      m[name] = 0.9 * m[name] + 0.1 * clipped
      v[name] = 0.999 * v[name] + 0.001 * clipped**2
      update = m[name] / (np.sqrt(v[name]) + 1e-6)
      update += 0.1 * p[name] if name.endswith('kernel') else 0
      p[name] = p[name] - rate * update
  close(found, tree.unflatten(p))
  np.testing.assert_allclose(learning_rate(state), 0.01 * (1 - 4 / 10), rtol=1e-6)


def test_adamw_has_bias_correction_and_decoupled_decay():
  found, _ = train(
    make_optimizer(OptimConfig(lr=0.01, decay=0.1, b2=0.98, clip=None), FLAT),
    parameters(),
  )
  p = {
    name: np.asarray(leaf, np.float64)
    for name, leaf in tree.flatten(parameters()).items()
  }
  m, v = ({name: np.zeros_like(x) for name, x in p.items()} for _ in range(2))
  for step in range(STEPS):
    g = tree.flatten(gradients(parameters(), step))
    for name in p:
      m[name] = 0.9 * m[name] + 0.1 * np.asarray(g[name], np.float64)
      v[name] = 0.98 * v[name] + 0.02 * np.asarray(g[name], np.float64) ** 2
      fixed_m, fixed_v = (
        m[name] / (1 - 0.9 ** (step + 1)),
        v[name] / (1 - 0.98 ** (step + 1)),
      )
      p[name] = p[name] - 0.01 * (fixed_m / (np.sqrt(fixed_v) + 1e-8) + 0.1 * p[name])
  close(found, tree.unflatten(p))


@pytest.mark.parametrize(
  'name, reference',
  [
    ('adamw', optax.adamw(0.01, weight_decay=0.1)),
    ('lion', optax.lion(0.01, weight_decay=0.1)),
    (
      'sgd',
      optax.chain(optax.trace(0.9), optax.add_decayed_weights(0.1), optax.scale(-0.01)),
    ),
  ],
)
def test_the_rest_agrees_with_optax(name, reference):
  config = OptimConfig(name=name, lr=0.01, decay=0.1, clip=None)
  close(
    train(make_optimizer(config, FLAT), parameters())[0],
    train(reference, parameters())[0],
  )


def test_adafactor_agrees_with_optax_and_factors_large_matrices():
  params = {
    'large': jnp.asarray(np.random.default_rng(0).normal(size=(128, 130)), jnp.float32),
    'bias': jnp.ones(3),
  }
  tx = make_optimizer(OptimConfig(name='adafactor', lr=0.01, clip=None), FLAT)
  reference = optax.adafactor(
    0.01, min_dim_size_to_factor=128, decay_rate=0.8, clipping_threshold=1.0
  )
  close(train(tx, params)[0], train(reference, params)[0])
  assert sum(leaf.size for leaf in jax.tree.leaves(tx.init(params))) < 300


@every
def test_members_of_a_cohort_differ_in_rate_and_decay_only(name):
  tx = make_optimizer(
    OptimConfig(name=name, decay=0.01), ScheduleConfig(steps=STEPS, warmup=2)
  )
  params, rates, decays = (
    parameters(),
    jnp.array([1e-3, 3e-2, 0.5]),
    jnp.array([0.0, 0.1, 0.3]),
  )

  def run(rate, decay):
    members, state = train(tx, params, set_rate(tx.init(params), rate, decay))
    return members, learning_rate(state)

  together, logged = jax.vmap(run)(rates, decays)
  for member, (rate, decay) in enumerate(zip(rates, decays, strict=True)):
    alone, _ = train(
      make_optimizer(
        OptimConfig(name=name, lr=float(rate), decay=float(decay)),
        ScheduleConfig(steps=STEPS, warmup=2),
      ),
      params,
    )
    close(jax.tree.map(lambda x, i=member: x[i], together), alone, rtol=1e-5, atol=1e-6)
  assert not np.allclose(together['dense']['kernel'][0], together['dense']['kernel'][1])
  np.testing.assert_allclose(logged, rates / 3, rtol=1e-6)


def test_set_rate_finds_the_state_inside_anything_and_keeps_stacked_shapes():
  tx = make_optimizer(OptimConfig(lr=0.1, decay=0.2), FLAT)
  state = {'inner': (tx.init(parameters()), [jnp.zeros(2)])}
  found = [
    node
    for node in jax.tree.leaves(
      set_rate(state, 0.5), is_leaf=lambda x: isinstance(x, RateState)
    )
    if isinstance(node, RateState)
  ]
  assert [(float(node.rate), float(node.decay)) for node in found] == [
    (0.5, pytest.approx(0.2))
  ]
  stacked = jax.vmap(lambda _: tx.init(parameters()))(jnp.arange(3))
  assert learning_rate(set_rate(stacked, 0.5)).tolist() == [0.5] * 3
  with pytest.raises(ValueError, match='has no RateState'):
    set_rate(optax.adam(1e-3).init(parameters()), 0.1)


def test_a_group_is_about_whole_names():
  params = {'head': {'bias': jnp.ones(2), 'bias_scale': jnp.ones(2)}}
  tx = make_optimizer(
    OptimConfig(name='sgd', b1=0.0, lr=0.1, clip=None, groups=((r'head/bias', None),)),
    FLAT,
  )
  updates, _ = tx.update(params, tx.init(params), params)
  assert not updates['head']['bias'].any() and updates['head']['bias_scale'].all()


def test_the_first_match_of_the_groups_wins_and_scales():
  groups = (
    (r'dense/bias', {'scale': 0.0}),
    (r'.*bias', {'scale': 100.0}),
    (r'norm/.*', {'scale': 0.5, 'decay': 0.7}),
  )
  tx = make_optimizer(
    OptimConfig(name='sgd', b1=0.0, lr=0.1, decay=0.3, clip=None, groups=groups), FLAT
  )
  params = {**parameters(), 'head': {'bias': jnp.ones(2)}}
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(zero, tx.init(params), params)
  close(
    updates['dense'],
    {'kernel': -0.1 * 0.3 * params['dense']['kernel'], 'bias': jnp.zeros(3)},
  )
  close(updates['norm']['scale'], -0.1 * 0.5 * 0.7 * params['norm']['scale'])
  close(updates['head']['bias'], -0.1 * 100 * 0.3 * params['head']['bias'])


@every
def test_a_frozen_group_has_no_state_does_not_move_and_does_not_count_for_the_clip(
  name,
):
  config = OptimConfig(
    name=name, lr=0.1, decay=0.1, groups=((r'dense/.*', None),), ema=0.9
  )
  tx, params = make_optimizer(config, FLAT), parameters()
  state = tx.init(params)
  assert not any('dense' in leaf for leaf in tree.flatten(state))
  huge = {
    **gradients(params, 0),
    'dense': jax.tree.map(lambda x: x + 1e9, params['dense']),
  }
  updates, _ = tx.update(huge, state, params)
  moved = optax.apply_updates(params, updates)
  assert all(
    (a == b).all()
    for a, b in zip(
      *map(jax.tree.leaves, (moved['dense'], params['dense'])), strict=True
    )
  )
  alone = make_optimizer(OptimConfig(name=name, lr=0.1, decay=0.1), FLAT)
  expected, _ = alone.update(
    {'norm': huge['norm']},
    alone.init({'norm': params['norm']}),
    {'norm': params['norm']},
  )
  close(updates['norm'], expected['norm'])


@every
def test_holes_and_structured_leaves_keep_their_form(name):
  leaf = LowRank(None, jnp.ones((4, 2)), jnp.ones((2, 3)), scale=3.0)
  params = {
    'kernel': leaf,
    'bias': None,
    'head': {'kernel': jnp.ones((3, 2)), 'bias': None},
  }
  groups = ((r'kernel/a', {'scale': 0.5}), (r'head/.*', None))
  tx = make_optimizer(OptimConfig(name=name, lr=0.1, groups=groups, ema=0.5), FLAT)
  after, state = train(tx, params)
  assert jax.tree.structure(after) == jax.tree.structure(params)
  assert after['kernel'].scale == 3.0 and after['kernel'].base is None
  assert not (after['kernel'].b == params['kernel'].b).any()
  assert jax.tree.structure(ema_params(state, after)) == jax.tree.structure(params)


def test_the_average_is_the_debiased_one():
  config = OptimConfig(name='sgd', lr=0.1, clip=None, ema=0.9)
  tx, params = make_optimizer(config, FLAT), parameters()
  state = tx.init(params)
  close(ema_params(state), params, rtol=0)
  weighted, weight = jax.tree.map(jnp.zeros_like, params), 0.0
  for step in range(STEPS):
    updates, state = tx.update(gradients(params, step), state, params)
    params = optax.apply_updates(params, updates)
    weighted = jax.tree.map(lambda w, p: 0.9 * w + 0.1 * p, weighted, params)
    weight = 0.9 * weight + 0.1
    close(
      ema_params(state),
      jax.tree.map(lambda w, total=weight: w / total, weighted),
      rtol=1e-5,
      atol=1e-6,
    )
  assert ema_params(make_optimizer(OptimConfig(), FLAT).init(params)) is None


def test_the_average_fills_frozen_leaves_and_takes_the_dtype():
  params = {'a': jnp.ones(3, jnp.bfloat16), 'b': jnp.full(3, 7.0)}
  tx = make_optimizer(OptimConfig(groups=((r'b', None),), ema=0.9), FLAT)
  state = tx.init(params)
  assert ema_params(state)['a'].dtype == jnp.float32 and ema_params(state)['b'] is None
  filled = ema_params(state, params)
  assert filled['a'].dtype == jnp.bfloat16 and (filled['b'] == 7).all()


def test_a_state_can_be_donated_with_its_parameters():
  tx, params = make_optimizer(OptimConfig(ema=0.9), FLAT), parameters()
  step = jax.jit(
    lambda p, s: tx.update(jax.tree.map(jnp.ones_like, p), s, p), donate_argnums=(0, 1)
  )
  updates, _ = step(params, tx.init(params))
  assert np.isfinite(updates['norm']['scale']).all()


@every
def test_a_gradient_that_is_not_finite_stays_visible(name):
  tx, params = make_optimizer(OptimConfig(name=name), FLAT), parameters()
  bad = gradients(params, 0)
  bad['norm']['scale'] = bad['norm']['scale'].at[0].set(jnp.nan)
  updates, _ = tx.update(bad, tx.init(params), params)
  assert any(np.isnan(leaf).any() for leaf in jax.tree.leaves(updates))


def test_a_group_that_matches_nothing_is_refused_with_the_nearest_names():
  groups = ((r'dense/kernle', {'decay': 0.0}),)
  with pytest.raises(
    ValueError,
    match="optim.groups: the pattern 'dense/kernle' matches no .*'dense/kernel'",
  ):
    make_optimizer(OptimConfig(groups=groups), FLAT).init(parameters())
  # A frozen parameter's name is enough, where the run says which names there are.
  make_optimizer(OptimConfig(groups=groups), FLAT, names=['dense/kernle']).init(
    parameters()
  )


@pytest.mark.parametrize(
  'group, message',
  [
    (dict(name='adam'), "optim.name: unknown name 'adam'; nearest: 'adamw'"),
    (
      dict(name='sgd', b2=0.9),
      "optim.b2: optim.name='sgd' does not read it; it reads 'b1'",
    ),
    (
      dict(groups=((r'.*bias', dict(deacy=0.0)),)),
      r"optim.groups\[0\].deacy: unknown key; nearest: 'decay'",
    ),
    (
      dict(groups=((r'(', None),)),
      r"optim.groups\[0\]: '\(' is not a regular expression",
    ),
    (dict(groups=('.*bias',)), r'optim.groups\[0\]: must be \(regex, overrides\)'),
    (dict(lr=-1.0), 'config.optim.lr'),
    (dict(clip=0.0), 'config.optim.clip'),
  ],
)
def test_refusals_name_the_field(group, message):
  with pytest.raises(ConfigError, match=message):
    struct(OptimConfig, group, path='config.optim')


def test_groups_of_a_config_file_are_read():
  config_dict = pytest.importorskip('ml_collections').ConfigDict
  group = config_dict(
    dict(
      name='adamw',
      lr=1e-4,
      groups=((r'.*(bias|scale)', dict(decay=0.0)), (r'dense/.*', None)),
    )
  )
  tx = make_optimizer(struct(OptimConfig, group, 'config.optim'), FLAT)
  state = tree.flatten(tx.init(parameters()))
  # The bias went to the first group, which is not the frozen one.
  assert any('dense/bias' in name for name in state) and not any(
    'dense/kernel' in name for name in state
  )


@pytest.mark.parametrize('name', ['adamw', 'bert_adam', 'lion', 'sgd'])
def test_a_first_moment_in_bfloat16_follows_the_one_in_float32(name):
  config = OptimConfig(name=name, lr=0.01, moment_dtype='bfloat16')
  narrow, state = train(make_optimizer(config, FLAT), parameters())
  kinds = {
    path.split('/')[-3]: leaf.dtype
    for path, leaf in tree.flatten(state).items()
    if path.endswith('dense/kernel')
  }
  first = kinds.get('mu', kinds.get('trace'))
  assert first == jnp.bfloat16 and kinds.get('nu', jnp.float32) == jnp.float32
  wide, _ = train(make_optimizer(OptimConfig(name=name, lr=0.01), FLAT), parameters())
  # An update is off by the precision of bfloat16; lion's by the sign of next to nothing.
  bound = 2 if name == 'lion' else 2**-5
  close(narrow, wide, rtol=0, atol=0.01 * STEPS * bound)


@pytest.mark.parametrize(
  'given, message',
  [
    (dict(name='adafactor', moment_dtype='uint8'), "'adafactor' does not read it"),
    (dict(name='sgd', b1=0.0, moment_dtype='uint8'), 'b1=0 has no moments'),
  ],
)
def test_moments_that_an_optimizer_has_not_cannot_be_narrow(given, message):
  with pytest.raises(ConfigError, match=f'optim.moment_dtype: .*{message}'):
    OptimConfig(**given)


def documented_bytes():
  """The rows of the table in OptimConfig's docstring."""
  lines = [line.strip() for line in OptimConfig.__doc__.splitlines()]
  rows = [line for line in lines if line.startswith('|')]
  # The first two are the header and a rule.
  return [[cell.strip() for cell in row.split('|')[1:-1]] for row in rows[2:]]


@pytest.mark.parametrize('row', documented_bytes(), ids=' '.join)
def test_the_documented_bytes_of_a_weight_are_those_of_its_arrays(row):
  name, moment_dtype, has_masters, weight, optimizer, together = row
  config = OptimConfig(
    name=name,
    moment_dtype=moment_dtype or None,
    master_weights=has_masters == 'True',
  )
  matrix = {'kernel': jax.ShapeDtypeStruct((1024, 1024), jnp.float32)}

  def begin():
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), matrix)
    state = make_optimizer(config, FLAT).init(params)
    return read_weights(params, state), state

  def size(arrays):
    leaves = jax.tree.leaves(arrays)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / 1024**2

  weights, state = jax.eval_shape(begin)
  found = [f'{size(weights):.0f}', f'{size(state):.2f}']
  assert [*found, f'{size((weights, state)):.2f}'] == [weight, optimizer, together]
