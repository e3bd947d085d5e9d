"""A task from files of the user: what its columns hold is found out, or said, and told.

>>> import pathlib, tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'mails.csv'
>>> _ = path.write_text('text,label\\nbuy now,1.0\\nsee you,0\\nbuy two,1\\n')
>>> read_task(str(path)).labels
('0', '1')
"""

import dataclasses
import os
from collections.abc import Mapping

from tl_jax import config
from tl_jax.config import ConfigError
from tl_jax.data import choices, conversations, files, first_rows, missing, separated
from tl_jax.data.sources import Source
from tl_jax.tasks import alike, judged, labels, reading, tagging, unlabelled
from tl_jax.tasks.problems import PROBLEMS, form_of
from tl_jax.tasks.problems.columns import Opened, quoted
from tl_jax.tasks.task import Task
from tl_jax.tasks.unlabelled import Part

# What files call the split that is looked at while a model is trained.
VALIDATION = ('validation', 'valid', 'dev', 'val')
# In the line that tells of a file that says nothing of splits.
DIVIDED = 'by the hash of their texts'


@dataclasses.dataclass(frozen=True)
class Reading:
  """How the files of a task are read; what is empty is found out.

  `text` is the column of the texts, or several with + between them; 'text' where empty.
  `label` is the column of the labels, or several that hold 0 or 1 each; 'label' where
  empty. `target` is the column of texts to write, of a task that has these in the place
  of labels. `kind` is one of `PROBLEMS`; that of texts needs a target. `train`,
  `validation` and `test` are files of one split each. `delimiter` is what parts the
  cells of .csv, .tsv and .txt files: a character, or one of `separated.WORDS`.
  """

  text: str = ''
  label: str = ''
  kind: str = ''
  train: str = ''
  validation: str = ''
  test: str = ''
  target: str = ''
  delimiter: str = ''

  def __post_init__(self):
    try:
      separated.delimiter_of(self.delimiter)
    except ValueError as error:
      raise ConfigError(f'config.task.delimiter: {error}') from error
    if self.kind and self.kind not in PROBLEMS:
      raise ValueError(
        f'kind: {self.kind!r} is not a choice; nearest: '
        f'{config.nearest(self.kind, PROBLEMS)}'
      )
    if self.kind == labels.TEXT and not self.target:
      raise ConfigError(
        f'config.task.kind: {self.kind!r}: name the column of the texts to write by '
        'target=COLUMN'
      )
    if self.target and (self.label or not alike.takes_target(self.kind)):
      other = 'label' if self.label else 'kind'
      raise ConfigError(
        f'config.task.target: {self.target!r} beside {other}='
        f'{getattr(self, other)!r}; a task has texts to write or labels'
      )

  def file(self, split: str) -> str:
    """The path of the file that is named for a split; '' where none is."""
    path = getattr(self, split)
    names = config.names(path)
    if len(names) > 1:
      raise ConfigError(
        f'config.task.files.{split}: {path}: no such file; a + in the name of a file '
        'is written \\+'
      )
    return names[0] if names else ''

  @property
  def says_columns(self) -> bool:
    """Is any column named?"""
    return bool(self.text + self.label + self.target)

  @property
  def columns(self) -> files.Columns:
    """The columns to read."""
    if self.target:
      return self._columns_of_texts()
    label = config.names(self.label) or ('label',)
    # Several columns of zeros and ones say which labels an example has.
    if len(label) > 1 and form_of(self.kind) not in ('', 'set'):
      raise ConfigError(
        f'config.task.kind: {self.kind!r} has one column of labels, not {len(label)}; '
        f'several are of kind {labels.MULTI}'
      )
    return self._columns_with(label)

  def _columns_of_texts(self) -> files.Columns:
    """The columns of texts and of what is to be written of them."""
    target = config.names(self.target)
    if len(target) > 1:
      raise ConfigError(
        f'config.task.target: {self.target}: a text to write stands in one column'
      )
    return self._columns_with(target)

  def _columns_with(self, label: tuple[str, ...]) -> files.Columns:
    """The columns of texts, and these of what is learned of them."""
    return files.Columns(
      config.names(self.text) or ('text',),
      label,
      labelled=True,
      delimiter=separated.delimiter_of(self.delimiter),
    )


