"""The curves of a run for TensorBoard.

>>> import tempfile
>>> board = Board(tempfile.mkdtemp())
>>> board.draw(10, {'loss': 0.5})
"""

import os
import sys
from collections.abc import Mapping


class Board:
  """A folder of curves, one for each figure, which grow while the run goes."""

  def __init__(self, folder: str | os.PathLike):
    self._writer = _writers().SummaryWriter(str(folder))

  def draw(self, step: int, figures: Mapping[str, float]) -> None:
    """Adds a point to the curve of every figure."""
    for name, value in figures.items():
      self._writer.add_scalar(name, value, step)
    # A run is watched while it goes, and may be killed.
    self._writer.flush()


def _writers():
  """tensorboardX, imported at the first call, for boards can be switched off."""
  if 'torch' in sys.modules:
    import tensorboardX

    return tensorboardX
  # Where torch is installed, tensorboardX imports it for a type that no curve has. That
  # takes longer than to import all else that a run needs.
  sys.modules['torch'] = None
  try:
    import tensorboardX
  finally:
    del sys.modules['torch']
  return tensorboardX
