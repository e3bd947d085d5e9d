"""Our training steps and decoding beside torch, transformers and peft on one card.

  pip install '.[bench]'
  tl-jax table experiments/benchmarks/accelerator.py --scale=gpu --workdir=W

Where nothing can be installed, `offline.py` runs it. Rows are in the order of their
importance, and of a row the peers are: what there is no time for is said in the table.

A row is a piece of work, a column a peer: transformers in eager mode, or compiled by
torch.compile. Every library has a process of its own (`timed_pieces.py`), all on the
same card. All load and compile side by side; once they are warm, ours and each peer take
turns, round by round; a round is so many steps in a row, or one text of every prompt. A
cell is our tokens/s over theirs; what is claimed is the median over rounds. The faster
of both peers counts.

Both sides compute the same, on weights that ours draws and exports and torch opens:

- bfloat16 in products and attention, float32 weights, gradients and AdamW (fused in
  torch; no decay, no clipping), as autocast has it. TF32 is allowed for what is left.
- the gelu of the paper: erf for BERT, tanh for GPT-2; T5 1.0 has relu, Llama silu.
- no dropout, but for the last row: there 0.1 everywhere, attention included.
- attention by torch's SDPA, which chooses a flash kernel where there is one; ours by
  `compute.attention='auto'`. No row is padded, so that no mask stands in its way.
- LoRA: rank 8 on queries and values, float32 factors, the base in bfloat16 on both
  sides (peft), no head trained.
- decoding: weights in bfloat16, prompts of one length, no end before the last token.

`difference` says whether they do: by how much the losses of the first step differ, as a
share of theirs; of decoding, the share of tokens that differ. With random weights the
likeliest token is one among many that are nearly as likely, so that this share means
little in bfloat16.

MFU is of the dense bfloat16 peak that the maker states, and none for an unknown card;
`timed_pieces.py` says how FLOPs are counted. Peaks of memory are what the allocators of
both libraries say, or the process's on a CPU. The first step has tracing, compiling and
autotuning in it beside those of the others, not the start of the process.

At scale smoke the pieces are so small that a CPU mostly calls kernels, torch on one
thread: the ratios say that it runs, and no more.
"""

import json
import os
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

from tl_jax import config
from tl_jax.evals.statistics import Interval
from tl_jax.report import Claim, Scale, Table
from tl_jax.scale.chips import CHIPS

performance = config.execute(Path(__file__).with_name('performance.py'))

OURS = 'tl_jax'
PEERS = ('eager', 'compiled')
# No piece takes longer, whatever happens.
LIMIT = 480
# Below so many seconds no piece is begun, and no peer is compiled.
LEAST = 45
# When the whole table must be done, in seconds since 1970; no end without it.
UNTIL = 'TL_JAX_BENCHMARK_UNTIL'


def step(family: str, head: str, rows: int, length: int, **more) -> dict:
  """A training step, ten to a round; more: of `timed_pieces.Piece`."""
  usual = dict(target=0, new=0, method='full', dropout=0.0, steps=10)
  shape = dict(kind='step', family=family, rows=rows, length=length)
  return usual | shape | dict(fields=dict(head=head)) | more


def decoding(kind: str, rows: int) -> dict:
  """128 tokens after prompts of 128, written by the decoder of LoRA's row."""
  piece = step('llama3.2-1b', 'causal', rows, 128)
  return piece | dict(kind=kind, new=128, steps=1)


# Steps of 20 ms: a round of ten is over before a card runs as fast as it can.
SHORT = dict(steps=60)
PIECES = {
  'BERT-base 64 x 128': step('bert-base', 'classifier', 64, 128, **SHORT),
  'GPT-2 small 16 x 1024': step('gpt2', 'causal', 16, 1024),
  'LoRA 1B 4 x 2048': step('llama3.2-1b', 'causal', 4, 2048, method='lora'),
  'greedy 1B, 8 prompts': decoding('greedy', 8),
  'BERT-base 16 x 512': step('bert-base', 'classifier', 16, 512, **SHORT),
  'T5-base 16 x 512 + 128': step('t5-base', 'causal', 16, 512, target=128),
  'beam 4 1B, 4 prompts': decoding('beam', 4),
  'BERT-base 64 x 128, dropout': step(
    'bert-base', 'classifier', 64, 128, dropout=0.1, **SHORT
  ),
}
STEPS = tuple(row for row in PIECES if PIECES[row]['kind'] == 'step')
EXACT = tuple(row for row in STEPS if not PIECES[row]['dropout'])
# The same pieces, as small as can be.
SMALL = dict(layers=2, width=64, heads=2, mlp=128)
SMALL_LLAMA = SMALL | dict(kv_heads=2)
SMALL_T5 = SMALL | dict(head_dim=32, output_scale=64**-0.5)


