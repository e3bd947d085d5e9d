"""How many labels a task needs: learning curves of several models, measured on the
labels at hand and carried on.

>>> ahead(100)
[200, 500, 1000]
"""

import dataclasses
import itertools
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax import config as configs
from tl_jax import data, metrics, tasks
from tl_jax.config import ConfigError
from tl_jax.data import subsets
from tl_jax.evals import baselines, forecasting, probes, suggesting
from tl_jax.evals.forecasting import Curve
from tl_jax.evals.probes import Measured
from tl_jax.evals.statistics import Interval
from tl_jax.train import datasets, encoding, rehearsing
from tl_jax.train.reporter import NULL_REPORTER, Reporter
from tl_jax.train.settings import TaskChoice

# Of how many times the labels at hand something is said.
TIMES = (2, 5, 10)
# The fewest labels from which a curve can be told.
FEWEST = 20
TF_IDF = 'TF-IDF'


@dataclasses.dataclass(frozen=True)
class Asked:
  """What is to be forecast.

  task: as a config names it, with its columns. init: folders or workdirs of models.
  labels: how many of the labelled examples are used, drawn by class; 0 for all. times:
  of how many times as many labels something is said. target: the accuracy that is
  wanted; None for none. repeats: of the cross-validation. pool, suggest: a file of
  unlabelled texts, and how many of them are chosen to be labelled next. trained: the
  configs by which each model is also trained, `FILE.py:ARGUMENTS` each.
  """

  task: TaskChoice
  init: tuple[str, ...]
  labels: int = 0
  times: tuple[int, ...] = TIMES
  target: float | None = None
  repeats: int = 5
  seed: int = 0
  dtype: str = ''
  directory: str = ''
  pool: str = ''
  suggest: int = 0
  trained: tuple[str, ...] = ()


class Labelled(NamedTuple):
  """The labelled texts at hand: texts, and the labels (n,) of them."""

  texts: list[str]
  labels: np.ndarray

  @property
  def classes(self) -> int:
    return int(self.labels.max()) + 1

  @property
  def keys(self) -> np.ndarray:
    """The fingerprints (n,) of the texts, the same for texts that are alike."""
    return subsets.fingerprints(self.texts)


class Candidate(NamedTuple):
  """What was found of one way to learn the task.

  name: of the model, or that of the baseline. measured, curve: its errors, and how they
  go on. width: of the vectors; 0 of the baseline. seconds_per_text: to make one, None
  where they were kept from before. log_evidence, h_score: scores of transferability.
  """

  name: str
  measured: Measured
  curve: Curve
  width: int = 0
  seconds_per_text: float | None = None
  log_evidence: float | None = None
  h_score: float | None = None

  def accuracy_at(self, labels: int) -> Interval:
    """The accuracy of training with so many labels, with its interval."""
    # Of all texts there are: nobody's test split adds its noise.
    error = self.curve.error_at(labels)
    return Interval(
      1 - error.mean, 1 - error.high, 1 - error.low, error.n, level=error.level
    )

  def labels_for(self, accuracy: float) -> Interval:
    """How many labels reach an accuracy."""
    return self.curve.labels_for(1 - accuracy)


class Forecast(NamedTuple):
  """What is said of a task: the candidates, the best first, by the accuracy that they
  are expected to have at the first number of labels `ahead`.

  labels: how many are at hand, of these `classes`, the most frequent of which has this
  `share` of them. suggested: texts to label next, in the order in which they are
  wanted, each with how sure the best model is of it; () where nobody asked.
  """

  task: str
  labels: int
  classes: tuple[str, ...]
  share: float
  ahead: list[int]
  target: float | None
  candidates: list[Candidate]
  suggested: tuple = ()
  seconds: float = 0.0

  @property
  def best(self) -> Candidate:
    return self.candidates[0]

  def as_dict(self) -> dict:
    """As JSON has it."""
    found = self._asdict() | dict(suggested=len(self.suggested))
    found['candidates'] = [self._of_candidate(one) for one in self.candidates]
    return found

  def _of_candidate(self, one: Candidate) -> dict:
    measured = one.measured
    points = []
    rows = zip(measured.labels, measured.errors, measured.noise, strict=True)
    for labels, error, noise in rows:
      points.append(dict(labels=labels, accuracy=1 - error, noise=noise))
    forecast = {}
    for labels in (self.labels, *self.ahead):
      forecast[labels] = one.accuracy_at(labels).as_dict()
    needed = None if self.target is None else one.labels_for(self.target).as_dict()
    return dict(
      name=one.name,
      width=one.width,
      seconds_per_text=one.seconds_per_text,
      log_evidence=one.log_evidence,
      h_score=one.h_score,
      measured=points,
      forecast=forecast,
      labels_for_target=needed,
    )


def ahead(labels: int, times: Sequence[int] = TIMES) -> list[int]:
  """The numbers of labels of which something is said."""
  return [labels * many for many in times]


