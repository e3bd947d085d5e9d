"""Prompts that show a model what is asked by examples, and the words of its answers.

>>> from tl_jax.data import tokenizers
>>> tokenizer = tokenizers.train(['a film is | good bad'], kind='wordpiece', size=90)
>>> tokenizer = dataclasses.replace(tokenizer, prefix=(), suffix=())
>>> prompting = Prompting(template='{text} is {target}', between=' | ')
>>> prompter = Prompter(prompting, tokenizer, 'decoder', room=40, longest=2)
>>> (asked,) = prompter.ask(['film'], [(('bad film', 'bad'), ('good film', 'good'))])
>>> tokenizer.decode(asked.ids), asked.shots
('bad film is bad | good film is good | film is', 2)
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from tl_jax.config import ConfigError, Natural, nearest
from tl_jax.data import subsets
from tl_jax.data.candidates import Choices
from tl_jax.tasks.problems.text import PROMPT, Template, following

# What stands for a text that says nothing (Zhao et al. 2021).
CONTENT_FREE = ('N/A', '', '[MASK]')
# A text and the words of its answer.
Demonstration = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Prompting:
  """How a model is asked that learns nothing but what stands in its prompt: the options
  of `config.method` with the name in_context.
  """

  name: str = 'in_context'
  # demonstrations in a prompt; as many as fit, where these are fewer
  shots: Natural = 0
  # what is asked, and of a demonstration also answered
  template: str = PROMPT
  # what stands before everything
  instruction: str = ''
  # what stands after the instruction, and after every demonstration
  between: str = '\n\n'
  # {label: what is written for it}; the others are written as they are called
  words: dict[str, str] = dataclasses.field(default_factory=dict)
  # run: one draw of demonstrations for all examples; example: each has its own (Brown
  # et al. 2020), which takes longer
  draw: Literal['run', 'example'] = 'run'
  # of labels, what they are chosen by: the log-probability of all tokens, by token, by
  # character, less that behind the answer context, or calibrated
  score: Literal['sum', 'token', 'character', 'unconditional', 'calibrated'] = 'sum'
  # that of `unconditional`; empty: what the template has after {text}
  answer_context: str = ''
  content_free: tuple[str, ...] = CONTENT_FREE
  # the piece that whole sentences are read behind, as <|endoftext|>; empty: what the
  # tokenizer begins with, which of a chat model is the beginning of a turn
  begin: str = ''

  def __post_init__(self):
    if '{target}' not in self.template:
      raise ConfigError(
        f'config.method.template: {self.template!r} must end with its {{target}}'
      )
    Template.of(self.template, where='config.method.template')
    if not self.content_free:
      raise ValueError('content_free: needs one input at least')

  @property
  def parts(self) -> Template:
    """The template, taken apart."""
    return Template.of(self.template, where='config.method.template')

  @property
  def context(self) -> str:
    """The answer context of `unconditional`."""
    return self.answer_context or self.parts.after.strip()

  def words_of(self, labels: Sequence[str]) -> tuple[str, ...]:
    """What is written for each label.

    Raises ConfigError for words of a label that there is not, or that two labels share.
    """
    where = 'config.method.words'
    strange = [label for label in self.words if label not in labels]
    if strange:
      raise ConfigError(
        f'{where}: {strange[0]!r} is no label; there are {", ".join(labels)}'
      )
    found = tuple(self.words.get(label, label) for label in labels)
    for place, word in enumerate(found):
      if not word.strip() or word in found[:place]:
        raise ConfigError(
          f'{where}: {labels[place]!r} needs words of its own, not {word!r}'
        )
    return found


class Offer(NamedTuple):
  """What an example asks, and the answers that it offers: in words, and by the names
  that predictions have for them.
  """

  question: str
  words: tuple[str, ...]
  names: tuple[str, ...]


def offers(
  texts: Sequence[str], labels: Sequence[str], words: Sequence[str]
) -> list[Offer]:
  """What each text offers: the labels in these words, or of a question its own answers.

  >>> offers(['so?'], ('yes', 'no'), ('Yes', 'No'))
  [Offer(question='so?', words=('Yes', 'No'), names=('yes', 'no'))]
  """
  found = []
  for text in texts:
    if isinstance(text, Choices):
      found.append(Offer(text.question, text.answers, text.names))
    else:
      found.append(Offer(text, tuple(words), tuple(labels)))
  return found


class Asked(NamedTuple):
  """A prompt as ids, how many demonstrations are in it, and whether its text was cut."""

  ids: list[int]
  shots: int
  is_cut: bool = False


class Prompter(NamedTuple):
  """Puts texts into prompts of at most `room - longest` tokens.

  kind: of the model, decoder or encoder-decoder. longest: tokens that a decoder's
  answer may have; an encoder-decoder's stand elsewhere.
  """

  prompting: Prompting
  tokenizer: Any
  kind: str
  room: int
  longest: int

  def ask(
    self, texts: Sequence[str], shown: Sequence[Sequence[Demonstration]]
  ) -> list[Asked]:
    """The prompt of each text, with as many of its demonstrations as fit.

    Where not all fit, these are the first ones. A text that does not fit even alone is
    cut at its end. Raises ConfigError where there is no room for a text.
    """
    shots = [len(each) for each in shown]
    found: list[Any] = [None] * len(texts)
    waiting = list(range(len(texts)))
    while waiting:
      prompts = [
        self.prompt(texts[place], shown[place][: shots[place]]) for place in waiting
      ]
      encoded = self._ids(prompts)
      longer = []
      for place, ids in zip(waiting, encoded, strict=True):
        if len(ids) <= self._most:
          found[place] = Asked(self._framed(ids), shots[place])
        elif not shots[place]:
          found[place] = self._cut(texts[place])
        else:
          shots[place] = self._fewer(len(ids), shown[place][: shots[place]])
          longer.append(place)
      waiting = longer
    return found

  def prompt(self, text: str, shown: Sequence[Demonstration]) -> str:
    """A prompt as a text, up to where the answer begins."""
    template = self.prompting.parts
    asked = []
    if self.prompting.instruction:
      asked.append(self.prompting.instruction)
    for example, answer in shown:
      whole = f'{template.before}{example}{template.after}{template.joint}{answer}'
      asked.append(whole)
    asked.append(f'{template.before}{text}{template.after}')
    return self.prompting.between.join(asked)

  def answers(self, words: Sequence[str]) -> list[list[int]]:
    """The ids of answers, as they are spelled behind a prompt."""
    if self.kind == 'encoder-decoder':
      return self._ids(words)
    nothing = [''] * len(words)
    found = following(nothing, words, self.tokenizer, self.prompting.parts)
    return [list(ids) for ids in found]

  def context(self) -> list[int]:
    """The ids of the answer context; one token where it is empty."""
    ids = self._framed(*self._ids([self.prompting.context]))
    return ids or beginning(self.tokenizer)

  @property
  def _most(self) -> int:
    """The most tokens of a prompt, without its frame."""
    frame = len(self._framed([]))
    own = self.longest if self.kind == 'decoder' else 0
    return self.room - frame - own

  def _framed(self, ids: list[int]) -> list[int]:
    if self.kind == 'decoder':
      return [*self.tokenizer.prefix, *ids]
    return [*self.tokenizer.prefix, *ids, *self.tokenizer.suffix]

  def _ids(self, texts: Sequence[str]) -> list[list[int]]:
    return self.tokenizer.encode_batch(list(texts), special=False)

  def _fewer(self, size: int, shown: Sequence[Demonstration]) -> int:
    """How many demonstrations may fit where these and a text take `size` tokens."""
    over = size - self._most
    count = len(shown)
    while over > 0 and count:
      count -= 1
      lost = self.prompting.between.join([self.prompt('', shown[count:]), ''])
      size_of_lost = len(*self._ids([lost]))
      if size_of_lost > over:
        break
    return count

  def _cut(self, text: str) -> Asked:
    """The prompt of a text that is too long, without demonstrations."""
    template = self.prompting.parts
    whole = self.prompt(text, ())
    (after,) = self._ids([template.after])
    room = self._most - len(after)
    empty = len(*self._ids([self.prompt('', ())]))
    if self._most <= empty:
      raise ConfigError(
        f'config.data.length: no room for a text beside {empty} tokens of '
        f'config.method.template and {self.longest} of the longest answer'
      )
    (ids,) = self._ids([whole.removesuffix(template.after)])
    return Asked(self._framed(ids[:room] + after), 0, True)


def beginning(tokenizer, piece: str = '') -> list[int]:
  """What a decoder reads before the first token of a text: this piece, or that of the
  tokenizer.

  Raises ConfigError for a piece that the tokenizer has not.
  """
  if piece:
    return [_id_of(tokenizer, piece)]
  if tokenizer.prefix:
    return list(tokenizer.prefix)
  # What a text begins with, where the tokenizer does not put it there.
  first = tokenizer.bos if tokenizer.bos is not None else tokenizer.eos
  return [tokenizer.pad if first is None else first]


def _id_of(tokenizer, piece: str) -> int:
  """The id of a piece; ConfigError with the nearest special one."""
  found = tokenizer.backend.token_to_id(piece)
  if found is not None:
    return found
  special = [tokenizer.backend.id_to_token(number) for number in tokenizer.special_ids]
  raise ConfigError(
    f'config.method.begin: {piece!r} is no piece of the tokenizer; '
    f'nearest: {nearest(piece, special)}'
  )


def draw(
  texts: Sequence[str], count: int, seed: int, examples: Sequence[str] | None
) -> list[list[int]]:
  """The numbers of the demonstrations of each example, drawn from `texts` (pool).

  They are a function of the seed and of the texts, whatever their order in a file, and
  the first of more are those of fewer. None is the example itself.

  examples: the texts that are asked; None: one draw, for all of them.
  """
  keys = subsets.fingerprints(texts)
  if not count:
    return [[]] * (1 if examples is None else len(examples))
  own = np.zeros(1, np.uint64) if examples is None else subsets.fingerprints(examples)
  found = []
  for key in own.tolist():
    draws = subsets.scramble(keys, subsets.seed_of(seed, 'demonstrations', key))
    order = np.lexsort((keys, draws))
    # The same text in both splits would be its own answer.
    free = order[keys[order] != key] if examples is not None else order
    found.append(free[:count].tolist())
  return found
