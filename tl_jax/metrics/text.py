"""Metrics of text against one or several reference texts.

>>> exact_match(['Paris', 'Rome'], [['Paris', 'paris'], 'Oslo'])
{'exact_match': 0.5}
>>> tokenize('Grüße, 東京!')
['grüße', '東', '京']
"""

import importlib
import re
import string
import unicodedata

from tl_jax.config import nearest
from tl_jax.metrics.edges import finite, same_length

# Scripts that put no space between words: each character is a token of its own (first
# and last code point).
UNSPACED = (
  (0x0E00, 0x0EFF),  # Thai, Lao
  (0x1000, 0x109F),  # Myanmar
  (0x1780, 0x17FF),  # Khmer
  (0x3040, 0x30FF),  # Hiragana, Katakana
  (0x3400, 0x9FFF),  # Han
  (0xF900, 0xFAFF),  # Han, compatibility
  (0x20000, 0x3FFFF),  # Han, further planes
)


def exact_match(
  predictions, references, *, normalize: bool = False
) -> dict[str, float]:
  """The fraction of predictions equal to their reference, or to any of several.

  `normalize` compares as SQuAD does (Rajpurkar et al. 2016): lower case, without
  punctuation, articles and surplus spaces. An empty prediction matches an empty
  reference only.
  """
  count = same_length(predictions, references, 'exact_match')
  change = _plain if normalize else lambda value: value
  hits = sum(
    any(change(prediction) == change(reference) for reference in accepted)
    for prediction, accepted in zip(
      predictions, map(_accepted, references), strict=True
    )
  )
  return {'exact_match': hits / count if count else 0.0}


def rouge(predictions, references, *, stem: bool = False) -> dict[str, float]:
  """ROUGE-1, -2, -L and -Lsum (Lin 2004): F-measures in 0..1, the mean over examples,
  the best of several references.

  Text in Latin letters is tokenised as the rouge-score package does (a-z and 0-9),
  which drops every other script; as soon as one letter of the set is not Latin, the
  whole set goes through `tokenize`, which agrees with it on ASCII. `rouge_unicode` is
  1.0 then, else 0.0. Empty texts score 0.0. `stem`: Porter, ASCII words only.
  """
  count, accepted = _texts(predictions, references, 'rouge')
  names = ('rouge1', 'rouge2', 'rougeL', 'rougeLsum')
  if not count:
    return dict.fromkeys((*names, 'rouge_unicode'), 0.0)
  rouge_scorer = _library('rouge_score.rouge_scorer', 'rouge')
  other = not all(
    _is_latin(text) for texts in ([*predictions], *accepted) for text in texts
  )
  tokenizer = _UnicodeTokenizer(stem) if other else None
  scorer = rouge_scorer.RougeScorer(list(names), use_stemmer=stem, tokenizer=tokenizer)
  totals = dict.fromkeys(names, 0.0)
  for prediction, texts in zip(predictions, accepted, strict=True):
    for name, score in scorer.score_multi(texts, prediction).items():
      totals[name] += score.fmeasure
  return {
    **{name: total / count for name, total in totals.items()},
    'rouge_unicode': float(other),
  }


def bleu(predictions, references, *, tokenizer: str = '13a') -> dict[str, float]:
  """Corpus BLEU in 0..100 with one or several references (Papineni et al. 2002), as
  sacrebleu computes it.

  `tokenizer` is sacrebleu's: '13a' (the default of WMT), 'intl', 'zh', 'char', 'none'.
  Chinese needs 'zh' and other scripts without spaces 'char', or a sentence counts as
  one word. Empty predictions score 0.0.
  """
  count, accepted = _texts(predictions, references, 'bleu')
  if not count or not any(text.strip() for text in predictions):
    return {'bleu': 0.0}
  BLEU = _library('sacrebleu.metrics', 'bleu').BLEU
  if tokenizer not in BLEU.TOKENIZERS:
    raise ValueError(
      f'bleu: no tokenizer {tokenizer!r}; nearest: {nearest(tokenizer, BLEU.TOKENIZERS)}'
    )
  # The force flag silences advice about text that looks tokenised; it changes no score.
  score = BLEU(tokenize=tokenizer, force=True).corpus_score(
    list(predictions), _streams(accepted)
  )
  return {'bleu': finite(score.score)}


