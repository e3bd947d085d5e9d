"""Steps of LoRA are those of peft under torch's AdamW: the same weights and batches
give the same updates.
"""

import json
import pathlib
import sys

import jax
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'interop'))
import adapters  # noqa: E402

from tl_jax import interop, objectives, optim, transfer, tree  # noqa: E402
from tl_jax.interop.tensors import open_tensors, save_tensors  # noqa: E402
from tl_jax.train.step import init_state, make_step  # noqa: E402


def steps(base, adapter, out):
  """The tensors of the adapter's folder after one step of ours on each batch."""
  start, loaded = interop.load_adapter(adapter, base), interop.load(base)
  method = transfer.lora(rank=4, alpha=6, head=r'head/.*')
  tx = optim.make_optimizer(
    optim.OptimConfig(lr=1e-3, decay=0.01, clip=None),
    optim.ScheduleConfig(name='constant', steps=10),
  )
  state = init_state(loaded.params, method, tx, 0)
  flat = tree.flatten(start.params)
  state = state._replace(
    trainable=tree.map_named(lambda name, leaf: flat[name], state.trainable)
  )
  step = jax.jit(make_step(loaded.model, objectives.classify(labels=3), method, tx))
  for batch in adapters.batches():
    state, _ = step(state, batch)
  merged = method.merge(state.trainable, state.frozen)
  file = open_tensors(
    interop.save_adapter(out, loaded._replace(params=merged), state.trainable),
    stem='adapter_model',
  )
  return {name: np.array(file.read(name)) for name in file.names}


def assert_same_updates(before, theirs, ours):
  assert before.keys() == theirs.keys() == ours.keys() and len(ours) == 10
  for name, start in before.items():
    update = theirs[name] - start
    size = np.linalg.norm(update)
    assert size > 1e-4 and np.linalg.norm(ours[name] - theirs[name]) <= 1e-3 * size, (
      name
    )


def test_five_steps_of_lora_are_those_of_peft(tmp_path):
  found = adapters.fixtures()['bert-lora']
  base, adapter = adapters.write(tmp_path, 'bert-lora', found)
  with np.load(adapters.STEPS) as held:
    before, after = (
      {
        name.removeprefix(part): held[name]
        for name in held.files
        if name.startswith(part)
      }
      for part in ('before/', 'after/')
    )
  save_tensors(adapter, before, stem='adapter_model')
  assert (
    json.loads((adapter / 'adapter_config.json').read_text())['lora_dropout'] == 0.0
  )
  assert_same_updates(before, after, steps(base, adapter, tmp_path / 'ours'))


@pytest.mark.slow
@pytest.mark.filterwarnings('default')
def test_five_steps_of_lora_are_those_that_peft_takes_now(tmp_path):
  pytest.importorskip('peft')
  before, after = adapters.train_with_peft(tmp_path)
  assert_same_updates(
    before, after, steps(tmp_path / 'base', tmp_path / 'adapter', tmp_path / 'ours')
  )
