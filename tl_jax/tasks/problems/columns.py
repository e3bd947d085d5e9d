"""What a column of a file holds as the targets of a task, by its kind.

Each reader gives a Column. All values are looked at before a run begins, so that none
fails in its middle. `known` is what a model answers that is tried on the task, or None.

>>> opened = Opened('title', {}, ['a cat'], ['a.csv:2'], (), False, ())
>>> column = read_texts(opened, known=None)
>>> column.read({'text': 'a cat is here', 'label': 'a cat'}).target
'a cat'
>>> column.holds
'texts of 2 words'
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tl_jax.config import ConfigError
from tl_jax.data.conversations import Turn
from tl_jax.data.passages import Answers
from tl_jax.data.sources import Source
from tl_jax.tasks import labels
from tl_jax.tasks.problems.problem import Example

# The label of tasks with questions that their passage does not answer.
NO_ANSWER = 'no answer'
# So many classes are named with the number of their examples.
MOST_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class Opened:
  """A task's files, read.

  `sources` has the source of each split. `values` and `places` have the label of every
  example of all splits and where it stands, as `file:line`. `classes` are names that
  the file itself gives to its classes. `several` is true for several columns of labels.
  `told` is what was found out about the files, in lines for the start of a run.
  """

  column: str
  sources: Mapping[str, Source]
  values: list[Any]
  places: list[str]
  classes: tuple[str, ...]
  several: bool
  told: tuple[str, ...]


class Column(NamedTuple):
  """A column of targets, read.

  read(record) gives an Example. labels: the names of the model's outputs. holds: what
  stands in the column, in words.
  """

  read: Callable[[Mapping[str, Any]], Example]
  labels: tuple[str, ...]
  holds: str


def read_numbers(opened: Opened, known):
  """A column of numbers; `known` says nothing, for one output has no name."""
  del known
  column = opened.column
  commas = bool(labels.decimal_commas(opened.values))
  found = [
    labels.number_of(value, place, column, commas)
    for value, place in zip(opened.values, opened.places, strict=True)
  ]

  def read(record):
    number = labels.number_of(record['label'], '', column, commas)
    return Example((record['text'],), number)

  holds = f'numbers from {min(found):g} to {max(found):g}, {labels.REGRESSION}'
  return Column(read, (column,), holds)


def read_texts(opened: Opened, known):
  """A column of texts to write, or of lists of texts that are all right.

  Raises ConfigError for a list without a text.
  """
  del known
  words: list[int] = []
  for value, place in zip(opened.values, opened.places, strict=True):
    if value == []:
      raise ConfigError(f'{place}: {opened.column}: an empty list; it needs a text')
    words += [len(text.split()) for text in _references(value)]

  def read(record):
    references = _references(record['label'])
    return Example((record['text'],), references[0], references)

  return Column(read, (), f'texts of {_from_to(words, "word")}')


def read_alike(opened: Opened, known):
  """Columns of texts that belong to a text: the right one, then wrong ones."""
  del known
  values = [_references(value) for value in opened.values]
  words = [len(text.split()) for value in values for text in value]

  def read(record):
    others = _references(record['label'])
    return Example((record['text'],), others[0], others)

  return Column(read, (), f'texts of {_from_to(words, "word")} that belong to others')


def _references(value: Any) -> tuple[str, ...]:
  """The texts that are right, of which a file may name one or a list."""
  values = value if isinstance(value, list) else [value]
  return tuple(str(each).strip() for each in values)


def read_conversations(opened: Opened, known):
  """Turns, which a source gives as plain lists."""
  del known
  turns = [len(value) for value in opened.values]

  def read(record):
    turns = tuple(Turn(*each) for each in record['label'])
    return Example((record['text'],), turns)

  holds = (
    f'conversations of {_from_to(turns, "turn")}; what the assistant says in them is '
    'learned, and what it says last is scored'
  )
  return Column(read, (), holds)


def read_choices(opened: Opened, known):
  """Questions with candidates, which a source reads as such, and the right places."""
  del known
  counts: list[int] = []
  for source in opened.sources.values():
    counts += [len(record['text'].answers) for record in source]

  def read(record):
    return Example((record['text'],), record['label'])

  holds = f'questions with {_from_to(counts, "candidate")}, one of which is right'
  return Column(read, (), holds)


def read_answers(opened: Opened, known):
  """Answers that stand in passages, or none, which a source reads as such."""
  # A source gives them as plain lists.
  values = list(map(_as_answers, opened.values))
  without = sum(not value.texts for value in values)
  doubtful = sum(value.count > 1 for value in values)
  has_none = without > 0 or bool(known and known.labels)

  def read(record):
    return Example((record['text'],), _as_answers(record['label']))

  holds = f'answers to {len(values)} questions, which stand in their passages'
  if without:
    holds += f', {without} of them without an answer'
  if doubtful:
    holds += f'; {doubtful} stand there several times, of which the first counts'
  # What a model of such questions answers is their only label.
  return Column(read, (NO_ANSWER,) if has_none else (), holds)


def _as_answers(value: Sequence) -> Answers:
  texts, starts, count = value
  return Answers(tuple(texts), tuple(starts), count)


def _from_to(counts: Sequence[int], unit: str) -> str:
  """The least and the most of these counts.

  >>> _from_to([3, 40], 'word'), _from_to([1, 1], 'word')
  ('3 to 40 words', '1 word')
  """
  least, most = min(counts), max(counts)
  said = f'{least}' if least == most else f'{least} to {most}'
  return f'{said} {unit}{"s" * (most != 1)}'


def read_classes(opened: Opened, known):
  """A column with one class for every example, or the classes that are `known`."""
  for value, place in zip(opened.values, opened.places, strict=True):
    if isinstance(value, list):
      raise ConfigError(
        f'{place}: {opened.column}: a list of labels; say kind={labels.MULTI}'
      )
  # The names in the order of the lines: the first that does not go with those before it
  # is the one that is complained of.
  names = [_class_name(value, opened.classes) for value in opened.values]
  labels.require_one_spelling(names, opened.places, opened.column)
  table = known.labels if known else opened.classes or labels.in_order(set(names))
  _require_known(names, opened, table, known)
  if len(table) < 2:
    raise ConfigError(
      f'{opened.sources["train"].name}: field {opened.column}: {len(table)} distinct '
      'labels; a task needs at least 2'
    )
  # Spelled once more when an example is read, so that a lookup suffices.
  index = {name: place for place, name in enumerate(table)}

  def read(record):
    name = _class_name(record['label'], opened.classes)
    return Example((record['text'],), index[name])

  return Column(read, table, _of_classes(names, table, known))


def read_tags(opened: Opened, known):
  """A column with a list of tags for every sentence, as names or as numbers of such."""
  names: list[str] = []
  places: list[str] = []
  for value, place in zip(opened.values, opened.places, strict=True):
    own = [_tag_name(tag, opened, place) for tag in value]
    names += own
    places += [place] * len(own)
  table = known.labels if known else opened.classes or labels.in_order(set(names))
  _require_known(names, dataclasses.replace(opened, places=places), table, known)
  index = {name: place for place, name in enumerate(table)}

  def read(record):
    found = [_tag_name(tag, opened, '') for tag in record['label']]
    return Example((record['text'],), tuple(index[name] for name in found))

  count = len(opened.values)
  scheme = _scheme(names)
  holds = (
    f'tags of {len(names)} words in {count} sentences, {scheme}'
    f'{_of_classes(names, table, known)}'
  )
  return Column(read, table, holds)


def _tag_name(value: Any, opened: Opened, place: str) -> str:
  """A tag, of a number the name that the file gives it.

  Raises ConfigError for a number that none of the names has.
  """
  if isinstance(value, str):
    return value.strip()
  if not opened.classes:
    return str(value)
  if not 0 <= value < len(opened.classes):
    raise ConfigError(
      f'{place}: {opened.column}: tag {value}, but the file names those from 0 to '
      f'{len(opened.classes) - 1}'
    )
  return opened.classes[value]


def _scheme(names: Iterable[str]) -> str:
  """How tags mark entities, behind a comma; '' where they mark none."""
  prefixes = {name[:1] for name in set(names) if re.match(r'[BIES]-.', name)}
  if not prefixes & {'B', 'I'}:
    return ''
  if prefixes & {'E', 'S'}:
    return 'entities as BIOES, '
  # In IOB1 a tag with B- stands between two entities alone, which may be rare.
  return 'entities as IOB, '


def _of_classes(names: Iterable[str], table: tuple[str, ...], known) -> str:
  """How many classes there are, and examples of each, the largest class first."""
  counts = Counter(names)
  count = len(table)
  said = f'{count} class{"es" * (count != 1)}'
  if known:
    said = f'{len(counts)} of the {said} of the model'
  # Of equal size they stay in the order of the labels.
  largest = sorted(filter(counts.get, table), key=counts.get, reverse=True)
  each = [f'{name!r} {counts[name]}' for name in largest[:MOST_SHOWN]]
  more = len(largest) - len(each)
  each += [f'{more} more'] if more else []
  return f'{said} ({", ".join(each)})'


def _class_name(value: Any, classes: tuple[str, ...]) -> str:
  """A label spelled; a number that stands for a class by that class's name."""
  if classes and isinstance(value, int) and 0 <= value < len(classes):
    return classes[value]
  return labels.spelled(value)