def run(row: str, column: str, seed: int, scale: Scale) -> dict:
  """One round beside one peer; the seed is the number of the round."""
  settings = dict(scale.settings)
  piece = dict(PIECES[row])
  if settings.pop('is_small'):
    piece = smaller(piece)
  return dict(row=row, peer=column, round=seed, piece=piece | settings)


def smaller(piece: dict) -> dict:
  """A piece that takes a CPU a second."""
  fields = {'llama3.2-1b': SMALL_LLAMA, 't5-base': SMALL_T5}.get(piece['family'], SMALL)
  small = piece | dict(rows=2, length=32, fields=piece['fields'] | fields)
  small['steps'] = min(piece['steps'], 3)
  for name in ('target', 'new'):
    small[name] = min(piece[name], 8)
  return small


# A piece of work.


class Late(Exception):
  """There is no time left for a piece."""


class Watch:
  """Ends all processes of a piece when its time is up.

  The time is `LIMIT`, or what is left until `UNTIL`. Raises Late where this is too little
  to begin.
  """

  def __init__(self):
    self.ends = time.time() + LIMIT
    self.is_over = False
    if UNTIL in os.environ:
      self.ends = min(self.ends, float(os.environ[UNTIL]))
    self.require()
    self.sides = []
    self.timer = threading.Timer(self.left(), self.end)
    # A table that was interrupted does not wait for it.
    self.timer.daemon = True
    self.timer.start()

  def left(self) -> float:
    return self.ends - time.time()

  def require(self) -> None:
    """Raises Late unless there is time for one peer more."""
    if self.left() < LEAST:
      raise Late(f'not begun: {max(0, self.left()):.0f} s were left')

  def end(self) -> None:
    self.is_over = True
    for side in self.sides:
      side.process.kill()

  def reason(self, error: Exception) -> str:
    """Why a side has ended."""
    return 'did not end in its time' if self.is_over else str(error)

  def close(self) -> None:
    self.timer.cancel()
    for side in self.sides:
      # Whatever it is at, nobody waits for it.
      side.process.kill()
      side.close()


def execute(members: list) -> None:
  """Times the runs of a row and writes a result for each peer and round."""
  piece = members[0][0]['piece']
  folder = members[0][1].parent / f'weights-{os.getpid()}'
  try:
    watch = Watch()
  except Late as late:
    fail(members, str(late))
    return
  try:
    folder.mkdir(parents=True)
    asked = folder / 'piece.json'
    asked.write_text(json.dumps(piece | dict(folder=str(folder))))
    compare(members, str(asked), piece['platform'], watch)
  finally:
    watch.close()
    # Gigabytes, which nobody reads again.
    shutil.rmtree(folder, ignore_errors=True)


def compare(members: list, asked: str, platform: str, watch: Watch) -> None:
  """Times ours, then in turns with each peer."""
  variables = dict(JAX_PLATFORMS=platform, XLA_PYTHON_CLIENT_PREALLOCATE='false')
  if platform == 'cpu':
    # torch's threads wait for each other busily, which others on the machine prolong.
    variables['OMP_NUM_THREADS'] = '1'

  def start(library):
    side = performance.Timed(
      library, asked, script='timed_pieces.py', awaited=False, **variables
    )
    watch.sides.append(side)
    return side

  sides = {OURS: start(OURS)}
  for peer in dict.fromkeys(member[0]['peer'] for member in members):
    sides[peer] = start(peer)
  # All load and compile at the same time, before any is timed.
  with futures.ThreadPoolExecutor(len(sides)) as pool:
    firsts = {name: pool.submit(first_answers, side) for name, side in sides.items()}
  if error := firsts.pop(OURS).exception():
    fail(members, f'{OURS}: {watch.reason(error)}')
    return
  for peer, first in firsts.items():
    own = [member for member in members if member[0]['peer'] == peer]
    try:
      first.result()
      watch.require()
      in_turns(own, sides[OURS], sides[peer])
    except ChildProcessError as error:
      fail(own, f'{peer}: {watch.reason(error)}')
    except Late as late:
      fail(own, f'{peer}: {late}')


