"""Our training steps, forward passes and decoding beside torch and transformers, on
this machine, in turn.

  pip install '.[bench]'
  tl-jax table experiments/benchmarks/performance.py --scale=mini --workdir=W

A row is a work, a column a peer: transformers in eager mode, or compiled by
torch.compile; bfloat16 is autocast there. Both run in processes of their own
(`timed_steps.py`); in every round each is timed twice in a row and its faster time
counts. A cell is our tokens/s over theirs, by round; what is claimed is the median,
fixed before the run. Both sides have random weights of the same shapes; that they
compute the same is tested elsewhere. Under `lora` the base is held in float32, under
`qlora` its layers' matrices are held in bfloat16, on both sides.
"""

import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tl_jax.evals.statistics import Interval
from tl_jax.report import Claim, Scale, Table

PEERS = ('eager', 'compiled')
STEPS = ('minilm', 'bert', 'gpt2', 't5', 'lora')
DTYPES = ('bfloat16', 'float32')
WORKS = (
  *(
    f'{name} {dtype}{more}'
    for dtype in DTYPES
    for more in ('', ' dropout')
    for name in STEPS
  ),
  'qlora bfloat16',
  *(
    f'{name} {dtype}'
    for name in ('forward-bert', 'forward-gpt2', 'greedy-1', 'greedy-8')
    for dtype in DTYPES
  ),
)
# The least median ratio to eager and to the better of both.
BOUNDS = {
  'minilm bfloat16': (1.10, 1.05),
  'bert bfloat16': (1.04, 1.0),
  'gpt2 bfloat16': (1.05, 0.95),
  't5 bfloat16': (1.0, 0.95),
  'lora bfloat16': (1.15, None),
  'qlora bfloat16': (1.15, None),
  'minilm float32': (0.95, None),
  'bert float32': (0.95, None),
  'gpt2 float32': (0.95, None),
  't5 float32': (0.95, None),
  'lora float32': (1.15, None),
  **{
    f'greedy-{rows} {dtype}': (bound, None)
    for rows, bound in ((1, 1.3), (8, 1.5))
    for dtype in DTYPES
  },
}


class Timed:
  """One library at one work, in a process that waits to be asked.

  script: what is run, beside this file or by its whole path. awaited: is its first
  answer waited for? Else `first` is None, until somebody sets it. variables: of its
  environment.
  """

  def __init__(
    self,
    library: str,
    work: str,
    script: str = 'timed_steps.py',
    awaited: bool = True,
    **variables: str,
  ):
    path = str(Path(__file__).parent / script)
    command = [sys.executable, path, library, work]
    environment = os.environ | dict(JAX_PLATFORMS='cpu', HF_HUB_OFFLINE='1') | variables
    self.process = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    self.first = self.answer() if awaited else None

  def answer(self) -> dict:
    """The next line that the process writes. ChildProcessError where it has ended, or
    says an error.
    """
    line = self.process.stdout.readline()
    if not line:
      raise ChildProcessError(f'timing ended with status {self.process.wait()}')
    answer = json.loads(line)
    if 'error' in answer:
      raise ChildProcessError(answer['error'])
    return answer

  def again(self, repeats: int) -> dict:
    """The fastest of some calls."""
    found = [self.once() for _ in range(repeats)]
    # The fastest, because whatever disturbs a call only makes it slower.
    return min(found, key=lambda answer: answer['seconds'])

  def once(self) -> dict:
    """One more call. ChildProcessError as of `answer`."""
    # Where the process has ended, that is what the answer says.
    with contextlib.suppress(BrokenPipeError):
      self.process.stdin.write('again\n')
      self.process.stdin.flush()
    return self.answer()

  def close(self) -> None:
    # What it was not told any more goes with it.
    with contextlib.suppress(BrokenPipeError):
      self.process.stdin.close()
    self.process.wait()
    self.process.stdout.close()


def execute(members: list) -> None:
  """Times the runs of a row and writes a result for each peer and round.

  The libraries take turns, round by round, so that what slows the machine down slows
  both sides.
  """
  configs = [config for config, _ in members]
  work, repeats = configs[0]['work'], configs[0]['repeats']
  peak = Timed('tl_jax', f'peak {work.split()[1]}')
  sides = {}
  try:
    open_sides(members, work, sides)
    # Without ours there is nothing to compare.
    if 'tl_jax' not in sides:
      return
    for number in sorted({config['round'] for config in configs}):
      best = peak.again(5)['seconds']
      flops = peak.first['flops'] / best
      times = {library: side.again(repeats) for library, side in sides.items()}
      for config, directory in members:
        peer = config['peer']
        if config['round'] == number and peer in sides:
          first, their_first = sides['tl_jax'].first, sides[peer].first
          metrics = compared(times['tl_jax'], times[peer], first, their_first, flops)
          write(directory, 'result.json', dict(metrics=metrics))
  finally:
    for side in (peak, *sides.values()):
      side.close()


