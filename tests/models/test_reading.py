"""The last layer runs for the columns that a head reads: the same answers and
gradients, and less to compute.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.test_backbone import both_sides, packed, quick_for, spread, texts
from tl_jax import transfer
from tl_jax.models import Compute, arch, build, heads

SHAPES = {
  'bert': arch('tiny', vocabulary=64, head='classifier', labels=3),
  'albert': arch('tiny', vocabulary=64, head='classifier', labels=3, layer_groups=1),
  'modernbert': arch(
    'tiny',
    vocabulary=64,
    head='classifier',
    labels=3,
    positions='rotary',
    norm_place='before',
    skip_first_norm=True,
    windows=(0, 6),
  ),
  'llama': arch(
    'tiny-gpt',
    vocabulary=64,
    head='classifier',
    labels=3,
    positions='rotary',
    norm='rms',
    gated=True,
    activation='silu',
    bias='none',
    kv_heads=1,
    windows=(0, 3),
    pool='last',
  ),
  't5': arch('tiny-t5', vocabulary=64, head='classifier', labels=3, pool='last'),
}
SLOTS = jnp.array([[1, 2, 3, 0]])


def rows(shape):
  tokens, segments = packed(texts())
  return both_sides(
    dict(tokens=tokens, segments=segments), 'encoder-decoder' if shape == 't5' else ''
  ) | dict(examples=SLOTS)


def read_all(model, params, batch):
  """The logits as a head gives them of all hidden states."""
  hidden = model.apply(params, batch).hidden
  vectors = heads.pool(model.arch, hidden, batch['segments'], batch['examples'])
  return heads.label(model.arch, params, vectors, 0.0, None)


def agree(model, params, batch):
  own, whole = (
    jax.jit(
      jax.value_and_grad(lambda params, run=run: jnp.square(run(params)[:, :3]).mean())
    )(params)
    for run in (
      lambda params: model.apply(params, batch).logits,
      lambda params: read_all(model, params, batch),
    )
  )
  np.testing.assert_allclose(own[0], whole[0], rtol=1e-5)
  largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(whole[1]))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a / largest, b / largest, atol=1e-5),
    own[1],
    whole[1],
  )


@pytest.mark.parametrize(
  'layers', ['unroll', pytest.param('scan', marks=pytest.mark.slow)]
)
@quick_for('bert', 'llama', 't5', shapes=SHAPES)
def test_a_classifier_says_what_it_would_of_all_states(shape, layers):
  model = build(SHAPES[shape], Compute(layers=layers))
  agree(
    model,
    spread(model.init(jax.random.key(0)), scale=0.02 if shape == 't5' else 0.2),
    rows(shape),
  )


def test_a_single_layer_is_the_last_one_even_where_layers_are_scanned():
  model = build(
    dataclasses.replace(SHAPES['modernbert'], layers=1), Compute(layers='scan')
  )
  params = spread(model.init(jax.random.key(0)))
  batch = rows('modernbert')
  np.testing.assert_allclose(
    model.apply(params, batch).logits[:, :3],
    read_all(model, params, batch)[:, :3],
    atol=1e-5,
  )


@pytest.mark.parametrize(
  'method',
  [
    transfer.prompt(length=3),
    transfer.prefix(length=3),
    transfer.adapter(kind='parallel', size=4),
    transfer.lora(rank=2),
  ],
  ids=['prompt', 'prefix', 'adapter', 'lora'],
)
def test_whatever_a_method_puts_into_the_last_layer(method):
  model = build(arch('tiny', vocabulary=64, head='classifier', labels=3, pool='last'))
  trainable, frozen = method.init(
    jax.random.key(1), spread(model.init(jax.random.key(0)))
  )
  params = method.merge(spread(trainable, seed=1), frozen)
  batch = rows('bert')
  np.testing.assert_allclose(
    model.apply(params, batch).logits[:, :3],
    read_all(model, params, batch)[:, :3],
    atol=1e-5,
  )


def work(model, **asked):
  """The FLOPs of a loss of logits and its gradient, by the compiler's account."""
  tokens, segments = packed(texts(), 32)
  batch = dict(tokens=tokens, segments=segments, examples=SLOTS)
  if model.arch.head == 'masked':
    batch.pop('examples')
  loss = lambda params: jnp.square(model.apply(params, batch, **asked).logits).mean()
  made = (
    jax.jit(jax.value_and_grad(loss)).lower(model.init(jax.random.key(0))).compile()
  )
  return made.cost_analysis()['flops']


def test_nothing_is_computed_of_the_columns_that_nobody_reads():
  """Of two layers one is left, and the keys and values of the other: 14 of 24 matrices
  (width, width).
  """
  whole = build(arch('tiny', vocabulary=64, head='classifier', pool='mean', layers=2))
  some = build(arch('tiny', vocabulary=64, head='classifier', layers=2))
  assert 0.5 < work(some) / work(whole) < 0.75


def test_masked_positions_alone_go_through_the_last_layer():
  model = build(arch('tiny', vocabulary=64, head='masked', layers=2))
  assert work(model, score=jnp.array([[3, 7]])) < 0.75 * work(model)


def test_what_is_read_drops_out_too():
  model = build(SHAPES['bert'], Compute(dropout=0.5))
  params = spread(model.init(jax.random.key(0)))
  run = lambda seed: (
    model.apply(
      params, rows('bert'), key=jax.random.key(seed), train=True, keep=('features',)
    ).features
  )
  assert (run(1) == run(1)).all() and jnp.abs(run(1) - run(2)).max() > 0.1
