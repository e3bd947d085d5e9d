"""What is around the vocabulary in the tokenizers of the Hugging Face families, as
`tokenizer.json` spells it.

>>> frames('roberta', {'cls': '<s>', 'sep': '</s>'}, {})[0]
[('<s>', 0), ('A', 0), ('</s>', 0)]
"""

import base64
import json
from typing import Any

from tl_jax.interop import sentencepiece, translators

GENERIC = 'PreTrainedTokenizerFast'  # the class that takes a tokenizer.json as it is
SPACE = '▁'
# The family of a tokenizer by its class (without `Fast`), and by the model's type where
# no class is named.
CLASSES = {
  **dict.fromkeys(
    ('BertTokenizer', 'DistilBertTokenizer', 'ElectraTokenizer', 'MobileBertTokenizer'),
    'bert',
  ),
  **dict.fromkeys(
    ('RobertaTokenizer', 'BartTokenizer', 'LongformerTokenizer', 'LEDTokenizer'),
    'roberta',
  ),
  **dict.fromkeys(('T5Tokenizer', 'MT5Tokenizer'), 't5'),
  'GPT2Tokenizer': 'gpt2',
  'AlbertTokenizer': 'albert',
  'XLMRobertaTokenizer': 'xlm-roberta',
  'CamembertTokenizer': 'camembert',
  'MPNetTokenizer': 'mpnet',
  'MBartTokenizer': 'mbart',
  'MBart50Tokenizer': 'mbart50',
  'PegasusTokenizer': 'pegasus',
  'MarianTokenizer': 'marian',
  'DebertaV2Tokenizer': 'deberta-v2',
  'LlamaTokenizer': 'llama',
  'GemmaTokenizer': 'gemma',
}
MODELS = {
  **dict.fromkeys(('bert', 'distilbert', 'electra', 'mobilebert'), 'bert'),
  'albert': 'albert',
  'gpt2': 'gpt2',
  **dict.fromkeys(('gpt_neo', 'gptj', 'opt'), 'gpt2'),
  **dict.fromkeys(('roberta', 'bart', 'longformer'), 'roberta'),
  **dict.fromkeys(('t5', 'mt5', 'umt5', 'switch_transformers'), 't5'),
  **{
    name: name
    for name in (
      'xlm-roberta',
      'camembert',
      'mpnet',
      'deberta-v2',
      'mbart',
      'pegasus',
      'marian',
    )
  },
  **dict.fromkeys(('llama', 'mistral', 'mixtral'), 'llama'),
  **dict.fromkeys(('gemma', 'gemma2', 'gemma3', 'gemma3_text'), 'gemma'),
}
LEFT = (
  'LlamaTokenizer',
  'GemmaTokenizer',
  'CodeLlamaTokenizer',
  'CohereTokenizer',
  'XLNetTokenizer',
)
# The pieces of the roles where a folder does not say.
ROLES = {
  'bert': dict(unk='[UNK]', sep='[SEP]', pad='[PAD]', cls='[CLS]', mask='[MASK]'),
  'gpt2': dict(bos='<|endoftext|>', eos='<|endoftext|>', unk='<|endoftext|>'),
  'roberta': dict(
    bos='<s>',
    eos='</s>',
    unk='<unk>',
    sep='</s>',
    pad='<pad>',
    cls='<s>',
    mask='<mask>',
  ),
  't5': dict(eos='</s>', unk='<unk>', pad='<pad>'),
  'albert': dict(
    bos='[CLS]',
    eos='[SEP]',
    unk='<unk>',
    sep='[SEP]',
    pad='<pad>',
    cls='[CLS]',
    mask='[MASK]',
  ),
  'llama': dict(bos='<s>', eos='</s>', unk='<unk>'),
  'gemma': dict(bos='<bos>', eos='<eos>', unk='<unk>', pad='<pad>', mask='<mask>'),
}
ROLES |= {
  'xlm-roberta': ROLES['roberta'],
  'camembert': ROLES['roberta'],
  'mpnet': ROLES['roberta'] | dict(unk='[UNK]'),
  'mbart': ROLES['roberta'],
  'pegasus': ROLES['t5'] | dict(mask='<mask_2>'),
  'marian': ROLES['t5'],
  'deberta-v2': ROLES['bert'] | dict(bos='[CLS]', eos='[SEP]'),
}
ROLES['mbart50'] = {
  role: piece for role, piece in ROLES['roberta'].items() if role != 'bos'
}
_BYTES = {
  'type': 'ByteLevel',
  'add_prefix_space': True,
  'trim_offsets': True,
  'use_regex': True,
}
# What transformers 5 puts into the model whatever tokenizer.json says.
_MODELS = {
  'bert': dict(
    type='WordPiece', continuing_subword_prefix='##', max_input_chars_per_word=100
  ),
  'gpt2': dict(
    type='BPE',
    byte_fallback=False,
    ignore_merges=False,
    continuing_subword_prefix='',
    fuse_unk=False,
  ),
  't5': dict(type='Unigram', unk_id=2, byte_fallback=False),
  'albert': dict(type='Unigram', unk_id=1, byte_fallback=False),
  'xlm-roberta': dict(type='Unigram', unk_id=3, byte_fallback=False),
  'llama': dict(type='BPE', byte_fallback=True, ignore_merges=False, fuse_unk=True),
}
_MODELS |= {
  'roberta': _MODELS['gpt2'],
  'gemma': _MODELS['llama'],
  'mpnet': _MODELS['bert'],
  'camembert': _MODELS['xlm-roberta'],
  'deberta-v2': dict(type='Unigram', byte_fallback=False),
}

