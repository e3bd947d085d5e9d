"""Tokenizers of sentencepiece models: each family numbers the pieces in its own way.

The readers take and return what those of `tokenizer_files` do.

>>> guess_family('spiece.model', ('<pad>', '</s>', '<unk>', 'a'), 'unigram')
't5'
"""

import pathlib
import struct

from tl_jax.interop import (
  contents,
  pipelines,
  sentencepiece,
  tokenizer_files,
  tokenizer_settings,
  translators,
)
from tl_jax.interop import tokenizer_families as families
from tl_jax.interop.tokenizer_files import Read
from tl_jax.interop.tokenizer_settings import DeclaredSettings, plain_token

MOST_SENTINELS = 10_000
# Of T5, where neither the folder nor the model says
SENTINELS = 100
_FAMILIES = (
  't5',
  'albert',
  'xlm-roberta',
  'camembert',
  'deberta-v2',
  'llama',
  'gemma',
  'pegasus',
  *translators.CODES,
)


def read_model(path: pathlib.Path, declared: DeclaredSettings) -> Read:
  """A sentencepiece model file. Raises ValueError that names it if it is none."""
  return from_pieces(path, _read_pieces(path), declared)


def _read_pieces(path: pathlib.Path) -> sentencepiece.Pieces:
  try:
    return sentencepiece.read(contents.read_bytes(path))
  except (ValueError, struct.error) as error:
    raise ValueError(f'{path}: not a sentencepiece model: {error}') from error


def from_pieces(
  path: pathlib.Path, pieces: sentencepiece.Pieces, declared: DeclaredSettings
) -> Read:
  """The tokenizer.json of pieces that the file `path` holds."""
  try:
    merges = sentencepiece.merges(pieces) if pieces.kind == 'bpe' else []
  except ValueError as error:
    raise ValueError(f'{path}: not a sentencepiece model: {error}') from error
  # The family says which numbers the pieces have, so it comes first.
  guess = guess_family(path.name, pieces.names, pieces.kind)
  declared = tokenizer_files.family_of(path, declared, _FAMILIES, guess)
  numbered = _numbered(path, pieces, declared)
  ids = {name: i for i, name in enumerate(numbered.names)}
  if len(ids) != len(numbered.names):
    raise ValueError(
      f'{path}: has a piece of a name that {declared.family} gives to another'
    )
  added = _found_in_texts(numbered)
  if declared.family == 't5':
    added += _sentinels(path, declared, ids)
  if declared.family == 'deberta-v2':
    added += _deberta_mask(path, declared, ids)
  if pieces.kind == 'bpe':
    model = _byte_pair_model(numbered, ids, merges)
  else:
    scored = list(zip(numbered.names, numbered.scores, strict=True))
    model = _unigram_model(scored, numbered.unknown, pieces.byte_fallback)
  # The model's own pieces: new numbers say nothing of how a text is normalised.
  parts = pipelines.around_pieces(declared.family, pieces, declared.settings)
  state = tokenizer_files.whole_state(path, declared, model, ids, parts, added)
  return state, declared


def _byte_pair_model(
  pieces: sentencepiece.Pieces, ids: dict[str, int], merges: list[tuple[str, str]]
) -> dict:
  return {
    'type': 'BPE',
    'dropout': None,
    'unk_token': pieces.names[pieces.unknown],
    'continuing_subword_prefix': None,
    'end_of_word_suffix': None,
    # Without a piece for them, several letters in a row become one unknown piece.
    'fuse_unk': True,
    'byte_fallback': pieces.byte_fallback,
    'ignore_merges': False,
    'vocab': ids,
    'merges': merges,
  }


def _unigram_model(
  scored: list[tuple[str, float]], unknown: int, byte_fallback: bool
) -> dict:
  return {
    'type': 'Unigram',
    'unk_id': unknown,
    'byte_fallback': byte_fallback,
    'vocab': scored,
  }


def _found_in_texts(pieces: sentencepiece.Pieces) -> list[tuple[int, dict]]:
  """(id, token) of the pieces that are looked for before a text is cut."""
  found = []
  for i, (name, kind) in enumerate(zip(pieces.names, pieces.types, strict=True)):
    if kind not in sentencepiece.APART:
      continue
    token = plain_token(name, special=kind != sentencepiece.OWN)
    # A piece with a space in it is met only in a text whose spaces are signs already.
    has_space = pipelines.SPACE in name
    found.append((i, token | {'normalized': has_space}))
  return found


def _sentinels(
  path: pathlib.Path, declared: DeclaredSettings, ids: dict[str, int]
) -> list[tuple[int, dict]]:
  """(id, token) of T5's sentinels behind the pieces; the first sentinel is the last."""
  # A model file may have the sentinels among its own pieces.
  usual = 0 if '<extra_id_0>' in ids else SENTINELS
  count = declared.settings.get('extra_ids', usual)
  if type(count) is not int or not 0 <= count <= MOST_SENTINELS:
    raise ValueError(
      f'{path.with_name(tokenizer_settings.CONFIG)}: extra_ids: {count!r:.40} is not a '
      'number of sentinels'
    )
  found = []
  for i in range(count):
    name = f'<extra_id_{count - 1 - i}>'
    token = plain_token(name, special=True)
    found.append((len(ids) + i, token))
  return found


