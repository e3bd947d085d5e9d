"""Losses of vectors against sums written out, and over several devices."""

import types

import fake_devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.objectives import contrastive, similarity


def loss_of(objective, vectors, batch):
  """The loss of a batch from these vectors (rows, examples, texts * width)."""

  def forward(batch, **how):
    del batch, how
    return types.SimpleNamespace(logits=vectors)

  (term,) = objective.loss(forward, batch, None)[0].values()
  (weight,) = objective.weights(batch).values()
  return term.sum / weight


def drawn(texts: int, seed: int = 0):
  """(vectors, batch) of three examples in two rows, with one empty place."""
  vectors = jax.random.normal(jax.random.key(seed), (2, 2, texts * 4))
  examples = np.arange(1, 2 * texts + 1).reshape(1, 2, texts).repeat(2, 0)
  examples[1, 1] = 0
  labels = np.arange(4 * texts, dtype=np.float32).reshape(2, 2, texts)
  return vectors, dict(examples=jnp.array(examples), labels=jnp.array(labels))


def units(vectors, texts: int):
  """The unit vectors (3, texts, width) of the three examples."""
  rows = np.asarray(vectors, np.float64).reshape(4, texts, 4)[:3]
  return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def by_hand(anchors, candidates, right):
  """The mean of -log softmax of the right candidate, at temperature .05."""
  found = []
  for anchor, place in zip(anchors, right, strict=True):
    powers = [np.exp(anchor @ each / 0.05) for each in candidates]
    found.append(-np.log(powers[place] / sum(powers)))
  return np.mean(found)


def test_negatives_are_all_other_texts_of_the_batch():
  vectors, batch = drawn(2)
  rows = units(vectors, 2)
  first, second = rows[:, 0], rows[:, 1]
  forth = by_hand(first, second, range(3))
  assert float(loss_of(contrastive(), vectors, batch)) == pytest.approx(forth, rel=1e-5)
  back = by_hand(second, first, range(3))
  both = float(loss_of(contrastive(symmetric=True), vectors, batch))
  assert both == pytest.approx((forth + back) / 2, rel=1e-5)


def test_third_texts_are_wrong_for_every_example():
  vectors, batch = drawn(3)
  rows = units(vectors, 3)
  candidates = [*rows[:, 1], *rows[:, 2]]
  wanted = by_hand(rows[:, 0], candidates, range(3))
  assert float(loss_of(contrastive(), vectors, batch)) == pytest.approx(
    wanted, rel=1e-5
  )


def test_the_same_text_is_no_negative():
  vectors, batch = drawn(2)
  # The second example has the first one's right answer.
  batch['labels'] = batch['labels'].at[0, 1, 1].set(batch['labels'][0, 0, 1])
  rows = units(vectors, 2)
  found = []
  for place, candidates in enumerate(([0, 2], [1, 2], [0, 1, 2])):
    own = [rows[each, 1] for each in candidates]
    found.append(by_hand([rows[place, 0]], own, [candidates.index(place)]))
  wanted = np.mean(found)
  assert float(loss_of(contrastive(), vectors, batch)) == pytest.approx(
    wanted, rel=1e-5
  )


@pytest.mark.parametrize('objective', [contrastive(), contrastive(symmetric=True)])
def test_an_empty_place_has_no_gradient_whatever_it_holds(objective):
  vectors, batch = drawn(3)
  vectors = vectors.at[1, 1].set(jnp.nan)
  slope = jax.grad(lambda vectors: loss_of(objective, vectors, batch))(vectors)
  assert np.isfinite(slope).all()
  assert not slope[1, 1].any() and slope[0].all()


def test_scores_count_by_their_order_alone():
  vectors, batch = drawn(2)
  scores = jnp.array([[[3.0], [1.0]], [[1.0], [9.0]]])
  batch['labels'] = scores
  rows = units(vectors, 2)
  cosines = (rows[:, 0] * rows[:, 1]).sum(-1)
  total = 1.0
  for high, low in ((0, 1), (0, 2)):
    total += np.exp((cosines[low] - cosines[high]) / 0.05)
  found = float(loss_of(similarity(), vectors, batch))
  assert found == pytest.approx(np.log(total), rel=1e-5)
  batch['labels'] = jnp.square(scores)
  assert float(loss_of(similarity(), vectors, batch)) == found


ON_DEVICES = """
import jax, numpy as np
import test_contrastive as given
from tl_jax import parallel
from tl_jax.objectives import contrastive

rows = 8
vectors = jax.random.normal(jax.random.key(1), (rows, 2, 12))
examples = np.tile(np.arange(1, 7).reshape(1, 2, 3), (rows, 1, 1))
labels = np.arange(rows * 6, dtype=np.float32).reshape(rows, 2, 3)
batch = dict(examples=examples, labels=labels, vectors=np.asarray(vectors))

def value(batch):
  own = {name: batch[name] for name in ('examples', 'labels')}
  return given.loss_of(contrastive(symmetric=True), batch['vectors'], own)

mesh = parallel.make_mesh(parallel.MeshShape(), jax.devices())
sharding = parallel.batch_sharding(mesh)
with jax.set_mesh(mesh):
  placed = parallel.place_batch(batch, sharding, rows)
  print(len(placed['vectors'].sharding.device_set), float(jax.jit(value)(placed)))
alone = jax.tree.map(lambda leaf: jax.device_put(leaf, jax.devices()[0]), batch)
print(float(jax.jit(value)(alone)))
"""


def test_negatives_come_from_all_devices():
  program = f'import sys; sys.path.insert(0, "tests/objectives")\n{ON_DEVICES}'
  out, _ = fake_devices.run(program)
  many, alone = out.split('\n')[:2]
  count, value = many.split()
  assert count == '8'
  assert float(value) == pytest.approx(float(alone), rel=1e-6)
