"""The problem whose answers are texts: a model reads a text and writes another.

An encoder-decoder reads the text and writes its target (Sutskever et al. 2014). A
decoder goes on with a prompt: the text and its target stand in one segment, and the
loss is that of the target alone. A text from two columns is one text here, with a line
for each: the frame of two texts is of models that give labels.

>>> TEXT.read(('a pony', 'a horse'), ()), TEXT.read('a cow', ())
(['a pony', 'a horse'], 'a cow')
>>> Template.of('{text} in French: {target}')
Template(before='', after=' in French:', joint=' ')
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax import objectives
from tl_jax.config import ConfigError
from tl_jax.data import pipeline
from tl_jax.data.tokens import TokenList
from tl_jax.tasks.problems import columns
from tl_jax.tasks.problems.problem import (
  Array,
  Cut,
  Encoded,
  Example,
  Facts,
  Limits,
  Problem,
)

# How a decoder is asked, as in figure 2.1 of Brown et al. (2020). The arrow is a token
# of every tokenizer, which a line end alone is not.
PROMPT = '{text}\n=> {target}'
# An encoder-decoder reads the text as it is.
SOURCE = '{text}'
# Texts that are encoded together, by the threads of the tokenizer.
BATCH = 1000


class Template(NamedTuple):
  """What stands before and after a text, and between that and the target."""

  before: str
  after: str
  joint: str

  @classmethod
  def of(
    cls, template: str, two_texts: bool = True, where: str = 'config.task.template'
  ) -> 'Template':
    """A template as configs write it at the key `where`, with {text} and maybe {target}
    behind it.

    White space before {target} belongs to the target: tokenizers put it there. Raises
    ConfigError for a template without {text}, and for a {target} where the two texts
    stand apart or that is not at the end.
    """
    where = f'{where}: {template!r}'
    if template.count('{text}') != 1:
      raise ConfigError(f'{where} must have one {{text}}, the place of the text')
    before, after = template.split('{text}')
    if '{target}' not in template:
      return cls(before, after, '')
    if not two_texts:
      raise ConfigError(
        f'{where}: an encoder-decoder writes the target alone; leave {{target}} out'
      )
    if not after.endswith('{target}') or template.count('{target}') != 1:
      raise ConfigError(f'{where} must end with its {{target}}')
    after = after.removesuffix('{target}')
    stripped = after.rstrip()
    return cls(before, stripped, after[len(stripped) :])


def _gather(examples: list[Example]) -> Array:
  """The right answers of every example, a tuple of texts each: object (n,).

  The first of them is the one that is learned.
  """
  found = np.empty(len(examples), object)
  for place, example in enumerate(examples):
    found[place] = example.references or (example.target,)
  return found


def _unanswered(texts: Sequence[str]) -> Array:
  """Empty answers to these texts."""
  return _gather([Example((text,), '') for text in texts])


def _encode(texts, targets, tokenizer, limits: Limits) -> Encoded:
  learned = [references[0] for references in targets]
  if limits.writer.kind == 'encoder-decoder':
    return _encode_apart(texts, learned, tokenizer, limits)
  return _encode_together(texts, learned, tokenizer, limits)


def _encode_apart(texts, targets, tokenizer, limits: Limits) -> Encoded:
  """Texts for an encoder, and targets for its decoder.

  A text has the frame of the tokenizer. A target begins as the model begins and has its
  end.
  """
  template = Template.of(limits.template or SOURCE, two_texts=False)
  frame = len(tokenizer.prefix) + len(tokenizer.suffix)
  asked = _ask(texts, tokenizer, template, limits.length - frame)
  sources = [[*tokenizer.prefix, *ids, *tokenizer.suffix] for ids, _ in asked]
  ids_of_targets = _ids(targets, tokenizer)
  answers = _Answers(limits)
  written = [answers.end([*limits.writer.begin, *ids]) for ids in ids_of_targets]
  examples = pipeline.Examples(_tokens(sources), targets=_tokens(written))
  return Encoded(examples, (_cut_of(asked, frame, limits.length), answers.cut))


def _encode_together(texts, targets, tokenizer, limits: Limits) -> Encoded:
  """Prompts and their targets as one text each, for a decoder."""
  template = Template.of(limits.template or PROMPT)
  # The longest prompt leaves room for the longest target, so that a prompt is the same
  # whether its target is known or asked for.
  length = limits.length - limits.target_length
  start = tokenizer.prefix
  asked = _ask(texts, tokenizer, template, length - len(start))
  followed = following(texts, targets, tokenizer, template)
  answers = _Answers(limits)
  rows = []
  prompts = []
  for (ids, _), target in zip(asked, followed, strict=True):
    prompt = [*start, *ids]
    rows.append([*prompt, *answers.end(target)])
    prompts.append(len(prompt))
  examples = pipeline.Examples(_tokens(rows), prompts=np.array(prompts, np.int32))
  return Encoded(examples, (_cut_of(asked, len(start), length), answers.cut))


def _ask(texts, tokenizer, template: Template, room: int) -> list[tuple[list, int]]:
  """(ids, how many they would be) of every text in the template, at most `room` each.

  The text itself is cut, never what stands after it. Raises ConfigError where there is
  no room for a text.
  """
  # What a cut text ends with.
  after = tokenizer.encode(template.after, special=False) if template.after else []
  if room <= len(after):
    raise ConfigError(
      f'config.data.length: no room for a text beside {len(after)} tokens of '
      'config.task.template and the longest target (config.data.target_length)'
    )
  framed = [f'{template.before}{text}{template.after}' for text in texts]
  found = []
  for text, ids in zip(texts, _ids(framed, tokenizer), strict=True):
    whole = len(ids)
    if whole > room:
      ids = tokenizer.encode(f'{template.before}{text}', special=False)
      ids = ids[: room - len(after)] + after
    found.append((ids, whole))
  return found


def following(texts, targets, tokenizer, template: Template) -> Iterator[Sequence[int]]:
  """The ids of each target as it reads behind its prompt.

  How a first piece is spelled depends on what is before it. Where the two do not part
  between pieces, the target is encoded by itself.
  """
  prompts = [f'{template.before}{text}{template.after}' for text in texts]
  tails = [f'{template.joint}{target}' for target in targets]
  wholes = [prompt + tail for prompt, tail in zip(prompts, tails, strict=True)]
  three = (_ids(each, tokenizer) for each in (prompts, wholes, tails))
  for prompt, whole, alone in zip(*three, strict=True):
    parts = whole[: len(prompt)] == prompt
    yield whole[len(prompt) :] if parts else alone


class _Answers:
  """Ends targets, and counts those that were too long."""

  def __init__(self, limits: Limits):
    self._eos = limits.writer.eos
    self._length = limits.target_length
    self._whole: list[int] = []

  def end(self, ids: Sequence[int]) -> list[int]:
    """The ids of a target with its end, cut to what a target may have."""
    self._whole.append(len(ids) + 1)
    return [*ids[: self._length - 1], self._eos]

  @property
  def cut(self) -> Cut:
    """How many were cut so far."""
    return Cut.of('target', self._whole, self._length)


def _ids(texts: Sequence[str], tokenizer) -> Iterator[list[int]]:
  """The ids of texts without a frame, encoded in batches."""
  for start in range(0, len(texts), BATCH):
    yield from tokenizer.encode_batch(texts[start : start + BATCH], special=False)


def _tokens(rows: Iterable[Sequence[int]]) -> TokenList:
  return TokenList([np.array(row, np.int32) for row in rows])


def _cut_of(asked: list[tuple[list, int]], frame: int, length: int) -> Cut:
  """What was cut of texts that have a frame of so many tokens beside their own."""
  return Cut.of('text', [whole + frame for _, whole in asked], length)


def prompt_of(examples: pipeline.Examples, index: int) -> list[int]:
  """What a model is given of an example before it answers."""
  ids = examples.tokens[index]
  if examples.prompts is not None:
    ids = ids[: examples.prompts[index]]
  return ids.tolist()


def _objective(facts: Facts) -> objectives.Objective:
  """Maximum likelihood of the targets, given what stands before them."""
  writer = facts.writer
  if writer.kind == 'encoder-decoder':
    return objectives.seq2seq(start_id=writer.start, smoothing=facts.smoothing)
  return objectives.causal(smoothing=facts.smoothing)


def _read(value, labels: tuple[str, ...]) -> str | list[str]:
  """A text; of several right answers all."""
  del labels
  if isinstance(value, str):
    return value
  return value[0] if len(value) == 1 else list(value)


def _line(text, target, prediction, raw, labels) -> dict:
  del raw
  return dict(source=text, prediction=prediction, reference=_read(target, labels))


# The target is a text, or several that are right.
TEXT = Problem(
  name='text',
  head='causal',
  kinds=('decoder', 'encoder-decoder'),
  fresh_head=False,
  answer='generate',
  form='text',
  scores=(
    *('exact_match', 'rouge', 'bleu', 'chrf'),
    *('distinct', 'repetition', 'self_bleu', 'copying'),
  ),
  metrics=('exact_match', 'rouge', 'chrf'),
  headline='rougeL',
  outputs=lambda labels: 0,
  from_column=columns.read_texts,
  gather=_gather,
  ask=_unanswered,
  encode=_encode,
  objective=_objective,
  decide=lambda raw, targets, groups: raw,
  plain=list,
  read=_read,
  count=lambda targets, labels: [],
  line=_line,
  written=lambda targets: list(itertools.chain.from_iterable(targets)),
)
