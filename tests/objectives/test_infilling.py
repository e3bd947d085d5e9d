"""BART's noise: 30 % of the words in spans of Poisson lengths, one mask for each, and
sentences in another order.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.objectives import infilling
from tl_jax.objectives.infilling import (
  Places,
  content_of,
  insert,
  permute_sentences,
  poisson,
  span_lengths,
  spans,
)
from tl_jax.objectives.span import Text

PAD, BOS, EOS, MASK, STOP = 0, 2, 3, 4, 9
VOCABULARY = 400
# The last of them go on with a word.
CONTINUES = np.arange(VOCABULARY) >= 300
SPECIAL = np.isin(np.arange(VOCABULARY), (PAD, 1, BOS, EOS, MASK))


def build(**more):
  objective = infilling(
    mask_id=MASK,
    stop_id=STOP,
    pad_id=PAD,
    start_id=EOS,
    special_ids=(PAD, 1, BOS, EOS, MASK),
    continues=CONTINUES,
    **more,
  )
  return objective._replace(prepare=jax.jit(objective.prepare))


def framed(words):
  """Rows <s> words </s>."""
  words = np.asarray(words)
  ends = np.ones((len(words), 1), int)
  return jnp.asarray(np.concatenate([BOS * ends, words, EOS * ends], 1))


@pytest.fixture(scope='module')
def plain():
  """(tokens, batch): two thousand texts of 100 different words."""
  tokens = framed(np.broadcast_to(np.arange(100, 200), (2000, 100)))
  out = build(permute=False).prepare(jax.random.key(0), {'tokens': tokens})
  return np.asarray(tokens), jax.device_get(out)


def test_thirty_percent_are_hidden_behind_one_mask_for_each_span(plain):
  tokens, out = plain
  read = out['tokens']
  kept = ((read >= 100) & (read < 200)).sum(1)
  masks = (read == MASK).sum(1)
  hidden = 100 - kept
  # Spans that meet hide less than the budget of 30 words, and none hides more. The means
  # and deviations are those of 20,000 rows of a walk as BART's code takes it.
  assert hidden.max() == 30
  assert abs(hidden.mean() - 26.77) < 4 * 2.23 / 2000**0.5
  assert abs(masks.mean() - 8.82) < 4 * 1.97 / 2000**0.5
  # The words that are left are in their order, between the ends.
  assert (read[:, 0] == BOS).all()
  for row in range(50):
    text = read[row][out['segments'][row] > 0].tolist()
    words = [token for token in text if token >= 100]
    assert words == sorted(words) and text[-1] == EOS and text[0] == BOS


def test_the_decoder_writes_the_whole_text(plain):
  tokens, out = plain
  assert (out['targets'] == tokens).all() and (out['target_weights'] == 1).all()
  assert (out['decoder_tokens'][:, 0] == EOS).all()
  assert (out['decoder_tokens'][:, 1:] == tokens[:, :-1]).all()


def test_lengths_are_of_a_poisson_distribution():
  cdf = poisson(3.0)
  chances = np.diff(np.concatenate([[0.0], cdf, [1.0]]))
  exact = [math.exp(-3) * 3**k / math.factorial(k) for k in range(len(chances))]
  np.testing.assert_allclose(chances, exact, atol=1e-7)
  assert abs(chances @ np.arange(len(chances)) - 3) < 1e-5
  # A mean below the least chance starts with the longest of all lengths: none.
  assert poisson(1e-9).size <= 1 and poisson(40.0).size > 60


@pytest.mark.parametrize(
  ('drawn', 'budget', 'expected'),
  [
    ([2, 0, 5, 1], 4, [2, 0, 2, -1]),
    ([4, 0, 0, 0], 4, [4, -1, -1, -1]),
    ([0, 0, 9, 9], 1, [0, 0, 1, -1]),
    ([3, 3, 3, 3], 0, [-1, -1, -1, -1]),
  ],
)
def test_the_last_span_is_cut_to_the_budget(drawn, budget, expected):
  assert span_lengths(jnp.array(drawn), budget).tolist() == expected


def reference(starts, sizes, begins, content):
  """(head, hidden) as a walk along the row finds them, span by span."""
  hidden = np.zeros(len(content), bool)
  inside = np.zeros(len(content), bool)
  for start, size in zip(starts, sizes, strict=True):
    place, left = start, size
    while place < len(content) and content[place]:
      left -= begins[place]
      if left < 0:
        break
      hidden[place] = True
      inside[place] |= place > start
      place += 1
  head = np.zeros(len(content), bool)
  head[list(starts)] = True
  return head & ~inside, hidden


def test_spans_hide_what_a_walk_along_the_row_hides():
  random = np.random.default_rng(0)
  find = jax.jit(spans)
  for _ in range(40):
    segments = np.repeat([1, 2, 0], [14, 10, 4])
    content = segments > 0
    content[[0, 13, 14, 23]] = False
    begins = content & (random.random(28) < 0.6)
    begins[[1, 15]] = True
    sizes = np.full(28, -1)
    sizes[:4] = random.integers(0, 5, 4)
    noise = random.random(28).astype(np.float32)
    head, hidden = find(content, begins, segments, sizes, noise)
    words = np.flatnonzero(begins)
    order = words[np.argsort(noise[words])]
    wanted = sizes[sizes > 0]
    # At the border of a segment the walk meets what is no content.
    expected = reference(order[: len(wanted)], wanted, begins, content)
    np.testing.assert_array_equal(head, expected[0])
    np.testing.assert_array_equal(hidden, expected[1])


def test_words_are_hidden_whole():
  pieces = np.where(np.arange(90) % 3, 300 + np.arange(90), 100 + np.arange(90))
  tokens = framed(np.broadcast_to(pieces, (300, 90)))
  out = build(permute=False).prepare(jax.random.key(2), {'tokens': tokens})
  read = np.asarray(out['tokens'])
  kept = np.isin(pieces, read[0])
  for row in range(300):
    kept = np.isin(pieces, read[row]).reshape(-1, 3)
    assert (kept.all(1) | ~kept.any(1)).all()
    assert 30 - kept.all(1).sum() <= 9


def test_masks_are_put_between_tokens_every_place_as_likely():
  text = Text(jnp.array([BOS, 10, 11, EOS, 0]), jnp.array([1, 1, 1, 1, 0]))
  places = Places(text.segments > 0, jnp.array([False, True, True, True, False]))

  def make(noise, wanted=1):
    return insert(text, places, wanted, noise, 6, MASK, PAD)

  make = jax.jit(jax.vmap(make))
  noise = jax.random.uniform(jax.random.key(0), (3000, 10))
  wanted = jnp.ones(3000, int).at[-2].set(2).at[-1].set(9)
  made = jax.device_get(make(noise, wanted))
  two, crowded = made.tokens[-2], made.tokens[-1]
  made = jax.tree.map(lambda x: x[:-2, :5], made)
  assert (made.segments == 1).all()
  where = np.bincount((made.tokens == MASK).argmax(1), minlength=5)
  assert where[[0, 4]].tolist() == [0, 0]
  assert abs(where[1:4] - 1000).max() < 4.5 * (3000 * 2 / 9) ** 0.5
  # Two masks may stand side by side, and of more than have room there are fewer.
  assert two[two != MASK].tolist() == [BOS, 10, 11, EOS]
  assert crowded[crowded != MASK].tolist() == [BOS, 10, 11, EOS]


def sentences(tokens, segments=None, rows=60):
  """The rows that permutations of one row make."""
  tokens = jnp.asarray(tokens)
  segments = jnp.ones_like(tokens) if segments is None else jnp.asarray(segments)
  content = content_of(tokens, segments, jnp.asarray(SPECIAL))
  noise = jax.random.uniform(jax.random.key(0), (rows, len(tokens)))
  permute = lambda noise: permute_sentences(tokens, segments, content, STOP, noise)
  return np.asarray(jax.jit(jax.vmap(permute))(noise))


def test_sentences_change_places_every_order_as_likely():
  row = [BOS, 10, STOP, 20, 21, STOP, 30, 31, EOS]
  made = sentences(row, rows=1200)
  orders, counts = np.unique(made, axis=0, return_counts=True)
  assert len(orders) == 6
  assert abs(counts - 200).max() < 4.5 * (1200 * 5 / 36) ** 0.5
  assert (orders[:, 0] == BOS).all() and (orders[:, -1] == EOS).all()
  assert [BOS, 30, 31, 20, 21, STOP, 10, STOP, EOS] in orders.tolist()


def test_sentences_stay_in_their_segments():
  row = [10, STOP, 20, 21, EOS, 0, 30, STOP, 40, 41, EOS]
  segments = [1, 1, 1, 1, 1, 0, 2, 2, 2, 2, 2]
  orders = np.unique(sentences(row, segments), axis=0).tolist()
  firsts = ([10, STOP, 20, 21, EOS], [20, 21, 10, STOP, EOS])
  seconds = ([30, STOP, 40, 41, EOS], [40, 41, 30, STOP, EOS])
  expected = [[*first, 0, *second] for first in firsts for second in seconds]
  assert sorted(orders) == sorted(expected)


def test_of_several_stops_the_first_ends_the_sentence():
  # As in BART's code, the last stop of a text that ends with two stays where it is.
  row = [BOS, 10, STOP, STOP, 20, STOP, STOP, EOS]
  orders = np.unique(sentences(row), axis=0).tolist()
  assert sorted(orders) == [
    [BOS, STOP, 20, STOP, 10, STOP, STOP, EOS],
    [BOS, 10, STOP, STOP, 20, STOP, STOP, EOS],
  ]


def test_a_last_sentence_of_one_word_behind_a_stop_stays():
  # As in BART's code, which counts the last word of a text as a stop.
  orders = np.unique(sentences([BOS, 10, STOP, 20, EOS], rows=9), axis=0)
  assert orders.tolist() == [[BOS, 10, STOP, 20, EOS]]


def test_a_packed_row_keeps_its_texts_apart():
  tokens = np.concatenate([framed([np.arange(100, 130)] * 40)] * 2, 1)
  tokens = np.concatenate([tokens, np.zeros((40, 6), int)], 1)
  segments = np.broadcast_to(np.repeat([1, 2, 0], [32, 32, 6]), tokens.shape)
  batch = {'tokens': jnp.asarray(tokens), 'segments': jnp.asarray(segments)}
  out = jax.device_get(build().prepare(jax.random.key(5), batch))
  for row in range(40):
    for number in (1, 2):
      text = out['tokens'][row][out['segments'][row] == number]
      assert text[0] == BOS and text[-1] == EOS
      assert (text == BOS).sum() == (text == EOS).sum() == 1
  assert (out['target_weights'] == (segments > 0)).all()


def test_a_row_of_padding_stays_one():
  batch = {'tokens': jnp.zeros((2, 8), int), 'segments': jnp.zeros((2, 8), int)}
  out = build().prepare(jax.random.key(0), batch)
  assert (out['tokens'] == PAD).all() and not float(out['target_weights'].sum())


def test_a_tokenizer_without_a_mask_is_refused():
  with pytest.raises(ValueError, match='mask_id: the tokenizer has no piece'):
    infilling(
      mask_id=None,
      stop_id=STOP,
      pad_id=PAD,
      start_id=EOS,
      special_ids=(),
      continues=CONTINUES,
    )