def open_sides(members: list, work: str, sides: dict[str, Timed]) -> None:
  """Fills `sides`: library -> its process, ours and those of all peers.

  The runs of a library that fails, and all runs where ours fails, get a `failed.json`.
  """
  peers = dict.fromkeys(config['peer'] for config, _ in members)
  for library in ('tl_jax', *peers):
    try:
      sides[library] = Timed(library, work)
    except ChildProcessError as error:
      for config, directory in members:
        if library in ('tl_jax', config['peer']):
          write(directory, 'failed.json', dict(reason=f'{library}: {error}'))


def compared(
  ours: dict, theirs: dict, first: dict, their_first: dict, peak: float
) -> dict:
  """The figures of one peer in one round."""
  metrics = dict(
    ratio=theirs['seconds'] / ours['seconds'],
    tokens_per_second=first['tokens'] / ours['seconds'],
    peer_tokens_per_second=first['tokens'] / theirs['seconds'],
    first_seconds=first['seconds'],
    peer_first_seconds=their_first['seconds'],
    peak_mb=ours['peak_mb'],
    peer_peak_mb=theirs['peak_mb'],
    peak_gflops=peak / 1e9,
  )
  if first['flops']:
    metrics['utilization'] = first['flops'] / ours['seconds'] / peak
  return metrics


def write(directory: Path, name: str, content: dict) -> None:
  """Writes a JSON file at once, so that a killed table leaves no half of one."""
  directory.mkdir(parents=True, exist_ok=True)
  part = directory / f'.{name}.part'
  part.write_text(json.dumps(content, indent=1) + '\n')
  os.replace(part, directory / name)


def run(row: str, column: str, seed: int, scale: Scale) -> dict:
  """One round beside one peer; the seed is the number of the round."""
  return dict(work=row, peer=column, round=seed, repeats=scale.settings['repeats'])


def median(row: str, *peers: str):
  """The median over rounds of our speed as a ratio to the faster of the peers."""

  def value(cells):
    by_peer = [cells[row, peer].values for peer in peers]
    # Only rounds in which all of them were timed.
    rounds = set.intersection(*map(set, by_peer))
    worst = [min(values[number] for values in by_peer) for number in rounds]
    return statistics.median(worst) if worst else Interval(None)

  return value


def claims() -> Iterator[Claim]:
  """The bounds of `BOUNDS`, and that dropout costs us no more than it costs the peer."""
  for row, (eager, best) in BOUNDS.items():
    yield Claim(
      f'{row}: at least {eager} times the speed of eager',
      median(row, 'eager'),
      at_least=eager,
    )
    if best:
      yield Claim(
        f'{row}: at least {best} times the better of eager and compiled',
        median(row, *PEERS),
        at_least=best,
      )
  for dtype, name in itertools.product(DTYPES, STEPS):
    work = f'{name} {dtype}'
    yield Claim(
      f'{work}: dropout lowers the ratio by at most 0.03', lowered(work), at_most=0.03
    )


def lowered(work: str):
  """By how much dropout lowers the median ratio to eager."""

  def value(cells):
    plain = median(work, 'eager')(cells)
    dropped = median(f'{work} dropout', 'eager')(cells)
    # A median of nothing is an Interval without a value.
    if isinstance(plain, Interval) or isinstance(dropped, Interval):
      return Interval(None)
    return plain - dropped

  return value


SCALES = {
  'smoke': Scale(
    rows=('minilm bfloat16',),
    columns=('eager',),
    seeds=(1, 2),
    settings=dict(repeats=1),
  ),
  'mini': Scale(settings=dict(repeats=2)),
  'inference': Scale(
    rows=tuple(work for work in WORKS if work.startswith(('forward', 'greedy'))),
    columns=('eager',),
    settings=dict(repeats=2),
  ),
  'steps': Scale(
    rows=tuple(f'{name} bfloat16' for name in STEPS),
    columns=('eager',),
    settings=dict(repeats=2),
  ),
  'float32': Scale(
    rows=tuple(work for work in WORKS if 'float32' in work),
    columns=('eager',),
    settings=dict(repeats=2),
  ),
  'paper': Scale(seeds=tuple(range(1, 16)), settings=dict(repeats=3)),
}

TABLE = Table(
  title='Speed beside torch and transformers',
  source='our own',
  rows=WORKS,
  columns=PEERS,
  seeds=(1, 2, 3, 4, 5),
  run=run,
  execute=execute,
  headline='ratio',
  digits=2,
  scales=SCALES,
  claims=tuple(claims()),
  extra=(
    'tokens_per_second',
    'peer_tokens_per_second',
    'first_seconds',
    'peer_first_seconds',
    'peak_mb',
    'peer_peak_mb',
    'utilization',
    'peak_gflops',
  ),
)
