"""Conversations as the one text that a model reads: by its chat template, or plainly.

>>> from tl_jax.data import tokenizers
>>> tokenizer = tokenizers.train(['user: assistant: Hi Hello'] * 9, 'bpe', 400)
>>> chat = Chat(tokenizer)
>>> turns = (Turn('user', 'Hi'), Turn('assistant', 'Hello', learned=True))
>>> chat.render(turns).text
'user: Hi\\nassistant: Hello</s>\\n'
>>> encoded = chat.encode(turns)
>>> learned = [i for i, on in zip(encoded.ids, encoded.learned) if on]
>>> tokenizer.decode(learned, special=True)
' Hello</s>'
"""

import contextlib
import dataclasses
import datetime
import functools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tl_jax.config import ConfigError
from tl_jax.data.conversations import ASSISTANT, Turn
from tl_jax.data.tokenizers import Tokenizer

# Noncharacters of Unicode, which no text in interchange holds: around what a template
# marks as the assistant's, and inside of special pieces that a turn merely spells.
_FIRST, _END, _BREAK = '\ufdd0', '\ufdd1', '\ufdd2'
# The day of templates that ask for today's, so that a run is the same tomorrow. It is
# the one that Llama's template takes where there is none.
TODAY = datetime.date(2024, 7, 26)
# The pieces that templates know by name.
_NAMED = ('bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask')

Render = Callable[..., str]


class Rendered(NamedTuple):
  """A conversation as a text. answers: the characters (first, end) that are learned."""

  text: str
  answers: tuple[tuple[int, int], ...]


class Encoded(NamedTuple):
  """A conversation as ids, with a 1 for each that is learned, and a 0 for the others."""

  ids: list[int]
  learned: list[int]

  @property
  def prompt(self) -> int:
    """How many ids stand before the last answer."""
    end = len(self.learned) - self.learned[::-1].index(1)
    while end and self.learned[end - 1]:
      end -= 1
    return end