# A text is cut at its spaces before the unigram model sees it.
_WORDS_APART = (
  't5',
  'albert',
  'xlm-roberta',
  'camembert',
  'pegasus',
  *translators.CODES,
)


def frames(family: str, roles: dict, settings: dict) -> tuple[list, list]:
  """What a family puts around one text and around two: (a piece, or 'A' and 'B' where
  the texts stand; its type).

  BERT: [CLS] A [SEP] B [SEP]; RoBERTa (and BART, MPNet): <s> A </s> </s> B </s>; T5: A
  </s> B </s>; Marian and Pegasus: A B </s>, mBART with the source's language behind it,
  mBART-50 with that in front; the others the beginning before and the end after each
  text, if the settings `add_bos_token` and `add_eos_token` say so (Llama and Gemma: the
  beginning if they do not speak of it). Raises ValueError if a piece that it needs has
  no role.
  """

  def need(role):
    if not isinstance(roles.get(role), str):
      raise ValueError(f'{role}_token: none, and {family} needs one')
    return roles[role]

  if family in ('bert', 'albert', 'deberta-v2'):
    cls, sep = need('cls'), need('sep')
    single = [(cls, 0), ('A', 0), (sep, 0)]
    return single, [*single, ('B', 1), (sep, 1)]
  if family in ('roberta', 'xlm-roberta', 'camembert', 'mpnet'):
    cls, sep = need('cls'), need('sep')
    single = [(cls, 0), ('A', 0), (sep, 0)]
    return single, [*single, (sep, 0), ('B', 0), (sep, 0)]
  if family == 't5':
    return [('A', 0), (need('eos'), 0)], [
      ('A', 0),
      (need('eos'), 0),
      ('B', 0),
      (need('eos'), 0),
    ]
  if family in ('marian', 'pegasus', *translators.CODES):
    code = (
      [(translators.language(family, settings), 0)]
      if family in translators.CODES
      else []
    )
    before, after = (code, []) if family == 'mbart50' else ([], code)
    around_both = lambda *texts: [
      *before,
      *((text, 0) for text in texts),
      (need('eos'), 0),
      *after,
    ]
    return around_both('A'), around_both('A', 'B')
  usual = family in ('llama', 'gemma') and isinstance(roles.get('bos'), str)
  before = [need('bos')] if _flag(settings, 'add_bos_token', usual) else []
  after = [need('eos')] if _flag(settings, 'add_eos_token', False) else []
  framed = lambda text, kind: [(piece, kind) for piece in (*before, text, *after)]
  return framed('A', 0), framed('A', 0) + framed('B', 1)


def _flag(settings, name, otherwise) -> bool:
  value = settings.get(name)
  return otherwise if value is None else bool(value)


def post_processor(single: list, pair: list, ids: dict[str, int]) -> dict:
  """The TemplateProcessing of two frames. Raises ValueError if a piece of theirs is
  none of the vocabulary.
  """

  def spell(frame):
    kinds = ['Sequence' if slot in ('A', 'B') else 'SpecialToken' for slot, _ in frame]
    return [
      {kind: {'id': slot, 'type_id': number}}
      for kind, (slot, number) in zip(kinds, frame, strict=True)
    ]

  special = sorted({slot for slot, _ in pair} - {'A', 'B'})
  for piece in special:
    if piece not in ids:
      raise ValueError(
        f'{piece!r} is put around a text, and is no piece of the vocabulary'
      )
  return {
    'type': 'TemplateProcessing',
    'single': spell(single),
    'pair': spell(pair),
    'special_tokens': {
      piece: {'id': piece, 'ids': [ids[piece]], 'tokens': [piece]} for piece in special
    },
  }


