"""A task that a Python file of the user defines, named as FILE.py:NAME.

NAME is a `Task`, or a function without arguments that makes one.

>>> import pathlib, tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'mine.py'
>>> _ = path.write_text('''
... from tl_jax import tasks
... def read(record):
...   return tasks.Example((record['text'],), int('!' in record['text']))
... LOUD = tasks.Task('loud', 'vader_tweets', read, ('calm', 'loud'))
... ''')
>>> find_task(f'{path}:LOUD').labels
('calm', 'loud')
"""

import dataclasses
import numbers
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tl_jax import config, data
from tl_jax.config import ConfigError
from tl_jax.data import files
from tl_jax.data.conversations import Turn
from tl_jax.data.passages import Answers, PassageQuestion
from tl_jax.data.sources import Source
from tl_jax.data.words import Words
from tl_jax.files import digest
from tl_jax.tasks.own import told_of_splits
from tl_jax.tasks.problems import Example, Problem
from tl_jax.tasks.task import Task

_NAMED = re.compile(r'(?P<path>.+\.py)(:(?P<attribute>\w*))?')


def is_code(name: str) -> bool:
  """Does the name of a task mean one that a Python file defines?"""
  return bool(_NAMED.fullmatch(name))


def find_task(name: str) -> Task:
  """The task that FILE.py:NAME is. The code of the file is run, so trust the file.

  A record that its `example` cannot read, and an Example that is not of its problem,
  are a ConfigError of one line when they are met. Raises ConfigError that names the
  file, and the attribute or the line.
  """
  path = pathlib.Path(_NAMED.fullmatch(name)['path'])
  config.read(path)
  task = _checked(name, _made(name, str(path)))
  example = _guarded(name, str(path), task)
  opened = task.opened
  told = task.told
  if not opened and isinstance(task.source, str) and files.is_file(task.source):
    opened = _opened(task, example)
    told = (*told, *_told_of(task.source, opened))
  return dataclasses.replace(
    task,
    name=name,
    example=example,
    opened=opened,
    code={str(path): digest(path)[1]},
    told=told,
  )


def _opened(task: Task, example: Callable) -> dict[str, Source]:
  """The splits of the file that is the source of a task."""
  # Opened, a file is looked at again when a run goes on. What its columns are, the
  # task knows.
  table = files.read(task.source, files.ROWS)
  if table.divided:
    # Equal texts stay together, whatever else is in their rows.
    found = [example({**row, 'source': task.source}) for row in table.examples]
    table = table.divided_by(['\n'.join(each.inputs) if each else '' for each in found])
  return {split: table.source(own) for split, own in task.splits.items()}


def _told_of(name: str, sources: Mapping[str, Source]) -> list[str]:
  """What was found out about a file, and how it was divided."""
  told = [f'{name}: {line}' for line in sources['train'].told]
  return told + told_of_splits(name, sources)


def _made(name: str, path: str) -> Any:
  """What the file has under the name, made if it is a function."""
  attribute = _NAMED.fullmatch(name)['attribute']
  module = config.execute(path)
  if not attribute:
    raise _not_named(name, path, module)
  if not hasattr(module, attribute):
    public = [key for key in vars(module) if not key.startswith('_')]
    near = config.nearest(attribute, public)
    hint = f'; nearest: {near}' if near else ''
    raise ConfigError(f'config.task.name: {path} has no {attribute}{hint}')
  found = getattr(module, attribute)
  # A class is callable as well, and no task.
  if callable(found) and not isinstance(found, type):
    return config.guard(path, found)
  return found


def _not_named(name: str, path: str, module) -> ConfigError:
  """The error of a file without the name of a task behind it."""
  found = [key for key, value in vars(module).items() if isinstance(value, Task)]
  which = f'it has {", ".join(found)}' if found else 'it has none yet'
  first = found[0] if found else 'NAME'
  return ConfigError(
    f'config.task.name: {name}: say which task of the file, as {path}:{first}; {which}'
  )


def _checked(name: str, task: Any) -> Task:
  """The task with tuples where lists were written. Raises ConfigError for no task."""
  where = f'config.task.name: {name}'
  if not isinstance(task, Task):
    raise ConfigError(
      f'{where}: must be a tl_jax.tasks.Task or a function without arguments that '
      f'gives one, not {type(task).__name__}'
    )
  for field in ('source', 'labels', 'metrics'):
    value = getattr(task, field)
    if isinstance(value, list):
      task = dataclasses.replace(task, **{field: tuple(value)})
  _require_fields(where, task)
  return task


