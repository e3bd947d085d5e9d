"""Tasks by name: a literal dict, and the files and the code of the user.

>>> found = find('novel').example({'text': 'It is a truth', 'work': 'Emma'})
>>> find('novel').labels[found.target]
'Emma'
"""

import dataclasses
import functools
import os
import pathlib
from typing import NamedTuple

from tl_jax import config
from tl_jax.config import ConfigError, beside, near_paths, nearest
from tl_jax.data import files, tables
from tl_jax.data.classes import (
  BROWN_GENRES,
  GENRES,
  LARGE_SECTIONS,
  MAIL,
  NEWSGROUPS,
  NOVELS,
  POLARITY,
  SECTIONS,
)
from tl_jax.tasks import alike, code, glue, own, superglue, writing
from tl_jax.tasks.problems import PROBLEMS, Example
from tl_jax.tasks.task import Task


def _by_index(record, text: str = 'text', label: str = 'label') -> Example:
  """A record of a set that numbers its classes in the order of the task."""
  return Example((record[text],), int(record[label]))


def _by_name(record, label: str, labels: tuple[str, ...]) -> Example:
  """A record with the name of its label among `labels`."""
  value = record[label]
  # tfds turns the names of a ClassLabel into numbers, in the same order.
  target = labels.index(value) if isinstance(value, str) else int(value)
  return Example((record['text'],), target)


def _rated(record) -> Example:
  """A record with its mean rating."""
  return Example((record['text'],), float(record['rating']))


# Each source with the name of its register.
REGISTERS = {
  'vader_movie/rating': 'film review',
  'vader_amazon/rating': 'product review',
  'vader_tweets/rating': 'tweet',
  'vader_nyt/rating': 'editorial',
}
# A shorter sentence belongs anywhere.
FEWEST_WORDS = 6


def _register() -> Task:
  """Where a sentence was published: register, not topic, tells a tweet from a paper."""
  names = list(REGISTERS)

  def read(record):
    text = record['text']
    if len(text.split()) < FEWEST_WORDS:
      return None
    return Example((text,), names.index(record['source']))

  return Task('register', tuple(names), read, tuple(REGISTERS.values()))


def _named(name: str, source: str, label: str, labels: tuple[str, ...]) -> Task:
  """A task whose source has the names of the labels in the field `label`."""
  read = functools.partial(_by_name, label=label, labels=labels)
  return Task(name, source, read, labels)


def _intensity() -> Task:
  """The mean rating of a text, from -4 to 4."""
  return Task(
    'intensity',
    'vader_movie/rating',
    _rated,
    ('rating',),
    problem=PROBLEMS['regression'],
  )


def _polarity(
  name: str, source: str, *, text: str = 'text', test: str = 'test', labels=POLARITY
) -> Task:
  """A task whose source numbers its labels. `test` is the split to test on."""
  read = functools.partial(_by_index, text=text)
  return Task(name, source, read, labels, splits=dict(train='train', test=test))


def _cola() -> Task:
  """Acceptable sentences, scored by Matthews' correlation (Warstadt et al. 2019)."""
  # The test splits of GLUE have no labels.
  labels = ('unacceptable', 'acceptable')
  task = _polarity(
    'cola', 'glue/cola', text='sentence', test='validation', labels=labels
  )
  return dataclasses.replace(
    task, metrics=('matthews', 'accuracy'), headline='matthews'
  )


def _news() -> Task:
  """The section of a news item (Zhang et al. 2015)."""
  labels = ('World', 'Sports', 'Business', 'Sci/Tech')
  return _polarity('news', 'ag_news_subset', text='description', labels=labels)


def _mail(record, columns: files.Columns) -> Example | None:
  """An e-mail by some of its fields; None where all of them are empty."""
  # As a file with these columns is read: a model of the one is tried on the other. But
  # the parts of a mail are one text here, not a pair.
  text = str(files.text_of('spam', 0, record, columns))
  return Example((text,), int(record['label'])) if text.strip() else None


def _email(name: str, *fields: str) -> Task:
  """Wanted or unwanted mail, told by these fields; `tl-jax data fetch spam` first."""
  read = functools.partial(_mail, columns=files.Columns(fields))
  return Task(name, 'spam', read, MAIL)


# What a section is called in the archive, where that is not its label.
ARCHIVE = {'database': 'databases', 'math': 'mathematics', 'net': 'network'}


def _described(record, labels: tuple[str, ...]) -> Example | None:
  """What a package is and the first paragraph on it, as the embedded set has them."""
  section = record['section']
  label = section if section in labels else ARCHIVE.get(section)
  if label not in labels:
    return None
  # What follows is of parts and versions; the topic is in the beginning.
  paragraph = record['text'].partition('\n')[0]
  return Example((f'{record["synopsis"]}. {paragraph}',), labels.index(label))


