"""The tokenizer that a GGUF file carries: byte pairs with merges, or sentencepiece with
scores.

>>> read(None, {'tokenizer.ggml.model': 'none'}) is None
True
"""

import logging
import pathlib
from typing import Any, NamedTuple

from tl_jax import tree
from tl_jax.data import tokenizers
from tl_jax.interop import sentencepiece, tokenizer_settings
from tl_jax.interop import tokenizers as folders

# The key that numbers the piece of a role; the format itself misspells that of sep.
ROLES = dict(
  bos='bos', eos='eos', unk='unknown', pad='padding', sep='seperator', mask='mask'
)
# The numbers of a sentencepiece vocabulary, where a file does not say.
USUAL = dict(bos=1, eos=2)
TEMPLATE = 'tokenizer.chat_template'
TEMPLATES = 'tokenizer.chat_templates'

_LOG = logging.getLogger(__name__)


class Split(NamedTuple):
  """How a byte-pair vocabulary cuts a text before it merges, by `tokenizer.ggml.pre`.

  pattern: the regular expression of a word, '' for that of GPT-2.
  digits: are digits cut apart first?
  whole: is a word that is in the vocabulary taken without merging?
  bos: is a text begun, where the file does not say?
  """

  pattern: str = ''
  digits: bool = False
  whole: bool = False
  bos: bool = False


_LLAMA3 = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
# Qwen 2 cuts every digit apart; Qwen 3.5 keeps accents with their letters.
_QWEN2 = _LLAMA3.replace('{1,3}', '')
_QWEN35 = _QWEN2.replace(r'?\p{L}+', r'?[\p{L}\p{M}]+').replace(
  r'[^\s\p{L}\p{N}]', r'[^\s\p{L}\p{M}\p{N}]'
)
# Words in which capitals come first; ENDS stands for what may follow a word.
_LETTERS = (
  r'[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ENDS|'
  r'[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*ENDS|'
)
_REST = r'| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+'
_TEKKEN = _LETTERS.replace('ENDS', '') + r'\p{N}' + _REST
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT4O = _LETTERS.replace('ENDS', _CONTRACTIONS) + r'\p{N}{1,3}' + _REST


def _named(names: str, split: Split) -> dict[str, Split]:
  """The same split under several names of `tokenizer.ggml.pre`."""
  return dict.fromkeys(names.split(), split)


SPLITS = _named(
  'llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2',
  Split(_LLAMA3, whole=True, bos=True),
)
SPLITS |= _named('dbrx smaug-bpe glm4 chatglm-bpe', Split(_LLAMA3))
SPLITS |= _named(
  'qwen2 deepseek-r1-qwen kormo megrez stablelm2 hunyuan solar-open grok-2',
  Split(_QWEN2),
)
SPLITS |= _named('qwen35', Split(_QWEN35))
SPLITS |= _named('tekken', Split(_TEKKEN, whole=True, bos=True))
SPLITS |= _named('gpt-4o llama4 kanana2', Split(_GPT4O))
SPLITS |= _named(
  'smollm codeshell exaone starcoder refact command-r minerva-7b', Split(digits=True)
)
SPLITS |= _named(
  'gpt-2 phi-2 gigachat a.x-4.0 mellum exaone4 mpt olmo jais trillion '
  'granite-docling default',
  Split(),
)


def read(path: pathlib.Path, metadata: dict[str, Any]) -> tokenizers.Tokenizer | None:
  """The tokenizer of a file's metadata; None where it says that there is none.

  Raises ValueError that names the key of what we cannot follow.
  """
  model = metadata.get('tokenizer.ggml.model', 'none')
  if model in ('none', 'no_vocab'):
    return None
  if model not in ('gpt2', 'llama'):
    raise ValueError(
      f"tokenizer.ggml.model {model!r} is not supported; 'gpt2' and 'llama' are"
    )
  _check(metadata, ('tokens', 'merges') if model == 'gpt2' else ('tokens',))
  if model == 'gpt2':
    return _byte_pairs(path, metadata)
  return _sentencepiece(path, metadata)


