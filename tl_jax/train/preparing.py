"""A run prepared, of either mode: its texts, source, tokenizer, parts and examples, in
this order.

>>> prepare.__name__
'prepare'
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from tl_jax import interop, models, parallel, tasks, transfer
from tl_jax.train import assembly, methods, notes, phases, starting, tokenizing
from tl_jax.train.checks import Checked
from tl_jax.train.datasets import TaskExamples
from tl_jax.train.effects import require_effects
from tl_jax.train.information import fisher_of
from tl_jax.train.length import in_steps
from tl_jax.train.memory import require_memory
from tl_jax.train.mixtures import Mixture
from tl_jax.train.restoring import open_source
from tl_jax.train.settings import SCRATCH, Settings
from tl_jax.train.starting import Given
from tl_jax.train.writing import writer_of

Corpus = Mixture | TaskExamples


class Prepared(NamedTuple):
  """A run that is ready to start: everything but its state.

  Nothing in it but its `settings`, whose length is in steps, depends on what runs of
  one program may differ in.

  corpus: what the run learns from. account: what becomes of every leaf of the source;
  None where there is nothing to tell. cache: the folder where encoded texts are kept.
  """

  settings: Settings
  source: interop.Loaded | None
  tokenizer: Any
  parts: assembly.Components
  corpus: Corpus
  start: starting.Start
  account: transfer.Account | None
  cache: pathlib.Path

  @property
  def task(self) -> tasks.Task | None:
    """The task of a transfer; None in pre-training."""
    return self.corpus.task

  @property
  def title(self) -> str:
    """Task and method, for whoever watches."""
    if self.task is None:
      return self.corpus.name
    return f'{self.corpus.name}, {methods.name_of(self.settings.method)}'

  def lines(self, settings: Settings, chosen: np.ndarray) -> list[str]:
    """What a run of these settings tells at its start, trained on the examples
    `chosen`.
    """
    lines = self.notes(settings, chosen)
    if self.task is None:
      lines = [*lines, f'tokenizer: {self.tokenizer.vocabulary_size} pieces']
    else:
      lines = [*lines, *lines_on_defaults(settings, self.source)]
    return [*lines, *lines_on_export(self.parts.model.arch, self.source)]

  def notes(self, settings: Settings, chosen: np.ndarray) -> list[str]:
    """What a run says of its texts, trained on the examples `chosen`; its result keeps
    it.
    """
    corpus = self.corpus
    if self.task is None:
      lines = notes.of_mixture(corpus.sources, corpus.examples)
      stream, _ = corpus.stream(settings)
      lines += notes.of_shares(stream, settings.schedule.steps)
      lines += notes.of_stages(corpus.stages(settings))
      return [*lines, *phases.told(settings)]
    lines = notes.of_task(corpus, chosen, corpus.held_out(settings))
    lines += notes.of_weights(self.task, corpus.class_weights(settings))
    return [*lines, *self.task.problem.told(self.tokenizer)]

  def signatures(self) -> dict[str, str]:
    """The signatures of a task's scores of texts; {} where there are none."""
    if self.task is None:
      return {}
    return tasks.signatures(self.task, self.corpus.test.targets)

  def files(self) -> dict[str, str]:
    """A digest of every file of the user that the run reads, by path."""
    code = {} if self.task is None else self.task.own_code
    return notes.files_of(self.corpus.own_sources) | code

  def sets(self) -> dict[str, str]:
    """What names the content of every set that pre-training reads, by name."""
    return {} if self.task is not None else self.corpus.sets()

  def counted(self, settings: Settings) -> dict[str, int]:
    """How many tokens a run of pre-training reads; nothing of a transfer."""
    return {} if self.task is not None else self.corpus.counted(settings)

  @property
  def frame(self) -> str:
    """In which two texts of an example stand; '' where none do."""
    return '' if self.task is None else self.corpus.train.frame

  def given(self) -> Given:
    """What the first state of every run of this program is made from, in the memory of
    the host.
    """
    given = self._given_params()
    # In pre-training no task says what matters to the source: there all leaves count 1.
    if self.task is not None:
      names = methods.regularizers_of(self.parts.method)
      if 'ewc' in names:
        given = given._replace(fisher=fisher_of(self.settings.init))
    return parallel.to_host(given)

  def _given_params(self) -> Given:
    """What the first parameters are made from."""
    params = None if self.source is None else self.source.params
    vocabulary = self.parts.model.arch.vocabulary
    return Given(params, self.corpus.first_bias(self.settings, vocabulary))

  def params(self, seed):
    """The model's first parameters; `seed` may be traced."""
    return self.start.params(self._given_params(), seed)


