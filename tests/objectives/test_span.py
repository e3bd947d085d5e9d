"""Span corruption: what was cut can be put back, with T5's counts, inside each packed
segment.
"""

import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.objectives import span
from tl_jax.objectives.span import count_tables, cut

PAD, EOS, FIRST = 0, 1, 99
SENTINELS = tuple(range(FIRST, FIRST - 20, -1))
LENGTH, ROWS = 40, 3


def build(length, **more):
  return jax.jit(span(sentinels=SENTINELS, pad_id=PAD, eos_id=EOS, **more).prepare)


roomy = {rate: build(LENGTH, rate=rate, targets=2 * LENGTH) for rate in (0.15, 0.5)}


@st.composite
def rows(draw):
  """(tokens, segments) of packed rows with padding in front, behind and between; every
  segment ends with EOS.
  """
  random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  tokens, segments = (
    np.zeros((ROWS, LENGTH), np.int32),
    np.zeros((ROWS, LENGTH), np.int32),
  )
  for row in range(ROWS):
    place = draw(st.integers(0, 3))
    for number, size in enumerate(draw(st.lists(st.integers(1, 30), max_size=6)), 1):
      if place + size > LENGTH:
        break
      tokens[row, place : place + size] = random.integers(10, 60, size)
      tokens[row, place + size - 1] = EOS
      segments[row, place : place + size] = number
      place += size + draw(st.integers(0, 1))
  return {'tokens': jnp.asarray(tokens), 'segments': jnp.asarray(segments)}


def restore(encoder, target):
  """The text that an encoder text and its target came from."""
  assert encoder[-1] == EOS and target[-1] == EOS
  cuts = {}
  for token in target[:-1]:
    if token in SENTINELS:
      cuts[token] = []
      last = token
    else:
      cuts[last].append(token)
  assert (
    list(cuts)
    == list(SENTINELS[: len(cuts)])
    == [token for token in encoder if token in SENTINELS]
  )
  assert all(cuts.values())
  return [token for piece in encoder[:-1] for token in cuts.get(piece, [piece])]


@settings(max_examples=40, deadline=None)
@given(batch=rows(), rate=st.sampled_from((0.15, 0.5)), seed=st.integers(0, 99))
def test_the_text_can_be_put_back_segment_by_segment(batch, rate, seed):
  out = jax.device_get(roomy[rate](jax.random.key(seed), batch))
  batch = jax.device_get(batch)
  lost, spans = count_tables(rate, 3.0, LENGTH, len(SENTINELS))
  for row in range(ROWS):
    for number in set(batch['segments'][row].tolist()) - {0}:
      text = batch['tokens'][row][batch['segments'][row] == number].tolist()
      encoder = out['tokens'][row][out['segments'][row] == number].tolist()
      chosen = out['decoder_segments'][row] == number
      target = out['targets'][row][chosen].tolist()
      assert restore(encoder, target) == text[:-1]
      assert len(target) == lost[len(text) - 1] + spans[len(text) - 1] + 1
      # The first token of a text is kept, a text ends with a cut, and the decoder reads
      # its target one place late.
      assert len(text) < 3 or encoder[0] == text[0] and encoder[-2] in SENTINELS
      assert out['decoder_tokens'][row][chosen].tolist() == [PAD, *target[:-1]]
      assert out['decoder_positions'][row][chosen].tolist() == list(range(len(target)))
      assert out['positions'][row][out['segments'][row] == number].tolist() == list(
        range(len(encoder))
      )
    assert set(out['segments'][row].tolist()) | {0} == set(
      batch['segments'][row].tolist()
    ) | {0}
    assert (out['tokens'][row][out['segments'][row] == 0] == PAD).all()
  assert (out['target_weights'] == (out['decoder_segments'] > 0)).all()


def test_a_full_row_has_the_counts_of_t5():
  tokens = jnp.arange(200, 768).reshape(1, 568)
  names = range(32099, 31999, -1)
  out = span(sentinels=names, pad_id=PAD, eos_id=EOS).prepare(
    jax.random.key(0), {'tokens': tokens}
  )
  assert int((out['segments'] > 0).sum()) == 512
  assert int(out['target_weights'].sum()) == 114
  assert out['tokens'].shape == (1, 568) and out['targets'].shape == (1, 114 + 35)
  named = [token for token in out['tokens'][0].tolist() if token > 31999]
  assert named == list(range(32099, 32099 - 28, -1))


