"""Disentangled attention: its formula, one number at a time, and the laws that every
attention keeps.
"""

import dataclasses
import math

import fake_devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import transfer, tree
from tl_jax.config import ConfigError
from tl_jax.models import Compute, arch, build
from tl_jax.models.disentangled import position_scores, table_rows

SMALL = arch(
  'deberta-v3-base',
  vocabulary=64,
  width=16,
  layers=1,
  heads=2,
  mlp=24,
  relative_buckets=4,
  relative_distance=8,
  attention_scale=24**-0.5,
  head='classifier',
  labels=3,
)


def spread(params, scale=0.3):
  """Random parameters, large enough that a wrong row of the table shows."""

  def draw(name, leaf):
    noise = np.random.default_rng([*name.encode()]).normal(size=leaf.shape)
    return leaf + jnp.asarray(scale * noise, 'float32')

  return tree.map_named(draw, params)


PARAMS = spread(jax.jit(build(SMALL).init)(jax.random.key(0)))
APPLY = jax.jit(build(SMALL).apply, static_argnames='keep')
TOKENS = np.random.default_rng(0).integers(3, 64, (2, 11)).astype(np.int32)


def bucket(distance, buckets, farthest):
  """Which vector a distance has: the formula of DeBERTa's code, in double precision."""
  exact = buckets // 2
  if abs(distance) <= exact:
    return distance
  far = math.log(abs(distance) / exact) / math.log((farthest - 1) / exact) * (exact - 1)
  return int(math.copysign(math.ceil(far) + exact, distance))


def test_rows_of_the_table():
  description = arch('deberta-v3-base')
  distances = np.array([0, 1, 5, 127, 128, 129, 200, 400, 510, 512, 513, 2000])
  distances = np.concatenate([distances, -distances])
  rows = table_rows(
    description, jnp.maximum(distances, 0)[None], jnp.maximum(-distances, 0)[None]
  )[0]
  expected = [min(max(bucket(int(d), 256, 512) + 256, 0), 511) for d in distances]
  assert np.diagonal(rows).tolist() == expected
  assert len(set(expected)) > 15


def test_scores_one_pair_at_a_time():
  draw = np.random.default_rng(1)
  query, keys = draw.normal(size=(1, 3, 2, 4)), draw.normal(size=(1, 2, 5, 4))
  position_query, position_keys = draw.normal(size=(2, 7, 2, 4))
  rows = draw.integers(0, 7, (1, 3, 5))
  found = position_scores(
    *map(jnp.asarray, (query, keys, position_query, position_keys, rows))
  )
  for head in range(2):
    for i in range(3):
      for j in range(5):
        row = rows[0, i, j]
        wanted = (
          query[0, i, head] @ position_keys[row, head]
          + keys[0, head, j] @ position_query[row, head]
        )
        assert found[0, head, i, j] == pytest.approx(wanted, abs=1e-5)


def test_packed_examples_are_answered_as_alone():
  segments = np.array([[1] * 5 + [2] * 5 + [0], [1] * 11])
  together = APPLY(
    PARAMS, dict(tokens=TOKENS, segments=segments, examples=np.array([[1, 2], [1, 0]]))
  )
  alone = APPLY(PARAMS, dict(tokens=TOKENS[0, :10].reshape(2, 5))).logits
  np.testing.assert_allclose(together.logits[0], alone, atol=1e-5)
  assert together.logits.std() > 0.1


def test_order_and_distance_count():
  plain = APPLY(PARAMS, dict(tokens=TOKENS)).logits
  shuffled = TOKENS.copy()
  shuffled[:, 1:] = TOKENS[:, :0:-1]
  assert np.abs(APPLY(PARAMS, dict(tokens=shuffled)).logits - plain).max() > 1e-2
  # Only differences count: a text may begin anywhere.
  later = APPLY(
    PARAMS,
    dict(tokens=TOKENS, positions=np.broadcast_to(np.arange(11) + 90, TOKENS.shape)),
  ).logits
  np.testing.assert_allclose(later, plain, atol=1e-5)


