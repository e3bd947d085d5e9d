"""Where tokens stand in rows of several texts."""

import jax.numpy as jnp

from tl_jax.segments import one_left, one_right, positions_of, segments_of, starts_of

SEGMENTS = jnp.array([[1, 1, 1, 2, 2, 0, 0], [3, 1, 1, 1, 1, 1, 1]])


def test_positions_restart_in_each_segment_and_padding_has_none():
  assert positions_of(SEGMENTS).tolist() == [
    [0, 1, 2, 0, 1, 0, 0],
    [0, 0, 1, 2, 3, 4, 5],
  ]


def test_padding_in_front_moves_no_position():
  padded = jnp.pad(SEGMENTS[1:], ((0, 0), (2, 0)))
  assert positions_of(padded)[:, 2:].tolist() == positions_of(SEGMENTS[1:]).tolist()


def test_every_run_has_one_start():
  starts = starts_of(SEGMENTS)
  assert starts.sum(1).tolist() == [3, 2]
  assert starts[:, 0].all()


def test_a_batch_without_segments_is_one_text_a_row():
  tokens = jnp.array([[5, 6], [7, 8]])
  assert segments_of({'tokens': tokens}).tolist() == [[1, 1], [1, 1]]
  assert segments_of({'tokens': tokens, 'segments': None}).tolist() == [[1, 1], [1, 1]]
  decoder = {'decoder_tokens': tokens, 'decoder_segments': tokens}
  assert segments_of(decoder, 'decoder_tokens', 'decoder_segments') is tokens


def test_what_moves_out_of_a_row_is_lost():
  row = jnp.array([[5, 6, 7]])
  assert one_right(row, first=9).tolist() == [[9, 5, 6]]
  assert one_left(row).tolist() == [[6, 7, 0]]
