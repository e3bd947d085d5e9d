"""Subword tokenizers: trained the same way every time, saved as Hugging Face
`tokenizer.json`.

>>> tokenizer = train(['low lower lowest', 'new newer newest'], kind='wordpiece', size=120)
>>> tokenizer.decode(tokenizer.encode('newer low'))
'newer low'
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

SENTINELS = 32
# characters a WordPiece vocabulary keeps, the most frequent first; others are unknown
ALPHABET = 1000
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
WORDPIECE = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
BYTE_PAIRS = ('<pad>', '<unk>', '<s>', '</s>', '<mask>')
# how pieces spell a leading space, newline, tab, return
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
    pieces = [''] * self.vocabulary_size
    for piece, i in self.backend.get_vocab(with_added_tokens=True).items():
      pieces[i] = piece
    return pieces

  @functools.cached_property
  def continues(self) -> np.ndarray:
    """bool (vocabulary,): does the piece go on with the word before it?"""
    if json.loads(self.backend.to_str())['model'].get('type') == 'WordPiece':
      found = np.array([piece.startswith('##') for piece in self.pieces], bool)
    else:
      found = np.array(
        [bool(piece) and not piece.startswith(_SPACES) for piece in self.pieces], bool
      )
    found[list(self.special_ids)] = False
    return found

  @functools.cached_property
  def pair(self) -> tuple[tuple[int | str, int], ...]:
    """The frame of two texts, in order: (an id, or 'A' and 'B' where the texts stand;
    its type).
    """
    ends = [(i, 0) for i in self.prefix], [(i, 0) for i in self.suffix]
    return _frame(self.backend, 2) or (
      *ends[0],
      ('A', 0),
      *ends[1],
      ('B', 1),
      *((i, 1) for i, _ in ends[1]),
    )

  @functools.cached_property
  def _reader(self):
    """The backend that reads texts: one that finds no special pieces in them.

    A unigram model has them among its pieces, and would; so it knows them there by
    names that no text has.
    """
    hidden = set(self.special_ids) - {self.unk}
    spelled = self.backend.encode_batch(
      [self.pieces[i] for i in hidden], add_special_tokens=False
    )
    if not any(hidden.intersection(encoding.ids) for encoding in spelled):
      return self.backend
    state = json.loads(self.backend.to_str())
    model = state['model']
    # there the unknown piece is known by its number
    if isinstance(model['vocab'], list) and self.unk is not None:
      hidden.add(self.unk)
    names = {self.pieces[i]: f'\U0010ffff{i}\U0010fffe' for i in hidden}
    rename = lambda piece: names.get(piece, piece)
    if isinstance(model['vocab'], list):
      model['vocab'] = [(rename(piece), score) for piece, score in model['vocab']]
    else:
      model['vocab'] = {rename(piece): i for piece, i in model['vocab'].items()}
      if 'merges' in model:
        model['merges'] = [
          pair
          for pair in model['merges']
          if names.keys().isdisjoint((*pair, ''.join(pair)))
        ]
    for token in state['added_tokens']:
      token['content'] = rename(token['content'])
    state['post_processor'] = None
    reader = type(self.backend).from_str(json.dumps(state))
    reader.encode_special_tokens = True
    return reader

  @functools.cached_property
  def _parser(self):
    """The backend that finds special pieces in texts."""
    import tokenizers

    parser = type(self.backend).from_str(self.backend.to_str())
    known = parser.get_added_tokens_decoder()
    parser.add_special_tokens(
      [
        tokenizers.AddedToken(self.pieces[i], special=True, normalized=False)
        for i in self.special_ids
        if i not in known
      ]
    )
    parser.encode_special_tokens = False
    return parser

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
    backend = self._parser if parsed else self._reader
    texts = [plain(text) for text in texts]
    found = [
      encoding.ids for encoding in backend.encode_batch(texts, add_special_tokens=False)
    ]
    prefix, suffix = (list(self.prefix), list(self.suffix)) if special else ([], [])
    room = None if max_length is None else max_length - len(prefix) - len(suffix)
    if room is not None and room < 0:
      raise ValueError(
        f'max_length: {max_length} leaves no room for {len(prefix) + len(suffix)} special tokens'
      )
    return [prefix + ids[:room] + suffix for ids in found]

  def encode_pair(
    self,
    first: str,
    second: str,
    max_length: int | None = None,
    *,
    parse_special: bool | None = None,
  ) -> tuple[list[int], list[int]]:
    """(ids, types) of two texts as its frame puts them, as [CLS] first [SEP] second
    [SEP]; the longer text is cut.
    """
    a, b = self.encode_batch(
      [first, second], special=False, parse_special=parse_special
    )
    fixed = len(self.pair) - 2
    while max_length is not None and len(a) + len(b) + fixed > max_length:
      if not a and not b:
        raise ValueError(
          f'max_length: {max_length} leaves no room for {fixed} special tokens'
        )
      (a if len(a) >= len(b) else b).pop()
    parts = [({'A': a, 'B': b}.get(slot, [slot]), kind) for slot, kind in self.pair]
    return [i for ids, _ in parts for i in ids], [
      kind for ids, kind in parts for _ in ids
    ]

  def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
    """The text of ids; special pieces are left out unless asked for.

    With `parse_special` only those are that begin, end or fill: the others are part of
    the texts then, such as the sentinels that a T5 answers with.
    """
    ids = [int(i) for i in ids]
    hidden = self.special_ids
    if self.parse_special:
      hidden = (self.pad, self.bos, self.eos, *self.prefix, *self.suffix)
    hidden = frozenset() if special else frozenset(hidden)
    return self.backend.decode(
      [i for i in ids if i not in hidden], skip_special_tokens=False
    )

  def save(self, path) -> pathlib.Path:
    """Writes `tokenizer.json` (into `path` if that does not end in .json) under a
    temporary name, then renames it.
    """
    from tl_jax.data import store

    path = _file(path)
    store.write_atomically(path, (self.backend.to_str(pretty=True) + '\n').encode())
    return path


def plain(text: str) -> str:
  """The text with a question mark for every lone surrogate, which no encoder takes.

  Half of a character is what a truncated text or an escape such as \\ud83d in JSON
  leaves.

  >>> plain('good \\ud83d film')
  'good ? film'
  """
  return text if text.isascii() else text.encode('utf-8', 'replace').decode('utf-8')


def load(path) -> Tokenizer:
  """The tokenizer of a `tokenizer.json`, ours or any other; ValueError that names the
  file if it is none.
  """
  import tokenizers

  path = _file(path)
  if not path.is_file():
    raise ValueError(f'{path}: no such tokenizer')
  try:
    backend = tokenizers.Tokenizer.from_str(path.read_text(encoding='utf-8-sig'))
  except Exception as error:  # noqa: BLE001 - the library raises bare Exception for every damaged file
    raise ValueError(
      f'{path}: not a tokenizer: {" ".join(str(error).split())[:200]}'
    ) from error
  return wrap(backend)


def _file(path) -> pathlib.Path:
  path = pathlib.Path(path)
  return path if path.suffix == '.json' else path / 'tokenizer.json'


def wrap(backend, roles: dict[str, int | None] | None = None, **fields) -> Tokenizer:
  """A Tokenizer around one of the `tokenizers` library; padding and truncation that it
  carries are switched off.

  roles: ids known better than by the names of pieces; fields: `padding_side`,
  `chat_template`, `settings`.
  """
  backend.no_padding()
  backend.no_truncation()
  backend.encode_special_tokens = True
  vocabulary = backend.get_vocab(with_added_tokens=True)
  ids = {
    role: next((vocabulary[piece] for piece in pieces if piece in vocabulary), None)
    for role, pieces in ROLES.items()
  } | (roles or {})
  sentinels = []
  while f'<extra_id_{len(sentinels)}>' in vocabulary:
    sentinels.append(vocabulary[f'<extra_id_{len(sentinels)}>'])
  added = {
    i for i, token in backend.get_added_tokens_decoder().items() if token.special
  }
  known = {
    ids[role]
    for role in ('pad', 'cls', 'sep', 'mask', 'bos', 'eos', 'unk')
    if ids[role] is not None
  }
  prefix, suffix = _template(backend)
  pad = ids.pop('pad')
  pad = next((i for i in (pad, ids['eos']) if i is not None), 0)
  return Tokenizer(
    backend=backend,
    digest=hashlib.sha256(backend.to_str().encode()).hexdigest(),
    vocabulary_size=max(vocabulary.values()) + 1,
    pad=pad,
    sentinels=tuple(sentinels),
    prefix=prefix,
    suffix=suffix,
    special_ids=tuple(sorted(added | known | set(sentinels))),
    **ids,
    **fields,
  )


def _template(backend) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """The ids that the backend puts before and after one text."""
  slots = [slot for slot, _ in _frame(backend, 1)]
  if 'A' not in slots:
    return (), ()
  return tuple(slots[: slots.index('A')]), tuple(slots[slots.index('A') + 1 :])


def _frame(backend, texts: int) -> tuple[tuple[int | str, int], ...]:
  """What the backend puts around one or two texts: (id, or 'A' and 'B' where the texts
  stand; type); () if unknown.
  """
  samples = ['a', *itertools.islice(backend.get_vocab(with_added_tokens=False), 1000)]
  sample = next(
    (text for text in samples if backend.encode(text, add_special_tokens=False).ids),
    None,
  )
  if sample is None:
    return ()
  whole = backend.encode(*[sample] * texts)
  slots = [
    (i if text is None else 'AB'[text], kind)
    for i, text, kind in zip(whole.ids, whole.sequence_ids, whole.type_ids, strict=True)
  ]
  return tuple(
    slot
    for before, slot in zip([None, *slots], slots, strict=False)
    if isinstance(slot[0], int) or slot != before
  )


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
  texts = [plain(text) for text in texts]
  if not any(text.strip() for text in texts):
    raise ValueError('tokenizer: no text to train on')
  extra = [f'<extra_id_{i}>' for i in range(sentinels)]
  build = _train_wordpiece if kind == 'wordpiece' else _train_byte_pairs
  backend, vocabulary = build(texts, size, extra, lowercase, least)
  # A vocabulary beyond its special pieces must hold something to spell words with.
  if len(vocabulary) > size:
    raise ValueError(
      f'tokenizer: size {size} is too small; the alphabet and the special pieces need {len(vocabulary)}'
    )
  return wrap(backend)


def _finish(model, specials, normalizer, pre_tokenizer, decoder, template):
  """A backend with this model; the special pieces are registered as such, so that other
  readers know them.
  """
  import tokenizers

  backend = tokenizers.Tokenizer(model)
  if normalizer is not None:
    backend.normalizer = normalizer
  backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoder
  backend.add_special_tokens(
    [tokenizers.AddedToken(piece, special=True, normalized=False) for piece in specials]
  )
  backend.post_processor = tokenizers.processors.TemplateProcessing(
    single=template[0],
    pair=template[1],
    special_tokens=[
      (piece, backend.token_to_id(piece)) for piece in specials if piece in template[0]
    ],
  )
  return backend


def _train_wordpiece(texts, size, extra, lowercase, least):
  """The library numbers `##` characters in the order of a randomly seeded hash map, and
  breaks ties by number.

  So we number them first, sorted, as if they were special pieces; all that follows is
  then determined.
  """
  from tokenizers import Tokenizer as Backend
  from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

  normalizer = normalizers.BertNormalizer(lowercase=lowercase)
  specials = [*WORDPIECE, *extra]
  # Half of a small vocabulary must remain for pieces that are longer than a character.
  room = min(ALPHABET, (size - len(specials)) // 3)
  if room < 8:
    raise ValueError(
      f'tokenizer: size {size} is too small; {len(specials)} special pieces and an alphabet are needed'
    )
  alphabet = _alphabet(texts, normalizer, room)
  trainer = trainers.WordPieceTrainer(
    vocab_size=size,
    min_frequency=least,
    show_progress=False,
    initial_alphabet=alphabet,
    limit_alphabet=len(alphabet),
    special_tokens=[*specials, *(f'##{character}' for character in alphabet)],
  )
  scratch = Backend(models.WordPiece(unk_token='[UNK]'))
  scratch.normalizer, scratch.pre_tokenizer = (
    normalizer,
    pre_tokenizers.BertPreTokenizer(),
  )
  scratch.train_from_iterator(texts, trainer)
  vocabulary = scratch.get_vocab(with_added_tokens=True)
  model = models.WordPiece(
    vocab=vocabulary, unk_token='[UNK]', max_input_chars_per_word=200
  )
  return _finish(
    model,
    specials,
    normalizer,
    pre_tokenizers.BertPreTokenizer(),
    decoders.WordPiece(cleanup=False),
    ('[CLS] $A [SEP]', '[CLS] $A [SEP] $B:1 [SEP]:1'),
  ), vocabulary


def _alphabet(texts, normalizer, most: int) -> list[str]:
  """The most frequent characters of the normalised texts, in code order; ties go to the
  lower code.
  """
  counts = np.zeros(0x110000, np.int64)
  for start in range(0, len(texts), 1000):
    text = normalizer.normalize_str('\n'.join(texts[start : start + 1000]))
    codes = np.frombuffer(text.encode('utf-32-le', 'replace'), np.uint32)
    values, found = np.unique(codes, return_counts=True)
    counts[values] += found
  if most >= 128:
    counts[33:127] += 1  # printable ASCII is always worth a place, if there is room
  codes = np.flatnonzero(counts)
  codes = [
    int(code)
    for code in codes[np.lexsort((codes, -counts[codes]))]
    if not chr(code).isspace() and normalizer.normalize_str(chr(code)) == chr(code)
  ]
  return [chr(code) for code in sorted(codes[:most])]


def _train_byte_pairs(texts, size, extra, lowercase, least):
  from tokenizers import Tokenizer as Backend
  from tokenizers import decoders, models, pre_tokenizers, trainers

  specials = [*BYTE_PAIRS, *extra]
  split = pre_tokenizers.ByteLevel(add_prefix_space=False)
  trainer = trainers.BpeTrainer(
    vocab_size=size,
    min_frequency=least,
    show_progress=False,
    special_tokens=specials,
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
  )
  scratch = Backend(models.BPE())
  scratch.pre_tokenizer = split
  scratch.train_from_iterator(texts, trainer)
  state = json.loads(scratch.to_str())['model']
  model = models.BPE(
    vocab=state['vocab'], merges=[tuple(merge) for merge in state['merges']]
  )
  return _finish(
    model,
    specials,
    None,
    split,
    decoders.ByteLevel(),
    ('$A </s>', '$A </s> $B:1 </s>:1'),
  ), state['vocab']
