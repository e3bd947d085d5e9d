"""Questions with candidates as published files have them, found by their fields.

>>> row = dict(ctx='A man sits', endings=['down.', 'up.'], label='0')
>>> asked, place = read(row, fields_of(row))
>>> asked.question, asked.answers, place
('A man sits', ('down.', 'up.'), 0)

Known are the fields of SWAG and HellaSwag, of ARC, OpenBookQA and CommonsenseQA, of
RACE, COPA, PIQA, Social IQa, WinoGrande and MMLU, and columns A, B, C, ....
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tl_jax.data import missing
from tl_jax.data.candidates import LETTERS, Choices

# Fields that hold what is read before a question, the first that a row has.
CONTEXTS = (
  *('ctx', 'context', 'article', 'passage', 'premise', 'sent1'),
  *('goal', 'sentence', 'text'),
)
# Fields that hold the question, or the beginning of every candidate.
QUESTIONS = ('question', 'question_stem', 'sent2', 'query')
# Fields that hold all candidates.
LISTS = ('endings', 'choices', 'options', 'candidates')
# What stands before the number of a candidate in the name of its column, and what the
# first candidate is called in the column of the answer.
NUMBERED = (('ending', 0), ('choice', 0), ('sol', 0), ('option', 1))
# What stands before its letter. Social IQa calls answerA 1.
LETTERED = ('', 'answer', 'option_', 'option')
ANSWERS = ('answerKey', 'label', 'answer', 'gold', 'gold_label', 'correct')
# What COPA asks (Roemmele et al. 2011), by the word in its file.
OF_COPA = dict(cause='What was the cause of this?', effect='What happened as a result?')
# The mark of a gap that the candidates fill.
_GAP = re.compile(r'(?<!\w)_+(?!\w)')


class Fields(NamedTuple):
  """The fields of a row in which the parts of a question stand.

  context, question, answer: '' where there is none. candidates: one field with all of
  them, or a column for each. first: the number by which the answer calls the first
  candidate.
  """

  context: str
  question: str
  candidates: tuple[str, ...]
  answer: str
  first: int = 0

  @property
  def text(self) -> tuple[str, ...]:
    """The fields that are read before the candidates."""
    return tuple(name for name in (self.context, self.question) if name)


def fields_of(
  row: Mapping[str, Any], text: tuple[str, ...] = (), answer: str = ''
) -> Fields | None:
  """The fields of a row with candidates; None where there are none.

  text: the fields of the context and the question, where somebody says them. answer:
  that of the answer.
  """
  found = _candidates(row)
  if found is None:
    return None
  candidates, first = found
  context = _first_of(CONTEXTS, row)
  question = _first_of(QUESTIONS, row)
  # What is said counts, whatever other fields there are.
  if len(text) == 1:
    context, question = ('', text[0]) if text[0] in QUESTIONS else (text[0], '')
  elif text:
    context, question = text
  if not context and not question:
    return None
  answer = answer or _first_of(ANSWERS, row, beside=candidates)
  return Fields(context, question, candidates, answer, first)


def _first_of(names: tuple[str, ...], row: Mapping, beside: tuple = ()) -> str:
  """The first of these fields that a row has; '' for none."""
  return next((name for name in names if name in row and name not in beside), '')


def _candidates(row: Mapping[str, Any]) -> tuple[tuple[str, ...], int] | None:
  """(the fields of the candidates, the number of the first); None where there are
  none.
  """
  for name in LISTS:
    if isinstance(row.get(name), (list, dict)):
      return (name,), 0
  # The files of ARC and CommonsenseQA as their authors have them.
  question = row.get('question')
  if isinstance(question, dict) and 'choices' in question:
    return ('question',), 0
  return _columns(row)


def _columns(row: Mapping[str, Any]) -> tuple[tuple[str, ...], int] | None:
  """The columns of one candidate each, and the number of the first, or None."""
  for stem, first in NUMBERED:
    numbers = [name for name in row if re.fullmatch(rf'{stem}\d+', str(name))]
    # One alone is no choice.
    if len(numbers) > 1:
      return tuple(sorted(numbers, key=_number_in)), first
  for stem in LETTERED:
    found = _lettered(row, stem)
    if len(found) > 1:
      return found, 1 if stem == 'answer' else 0
  return None


def _number_in(name: str) -> int:
  return int(re.sub(r'\D', '', name))


def _lettered(row: Mapping[str, Any], stem: str) -> tuple[str, ...]:
  """The columns of the letters from A on, in either case."""
  for letters in (LETTERS, LETTERS.lower()):
    found = []
    for letter in letters:
      if f'{stem}{letter}' not in row:
        break
      found.append(f'{stem}{letter}')
    # Large and small letters are not mixed.
    if found:
      return tuple(found)
  return ()


def read(row: Mapping[str, Any], fields: Fields) -> tuple[Choices, int | None]:
  """(the question with its candidates, the place of the right one).

  The place is None where the row does not say it. Raises ValueError `field: ...` for
  candidates that are none and for an answer that is no candidate.
  """
  answers, names = _read_candidates(row, fields)
  context = _text(row, fields.context)
  question = _text(row, fields.question)
  # Of COPA a word stands in the place of its question.
  if question in OF_COPA and 'premise' in row:
    return _asked(f'{context} {OF_COPA[question]}', '', answers, names, row, fields)
  return _asked(context, question, answers, names, row, fields)


def _asked(context, question, answers, names, row, fields: Fields):
  """The question as a model reads it, with the place of the answer."""
  own = names or _usual_names(fields, len(answers))
  place = _place(row, fields, answers, own, bool(names))
  asked = Choices(*_put(context, question, answers), own)
  return asked, place


def _put(context: str, question: str, answers: tuple[str, ...]):
  """(what is read first, what is read for each candidate).

  A gap in the question, or in the only text, is filled by the candidate. A question
  behind a context goes before the candidate, as SWAG's beginnings of a sentence do.
  """
  if not context:
    context, question = ('', question) if _GAP.search(question) else (question, '')
  elif not question and _GAP.search(context):
    context, question = '', context
  # The candidates are answers, or ends of the context, by themselves.
  if not question:
    return context, answers
  return context, tuple(_filled(question, answer) for answer in answers)


def _filled(question: str, answer: str) -> str:
  """The question with a candidate in its gap, or behind it."""
  if _GAP.search(question):
    return _GAP.sub(lambda _: answer, question, count=1)
  return f'{question} {answer}'


def _text(row: Mapping[str, Any], name: str) -> str:
  """The text of a field; '' where it has none. Of a dict it is its stem."""
  value = row.get(name) if name else None
  if isinstance(value, dict):
    value = value.get('stem')
  if value is None or (not isinstance(value, str) and missing.is_missing(value)):
    return ''
  if not isinstance(value, str):
    raise ValueError(f'{name}: {str(value)[:40]!r} is no text')
  return value.strip()


def _read_candidates(row: Mapping[str, Any], fields: Fields):
  """(the candidates, their names in the file); () where it has no names."""
  if len(fields.candidates) > 1:
    found = _filled_cells([row.get(name) for name in fields.candidates])
    return _texts(found, fields.candidates[0]), ()
  (name,) = fields.candidates
  value = row.get(name)
  if name == 'question' and isinstance(value, dict):
    value = value.get('choices')
  texts, names = _parted(value)
  # Names of some candidates alone name none.
  names = tuple(map(str, names)) if all(each is not None for each in names) else ()
  return _texts(texts, name), names


def _filled_cells(cells: list) -> list:
  """The cells without the empty ones at their end.

  A file of questions with four and with five candidates leaves cells empty.
  """
  filled = [not missing.is_missing(cell) for cell in cells]
  count = len(cells) - filled[::-1].index(True) if any(filled) else 0
  return cells[:count]


def _parted(value: Any) -> tuple[Any, list]:
  """(the texts of candidates, their names) in a field that holds both or texts alone."""
  # The columns of a list of records, as Parquet files have it.
  if isinstance(value, dict):
    return value.get('text'), list(value.get('label') or [])
  if isinstance(value, list) and value and isinstance(value[0], dict):
    # The records themselves, as the authors of ARC have them.
    records = [each if isinstance(each, dict) else {} for each in value]
    texts = [record.get('text') for record in records]
    return texts, [record.get('label') for record in records]
  return value, []


def _texts(values: Any, name: str) -> tuple[str, ...]:
  """Candidates as texts. Raises ValueError for fewer than two, and for what is none."""
  if not isinstance(values, (list, tuple)) or len(values) < 2:
    raise ValueError(f'{name}: {str(values)[:40]!r}; a question needs two candidates')
  found = []
  for value in values:
    # A candidate may be a number.
    if isinstance(value, (int, float)) and not isinstance(value, bool):
      value = str(value)
    if not isinstance(value, str):
      raise ValueError(f'{name}: the candidate {str(value)[:40]!r} is no text')
    found.append(value.strip())
  return tuple(found)


def _usual_names(fields: Fields, count: int) -> tuple[str, ...]:
  """What the candidates are called where the file gives them no names."""
  is_lettered = len(fields.candidates) > 1 and not fields.candidates[0][-1].isdigit()
  if is_lettered:
    return tuple(LETTERS[:count])
  return tuple(str(place + fields.first) for place in range(count))


def _place(row, fields: Fields, answers, names, is_named: bool) -> int | None:
  """The place of the right candidate; None where the row does not say it.

  It may be given by its name, its number, its letter or its text. is_named: are the
  names those of the file? Then a number is a name.
  """
  value = row.get(fields.answer) if fields.answer else None
  if value is None or missing.is_missing(value):
    return None
  said = str(value).strip()
  # A test set whose answers are kept back has these.
  if said in ('', '-1'):
    return None
  place = _named(said, names, fields.first, is_named)
  is_place = place is not None and 0 <= place < len(answers)
  # A short text may look like the letter of a candidate that is not there.
  if not is_place and answers.count(said) == 1:
    return answers.index(said)
  if not is_place:
    known = ', '.join(names)
    raise ValueError(
      f'{fields.answer}: {said[:40]!r} is none of the {len(answers)} candidates {known}'
    )
  return place


def _named(said: str, names: tuple[str, ...], first: int, is_named: bool) -> int | None:
  """The place of a candidate by its name, its number or its letter."""
  if said in names:
    return names.index(said)
  # A number beside names may count from 0 or from 1.
  if is_named:
    return None
  # Pandas writes 1 as 1.0 in a column with a missing value.
  number = re.fullmatch(r'(\d+)(\.0)?', said)
  if number:
    return int(number.group(1)) - first
  if len(said) == 1 and said.upper() in LETTERS:
    return LETTERS.index(said.upper())
  return None
