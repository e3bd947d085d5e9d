"""The text files of a tokenizer: tokenizer.json, vocab.txt, vocab.json and merges.txt.

A reader takes the path of a file and what its folder declares. It returns a whole
tokenizer.json, as text or as a dict, and the declared settings with the family that the
file turned out to be of.

>>> nothing = tokenizer_settings.read_declared(pathlib.Path('/no/such/folder'))
>>> family_of(pathlib.Path('vocab.txt'), nothing, ('bert', 'mpnet'), 'bert').family
'bert'
"""

import base64
import json
import pathlib

from tl_jax.config.disguises import not_json
from tl_jax.interop import contents, pipelines, sentencepiece, tokenizer_settings
from tl_jax.interop import tokenizer_families as families
from tl_jax.interop.tokenizer_settings import DeclaredSettings

# What a reader returns.
Read = tuple[str | dict, DeclaredSettings]


def read_tokenizer_json(path: pathlib.Path, declared: DeclaredSettings) -> Read:
  """A tokenizer.json as it is, unless it is none or a normaliser in it is damaged."""
  text = contents.read_text(path)
  if not text.lstrip().startswith('{'):
    reason = not_json(text.encode(), 'no object in it')
    raise ValueError(f'{path}: not a tokenizer: {reason}')
  # The library does not survive a damaged charsmap: it ends the process.
  if '"Precompiled"' in text:
    try:
      state = json.loads(text)
      for charsmap in pipelines.charsmaps(state if isinstance(state, dict) else {}):
        sentencepiece.check_charsmap(base64.b64decode(charsmap, validate=True))
    except (ValueError, RecursionError) as error:
      raise ValueError(f'{path}: not a tokenizer: {error}') from error
  return text, declared


def read_words(path: pathlib.Path, declared: DeclaredSettings) -> Read:
  """vocab.txt, a WordPiece vocabulary: a piece a line, its id is the line's number."""
  declared = family_of(path, declared, ('bert', 'mpnet'), 'bert')
  # Of two lines that are the same the later one counts, as in transformers.
  ids = {piece: i for i, piece in enumerate(_lines(path))}
  usual = families.ROLES[declared.family]['unk']
  unknown = declared.roles.get('unk') or usual
  if unknown not in ids:
    raise ValueError(f'{path}: no {unknown!r} among {len(ids)} pieces')
  model = {
    'type': 'WordPiece',
    'unk_token': unknown,
    'continuing_subword_prefix': '##',
    'max_input_chars_per_word': 100,
    'vocab': ids,
  }
  parts = pipelines.around(declared.family, declared.settings)
  return whole_state(path, declared, model, ids, parts), declared


def read_pairs(path: pathlib.Path, declared: DeclaredSettings) -> Read:
  """vocab.json and merges.txt, a byte-level vocabulary; path is one of the two."""
  vocabulary = path.with_name('vocab.json')
  merges = path.with_name('merges.txt')
  for file, other in ((vocabulary, merges), (merges, vocabulary)):
    if not file.is_file():
      raise ValueError(f'{file}: missing; {other.name} says nothing without it')
  ids = read_vocabulary(vocabulary)
  pairs = _read_merges(merges, ids, vocabulary.name)
  # Where nothing else says it, the pieces tell RoBERTa from GPT-2.
  guess = 'roberta' if {'<s>', '</s>', '<mask>'} <= ids.keys() else 'gpt2'
  declared = family_of(path, declared, ('gpt2', 'roberta'), guess)
  model = {
    'type': 'BPE',
    'dropout': None,
    'unk_token': None,
    'continuing_subword_prefix': '',
    'end_of_word_suffix': '',
    'fuse_unk': False,
    'byte_fallback': False,
    'ignore_merges': False,
    'vocab': ids,
    'merges': pairs,
  }
  parts = pipelines.around(declared.family, declared.settings)
  return whole_state(path, declared, model, ids, parts), declared


