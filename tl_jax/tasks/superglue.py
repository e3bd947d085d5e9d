"""The tasks of SuperGLUE (Wang et al. 2019), read from their published files.

>>> record = dict(word='bank', sentence1='The bank lends.', sentence2='A river bank.')
>>> WIC.example({**record, 'label': 0}).inputs[0].first
'bank: The bank lends.'

What a model reads of each, as a pair of texts unless it says otherwise:
BoolQ: the question, the passage. CB and RTE: the premise, the hypothesis. COPA: the
premise with what is asked of it, and each alternative (multiple choice). WiC: the first
sentence behind the word and a colon, the second sentence. WSC: the text with the pronoun
between stars, the noun. MultiRC: the paragraph, and the question with an answer, of
which several may be right. ReCoRD: the passage, and the query with an entity in its gap.
"""

from collections.abc import Callable, Iterator

from tl_jax import metrics
from tl_jax.data import choices
from tl_jax.data.candidates import Choices
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
  # Counted in words that one space parts.
  first = target['span2_index']
  # The word may have a mark behind it that is not part of the pronoun.
  count = len(target['span2_text'].split(' '))
  pronoun = ' '.join(words[first : first + count])
  marked = [*words[:first], f'*{pronoun}*', *words[first + count :]]
  pair = Pair(' '.join(marked), target['span1_text'])
  return Example((pair,), record['label'])


def _multirc(record) -> Iterator[Example]:
  """The questions on a paragraph, each with answers that are right or wrong."""
  passage = record['passage']
  for question in passage['questions']:
    answers = question['answers']
    texts = [f'{question["question"]} {answer["text"]}' for answer in answers]
    # The labels of a test are kept back.
    worths = tuple(float(answer.get('label', 0)) for answer in answers)
    yield Example((Choices(passage['text'], texts),), worths)


def _record(record) -> Iterator[Example]:
  """The queries on a passage, whose gap one of its entities fills.

  An entity is worth the F1 of its words with the answer that is most like it.
  """
  passage = record['passage']
  text = passage['text']
  # The last character of a span belongs to it.
  spans = [text[each['start'] : each['end'] + 1] for each in passage['entities']]
  # An entity may be named several times.
  entities = list(dict.fromkeys(spans))
  # What parts the highlights of an article is no word.
  text = text.replace('@highlight', '-')
  for query in record['qas']:
    answers = [answer['text'] for answer in query.get('answers', [])]
    filled = [query['query'].replace('@placeholder', entity) for entity in entities]
    worths = tuple(_worth(entity, answers) for entity in entities)
    yield Example((Choices(text, filled),), worths)


def _worth(entity: str, answers: list[str]) -> float:
  """The F1 of the words of an entity with the best answer; 0 without answers."""
  if not answers:
    return 0.0
  return metrics.squad([entity], [answers])['squad_f1']


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
MULTIRC = _task('multirc', _multirc, (), ('answer_sets',), problem='each_choice')
RECORD = _task('record', _record, (), ('best_answer',), problem='any_choice')
ALL = (BOOLQ, CB, COPA, MULTIRC, RECORD, RTE, WIC, WSC)
