"""What a model answers to texts: labels, embeddings or texts, as windows of a stream.

>>> columns_of('title+body', None)
('title', 'body')
"""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax import checkpoint, data, interop, models, parallel
from tl_jax import config as configs
from tl_jax.config import ConfigError
from tl_jax.data import extracts
from tl_jax.data.candidates import Choices
from tl_jax.data.passages import PassageQuestion
from tl_jax.data.words import Words
from tl_jax.evals import answers, generation, passes, prediction
from tl_jax.interop.sentences import Pooling, read_pooling
from tl_jax.tasks.problems import span
from tl_jax.tasks.problems.columns import NO_ANSWER
from tl_jax.train import datasets, methods, programs, writing
from tl_jax.train.asking import Asking, Learned, Manner, Question, asking_of
from tl_jax.train.heads import learned_problem, require_answers
from tl_jax.train.restoring import (
  choose_step,
  decoding_of,
  frames_pairs,
  load,
  read_settings,
)
from tl_jax.train.settings import Settings, Transfer

# Rows of 128 tokens in a batch: a CPU has enough to do with few of them.
ROWS = 16
ROWS_OF_ACCELERATOR = 256
# Texts that are written at once.
TEXTS = 8
# Tokenizers of transformers that know no longest text say a number beyond all texts.
_NO_LENGTH = 10**6


class Subject(NamedTuple):
  """A model that is asked, and what its run or its folder says of texts.

  path: of its workdir or folder. compute: how it is computed. length: the most tokens of
  a text that it reads. parts: the questions that its classifier answers; () without one.
  reserved: the positions that its method keeps. alone: does every text need a row to
  itself? pooling: how it makes one vector of a text. learned: what its run says of texts
  to write, where it learned to write them; else None. pairs: does it read two texts in a
  frame? longest: the most tokens of an answer in a passage; 0: as usual.
  """

  path: pathlib.Path
  loaded: interop.Loaded
  compute: models.Compute
  length: int
  parts: tuple[prediction.Part, ...]
  reserved: int = 0
  alone: bool = False
  pooling: Pooling = Pooling()
  learned: Learned | None = None
  pairs: bool = False
  longest: int = 0

  @property
  def room(self) -> int | None:
    """The positions that a text has; None without a limit."""
    room = self.loaded.arch.room
    # A prefix or a prompt stands before the text.
    return None if room is None else room - self.reserved

  def parsing_special(self) -> 'Subject':
    """The subject that finds special pieces in texts."""
    tokenizer = dataclasses.replace(self.loaded.tokenizer, parse_special=True)
    return self._replace(loaded=self.loaded._replace(tokenizer=tokenizer))

  def asking(
    self, manner: Manner, chosen: Mapping[str, Any], tell: Callable[[str], None]
  ) -> Asking:
    """How it writes and is asked, as `asking.asking_of` says."""
    path, loaded, length = self.path, self.loaded, self.length
    return asking_of(path, loaded, manner, chosen, length, self.learned, tell)


class Answering(NamedTuple):
  """How a model answers.

  columns: of an answer as a table. width: of an embedding; 0 for other answers.
  windows(texts, first, watch): yields lists of answers to the texts, of which the first
  has the number `first`. watch(answered, cut) is called time and again with the number
  of texts of this window that have an answer, and of all that were cut so far.
  """

  columns: tuple[str, ...]
  width: int
  windows: Callable[[Iterable[Question], int, Callable], Iterator[list[dict]]]


def columns_of(
  text: str, settings: Settings | None, chat: bool = False
) -> tuple[str, ...]:
  """The columns of the texts in a file: those that are asked for, else the run's own.

  chat: are they what users say, questions with candidates, or words? Then () leaves it
  to the fields of the file.
  """
  if chat:
    return configs.names(text)
  own = ''
  if isinstance(settings, Transfer):
    # A run that compares two texts makes a vector of each.
    own = '' if settings.task.kind == 'similarity' else settings.task.text
  elif settings is not None:
    own = settings.data.column
  return configs.names(text or own) or ('text',)


