"""Small models, foreign params and short runs for the laws of methods."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import models, objectives, optim, rng, tree
from tl_jax.train import init_state, make_step

KEY = jax.random.key(3)


def noise(name, leaf):
  return (
    np.random.default_rng(zlib.crc32(name.encode()))
    .normal(size=leaf.shape)
    .astype(leaf.dtype)
  )


@functools.cache
def real(kind, **fields):
  """A small model of ours with weights that are not all zeros and ones, and a batch for
  it.
  """
  family, head = {
    'encoder': ('tiny', 'classifier'),
    'decoder': ('tiny-gpt', 'causal'),
    'encoder-decoder': ('tiny-t5', 'causal'),
  }[kind]
  more = dict(labels=3) if head == 'classifier' else {}
  model = models.build(models.arch(family, vocabulary=64, head=head, **more | fields))
  params = tree.map_named(
    lambda name, leaf: leaf + 0.1 * noise(name, leaf), jax.jit(model.init)(KEY)
  )
  batch = dict(
    tokens=jax.random.randint(KEY, (2, 9), 1, 64),
    segments=jnp.array([[1] * 9, [1] * 6 + [0] * 3]),
  )
  if kind == 'encoder-decoder':
    batch['decoder_tokens'] = jax.random.randint(jax.random.key(4), (2, 5), 1, 64)
  return model, params, batch


def moved(trainable, size=0.1):
  """A tree that some training might have led to."""
  return tree.map_named(
    lambda name, leaf: leaf + size * noise(f'moved/{name}', leaf), trainable
  )


def plain_tree(width=4, layers=3):
  """Foreign params named like ours: every leaf edit and partition fits them."""
  shapes = {'head/kernel': (width, 2), 'head/bias': (2,), 'final_norm/scale': (width,)}
  for i in range(layers):
    shapes |= {
      f'layers/{i}/attention/{part}/kernel': (width, width)
      for part in ('query', 'key', 'value')
    }
    shapes |= {
      f'layers/{i}/attention/{part}/bias': (width,)
      for part in ('query', 'key', 'value')
    }
    shapes |= {
      f'layers/{i}/mlp/out/kernel': (width, width),
      f'layers/{i}/mlp_norm/scale': (width,),
    }
  return tree.unflatten(
    {
      name: jax.random.normal(rng.stream(0, name), shape)
      for name, shape in shapes.items()
    }
  )


def run_steps(method, steps=10, kind='encoder', **fields):
  """The states before, between and after some steps on one labelled batch."""
  model, params, batch = real(kind, **fields)
  batch = batch | dict(labels=jnp.array([0, 2]))
  tx = optim.make_optimizer(
    optim.OptimConfig(lr=1e-2, decay=0.1),
    optim.ScheduleConfig(name='constant', steps=steps),
  )
  model = models.build(model.arch, models.Compute(dropout=0.1))
  step = jax.jit(make_step(model, objectives.classify(labels=3), method, tx))
  states = [init_state(params, method, tx, 0)]
  for _ in range(steps):
    state, metrics = step(states[-1], batch)
    states.append(state)
  assert np.isfinite(float(metrics['loss']))
  return states
