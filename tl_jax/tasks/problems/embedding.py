"""Problems whose answer is a vector of a text: pairs, single texts, scored pairs.

`embedding` learns from texts that belong together, with others that do not. `simcse`
learns from texts alone, each of which belongs to itself under another dropout.
`similarity` learns from two texts with a number that says how alike they are. One model
answers all three, so that what one of them trained is tried on another.

>>> ranks(np.array([[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]]), ['a', 'b']).tolist()
[1.0, 2.0]
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tl_jax import data, objectives
from tl_jax.config import ConfigError
from tl_jax.data import pairs, pipeline
from tl_jax.data.candidates import Candidates
from tl_jax.tasks.problems import columns, text
from tl_jax.tasks.problems.problem import (
  KINDS,
  Array,
  Cut,
  Encoded,
  Example,
  Facts,
  Limits,
  Problem,
)

HEAD = 'embedding'
# So many texts are compared with all others at once.
BLOCK = 1024


class _Texts:
  """Texts as a source of examples: what the token cache reads."""

  def __init__(self, texts: Sequence[str]):
    self._texts = texts

  def __iter__(self):
    return ({'text': each} for each in self._texts)


def _encode(groups, labels: Array, tokenizer, limits: Limits) -> Encoded:
  """The texts of each example, every one cut to `limits.length`.

  groups: (n) tuples of texts. labels: (n, k) numbers.
  """
  flat = []
  counts = []
  for group in groups:
    flat += group
    counts.append(len(group))
  texts = _Texts(flat)
  length = limits.length
  encoded = data.tokenize(
    texts, tokenizer, limits.folder, max_length=length, keep_empty=True
  )
  # As the candidates of a question, no text of an example sees another one.
  counts = np.array(counts)
  tokens = Candidates(encoded, counts)
  truncated = encoded.counts['truncated']
  cut = Cut('text', truncated, length, encoded.whole)
  examples = pipeline.Examples(tokens, labels)
  return Encoded(examples, (cut,))


def _encode_alike(texts, targets, tokenizer, limits: Limits) -> Encoded:
  """Texts with those that belong to them, and which of all texts are the same."""
  groups = []
  most = 0
  for each, others in zip(texts, targets, strict=True):
    group = (str(each), *others)
    groups.append(group)
    most = max(most, len(group))
  # By what they say, whichever place they have in an example.
  numbers: dict[str, int] = {}
  # Where an example has fewer texts than others, no number is that of a text.
  count = len(groups)
  labels = np.full((count, most), -1.0, np.float32)
  for place, group in enumerate(groups):
    for part, each in enumerate(group):
      following = len(numbers)
      labels[place, part] = numbers.setdefault(each, following)
  return _encode(groups, labels, tokenizer, limits)


def _encode_scored(texts, targets, tokenizer, limits: Limits) -> Encoded:
  """Pairs of texts with their scores. Raises ConfigError for a text without another."""
  for each in texts:
    if not isinstance(each, pairs.Pair):
      raise ConfigError(
        'config.task.text: kind similarity compares two texts, text=COLUMN+COLUMN'
      )
  groups = []
  for each in texts:
    group = (each.first, each.second)
    groups.append(group)
  return _encode(groups, targets, tokenizer, limits)


def _unit(vectors: Array) -> Array:
  """The vectors (n, width) with length 1 in float32."""
  vectors = np.asarray(vectors, np.float32)
  lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / np.maximum(lengths, 1e-12)


def _first_two(raw: Array, texts: int = 2) -> tuple[Array, Array]:
  """The unit vectors (n, width) of the first and the second text of each example."""
  # Those of third texts stand behind, and no metric asks for them.
  width = raw.shape[-1] // texts
  end = 2 * width
  first = raw[:, :width]
  second = raw[:, width:end]
  return _unit(first), _unit(second)


def cosines(raw: Array) -> Array:
  """The cosine (n,) of the two vectors that stand side by side in raw (n, 2 width)."""
  first, second = _first_two(raw)
  products = first * second
  return products.sum(-1)


def ranks(raw: Array, answers: Sequence[str], texts: int = 2) -> Array:
  """The place (n,), from 1, of the right answer among the answers of all examples.

  raw (n, texts * width) has the vectors of the texts of each example, of which the
  first asks and the second, `answers`, is right. An answer that is the same text is no
  rival. Rivals that are exactly as near count half.
  """
  first, second = _first_two(raw, texts)
  names = np.asarray(answers, object)
  _, number = np.unique(names, return_inverse=True)
  count = len(first)
  found = np.zeros(count)
  for start in range(0, count, BLOCK):
    # Not all at once: the similarities of many texts would fill the memory.
    stop = start + BLOCK
    part = slice(start, stop)
    asking = first[part]
    near = asking @ second.T
    size = len(near)
    places = np.arange(size)
    own = near[places, start + places]
    own = own[:, None]
    asked = number[part, None]
    rivals = asked != number
    # A model that says the same of all texts finds none of them.
    is_nearer = (near > own) & rivals
    is_as_near = (near == own) & rivals
    nearer = is_nearer.sum(-1)
    as_near = is_as_near.sum(-1)
    found[part] = 1 + nearer + as_near / 2
  return found


def _rank(raw: Array, targets: Array, groups: tuple) -> Array:
  del groups
  # The first is the right one, the others are wrong.
  answers = []
  most = 0
  for others in targets:
    answers.append(others[0])
    most = max(most, len(others))
  return ranks(raw, answers, 1 + most)


def _first(raw, targets, groups):
  del targets, groups
  first, _ = _first_two(raw)
  return first


def _cosine(raw, targets, groups):
  del targets, groups
  found = cosines(raw)
  return found[:, None]


def _contrast(facts: Facts) -> objectives.Objective:
  temperature = facts.temperature
  symmetric = facts.symmetric
  return objectives.contrastive(temperature=temperature, symmetric=symmetric)


def _order(facts: Facts) -> objectives.Objective:
  temperature = facts.temperature
  return objectives.similarity(temperature=temperature)


def _line_of_alike(text, target, prediction, raw, labels):
  del raw, labels
  line = dict(text=text)
  line['target'] = list(target)
  line['prediction'] = float(prediction)
  return line


def _line_of_text(text, target, prediction, raw, labels):
  del target, prediction, raw, labels
  return dict(text=text)


def _line_of_scored(text, target, prediction, raw, labels):
  del raw, labels
  line = dict(text=text.first)
  line['text_pair'] = text.second
  line['target'] = _number(target)
  line['prediction'] = _number(prediction)
  return line


def _number(value):
  number = float(value[0])
  return round(number, 6)


def _numbers(values):
  values = np.asarray(values)
  first = values[:, 0]
  return first.tolist()


def _read_number(value, labels):
  del labels
  return _number(value)


def _as_it_is(value, labels):
  del labels
  return value


def _no_outputs(labels):
  del labels
  return 0


def _nothing(targets):
  del targets
  return []


def _count(targets, labels):
  count = len(targets)
  return [count] * labels


def _gather_scores(examples: list[Example]) -> Array:
  """The scores, float32 (n, 1)."""
  scores = []
  for example in examples:
    scores.append(example.target)
  found = np.asarray(scores, np.float32)
  return found.reshape(-1, 1)


# The target are the texts that belong to a text: the right one, then wrong ones. What is
# true of all three problems is said here.
EMBEDDING = Problem(
  name='embedding',
  head=HEAD,
  kinds=KINDS,
  fresh_head=False,
  answer='logits',
  form='text',
  scores=('retrieval',),
  metrics=('retrieval',),
  headline='mrr',
  outputs=_no_outputs,
  from_column=columns.read_alike,
  gather=text.TEXT.gather,
  encode=_encode_alike,
  objective=_contrast,
  decide=_rank,
  plain=list,
  read=_as_it_is,
  count=_count,
  line=_line_of_alike,
  written=text.TEXT.written,
)
# The target is the text itself.
SIMCSE = dataclasses.replace(
  EMBEDDING,
  name='simcse',
  scores=('uniformity',),
  metrics=('uniformity',),
  headline='uniformity',
  decide=_first,
  line=_line_of_text,
)
# The target is a number.
SIMILARITY = dataclasses.replace(
  EMBEDDING,
  name='similarity',
  form='number',
  scores=('spearman', 'pearson'),
  metrics=('spearman', 'pearson'),
  headline='spearman',
  from_column=columns.read_numbers,
  gather=_gather_scores,
  encode=_encode_scored,
  objective=_order,
  decide=_cosine,
  plain=_numbers,
  read=_read_number,
  line=_line_of_scored,
  written=_nothing,
)
# Those that one model answers.
VECTORS = (EMBEDDING, SIMCSE, SIMILARITY)
