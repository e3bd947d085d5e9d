"""Subword tokenizers: trained the same way every time, saved as Hugging Face
`tokenizer.json`.

>>> tokenizer = train(['low lower lowest', 'new newer newest'], kind='wordpiece', size=120)
>>> tokenizer.decode(tokenizer.encode('newer low'))
'newer low'
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from tl_jax import files
from tl_jax.config import beside
from tl_jax.config.disguises import require_content
from tl_jax.data import backends, pairs, vocabularies

SENTINELS = 32
# What a role is called in the vocabularies that are around, nearest habit first.
ROLES = {
  'pad': ('[PAD]', '<pad>', '<|pad|>', '<|endoftext|>', '</s>'),
  'unk': ('[UNK]', '<unk>', '<|endoftext|>'),
  'cls': ('[CLS]',),
  'sep': ('[SEP]',),
  'mask': ('[MASK]', '<mask>'),
  'bos': (
    '<s>',
    '<bos>',
    '<|begin_of_text|>',
    '<|im_start|>',
    '<|endoftext|>',
    '[CLS]',
  ),
  'eos': ('</s>', '<eos>', '<|end_of_text|>', '<|im_end|>', '<|endoftext|>', '[SEP]'),
}
# How pieces spell a leading space, newline, tab, return: byte-level models by letters
# that stand for these bytes, SentencePiece by its own mark.
_SPACES = ('Ġ', 'Ċ', 'ĉ', 'č', '▁')


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """A trained tokenizer: text to ids and back, and what each id is for.

  `pad`, `unk`, `cls`, `sep`, `mask`, `bos`, `eos` are ids, or None where the vocabulary
  has no such piece (`pad` falls back to `eos`, then 0; a WordPiece vocabulary starts
  with [CLS] and ends with [SEP]). `sentinels` are the ids of <extra_id_0>,
  <extra_id_1>, ... `padding_side`, `chat_template` (a template, or templates by name;
  never executed here) and `settings` (what its `tokenizer_config.json` says besides)
  are those of the folder it came from.

  Special pieces written out in a text, as [SEP], are text: whoever writes a text must
  not command the model. With `parse_special` they are the pieces that they spell, for
  texts with entity marks, gaps or the turns of a chat.
  `dataclasses.replace(tokenizer, parse_special=True)` makes that choice for all texts.
  """

  backend: Any = dataclasses.field(repr=False, compare=False)
  digest: str
  vocabulary_size: int
  pad: int
  unk: int | None
  cls: int | None
  sep: int | None
  mask: int | None
  bos: int | None
  eos: int | None
  sentinels: tuple[int, ...] = dataclasses.field(repr=False)
  special_ids: tuple[int, ...] = dataclasses.field(repr=False)
  prefix: tuple[int, ...] = ()
  suffix: tuple[int, ...] = ()
  padding_side: Literal['left', 'right'] = 'right'
  chat_template: str | dict[str, str] | None = dataclasses.field(
    default=None, repr=False, hash=False
  )
  settings: dict[str, Any] = dataclasses.field(
    default_factory=dict, repr=False, compare=False
  )
  parse_special: bool = False

  @functools.cached_property
  def pieces(self) -> list[str]:
    """The piece of every id."""
    # Ids may have gaps: rows of an embedding that no piece uses.
    pieces = [''] * self.vocabulary_size
    for piece, i in self.backend.get_vocab(with_added_tokens=True).items():
      pieces[i] = piece
    return pieces

  @functools.cached_property
  def continues(self) -> np.ndarray:
    """bool (vocabulary,): does the piece go on with the word before it?"""
    model = json.loads(self.backend.to_str())['model']
    if model.get('type') == 'WordPiece':
      marks = [piece.startswith('##') for piece in self.pieces]
    else:
      # An id without a piece continues nothing.
      marks = [bool(piece) and not piece.startswith(_SPACES) for piece in self.pieces]
    found = np.array(marks, bool)
    found[list(self.special_ids)] = False
    return found

  @functools.cached_property
  def pair(self) -> tuple[tuple[int | str, int], ...]:
    """The frame of two texts as pairs (slot, type) in order.

    A slot is an id, or 'A' and 'B' where the texts stand.
    """
    found = backends.frame(self.backend, 2)
    if found:
      return found
    # What most encoders do: the suffix once more after the second text.
    before = [(i, 0) for i in self.prefix]
    between = [(i, 0) for i in self.suffix]
    after = [(i, 1) for i in self.suffix]
    return (*before, ('A', 0), *between, ('B', 1), *after)

  @functools.cached_property
  def _plain_backend(self):
    """The backend that reads special pieces in texts as text."""
    return backends.without_special(
      self.backend, self.pieces, self.special_ids, self.unk
    )

  @functools.cached_property
  def _parsing_backend(self):
    """The backend that finds special pieces in texts."""
    return backends.with_special(self.backend, self.pieces, self.special_ids)

  @property
  def reader(self):
    """The backend that reads texts: it finds special pieces in them or does not."""
    return self._parsing_backend if self.parse_special else self._plain_backend

  def encode(
    self,
    text: str,
    max_length: int | None = None,
    *,
    special: bool = True,
    parse_special: bool | None = None,
  ) -> list[int]:
    """The ids of a text, with [CLS] and [SEP] or the end of sequence if `special`; cut
    to `max_length`, ends kept.

    parse_special: are special pieces in the text found? None: as the field says.
    """
    return self.encode_batch(
      [text], max_length, special=special, parse_special=parse_special
    )[0]

  def encode_batch(
    self,
    texts: Sequence[str],
    max_length: int | None = None,
    *,
    special: bool = True,
    parse_special: bool | None = None,
  ) -> list[list[int]]:
    """The ids of many texts; a lone surrogate is read as a question mark."""
    parsed = self.parse_special if parse_special is None else parse_special
    backend = self._parsing_backend if parsed else self._plain_backend
    plain_texts = [plain(text) for text in texts]
    # Ids alone: it takes time to find out which characters a token stands for.
    encodings = backend.encode_batch_fast(plain_texts, add_special_tokens=False)
    prefix = list(self.prefix) if special else []
    suffix = list(self.suffix) if special else []
    room = None
    if max_length is not None:
      framed = len(prefix) + len(suffix)
      room = _room(max_length, framed)
    return [prefix + encoding.ids[:room] + suffix for encoding in encodings]

  def encode_spans(
    self, texts: Sequence[str]
  ) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """(ids, spans) of many texts without special tokens around them.

    A span is the first character that a token stands for, and that behind the last.
    """
    plain_texts = [plain(text) for text in texts]
    encodings = self.reader.encode_batch(plain_texts, add_special_tokens=False)
    return [(found.ids, found.offsets) for found in encodings]

  def encode_places(self, text: str) -> list[tuple[int, int, int]]:
    """(id, first, end) of every token of a text: the characters that it stands for.

    Special pieces in the text are those pieces; none are put around it.
    """
    encoding = self._parsing_backend.encode(plain(text), add_special_tokens=False)
    return [
      (i, first, end)
      for i, (first, end) in zip(encoding.ids, encoding.offsets, strict=True)
    ]

  def encode_pair(
    self,
    first: str,
    second: str,
    max_length: int | None = None,
    *,
    parse_special: bool | None = None,
  ) -> tuple[list[int], list[int]]:
    """(ids, types) of two texts in their frame, as [CLS] first [SEP] second [SEP].

    Beyond `max_length` tokens the longer text is cut from its end, as `pairs.shares`
    says.
    """
    a, b = self.encode_batch(
      [first, second], special=False, parse_special=parse_special
    )
    if max_length is not None:
      room = _room(max_length, len(self.pair) - 2)
      first, second = pairs.shares(len(a), len(b), room)
      a, b = a[:first], b[:second]
    texts = {'A': a, 'B': b}
    ids, types = [], []
    for slot, kind in self.pair:
      piece = texts.get(slot, [slot])
      ids += piece
      types += [kind] * len(piece)
    return ids, types

  def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
    """The text of ids. Special pieces are left out unless `special`.

    With `parse_special` only the pieces that begin, end or fill are left out. The
    others are part of the texts then, such as the sentinels that a T5 answers with.
    """
    hidden = set(self.special_ids)
    if self.parse_special:
      hidden = {self.pad, self.bos, self.eos, *self.prefix, *self.suffix}
    ids = [int(i) for i in ids]
    if not special:
      ids = [i for i in ids if i not in hidden]
    # The library's own skipping goes by its registered pieces, which are not all.
    return self.backend.decode(ids, skip_special_tokens=False)

  def save(self, path) -> pathlib.Path:
    """Writes `tokenizer.json` under a temporary name, then renames it.

    A `path` that does not end in .json is the folder to write it into.
    """
    path = _file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = self.backend.to_str(pretty=True) + '\n'
    files.write_atomically(path, text.encode())
    return path


def plain(text: str) -> str:
  """The text with a question mark for every lone surrogate, which no encoder takes.

  Half of a character is what a truncated text or an escape such as \\ud83d in JSON
  leaves.

  >>> plain('good \\ud83d film')
  'good ? film'
  """
  return text if text.isascii() else text.encode('utf-8', 'replace').decode('utf-8')


def _room(max_length: int, framed: int) -> int:
  """Tokens left for the texts. Raises ValueError where the frame alone is too long."""
  if max_length < framed:
    raise ValueError(
      f'max_length: {max_length} leaves no room for {framed} special tokens'
    )
  return max_length - framed


def load(path) -> Tokenizer:
  """The tokenizer of a `tokenizer.json`, ours or any other.

  Raises ValueError that names the file if it is missing or no tokenizer.
  """
  import tokenizers

  path = _file(path)
  if not path.is_file():
    raise ValueError(f'{path}: no such tokenizer{beside(path)}')
  content = path.read_bytes()
  require_content(path, content)
  try:
    backend = tokenizers.Tokenizer.from_str(content.decode('utf-8-sig'))
  # The library raises bare Exception for every damaged file.
  except Exception as error:  # noqa: BLE001
    reason = ' '.join(str(error).split())[:200]
    raise ValueError(f'{path}: not a tokenizer: {reason}') from error
  return wrap(backend)


def _file(path) -> pathlib.Path:
  """The file itself for a path that ends in .json, else `tokenizer.json` below it."""
  path = pathlib.Path(path)
  return path if path.suffix == '.json' else path / 'tokenizer.json'


def wrap(backend, roles: dict[str, int | None] | None = None, **fields) -> Tokenizer:
  """A Tokenizer around one of the `tokenizers` library.

  Padding and truncation that the backend carries are switched off. `roles` gives ids
  that are known better than by the names of pieces. `fields` are `padding_side`,
  `chat_template` and `settings`.
  """
  backend.no_padding()
  backend.no_truncation()
  backend.encode_special_tokens = True
  vocabulary = backend.get_vocab(with_added_tokens=True)
  ids = _ids_of_roles(vocabulary) | (roles or {})
  sentinels = _sentinels(vocabulary)
  registered = backend.get_added_tokens_decoder().items()
  special_ids = {i for i, token in registered if token.special}
  # What a folder's configuration calls special need not be registered in its backend.
  special_ids.update(ids[role] for role in ROLES if ids[role] is not None)
  special_ids.update(sentinels)
  prefix, suffix = backends.affixes(backend)
  pad = ids.pop('pad')
  if pad is None:
    pad = 0 if ids['eos'] is None else ids['eos']
  checksum = hashlib.sha256(backend.to_str().encode())
  highest = max(vocabulary.values())
  return Tokenizer(
    backend=backend,
    digest=checksum.hexdigest(),
    vocabulary_size=highest + 1,
    pad=pad,
    sentinels=tuple(sentinels),
    prefix=prefix,
    suffix=suffix,
    special_ids=tuple(sorted(special_ids)),
    **ids,
    **fields,
  )


def _ids_of_roles(vocabulary: dict[str, int]) -> dict[str, int | None]:
  """The id of the first usual piece of each role that the vocabulary has, or None."""
  found = {}
  for role, pieces in ROLES.items():
    there = [vocabulary[piece] for piece in pieces if piece in vocabulary]
    found[role] = there[0] if there else None
  return found


def _sentinels(vocabulary: dict[str, int]) -> list[int]:
  """The ids of <extra_id_0>, <extra_id_1>, ... up to the first that is missing."""
  found = []
  while f'<extra_id_{len(found)}>' in vocabulary:
    found.append(vocabulary[f'<extra_id_{len(found)}>'])
  return found


# Pieces that need no text: the special ones, all bytes, the alphabet that is kept.
FREE = 2**16


def train(
  texts: Iterable[str],
  kind: Literal['wordpiece', 'bpe'] = 'wordpiece',
  size: int = 8192,
  *,
  lowercase: bool = True,
  sentinels: int = SENTINELS,
  least: int = 2,
) -> Tokenizer:
  """Trains a vocabulary of at most `size` pieces: BERT's WordPiece, or byte-level byte
  pairs (Sennrich et al. 2016).

  The result is a function of the multiset of texts: equal bytes in every process, with
  any number of threads. `lowercase` also strips accents, for WordPiece only. `least` is
  the count below which a pair is not merged.
  """
  if kind not in ('wordpiece', 'bpe'):
    raise ValueError(f"kind: {kind!r} is not one of 'wordpiece', 'bpe'")
  # A list: the texts are gone through more than once.
  texts = [plain(text) for text in texts]
  if not any(text.strip() for text in texts):
    raise ValueError('tokenizer: no text to train on')
  # By the names that T5 has for them, so that others find them too.
  extra = [f'<extra_id_{i}>' for i in range(sentinels)]
  # The trainers make room for `size` pieces before they look at the texts.
  size = min(size, most_pieces(texts, sentinels))
  if kind == 'wordpiece':
    backend, vocabulary = vocabularies.train_wordpiece(
      texts, size, extra, lowercase=lowercase, least=least
    )
  else:
    backend, vocabulary = vocabularies.train_byte_pairs(texts, size, extra, least=least)
  # The trainers keep the alphabet and the special pieces even beyond `size`.
  if len(vocabulary) > size:
    raise ValueError(
      f'config.tokenizer.size: {size} is too small for the alphabet and the special '
      f'pieces; nearest: {len(vocabulary)}'
    )
  return wrap(backend)


def most_pieces(texts: Sequence[str], sentinels: int) -> int:
  """More pieces than any training on these texts can find.

  >>> most_pieces(['low', 'lower'], sentinels=0) > 2 * len('lowlower')
  True
  """
  # A piece is a symbol of the alphabet, twice in WordPiece, or a merge, of which each
  # leaves the texts a symbol shorter. Without accents a character may become several.
  symbols = sum(len(text.encode('utf-8', 'surrogatepass')) for text in texts)
  return FREE + sentinels + 8 * symbols
