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

# The role of a piece to the key that numbers it; the key of sep is misspelled there.
ROLES = dict(
  bos='bos', eos='eos', unk='unknown', pad='padding', sep='seperator', mask='mask'
)
USUAL = dict(bos=1, eos=2)
TEMPLATE, TEMPLATES = 'tokenizer.chat_template', 'tokenizer.chat_templates'

_LOG = logging.getLogger(__name__)


class Split(NamedTuple):
  """How a byte-pair vocabulary cuts a text before it merges, by `tokenizer.ggml.pre`.

  pattern: what a piece matches, '' for that of GPT-2. digits: are they cut apart first?
  whole: is a piece that is in the vocabulary taken without merging? bos: is a text
  begun, where the file does not say?
  """

  pattern: str = ''
  digits: bool = False
  whole: bool = False
  bos: bool = False


_LLAMA3 = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
  r'|\s+(?!\S)|\s+'
)
_QWEN2 = _LLAMA3.replace('{1,3}', '')
_QWEN35 = _QWEN2.replace(r'?\p{L}+', r'?[\p{L}\p{M}]+').replace(
  r'[^\s\p{L}\p{N}]', r'[^\s\p{L}\p{M}\p{N}]'
)
_LETTERS = (
  r'[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ENDS|'
  r'[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*ENDS|'
)
_REST = r'| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+'
_TEKKEN = _LETTERS.replace('ENDS', '') + r'\p{N}' + _REST
_GPT4O = (
  _LETTERS.replace('ENDS', "(?i:'s|'t|'re|'ve|'m|'ll|'d)?") + r'\p{N}{1,3}' + _REST
)
_SPLITS = {
  'llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2': Split(
    _LLAMA3, whole=True, bos=True
  ),
  'dbrx smaug-bpe glm4 chatglm-bpe': Split(_LLAMA3),
  'qwen2 deepseek-r1-qwen kormo megrez stablelm2 hunyuan solar-open grok-2': Split(
    _QWEN2
  ),
  'qwen35': Split(_QWEN35),
  'tekken': Split(_TEKKEN, whole=True, bos=True),
  'gpt-4o llama4 kanana2': Split(_GPT4O),
  'smollm codeshell exaone starcoder refact command-r minerva-7b': Split(digits=True),
  'gpt-2 phi-2 gigachat a.x-4.0 mellum exaone4 mpt olmo jais trillion '
  'granite-docling default': Split(),
}
SPLITS = {name: split for names, split in _SPLITS.items() for name in names.split()}


def read(path: pathlib.Path, said: dict[str, Any]) -> tokenizers.Tokenizer | None:
  """The tokenizer of a file's metadata; None where it says that there is none.

  Raises ValueError that names the key of what we cannot follow.
  """
  model = said.get('tokenizer.ggml.model', 'none')
  if model in ('none', 'no_vocab'):
    return None
  readers = {'gpt2': _byte_pairs, 'llama': _sentencepiece}
  if model not in readers:
    raise ValueError(
      f"tokenizer.ggml.model {model!r} is not supported; 'gpt2' and 'llama' are"
    )
  for key in ('tokens', *(('merges',) if model == 'gpt2' else ())):
    if not said.get(f'tokenizer.ggml.{key}'):
      raise ValueError(f'tokenizer.ggml.{key} is missing')
  names = said['tokenizer.ggml.tokens']
  if len(set(names)) != len(names):
    twice = next(name for i, name in enumerate(names) if name in names[:i])
    raise ValueError(f'tokenizer.ggml.tokens: {twice[:40]!r} is given twice')
  if said.get('tokenizer.ggml.add_sep_token'):
    raise ValueError('tokenizer.ggml.add_sep_token = True is not supported; False is')
  return readers[model](path, said)


def _types(said) -> tuple[int, ...]:
  """The type of every piece. Raises ValueError where their number is another one."""
  count = len(said['tokenizer.ggml.tokens'])
  types = said.get('tokenizer.ggml.token_type', [sentencepiece.NORMAL] * count)
  if len(types) != count:
    raise ValueError(f'tokenizer.ggml.token_type: {len(types)} types of {count} tokens')
  return tuple(map(int, types))


def _said(said, *, bos: bool) -> tokenizer_settings.DeclaredSettings:
  """Roles, what is put around a text, and chat templates.

  bos: is a text begun, where the file does not say?
  """
  names = said['tokenizer.ggml.tokens']
  roles = {}
  for role, key in ROLES.items():
    number = said.get(f'tokenizer.ggml.{key}_token_id')
    if number is None:
      continue
    if not 0 <= number < len(names):
      raise ValueError(
        f'tokenizer.ggml.{key}_token_id: {number} is outside of {len(names)} tokens'
      )
    roles[role] = names[number]
  settings = {}
  for role, usual in (('bos', bos), ('eos', False)):
    added = bool(said.get(f'tokenizer.ggml.add_{role}_token', usual and role in roles))
    if added and role not in roles:
      raise ValueError(
        f'tokenizer.ggml.add_{role}_token: true, but there is no tokenizer.ggml.{role}_token_id'
      )
    settings[f'add_{role}_token'] = added
  return tokenizer_settings.DeclaredSettings(
    None, None, settings, roles, [], None, _template(said)
  )


