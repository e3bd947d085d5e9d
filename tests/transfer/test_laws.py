"""What each way of transferring promises beyond the laws of all: where it starts, what
it trains, what it holds.
"""

import functools
import itertools
import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import leaves, models, objectives, optim, rng, tree
from tl_jax.train import init_state, make_step
from tl_jax.transfer import (
  METHODS,
  adapter,
  bitfit,
  compose,
  diff,
  dora,
  ewc,
  full,
  ia3,
  l2sp,
  last,
  lora,
  mixout,
  norms,
  prefix,
  prior_decay,
  probe,
  prompt,
  qlora,
  quantized,
  rdrop,
  reinitialize,
  subset,
  unfreeze,
  with_fisher,
)

KEY = jax.random.key(3)


def noise(name, leaf):
  return (
    np.random.default_rng(zlib.crc32(name.encode()))
    .normal(size=leaf.shape)
    .astype(leaf.dtype)
  )


@functools.cache
def real(kind, **fields):
  """A small model of ours with weights that are not all zeros and ones, and a batch for
  it.
  """
  family, head = {
    'encoder': ('tiny', 'classifier'),
    'decoder': ('tiny-gpt', 'causal'),
    'encoder-decoder': ('tiny-t5', 'causal'),
  }[kind]
  more = dict(labels=3) if head == 'classifier' else {}
  model = models.build(models.arch(family, vocabulary=64, head=head, **more | fields))
  params = tree.map_named(
    lambda name, leaf: leaf + 0.1 * noise(name, leaf), jax.jit(model.init)(KEY)
  )
  batch = dict(
    tokens=jax.random.randint(KEY, (2, 9), 1, 64),
    segments=jnp.array([[1] * 9, [1] * 6 + [0] * 3]),
  )
  if kind == 'encoder-decoder':
    batch['decoder_tokens'] = jax.random.randint(jax.random.key(4), (2, 5), 1, 64)
  return model, params, batch


def moved(trainable, size=0.1):
  """A tree that some training might have led to."""
  return tree.map_named(
    lambda name, leaf: leaf + size * noise(f'moved/{name}', leaf), trainable
  )


# Every method with what fits each kind of model; the tolerance of its first function
# against the pre-trained one.
KINDS = ('encoder', 'decoder', 'encoder-decoder')
EXACT = {
  'full': full,
  'bitfit': lambda: bitfit(pattern=r'.*(bias|scale)'),
  'norms': norms,
  'last': lambda: last(1),
  'subset': lambda: subset(count=200),
  'lora': lambda: lora(rank=2),
  'lora of tables': lambda: lora((r'embedding/tokens', r'.*/query/kernel'), rank=2),
  'ia3': ia3,
  'diff': diff,
  'l2sp': l2sp,
  'mixout': mixout,
  'prior_decay': prior_decay,
  'ewc': ewc,
  'unfreeze': unfreeze,
  'rdrop': rdrop,
  'houlsby': lambda: adapter(size=4),
  'pfeiffer': lambda: adapter(kind='pfeiffer', size=4),
  'parallel': lambda: adapter(kind='parallel', size=4),
  'lora with dropout': lambda: lora(rank=2, dropout=0.2),
}
# One of each mechanism; of what does not depend on the names of leaves alone, some on
# other kinds of models as well.
QUICK = {
  'encoder': (
    'full',
    'bitfit',
    'subset',
    'lora',
    'lora of tables',
    'dora',
    'qlora',
    'ia3',
    'diff',
    'houlsby',
    'parallel',
    'prefix',
    'prefix network',
    'mixout',
  ),
  'decoder': ('lora',),
  'encoder-decoder': ('lora', 'houlsby', 'prefix'),
}
NEAR = {
  'dora': lambda: dora(rank=2),
  'pissa': lambda: lora(rank=2, alpha=4, init='pissa', stabilized=True),
}


def every_kind(methods, quick=QUICK):
  return pytest.mark.parametrize(
    'kind, name',
    [
      pytest.param(
        kind, name, marks=[] if name in quick.get(kind, ()) else pytest.mark.slow
      )
      for kind in KINDS
      for name in methods
    ],
  )


