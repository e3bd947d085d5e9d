"""The problems of texts whose likelihood a model is asked for, without any training.

>>> from tl_jax.data.pairs import Pair
>>> line = MINIMAL_PAIRS.line(Pair('He runs.', 'He run.'), 'verbs', [0, 0], [-3, -5], ())
>>> line['good'], line['prediction']
('He runs.', [-3.0, -5.0])

Of a minimal pair the acceptable sentence should be the more probable one (Warstadt et
al. 2020). Of a text whose last word only the whole tells, that word should be the most
probable one (Paperno et al. 2016).
"""

import dataclasses

import numpy as np

from tl_jax.config import ConfigError
from tl_jax.metrics.likelihood import ABOVE
from tl_jax.tasks.problems.problem import Array, Example, Problem

# Columns of a minimal pair as BLiMP has them.
GOOD, BAD = 'sentence_good', 'sentence_bad'
# Those of its phenomenon and of the paradigm in it.
GROUPS = ('linguistics_term', 'UID')


def read_pairs(opened, known):
  """Pairs of sentences, each with the group that it is of, '' where it says none."""
  del known
  groups = set()
  for source in opened.sources.values():
    for record, (file, line) in zip(source, source.places, strict=True):
      _require_two(record['text'], f'{file}:{line}')
      groups.add(_group(record))

  def read(record) -> Example:
    return Example((record['text'],), _group(record))

  named = sorted(groups - {''})
  count = len(opened.sources['test'])
  return read, (), f'{count} minimal pairs of {len(named)} paradigms'


def _require_two(pair, place: str) -> None:
  """Raises ConfigError for a pair of which one sentence is empty."""
  if not (pair.first.strip() and pair.second.strip()):
    raise ConfigError(f'{place}: a pair needs two sentences; one is empty')


def _group(record) -> str:
  """The name of the group of a pair, `phenomenon/paradigm`."""
  names = [str(record[key]).strip() for key in GROUPS if record.get(key)]
  return ABOVE.join(names)


def read_last_words(opened, known):
  """Texts whose last word is what a model should say.

  Raises ConfigError for a text of fewer than two words.
  """
  del known
  for (text, *_), place in zip(opened.values, opened.places, strict=True):
    if len(text.split()) < 2:
      raise ConfigError(f'{place}: {opened.column}: {text!r}: no word before the last')

  def read(record) -> Example:
    # As the authors part it: what stands behind the last space is the word.
    context, word = record['text'].rsplit(maxsplit=1)
    return Example((context,), word)

  count = len(opened.sources['test'])
  return read, (), f'{count} texts, of which the last word is asked for'


def _gather(examples: list[Example]) -> Array:
  """The targets, which are texts: an array of objects (n,)."""
  # An array of texts would cut them to one width.
  found = np.empty(len(examples), object)
  found[:] = [example.target for example in examples]
  return found


def _as_it_is(raw, targets, groups) -> Array:
  del targets, groups
  return raw


def _plain(values) -> list:
  return np.asarray(values).tolist()


def _read(value, names):
  del names
  return value


def _line_of_pair(text, target, prediction, raw, names) -> dict:
  del prediction, names
  numbers = [round(float(each), 6) for each in raw]
  return dict(good=text.first, bad=text.second, target=target, prediction=numbers)


def _line_of_word(text, target, prediction, raw, names) -> dict:
  del prediction, names
  likelihood, greedy = map(float, raw)
  line = dict(text=text)
  line['target'] = target
  # Its log-probability, and 1 where the model would say it.
  line['prediction'] = [round(likelihood, 6), greedy]
  return line


def _not_learned(*_):
  raise ConfigError(
    'config.task.kind: of minimal_pairs and last_word nothing is learned; '
    'method=in_context asks a model about them'
  )


MINIMAL_PAIRS = Problem(
  name='minimal_pairs',
  head='causal',
  kinds=('encoder', 'decoder'),
  fresh_head=False,
  answer='likelihood',
  form='text',
  scores=('minimal_pairs',),
  metrics=('minimal_pairs',),
  headline='pair_accuracy',
  outputs=lambda labels: 0,
  from_column=read_pairs,
  gather=_gather,
  encode=_not_learned,
  objective=_not_learned,
  decide=_as_it_is,
  plain=_plain,
  read=_read,
  count=lambda targets, labels: [],
  line=_line_of_pair,
  written=list,
)
LAST_WORD = dataclasses.replace(
  MINIMAL_PAIRS,
  name='last_word',
  kinds=('decoder',),
  scores=('last_word',),
  metrics=('last_word',),
  headline='last_word_accuracy',
  from_column=read_last_words,
  line=_line_of_word,
)