def test_the_last_layer_of_a_classifier_runs_for_its_column_alone():
  out = APPLY(PARAMS, dict(tokens=TOKENS), keep=('features',))
  np.testing.assert_allclose(out.features[:, 0], out.hidden[:, 0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
  'compute', [dict(layers='scan'), dict(remat='full'), dict(remat='dots')]
)
def test_policies_change_nothing(compute):
  deep = dataclasses.replace(SMALL, layers=3)
  params = spread(jax.jit(build(deep).init)(jax.random.key(0)))

  def gradient(**how):
    loss = lambda params: jnp.square(
      build(deep, Compute(**how)).apply(params, dict(tokens=TOKENS)).logits
    ).sum()
    return jax.jit(jax.grad(loss))(params)

  wanted, found = gradient(), gradient(**compute)
  for name, leaf in tree.flatten(wanted).items():
    np.testing.assert_allclose(
      tree.flatten(found)[name],
      leaf,
      atol=1e-4 * float(jnp.abs(leaf).max()) + 1e-6,
      err_msg=name,
    )
  assert float(jnp.abs(wanted['relative']['table']).max()) > 1e-3


def test_dropout_reaches_the_table_and_follows_its_key():
  model = build(SMALL, Compute(dropout=0.2))
  run = jax.jit(
    lambda key: model.apply(PARAMS, dict(tokens=TOKENS), key=key, train=True).logits
  )
  first, same, other = (
    run(jax.random.key(0)),
    run(jax.random.key(0)),
    run(jax.random.key(1)),
  )
  assert (first == same).all() and np.abs(first - other).max() > 1e-3


def test_low_rank_updates_of_the_query_act_on_the_table_too():
  method = transfer.lora(rank=2)
  trainable, frozen = method.init(jax.random.key(0), PARAMS)
  trainable = jax.tree.map(lambda leaf: leaf + 0.3, trainable)
  batch = dict(tokens=TOKENS)
  merged = APPLY(method.merge(trainable, frozen), batch).logits
  fused = APPLY(method.fuse(trainable, frozen), batch).logits
  np.testing.assert_allclose(merged, fused, atol=1e-4)
  assert np.abs(merged - APPLY(PARAMS, batch).logits).max() > 1e-2


def test_prefixes_and_prompts_stand_before_the_tokens():
  for method in (transfer.prefix(3), transfer.prompt(2)):
    trainable, frozen = method.init(jax.random.key(0), PARAMS)
    logits = APPLY(method.merge(trainable, frozen), dict(tokens=TOKENS)).logits
    assert logits.shape == (2, 3) and np.isfinite(logits).all()


def test_bfloat16_is_near():
  wide = APPLY(PARAMS, dict(tokens=TOKENS)).logits
  narrow = jax.jit(build(SMALL, Compute(dtype='bfloat16')).apply)(
    PARAMS, dict(tokens=TOKENS)
  ).logits
  assert np.abs(wide - narrow).max() < 0.05 * np.abs(wide).max()


@pytest.mark.parametrize(
  'fields',
  [
    dict(kv_heads=1),
    dict(kind='decoder'),
    dict(relative_buckets=16),
    dict(relative_buckets=2),
  ],
)
def test_what_it_cannot_be_is_named(fields):
  with pytest.raises(ConfigError, match='positions|relative_buckets'):
    arch(
      'deberta-v3-base',
      width=16,
      heads=2,
      relative_distance=8,
      **(dict(relative_buckets=4) | fields),
    )


ON_EIGHT = """
import sys
import jax, numpy as np
sys.path.insert(0, 'tests/models')
from test_disentangled import PARAMS, SMALL, TOKENS
from tl_jax import parallel
from tl_jax.models import build
mesh = parallel.make_mesh(parallel.MeshShape(data=2, fsdp=2, tensor=2))
model = build(SMALL)
params = jax.device_put(PARAMS, parallel.shardings(mesh, model.axes, PARAMS, 'fsdp'))
with jax.set_mesh(mesh):
  tokens = parallel.place_batch(dict(tokens=np.repeat(TOKENS, 4, 0)), parallel.batch_sharding(mesh), 8)
  logits = jax.jit(model.apply)(params, tokens).logits
np.save(sys.argv[1], parallel.to_host(logits))
"""


@pytest.mark.slow
def test_eight_devices_say_what_one_does(tmp_path):
  fake_devices.run(ON_EIGHT, tmp_path / 'logits.npy')
  wanted = APPLY(PARAMS, dict(tokens=TOKENS)).logits
  np.testing.assert_allclose(
    np.load(tmp_path / 'logits.npy'), np.repeat(wanted, 4, 0), atol=1e-5
  )
