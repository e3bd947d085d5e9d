"""What a config may say: one frozen dataclass per group, every value with its range.

>>> Data(length=64).batch
32
"""

import dataclasses
from typing import Any, ClassVar, Literal

from tl_jax import models, optim, parallel, tasks
from tl_jax.config import Count, Fraction, Natural, NonNegative, Positive
from tl_jax.parallel import MeshShape

SCRATCH = 'scratch'


@dataclasses.dataclass(frozen=True)
class Tokenizing:
  """The tokenizer to train, or with a `path` the one to read."""

  kind: Literal['wordpiece', 'bpe'] = 'wordpiece'
  size: Count = 30522
  lowercase: bool = True
  path: str = ''
  # are special pieces written in a text, as [SEP], those pieces?
  parse_special: bool = False


@dataclasses.dataclass(frozen=True)
class Data:
  """How texts are laid into rows, whatever they are read from."""

  length: Count = 128  # tokens in a row
  batch: Count = 32  # rows in a step of the whole run, over all devices
  accumulate: Count = 1  # micro-batches in a step
  pack: bool = True  # several examples per row
  directory: str = ''  # where prepared datasets are; empty: the user's cache


@dataclasses.dataclass(frozen=True)
class MixtureData(Data):
  """The texts of pre-training: sources with their weights.

  Weights need not sum to 1. A source that ends begins anew, in another order, unless
  `epochs` says how often it may be read.
  """

  mixture: dict[str, NonNegative] = dataclasses.field(default_factory=dict)
  # each weight is times the tokens of its source ** (1 / temperature); 0: as it is.
  # At 1, weights are how often each source is read beside the others
  temperature: NonNegative = 0.0
  cap: Natural = 0  # most tokens that count for a weight by temperature; 0: all
  # most passes over a source, after which the others go on without it: {source: passes}
  epochs: dict[str, Positive] = dataclasses.field(default_factory=dict)
  # most tokens of a source that are ever seen, chosen by the seed: {source: tokens}
  unique: dict[str, Count] = dataclasses.field(default_factory=dict)
  # other weights from a step on: ((step, {source: weight}), ...); they replace those of
  # the mixture, so that a source that is not named has weight 0
  stages: tuple[tuple[Count, dict[str, NonNegative]], ...] = ()
  # until a step rows are of another length, or batches of another size:
  # ((last step, {'length': tokens, 'batch': rows}), ...); then as said above. Held-out
  # texts are read in rows of `length` in all of them: a curve has one measure
  phases: tuple[tuple[Count, dict[str, Count]], ...] = ()
  # that of the texts, in a file or a set; several with +; empty: text
  column: str = ''


@dataclasses.dataclass(frozen=True)
class TaskData(Data):
  """The rows of a labelled task; what is read is the task's."""

  # most examples in a row; 0: one per 8 tokens, or what packs best
  examples_per_row: Natural = 0
  # most tokens of a text to write; 0: as many as of a row, of a decoder half of them;
  # of an answer that stands in a passage, 0: 30
  target_length: Natural = 0


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  every: Count = 1000  # steps
  keep: Count = 3  # committed steps


@dataclasses.dataclass(frozen=True)
class Eval:
  every: Natural = 0  # steps; 0: only at the end


@dataclasses.dataclass(frozen=True)
class MixtureEval(Eval):
  batches: Natural = 0  # of the test split; 0: all


@dataclasses.dataclass(frozen=True)
class TaskEval(Eval):
  """When a transfer is evaluated on its validation split, and what follows."""

  # evaluations in a row without a better headline, after which it ends; 0: never
  patience: Natural = 0
  # whose model is kept: that of the last step, or of the best on the validation split
  keep: Literal['last', 'best'] = 'last'
  # is a temperature fitted to the validation split, and what it changes said?
  calibrate: bool = False
  # of a task with texts to write: are they written and scored each time? Else the loss
  # of the right ones is what is looked at, which takes much less time
  write: bool = False

  def __post_init__(self):
    wanted = f'patience: {self.patience}' if self.patience else f'keep: {self.keep!r}'
    if self.write:
      wanted = 'write: True'
    if not self.every and (self.patience or self.keep == 'best' or self.write):
      raise ValueError(
        f'{wanted} needs evaluations, but eval.every=0; give the steps between two'
      )

  @property
  def validates(self) -> bool:
    """Does a run look at validation examples, on its way or at its end?"""
    return bool(self.every) or self.calibrate


@dataclasses.dataclass(frozen=True)
class Log:
  every: Count = 100  # steps
  tensorboard: bool = True


@dataclasses.dataclass(frozen=True)
class SplitFiles:
  """The files of a task that come one for each split; empty: the task's own file has
  it.
  """

  train: str = ''
  validation: str = ''
  test: str = ''


