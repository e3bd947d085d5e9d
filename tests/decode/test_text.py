"""Continuations of texts: in order, cut at stop strings, the same in whatever batches,
from few programs.
"""

import itertools
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.config import ConfigError
from tl_jax.data import tokenizers
from tl_jax.decode import Decoding, continue_texts, generate, generation, text

ALPHABET = '_abcdefghij.'
TEXTS = ['abc', 'j', 'hgfedcba' * 3, 'bb', 'cab', 'ifj', 'a' * 15, 'gg.']


class Letters:
  """A tokenizer with a letter per id; it remembers nothing and adds nothing."""

  prefix = ()

  def encode_batch(self, texts, *, special):
    return [
      [ALPHABET.index(letter) for letter in one] + [11] * special for one in texts
    ]

  def decode(self, ids):
    return ''.join(ALPHABET[i] for i in ids)


@pytest.fixture(scope='module')
def decoder(toys):
  return toys.Hashing(vocabulary=12).decoder()


@pytest.fixture(scope='module')
def encoder_decoder(toys):
  return toys.Hashing(vocabulary=12).decoder('encoder-decoder')


def one_by_one(toys, decoder, options, texts):
  """The tokens of every text, decoded alone and without text in between."""
  found = []
  for number, one in enumerate(texts):
    ids = Letters().encode_batch([one], special=False)
    found.append(
      generate(decoder, None, toys.lay(ids, length=32), options, row_offset=number)
    )
  return found


def test_texts_come_back_in_order_whatever_the_batches(toys, decoder):
  options = Decoding('sample', samples=2, max_new_tokens=6, eos=4)
  alone = one_by_one(toys, decoder, options, TEXTS)
  for batch, window in [(3, 2), (8, 1), (1, 1)]:
    found = list(
      continue_texts(
        decoder, None, Letters(), iter(TEXTS), options, batch=batch, window=window
      )
    )
    assert len(found) == len(TEXTS)
    for several, expected in zip(found, alone, strict=True):
      for i, one in enumerate(several):
        tokens = expected.tokens[0, i, : expected.lengths[0, i]].tolist()
        assert list(one.tokens) == tokens and one.score == pytest.approx(
          float(expected.scores[0, i]), abs=1e-4
        )
        assert one.end == ('eos' if tokens[-1] == 4 else 'length')
        assert one.text == Letters().decode(tokens[:-1] if tokens[-1] == 4 else tokens)


@settings(max_examples=8)
@given(
  st.lists(
    st.sampled_from(['a', 'cd', '.', 'jj', 'fb', 'e']),
    min_size=1,
    max_size=3,
    unique=True,
  ),
  st.sampled_from([1, 3, 16]),
)
def test_stop_strings_cut_and_pieces_change_nothing(everything, stop, chunk):
  toys, decoder, whole = everything
  options = Decoding('sample', samples=2, max_new_tokens=12, eos=4, stop=tuple(stop))
  found = list(
    continue_texts(decoder, None, Letters(), TEXTS, options, batch=4, chunk=chunk)
  )
  for several, uncut in zip(found, whole, strict=True):
    for one, full in zip(several, uncut, strict=True):
      places = [full.text.index(end) for end in stop if end in full.text]
      assert one.text == full.text[: min(places, default=None)]
      assert one.end == ('stop' if places else full.end)
      assert one.tokens == full.tokens[: len(one.tokens)]
      if places:
        spelled = Letters().decode(one.tokens)
        assert any(end in spelled for end in stop) and not any(
          end in spelled[:-1] for end in stop
        )
      else:
        assert one.tokens == full.tokens and one.score == pytest.approx(
          full.score, abs=1e-4
        )


@pytest.fixture(scope='module')
def everything(toys, decoder):
  options = Decoding('sample', samples=2, max_new_tokens=12, eos=4)
  return (
    toys,
    decoder,
    list(continue_texts(decoder, None, Letters(), TEXTS, options, batch=4)),
  )


def test_a_stop_string_ends_the_work(toys):
  """A model that says 'a' and nothing else must not be run to the end."""
  steps = []
  toy = toys.Hashing(vocabulary=12, favoured=((1, 90.0),)).decoder()
  fetch = lambda tree: (
    steps.append(int(tree[0])),
    [np.asarray(leaf) for leaf in tree],
  )[1]
  options = Decoding(max_new_tokens=50, stop='aaa')
  found = list(
    continue_texts(
      toy, None, Letters(), ['b', 'cc', 'd'], options, chunk=4, fetch=fetch
    )
  )
  assert [one.text for (one,) in found] == [''] * 3 and [
    one.tokens for (one,) in found
  ] == [(1, 1, 1)] * 3
  assert steps == [1, 5]


def test_beams_are_cut_after_the_search(decoder):
  options = dict(method='beam', beams=3, samples=2, max_new_tokens=6, eos=4)
  whole = list(continue_texts(decoder, None, Letters(), TEXTS[:2], Decoding(**options)))
  letter = whole[0][0].text[1]
  cut = list(
    continue_texts(
      decoder, None, Letters(), TEXTS[:2], Decoding(**options, stop=letter)
    )
  )
  assert (
    cut[0][0].text == whole[0][0].text.partition(letter)[0] and cut[0][0].end == 'stop'
  )
  assert cut[0][0].score == pytest.approx(whole[0][0].score)
  assert whole[0][0].score >= whole[0][1].score


