"""The curves of a run: every figure at its step, and no torch for them."""

import struct
import sys

from tl_jax.train.board import Board


def points(board, folder) -> list[tuple]:
  """(step, name, value) of all points of a board, as TensorBoard reads its folder."""
  from tensorboardX.proto.event_pb2 import Event

  # A thread writes them; now it has written all.
  board._writer.close()
  (path,) = folder.glob('events.*')
  content, found = path.read_bytes(), []
  while content:
    # A record: its length, a checksum of that, the event, a checksum of that.
    (length,) = struct.unpack('<Q', content[:8])
    event = Event.FromString(content[12 : 12 + length])
    found += [
      (event.step, value.tag, value.simple_value) for value in event.summary.value
    ]
    content = content[16 + length :]
  return found


def test_every_figure_has_a_point_at_its_step(tmp_path):
  board = Board(tmp_path)
  board.draw(10, dict(loss=0.5, learning_rate=0.25))
  board.draw(20, dict(loss=0.125))
  assert points(board, tmp_path) == [
    (10, 'loss', 0.5),
    (10, 'learning_rate', 0.25),
    (20, 'loss', 0.125),
  ]


def test_torch_is_not_imported_for_curves(tmp_path, monkeypatch):
  (tmp_path / 'torch.py').write_text('raise AssertionError("somebody imports torch")')
  monkeypatch.syspath_prepend(tmp_path)
  for name in ('torch', 'tensorboardX', 'tensorboardX.global_writer'):
    monkeypatch.delitem(sys.modules, name, raising=False)
  monkeypatch.delitem(sys.modules, 'tensorboardX.writer', raising=False)
  board = Board(tmp_path / 'curves')
  board.draw(1, dict(loss=1.0))
  # Whoever wants it later finds it.
  assert 'torch' not in sys.modules
  assert len(points(board, tmp_path / 'curves')) == 1
