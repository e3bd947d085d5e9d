"""Two runs judged on the same examples: which is better, by which metric, and may that
be chance?

>>> import json, pathlib, tempfile
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> for name, answer in (('a', 'good'), ('b', 'bad')):
...   lines = [dict(text=str(i), target='good', prediction=answer) for i in range(9)]
...   text = ''.join(json.dumps(line) + '\\n' for line in lines)
...   _ = (folder / f'{name}.jsonl').write_text(text)
>>> both = pair(folder / 'a.jsonl', folder / 'b.jsonl', 'accuracy')
>>> compare(both).sentence
'accuracy of A is higher than that of B by 1.000, p = 0.004: a difference at 5 %'
"""

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Mapping
from typing import NamedTuple

from tl_jax import metrics
from tl_jax.config import ConfigError, nearest
from tl_jax.evals import judged, paired
from tl_jax.evals.additive import additive_of
from tl_jax.evals.judged import Judged
from tl_jax.evals.paired import Comparison
from tl_jax.metrics.likelihood import ABOVE
from tl_jax.tasks import PROBLEMS
from tl_jax.tasks.task import HEADLINES

# The values of a metric that has several.
VALUES = dict(
  f1=('f1', 'f1_macro', 'f1_micro'),
  rouge=('rouge1', 'rouge2', 'rougeL', 'rougeLsum'),
  calibration_error=('calibration_error_15',),
  squad=('squad_exact_match', 'squad_f1'),
  squad_v2=('squad_v2_exact_match', 'squad_v2_f1'),
  retrieval=('mrr', 'accuracy_1', 'accuracy_10'),
  # Those of groups are of fewer examples.
  minimal_pairs=('pair_accuracy',),
  last_word=('last_word_accuracy', 'last_word_perplexity'),
  entity_f1=('entity_precision', 'entity_recall', 'entity_f1', 'entity_f1_macro'),
)
# It stands among the values of rouge and says how it was computed.
_NO_SCORE = 'rouge_unicode'
# Numbers of predictions.jsonl are rounded, those of result.json are not.
_ROUNDED = 1e-3


class Sides(NamedTuple):
  """What two runs say of n examples, and what is right of each."""

  first: list
  second: list
  references: list


@dataclasses.dataclass(frozen=True)
class Report:
  """Everything that a comparison of two runs found.

  comparisons: by each value, that of the headline first. other_predictions: how many of
  the n examples the two predict otherwise. left_out: values of the results that cannot
  be computed from predictions.
  """

  first: Judged
  second: Judged
  comparisons: tuple[Comparison, ...]
  other_predictions: int
  left_out: tuple[str, ...]
  samples: int
  seed: int

  @property
  def n(self) -> int:
    """How many examples both were judged on."""
    return len(self.first.examples)

  @property
  def sentence(self) -> str:
    """Whether there is a difference by the headline, in a sentence."""
    found = self.comparisons[0]
    gap = found.difference
    spread = ''
    if gap.low is not None:
      spread = f' (95 % interval {gap.low:.3f} to {gap.high:.3f})'
    chance = f'p = {found.p_value:.2g}'
    if not found.is_different():
      return (
        f'{found.metric}: no difference at 5 % between A and B: '
        f'{gap.mean:.3f}{spread}, {chance}'
      )
    side = 'higher' if gap.mean > 0 else 'lower'
    return (
      f'{found.metric} of A is {side} than that of B by {abs(gap.mean):.3f}{spread}, '
      f'{chance}: a difference at 5 %'
    )

  def as_dict(self) -> dict:
    """The report for JSON."""
    values = {found.metric: found.as_dict() for found in self.comparisons}
    return dict(
      first=str(self.first.path),
      second=str(self.second.path),
      n=self.n,
      other_predictions=self.other_predictions,
      headline=self.comparisons[0].metric,
      sentence=self.sentence,
      metrics=values,
      left_out=list(self.left_out),
      samples=self.samples,
      seed=self.seed,
    )


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two runs that were judged on the same examples, and what to compare them by.

  names: the values, the headline first. functions: value -> the metric that gives it.
  answers, chances: the answers of both and what is right of each example, as the
    metrics take them: what was decided, and the probabilities where files tell them.
  """

  first: Judged
  second: Judged
  names: tuple[str, ...]
  functions: Mapping[str, str]
  answers: Sides
  chances: Sides | None

  def sides(self, function: str) -> Sides:
    """What a metric is computed from."""
    is_of_chances = function in metrics.OF_PROBABILITIES
    return self.chances if is_of_chances else self.answers


def pair(first, second, metric: str = '') -> Pair:
  """The pair of two workdirs, or files of predictions.

  metric: the only value to compare by. Without it, these are the values that the
  results of both workdirs have or, of files, those of a task of their kind.
  Raises ConfigError where the two were not judged on the same examples, where a
  result.json is not of its predictions, and for an unknown metric.
  """
  one = judged.read(first)
  two = judged.read(second)
  judged.require_same_examples(one, two)
  known = _functions(one, two)
  names = _chosen(one, two, metric, known)
  functions = {name: known[name] for name in names}
  answers = Sides(*judged.plain(one, two))
  chances = judged.probabilities(one, two)
  found = Pair(one, two, tuple(names), functions, answers, chances and Sides(*chances))
  for place, each in enumerate((one, two)):
    _require_own_result(found, each, place)
  return found


def compare(both: Pair, samples: int = paired.SAMPLES, seed: int = 0) -> Report:
  """Compares a pair by all its values; the draws are a function of the seed."""
  found = {}
  # A metric with several values is computed once.
  for function in dict.fromkeys(both.functions.values()):
    names = [name for name in both.names if both.functions[name] == function]
    first, second, references = both.sides(function)
    comparisons = paired.compare(
      _metric(both, function),
      names,
      first,
      second,
      references,
      samples=samples,
      seed=seed,
      additive=additive_of(function, [first, second], references),
    )
    found |= {comparison.metric: comparison for comparison in comparisons}
  answers = zip(both.answers.first, both.answers.second, strict=True)
  told = {*_told(both.first), *_told(both.second)} - {_NO_SCORE}
  if both.first.kind == 'minimal_pairs':
    # Predictions tell those of groups, too; two models are compared by all pairs.
    told = {name for name in told if ABOVE not in name}
  return Report(
    both.first,
    both.second,
    tuple(found[name] for name in both.names),
    sum(ours != theirs for ours, theirs in answers),
    tuple(sorted(told - set(both.names))),
    samples,
    seed,
  )


def _told(one: Judged) -> dict[str, float]:
  """The metrics in a run's result; none of a file by itself."""
  return one.result.get('metrics') or {}