@every_kind(EXACT | NEAR, dict(encoder=QUICK['encoder']))
def test_the_start_is_the_pre_trained_function(kind, name):
  model, params, batch = real(kind)
  method = (EXACT | NEAR)[name]()
  trainable, frozen = method.init(KEY, params)
  wanted = model.apply(params, batch).logits
  for own in (method.merge(trainable, frozen), method.fuse(trainable, frozen)):
    found = model.apply(own, batch).logits
    # A layer with an adapter in it is another program, whose sums may be in another
    # order.
    tolerance = (
      2e-5
      if name in NEAR
      else 1e-6
      if name in ('houlsby', 'pfeiffer', 'parallel')
      else 0
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
  fused = tree.flatten(method.fuse(trainable, frozen))
  for leaf_name, leaf in tree.flatten(params).items():
    tolerance = 0 if name in EXACT else 1e-6
    np.testing.assert_allclose(fused[leaf_name], leaf, rtol=0, atol=tolerance)


TRAINED = (
  EXACT
  | NEAR
  | {
    'prompt': lambda: prompt(3),
    'prefix': lambda: prefix(3),
    'qlora': lambda: qlora(kind='nf4'),
    'qlora in bfloat16': lambda: qlora(kind='bfloat16'),
    'prefix network': lambda: prefix(3, network=5),
  }
)


@every_kind(TRAINED)
def test_merged_and_fused_agree_and_axes_mirror_the_trees(kind, name):
  model, params, batch = real(kind)
  method = TRAINED[name]()
  trainable, frozen = method.init(KEY, params)
  for tree_, axes in zip((trainable, frozen), method.axes(model.axes), strict=True):
    assert jax.tree.structure(tree_) == jax.tree.structure(axes)
  trainable = moved(trainable)
  merged = method.merge(trainable, frozen)
  assert jax.tree.structure(method.merge(merged, None)) == jax.tree.structure(merged)
  fused = method.fuse(trainable, frozen)
  first = model.apply(merged, batch).logits
  np.testing.assert_allclose(
    first, model.apply(fused, batch).logits, atol=1e-5 * float(jnp.abs(first).max() + 1)
  )
  assert not np.allclose(first, model.apply(params, batch).logits, atol=1e-3)


def plain_tree(width=4, layers=3):
  """Foreign params named like ours: every leaf edit and partition fits them."""
  shapes = {'head/kernel': (width, 2), 'head/bias': (2,), 'final_norm/scale': (width,)}
  for i in range(layers):
    shapes |= {
      f'layers/{i}/attention/{part}/kernel': (width, width)
      for part in ('query', 'key', 'value')
    }
    shapes |= {
      f'layers/{i}/attention/{part}/bias': (width,)
      for part in ('query', 'key', 'value')
    }
    shapes |= {
      f'layers/{i}/mlp/out/kernel': (width, width),
      f'layers/{i}/mlp_norm/scale': (width,),
    }
  return tree.unflatten(
    {
      name: jax.random.normal(rng.stream(0, name), shape)
      for name, shape in shapes.items()
    }
  )


PARTITIONS = {
  'probe': probe,
  'bitfit': bitfit,
  'norms': norms,
  'last': lambda: last(1),
  'full': full,
}
EDITS = {
  'lora': lambda: lora(rank=2),
  'dora': lambda: dora(r'.*query/kernel', rank=2),
  'ia3': ia3,
  'subset': lambda: subset(r'.*query/kernel', count=6),
  'diff': lambda: diff(r'.*out/kernel'),
  'quantized': lambda: quantized(r'.*out/kernel'),
}
CLASHES = {
  ('lora', 'dora'),
  ('lora', 'ia3'),
  ('lora', 'subset'),
  ('dora', 'subset'),
  ('ia3', 'diff'),
}
CLASHES |= {(other, one) for one, other in CLASHES} | {
  ('ia3', 'quantized'),
  ('diff', 'quantized'),
}
# a partition takes what the other would hold in few bits
TAKES = {('full', 'quantized'), ('last', 'quantized')}


def test_every_pair_trains_the_union_and_starts_at_the_same_place():
  params, tried = plain_tree(), 0
  everything = PARTITIONS | EDITS
  for one, other in itertools.permutations(everything, 2):
    if (one, other) in CLASHES:
      with pytest.raises(ValueError, match='two methods edit it'):
        compose(everything[one](), everything[other]()).init(KEY, params)
      continue
    if (other, one) in TAKES:
      with pytest.raises(ValueError, match='is quantised and cannot be trained'):
        compose(everything[one](), everything[other]()).init(KEY, params)
      continue
    method = compose(everything[one](), everything[other]())
    if 'full' in (one, other) and {one, other} & EDITS.keys() - {'quantized'}:
      with pytest.raises(
        ValueError, match='other methods train in full all that it edits'
      ):
        method.init(KEY, params)
      continue
    trainable, frozen = method.init(KEY, params)
    parts = [everything[name]().init(KEY, params)[0] for name in (one, other)]
    wanted = set().union(*map(tree.flatten, parts))
    whole = {
      name
      for part in parts
      for name in tree.flatten(part)
      if name in tree.flatten(params)
    }
    wanted = {
      name for name in wanted if not any(name.startswith(f'{leaf}/') for leaf in whole)
    }
    assert set(tree.flatten(trainable)) == wanted, (one, other)
    fused, plain = tree.flatten(method.fuse(trainable, frozen)), tree.flatten(params)
    assert fused.keys() == plain.keys()
    for name in plain:
      atol = 0.02 if 'quantized' in (one, other) else 1e-6
      np.testing.assert_allclose(
        fused[name], plain[name], atol=atol, rtol=0, err_msg=f'{one}, {other}: {name}'
      )
    tried += 1
  assert tried > 80


def run_steps(method, steps=10, kind='encoder', **fields):
  """The states before, between and after some steps on one labelled batch."""
  model, params, batch = real(kind, **fields)
  batch = batch | dict(labels=jnp.array([0, 2]))
  tx = optim.make_optimizer(
    optim.OptimConfig(lr=1e-2, decay=0.1),
    optim.ScheduleConfig(name='constant', steps=steps),
  )
  model = models.build(model.arch, models.Compute(dropout=0.1))
  step = jax.jit(make_step(model, objectives.classify(labels=3), method, tx))
  states = [init_state(params, method, tx, 0)]
  for _ in range(steps):
    state, metrics = step(states[-1], batch)
    states.append(state)
  assert np.isfinite(float(metrics['loss']))
  return states


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(
      name, marks=[] if name in ('lora', 'adapter', 'prefix') else pytest.mark.slow
    )
    for name in METHODS
    if name not in ('qlora', 'last')
  ],
)
def test_ten_steps_leave_what_is_held_to_the_bit_and_move_what_is_trained(name):
  options = {
    'prompt': dict(length=3),
    'prefix': dict(length=3),
    'adapter': dict(size=4),
    'unfreeze': dict(every=1),
  }
  first, *_, final = run_steps(METHODS[name](**options.get(name, {})))
  for one, other in zip(
    jax.tree.leaves(first.frozen), jax.tree.leaves(final.frozen), strict=True
  ):
    assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
  still = [
    leaf_name
    for leaf_name, leaf in tree.flatten(first.trainable).items()
    if np.array_equal(leaf, tree.flatten(final.trainable)[leaf_name])
  ]
  assert not still, still
  trained = {leaf_name for leaf_name in tree.flatten(first.trainable)}
  moments = [
    node
    for node in jax.tree.leaves(
      final.opt_state,
      is_leaf=lambda node: isinstance(node, tuple) and hasattr(node, 'mu'),
    )
    if hasattr(node, 'mu')
  ]
  assert all(set(tree.flatten(node.mu)) == trained for node in moments) and moments


