"""Problems whose answers are labels: one of several, any of several, or numbers.

>>> SINGLE_LABEL.read(1, ('bad', 'good')), MULTI_LABEL.read([1, -2], ('price', 'speed'))
('good', ['price'])
>>> REGRESSION.read([0.25], ('rating',))
0.25
"""

import functools

import numpy as np

from tl_jax import data, objectives
from tl_jax.data import pairs, pipeline
from tl_jax.tasks.problems import columns
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


class _Texts:
  """Texts as a source of examples: what the token cache reads."""

  def __init__(self, texts):
    self._texts = texts

  def __iter__(self):
    return ({'text': text} for text in self._texts)


def encode(texts, targets, tokenizer, limits: Limits) -> Encoded:
  """The texts, each cut to a row, with their labels."""
  if limits.pairs and pairs.are_framed(texts, tokenizer):
    return _encode_pairs(texts, targets, tokenizer, limits)
  # An empty text is kept: it has a label, and somebody asks for it.
  encoded = data.tokenize(
    _Texts(texts),
    tokenizer,
    limits.folder,
    max_length=limits.length,
    keep_empty=True,
  )
  cut = Cut('text', encoded.counts['truncated'], limits.length, encoded.whole)
  return Encoded(pipeline.with_labels(encoded, targets), (cut,))


def _encode_pairs(texts, targets, tokenizer, limits: Limits) -> Encoded:
  """Texts some of which are pairs, each in its frame and cut to a row."""

  def encode(plain: list[str]) -> data.Tokens:
    return data.tokenize(
      _Texts(plain), tokenizer, limits.folder, special=False, keep_empty=True
    )

  framed = pairs.frame(texts, tokenizer, limits.length, encode)
  what = 'pair' if framed.is_pair.all() else 'text'
  cut = Cut.of(what, framed.whole, limits.length)
  # A model without types would have no use for them.
  types = framed.types if limits.types > 1 else None
  examples = pipeline.Examples(framed, labels=targets, types=types)
  return Encoded(examples, (cut,))


def _objective(facts: Facts, kind: str) -> objectives.Objective:
  return objectives.classify(
    labels=facts.outputs,
    kind=kind,
    smoothing=facts.smoothing,
    groups=facts.groups,
    class_weights=facts.class_weights,
  )


def _line(text, target, prediction, raw, labels, read) -> dict:
  shown = dict(text=text)
  if isinstance(text, pairs.Pair):
    shown = dict(text=text.first, text_pair=text.second)
  return dict(
    **shown,
    target=read(target, labels),
    prediction=read(prediction, labels),
    # A float32 has about seven digits.
    outputs=[round(float(value), 6) for value in raw],
  )


def _make(name: str, **functions) -> Problem:
  """A problem that a classifier of any kind of model answers."""
  return Problem(
    name=name,
    head='classifier',
    kinds=KINDS,
    fresh_head=True,
    answer='logits',
    encode=encode,
    objective=functools.partial(_objective, kind=name),
    line=functools.partial(_line, read=functions['read']),
    **functions,
  )


def group_of(groups: tuple, targets: Array) -> Array:
  """Which of the groups of labels (first, end) every target (n,) is in: int (n,)."""
  return np.searchsorted([end for _, end in groups], targets, side='right')


def choose(outputs: Array, targets: Array, groups: tuple) -> Array:
  """The label with the largest output (n,), among those of the target's own group."""
  return within(outputs, targets, groups).argmax(-1)


def within(outputs: Array, targets: Array, groups: tuple) -> Array:
  """The outputs (n, labels) of the target's own group, and -inf for all others."""
  # Group by group: another one's labels are answers to another question.
  first, end = np.asarray(groups)[group_of(groups, targets)].T
  places = np.arange(outputs.shape[-1])
  # (n, labels): is this label among those of the example's group?
  own = (places >= first[:, None]) & (places < end[:, None])
  return np.where(own, outputs, -np.inf)


def _classes(examples: list[Example]) -> Array:
  """Class numbers, int32 (n,)."""
  return np.asarray([example.target for example in examples], np.int32)


def _rows(examples: list[Example]) -> Array:
  """Indicators or numbers, float32 (n, labels)."""
  targets = np.asarray([example.target for example in examples], np.float32)
  return targets.reshape(len(examples), -1)


def softmax(outputs: Array) -> Array:
  """Probabilities (n, labels) that sum to one for each example."""
  outputs = np.asarray(outputs, np.float64)
  powers = np.exp(outputs - outputs.max(-1, keepdims=True))
  return powers / powers.sum(-1, keepdims=True)


def sigmoid(outputs: Array) -> Array:
  """The probability (n, labels) of each label by itself."""
  # By tanh: the exponential of a large output would overflow.
  return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(outputs, np.float64))


def _switched_on(outputs: Array, targets: Array, groups: tuple) -> Array:
  """Indicators (n, labels) of the labels whose sigmoid is above one half."""
  del targets, groups
  return (outputs > 0).astype(int)


def _as_they_are(outputs: Array, targets: Array, groups: tuple) -> Array:
  del targets, groups
  # What a regression says is what it predicts.
  return outputs


def _names_of(values, labels: tuple[str, ...]) -> list[str]:
  """The labels of indicators, or of outputs, that are above 0."""
  pairs = zip(labels, values, strict=True)
  return [label for label, value in pairs if value > 0]


def _move_indicators(target, places: list[int], labels: int) -> tuple[int, ...]:
  pairs = zip(places, target, strict=True)
  chosen = {place for place, on in pairs if on}
  return tuple(int(place in chosen) for place in range(labels))


# The target is the number of a label.
SINGLE_LABEL = _make(
  'single_label',
  form='class',
  scores=('accuracy', 'f1', 'matthews', 'brier', 'calibration_error'),
  metrics=('accuracy', 'f1', 'brier', 'calibration_error'),
  headline='accuracy',
  outputs=lambda labels: labels,
  from_column=columns.read_classes,
  gather=_classes,
  decide=choose,
  plain=lambda values: np.asarray(values).tolist(),
  read=lambda value, labels: labels[int(value)],
  count=lambda targets, labels: np.bincount(targets, minlength=labels).tolist(),
  move=lambda target, places, labels: places[target],
  probabilities=softmax,
)
# The target has a 0 or a 1 for every label.
MULTI_LABEL = _make(
  'multi_label',
  form='set',
  scores=('f1', 'accuracy', 'brier', 'calibration_error'),
  metrics=('f1', 'accuracy'),
  headline='f1_micro',
  outputs=lambda labels: labels,
  from_column=columns.read_sets,
  gather=_rows,
  decide=_switched_on,
  plain=lambda values: np.asarray(values).astype(int).tolist(),
  read=_names_of,
  count=lambda targets, labels: (targets > 0).sum(0).tolist(),
  move=_move_indicators,
  probabilities=sigmoid,
)
# The target is a number. Correlations first: a table shows one of them.
REGRESSION = _make(
  'regression',
  form='number',
  scores=('pearson', 'spearman', 'mean_squared_error'),
  metrics=('pearson', 'spearman', 'mean_squared_error'),
  headline='pearson',
  outputs=lambda labels: 1,
  from_column=columns.read_numbers,
  gather=_rows,
  decide=_as_they_are,
  plain=lambda values: values[:, 0].tolist(),
  read=lambda value, labels: round(float(value[0]), 6),
  count=lambda targets, labels: [len(targets)] * labels,
)
