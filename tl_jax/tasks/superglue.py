"""The tasks of SuperGLUE (Wang et al. 2019), read from their published files.

>>> record = dict(word='bank', sentence1='The bank lends.', sentence2='A river bank.')
>>> WIC.example({**record, 'label': 0}).inputs[0].first
'bank: The bank lends.'

What a model reads of each, as a pair of texts unless it says otherwise:
BoolQ: the question, the passage. CB and RTE: the premise, the hypothesis. COPA: the
premise with what is asked of it, and each alternative (multiple choice). WiC: the first
sentence behind the word and a colon, the second sentence. WSC: the text with the pronoun
between stars, the noun. MultiRC: the paragraph, and the question with an answer.
"""

from collections.abc import Callable

from tl_jax.data import choices
from tl_jax.data.pairs import Pair
from tl_jax.tasks.problems import PROBLEMS, Example
from tl_jax.tasks.task import Task

TRUTH = ('false', 'true')


def _task(
  name: str,
  read: Callable,
  labels: tuple[str, ...] = TRUTH,
  metrics: tuple[str, ...] = ('accuracy',),
  *,
  source: str = '',
  problem: str = 'single_label',
) -> Task:
  """A task with its official metrics; the test splits have no labels."""
  return Task(
    name,
    f'super_glue/{source or name}',
    read,
    labels,
    problem=PROBLEMS[problem],
    metrics=metrics,
    splits=dict(train='train', test='validation'),
  )


def _pair_of(first: str, second: str) -> Callable:
  """A reader of two fields as a pair of texts."""

  def read(record) -> Example:
    return Example((Pair(record[first], record[second]),), record['label'])

  return read


def _copa(record) -> Example:
  """A premise with two alternatives, one of which is its cause or its effect."""
  asked, place = choices.read(record, choices.fields_of(record))
  return Example((asked,), place)


def _wic(record) -> Example:
  """Two sentences with a word that may mean the same in both."""
  first = f'{record["word"]}: {record["sentence1"]}'
  return Example((Pair(first, record['sentence2']),), record['label'])


def _wsc(record) -> Example:
  """A text with its pronoun between stars, and the noun that it may stand for."""
  target = record['target']
  words = record['text'].split(' ')
  first = target['span2_index']
  # The word may have a mark behind it that is not part of the pronoun.
  count = len(target['span2_text'].split(' '))
  pronoun = ' '.join(words[first : first + count])
  marked = [*words[:first], f'*{pronoun}*', *words[first + count :]]
  pair = Pair(' '.join(marked), target['span1_text'])
  return Example((pair,), record['label'])


BOOLQ = _task('boolq', _pair_of('question', 'passage'))
CB = _task(
  'cb',
  _pair_of('premise', 'hypothesis'),
  ('entailment', 'contradiction', 'neutral'),
  # The official F1 is the mean over the classes.
  ('f1', 'accuracy'),
)
COPA = _task('copa', _copa, (), ('choice_accuracy',), problem='choice')
RTE = _task(
  'superglue_rte',
  _pair_of('premise', 'hypothesis'),
  ('entailment', 'not_entailment'),
  source='rte',
)
WIC = _task('wic', _wic)
WSC = _task('wsc', _wsc)
ALL = (BOOLQ, CB, COPA, RTE, WIC, WSC)
