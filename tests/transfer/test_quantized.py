"""Matrices held in few bits: how near they are to what they were made of, and what
training makes of them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import leaves, models, objectives, optim
from tl_jax.train import init_state, make_step
from tl_jax.transfer import lora, qlora

KEY = jax.random.key(7)


def test_quantised_matrices_are_near_and_small():
  w = jax.random.normal(KEY, (128, 32))
  for kind, worst, size in (('int8', 0.02, 128 * 32), ('nf4', 0.55, 64 * 32)):
    leaf = leaves.quantize(w, kind)
    assert (
      leaf.shape == w.shape
      and leaf.codes.size == size
      and leaf.codes.dtype.itemsize == 1
    )
    assert 0 < float(jnp.abs(leaf.dense() - w).max()) < worst
    np.testing.assert_allclose(
      leaves.matmul(jnp.ones((2, 128)), leaf),
      jnp.ones((2, 128)) @ leaf.dense(),
      rtol=1e-5,
    )
  narrow = leaves.quantize(w, 'bfloat16')
  assert (
    narrow.codes.dtype == jnp.bfloat16
    and narrow.dtype == jnp.float32
    and narrow.scale is None
  )
  np.testing.assert_allclose(narrow.dense(), w, rtol=2**-8)
  exact = leaves.quantize(
    jnp.tile(jnp.asarray(leaves.quantized.NF4), 4)[:, None], 'nf4'
  )
  np.testing.assert_allclose(exact.dense()[:16, 0], leaves.quantized.NF4, rtol=1e-6)
  with pytest.raises(ValueError, match='do not divide 10'):
    leaves.quantize(jnp.ones((10, 4)), 'nf4')
  with pytest.raises(
    ValueError, match="'int4', but must be one of bfloat16, int8, nf4"
  ):
    leaves.quantize(w, 'int4')


@pytest.mark.parametrize(
  'family, objective',
  [
    ('tiny', objectives.classify(labels=3)),
    ('tiny-gpt', objectives.causal()),
    ('tiny-t5', objectives.seq2seq()),
  ],
)
def test_steps_in_bfloat16_are_those_of_a_base_held_in_it(family, objective):
  head = dict(head='classifier', labels=3) if family == 'tiny' else dict(head='causal')
  model = models.build(
    models.arch(family, vocabulary=64, **head), models.Compute(dtype='bfloat16')
  )
  params = jax.jit(model.init)(KEY)
  batch = dict(
    tokens=jax.random.randint(KEY, (2, 9), 1, 64),
    segments=jnp.ones((2, 9), int),
    labels=jnp.array([0, 2]),
  )
  if family == 'tiny-t5':
    batch['decoder_tokens'] = batch['tokens'][:, :5]
  tx = optim.make_optimizer(
    optim.OptimConfig(lr=1e-2), optim.ScheduleConfig(name='constant', steps=4)
  )
  states = []
  for method in (lora(), qlora(kind='bfloat16')):
    step, state = (
      jax.jit(make_step(model, objective, method, tx)),
      init_state(params, method, tx, 0),
    )
    for _ in range(4):
      state, _ = step(state, batch)
    states.append(state)
  jax.tree.map(np.testing.assert_array_equal, *(state.trainable for state in states))
  wide, narrow = (
    sum(leaf.nbytes for leaf in jax.tree.leaves(state.frozen)) for state in states
  )
  assert narrow < 0.65 * wide
