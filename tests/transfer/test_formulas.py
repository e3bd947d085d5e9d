"""What single methods promise: the formulas and parameter counts of their papers."""

import math
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import leaves, models, objectives, optim, rng, tree
from tl_jax.transfer import (
  adapter,
  bitfit,
  dora,
  ewc,
  ia3,
  l2sp,
  lora,
  mixout,
  prefix,
  prior_decay,
  prompt,
  rdrop,
  reinitialize,
  subset,
  unfreeze,
  with_fisher,
)

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from lawful import KEY, moved, plain_tree, real, run_steps  # noqa: E402

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
