"""A file of every kind of task as a stranger has it, and the config of a short run."""

import csv
import gzip
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tl_jax import config

COLORS = ('red', 'blue', 'green', 'pink', 'gray')
ANIMALS = ('cat', 'dog', 'cow', 'pig')
FILLING = ('runs', 'sleeps', 'far', 'away', 'today', 'and', 'over', 'there')
# Of the test split: no multiple of a batch, nor of a number of devices.
COUNTS = dict(train=64, test=103)


class Sentence(NamedTuple):
  """What a row of a file is about."""

  split: str
  color: str
  animal: str
  text: str

  @property
  def size(self) -> str:
    """A class that the number of its words tells."""
    words = len(self.text.split())
    if words < 7:
      return 'brief'
    return 'usual' if words < 10 else 'wordy'

  @property
  def question(self) -> str:
    """What a user asks first."""
    return f'{self.text}. who?'

  @property
  def messages(self) -> list[dict]:
    """A question with its answer, and where it is learned another one."""
    turns = [('user', self.question), ('assistant', self.animal)]
    if self.split == 'train':
      turns += [('user', 'what color?'), ('assistant', self.color)]
    return [dict(role=role, content=content) for role, content in turns]


def sentences(split: str) -> Iterator[Sentence]:
  """The sentences of a split, of 4 to 13 words each."""
  draw = np.random.default_rng(COUNTS[split])
  for _ in range(COUNTS[split]):
    color, animal = str(draw.choice(COLORS)), str(draw.choice(ANIMALS))
    more = draw.choice(FILLING, draw.integers(1, 11))
    yield Sentence(split, color, animal, ' '.join(['the', color, animal, *more]))


class Kind(NamedTuple):
  """A kind of task in the file of a stranger.

  ending: of the file. columns: what each column holds of a sentence. argument: what a
  config says of the columns. asked: the columns that are left where nobody knows the
  answers. answer: the key of a prediction. family: of the model.
  """

  ending: str
  columns: dict[str, Callable[[Sentence], Any]]
  argument: str
  asked: tuple[str, ...]
  answer: str
  family: str


def _text(sentence: Sentence) -> str:
  return sentence.text


KINDS = {
  'single_label': Kind(
    '.csv',
    dict(review=_text, verdict=lambda sentence: sentence.size),
    'text=review,label=verdict',
    asked=('review',),
    answer='label',
    family='tiny',
  ),
  'multi_label': Kind(
    '.jsonl',
    dict(
      message=_text,
      topics=lambda sentence: sorted({sentence.size, sentence.animal} - {'brief'}),
    ),
    'text=message,label=topics',
    asked=('message',),
    answer='labels',
    family='tiny',
  ),
  'regression': Kind(
    '.tsv',
    dict(utterance=_text, stars=lambda sentence: len(sentence.text) / 8),
    'text=utterance,label=stars',
    asked=('utterance',),
    answer='value',
    family='tiny',
  ),
  'pairs': Kind(
    '.csv.gz',
    dict(
      premise=_text,
      hypothesis=lambda sentence: f'a {sentence.color} dog',
      relation=lambda sentence: 'same' if sentence.animal == 'dog' else 'other',
    ),
    'text=premise+hypothesis,label=relation',
    asked=('premise', 'hypothesis'),
    answer='label',
    family='tiny',
  ),
  'decoder': Kind(
    '.jsonl.gz',
    dict(question=_text, reply=lambda sentence: sentence.animal),
    'text=question,target=reply',
    asked=('question',),
    answer='text',
    family='tiny-gpt',
  ),
  'conversation': Kind(
    '.jsonl',
    dict(
      messages=lambda sentence: sentence.messages,
      text=lambda sentence: sentence.question,
    ),
    'kind=conversation',
    asked=('text',),
    answer='text',
    family='tiny-gpt',
  ),
  'encoder_decoder': Kind(
    '.tsv.gz',
    dict(en=_text, de=lambda sentence: f'{sentence.animal} {sentence.color}'),
    'text=en,target=de',
    asked=('en',),
    answer='text',
    family='tiny-t5',
  ),
}
# Steps enough that a model does not say the same of every text.
_SHORT = (
  ('tokenizer.size', '320'),
  ('data.length', '80'),
  ('data.batch', '8'),
  ('data.target_length', '8'),
  ('compute.dropout', '0.0'),
  ('optim.lr', '1e-2'),
  ('schedule.steps', '150'),
  ('schedule.warmup', '10'),
  ('log.tensorboard', 'false'),
)


def write(kind: Kind, path: pathlib.Path, split: str, columns=()) -> pathlib.Path:
  """Writes a split to a path without its ending, these columns or all; returns the file."""
  path = path.with_name(path.name + kind.ending)
  names = columns or tuple(kind.columns)
  rows = []
  for sentence in sentences(split):
    rows.append({name: kind.columns[name](sentence) for name in names})
  opened = gzip.open if path.suffix == '.gz' else open
  with opened(path, 'wt', encoding='utf-8', newline='') as file:
    if '.jsonl' in path.suffixes:
      file.writelines(json.dumps(row) + '\n' for row in rows)
    else:
      delimiter = '\t' if '.tsv' in path.suffixes else ','
      writer = csv.DictWriter(file, names, delimiter=delimiter)
      writer.writeheader()
      writer.writerows(rows)
  return path


def config_of(kind: Kind, folder: pathlib.Path, more=()):
  """The config of a run on files of this kind, which are written into the folder."""
  small = dict(family=kind.family, layers=1, width=16, heads=2, mlp=32)
  if kind.family == 'tiny-t5':
    # As T5 scales its output by the width.
    small |= dict(head_dim=8, output_scale=0.25)
  train, test = (write(kind, folder / split, split) for split in COUNTS)
  spec = f'configs/transfer.py:train={train},test={test},{kind.argument}'
  return config.load(spec, [('model', str(small)), *_SHORT, *more])
