"""Conversations in rows of files, in the forms in which they are published.

>>> row = {'conversations': [{'from': 'human', 'value': 'Hi'}]}
>>> row['conversations'].append({'from': 'gpt', 'value': 'Hello'})
>>> [(turn.role, turn.learned) for turn in turns_of(row, fields_of(row))]
[('user', False), ('assistant', True)]
>>> fields_of({'instruction': 'Add.', 'input': '1 1', 'output': '2'})
('instruction', 'output')
>>> [turn.content for turn in asked_of(row, 'conversations')]
['Hi']
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tl_jax.config import nearest
from tl_jax.data import missing
from tl_jax.data.tokenizers import plain

ASSISTANT = 'assistant'
# The field, or the two fields, that hold a conversation: a list of turns in one field,
# or what is asked and what is answered. The first form that a row has is its form.
FORMS = (
  ('messages', 'messages'),
  ('conversations', 'conversations'),
  ('conversation', 'conversation'),
  ('prompt', 'completion'),
  ('prompt', 'response'),
  ('instruction', 'output'),
  ('instruction', 'response'),
)
# What stands beside an instruction, behind an empty line.
INPUTS = ('input', 'context')
# How others call the roles.
ROLES = {
  'user': 'user',
  'human': 'user',
  'prompter': 'user',
  'assistant': ASSISTANT,
  'gpt': ASSISTANT,
  'bot': ASSISTANT,
  'chatbot': ASSISTANT,
  'model': ASSISTANT,
  'system': 'system',
  'developer': 'developer',
  'tool': 'tool',
}
_ROLE_FIELDS = ('role', 'from')
_CONTENT_FIELDS = ('content', 'value')
# Where what a user says stands alone.
_ASKING_FIELDS = ('text', 'prompt', 'instruction')


class Turn(NamedTuple):
  """What one side says. learned: does a model learn to write it?"""

  role: str
  content: str
  learned: bool = False


def fields_of(row: Mapping[str, Any]) -> tuple[str, str] | None:
  """The fields of a row that hold a conversation: of `FORMS`; None where none do."""
  for first, last in FORMS:
    if first == last and isinstance(row.get(first), list):
      return first, last
    if first != last and first in row and last in row:
      return first, last
  return None


def turns_of(row: Mapping[str, Any], fields: tuple[str, str]) -> tuple[Turn, ...]:
  """The turns of a row up to the last one that is learned; () where none is.

  fields: those that hold the conversation. Raises ValueError `field: reason` for turns
  that are none.
  """
  first, last = fields
  if first == last:
    turns = _turns(row.get(first), first, 'user')
  else:
    asked = _asked(row, first)
    turns = _turns(asked, first, 'user') + _turns(row.get(last), last, ASSISTANT)
  turns = with_system(turns, row.get('system'))
  learned = [place for place, turn in enumerate(turns) if turn.learned]
  # What comes after the last of them teaches nothing.
  return turns[: learned[-1] + 1] if learned else ()


def asking_field(row: Mapping[str, Any]) -> str | None:
  """The field of a row that asks something, answered there or not; None where none
  does.
  """
  whole = fields_of(row)
  if whole is not None:
    return whole[0]
  names = [*(last for first, last in FORMS if first == last), *_ASKING_FIELDS]
  return next((name for name in names if name in row), None)


def asked_of(row: Mapping[str, Any], field: str) -> tuple[Turn, ...]:
  """The turns of a row that wait for an answer; () where nobody asks.

  An answer that is there already is no part of them, as a label is none of a text.
  field: as `asking_field` says, or any other with a text or turns. Raises ValueError
  `field: reason` for turns that are none.
  """
  asked = _asked(row, field)
  if isinstance(asked, str):
    # Somebody may well ask what 'null' means: only an empty text says nothing.
    turns = [Turn('user', plain(asked))] if asked.strip() else []
  else:
    turns = _turns(asked, field, 'user')
  while turns and turns[-1].role == ASSISTANT:
    turns.pop()
  return with_system(turns, row.get('system'))


def with_system(turns: Sequence[Turn], system: Any) -> tuple[Turn, ...]:
  """The turns behind what the system says, a text of its own in some files, unless they
  begin with such a turn.
  """
  has_own = bool(turns) and turns[0].role == 'system'
  if has_own or not turns or not isinstance(system, str) or not system.strip():
    return tuple(turns)
  return (Turn('system', plain(system)), *turns)


def transcript(turns: Sequence[Turn]) -> str:
  """Turns as a person reads them."""
  return '\n'.join(f'{turn.role}: {turn.content}' for turn in turns)


def _asked(row: Mapping[str, Any], field: str):
  """What is asked of the assistant: an instruction with its input."""
  value = row.get(field)
  if field != 'instruction' or not isinstance(value, str):
    return value
  inputs = [row[name] for name in INPUTS if isinstance(row.get(name), str)]
  return '\n\n'.join(text for text in [value, *inputs] if text.strip())


def _turns(value: Any, field: str, role: str) -> list[Turn]:
  """The turns of a field: a list of them, or a text, which is one turn of the role."""
  if missing.is_missing(value):
    return []
  if isinstance(value, str):
    content = plain(value)
    return [Turn(role, content, role == ASSISTANT and bool(content.strip()))]
  if not isinstance(value, list):
    raise ValueError(f'{field}: {_shown(value)} is no text and no list of turns')
  return [_turn(each, f'{field}[{place}]') for place, each in enumerate(value)]


def _turn(value: Any, where: str) -> Turn:
  """One turn of a list. Raises ValueError that names the place."""
  if not isinstance(value, Mapping):
    raise ValueError(
      f'{where}: {_shown(value)} is no turn; a turn has role and content, or from and '
      'value'
    )
  name = _field(value, _ROLE_FIELDS, where)
  said = value[name]
  if said not in ROLES:
    close = nearest(str(said), ROLES)
    raise ValueError(f'{where}: {name}: {said!r} is no role; nearest: {close}')
  # Before the content, which is often null beside such calls.
  if value.get('tool_calls'):
    raise ValueError(f'{where}: tool_calls: calls of tools are not read')
  name = _field(value, _CONTENT_FIELDS, where)
  content = _content(value[name], f'{where}: {name}')
  role = ROLES[said]
  # A weight of 0 says that this answer is no example of a good one.
  wanted = value.get('weight') != 0 and bool(content.strip())
  return Turn(role, content, role == ASSISTANT and wanted)


def _field(turn: Mapping[str, Any], names: Sequence[str], where: str) -> str:
  """The field of a turn that has one of these names."""
  for name in names:
    if name in turn:
      return name
  there = ', '.join(map(str, list(turn)[:8])) or 'nothing'
  raise ValueError(f'{where}: {names[0]}: missing; the turn has {there}')


def _content(value: Any, where: str) -> str:
  """The text of a turn, of several parts if it has them."""
  if isinstance(value, str):
    return plain(value)
  if not isinstance(value, list):
    raise ValueError(f'{where}: {_shown(value)} is no text')
  texts = []
  for part in value:
    is_text = isinstance(part, Mapping) and isinstance(part.get('text'), str)
    if not is_text:
      raise ValueError(f'{where}: {_shown(part)} is a part that is no text')
    texts.append(plain(part['text']))
  return '\n'.join(texts)


def _shown(value: Any) -> str:
  return f'{str(value)[:40]!r} ({type(value).__name__})'
