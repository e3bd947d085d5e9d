"""What a training step costs under each method, by the compiler's own account:
temporaries, FLOPs, optimizer state.

  # bert-base 8 x 128 and gpt2 4 x 256, minutes of compilation
  python experiments/benchmarks/step_costs.py
  python experiments/benchmarks/step_costs.py --models bert-base --methods full lora

Nothing is run: the step is lowered and compiled for this machine from shapes, and XLA
says what it needs. Temporaries are what is alive beside the arguments and results; the
optimizer's state is counted in bytes over trained leaves only.
"""

import argparse
import sys

import jax
import jax.numpy as jnp

from tl_jax import models, objectives, optim, transfer, tree
from tl_jax.train import init_state, make_step

SHAPES = {'bert-base': (8, 128), 'gpt2': (4, 256)}
METHODS = {
  'full': transfer.full,
  'lora': transfer.lora,
  'ia3': transfer.ia3,
  'bitfit': transfer.bitfit,
  'adapter': transfer.adapter,
  'probe': transfer.probe,
}


def costs(family: str, method: transfer.TransferMethod, rows: int, length: int) -> dict:
  """bytes of temporaries, FLOPs and bytes of optimizer state of one AdamW step in
  float32.
  """
  decoder = 'gpt' in family
  arch = (
    models.arch(family, head='causal')
    if decoder
    else models.arch(family, head='classifier', labels=2)
  )
  objective = objectives.causal() if decoder else objectives.classify(labels=2)
  model = models.build(arch)
  tx = optim.make_optimizer(
    optim.OptimConfig(), optim.ScheduleConfig(name='constant', steps=10)
  )
  state = jax.eval_shape(
    lambda: init_state(model.init(jax.random.key(0)), method, tx, 0)
  )
  batch = {
    'tokens': jax.ShapeDtypeStruct((rows, length), jnp.int32),
    'segments': jax.ShapeDtypeStruct((rows, length), jnp.int32),
  }
  if not decoder:
    batch['labels'] = jax.ShapeDtypeStruct((rows,), jnp.int32)
  compiled = (
    jax.jit(make_step(model, objective, method, tx), donate_argnums=0)
    .lower(state, batch)
    .compile()
  )
  analysis = compiled.cost_analysis()
  analysis = analysis[0] if isinstance(analysis, list) else analysis
  size = lambda leaves: sum(
    leaf.size * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(leaves)
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  )
  return dict(
    temporaries=compiled.memory_analysis().temp_size_in_bytes,
    flops=analysis['flops'],
    optimizer=size(state.opt_state),
    trained=tree.count(state.trainable),
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--models', nargs='+', default=list(SHAPES), choices=SHAPES)
  parser.add_argument('--methods', nargs='+', default=list(METHODS), choices=METHODS)
  options = parser.parse_args()
  header = ('model', 'method', 'trained', 'temporaries MB', 'GFLOP', 'optimizer MB')
  sys.stdout.write(('{:12}{:10}' + '{:>16}' * 4).format(*header) + '\n')
  for family in options.models:
    for name in options.methods:
      found = costs(family, METHODS[name](), *SHAPES[family])
      sys.stdout.write(
        f'{family:12}{name:10}{found["trained"]:>16,}{found["temporaries"] / 1e6:>16.1f}'
        f'{found["flops"] / 1e9:>16.1f}{found["optimizer"] / 1e6:>16.2f}\n'
      )
      sys.stdout.flush()


if __name__ == '__main__':
  main()
