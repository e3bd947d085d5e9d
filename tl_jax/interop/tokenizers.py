"""The tokenizer of a Hugging Face folder, in and out: nothing in the folder is run,
transformers is not needed.

>>> load_tokenizer('/no/such/folder') is None
True
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib

from tl_jax import files
from tl_jax.data import tokenizers
from tl_jax.interop import (
  pipelines,
  sentencepiece,
  tokenizer_files,
  tokenizer_pieces,
  tokenizer_settings,
)
from tl_jax.interop import tokenizer_families as families
from tl_jax.interop.tokenizer_settings import ROLES, DeclaredSettings

# Of models for pictures and text; the tables of those for text alone have no row for
# them.
PLACEHOLDERS = ('<image_soft_token>',)
# The files of a vocabulary with their readers; the first one found is read.
READERS = {
  'tokenizer.json': tokenizer_files.read_tokenizer_json,
  'vocab.txt': tokenizer_files.read_words,
  # Before vocab.json, which Marian has, too.
  'source.spm': tokenizer_pieces.read_marian,
  'vocab.json': tokenizer_files.read_pairs,
  'merges.txt': tokenizer_files.read_pairs,
  'spiece.model': tokenizer_pieces.read_model,
  'tokenizer.model': tokenizer_pieces.read_model,
  'sentencepiece.bpe.model': tokenizer_pieces.read_model,
  'spm.model': tokenizer_pieces.read_model,
}
# Attributes of a BertNormalizer by the settings that speak of them.
_BERT_ATTRIBUTES = {
  'do_lower_case': 'lowercase',
  'strip_accents': 'strip_accents',
  'tokenize_chinese_chars': 'handle_chinese_chars',
}


def load_tokenizer(folder) -> tokenizers.Tokenizer | None:
  """The tokenizer of a Hugging Face folder; None where it has no tokenizer files.

  The vocabulary comes from tokenizer.json. Without it, it comes from vocab.txt
  (WordPiece), from source.spm with vocab.json (Marian), from vocab.json with merges.txt
  (byte-level BPE), or from a sentencepiece model: spiece.model, tokenizer.model,
  sentencepiece.bpe.model or spm.model.

  Roles, padding side and chat template are as tokenizer_config.json,
  special_tokens_map.json and added_tokens.json say. Raises ValueError that names the
  file.
  """
  folder = pathlib.Path(folder)
  for name, read in READERS.items():
    path = folder / name
    if path.is_file():
      declared = tokenizer_settings.read_declared(folder)
      state, declared = read(path, declared)
      return _build(path, state, declared)
  return None


def load_pieces(
  path, pieces: sentencepiece.Pieces, declared: DeclaredSettings
) -> tokenizers.Tokenizer:
  """The tokenizer of sentencepiece pieces that `path`, a file of another kind, holds."""
  path = pathlib.Path(path)
  state, declared = tokenizer_pieces.from_pieces(path, pieces, declared)
  return _build(path, state, declared)


def load_pairs(
  path,
  model: dict,
  added: list[tuple[int, dict]],
  parts: dict,
  declared: DeclaredSettings,
) -> tokenizers.Tokenizer:
  """The tokenizer of a byte-pair model that `path`, a file of another kind, holds.

  model and parts (normalizer, pre_tokenizer, decoder): as tokenizer.json spells them.
  added: (id, token) of the pieces that are found in a text before it is cut.
  """
  path = pathlib.Path(path)
  state = tokenizer_files.whole_state(
    path, declared, model, model['vocab'], parts, added
  )
  return _build(path, state, declared)


def require_rows(tokenizer: tokenizers.Tokenizer, rows: int) -> None:
  """Raises ValueError for a piece whose id is beyond a token table of so many rows.

  A table with more rows than pieces is padded, which is fine.
  """
  if tokenizer.vocabulary_size <= rows:
    return
  ids = tokenizer.backend.get_vocab(with_added_tokens=True)
  needed = []
  for piece, i in ids.items():
    if piece not in PLACEHOLDERS:
      needed.append((i, piece))
  last, piece = max(needed)
  if last >= rows:
    raise ValueError(
      f'the tokenizer has ids up to {last} ({piece!r}), but vocab_size is '
      f'{rows}: give the table a row for each, or remove the pieces'
    )


def _build(
  path: pathlib.Path, state: str | dict, declared: DeclaredSettings
) -> tokenizers.Tokenizer:
  """The tokenizer of a tokenizer.json and of what is declared about it."""
  with _naming(path):
    backend = _open(state)
  if path.name == 'tokenizer.json':
    _follow(backend, declared)
  side = _padding_side(path.parent, backend, declared)
  _add(backend, declared, path.parent)
  usual = families.ROLES.get(declared.family, {})
  pieces = {}
  for role, piece in usual.items():
    # A usual piece that the vocabulary does not have would be a new one.
    if backend.token_to_id(piece) is not None:
      pieces[role] = piece
  pieces |= declared.roles
  ids = {}
  settings = dict(declared.settings)
  for role, piece in pieces.items():
    # A role that is declared to have no piece keeps that through a save.
    settings[f'{role}_token'] = piece
    ids[role] = None if piece is None else backend.token_to_id(piece)
  with _naming(path):
    tokenizer = tokenizers.wrap(
      backend,
      ids,
      padding_side=side,
      chat_template=declared.template,
      settings=settings,
    )
    # Computed when first asked for: what is wrong with it is found here.
    _ = tokenizer.pair
  return tokenizer


def _open(state: str | dict):
  """A backend from the text or the state of a tokenizer.json."""
  import tokenizers as library

  text = state if isinstance(state, str) else json.dumps(state)
  backend = library.Tokenizer.from_str(text)
  vocabulary = backend.get_vocab(with_added_tokens=True)
  last = max(vocabulary.values(), default=-1)
  if last < 0:
    raise ValueError('no pieces')
  # Tables have a row for every id up to the last one.
  if last >= sentencepiece.MOST_PIECES:
    raise ValueError(f'an id of {last}')
  return backend


@contextlib.contextmanager
def _naming(path: pathlib.Path):
  """Makes whatever the library throws a ValueError of one line that names the file."""
  try:
    yield
  # The library raises bare Exception, and panics beyond it.
  except BaseException as error:  # noqa: BLE001
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
      raise
    line = ' '.join(str(error).split())[:200]
    raise ValueError(f'{path}: not a tokenizer: {line}') from error


def _padding_side(folder: pathlib.Path, backend, declared: DeclaredSettings) -> str:
  """'left' or 'right': as declared, as tokenizer.json says, or as the class has it."""
  side = declared.side or (backend.padding or {}).get('direction')
  if not side:
    # A Gemma that names no class pads as one that does.
    usual = 'GemmaTokenizer' if declared.family == 'gemma' else ''
    name = (declared.name or usual).removesuffix('Fast')
    side = 'left' if name in families.LEFT else 'right'
  if side not in ('left', 'right'):
    raise ValueError(
      f'{folder / tokenizer_settings.CONFIG}: padding_side: {side!r} is not one of '
      "'left', 'right'"
    )
  return side


def _follow(backend, declared: DeclaredSettings) -> None:
  """Changes the normaliser and the splitter of a tokenizer.json to what the settings
  say, as transformers does.
  """
  from tokenizers import normalizers, pre_tokenizers

  normalizer = backend.normalizer
  splitter = backend.pre_tokenizer
  if declared.family in ('bert', 'mpnet'):
    if isinstance(normalizer, normalizers.BertNormalizer):
      _follow_bert(normalizer, declared.settings)
  elif declared.family in ('gpt2', 'roberta'):
    prefix = declared.settings.get('add_prefix_space')
    is_bytes = isinstance(splitter, pre_tokenizers.ByteLevel)
    if is_bytes and isinstance(prefix, bool):
      splitter.add_prefix_space = prefix


def _follow_bert(normalizer, settings: dict) -> None:
  """Sets case, accents and Chinese signs of a BertNormalizer as the settings say."""
  for key, attribute in _BERT_ATTRIBUTES.items():
    if key not in settings:
      continue
    wanted = settings[key]
    # None says of accents that they go with the case; of the others it says nothing.
    if isinstance(wanted, bool) or key == 'strip_accents':
      setattr(normalizer, attribute, wanted)


def _add(backend, declared: DeclaredSettings, folder: pathlib.Path) -> None:
  """Registers the special and added tokens that the folder names.

  Those beyond the vocabulary get the next free ids, in their order. Raises ValueError
  for a token whose declared id is another one.
  """
  from tokenizers import AddedToken

  new = _new_tokens(backend, declared, folder)
  # Tokens are registered in runs of one kind, since the ids follow their order.
  for special, run in itertools.groupby(new, lambda pair: pair[1]['special']):
    tokens = [AddedToken(**token) for _, token in run]
    if special:
      backend.add_special_tokens(tokens)
    else:
      backend.add_tokens(tokens)
  for i, token in new:
    given = backend.token_to_id(token['content'])
    if i is not None and given != i:
      raise ValueError(
        f'{folder}: added token {token["content"]!r} has id {i}, but the next free one '
        f'is {given}'
      )


def _new_tokens(
  backend, declared: DeclaredSettings, folder: pathlib.Path
) -> list[tuple[int | None, dict]]:
  """(id or None, token) of the declared tokens that the backend has to be told of."""
  known = backend.get_added_tokens_decoder()
  new = []
  for i, token in declared.added:
    held = backend.token_to_id(token['content'])
    if i is not None and held is not None and held != i:
      raise ValueError(
        f'{folder}: added token {token["content"]!r} has id {i}, but the vocabulary '
        f'says {held}'
      )
    # A token that tokenizer.json has keeps what that file says of it. Only one with an
    # id may become special: without an id it is from a list of special tokens, and
    # transformers 5 lists others with them.
    becomes_special = i is not None and token['special']
    if held not in known or (becomes_special and not known[held].special):
      new.append((i, token))
  return new


def save_tokenizer(folder, tokenizer: tokenizers.Tokenizer, typed: bool = True) -> None:
  """Writes a tokenizer so that `AutoTokenizer` of transformers opens it to the same
  ids, special tokens and templates.

  The files are tokenizer.json, tokenizer_config.json, special_tokens_map.json, and
  chat_template.jinja for a single template. Settings of the folder that the tokenizer
  came from are kept, but those that name code or files; so is its `tokenizer_class`,
  unless transformers would make another tokenizer under that name.
  typed: may the model tell two texts apart by the types of their tokens?
  """
  folder = pathlib.Path(folder)
  roles = _roles(tokenizer)
  config = _config(tokenizer, roles, typed)
  # A null is said in the config alone: the map lists what there is.
  special = {}
  for role, piece in roles.items():
    if piece is not None:
      special[f'{role}_token'] = piece
  for key in tokenizer_settings.SEVERAL:
    if config.get(key):
      special[key] = config[key]
  folder.mkdir(parents=True, exist_ok=True)
  _remove_stale(folder)
  config |= _save_template(folder, tokenizer.chat_template)
  texts = {
    'tokenizer.json': tokenizer.backend.to_str(pretty=True),
    tokenizer_settings.CONFIG: json.dumps(config, indent=2),
    tokenizer_settings.MAP: json.dumps(special, indent=2),
  }
  for file, text in texts.items():
    files.write_atomically(folder / file, (text + '\n').encode())


def _config(
  tokenizer: tokenizers.Tokenizer, roles: dict[str, str | None], typed: bool
) -> dict:
  """The tokenizer_config.json of a tokenizer, but for its chat template."""
  backend = tokenizer.backend
  state = json.loads(backend.to_str())
  config = {}
  for key, value in tokenizer.settings.items():
    if key not in tokenizer_settings.DROPPED:
      config[key] = value
  config |= _settings_of_parts(state)
  # Which class it can be depends on all settings above, so it is chosen here.
  frame = _pair_of_pieces(tokenizer)
  name = pipelines.class_of(state, frame, config, roles)
  config['tokenizer_class'] = name
  config |= _settings_against_class(name, tokenizer)
  if name == families.GENERIC:
    # The generic class cannot know whether the model tells two texts apart by types,
    # and one that does not would fail on them.
    has_types = any(kind for _, kind in frame)
    typed = typed and tokenizer.cls is not None and has_types
    types = ['token_type_ids'] if typed else []
    config.setdefault('model_input_names', ['input_ids', *types, 'attention_mask'])
  config.setdefault('clean_up_tokenization_spaces', False)
  for role, piece in roles.items():
    config[f'{role}_token'] = piece
  config['padding_side'] = tokenizer.padding_side
  config['added_tokens_decoder'] = _added_tokens(backend)
  return config


def _pair_of_pieces(tokenizer: tokenizers.Tokenizer) -> pipelines.Frame:
  """The frame of two texts with pieces in the place of their ids."""
  frame = []
  for slot, token_type in tokenizer.pair:
    piece = slot if isinstance(slot, str) else tokenizer.pieces[slot]
    frame.append((piece, token_type))
  return frame


def _settings_against_class(name: str, tokenizer: tokenizers.Tokenizer) -> dict:
  """Settings that keep a class of transformers from adding tokens of its own.

  A class adds the pieces of its roles to the vocabulary where they are missing, and
  T5's adds all its sentinels.
  """
  family = families.CLASSES.get(name.removesuffix('Fast'))
  found = {f'{role}_token': None for role in families.ROLES.get(family, ())}
  if family == 't5':
    found['extra_ids'] = len(tokenizer.sentinels)
  return found


def _settings_of_parts(state: dict) -> dict:
  """The settings that say what the normaliser and the splitter of a tokenizer do."""
  normalizer = state['normalizer'] or {}
  splitter = state['pre_tokenizer'] or {}
  found = {}
  if normalizer.get('type') == 'BertNormalizer':
    for key, attribute in _BERT_ATTRIBUTES.items():
      found[key] = normalizer[attribute]
  if splitter.get('type') == 'ByteLevel':
    found['add_prefix_space'] = splitter['add_prefix_space']
  return found


def _added_tokens(backend) -> dict[str, dict]:
  """The `added_tokens_decoder` of a backend: its added tokens by their ids."""
  flags = ('content', *tokenizer_settings.FLAGS)
  found = {}
  for i, token in sorted(backend.get_added_tokens_decoder().items()):
    facts = {flag: getattr(token, flag) for flag in flags}
    found[str(i)] = facts
  return found


def _remove_stale(folder: pathlib.Path) -> None:
  """Removes files of an older tokenizer that would contradict what is written."""
  templates = (folder / tokenizer_settings.TEMPLATES).glob('*.jinja')
  added = folder / tokenizer_settings.ADDED
  template = folder / tokenizer_settings.TEMPLATE
  for stale in (added, template, *templates):
    stale.unlink(missing_ok=True)


def _save_template(folder: pathlib.Path, template: str | dict[str, str] | None) -> dict:
  """Writes a single chat template as a file; returns what the config has to say."""
  if template is None:
    return {}
  # A file would lose half a character or a carriage return; JSON can spell both.
  if tokenizer_settings.is_text(template) and '\r' not in template:
    files.write_atomically(folder / tokenizer_settings.TEMPLATE, template.encode())
    return {}
  if isinstance(template, str):
    return {'chat_template': template}
  several = [{'name': name, 'template': text} for name, text in template.items()]
  return {'chat_template': several}


def _roles(tokenizer: tokenizers.Tokenizer) -> dict[str, str | None]:
  """The piece of each role that a save declares.

  These are the roles that the tokenizer's folder spoke of. If it spoke of none, they
  are those that the tokenizer does not merely borrow from others.
  """
  ids = {role: getattr(tokenizer, role) for role in ROLES}
  pieces = dict.fromkeys(ROLES)
  for role, i in ids.items():
    if i is not None:
      pieces[role] = tokenizer.pieces[i]
  declared = {}
  for role in ROLES:
    key = f'{role}_token'
    if key in tokenizer.settings:
      # A role that was declared to have no piece has none, whoever lends it one.
      declared[role] = tokenizer.settings[key] and pieces[role]
  if declared:
    return declared
  found = {}
  for role, piece in pieces.items():
    if _is_own(role, ids, piece):
      found[role] = piece
  return found


def special_ids(tokenizer: tokenizers.Tokenizer) -> dict[str, int]:
  """The ids of padding and of the ends of a text under the names that config.json has
  for them, where the tokenizer has such pieces of its own.
  """
  roles = _roles(tokenizer)
  found = {}
  for role in ('bos', 'eos', 'pad'):
    piece = roles.get(role)
    if piece is not None:
      found[f'{role}_token_id'] = tokenizer.backend.token_to_id(piece)
  return found


def without_end(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
  """The tokenizer that puts nothing behind a text, because a decoder goes on with it.

  Its texts are whole ones where it is trained. transformers has one tokenizer for
  whole texts and for prompts, and the published decoders leave a text open.
  """
  if not tokenizer.suffix:
    return tokenizer
  from tokenizers import Tokenizer

  begin = [(tokenizer.pieces[i], 0) for i in tokenizer.prefix]
  single = [*begin, ('A', 0)]
  state = json.loads(tokenizer.backend.to_str())
  ids = tokenizer.backend.get_vocab(with_added_tokens=True)
  state['post_processor'] = pipelines.post_processor(single, [*single, ('B', 0)], ids)
  backend = Tokenizer.from_str(json.dumps(state))
  backend.encode_special_tokens = True
  return dataclasses.replace(tokenizer, backend=backend, suffix=())


def _is_own(role: str, ids: dict[str, int | None], piece: str | None) -> bool:
  """Does a role have a piece that it does not merely borrow from another role?"""
  if piece is None:
    return False
  # Whatever fills rows is not yet a piece for padding.
  if role == 'pad' and piece not in tokenizers.ROLES['pad']:
    return False
  lenders = {'bos': 'cls', 'eos': 'sep', 'pad': 'eos'}
  return role not in lenders or ids[role] != ids[lenders[role]]
