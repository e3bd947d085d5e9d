"""How mBART, Pegasus and Marian number the pieces of their sentencepiece models.

>>> [codes[0] for codes in CODES.values()], [len(codes) for codes in CODES.values()]
(['ar_AR', 'ar_AR'], [25, 52])
"""

from tl_jax.interop import sentencepiece

_FIRST = [
  'ar_AR',
  'cs_CZ',
  'de_DE',
  'en_XX',
  'es_XX',
  'et_EE',
  'fi_FI',
  'fr_XX',
  'gu_IN',
  'hi_IN',
  'it_IT',
  'ja_XX',
  'kk_KZ',
  'ko_KR',
  'lt_LT',
  'lv_LV',
  'my_MM',
  'ne_NP',
  'nl_XX',
  'ro_RO',
  'ru_RU',
  'si_LK',
  'tr_TR',
  'vi_VN',
  'zh_CN',
]
_LATER = [
  'af_ZA',
  'az_AZ',
  'bn_IN',
  'fa_IR',
  'he_IL',
  'hr_HR',
  'id_ID',
  'ka_GE',
  'km_KH',
  'mk_MK',
  'ml_IN',
  'mn_MN',
  'mr_IN',
  'pl_PL',
  'ps_AF',
  'pt_XX',
  'sv_SE',
  'sw_KE',
  'ta_IN',
  'te_IN',
  'th_TH',
  'tl_XX',
  'uk_UA',
  'ur_PK',
  'xh_ZA',
  'gl_ES',
  'sl_SI',
]
# The languages behind the pieces (Liu et al. 2020; Tang et al. 2020), in their order.
CODES = {'mbart': _FIRST, 'mbart50': _FIRST + _LATER}
LANGUAGE = 'en_XX'  # of the source, where a folder does not say
OFFSET = 103  # of Pegasus: the pieces before its vocabulary, but for two
_RARE = 1000.0  # nats by which a piece of the other language alone is less likely


def language(family: str, settings: dict) -> str:
  """The code of the source's language, `src_lang`. Raises ValueError for another."""
  code = settings.get('src_lang') or LANGUAGE
  if code not in CODES[family]:
    known = ', '.join(CODES[family])
    said = f'src_lang: {code!r:.40} is no language of {family}'
    raise ValueError(f'{said}; it has {known}')
  return code


def numbered(pieces: sentencepiece.Pieces, family: str, roles: dict, settings: dict):
  """(names, scores, types, the number of the unknown piece) as the models have them.

  mBART has fairseq's four pieces in front and its languages and the mask behind.
  Pegasus has those of its pre-training in front. Raises ValueError for a sentencepiece
  model that begins otherwise, and for a setting that cannot be.
  """
  if family == 'pegasus':
    front, wanted = _pegasus_front(roles, settings), ('<pad>', '</s>')
    behind, unknown = [], len(front) + pieces.unknown - 2
  else:
    front = [roles[role] for role in ('cls', 'pad', 'eos', 'unk')]
    wanted = ('<unk>', '<s>', '</s>')
    behind, unknown = [*CODES[family], roles['mask']], 3
  kept = len(wanted)
  if pieces.names[:kept] != wanted:
    raise ValueError(f'begins with {pieces.names[:3]}, not as one of {family} does')
  names = [*front, *pieces.names[kept:], *behind]
  scores = [0.0] * len(front) + list(pieces.scores[kept:]) + [0.0] * len(behind)
  control = sentencepiece.CONTROL
  types = [control] * len(front) + list(pieces.types[kept:]) + [control] * len(behind)
  return names, scores, types, unknown


def _pegasus_front(roles: dict, settings: dict) -> list[str]:
  offset = settings.get('offset', OFFSET)
  if type(offset) is not int or not 2 <= offset <= sentencepiece.MOST_PIECES:
    raise ValueError(f'offset: {offset!r:.40} is not a number of pieces')
  sentence = settings.get('mask_token_sent', '<mask_1>')
  masks = [sentence, roles['mask']] if isinstance(sentence, str) else [roles['mask']]
  unused = [f'<unk_{i}>' for i in range(2, offset)]
  return [roles['pad'], roles['eos'], *masks, *unused]


def marian_scores(pieces: sentencepiece.Pieces, ids: dict[str, int]) -> list:
  """[(piece, score)] in the order of the ids that vocab.json gives to both languages.

  A text is cut as the source's model says. A piece of the target's alone is for what
  the source has no other piece for, as where transformers looks a letter up.
  """
  known = dict(zip(pieces.names, pieces.scores, strict=True))
  rare = min(pieces.scores, default=0.0) - _RARE
  return [(piece, known.get(piece, rare)) for piece in sorted(ids, key=ids.get)]


def is_code(piece: str) -> bool:
  """Does a piece say into which language a text goes, as `>>fr<<` does?"""
  return piece.startswith('>>') and piece.endswith('<<')