def _sections(name: str, labels: tuple[str, ...]) -> Task:
  """The section of a package, one of these; `tl-jax data fetch debian_full` first."""
  read = functools.partial(_described, labels=labels)
  return Task(name, 'debian_full', read, labels)


def _cnn_dailymail() -> Task:
  """Highlights of an article, a sentence each (See et al. 2017).

  Their ROUGE-L is that of the whole summary, sentence by sentence.
  """
  return writing.summary(
    'cnn_dailymail', 'cnn_dailymail', 'article', 'highlights', headline='rougeLsum'
  )


def _opus_medical() -> Task:
  """A translation from German whose set has no split for the test."""
  task = writing.translation('opus_medical', 'opus/medical', 'de', 'en')
  return dataclasses.replace(task, splits=dict(train='train[1%:]', test='train[:1%]'))


ALL = (
  # The embedded sets come first: they need no download.
  _polarity('sentiment', 'vader_movie'),
  _polarity('products', 'vader_amazon'),
  _polarity('tweets', 'vader_tweets'),
  _polarity('editorials', 'vader_nyt'),
  _named('topic', 'debian', 'label', SECTIONS),
  _intensity(),
  _register(),
  _named('novel', 'austen', 'work', tuple(NOVELS.values())),
  _named('genre', 'shakespeare', 'genre', GENRES),
  writing.summary('summary', 'debian/synopsis', 'text', 'synopsis'),
  writing.translation('translate_en_de', 'help_sample', 'en', 'de'),
  writing.continuation('continue', ('shakespeare', 'austen')),
  # Sets that `tl-jax data fetch` brings.
  _email('email', 'subject'),
  _email('email_body', 'subject', 'body'),
  _polarity('brown', 'brown', labels=tuple(BROWN_GENRES.values())),
  _polarity('newsgroups', 'newsgroups', labels=NEWSGROUPS),
  _sections('topic_full', SECTIONS),
  _sections('section', LARGE_SECTIONS),
  writing.summary('summary_full', 'debian_full', 'text', 'synopsis'),
  writing.translation('translate_en_de_full', 'help_en_de', 'en', 'de'),
  writing.translation('translate_en_fr_full', 'help_en_fr', 'en', 'fr'),
  writing.translation('translate_en_it_full', 'help_en_it', 'en', 'it'),
  # Public sets, which tensorflow-datasets prepares.
  _polarity('imdb', 'imdb_reviews'),
  _polarity('sst2', 'glue/sst2', text='sentence', test='validation'),
  _cola(),
  *glue.PAIRS,
  glue.MNLI_MISMATCHED,
  *superglue.ALL,
  _news(),
  writing.summary('aeslc', 'aeslc', 'email_body', 'subject_line'),
  _cnn_dailymail(),
  writing.summary('xsum', 'xsum', 'document', 'summary'),
  writing.summary('gigaword', 'gigaword', 'document', 'summary'),
  writing.summary('samsum', 'samsum', 'dialogue', 'summary'),
  writing.translation('wmt14_en_de', 'wmt14_translate/de-en', 'en', 'de'),
  writing.translation('wmt14_en_fr', 'wmt14_translate/fr-en', 'en', 'fr'),
  writing.translation('wmt16_en_ro', 'wmt16_translate/ro-en', 'en', 'ro'),
  _opus_medical(),
)
TASKS = {task.name: task for task in ALL}


def together(parts: tuple[Task, ...]) -> Task:
  """Several tasks with one body and a head for each (Caruana 1997).

  Raises ConfigError unless each has one label per example.
  """
  sources: list[str] = []
  labels: list[str] = []
  for part in parts:
    if not part.problem.exclusive or part.parts:
      raise ConfigError(
        f'config.task.name: {part.name} is of kind {part.problem.name!r}; tasks that '
        'share a model have one label per example'
      )
    sources += [part.source] if isinstance(part.source, str) else part.source
    # Two parts may have a label of one name, which are two outputs.
    labels += [f'{part.name}: {label}' for label in part.labels]
  name = '+'.join(part.name for part in parts)
  return Task(
    name,
    tuple(sources),
    # Records are read part by part, never by the whole.
    lambda record: None,
    tuple(labels),
    parts=tuple(parts),
  )


class Known(NamedTuple):
  """What a model answers: the kind of its task, and the labels of its outputs."""

  kind: str
  labels: tuple[str, ...]