def _functions(one: Judged, two: Judged) -> dict[str, str]:
  """value -> the metric that gives it, of all that the predictions allow."""
  # How diverse texts are is no matter of single examples: a draw has some twice.
  left_out = {*metrics.FREE}
  for function, library in metrics.LIBRARIES.items():
    if not importlib.util.find_spec(library):
      left_out.add(function)
  if judged.probabilities(one, two) is None:
    left_out.update(metrics.OF_PROBABILITIES)
  found = {}
  for function in PROBLEMS[one.kind].scores:
    if function not in left_out:
      for name in VALUES.get(function, (function,)):
        found[name] = function
  # F1 of one class needs two labels, of which one is known to be the second.
  if judged.two_labels(one, two) is None:
    found.pop('f1', None)
  return found


def _chosen(one: Judged, two: Judged, metric: str, known: dict) -> list[str]:
  """The values to compare by, the headline first."""
  if metric:
    name = metric if metric in known else HEADLINES.get(metric, metric)
    if name not in known:
      raise ConfigError(
        f'--metric: {metric!r} cannot be computed from predictions of kind '
        f'{one.kind!r}; nearest: {nearest(metric, known)}'
      )
    return [name]
  return _shared(one, two, known)


def _shared(one: Judged, two: Judged, known: dict) -> list[str]:
  """The values that both results have, the headline first."""
  told = [set(_told(each)) for each in (one, two) if each.result]
  if told:
    shared = set.intersection(*told)
    names = [name for name in known if name in shared]
  else:
    usual = _usual(one)
    names = [name for name in known if known[name] in usual]
  if not names:
    raise ConfigError(
      f'{one.path} and {two.path}: no metric that both have can be computed from '
      f'predictions; name one by --metric: {", ".join(known)}'
    )
  headline = one.headline if one.result else two.headline
  return sorted(names, key=lambda name: name != headline)


def _usual(one: Judged) -> tuple[str, ...]:
  """The metrics of a task of which only predictions are known."""
  # SQuAD 1.1 has no score for a question without an answer.
  if one.kind == 'span' and [] in one.references:
    return ('squad_v2',)
  return PROBLEMS[one.kind].metrics


def _metric(both: Pair, function: str) -> paired.Metric:
  """The function of predictions and references that a metric is."""
  metric = metrics.METRICS[function]
  if function == 'f1' and 'f1' in both.names:
    # A draw may hold one class alone.
    return functools.partial(metric, positive=1)
  return metric


def _require_own_result(both: Pair, one: Judged, place: int) -> None:
  """Raises ConfigError where result.json is not of the predictions beside it."""
  told = _told(one)
  values = {}
  if told:
    for function in dict.fromkeys(both.functions.values()):
      sides = both.sides(function)
      values |= _metric(both, function)(sides[place], sides.references)
  for name in both.names:
    said = told.get(name)
    if said is None:
      continue
    value = values[name]
    if not math.isclose(value, said, rel_tol=_ROUNDED, abs_tol=_ROUNDED):
      raise ConfigError(
        f'{one.path}: gives {name} {value:.4f}, and the result.json beside it says '
        f'{said:.4f}; they are not of one model: name the files of predictions '
        'themselves, or evaluate again'
      )
