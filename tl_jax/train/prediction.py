"""Answers to every text of a file, long after a run, by a model of any origin.

>>> predict(Request('/no/such/model', '/no/such/input.csv', '/tmp/labels.jsonl'))
Traceback (most recent call last):
ValueError: /no/such/input.csv: no such file
"""

import contextlib
import functools
import itertools
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

from tl_jax import config as configs
from tl_jax import data, files, parallel
from tl_jax.checkpoint.record import NAME as RECORD
from tl_jax.config import ConfigError, beside
from tl_jax.data import pairs
from tl_jax.evals import answers
from tl_jax.train.answering import (
  Answering,
  Subject,
  columns_of,
  delimiter_of,
  make_answering,
  open_settings,
  open_subject,
)
from tl_jax.train.asking import Manner, Question, is_chat
from tl_jax.train.heads import head_of, learned_problem, require_answers
from tl_jax.train.reporter import NULL_REPORTER, Reporter
from tl_jax.train.settings import Settings, Transfer
from tl_jax.train.stopping import Stopped, Stopping

# The files of a folder that say what its model answers.
OF_MODEL = ('.json', '.safetensors', '.gguf', '.txt', '.model', '.spm')


class Request(NamedTuple):
  """What is asked of which model.

  model: a workdir, a folder or a .gguf file. input: a file of texts. output: the file of
  the answers. step: a committed step of a workdir; None for the newest. text: the column
  of the texts, several with +; '' for the run's own, or `text`. delimiter: what parts
  the cells of the input; '' for the run's own, or what the header shows. embeddings:
  vectors instead of answers; `normalize` gives them length 1. batch: rows, or texts
  that are written at once; 0 for the usual number. dtype: of the computation; '' for
  that of the run. head: under which a folder is opened; None for its own. decoding:
  fields of `decode.Decoding`. template, chat, system: how a model that writes is asked,
  as `asking.Manner` has them.
  """

  model: str
  input: str
  output: str
  step: int | None = None
  text: str = ''
  delimiter: str = ''
  embeddings: bool = False
  normalize: bool = False
  batch: int = 0
  dtype: str = ''
  head: str | None = None
  decoding: Mapping[str, Any] = {}
  template: str = ''
  chat: bool | None = None
  system: str = ''

  @property
  def manner(self) -> Manner:
    return Manner(self.template, self.chat, self.system)


class Questions(NamedTuple):
  """The texts that are answered: `columns` of the file `path`.

  chat: are they what users say in conversations? head: of the model, which reads
  questions with candidates, or words, in a way of its own. delimiter: what parts the
  cells of the file; '' for what its header shows.
  """

  path: str
  columns: tuple[str, ...]
  chat: bool
  delimiter: str = ''
  head: str = ''

  @property
  def reader(self) -> Callable[..., Iterator[Question]]:
    read = data.texts.read_asked if self.chat else data.texts.read
    own = dict(
      choice=data.texts.read_choices,
      token=data.texts.read_words,
      span=data.texts.read_passages,
    )
    read = own.get(self.head, read)
    return functools.partial(read, delimiter=self.delimiter)

  def read(self) -> Iterator[Question]:
    return self.reader(self.path, self.columns)


def predict(request: Request, reporter: Reporter = NULL_REPORTER) -> int:
  """Writes the answer to each text of a file, in their order; returns their number.

  Answers are written in windows of some thousand texts, and memory does not grow with
  the file. Where the output has answers of the same model to the same texts, it goes on
  behind them. Raises ValueError for what is wrong with the request, before anything is
  compiled, and Stopped when a signal has asked for it and all that was written is safe.
  """
  with Stopping() as stopping:
    return _predict(request, stopping, reporter)


def _predict(request: Request, stopping: Stopping, reporter: Reporter) -> int:
  _require_paths(request)
  path = pathlib.Path(files.require_local(request.model, 'model'))
  settings, step = open_settings(path, request.step)
  chat = not request.embeddings and is_chat(request.manner, learned_problem(path, step))
  head = '' if request.embeddings else head_of(path, step, request.head)
  # Here, where it is known, rather than when the model is open.
  if head:
    require_answers(path, head)
  by_fields = chat or head in ('choice', 'token', 'span')
  columns = columns_of(_text_of(request, settings, head), settings, by_fields)
  delimiter = delimiter_of(request.delimiter, request.input, settings)
  questions = Questions(request.input, columns, chat, delimiter, head)
  total = _count(questions, reporter)
  origin = _origin(request, path, step, questions)
  output = pathlib.Path(request.output)
  # Before the model is opened: what is done need not be begun.
  if answers.written(output, origin) == total:
    reporter.info(f'{output}: the answers to all {total} texts are there')
    return total
  with reporter.busy('opening the model'):
    subject = open_subject(path, settings, step, request.dtype, request.head)
  parallel.keep_freed_memory()
  for line in _said_of_columns(columns, settings, subject):
    reporter.info(line)
  # Of this process alone: several would each have an output of their own.
  mesh = parallel.make_mesh(parallel.MeshShape(), jax.local_devices())
  with jax.set_mesh(mesh):
    answering = make_answering(
      subject,
      mesh,
      embeddings=request.embeddings,
      normalize=request.normalize,
      batch=request.batch,
      decoding=request.decoding,
      manner=request.manner,
      tell=reporter.info,
    )
    form = answers.form_of(output, answering.columns, answering.width)
    with answers.open_answers(output, origin, form) as file:
      cut = _answer(questions, answering, file, total, stopping, reporter)
  if cut:
    reporter.info(f'{cut} texts were cut to {subject.length} tokens')
  reporter.info(f'{output}: {total} answers')
  return total