def _template(said) -> str | dict[str, str] | None:
  """The chat template, or several by their names."""
  names = said.get(TEMPLATES) or []
  named = {
    name: said[f'{TEMPLATE}.{name}'] for name in names if f'{TEMPLATE}.{name}' in said
  }
  if not named:
    return said.get(TEMPLATE)
  return ({'default': said[TEMPLATE]} if TEMPLATE in said else {}) | named


def _byte_pairs(path: pathlib.Path, said) -> tokenizers.Tokenizer:
  """A vocabulary with merges, as GPT-2, Llama 3 and Qwen have it."""
  kind = said.get('tokenizer.ggml.pre', 'default')
  if kind == 'default':
    _LOG.warning(
      '%s: does not say tokenizer.ggml.pre; texts are cut as those of GPT-2, which '
      'may not be how its model was trained',
      path,
    )
  if kind not in SPLITS:
    raise ValueError(
      f'tokenizer.ggml.pre {kind!r} is not known, so nobody can say how it cuts a '
      'text; nearest: '
      f'{tree.nearest(str(kind), SPLITS)}'
    )
  if said.get('tokenizer.ggml.add_space_prefix'):
    raise ValueError(
      f'tokenizer.ggml.add_space_prefix = True is not supported with {kind!r}; False is'
    )
  split, types = SPLITS[kind], _types(said)
  names = said['tokenizer.ggml.tokens']
  merges = [merge.split(' ', 1) for merge in said['tokenizer.ggml.merges']]
  model = {
    'type': 'BPE',
    'dropout': None,
    'unk_token': None,
    'continuing_subword_prefix': None,
    'end_of_word_suffix': None,
    'fuse_unk': False,
    'byte_fallback': False,
    'ignore_merges': split.whole,
    'vocab': {name: i for i, name in enumerate(names)},
    'merges': merges,
  }
  # A piece of the user's own is found in a text as it stands; a control token is
  # found there only by who asks for it.
  apart = (sentencepiece.UNKNOWN, sentencepiece.CONTROL, sentencepiece.OWN)
  added = [
    (
      i,
      tokenizer_settings.plain_token(name, special=kind != sentencepiece.OWN)
      | {'normalized': False},
    )
    for i, (name, kind) in enumerate(zip(names, types, strict=True))
    if kind in apart
  ]
  level = {
    'type': 'ByteLevel',
    'add_prefix_space': False,
    'trim_offsets': True,
    'use_regex': not split.pattern,
  }
  steps = [
    *([{'type': 'Digits', 'individual_digits': True}] if split.digits else []),
    *(
      [
        {
          'type': 'Split',
          'pattern': {'Regex': split.pattern},
          'behavior': 'Isolated',
          'invert': False,
        }
      ]
      if split.pattern
      else []
    ),
    level,
  ]
  parts = dict(
    normalizer=None,
    decoder=level | {'use_regex': True},
    pre_tokenizer=steps[0]
    if len(steps) == 1
    else {'type': 'Sequence', 'pretokenizers': steps},
  )
  return folders.load_pairs(path, model, added, parts, _said(said, bos=split.bos))


def _sentencepiece(path: pathlib.Path, said) -> tokenizers.Tokenizer:
  """A vocabulary with scores, as Llama 2, Mistral and Gemma have it."""
  # The numbers that such a vocabulary has where the file does not say.
  said = {f'tokenizer.ggml.{key}_token_id': i for key, i in USUAL.items()} | said
  names, types = tuple(said['tokenizer.ggml.tokens']), _types(said)
  scores = said.get('tokenizer.ggml.scores')
  if scores is None or len(scores) != len(names):
    raise ValueError(
      f'tokenizer.ggml.scores: {len(scores or ())} scores of {len(names)} tokens'
    )
  unknown = said.get('tokenizer.ggml.unknown_token_id')
  unknown = (
    types.index(sentencepiece.UNKNOWN)
    if unknown is None and sentencepiece.UNKNOWN in types
    else unknown or 0
  )
  pieces = sentencepiece.Pieces(
    'bpe',
    names,
    tuple(map(float, scores)),
    types,
    unknown,
    sentencepiece.BYTE in types,
    b'',
    bool(said.get('tokenizer.ggml.add_space_prefix', True)),
    squeeze=False,
  )
  spoken = _said(said, bos=True)
  return folders.load_pieces(
    path, pieces, spoken._replace(name='LlamaTokenizer', family='llama')
  )