def read_vocabulary(path: pathlib.Path) -> dict[str, int]:
  """The pieces of a vocab.json with their ids.

  Raises ValueError unless each number below the count of pieces is there once.
  """
  ids = contents.read_object(path, contents.MOST_BYTES)
  seen = {}
  count = len(ids)
  for piece, i in ids.items():
    shown = f'{piece[:40]!r}'
    # Not isinstance: JSON's true would pass for 1.
    if type(i) is not int or not 0 <= i < count:
      raise ValueError(
        f'{path}: {shown} has id {i!r:.20}, but {count} pieces have 0 to {count - 1}'
      )
    if i in seen:
      raise ValueError(f'{path}: {seen[i]} and {shown} both have id {i}')
    seen[i] = shown
  return ids


def _read_merges(
  path: pathlib.Path, ids: dict[str, int], vocabulary: str
) -> list[list[str]]:
  """The merges of a merges.txt, two parts a line, the first merge first.

  Raises ValueError for a part, or a whole, that is not in `vocabulary`.
  """
  pairs = []
  for number, line in enumerate(_lines(path), 1):
    if not line or line.startswith('#version'):
      continue
    pair = line.split(' ')
    if len(pair) != 2:
      raise ValueError(f'{path}: line {number}: {len(pair)} parts, not two')
    for piece in (*pair, ''.join(pair)):
      if piece not in ids:
        raise ValueError(
          f'{path}: line {number}: {piece[:40]!r} is not in {vocabulary}'
        )
    pairs.append(pair)
  return pairs


def _lines(path: pathlib.Path) -> list[str]:
  """The lines of a file, whatever ends them. Raises ValueError if they are too many."""
  text = contents.read_text(path)
  # Not splitlines(): that also cuts at signs that can be part of a piece.
  text = text.replace('\r\n', '\n').replace('\r', '\n')
  text = text.removesuffix('\n')
  if text.count('\n') >= sentencepiece.MOST_PIECES:
    raise ValueError(f'{path}: more than {sentencepiece.MOST_PIECES} lines')
  return text.split('\n')


def family_of(
  path: pathlib.Path,
  declared: DeclaredSettings,
  possible: tuple[str, ...],
  guess: str | None,
) -> DeclaredSettings:
  """The declared settings with one of the families that a file can be of.

  guess: the family where the folder names no class that says more.
  Raises ValueError for a class that numbers its pieces otherwise.
  """
  if declared.family in possible:
    return declared
  name = (declared.name or 'PreTrainedTokenizer').removesuffix('Fast')
  # These two are for any tokenizer and say nothing of its family.
  if name not in ('PreTrainedTokenizer', 'TokenizersBackend'):
    classes = families.CLASSES.items()
    known = sorted(name for name, family in classes if family in possible)
    raise ValueError(
      f'{path}: a {declared.name} is read from tokenizer.json only; from {path.name}: '
      f'{", ".join(known)}'
    )
  return declared._replace(family=guess)


def whole_state(
  path: pathlib.Path,
  declared: DeclaredSettings,
  model: dict,
  ids: dict[str, int],
  parts: dict,
  added: list[tuple[int, dict]] = (),
) -> dict:
  """A whole tokenizer.json.

  model and parts (normalizer, pre_tokenizer, decoder): as tokenizer.json spells them.
  ids: of the pieces of the model. added: (id, token) of tokens besides the roles.
  Raises ValueError that names the path if a piece that is put around a text is missing.
  """
  usual = families.ROLES.get(declared.family, {})
  roles = {role: piece for role, piece in usual.items() if piece in ids}
  roles |= declared.roles
  # What is declared of a token goes before what follows from its role.
  tokens = dict(added)
  for piece in roles.values():
    if piece in ids:
      tokens[ids[piece]] = tokenizer_settings.plain_token(piece, special=True)
  for _, token in declared.added:
    if token['content'] in ids:
      tokens[ids[token['content']]] = token
  try:
    single, pair = pipelines.frames(declared.family, roles, declared.settings)
    post_processor = pipelines.post_processor(single, pair, ids)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  numbered = []
  for i, token in sorted(tokens.items()):
    numbered.append({'id': i, **token})
  return {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    **parts,
    'post_processor': post_processor,
    'model': model,
    'added_tokens': numbered,
  }
