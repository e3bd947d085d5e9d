"""Texts packed into rows come back in their order, whatever the batches are."""

import numpy as np
import pytest

from tl_jax import models
from tl_jax.evals import passes


class Letters:
  """A tokenizer with an id for each letter, between a beginning and an end."""

  pad = 0
  suffix = (2,)

  def encode_batch(self, texts):
    return [[1, *map(ord, text), 2] if text else [] for text in texts]


def reader(**fields):
  arch = models.arch('tiny', vocabulary=200, max_positions=4096)
  return passes.Reader(Letters(), arch, **{'length': 300, 'rows': 4, **fields})


def forward(batch):
  """For each example of a row the sum of its tokens and their number."""
  members = batch['segments'][:, None, :] == batch['examples'][:, :, None]
  members &= batch['examples'][:, :, None] > 0
  sums = (members * batch['tokens'][:, None, :]).sum(-1)
  return np.stack([sums, members.sum(-1)], -1).astype(np.float32)


@pytest.mark.parametrize(
  'fields', [{}, dict(rows=1), dict(rows=7), dict(multiple=8), dict(alone=True)]
)
def test_every_text_has_its_own_answer(monkeypatch, fields):
  monkeypatch.setattr(passes, 'WINDOW', 40)
  draw = np.random.default_rng(0)
  lengths = draw.integers(0, 400, 103)
  texts = ['a' * length for length in lengths]
  shapes = set()

  def watched(batch):
    shapes.add(batch['tokens'].shape)
    return forward(batch)

  seen = []
  windows = list(
    passes.run(
      reader(**fields), watched, np.asarray, 2, texts, lambda *told: seen.append(told)
    )
  )
  assert [len(window) for window in windows] == [40, 40, 23]
  found = np.concatenate(windows)
  taken = np.minimum(lengths, 298)
  wanted = np.stack([97.0 * taken + 3, taken + 2.0], -1)
  wanted[lengths == 0] = np.nan
  np.testing.assert_array_equal(found, wanted)
  assert seen[-1] == ((lengths[80:] > 0).sum(), (lengths > 298).sum())
  # Few shapes: a program is compiled for each.
  assert {shape[1] for shape in shapes} <= {128, 192, 256, 384}
  assert len(shapes) <= 4
  assert all(rows % fields.get('multiple', 1) == 0 for rows, _ in shapes)


def test_short_texts_fill_the_rows_of_long_ones():
  sizes = np.array([250, 130, 6])
  rows = passes.plan_rows(sizes, alone=False)
  assert rows == [(256, [0, 2]), (192, [1])]
  alone = passes.plan_rows(sizes, alone=True)
  assert alone == [(256, [0]), (192, [1]), (128, [2])]


def test_little_is_padding():
  draw = np.random.default_rng(1)
  sizes = np.minimum(512, draw.lognormal(3.6, 0.7, 2048).astype(int) + 3)
  rows = passes.plan_rows(sizes, alone=False)
  assert sizes.sum() > 0.98 * sum(length for length, _ in rows)
  assert sorted(i for _, members in rows for i in members) == list(range(2048))


def test_an_id_without_a_row_is_refused():
  texts = ['z' * 5]
  small = reader()._replace(arch=models.arch('tiny', vocabulary=50))
  with pytest.raises(ValueError, match='an id of 122'):
    list(passes.run(small, forward, np.asarray, 2, texts))


def test_no_text_is_no_window():
  assert list(passes.run(reader(), forward, np.asarray, 2, [])) == []
  (nothing,) = passes.run(reader(), forward, np.asarray, 2, ['', ''])
  assert np.isnan(nothing).all() and nothing.shape == (2, 2)


def test_what_is_no_number_is_no_answer():
  def broken(batch):
    return np.full_like(forward(batch), np.inf)

  with pytest.raises(ValueError, match='no finite numbers'):
    list(passes.run(reader(), broken, np.asarray, 2, ['a']))