def find(
  name: str,
  data_dir: str | None = None,
  how: own.Reading | None = None,
  known: Known | None = None,
) -> Task:
  """The task of a name, of a file, or of FILE.py:NAME; several tasks with + between are
  one with parts.

  `how` says how the columns of a file are read, and is only for files. `known` is what
  the model answers that is tried on the task; labels are matched by their names. Raises
  ConfigError with the nearest names, or with what is wrong with a file, and for labels
  that are not known.
  """
  how = own.Reading() if how is None else how
  names = config.names(name)
  # Wrong words of the user come first; only then files are read.
  _require_file_for_columns(name, names, how)
  _require_escaped_plus(name, names)
  _require_separated(name, names, how)
  if len(names) == 1:
    task = _find(names[0], how, known)
  else:
    task = together(tuple(_find(each, how, part_of(known, each)) for each in names))
  return task if known is None else as_known(task, known)


def _require_file_for_columns(
  name: str, names: tuple[str, ...], how: own.Reading
) -> None:
  """Raises ConfigError where it is said how a file is read and no name is a file."""
  if how != own.Reading() and not any(map(files.is_file, names)):
    given = [key for key, value in dataclasses.asdict(how).items() if value]
    near = beside(name)
    raise ConfigError(f'config.task: {given[0]}= is of files; {name} is none{near}')


def _require_separated(name: str, names: tuple[str, ...], how: own.Reading) -> None:
  """Raises ConfigError for a delimiter where no file has cells that it could part."""
  if not how.delimiter:
    return
  paths = [
    *names,
    how.file('train'),
    how.file('validation'),
    how.file('test'),
  ]
  if not any(map(tables.is_separated, paths)):
    raise ConfigError(
      f'config.task.delimiter: {how.delimiter!r} is of .csv, .tsv and .txt files; '
      f'{name} is none'
    )


def _require_escaped_plus(name: str, names: tuple[str, ...]) -> None:
  """Raises ConfigError where the + between names was meant as part of a file's name."""
  # A file that exists under the whole name was meant as one.
  missing = [each for each in names if each not in TASKS and not os.path.exists(each)]
  if len(names) > 1 and missing and files.is_file(name):
    raise ConfigError(
      f'config.task.name: {missing[0]!r} of {name}: no such task or file; a + in the '
      'name of a file is written \\+'
    )


def _find(name: str, how: own.Reading, known: Known | None) -> Task:
  """The task of a single name."""
  if name in TASKS:
    return TASKS[name]
  if files.is_file(name):
    return own.read_task(name, how, known)
  if code.is_code(name):
    return code.find_task(name)
  # Whoever names a file of another kind must not be told the nearest tasks.
  if os.path.isfile(name):
    ending = pathlib.Path(name).suffix or name
    raise ConfigError(
      f'config.task.name: {name}: the ending {ending!r} is none of '
      f'{", ".join(files.ENDINGS)}, each also with .gz or .zst'
    )
  # A folder with nothing to read in it.
  if os.path.isdir(name):
    files.require(name)
  near = nearest(name, [*near_paths(name), *TASKS])
  raise ConfigError(
    f'config.task.name: no task, no file and no folder is named {name!r}; nearest: {near}'
  )


def part_of(known: Known | None, name: str) -> Known | None:
  """What a model of several tasks answers of one of them; None where it is none."""
  if known is None:
    return None
  prefix = f'{name}: '
  labels = [
    label.removeprefix(prefix) for label in known.labels if label.startswith(prefix)
  ]
  return Known(known.kind, tuple(labels)) if labels else None


def as_known(task: Task, known: Known) -> Task:
  """The task with its labels in the place that a model has for them, matched by name.

  Raises ConfigError that names the labels which the model does not know.
  """
  problem = task.problem
  if (problem.name, task.labels) == known:
    return task
  if not alike.is_answered(problem.name, known):
    raise ConfigError(
      f'config.task.name: {task.name} is of kind {problem.name!r}, the model was '
      f'trained on {known.kind!r}'
    )
  # What the labels are called says nothing: columns of numbers differ in their names.
  if problem.move is None:
    return task
  strange = [label for label in task.labels if label not in known.labels]
  if strange:
    raise ConfigError(
      f'config.task.name: {task.name}: {own.quoted(strange)} not among the labels that '
      f'the model was trained on: {own.quoted(known.labels)}'
    )
  # Where the model has each label of the task; it may have more than these.
  places = [known.labels.index(label) for label in task.labels]

  def read(record):
    found = task.example(record)
    if found is None:
      return None
    target = problem.move(found.target, places, len(known.labels))
    return found._replace(target=target)

  # Parts go: their labels would no longer lie one part after the other.
  return dataclasses.replace(task, example=read, labels=known.labels, parts=())
