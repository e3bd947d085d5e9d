"""The tokenizer of a Hugging Face folder, in and out: nothing in the folder is run,
transformers is not needed.

>>> load_tokenizer('/no/such/folder') is None
True
"""

import base64
import itertools
import json
import pathlib
import struct

from tl_jax.data import store, tokenizers
from tl_jax.interop import pipelines, sentencepiece, translators
from tl_jax.interop import tokenizer_settings as spoken
from tl_jax.interop.tokenizer_settings import ROLES, Said

MOST_SENTINELS = 10_000
# Of models for pictures and text; the tables of those for text alone have no row for
# them.
PLACEHOLDERS = ('<image_soft_token>',)


def load_tokenizer(folder) -> tokenizers.Tokenizer | None:
  """The tokenizer of a Hugging Face folder; None where it has no tokenizer files.

  From tokenizer.json, else vocab.txt (WordPiece), else vocab.json and merges.txt
  (byte-level BPE), else a sentencepiece model (spiece.model, tokenizer.model,
  sentencepiece.bpe.model, spm.model; of Marian source.spm, which reads, with
  vocab.json); roles, padding side and chat template as tokenizer_config.json,
  special_tokens_map.json and added_tokens.json say. Raises ValueError that names the
  file.
  """
  folder = pathlib.Path(folder)
  path = next((folder / name for name in READERS if (folder / name).is_file()), None)
  if path is None:
    return None
  return _build(path, *READERS[path.name](path, spoken.read_said(folder)))


def load_pieces(path, pieces: sentencepiece.Pieces, said: Said) -> tokenizers.Tokenizer:
  """The tokenizer of sentencepiece pieces that `path`, a file of another kind, holds."""
  return _build(pathlib.Path(path), *_from_pieces(pathlib.Path(path), pieces, said))


def load_pairs(
  path, model: dict, added: list[tuple[int, dict]], parts: dict, said: Said
) -> tokenizers.Tokenizer:
  """The tokenizer of a byte-pair model that `path`, a file of another kind, holds.

  model and parts (normalizer, pre_tokenizer, decoder): as tokenizer.json spells them.
  added: (id, token) of the pieces that are found in a text before it is cut.
  """
  path = pathlib.Path(path)
  return _build(path, _state(path, said, model, model['vocab'], parts, added), said)


def require_rows(tokenizer: tokenizers.Tokenizer, rows: int) -> None:
  """Raises ValueError for a piece whose id is beyond a token table of so many rows.

  A table with more rows than pieces is padded, which is fine.
  """
  if tokenizer.vocabulary_size <= rows:
    return
  ids = tokenizer.backend.get_vocab(with_added_tokens=True)
  most = max((i, piece) for piece, i in ids.items() if piece not in PLACEHOLDERS)
  if most[0] >= rows:
    raise ValueError(
      f'the tokenizer has ids up to {most[0]} ({most[1]!r}), but vocab_size is '
      f'{rows}: give the table a row for each, or remove the pieces'
    )


def _build(path: pathlib.Path, state, said: Said) -> tokenizers.Tokenizer:
  folder, backend = path.parent, _guard(path, lambda: _open(state))
  if path.name == 'tokenizer.json':
    _follow(backend, said)
  named = (said.name or {'gemma': 'GemmaTokenizer'}.get(said.family, '')).removesuffix(
    'Fast'
  )
  side = (
    said.side
    or (backend.padding or {}).get('direction')
    or ('left' if named in pipelines.LEFT else 'right')
  )
  if side not in ('left', 'right'):
    raise ValueError(
      f"{folder / spoken.CONFIG}: padding_side: {side!r} is not one of 'left', 'right'"
    )
  _add(backend, said, folder)
  pieces = {
    **{
      role: piece
      for role, piece in pipelines.ROLES.get(said.family, {}).items()
      if backend.token_to_id(piece) is not None
    },
    **said.roles,
  }
  settings = said.settings | {f'{role}_token': piece for role, piece in pieces.items()}
  ids = {
    role: None if piece is None else backend.token_to_id(piece)
    for role, piece in pieces.items()
  }
  tokenizer = _guard(
    path,
    lambda: tokenizers.wrap(
      backend, ids, padding_side=side, chat_template=said.template, settings=settings
    ),
  )
  _guard(path, lambda: tokenizer.pair)
  return tokenizer


