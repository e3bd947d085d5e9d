"""Adapters of ours over the bases of the fixtures, and the logits that they make."""

import dataclasses
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import adapters  # noqa: E402

from tl_jax import models, transfer  # noqa: E402

DECODER = r'decoder/layers/\d+/attention'


def slow_unless(quick, pairs):
  return pytest.mark.parametrize(
    'pair',
    [
      pair if pair in quick else pytest.param(pair, marks=pytest.mark.slow)
      for pair in pairs
    ],
  )


def logits(loaded, pair):
  batch = {
    name: jnp.array(value)
    for name, value in adapters.inputs(adapters.parts(pair)[0]).items()
  }
  return adapters.counted(pair, loaded.model.apply(loaded.params, batch).logits)


def folders(tmp_path, pair):
  """(base, adapter) of a fixture."""
  return adapters.write(tmp_path, pair, adapters.fixtures()[pair])


def ours(loaded, pair, head=None):
  """(the model with an adapter of ours whose numbers are not those of the start, the
  trainable tree).
  """
  base, method = adapters.parts(pair)
  head = head or (r'head/.*' if base not in ('gpt2', 'llama', 't5') else transfer.HEAD)
  made = {
    'lora': lambda: transfer.lora(rank=4, alpha=6, head=head),
    'rslora': lambda: transfer.lora(rank=4, alpha=6, stabilized=True, head=head),
    'dora': lambda: transfer.dora(rank=4, head=head),
    'ia3': lambda: transfer.ia3(head=head),
    'prefix': lambda: transfer.prefix(
      3, head=head, **(dict(pattern=DECODER) if base == 't5' else {})
    ),
    'prompt': lambda: transfer.prompt(3, head=head),
  }[method]()
  trainable, frozen = made.init(jax.random.key(0), loaded.params)
  draw = np.random.default_rng(5)
  trainable = jax.tree.map(
    lambda x: x + 0.15 * draw.standard_normal(x.shape).astype(np.float32), trainable
  )
  return loaded._replace(params=made.merge(trainable, frozen)), trainable


def bringing_a_pooler(loaded):
  """A BERT with a classifier whose pooler came with the task."""
  arch = dataclasses.replace(loaded.arch, pooler_place='new')
  params = {name: part for name, part in loaded.params.items() if name != 'pooler'}
  params['head'] = params['head'] | dict(pooler=loaded.params['pooler'])
  return loaded._replace(model=models.build(arch), arch=arch, params=params)
