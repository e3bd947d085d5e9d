"""What is around the vocabulary in the tokenizers of the Hugging Face families, as
`tokenizer.json` spells it.

>>> frames('roberta', {'cls': '<s>', 'sep': '</s>'}, {})[0]
[('<s>', 0), ('A', 0), ('</s>', 0)]
"""

import base64
import json
from typing import Any

from tl_jax.interop import sentencepiece, translators
from tl_jax.interop.tokenizer_families import CLASSES, FIXED_MODELS, GENERIC

SPACE = '▁'
# Families whose frame is one text after the other, then the end, then perhaps a
# language.
_TRANSLATING = ('marian', 'pegasus', *translators.CODES)
# Families that cut a text at its spaces before the unigram model sees it.
_SPLIT_AT_SPACES = (
  't5',
  'albert',
  'xlm-roberta',
  'camembert',
  'pegasus',
  *translators.CODES,
)
_BYTE_LEVEL = {
  'type': 'ByteLevel',
  'add_prefix_space': True,
  'trim_offsets': True,
  'use_regex': True,
}

# A frame: what stands around a text or two, as (a piece, or 'A' and 'B' where the texts
# stand; the token type).
Frame = list[tuple[str, int]]


def frames(family: str, roles: dict, settings: dict) -> tuple[Frame, Frame]:
  """What a family puts around one text and around two.

  A frame lists (piece, token type); 'A' and 'B' are the places of the texts.

  - BERT, ALBERT, DeBERTa: [CLS] A [SEP] B [SEP].
  - RoBERTa, BART, MPNet and others: <s> A </s> </s> B </s>.
  - T5: A </s> B </s>.
  - Marian and Pegasus: A B </s>. mBART adds the source's language behind it, mBART-50
    adds it in front.
  - All others: the settings `add_bos_token` and `add_eos_token` say whether the
    beginning stands before each text and the end after it. Llama and Gemma have the
    beginning unless the settings say otherwise.

  Raises ValueError if a piece that the family needs has no role.
  """
  if family in ('bert', 'albert', 'deberta-v2'):
    cls = _needed(roles, 'cls', family)
    sep = _needed(roles, 'sep', family)
    single = [(cls, 0), ('A', 0), (sep, 0)]
    return single, [*single, ('B', 1), (sep, 1)]
  if family in ('roberta', 'xlm-roberta', 'camembert', 'mpnet'):
    cls = _needed(roles, 'cls', family)
    sep = _needed(roles, 'sep', family)
    single = [(cls, 0), ('A', 0), (sep, 0)]
    pair = [*single, (sep, 0), ('B', 0), (sep, 0)]
    return single, pair
  if family == 't5':
    end = (_needed(roles, 'eos', family), 0)
    single = [('A', 0), end]
    return single, [*single, ('B', 0), end]
  if family in _TRANSLATING:
    return _translating_frames(family, roles, settings)
  return _begun_and_ended_frames(family, roles, settings)


def _needed(roles: dict, role: str, family: str) -> str:
  """The piece of a role. Raises ValueError if there is none."""
  if not isinstance(roles.get(role), str):
    raise ValueError(f'{role}_token: none, and {family} needs one')
  return roles[role]


def _translating_frames(
  family: str, roles: dict, settings: dict
) -> tuple[Frame, Frame]:
  """The frames of models that translate or summarise."""
  code = []
  if family in translators.CODES:
    code = [(translators.language(family, settings), 0)]
  end = (_needed(roles, 'eos', family), 0)
  single = [('A', 0), end]
  pair = [('A', 0), ('B', 0), end]
  if family == 'mbart50':
    return code + single, code + pair
  return single + code, pair + code


def _begun_and_ended_frames(
  family: str, roles: dict, settings: dict
) -> tuple[Frame, Frame]:
  """The frames of decoders: each text is begun and ended as the settings say."""
  has_begin = isinstance(roles.get('bos'), str)
  usually_begun = has_begin and family in ('llama', 'gemma')
  before, after = [], []
  if _flag(settings, 'add_bos_token', usually_begun):
    before = [_needed(roles, 'bos', family)]
  if _flag(settings, 'add_eos_token', False):
    after = [_needed(roles, 'eos', family)]
  first = [(piece, 0) for piece in (*before, 'A', *after)]
  second = [(piece, 1) for piece in (*before, 'B', *after)]
  return first, first + second