def _check(metadata, needed: tuple[str, ...]) -> None:
  """Raises ValueError for a key that is missing, a token that is given twice and a
  frame that we do not make.
  """
  for key in needed:
    if not metadata.get(f'tokenizer.ggml.{key}'):
      raise ValueError(f'tokenizer.ggml.{key} is missing')
  seen = set()
  for name in metadata['tokenizer.ggml.tokens']:
    if name in seen:
      raise ValueError(f'tokenizer.ggml.tokens: {name[:40]!r} is given twice')
    seen.add(name)
  if metadata.get('tokenizer.ggml.add_sep_token'):
    raise ValueError('tokenizer.ggml.add_sep_token = True is not supported; False is')


def _types(metadata) -> tuple[int, ...]:
  """The type of every piece. Raises ValueError where their number is another one."""
  count = len(metadata['tokenizer.ggml.tokens'])
  types = metadata.get('tokenizer.ggml.token_type', [sentencepiece.NORMAL] * count)
  if len(types) != count:
    raise ValueError(f'tokenizer.ggml.token_type: {len(types)} types of {count} tokens')
  return tuple(map(int, types))


def _declared(metadata, *, bos: bool) -> tokenizer_settings.DeclaredSettings:
  """What the metadata declares: roles, what is put around a text, the longest text,
  chat templates.

  bos: is a text begun, where the file does not say?
  """
  roles = _roles(metadata)
  settings = {}
  for role, usual in (('bos', bos), ('eos', False)):
    key = f'tokenizer.ggml.add_{role}_token'
    added = bool(metadata.get(key, usual and role in roles))
    if added and role not in roles:
      raise ValueError(f'{key}: true, but there is no tokenizer.ggml.{role}_token_id')
    settings[f'add_{role}_token'] = added
  longest = metadata.get(f'{metadata.get("general.architecture")}.context_length')
  if longest is not None:
    settings['model_max_length'] = int(longest)
  return tokenizer_settings.DeclaredSettings(
    name=None,
    family=None,
    settings=settings,
    roles=roles,
    added=[],
    side=None,
    template=_template(metadata),
  )


def _roles(metadata) -> dict[str, str]:
  """The piece of each role that the file numbers."""
  names = metadata['tokenizer.ggml.tokens']
  roles = {}
  for role, key in ROLES.items():
    number = metadata.get(f'tokenizer.ggml.{key}_token_id')
    if number is None:
      continue
    if not 0 <= number < len(names):
      raise ValueError(
        f'tokenizer.ggml.{key}_token_id: {number} is outside of {len(names)} tokens'
      )
    roles[role] = names[number]
  return roles


def _template(metadata) -> str | dict[str, str] | None:
  """The chat template, or several by their names."""
  named = {}
  # The list of names may name one that the file does not have.
  for name in metadata.get(TEMPLATES) or []:
    key = f'{TEMPLATE}.{name}'
    if key in metadata:
      named[name] = metadata[key]
  if not named:
    return metadata.get(TEMPLATE)
  if TEMPLATE in metadata:
    return {'default': metadata[TEMPLATE]} | named
  return named


def _byte_pairs(path: pathlib.Path, metadata) -> tokenizers.Tokenizer:
  """A vocabulary with merges, as GPT-2, Llama 3 and Qwen have it."""
  split = _split(path, metadata)
  types = _types(metadata)
  names = metadata['tokenizer.ggml.tokens']
  merges = metadata['tokenizer.ggml.merges']
  model = {
    'type': 'BPE',
    'dropout': None,
    'unk_token': None,
    'continuing_subword_prefix': None,
    'end_of_word_suffix': None,
    'fuse_unk': False,
    'byte_fallback': False,
    'ignore_merges': split.whole,
  }
  model['vocab'] = {name: i for i, name in enumerate(names)}
  model['merges'] = [merge.split(' ', 1) for merge in merges]
  added = []
  for i, (name, kind) in enumerate(zip(names, types, strict=True)):
    if kind not in sentencepiece.APART:
      continue
    # A piece of the user's own is found in a text as it stands; a control token is
    # found there only by who asks for it.
    special = kind != sentencepiece.OWN
    token = tokenizer_settings.plain_token(name, special=special)
    added.append((i, token | {'normalized': False}))
  declared = _declared(metadata, bos=split.bos)
  return folders.load_pairs(path, model, added, _parts(split), declared)


