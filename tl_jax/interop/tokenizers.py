"""The tokenizer of a Hugging Face folder, in and out: nothing in the folder is run, transformers is not needed.

>>> load_tokenizer('/no/such/folder') is None
True
"""

import json
import pathlib
from typing import Any, NamedTuple

from tl_jax.data import store, tokenizers
from tl_jax.interop import pipelines, sentencepiece

CONFIG, MAP, ADDED = 'tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json'
TEMPLATE, TEMPLATES = 'chat_template.jinja', 'additional_chat_templates'
MOST_BYTES = 200_000_000             # of a vocabulary; of what is said about it, a tenth
MOST_IDS = 1 << 24
SENTINELS = 100
# In the order in which AutoTokenizer numbers those that the vocabulary does not have.
ROLES = ('bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask')
# Settings that name code or files, or that we say in another place.
DROPPED = ('auto_map', 'custom_pipelines', 'trust_remote_code', 'code_revision', 'auto_class', 'init_inputs', 'backend',
           'name_or_path', 'tokenizer_file', 'vocab_file', 'merges_file', 'special_tokens_map_file', 'is_local',
           'fast_tokenizer_files', 'slow_tokenizer_class', 'local_files_only', 'added_tokens_decoder', 'chat_template',
           'files_loaded', 'padding_side')
_FLAGS = ('single_word', 'lstrip', 'rstrip', 'normalized', 'special')


class Said(NamedTuple):
  """What a folder says about its tokenizer.

  name: of its class; family: by that or by the model; settings: its tokenizer_config.json without what we drop;
  roles: a piece, or None, for each role that is spoken of; added: (id or None, token) of pieces beyond the vocabulary.
  """
  name: str | None
  family: str | None
  settings: dict[str, Any]
  roles: dict[str, str | None]
  added: list[tuple[int | None, dict]]
  side: str | None
  template: str | dict[str, str] | None


def load_tokenizer(folder) -> tokenizers.Tokenizer | None:
  """The tokenizer of a Hugging Face folder; None where it has no tokenizer files.

  From tokenizer.json, else vocab.txt (WordPiece), else vocab.json and merges.txt (byte-level BPE), else a sentencepiece
  model (spiece.model, tokenizer.model, sentencepiece.bpe.model); roles, padding side and chat template as
  tokenizer_config.json, special_tokens_map.json and added_tokens.json say. Raises ValueError that names the file.
  """
  folder = pathlib.Path(folder)
  path = next((folder / name for name in READERS if (folder / name).is_file()), None)
  if path is None:
    return None
  said = read_said(folder)
  state, said = READERS[path.name](path, said)
  backend = _guard(path, lambda: _open(state))
  if path.name == 'tokenizer.json':
    _follow(backend, said)
  side = said.side or (backend.padding or {}).get('direction') or (
      'left' if (said.name or '').removesuffix('Fast') in pipelines.LEFT else 'right')
  if side not in ('left', 'right'):
    raise ValueError(f"{folder / CONFIG}: padding_side: {side!r} is not one of 'left', 'right'")
  _guard(path, lambda: (tokenizers.wrap(backend), backend.encode('a', 'a')))
  _add(backend, said, folder)
  pieces = {**{role: piece for role, piece in pipelines.ROLES.get(said.family, {}).items()
               if backend.token_to_id(piece) is not None}, **said.roles}
  settings = said.settings | {f'{role}_token': piece for role, piece in pieces.items()}
  ids = {role: None if piece is None else backend.token_to_id(piece) for role, piece in pieces.items()}
  return tokenizers.wrap(backend, ids, padding_side=side, chat_template=said.template, settings=settings)


def _open(state):
  """A backend from the text or the state of a tokenizer.json."""
  import tokenizers as library
  backend = library.Tokenizer.from_str(state if isinstance(state, str) else json.dumps(state))
  most = max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
  if not 0 <= most < MOST_IDS:
    raise ValueError('no pieces' if most < 0 else f'an id of {most}')
  return backend


def _guard(path, run):
  """What run() returns; whatever the library throws, it becomes a ValueError of one line that names the file."""
  try:
    return run()
  except BaseException as error:  # noqa: BLE001 - the library raises bare Exception, and panics beyond it
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
      raise
    raise ValueError(f'{path}: not a tokenizer: {" ".join(str(error).split())[:200]}') from error


def _bytes(path: pathlib.Path, most: int = MOST_BYTES) -> bytes:
  with open(path, 'rb') as file:
    data = file.read(most + 1)
  if len(data) > most:
    raise ValueError(f'{path}: more than {most} bytes')
  return data


def _text(path: pathlib.Path, most: int = MOST_BYTES) -> str:
  try:
    return _bytes(path, most).decode()
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: not UTF-8: {error}') from error