def _flag(settings: dict, name: str, otherwise: bool) -> bool:
  """A setting that is on or off; one that is missing or null is `otherwise`."""
  value = settings.get(name)
  return otherwise if value is None else bool(value)


def post_processor(single: Frame, pair: Frame, ids: dict[str, int]) -> dict:
  """The TemplateProcessing of two frames.

  Raises ValueError if a piece of theirs is none of the vocabulary.
  """
  special = sorted({slot for slot, _ in pair} - {'A', 'B'})
  numbered = {}
  for piece in special:
    if piece not in ids:
      raise ValueError(
        f'{piece!r} is put around a text, and is no piece of the vocabulary'
      )
    numbered[piece] = {'id': piece, 'ids': [ids[piece]], 'tokens': [piece]}
  return {
    'type': 'TemplateProcessing',
    'single': _template(single),
    'pair': _template(pair),
    'special_tokens': numbered,
  }


def _template(frame: Frame) -> list[dict]:
  """A frame as TemplateProcessing spells it."""
  found = []
  for slot, token_type in frame:
    kind = 'Sequence' if slot in ('A', 'B') else 'SpecialToken'
    found.append({kind: {'id': slot, 'type_id': token_type}})
  return found


def around(family: str, settings: dict, charsmap: str | None = None) -> dict[str, Any]:
  """{normalizer, pre_tokenizer, decoder} of a family as transformers 5 makes them.

  charsmap: the compiled normaliser of a sentencepiece model in base 64, or None.
  """
  if family in ('bert', 'mpnet'):
    return _around_bert(settings)
  if family in ('gpt2', 'roberta'):
    prefix = _flag(settings, 'add_prefix_space', False)
    return dict(
      normalizer=None,
      pre_tokenizer=_BYTE_LEVEL | {'add_prefix_space': prefix},
      decoder=_BYTE_LEVEL,
    )
  if family == 'deberta-v2':
    return _around_deberta(settings)
  if family in _SPLIT_AT_SPACES:
    return _around_words(family, settings, charsmap)
  if family == 'gemma':
    return _around_gemma()
  return _around_llama(settings)


def _around_bert(settings: dict) -> dict[str, Any]:
  """The parts of BERT: cleaned words, cut at spaces and punctuation."""
  chinese = _flag(settings, 'tokenize_chinese_chars', True)
  normalizer = {
    'type': 'BertNormalizer',
    'clean_text': True,
    # None has a meaning of its own: accents go where letters are lowered.
    'strip_accents': settings.get('strip_accents'),
    'handle_chinese_chars': chinese,
    'lowercase': _flag(settings, 'do_lower_case', True),
  }
  splitter = {'type': 'BertPreTokenizer'}
  decoder = {'type': 'WordPiece', 'prefix': '##', 'cleanup': True}
  return dict(normalizer=normalizer, pre_tokenizer=splitter, decoder=decoder)


def _around_words(family: str, settings: dict, charsmap: str | None) -> dict[str, Any]:
  """The parts of a unigram model whose texts are cut at spaces first."""
  # T5 begins every word with a space whatever its settings say.
  prefix = family == 't5' or _flag(settings, 'add_prefix_space', True)
  spaces = _metaspace('always' if prefix else 'never', split=True)
  normalizer = _precompiled(charsmap) if charsmap else None
  if family == 'albert':
    normalizer = _normalizer_of_albert(settings, charsmap)
  words = [{'type': 'WhitespaceSplit'}, spaces]
  splitter = {'type': 'Sequence', 'pretokenizers': words}
  return dict(normalizer=normalizer, decoder=spaces, pre_tokenizer=splitter)


def _normalizer_of_albert(settings: dict, charsmap: str | None) -> dict:
  """ALBERT's own quotes, accents and case before the charsmap of its model."""
  steps = [_replace('``', '"'), _replace("''", '"')]
  if not _flag(settings, 'keep_accents', False):
    # Accents can be stripped only where a letter is taken apart from them.
    steps += [{'type': 'NFKD'}, {'type': 'StripAccents'}]
  if _flag(settings, 'do_lower_case', True):
    steps.append({'type': 'Lowercase'})
  if charsmap:
    steps.append(_precompiled(charsmap))
  return {'type': 'Sequence', 'normalizers': steps}


