"""A run as far as shapes go: nothing of it is read, trained or computed.

What it would read, it reads where it is here: the config of a checkpoint and its
tokenizer. Of a published family no file is needed.

>>> from tl_jax import config
>>> found = outline(config.load('configs/pretrain.py:tiny'))
>>> found.batch['tokens'].shape, found.parts.model.arch.layers
((16, 64), 2)
"""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax import checkpoint, data, files, interop, models, objectives, tasks
from tl_jax import config as configs
from tl_jax.data import extracts, pipeline
from tl_jax.data.candidates import Candidates
from tl_jax.data.tagged import Windows
from tl_jax.data.tokens import TokenList
from tl_jax.train import (
  assembly,
  methods,
  mixtures,
  phases,
  starting,
  tokenizing,
  vectors,
  writing,
)
from tl_jax.train.checks import Checked, check_settings, settings_of
from tl_jax.train.datasets import target_length
from tl_jax.train.effects import require_effects
from tl_jax.train.restoring import arch_of, choose_step
from tl_jax.train.settings import SCRATCH, Pretrain, Settings, Tokenizing

# Pieces that span corruption puts in the place of what it takes out, as T5 has them.
SENTINELS = 100
# Candidates of a question that nobody has read, as in SWAG, RACE and MMLU.
CANDIDATES = 4


class Outline(NamedTuple):
  """A run before its data.

  source: what it starts from, with shapes in the place of parameters; None from scratch.
  batch: the arrays of a global batch, as shapes. notes: what was assumed.
  """

  settings: Settings
  task: tasks.Task | None
  source: interop.Loaded | None
  tokenizer: Any
  parts: assembly.Components
  start: starting.Start
  batch: dict[str, jax.ShapeDtypeStruct]
  writer: tasks.Writer
  notes: tuple[str, ...] = ()

  @property
  def given(self) -> starting.Given:
    """What the first states of runs like this one are made from, as shapes."""
    return starting.Given(None if self.source is None else self.source.params)


def outline(config) -> Outline:
  """The outline of the run that a config describes.

  `config.init` may also be the name of a published family, whose files need not be
  here. Raises ConfigError as a run would.
  """
  checked = _checked(settings_of(config))
  settings, task, method = checked.settings, checked.task, checked.method
  if method is None:
    name = settings.method['name']
    raise configs.ConfigError(f'config.method.name: {name} trains no model')
  source = None if settings.init == SCRATCH else _source_of(settings.init)
  tokenizer, notes = _tokenizer_of(settings, source)
  notes += phases.told(settings)
  if (
    is_family(settings.init) and _never_drops(source.arch) and settings.compute.dropout
  ):
    # A config asks the folder, which is not here.
    compute = dataclasses.replace(settings.compute, dropout=0.0)
    settings = dataclasses.replace(settings, compute=compute)
    notes.append(f'config.compute.dropout: 0, as the folder of {settings.init} has it')
  reserved = method.reserved_positions
  arch = assembly.make_arch(settings, task, reserved, source, tokenizer)
  params = None if source is None else source.params
  method = methods.settled(settings, method, arch, params)
  writer = _writer_of(task, arch, tokenizer, source)
  weights = _weights_of(settings, task)
  objective = assembly.objective_of(settings, task, tokenizer, writer, weights)
  parts = assembly.assemble(settings, arch, objective, method)
  require_effects(settings, parts)
  brings_head = task is not None and task.problem.fresh_head
  take_over = starting.transplanted if brings_head else starting.continued
  start = starting.Start(parts, take_over)
  row = _row_of(settings, task, parts)
  rows = settings.data.batch
  batch = {
    name: jax.ShapeDtypeStruct((rows, *array.shape), array.dtype)
    for name, array in row.items()
  }
  return Outline(
    settings, task, source, tokenizer, parts, start, batch, writer, tuple(notes)
  )


def _checked(settings: Settings) -> Checked:
  """The settings with what their names stand for; no text is looked for."""
  # A task says its labels, so it is opened; a mixture says nothing that is needed.
  has_task = not isinstance(settings, Pretrain)
  if not is_family(settings.init):
    return check_settings(settings, where_made=has_task)
  # As if from scratch: to the checks a model that is not here is one of its family.
  model = dict(settings.model, family=settings.init)
  alike = dataclasses.replace(settings, init=SCRATCH, model=model)
  checked = check_settings(alike, where_made=has_task)
  return checked._replace(settings=settings)


def is_family(name: str) -> bool:
  """Is this the name of a published size, and of no file that is here?"""
  return name in models.FAMILIES and not pathlib.Path(name).exists()


def _never_drops(arch: models.Arch) -> bool:
  """Is a published model of those that never saw dropout: Llama and its relatives?"""
  return arch.kind == 'decoder' and arch.norm.startswith('rms')


def _source_of(init: str) -> interop.Loaded:
  """The model that a run starts from, with shapes in the place of its parameters."""
  if is_family(init):
    head = 'causal' if models.arch(init).kind != 'encoder' else 'none'
    return _without_params(models.arch(init, head=head), None)
  path = pathlib.Path(files.require_local(init, 'config.init:'))
  if (path / 'checkpoints').is_dir():
    meta = checkpoint.Store(path / 'checkpoints').meta(choose_step(path, None))
    arch, _ = arch_of(meta, str(path))
    return _without_params(arch, tokenizing.open_tokenizer(path))
  if path.suffix.lower() == '.gguf':
    loaded = interop.load(path)
    return loaded._replace(params=_shapes_of(loaded.params))
  config = interop.huggingface.read_config(path)
  arch = interop.configs.read(config)
  found = _without_params(arch, interop.load_tokenizer(path))
  return found._replace(config=config)