def read_task(name: str, how: Reading | None = None, known=None) -> Task:
  """The task that a file is, or that several are, one for each split.

  `known` has the kind and labels of the model that is tried on the task; the task then
  is of that kind and has those labels. Raises ConfigError or ValueError `file:line:
  column` for what cannot be read, for labels that do not go together, and for labels
  that `known` does not have.
  """
  how = how or Reading()
  _require_of_files(name, labels.expected_kind(how.kind, known))
  how = judged.with_kind_found(name, how, known)
  columns = _columns(name, how, known)
  said = _kind_said(how, columns)
  kind = labels.expected_kind(said, known)
  if not alike.is_answered(kind, known):
    raise ConfigError(
      f'config.task.kind: {kind!r}; the model was trained on {known.kind!r}'
    )
  opened = _open(name, how, columns, said, known)
  told = [*opened.told, *told_of_splits(name, opened.sources)]
  told += _told_of_commas(name, opened, kind)
  choice = ''
  if not kind:
    kind = _kind(opened)
    choice = _other_choice(opened, kind)
  read, names, holds = PROBLEMS[kind].from_column(opened, known)
  told.append(f'{name}: {_field(columns)}: {holds}{choice}')
  if not known and not opened.classes:
    told += _told_of_doubtful(name, opened.column, kind, names)
  splits = {split: source.split for split, source in opened.sources.items()}
  return Task(
    name,
    name,
    read,
    names,
    problem=PROBLEMS[kind],
    splits=splits,
    opened=opened.sources,
    told=tuple(told),
  )


def _require_of_files(name: str, kind: str) -> None:
  """Raises ConfigError for a kind that only tasks of the package have."""
  if kind and PROBLEMS[kind].from_column is None:
    raise ConfigError(
      f'config.task.kind: {kind!r} is of tasks that are read by their name, such as '
      f'multirc; {name} is a file, whose questions are of kind {labels.CHOICE!r}'
    )


def _kind_said(how: Reading, columns: files.Columns) -> str:
  """The kind that is said, or that the columns tell; '' for neither."""
  if columns.conversation:
    return labels.CONVERSATION
  if columns.choices:
    return labels.CHOICE
  if columns.tagged:
    return labels.TAGS
  if columns.passages:
    return labels.SPAN
  return how.kind or (labels.TEXT if how.target else '')


def _columns(name: str, how: Reading, known) -> files.Columns:
  """The columns to read: those that are said, or of conversations where there are any.

  Raises ConfigError where conversations are asked for and are not there.
  """
  kind = labels.expected_kind(how.kind, None if how.target else known)
  if alike.is_vector(kind):
    return alike.columns(name, how, kind)
  if judged.is_judged(kind):
    return judged.columns(how, kind)
  by_kind = {
    labels.CHOICE: _choice_columns,
    labels.TAGS: tagging.columns,
    labels.SPAN: reading.columns,
    labels.CONVERSATION: _required_conversations,
  }
  if kind in by_kind:
    return by_kind[kind](name, how)
  return how.columns if kind else _columns_by_fields(name, how)


def _columns_by_fields(name: str, how: Reading) -> files.Columns:
  """The columns of a file of which nobody says the kind: its fields decide."""
  parts = tagging.found(name, how) or reading.found(name, how)
  if parts or how.says_columns:
    return parts or how.columns
  found = _conversation_columns(name, how) or _found_choices(name, how)
  return found or how.columns


def _required_conversations(name: str, how: Reading) -> files.Columns:
  """The columns of the conversations in a file that is said to have such.

  Raises ConfigError where other columns are named, and for a file without conversations.
  """
  if how.says_columns:
    raise ConfigError(
      f'config.task.kind: {labels.CONVERSATION!r} has columns of its own, neither text= '
      'nor label='
    )
  found = _conversation_columns(name, how)
  if found is None:
    raise _no_conversations(name)
  return found


def _choice_columns(name: str, how: Reading) -> files.Columns:
  """The columns of the questions with candidates in a file.

  Raises ConfigError for a file without such, and for one without answers.
  """
  found = _found_choices(name, how)
  if found is None:
    raise ConfigError(
      f'{name}: no questions with candidates; those are in a field '
      f'{", ".join(choices.LISTS)}, or in columns such as ending0, choice1, option1 and '
      'A, beside a question'
    )
  if not found.label:
    raise ConfigError(
      f'{name}: no column of the right candidates; label=COLUMN names it'
    )
  return found


