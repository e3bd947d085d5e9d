"""What evaluates the states of a run: an objective on texts, or a task on its test split.

>>> sum_up({'loss/masked': (6.0, 3.0), 'accuracy': (1.0, 2.0)})
{'loss': 2.0, 'perplexity': 7.38905609893065, 'accuracy': 0.5}
"""

import logging
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from tl_jax import config as configs
from tl_jax import data, evals, layers, models, parallel, rng, tasks
from tl_jax.evals.calibrating import Answers
from tl_jax.evals.intervals import of_task
from tl_jax.train import mixtures, programs, writing
from tl_jax.train.assembly import Components
from tl_jax.train.compilation import together
from tl_jax.train.course import Watch
from tl_jax.train.datasets import Labelled, Portion, TaskExamples, labelled_pass
from tl_jax.train.features import EvaluationInputs, FeatureCache, holds_body
from tl_jax.train.preparing import Prepared
from tl_jax.train.results import digest_split
from tl_jax.train.settings import Pretrain, TaskData
from tl_jax.train.step import averaged
from tl_jax.train.tokenizing import of_documents

_LOG = logging.getLogger(__name__)


class Evaluation(NamedTuple):
  """What a state is worth on the test split.

  count: how many examples it was evaluated on. examples: a digest of these. outputs:
  what the model says of each, where there is something to keep: numbers (count, labels)
  or so many texts. intervals: of the metrics that have one over the examples.
  """

  metrics: dict[str, float]
  count: int
  examples: str
  outputs: Any = None
  intervals: Mapping[str, tuple[float, float]] = {}


class Evaluator(Protocol):
  """What reads the data of a run on its mesh."""

  def training_rows(self, stream, state, first: int, last: int):
    """The stream as the step reads it, for a run of this state from step `first` to
    step `last`.
    """

  def watch(self, portion: Portion | None) -> Watch:
    """What measures states in the midst of a run: on a portion of the examples of a
    task, in pre-training on the test texts.
    """

  def evaluate(self, state) -> Evaluation:
    """All that is kept of the last state of a run."""


def make_evaluator(ready: Prepared, sharding) -> Evaluator:
  """What evaluates states of a run on a mesh."""
  if ready.task is None:
    return _mixture_evaluator(ready, sharding)
  if ready.task.problem.answer == 'logits':
    return TaskEvaluator(ready.corpus, ready.parts, sharding)
  settings = ready.settings
  return TextEvaluator(
    ready.task,
    ready.corpus.test,
    settings.data,
    ready.parts,
    models.decoder(ready.parts.model.arch, settings.compute),
    ready.tokenizer,
    sharding,
    ready.corpus.training_texts(),
    watches_texts=settings.eval.write,
  )


def merging(parts: Components) -> Callable:
  """A function from a state to the parameters of the model, in the form of the state."""
  merge = together(programs.merged_params(parts))

  def merged_of(state):
    # Where all leaves have names, there is nothing to compile for.
    if layers.is_held(state):
      return merge(state)
    return parts.method.merge(averaged(state), state.frozen)

  return merged_of


def _mixture_evaluator(ready: Prepared, sharding) -> 'MixtureEvaluator':
  return MixtureEvaluator(
    ready.settings, ready.parts, ready.tokenizer, ready.cache, sharding
  )


