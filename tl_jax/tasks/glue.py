"""The tasks of GLUE whose examples are two texts (Wang et al. 2018).

>>> found = MRPC.example({'sentence1': 'a b', 'sentence2': 'b a', 'label': 1})
>>> found.inputs[0].second, MRPC.labels[found.target], MRPC.headline
('b a', 'equivalent', 'f1')
"""

import dataclasses
import functools

from tl_jax.data import files
from tl_jax.tasks.problems import PROBLEMS, Example
from tl_jax.tasks.task import Task

ENTAILED = ('entailment', 'not_entailment')


def _read(record, columns: files.Columns) -> Example:
  """A record with two texts, and the number of a class or a number."""
  # As a file with these columns is read: a model of the one is tried on the other.
  text = files.text_of('glue', 0, record, columns)
  return Example((text,), record['label'])


def _task(
  name: str,
  columns: tuple[str, str],
  labels: tuple[str, ...],
  metrics: tuple[str, ...] = ('accuracy',),
  *,
  problem: str = 'single_label',
  test: str = 'validation',
) -> Task:
  """A task with the metrics that it has in GLUE, of which the first is the headline.

  The labels are in the order of the set's own numbers.
  """
  return Task(
    name,
    f'glue/{name}',
    functools.partial(_read, columns=files.Columns(columns)),
    labels,
    problem=PROBLEMS[problem],
    metrics=metrics,
    headline=metrics[0],
    # The test splits of GLUE have no labels.
    splits=dict(train='train', test=test),
  )


_SENTENCES = ('sentence1', 'sentence2')
# Do two sentences say the same (Dolan and Brockett 2005)?
MRPC = _task('mrpc', _SENTENCES, ('not_equivalent', 'equivalent'), ('f1', 'accuracy'))
# Do two questions ask the same?
QQP = _task(
  'qqp',
  ('question1', 'question2'),
  ('not_duplicate', 'duplicate'),
  ('f1', 'accuracy'),
)
# How like two sentences are, from 0 to 5 (Cer et al. 2017).
STSB = _task(
  'stsb', _SENTENCES, ('likeness',), ('pearson', 'spearman'), problem='regression'
)
# Does the first text say what the second does?
RTE = _task('rte', _SENTENCES, ENTAILED)
# Or speaks it against it (Williams et al. 2018)? Tested on the genres of the training.
MNLI = _task(
  'mnli',
  ('premise', 'hypothesis'),
  ('entailment', 'neutral', 'contradiction'),
  test='validation_matched',
)
# The same, tested on other genres.
MNLI_MISMATCHED = dataclasses.replace(
  MNLI,
  name='mnli_mismatched',
  splits=dict(train='train', test='validation_mismatched'),
)
# Has a sentence the answer to a question (Rajpurkar et al. 2016)?
QNLI = _task('qnli', ('question', 'sentence'), ENTAILED)
# Is a sentence with a pronoun resolved entailed (Levesque et al. 2012)?
WNLI = _task('wnli', _SENTENCES, ENTAILED[::-1])
PAIRS = (MRPC, QQP, STSB, RTE, MNLI, QNLI, WNLI)
