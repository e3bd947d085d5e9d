"""What a finished run says of itself: the one form of result.json, whatever the run
was.

>>> one = digest_examples(['good', 'bad'], [1, 0])
>>> one == digest_examples(['good', 'bad'], [1, 0]), one == digest_examples(['good', 'bad'], [0, 1])
(True, False)
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tl_jax import checkpoint, files, tasks
from tl_jax.config import ConfigError
from tl_jax.evals.intervals import MANNER
from tl_jax.train.datasets import Labelled
from tl_jax.train.reporter import Reporter

FILE = 'result.json'
FAILED = 'failed.json'
PREDICTIONS = 'predictions.jsonl'
# So many metrics are told in a line; benchmarks of many parts have more.
SHOWN = 24


class Diverged(RuntimeError):
  """The loss, the gradient or what the model says is no number; no step is kept that
  says so.
  """


def shown(
  metrics: Mapping[str, float], intervals: Mapping[str, Sequence[float]]
) -> str:
  """Metrics in a line, each with its interval where it has one.

  >>> shown({'accuracy': 0.5, 'loss': 1.0}, {'accuracy': (0.4, 0.6)})
  'accuracy 0.5000 [0.4000, 0.6000], loss 1.0000'
  """
  parts = []
  for name, value in list(metrics.items())[:SHOWN]:
    ends = intervals.get(name)
    spread = '' if ends is None else f' [{ends[0]:.4f}, {ends[1]:.4f}]'
    parts.append(f'{name} {value:.4f}{spread}')
  more = len(metrics) - SHOWN
  if more > 0:
    parts.append(f'{more} more in {FILE}')
  return ', '.join(parts)


def spread(intervals: Mapping[str, Sequence[float]]) -> dict[str, Any]:
  """The fields of a result that say how sure its metrics are."""
  # JSON gives lists back, and two results of one run shall be equal.
  ends = {name: list(each) for name, each in intervals.items()}
  return dict(intervals=ends, bootstrap=dict(MANNER) if ends else {})


def require_numbers(step: int, metrics: dict, outputs: Any) -> None:
  """Raises Diverged where what a model says after a step is no number.

  The loss of a step is that before its update, so that the last update shows here only.
  outputs: what the model says of the test examples; texts are always something.
  """
  wrong = [
    f'{name} {value}' for name, value in metrics.items() if not _is_number(value)
  ]
  if isinstance(outputs, np.ndarray) and np.issubdtype(outputs.dtype, np.floating):
    # Infinite ones may be meant: labels of another task.
    wrong_rows = np.isnan(outputs).any(axis=tuple(range(1, outputs.ndim)))
    count = int(wrong_rows.sum())
    if count:
      wrong.append(f'no number for {count} of {len(outputs)} examples')
  if wrong:
    raise Diverged(
      f'step {step}: after it the model says {", ".join(wrong)} on the test split; lower '
      'config.optim.lr'
    )


def _is_number(value) -> bool:
  return value is None or math.isfinite(value)


@dataclasses.dataclass(frozen=True)
class Result:
  """What result.json holds.

  labels: labelled examples that the run was trained on. metrics: name -> value on the
  `n` examples of the test split that it was judged on. intervals: name -> [low, high] of
  those that have an interval over examples. bootstrap: how these came about. examples:
  a digest of these; two
  runs with one digest were judged on the same ones.

  steps: how many were made. step: that of the model which was judged, the last one or
  the best on validation. stopped: why the run was over before its schedule; '' where it
  was not.

  trained: the leaves that the run moved, with a star for the number of a layer;
  trained_parameters: how many numbers they hold.

  seconds: of all starts of the run, from opening its workdir to the result.
  training_seconds: those of the training loop, without compilation and evaluation.
  compile_seconds: those of compiling the step. What the members of a cohort share is
  counted once: by the member that did it where they go in turn, in equal parts where
  they go together.

  peak_bytes: the most memory used, of the fullest device, or on CPUs of the process.

  tokens: how many pre-training read, and unique_tokens, how many different ones; 0 of a
  transfer.

  notes: what the run said of its examples at its start: skipped, cut, missing.
  signatures: versions and options of the libraries that gave scores of texts, by
  metric.

  calibration: by task, what a temperature that was fitted to validation examples changes
  on the test split, as `evals.calibrating.calibration` has it; {} where none was.
  """

  task: str
  method: str
  init: str
  seed: int
  labels: int
  metrics: dict[str, float]
  n: int
  examples: str
  trained: list[str]
  trained_parameters: int
  total_parameters: int
  steps: int
  seconds: float
  training_seconds: float
  compile_seconds: float
  peak_bytes: int
  step: int = 0
  tokens: int = 0
  unique_tokens: int = 0
  stopped: str = ''
  notes: list[str] = dataclasses.field(default_factory=list)
  signatures: dict[str, str] = dataclasses.field(default_factory=dict)
  intervals: dict[str, list[float]] = dataclasses.field(default_factory=dict)
  bootstrap: dict[str, Any] = dataclasses.field(default_factory=dict)
  calibration: dict[str, Any] = dataclasses.field(default_factory=dict)

  def to_json(self) -> dict:
    return dataclasses.asdict(self)


@contextlib.contextmanager
def survived(folder: pathlib.Path, reporter: Reporter, run=None) -> Iterator[None]:
  """Leaves failed.json with the reason where a run inside cannot be made, so that
  others go on.

  The reason may be its config, what it reads, a divergence or the memory of a device.
  An error of the code itself passes, as do a signal and a workdir that is in use.
  `failed.json` says `retry` unless the same run would only diverge again, and has the
  `traceback` of what no config is to blame for.

  Args:
    run: the open run of the folder, if it is open around this.
  """
  try:
    yield
  except (ValueError, Diverged, jax.errors.JaxRuntimeError) as error:
    write_failure(folder, error, reporter, run)


def write_failure(
  folder: pathlib.Path, error: Exception, reporter: Reporter, run=None
) -> None:
  """Writes failed.json, by the run of the folder if it is open, and says so."""
  reason = ' '.join(str(error).split())
  failure = dict(reason=reason, retry=not isinstance(error, Diverged))
  if not isinstance(error, (ConfigError, Diverged)):
    failure['traceback'] = traceback.format_exception(error)
  if run is not None:
    run.write_json(FAILED, failure)
  elif jax.process_index() == 0:
    with checkpoint.Workdir(folder) as workdir:
      workdir.write_json(FAILED, failure)
  reporter.info(f'{folder}: failed: {reason}')


def digest_examples(texts: Sequence[str], targets) -> str:
  """16 hexadecimal digits that any change of the texts, their targets or their order
  changes.
  """
  found = hashlib.sha256()
  for text in texts:
    content = text.encode('utf-8', 'surrogatepass')
    # The length first, so that no two lists of texts give the same bytes.
    found.update(len(content).to_bytes(8, 'little'))
    found.update(content)
  # One dtype, so that a class is the same number wherever it was read.
  targets = np.asarray(targets, np.float64)
  found.update(repr(targets.shape).encode())
  found.update(targets.tobytes())
  return found.hexdigest()[:16]


def digest_split(task: tasks.Task, split: Labelled) -> str:
  """The digest of the examples of a split, with what is right of each."""
  # Numbers, unless texts are what is right.
  if split.targets.dtype != object:
    return digest_examples(split.texts, split.targets)
  answers = task.problem.written(split.targets)
  return digest_examples([*split.texts, *answers], [])


def digest_numbers(numbers: np.ndarray) -> str:
  """16 hexadecimal digits that any change of the integers or their order changes."""
  return hashlib.sha256(np.asarray(numbers, '<i8').tobytes()).hexdigest()[:16]


def write_predictions(
  path: pathlib.Path, task: tasks.Task, split: Labelled, found, more: Sequence = ()
) -> None:
  """Writes the lines of `predictions_of` to a file."""
  content = predictions_of(task, split, found, more)
  files.write_atomically(path, content)


def predictions_of(
  task: tasks.Task, split: Labelled, found, more: Sequence = ()
) -> bytes:
  """One JSON line per example: its text, what was asked for and what was answered.

  found: numbers (n, labels) or n texts. more: what else the line of each example has.
  """
  answers = tasks.decide(task, found, split.targets)
  rows = zip(split.texts, split.targets, answers, found, strict=True)
  lines = []
  for index, (text, target, answer, output) in enumerate(rows):
    line = task.problem.line(text, target, answer, output, task.labels)
    # JSON has no word for an infinite output; it becomes null.
    others = more[index] if more else {}
    row = files.clean(dict(index=index, **line, **others))
    lines.append(json.dumps(row, ensure_ascii=False, allow_nan=False) + '\n')
  return ''.join(lines).encode()


def keep_predictions(folder: pathlib.Path, step: int, content: bytes) -> pathlib.Path:
  """Writes predictions of a step beside those that are there, and returns the file.

  That is predictions.jsonl where there is none yet, as after an interrupted run; else
  predictions-STEP.jsonl, or that with a number behind it. A file with the same content
  is left as it is.
  """
  for path in _names_of_predictions(folder, step):
    if not path.exists():
      files.write_atomically(path, content)
      return path
    if path.read_bytes() == content:
      return path


def _names_of_predictions(folder: pathlib.Path, step: int) -> Iterator[pathlib.Path]:
  """The files for predictions of a step, in the order in which they are tried."""
  yield folder / PREDICTIONS
  yield folder / f'predictions-{step}.jsonl'
  for number in itertools.count(2):
    yield folder / f'predictions-{step}-{number}.jsonl'