@pytest.mark.slow
@pytest.mark.parametrize('name', ['lora', 'dora', 'ia3', 'houlsby'])
def test_a_strong_pull_keeps_what_a_model_multiplies_by_near_its_start(name):
  params = tree.flatten(real('encoder')[1])
  far = {}
  for strength in (0.0, 100.0):
    method = compose(EXACT.get(name, NEAR.get(name))(), l2sp(strength))
    final = run_steps(method)[-1]
    fused = tree.flatten(method.fuse(final.trainable, final.frozen))
    body = [leaf for leaf in params if not leaf.startswith(('head/', 'pooler/'))]
    far[strength] = sum(
      float(np.square(fused[leaf] - params[leaf]).sum()) for leaf in body
    )
  assert 0 < far[100.0] < far[0.0] / 4


# Counts of the papers (the head left out), from the shapes of their models alone.
COUNTS = [
  ('bert-base', {}, lora(rank=8, head=None), 294_912),  # Hu et al. 2021
  (
    'bert-base',
    {},
    adapter(size=64, head=None),
    12 * 2 * (2 * 64 * 768 + 64 + 768) + 25 * 2 * 768,
  ),
  (
    'bert-base',
    {},
    adapter(kind='pfeiffer', size=64, head=None),
    12 * (2 * 64 * 768 + 64 + 768),
  ),
  ('bert-base', {}, prompt(20, head=None), 20 * 768),
  ('bert-base', {}, prefix(20, head=None), 12 * 2 * 20 * 768),
  ('bert-base', {}, dora(rank=8, head=None), 294_912 + 2 * 12 * 768),
  ('t5-v1.1-xl', {}, ia3(head=None), 540_672),  # Liu et al. 2022, T0-3B
]