@pytest.mark.slow
def test_every_partition_is_equally_likely():
  # 8 tokens, 4 lost in 2 spans: 3 ways to cut the lost and 3 to cut the kept, 9 in all.
  lost, spans = count_tables(0.5, 2.0, 8, 10)
  assert (lost[8], spans[8]) == (4, 2)
  ones, trials = jnp.ones(8, jnp.int32), 9 * 400
  noise = jax.random.uniform(jax.random.key(1), (trials, 8))
  hidden = jax.vmap(lambda n: cut(ones > 0, ones, n, lost, spans))(noise)
  counts = Counter(tuple(row) for row in np.asarray(hidden).astype(int).tolist())
  ways = set()
  for (a, b), (c, d) in itertools.product([(1, 3), (2, 2), (3, 1)], repeat=2):
    ways.add((0,) * a + (1,) * c + (0,) * b + (1,) * d)
  assert set(counts) == ways
  assert max(abs(n - 400) for n in counts.values()) < 4.5 * (400 * 8 / 9) ** 0.5


def test_what_does_not_fit_into_the_targets_is_dropped_from_the_end():
  batch = {'tokens': jnp.arange(10, 50).reshape(1, 40)}
  whole = build(40, targets=30)(jax.random.key(4), batch)
  part = build(40, targets=5)(jax.random.key(4), batch)
  assert (part['targets'] == whole['targets'][:, :5]).all() and part[
    'targets'
  ].shape == (1, 5)
  assert (part['tokens'] == whole['tokens']).all() and float(
    part['target_weights'].sum()
  ) == 5


@pytest.mark.slow
def test_more_spans_than_sentinels_become_fewer_longer_spans():
  few = span(sentinels=(99, 98), pad_id=PAD, eos_id=EOS, targets=40)
  out = few.prepare(jax.random.key(0), {'tokens': jnp.arange(10, 90).reshape(1, 80)})
  encoder = out['tokens'][0][out['segments'][0] > 0].tolist()
  target = out['targets'][0][out['target_weights'][0] > 0].tolist()
  assert [token for token in encoder if token > 90] == [99, 98] and len(
    target
  ) == 12 + 2 + 1


@pytest.mark.parametrize('sentinels', [(), (5, 5)])
def test_sentinels_must_be_different_ids(sentinels):
  with pytest.raises(ValueError, match='sentinels: '):
    span(sentinels=sentinels, pad_id=PAD, eos_id=EOS)


def test_an_encoder_row_of_t5_is_filled_by_568_tokens():
  # The figures of T5's own code: 568 tokens of text give 512 and 114 (with the end).
  objective = span(sentinels=range(999, 899, -1), pad_id=PAD, eos_id=EOS, length=512)
  assert objective.inputs([568, 569]).tolist() == [512, 513]
  text = jnp.arange(100, 668)[None]
  out = jax.jit(objective.prepare)(jax.random.key(0), {'tokens': text})
  assert out['tokens'].shape == (1, 512) and (out['segments'] == 1).all()
  assert int(out['target_weights'].sum()) == 114


@pytest.mark.parametrize(
  ('rate', 'mean'), [(0.15, 3.0), (0.5, 3.0), (0.5, 32.0), (0.3, 1.0)]
)
def test_what_a_text_takes_is_what_it_becomes(rate, mean):
  objective = span(
    sentinels=SENTINELS,
    pad_id=PAD,
    eos_id=EOS,
    rate=rate,
    mean=mean,
    length=2 * LENGTH,
    targets=2 * LENGTH,
  )
  prepare = jax.jit(objective.prepare)
  sizes = np.arange(1, LENGTH + 1)
  rows = np.arange(LENGTH) < sizes[:, None]
  batch = {'tokens': np.where(rows, 20, PAD), 'segments': rows.astype(np.int32)}
  made = (prepare(jax.random.key(0), batch)['segments'] > 0).sum(1)
  np.testing.assert_array_equal(made, objective.inputs(sizes))
  # A text that ends with its own end takes no more.
  batch['tokens'][np.arange(LENGTH), sizes - 1] = EOS
  assert ((prepare(jax.random.key(0), batch)['segments'] > 0).sum(1) <= made).all()