def _open(state):
  """A backend from the text or the state of a tokenizer.json."""
  import tokenizers as library

  backend = library.Tokenizer.from_str(
    state if isinstance(state, str) else json.dumps(state)
  )
  most = max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
  if not 0 <= most < sentencepiece.MOST_PIECES:
    raise ValueError('no pieces' if most < 0 else f'an id of {most}')
  return backend


def _guard(path, run):
  """What run() returns; whatever the library throws, it becomes a ValueError of one
  line that names the file.
  """
  try:
    return run()
  except BaseException as error:  # noqa: BLE001 - the library raises bare Exception, and panics beyond it
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
      raise
    raise ValueError(
      f'{path}: not a tokenizer: {" ".join(str(error).split())[:200]}'
    ) from error


def _follow(backend, said: Said) -> None:
  """Settings that are said hold against the normaliser and the splitter of
  tokenizer.json, as in transformers.
  """
  from tokenizers import normalizers, pre_tokenizers

  settings = said.settings
  if said.family in ('bert', 'mpnet') and isinstance(
    backend.normalizer, normalizers.BertNormalizer
  ):
    for key, attribute in (
      ('do_lower_case', 'lowercase'),
      ('strip_accents', 'strip_accents'),
      ('tokenize_chinese_chars', 'handle_chinese_chars'),
    ):
      wanted = settings.get(key, getattr(backend.normalizer, attribute))
      if wanted is not getattr(backend.normalizer, attribute) and (
        isinstance(wanted, bool) or key == 'strip_accents'
      ):
        setattr(backend.normalizer, attribute, wanted)
  elif said.family in ('gpt2', 'roberta') and isinstance(
    backend.pre_tokenizer, pre_tokenizers.ByteLevel
  ):
    wanted = settings.get('add_prefix_space')
    if (
      isinstance(wanted, bool) and wanted is not backend.pre_tokenizer.add_prefix_space
    ):
      backend.pre_tokenizer.add_prefix_space = wanted


def _add(backend, said: Said, folder: pathlib.Path) -> None:
  """Registers the special and added tokens that the folder names; those beyond the
  vocabulary get their ids.
  """
  from tokenizers import AddedToken

  known = backend.get_added_tokens_decoder()
  new = []
  for i, token in said.added:
    held = backend.token_to_id(token['content'])
    if None not in (i, held) and held != i:
      raise ValueError(
        f'{folder}: added token {token["content"]!r} has id {i}, but the vocabulary says {held}'
      )
    # What tokenizer.json says of a token goes before a list of special ones:
    # transformers 5 lists others with them.
    if held not in known or (
      i is not None and token['special'] and not known[held].special
    ):
      new.append((i, token))
  for special, group in itertools.groupby(new, lambda pair: pair[1]['special']):
    several = [AddedToken(**token) for _, token in group]
    (backend.add_special_tokens if special else backend.add_tokens)(several)
  for i, token in new:
    if i is not None and backend.token_to_id(token['content']) != i:
      raise ValueError(
        f'{folder}: added token {token["content"]!r} has id {i}, but the next free one is '
        f'{backend.token_to_id(token["content"])}'
      )


def _settle(
  said: Said, path: pathlib.Path, families: tuple[str, ...], guess: str | None
) -> Said:
  """The same with a family that such a file can be of. Raises ValueError for a class
  that numbers pieces otherwise.
  """
  if said.family in families:
    return said
  name = (said.name or 'PreTrainedTokenizer').removesuffix('Fast')
  if name not in ('PreTrainedTokenizer', 'TokenizersBackend'):
    known = sorted(
      name for name, family in pipelines.CLASSES.items() if family in families
    )
    raise ValueError(
      f'{path}: a {said.name} is read from tokenizer.json only; from {path.name}: {", ".join(known)}'
    )
  return said._replace(family=guess)