def first_answers(side) -> None:
  """Waits until a side is ready and warm.

  `side.first` is what it says when it is ready, with what its first step took and gave.
  """
  side.first = side.answer()
  answer = side.once()
  side.first |= dict(first_seconds=answer['seconds'], value=answer['value'])
  # The second call still warms what the first one made.
  side.once()


def in_turns(members: list, ours, theirs) -> None:
  """Writes a result for every round, ours and theirs one after the other."""
  for _, directory in members:
    metrics = compared(ours.once(), theirs.once(), ours.first, theirs.first)
    performance.write(directory, 'result.json', dict(metrics=metrics))
  # Its memory is for the next peer.
  theirs.process.kill()


def compared(ours: dict, theirs: dict, first: dict, their_first: dict) -> dict:
  """The figures of one round."""
  tokens = first['tokens'] * ours['steps']
  metrics = dict(
    ratio=theirs['seconds'] / ours['seconds'],
    tokens_per_second=tokens / ours['seconds'],
    peer_tokens_per_second=tokens / theirs['seconds'],
    peak_gb=peak_bytes(ours) / 1e9,
    peer_peak_gb=peak_bytes(theirs) / 1e9,
    first_seconds=first['first_seconds'],
    peer_first_seconds=their_first['first_seconds'],
    difference=difference(first['value'], their_first['value']),
  )
  peak = peak_flops(first['device'])
  if first['flops'] and peak:
    done = first['flops'] * ours['steps']
    metrics['mfu'] = done / ours['seconds'] / peak
    metrics['peer_mfu'] = done / theirs['seconds'] / peak
  return metrics


def peak_bytes(answer: dict) -> float:
  """Of the device; of the process on a CPU, whose memory that is."""
  return answer['peak_bytes'] or answer['peak_mb'] * 1e6


def peak_flops(device: str) -> float | None:
  """What the maker says of a card, dense and in bfloat16; None for an unknown one."""
  name = device.lower()
  # It has fewer units than the card of that name.
  if 'pcie' in name:
    return None
  for chip in CHIPS.values():
    if chip.platform == 'cuda' and chip.name in name:
      return chip.flops
  return None


def difference(ours, theirs) -> float:
  """By how much two losses differ, as a share; of rows of tokens, how many do."""
  if isinstance(ours, float):
    return abs(ours - theirs) / abs(theirs)
  pairs = []
  for row, their_row in zip(ours, theirs, strict=True):
    pairs += zip(row, their_row, strict=True)
  return statistics.mean(one != other for one, other in pairs)


def fail(members: list, reason: str) -> None:
  """Leaves the reason in every run that has no result; run again, it is made again."""
  for _, directory in members:
    if not (directory / 'result.json').exists():
      failure = dict(reason=reason, retry=True)
      performance.write(directory, 'failed.json', failure)


# What is claimed.


def claims() -> Iterator[Claim]:
  """Ours is as fast as the better peer, and computes the same."""
  for row in PIECES:
    yield Claim(
      f'{row}: at least as fast as the better of eager and compiled',
      performance.median(row, *PEERS),
      at_least=1.0,
    )
  for row in EXACT:
    yield Claim(
      f'{row}: the losses of the first step differ by at most 1 %',
      differs(row),
      at_most=0.01,
    )


def differs(row: str):
  """The largest difference to any peer."""

  def value(cells):
    found = [cells[row, peer].extra.get('difference') for peer in PEERS]
    known = [each for each in found if each is not None]
    return max(known) if known else Interval(None)

  return value


SCALES = {
  'smoke': Scale(
    rows=tuple(PIECES)[:-1],
    columns=('eager',),
    seeds=(1, 2),
    settings=dict(platform='cpu', is_small=True),
  ),
  'gpu': Scale(settings=dict(platform='cuda', is_small=False)),
}

TABLE = Table(
  title='Speed beside torch, transformers and peft on one card',
  source='our own',
  rows=tuple(PIECES),
  columns=PEERS,
  seeds=(1, 2, 3),
  run=run,
  execute=execute,
  headline='ratio',
  digits=2,
  scales=SCALES,
  claims=tuple(claims()),
  extra=(
    'tokens_per_second',
    'peer_tokens_per_second',
    'mfu',
    'peer_mfu',
    'peak_gb',
    'peer_peak_gb',
    'first_seconds',
    'peer_first_seconds',
    'difference',
  ),
)
