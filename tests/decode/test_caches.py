"""Caches: repeated for the samples of a prompt, reordered for its beams, and what a
batch must hold.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.decode import caches


def test_reordering_moves_rows_among_the_beams_of_their_prompt_only():
  rows, beams = 3, 4
  leaf = jnp.arange(rows * beams * 2).reshape(rows * beams, 2)
  memory = {'states': jnp.arange(12)}
  parents = jnp.array(np.random.default_rng(0).integers(0, beams, (rows, beams)))
  found = caches.reorder(
    {'layers': {'0': leaf, '1': leaf[:, 0]}, 'length': jnp.array(5), 'memory': memory},
    parents,
  )
  expected = np.asarray(leaf)[
    (np.arange(rows)[:, None] * beams + np.asarray(parents)).reshape(-1)
  ]
  assert (found['layers']['0'] == expected).all() and (
    found['layers']['1'] == expected[:, 0]
  ).all()
  assert found['length'] == 5 and found['memory'] is memory


def test_repeating_keeps_the_samples_of_a_row_together():
  found = caches.repeat({'memory': jnp.array([[1], [2]]), 'length': jnp.array(3)}, 2)
  assert found['memory'].tolist() == [[1], [1], [2], [2]] and found['length'] == 3


@pytest.mark.parametrize(
  ('kind', 'batch', 'message'),
  [
    (
      'decoder',
      dict(tokens=(2, 3)),
      "no 'segments', which a model of kind 'decoder' needs",
    ),
    (
      'decoder',
      dict(tokens=(2, 3), segments=(2, 4)),
      'tokens and segments must both be',
    ),
    (
      'decoder',
      dict(tokens=(2, 0), segments=(2, 0)),
      'tokens and segments must both be',
    ),
    ('encoder-decoder', dict(tokens=(2, 3), segments=(2, 3)), "no 'decoder_tokens'"),
    ('encoder', dict(tokens=(2, 3), segments=(2, 3)), "'encoder' is not one of"),
  ],
)
def test_a_batch_of_another_kind_is_refused_by_name(toys, kind, batch, message):
  with pytest.raises(ValueError, match=message):
    caches.prompt_of(
      toys.Decoder(None, None, kind),
      {name: np.ones(shape, np.int32) for name, shape in batch.items()},
    )