def _state(
  path,
  said: Said,
  model: dict,
  ids: dict[str, int],
  parts: dict,
  added: list[tuple[int, dict]] = (),
) -> dict:
  """A whole tokenizer.json of a model, its vocabulary and what is around it; `added`
  are tokens besides the roles.
  """
  roles = {
    role: piece
    for role, piece in pipelines.ROLES.get(said.family, {}).items()
    if piece in ids
  } | said.roles
  tokens = dict(added)
  tokens |= {
    ids[piece]: spoken.plain_token(piece, special=True)
    for piece in roles.values()
    if piece in ids
  }
  tokens |= {
    ids[token['content']]: token for _, token in said.added if token['content'] in ids
  }
  try:
    frame = pipelines.post_processor(
      *pipelines.frames(said.family, roles, said.settings), ids
    )
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    **parts,
    'post_processor': frame,
    'model': model,
    'added_tokens': [{'id': i, **token} for i, token in sorted(tokens.items())],
  }


def _read_json(path: pathlib.Path, said: Said):
  text = spoken.read_text(path)
  if '"Precompiled"' in text:  # the library does not survive a damaged one
    try:
      state = json.loads(text)
      for charsmap in pipelines.charsmaps(state if isinstance(state, dict) else {}):
        sentencepiece.check_charsmap(base64.b64decode(charsmap, validate=True))
    except (ValueError, RecursionError) as error:
      raise ValueError(f'{path}: not a tokenizer: {error}') from error
  return text, said


def _lines(path: pathlib.Path) -> list[str]:
  text = (
    spoken.read_text(path).replace('\r\n', '\n').replace('\r', '\n').removesuffix('\n')
  )
  if text.count('\n') >= sentencepiece.MOST_PIECES:
    raise ValueError(f'{path}: more than {sentencepiece.MOST_PIECES} lines')
  return text.split('\n')


def _read_words(path: pathlib.Path, said: Said):
  """A piece a line; the later one of two that are the same counts, as it does in
  transformers.
  """
  said = _settle(said, path, ('bert', 'mpnet'), 'bert')
  lines = _lines(path)
  ids = {piece: i for i, piece in enumerate(lines)}
  unknown = said.roles.get('unk') or pipelines.ROLES[said.family]['unk']
  if unknown not in ids:
    raise ValueError(f'{path}: no {unknown!r} among {len(ids)} pieces')
  model = {
    'type': 'WordPiece',
    'unk_token': unknown,
    'continuing_subword_prefix': '##',
    'max_input_chars_per_word': 100,
    'vocab': ids,
  }
  return _state(
    path, said, model, ids, pipelines.around(said.family, said.settings)
  ), said


def _numbers(vocabulary: pathlib.Path) -> dict[str, int]:
  """The pieces of a vocab.json with their ids. Raises ValueError unless each number is
  there once.
  """
  ids = spoken.read_json(vocabulary, spoken.MOST_BYTES)
  seen = {}
  for piece, i in ids.items():
    if type(i) is not int or not 0 <= i < len(ids):
      raise ValueError(
        f'{vocabulary}: {piece[:40]!r} has id {i!r:.20}, but {len(ids)} pieces have 0 to {len(ids) - 1}'
      )
    if seen.setdefault(i, piece) != piece:
      raise ValueError(
        f'{vocabulary}: {seen[i][:40]!r} and {piece[:40]!r} both have id {i}'
      )
  return ids


def _read_pairs(path: pathlib.Path, said: Said):
  """The pieces with their ids in vocab.json; in merges.txt two parts a line."""
  vocabulary, merges = path.with_name('vocab.json'), path.with_name('merges.txt')
  for file, other in ((vocabulary, merges), (merges, vocabulary)):
    if not file.is_file():
      raise ValueError(f'{file}: missing; {other.name} says nothing without it')
  ids = _numbers(vocabulary)
  pairs = []
  for number, line in enumerate(_lines(merges), 1):
    if not line or line.startswith('#version'):
      continue
    pair = line.split(' ')
    for piece in (*pair, ''.join(pair)):
      if len(pair) != 2 or piece not in ids:
        raise ValueError(
          f'{merges}: line {number}: '
          + (
            f'{piece[:40]!r} is not in {vocabulary.name}'
            if len(pair) == 2
            else f'{len(pair)} parts, not two'
          )
        )
    pairs.append(pair)
  said = _settle(
    said,
    path,
    ('gpt2', 'roberta'),
    'roberta' if {'<s>', '</s>', '<mask>'} <= ids.keys() else 'gpt2',
  )
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
  return _state(
    path, said, model, ids, pipelines.around(said.family, said.settings)
  ), said


