"""Which rate suits which method: a sweep, and what a search of some budget would find.

  tl-jax sweep experiments/rates.py --workdir=W --dry-run
  tl-jax sweep experiments/rates.py --workdir=W

A tiny encoder learns the sentiment of reviews from 100 labels, in full and with LoRA:
eight rates each, drawn from the same range, three seeds for every rate. It takes minutes
on two cores. Give `init=PATH` to the configs for a sweep over a pre-trained model.
"""

from tl_jax.scale import space

CONFIG = 'configs/transfer.py:task=sentiment,labels=100,method='
# Watched on validation, so that the best of many is not chosen on the test split.
SETTINGS = {'eval.every': 50, 'log.tensorboard': False}


def sweep() -> space.Space:
  """48 runs: every method with every rate and every seed."""
  methods = space.base(f'{CONFIG}full', f'{CONFIG}lora')
  rates = space.random(8, {'optim.lr': space.log_uniform(1e-4, 1e-2)})
  seeds = space.product(seed=range(3))
  return methods * space.fixed(SETTINGS) * rates * seeds
