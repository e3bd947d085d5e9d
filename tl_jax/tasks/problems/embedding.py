"""Problems whose answer is a vector of a text: pairs, single texts, scored pairs.

`embedding` learns from texts that belong together, with others that do not. `simcse`
learns from texts alone, each of which belongs to itself under another dropout.
`similarity` learns from two texts with a number that says how alike they are. One model
answers all three, so that what one of them trained is tried on another.

>>> ranks(np.array([[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]]), ['a', 'b']).tolist()
[1.0, 2.0]
"""

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
  flat = [each for group in groups for each in group]
  encoded = data.tokenize(
    _Texts(flat), tokenizer, limits.folder, max_length=limits.length, keep_empty=True
  )
  # As the candidates of a question, no text of an example sees another one.
  tokens = Candidates(encoded, np.array(list(map(len, groups))))
  cut = Cut('text', encoded.counts['truncated'], limits.length, encoded.whole)
  return Encoded(pipeline.Examples(tokens, labels), (cut,))


def _encode_alike(texts, targets, tokenizer, limits: Limits) -> Encoded:
  """Texts with those that belong to them, and which of all texts are the same."""
  groups = [(str(each), *others) for each, others in zip(texts, targets, strict=True)]
  # By what they say, whichever place they have in an example.
  numbers: dict[str, int] = {}
  # Where an example has fewer texts than others, no number is that of a text.
  labels = np.full((len(groups), max(map(len, groups))), -1.0, np.float32)
  for place, group in enumerate(groups):
    for part, each in enumerate(group):
      labels[place, part] = numbers.setdefault(each, len(numbers))
  return _encode(groups, labels, tokenizer, limits)


def _encode_scored(texts, targets, tokenizer, limits: Limits) -> Encoded:
  """Pairs of texts with their scores. Raises ConfigError for a text without another."""
  for each in texts:
    if not isinstance(each, pairs.Pair):
      raise ConfigError(
        'config.task.text: kind similarity compares two texts, text=COLUMN+COLUMN'
      )
  groups = [(each.first, each.second) for each in texts]
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
  return _unit(raw[:, :width]), _unit(raw[:, width : 2 * width])


def cosines(raw: Array) -> Array:
  """The cosine (n,) of the two vectors that stand side by side in raw (n, 2 width)."""
  first, second = _first_two(raw)
  return (first * second).sum(-1)


def ranks(raw: Array, answers: Sequence[str], texts: int = 2) -> Array:
  """The place (n,), from 1, of the right answer among the answers of all examples.

  raw (n, texts * width) has the vectors of the texts of each example, of which the
  first asks and the second, `answers`, is right. An answer that is the same text is no
  rival. Rivals that are exactly as near count half.
  """
  first, second = _first_two(raw, texts)
  _, number = np.unique(np.asarray(answers, object), return_inverse=True)
  found = np.zeros(len(first))
  for start in range(0, len(first), BLOCK):
    # Not all at once: the similarities of many texts would fill the memory.
    part = slice(start, start + BLOCK)
    near = first[part] @ second.T
    places = np.arange(len(near))
    own = near[places, start + places][:, None]
    rivals = number[part, None] != number[None, :]
    # A model that says the same of all texts finds none of them.
    nearer = ((near > own) & rivals).sum(-1)
    as_near = ((near == own) & rivals).sum(-1)
    found[part] = 1 + nearer + as_near / 2
  return found


def _rank(raw: Array, targets: Array, groups: tuple) -> Array:
  del groups
  # The first is the right one, the others are wrong.
  answers = [others[0] for others in targets]
  return ranks(raw, answers, 1 + max(map(len, targets)))


def _contrast(facts: Facts) -> objectives.Objective:
  return objectives.contrastive(
    temperature=facts.temperature, symmetric=facts.symmetric
  )


def _order(facts: Facts) -> objectives.Objective:
  return objectives.similarity(temperature=facts.temperature)


def _line_of_alike(text, target, prediction, raw, labels) -> dict:
  del raw, labels
  return dict(text=text, target=list(target), prediction=float(prediction))


def _line_of_text(text, target, prediction, raw, labels) -> dict:
  del target, prediction, raw, labels
  return dict(text=text)


def _line_of_scored(text, target, prediction, raw, labels) -> dict:
  del raw, labels
  return dict(
    text=text.first,
    text_pair=text.second,
    target=round(float(target[0]), 6),
    prediction=round(float(prediction[0]), 6),
  )


def _make(name: str, **functions) -> Problem:
  return Problem(
    name=name,
    head=HEAD,
    kinds=KINDS,
    fresh_head=False,
    answer='logits',
    outputs=lambda labels: 0,
    count=lambda targets, labels: [len(targets)] * labels,
    **functions,
  )


# The target are the texts that belong to a text: the right one, then wrong ones.
EMBEDDING = _make(
  'embedding',
  form='text',
  scores=('retrieval',),
  metrics=('retrieval',),
  headline='mrr',
  from_column=columns.read_alike,
  gather=text.TEXT.gather,
  encode=_encode_alike,
  objective=_contrast,
  decide=_rank,
  plain=list,
  read=lambda value, labels: value,
  line=_line_of_alike,
  written=text.TEXT.written,
)
# The target is the text itself.
SIMCSE = _make(
  'simcse',
  form='text',
  scores=('uniformity',),
  metrics=('uniformity',),
  headline='uniformity',
  from_column=columns.read_alike,
  gather=text.TEXT.gather,
  encode=_encode_alike,
  objective=_contrast,
  decide=lambda raw, targets, groups: _first_two(raw)[0],
  plain=list,
  read=lambda value, labels: value,
  line=_line_of_text,
)


def _gather_scores(examples: list[Example]) -> Array:
  """The scores, float32 (n, 1)."""
  scores = [[example.target] for example in examples]
  return np.asarray(scores, np.float32).reshape(-1, 1)


# The target is a number.
SIMILARITY = _make(
  'similarity',
  form='number',
  scores=('spearman', 'pearson'),
  metrics=('spearman', 'pearson'),
  headline='spearman',
  from_column=columns.read_numbers,
  gather=_gather_scores,
  encode=_encode_scored,
  objective=_order,
  decide=lambda raw, targets, groups: cosines(raw)[:, None],
  plain=lambda values: np.asarray(values)[:, 0].tolist(),
  read=lambda value, labels: round(float(value[0]), 6),
  line=_line_of_scored,
)
# Those that one model answers.
VECTORS = (EMBEDDING, SIMCSE, SIMILARITY)