def _read_pieces(path: pathlib.Path, said: Said):
  """A sentencepiece model; XLM-RoBERTa numbers its pieces anew, T5 has its sentinels
  after them, the first one last.
  """
  try:
    pieces = sentencepiece.read(spoken.read_bytes(path))
  except (ValueError, struct.error) as error:
    raise ValueError(f'{path}: not a sentencepiece model: {error}') from error
  return _from_pieces(path, pieces, said)


def _from_pieces(path: pathlib.Path, pieces: sentencepiece.Pieces, said: Said):
  try:
    merges = sentencepiece.merges(pieces) if pieces.kind == 'bpe' else []
  except ValueError as error:
    raise ValueError(f'{path}: not a sentencepiece model: {error}') from error
  families = (
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
  said = _settle(said, path, families, _guess(path, pieces))
  names, scores, unknown, types = (
    list(pieces.names),
    list(pieces.scores),
    pieces.unknown,
    list(pieces.types),
  )
  if said.family in ('xlm-roberta', 'camembert'):
    names, scores, types = _numbered_anew(path, pieces, said)
    unknown = 3
  if said.family in ('pegasus', *translators.CODES):
    roles = pipelines.ROLES[said.family] | {
      role: piece for role, piece in said.roles.items() if piece
    }
    try:
      names, scores, types, unknown = translators.numbered(
        pieces, said.family, roles, said.settings
      )
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from error
  ids = {name: i for i, name in enumerate(names)}
  if len(ids) != len(names):
    raise ValueError(
      f'{path}: has a piece of a name that {said.family} gives to another'
    )
  apart = (sentencepiece.UNKNOWN, sentencepiece.CONTROL, sentencepiece.OWN)
  added = [
    (
      i,
      spoken.plain_token(name, special=kind != sentencepiece.OWN)
      | {'normalized': pipelines.SPACE in name},
    )
    for i, (name, kind) in enumerate(zip(names, types, strict=True))
    if kind in apart
  ]
  if said.family == 't5':
    count = said.settings.get('extra_ids', 0 if '<extra_id_0>' in ids else 100)
    if type(count) is not int or not 0 <= count <= MOST_SENTINELS:
      raise ValueError(
        f'{path.with_name(spoken.CONFIG)}: extra_ids: {count!r:.40} is not a number of sentinels'
      )
    added += [
      (len(names) + i, spoken.plain_token(f'<extra_id_{count - 1 - i}>', special=True))
      for i in range(count)
    ]
  if said.family == 'deberta-v2':
    added += _deberta_mask(path, said, ids)
  if pieces.kind == 'bpe':
    model = {
      'type': 'BPE',
      'dropout': None,
      'unk_token': names[unknown],
      'continuing_subword_prefix': None,
      'end_of_word_suffix': None,
      'fuse_unk': True,
      'byte_fallback': pieces.byte_fallback,
      'ignore_merges': False,
      'vocab': ids,
      'merges': merges,
    }
  else:
    model = {
      'type': 'Unigram',
      'unk_id': unknown,
      'byte_fallback': pieces.byte_fallback,
      'vocab': list(zip(names, scores, strict=True)),
    }
  return _state(
    path,
    said,
    model,
    ids,
    pipelines.around_pieces(said.family, pieces, said.settings),
    added,
  ), said


def _read_marian(path: pathlib.Path, said: Said):
  """The source's sentencepiece model, its pieces numbered by vocab.json, which both
  languages share.
  """
  said = _settle(said, path, ('marian',), 'marian')
  if said.settings.get('separate_vocabs'):
    raise ValueError(
      f'{path.with_name(spoken.CONFIG)}: separate_vocabs: a vocabulary for each side is not supported'
    )
  vocabulary = path.with_name('vocab.json')
  if not vocabulary.is_file():
    raise ValueError(f'{vocabulary}: missing; {path.name} says no ids without it')
  ids = _numbers(vocabulary)
  try:
    pieces = sentencepiece.read(spoken.read_bytes(path))
  except (ValueError, struct.error) as error:
    raise ValueError(f'{path}: not a sentencepiece model: {error}') from error
  unknown = said.roles.get('unk') or pipelines.ROLES['marian']['unk']
  if unknown not in ids or pieces.kind != 'unigram':
    raise ValueError(
      f'{path}: no unigram model, or {vocabulary.name} has no {unknown!r}'
    )
  model = {
    'type': 'Unigram',
    'unk_id': ids[unknown],
    'byte_fallback': pieces.byte_fallback,
    'vocab': translators.marian_scores(pieces, ids),
  }
  added = [
    (i, spoken.plain_token(piece) | {'normalized': False})
    for piece, i in ids.items()
    if translators.is_code(piece)
  ]
  return _state(
    path,
    said,
    model,
    ids,
    pipelines.around_pieces('marian', pieces, said.settings),
    added,
  ), said


def _deberta_mask(
  path: pathlib.Path, said: Said, ids: dict[str, int]
) -> list[tuple[int, dict]]:
  """The mask behind the pieces, which the models of DeBERTa lack. ValueError for
  settings that only code knows.
  """
  for key in ('split_by_punct', 'do_lower_case'):
    if said.settings.get(key):
      raise ValueError(
        f'{path.with_name(spoken.CONFIG)}: {key}: true is read from tokenizer.json only'
      )
  mask = said.roles.get('mask', pipelines.ROLES['deberta-v2']['mask'])
  return (
    [(len(ids), spoken.plain_token(mask, special=True))]
    if mask and mask not in ids
    else []
  )


def _numbered_anew(
  path: pathlib.Path, pieces: sentencepiece.Pieces, said: Said
) -> tuple[list, list, list]:
  """(names, scores, types) of the pieces with those of fairseq in front and the mask
  behind.

  XLM-RoBERTa has its own first four in the place of the model's first three; CamemBERT
  keeps the model's, but for the unknown piece, behind five of which only two are ever
  used.
  """
  roles = pipelines.ROLES[said.family] | {
    role: piece for role, piece in said.roles.items() if piece
  }
  names = list(pieces.names)
  if said.family == 'camembert':
    kept = 1
    front = ['<s>NOTUSED', roles['pad'], '</s>NOTUSED', roles['unk'], '<unk>NOTUSED']
    wanted = [roles['unk']]
  else:
    kept = 3
    front = [roles[role] for role in ('bos', 'pad', 'eos', 'unk')]
    wanted = [roles['unk'], roles['bos'], roles['eos']]
  if names[:kept] != wanted:
    title = {'camembert': 'CamemBERT'}.get(said.family, 'XLM-RoBERTa')
    raise ValueError(f'{path}: begins with {names[:3]}, not as a model of {title} does')
  scores = [0.0] * len(front) + list(pieces.scores[kept:]) + [0.0]
  types = (
    [sentencepiece.CONTROL] * len(front)
    + list(pieces.types[kept:])
    + [sentencepiece.CONTROL]
  )
  return [*front, *names[kept:], roles['mask']], scores, types


def _guess(path: pathlib.Path, pieces: sentencepiece.Pieces) -> str | None:
  """The family of a model file where nothing else says it."""
  if pieces.kind == 'bpe':
    return (
      'gemma' if '<bos>' in pieces.names else 'llama' if '<s>' in pieces.names else None
    )
  if {'[CLS]', '[SEP]'} <= set(pieces.names):
    return 'deberta-v2' if path.name == 'spm.model' else 'albert'
  if path.name == 'sentencepiece.bpe.model' and pieces.names[:3] == (
    '<unk>',
    '<s>',
    '</s>',
  ):
    return 'xlm-roberta'
  return 't5' if pieces.names[:3] == ('<pad>', '</s>', '<unk>') else None


# The files of a vocabulary, the first one found is read.
READERS = {
  'tokenizer.json': _read_json,
  'vocab.txt': _read_words,
  'source.spm': _read_marian,
  'vocab.json': _read_pairs,
  'merges.txt': _read_pairs,
  'spiece.model': _read_pieces,
  'tokenizer.model': _read_pieces,
  'sentencepiece.bpe.model': _read_pieces,
  'spm.model': _read_pieces,
}


def save_tokenizer(folder, tokenizer: tokenizers.Tokenizer) -> None:
  """Writes a tokenizer so that `AutoTokenizer` of transformers opens it to the same
  ids, special tokens and templates.

  tokenizer.json, tokenizer_config.json, special_tokens_map.json, and
  chat_template.jinja for a single template. Settings of the folder that it came from
  are kept, but those that name code or files; so is its `tokenizer_class`, unless
  transformers would make another tokenizer under that name.
  """
  folder, backend, pieces = pathlib.Path(folder), tokenizer.backend, tokenizer.pieces
  state = json.loads(backend.to_str())
  roles = _roles(tokenizer)
  config = {
    key: value for key, value in tokenizer.settings.items() if key not in spoken.DROPPED
  }
  normalizer, splitter = state['normalizer'] or {}, state['pre_tokenizer'] or {}
  if normalizer.get('type') == 'BertNormalizer':
    config |= dict(
      do_lower_case=normalizer['lowercase'],
      strip_accents=normalizer['strip_accents'],
      tokenize_chinese_chars=normalizer['handle_chinese_chars'],
    )
  if splitter.get('type') == 'ByteLevel':
    config['add_prefix_space'] = splitter['add_prefix_space']
  frame = [
    (slot if isinstance(slot, str) else pieces[slot], kind)
    for slot, kind in tokenizer.pair
  ]
  config['tokenizer_class'] = name = pipelines.class_of(state, frame, config, roles)
  family = pipelines.CLASSES.get(name.removesuffix('Fast'))
  # A class adds the pieces of its roles to the vocabulary where they are missing, and
  # T5's all its sentinels.
  config |= {f'{role}_token': None for role in pipelines.ROLES.get(family, ())}
  if family == 't5':
    config['extra_ids'] = len(tokenizer.sentinels)
  if name == pipelines.GENERIC:
    types = (
      ['token_type_ids']
      if tokenizer.cls is not None and any(kind for _, kind in frame)
      else []
    )
    config.setdefault('model_input_names', ['input_ids', *types, 'attention_mask'])
  config.setdefault('clean_up_tokenization_spaces', False)
  config |= {f'{role}_token': piece for role, piece in roles.items()} | {
    'padding_side': tokenizer.padding_side
  }
  config['added_tokens_decoder'] = {
    str(i): {flag: getattr(token, flag) for flag in ('content', *spoken.FLAGS)}
    for i, token in sorted(backend.get_added_tokens_decoder().items())
  }
  special = {
    f'{role}_token': piece for role, piece in roles.items() if piece is not None
  }
  special |= {key: config[key] for key in spoken.SEVERAL if config.get(key)}
  template = tokenizer.chat_template
  for stale in (
    folder / spoken.ADDED,
    folder / spoken.TEMPLATE,
    *(folder / spoken.TEMPLATES).glob('*.jinja'),
  ):
    stale.unlink(missing_ok=True)  # they would contradict what is written here
  if spoken.is_text(template) and '\r' not in template:
    store.write_atomically(folder / spoken.TEMPLATE, template.encode())
  elif template is not None:
    config['chat_template'] = (
      template
      if isinstance(template, str)
      else [{'name': key, 'template': text} for key, text in template.items()]
    )
  for file, content in (
    ('tokenizer.json', state),
    (spoken.CONFIG, config),
    (spoken.MAP, special),
  ):
    text = (
      json.dumps(content, indent=2)
      if content is not state
      else backend.to_str(pretty=True)
    )
    store.write_atomically(folder / file, (text + '\n').encode())


def _roles(tokenizer: tokenizers.Tokenizer) -> dict[str, str | None]:
  """The pieces of the roles that its folder spoke of; else of those that it does not
  merely borrow from others.
  """
  found = {role: getattr(tokenizer, role) for role in ROLES}
  pieces = {
    role: None if i is None else tokenizer.pieces[i] for role, i in found.items()
  }
  settings = {
    key.removesuffix('_token'): value
    for key, value in tokenizer.settings.items()
    if key.endswith('_token')
  }
  if settings.keys() & pieces.keys():
    return {role: settings[role] and pieces[role] for role in ROLES if role in settings}
  borrowed = {'bos': found['cls'], 'eos': found['sep'], 'pad': found['eos']}
  return {
    role: piece
    for role, piece in pieces.items()
    if piece is not None
    and (role not in borrowed or found[role] != borrowed[role])
    and (role != 'pad' or piece in tokenizers.ROLES['pad'])
  }