def test_an_encoder_decoder_reads_the_text_and_begins_with_start(toys, encoder_decoder):
  options = Decoding(max_new_tokens=5, start=(0, 3))
  found = list(
    continue_texts(encoder_decoder, None, Letters(), TEXTS, options, batch=3)
  )
  sources = Letters().encode_batch(TEXTS, special=True)
  batch = {**toys.lay(sources), **toys.lay([[0, 3]] * len(TEXTS), 'decoder_')}
  expected = generate(encoder_decoder, None, batch, options)
  assert [list(one.tokens) for (one,) in found] == expected.tokens[:, 0].tolist()
  with pytest.raises(ConfigError, match='start: an encoder-decoder needs the id'):
    continue_texts(encoder_decoder, None, Letters(), TEXTS, Decoding())


def test_many_lengths_share_few_programs(toys):
  decoder = toys.Hashing(vocabulary=12, seed=99).decoder()
  before = generation.run._cache_size()
  texts = ['a' * length for length in range(1, 41)]
  assert (
    len(
      list(
        continue_texts(
          decoder, None, Letters(), texts, Decoding(max_new_tokens=2), batch=4
        )
      )
    )
    == 40
  )
  assert generation.run._cache_size() - before <= 3  # lengths 16, 32 and 64


def test_batches_on_a_mesh_are_multiples_and_go_through_place(toys, decoder):
  shapes = []

  def place(batch):
    shapes.append({len(array) for array in batch.values()})
    return batch

  options = Decoding(max_new_tokens=3)
  found = list(
    continue_texts(
      decoder, None, Letters(), TEXTS[:5], options, batch=4, multiple=2, place=place
    )
  )
  assert shapes == [{4}, {2}]
  alone = continue_texts(decoder, None, Letters(), TEXTS[:5], options, batch=1)
  for (one,), (other,) in zip(found, alone, strict=True):
    assert (one.text, one.tokens, one.end) == (other.text, other.tokens, other.end)
    # Another number of rows is another program, which may round otherwise.
    assert one.score == pytest.approx(other.score)


@pytest.mark.parametrize(
  ('kind', 'texts', 'options', 'more', 'message'),
  [
    ('decoder', ['a', ''], {}, {}, 'text 1: it is empty, and there are no start ids'),
    (
      'decoder',
      ['a' * 30],
      dict(max_new_tokens=4),
      dict(positions=33),
      'text 0: its 30 tokens are more than the 33 positions of the model less 4 new ones',
    ),
    (
      'decoder',
      ['a'],
      dict(max_new_tokens=9),
      dict(positions=9),
      'max_new_tokens: 9 leaves no room for a prompt',
    ),
    (
      'encoder-decoder',
      ['a'],
      dict(start=(0, 1), max_new_tokens=8),
      dict(positions=9),
      'max_new_tokens: 8 after 2 start ids are more than the 9 positions',
    ),
    (
      'encoder-decoder',
      ['a' * 9],
      dict(start=0, max_new_tokens=8),
      dict(positions=9),
      'text 0: its 10 tokens are more than the 9 positions of the model$',
    ),
    ('decoder', ['a'], {}, dict(batch=0), 'batch: must be at least 1, got 0'),
  ],
)
def test_what_cannot_be_decoded_is_refused_by_number(
  toys, kind, texts, options, more, message
):
  with pytest.raises(ValueError, match=message):
    list(
      continue_texts(
        toys.Hashing().decoder(kind),
        None,
        Letters(),
        texts,
        Decoding(**options),
        **more,
      )
    )


def test_the_longest_prompt_that_fits_is_not_padded_beyond_the_positions(toys):
  decoder = toys.Hashing().decoder()
  checked = toys.Decoder(
    lambda params, batch, capacity: (
      (capacity <= 33 or pytest.fail(str(capacity)))
      and decoder.prefill(params, batch, capacity)
    ),
    decoder.step,
    'decoder',
  )
  (found,) = continue_texts(
    checked, None, Letters(), ['a' * 29], Decoding(max_new_tokens=4), positions=33
  )
  assert len(found[0].tokens) == 4


def test_results_come_before_the_whole_input_is_read(decoder):
  source = itertools.cycle(TEXTS)
  found = continue_texts(
    decoder, None, Letters(), source, Decoding(max_new_tokens=2), batch=2, window=1
  )
  assert [len(next(found)[0].tokens) for _ in range(3)] == [2, 2, 2]


def test_an_empty_prompt_is_its_start_ids_and_the_prefix(toys, decoder):
  class Prefixed(Letters):
    prefix = (7,)

  (found,) = continue_texts(
    decoder, None, Prefixed(), [''], Decoding(max_new_tokens=3, start=2)
  )
  expected = generate(decoder, None, toys.lay([[2, 7]]), Decoding(max_new_tokens=3))
  assert list(found[0].tokens) == expected.tokens[0, 0].tolist()


WORDS = [
  'low lower lowest slowly',
  'new newer newest',
  'wide wider widest naïve café',
] * 3


@pytest.mark.parametrize('kind', ['wordpiece', 'bpe'])
def test_a_continuation_is_spelled_as_it_stands_after_its_prompt(kind):
  """Prompt and continuation, joined, are the text of all ids: no space is lost, no
  piece shows its marks.
  """
  tokenizer = tokenizers.train(WORDS, kind, 420 if kind == 'bpe' else 130)
  work = types.SimpleNamespace(
    tokenizer=tokenizer, settings=Decoding(eos=tokenizer.eos)
  )
  ids = tokenizer.encode('newer lowest slowly wider', special=False)
  for cut in range(1, len(ids)):
    spelled = text._spell(work, ids[:cut], [*ids[cut:], tokenizer.eos])
    assert tokenizer.decode(ids[:cut]) + spelled == 'newer lowest slowly wider'
