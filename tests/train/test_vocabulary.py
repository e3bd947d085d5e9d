"""The output layer of a decoder in the compiled step of a pod: exchanged once each way,
whatever the number of parts, and whole on no chip.

Needs the compiler of TPUs: pip install '.[test,tpu]'.
"""

import re

import chips
import jax
import jax.numpy as jnp
import pytest

from tl_jax import objectives, optim, parallel, transfer
from tl_jax.models import Compute, arch, build
from tl_jax.objectives import tokens
from tl_jax.train import assembly, programs
from tl_jax.train.step import init_state, make_step

pytestmark = pytest.mark.slow
WIDTH, VOCABULARY, LENGTH = 256, 30522, 512
COLLECTIVE = re.compile(
  r'= (.*?) (?:all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)'
  r'(?:-start)?\('
)


def compiled_step(rows: int, topology: str) -> str:
  """The program of a step with so many rows a chip, as text."""
  shape = parallel.MeshShape(data=1, fsdp=-1)
  mesh = parallel.make_mesh(shape, chips.devices(topology))
  sizes = dict(width=WIDTH, layers=2, heads=4, kv_heads=4, mlp=512)
  decoder = arch('llama3.1-8b', head='causal', vocabulary=VOCABULARY, **sizes)
  model = build(decoder, Compute(dtype='bfloat16', remat='full'))
  method, objective = transfer.full(), objectives.causal()
  schedule = optim.ScheduleConfig(name='constant', steps=10)
  tx = optim.make_optimizer(optim.OptimConfig(lr=1e-4), schedule)
  step = make_step(model, objective, method, tx)
  init = lambda params, seed: init_state(params, method, tx, seed)
  groups = optim.parse_groups(())
  parts = assembly.Components(model, objective, method, tx, init, step, groups, None)
  with jax.set_mesh(mesh):
    shardings = programs.state_shardings(parts, mesh, 'fsdp')
    state = programs.abstract_state(parts, shardings)
    where = parallel.batch_sharding(mesh)
    shape = rows * mesh.size, LENGTH
    array = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=where)
    batch = dict(tokens=array, segments=array)
    traced = programs.step(parts, shardings, where).trace(state, batch)
    lowered = traced.lower(lowering_platforms=('tpu',))
    return lowered.compile(compiler_options=chips.LOW_EFFORT).as_text()


@pytest.mark.parametrize('topology', ['v5e:2x4', 'v5e:4x4'])
def test_the_layer_moves_once_each_way_whatever_the_parts(topology, monkeypatch):
  # Two parts and eight.
  monkeypatch.setattr(tokens, 'MOST', 2 * LENGTH * VOCABULARY)
  for rows in (1, 4):
    text = compiled_step(rows, topology)
    # Neither the layer, nor the embedding, nor a gradient of theirs.
    assert not re.findall(rf'\[({WIDTH},{VOCABULARY}|{VOCABULARY},{WIDTH})\]', text)
    parts = 16 if topology == 'v5e:4x4' else 8
    share = -(-VOCABULARY // parts)
    moved = []
    for line in text.splitlines():
      found = COLLECTIVE.search(line)
      if found and re.search(rf'[\[,]{share}[\],]', found[1]):
        moved.append(line)
    assert len(moved) == 2, moved
    assert not any('/while/body' in line for line in moved)
