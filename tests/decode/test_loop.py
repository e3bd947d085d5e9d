"""Greedy decoding and sampling with a model whose logits depend on the whole prefix."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.decode import Decoding, generate, loop
from tl_jax.decode.generation import key_of

PROMPTS = [[3, 1, 4], [5], [9, 2, 6, 5, 3], [7, 7]]


@pytest.fixture(scope='module')
def toy(toys):
  return toys.Hashing(vocabulary=12)


@pytest.fixture(scope='module')
def decoder(toy):
  return toy.decoder()


def greedy_by_hand(toy, log_softmax, prompt, options, source=None):
  ids, new, score = list(prompt), [], 0.0
  while len(new) < options.max_new_tokens:
    raw = toy.logits(ids + new, source)
    logits = np.array(raw, np.float64)
    for token in set(ids + new) if options.repetition_penalty != 1 else ():
      logits[token] *= (
        options.repetition_penalty
        if logits[token] < 0
        else 1 / options.repetition_penalty
      )
    whole = tuple(ids + new)
    for token in range(len(logits)):
      ended = whole + (token,)
      size = options.no_repeat_ngram
      grams = [whole[i : i + size] for i in range(len(whole) - size + 1)]
      if (size and ended[len(ended) - size :] in grams) or any(
        ended[-len(word) :] == word for word in options.bad_words
      ):
        logits[token] = -np.inf
    if len(new) < options.min_new_tokens:
      logits[list(options.eos)] = -np.inf
    forced = {
      0: options.forced_bos,
      options.max_new_tokens - 1: options.forced_eos,
    }.get(len(new))
    if forced:
      logits[[token not in forced for token in range(len(logits))]] = -np.inf
    logits[list(options.suppress)] = -np.inf
    if len(new) == bool(options.forced_bos):
      logits[list(options.begin_suppress)] = -np.inf
    new.append(int(np.argmax(logits)))
    score += log_softmax(raw)[new[-1]]
    if new[-1] in options.eos:
      break
  return new, score


@pytest.mark.parametrize(
  'options',
  [
    dict(),
    dict(eos=(4, 9), pad=11),
    dict(eos=tuple(range(0, 12, 2)), min_new_tokens=3),
    dict(repetition_penalty=1.5, eos=8),
    dict(repetition_penalty=0.7),
    dict(no_repeat_ngram=1),
    dict(no_repeat_ngram=2),
    dict(suppress=(1, 4, 8), begin_suppress=(2, 11)),
    dict(bad_words=((2,), (10, 1), (5, 5, 1)), no_repeat_ngram=3),
    dict(forced_bos=4, forced_eos=9, begin_suppress=7, eos=9),
  ],
)
@pytest.mark.parametrize('left', [True, False])
def test_greedy_is_the_chain_of_the_most_likely(toy, toys, decoder, options, left):
  options = Decoding(max_new_tokens=8, **options)
  found = generate(decoder, None, toys.lay(PROMPTS, left=left, pad=2), options)
  for row, prompt in enumerate(PROMPTS):
    new, score = greedy_by_hand(toy, toys.log_softmax, prompt, options)
    assert found.tokens[row, 0].tolist() == new + [options.pad] * (8 - len(new))
    assert found.lengths[row, 0] == len(new) and found.scores[row, 0] == pytest.approx(
      score, abs=1e-4
    )


def test_an_encoder_decoder_is_penalised_for_its_own_tokens_only(toy, toys):
  sources, starts = PROMPTS, [[0], [0, 5], [0], [0, 1, 2]]
  batch = {**toys.lay(sources, left=False), **toys.lay(starts, 'decoder_')}
  options = Decoding(max_new_tokens=6, repetition_penalty=3.0, eos=1)
  found = generate(toy.decoder('encoder-decoder'), None, batch, options)
  for row, (source, start) in enumerate(zip(sources, starts, strict=True)):
    new, score = greedy_by_hand(toy, toys.log_softmax, start, options, source)
    assert found.tokens[row, 0, : len(new)].tolist() == new
    assert found.scores[row, 0] == pytest.approx(score, abs=1e-4)


def test_samples_follow_the_model(toys):
  """Chi-square over the 16 pairs of tokens, which shows the draws of two positions to
  be independent, too.
  """
  toy, many = toys.Hashing(vocabulary=4, spread=2.0, seed=3), 4000
  options = Decoding('sample', samples=many, max_new_tokens=2, temperature=0.8, seed=5)
  found = generate(toy.decoder(), None, toys.lay([[1, 2]]), options)
  counts = np.bincount(np.asarray(found.tokens[0] @ np.array([4, 1])), minlength=16)
  first = np.exp(toys.log_softmax(toy.logits([1, 2]) / 0.8))
  second = np.exp(
    [toys.log_softmax(toy.logits([1, 2, token]) / 0.8) for token in range(4)]
  )
  expected = many * (first[:, None] * second).reshape(-1)
  assert expected.min() > 5
  # 0.999 of 15 degrees of freedom
  assert ((counts - expected) ** 2 / expected).sum() < 37.7
  raw = [
    toys.log_softmax(toy.logits([1, 2]))[a] + toys.log_softmax(toy.logits([1, 2, a]))[b]
    for a, b in np.asarray(found.tokens[0, :20])
  ]
  # of the model, not of what was drawn
  assert np.allclose(found.scores[0, :20], raw, atol=1e-4)


def test_first_draws_of_many_rows_follow_the_model(toys):
  toy, rows = toys.Hashing(vocabulary=5, spread=2.0), 3000
  found = generate(
    toy.decoder(), None, toys.lay([[1]] * rows), Decoding('sample', max_new_tokens=1)
  )
  expected = rows * np.exp(toys.log_softmax(toy.logits([1])))
  counts = np.bincount(np.asarray(found.tokens).reshape(-1), minlength=5)
  # 0.999 of 4 degrees of freedom
  assert ((counts - expected) ** 2 / expected).sum() < 18.5


@settings(max_examples=12)
@given(
  st.lists(
    st.lists(st.integers(0, 11), min_size=1, max_size=6), min_size=1, max_size=4
  ),
  st.booleans(),
  st.integers(0, 2**40),
)
def test_batched_is_single(toy_for_laws, prompts, left, seed):
  toys, decoder = toy_for_laws
  options = Decoding(
    'sample',
    samples=2,
    max_new_tokens=6,
    eos=4,
    seed=seed,
    top_k=8,
    repetition_penalty=1.2,
  )
  filled = prompts + [[1]] * (4 - len(prompts))
  together = generate(
    decoder, None, toys.lay(filled, length=6, left=left), options, row_offset=10
  )
  for row, prompt in enumerate(prompts):
    alone = generate(
      decoder, None, toys.lay([prompt], length=6), options, row_offset=10 + row
    )
    assert all(
      (one[row] == other[0]).all()
      for one, other in zip(together[:2], alone[:2], strict=True)
    )
    assert np.allclose(together.scores[row], alone.scores[0], atol=1e-5)


@pytest.fixture(scope='module')
def toy_for_laws(toys, decoder):
  return toys, decoder


def test_draws_depend_on_seed_row_and_sample(toys, decoder):
  batch = toys.lay([[1, 2]] * 2)
  run = lambda **more: np.asarray(
    generate(decoder, None, batch, Decoding('sample', samples=2, **more)).tokens
  )
  found = [run(seed=0), run(seed=1), run(seed=2**32)]
  every = [tuple(sequence) for tokens in found for sequence in tokens.reshape(4, -1)]
  assert len(set(every)) == len(every)
  assert (run(seed=1) == found[1]).all()


def test_pieces_of_the_loop_are_the_whole_loop(toys, decoder):
  options, batch = (
    Decoding('sample', samples=2, max_new_tokens=9, eos=4),
    toys.lay(PROMPTS),
  )
  whole = generate(decoder, None, batch, options)
  state = jax.jit(functools.partial(loop.begin, decoder, None, settings=options))(
    batch, key=key_of(options), numbers=np.arange(4), live=np.ones(4, bool)
  )
  piece = jax.jit(functools.partial(loop.advance, decoder, None, settings=options))
  for until in (2, 5, 9):
    state = piece(state, until=until)
  assert (state.tokens.reshape(4, 2, 9) == whole.tokens).all()
  assert (state.lengths.reshape(4, 2) == whole.lengths).all()


def test_the_loop_ends_with_the_last_sequence(toys):
  """Rows that are not live, ended from outside or at an end of sequence take no further
  step.
  """
  toy = toys.Hashing(vocabulary=12, favoured=((4, 50.0),))
  options, batch = Decoding(max_new_tokens=9, eos=4), toys.lay(PROMPTS)
  begin = functools.partial(
    loop.begin, toy.decoder(), None, batch, key=key_of(options), numbers=np.arange(4)
  )
  state = loop.advance(
    toy.decoder(), None, begin(settings=options, live=np.ones(4, bool)), options, 9
  )
  assert state.step == 1 and state.done.all() and (state.lengths == 1).all()
  endless = Decoding(max_new_tokens=9)
  state = begin(settings=endless, live=np.array([True, True, False, False]))
  assert state.done.tolist() == [
    False,
    False,
    True,
    True,
  ] and state.lengths.tolist() == [1, 1, 0, 0]
  state = loop.advance(toy.decoder(), None, state, endless, 3)
  state = loop.advance(
    toy.decoder(), None, state, endless, 9, np.array([True, True, False, False])
  )
  assert state.step == 3 and state.lengths.tolist() == [3, 3, 0, 0]