def around(family: str, settings: dict, charsmap: str | None = None) -> dict[str, Any]:
  """{normalizer, pre_tokenizer, decoder} of a family as transformers 5 makes them;
  charsmap in base 64.
  """
  mapped = (
    [{'type': 'Precompiled', 'precompiled_charsmap': charsmap}] if charsmap else []
  )
  if family in ('bert', 'mpnet'):
    return dict(
      normalizer={
        'type': 'BertNormalizer',
        'clean_text': True,
        'strip_accents': settings.get('strip_accents'),
        'handle_chinese_chars': _flag(settings, 'tokenize_chinese_chars', True),
        'lowercase': _flag(settings, 'do_lower_case', True),
      },
      pre_tokenizer={'type': 'BertPreTokenizer'},
      decoder={'type': 'WordPiece', 'prefix': '##', 'cleanup': True},
    )
  if family in ('gpt2', 'roberta'):
    prefix = _flag(settings, 'add_prefix_space', False)
    return dict(
      normalizer=None,
      pre_tokenizer=_BYTES | {'add_prefix_space': prefix},
      decoder=_BYTES,
    )
  if family == 'deberta-v2':
    return _around_deberta(settings)
  if family in _WORDS_APART:
    scheme = (
      'always'
      if family == 't5' or _flag(settings, 'add_prefix_space', True)
      else 'never'
    )
    spaces = {
      'type': 'Metaspace',
      'replacement': SPACE,
      'prepend_scheme': scheme,
      'split': True,
    }
    normalizer = mapped[0] if mapped else None
    if family == 'albert':
      normalizer = {
        'type': 'Sequence',
        'normalizers': [
          _replace('``', '"'),
          _replace("''", '"'),
          *(
            []
            if _flag(settings, 'keep_accents', False)
            else [{'type': 'NFKD'}, {'type': 'StripAccents'}]
          ),
          *([{'type': 'Lowercase'}] if _flag(settings, 'do_lower_case', True) else []),
          *mapped,
        ],
      }
    return dict(
      normalizer=normalizer,
      decoder=spaces,
      pre_tokenizer={
        'type': 'Sequence',
        'pretokenizers': [{'type': 'WhitespaceSplit'}, spaces],
      },
    )
  if family == 'gemma':
    return dict(
      normalizer=_replace(' ', SPACE),
      decoder=_decoder(True, False),
      pre_tokenizer={
        'type': 'Split',
        'pattern': {'String': ' '},
        'behavior': 'MergedWithPrevious',
        'invert': False,
      },
    )
  first = _flag(settings, 'add_prefix_space', True)
  scheme = ('always' if settings.get('legacy') else 'first') if first else 'never'
  return dict(
    normalizer=None,
    decoder=_decoder(True, first),
    pre_tokenizer={
      'type': 'Metaspace',
      'replacement': SPACE,
      'prepend_scheme': scheme,
      'split': False,
    },
  )


def _around_deberta(settings: dict) -> dict[str, Any]:
  """That of DeBERTa-v2, which has no use for the charsmap of its model file."""
  scheme = 'always' if _flag(settings, 'add_prefix_space', True) else 'first'
  spaces = {
    'type': 'Metaspace',
    'replacement': SPACE,
    'prepend_scheme': scheme,
    'split': True,
  }
  steps = [
    *([{'type': 'Lowercase'}] if _flag(settings, 'do_lower_case', False) else []),
    _replace(r'\s{2,}|[\n\r\t]', ' ', 'Regex'),
    {'type': 'NFC'},
    {'type': 'Strip', 'strip_left': False, 'strip_right': True},
  ]
  words = (
    [{'type': 'Punctuation', 'behavior': 'Isolated'}]
    if _flag(settings, 'split_by_punct', False)
    else []
  )
  return dict(
    normalizer={'type': 'Sequence', 'normalizers': steps},
    decoder=spaces,
    pre_tokenizer={'type': 'Sequence', 'pretokenizers': [*words, spaces]},
  )