def _split(path: pathlib.Path, metadata) -> Split:
  """How the file's texts are cut into words.

  Raises ValueError for a `tokenizer.ggml.pre` that is not known. Warns if there is
  none.
  """
  name = metadata.get('tokenizer.ggml.pre', 'default')
  if name == 'default':
    _LOG.warning(
      '%s: does not say tokenizer.ggml.pre; texts are cut as those of GPT-2, which '
      'may not be how its model was trained',
      path,
    )
  if name not in SPLITS:
    raise ValueError(
      f'tokenizer.ggml.pre {name!r} is not known, so nobody can say how it cuts a '
      f'text; nearest: {tree.nearest(str(name), SPLITS)}'
    )
  # Byte-level pieces begin words with their own sign of a space.
  if metadata.get('tokenizer.ggml.add_space_prefix'):
    raise ValueError(
      f'tokenizer.ggml.add_space_prefix = True is not supported with {name!r}; False is'
    )
  return SPLITS[name]


def _parts(split: Split) -> dict[str, Any]:
  """{normalizer, pre_tokenizer, decoder} of a byte-pair vocabulary."""
  byte_level = {
    'type': 'ByteLevel',
    'add_prefix_space': False,
    'trim_offsets': True,
    # Its own pattern is that of GPT-2.
    'use_regex': not split.pattern,
  }
  steps = []
  if split.digits:
    steps.append({'type': 'Digits', 'individual_digits': True})
  if split.pattern:
    words = {
      'type': 'Split',
      'pattern': {'Regex': split.pattern},
      'behavior': 'Isolated',
      'invert': False,
    }
    steps.append(words)
  # Last: behind it there are no letters any more, only bytes.
  steps.append(byte_level)
  splitter = byte_level
  if len(steps) > 1:
    splitter = {'type': 'Sequence', 'pretokenizers': steps}
  # A decoder splits nothing; this is the library's own default.
  decoder = byte_level | {'use_regex': True}
  return dict(normalizer=None, decoder=decoder, pre_tokenizer=splitter)


def _sentencepiece(path: pathlib.Path, metadata) -> tokenizers.Tokenizer:
  """A vocabulary with scores, as Llama 2, Mistral and Gemma have it."""
  # The numbers that such a vocabulary has where the file does not say.
  usual = {f'tokenizer.ggml.{key}_token_id': i for key, i in USUAL.items()}
  metadata = usual | metadata
  names = tuple(metadata['tokenizer.ggml.tokens'])
  types = _types(metadata)
  scores = metadata.get('tokenizer.ggml.scores')
  if scores is None or len(scores) != len(names):
    raise ValueError(
      f'tokenizer.ggml.scores: {len(scores or ())} scores of {len(names)} tokens'
    )
  prefix = metadata.get('tokenizer.ggml.add_space_prefix', True)
  pieces = sentencepiece.Pieces(
    kind='bpe',
    names=names,
    scores=tuple(map(float, scores)),
    types=types,
    unknown=_unknown(metadata, types),
    byte_fallback=sentencepiece.BYTE in types,
    charsmap=b'',
    dummy_prefix=bool(prefix),
    squeeze=False,
  )
  # The class of Llama stands for all: nothing is put around a text but what is said.
  declared = _declared(metadata, bos=True)
  declared = declared._replace(name='LlamaTokenizer', family='llama')
  return folders.load_pieces(path, pieces, declared)


def _unknown(metadata, types: tuple[int, ...]) -> int:
  """The id of the unknown piece: as numbered, else the one of that type, else 0."""
  number = metadata.get('tokenizer.ggml.unknown_token_id')
  if number is None and sentencepiece.UNKNOWN in types:
    return types.index(sentencepiece.UNKNOWN)
  return number or 0
