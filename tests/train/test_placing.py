"""A line on every big parameter that lies whole, and on no other."""

import dataclasses

from tl_jax import config
from tl_jax.train import checks, outline, placing


class PodMesh:
  """Sixteen devices along fsdp, in sizes alone."""

  shape = dict(cohort=1, data=1, fsdp=16, tensor=1, sequence=1)


def lines_of(width: int, heads: int) -> list[str]:
  loaded = config.load('configs/pretrain.py:bert-small', [('tokenizer.size', '90001')])
  loaded.model = dict(family='bert-small', width=width, heads=heads, layers=1)
  found = outline.outline(loaded)
  settings = dataclasses.replace(checks.settings_of(loaded), sharding='fsdp')
  parts = found.parts
  return placing.lines_on_uncut(parts.model, parts.method, PodMesh(), settings)


def test_what_stays_whole_although_it_is_big_is_said():
  assert lines_of(64, 2) == []
  (line,) = lines_of(60, 2)
  assert line.startswith(
    'embedding/tokens, 90001 x 60, 21 MiB, is whole on every device'
  )
  assert 'fsdp 16' in line
