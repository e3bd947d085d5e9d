"""Questions on a passage in which their answer stands, as published files have them.

>>> row = dict(question='Who?', context='Ann ran.', answers=dict(text=['Ann'], answer_start=[0]))
>>> asked, answers = read(row, fields_of(row))
>>> asked.first, asked.second, answers.texts, answers.starts
('Who?', 'Ann ran.', ('Ann',), (0,))

Known are the rows of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018), flat as tables have
them or nested as the authors publish them, and columns of a question, a passage and the
text of its answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tl_jax.data import missing
from tl_jax.data.pairs import Pair
from tl_jax.data.tokenizers import plain

# Fields that hold the question, the passage, the answers and the name of a question, the
# first that a row has.
QUESTIONS = ('question', 'query')
PASSAGES = ('context', 'passage', 'paragraph', 'document')
ANSWERS = ('answers', 'answer')
NAMES = ('id', 'qid', 'question_id')
# Where the first character of an answer is said, beside it or within it.
START = 'answer_start'
# Whether a passage does not answer its question.
IMPOSSIBLE = 'is_impossible'


class PassageQuestion(Pair):
  """A question and its passage, and what the file calls the question, '' for nothing."""

  name: str

  def __new__(cls, question: str, passage: str, name: str = ''):
    found = super().__new__(cls, question, passage)
    found.name = name
    return found


class Answers(NamedTuple):
  """The right answers to a question, all of which stand in its passage.

  texts: () where the passage has none. starts: the first character of each. count: how
  often the first one stands in the passage, where a file does not say which it means; 1
  where it does.
  """

  texts: tuple[str, ...] = ()
  starts: tuple[int, ...] = ()
  count: int = 1


class Fields(NamedTuple):
  """The fields of a row; answers: '' where there are none."""

  question: str
  passage: str
  answers: str = ''


def are_passages(texts: Sequence[str]) -> bool:
  """Is each of these texts a question on a passage? There is no mixture."""
  return bool(texts) and isinstance(texts[0], PassageQuestion)


def fields_of(
  row: Mapping[str, Any], text: Sequence[str] = (), answers: str = ''
) -> Fields | None:
  """The fields of a row; None where it has no question or no passage.

  text: those of the question and of the passage, where somebody says them. answers: that
  of the answers.
  """
  if len(text) == 2:
    question, passage = text
  else:
    question = _first_of(QUESTIONS, row)
    passage = _first_of(PASSAGES, row)
  if not question or not passage:
    return None
  return Fields(question, passage, answers or _first_of(ANSWERS, row))


def _first_of(names: Sequence[str], row: Mapping) -> str:
  """The first of these fields that a row has; '' for none."""
  return next((name for name in names if name in row), '')


def says_places(row: Mapping[str, Any], fields: Fields) -> bool:
  """Does a row say where its answers begin, so that it can be nothing else?"""
  value = row.get(fields.answers)
  if isinstance(value, list) and value:
    value = value[0]
  is_said = isinstance(value, Mapping) and START in value
  return is_said or START in row or IMPOSSIBLE in row


def read(
  row: Mapping[str, Any], fields: Fields
) -> tuple[PassageQuestion, Answers | None]:
  """(the question on its passage, its answers); None where the row does not say them.

  Raises ValueError `field: ...` for what is no text, for an empty passage, and for an
  answer that does not stand where the row says.
  """
  question = _text(row, fields.question)
  passage = _text(row, fields.passage)
  name = row.get(_first_of(NAMES, row))
  asked = PassageQuestion(question, passage, '' if name is None else str(name))
  if not passage.strip():
    raise ValueError(f'{fields.passage}: an empty passage{_of(asked)}')
  if not fields.answers:
    return asked, None
  return asked, _answers(row, fields.answers, asked)


def _text(row: Mapping[str, Any], name: str) -> str:
  value = row.get(name)
  if not isinstance(value, str):
    raise ValueError(f'{name}: {str(value)[:40]!r} is no text')
  return plain(value)


def _answers(row: Mapping, field: str, asked: PassageQuestion) -> Answers | None:
  """The answers of a row; None where it does not say them."""
  if _is_true(row.get(IMPOSSIBLE)):
    return Answers()
  texts, starts = _parted(row.get(field), row.get(START))
  if texts is None:
    return None
  if not texts:
    return Answers()
  strange = [text for text in texts if not isinstance(text, str)]
  if strange:
    raise ValueError(f'{field}: {str(strange[0])[:40]!r} is no text{_of(asked)}')
  plain_texts = tuple(map(plain, texts))
  if len(starts) != len(texts):
    start, count = _found(plain_texts[0], field, asked)
    return Answers(plain_texts, (start,), count)
  places = []
  for text, start in zip(plain_texts, starts, strict=True):
    places.append(_place_of(text, start, field, asked))
  return Answers(plain_texts, tuple(places))


def _is_true(value: Any) -> bool:
  # As text, in files of cells.
  return value is True or str(value).strip().lower() in ('true', '1', '1.0')


def _parted(value: Any, start: Any) -> tuple[list[str] | None, list]:
  """(the texts of answers, where they begin); None for no texts at all, and fewer places
  where these are not said.
  """
  if isinstance(value, Mapping):
    return _listed(value.get('text')), _listed(value.get(START))
  values = _listed(value)
  if values and isinstance(values[0], Mapping):
    # One object for each answer, as the authors of SQuAD have them.
    return [each.get('text') for each in values], [each.get(START) for each in values]
  if not values and not isinstance(value, list):
    return None, []
  return values, _listed(start)


def _listed(value: Any) -> list:
  """A list as it is, a single value as a list of it; [] for a missing one."""
  if isinstance(value, list):
    return value
  return [] if missing.is_missing(value) else [value]


def _found(text: str, field: str, asked: PassageQuestion) -> tuple[int, int]:
  """(where an answer begins first, how often it stands in its passage).

  Raises ValueError where it does not stand there.
  """
  start = asked.second.find(text)
  if start < 0 or not text:
    raise ValueError(
      f'{field}: {text[:40]!r} does not stand in the passage{_of(asked)}'
    )
  return start, asked.second.count(text)


def _place_of(text: str, start: Any, field: str, asked: PassageQuestion) -> int:
  """The first character of an answer.

  Raises ValueError for one that does not stand where it is said to begin.
  """
  number = str(start).removesuffix('.0')
  if not number.isdigit():
    raise ValueError(
      f'{field}: {START} {start!r} is no place of a character{_of(asked)}'
    )
  first = int(number)
  there = asked.second[first : first + len(text)]
  if text and there == text:
    return first
  nearest = asked.second.find(text) if text else -1
  where = f'; it stands at {nearest}' if nearest >= 0 else ''
  raise ValueError(
    f'{field}: {text[:40]!r} does not stand at character {first} of the passage, '
    f'which has {there[:40]!r} there{where}{_of(asked)}'
  )


def _of(asked: PassageQuestion) -> str:
  """Which question is meant, behind an error; '' where it has no name."""
  return f' (question {asked.name})' if asked.name else ''


def is_nested(document: Any) -> bool:
  """Is this a file of SQuAD as its authors publish it?"""
  if not isinstance(document, Mapping):
    return False
  articles = document.get('data')
  if not isinstance(articles, list):
    return False
  return all(isinstance(each, Mapping) and 'paragraphs' in each for each in articles)


def nested_rows(document: Mapping) -> Iterator[dict[str, Any]]:
  """A row of its own for every question of such a file.

  Raises ValueError for a paragraph or a question of another form.
  """
  for article in document['data']:
    for paragraph in article['paragraphs']:
      if not isinstance(paragraph, Mapping) or 'context' not in paragraph:
        raise ValueError(f'paragraphs: {str(paragraph)[:40]!r} has no context')
      shared = dict(title=article.get('title', ''), context=paragraph['context'])
      for question in paragraph.get('qas', []):
        if not isinstance(question, Mapping):
          raise ValueError(f'qas: {str(question)[:40]!r} is no question')
        yield {**question, **shared}
