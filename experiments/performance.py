"""Tokens per second beside transformers on this machine: forward passes and greedy decoding, taken in turn.

  pip install '.[bench]' && python experiments/performance.py --rounds=5

Both sides compute the same random weights; before timing, their float32 outputs are compared. A ratio above 1 means
that this library is faster; medians over rounds, with the smallest and largest ratio of a round.
"""

import argparse
import functools
import statistics
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import decode, interop, models

NEW = 64


def bert(transformers):
  """BERT-base, 8 rows of 128 tokens."""
  return transformers.BertModel(transformers.BertConfig()), (8, 128)


def gpt2(transformers):
  """GPT-2 small, 4 rows of 256 tokens."""
  return transformers.GPT2LMHeadModel(transformers.GPT2Config()), (4, 256)


def forward(theirs, ours, tokens, dtype):
  """(our call, their call) of one forward pass without gradients."""
  import torch
  model = models.build(ours.arch, models.Compute(dtype=dtype))
  apply = jax.jit(lambda params, batch: (lambda out: out.hidden if out.logits is None else out.logits)(
      model.apply(params, batch)))
  params = jax.tree.map(lambda leaf: leaf.astype(dtype), ours.params)
  batch, theirs = dict(tokens=jnp.array(tokens)), theirs.to(getattr(torch, dtype))
  ids = torch.tensor(tokens).long()

  def call():
    with torch.inference_mode():
      return theirs(ids)[0]
  return lambda: jax.block_until_ready(apply(params, batch)), call


def greedy(theirs, ours, tokens, dtype):
  """(our call, their call) of greedy decoding of `NEW` tokens after 64, with caches, no end of sequence."""
  import torch
  tokens = tokens[:, :64]
  reader = models.decoder(ours.arch, models.Compute(dtype=dtype))
  params = jax.tree.map(lambda leaf: leaf.astype(dtype), ours.params)
  batch = dict(tokens=jnp.array(tokens), segments=jnp.ones(tokens.shape, jnp.int32))
  settings = decode.Decoding(max_new_tokens=NEW)
  ids, theirs = torch.tensor(tokens).long(), theirs.to(getattr(torch, dtype))

  def call():
    with torch.inference_mode():
      return theirs.generate(ids, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0,
                             attention_mask=torch.ones_like(ids))
  return lambda: jax.block_until_ready(decode.generate(reader, params, batch, settings).tokens), call


def seconds(call) -> float:
  began = time.perf_counter()
  call()
  return time.perf_counter() - began


def compare(name: str, ours, theirs, tokens: int, rounds: int) -> None:
  """Times both in turn and prints a line."""
  for call in (ours, theirs):
    call()
  pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
  mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
  ratios = sorted(b / a for a, b in pairs)
  sys.stdout.write(f'{name:<34}{tokens / mine:>10.0f}{tokens / other:>14.0f}{statistics.median(ratios):>8.2f}'
                   f'   {ratios[0]:.2f}-{ratios[-1]:.2f}\n')
  sys.stdout.flush()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--rounds', type=int, default=5)
  rounds = parser.parse_args().rounds
  import torch
  import transformers
  transformers.logging.set_verbosity_error()
  torch.manual_seed(0)
  sys.stdout.write(f'{"tokens/s":<34}{"tl_jax":>10}{"transformers":>14}{"ratio":>8}   range\n')
  for make in (bert, gpt2):
    made, shape = make(transformers)
    with tempfile.TemporaryDirectory() as folder:
      made.eval().save_pretrained(folder)
      ours = interop.load(folder)
      reopen = functools.partial(type(made).from_pretrained, folder)
      tokens = np.random.default_rng(0).integers(5, 30000, shape).astype(np.int32)
      mine, other = forward(reopen().eval(), ours, tokens, 'float32')
      apart = np.abs(np.asarray(mine()) - other().numpy()).max()
      if apart > 1e-3:
        raise SystemExit(f'{make.__name__}: outputs differ by {apart}')
      for dtype in ('float32', 'bfloat16'):
        calls = forward(reopen().eval(), ours, tokens, dtype)
        compare(f'{make.__name__} forward {shape[0]}x{shape[1]} {dtype}', *calls, tokens.size, rounds)
      for rows in (1, 8) if make is gpt2 else ():
        prompts = np.random.default_rng(1).integers(5, 30000, (rows, 64)).astype(np.int32)
        for dtype in ('float32', 'bfloat16'):
          calls = greedy(reopen().eval(), ours, prompts, dtype)
          compare(f'gpt2 greedy 64+{NEW} batch {rows} {dtype}', *calls, rows * NEW, rounds)


if __name__ == '__main__':
  main()