def _json(path: pathlib.Path, most: int = MOST_BYTES // 10) -> dict:
  """A JSON object; {} where there is no such file."""
  if not path.is_file():
    return {}
  try:
    found = json.loads(_text(path, most))
  except (json.JSONDecodeError, RecursionError) as error:
    raise ValueError(f'{path}: not JSON: {error}') from error
  if not isinstance(found, dict):
    raise ValueError(f'{path}: not a JSON object')
  return found


def read_said(folder: pathlib.Path) -> Said:
  """What tokenizer_config.json, special_tokens_map.json, added_tokens.json and config.json say; ValueError if nonsense."""
  config, special, model = _json(folder / CONFIG), _json(folder / MAP), _json(folder / 'config.json')
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
  for key in ('additional_special_tokens', 'extra_special_tokens'):
    several = spoken.get(key) or []
    if not isinstance(several, list | dict):
      raise ValueError(f'{path}: {key}: neither a list nor names')
    extra += [_token(one, path, key) for one in (several.values() if isinstance(several, dict) else several)]
  wanted = {token['content']: token for token in (*flags.values(), *filter(None, extra))}
  if decoder is None:
    path = folder / ADDED
    decoder = {i: wanted.get(piece) or _plain_token(piece) for piece, i in _json(path).items()}
  added = _numbered(decoder, path)
  names = {token['content'] for _, token in added}
  added += [(None, token) for piece, token in wanted.items() if piece not in names]
  name = next((found for found in (config.get('tokenizer_class'), model.get('tokenizer_class')) if found), None)
  kind = model.get('model_type')
  name, kind = (found if isinstance(found, str) else None for found in (name, kind))
  family = pipelines.CLASSES.get(name.removesuffix('Fast')) if name else pipelines.MODELS.get(kind)
  settings = {key: value for key, value in config.items() if key not in DROPPED}
  if 'auto_map' in config:                    # its class is code of the folder
    settings.pop('tokenizer_class', None)
  return Said(name, family, settings, roles, added, config.get('padding_side'), _templates(folder, config))


def _token(value, path, key) -> dict | None:
  """A special token that is said as text, or as a dict with `content`; None for none."""
  if value is None or value == '':
    return None
  content = value.get('content') if isinstance(value, dict) else value
  if not isinstance(content, str) or not content:
    raise ValueError(f'{path}: {key}: neither a text nor a dict with `content`')
  flags = {flag: bool(value[flag]) for flag in _FLAGS if flag in value} if isinstance(value, dict) else {}
  return _plain_token(content) | {'normalized': False} | flags | {'special': True}


def _plain_token(content: str, *, special: bool = False) -> dict:
  return {'content': content, 'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': not special,
          'special': special}


def _numbered(decoder, path) -> list[tuple[int, dict]]:
  """(id, token) of an `added_tokens_decoder`, in the order of the ids."""
  if not isinstance(decoder, dict):
    raise ValueError(f'{path}: added_tokens_decoder: not ids with tokens')
  found = []
  for i, token in decoder.items():
    content = token.get('content') if isinstance(token, dict) else token
    if not str(i).isdecimal() or isinstance(i, bool) or not isinstance(content, str) or not content:
      raise ValueError(f'{path}: added_tokens_decoder: {str(i)[:20]!r} is not an id with a token')
    flags = {flag: bool(token[flag]) for flag in _FLAGS if flag in token} if isinstance(token, dict) else {}
    found.append((int(i), _plain_token(content) | flags))
  return sorted(found, key=lambda pair: pair[0])


def _templates(folder: pathlib.Path, config: dict) -> str | dict[str, str] | None:
  """The chat template as text, or several by name; files go before tokenizer_config.json. Nothing is rendered."""
  files = {path.stem: path for path in sorted((folder / TEMPLATES).glob('*.jinja'))} if (
      folder / TEMPLATES).is_dir() else {}
  if (folder / TEMPLATE).is_file():
    files['default'] = folder / TEMPLATE
  found = {name: _text(path, MOST_BYTES // 10) for name, path in files.items()} or config.get('chat_template')
  if isinstance(found, list):
    found = {one.get('name'): one.get('template') for one in found if isinstance(one, dict)}
  if isinstance(found, dict):
    if not all(isinstance(text, str) for pair in found.items() for text in pair):
      raise ValueError(f'{folder / CONFIG}: chat_template: neither a text nor templates with names')
    return found['default'] if set(found) == {'default'} and files else found or None
  if not isinstance(found, str | None):
    raise ValueError(f'{folder / CONFIG}: chat_template: neither a text nor templates with names')
  return found


def _follow(backend, said: Said) -> None:
  """Lets settings that are said hold against the normaliser and the splitter of tokenizer.json, as transformers does."""
  from tokenizers import normalizers, pre_tokenizers
  settings = said.settings
  if said.family == 'bert' and isinstance(backend.normalizer, normalizers.BertNormalizer):
    for key, attribute in (('do_lower_case', 'lowercase'), ('strip_accents', 'strip_accents'),
                           ('tokenize_chinese_chars', 'handle_chinese_chars')):
      wanted = settings.get(key, getattr(backend.normalizer, attribute))
      if wanted is not getattr(backend.normalizer, attribute) and (isinstance(wanted, bool) or key == 'strip_accents'):
        setattr(backend.normalizer, attribute, wanted)
  elif said.family in ('gpt2', 'roberta') and isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
    wanted = settings.get('add_prefix_space')
    if isinstance(wanted, bool) and wanted is not backend.pre_tokenizer.add_prefix_space:
      backend.pre_tokenizer.add_prefix_space = wanted