def _require_fields(where: str, task: Task) -> None:
  """Raises ConfigError for fields that no task can have."""
  problem = task.problem
  if not callable(task.example):
    raise ConfigError(f'{where}: example must be a function of a record')
  if not isinstance(problem, Problem):
    raise ConfigError(
      f'{where}: problem must be one of tl_jax.tasks.PROBLEMS, not {problem!r}'
    )
  for metric in task.metrics:
    if metric not in problem.scores:
      raise ConfigError(
        f'{where}: metrics: {metric!r} does not score a task of kind '
        f'{problem.name!r}; it has {", ".join(problem.scores)}'
      )
  for split in ('train', 'test'):
    if split not in task.splits:
      raise ConfigError(f'{where}: splits: {split!r} is missing')
  if problem.exclusive and len(task.labels) < 2:
    raise ConfigError(
      f'{where}: labels: {len(task.labels)} of them; a task needs at least 2'
    )
  if not task.opened:
    _require_sources(where, task)


def _require_sources(where: str, task: Task) -> None:
  """Raises ConfigError for a source that is not there."""
  names = task.source if isinstance(task.source, tuple) else (task.source,)
  for source in names:
    try:
      data.sources.require(source)
    except ValueError as error:
      raise ConfigError(f'{where}: source: {error}') from error


def _guarded(name: str, path: str, task: Task) -> Callable:
  """The function `example` of a task; what it gives is looked at."""

  def example(record: Mapping[str, Any]) -> Example | None:
    found = config.guard(path, lambda: task.example(record))
    if found is not None:
      problem = _wrong(found, task)
      if problem:
        raise ConfigError(f'config.task.name: {name}: example: {problem}')
    return found

  return example


def _wrong(found: Any, task: Task) -> str:
  """What is wrong with an example of a task; '' where nothing is."""
  if not isinstance(found, Example):
    return f'must give a tl_jax.tasks.Example or None, not {type(found).__name__}'
  are_texts = isinstance(found.inputs, tuple) and _are_texts(found.inputs)
  if not are_texts or len(found.inputs) not in (1, 2):
    return (
      f'inputs must be a tuple of one text or two, as (text,), not {found.inputs!r:.60}'
    )
  is_right, wanted = _judged(found, task)
  return '' if is_right else f'target must be {wanted}, not {found.target!r:.60}'


def _judged(found: Example, task: Task) -> tuple[bool, str]:
  """(is the target one of the task's problem, what such a target is)."""
  problem = task.problem
  target = found.target
  count = len(task.labels)
  if problem.form in _OF_PARTS:
    return _OF_PARTS[problem.form](found.inputs[0], target, count)
  if problem.form == 'text':
    return _are_texts(found.references or [target]), 'a text'
  if problem.exclusive:
    return target in range(count), f'the number of a label, from 0 to {count - 1}'
  if problem.form == 'set':
    is_right = _are_indicators(target, count)
    return is_right, f'a 0 or 1 for each of the {count} labels'
  return isinstance(target, numbers.Real), 'a number'


def _judged_turns(text: Any, target: Any, count: int) -> tuple[bool, str]:
  del text, count
  are_turns = all(isinstance(turn, Turn) for turn in target or [None])
  return are_turns, 'a tuple of tl_jax.data.conversations.Turn'


def _judged_tags(text: Any, target: Any, count: int) -> tuple[bool, str]:
  are_tags = isinstance(text, Words) and _are_tags(target, text, count)
  return are_tags, (
    f'the number of a tag, from 0 to {count - 1}, for every word of '
    'tl_jax.data.words.Words'
  )


def _judged_spans(text: Any, target: Any, count: int) -> tuple[bool, str]:
  del count
  is_asked = isinstance(text, PassageQuestion)
  return is_asked and isinstance(target, Answers), (
    'tl_jax.data.passages.Answers of a tl_jax.data.passages.PassageQuestion'
  )


# (text, target, labels) -> what `_judged` gives, of targets with parts of a text.
_OF_PARTS = dict(turns=_judged_turns, tags=_judged_tags, span=_judged_spans)


def _are_texts(values: Iterable) -> bool:
  return all(isinstance(value, str) for value in values)


def _are_tags(target: Any, text: Words, labels: int) -> bool:
  if not isinstance(target, (list, tuple)) or len(target) != len(text.words):
    return False
  return all(tag in range(labels) for tag in target)


def _are_indicators(target: Any, labels: int) -> bool:
  if not isinstance(target, (list, tuple)):
    return False
  return len(target) == labels and set(target) <= {0, 1}
