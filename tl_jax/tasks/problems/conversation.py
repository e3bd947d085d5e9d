"""The problem of conversations: a decoder learns what the assistant says in them.

A conversation is one text, as the model's chat template puts it. The loss is that of
all turns of the assistant with the ends of these turns. Asked for, and scored, is the
last one.

>>> CONVERSATION.read((Turn('user', 'Hi'), Turn('assistant', 'Hello')), ())
'Hello'
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax import objectives
from tl_jax.config import ConfigError
from tl_jax.data import pipeline
from tl_jax.data.chats import Chat, Encoded
from tl_jax.data.conversations import Turn
from tl_jax.data.tokens import TokenList
from tl_jax.tasks.problems import columns, problem, text
from tl_jax.tasks.problems.problem import Array, Cut, Example, Facts, Limits

Turns = tuple[Turn, ...]


def _gather(examples: list[Example]) -> Array:
  """The turns of every example, a tuple each: object (n,)."""
  found = np.empty(len(examples), object)
  for place, example in enumerate(examples):
    found[place] = example.target
  return found


def _ask(texts: Sequence[str | Turns]) -> Array:
  """Conversations that somebody will answer; a text is what a user says."""
  # The prompt ends before the answer, whatever that is.
  answer = Turn('assistant', '.', learned=True)
  asked = []
  for each in texts:
    before = (Turn('user', each),) if isinstance(each, str) else each
    asked.append(Example((), (*before, answer)))
  return _gather(asked)


class _Fitted(NamedTuple):
  """A conversation that fits a row. whole: the tokens before its last answer, as many as
  there were. answer: those of the last answer.
  """

  encoded: Encoded
  prompt: int
  whole: int
  answer: int


def _encode(texts, targets, tokenizer, limits: Limits) -> problem.Encoded:
  del texts
  chat = Chat(tokenizer)
  fitted = [_fit(chat, turns, tokenizer, limits) for turns in targets]
  examples = pipeline.Examples(
    _arrays([each.encoded.ids for each in fitted]),
    prompts=np.array([each.prompt for each in fitted], np.int32),
    learned=_arrays([each.encoded.learned for each in fitted]),
  )
  room = limits.length - limits.target_length
  before = Cut.of('conversation', [each.whole for each in fitted], room)
  answers = Cut.of('answer', [each.answer for each in fitted], limits.target_length)
  return problem.Encoded(examples, (before, answers))


def _arrays(rows: Sequence[Sequence[int]]) -> TokenList:
  return TokenList([np.array(row, np.int32) for row in rows])


def _fit(chat: Chat, turns: Turns, tokenizer, limits: Limits) -> _Fitted:
  """The conversation as ids that a row holds.

  What is before the last answer leaves room for the longest one: the oldest turns go
  until it does, then the end of the question. Raises ConfigError where there is no room
  for a question.
  """
  room = limits.length - limits.target_length
  # Encoded anew each time: a template may put the rest in another way.
  kept = turns
  encoded = chat.encode(kept)
  whole = encoded.prompt
  while encoded.prompt > room:
    shorter = _without_oldest(kept)
    if shorter is None:
      shorter = _with_shorter_question(kept, encoded.prompt - room, tokenizer)
    kept = shorter
    encoded = chat.encode(kept)
  ids, learned, answer = _ended(encoded, tokenizer, limits)
  return _Fitted(Encoded(ids, learned), encoded.prompt, whole, answer)


def _without_oldest(turns: Turns) -> Turns | None:
  """The turns without the first question and its answer; None where it is the last.

  What the system says stays.
  """
  questions = [place for place, turn in enumerate(turns) if turn.role == 'user']
  if len(questions) < 2:
    return None
  first, second = questions[:2]
  return turns[:first] + turns[second:]


def _with_shorter_question(turns: Turns, excess: int, tokenizer) -> Turns:
  """The turns with `excess` tokens less, or nearly so, at the end of the longest one
  before the answer.
  """
  before = turns[:-1]
  longest = max(
    range(len(before)), key=lambda place: len(before[place].content), default=0
  )
  content = before[longest].content if before else ''
  pieces = tokenizer.encode_places(content)
  if not pieces:
    raise ConfigError(
      'config.data.length: no room for a question beside the chat template and the '
      'longest answer (config.data.target_length)'
    )
  kept = max(0, len(pieces) - excess)
  # A piece may begin where the one before it does; something always goes.
  end = min(pieces[kept][1], len(content) - 1)
  shorter = before[longest]._replace(content=content[:end])
  return (*before[:longest], shorter, *turns[longest + 1 :])


def _ended(
  encoded: Encoded, tokenizer, limits: Limits
) -> tuple[list[int], list[int], int]:
  """(ids, learned, tokens of the last answer before it is cut), with an end behind it."""
  ids, learned = list(encoded.ids), list(encoded.learned)
  end = len(learned) - learned[::-1].index(1)
  eos = limits.writer.eos
  last = encoded.prompt + limits.target_length
  # A template may end the turn with nothing: then the end of a text does.
  needs_end = ids[end - 1] != eos and not {*ids[end:]} & {*tokenizer.special_ids}
  if end + needs_end > last:
    ids, learned = [*ids[: last - 1], eos], [*learned[: last - 1], 1]
  elif needs_end:
    ids, learned = [*ids[:end], eos], [*learned[:end], 1]
  answer = end + needs_end - encoded.prompt
  return ids[: limits.length], learned[: limits.length], answer


def _objective(facts: Facts) -> objectives.Objective:
  """Maximum likelihood of what the assistant says."""
  return objectives.causal(smoothing=facts.smoothing)


def _answer(value) -> str:
  """What the assistant says last, or a text that a model wrote."""
  return value if isinstance(value, str) else value[-1].content.strip()


def _line(prompt, target, prediction, raw, labels) -> dict:
  del raw, labels
  return dict(source=prompt, prediction=prediction, reference=_answer(target))


def _written(targets: Array) -> list[str]:
  return [turn.content for turns in targets for turn in turns]


# The target is a conversation; its last turn is what is asked for, and scored as any
# other text that is written.
CONVERSATION = dataclasses.replace(
  text.TEXT,
  name='conversation',
  kinds=('decoder',),
  form='turns',
  from_column=columns.read_conversations,
  gather=_gather,
  ask=_ask,
  encode=_encode,
  objective=_objective,
  plain=lambda values: list(map(_answer, values)),
  read=lambda value, labels: _answer(value),
  line=_line,
  written=_written,
  end=lambda tokenizer: Chat(tokenizer).end,
  told=lambda tokenizer: [Chat(tokenizer).told],
)