def forecast(
  asked: Asked, folder: pathlib.Path, reporter: Reporter = NULL_REPORTER
) -> Forecast:
  """Measures every candidate on the labels at hand, and carries its curve on.

  folder: where vectors are kept. Each model is run once over the texts; on its vectors
  a logistic regression is trained some hundred times on parts of the labels. TF-IDF
  stands beside, and where it is asked for, runs that train the model itself. Raises
  ConfigError for a task without classes, or with too few labels.
  """
  began = time.monotonic()
  task = datasets.open_task(asked.task, asked.directory)
  known = at_hand(task, asked)
  for line in task.told:
    # All of a file that is divided by hash are at hand, whatever a run would learn from.
    if tasks.DIVIDED not in line:
      reporter.info(line)
  # First, so that a file that cannot be read costs nobody an hour.
  pool = read_pool(asked)
  trained = _runs_of(asked, folder.parent / 'runs')
  # All models before any learner: the second start finds what the first one left.
  vectors = {
    init: encoding.encode(
      init, known.texts, folder, dtype=asked.dtype, reporter=reporter
    )
    for init in asked.init
  }
  candidates = []
  names = distinct(asked.init)
  for init, encoded in vectors.items():
    candidates.append(_of_model(names[init], encoded, known, asked, reporter))
  candidates.append(_of_words(known, asked, reporter))
  for runs in trained:
    candidates.append(_of_runs(runs, task, known, asked, reporter))
  # By what comes next, not by what is now: curves cross.
  soon = ahead(len(known.texts), asked.times)
  best_first = sorted(candidates, key=lambda one: one.accuracy_at(soon[0]).mean)[::-1]
  suggested = ()
  if pool:
    # What is wanted next depends on what the best model is unsure of.
    models = {names[init]: init for init in asked.init}
    # Of the models the best: TF-IDF has no vectors by which texts are far apart.
    chosen = next(one.name for one in best_first if one.name in models)
    init = models[chosen]
    suggested = _suggest(init, vectors[init].vectors, known, pool, asked, folder)
  shares = np.bincount(known.labels) / len(known.labels)
  return Forecast(
    task.name,
    len(known.texts),
    task.labels,
    float(shares.max()),
    soon,
    asked.target,
    best_first,
    suggested,
    time.monotonic() - began,
  )


def at_hand(task: tasks.Task, asked: Asked) -> Labelled:
  """The labelled texts that there are, or as many of them as asked for.

  Of a file that is divided by hash for no reason of the user's, both parts; else those
  of the train split alone, and the test split is not looked at. Raises ConfigError.
  """
  if not task.problem.exclusive or task.parts:
    raise ConfigError(
      f'--task: {task.name} has the kind {task.problem.name!r}; a forecast is of tasks '
      'with one label for each text'
    )
  texts, labels = _everything(task, asked.directory)
  if asked.labels > len(texts):
    raise ConfigError(
      f'--labels: {asked.labels} asked for; {task.name} has {len(texts)}'
    )
  # The same ones that a run with so many labels and this seed would learn from, where
  # these are all of a split.
  if 0 < asked.labels < len(texts):
    keys = subsets.fingerprints(texts)
    kept = subsets.subset(labels, asked.labels, asked.seed, keys)
    texts, labels = [texts[number] for number in kept], labels[kept]
  known = Labelled(texts, labels)
  _require_enough(task, known)
  return known


def _everything(task: tasks.Task, directory: str) -> tuple[list[str], np.ndarray]:
  """All labelled texts of a task that may be looked at."""
  splits = ['train']
  # Nobody but a hash has set these texts apart: they are labelled as the others are.
  if task.opened and all(source.divided for source in task.opened.values()):
    splits = list(dict.fromkeys(['train', *task.opened]))
  parts = [datasets.read_split(task, split, directory) for split in splits]
  texts = list(itertools.chain.from_iterable(part.texts for part in parts))
  return texts, np.concatenate([part.targets for part in parts])


def _require_enough(task: tasks.Task, known: Labelled) -> None:
  """Raises ConfigError for labels from which no curve can be told."""
  count = len(known.texts)
  if count < FEWEST:
    raise ConfigError(
      f'--task: {task.name}: {count} labels; a forecast needs {FEWEST} or more'
    )
  # Texts that are alike are learned together, or asked about together.
  _, first = np.unique(known.keys, return_index=True)
  counts = np.bincount(known.labels[first], minlength=len(task.labels))
  if (counts < 2).any():
    rare = task.labels[int(counts.argmin())]
    raise ConfigError(
      f'--task: {task.name}: the class {rare!r} has {counts.min()} labels of different '
      'texts; a forecast needs two of each, to learn from one and ask for the other'
    )


def read_pool(asked: Asked) -> list[str]:
  """The unlabelled texts; [] where nothing is suggested. Raises ConfigError."""
  if not asked.suggest:
    return []
  columns = configs.names(asked.task.text) or ('text',)
  texts = list(data.texts.read(asked.pool, columns))
  # A text that stands there twice is labelled once.
  texts = [text for text in dict.fromkeys(texts) if text.strip()]
  if len(texts) < asked.suggest:
    raise ConfigError(
      f'--suggest: {asked.suggest} asked for; {asked.pool} has {len(texts)} texts'
    )
  return texts


