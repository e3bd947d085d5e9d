"""The settings of decoding: the method, its limits and what ends a sequence.

>>> Decoding(method='sample', temperature=0.7, top_p=0.9, eos=2).eos
(2,)
>>> beam = Decoding(method='beam', beams=2, length_penalty=2.0, max_new_tokens=3)
>>> penalties(beam).tolist()
[1.0, 1.0, 4.0, 9.0]
"""

import dataclasses
import typing
from typing import Annotated, Literal

import numpy as np

from tl_jax.config import (
  ConfigError,
  Count,
  Finite,
  Natural,
  Positive,
  Probability,
  Range,
  check,
)

Mass = Annotated[float, Range(low=0, high=1, above=True)]
# Which method reads a field that is not for all; another method must leave it alone.
READERS = {
  'temperature': ('sample',),
  'top_k': ('sample',),
  'top_p': ('sample',),
  'min_p': ('sample',),
  'beams': ('beam',),
  'length_penalty': ('beam',),
  'penalty_form': ('beam',),
  'early_stopping': ('beam',),
  'samples': ('sample', 'beam'),
}
# Ids of the vocabulary; one may stand for a tuple of one.
IDS = ('eos', 'start', 'forced_bos', 'forced_eos', 'suppress', 'begin_suppress')


@dataclasses.dataclass(frozen=True)
class Decoding:
  """What `generate` does; the defaults are those of transformers 5 where it has the
  option.

  A tuple of ids may be given as one id. Errors: ConfigError, one line that names the
  field, for a value that is wrong, that the method does not read, or that another field
  contradicts.
  """

  method: Literal['greedy', 'sample', 'beam'] = 'greedy'
  max_new_tokens: Count = 64
  # Before so many tokens no end of sequence is emitted.
  min_new_tokens: Natural = 0
  temperature: Positive = 1.0
  # So many of the likeliest tokens may be drawn; 0: all.
  top_k: Natural = 0
  # The likeliest tokens that have this mass together may be drawn; 1: all.
  top_p: Mass = 1.0
  # Tokens of this part of the probability of the likeliest may be drawn; 0: all.
  min_p: Probability = 0.0
  repetition_penalty: Positive = 1.0
  # No n-gram of this size comes twice; 0: it may.
  no_repeat_ngram: Natural = 0
  # Sequences of ids that never come.
  bad_words: tuple[tuple[Natural, ...], ...] = ()
  # Ids that never come.
  suppress: tuple[Natural, ...] = ()
  # Ids that are never the first new one.
  begin_suppress: tuple[Natural, ...] = ()
  # The first new id (BART, mBART); begin_suppress then is for the second.
  forced_bos: tuple[Natural, ...] = ()
  # One of them ends a text that is max_new_tokens long.
  forced_eos: tuple[Natural, ...] = ()
  # Texts of each prompt; of beam search these are the best of its beams.
  samples: Count = 1
  beams: Count = 4
  # The exponent of the length that a score is divided by; above 0 it prefers long ones.
  length_penalty: Finite = 1.0
  penalty_form: Literal['huggingface', 'gnmt'] = 'huggingface'
  early_stopping: bool | Literal['never'] = False
  # Any of them ends a text.
  eos: tuple[Natural, ...] = ()
  # What fills the rows behind the end of a text.
  pad: Natural = 0
  # The prompt of an encoder-decoder's decoder; of a decoder, ids before each prompt.
  start: tuple[Natural, ...] = ()
  # Strings that end a text; they are not part of it.
  stop: tuple[str, ...] = ()
  seed: int = 0

  def __post_init__(self):
    # The dataclass is frozen: fields are normalised past its __setattr__.
    for name in (*IDS, 'stop'):
      value = getattr(self, name)
      if isinstance(value, (int, str, np.integer)) and not isinstance(value, bool):
        object.__setattr__(self, name, (value,))
    # Elsewhere 0 means greedy, which deserves a better message than "must be > 0".
    if self.temperature == 0 and not isinstance(self.temperature, bool):
      raise ConfigError(
        "temperature: must be > 0, got 0; method='greedy' takes the most likely token"
      )
    for name, hint in typing.get_type_hints(Decoding, include_extras=True).items():
      checked = check(getattr(self, name), hint, name)
      object.__setattr__(self, name, checked)
    _check_readers(self)
    _check_together(self)


def _check_readers(settings: Decoding) -> None:
  """Refuses a value that the method would ignore."""
  defaults = {field.name: field.default for field in dataclasses.fields(Decoding)}
  for name, methods in READERS.items():
    value = getattr(settings, name)
    if settings.method not in methods and value != defaults[name]:
      wanted = ' or '.join(f'method={method!r}' for method in methods)
      raise ConfigError(
        f'{name}: {value!r} is for {wanted}, but the method is {settings.method!r}'
      )


def _check_together(settings: Decoding) -> None:
  """Refuses values that contradict each other, or that no value of a field may be."""
  if settings.min_new_tokens > settings.max_new_tokens:
    raise ConfigError(
      f'min_new_tokens: {settings.min_new_tokens} is more than max_new_tokens, '
      f'{settings.max_new_tokens}'
    )
  if settings.method == 'beam' and settings.samples > settings.beams:
    raise ConfigError(
      f'samples: {settings.samples} is more than the {settings.beams} beams'
    )
  if len(settings.forced_bos) > 1:
    raise ConfigError(
      f'forced_bos: {len(settings.forced_bos)} ids, but one is the first'
    )
  if () in settings.bad_words:
    raise ConfigError('bad_words: an empty one would forbid everything')
  _check_stop(settings.stop)
  _check_penalties(settings)


def _check_stop(stop: tuple[str, ...]) -> None:
  """Refuses stop strings that end every text, or that no text can hold."""
  if '' in stop:
    raise ConfigError('stop: an empty string would end every text at once')
  for text in stop:
    # A lone surrogate: a shell hands it over for a byte that is no UTF-8.
    encodable = text.encode('utf-8', 'ignore').decode('utf-8')
    if text != encodable:
      raise ConfigError(
        f'stop: {ascii(text)} holds half of a character, which no text has'
      )


def _check_penalties(settings: Decoding) -> None:
  """Refuses a length penalty by which scores would become 0, infinite or subnormal."""
  # They grow or fall with the length, so that the ends tell of all between them.
  ends = np.array([1, settings.max_new_tokens])
  with np.errstate(over='ignore'):
    found = _penalties_at(settings, ends)
  normal = np.isfinite(found) & (found >= np.finfo(np.float32).tiny)
  if not normal.all():
    raise ConfigError(
      f'length_penalty: {settings.length_penalty:g} at max_new_tokens '
      f'{settings.max_new_tokens} leaves the range of float32; nearer 0 fits'
    )


def penalties(settings: Decoding) -> np.ndarray:
  """The divisors of the scores of sequences, by length: float32 (max_new_tokens + 1,).

  They are length ** a as in transformers, or ((5 + length) / 6) ** a, Wu et al. 2016
  eq. 14. The length counts new tokens, with the end of sequence. The entry of length 0
  is not used.
  """
  return _penalties_at(settings, np.arange(settings.max_new_tokens + 1))


def _penalties_at(settings: Decoding, lengths: np.ndarray) -> np.ndarray:
  """`penalties` of some lengths: float32, of the same shape."""
  lengths = lengths.astype(np.float64)
  if settings.penalty_form == 'huggingface':
    # 0 to a negative power would divide by zero.
    bases = np.maximum(lengths, 1)
  else:
    bases = (5 + lengths) / 6
  return (bases**settings.length_penalty).astype(np.float32)