def _around_gemma() -> dict[str, Any]:
  """The parts of Gemma, which puts no space before a text."""
  at_spaces = {
    'type': 'Split',
    'pattern': {'String': ' '},
    'behavior': 'MergedWithPrevious',
    'invert': False,
  }
  normalizer = _replace(' ', SPACE)
  decoder = _decoder(byte_fallback=True, prefix=False)
  return dict(normalizer=normalizer, decoder=decoder, pre_tokenizer=at_spaces)


def _around_llama(settings: dict) -> dict[str, Any]:
  """The parts of Llama, and of whoever has none of their own."""
  prefix = _flag(settings, 'add_prefix_space', True)
  scheme = 'never'
  if prefix:
    # A legacy tokenizer puts a space behind each special token, too.
    scheme = 'always' if settings.get('legacy') else 'first'
  splitter = _metaspace(scheme, split=False)
  decoder = _decoder(byte_fallback=True, prefix=prefix)
  return dict(normalizer=None, decoder=decoder, pre_tokenizer=splitter)


def _around_deberta(settings: dict) -> dict[str, Any]:
  """The parts of DeBERTa-v2, which has no use for the charsmap of its model file."""
  prefix = _flag(settings, 'add_prefix_space', True)
  spaces = _metaspace('always' if prefix else 'first', split=True)
  steps = []
  if _flag(settings, 'do_lower_case', False):
    steps.append({'type': 'Lowercase'})
  strip = {'type': 'Strip', 'strip_left': False, 'strip_right': True}
  steps.append(_replace(r'\s{2,}|[\n\r\t]', ' ', 'Regex'))
  steps += [{'type': 'NFC'}, strip]
  words = [spaces]
  if _flag(settings, 'split_by_punct', False):
    words = [{'type': 'Punctuation', 'behavior': 'Isolated'}, spaces]
  normalizer = {'type': 'Sequence', 'normalizers': steps}
  splitter = {'type': 'Sequence', 'pretokenizers': words}
  return dict(normalizer=normalizer, decoder=spaces, pre_tokenizer=splitter)


def around_pieces(
  family: str | None, pieces: sentencepiece.Pieces, settings: dict
) -> dict[str, Any]:
  """{normalizer, pre_tokenizer, decoder} for a sentencepiece model.

  They are the family's where the model asks for what the family does; else they are
  made from what the model says.
  """
  charsmap = base64.b64encode(pieces.charsmap).decode() or None
  # The families' own parts are what transformers makes, so they go first.
  if _asks_for_family(family, pieces):
    return around(family, settings, charsmap)
  prefix = pieces.dummy_prefix and _flag(settings, 'add_prefix_space', True)
  # A text is cut at the user's own symbols before it is normalised: then only the
  # pre-tokenizer knows where it begins.
  cut_before = sentencepiece.OWN in pieces.types
  steps = _normalizers_of_model(pieces, charsmap, prefix=prefix and not cut_before)
  splitter = None
  if prefix and cut_before:
    splitter = _metaspace('first', split=False)
  normalizer = {'type': 'Sequence', 'normalizers': steps}
  decoder = _decoder(pieces.byte_fallback, prefix)
  return dict(normalizer=normalizer, pre_tokenizer=splitter, decoder=decoder)


def _asks_for_family(family: str | None, pieces: sentencepiece.Pieces) -> bool:
  """Does a sentencepiece model treat spaces as its family's own parts do?"""
  if family in _SPLIT_AT_SPACES:
    return pieces.dummy_prefix and pieces.squeeze
  if family == 'gemma':
    return not (pieces.dummy_prefix or pieces.squeeze or pieces.charsmap)
  return False


def _normalizers_of_model(
  pieces: sentencepiece.Pieces, charsmap: str | None, *, prefix: bool
) -> list[dict]:
  """The steps by which a sentencepiece model normalises a text, in its order.

  prefix: does the normaliser put the space before the text?
  """
  steps = []
  if charsmap is not None:
    steps.append(_precompiled(charsmap))
  if pieces.squeeze and sentencepiece.OWN not in pieces.types:
    steps.append(_replace(r'\A +| +\z', '', 'Regex'))
  if pieces.squeeze:
    steps.append(_replace(' {2,}', ' ', 'Regex'))
  if prefix:
    steps.append({'type': 'Prepend', 'prepend': SPACE})
  # The last one: the steps above look for plain spaces.
  steps.append(_replace(' ', SPACE))
  return steps