def delimiter_of(said: str, path: str, settings: Settings | None) -> str:
  """The character that parts the cells of a file of texts: the one that is said, else
  that of the run where this file has the format of the run's own; '' where the header
  shows it.

  Raises ConfigError for what is no delimiter, and for a file that has none.
  """
  try:
    found = data.separated.delimiter_of(said)
  except ValueError as error:
    raise ConfigError(f'--delimiter: {error}') from error
  if found and not data.tables.is_separated(path):
    raise ConfigError(
      f'--delimiter: {said!r} is of .csv, .tsv and .txt files; {path} is none'
    )
  if found or not isinstance(settings, Transfer):
    return found
  # To a run of a .csv file, a .txt file is still one of a text per line.
  formats = {data.folders.ending(name) for name in configs.names(settings.task.name)}
  if data.folders.ending(path) not in formats:
    return ''
  return data.separated.delimiter_of(settings.task.delimiter)


def open_settings(
  path: pathlib.Path, step: int | None = None
) -> tuple[Settings | None, int | None]:
  """(settings of a workdir, its step); None and None for a folder.

  Raises ConfigError for a step of what is no workdir.
  """
  if (path / 'checkpoints').is_dir():
    step = choose_step(path, step)
    # Refused here where there is no such step, with those that there are.
    checkpoint.Store(path / 'checkpoints').meta(step)
    return read_settings(path), step
  if step is not None:
    raise ConfigError(f'{path}: not a workdir, so it has no step {step}')
  return None, None


def open_subject(
  path: pathlib.Path,
  settings: Settings | None,
  step: int | None,
  dtype: str,
  head: str | None,
) -> Subject:
  """The model of a workdir, which has `settings`, or of a folder or file.

  dtype: of the computation; '' for that of the run. Raises ValueError that names what
  cannot be opened.
  """
  how = {} if head is None else dict(head=head)
  loaded = load(path, step, **how)
  if loaded.tokenizer is None:
    raise ConfigError(f'{path}: has no tokenizer')
  compute = models.Compute() if settings is None else settings.compute
  said = dict(dtype=dtype) if dtype else {}
  compute = configs.struct(
    models.Compute, dataclasses.asdict(compute) | said, '--dtype'
  )
  parts = _parts(loaded, settings)
  if settings is None:
    pooling = read_pooling(path) or Pooling()
    length = pooling.length or _longest(loaded)
    # A folder does not say whether it was trained on pairs. A classifier is asked as
    # the pipeline of transformers asks it; a decoder reads one text.
    pairs = loaded.arch.reads_examples and loaded.arch.kind != 'decoder'
    return Subject(path, loaded, compute, length, parts, pooling=pooling, pairs=pairs)
  # Its positions are part of the model's, its prompt is part of every row.
  method = methods.make(settings.method)
  found = Subject(
    path,
    loaded,
    compute,
    settings.data.length,
    parts,
    method.reserved_positions,
    alone=bool(method.prompt_positions),
    pooling=loaded.pooling,
    pairs=frames_pairs(path, loaded.step),
    longest=getattr(settings.data, 'target_length', 0),
  )
  problem = learned_problem(path, loaded.step)
  if problem is None:
    return found
  writer = writing.writer_for(problem, loaded.arch, loaded.tokenizer, loaded)
  limits = datasets.limits_of(settings.task, settings.data, loaded.arch, writer, path)
  own = decoding_of(path, loaded.step)
  return found._replace(learned=Learned(problem, limits, own))


def _parts(
  loaded: interop.Loaded, settings: Settings | None
) -> tuple[prediction.Part, ...]:
  """The questions that a model answers by labels; () where it is no classifier."""
  if loaded.arch.head != 'classifier':
    return ()
  # A run of several tasks has the labels of all of them side by side.
  names = ()
  if isinstance(settings, Transfer):
    names = configs.names(settings.task.name)
  return prediction.parts_of(loaded.kind, loaded.labels, loaded.arch.labels, names)


def _longest(loaded: interop.Loaded) -> int:
  """The most tokens of a text that the model of a folder reads."""
  arch = loaded.arch
  room = arch.max_positions if arch.room is None else arch.room
  said = loaded.tokenizer.settings.get('model_max_length')
  if isinstance(said, (int, float)) and 0 < said < _NO_LENGTH:
    return min(room, int(said))
  return room


