"""Predictions that a run left, read back as the metrics take them.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'predictions.jsonl'
>>> line = '{"index": 0, "text": "fine", "target": "good", "prediction": "bad"}'
>>> _ = path.write_text(line)
>>> found = read(path)
>>> found.kind, found.predictions, found.references
('single_label', ['bad'], ['good'])
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax import files
from tl_jax.config import ConfigError, beside
from tl_jax.tasks import PROBLEMS, TASKS
from tl_jax.tasks.task import HEADLINES

PREDICTIONS = 'predictions.jsonl'
# What a line says of the model; the rest of it is the example.
_ANSWER = ('prediction', 'outputs', 'probabilities', 'start')
# kind -> (what its targets are, what its predictions are) in lines that say no kind.
_NUMBER = (int, float)
_FORMS = dict(
  single_label=(str, str),
  multi_label=(list, list),
  regression=(_NUMBER, _NUMBER),
  span=(list, str),
  # The texts that belong to one, and the rank of the right one.
  embedding=(list, _NUMBER),
)


@dataclasses.dataclass(frozen=True)
class Judged:
  """The predictions of a run and the examples that they are for.

  path: the file. kind: that of the problem, a key of `tasks.PROBLEMS`.
  examples: what each line says of its example, with what is right.
  predictions, references: (n,), as people read them.
  outputs: the numbers of the model's head for each example, None where there are none.
  result: what result.json of the workdir says; {} for a file by itself.
  headline: the value that tables show of the task.
  """

  path: pathlib.Path
  kind: str
  examples: list[Mapping[str, Any]]
  predictions: list
  references: list
  outputs: list[list[float] | None]
  result: Mapping[str, Any]
  headline: str


def read(path) -> Judged:
  """Reads the predictions of a workdir, or a file of them.

  Raises ConfigError that names the file, or its line, where they are none.
  """
  path = pathlib.Path(files.require_local(path, 'predictions'))
  file = _file_of(path)
  result = {}
  # A file by itself may be of another step than the result of its folder.
  if path.is_dir():
    result = files.find_json(path / 'result.json') or {}
  lines = _lines(file)
  kind = _kind_of(file, lines)
  key = 'reference' if kind == 'text' else 'target'
  return Judged(
    path=file,
    kind=kind,
    examples=[_example_of(line) for line in lines],
    predictions=[line['prediction'] for line in lines],
    references=[line[key] for line in lines],
    outputs=[line.get('outputs') for line in lines],
    result=result,
    headline=_headline(path, kind, result),
  )


def _file_of(path: pathlib.Path) -> pathlib.Path:
  """The file of predictions that a path stands for. Raises ConfigError for none."""
  if not path.is_dir():
    if path.is_file():
      return path
    raise ConfigError(f'{path}: there is no such workdir or file{beside(path)}')
  file = path / PREDICTIONS
  if not file.is_file():
    raise ConfigError(
      f'{path}: has no {PREDICTIONS}; `tl-jax evaluate --workdir={path}` writes it'
    )
  return file


def _example_of(line: Mapping) -> dict[str, Any]:
  """What a line says of its example, whatever was answered."""
  return {name: line[name] for name in line if name not in _ANSWER}


def require_same_examples(first: Judged, second: Judged) -> None:
  """Raises ConfigError that names the first example which the two do not share."""
  pair = f'{first.path} and {second.path}'
  if first.kind != second.kind:
    raise ConfigError(
      f'{pair}: one is of kind {first.kind!r}, the other {second.kind!r}; a comparison '
      'needs two runs of one task'
    )
  ours, theirs = len(first.examples), len(second.examples)
  if ours != theirs:
    raise ConfigError(
      f'{pair}: {ours} examples and {theirs}; a comparison needs the same ones'
    )
  _require_same_lines(first, second, pair)
  marks = {each.result.get('examples') for each in (first, second)} - {None, ''}
  if len(marks) > 1:
    raise ConfigError(
      f'{pair}: result.json has other examples ({" and ".join(sorted(marks))}), such '
      'as other labels or targets; a comparison needs the same ones'
    )
  sizes = {len(numbers) for numbers in first.outputs + second.outputs if numbers}
  if len(sizes) > 1:
    raise ConfigError(
      f'{pair}: the models choose among {min(sizes)} and {max(sizes)} labels; a '
      'comparison needs the same ones'
    )


def _require_same_lines(first: Judged, second: Judged, pair: str) -> None:
  """Raises ConfigError that names the first line of another example."""
  both = zip(first.examples, second.examples, strict=True)
  for place, (one, two) in enumerate(both, 1):
    if one != two:
      raise ConfigError(
        f'{pair}: line {place} is of another example; a comparison needs the same '
        'ones in the same order'
      )


def plain(first: Judged, second: Judged) -> tuple[list, list, list]:
  """(predictions, other predictions, references) as the metrics take them.

  Classes become numbers. Of two labels these are the numbers that the models have for
  them, so that F1 is that of the second one.
  """
  parts = [first.predictions, second.predictions, first.references]
  if first.kind == 'single_label':
    numbers = _numbers(first, second)
    return tuple([numbers[name] for name in part] for part in parts)
  if first.kind == 'multi_label':
    return _indicators(parts, _width(first, second))
  return tuple(list(part) for part in parts)


def two_labels(first: Judged, second: Judged) -> tuple[str, str] | None:
  """The labels of a model that has two, in its own order; None where that is unknown
  or the models have another order.
  """
  if first.kind != 'single_label' or _width(first, second) != 2:
    return None
  names = _order(first)
  for place, name in _order(second).items():
    if names.setdefault(place, name) != name:
      return None
  if len(names) == 1:
    [(place, name)] = names.items()
    # Nobody predicts the other one: the examples know it, or nobody does.
    others = sorted(set(first.references) - {name})
    names[1 - place] = others[0] if others else ''
  if len(names) != 2 or names[0] == names[1]:
    return None
  return names[0], names[1]


def probabilities(first: Judged, second: Judged) -> tuple[list, list, list] | None:
  """(those of the labels that the first run gives, of the second, the right classes).

  None where the files do not tell them: without outputs, or where it is not known which
  output is of which label, as of one that neither run ever chose.
  """
  places = _places(first, second)
  if places is None:
    return None
  chances = []
  for each in (first, second):
    rows = PROBLEMS[each.kind].probabilities(np.array(each.outputs))
    # Tuples, which are equal or not as a whole.
    chances.append(list(map(tuple, rows.tolist())))
  return *chances, [places[name] for name in first.references]


def _places(first: Judged, second: Judged) -> dict[str, int] | None:
  """The name of every label -> its output; None where the files do not tell it."""
  # Sets and numbers do not choose one of the outputs.
  if first.kind != 'single_label' or _has_parts(first) or _has_parts(second):
    return None
  for numbers in first.outputs + second.outputs:
    # An output that was infinite is null in the file.
    if not numbers or None in numbers:
      return None
  order = {**_order(first), **_order(second)}
  places = {name: place for place, name in order.items()}
  # A label that is right somewhere, but was chosen by neither run, may be any output.
  return places if set(first.references) <= set(places) else None


def _has_parts(judged: Judged) -> bool:
  """Do several tasks share the outputs? Then each has only some of them."""
  return any('/' in name for name in judged.result.get('metrics') or {})


def _order(judged: Judged) -> dict[int, str]:
  """output -> the name of its label, of the outputs that were the largest."""
  names = {}
  for name, numbers in zip(judged.predictions, judged.outputs, strict=True):
    # Outputs that were rounded to the same number do not tell.
    if numbers and None not in numbers and len(set(numbers)) == len(numbers):
      names[int(np.argmax(numbers))] = name
  return names


def _lines(path: pathlib.Path) -> list[dict]:
  """The lines of a file. Raises ConfigError that names one that is no prediction."""
  found = []
  with open(path, 'rb') as file:
    for place, text in enumerate(file, 1):
      line = _decoded(text)
      is_known = isinstance(line, dict) and ('target' in line or 'reference' in line)
      if not is_known or line.get('prediction') is None:
        raise ConfigError(
          f'{path}: line {place}: needs a JSON object with a prediction and a target '
          'or reference'
        )
      found.append(line)
  if not found:
    raise ConfigError(f'{path}: has no predictions')
  return found


def _decoded(text: bytes):
  """The value of a line; None where it is no JSON."""
  try:
    return files.decode(text)
  except ValueError:
    return None


def _kind_of(path: pathlib.Path, lines: Sequence[Mapping]) -> str:
  """The kind of problem. Raises ConfigError for lines of several kinds."""
  found = {}
  for place, line in enumerate(lines, 1):
    found.setdefault(_kind_of_line(line), place)
  kind, *others = found
  if others or kind is None:
    place = max(found.values()) if others else 1
    raise ConfigError(
      f'{path}: line {place}: its target and prediction are not of one kind with those '
      'before it'
    )
  return kind


def _kind_of_line(line: Mapping) -> str | None:
  """The kind of problem that a line answers; None for none of them."""
  prediction = line['prediction']
  if 'reference' in line:
    return 'text' if isinstance(prediction, str) else None
  target = line['target']
  if 'tokens' in line:
    return 'tags' if _are_tags([line['tokens'], target, prediction]) else None
  of_likelihoods = _kind_of_likelihoods(line)
  if of_likelihoods:
    return of_likelihoods
  for kind, (asked, answered) in _FORMS.items():
    if isinstance(target, asked) and isinstance(prediction, answered):
      return kind if _are_names([target, prediction]) else None
  return None


def _kind_of_likelihoods(line: Mapping) -> str:
  """Are the numbers of a line those of both sentences of a pair, or of one word? ''
  where they are neither.
  """
  # A name is right, and numbers are answered.
  if not isinstance(line['target'], str) or not isinstance(line['prediction'], list):
    return ''
  return 'minimal_pairs' if 'good' in line else 'last_word'


def _are_tags(lists: list) -> bool:
  """Are words, their tags and those that are predicted lists of as many names?"""
  if not all(isinstance(each, list) for each in lists):
    return False
  return _are_names(lists) and len(set(map(len, lists))) == 1


def _are_names(values: list) -> bool:
  """Is everything in the lists among the values a name?"""
  lists = [value for value in values if isinstance(value, list)]
  return all(isinstance(name, str) for names in lists for name in names)


def _headline(path: pathlib.Path, kind: str, result: Mapping) -> str:
  """The value that tables show of the task of a workdir, or of a kind of problem."""
  saved = files.find_json(path / 'config.json') or {}
  choice = saved.get('config', {}).get('task', {})
  # The config of a run may name other metrics than its task has.
  names = choice.get('metrics') if isinstance(choice, dict) else None
  if names:
    return HEADLINES.get(names[0], names[0])
  # What scores tags depends on what they are called, and spans on whether there are some.
  for name in ('entity_f1', 'squad_v2_f1'):
    if PROBLEMS[kind].metrics_of and name in result.get('metrics', {}):
      return name
  task = TASKS.get(result.get('task'))
  return PROBLEMS[kind].headline if task is None else task.headline


def _width(first: Judged, second: Judged) -> int:
  """How many outputs the models have; 0 where the files do not say it."""
  outputs = first.outputs + second.outputs
  return max((len(numbers) for numbers in outputs if numbers), default=0)


def _numbers(first: Judged, second: Judged) -> dict[str, int]:
  """The number of every class by its name."""
  names = {*first.references, *first.predictions, *second.predictions}
  order = two_labels(first, second) or ()
  # Of more than two, no metric depends on the order.
  rest = sorted(names - set(order))
  return {name: number for number, name in enumerate([*order, *rest])}


def _indicators(parts: list, width: int) -> tuple[list, list, list]:
  """Sets of labels as rows (labels,) of 0 and 1."""
  names = sorted({name for part in parts for row in part for name in row})
  # A label that nobody has seen counts in the mean over labels all the same.
  columns = names + [None] * (width - len(names))
  found = []
  for part in parts:
    sets = [set(row) for row in part]
    found.append([[int(name in row) for name in columns] for row in sets])
  return tuple(found)
