"""Vocabularies trained from texts, byte for byte the same every time.

>>> backend, vocabulary = train_wordpiece(['low lower', 'low new'] * 9, 60)
>>> backend.encode('low', add_special_tokens=False).tokens
['low']
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Characters a WordPiece vocabulary keeps, the most frequent first; others are unknown.
ALPHABET = 1000
# A vocabulary without room for so many characters is refused.
SMALLEST_ALPHABET = 8
# An alphabet with room for so many characters counts printable ASCII once more, so that
# it is there whether the texts use it or not.
ROOM_FOR_ASCII = 128
WORDPIECE = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
BYTE_PAIRS = ('<pad>', '<unk>', '<s>', '</s>', '<mask>')


class Steps(NamedTuple):
  """What a backend does around its model, in objects of the `tokenizers` library.

  `normalizer` (or None) and `pre_tokenizer` come before the model, `decoder` after it.
  `single` and `pair` are the templates that frame one text and two texts.
  """

  normalizer: Any
  pre_tokenizer: Any
  decoder: Any
  single: str
  pair: str


def train_wordpiece(
  texts: Sequence[str],
  size: int,
  extra: Sequence[str] = (),
  *,
  lowercase: bool = True,
  least: int = 2,
):
  """Trains BERT's WordPiece (Devlin et al. 2019); returns (backend, {piece: id}).

  `extra` are special pieces beside [PAD], [UNK], [CLS], [SEP] and [MASK]. Pairs that
  occur less than `least` times are not merged. Raises ValueError where `size` leaves no
  room for an alphabet.
  """
  from tokenizers import Tokenizer as Backend
  from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

  normalizer = normalizers.BertNormalizer(lowercase=lowercase)
  pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  specials = [*WORDPIECE, *extra]
  # Each character takes two pieces, `a` and `##a`: with a third of the vocabulary as
  # alphabet, a third is left for longer pieces.
  room = min(ALPHABET, (size - len(specials)) // 3)
  if room < SMALLEST_ALPHABET:
    raise ValueError(
      f'config.tokenizer.size: {size} is too small for {len(specials)} special pieces and '
      f'an alphabet; nearest: {len(specials) + 3 * SMALLEST_ALPHABET}'
    )
  alphabet = _alphabet(texts, normalizer, room)
  # The library numbers the `##` characters in the order of a randomly seeded hash map,
  # and breaks ties between pairs by these numbers. Given first and sorted, as if they
  # were special pieces, they have fixed numbers, and so has all that follows.
  continuing = [f'##{character}' for character in alphabet]
  trainer = trainers.WordPieceTrainer(
    vocab_size=size,
    min_frequency=least,
    show_progress=False,
    initial_alphabet=alphabet,
    limit_alphabet=len(alphabet),
    special_tokens=[*specials, *continuing],
  )
  scratch = Backend(models.WordPiece(unk_token='[UNK]'))
  scratch.normalizer = normalizer
  scratch.pre_tokenizer = pre_tokenizer
  scratch.train_from_iterator(texts, trainer)
  # A model of its own, so that the `##` characters are ordinary pieces again.
  vocabulary = scratch.get_vocab(with_added_tokens=True)
  model = models.WordPiece(
    vocab=vocabulary, unk_token='[UNK]', max_input_chars_per_word=200
  )
  steps = Steps(
    normalizer,
    pre_tokenizer,
    decoders.WordPiece(cleanup=False),
    single='[CLS] $A [SEP]',
    pair='[CLS] $A [SEP] $B:1 [SEP]:1',
  )
  return _finished(model, specials, steps), vocabulary


def train_byte_pairs(
  texts: Sequence[str], size: int, extra: Sequence[str] = (), *, least: int = 2
):
  """Trains byte-level byte pairs (Sennrich et al. 2016).

  Returns (backend, {piece: id}).

  `extra` are special pieces beside <pad>, <unk>, <s>, </s> and <mask>. Pairs that occur
  less than `least` times are not merged.
  """
  from tokenizers import Tokenizer as Backend
  from tokenizers import decoders, models, pre_tokenizers, trainers

  specials = [*BYTE_PAIRS, *extra]
  pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  # All 256 bytes, sorted: the library gives them in the order of a hash map.
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  trainer = trainers.BpeTrainer(
    vocab_size=size,
    min_frequency=least,
    show_progress=False,
    special_tokens=specials,
    initial_alphabet=alphabet,
  )
  scratch = Backend(models.BPE())
  scratch.pre_tokenizer = pre_tokenizer
  scratch.train_from_iterator(texts, trainer)
  state = json.loads(scratch.to_str())['model']
  merges = [tuple(merge) for merge in state['merges']]
  model = models.BPE(vocab=state['vocab'], merges=merges)
  steps = Steps(
    None,
    pre_tokenizer,
    decoders.ByteLevel(),
    single='$A </s>',
    pair='$A </s> $B:1 </s>:1',
  )
  return _finished(model, specials, steps), state['vocab']


def _finished(model, specials: Sequence[str], steps: Steps):
  """A backend with this model and these steps.

  The special pieces are registered as such, so that other readers of the file know
  them.
  """
  import tokenizers

  backend = tokenizers.Tokenizer(model)
  # Byte pairs take a text as it is.
  if steps.normalizer is not None:
    backend.normalizer = steps.normalizer
  backend.pre_tokenizer = steps.pre_tokenizer
  backend.decoder = steps.decoder
  backend.add_special_tokens(
    [tokenizers.AddedToken(piece, special=True, normalized=False) for piece in specials]
  )
  in_template = [piece for piece in specials if piece in steps.single]
  numbered = [(piece, backend.token_to_id(piece)) for piece in in_template]
  backend.post_processor = tokenizers.processors.TemplateProcessing(
    single=steps.single,
    pair=steps.pair,
    special_tokens=numbered,
  )
  return backend


def _alphabet(texts: Sequence[str], normalizer, most: int) -> list[str]:
  """The `most` most frequent characters of the normalized texts, in code order.

  Ties go to the lower code. White space and characters that the normalizer would change
  are left out: no normalized text holds them.
  """
  counts = _count_characters(texts, normalizer)
  if most >= ROOM_FOR_ASCII:
    counts[ord('!') : ord('~') + 1] += 1
  codes = np.flatnonzero(counts)
  by_frequency = codes[np.lexsort((codes, -counts[codes]))]
  kept = []
  for code in by_frequency.tolist():
    character = chr(code)
    if not character.isspace() and normalizer.normalize_str(character) == character:
      kept.append(code)
  return [chr(code) for code in sorted(kept[:most])]


def _count_characters(texts: Sequence[str], normalizer) -> np.ndarray:
  """How often each Unicode code occurs in the normalized texts, int64 (0x110000,)."""
  counts = np.zeros(0x110000, np.int64)
  # A thousand texts at a time: a call for each text costs more than its characters.
  for start in range(0, len(texts), 1000):
    text = normalizer.normalize_str('\n'.join(texts[start : start + 1000]))
    codes = np.frombuffer(text.encode('utf-32-le', 'replace'), np.uint32)
    values, found = np.unique(codes, return_counts=True)
    counts[values] += found
  return counts
