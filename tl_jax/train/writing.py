"""How a model writes texts: what it begins and ends them with, and how they are decoded.

>>> import pathlib
>>> limits = tasks.Limits(64, pathlib.Path('/cache'), target_length=32)
>>> decoding(limits, pad=0).max_new_tokens
32
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tl_jax import config, decode, interop, models, tasks
from tl_jax.config import ConfigError


class NoEnd(ConfigError):
  """Nothing says which piece ends a text."""


def writer_of(
  task: tasks.Task | None,
  arch: models.Arch,
  tokenizer,
  source: interop.Loaded | None,
) -> tasks.Writer:
  """How a model begins and ends the texts that it writes; any where it writes none.

  The chat template says what ends an answer, where the task has conversations. Else the
  folder that a `source` came from says it, and the tokenizer what it leaves open.
  Raises ConfigError where nothing says what ends a text.
  """
  if task is None or task.problem.answer != 'generate':
    return tasks.Writer()
  try:
    return writer_for(task.problem, arch, tokenizer, source)
  except NoEnd as error:
    raise ConfigError(f'config.task: {task.name}: {error}') from error


def writer_for(
  problem: tasks.Problem,
  arch: models.Arch,
  tokenizer,
  source: interop.Loaded | None,
) -> tasks.Writer:
  """How a model begins and ends its answers to a problem of texts, as `writer_of` says.

  Raises NoEnd where nothing says what ends a text.
  """
  end = problem.end(tokenizer)
  if end is not None:
    return tasks.Writer(arch.kind, end)
  if source is None:
    source = interop.Loaded(None, None, tokenizer, arch)
  declared, _ = interop.generation_settings(source, dict(method='greedy'))
  ends = declared['eos']
  if not ends:
    raise NoEnd('neither the tokenizer nor the model says which piece ends a text')
  # A chat model has several; its tokenizer knows the one that ends a turn.
  eos = tokenizer.eos if tokenizer.eos in ends else ends[0]
  if arch.kind == 'decoder':
    return tasks.Writer(arch.kind, eos)
  # BART writes <s> first, whatever the text, and mBART-50 the language.
  begin = declared.get('forced_bos') or tuple(tokenizer.prefix)
  return tasks.Writer(arch.kind, eos, declared['start'][0], begin)


# What is no choice of a task, with the reason.
SAID_ELSEWHERE = {
  'max_new_tokens': 'config.data.target_length says it',
  'samples': 'one text of each example is scored',
  **dict.fromkeys(('eos', 'pad', 'start', 'forced_bos'), 'the model says it'),
}


def require_decoding(task: tasks.Task) -> None:
  """Raises ConfigError for a way to decode that the task cannot have."""
  where = 'config.task.decoding'
  if task.decoding and task.problem.answer != 'generate':
    raise ConfigError(
      f'{where}: {task.name} is of kind {task.problem.name!r}; it is of tasks with texts '
      'to write (config.task.target)'
    )
  for name, reason in SAID_ELSEWHERE.items():
    if name in task.decoding:
      raise ConfigError(f'{where}.{name}: {reason}; leave it out')
  try:
    config.struct(decode.Decoding, task.decoding, where)
  except ConfigError as error:
    said = str(error)
    # Of fields that contradict each other, only the names are said.
    raise ConfigError(said if where in said else f'{where}.{said}') from error


def decoding(
  limits: tasks.Limits, pad: int, chosen: Mapping[str, Any] = MappingProxyType({})
) -> decode.Decoding:
  """Decoding of texts as long as those that are learned: greedy, or as is `chosen`."""
  writer = limits.writer
  start = (writer.start,) if writer.kind == 'encoder-decoder' else ()
  # What every text begins with needs no model.
  begin = writer.begin if len(writer.begin) == 1 else ()
  of_the_model = dict(
    max_new_tokens=limits.target_length,
    eos=writer.eos,
    pad=pad,
    start=start,
    forced_bos=begin,
  )
  # Of fields that both have, those that are chosen hold.
  return decode.Decoding(**{**of_the_model, **chosen})


def declared(
  source: interop.Loaded,
  longest: int,
  chosen: Mapping[str, Any] = MappingProxyType({}),
  end: int | None = None,
) -> dict[str, Any]:
  """What generation_config.json says of a model that learned to write texts of at most
  `longest` tokens: that these are decoded as `decoding` decodes them.

  source: the model, with what the one that it came from says of decoding. Of that only
  the ids of special pieces count: lengths, beams and penalties were meant for the texts
  of another task. chosen: fields of `Decoding` that the task chooses. end: the piece
  that ends its answers, where that is one of the task; others may end them, too.

  >>> import types
  >>> pieces = types.SimpleNamespace(eos=3, pad=0)
  >>> said = dict(min_length=56)
  >>> gpt = interop.Loaded(None, None, pieces, models.arch('tiny-gpt'), generation=said)
  >>> declared(gpt, 8)
  {'eos_token_id': [3], 'pad_token_id': 0, 'do_sample': False, 'max_new_tokens': 8}
  """
  ids, _ = interop.generation_settings(source, dict(method='greedy'))
  ends = list(ids['eos'])
  if end is not None:
    ends = [end, *(other for other in ends if other != end)]
  found = dict(eos_token_id=ends, pad_token_id=ids['pad'])
  if source.arch.kind == 'encoder-decoder':
    found['decoder_start_token_id'] = ids['start'][0]
    # As `writer_of` has it.
    begin = ids.get('forced_bos') or source.tokenizer.prefix
    if len(begin) == 1:
      found['forced_bos_token_id'] = begin[0]
  settings = decode.Decoding(**{'max_new_tokens': longest, **chosen})
  # Of these transformers has another default than ours.
  names = {'method', 'max_new_tokens', 'top_k', 'beams', *chosen}
  fields = {name: getattr(settings, name) for name in names}
  return found | interop.generation.spelled(fields)


def prompts_of(
  texts: Sequence[str],
  tokenizer,
  limits: tasks.Limits,
  problem: tasks.Problem = tasks.PROBLEMS['text'],
) -> tuple[list[list[int]], int]:
  """(the ids that a model is given of each text, how many of them were cut).

  They are those on which it learned to write, in a run on this problem.
  """
  encoded = problem.encode(texts, problem.ask(texts), tokenizer, limits)
  examples = encoded.examples
  prompts = [tasks.prompt_of(examples, index) for index in range(len(texts))]
  of_texts, _ = encoded.cut
  return prompts, of_texts.count
