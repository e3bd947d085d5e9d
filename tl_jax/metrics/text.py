"""Metrics of text against one or several reference texts.

>>> exact_match(['Paris', 'Rome'], [['Paris', 'paris'], 'Oslo'])
{'exact_match': 0.5}
>>> tokenize('Grüße, 東京!')
['grüße', '東', '京']
"""

import functools
import importlib
import importlib.metadata
import itertools
import re
import string
import unicodedata
from collections.abc import Iterable

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


# The library that a metric needs, which the extra `text` installs.
LIBRARIES = {
  'rouge': 'rouge_score',
  'bleu': 'sacrebleu',
  'chrf': 'sacrebleu',
  'self_bleu': 'sacrebleu',
}
_ASCII_WORD = re.compile('[a-z0-9]+')
# What ends a sentence; in scripts without spaces nothing stands between two.
_SENTENCE_END = re.compile(r'(?<=[.!?…])\s+|(?<=[。！？])\s*')


def exact_match(
  predictions, references, *, normalize: bool = False
) -> dict[str, float]:
  """The fraction of predictions equal to their reference, or to any of several.

  `normalize` compares as SQuAD does (Rajpurkar et al. 2016): lower case, without
  punctuation, articles and surplus spaces. An empty prediction matches an empty
  reference only.
  """
  count = same_length(predictions, references, 'exact_match')
  compared = normalized if normalize else lambda value: value
  hits = 0
  for prediction, reference in zip(predictions, references, strict=True):
    accepted = [compared(text) for text in _accepted(reference)]
    # `==` rather than `in`, which would take an array or NaN for itself.
    hits += any(compared(prediction) == text for text in accepted)
  return {'exact_match': hits / count if count else 0.0}


def rouge(predictions, references, *, stem: bool = False) -> dict[str, float]:
  """ROUGE-1, -2, -L and -Lsum (Lin 2004).

  They are F-measures in 0..1, the mean over examples; of several references the best
  one counts. Text in Latin letters is tokenised as the rouge-score package does (a-z
  and 0-9), which drops every other script. As soon as one letter of the set is not
  Latin, the whole set goes through `tokenize`, which agrees with it on ASCII;
  `rouge_unicode` is 1.0 then, else 0.0. Empty texts score 0.0. `stem` is Porter's, for
  ASCII words only.

  ROUGE-Lsum is that of the summary (Lin 2004, 3.2): the longest common subsequences of
  its sentences with each sentence of the reference. Sentences are the lines of a text
  or, of a text of one line, end with a full stop, or a mark of question or exclamation.
  """
  count, accepted = _texts(predictions, references, 'rouge')
  names = ('rouge1', 'rouge2', 'rougeL', 'rougeLsum')
  if not count:
    return dict.fromkeys((*names, 'rouge_unicode'), 0.0)
  rouge_scorer = _library('rouge_score.rouge_scorer', 'rouge')
  # One tokenizer for the whole set: scores of two would not add up to one mean.
  texts_of_all = [*predictions, *itertools.chain.from_iterable(accepted)]
  is_unicode = not all(map(_is_latin, texts_of_all))
  tokenizer = _UnicodeTokenizer(stem) if is_unicode else None
  scorer = rouge_scorer.RougeScorer(list(names), use_stemmer=stem, tokenizer=tokenizer)
  totals = dict.fromkeys(names, 0.0)
  for prediction, texts in zip(predictions, accepted, strict=True):
    lines_of_texts = [_by_sentence(text) for text in texts]
    scores = scorer.score_multi(lines_of_texts, _by_sentence(prediction))
    for name, score in scores.items():
      totals[name] += score.fmeasure
  means = {name: total / count for name, total in totals.items()}
  return {**means, 'rouge_unicode': float(is_unicode)}


def _by_sentence(text: str) -> str:
  """The text with each of its sentences on a line, as rouge-score asks for them."""
  if '\n' in text.strip():
    return text
  return '\n'.join(filter(None, _SENTENCE_END.split(text.strip())))


def bleu(predictions, references, *, tokenizer: str = '13a') -> dict[str, float]:
  """Corpus BLEU in 0..100 (Papineni et al. 2002), as sacrebleu computes it.

  An example has one or several references. `tokenizer` is sacrebleu's: '13a' (the
  default of WMT), 'intl', 'zh', 'char', 'none'. Chinese needs 'zh' and other scripts
  without spaces 'char', or a sentence counts as one word. Empty predictions score 0.0.
  """
  count, accepted = _texts(predictions, references, 'bleu')
  if not count or not any(text.strip() for text in predictions):
    return {'bleu': 0.0}
  BLEU = _library('sacrebleu.metrics', 'bleu').BLEU
  if tokenizer not in BLEU.TOKENIZERS:
    close = nearest(tokenizer, BLEU.TOKENIZERS)
    raise ValueError(f'bleu: no tokenizer {tokenizer!r}; nearest: {close}')
  # The force flag silences advice about text that looks tokenised; it changes no score.
  scorer = BLEU(tokenize=tokenizer, force=True)
  score = scorer.corpus_score(list(predictions), _streams(accepted))
  return {'bleu': finite(score.score)}