def _text_of(request: Request, settings: Settings | None, head: str) -> str:
  """The columns of the texts as they were said, now or for the run; '' for neither."""
  if head in ('token', 'span') and isinstance(settings, Transfer):
    return request.text or settings.task.text
  return request.text


def _said_of_columns(
  columns: tuple[str, ...], settings: Settings | None, subject: Subject
) -> list[str]:
  """A line, or none, on how a model reads the columns of texts that it is given."""
  # Questions with candidates, and words, are found by their fields.
  if subject.loaded.arch.head in ('choice', 'token'):
    return []
  names = '+'.join(columns)
  count = len(columns)
  # The run of a workdir has said how it reads its own.
  if settings is not None:
    if subject.pairs and count != 2:
      return [f'{names}: one text, but the model learned pairs of texts']
    return []
  if count < 2:
    return []
  # A folder does not say how its model was trained to read several.
  tokenizer = subject.loaded.tokenizer
  # Whether two texts have a frame does not depend on what they say.
  has_frame = pairs.are_framed([pairs.Pair('', '')], tokenizer)
  if count == 2 and subject.pairs and has_frame:
    return [f'{names}: two texts, read as {pairs.spelled(tokenizer)}']
  return [f'{names}: one text, with the name of each column']


def _answer(
  questions: Questions,
  answering: Answering,
  file: answers.Answers,
  total: int,
  stopping: Stopping,
  reporter: Reporter,
) -> int:
  """Answers the texts that have no answer yet; returns how many of them were cut."""
  first = file.count
  began = time.monotonic()
  last_cut = 0

  def tell(done: int) -> None:
    passed = time.monotonic() - began
    rate = (done - first) / max(passed, 1e-9)
    reporter.progress('predict', done, total, texts_per_second=rate)

  def watch(answered: int, cut: int) -> None:
    nonlocal last_cut
    last_cut = cut
    # Nothing is lost but the window that is being answered.
    if stopping.asked:
      raise Stopped(
        f'{file.path}: stopped with the answers to {file.count} of {total} texts; '
        'run it again to go on'
      )
    # The last word is said when the last window is on the disk.
    if file.count + answered < total:
      tell(file.count + answered)

  texts = itertools.islice(questions.read(), first, None)
  reporter.progress('predict', first, total)
  with contextlib.closing(answering.windows(texts, first, watch)) as windows:
    for window in windows:
      file.add(window)
      tell(file.count)
  return last_cut


def _require_paths(request: Request) -> None:
  """Raises ValueError for files that cannot be read or written, or that are one."""
  data.texts.require(request.input)
  answers.require_output(request.output, request.embeddings)
  if os.path.exists(request.output) and os.path.samefile(request.input, request.output):
    raise ConfigError(f'--output: {request.output}: is the input itself')
  if request.normalize and not request.embeddings:
    raise ConfigError('--normalize: only embeddings have a length; add --embeddings')
  if not os.path.exists(request.model):
    near = beside(request.model)
    raise ConfigError(f'--model: {request.model}: no such folder or file{near}')


def _count(questions: Questions, reporter: Reporter) -> int:
  """How many texts there are. Raises ValueError for the first that cannot be read."""
  columns = questions.columns
  try:
    return data.texts.count(questions.path, columns, reporter.info, questions.reader)
  except data.separated.SeveralDelimiters as error:
    raise ConfigError(f'{error}; --delimiter=CHARACTER says by which') from error
  except data.separated.NoColumn as error:
    mend = '--text names the column of the texts'
    if error.parts:
      mend = f'--delimiter={data.separated.word_of(error.parts)} may part it'
    raise ConfigError(f'{error}; {mend}') from error


def _origin(
  request: Request, path: pathlib.Path, step: int | None, questions: Questions
) -> dict[str, Any]:
  """What answers depend on, JSON by name: a file of others is not gone on with."""
  columns = questions.columns
  kind = 'answers'
  if request.embeddings:
    kind = 'normalized embeddings' if request.normalize else 'embeddings'
  found = dict(
    model=digest_of_model(path, step),
    input=_checksum(pathlib.Path(request.input)),
    dtype=request.dtype,
    head=request.head,
    decoding=dict(request.decoding),
    template=request.template,
    **{'column of texts': '+'.join(columns), 'kind of answer': kind},
    # None where nothing was said: so it is in files from before one could.
    chat=request.chat,
    system=request.system or None,
    delimiter=questions.delimiter or None,
  )
  # An earlier version asked the model of a folder otherwise. A workdir says how.
  if step is None and len(columns) == 2:
    found['frame of two texts'] = True
  return found


def digest_of_model(path: pathlib.Path, step: int | None) -> str:
  """A digest of the model, wherever it lies: of a step, or of the files of a folder."""
  if step is not None:
    # The record of a step has a checksum of every file.
    return _checksum(path / 'checkpoints' / str(step) / RECORD)
  if path.is_file():
    return _checksum(path)
  # Others, such as a README, change no answer.
  held = sorted(file for file in path.iterdir() if file.suffix.lower() in OF_MODEL)
  found = {file.name: _checksum(file) for file in held if file.is_file()}
  return configs.digest(found)


def _checksum(file: pathlib.Path) -> str:
  _, checksum = files.digest(file)
  return checksum