def read_sets(opened: Opened, known):
  """A column with any of several classes for every example."""
  found = labels.sets_of(opened.values, opened.places, opened.column)
  # Flat lists: every class of every example, and where it stands.
  names: list[str] = []
  places: list[str] = []
  for row, place in zip(found, opened.places, strict=True):
    names += row
    places += [place] * len(row)
  labels.require_one_spelling(names, places, opened.column)
  # A class that no example has is still an output: the indicators have a place for it.
  indicators = labels.indicator_names(opened.values)
  own = opened.classes or indicators or labels.in_order(set(names))
  table = known.labels if known else own
  _require_known(names, dataclasses.replace(opened, places=places), table, known)
  if not table:
    raise ConfigError(
      f'{opened.sources["train"].name}: field {opened.column}: no example has a label'
    )

  def read(record):
    items = labels.listed(record['label'])
    if indicators:
      pairs = zip(indicators, items, strict=True)
      chosen = {name for name, on in pairs if on}
    else:
      chosen = {labels.spelled(item) for item in items}
    target = tuple(int(name in chosen) for name in table)
    return Example((record['text'],), target)

  return Column(read, table, f'sets of {_of_classes(names, table, known)}')


def _require_known(names, opened: Opened, table: tuple[str, ...], known) -> None:
  """Raises ConfigError for labels that are not of the table, with the first's line."""
  strange = labels.in_order(set(names) - set(table))
  if not strange:
    return
  first = [name in strange for name in names].index(True)
  place = opened.places[first]
  whose = 'the model was trained on' if known else 'the file itself names'
  raise ConfigError(
    f'{place}: {opened.column}: {quoted(strange)} not among the labels that {whose}: '
    f'{quoted(table)}'
  )


def quoted(names, most: int = 12) -> str:
  """Labels for a message, the first of them."""
  names = list(names)
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(map(repr, names[:most])) + more
