"""Runs in which a model learns nothing but what stands in its prompt: demonstrations of
the train split, and the question (Brown et al. 2020, section 2).

>>> said_of_shots([4, 4, 3], 4)
'4 demonstrations in a prompt; 1 of 3 prompts has room for fewer, for 3 at the least'
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax import evals, interop, models, parallel, tasks, tree
from tl_jax.config import ConfigError
from tl_jax.evals import intervals, ranking, scores
from tl_jax.tasks import prompts
from tl_jax.train import notes, restoring, writing
from tl_jax.train.baselines import Answered, conclude
from tl_jax.train.datasets import TaskExamples, limits_of
from tl_jax.train.methods import prompting_of
from tl_jax.train.reporter import NULL_REPORTER, Reporter
from tl_jax.train.settings import Transfer
from tl_jax.train.workdir import Run

# Tokens of a text that is written, where nobody says it.
WRITTEN = 32
# Digits of a score in predictions.jsonl.
DIGITS = 6


class InContext(NamedTuple):
  """The examples of a task, put to a model as they are; it runs as a trainer does."""

  corpus: TaskExamples
  mesh: jax.sharding.Mesh

  def run(
    self, settings: Transfer, run: Run, reporter: Reporter = NULL_REPORTER
  ) -> dict:
    """Asks the model of `config.init` about each test example, and judges its answers
    as those of a transfer; returns what result.json holds.

    Raises ConfigError for a model that writes no text, or without room for a text.
    """
    told = notes.told(self.corpus.task)
    for line in told:
      reporter.info(line)
    with jax.set_mesh(self.mesh):
      asking = self._asking(settings, reporter)
      if self.corpus.task.problem.answer == 'generate':
        made = asking.write(run)
      else:
        made = asking.rank()
    for line in made.notes:
      reporter.info(line)
    made = made._replace(notes=(*told, *made.notes))
    return conclude(self.corpus, made, settings, run, reporter)

  def _asking(self, settings: Transfer, reporter: Reporter) -> '_Asking':
    loaded = restoring.open_source(settings.init)
    if loaded.arch.kind == 'encoder' or loaded.arch.head != 'causal':
      raise ConfigError(
        f'config.init: {settings.init}: an {loaded.arch.kind} with the head '
        f'{loaded.arch.head!r} writes no text; in_context needs one that does'
      )
    params = parallel.place(loaded.params, parallel.replicated(self.mesh))
    pool = self.corpus.draw(settings).trained
    return _Asking(self.corpus, settings, loaded, params, self.mesh, pool, reporter)


class _Asking(NamedTuple):
  """A model on the devices, with the examples that it is asked about.

  pool: the numbers of the train examples that demonstrations are drawn from.
  """

  corpus: TaskExamples
  settings: Transfer
  loaded: interop.Loaded
  params: Any
  mesh: jax.sharding.Mesh
  pool: np.ndarray
  reporter: Reporter

  def rank(self) -> Answered:
    """Scores of the labels of each test example."""
    prompting, labels = self._prompting, self.corpus.task.labels
    words = prompting.words_of(labels)
    numbers = self._drawn()
    answers = self._prompter(0).answers(words)
    prompter = self._prompter(max(map(len, answers)))
    asked, empty = self._ask(prompter, numbers, words)
    ranker = self._ranker()
    sums, content_free = self._sums(ranker, asked, empty, answers)
    context = ranking.Request(prompter.context(), answers)
    (anywhere,) = ranker.rank([context])
    sizes = np.array([len(ids) for ids in answers])
    characters = np.array([len(word) for word in words])
    found = scores.Found(sums, sizes, characters, anywhere.sums, content_free)
    by_name = scores.scores(found)
    metrics, ends = self._metrics_of_all(by_name)
    return Answered(
      by_name[prompting.score].astype(np.float32),
      _count(numbers),
      self._notes(asked),
      metrics,
      _lines(by_name, asked, labels),
      tree.count(self.loaded.params),
      ends,
    )

  def write(self, run: Run) -> Answered:
    """A text to each test example."""
    task, settings, arch = self.corpus.task, self.settings, self.loaded.arch
    tokenizer = self.loaded.tokenizer
    group = settings.data
    if not group.target_length:
      group = dataclasses.replace(group, target_length=WRITTEN)
    writer = writing.writer_of(task, arch, tokenizer, self.loaded)
    limits = limits_of(settings.task, group, arch, writer, run.path)
    chosen = dict(task.decoding)
    if self._prompting.between and chosen.get('method') != 'beam':
      # What follows would be a demonstration of the model's own.
      chosen.setdefault('stop', (self._prompting.between,))
    decoding = writing.decoding(limits, tokenizer.pad, chosen)
    numbers = self._drawn()
    prompter = self._prompter(limits.target_length)
    asked, _ = self._ask(prompter, numbers, None)
    # Stop strings cut what is written, so that only the first answer counts.
    found = evals.write(
      models.decoder(arch, settings.compute),
      self.params,
      tokenizer,
      [each.ids for each in asked],
      decoding,
      batch=group.batch,
      positions=arch.room,
      multiple=self.mesh.size,
      place=self._placed,
      fetch=parallel.to_host,
    )
    shots = [dict(shots=each.shots) for each in asked]
    parameters = tree.count(self.loaded.params)
    labels = _count(numbers)
    return Answered(found, labels, self._notes(asked), {}, shots, parameters)

  @property
  def _prompting(self) -> tasks.Prompting:
    return prompting_of(self.settings)

  def _drawn(self) -> list[list[int]]:
    """The numbers of the demonstrations of each test example, as they are drawn."""
    train, test = self.corpus.train, self.corpus.test
    prompting = self._prompting
    pool = [train.texts[index] for index in self.pool]
    if prompting.shots > len(pool):
      raise ConfigError(
        f'config.method.shots: {prompting.shots}, but there are {len(pool)} examples to '
        'draw them from'
      )
    asked = test.texts if prompting.draw == 'example' else None
    drawn = prompts.draw(pool, prompting.shots, self.settings.seed, asked)
    if asked is None:
      drawn = drawn * len(test.texts)
    return [self.pool[numbers].tolist() if numbers else [] for numbers in drawn]

  def _prompter(self, longest: int) -> prompts.Prompter:
    arch = self.loaded.arch
    most = arch.max_positions if arch.room is None else arch.room
    room = min(self.settings.data.length, most)
    return prompts.Prompter(
      self._prompting, self.loaded.tokenizer, arch.kind, room, longest
    )

  def _ask(
    self,
    prompter: prompts.Prompter,
    numbers: list[list[int]],
    words: Sequence[str] | None,
  ) -> tuple[list[prompts.Asked], dict]:
    """(the prompt of each test example, by demonstrations the prompts of inputs that say
    nothing).

    words: of the labels; None where targets are texts.
    """
    train, test = self.corpus.train, self.corpus.test
    of_target = (lambda target: target[0]) if words is None else words.__getitem__
    shown = []
    for each in numbers:
      answers = [of_target(train.targets[number]) for number in each]
      texts = [train.texts[number] for number in each]
      shown.append(list(zip(texts, answers, strict=True)))
    asked = prompter.ask(test.texts, shown)
    empty: dict[tuple, list[prompts.Asked]] = {}
    for place, found in enumerate(asked):
      key = self._key(numbers[place], found)
      if words is not None and key not in empty and self._calibrates:
        own = shown[place][: found.shots]
        texts = self._prompting.content_free
        empty[key] = prompter.ask(texts, [own] * len(texts))
    keyed = [self._key(each, found) for each, found in zip(numbers, asked, strict=True)]
    return asked, dict(keys=keyed, prompts=empty)

  # What is in a prompt, not what was drawn: that is what calibration must repeat.
  @staticmethod
  def _key(numbers: list[int], asked: prompts.Asked) -> tuple[int, ...]:
    """The demonstrations that are in a prompt."""
    return tuple(numbers[: asked.shots])

  @property
  def _calibrates(self) -> bool:
    # Where each example has demonstrations of its own, it takes several times as long.
    prompting = self._prompting
    return prompting.draw == 'run' or prompting.score == 'calibrated'

  def _ranker(self) -> ranking.Ranker:
    settings, arch = self.settings, self.loaded.arch
    start: tuple[int, ...] = ()
    if arch.kind == 'encoder-decoder':
      writer = writing.writer_for(
        tasks.PROBLEMS['text'], arch, self.loaded.tokenizer, self.loaded
      )
      start = (writer.start, *writer.begin)
    return ranking.Ranker(
      models.decoder(arch, settings.compute),
      self.params,
      start=start,
      rows=settings.data.batch,
      room=arch.room,
      multiple=self.mesh.size,
      place=self._placed,
      fetch=parallel.to_host,
    )

  def _placed(self, batch: dict) -> dict:
    sharding = parallel.batch_sharding(self.mesh)
    return parallel.place_batch(batch, sharding, len(batch['tokens']))

  def _sums(self, ranker, asked, empty: dict, answers) -> tuple[np.ndarray, Any]:
    """(log-probabilities (n, labels), those (n, m, labels) of m inputs that say nothing,
    or None).
    """
    keys = empty['keys']
    by_key: dict[tuple, np.ndarray] = {}
    sums = np.zeros((len(asked), len(answers)))
    done = 0
    for places in self._together(keys):
      # In this order, whatever the order of a set.
      own_keys = list(dict.fromkeys(keys[place] for place in places))
      nothing = [empty['prompts'].get(key, ()) for key in own_keys]
      prompts_ = [asked[place] for place in places]
      prompts_ += itertools.chain.from_iterable(nothing)
      requests = [ranking.Request(each.ids, answers) for each in prompts_]
      found = ranker.rank(requests, self._watch(done, len(asked)))
      done += len(places)
      values = np.array([each.sums for each in found])
      sums[places] = values[: len(places)]
      rest = values[len(places) :]
      if len(rest):
        by_key.update(zip(own_keys, np.split(rest, len(own_keys)), strict=True))
    if not by_key:
      return sums, None
    return sums, np.array([by_key[key] for key in keys])

  def _together(self, keys: list[tuple]) -> Iterator[list[int]]:
    """The numbers of examples whose prompts are ranked together.

    These have the same demonstrations, which are then read once; where each example has
    demonstrations of its own, nothing would be shared.
    """
    if self._prompting.draw == 'example':
      yield list(range(len(keys)))
      return
    groups = collections.defaultdict(list)
    for place, key in enumerate(keys):
      groups[key].append(place)
    yield from groups.values()

  def _watch(self, done: int, total: int) -> Callable[[int], None]:
    def watch(ranked: int) -> None:
      so_far = min(done + ranked, total)
      self.reporter.progress(f'{self.corpus.name}, in context', so_far, total)

    return watch

  def _metrics_of_all(self, by_name: dict[str, np.ndarray]) -> tuple[dict, dict]:
    """The headline by every score, as `calibrated/accuracy`, and its intervals."""
    task, targets = self.corpus.task, self.corpus.test.targets
    metrics = {}
    ends = {}
    for name, values in by_name.items():
      raw = values.astype(np.float32)
      own = tasks.score(task, raw, targets)
      metrics[f'{name}/{task.headline}'] = own[task.headline]
      own_ends = intervals.of_task(task, raw, targets, own)
      # Of some metrics no draw of examples says how sure they are.
      if task.headline in own_ends:
        ends[f'{name}/{task.headline}'] = own_ends[task.headline]
    return metrics, ends

  def _notes(self, asked: list[prompts.Asked]) -> tuple[str, ...]:
    shots = [each.shots for each in asked]
    lines = [said_of_shots(shots, self._prompting.shots)]
    cut = sum(each.is_cut for each in asked)
    if cut:
      lines.append(
        f'{cut} of {len(asked)} test texts cut to what fits (config.data.length)'
      )
    return tuple(lines)


def _count(numbers: Sequence[Sequence[int]]) -> int:
  """How many examples are shown in all, each counted once."""
  return len(set(itertools.chain.from_iterable(numbers)))


def _lines(by_name: dict, asked: Sequence[prompts.Asked], labels) -> list[dict]:
  """What predictions.jsonl has of each example: all scores by label, and how many
  demonstrations were in its prompt.
  """
  lines = []
  for place, each in enumerate(asked):
    found = {}
    for name, values in by_name.items():
      rounded = [round(float(value), DIGITS) for value in values[place]]
      found[name] = dict(zip(labels, rounded, strict=True))
    lines.append(dict(scores=found, shots=each.shots))
  return lines


def said_of_shots(shots: Sequence[int], wanted: int) -> str:
  """A line on how many demonstrations are in the prompts, of as many as are wanted."""
  line = f'{wanted} demonstrations in a prompt'
  fewer = [count for count in shots if count < wanted]
  if not fewer:
    return line
  verb = 'has' if len(fewer) == 1 else 'have'
  return (
    f'{line}; {len(fewer)} of {len(shots)} prompts {verb} room for fewer, for '
    f'{min(fewer)} at the least'
  )
