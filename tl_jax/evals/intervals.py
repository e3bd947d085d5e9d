"""How far the values of a split would move on other examples: a bootstrap interval of
every metric.

>>> found = intervals(('accuracy',), [0, 1] * 50, [0, 0, 1, 1] * 25)
>>> [round(end, 2) for end in found['accuracy']]
[0.4, 0.59]

The examples of the split are drawn with replacement, as many as there are (Efron 1979).
The model is the same in every draw: what another seed, or other labels, would change is
not in the interval.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tl_jax import metrics, tasks
from tl_jax.evals.additive import Additive, additive_of
from tl_jax.evals.statistics import wilson_interval
from tl_jax.metrics import likelihood

DRAWS = 1000
LEVEL = 0.95
SEED = 0
# How the intervals came about, for those who read them later.
MANNER = dict(
  method='percentile bootstrap', over='examples', draws=DRAWS, level=LEVEL, seed=SEED
)
# Metrics that more examples make smaller by themselves: their bootstrap has the same
# surplus once more, which is taken off.
BIASED = ('calibration_error',)
# Shares of examples that are right. Where all are, Wilson's interval says more.
SHARES = (
  'accuracy',
  'choice_accuracy',
  'exact_match',
  'squad_exact_match',
  'pair_accuracy',
  'last_word_accuracy',
)
# Numbers that are held at once.
_ROOM = 1 << 22

Ends = tuple[float, float]


def of_task(
  task: tasks.Task, raw, targets: np.ndarray, values: Mapping[str, float]
) -> dict[str, Ends]:
  """The intervals of what `tasks.score` gave for a model's answers, as far as there are
  any: not of a loss, nor of how diverse texts or how far apart their vectors are, as a
  draw has some of them twice.
  """
  # Two calls: the one judges answers, the other how sure the model was of them.
  names = set(task.metrics) - {*metrics.FREE, *metrics.OF_TWO}
  of_chances = sorted(names & set(metrics.OF_PROBABILITIES))
  of_answers = sorted(names - set(metrics.OF_PROBABILITIES))
  predictions, references = tasks.as_scored(task, raw, targets)
  found = intervals(of_answers, predictions, references)
  if 'minimal_pairs' in names:
    found |= _of_groups(predictions, references)
  chances = tasks.probabilities(task, raw, targets) if of_chances else None
  if chances is not None:
    found |= intervals(of_chances, chances, references)
  for part, own_raw, own_targets in tasks.parts_with_examples(task, raw, targets):
    own_values = tasks.score(part, own_raw, own_targets)
    own = of_task(part, own_raw, own_targets, own_values)
    found |= {f'{part.name}/{name}': ends for name, ends in own.items()}
  # In the order of the values, which have no F1 of one class where there are several.
  return {name: found[name] for name in values if name in found}


def _of_groups(predictions, references) -> dict[str, Ends]:
  """Wilson's intervals of the shares of groups of pairs, whatever their size: a draw of
  all pairs may have none of a small group.
  """
  right = likelihood.successes(predictions)
  found = {}
  for name, is_member in likelihood.members(references).items():
    own = right[is_member]
    exact = wilson_interval(int(own.sum()), len(own), LEVEL)
    found[f'{name}/pair_accuracy'] = exact.low, exact.high
  return found


def said() -> str:
  """How the intervals came about, in a sentence."""
  return (
    f'{LEVEL:.0%} intervals of a {MANNER["method"]} over examples, {DRAWS:,} draws with '
    f'seed {SEED}; of another seed of training they say nothing'
  )


def intervals(
  functions: Sequence[str],
  predictions: Sequence,
  references: Sequence,
  *,
  draws: int = DRAWS,
  seed: int = SEED,
) -> dict[str, Ends]:
  """The ends of the interval of every value of these metrics that has one.

  All metrics are judged on the same draws, which are a function of the seed. Fewer than
  two examples say nothing of others. Nor do draws that are all alike, except of a share
  of right answers, which has Wilson's interval then.
  """
  count = len(references)
  # One example is drawn again and again.
  if count < 2:
    return {}
  found = {}
  drawn = resampled(functions, predictions, references, draws=draws, seed=seed)
  for name, (value, own) in drawn.items():
    ends = _ends(name, value, own, count)
    if ends is not None:
      found[name] = ends
  return found


def resampled(
  functions: Sequence[str],
  predictions: Sequence,
  references: Sequence,
  *,
  draws: int = DRAWS,
  seed: int = SEED,
) -> dict[str, tuple[float, np.ndarray]]:
  """name -> (the value, its values on draws (draws,) of the n examples).

  Another model on the same examples meets the same draws.
  """
  drawn = {}
  of_sums = {}
  for function in functions:
    additive = additive_of(function, [predictions], references)
    if additive is None:
      drawn |= _anew(function, predictions, references, draws, seed)
    else:
      of_sums[function] = additive
  return drawn | _of_sums(of_sums, predictions, references, draws, seed)


def _weights(count: int, draws: int, seed: int) -> Iterator[np.ndarray]:
  """How often each of n examples is in a draw, (some draws, n), draw after draw."""
  generator = np.random.default_rng([seed, 0])
  at_once = max(1, _ROOM // count)
  for first in range(0, draws, at_once):
    size = min(at_once, draws - first)
    places = generator.integers(0, count, (size, count))
    # One count for all of them: those of a draw lie in a stretch of their own.
    places += count * np.arange(size)[:, None]
    counts = np.bincount(places.ravel(), minlength=size * count)
    yield counts.reshape(size, count).astype(np.float64)


def _of_sums(
  of_sums: Mapping[str, Additive], predictions, references, draws: int, seed: int
) -> dict[str, tuple[float, np.ndarray]]:
  """name -> (the value, the values of draws) of metrics that come from sums."""
  if not of_sums:
    return {}
  count = len(references)
  rows = [each.rows(predictions, references) for each in of_sums.values()]
  ends = np.cumsum([part.shape[1] for part in rows])[:-1]
  table = np.concatenate(rows, axis=1)
  # All draws of some at once: a product of matrices.
  sums = [weights @ table for weights in _weights(count, draws, seed)]
  here = np.split(table.sum(axis=0), ends)
  there = np.split(np.concatenate(sums), ends, axis=1)
  found = {}
  for additive, own, drawn in zip(of_sums.values(), here, there, strict=True):
    value = additive.values(own, count)
    values = additive.values(drawn, count)
    for column, name in enumerate(additive.names):
      found[name] = float(value[column]), values[:, column]
  return found


def _anew(
  function: str, predictions, references, draws: int, seed: int
) -> dict[str, tuple[float, np.ndarray]]:
  """The same of a metric that is computed anew for every draw."""
  metric = metrics.METRICS[function]
  count = len(references)
  values = metric(predictions, references)
  generator = np.random.default_rng([seed, 0])
  drawn = {name: [] for name in values}
  for _ in range(draws):
    places = generator.integers(0, count, count).tolist()
    chosen = [predictions[place] for place in places]
    expected = [references[place] for place in places]
    for name, value in metric(chosen, expected).items():
      # A draw may have a value that the split as a whole has not.
      if name in drawn:
        drawn[name].append(value)
  return {name: (values[name], np.array(own)) for name, own in drawn.items()}


def _ends(name: str, value: float, drawn: np.ndarray, count: int) -> Ends | None:
  """The ends of a percentile interval; None where the draws do not tell them."""
  if not len(drawn):
    return None
  if np.ptp(drawn) <= 1e-12 * max(1.0, abs(value)):
    if name not in SHARES:
      return None
    exact = wilson_interval(round(value * count), count, LEVEL)
    return exact.low, exact.high
  low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
  if name.startswith(BIASED):
    # Below 0 there is nothing.
    surplus = float(drawn.mean()) - value
    low, high = max(0.0, low - surplus), max(0.0, high - surplus)
  return float(low), float(high)
