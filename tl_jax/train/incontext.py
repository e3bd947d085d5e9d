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
from tl_jax.train import likelihoods, notes, restoring, writing
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
# Answers that are looked at together behind an answer context.
OFFERED = 16


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
      made = self._answered(asking, run)
    for line in made.notes:
      reporter.info(line)
    made = made._replace(notes=(*told, *made.notes))
    return conclude(self.corpus, made, settings, run, reporter)

  def _answered(self, asking: '_Asking', run: Run) -> Answered:
    """What the model says of the test examples, as the kind of the task wants it."""
    problem = self.corpus.task.problem
    if problem.answer == 'generate':
      return asking.write(run)
    if problem.name == 'last_word':
      return asking.say_last_words()
    if problem.name == 'minimal_pairs':
      return asking.compare_pairs()
    return asking.rank()

  def _asking(self, settings: Transfer, reporter: Reporter) -> '_Asking':
    loaded = restoring.open_source(settings.init)
    problem = self.corpus.task.problem
    likelihoods.require_model(settings, problem, loaded.arch)
    if problem.answer == 'likelihood':
      shots = prompting_of(settings).shots
      own = self.corpus.train.texts, self.corpus.test.texts
      likelihoods.require_demonstrations(shots, problem, *own)
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
    """Scores of the labels, or of its own candidates, of each test example."""
    prompting = self._prompting
    offered = self._offers(self.corpus.test.texts)
    spelled = self._spelled(offered)
    numbers = self._drawn()
    prompter = self._prompter(max(map(len, spelled.values())))
    asked, empty = self._ask(prompter, numbers)
    ranker = self._ranker()
    sums, content_free = self._sums(ranker, asked, empty, spelled)
    anywhere = _unconditional(ranker, prompter.context(), spelled)

    def table(value, missing: float) -> np.ndarray:
      return _table([[value(word) for word in each.words] for each in offered], missing)

    found = scores.Found(
      sums,
      table(lambda word: len(spelled[word]), 1),
      table(len, 1),
      table(anywhere.__getitem__, 0),
      content_free,
    )
    is_there = np.isfinite(sums)
    by_name = {}
    for name, values in scores.scores(found).items():
      by_name[name] = np.where(is_there, values, models.NO_CANDIDATE)
    metrics, ends = self._metrics_of_all(by_name)
    return Answered(
      by_name[prompting.score].astype(np.float32),
      _count(numbers),
      self._notes(asked),
      metrics,
      _lines(by_name, asked, offered),
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
    asked, _ = self._ask(prompter, numbers)
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

  def say_last_words(self) -> Answered:
    """How probable the last word of each test text is, and whether the model says it.

    The demonstrations are whole texts of the train split.
    """
    test = self.corpus.test
    words = list(test.targets)
    # Whatever the room: how long they are is what is asked for.
    spelled = self._prompter(0).answers(words)
    longest = max(map(len, spelled))
    prompter = self._prompter(longest)
    numbers = self._drawn()
    asked, _ = self._ask(prompter, numbers)
    likelihoods.require_whole(asked, prompter.room)
    requests = []
    for each, ids in zip(asked, spelled, strict=True):
      request = ranking.Request(each.ids, [ids])
      requests.append(request)
    ranker = self._ranker()
    watch = self._watch(0, len(requests))
    found = []
    for each in ranker.rank(requests, watch):
      both = each.sums[0], each.greedy[0]
      found.append(both)
    found = np.array(found)
    notes = self._notes(asked)
    parameters = tree.count(self.loaded.params)
    shown = _count(numbers)
    return Answered(found, shown, notes, parameters=parameters)

  def compare_pairs(self) -> Answered:
    """The likelihoods of both sentences of each test pair."""
    # Whatever the prompt: a sentence is judged as it stands.
    pairs = self.corpus.test.texts
    loaded = self.loaded
    if loaded.arch.kind == 'decoder':
      begin = prompts.beginning(loaded.tokenizer, self._prompting.begin)
      given = loaded.tokenizer, pairs, begin, self._progress
      found = likelihoods.of_decoder(self._ranker(), *given)
    else:
      batch = self.settings.data.batch
      rows = likelihoods.Rows(batch, self.mesh.size, self._placed)
      found = likelihoods.of_encoder(loaded, self.params, pairs, rows, self._progress)
    parameters = tree.count(self.loaded.params)
    told = ("the intervals of paradigms are Wilson's",)
    return Answered(found, 0, told, parameters=parameters)

  @property
  def _prompting(self) -> tasks.Prompting:
    return prompting_of(self.settings)

  @property
  def _words(self) -> tuple[str, ...]:
    """What is written for each label; () where there are none."""
    return self._prompting.words_of(self.corpus.task.labels)

  def _offers(self, texts: Sequence[str]) -> list[prompts.Offer]:
    return prompts.offers(texts, self.corpus.task.labels, self._words)

  def _spelled(self, offered: Sequence[prompts.Offer]) -> dict[str, list[int]]:
    """The ids of all answers that are offered, by their words."""
    words = list(dict.fromkeys(word for each in offered for word in each.words))
    # Whatever the room: how long they are is what is asked for.
    return dict(zip(words, self._prompter(0).answers(words), strict=True))

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
    self, prompter: prompts.Prompter, numbers: list[list[int]]
  ) -> tuple[list[prompts.Asked], dict]:
    """(the prompt of each test example; `keys` of all of them, and by key the `prompts`
    of inputs that say nothing).

    A key is what calibration must repeat: the demonstrations that are in a prompt, and
    the answers that are offered.
    """
    offered = self._offers(self.corpus.test.texts)
    shown = [self._shown(each) for each in numbers]
    asked = prompter.ask([each.question for each in offered], shown)
    keys = []
    empty: dict[tuple, list[prompts.Asked]] = {}
    for place, found in enumerate(asked):
      key = tuple(numbers[place][: found.shots]), offered[place].words
      keys.append(key)
      if self._calibrates and key not in empty:
        own = shown[place][: found.shots]
        texts = self._prompting.content_free
        empty[key] = prompter.ask(texts, [own] * len(texts))
    return asked, dict(keys=keys, prompts=empty)

  def _shown(self, numbers: list[int]) -> list[prompts.Demonstration]:
    """Train examples with the words of their answers."""
    train = self.corpus.train
    found = []
    for offer, number in zip(
      self._offers([train.texts[number] for number in numbers]), numbers, strict=True
    ):
      target = train.targets[number]
      found.append((offer.question, self._spelled_answer(offer, target)))
    return found

  def _spelled_answer(self, offer: prompts.Offer, target) -> str:
    """The words of the right answer of a train example."""
    answer = self.corpus.task.problem.answer
    if answer == 'generate':
      return target[0]
    return target if answer == 'likelihood' else offer.words[target]

  @property
  def _calibrates(self) -> bool:
    prompting, task = self._prompting, self.corpus.task
    if task.problem.answer != 'logits':
      return False
    # Where examples differ in demonstrations or in what they offer, it takes several
    # times as long.
    is_shared = prompting.draw == 'run' and task.problem.exclusive
    return is_shared or prompting.score == 'calibrated'

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

  def _sums(
    self, ranker: ranking.Ranker, asked, empty: dict, spelled: dict
  ) -> tuple[np.ndarray, Any]:
    """(log-probabilities (n, answers), those (n, m, answers) of m inputs that say
    nothing, or None); -inf where an example offers fewer answers.
    """
    keys = empty['keys']
    most = max(len(words) for _, words in keys)
    by_key: dict[tuple, np.ndarray] = {}
    sums = np.full((len(asked), most), -np.inf)
    done = 0
    for places in self._together(keys):
      told = [(asked[place], keys[place]) for place in places]
      # In this order, whatever the order of a set.
      own_keys = list(dict.fromkeys(key for _, key in told))
      for key in own_keys:
        told += zip(empty['prompts'].get(key, ()), itertools.repeat(key))
      requests = [_request(*each, spelled) for each in told]
      found = ranker.rank(requests, self._watch(done, len(asked)))
      values = _table([each.sums for each in found], -np.inf, most)
      done += len(places)
      sums[places] = values[: len(places)]
      by_key |= _shared_out(values[len(places) :], own_keys)
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
    for place, (shown, _) in enumerate(keys):
      groups[shown].append(place)
    yield from groups.values()

  def _watch(self, done: int, total: int) -> Callable[[int], None]:
    def watch(ranked: int) -> None:
      self._progress(min(done + ranked, total), total)

    return watch

  def _progress(self, done: int, total: int) -> None:
    self.reporter.progress(f'{self.corpus.name}, in context', done, total)

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


