"""What a Hugging Face folder declares about its tokenizer besides the vocabulary.

>>> read_declared(pathlib.Path('/no/such/folder')).roles
{}
"""

import pathlib
from typing import Any, NamedTuple

from tl_jax.interop import contents
from tl_jax.interop import tokenizer_families as families

CONFIG = 'tokenizer_config.json'
MAP = 'special_tokens_map.json'
ADDED = 'added_tokens.json'
TEMPLATE = 'chat_template.jinja'
TEMPLATES = 'additional_chat_templates'
# In the order in which AutoTokenizer numbers those that the vocabulary does not have.
ROLES = ('bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask')
# Settings that name code or files, or that we say in another place.
DROPPED = (
  'auto_map',
  'custom_pipelines',
  'trust_remote_code',
  'code_revision',
  'auto_class',
  'init_inputs',
  'backend',
  'name_or_path',
  'tokenizer_file',
  'vocab_file',
  'merges_file',
  'special_tokens_map_file',
  'is_local',
  'fast_tokenizer_files',
  'slow_tokenizer_class',
  'local_files_only',
  'added_tokens_decoder',
  'chat_template',
  'files_loaded',
  'padding_side',
)
# Keys of special tokens without a role; transformers 5 has the second.
SEVERAL = ('additional_special_tokens', 'extra_special_tokens')
# What an added token says of how it is found in a text.
FLAGS = ('single_word', 'lstrip', 'rstrip', 'normalized', 'special')


class DeclaredSettings(NamedTuple):
  """What a folder declares about its tokenizer.

  name: the name of its class, or None.
  family: the tokenizer family of that class or, without one, of the model.
  settings: its tokenizer_config.json without the keys of `DROPPED`.
  roles: a piece, or None, for each role that is spoken of.
  added: (id or None, token) of pieces beyond the vocabulary.
  side: its padding side, or None.
  template: its chat template, or several by their names, or None.
  """

  name: str | None
  family: str | None
  settings: dict[str, Any]
  roles: dict[str, str | None]
  added: list[tuple[int | None, dict]]
  side: str | None
  template: str | dict[str, str] | None


def read_declared(folder: pathlib.Path) -> DeclaredSettings:
  """What tokenizer_config.json, special_tokens_map.json, added_tokens.json and
  config.json say.

  Raises ValueError that names the file and the key.
  """
  config = contents.find_object(folder / CONFIG)
  special = contents.find_object(folder / MAP)
  model = contents.find_object(folder / 'config.json')
  # As in transformers, a config that lists its added tokens is the newer of the two.
  if config.get('added_tokens_decoder') is not None:
    named = special | config
  else:
    named = config | special
  roles, tokens = _read_roles(named, folder / CONFIG)
  tokens |= _read_lists(named, folder / CONFIG)
  added = _read_added(folder, config, tokens)
  name, family = _read_class(config, model)
  settings = {key: value for key, value in config.items() if key not in DROPPED}
  if 'auto_map' in config:
    # Its class is code of the folder, which is neither run nor kept.
    settings.pop('tokenizer_class', None)
  side = config.get('padding_side')
  templates = _read_templates(folder, config)
  return DeclaredSettings(name, family, settings, roles, added, side, templates)


def _read_roles(
  named: dict, path: pathlib.Path
) -> tuple[dict[str, str | None], dict[str, dict]]:
  """(the piece of each role that is spoken of, its token by its content)."""
  roles, tokens = {}, {}
  for role in ROLES:
    key = f'{role}_token'
    if key not in named:
      continue
    token = _token(named[key], path, key)
    if token is None:
      roles[role] = None
      continue
    roles[role] = token['content']
    tokens[token['content']] = token
  return roles, tokens


def _read_lists(named: dict, path: pathlib.Path) -> dict[str, dict]:
  """The special tokens without a role, by their content."""
  tokens = {}
  for key in SEVERAL:
    several = named.get(key) or []
    if not isinstance(several, list | dict):
      raise ValueError(f'{path}: {key}: neither a list nor names')
    # transformers makes attributes of the names; only the tokens count here.
    if isinstance(several, dict):
      several = several.values()
    for one in several:
      token = _token(one, path, key)
      if token is not None:
        tokens[token['content']] = token
  return tokens


def _read_added(
  folder: pathlib.Path, config: dict, special: dict[str, dict]
) -> list[tuple[int | None, dict]]:
  """(id, token) of the added tokens, then (None, token) of special ones without an id.

  special: the tokens that are spoken of as special, by their content.
  """
  decoder = config.get('added_tokens_decoder')
  path = folder / CONFIG
  if decoder is None:
    # An older folder: a file of ids without flags.
    path = folder / ADDED
    decoder = {}
    for piece, i in contents.find_object(path).items():
      decoder[i] = special.get(piece) or plain_token(piece)
  added = _numbered(decoder, path)
  numbered = {token['content'] for _, token in added}
  for piece, token in special.items():
    if piece not in numbered:
      added.append((None, token))
  return added


