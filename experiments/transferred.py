"""What experiments have alike that write a task, take all-MiniLM-L6-v2 to it and judge
their claims: spans.py, tags.py, choice.py. By itself it does nothing.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterable, Mapping

from ml_collections import ConfigDict

from tl_jax import config, train
from tl_jax.report import Claim

HERE = pathlib.Path(__file__)
CONFIG = HERE.parents[1] / 'configs' / 'transfer.py'


def options(description: str, smoke: str) -> argparse.Namespace:
  """The flags of an experiment. smoke: what is less of it, to see that it runs."""
  parser = argparse.ArgumentParser(
    description=description, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, type=pathlib.Path)
  parser.add_argument('--smoke', action='store_true', help=smoke)
  return parser.parse_args()


def write(folder: pathlib.Path, splits: Mapping[str, Iterable[dict]]) -> None:
  """Writes a file of rows for each split into a folder, which is then a task."""
  folder.mkdir(parents=True, exist_ok=True)
  for split, rows in splits.items():
    lines = [json.dumps(row) + '\n' for row in rows]
    (folder / f'{split}.jsonl').write_text(''.join(lines))


def settings(task: pathlib.Path, method: str, epochs: float, kind: str) -> ConfigDict:
  """The config of a transfer: seed 1, rates of configs/transfer.py, none tuned."""
  matrix = config.execute(HERE.with_name('peft_matrix.py'))
  start = f'method={method},init={matrix.encoder()}'
  c = config.load(f'{CONFIG}:task={task},kind={kind},{start}')
  c.seed = 1
  c.compute.dtype = 'bfloat16'
  c.data.batch = 8
  c.schedule.update(steps=None, epochs=epochs)
  c.log.tensorboard = False
  return c


def run(c: ConfigDict, workdir: pathlib.Path) -> dict:
  """The result of a transfer."""
  result = train.run(c, workdir)
  seconds = result['training_seconds']
  sys.stderr.write(f'{workdir.name}: trained in {seconds:.0f} s\n')
  return result


def in_per_cent(value: float, ends: tuple[float, float]) -> str:
  """A cell: a value in parts of one and the ends of its interval, in per cent."""
  low, high = ends
  return f'{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]'


def tell(claims: Iterable[Claim]) -> None:
  """Says which claims are held and which are missed."""
  for claim in claims:
    judged = claim.judge(None)
    sys.stdout.write(f'{judged.verdict}: {judged.text}\n')