def chrf(predictions, references) -> dict[str, float]:
  """Corpus chrF2 in 0..100: character n-grams up to 6, beta 2 (Popović 2015), as
  sacrebleu computes it.
  """
  count, accepted = _texts(predictions, references, 'chrf')
  if not count or not any(text.strip() for text in predictions):
    return {'chrf': 0.0}
  chrf_of = _library('sacrebleu.metrics', 'chrf').CHRF()
  return {
    'chrf': finite(chrf_of.corpus_score(list(predictions), _streams(accepted)).score)
  }


def _library(module: str, what: str):
  """A module of the extra `text`; ImportError that says how to get it."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise ImportError(
      f"metrics.{what} needs {module.partition('.')[0]}: pip install 'tl-jax[text]'"
    ) from error


def tokenize(text: str) -> list[str]:
  """Lower-case words of any script: runs of letters, digits and marks; single
  characters where no spaces are used.

  On ASCII text the result is that of the rouge-score package.
  """
  tokens, word = [], ''
  for character in unicodedata.normalize('NFKC', text).lower():
    mark = unicodedata.category(character)[0] == 'M'
    if _is_unspaced(character) and (mark or character.isalnum()):
      tokens += [word] if word else []
      word = ''
      # A vowel sign of such a script belongs to the character before it.
      if mark and tokens:
        tokens[-1] += character
      else:
        tokens.append(character)
    elif mark or character.isalnum():
      word += character
    else:
      tokens += [word] if word else []
      word = ''
  return tokens + ([word] if word else [])


class _UnicodeTokenizer:
  """The shape of tokenizer that rouge-score asks for."""

  def __init__(self, stem: bool):
    self.stem = stem

  def tokenize(self, text: str) -> list[str]:
    words = tokenize(text)
    if not self.stem:
      return words
    from nltk.stem import porter

    stemmer = porter.PorterStemmer()
    return [
      stemmer.stem(word) if len(word) > 3 and word.isascii() else word for word in words
    ]


def _is_unspaced(character: str) -> bool:
  return any(first <= ord(character) <= last for first, last in UNSPACED)


def _is_latin(text: str) -> bool:
  """Is every letter of the text a Latin one?"""
  return text.isascii() or all(
    'LATIN' in unicodedata.name(letter, '') for letter in text if letter.isalpha()
  )


def _plain(text) -> str:
  text = ''.join(
    character for character in str(text).lower() if character not in string.punctuation
  )
  return ' '.join(re.sub(r'\b(a|an|the)\b', ' ', text).split())


def _accepted(reference) -> list:
  return list(reference) if isinstance(reference, (list, tuple)) else [reference]


def _texts(predictions, references, what: str) -> tuple[int, list[list[str]]]:
  """The number of examples and the accepted texts of each; ValueError for anything that
  is not text.
  """
  count = same_length(predictions, references, what)
  accepted = [_accepted(reference) for reference in references]
  for row, (prediction, texts) in enumerate(zip(predictions, accepted, strict=True)):
    if not texts or not all(isinstance(text, str) for text in (prediction, *texts)):
      raise ValueError(
        f'{what}: example {row} must be a text with one or more reference texts'
      )
  return count, accepted


def _streams(accepted: list[list[str]]) -> list[list[str | None]]:
  """References by their rank instead of by example, as sacrebleu wants them; None where
  an example has fewer.
  """
  most = max(map(len, accepted))
  return [
    [texts[rank] if rank < len(texts) else None for texts in accepted]
    for rank in range(most)
  ]
