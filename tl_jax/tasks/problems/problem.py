"""What kind of answer a task wants, as a value of pure functions.

>>> Example(('good film',), 1).inputs
('good film',)
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from tl_jax.data import pipeline
from tl_jax.objectives import Objective

Array = Any
KINDS = ('encoder', 'decoder', 'encoder-decoder')


class Example(NamedTuple):
  """One example of a task, as its records are read.

  inputs: the text that a model sees, or two that are a pair, as a question and a
  passage. target: what it should answer, in the form of the problem. references: all
  answers that are right, where there may be several; () where the target is the only
  one.
  """

  inputs: tuple[str, ...]
  target: Any = None
  references: tuple = ()


class Writer(NamedTuple):
  """How a model that writes texts begins and ends them."""

  # Of the model: decoder or encoder-decoder.
  kind: str = 'decoder'
  # What ends every text.
  eos: int = 0
  # What an encoder-decoder's decoder reads before it writes anything.
  start: int = 0
  # The first ids that such a decoder writes, whatever the text is: BART's <s>, or a
  # language.
  begin: tuple[int, ...] = ()


class Limits(NamedTuple):
  """What encoding must know besides the texts."""

  # Tokens that a row holds.
  length: int
  # Where encoded texts are kept for the next run.
  folder: pathlib.Path
  # Tokens of a target text, its end among them.
  target_length: int = 0
  # How a text is put to the model; empty: as the problem puts it.
  template: str = ''
  writer: Writer = Writer()
  # Does the model read two texts in the frame of its tokenizer? Else they are joined.
  pairs: bool = False
  # How many types of tokens the model tells apart.
  types: int = 0
  # The most tokens of an answer that stands in a passage; 0: the usual number.
  answer_length: int = 0


class Cut(NamedTuple):
  """How many of the texts that are called `what` were cut to `length` tokens.

  whole: the lengths (n,) of all of them before, where they are known.
  """

  what: str
  count: int
  length: int
  whole: Array = None

  @classmethod
  def of(cls, what: str, whole: Sequence[int], length: int) -> 'Cut':
    """What is cut of texts of these lengths."""
    whole = np.asarray(whole, np.int64)
    return cls(what, int((whole > length).sum()), length, whole)

  @property
  def lost(self) -> float:
    """The share of all tokens that were cut off."""
    off = np.maximum(self.whole - self.length, 0)
    return float(off.sum()) / max(1, int(self.whole.sum()))

  def enough(self, share: float = 0.99) -> int:
    """The least length that leaves this share of the texts whole."""
    place = math.ceil(share * len(self.whole)) - 1
    return int(np.sort(self.whole)[max(0, place)])


class Encoded(NamedTuple):
  """The examples of a split as tokens, and what was cut."""

  examples: pipeline.Examples
  cut: tuple[Cut, ...]


class Facts(NamedTuple):
  """What an objective must know of a task."""

  # Numbers that the head gives for an example.
  outputs: int = 0
  # The labels (first, end) of every task that shares the head.
  groups: tuple = ()
  # How much of a target is spread over all classes, or all tokens.
  smoothing: float = 0.0
  # What an example of every class weighs; () where all weigh 1.
  class_weights: tuple[float, ...] = ()
  writer: Writer = Writer()
  # What cosines are divided by, and whether both texts of a pair ask for the other.
  temperature: float = 0.05
  symmetric: bool = False


@dataclasses.dataclass(frozen=True)
class Problem:
  """A kind of task. An array `targets` has one target for every example of a split.

  name: how files and configs call it.
  head: the head of the model that answers. kinds: the kinds of model that can have it.
  fresh_head: does a task bring a head of its own? Else the model keeps the one it has.
  answer: what the model is asked for: logits of its head, texts that it generates, or
    the likelihood of texts that are there, of which nothing is learned.
  scores: the names of the metrics that there are for it. metrics, headline: those of a
    task that does not say itself, and the value among them that a table shows.
  form: of a target: the number of one class, a 0 or 1 for each of a set of labels, a
    number, a text, the turns of a conversation, the place of a candidate, what each
    candidate is worth, a tag for every word, or a part of a passage.
  outputs(labels) -> how many numbers the head gives for an example.
  from_column(opened, known) -> the column of targets in a user's files: how a record of
    them is read, the labels, and what it holds. opened: these files. known: what a model
    answers that is tried on the task, or None. Without it no file has such targets.
  gather(examples) -> targets of these examples.
  encode(texts, targets, tokenizer, limits) -> Encoded.
  objective(facts) -> what a model is trained on.
  decide(raw, targets, groups) -> predictions, from what the model answered. Of tasks
    that share a model the target says whose labels count.
  plain(values) -> targets or predictions as the metrics take them.
  read(value, labels) -> a target or a prediction as a person reads it.
  probabilities(outputs) -> those of the labels (n, labels). None: there are none.
  count(targets, labels) -> how many examples every label has.
  line(text, target, prediction, raw, labels) -> what predictions.jsonl has of an example.
  written(targets) -> the texts among the targets.
  ask(texts) -> targets of texts whose answers nobody knows, so that `encode` takes them.
  end(tokenizer) -> the piece that ends an answer; None where the model says it.
  told(tokenizer) -> lines on how its examples are put.
  move(target, places, labels) -> the target for a model that has so many labels, those
    of the task at these places. None: it is the same whatever the labels are called.
  metrics_of(labels) -> the metrics of a task with these labels that does not say itself.
    None: `metrics`, whatever the labels are.
  collect(outputs, tokens, numbers, targets) -> what the model answered of the examples
    with these numbers, where it answers parts of them one by one, such as words. Its
    outputs (units, labels) are for those of all of them, one after the other, of which
    `tokens.units` says how many each has. None: it answers an example as a whole.
  in_doubt(raw, targets) -> (the answers as if there were one to every example, how much
    more the model says that there is none), for metrics that look at both. None: an
    example always has an answer.
  """

  name: str
  head: str
  kinds: tuple[str, ...]
  fresh_head: bool
  answer: Literal['logits', 'generate', 'likelihood']
  form: Literal[
    'class', 'set', 'number', 'text', 'turns', 'place', 'worths', 'tags', 'span'
  ]
  scores: tuple[str, ...]
  metrics: tuple[str, ...]
  headline: str
  outputs: Callable[[int], int]
  from_column: Callable[[Any, Any], tuple[Callable, tuple[str, ...], str]] | None
  gather: Callable[[list[Example]], Array]
  encode: Callable[[list[str], Array, Any, Limits], Encoded]
  objective: Callable[[Facts], Objective]
  decide: Callable[[Any, Array, tuple], Any]
  plain: Callable[[Any], list]
  read: Callable[[Any, tuple[str, ...]], Any]
  count: Callable[[Array, int], list[int]]
  line: Callable[..., dict[str, Any]]
  written: Callable[[Array], list[str]] = lambda targets: []
  ask: Callable[[list[str]], Array] | None = None
  end: Callable[[Any], int | None] = lambda tokenizer: None
  told: Callable[[Any], list[str]] = lambda tokenizer: []
  move: Callable[[Any, list[int], int], Any] | None = None
  probabilities: Callable[[Array], Array] | None = None
  metrics_of: Callable[[tuple[str, ...]], tuple[str, ...]] | None = None
  collect: Callable[[Array, Any, Array, Array], Array] | None = None
  in_doubt: Callable[[Array, Array], tuple[list, Array]] | None = None

  @property
  def exclusive(self) -> bool:
    """Has every example exactly one label, so that its target is a class?"""
    return self.form == 'class'
