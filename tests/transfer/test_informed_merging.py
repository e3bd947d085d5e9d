"""Means weighed by information: Fisher merging and RegMean."""

import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.transfer import merging

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from merged import agree, by_leaf, random_trees, values  # noqa: E402


def test_fisher_by_hand():
  found = merging.fisher(
    [values(1, 1, 1), values(5, 5, 5)], [values(3, 0, 1), values(1, 1, 0)], floor=1e-9
  )
  np.testing.assert_allclose(found['w'], [2, 5, 1], rtol=1e-6)
  found = merging.fisher([values(1), values(5)], [values(1), values(1)], [3, 1])
  assert found['w'].tolist() == pytest.approx([2])


def test_regmean_recovers_what_every_source_knows():
  """Two sources that each saw half of the inputs, and are right there only: merged,
  they are right everywhere.
  """
  generator = np.random.default_rng(0)
  right = generator.normal(size=(4, 3))
  inputs = [np.diag([1.0, 1, 0, 0])[:2], np.diag([0.0, 0, 1, 1])[2:]]
  kernels = [right * (np.abs(rows).sum(0) > 0)[:, None] for rows in inputs]
  found = merging.regmean(
    [
      {'k': jnp.asarray(kernel), 'b': jnp.full(3, float(index))}
      for index, kernel in enumerate(kernels)
    ],
    [{'k': rows.T @ rows} for rows in inputs],
  )
  np.testing.assert_allclose(found['k'], right, rtol=1e-5)
  assert found['b'].tolist() == [0.5] * 3


def test_regmean_is_equation_2():
  trees = random_trees(3, seed=4)
  generator = np.random.default_rng(5)
  grams = [rows.T @ rows for rows in generator.normal(size=(3, 9, 4))]
  shrunk = [0.9 * gram + 0.1 * np.diag(np.diag(gram)) for gram in grams]
  kernel = 'layers/0/kernel'
  found = merging.regmean(
    trees, [{kernel: gram, 'embedding/tokens': np.eye(7)} for gram in grams], '.*kernel'
  )
  agree(
    found,
    by_leaf(
      lambda name, *held: (
        np.mean(held, 0)
        if name != kernel
        else np.linalg.inv(sum(shrunk))
        @ sum(gram @ leaf for gram, leaf in zip(shrunk, held, strict=True))
      ),
      *trees,
    ),
    1e-4,
  )