def _precompiled(charsmap: str) -> dict:
  return {'type': 'Precompiled', 'precompiled_charsmap': charsmap}


def _replace(pattern: str, content: str, kind: str = 'String') -> dict:
  return {'type': 'Replace', 'pattern': {kind: pattern}, 'content': content}


def _metaspace(scheme: str, *, split: bool) -> dict:
  """Spaces that become a sign of their own.

  scheme: before which part of a text a space is put: 'always', 'first' or 'never'.
  split: is the text cut before each sign?
  """
  return {
    'type': 'Metaspace',
    'replacement': SPACE,
    'prepend_scheme': scheme,
    'split': split,
  }


def _decoder(byte_fallback: bool, prefix: bool) -> dict:
  """The way back from pieces: signs to spaces, bytes to letters, no space in front."""
  steps = [_replace(SPACE, ' ')]
  if byte_fallback:
    steps.append({'type': 'ByteFallback'})
  steps.append({'type': 'Fuse'})
  if prefix:
    # Behind Fuse there is one text; before it, each piece would lose its space.
    steps.append({'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0})
  return {'type': 'Sequence', 'decoders': steps}


def charsmaps(state: dict) -> list[str]:
  """The compiled normalisers (base 64) in a `tokenizer.json`."""
  waiting = [state.get('normalizer')]
  found = []
  while waiting:
    step = waiting.pop()
    # A damaged file may have anything here.
    if not isinstance(step, dict):
      continue
    charsmap = step.get('precompiled_charsmap')
    if isinstance(charsmap, str):
      found.append(charsmap)
    below = step.get('normalizers')
    if isinstance(below, list):
      waiting += below
  return found


def class_of(state: dict, pair: Frame, settings: dict, roles: dict) -> str:
  """The `tokenizer_class` under which transformers 5 makes the same tokenizer.

  state: the content of its `tokenizer.json`; pair: the frame of two texts.

  transformers 5 rebuilds the tokenizers of the families it knows from their vocabulary
  and settings alone. So the class that the settings name is kept if that gives the
  same, or if we do not know it; else it is the generic one.
  """
  name = settings.get('tokenizer_class')
  if not isinstance(name, str) or not name:
    return GENERIC
  family = CLASSES.get(name.removesuffix('Fast'))
  if family is None:
    return name
  # Of these, transformers takes the vocabulary alone.
  if family in _TRANSLATING:
    return GENERIC
  if not _has_parts(state, family, settings) or not _has_fixed_model(state, family):
    return GENERIC
  return name if _has_frame(pair, family, roles, settings) else GENERIC


def _has_parts(state: dict, family: str, settings: dict) -> bool:
  """Are the normaliser and the splitter those that the family would have?"""
  found = charsmaps(state)
  usual = around(family, settings, found[0] if found else None)
  parts = ('normalizer', 'pre_tokenizer')
  return _plain(usual, parts) == _plain(state, parts)


def _has_fixed_model(state: dict, family: str) -> bool:
  """Is the model what transformers would make of its vocabulary?"""
  model = state['model']
  # None, False and '' all say that something is not there.
  fixed = {key: value or '' for key, value in FIXED_MODELS[family].items()}
  held = {key: model.get(key) or '' for key in fixed}
  return held == fixed


def _has_frame(pair: Frame, family: str, roles: dict, settings: dict) -> bool:
  """Are two texts framed as the family would frame them?"""
  # Of these three, transformers takes the frame as it is.
  if family in ('gpt2', 'llama', 'gemma'):
    return True
  try:
    return frames(family, roles, settings)[1] == pair
  except ValueError:
    return False


def _plain(state: dict, parts: tuple[str, ...]) -> list:
  """Parts of a tokenizer.json in the one spelling of this library, without what
  concerns offsets only.
  """
  import tokenizers

  chosen = {part: state.get(part) for part in parts}
  # The library opens whole tokenizers alone, so the parts get the smallest model.
  model = {'type': 'WordLevel', 'vocab': {'a': 0}, 'unk_token': 'a'}
  spelled = json.dumps({'version': '1.0', 'model': model, **chosen})
  text = tokenizers.Tokenizer.from_str(spelled).to_str()
  plain = json.loads(text.replace('"trim_offsets":true', '"trim_offsets":false'))
  return [plain[part] for part in parts]
