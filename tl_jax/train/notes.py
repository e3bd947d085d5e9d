"""What a run says of its examples at its start: left out, cut or missing.

>>> absent('train', ('a', 'b', 'c'), [3, 0, 0])
["labels 'b', 'c': no train example"]
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tl_jax import tasks
from tl_jax.data import subsets
from tl_jax.data.pairs import Pair
from tl_jax.data.pipeline import Stream
from tl_jax.data.sources import Source
from tl_jax.tasks.own import quoted
from tl_jax.train.datasets import Labelled, Portion, TaskExamples

# What says how long texts may be, and what is written of them.
KEY_OF_TEXTS = 'config.data.length'
KEY_OF_ANSWERS = 'config.data.target_length'


def of_task(
  corpus: TaskExamples, chosen: np.ndarray, held_out: Portion | None
) -> list[str]:
  """The lines of a transfer that is trained on the `chosen` examples of `train`.

  held_out: the examples that it is validated on.
  """
  task, train, test = corpus.task, corpus.train, corpus.test
  lines = told(task)
  lines += _of_pairs(task, train)
  left_out = _empty(task.own_sources)
  cut = _cut('train', train) + _cut('test', test)
  if corpus.validation is not None:
    cut += _cut('validation', corpus.validation)
  if left_out or cut:
    lines.append(f'{task.name}: {", ".join([*left_out, *cut])}')
  targets = dict(train=train.targets[chosen], test=test.targets)
  if held_out is not None:
    lines.append(_of_validation(corpus, chosen, held_out))
    targets['validation'] = held_out.targets
  for split, found in targets.items():
    counts = task.problem.count(found, len(task.labels))
    lines += absent(split, task.labels, counts)
  if task.own_sources:
    lines += _shared(task, train, test, 'test')
    if corpus.validation is not None:
      lines += _shared(task, train, corpus.validation, 'validation')
  return lines


def _of_pairs(task: tasks.Task, train: Labelled) -> list[str]:
  """A line, or none, on how the two texts of an example are put."""
  if train.frame:
    return [f'{task.name}: examples of two texts are read as {train.frame}']
  are_pairs = [isinstance(text, Pair) for text in train.texts]
  if any(are_pairs):
    return [f'{task.name}: the two texts of an example are joined into one']
  return []


def _of_validation(corpus: TaskExamples, chosen: np.ndarray, held_out: Portion) -> str:
  """What a run is validated on, and where that is from."""
  count = len(held_out.numbers)
  many = f'{count} example{"s" * (count != 1)}'
  if held_out.split is corpus.validation:
    return f'{corpus.name}: validated on the {many} of its validation split'
  trained = len(set(chosen.tolist()))
  return (
    f'{corpus.name}: {count} of its {len(held_out.split.texts)} train examples held out '
    f'for validation (config.task.holdout), trained on {trained}'
  )


def of_weights(task: tasks.Task, weights: Sequence[float], most: int = 8) -> list[str]:
  """A line, or none, on what an example of every class weighs in the loss."""
  if not weights:
    return []
  pairs = zip(task.labels, weights, strict=True)
  said = [f'{label!r} {weight:.3g}' for label, weight in pairs]
  more = f' and {len(said) - most} more' if len(said) > most else ''
  return [
    f'{task.name}: an example weighs by its class: {", ".join(said[:most])}{more}'
  ]


def told(task: tasks.Task) -> list[str]:
  """What was found out when the files of a task were read."""
  return [line for part in task.parts or (task,) for line in part.told]


def of_mixture(sources: Mapping[str, Source], examples: Mapping) -> list[str]:
  """The lines of pre-training on these sources and their encoded documents."""
  lines = []
  for name, source in sources.items():
    lines += [f'{name}: {line}' for line in source.told]
    if source.divided:
      lines.append(
        f'{name}: no column split; by their hash {len(source)} texts are for train, '
        'the others for test'
      )
    left_out = _empty([source])
    tokenless = examples[name].tokens.counts['empty']
    if tokenless:
      left_out.append(f'{tokenless} without a token skipped')
    if left_out:
      lines.append(f'{name}: {", ".join(left_out)}')
  return lines


def of_shares(stream: Stream, steps: int) -> list[str]:
  """A line on each source of a mixture: its part of a run of so many steps, and how
  often it is read.
  """
  lines = []
  found = stream.passes(steps)
  total = sum(rows for rows, _ in found.values())
  for name, (rows, passes) in found.items():
    share = _percent(rows / total)
    lines.append(f'{name}: {share} of the rows, {passes:.3g} passes in {steps} steps')
  return lines


def of_stages(stages: Sequence[tuple[int, Mapping[str, float]]]) -> list[str]:
  """A line on each stage of a mixture, with the part of its rows that every source has;
  none where there is one stage alone.

  >>> of_stages([(0, {'a': 3.0, 'b': 1.0}), (9, {'b': 2.0})])
  ['from step 0 on: a 75 %, b 25 % of the rows', 'from step 9 on: b 100 % of the rows']
  """
  if len(stages) == 1:
    return []
  lines = []
  for step, weights in stages:
    total = sum(weights.values())
    named = [(name, weight) for name, weight in weights.items() if weight]
    said = [f'{name} {_percent(weight / total)}' for name, weight in named]
    lines.append(f'from step {step} on: {", ".join(said)} of the rows')
  return lines


def absent(split: str, labels: Sequence[str], counts: Sequence[int]) -> list[str]:
  """One line, or none, that names the labels without an example in a split."""
  missing = [label for label, count in zip(labels, counts, strict=True) if not count]
  if not missing:
    return []
  return [f'label{"s" * (len(missing) > 1)} {quoted(missing)}: no {split} example']


def files_of(sources: Iterable[Source]) -> dict[str, str]:
  """The sha256 of every file of the user that these sources were read from, by path."""
  return {path: digest for source in sources for path, digest in source.files.items()}


def _empty(sources: Iterable[Source]) -> list[str]:
  """How many empty texts were skipped; the splits of one file share its count."""
  counts = {
    tuple(source.files) or (source.name, source.split): source.skipped.get(
      'empty text', 0
    )
    for source in sources
  }
  total = sum(counts.values())
  return [f'{total} empty text{"s" * (total != 1)} skipped'] if total else []


def _cut(name: str, split: Labelled) -> list[str]:
  """What was cut of the texts of a split, by what they are."""
  return [_said_of_cut(name, cut) for cut in split.cut if cut.count]


def _said_of_cut(name: str, cut: tasks.Cut) -> str:
  """How many texts were cut, what that took of them, and which length would not."""
  plural = 's' * (cut.count != 1)
  said = f'{cut.count} {name} {cut.what}{plural} cut to {cut.length} tokens'
  if cut.whole is None:
    return said
  texts = _percent(cut.count / len(cut.whole))
  share = f'{texts} of all, {_percent(cut.lost)} of the tokens'
  enough = cut.enough()
  # Where 99 of 100 are whole already, nobody needs longer rows.
  more = ''
  if enough > cut.length:
    key = KEY_OF_ANSWERS if cut.what in ('target', 'answer') else KEY_OF_TEXTS
    more = f'; {enough} would keep 99 % whole, which {key} sets'
  return f'{said} ({share}{more})'


def _percent(share: float) -> str:
  """A share with two digits, or with three where it is all."""
  return f'{100 * share:.0f} %' if share >= 0.1 else f'{100 * share:.2g} %'


def _shared(task: tasks.Task, train: Labelled, other: Labelled, name: str) -> list[str]:
  """A line where texts of another split stand in the train split too."""
  seen = set(subsets.fingerprints(train.texts).tolist())
  count = sum(key in seen for key in subsets.fingerprints(other.texts).tolist())
  if not count:
    return []
  return [
    f'{task.name}: {count} of {len(other.texts)} {name} texts stand in the train split '
    'too'
  ]