def _found_choices(name: str, how: Reading) -> files.Columns | None:
  """The columns of questions with candidates; None where there are none."""
  delimiter = separated.delimiter_of(how.delimiter)
  text, label = config.names(how.text), config.names(how.label)
  if len(text) > 2 or len(label) > 1:
    raise ConfigError(
      f'config.task.kind: {labels.CHOICE!r} has a context and a question (text=A+B) and '
      'one column of answers'
    )
  path = how.file('train') or name
  fields = first_rows.choices_in(path, text, ''.join(label), delimiter)
  usual = fields is None or (not how.kind and not fields.answer)
  if usual:
    return None
  answer = (fields.answer,) if fields.answer else ()
  return files.Columns(
    fields.text, answer, labelled=True, choices=True, delimiter=delimiter
  )


def _conversation_columns(name: str, how: Reading) -> files.Columns | None:
  """The columns of the conversations in a file; None where it has none."""
  delimiter = separated.delimiter_of(how.delimiter)
  fields = first_rows.conversation_in(how.file('train') or name, delimiter)
  if fields is None:
    return None
  first, last = fields
  return files.Columns(
    (first,), (last,), labelled=True, conversation=True, delimiter=delimiter
  )


def _no_conversations(name: str) -> ConfigError:
  """The error of a file whose fields hold no conversations."""
  forms = [' and '.join(dict.fromkeys(form)) for form in conversations.FORMS]
  return ConfigError(
    f'{name}: no conversations; those are in fields {", or ".join(forms)}'
  )


def _key_of(error: ValueError, columns: files.Columns, how: Reading) -> str:
  """The argument that mends what is wrong with the columns, behind the error; else ''."""
  if isinstance(error, separated.SeveralDelimiters):
    return '; delimiter=CHARACTER says by which'
  if not isinstance(error, separated.NoColumn):
    return ''
  if error.parts:
    return f'; delimiter={separated.word_of(error.parts)} may part it'
  if error.column in columns.text:
    return '; text=COLUMN names it'
  return f'; {"target" if how.target else "label"}=COLUMN names it'


def _open(name: str, how: Reading, columns: files.Columns, said: str, known) -> Opened:
  """Reads the files of all splits, without the examples that have no label."""
  try:
    found = _split_files(name, how, columns)
  except ValueError as error:
    raise ConfigError(f'{error}{_key_of(error, columns, how)}') from error
  if judged.is_judged(said):
    found = judged.whole(found)
  parts = unlabelled.leave_out(found, said, known)
  sources = {}
  for split, part in parts.items():
    sources[split] = part.table.source(part.split)
  found = []
  classes = ()
  for source in sources.values():
    found += zip(source.places, source.column('label'), strict=True)
    classes = classes or source.classes.get('label', ())
  # In the order of the lines, so that the first wrong one is named.
  found.sort(key=lambda pair: pair[0])
  places = [f'{file}:{line}' for (file, line), _ in found]
  values = [value for _, value in found]
  column = '+'.join(columns.label)
  several = len(columns.label) > 1
  told = tuple(_told_of_files(parts))
  return Opened(column, sources, values, places, classes, several, told)


def _told_of_files(parts: Mapping[str, Part]) -> list[str]:
  """What was found out about each file when it was parsed, told once."""
  told = {part.table.path: part.table.told for part in parts.values()}
  found = []
  for path, lines in told.items():
    found += [f'{path}: {line}' for line in lines]
  return found


def _split_files(name: str, how: Reading, columns: files.Columns) -> dict[str, Part]:
  """The part of a file that each split is, of one file or of one file each.

  A file for one split gives all its examples, unless it has a column `split`. The
  examples for validation are the test where there are no others; else they are a split
  of their own.
  """
  train = files.read(how.file('train') or name, columns)
  path = how.file('test') or how.file('validation') or name
  if _is_same_file(path, train.path):
    parts = dict(train=Part(train, 'train'), test=Part(train, _test_split(train)))
  else:
    test = files.read(path, columns)
    # A file that is for one split is not divided by hash once more.
    train_split = files.ALL if train.divided else 'train'
    test_split = files.ALL if test.divided else _test_split(test)
    parts = dict(train=Part(train, train_split), test=Part(test, test_split))
  return parts | _validation_part(how, parts, columns)


def _is_same_file(path, other) -> bool:
  """Are these two paths of one file? By their real paths: it may have two names."""
  return os.path.realpath(path) == os.path.realpath(other)


def _validation_part(
  how: Reading, parts: Mapping[str, Part], columns: files.Columns
) -> dict[str, Part]:
  """The part for validation by the name of its split; none where all is for the test."""
  path = how.file('validation')
  if path and how.file('test'):
    return dict(validation=_file_for_validation(path, parts, columns))
  for part in parts.values():
    split = _first_split(part.table, VALIDATION)
    if split in part.table.splits and split != parts['test'].split:
      return dict(validation=Part(part.table, split))
  return {}


