"""How a model that writes is asked: as its run learned it, by a template, or as by a
user in a conversation.

>>> is_chat(Manner(system='Be brief.'), None), is_chat(Manner(chat=False), None)
(True, False)
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tl_jax import decode, evals, interop, tasks
from tl_jax.config import ConfigError
from tl_jax.data import conversations
from tl_jax.data.chats import Chat
from tl_jax.data.conversations import Turn
from tl_jax.train import writing

CONVERSATION = tasks.PROBLEMS['conversation']
# A text, or the turns that wait for an answer; () where nobody asks.
Question = str | tuple[Turn, ...]


class Manner(NamedTuple):
  """How somebody wants a model to be asked.

  template: how a text is put, with {text} in it; '' for as its run learned it, or as it
  is. chat: is it what a user says in a conversation? None: where its run learned
  conversations, or `system` says something. system: what the system says before it,
  where the conversation has no such turn.
  """

  template: str = ''
  chat: bool | None = None
  system: str = ''


class Learned(NamedTuple):
  """What a run that learned to write says of texts.

  problem: the kind of its task. limits: how it puts texts. decoding: the fields of
  `Decoding` that its task says.
  """

  problem: tasks.Problem
  limits: tasks.Limits
  decoding: Mapping[str, Any]

  def settings(self, pad: int, chosen: Mapping[str, Any]) -> decode.Decoding:
    """How it decodes, under the fields that are `chosen`."""
    own = self.decoding
    method = own.get('method', 'greedy')
    # What is said for one method is nothing that another one reads.
    if chosen.get('method', method) != method:
      own = {}
    return writing.decoding(self.limits, pad, {**own, **chosen})


class Asking(NamedTuple):
  """How a model writes, and how it is asked.

  limits: how texts are put to it; None for as they are. problem: the kind of task that
  says how.
  """

  settings: decode.Decoding
  limits: tasks.Limits | None
  problem: tasks.Problem
  system: str = ''

  @property
  def tidy(self) -> Callable[[str], str]:
    """What makes an answer of a text: white space around it is that of the prompt."""
    return str if self.limits is None else str.strip

  def read(
    self, texts: Sequence[Question], loaded: interop.Loaded
  ) -> tuple[Iterable[list[int]], int]:
    """(the ids that the model reads of each text, how many texts were cut).

    There are no ids of a question that nobody asks.
    """
    tokenizer = loaded.tokenizer
    if self.limits is None:
      return decode.ids_of(tokenizer, self.settings, loaded.arch.kind, texts), 0
    if self.problem.form != 'turns':
      return writing.prompts_of(texts, tokenizer, self.limits, self.problem)
    asked = [self._turns(text) for text in texts]
    there = [turns for turns in asked if turns]
    prompts, cut = writing.prompts_of(there, tokenizer, self.limits, self.problem)
    found = iter(prompts)
    return [next(found) if turns else [] for turns in asked], cut

  def _turns(self, text: Question) -> tuple[Turn, ...]:
    turns = (Turn('user', text),) if isinstance(text, str) else text
    return conversations.with_system(turns, self.system)


def is_chat(manner: Manner, learned: tasks.Problem | None) -> bool:
  """Are texts what a user says? `learned` is the problem of the run of the model, or
  None.

  Raises ConfigError for things that do not go together.
  """
  chat = manner.chat
  if chat is None:
    chat = bool(manner.system) or (learned is not None and learned.form == 'turns')
  if manner.system and not chat:
    raise ConfigError('--system: only a conversation has a system; leave out --no-chat')
  if manner.template and chat:
    why = 'this model learned conversations' if manner.chat is None else '--chat'
    raise ConfigError(
      f'--template: {manner.template!r}, but {why}: a conversation has a form of its '
      'own; leave it out'
    )
  return chat


def asking_of(
  path: pathlib.Path,
  loaded: interop.Loaded,
  manner: Manner,
  chosen: Mapping[str, Any],
  length: int,
  learned: Learned | None,
  tell: Callable[[str], None],
) -> Asking:
  """How the model of a workdir or folder writes and is asked.

  chosen: fields of `Decoding` that hold against the model's folder; what that says
  besides and nothing follows is told. length: the most tokens of a text. learned: what
  the run of a workdir says, which decodes as its evaluation does. Raises ConfigError for
  a manner that the model does not have.
  """
  chat = is_chat(manner, learned and learned.problem)
  if learned is not None and chat == (learned.problem.form == 'turns'):
    limits = learned.limits
    limits = limits._replace(template=manner.template or limits.template)
    settings = learned.settings(loaded.tokenizer.pad, chosen)
    return Asking(settings, limits, learned.problem, manner.system)
  settings = evals.settings_of(path, loaded, chosen, tell)
  if not chat and not manner.template:
    return Asking(settings, None, tasks.PROBLEMS['text'])
  problem = CONVERSATION if chat else tasks.PROBLEMS['text']
  if chat:
    _require_decoder(path, loaded)
    settings = _ended(settings, loaded, tell)
  if settings.max_new_tokens >= length:
    raise ConfigError(
      f'max_new_tokens: {settings.max_new_tokens} leaves no room for a prompt in the '
      f'{length} tokens that {path} reads'
    )
  limits = tasks.Limits(
    length,
    path,
    settings.max_new_tokens,
    manner.template,
    writing.writer_for(problem, loaded.arch, loaded.tokenizer, loaded),
  )
  return Asking(settings, limits, problem, manner.system)


def _require_decoder(path: pathlib.Path, loaded: interop.Loaded) -> None:
  """Raises ConfigError for a model that goes on with no conversation."""
  if loaded.arch.kind not in CONVERSATION.kinds:
    raise ConfigError(
      f'--chat: {path} is of kind {loaded.arch.kind!r}; a conversation is gone on with '
      f'by a model of kind {CONVERSATION.kinds[0]!r}'
    )


def _ended(
  settings: decode.Decoding, loaded: interop.Loaded, tell: Callable[[str], None]
) -> decode.Decoding:
  """The settings under which what ends a turn ends a text, too."""
  chat = Chat(loaded.tokenizer)
  if chat.is_plain:
    tell(chat.told)
  end = chat.end
  if end is None or end in settings.eos:
    return settings
  return dataclasses.replace(settings, eos=(end, *settings.eos))
