"""Two tasks in one encoder without training: how much of each task's gain over the
probe do merged weights keep?

  # all-MiniLM-L6-v2, 2 tasks x 3 seeds, minutes on 2 cores
  python experiments/merging.py --workdir=W

After task arithmetic (Ilharco et al. 2023, Table 4) and TIES (Yadav et al. 2023, Table
1). For every seed the encoder of `peft_matrix.py` is fine-tuned in full on each task
with 500 labels, and probed. Then both bodies are merged, every task keeps its own head,
and the merged model is scored on both test splits. Kept is (merged - probe) / (full -
probe), in percent; the interval is over tasks and seeds. The settings of the methods
are the papers' defaults, nothing is tuned. The claim, fixed beforehand: uniform
averaging keeps at least half of the gain.
"""

import argparse
import collections
import json
import pathlib
import sys

import jax

from tl_jax import config, tasks, train, tree
from tl_jax.evals.statistics import t_interval
from tl_jax.report import Claim
from tl_jax.train import checks, evaluators, preparing
from tl_jax.train.assembly import HEAD_PATTERNS
from tl_jax.transfer import merging

SEEDS = (1, 2, 3)


def methods(seed: int) -> dict:
  """name -> merge(base, tuned bodies), which gives the merged body."""

  def arithmetic(scale):
    def merge(base, bodies):
      vectors = [merging.task_vector(body, base) for body in bodies]
      return merging.apply_task_vectors(base, vectors, scale)

    return merge

  def ties(base, bodies):
    return merging.ties(base, bodies, density=0.2, scale=1.0)

  def dare(base, bodies):
    return merging.dare(seed, base, bodies, drop=0.9, scale=0.5)

  return {
    'soup': lambda base, bodies: merging.soup(bodies),
    'task arithmetic, scale 0.4': arithmetic(0.4),
    'task arithmetic, scale 1': arithmetic(1.0),
    'ties, density 0.2': ties,
    'dare, drop 0.9': dare,
    'slerp, t 0.5': lambda base, bodies: merging.slerp(*bodies, 0.5),
  }


class Tuned:
  """One task with one seed: the scores of probe and full fine-tuning, and the tuned
  weights in two parts.
  """

  def __init__(self, matrix, task: str, seed: int, folder: pathlib.Path):
    scale = matrix.TABLE.at('mini')
    accuracies = {}
    for name in ('probe', 'full'):
      tuning = matrix.run(name, task, seed, scale)
      result = train.run(tuning, folder / f'{task}-{name}-{seed}')
      accuracies[name] = result['metrics']['accuracy']
    self.probe, self.full = accuracies['probe'], accuracies['full']
    # The tuned weights and what evaluates them, from the folder of the full run.
    workdir = folder / f'{task}-full-{seed}'
    opened = train.open_workdir(workdir)
    checked = checks.check_settings(opened.settings)
    self.ready = preparing.prepare(checked, workdir, is_primary=False)
    self.judge = evaluators.TaskEvaluator(self.ready.corpus, self.ready.parts)
    # Only bodies can be merged: the heads answer different questions.
    is_new = tree.matcher(HEAD_PATTERNS)
    leaves = tree.flatten(opened.params)
    self.body = {name: leaf for name, leaf in leaves.items() if not is_new(name)}
    self.head = {name: leaf for name, leaf in leaves.items() if is_new(name)}

  def kept(self, body: dict) -> tuple[float, float]:
    """(accuracy of this body under the task's head, the share of the gain over the
    probe that it keeps).
    """
    state = self.ready.parts.init(tree.unflatten(self.head | body), 0)
    accuracy = tasks.score(
      self.ready.task, self.judge.outputs(state), self.ready.corpus.test.targets
    )['accuracy']
    return accuracy, (accuracy - self.probe) / (self.full - self.probe)


def measure(matrix, folder: pathlib.Path) -> dict[str, list[dict]]:
  """method -> one row per task and seed."""
  source = tree.flatten(train.load(matrix.encoder()).params)
  found = collections.defaultdict(list)
  for seed in SEEDS:
    tuned = {task: Tuned(matrix, task, seed, folder) for task in matrix.TASKS}
    bodies = [one.body for one in tuned.values()]
    # What the encoder has beside that body is not merged.
    base = {name: source[name] for name in bodies[0]}
    for name, merge in methods(seed).items():
      body = jax.jit(merge)(base, bodies)
      for task, one in tuned.items():
        accuracy, kept = one.kept(body)
        scores = dict(probe=one.probe, full=one.full, merged=accuracy, kept=kept)
        found[name].append(dict(task=task, seed=seed, **scores))
        sys.stderr.write(
          f'seed {seed}, {task}, {name}: probe {one.probe:.3f} full {one.full:.3f} '
          f'merged {accuracy:.3f}\n'
        )
  return dict(found)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, type=pathlib.Path)
  options = parser.parse_args()
  matrix = config.execute(pathlib.Path(__file__).with_name('peft_matrix.py'))
  found = measure(matrix, options.workdir)
  sys.stdout.write(
    f'{"method":30}{"merged %":>12}{"gain kept %":>14}{"95 % interval":>22}\n'
  )
  intervals = {}
  for name, rows in found.items():
    interval = t_interval([row['kept'] for row in rows])
    intervals[name] = interval
    merged = sum(row['merged'] for row in rows) / len(rows)
    ends = f'{100 * interval.low:.1f} to {100 * interval.high:.1f}'
    sys.stdout.write(
      f'{name:30}{100 * merged:>12.1f}{100 * interval.mean:>14.1f}{ends:>22}\n'
    )
  claim = Claim(
    'uniform averaging keeps at least half of the gain',
    lambda cells: intervals['soup'],
    at_least=0.5,
  )
  judged = claim.judge(None)
  sys.stdout.write(f'{judged.verdict}: {judged.text}\n')
  (options.workdir / 'merging.json').write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
  main()