class MixtureEvaluator:
  """The objective on the mixture's test texts, with the same draws every time."""

  def __init__(
    self,
    settings: Pretrain,
    parts: Components,
    tokenizer,
    folder: pathlib.Path,
    sharding,
  ):
    self._settings, self._parts, self._sharding = settings, parts, sharding
    sources = mixtures.mixture_texts(settings.data, 'test')
    segments = parts.objective.segments
    if segments is not None:
      # Of each test text the same pairs once.
      segments = segments._replace(duplicates=1)
    self._rows = mixtures.rows_for(settings.data, parts.objective)
    reader = of_documents(tokenizer, parts.model.arch)
    self._examples = mixtures.encode_mixture(
      sources, self._rows, reader, folder, segments, whole=True
    )
    self._pad = tokenizer.pad
    self._held = parallel.host_rows(sharding, settings.data.batch)
    # Not of the step: all points of a curve are of the same masked tokens.
    key = rng.stream(settings.seed, 'evaluation')
    self._sums = together(programs.loss_sums(parts, key))
    self._merged = merging(parts)

  def training_rows(self, stream, state, first: int, last: int):
    """The stream itself."""
    del state, first, last
    return stream

  def watch(self, portion: Portion | None) -> Watch:
    """The test texts: nothing that is learned is chosen by them."""
    del portion
    return Watch('test', 'loss', self.metrics)

  def metrics(self, state) -> dict[str, float]:
    """Loss, perplexity and the objective's metrics, and how many `examples` were seen.

    Of a mixture of several sources each has its own, too, as `SOURCE/loss`.
    """
    return self.measure(self._merged(state))

  def evaluate(self, state) -> Evaluation:
    metrics = self.metrics(state)
    return Evaluation(metrics, int(metrics.pop('examples')), self._digest())

  def measure(self, params) -> dict[str, float]:
    """The metrics of merged parameters."""
    parts = {}
    first = 0
    for name in self._examples:
      found = add_up(self._sums, params, self._batches(name), first)
      first += found.batches
      parts[name] = found
    whole = sum(parts.values(), Sums())
    # Of short texts nothing may be hidden: a loss of 0 that no model has earned.
    if whole.is_empty:
      _LOG.warning(
        'test: the objective asks for nothing in %d examples, so that their loss says '
        'nothing; more or longer test texts would',
        whole.examples,
      )
    metrics = sum_up(whole.totals)
    # A single source is the whole.
    if len(parts) > 1:
      metrics |= _of_sources(parts)
    return dict(**metrics, examples=whole.examples)

  def _batches(self, name: str) -> Iterator[dict]:
    """The batches of a source on the mesh: of each as many, so that none is left out."""
    settings = self._settings
    # 0 batches, which means all, stay None.
    most = -(-settings.eval.batches // len(self._examples)) or None
    batches = data.evaluation(
      self._examples[name],
      length=self._rows.length,
      room=self._rows.room,
      examples_per_row=self._rows.pairs,
      batch=settings.data.batch,
      pack=settings.data.pack,
      pad=self._pad,
      rows=self._held,
      batches=most,
    )
    for batch in batches:
      rows = settings.data.batch
      yield parallel.place_batch(batch, self._sharding, rows, self._held)

  def _digest(self) -> str:
    """A digest of the tokens that are seen: texts and tokenizer, and the rows where
    only some are.
    """
    settings = self._settings
    seen = {name: part.tokens.key for name, part in self._examples.items()}
    if settings.eval.batches:
      group = settings.data
      seen['rows'] = [settings.eval.batches, group.batch, group.length, group.pack]
    return configs.digest(seen)[:16]


class Sums(NamedTuple):
  """What an objective adds up to over batches: name -> (sum, weight); the examples in
  them, and how many batches they are.
  """

  totals: Mapping[str, tuple[float, float]] = {}
  examples: int = 0
  batches: int = 0

  @property
  def is_empty(self) -> bool:
    """Was nothing asked that the loss counts?"""
    terms = [name for name in self.totals if name.startswith('loss/')]
    return not any(self.totals[name][1] for name in terms)

  def __add__(self, other: 'Sums') -> 'Sums':
    totals = dict(self.totals)
    for name, (total, weight) in other.totals.items():
      before, weight_before = totals.get(name, (0.0, 0.0))
      totals[name] = (before + total, weight_before + weight)
    examples = self.examples + other.examples
    return Sums(totals, examples, self.batches + other.batches)


def add_up(sums: Callable, params, batches: Iterable, first: int = 0) -> Sums:
  """The sums of an objective over batches, whose draws are those of the numbers from
  `first` on.

  sums: as `programs.loss_sums`.
  """
  # Sums in Python's floats, divided at the end: batches count by what is in them, and
  # many of them lose no digits.
  whole = Sums()
  for index, batch in enumerate(batches, first):
    found, count = jax.device_get(sums(params, batch, index))
    totals = {}
    for name, (total, weight) in found.items():
      totals[name] = (float(total), float(weight))
    whole += Sums(totals, int(count), 1)
  return whole


def _of_sources(parts: Mapping[str, Sums]) -> dict[str, float]:
  """SOURCE/METRIC of every source of which something was asked.

  >>> _of_sources({'austen': Sums({'loss/causal': (6.0, 3.0)}, 1, 1), 'none': Sums()})
  {'austen/loss': 2.0, 'austen/perplexity': 7.38905609893065}
  >>> list(_of_sources({'texts/': Sums({'loss/causal': (6.0, 3.0)}, 1, 1)}))
  ['texts/loss', 'texts/perplexity']
  """
  metrics = {}
  for source, part in parts.items():
    # Nothing is not the best text of all.
    if part.is_empty:
      continue
    found = sum_up(part.totals)
    # A folder may be named with a slash at its end.
    own = source.rstrip('/')
    metrics |= {f'{own}/{name}': value for name, value in found.items()}
  return metrics


def sum_up(totals: dict[str, tuple[float, float]]) -> dict[str, float]:
  """The means of name -> (sum, weight), with those of loss/TERM added up to the loss.

  A loss of one term is a likelihood, which has a perplexity. Of several terms each is
  given apart, as loss/TERM: their sum says nothing of tokens.

  >>> sum_up({'loss/causal': (6.0, 3.0), 'loss/z': (3.0, 3.0)})
  {'loss': 3.0, 'loss/causal': 2.0, 'loss/z': 1.0}
  """
  terms = {}
  others = {}
  for name, (total, weight) in totals.items():
    found = terms if name.startswith('loss/') else others
    found[name] = total / max(weight, 1e-9)
  loss = sum(terms.values())
  if len(terms) > 1:
    return dict(loss=loss) | terms | others
  # exp(700) is nearly the largest float.
  return dict(loss=loss, perplexity=math.exp(min(loss, 700.0)), **others)


class TaskEvaluator:
  """The task's metrics on its test split, by one compiled forward pass."""

  def __init__(self, corpus: TaskExamples, parts: Components, sharding=None):
    self._task, self._test = corpus.task, corpus.test
    self._inputs = EvaluationInputs(corpus, parts, sharding)
    self._features = None
    if holds_body(parts):
      self._features = FeatureCache(corpus, parts, self._inputs)
    # One program for texts and features: jit tells the batches apart by their keys.
    self._forward = together(programs.outputs(parts))

  def training_rows(self, stream, state, first: int, last: int):
    """The rows of the stream, with features in the place of tokens where the body is
    held.
    """
    if self._features is None:
      return stream
    return self._features.featured(stream, state, first, last)

  def watch(self, portion: Portion) -> Watch:
    """The task's metrics on a portion, by which its headline tells a better state."""
    batches: list[dict] = []

    def measure(state) -> dict[str, float]:
      # Laid into rows once: a run does not change them, nor the body that it holds.
      if not batches:
        batches.extend(self._batches(portion, state))
      found = self._answers(state, batches, portion)
      return tasks.score(self._task, found, portion.targets)

    return Watch('validation', self._task.headline, measure)

  def answers(self, state, portion: Portion) -> Answers:
    """What the model says of the examples of a portion."""
    raw = self._answers(state, self._batches(portion, state), portion)
    return Answers(raw, portion.targets)

  def _batches(self, portion: Portion, state) -> Iterator[dict]:
    """The batches of a portion, whose examples are numbered from 0."""
    split, numbers = portion
    place = tasks.places(portion.sizes, numbers)
    batches = self._inputs.batches(split, numbers)
    if self._features is not None:
      batches = self._features.batches(split, numbers, state)
    for batch in batches:
      # An empty place, -1, finds the last of the places, which is nobody's.
      yield batch | dict(identifiers=place[batch['identifiers']])

  def outputs(self, state) -> np.ndarray:
    """What the model says of every test example, float32 (n, labels)."""
    batches = self._inputs.test
    if self._features is not None:
      batches = self._features.test(state)
    return self._answers(state, batches, Portion.of(self._test))

  def _answers(self, state, batches: Iterable, portion: Portion) -> np.ndarray:
    """What the model says of the examples of a portion, which the batches hold."""

    def outputs(count: int) -> np.ndarray:
      return evals.outputs(self._apply, state, batches, count)

    return portion.collected(self._task, outputs)

  def evaluate(self, state) -> Evaluation:
    """The metrics, with a digest of the test split and all outputs."""
    outputs = self.outputs(state)
    digest = digest_split(self._task, self._test)
    metrics = tasks.score(self._task, outputs, self._test.targets)
    spread = of_task(self._task, outputs, self._test.targets, metrics)
    return Evaluation(metrics, len(self._test.texts), digest, outputs, spread)

  def _apply(self, state, batch) -> np.ndarray:
    return parallel.to_host(self._forward(state, self._inputs.place(batch)))


class TextEvaluator:
  """A task whose answers are texts on its test split.

  In the midst of a run that is the loss of the targets, each token of which is predicted
  from the right ones before it. At the end the model writes texts of its own, as the
  task says, and these are scored. trained: the texts that it learned from.
  watches_texts: are texts written and scored in the midst, too?
  """

  def __init__(
    self,
    task: tasks.Task,
    test: Labelled,
    group: TaskData,
    parts: Components,
    decoder: models.Decoder,
    tokenizer,
    sharding,
    trained: Sequence[str],
    watches_texts: bool = False,
  ):
    self._task, self._test, self._group = task, test, group
    self._trained, self._watches_texts = trained, watches_texts
    self._parts, self._decoder = parts, decoder
    self._tokenizer, self._sharding = tokenizer, sharding
    # Without smoothing, so that the loss is that of the targets whatever is learned.
    objective = task.problem.objective(task.facts(writer=test.limits.writer))
    plain = parts._replace(objective=objective)
    # Nothing is drawn: what is predicted are the targets.
    self._sums = together(programs.loss_sums(plain, jax.random.key(0)))
    self._merge = merging(parts)
    self._named = together(programs.named_params())

  def training_rows(self, stream, state, first: int, last: int):
    """The stream itself."""
    del state, first, last
    return stream

  def watch(self, portion: Portion) -> Watch:
    """The loss of the targets of a portion, which is what tells a better state; or the
    task's metrics of the texts that it writes, which takes much longer.
    """

    def measure(state) -> dict[str, float]:
      params = self._merged(state)
      if not self._watches_texts:
        return self.loss(params, portion)
      metrics, _ = self.measure(params, portion)
      return metrics

    better = self._task.headline if self._watches_texts else 'loss'
    return Watch('validation', better, measure)

  def evaluate(self, state) -> Evaluation:
    metrics, texts = self.measure(self._merged(state), Portion.of(self._test))
    digest = digest_split(self._task, self._test)
    spread = of_task(self._task, texts, self._test.targets, metrics)
    return Evaluation(metrics, len(texts), digest, texts, spread)

  def measure(self, params, portion: Portion) -> tuple[dict[str, float], list[str]]:
    """(all metrics, the texts that are written) of merged parameters on a portion."""
    texts = self.write(params, portion)
    scores = tasks.score(self._task, texts, portion.targets, self._trained)
    return self.loss(params, portion) | scores, texts

  def loss(self, params, portion: Portion) -> dict[str, float]:
    """Loss, perplexity and accuracy of the tokens of the targets."""
    whole = add_up(self._sums, params, self._batches(portion))
    found = sum_up(whole.totals)
    found['token_accuracy'] = found.pop('accuracy')
    return found

  def write(self, params, portion: Portion) -> list[str]:
    """What the model writes for every example of a portion, in their order."""
    model, (split, numbers) = self._parts.model, portion
    prompts = [tasks.prompt_of(split.examples, index) for index in numbers]
    room = model.arch.room
    if room is not None:
      room -= self._parts.method.reserved_positions
    shape = self._sharding.mesh.shape
    return evals.write(
      self._decoder,
      params,
      self._tokenizer,
      prompts,
      writing.decoding(split.limits, self._tokenizer.pad, self._task.decoding),
      batch=self._group.batch,
      positions=room,
      # The devices that share the rows of a batch have as many each.
      multiple=shape['data'] * shape['fsdp'],
      place=self._place,
      fetch=parallel.to_host,
    )

  def _merged(self, state):
    """Named parameters: a decoder runs its layers one by one."""
    params = self._merge(state)
    return self._named(params) if layers.is_held(params) else params

  def _batches(self, portion: Portion) -> Iterator[dict]:
    """The batches of a portion, on the mesh.

    Raises ValueError for ids that the model has no row for.
    """
    group, pad = self._group, self._tokenizer.pad
    split, numbers = portion
    for batch in labelled_pass(group, split, pad, group.batch, numbers):
      models.require_rows(self._parts.model.arch, batch)
      yield self._place(batch)

  def _place(self, batch: dict) -> dict:
    rows = len(next(iter(batch.values())))
    return parallel.place_batch(batch, self._sharding, rows)
