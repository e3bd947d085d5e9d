"""The mixture of pre-training: its texts opened, encoded and laid into rows.

>>> text_rows(8, None)
Rows(longest=8, length=8, room=None, pairs=None)
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tl_jax import config as configs
from tl_jax import data
from tl_jax.config import ConfigError
from tl_jax.data import cuts, documents, mixing, pipeline, segment_pairs, subsets
from tl_jax.data.phases import Phased, Sizes
from tl_jax.objectives import Objective, Segments
from tl_jax.train import phases
from tl_jax.train.assembly import Components
from tl_jax.train.settings import MixtureData, Pretrain
from tl_jax.train.tokenizing import of_documents, token_cache

SHORT_PAIR = 32  # tokens; of that size there may be several pairs in a row
# Of one source, to train a tokenizer on.
ENOUGH_TEXTS = 100_000
ENOUGH_CHARACTERS = 2**26
# So many texts tell how long those of a source are.
_SAMPLE = 1_000
ENOUGH_STEPS = 100  # of a run, to know how many tokens all of them read


def require_texts(group: MixtureData, where_made: bool) -> None:
  """Raises ConfigError for a mixture without texts, for settings about no source of it,
  and `where_made` for a source that is not there.
  """
  if not sum(group.mixture.values()):
    raise ConfigError(
      'config.data.mixture: names no text; give {source: weight} with a weight above 0'
    )
  used = names_of(group)
  _require_known(group, used)
  if group.cap and not group.temperature:
    raise ConfigError(
      f'config.data.cap: {group.cap} is of weights by size; give config.data.temperature'
    )
  if where_made:
    _require_sources(group)


def _require_sources(group: MixtureData) -> None:
  """Raises ConfigError for a source that is not there, by the key that names it."""
  named = [('config.data.mixture', group.mixture)]
  for number, (_, weights) in enumerate(group.stages):
    named.append((f'config.data.stages[{number}]', weights))
  for key, weights in named:
    for name, weight in weights.items():
      if not weight:
        continue
      try:
        data.sources.require(name, group.directory or None)
      except ValueError as error:
        raise ConfigError(f'{key}: {error}') from error


def _require_known(group: MixtureData, used: list[str]) -> None:
  """Raises ConfigError for passes or a budget of no source, and for stages out of
  order.
  """
  for key in ('epochs', 'unique'):
    for name in getattr(group, key):
      if name not in used:
        raise ConfigError(
          f'config.data.{key}.{name}: no source of the mixture; '
          f'nearest: {configs.nearest(name, used)}'
        )
  # Stages are looked at as the stream will: it would be too late to say it there.
  try:
    mixing.changes(used, first_weights(group), group.stages)
  except ValueError as error:
    raise ConfigError(f'config.{error}') from error


def names_of(group: MixtureData) -> list[str]:
  """The sources that have a weight above 0, now or in a later stage."""
  found = []
  for weights in (group.mixture, *(weights for _, weights in group.stages)):
    found += [name for name, weight in weights.items() if weight]
  return list(dict.fromkeys(found))


def first_weights(group: MixtureData) -> dict[str, float]:
  """The weights with which a run begins, of all sources that it ever reads."""
  return {name: group.mixture.get(name, 0.0) for name in names_of(group)}


def mixture_texts(group: MixtureData, split: str = 'train') -> dict:
  """The sources of the pre-training mixture by name; a source of weight 0 is not
  opened.
  """
  directory = group.directory or None
  columns = data.files.Columns(configs.names(group.column) or ('text',), label=())
  found = {}
  for name in names_of(group):
    try:
      source = data.load(name, split, directory, columns)
    except data.separated.NoColumn as error:
      hint = 'config.data.column names that of the texts, in the argument column=NAME'
      raise ConfigError(f'{error}; {hint}') from error
    found[name] = _with_texts(source, columns)
  return found


def _with_texts(source: data.Source, columns: data.files.Columns) -> data.Source:
  """A source whose examples have the text of these columns.

  Files are read with them; a set that has other fields than the rest of a mixture is
  read by its own `text`. Raises ConfigError for a set that has neither.
  """
  # A file was refused already where it has no such column.
  if source.files or not len(source):
    return source
  fields = source[0]
  has_columns = all(name in fields for name in columns.text)
  if not has_columns and 'text' not in fields:
    raise ConfigError(
      f'config.data.mixture: {source.name!r} has no field {"+".join(columns.text)!r}; '
      f'name one of {", ".join(sorted(fields))} in config.data.column'
    )
  # The very source, so that its tokens are found again which an earlier run kept.
  if not has_columns or columns.text == ('text',):
    return source

  def read(example: dict) -> dict:
    text = data.files.text_of(source.name, 0, example, columns)
    return {**example, 'text': text}

  return data.sources.map_examples(source, read, '+'.join(columns.text))


class Rows(NamedTuple):
  """Rows of text that fill the rows of a model: the longest piece of a document, the
  places of a row, and what it has room for.

  pairs: how many pairs of segments a row has at most; None of rows of texts.
  """

  longest: int
  length: int
  room: pipeline.Room | None = None
  pairs: int | None = None


class Mixture(NamedTuple):
  """The texts of pre-training.

  sources: by name. rows, examples, pad: None until the texts are `encoded`. shorter: the
  same texts in rows of the other phases, by their length.
  """

  sources: dict
  rows: Rows | None = None
  examples: dict | None = None
  pad: int | None = None
  shorter: dict[int, 'Mixture'] | None = None

  name = 'pretrain'
  task = None

  @classmethod
  def open(cls, group: MixtureData) -> 'Mixture':
    """The texts to train on, not encoded."""
    return cls(mixture_texts(group))

  def training_texts(self) -> list[str]:
    """What a tokenizer is trained on: the texts of every source.

    Of a large source they are as many as suffice, evenly spread.
    """
    found = []
    for source in self.sources.values():
      sample = source[subsets.spread(len(source), _SAMPLE)]
      characters = sum(len(example['text']) for example in sample)
      enough = ENOUGH_CHARACTERS * len(sample) // max(1, characters)
      chosen = subsets.spread(len(source), max(1, min(ENOUGH_TEXTS, enough)))
      found += [example['text'] for example in source[chosen]]
    return found

  def encoded(
    self, settings: Pretrain, parts: Components, tokenizer, cache: pathlib.Path
  ) -> 'Mixture':
    """The mixture with its texts as tokens, which are kept below `cache`."""
    made = {}
    reader = of_documents(tokenizer, parts.model.arch)
    for length in phases.lengths(settings.data):
      asked = parts.objective.segments
      group = dataclasses.replace(settings.data, length=length)
      rows = rows_for(group, parts.objective)
      examples = encode_mixture(self.sources, rows, reader, cache, asked)
      made[length] = self._replace(rows=rows, examples=examples, pad=tokenizer.pad)
    whole = made.pop(settings.data.length)
    return whole._replace(shorter=made)

  def first_bias(self, settings: Pretrain, vocabulary: int) -> np.ndarray | None:
    """The first bias of the head, (vocabulary,), where the config wants one."""
    if not settings.unigram_bias:
      return None
    chosen = self._chosen(settings)
    weights = self._by_size(first_weights(settings.data), settings, chosen)
    return log_frequencies(weights, self.examples, vocabulary, chosen)

  @property
  def own_sources(self) -> tuple[data.Source, ...]:
    """The sources that may be files of the user."""
    return tuple(self.sources.values())

  def sets(self) -> dict[str, str]:
    """What names the content of every source that is no file of the user."""
    found = {}
    for name, source in self.sources.items():
      if not source.files:
        found[name] = source.manifest
    return found

  def class_weights(self, settings: Pretrain) -> tuple:
    """(): texts have no classes."""
    del settings
    return ()

  def watched(self, settings: Pretrain) -> None:
    """None: pre-training is evaluated on the test texts, by which nothing is chosen."""
    del settings

  def _chosen(self, settings: Pretrain) -> dict[str, np.ndarray]:
    """The pieces that the budgets of a run let it see, of each source that has one."""
    # Of this run's seed, which is not that of all who share the encoded texts.
    found = {}
    for name, most in settings.data.unique.items():
      tokens = pieces_of(self.examples[name])
      found[name] = mixing.budget(tokens, most, settings.seed, name)
    return found

  def stages(
    self, settings: Pretrain, chosen: dict | None = None
  ) -> list[tuple[int, dict[str, float]]]:
    """The steps from which other weights hold, with these; the first of them is 0.

    chosen: as `_chosen` has it, where it is known already.
    """
    if chosen is None:
      chosen = self._chosen(settings)
    group = settings.data
    found = []
    for step, weights in ((0, first_weights(group)), *group.stages):
      found.append((step, self._by_size(weights, settings, chosen)))
    return found

  def _by_size(self, weights: dict, settings: Pretrain, chosen: dict) -> dict:
    """The weights, times the sizes of what is seen of the sources where the config
    wants it.
    """
    group = settings.data
    if not group.temperature:
      return weights
    sizes = {}
    for name in weights:
      lengths = pieces_of(self.examples[name]).lengths
      # A source is as large as what is seen of it, as in T5.
      if name in chosen:
        lengths = lengths[chosen[name]]
      sizes[name] = int(lengths.sum(dtype=np.int64))
    how = dict(temperature=group.temperature, cap=group.cap)
    return mixing.by_size(weights, sizes, **how)

  def stream(self, settings: Pretrain) -> tuple[pipeline.Stream | Phased, np.ndarray]:
    """The endless rows of the mixture, a function of (seed, step); they come from no
    labelled example.

    Raises ConfigError for a run longer than its sources may be read.
    """
    group = settings.data
    # So a result of pre-training has 0 labels.
    no_labels = np.zeros(0, int)
    if not self.shorter:
      stream = self._stream(settings, phases.sizes(group, group.length))
      _require_rows(stream, settings.schedule.steps)
      return stream, no_labels
    lengths = phases.lengths(group)
    streams = []
    for length in lengths:
      own = self.shorter.get(length, self)
      streams.append(own._stream(settings, phases.sizes(group, length)))
    every = phases.of(group)
    firsts = tuple(phase.first for phase in every)
    numbers = tuple(lengths.index(phase.data.length) for phase in every)
    return Phased(tuple(streams), firsts, numbers), no_labels

  def _stream(self, settings: Pretrain, sizes: Sizes) -> pipeline.Stream:
    """The rows of one length, so many of them in each step."""
    group = settings.data
    try:
      chosen = self._chosen(settings)
      (_, weights), *stages = self.stages(settings, chosen)
      return data.stream(
        self.examples,
        seed=settings.seed,
        length=self.rows.length,
        room=self.rows.room,
        examples_per_row=self.rows.pairs,
        batch=group.batch,
        sizes=sizes,
        pack=group.pack,
        pad=self.pad,
        weights=weights,
        stages=stages,
        epochs=group.epochs,
        subset=chosen,
      )
    except ValueError as error:
      raise ConfigError(f'config.{error}') from error

  def counted(self, settings: Pretrain) -> dict[str, int]:
    """How many `tokens` a run of these settings reads, and how many `unique_tokens`.

    Of a long run some steps are counted, evenly spread.
    """
    steps = settings.schedule.steps
    stream, _ = self.stream(settings)
    counted = subsets.spread(steps, ENOUGH_STEPS)
    per_step = sum(map(stream.tokens_at, counted)) / len(counted)
    unique = 0.0
    passes = stream.passes(steps)
    for name, part in zip(stream.names, stream.parts, strict=True):
      lengths = pieces_of(self.examples[name]).lengths
      if part.subset is not None:
        lengths = lengths[part.subset]
      # What is read twice is still the same text.
      _, times = passes[name]
      unique += min(1.0, times) * int(lengths.sum(dtype=np.int64))
    return dict(tokens=round(per_step * steps), unique_tokens=round(unique))


def _require_rows(stream: pipeline.Stream, steps: int | None) -> None:
  """Raises ConfigError where the passes of all sources end before the run does."""
  end = stream.course.end
  if end is None or steps is None or stream.sizes.before(steps) <= end:
    return
  raise ConfigError(
    f'config.data.epochs: all sources are read so often after {end // stream.size} '
    f'steps, but config.schedule.steps is {steps}'
  )


def rows_for(group: MixtureData, objective: Objective) -> Rows:
  """The rows that an objective is given."""
  rows = text_rows(group.length, objective.inputs)
  if objective.segments is None:
    return rows
  # Most pairs fill a row; the short ones may share one.
  most = max(1, group.length // SHORT_PAIR)
  return rows._replace(pairs=most if group.pack else 1)


def text_rows(size: int, inputs: Callable | None) -> Rows:
  """The rows of text of which an objective makes the `size` tokens of a model's.

  inputs: that of the objective. Span corruption leaves fewer tokens than it is given:
  T5 fills 512 with 568.
  """
  if inputs is None:
    return Rows(size, size)
  # Double until it is too much: how fast an objective shrinks texts, it alone knows.
  enough = size
  while inputs([enough])[0] <= size:
    enough *= 2
  lengths = np.arange(1, enough)
  taken = inputs(lengths)
  fitting = taken <= size
  lengths, taken = lengths[fitting], taken[fitting]
  if not len(lengths):
    raise ConfigError(f'config.data.length: {size} holds no text under this objective')
  # No row holds more text than one of the pieces that shrink most.
  most = int(size * (lengths / taken).max())
  return Rows(int(lengths.max()), most, pipeline.Room(size, inputs))


def encode_mixture(
  sources: dict,
  rows: Rows,
  tokenizer,
  folder: pathlib.Path,
  segments: Segments | None = None,
  whole: bool = False,
) -> dict:
  """Encoded documents of each of the mixture's sources, long ones split into pieces
  that fit a row; where an objective asks for `segments`, the pairs that are cut of
  them. whole: are these planned now, however many they are?

  Raises ConfigError for rows, a tokenizer or a source that give no pair.
  """
  cache = token_cache(folder)
  how = dict(max_length=rows.longest, split=True)
  found = {}
  for name, source in sources.items():
    if segments is not None:
      # Its documents are cut into pairs, not into pieces.
      found[name] = encode_pairs(
        source, rows.longest, tokenizer, cache, segments, whole
      )
      continue
    encoded = data.tokenize(source, tokenizer, cache, **how)
    found[name] = pipeline.Examples(encoded)
  return found


def encode_pairs(
  source: data.Source,
  length: int,
  tokenizer,
  cache: pathlib.Path,
  asked: Segments,
  whole: bool = False,
) -> pipeline.Examples:
  """The pairs of a source with their labels, for rows of so many tokens."""
  special = len(tokenizer.pair) - 2
  rules = segment_pairs.Rules(length, asked.short, asked.swaps, special)
  how = dict(manner=asked.sentences, duplicates=asked.duplicates, whole=whole)
  try:
    found = documents.encode(source, tokenizer, cache, rules, **how)
  except ValueError as error:
    raise ConfigError(f'config.objective.name: {source.name}: {error}') from error
  # Cuts put their labels into rows themselves.
  labels = None if isinstance(found, cuts.Cuts) else found.labels
  return pipeline.Examples(found, labels=labels, types=found.types)


def pieces_of(examples: pipeline.Examples):
  """What budgets, sizes and frequencies of a source are of, as `data.Tokens` are."""
  tokens = examples.tokens
  return tokens.pieces if isinstance(tokens, cuts.Cuts) else tokens


def log_frequencies(
  weights: dict, examples: dict, vocabulary: int, chosen: dict
) -> np.ndarray:
  """Log of each token's frequency in the mixture of these weights, float32
  (vocabulary,), every token counted once more than seen.

  chosen: the pieces that are seen, of sources of which not all are.
  """
  total = np.zeros(vocabulary)
  for name, part in examples.items():
    # One more, because the logarithm of a token that is never seen is no number.
    seen = chosen.get(name)
    counts = data.tokens.frequencies(pieces_of(part), vocabulary, seen) + 1
    total += weights[name] * counts / counts.sum()
  return np.log(total / total.sum()).astype(np.float32)