@pytest.mark.parametrize(
  'family, fields, method, wanted', COUNTS, ids=[f'{c[0]}-{c[3]}' for c in COUNTS]
)
def test_trained_parameters_are_the_papers(family, fields, method, wanted):
  if family not in models.FAMILIES:
    family = next(
      name
      for name in models.FAMILIES
      if 't5' in name
      and '1.1' in name.replace('_', '.')
      and 'xl' in name
      and 'xxl' not in name
    )
  model = models.build(models.arch(family, **fields))
  trainable = jax.eval_shape(lambda: method.init(KEY, model.init(KEY)))[0]
  assert tree.count(trainable) == wanted


def test_a_subset_is_as_large_as_the_biases():
  params = real('encoder')[1]
  assert tree.count(subset(head=None).init(KEY, params)[0]) == tree.count(
    bitfit(head=None).init(KEY, params)[0]
  )


def test_houlsby_trains_the_norms_too_and_pfeiffer_does_not():
  params = real('encoder')[1]
  names = lambda kind: tree.flatten(
    adapter(kind=kind, size=2, head=None).init(KEY, params)[0]
  )
  assert any('norm' in name for name in names('houlsby')) and not any(
    'norm/' in name for name in names('pfeiffer')
  )


def test_l2sp_is_its_formula():
  params = plain_tree()
  method = l2sp(0.3, new=0.05)
  trainable, frozen = method.init(KEY, params)
  other = moved(trainable)
  wanted = sum(
    (
      0.05 * np.square(leaf).sum()
      if name.startswith('head/')
      else 0.3 * np.square(leaf - tree.flatten(params)[name]).sum()
    )
    / 2
    for name, leaf in tree.flatten(other).items()
  )
  np.testing.assert_allclose(method.penalty(other, frozen), wanted, rtol=1e-5)


def test_ewc_weighs_by_fisher_and_leaves_new_leaves_free():
  params = plain_tree()
  fisher = {
    name: leaf
    for name, leaf in tree.flatten(params).items()
    if not name.startswith('head/')
  }
  fisher = jax.tree.map(jnp.square, tree.unflatten(fisher))
  method = ewc(fisher, 2.0)
  trainable, frozen = method.init(KEY, params)
  other = moved(trainable)
  wanted = sum(
    (
      np.square(tree.flatten(params)[name])
      * np.square(leaf - tree.flatten(params)[name])
    ).sum()
    for name, leaf in tree.flatten(other).items()
    if not name.startswith('head/')
  )
  np.testing.assert_allclose(method.penalty(other, frozen), wanted, rtol=1e-5)
  again = ewc(strength=2.0)
  trainable, frozen = again.init(KEY, params)
  assert float(
    again.penalty(other, with_fisher(frozen, tree.flatten(fisher)))
  ) == pytest.approx(wanted, rel=1e-5)
  assert float(again.penalty(other, frozen)) != pytest.approx(wanted, rel=1e-2)
  with pytest.raises(ValueError, match='none of the trained leaves'):
    ewc({'elsewhere': jnp.ones(2)}).init(KEY, params)