def _request(asked: prompts.Asked, key: tuple, spelled: dict) -> ranking.Request:
  """A prompt with the answers that are offered."""
  _, words = key
  return ranking.Request(asked.ids, [spelled[word] for word in words])


def _shared_out(values: np.ndarray, keys: Sequence[tuple]) -> dict[tuple, np.ndarray]:
  """Rows of equal numbers for each key, in order; nothing where there are none."""
  if not len(values):
    return {}
  return dict(zip(keys, np.split(values, len(keys)), strict=True))


def _unconditional(
  ranker: ranking.Ranker, context: Sequence[int], spelled: dict[str, list[int]]
) -> dict[str, float]:
  """log P(answer | answer context) of all answers, by their words."""
  found = {}
  words = list(spelled)
  some = [words[first : first + OFFERED] for first in range(0, len(words), OFFERED)]
  requests = [
    ranking.Request(context, [spelled[word] for word in each]) for each in some
  ]
  for each, ranked in zip(some, ranker.rank(requests), strict=True):
    found |= dict(zip(each, ranked.sums.tolist(), strict=True))
  return found


def _table(
  rows: Sequence[Sequence[float]], missing: float, most: int = 0
) -> np.ndarray:
  """Rows of different lengths as float64 (n, most), `missing` behind the shorter ones."""
  most = most or max(map(len, rows))
  found = np.full((len(rows), most), missing, np.float64)
  for place, row in enumerate(rows):
    found[place, : len(row)] = row
  return found


def _lines(
  by_name: dict, asked: Sequence[prompts.Asked], offered: Sequence[prompts.Offer]
) -> list[dict]:
  """What predictions.jsonl has of each example: all scores by label or candidate, and
  how many demonstrations were in its prompt.
  """
  lines = []
  for place, (each, offer) in enumerate(zip(asked, offered, strict=True)):
    found = {}
    for name, values in by_name.items():
      own = values[place, : len(offer.names)]
      rounded = [round(float(value), DIGITS) for value in own]
      found[name] = dict(zip(offer.names, rounded, strict=True))
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