def chrf(predictions, references) -> dict[str, float]:
  """Corpus chrF2 in 0..100 (Popović 2015), as sacrebleu computes it.

  It counts character n-grams up to 6, with a beta of 2.
  """
  count, accepted = _texts(predictions, references, 'chrf')
  if not count or not any(text.strip() for text in predictions):
    return {'chrf': 0.0}
  scorer = scorer_of('chrf')
  score = scorer.corpus_score(list(predictions), _streams(accepted))
  return {'chrf': finite(score.score)}


def corpus_counts(name: str, predictions, references) -> list[list[int]]:
  """The counts of each example that BLEU or chrF adds up over a corpus."""
  _, accepted = _texts(predictions, references, name)
  # As sacrebleu does it for a corpus, whose n-grams are counted only once so.
  scorer = _counter_of(name)
  return scorer._extract_corpus_statistics(list(predictions), _streams(accepted))


def score_of_counts(name: str, counts: Iterable[int]) -> float:
  """BLEU or chrF of a corpus whose counts add up to these.

  It is that of `bleu` or `chrf` on the same examples.
  """
  score = _counter_of(name)._compute_score_from_stats(list(counts))
  return finite(score.score)


@functools.cache
def _counter_of(name: str):
  """The scorer of a metric, kept, as sums are scored many times."""
  return scorer_of(name)


def signatures(names: Iterable[str], references) -> dict[str, str]:
  """What makes scores of these metrics comparable: versions and options, by name.

  That of sacrebleu is its own (Post 2018). Other metrics have none.
  """
  accepted = [_accepted(reference) for reference in references]
  most = max(map(len, accepted), default=1)
  fewest = min(map(len, accepted), default=1)
  found = {}
  for name in names:
    if LIBRARIES.get(name) == 'sacrebleu':
      scorer = scorer_of(name)
      # It counts references when it scores; those of self_bleu are other predictions.
      is_one = most == fewest and name != 'self_bleu'
      scorer.num_refs = most if is_one else -1
      found[name] = scorer.get_signature().format()
    elif name == 'rouge':
      version = importlib.metadata.version('rouge-score')
      found[name] = f'rouge-score {version}, without stemming'
  return found


def scorer_of(name: str):
  """The scorer of sacrebleu that a metric has by default."""
  scorers = _library('sacrebleu.metrics', name)
  if name == 'chrf':
    return scorers.CHRF()
  return scorers.BLEU(force=True, effective_order=name == 'self_bleu')


def _library(module: str, what: str):
  """A module of the extra `text`; ImportError that says how to get it."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    package = module.partition('.')[0]
    raise ImportError(
      f"metrics.{what} needs {package}: pip install 'tl-jax[text]'"
    ) from error


def tokenize(text: str) -> list[str]:
  """Lower-case words of any script.

  A word is a run of letters, digits and marks. In scripts that put no space between
  words, it is a single character. On ASCII text the result is that of the rouge-score
  package.
  """
  if text.isascii():
    # Most text is: the same words, many times faster.
    return _ASCII_WORD.findall(text.lower())
  tokens = []
  # Is the last token a word that the next character may go on with?
  is_open = False
  for character in unicodedata.normalize('NFKC', text).lower():
    is_mark = unicodedata.category(character)[0] == 'M'
    if not is_mark and not character.isalnum():
      is_open = False
      continue
    unspaced = _is_unspaced(character)
    # A vowel sign of an unspaced script belongs to the character before it.
    continues = bool(tokens) and is_mark if unspaced else is_open
    if continues:
      tokens[-1] += character
    else:
      tokens.append(character)
    is_open = not unspaced
  return tokens


class _UnicodeTokenizer:
  """`tokenize` as the object that rouge-score asks for."""

  def __init__(self, stem: bool):
    self.stem = stem

  def tokenize(self, text: str) -> list[str]:
    words = tokenize(text)
    if not self.stem:
      return words
    from nltk.stem import porter

    stemmer = porter.PorterStemmer()
    stemmed = []
    for word in words:
      # Shorter words stay as they are, as in rouge-score.
      has_stem = len(word) > 3 and word.isascii()
      stemmed.append(stemmer.stem(word) if has_stem else word)
    return stemmed


def _is_unspaced(character: str) -> bool:
  return any(first <= ord(character) <= last for first, last in UNSPACED)


def _is_latin(text: str) -> bool:
  """Is every letter of the text a Latin one?"""
  if text.isascii():
    return True
  letters = filter(str.isalpha, text)
  return all('LATIN' in unicodedata.name(letter, '') for letter in letters)


def normalized(text) -> str:
  """The text as SQuAD compares it: words in lower case, without articles."""
  lower = str(text).lower()
  # Punctuation is taken out, not replaced: "don't" is one word.
  words = ''.join(
    character for character in lower if character not in string.punctuation
  )
  without_articles = re.sub(r'\b(a|an|the)\b', ' ', words)
  return ' '.join(without_articles.split())


def _accepted(reference) -> list:
  """The references of an example, of which it may have one or several."""
  return list(reference) if isinstance(reference, (list, tuple)) else [reference]


def _texts(predictions, references, what: str) -> tuple[int, list[list[str]]]:
  """The number of examples, and the accepted texts of each.

  Errors: ValueError for anything that is not text.
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
  """References by their rank instead of by example, as sacrebleu wants them.

  A stream has None for an example that has fewer.
  """
  # By default the shorter ones are filled with None.
  streams = itertools.zip_longest(*accepted)
  return [list(stream) for stream in streams]