def _deberta_mask(
  path: pathlib.Path, declared: DeclaredSettings, ids: dict[str, int]
) -> list[tuple[int, dict]]:
  """(id, token) of the mask behind the pieces, which the models of DeBERTa lack.

  Raises ValueError for settings that only the code of transformers follows.
  """
  for key in ('split_by_punct', 'do_lower_case'):
    if declared.settings.get(key):
      raise ValueError(
        f'{path.with_name(tokenizer_settings.CONFIG)}: {key}: true is read from '
        'tokenizer.json only'
      )
  # A role that is declared as null has no mask, so the usual one does not come in.
  mask = declared.roles.get('mask', families.ROLES['deberta-v2']['mask'])
  if not mask or mask in ids:
    return []
  return [(len(ids), plain_token(mask, special=True))]


def _numbered(
  path: pathlib.Path, pieces: sentencepiece.Pieces, declared: DeclaredSettings
) -> sentencepiece.Pieces:
  """The pieces in the order of the family's ids."""
  family = declared.family
  if family in ('xlm-roberta', 'camembert'):
    return _numbered_as_fairseq(path, pieces, declared)
  if family not in ('pegasus', *translators.CODES):
    return pieces
  try:
    return translators.numbered(
      pieces, family, _pieces_of_roles(declared), declared.settings
    )
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _pieces_of_roles(declared: DeclaredSettings) -> dict[str, str]:
  """The piece of each role of the family: the declared one, else the usual one."""
  own = {role: piece for role, piece in declared.roles.items() if piece}
  return families.ROLES[declared.family] | own


def _numbered_as_fairseq(
  path: pathlib.Path, pieces: sentencepiece.Pieces, declared: DeclaredSettings
) -> sentencepiece.Pieces:
  """The pieces with those of fairseq in front and the mask behind.

  XLM-RoBERTa has its own first four in the place of the model's first three. CamemBERT
  keeps the model's, but for the unknown piece, behind five of which only two are ever
  used. Raises ValueError for a model that begins otherwise.
  """
  roles = _pieces_of_roles(declared)
  if declared.family == 'camembert':
    title = 'CamemBERT'
    front = ['<s>NOTUSED', roles['pad'], '</s>NOTUSED', roles['unk'], '<unk>NOTUSED']
    replaced = (roles['unk'],)
  else:
    title = 'XLM-RoBERTa'
    front = [roles[role] for role in ('bos', 'pad', 'eos', 'unk')]
    replaced = (roles['unk'], roles['bos'], roles['eos'])
  kept = len(replaced)
  if pieces.names[:kept] != replaced:
    begins = list(pieces.names[:3])
    raise ValueError(f'{path}: begins with {begins}, not as a model of {title} does')
  return sentencepiece.surrounded(pieces, front, kept, [roles['mask']], unknown=3)


def guess_family(file: str, names: tuple[str, ...], kind: str) -> str | None:
  """The family of a model file where nothing else says it; None if nobody can tell.

  file: its name; names: of its pieces; kind: 'unigram' or 'bpe'.
  """
  if kind == 'bpe':
    # Before Llama, since a Gemma can have '<s>' among its tags of HTML.
    if '<bos>' in names:
      return 'gemma'
    return 'llama' if '<s>' in names else None
  if '[CLS]' in names and '[SEP]' in names:
    return 'deberta-v2' if file == 'spm.model' else 'albert'
  # CamemBERT's file looks the same; its folder has to name its class.
  if file == 'sentencepiece.bpe.model' and names[:3] == ('<unk>', '<s>', '</s>'):
    return 'xlm-roberta'
  return 't5' if names[:3] == ('<pad>', '</s>', '<unk>') else None


def read_marian(path: pathlib.Path, declared: DeclaredSettings) -> Read:
  """source.spm of Marian, its pieces numbered by the vocab.json that both languages
  share.
  """
  declared = tokenizer_files.family_of(path, declared, ('marian',), 'marian')
  if declared.settings.get('separate_vocabs'):
    raise ValueError(
      f'{path.with_name(tokenizer_settings.CONFIG)}: separate_vocabs: a vocabulary for '
      'each side is not supported'
    )
  vocabulary = path.with_name('vocab.json')
  if not vocabulary.is_file():
    raise ValueError(f'{vocabulary}: missing; {path.name} says no ids without it')
  ids = tokenizer_files.read_vocabulary(vocabulary)
  pieces = _read_pieces(path)
  usual = families.ROLES['marian']['unk']
  unknown = declared.roles.get('unk') or usual
  if unknown not in ids or pieces.kind != 'unigram':
    raise ValueError(
      f'{path}: no unigram model, or {vocabulary.name} has no {unknown!r}'
    )
  scored = translators.marian_scores(pieces, ids)
  model = _unigram_model(scored, ids[unknown], pieces.byte_fallback)
  # `>>fr<<` must stay whole, so it is looked for before the text is cut.
  added = []
  for piece, i in ids.items():
    if translators.is_code(piece):
      added.append((i, plain_token(piece) | {'normalized': False}))
  parts = pipelines.around_pieces('marian', pieces, declared.settings)
  state = tokenizer_files.whole_state(path, declared, model, ids, parts, added)
  return state, declared