def distinct(paths: Sequence[str]) -> dict[str, str]:
  """Short names of paths, of as many last parts as it takes to tell them apart.

  >>> distinct(['/a/base', '/b/base', '/b/other'])
  {'/a/base': 'a/base', '/b/base': 'b/base', '/b/other': 'other'}
  """
  parts = {path: pathlib.Path(path).parts for path in paths}
  found = {}
  for path, own in parts.items():
    others = [parts[other] for other in parts if other != path]
    count = 1
    while count < len(own) and any(own[-count:] == other[-count:] for other in others):
      count += 1
    found[path] = str(pathlib.Path(*own[-count:]))
  return found


def _of_model(
  name: str,
  encoded: encoding.Encoded,
  known: Labelled,
  asked: Asked,
  reporter: Reporter,
) -> Candidate:
  """What a probe of a model promises."""
  vectors = encoded.vectors

  def learn(seen, targets):
    return probes.fit(seen, targets, known.classes)

  measured, curve = _measure(name, vectors, known, learn, asked, reporter)
  seconds = encoded.seconds / len(vectors) if encoded.seconds else None
  return Candidate(
    name,
    measured,
    curve,
    vectors.shape[1],
    seconds,
    metrics.log_evidence(vectors, known.labels),
    metrics.h_score(vectors, known.labels),
  )


def _of_words(known: Labelled, asked: Asked, reporter: Reporter) -> Candidate:
  """What TF-IDF promises, for which no model is needed."""

  def learn(seen, targets):
    return lambda held: baselines.tf_idf(seen, targets, held, known.classes)

  measured, curve = _measure(TF_IDF, known.texts, known, learn, asked, reporter)
  return Candidate(TF_IDF, measured, curve)


class _Runs(NamedTuple):
  """The runs of one recipe: what they are called together, and where they are."""

  recipe: rehearsing.Recipe
  name: str
  folder: pathlib.Path


def _runs_of(asked: Asked, folder: pathlib.Path) -> list[_Runs]:
  """The runs of every config that is asked for, with every model.

  Raises ConfigError for a config that trains no model.
  """
  names = distinct(asked.init)
  found = []
  for spec in asked.trained:
    for init in asked.init:
      recipe = rehearsing.Recipe(spec, init)
      name = f'{names[init]}, {recipe.method}'
      found.append(_Runs(recipe, name, folder))
  return found


def _of_runs(
  runs: _Runs,
  task: tasks.Task,
  known: Labelled,
  asked: Asked,
  reporter: Reporter,
) -> Candidate:
  """What training the model itself promises; what it cost is told."""
  seconds: list[float] = []
  learn = rehearsing.learner(runs.recipe, task.labels, runs.folder, seconds.append)
  few = dataclasses.replace(asked, repeats=min(asked.repeats, rehearsing.REPEATS))
  measured, curve = _measure(
    runs.name, known.texts, known, learn, few, reporter, rehearsing.SIZES
  )
  count = len(seconds)
  total = sum(seconds)
  reporter.info(
    f'{runs.name}: {count} trainings, {total:.0f} s, {total / count:.1f} s each'
  )
  return Candidate(runs.name, measured, curve)


def _measure(
  name: str,
  inputs,
  known: Labelled,
  learn,
  asked: Asked,
  reporter: Reporter,
  steps: int = 6,
) -> tuple[Measured, Curve]:
  """The errors of a learner on the labels at hand, and how they go on."""

  def watch(done: int, total: int) -> None:
    reporter.progress(f'{name}, learners', done, total)

  measured = probes.measure(
    inputs,
    known.labels,
    learn,
    groups=known.keys,
    repeats=asked.repeats,
    seed=asked.seed,
    steps=steps,
    watch=watch,
  )
  curve = forecasting.fit(
    measured.labels,
    measured.errors,
    covariance=measured.covariance,
    training=measured.training,
    seed=asked.seed,
  )
  return measured, curve


def _suggest(
  init: str,
  vectors: np.ndarray,
  known: Labelled,
  pool: list[str],
  asked: Asked,
  folder: pathlib.Path,
) -> tuple[tuple[str, float], ...]:
  """(text, probability of its likeliest class) of the texts to label next."""
  of_pool = encoding.encode(init, pool, folder, dtype=asked.dtype).vectors
  answer = probes.fit(vectors, known.labels)
  chances = np.exp(answer(of_pool))
  numbers = suggesting.suggest(of_pool, chances, asked.suggest, seed=asked.seed)
  return tuple((pool[number], float(chances[number].max())) for number in numbers)


def curve_points(one: Candidate, labels: Sequence[int]) -> list[tuple]:
  """(labels, accuracy, low, high) along a curve, from the fewest labels to the most."""
  ends = one.measured.labels[0], max(labels)
  places = np.geomspace(*ends, 40)
  found = []
  for place in places:
    interval = one.accuracy_at(place)
    found.append((float(place), interval.mean, interval.low, interval.high))
  return found