def make_answering(
  subject: Subject,
  mesh: jax.sharding.Mesh,
  *,
  embeddings: bool,
  normalize: bool,
  batch: int,
  decoding: Mapping[str, Any],
  manner: Manner,
  tell: Callable[[str], None],
) -> Answering:
  """How the model answers on the devices of a mesh, which must be in force.

  embeddings: vectors instead of labels or texts; `normalize` gives them length 1. batch:
  rows of a batch, or texts written at once; 0 for the usual number. decoding: fields of
  `Decoding` that hold against the model's folder; what it says besides and nothing
  follows is told. manner: how a model that writes is asked. Raises ConfigError for a
  model that has no such answer.
  """
  arch = subject.loaded.arch
  if embeddings:
    return _embed(subject, mesh, batch, normalize or subject.pooling.normalize)
  if arch.head != 'causal' and manner != Manner():
    raise ConfigError(
      '--chat, --system and --template: of texts that a model writes; '
      f'{subject.path} has the head {arch.head!r}'
    )
  if arch.head == 'classifier':
    return _classify(subject, mesh, batch)
  if arch.head == 'choice':
    return _choose(subject, mesh, batch)
  if arch.head == 'token':
    return _tag(subject, mesh, batch)
  if arch.head == 'span':
    return _extract(subject, mesh, batch)
  require_answers(subject.path, arch.head)
  asking = subject.asking(manner, decoding, tell)
  return _write(subject, mesh, batch, asking)


def _classify(subject: Subject, mesh, batch: int) -> Answering:
  """Labels, or values, of a classifier."""
  loaded = subject.loaded
  model = models.build(loaded.arch, subject.compute, ordered=True)
  run = _packed(subject, mesh, batch, programs.outputs_of_params(model))

  def windows(texts, first, watch):
    del first
    for found in run(texts, loaded.arch.labels, watch):
      yield prediction.describe(subject.parts, found)

  # A table names its columns before there is an answer.
  nothing = np.zeros((1, loaded.arch.labels), np.float32)
  (example,) = prediction.describe(subject.parts, nothing)
  return Answering(tuple(answers.flat(example)), 0, windows)


def _choose(subject: Subject, mesh, batch: int) -> Answering:
  """Which candidate of a question is right."""
  model = models.build(subject.loaded.arch, subject.compute, ordered=True)
  run = _packed(subject, mesh, batch, programs.outputs_of_params(model))

  def windows(texts, first, watch):
    del first
    asked, scored = itertools.tee(texts)
    for found in run(scored, 0, watch):
      own = list(itertools.islice(asked, len(found)))
      yield prediction.describe_choices(own, found)

  # A table names its columns before there is an answer.
  example = prediction.describe_choices([Choices('', ('a', 'b'))], np.zeros((1, 2)))
  return Answering(tuple(answers.flat(example[0])), 0, windows)


def _tag(subject: Subject, mesh, batch: int) -> Answering:
  """A tag for every word."""
  loaded = subject.loaded
  model = models.build(loaded.arch, subject.compute, ordered=True)
  run = _packed(subject, mesh, batch, programs.outputs_of_params(model))
  (part,) = prediction.parts_of('tags', loaded.labels, loaded.arch.labels)

  def windows(texts, first, watch):
    del first
    asked, read = itertools.tee(texts)
    for found in run(read, loaded.arch.labels, watch):
      own = list(itertools.islice(asked, passes.WINDOW))
      yield prediction.describe_tags(own, part.labels, found)

  example = prediction.describe_tags([Words(('a',))], ('O',), np.zeros((1, 1)))
  return Answering(tuple(example[0]), 0, windows)


def _extract(subject: Subject, mesh, batch: int) -> Answering:
  """The part of a passage that answers a question."""
  model = models.build(subject.loaded.arch, subject.compute, ordered=True)
  longest = subject.longest or extracts.LONGEST
  collect = functools.partial(_spans_of, longest)
  run = _packed(subject, mesh, batch, programs.outputs_of_params(model), collect)
  has_none = NO_ANSWER in (subject.loaded.labels or ())

  def windows(texts, first, watch):
    del first
    asked, read = itertools.tee(texts)
    for found in run(read, 2, watch):
      own = list(itertools.islice(asked, len(found)))
      yield prediction.describe_spans(own, found, has_none)

  example = span.raw_of([(0, 1)])
  columns = prediction.describe_spans([PassageQuestion('a', 'b')], example, has_none)
  return Answering(tuple(columns[0]), 0, windows)


