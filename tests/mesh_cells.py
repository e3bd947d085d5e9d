"""One run on every layout of the devices, as a program of its own: several processes of
it make up one.

    python tests/mesh_cells.py tiny lora --runs FOLDER/fsdp FOLDER/tensor
    python tests/mesh_cells.py tiny lora --sources FOLDER/fsdp --onto FOLDER/tensor

The name of a folder is that of a layout. A source is a run that is over: its checkpoint
is opened on the layout of another.
"""

import argparse
import hashlib
import pathlib
import sys

STEPS = 20
# What is left after 8 devices of these sizes is on the axis data.
LAYOUTS = {
  'alone': ('replicate', {}),
  'replicate': ('replicate', dict(fsdp=2)),
  'fsdp': ('fsdp', dict(fsdp=4)),
  'tensor': ('tensor', dict(tensor=2)),
  'fsdp_tensor': ('fsdp_tensor', dict(fsdp=2, tensor=2)),
  'sequence': ('sequence', dict(fsdp=2, sequence=2)),
  'long': ('sequence', dict(sequence=4)),
  'cohort': ('fsdp_tensor', dict(cohort=2, tensor=2)),
  'all': ('sequence', dict(fsdp=2, tensor=2, sequence=2)),
  'held': ('fsdp_tensor', dict(fsdp=2, tensor=2)),
  'whole': ('fsdp', dict(fsdp=-1, data=1)),
  'override': ('fsdp', dict(fsdp=4)),
}
OVERRIDES = (
  (r'embedding/tokens', (None, 'fsdp')),
  (r'.*/mlp/in/kernel', (None, ('data', 'fsdp'))),
)
SMALL = dict(width=32, layers=2, heads=4, mlp=64)


def config_of(family: str, method: str, layout: str | None):
  """A run that takes seconds, with dropout, packing and accumulation."""
  from ml_collections import ConfigDict

  from tl_jax import config

  made = config.load(f'configs/pretrain.py:{family}')
  model = dict(SMALL, family=family)
  if family == 'tiny-t5':
    model |= dict(decoder_layers=2)
  with made.unlocked():
    made.model = ConfigDict(model)
    if method == 'lora':
      made.method = ConfigDict(dict(name='lora', rank=4))
    made.tokenizer.size = 512
    made.data.mixture = ConfigDict({'vader_amazon': 1.0})
    made.data.update(length=32, batch=16, accumulate=2)
    made.schedule.update(steps=STEPS, warmup=2)
    # Adapters that begin with nothing learn at a higher rate.
    made.optim.lr = 1e-2 if method == 'lora' else 3e-3
    made.log.update(every=1, tensorboard=False)
    made.eval.batches = 1
    made.checkpoint.every = 1000
    if layout is not None:
      made.sharding, axes = LAYOUTS[layout]
      made.mesh.update(axes)
    if layout == 'held':
      made.compute.layers = 'scan'
    if layout == 'override':
      made.sharding_overrides = OVERRIDES
  return made


def run(family: str, method: str, layout: str | None, folder: pathlib.Path) -> None:
  from tl_jax import train

  train.pretrain(config_of(family, method, layout), folder)


def digest(state) -> str:
  """A hash of every bit of a state, whatever devices it lies on."""
  import jax
  import numpy as np

  from tl_jax import parallel, tree

  found = hashlib.sha256()
  # A key is two numbers.
  data = jax.tree.map(
    lambda leaf: (
      jax.random.key_data(leaf)
      if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
      else leaf
    ),
    state,
  )
  held = parallel.to_host(data)
  for name, leaf in sorted(tree.flatten(held).items()):
    array = np.asarray(leaf)
    found.update(f'{name} {array.dtype} {array.shape}'.encode())
    found.update(array.tobytes())
  return found.hexdigest()


def cross(family: str, method: str, sources: list, onto: list) -> None:
  """Goes on from the checkpoint of each source on the layout of each run in `onto`, and
  prints a hash of the state that is there.
  """
  from tl_jax.train import checks, running
  from tl_jax.train.workdir import open_run

  for target in onto:
    made = config_of(family, method, target.name)
    checked = checks.check(made)
    # The run is over, so that nothing is written but what it had.
    with open_run(made, target) as opened:
      trainer = running.make_trainer(checked, opened)
      for source in sources:
        found = digest(restored(trainer, opened, source))
        say(f'{source.parent.name}/{source.name} onto {target.name}: {found}')


def restored(trainer, opened, source: pathlib.Path):
  """The named state of another run's checkpoint, as this trainer takes it over."""
  import jax

  from tl_jax import checkpoint
  from tl_jax.train.course import Course
  from tl_jax.train.reporter import NULL_REPORTER

  settings = trainer.ready.settings
  other = opened._replace(store=checkpoint.Store(source / 'checkpoints'))
  course = Course.of(settings, '')
  state = trainer.restore(settings, other, course, NULL_REPORTER)
  assert int(state.step) == STEPS
  pairs = zip(jax.tree.leaves(state), jax.tree.leaves(trainer.shardings), strict=True)
  assert all(leaf.sharding == wanted for leaf, wanted in pairs)
  return trainer._named(state)


def say(text: str) -> None:
  sys.stdout.write(f'{text}\n')
  sys.stdout.flush()


def permute_devices(order: list[int]) -> None:
  """Lets every mesh have the devices in this order."""
  import jax

  from tl_jax import parallel

  make_mesh = parallel.make_mesh

  def permuted(shape, devices=None):
    devices = jax.devices() if devices is None else devices
    return make_mesh(shape, [devices[place] for place in order])

  parallel.make_mesh = permuted


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('family')
  parser.add_argument('method')
  parser.add_argument('--runs', nargs='*', type=pathlib.Path, default=[])
  parser.add_argument('--sources', nargs='*', type=pathlib.Path, default=[])
  parser.add_argument('--onto', nargs='*', type=pathlib.Path, default=[])
  parser.add_argument('--order', default='')
  asked = parser.parse_args()

  from tl_jax import parallel

  parallel.start()
  if asked.order:
    permute_devices([int(place) for place in asked.order.split(',')])
  failed = []
  for folder in asked.runs:
    try:
      run(asked.family, asked.method, folder.name, folder)
    except Exception as error:  # noqa: BLE001 - the other layouts run all the same
      say(f'{folder.name}: {type(error).__name__}: {error}')
      failed.append(folder.name)
  if failed:
    raise SystemExit(1)
  cross(asked.family, asked.method, asked.sources, asked.onto)


if __name__ == '__main__':
  main()