@dataclasses.dataclass(frozen=True)
class Contrast:
  """How texts are compared that learn vectors."""

  temperature: Positive = 0.05  # what cosines are divided by
  symmetric: bool = False  # does each of two texts look for the other?


@dataclasses.dataclass(frozen=True)
class TaskChoice:
  """The task of a transfer, and how many of its examples are used."""

  name: str
  # labelled examples to train on, the classes in equal parts; 0: all
  labels: Natural = 0
  test: Natural = 0  # test examples to score, the classes in equal parts; 0: all
  # train examples that are held out where the run is evaluated on its way and the task
  # has no validation split: a share below 1, or so many
  holdout: Positive = 0.1
  # of several tasks: each is drawn in proportion to its size ** (1 / temperature)
  temperature: Positive = 1.0
  # Of a task that is a file: its columns, the kind of its labels, and the files of its
  # splits.
  text: str = ''
  label: str = ''
  # of a file whose examples have texts to write in the place of labels: their column
  target: str = ''
  # what parts the cells of .csv, .tsv and .txt files: a character, or comma, semicolon,
  # tab, bar or space; empty: what the header shows
  delimiter: str = ''
  kind: Literal['', *tasks.PROBLEMS] = ''
  files: SplitFiles = dataclasses.field(default_factory=SplitFiles)
  # how a text to answer is put, as 'summarize: {text}'; empty: as it is, and before a
  # decoder's target an arrow
  template: str = ''
  metrics: tuple[str, ...] = ()  # what it is scored by; empty: as the task says
  # how texts are written that are scored: fields of `decode.Decoding`; empty: as the
  # task says
  decoding: dict[str, Any] = dataclasses.field(default_factory=dict)
  smoothing: Fraction = 0.0  # of a target over all classes or tokens
  # what an example of a class weighs in the loss: {class: weight}, the others weigh 1,
  # or so much that all classes count the same
  weights: Literal['balanced'] | dict[str, Positive] | None = None
  contrast: Contrast = dataclasses.field(default_factory=Contrast)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
  """What every run may say, of either mode."""

  model: dict[str, Any]
  optim: optim.OptimConfig
  schedule: optim.ScheduleConfig
  data: Data
  seed: Natural = 0
  compute: models.Compute = dataclasses.field(default_factory=models.Compute)
  tokenizer: Tokenizing = dataclasses.field(default_factory=Tokenizing)
  method: dict[str, Any] = dataclasses.field(default_factory=lambda: {'name': 'full'})
  init: str = SCRATCH
  mesh: MeshShape = dataclasses.field(default_factory=MeshShape)
  # a preset of `parallel.placement`, which has a table of what each of them cuts
  sharding: Literal[*parallel.PRESETS] = 'fsdp'
  # where single parameters lie in another way: ((regex, axes of the mesh), ...), as
  # (('embedding/tokens', ('fsdp', None)),)
  sharding_overrides: tuple[Any, ...] = ()
  checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)
  eval: Eval = dataclasses.field(default_factory=Eval)
  log: Log = dataclasses.field(default_factory=Log)

  def __post_init__(self):
    # Read again where the arrays are placed: here only what is wrong is said.
    parallel.parse_overrides(self.sharding_overrides)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrain(Common):
  """A run of pre-training: an objective on a mixture of texts."""

  words: ClassVar[str] = 'pre-training'

  objective: dict[str, Any]
  data: MixtureData
  eval: MixtureEval = dataclasses.field(default_factory=MixtureEval)
  # the masked head starts at the tokens' log frequencies: a tenth of a small run saved
  unigram_bias: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer(Common):
  """A run of transfer: a method on a labelled task."""

  words: ClassVar[str] = 'a transfer'

  task: TaskChoice
  data: TaskData
  eval: TaskEval = dataclasses.field(default_factory=TaskEval)


Settings = Pretrain | Transfer


def usual() -> dict:
  """What every key of either mode means in a config that does not have it, by groups.

  A workdir that was made before there was a key goes on under a config that has it with
  this value.
  """
  least = dict(
    model={}, optim=optim.OptimConfig(), schedule=optim.ScheduleConfig(steps=1)
  )
  pretrain = Pretrain(**least, objective={}, data=MixtureData())
  transfer = Transfer(**least, task=TaskChoice(''), data=TaskData())
  of_pretrain = dataclasses.asdict(pretrain)
  of_transfer = dataclasses.asdict(transfer)
  both = of_pretrain | of_transfer
  # A group that both modes have may have keys of one mode alone.
  for group in ('data', 'eval'):
    both[group] = of_pretrain[group] | of_transfer[group]
  return both
