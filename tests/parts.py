"""Which files of tests a part of CI runs, so that parts take about the same time.

>>> deal(['a.py', 'train/test_crashes.py', 'b.py'], 2)
[['train/test_crashes.py'], ['a.py', 'b.py']]
"""

from collections.abc import Iterable

# Seconds of one core that the slow tests of a file take, by samples of them; an order
# of magnitude is enough.
SECONDS = {
  'interop/test_huggingface.py': 570,
  'train/test_devices.py': 300,
  'train/test_kinds.py': 120,
  'transfer/test_laws.py': 270,
  'train/test_cohort.py': 190,
  'train/test_transfer.py': 150,
  'cli/test_merge.py': 110,
  'train/test_crashes.py': 100,
  'interop/test_peft.py': 85,
  'interop/test_generation.py': 60,
  'objectives/test_tokens.py': 50,
  'checkpoint/test_crashes.py': 35,
  'decode/test_beams.py': 30,
}
OTHERS = 12


def deal(files: Iterable[str], count: int) -> list[list[str]]:
  """`count` lists that have every file once: the longest first, each to the list with
  the least to do.

  The same files are always dealt in the same way.
  """
  parts: list[list[str]] = [[] for _ in range(count)]
  totals = [0] * count
  for file in sorted(set(files), key=lambda file: (-_seconds(file), file)):
    least = totals.index(min(totals))
    parts[least].append(file)
    totals[least] += _seconds(file)
  return parts


def _seconds(file: str) -> int:
  return SECONDS.get(file, OTHERS)
