"""Operations counted in the jaxpr, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from tl_jax import config, parallel
from tl_jax.scale import flops, planning
from tl_jax.train import listing
from tl_jax.train.outline import outline

X = jax.ShapeDtypeStruct((4, 8), 'float32')
W = jax.ShapeDtypeStruct((8, 8), 'float32')
ONCE = 2 * 4 * 8 * 8


def test_what_nobody_needs_is_not_counted():
  def function(x, w):
    dead = x @ w
    return (x @ w @ w) + 0 * dead.shape[0]

  assert flops.of_function(function, X, W) == 2 * ONCE


def test_loops_count_as_often_as_they_go_round():
  def scanned(x, w):
    return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=5)[0]

  def looped(x, w):
    return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ w, x)

  assert flops.of_function(scanned, X, W) == 5 * ONCE
  assert flops.count(jax.make_jaxpr(looped)(X, W), rounds=7) == 7 * ONCE


def test_a_branch_that_is_taken_is_the_dearest():
  def function(x, w):
    return jax.lax.cond(x.sum() > 0, lambda: x @ w, lambda: x @ w @ w)

  assert flops.of_function(function, X, W) == 2 * ONCE


def test_the_backward_pass_and_what_it_computes_again():
  def loss(w, x):
    return jnp.sin(jnp.sin(x @ w) @ w).sum()

  plain = flops.of_function(jax.value_and_grad(loss), W, X)
  # Two products forward; backward one for the activation and two for the weights.
  assert plain == 5 * ONCE
  again = flops.of_function(jax.value_and_grad(jax.checkpoint(loss)), W, X)
  assert again == plain + 2 * ONCE


def test_convolutions():
  x = jax.ShapeDtypeStruct((2, 3, 16), 'float32')
  kernel = jax.ShapeDtypeStruct((5, 3, 4), 'float32')

  def function(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1,), 'SAME')

  assert flops.of_function(function, x, kernel) == 2 * (2 * 5 * 16) * (3 * 4)


def test_every_device_of_a_manual_axis_counts():
  mesh = parallel.make_mesh(parallel.MeshShape(), jax.devices()[:1])
  spec = PartitionSpec(None)

  def function(x, w):
    return jax.shard_map(
      lambda x, w: x @ w, mesh=mesh, in_specs=(spec, spec), out_specs=spec
    )(x, w)

  assert flops.of_function(function, X, W) == ONCE * mesh.size


def test_a_kernel_counts_by_its_estimate_or_its_grid():
  from jax.experimental import pallas

  def body(x_ref, w_ref, out_ref):
    out_ref[...] = x_ref[...] @ w_ref[...]

  def function(x, w, **how):
    return pallas.pallas_call(body, out_shape=x, grid=(3,), **how)(x, w)

  assert flops.of_function(function, X, W) == 3 * ONCE
  said = pallas.CostEstimate(flops=7, transcendentals=0, bytes_accessed=0)
  assert flops.of_function(lambda x, w: function(x, w, cost_estimate=said), X, W) == 7


def step_flops(spec, *overrides):
  """(operations of the training step, its outline)."""
  run = outline(config.load(spec, overrides))
  mesh = parallel.make_mesh(parallel.MeshShape(), jax.devices()[:1])
  program = listing.program_of('step', run, mesh)
  with jax.set_mesh(mesh):
    traced = program.function.trace(*program.arguments)
  return flops.count(traced.jaxpr), run


def test_a_causal_step_is_as_the_analytic_count():
  """6 a weight and token (Kaplan et al. 2020), and the products of the attention."""
  found, run = step_flops(
    'configs/pretrain.py:gpt2',
    ('compute.remat', 'none'),
    ('data.batch', '4'),
    ('data.length', '256'),
  )
  arch, tokens, length = run.parts.model.arch, 4 * 256, 256
  block = 4 * arch.width**2 + 2 * arch.width * arch.mlp
  weights = arch.layers * block + arch.width * arch.vocabulary
  attention = 12 * arch.layers * length * arch.width
  assert found == pytest.approx(tokens * (6 * weights + attention), rel=0.01)


def test_a_masked_step_is_as_the_analytic_count_with_its_last_layer():
  """The last layer makes keys and values of all positions, the rest of the predicted."""
  found, run = step_flops(
    'configs/pretrain.py:bert-base',
    ('compute.remat', 'none'),
    ('data.batch', '4'),
    ('data.length', '256'),
  )
  arch, tokens, length, width = run.parts.model.arch, 4 * 256, 256, 768
  read = 4 * columns_of(run)
  block = 4 * width**2 + 2 * width * arch.mlp
  whole = tokens * (6 * block + 12 * length * width) * (arch.layers - 1)
  last = tokens * 6 * 2 * width**2
  last += read * (6 * (block - 2 * width**2) + 12 * length * width)
  head = read * 6 * (width**2 + width * arch.vocabulary)
  assert found == pytest.approx(whole + last + head, rel=0.01)


def columns_of(run) -> int:
  """How many positions of a row the masked objective reads."""
  batch = jax.eval_shape(run.parts.objective.prepare, jax.random.key(0), run.batch)
  return batch['score'].shape[1]


def test_remat_does_not_change_the_work_of_the_model():
  _, run = step_flops('configs/pretrain.py:tiny')
  found = planning.varied(run, compute=dict(remat='full'))
  assert found.settings.compute.remat == 'full'
  assert found.parts.model.arch == run.parts.model.arch
