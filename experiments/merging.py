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
import json
import pathlib
import sys

import jax

from tl_jax import config, tasks, train, tree
from tl_jax.evals.statistics import t_interval
from tl_jax.report import Claim
from tl_jax.train import features, transferring
from tl_jax.train.pieces import NEW
from tl_jax.transfer import merging

SEEDS = (1, 2, 3)


def methods(seed: int):
  """name -> (base, tuned bodies) -> the merged body."""
  arithmetic = lambda scale: (
    lambda base, bodies: merging.apply_task_vectors(
      base, [merging.task_vector(body, base) for body in bodies], scale
    )
  )
  return {
    'soup': lambda base, bodies: merging.soup(bodies),
    'task arithmetic, scale 0.4': arithmetic(0.4),
    'task arithmetic, scale 1': arithmetic(1.0),
    'ties, density 0.2': lambda base, bodies: merging.ties(
      base, bodies, density=0.2, scale=1.0
    ),
    'dare, drop 0.9': lambda base, bodies: merging.dare(
      seed, base, bodies, drop=0.9, scale=0.5
    ),
    'slerp, t 0.5': lambda base, bodies: merging.slerp(*bodies, 0.5),
  }


class Tuned:
  """One task with one seed: the scores of probe and full fine-tuning, and the tuned
  weights in two parts.
  """

  def __init__(self, matrix, task: str, seed: int, folder: pathlib.Path):
    scale = matrix.TABLE.at('mini')
    configs = {name: matrix.run(name, task, seed, scale) for name in ('probe', 'full')}
    self.probe, self.full = (
      train.run(configs[name], folder / f'{task}-{name}-{seed}')['metrics']['accuracy']
      for name in ('probe', 'full')
    )
    opened = train.open_workdir(folder / f'{task}-full-{seed}')
    self.ready = transferring.prepare(
      opened.settings, folder / f'{task}-full-{seed}', first=False
    )
    self.judge = transferring.Judge(features.Reader(self.ready))
    is_new, leaves = tree.matcher(NEW), tree.flatten(opened.params)
    self.body = {name: leaf for name, leaf in leaves.items() if not is_new(name)}
    self.head = {name: leaf for name, leaf in leaves.items() if is_new(name)}

  def kept(self, body: dict) -> tuple[float, float]:
    """(accuracy of this body under the task's head, the share of the gain over the
    probe that it keeps).
    """
    state = self.ready.parts.init(tree.unflatten(self.head | body), 0)
    accuracy = tasks.score(
      self.ready.task, self.judge.outputs(state), self.ready.test.targets
    )['accuracy']
    return accuracy, (accuracy - self.probe) / (self.full - self.probe)


def measure(matrix, folder: pathlib.Path) -> dict[str, list[dict]]:
  """method -> one row per task and seed."""
  source, found = tree.flatten(train.load(matrix.encoder()).params), {}
  for seed in SEEDS:
    tuned = {task: Tuned(matrix, task, seed, folder) for task in matrix.TASKS}
    bodies = [one.body for one in tuned.values()]
    base = {name: source[name] for name in bodies[0]}
    for name, merge in methods(seed).items():
      body = jax.jit(merge)(base, bodies)
      for task, one in tuned.items():
        accuracy, kept = one.kept(body)
        found.setdefault(name, []).append(
          dict(
            task=task,
            seed=seed,
            probe=one.probe,
            full=one.full,
            merged=accuracy,
            kept=kept,
          )
        )
        sys.stderr.write(
          f'seed {seed}, {task}, {name}: probe {one.probe:.3f} full {one.full:.3f} '
          f'merged {accuracy:.3f}\n'
        )
  return found


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, type=pathlib.Path)
  options = parser.parse_args()
  found = measure(
    config.execute(pathlib.Path(__file__).with_name('peft_matrix.py')), options.workdir
  )
  sys.stdout.write(
    f'{"method":30}{"merged %":>12}{"gain kept %":>14}{"95 % interval":>22}\n'
  )
  intervals = {}
  for name, rows in found.items():
    intervals[name] = interval = t_interval([row['kept'] for row in rows])
    merged = sum(row['merged'] for row in rows) / len(rows)
    sys.stdout.write(
      f'{name:30}{100 * merged:>12.1f}{100 * interval.mean:>14.1f}'
      f'{f"{100 * interval.low:.1f} to {100 * interval.high:.1f}":>22}\n'
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