def _without_params(arch: models.Arch, tokenizer) -> interop.Loaded:
  """A model whose parameters are shapes."""
  model = models.build(arch)
  params = jax.eval_shape(lambda: model.init(jax.random.key(0)))
  return interop.Loaded(model, params, tokenizer, arch)


def _shapes_of(params):
  """The shapes and dtypes of a tree of arrays."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)


def _tokenizer_of(
  settings: Settings, source: interop.Loaded | None
) -> tuple[Any, list[str]]:
  """(the tokenizer of a run, or what stands for one that is not there; notes on it)."""
  choice: Tokenizing = settings.tokenizer
  if source is not None:
    if source.tokenizer is not None:
      return source.tokenizer, []
    return _nominal(source.arch.vocabulary), []
  if choice.path:
    return data.tokenizers.load(choice.path), []
  rows = settings.model.get('vocabulary')
  family = settings.model['family']
  published = models.arch(family).vocabulary
  notes = []
  wanted = dict(family=family, vocabulary=published)
  if rows is None and choice.size != published:
    notes.append(
      f'vocabulary: {choice.size:,} pieces, as config.tokenizer.size says; the family '
      f'{family} has {published:,}: --config.model="{wanted}"'
    )
  return _nominal(min(choice.size, rows or choice.size)), notes


def _nominal(size: int) -> objectives.Nominal:
  """What stands for a tokenizer of so many pieces that is not there."""
  last = tuple(range(max(5, size - SENTINELS), size))
  return objectives.Nominal(vocabulary_size=size, sentinels=last)


def _writer_of(
  task: tasks.Task | None, arch: models.Arch, tokenizer, source
) -> tasks.Writer:
  """How the model ends its texts; no shape depends on the ids."""
  if isinstance(tokenizer, objectives.Nominal):
    return tasks.Writer(arch.kind, tokenizer.eos, tokenizer.pad)
  return writing.writer_of(task, arch, tokenizer, source)


def _weights_of(settings: Settings, task: tasks.Task | None) -> tuple[float, ...]:
  """Weights of the classes, where a run would count them."""
  if task is None or settings.task.weights is None:
    return ()
  return (1.0,) * len(task.labels)


def _row_of(
  settings: Settings, task: tasks.Task | None, parts: assembly.Components
) -> dict[str, np.ndarray]:
  """A row of a run's batches, laid out from a made-up example."""
  group = settings.data
  if task is None:
    rows = mixtures.rows_for(group, parts.objective)
    layout = pipeline.Layout(rows.length, rows.pairs, pack=group.pack, room=rows.room)
    examples = pipeline.Examples(_tokens())
    if rows.pairs is not None:
      examples = pipeline.Examples(_tokens(), np.zeros(1, int), types=_tokens())
    return layout.fill(examples, [0])
  arch = parts.model.arch
  length = group.length
  if task.problem.head == 'choice':
    # How long rows are depends on the questions: of this many whole candidates here.
    length *= CANDIDATES
  if vectors.is_vector(task):
    length *= vectors.TEXTS
  most = group.examples_per_row or max(1, group.length // 8)
  layout = pipeline.Layout(
    length,
    examples_per_row=most if group.pack else 1,
    target_length=target_length(group, arch),
    pack=group.pack,
  )
  return layout.fill(_example_of(task, arch), [0])


def _tokens() -> TokenList:
  """One text of two tokens."""
  return TokenList([np.arange(1, 3)])


def _candidates(count: int) -> Candidates:
  """Several texts of one example."""
  return Candidates(TokenList([np.arange(1, 3)] * count), np.array([count]))


def _tagged() -> Windows:
  """A sentence of two words."""
  words = np.arange(2)
  first = np.zeros(1, np.int32)
  count = np.array([2])
  return Windows([words + 1], first, [words], [words], count, np.zeros(2, np.int32))


def _extracts() -> extracts.Extracts:
  """A question on a passage of one token."""
  ids = np.arange(1, 3)
  places = np.array([[0, 1]])
  window = extracts.Window(ids, 0 * ids, 1, places, np.array([True]))
  return extracts.Extracts(
    [window], np.zeros(1, np.int32), 1, np.ones((1, 2), np.int32)
  )


def _example_of(task: tasks.Task, arch: models.Arch) -> pipeline.Examples:
  """One example as the problem of a task encodes it."""
  if task.problem.head == 'choice':
    labels = np.zeros(1, np.int32)
    if task.problem.form == 'worths':
      labels = np.zeros((1, CANDIDATES), np.float32)
    return pipeline.Examples(_candidates(CANDIDATES), labels=labels)
  if vectors.is_vector(task):
    labels = np.zeros((1, vectors.TEXTS), np.float32)
    return pipeline.Examples(_candidates(vectors.TEXTS), labels=labels)
  if task.problem.form == 'tags':
    return pipeline.Examples(_tagged())
  if task.problem.form == 'span':
    tokens = _extracts()
    return pipeline.Examples(tokens, types=tokens.types if arch.types > 1 else None)
  if task.problem.answer == 'logits':
    count = task.outputs
    labels = np.zeros(1, np.int32)
    if not task.problem.exclusive:
      labels = np.zeros((1, count), np.float32)
    return pipeline.Examples(_tokens(), labels=labels)
  if arch.kind == 'encoder-decoder':
    return pipeline.Examples(_tokens(), targets=_tokens())
  return pipeline.Examples(_tokens(), prompts=np.ones(1, np.int32))