def lines_on_export(arch: models.Arch, source: interop.Loaded | None) -> list[str]:
  """One line, or none, on what an export of this architecture would refuse."""
  # Told at the export, after the training, it would be told too late.
  config = None if source is None else source.config
  refusal = interop.classifiers.refusal(arch, config)
  return [f'not for export: {refusal}'] if refusal else []


def lines_on_defaults(settings: Settings, source: interop.Loaded | None) -> list[str]:
  """One line, or none, on the settings whose defaults depend on what a transfer starts
  from.
  """
  # A committed step is of a workdir.
  if source is None or source.step is not None:
    return []
  rate, dropout = settings.optim.lr, settings.compute.dropout
  return [
    f'config.optim.lr {rate:g}, config.compute.dropout {dropout:g}: where nobody says '
    f'otherwise {settings.init} is taken for a published model, also if it was exported '
    'here; the workdir of a run has the rates of small models'
  ]


def open_corpus(settings: Settings, task: tasks.Task | None) -> Corpus:
  """The texts that a run learns from: those of the task, or the mixture."""
  if task is None:
    return Mixture.open(settings.data)
  return TaskExamples.open(settings, task)


def prepare(
  checked: Checked,
  folder: pathlib.Path,
  is_primary: bool = True,
  cache: pathlib.Path | None = None,
) -> Prepared:
  """Opens the texts and the source, builds the model and encodes the texts.

  The tokenizer is kept in `folder`, the encoded texts below `cache` (by default in
  `folder`), where other runs find them. Raises ConfigError where things do not fit.
  """
  settings, task, method = checked.settings, checked.task, checked.method
  cache = folder if cache is None else cache
  corpus = open_corpus(settings, task)
  source = None if settings.init == SCRATCH else open_source(settings.init)
  tokenizer = tokenizing.prepare(
    settings.tokenizer,
    source,
    settings.init,
    corpus.training_texts,
    folder,
    is_primary,
  )
  reserved = method.reserved_positions
  arch = assembly.make_arch(settings, task, reserved, source, tokenizer)
  params = None if source is None else source.params
  method = methods.settled(settings, method, arch, params, folder)
  require_memory(settings, arch)
  writer = writer_of(task, arch, tokenizer, source)
  if task is not None:
    corpus = corpus._replace(writer=writer)
  weights = corpus.class_weights(settings)
  objective = assembly.objective_of(settings, task, tokenizer, writer, weights)
  parts = assembly.assemble(settings, arch, objective, method)
  require_effects(settings, parts)
  # Only now, because to encode takes long: what does not fit has been said.
  corpus = corpus.encoded(settings, parts, tokenizer, cache)
  if settings.schedule.epochs is not None:
    settings = in_steps(settings, corpus.stream(settings)[0])
    parts = assembly.assemble(settings, arch, objective, method)
  brings_head = task is not None and task.problem.fresh_head
  take_over = starting.transplanted if brings_head else starting.continued
  start = starting.Start(parts, take_over)
  # A pre-training from scratch has nothing to account for: all of it is new.
  has_account = source is not None or task is not None
  account = start.account(source) if has_account else None
  return Prepared(settings, source, tokenizer, parts, corpus, start, account, cache)
