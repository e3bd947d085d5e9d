"""One number for GLUE or SuperGLUE: the mean over all of its tasks, or none.

>>> full = {name: dict.fromkeys(METRIC_NAMES, 0.5) for name in NAMES}
>>> mean_score('glue', full), mean_score('super_glue', full)
(0.5, 0.5)
"""

from collections.abc import Mapping

# The tasks of each benchmark, each with its metrics. The score of a task is their mean.
# MNLI is one task, tested on the genres of its training and on others.
METRICS = {
  'glue': {
    'cola': (('cola', 'matthews'),),
    'sst2': (('sst2', 'accuracy'),),
    'mrpc': (('mrpc', 'f1'), ('mrpc', 'accuracy')),
    'stsb': (('stsb', 'pearson'), ('stsb', 'spearman')),
    'qqp': (('qqp', 'f1'), ('qqp', 'accuracy')),
    'mnli': (('mnli', 'accuracy'), ('mnli_mismatched', 'accuracy')),
    'qnli': (('qnli', 'accuracy'),),
    'rte': (('rte', 'accuracy'),),
    'wnli': (('wnli', 'accuracy'),),
  },
  'super_glue': {
    'boolq': (('boolq', 'accuracy'),),
    'cb': (('cb', 'accuracy'), ('cb', 'f1_macro')),
    'copa': (('copa', 'choice_accuracy'),),
    'multirc': (('multirc', 'answer_f1'), ('multirc', 'question_match')),
    'record': (('record', 'best_answer_f1'), ('record', 'best_answer_match')),
    'rte': (('superglue_rte', 'accuracy'),),
    'wic': (('wic', 'accuracy'),),
    'wsc': (('wsc', 'accuracy'),),
  },
}
NAMES: set[str] = set()
METRIC_NAMES: set[str] = set()
for _tasks in METRICS.values():
  for _wanted in _tasks.values():
    NAMES |= {name for name, _ in _wanted}
    METRIC_NAMES |= {metric for _, metric in _wanted}
# So many of the numbers that are missing are named.
_FEW = 3


def mean_score(benchmark: str, found: Mapping[str, Mapping[str, float]]) -> float:
  """The score of a benchmark: the mean over its tasks of the mean of their metrics.

  found: the metrics of each task by its name, as `result.json` has them. Raises
  ValueError with what is missing: a mean over fewer tasks is another number.
  """
  tasks = METRICS[benchmark]
  missing = []
  for wanted in tasks.values():
    for name, metric in wanted:
      if metric not in found.get(name, {}):
        missing.append(f'{metric} of {name!r}')
  if missing:
    more = len(missing) - _FEW
    rest = f' and {more} more' if more > 0 else ''
    raise ValueError(
      f'{benchmark}: no {", ".join(missing[:_FEW])}{rest}; a mean is over all tasks'
    )
  # A task with two metrics counts as much as one with one.
  scores = []
  for wanted in tasks.values():
    values = [found[name][metric] for name, metric in wanted]
    scores.append(sum(values) / len(values))
  return sum(scores) / len(scores)