def _spans_of(longest: int, window: passes.Window, found: np.ndarray) -> np.ndarray:
  """What a model says of every question of a window, in `longest` tokens at most."""
  tokens = dataclasses.replace(window.parts, longest=longest)
  numbers = np.arange(tokens.count)
  return span.collect(found, tokens, numbers)


def _embed(subject: Subject, mesh, batch: int, normalize: bool) -> Answering:
  """One vector of each text."""
  width, run = vectors(subject, mesh, batch=batch)

  def windows(texts, first, watch):
    del first
    for found in run(texts, watch):
      if normalize:
        # A vector of zeros has no direction, and stays as it is.
        norms = np.linalg.norm(found, axis=-1, keepdims=True)
        found = found / np.maximum(norms, 1e-12)
      yield [
        dict(embedding=None if np.isnan(vector).any() else vector) for vector in found
      ]

  return Answering((), width, windows)


def vectors(
  subject: Subject,
  mesh: jax.sharding.Mesh,
  *,
  modes: tuple[str, ...] = (),
  layers: bool = False,
  batch: int = 0,
) -> tuple[int, Callable[[Iterable[str], Callable], Iterator[np.ndarray]]]:
  """(width, run): run(texts, watch) yields float32 (texts, width), window by window.

  modes: how hidden states are pooled, some of `models.POOLS`; () as the model says.
  layers: the vectors after the embedding and after every layer, one behind the other,
  in the place of those after the last layer. A text without a token has a row of NaN.
  The mesh must be in force. batch, watch: as of `make_answering` and its windows.
  """
  arch = subject.loaded.arch
  modes = modes or subject.pooling.modes
  model = models.build(arch, subject.compute, ordered=True)
  make = programs.layers_of_params if layers else programs.embeddings_of_params
  run = _packed(subject, mesh, batch, make(model, subject.compute, modes))
  width = arch.width * max(1, len(modes)) * (arch.layers + 1 if layers else 1)

  def windows(texts, watch):
    prepared = map(subject.pooling.prepared, texts)
    return run(prepared, width, watch)

  return width, windows


def _packed(
  subject: Subject, mesh, batch: int, program: Callable, collect: Callable | None = None
) -> Callable:
  """(texts, width, watch) -> what the program says of texts, packed into rows.

  collect: as of `passes.run`.
  """
  loaded = subject.loaded
  sharding = parallel.batch_sharding(mesh)
  params = parallel.place(loaded.params, parallel.replicated(mesh))
  usual = ROWS if jax.default_backend() == 'cpu' else ROWS_OF_ACCELERATOR * mesh.size
  reader = passes.Reader(
    loaded.tokenizer,
    loaded.arch,
    subject.length,
    rows=batch or usual,
    multiple=mesh.size,
    alone=subject.alone,
    pairs=subject.pairs,
  )

  def forward(batch):
    rows = len(batch['tokens'])
    return program(params, parallel.place_batch(batch, sharding, rows))

  def run(texts, width, watch):
    more = {} if collect is None else dict(collect=collect)
    return passes.run(reader, forward, parallel.to_host, width, texts, watch, **more)

  return run


def _write(subject: Subject, mesh, batch: int, asking: Asking) -> Answering:
  """Texts of a decoder or an encoder-decoder."""
  loaded = subject.loaded
  decoder = models.decoder(loaded.arch, subject.compute)
  params = parallel.place(loaded.params, parallel.replicated(mesh))
  sharding = parallel.batch_sharding(mesh)

  def place(batch):
    return parallel.place_batch(batch, sharding, len(batch['tokens']))

  def windows(texts, first, watch):
    return generation.answers(
      decoder,
      params,
      loaded.tokenizer,
      texts,
      asking.settings,
      lambda texts: asking.read(texts, loaded),
      batch=batch or TEXTS,
      positions=subject.room,
      first=first,
      tidy=asking.tidy,
      watch=watch,
      multiple=mesh.size,
      place=place,
      fetch=parallel.to_host,
    )

  columns = ('text', 'score', 'end')
  if asking.settings.samples > 1:
    columns = (*columns, 'texts')
  return Answering(columns, 0, windows)
