"""Conversations in the forms in which they are published, and what is said of others."""

import json

import pytest

from tl_jax.data import conversations, files, first_rows
from tl_jax.data.conversations import Turn

HI = [Turn('user', 'Hi'), Turn('assistant', 'Hello', True)]
SYSTEM = Turn('system', 'Be kind.')


@pytest.mark.parametrize(
  ('row', 'expected'),
  [
    (
      dict(
        messages=[
          dict(role='user', content='Hi'),
          dict(role='assistant', content='Hello'),
        ]
      ),
      HI,
    ),
    (
      {
        'conversations': [
          {'from': 'human', 'value': 'Hi'},
          {'from': 'gpt', 'value': 'Hello'},
        ]
      },
      HI,
    ),
    (dict(prompt='Hi', completion='Hello'), HI),
    (dict(prompt='Hi', response='Hello', score=3), HI),
    (
      dict(
        prompt=[dict(role='user', content='Hi')],
        completion=[dict(role='assistant', content='Hello')],
      ),
      HI,
    ),
    (dict(instruction='Hi', input='', output='Hello'), HI),
    (
      dict(instruction='Add.', input='1 1', output='2'),
      [Turn('user', 'Add.\n\n1 1'), Turn('assistant', '2', True)],
    ),
    (
      dict(instruction='Add.', context='1 1', response='2', category='sum'),
      [Turn('user', 'Add.\n\n1 1'), Turn('assistant', '2', True)],
    ),
    (dict(system='Be kind.', prompt='Hi', completion='Hello'), [SYSTEM, *HI]),
    (
      {
        'system': 'Be kind.',
        'conversations': [
          {'from': 'human', 'value': 'Hi'},
          {'from': 'gpt', 'value': 'Hello'},
          # Nothing answers it.
          {'from': 'human', 'value': 'Bye'},
        ],
      },
      [SYSTEM, *HI],
    ),
    (
      dict(
        messages=[
          dict(role='user', content=[dict(type='text', text='Hi')]),
          dict(role='assistant', content='No', weight=0),
          dict(role='user', content='Hi'),
          dict(role='assistant', content='Hello', weight=1),
        ]
      ),
      [Turn('user', 'Hi'), Turn('assistant', 'No'), *HI],
    ),
    (dict(messages=[dict(role='user', content='Hi')]), []),
    (dict(prompt='Hi', completion=None), []),
  ],
)
def test_every_form_is_turns(row, expected):
  fields = conversations.fields_of(row)
  assert conversations.turns_of(row, fields) == tuple(expected)


def test_other_rows_are_none():
  for row in (dict(text='Hi'), dict(messages='Hi'), dict(prompt='Hi'), {}):
    assert conversations.fields_of(row) is None


def test_a_file_may_mix_the_forms(tmp_path):
  path = tmp_path / 'chats.jsonl'
  rows = [dict(prompt='Hi', completion='Hello'), dict(instruction='Hi', output='Hello')]
  rows.append({'conversations': [dict(role='user', content='Hi')]})
  path.write_text('\n'.join(map(json.dumps, rows)))
  fields = first_rows.conversation_in(path)
  columns = files.Columns(fields[:1], fields[1:], labelled=True, conversation=True)
  found = [row['label'] for row in files.read(path, columns).examples]
  assert found == [tuple(HI), tuple(HI), None]


def test_a_text_that_spells_nothing_is_asked_all_the_same():
  assert conversations.asked_of(dict(text='null'), 'text') == (Turn('user', 'null'),)
  assert conversations.asked_of(dict(text=' '), 'text') == ()
  # A column of texts and an unanswered prompt: the one that is known to all.
  assert conversations.asking_field(dict(prompt='a', text='b')) == 'text'
  assert conversations.asking_field(dict(a='b')) is None


@pytest.mark.parametrize(
  ('turn', 'message'),
  [
    ('Hi', r"messages\[1\]: 'Hi' \(str\) is no turn"),
    (dict(role='asistant', content='a'), r"\[1\]: role: 'asistant' .*'assistant'"),
    (dict(content='a'), r'\[1\]: role: missing; the turn has content'),
    (dict(role='user'), r'\[1\]: content: missing; the turn has role'),
    (dict(role='assistant', content=None), r'content: .* is no text'),
    (dict(role='assistant', content=None, tool_calls=[{}]), 'calls of tools'),
    (dict(role='user', content=[dict(type='image')]), 'a part that is no text'),
  ],
)
def test_a_wrong_turn_is_named_with_its_line(turn, message, tmp_path):
  right = dict(messages=[dict(role='user', content='a')] * 2)
  wrong = dict(messages=[dict(role='user', content='a'), turn])
  path = tmp_path / 'chats.jsonl'
  path.write_text('\n'.join(map(json.dumps, [right, wrong])))
  fields = first_rows.conversation_in(path)
  columns = files.Columns(fields[:1], fields[1:], labelled=True, conversation=True)
  with pytest.raises(ValueError, match=message) as error:
    files.read(path, columns)
  assert f'{path}:2: messages[1]' in str(error.value)
