"""How mBART, Pegasus and Marian number the pieces of their sentencepiece models.

>>> [codes[0] for codes in CODES.values()], [len(codes) for codes in CODES.values()]
(['ar_AR', 'ar_AR'], [25, 52])
"""

from tl_jax.interop import sentencepiece

# The languages of mBART-25, in the order of their ids (Liu et al. 2020).
_FIRST = """
  ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ
  ko_KR lt_LT lv_LV my_MM ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN
"""
# Those that mBART-50 has behind them (Tang et al. 2020).
_LATER = """
  af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN
  pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES
  sl_SI
"""
# The languages behind the pieces of a model, in their order.
CODES = {'mbart': _FIRST.split(), 'mbart50': (_FIRST + _LATER).split()}
# Of the source, where a folder does not say
LANGUAGE = 'en_XX'
# Of Pegasus: how far the pieces of its model file are moved to make room in front.
OFFSET = 103
# Nats by which a piece of the other language alone is less likely.
_RARE = 1000.0


def language(family: str, settings: dict) -> str:
  """The code of the source's language, `src_lang`. Raises ValueError for another."""
  code = settings.get('src_lang') or LANGUAGE
  if code not in CODES[family]:
    known = ', '.join(CODES[family])
    message = f'src_lang: {code!r:.40} is no language of {family}'
    raise ValueError(f'{message}; it has {known}')
  return code


def numbered(
  pieces: sentencepiece.Pieces, family: str, roles: dict, settings: dict
) -> sentencepiece.Pieces:
  """The pieces in the order of the ids that the models have.

  mBART has fairseq's four pieces in front and its languages and the mask behind.
  Pegasus has those of its pre-training in front. Raises ValueError for a sentencepiece
  model that begins otherwise, and for a setting that cannot be.
  """
  if family == 'pegasus':
    front = _pegasus_front(roles, settings)
    behind = []
    replaced = ('<pad>', '</s>')
    unknown = len(front) + pieces.unknown - len(replaced)
  else:
    front = [roles[role] for role in ('cls', 'pad', 'eos', 'unk')]
    behind = [*CODES[family], roles['mask']]
    replaced = ('<unk>', '<s>', '</s>')
    unknown = 3
  kept = len(replaced)
  if pieces.names[:kept] != replaced:
    raise ValueError(f'begins with {pieces.names[:3]}, not as one of {family} does')
  return sentencepiece.surrounded(pieces, front, kept, behind, unknown)


def _pegasus_front(roles: dict, settings: dict) -> list[str]:
  """The pieces of Pegasus before those of its model file.

  They are the pad, the end, the masks of a sentence and of a token, and pieces that are
  never used (Zhang et al. 2020). Raises ValueError for an offset that is no number of
  pieces.
  """
  offset = settings.get('offset', OFFSET)
  if type(offset) is not int or not 2 <= offset <= sentencepiece.MOST_PIECES:
    raise ValueError(f'offset: {offset!r:.40} is not a number of pieces')
  masks = [roles['mask']]
  # A folder may say null: then there is no mask of a sentence.
  sentence = settings.get('mask_token_sent', '<mask_1>')
  if isinstance(sentence, str):
    masks = [sentence, roles['mask']]
  unused = [f'<unk_{i}>' for i in range(2, offset)]
  return [roles['pad'], roles['eos'], *masks, *unused]


def marian_scores(pieces: sentencepiece.Pieces, ids: dict[str, int]) -> list:
  """[(piece, score)] in the order of the ids that vocab.json gives to both languages.

  A text is cut as the source's model says, so its scores count. A piece that only the
  target language has is taken where the source has no other, as transformers finds a
  single letter in vocab.json.
  """
  known = dict(zip(pieces.names, pieces.scores, strict=True))
  rare = min(pieces.scores, default=0.0) - _RARE
  in_order = sorted(ids, key=ids.get)
  return [(piece, known.get(piece, rare)) for piece in in_order]


def is_code(piece: str) -> bool:
  """Does a piece say into which language a text goes, as `>>fr<<` does?"""
  return piece.startswith('>>') and piece.endswith('<<')