def _file_for_validation(
  path: str, parts: Mapping[str, Part], columns: files.Columns
) -> Part:
  """The part of a file that is named for validation beside another for the test."""
  tables = [part.table for part in parts.values()]
  # It may be one of those files under another name.
  known = [table for table in tables if _is_same_file(path, table.path)]
  table = known[0] if known else files.read(path, columns)
  if table.divided:
    return Part(table, files.ALL)
  return Part(table, _first_split(table, (*VALIDATION, 'test')))


def _first_split(table: files.Table, names: tuple[str, ...]) -> str:
  """The first of these names that is a split of the file."""
  # Without any, reading the first says so, with the splits that there are.
  return next((name for name in names if name in table.splits), names[0])


def _test_split(table: files.Table) -> str:
  """The split of a file to test on."""
  return _first_split(table, ('test', *VALIDATION))


def told_of_splits(name: str, sources: Mapping[str, Source]) -> list[str]:
  """How a file was divided, where it does not say it, and what is not read."""
  train = sources['train']
  test = sources['test']
  told = []
  if train.divided and test.name == train.name and test.split != files.ALL:
    told.append(
      f'{name}: no column split; {DIVIDED} {len(train)} examples are '
      f'for train, {len(test)} for test'
    )
  left = _unread_splits(sources)
  if left:
    told.append(
      f'{name}: the examples of split {quoted(left)} are not read beside a test'
    )
  return told


def _unread_splits(sources: Mapping[str, Source]) -> list[str]:
  """The splits of the files that are for nothing."""
  chosen = {(source.name, source.split) for source in sources.values()}
  found = []
  for source in sources.values():
    # What hashes divide is read whole.
    others = () if source.divided else source.others
    found += [split for split in others if (source.name, split) not in chosen]
  return list(dict.fromkeys(found))


def _field(columns: files.Columns) -> str:
  """The name of the column of the targets, or of the fields that hold conversations."""
  if columns.conversation:
    return ' and '.join(dict.fromkeys([*columns.text, *columns.label]))
  return '+'.join(columns.label)


def _told_of_commas(name: str, opened: Opened, kind: str) -> list[str]:
  """A line, or none, on labels such as 0,5, which are numbers if the kind says so.

  Raises ConfigError where nobody says the kind and half of the labels are of this form.
  """
  found = labels.decimal_commas(opened.values)
  if not found or form_of(kind) not in ('', 'number'):
    return []
  value = opened.values[found[0]]
  where = f'{opened.places[found[0]]}: {opened.column}'
  if not kind:
    if 2 * len(found) < len(opened.values):
      return []
    raise ConfigError(
      f'{where}: {value!r} may be a number with a decimal comma; say '
      f'kind={labels.REGRESSION} if so, kind={labels.MULTI} if it is several labels, '
      f'kind={labels.SINGLE} if it is one'
    )
  if labels.may_be_thousands(opened.values[place] for place in found):
    raise ConfigError(
      f'{where}: the comma of {value!r} may be that of a decimal or of thousands; '
      'write numbers with a point or without a comma'
    )
  return [f'{name}: {opened.column}: numbers have decimal commas, as {value!r} does']


def _other_choice(opened: Opened, kind: str) -> str:
  """What else could have been meant where a kind was found out; '' where nothing."""
  if kind == labels.REGRESSION:
    return f'; kind={labels.SINGLE} makes a class of each'
  if kind == labels.SINGLE and not opened.classes:
    names = {labels.spelled(value) for value in opened.values}
    # Two numbers are a yes and a no; more of them may be grades.
    if len(names) > 2 and all(map(labels.is_number, names)):
      return f'; kind={labels.REGRESSION} predicts numbers'
  return ''


def _told_of_doubtful(
  name: str, column: str, kind: str, names: tuple[str, ...]
) -> list[str]:
  """A line, or none, on classes that may have been meant as missing labels."""
  doubtful = [each for each in names if missing.may_be_missing(each)]
  # The name of a regression is that of its column.
  if not doubtful or form_of(kind) == 'number':
    return []
  return [
    f'{name}: {column}: {quoted(doubtful)} is taken for a class; where it says that '
    'there is no label, leave the cell empty'
  ]


def _kind(opened: Opened) -> str:
  """The kind of a task whose kind nobody said."""
  if opened.several:
    return labels.MULTI
  if opened.classes:
    return labels.SINGLE
  return labels.kind_of(opened.values, opened.places, opened.column)