class Chat:
  """A tokenizer with what puts the turns of a conversation into one text.

  That is the chat template of the tokenizer. Without one, `role: content` stands on a
  line for each turn, and the end of a text behind what the assistant says.

  A special piece that a turn spells is text, unless the tokenizer parses special pieces
  in texts. Raises ConfigError for a template that cannot be read.
  """

  def __init__(self, tokenizer: Tokenizer):
    self._tokenizer = tokenizer
    self._template = _template_of(tokenizer)
    self._special = _pattern_of(tokenizer)

  @property
  def is_plain(self) -> bool:
    """Is there no chat template, so that each turn is a line?"""
    return self._template is None

  @property
  def told(self) -> str:
    """A line on what puts the turns into a text."""
    if not self.is_plain:
      return 'turns are put into texts by the chat template of the tokenizer'
    return (
      'the tokenizer has no chat template: each turn is put as a line `role: content`, '
      'with the end of a text behind those of the assistant'
    )

  @functools.cached_property
  def end(self) -> int | None:
    """The special piece that ends what the assistant says; None where there is none."""
    probe = self.encode((Turn('user', 'a'), Turn(ASSISTANT, 'a', learned=True)))
    last = [i for i, on in zip(probe.ids, probe.learned, strict=True) if on][-1]
    return last if last in self._tokenizer.special_ids else None

  def encode(self, turns: Sequence[Turn]) -> Encoded:
    """The ids of a conversation that has an answer, and which of them are learned.

    Learned is from the first token that a character of an answer is in to the last
    one. Raises ConfigError for turns that the template refuses.
    """
    rendered = self.render(tuple(map(self._unspelled, turns)))
    ids, characters = self._ids_of(rendered.text)
    # Also what lies between: some tokenizers say of white space that it is nowhere.
    learned = [0] * len(ids)
    for answer in rendered.answers:
      inside = [place for place, own in enumerate(characters) if _touch(answer, own)]
      if inside:
        first, last = inside[0], inside[-1]
        learned[first : last + 1] = [1] * (last + 1 - first)
    if 1 not in learned:
      said = [turn.content for turn in turns if turn.learned]
      raise ConfigError(f'chat template: no token of the answers {said!r:.60}')
    return Encoded(ids, learned)

  def _ids_of(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """(ids, the characters (first, end) that each stands for) of a text with breaks."""
    # A text in a template of its own begins as the template says.
    ids = [] if self._template else list(self._tokenizer.prefix)
    characters = [(0, 0)] * len(ids)
    start = 0
    for part in text.split(_BREAK):
      for i, first, end in self._tokenizer.encode_places(part):
        ids.append(i)
        characters.append((start + first, start + end))
      start += len(part) + len(_BREAK)
    return ids, characters

  def render(self, turns: Sequence[Turn]) -> Rendered:
    """The text of a conversation, with the places of its answers."""
    whole = self._render(turns)
    if _FIRST in whole:
      return _marked(whole, [turn for turn in turns if turn.role == ASSISTANT])
    answers = []
    cursor = 0
    for place, turn in enumerate(turns):
      if turn.role == ASSISTANT:
        first, end = self._answer(whole, turns, place, cursor)
        cursor = end
        if turn.learned:
          answers.append((first, end))
    return Rendered(whole, tuple(answers))

  def _answer(
    self, whole: str, turns: Sequence[Turn], place: int, cursor: int
  ) -> tuple[int, int]:
    """The characters (first, end) of the turn at a place, its end of turn among them.

    Most templates put every turn behind those before it. Others change earlier turns,
    as they leave out what was thought: there the turn is looked for behind `cursor`.
    """
    content = turns[place].content.strip()
    before = self._attempt(turns[:place], ask=True)
    through = self._attempt(turns[: place + 1])
    first = whole.find(content, cursor)
    if before is not None and whole.startswith(before):
      first = len(before)
    elif first < 0:
      raise ConfigError(
        f'chat template: the turn {content[:40]!r} of the assistant is not in its text'
      )
    if through is not None and whole.startswith(through) and len(through) > first:
      said = whole[first : len(through)]
      # A line end after the end of a turn belongs to no turn.
      if self._ends(said.rstrip()):
        said = said.rstrip()
      return first, first + len(said)
    end = whole.find(content, first) + len(content)
    # What ends the turn stands right behind what was said.
    found = self._special.match(whole, end)
    return first, found.end() if found else end

  def _ends(self, text: str) -> bool:
    """Is a special piece at the end of the text?"""
    return any(found.end() == len(text) for found in self._special.finditer(text))

  # A template may ask for roles that take turns, which a part of a conversation lacks.
  def _attempt(self, turns: Sequence[Turn], ask: bool = False) -> str | None:
    """The text of a part of a conversation; None where the template refuses it."""
    with contextlib.suppress(ConfigError):
      return self._render(turns, ask)
    return None

  def _render(self, turns: Sequence[Turn], ask: bool = False) -> str:
    """The text of turns; with `ask` up to where the assistant begins its next one."""
    if self._template:
      return self._template(turns, ask)
    end = self._tokenizer.eos
    mark = '' if end is None else self._tokenizer.pieces[end]
    lines = []
    for turn in turns:
      after = mark if turn.role == ASSISTANT else ''
      lines.append(f'{turn.role}: {turn.content}{after}\n')
    return ''.join(lines) + (f'{ASSISTANT}:' if ask else '')

  def _unspelled(self, turn: Turn) -> Turn:
    """The turn with a break inside of every special piece that it spells."""
    if self._tokenizer.parse_special:
      return turn
    content = self._special.sub(
      lambda found: found[0][0] + _BREAK + found[0][1:], turn.content
    )
    return turn._replace(content=content)


def templated(tokenizer: Tokenizer) -> Tokenizer:
  """The tokenizer with a chat template: its own, or one that puts turns as lines.

  So whoever renders templates puts them as `Chat` does without one.
  """
  if tokenizer.chat_template:
    return tokenizer
  return dataclasses.replace(tokenizer, chat_template=_plain_template(tokenizer))


def _plain_template(tokenizer: Tokenizer) -> str:
  """A template for turns as lines, behind what the tokenizer puts before a text."""
  begin = ''.join(tokenizer.pieces[i] for i in tokenizer.prefix)
  end = '' if tokenizer.eos is None else tokenizer.pieces[tokenizer.eos]
  # Texts as JSON are texts as Jinja, too.
  begin, end = (json.dumps(piece, ensure_ascii=False) for piece in (begin, end))
  is_answer = f"message['role'] == '{ASSISTANT}'"
  return (
    f'{{{{ {begin} }}}}'
    '{% for message in messages %}'
    "{{ message['role'] + ': ' + message['content'] }}"
    f'{{% if {is_answer} %}}{{{{ {end} }}}}{{% endif %}}'
    "{{ '\\n' }}"
    '{% endfor %}'
    f"{{% if add_generation_prompt %}}{{{{ '{ASSISTANT}:' }}}}{{% endif %}}"
  )


def _touch(one: tuple[int, int], other: tuple[int, int]) -> bool:
  """Have two ranges (first, end) of characters one in common?"""
  return max(one[0], other[0]) < min(one[1], other[1])


def _marked(whole: str, said: Sequence[Turn]) -> Rendered:
  """A text whose template says itself what the assistant writes.

  said: the turns of the assistant.
  """
  text, *parts = whole.split(_FIRST)
  answers = []
  for part in parts:
    answer, _, after = part.partition(_END)
    answers.append((len(text), len(text) + len(answer)))
    text += answer + after
  # A template may mark other things too; then it alone says what is learned.
  if len(answers) == len(said):
    pairs = zip(answers, said, strict=True)
    answers = [answer for answer, turn in pairs if turn.learned]
  return Rendered(text, tuple(answers))


def _pattern_of(tokenizer: Tokenizer) -> re.Pattern:
  """What matches a special piece; one of a single character cannot be told from text."""
  pieces = [tokenizer.pieces[i] for i in tokenizer.special_ids]
  # The longest first, as a tokenizer looks for them.
  pieces = sorted((piece for piece in pieces if len(piece) > 1), key=len, reverse=True)
  return re.compile('|'.join(map(re.escape, pieces)) or r'(?!)')


def _template_of(tokenizer: Tokenizer) -> Render | None:
  """What renders the tokenizer's template, as function (turns, ask) -> text; None where
  it has none.
  """
  source = tokenizer.chat_template
  if isinstance(source, dict):
    if source and 'default' not in source:
      raise ConfigError(
        f'chat template: none is the default; there are {", ".join(source)}'
      )
    source = source.get('default')
  # Lines need no library to be written.
  if not source or source == _plain_template(tokenizer):
    return None
  environment = _environment()
  names = _special_names(tokenizer)
  with _errors_told():
    template = environment.from_string(source)

  def render(turns: Sequence[Turn], ask: bool) -> str:
    messages = [dict(role=turn.role, content=turn.content) for turn in turns]
    with _errors_told():
      return template.render(
        messages=messages,
        tools=None,
        documents=None,
        add_generation_prompt=ask,
        **names,
      )

  return render


@contextlib.contextmanager
def _errors_told():
  """Whatever a template raises becomes a ConfigError of one line."""
  try:
    yield
  except Exception as error:
    # A template is a program of others: it may raise anything.
    reason = ' '.join(str(error).split())[:200]
    raise ConfigError(f'chat template: {type(error).__name__}: {reason}') from error


def _special_names(tokenizer: Tokenizer) -> dict[str, str]:
  """The special pieces by the names that templates have for them, as bos_token.

  Where the tokenizer came with settings only those that these name.
  """
  found = {}
  for role in _NAMED:
    place = getattr(tokenizer, role)
    name = f'{role}_token'
    if place is not None and (not tokenizer.settings or tokenizer.settings.get(name)):
      found[name] = tokenizer.pieces[place]
  return found


@functools.cache
def _environment():
  """The Jinja of chat templates: a sandbox, with what such templates expect to find."""
  try:
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    import jinja2.sandbox
  except ImportError as error:
    raise ConfigError(
      'chat template: to render it needs jinja2: pip install jinja2'
    ) from error

  class Generation(jinja2.ext.Extension):
    """{% generation %} ... {% endgeneration %} around what the assistant writes."""

    tags = {'generation'}

    def parse(self, parser):
      line = next(parser.stream).lineno
      body = parser.parse_statements(['name:endgeneration'], drop_needle=True)
      marks = self.call_method('_mark')
      return jinja2.nodes.CallBlock(marks, [], [], body).set_lineno(line)

    def _mark(self, caller) -> str:
      return f'{_FIRST}{caller()}{_END}'

  # Templates come with files of others: in a sandbox they reach nothing else.
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[Generation, jinja2.ext.loopcontrols],
  )
  environment.filters['tojson'] = _to_json
  environment.globals |= dict(raise_exception=_raise, strftime_now=TODAY.strftime)
  return environment


def _to_json(value: Any, indent: int | None = None) -> str:
  # Jinja's own writes for HTML, with < and & escaped.
  return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str):
  """What templates call for a conversation that they do not take."""
  raise ValueError(message)
