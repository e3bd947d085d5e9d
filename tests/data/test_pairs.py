"""Two texts in one frame: as the tokenizers library puts and cuts them."""

import functools

import numpy as np
import pytest

from tl_jax.data import pairs, pipeline, tokenizers, tokens
from tl_jax.data.pairs import Pair

WORDS = ['a', 'cat', 'the', 'dog', 'runs', 'over', 'hills', 'and', 'far', 'away']
CORPUS = [' '.join(WORDS[place:] + WORDS[:place]) for place in range(12)]
TEXTS = [
  Pair('the cat', 'a dog runs over hills'),
  Pair(' '.join(WORDS), 'the dog'),
  Pair(' '.join(WORDS), ' '.join(WORDS[:9])),
  Pair(' '.join(WORDS[:9]), ' '.join(WORDS)),
  Pair(' '.join(WORDS), ' '.join(WORDS[::-1])),
  Pair('', 'far away'),
]


def roberta():
  """Byte pairs whose frames are <s> A </s> and <s> A </s></s> B </s>."""
  from tokenizers import processors

  trained = tokenizers.train(CORPUS, kind='bpe', size=400)
  backend = trained.backend
  begin, end = (backend.token_to_id(piece) for piece in ('<s>', '</s>'))
  backend.post_processor = processors.RobertaProcessing(('</s>', end), ('<s>', begin))
  return tokenizers.wrap(backend)


MAKE = {
  'wordpiece': functools.partial(tokenizers.train, CORPUS, kind='wordpiece', size=200),
  'roberta': roberta,
}


@pytest.fixture(scope='module', params=MAKE)
def tokenizer(request):
  return MAKE[request.param]()


def frame(texts, tokenizer, length):
  def encode(plain):
    return tokens.TokenList(tokenizer.encode_batch(plain, special=False))

  return pairs.frame(texts, tokenizer, length, encode)


@pytest.mark.parametrize('length', [4, 5, 6, 9, 10, 17, 18, 64])
def test_pairs_are_put_and_cut_as_the_library_does(tokenizer, length):
  length += len(tokenizer.pair) - 5
  framed = frame(TEXTS, tokenizer, length)
  library = type(tokenizer.backend).from_str(tokenizer.backend.to_str())
  whole = [library.encode(text.first, text.second) for text in TEXTS]
  library.enable_truncation(length, strategy='longest_first')
  assert framed.whole.tolist() == [len(each.ids) for each in whole]
  for place, text in enumerate(TEXTS):
    wanted = library.encode(text.first, text.second)
    assert framed[place].tolist() == wanted.ids
    assert framed.types[place].tolist() == wanted.type_ids
    assert framed.lengths[place] == len(wanted.ids)
    found = tokenizer.encode_pair(text.first, text.second, length)
    assert found == (wanted.ids, wanted.type_ids)


def test_a_text_alone_has_its_own_frame_among_pairs(tokenizer):
  length = 8
  framed = frame([CORPUS[0], TEXTS[2], 'a cat', ''], tokenizer, length)
  for place, text in ((0, CORPUS[0]), (2, 'a cat'), (3, '')):
    assert framed[place].tolist() == tokenizer.encode(text, length)
    assert framed.types[place].tolist() == [0] * framed.lengths[place]
  assert framed.lengths.tolist()[:2] == [8, 8]


def test_types_begin_anew_with_every_example_of_a_row():
  tokenizer = MAKE['wordpiece']()
  framed = frame(TEXTS, tokenizer, 32)
  examples = pipeline.Examples(framed, labels=np.arange(6), types=framed.types)
  layout = pipeline.Layout(64, examples_per_row=4)
  row = layout.fill(examples, [0, 5])
  first, second = (list(framed.types[place]) for place in (0, 5))
  rest = [0] * (64 - len(first) - len(second))
  assert row['types'].tolist() == first + second + rest
  assert row['positions'][len(first)] == 0 and set(first) == set(second) == {0, 1}
  # Others have no such input, so their programs are what they were.
  plain = pipeline.Examples(framed, labels=np.arange(6))
  assert 'types' not in layout.fill(plain, [0])


def test_a_pair_is_its_joined_text():
  named = Pair('a', 'b', 'x: a\ny: b')
  assert named == 'x: a\ny: b' and (named.first, named.second) == ('a', 'b')
  assert Pair('', '', '') == '' and Pair('a', 'b') == 'a\nb'


def test_a_tokenizer_that_keeps_no_texts_apart_has_no_frame():
  from tokenizers import processors

  tokenizer = MAKE['wordpiece']()
  assert pairs.are_framed(['one', TEXTS[0]], tokenizer)
  assert not pairs.are_framed(['one', str(TEXTS[0])], tokenizer)
  assert pairs.spelled(tokenizer) == '[CLS] A [SEP] B [SEP]'
  backend = tokenizers.train(CORPUS, kind='bpe', size=400).backend
  # GPT-2 and mBART: nothing between two texts.
  backend.post_processor = processors.ByteLevel()
  assert not pairs.are_framed(TEXTS, tokenizers.wrap(backend))
  assert pairs.spelled(roberta()) == '<s> A </s> </s> B </s>'


def test_a_frame_without_room_is_refused(tokenizer):
  framing = len(tokenizer.pair) - 2
  with pytest.raises(ValueError, match=f'{framing} leaves no room beside {framing}'):
    frame(TEXTS, tokenizer, framing)