def around_pieces(
  family: str | None, pieces: sentencepiece.Pieces, settings: dict
) -> dict[str, Any]:
  """The same for a sentencepiece model: the family's where it does what the model says,
  else what the model says.
  """
  charsmap = base64.b64encode(pieces.charsmap).decode() or None
  if family in _WORDS_APART and pieces.dummy_prefix and pieces.squeeze:
    return around(family, settings, charsmap)
  if family == 'gemma' and not (pieces.dummy_prefix or pieces.squeeze or charsmap):
    return around(family, settings)
  prefix = pieces.dummy_prefix and _flag(settings, 'add_prefix_space', True)
  own = sentencepiece.OWN in pieces.types
  # A text is cut at the user's own symbols before it is normalised: then only the
  # pre-tokenizer knows where it begins.
  steps = [
    *([{'type': 'Precompiled', 'precompiled_charsmap': charsmap}] if charsmap else []),
    *([_replace(r'\A +| +\z', '', 'Regex')] if pieces.squeeze and not own else []),
    *([_replace(' {2,}', ' ', 'Regex')] if pieces.squeeze else []),
    *([{'type': 'Prepend', 'prepend': SPACE}] if prefix and not own else []),
    _replace(' ', SPACE),
  ]
  spaces = {
    'type': 'Metaspace',
    'replacement': SPACE,
    'prepend_scheme': 'first',
    'split': False,
  }
  return dict(
    normalizer={'type': 'Sequence', 'normalizers': steps},
    pre_tokenizer=spaces if prefix and own else None,
    decoder=_decoder(pieces.byte_fallback, prefix),
  )


def _replace(pattern: str, content: str, kind: str = 'String') -> dict:
  return {'type': 'Replace', 'pattern': {kind: pattern}, 'content': content}


def _decoder(byte_fallback: bool, prefix: bool) -> dict:
  steps = [
    _replace(SPACE, ' '),
    *([{'type': 'ByteFallback'}] if byte_fallback else []),
    {'type': 'Fuse'},
  ]
  return {
    'type': 'Sequence',
    'decoders': [
      *steps,
      *([{'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0}] if prefix else []),
    ],
  }


def charsmaps(state: dict) -> list[str]:
  """The compiled normalisers (base 64) in a `tokenizer.json`."""
  waiting, found = [state.get('normalizer')], []
  while waiting:
    step = waiting.pop()
    if isinstance(step, dict):
      found += (
        [step['precompiled_charsmap']]
        if isinstance(step.get('precompiled_charsmap'), str)
        else []
      )
      waiting += (
        step['normalizers'] if isinstance(step.get('normalizers'), list) else []
      )
  return found


def class_of(state: dict, pair: list, settings: dict, roles: dict) -> str:
  """The `tokenizer_class` under which transformers 5 makes the same of a
  `tokenizer.json` (its state and pair frame).

  transformers 5 rebuilds the tokenizers of the families it knows from their vocabulary
  and settings alone. So the class that the settings name is kept if that gives the
  same, or if we do not know it; else it is the generic one.
  """
  name = settings.get('tokenizer_class')
  if not isinstance(name, str) or name.removesuffix('Fast') not in CLASSES:
    return name if isinstance(name, str) and name else GENERIC
  family = CLASSES[name.removesuffix('Fast')]
  # of these it takes the vocabulary alone
  if family in ('marian', 'pegasus', *translators.CODES):
    return GENERIC
  maps = charsmaps(state)
  parts = ('normalizer', 'pre_tokenizer')
  same = _plain(around(family, settings, maps[0] if maps else None), parts) == _plain(
    state, parts
  )
  same &= all(
    (state['model'].get(key) or '') == (value or '')
    for key, value in _MODELS[family].items()
  )
  # of these three it takes the frame as it is
  if family not in ('gpt2', 'llama', 'gemma'):
    try:
      same &= frames(family, roles, settings)[1] == pair
    except ValueError:
      return GENERIC
  return name if same else GENERIC


def _plain(state: dict, parts) -> list:
  """Parts of a tokenizer.json in the one spelling of this library, without what
  concerns offsets only.
  """
  import tokenizers

  model = {'type': 'WordLevel', 'vocab': {'a': 0}, 'unk_token': 'a'}
  text = tokenizers.Tokenizer.from_str(
    json.dumps(
      {'version': '1.0', 'model': model, **{part: state.get(part) for part in parts}}
    )
  ).to_str()
  plain = json.loads(text.replace('"trim_offsets":true', '"trim_offsets":false'))
  return [plain[part] for part in parts]