def test_mixout_swaps_entries_or_rows_and_keeps_the_mean():
  params = {'layers': {'0': {'mlp': {'out': {'kernel': jnp.zeros((40, 50))}}}}}
  for mask, shape in (('element', (40, 50)), ('column', (40, 1))):
    method = mixout(0.7, mask=mask)
    _, frozen = method.init(KEY, params)
    ones = jax.tree.map(jnp.ones_like, params)
    mixed = np.asarray(jax.tree.leaves(method.merge(ones, frozen, key=KEY))[0])
    kept = mixed != 0
    np.testing.assert_allclose(mixed[kept], 1 / 0.3, rtol=1e-5)
    assert abs(kept[:, : shape[1]].mean() - 0.3) < (0.05 if mask == 'element' else 0.25)
    assert (kept == kept[:, :1]).all() == (mask == 'column')
    np.testing.assert_array_equal(jax.tree.leaves(method.merge(ones, frozen))[0], 1.0)


def test_prior_decay_pulls_to_the_start_and_a_head_to_zero():
  params = dict(body=jnp.full(2, 3.0), head=dict(kernel=jnp.full(2, 3.0)))
  tx = optim.make_optimizer(
    optim.OptimConfig(name='sgd', lr=0.5, clip=None, b1=0.0),
    optim.ScheduleConfig(name='constant', steps=4),
  )
  tx = prior_decay(0.1).optimizer(tx)
  state = tx.init(params)
  away = jax.tree.map(lambda leaf: leaf + 1.0, params)
  updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), state, away)
  np.testing.assert_allclose(updates['body'], -0.5 * 0.1 * 1.0, rtol=1e-6)
  np.testing.assert_allclose(updates['head']['kernel'], -0.5 * 0.1 * 4.0, rtol=1e-6)


def test_unfreezing_goes_down_from_the_head():
  states = run_steps(unfreeze(2), steps=5)
  first = states[0]
  for steps, free in (
    (1, ('head',)),
    (3, ('head', 'pooler', 'layers/1')),
    (5, ('layers/0', 'layers/1')),
  ):
    final = states[steps]
    names = [
      name
      for name, leaf in tree.flatten(first.trainable).items()
      if not np.array_equal(leaf, tree.flatten(final.trainable)[name])
    ]
    assert all(any(name.startswith(prefix_) for name in names) for prefix_ in free)
    assert any(name.startswith('layers/0') for name in names) == (steps > 4)
    assert any(name.startswith('pooler') for name in names) == (steps > 2)
    assert not any(name.startswith('embedding') for name in names)


def test_reinitialize_draws_the_top_layers_and_the_pooler_only():
  params = real('encoder')[1]
  fresh = tree.flatten(reinitialize(1, std=0.5).init(KEY, params)[0])
  for name, leaf in tree.flatten(params).items():
    assert np.array_equal(leaf, fresh[name]) != name.startswith(
      ('layers/1/', 'pooler/')
    ), name
  assert 0.45 < float(fresh['layers/1/mlp/in/kernel'].std()) < 0.55