def _read_class(config: dict, model: dict) -> tuple[str | None, str | None]:
  """(the name of the tokenizer's class, the family of that or of the model)."""
  name = config.get('tokenizer_class') or model.get('tokenizer_class')
  if isinstance(name, str) and name:
    return name, families.CLASSES.get(name.removesuffix('Fast'))
  kind = model.get('model_type')
  if not isinstance(kind, str):
    return None, None
  return None, families.MODELS.get(kind)


def is_text(value) -> bool:
  """Can it be written as UTF-8? JSON can spell half of a character."""
  if not isinstance(value, str):
    return False
  return value == value.encode(errors='ignore').decode()


def _token(value, path: pathlib.Path, key: str) -> dict | None:
  """A special token that is said as text, or as a dict with `content`; None for none."""
  if value is None or value == '':
    return None
  content = value.get('content') if isinstance(value, dict) else value
  if not content or not is_text(content):
    raise ValueError(f'{path}: {key}: neither a text nor a dict with `content`')
  token = plain_token(content) | {'normalized': False} | _flags(value)
  # Whoever has a role is special, whatever its flags say.
  return token | {'special': True}


def plain_token(content: str, *, special: bool = False) -> dict:
  """An added token as tokenizer.json spells it, without its id."""
  return {
    'content': content,
    'single_word': False,
    'lstrip': False,
    'rstrip': False,
    'normalized': not special,
    'special': special,
  }


def _flags(token) -> dict[str, bool]:
  """The flags that a token's dict has; {} for a token that is only a text."""
  if not isinstance(token, dict):
    return {}
  return {flag: bool(token[flag]) for flag in FLAGS if flag in token}


def _numbered(decoder, path: pathlib.Path) -> list[tuple[int, dict]]:
  """(id, token) of an `added_tokens_decoder`, in the order of the ids."""
  if not isinstance(decoder, dict):
    raise ValueError(f'{path}: added_tokens_decoder: not ids with tokens')
  found = []
  for i, token in decoder.items():
    content = token.get('content') if isinstance(token, dict) else token
    # JSON has texts for keys; added_tokens.json, turned around, has numbers.
    is_id = str(i).isdecimal() and not isinstance(i, bool)
    if not is_id or not content or not is_text(content):
      raise ValueError(
        f'{path}: added_tokens_decoder: {str(i)[:20]!r} is not an id with a token'
      )
    token = plain_token(content) | _flags(token)
    found.append((int(i), token))
  return sorted(found, key=lambda pair: pair[0])


def _read_templates(folder: pathlib.Path, config: dict) -> str | dict[str, str] | None:
  """The chat template as text, or several by name; nothing is rendered.

  Files go before tokenizer_config.json, as in transformers.
  """
  found = _template_files(folder)
  if set(found) == {'default'}:
    return found['default']
  if found:
    return found
  return _declared_templates(config.get('chat_template'), folder / CONFIG)


def _declared_templates(found, path: pathlib.Path) -> str | dict[str, str] | None:
  """The `chat_template` of a tokenizer_config.json: a text, or several with names."""
  if found is None:
    return None
  if isinstance(found, list):
    entries = [entry for entry in found if isinstance(entry, dict)]
    found = {entry.get('name'): entry.get('template') for entry in entries}
  texts = [found]
  if isinstance(found, dict):
    texts = [*found.keys(), *found.values()]
  if not all(isinstance(text, str) for text in texts):
    raise ValueError(f'{path}: chat_template: neither a text nor templates with names')
  # An empty list of templates says nothing; an empty text is a template.
  return None if found == {} else found


def _template_files(folder: pathlib.Path) -> dict[str, str]:
  """The texts of the template files by their names; the single one is 'default'."""
  files = {}
  if (folder / TEMPLATES).is_dir():
    paths = sorted((folder / TEMPLATES).glob('*.jinja'))
    files = {path.stem: path for path in paths}
  if (folder / TEMPLATE).is_file():
    files['default'] = folder / TEMPLATE
  return {name: _with_own_line_ends(path) for name, path in files.items()}


def _with_own_line_ends(path: pathlib.Path) -> str:
  """A text with the line ends of this machine, as transformers reads it."""
  text = contents.read_text(path, contents.MOST_BYTES_OF_SETTINGS)
  return text.replace('\r\n', '\n').replace('\r', '\n')
