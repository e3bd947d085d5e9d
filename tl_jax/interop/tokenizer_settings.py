"""What a Hugging Face folder says about its tokenizer besides the vocabulary.

>>> read_said(pathlib.Path('/no/such/folder')).roles
{}
"""

import json
import pathlib
from typing import Any, NamedTuple

from tl_jax.interop import pipelines

CONFIG, MAP, ADDED = (
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
)
TEMPLATE, TEMPLATES = 'chat_template.jinja', 'additional_chat_templates'
MOST_BYTES = 100_000_000  # of a vocabulary; of what is said about it, a tenth
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
SEVERAL = ('additional_special_tokens', 'extra_special_tokens')
FLAGS = ('single_word', 'lstrip', 'rstrip', 'normalized', 'special')


class Said(NamedTuple):
  """What a folder says about its tokenizer.

  name: of its class; family: by that or by the model; settings: its
  tokenizer_config.json without what we drop;
  roles: a piece, or None, for each role that is spoken of; added: (id or None, token)
  of pieces beyond the vocabulary.
  """

  name: str | None
  family: str | None
  settings: dict[str, Any]
  roles: dict[str, str | None]
  added: list[tuple[int | None, dict]]
  side: str | None
  template: str | dict[str, str] | None


def read_bytes(path: pathlib.Path, most: int = MOST_BYTES) -> bytes:
  """The bytes of a file. Raises ValueError that names it if there are more than `most`."""
  with open(path, 'rb') as file:
    data = file.read(most + 1)
  if len(data) > most:
    raise ValueError(f'{path}: more than {most} bytes')
  return data


def read_text(path: pathlib.Path, most: int = MOST_BYTES) -> str:
  """The text of a file, without a byte-order mark. Raises ValueError that names it if
  it is not UTF-8.
  """
  try:
    return read_bytes(path, most).decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: not UTF-8: {error}') from error


def read_json(path: pathlib.Path, most: int = MOST_BYTES // 10) -> dict:
  """A JSON object; {} where there is no such file."""
  if not path.is_file():
    return {}
  try:
    found = json.loads(read_text(path, most))
  except (json.JSONDecodeError, RecursionError) as error:
    raise ValueError(f'{path}: not JSON: {error}') from error
  if not isinstance(found, dict):
    raise ValueError(f'{path}: not a JSON object')
  return found


def read_said(folder: pathlib.Path) -> Said:
  """What tokenizer_config.json, special_tokens_map.json, added_tokens.json and
  config.json say.

  Raises ValueError that names the file and the key.
  """
  config, special, model = (
    read_json(folder / CONFIG),
    read_json(folder / MAP),
    read_json(folder / 'config.json'),
  )
  decoder = config.get('added_tokens_decoder')
  path = folder / CONFIG
  # As in transformers, a config that lists its added tokens is the newer of the two.
  spoken = special | config if decoder is not None else config | special
  roles, flags = {}, {}
  for role in ROLES:
    if f'{role}_token' in spoken:
      token = _token(spoken[f'{role}_token'], path, f'{role}_token')
      roles[role] = token and token['content']
      flags |= {token['content']: token} if token else {}
  extra = []
  for key in SEVERAL:
    several = spoken.get(key) or []
    if not isinstance(several, list | dict):
      raise ValueError(f'{path}: {key}: neither a list nor names')
    extra += [
      _token(one, path, key)
      for one in (several.values() if isinstance(several, dict) else several)
    ]
  wanted = {
    token['content']: token for token in (*flags.values(), *filter(None, extra))
  }
  if decoder is None:
    path = folder / ADDED
    decoder = {
      i: wanted.get(piece) or plain_token(piece) for piece, i in read_json(path).items()
    }
  added = _numbered(decoder, path)
  names = {token['content'] for _, token in added}
  added += [(None, token) for piece, token in wanted.items() if piece not in names]
  name = next(
    (
      found
      for found in (config.get('tokenizer_class'), model.get('tokenizer_class'))
      if found
    ),
    None,
  )
  kind = model.get('model_type')
  name, kind = (found if isinstance(found, str) else None for found in (name, kind))
  family = (
    pipelines.CLASSES.get(name.removesuffix('Fast'))
    if name
    else pipelines.MODELS.get(kind)
  )
  settings = {key: value for key, value in config.items() if key not in DROPPED}
  if 'auto_map' in config:  # its class is code of the folder
    settings.pop('tokenizer_class', None)
  return Said(
    name,
    family,
    settings,
    roles,
    added,
    config.get('padding_side'),
    _templates(folder, config),
  )


def is_text(value) -> bool:
  """Can it be written as UTF-8? JSON can spell half of a character."""
  return isinstance(value, str) and value == value.encode(errors='ignore').decode()


def _token(value, path, key) -> dict | None:
  """A special token that is said as text, or as a dict with `content`; None for none."""
  if value is None or value == '':
    return None
  content = value.get('content') if isinstance(value, dict) else value
  if not content or not is_text(content):
    raise ValueError(f'{path}: {key}: neither a text nor a dict with `content`')
  flags = (
    {flag: bool(value[flag]) for flag in FLAGS if flag in value}
    if isinstance(value, dict)
    else {}
  )
  return plain_token(content) | {'normalized': False} | flags | {'special': True}


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


def _numbered(decoder, path) -> list[tuple[int, dict]]:
  """(id, token) of an `added_tokens_decoder`, in the order of the ids."""
  if not isinstance(decoder, dict):
    raise ValueError(f'{path}: added_tokens_decoder: not ids with tokens')
  found = []
  for i, token in decoder.items():
    content = token.get('content') if isinstance(token, dict) else token
    if (
      not str(i).isdecimal()
      or isinstance(i, bool)
      or not content
      or not is_text(content)
    ):
      raise ValueError(
        f'{path}: added_tokens_decoder: {str(i)[:20]!r} is not an id with a token'
      )
    flags = (
      {flag: bool(token[flag]) for flag in FLAGS if flag in token}
      if isinstance(token, dict)
      else {}
    )
    found.append((int(i), plain_token(content) | flags))
  return sorted(found, key=lambda pair: pair[0])


def _templates(folder: pathlib.Path, config: dict) -> str | dict[str, str] | None:
  """The chat template as text, or several by name; files go before
  tokenizer_config.json. Nothing is rendered.
  """
  files = (
    {path.stem: path for path in sorted((folder / TEMPLATES).glob('*.jinja'))}
    if (folder / TEMPLATES).is_dir()
    else {}
  )
  if (folder / TEMPLATE).is_file():
    files['default'] = folder / TEMPLATE
  found = {name: _lines(path) for name, path in files.items()} or config.get(
    'chat_template'
  )
  if isinstance(found, list):
    found = {
      one.get('name'): one.get('template') for one in found if isinstance(one, dict)
    }
  if isinstance(found, dict):
    if not all(isinstance(text, str) for pair in found.items() for text in pair):
      raise ValueError(
        f'{folder / CONFIG}: chat_template: neither a text nor templates with names'
      )
    return found['default'] if set(found) == {'default'} and files else found or None
  if not isinstance(found, str | None):
    raise ValueError(
      f'{folder / CONFIG}: chat_template: neither a text nor templates with names'
    )
  return found


def _lines(path: pathlib.Path) -> str:
  """A text with the line ends of this machine, as transformers reads it."""
  return read_text(path, MOST_BYTES // 10).replace('\r\n', '\n').replace('\r', '\n')
