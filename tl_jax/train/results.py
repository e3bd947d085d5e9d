"""What a finished run says of itself: the one form of result.json, whatever the run was.

>>> one = digest_examples(['good', 'bad'], [1, 0])
>>> one == digest_examples(['good', 'bad'], [1, 0]), one == digest_examples(['good', 'bad'], [0, 1])
(True, False)
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

FILE = 'result.json'
FAILED = 'failed.json'


@dataclasses.dataclass(frozen=True)
class Result:
  """What result.json holds.

  labels: labelled examples that the run was trained on. metrics: name -> value on the `n`
  examples of the test split that it was judged on. examples: a digest of these; two runs
  with one digest were judged on the same ones.

  seconds: of all starts of the run, from opening its workdir to the result.
  training_seconds: those of the training loop, without compilation and evaluation.
  compile_seconds: those of compiling the step. What the members of a cohort share is
  counted once: by the member that did it where they go in turn, in equal parts where they
  go together.

  peak_bytes: the most memory used, of the fullest device, or on CPUs of the process.
  """
  task: str
  method: str
  init: str
  seed: int
  labels: int
  metrics: dict[str, float]
  n: int
  examples: str
  trained_parameters: int
  total_parameters: int
  steps: int
  seconds: float
  training_seconds: float
  compile_seconds: float
  peak_bytes: int

  def to_json(self) -> dict:
    return dataclasses.asdict(self)


def digest_examples(texts: Sequence[str], targets) -> str:
  """16 hexadecimal digits that any change of the texts, their targets or their order changes."""
  found = hashlib.sha256()
  for text in texts:
    content = text.encode('utf-8', 'surrogatepass')
    # The length first, so that no two lists of texts give the same bytes.
    found.update(len(content).to_bytes(8, 'little'))
    found.update(content)
  targets = np.asarray(targets, np.float64)
  found.update(repr(targets.shape).encode())
  found.update(targets.tobytes())
  return found.hexdigest()[:16]