def test_rdrop_adds_both_passes_and_their_divergence():
  model, params, batch = real('encoder')
  model = models.build(model.arch, models.Compute(dropout=0.3))
  batch, plain = batch | dict(labels=jnp.array([0, 2])), objectives.classify(labels=3)
  objective = rdrop(0.5).objective(plain)
  forward = lambda *args, **keywords: model.apply(params, *args, **keywords)
  terms, _ = objective.loss(forward, batch, KEY)
  logits = [
    model.apply(params, batch, key=rng.stream(KEY, name), train=True).logits
    for name in ('first-pass', 'second-pass')
  ]
  log_p, log_q = (np.asarray(jax.nn.log_softmax(one)) for one in logits)
  apart = (
    (np.exp(log_p) * (log_p - log_q)).sum() + (np.exp(log_q) * (log_q - log_p)).sum()
  ) / 2
  np.testing.assert_allclose(terms['agreement'].sum, apart, rtol=1e-4)
  assert terms['agreement'].coefficient == 0.5 and apart > 0
  nll = -sum(
    one[row, label] for one in (log_p, log_q) for row, label in ((0, 0), (1, 2))
  )
  np.testing.assert_allclose(terms['classify'].sum, nll, rtol=1e-5)
  assert float(objective.weights(batch)['agreement']) == 2.0
  assert set(objective.loss(forward, batch, None)[0]) == {'classify'}


def test_lora_dropout_drops_what_goes_into_the_rank_and_only_while_a_key_is_there():
  params = {'a': {'query': {'kernel': jax.random.normal(KEY, (6, 6))}}}
  method = lora(rank=2, dropout=0.5, head=None)
  trainable, frozen = method.init(KEY, params)
  trainable = moved(trainable)
  x = jnp.ones((4, 6))
  product = lambda key: leaves.matmul(
    x, method.merge(trainable, frozen, key=key)['a']['query']['kernel']
  )
  plain = product(None)
  many = jnp.stack([product(rng.stream(KEY, 'draw', n)) for n in range(400)])
  np.testing.assert_allclose(many.mean((0, 1)), plain[0], atol=0.05)
  assert float(many.std(0).max()) > 0.01 and np.array_equal(product(KEY), product(KEY))


def test_ranks_alphas_and_the_stabilised_scale():
  params = plain_tree()
  method = lora(
    r'.*(query|value)/kernel',
    rank=2,
    alpha=4,
    ranks=((r'layers/0/.*', 3),),
    alphas=((r'.*value.*', 6),),
    stabilized=True,
    head=None,
  )
  trainable = method.init(KEY, params)[0]
  pick = lambda layer, part: trainable['layers'][layer]['attention'][part]['kernel']
  assert pick('0', 'query').a.shape == (4, 3) and pick('1', 'query').a.shape == (4, 2)
  assert math.isclose(pick('0', 'query').scale, 4 / math.sqrt(3))
  assert math.isclose(pick('1', 'value').scale, 6 / math.sqrt(2))


@pytest.mark.parametrize(
  'part', [lambda: prompt(2), lambda: prefix(2), lambda: adapter(size=2)]
)
def test_parts_and_edits_compose_in_either_order(part):
  model, params, batch = real('encoder')
  one, other = (
    compose(*methods) for methods in ((lora(rank=2), part()), (part(), lora(rank=2)))
  )
  logits = [
    model.apply(method.merge(*method.init(KEY, params)), batch).logits
    for method in (one, other)
  ]
  np.testing.assert_array_equal(*logits)
  assert set(tree.flatten(one.init(KEY, params)[0])) == set(
    tree.flatten(other.init(KEY, params)[0])
  )
  assert jax.tree.structure(one.axes(model.axes)) == jax.tree.structure(
    one.init(KEY, params)
  )


def test_a_mismatch_is_named():
  params = plain_tree()
  for method, what in (
    (lora(r'nothing'), 'matches no parameter'),
    (adapter(), 'matches no parameter'),
    (prefix(), None),
    (prompt(), "'embedding/tokens' does not exist"),
  ):
    if what is None:
      continue
    with pytest.raises(ValueError, match=what):
      method.init(KEY, {'w': jnp.ones(2)} if what == 'matches no parameter' else params)
  with pytest.raises(ValueError, match='both trees have a leaf at .*prefix'):
    compose(prefix(2), prefix(3)).init(KEY, params)
  with pytest.raises(ValueError, match='compose this one first'):
    compose(last(1), prefix(2)).init(KEY, params)
  with pytest.raises(ValueError, match='go together'):
    prompt(init='text')
