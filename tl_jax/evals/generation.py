"""Texts that a model writes for the examples of a task.

>>> import collections, types, jax, jax.numpy as jnp
>>> Decoder = collections.namedtuple('Decoder', 'prefill step kind')
>>> # A model that knows the alphabet.
>>> after = lambda last: 9.0 * jax.nn.one_hot((last + 1) % 128, 128)
>>> read = lambda params, batch, capacity: (after(batch['tokens'][:, -1]), {})
>>> step = lambda params, cache, token: (after(token), cache)
>>> letters = types.SimpleNamespace(
...     encode_batch=lambda texts, special: [list(map(ord, text)) for text in texts],
...     decode=lambda ids: ''.join(map(chr, ids)))
>>> writer = Decoder(read, step, 'decoder')
>>> settings = decode.Decoding(max_new_tokens=3, eos=ord('g'))
>>> write(writer, None, letters, [[97, 98], [101]], settings)
['cde', 'f']
"""

from collections.abc import Sequence

from tl_jax import decode


def write(
  decoder,
  params,
  tokenizer,
  prompts: Sequence[Sequence[int]],
  settings: decode.Decoding,
  *,
  batch: int = 8,
  **placing,
) -> list[str]:
  """The text that a model writes for each prompt of ids, without white space around it.

  All prompts are sorted by length before they are put into batches of `batch` texts, so
  that little of a batch is padding. `placing` is what `decode.continue_texts` takes of
  devices: positions, multiple, place and fetch.
  """
  batches = -(-len(prompts) // batch)
  continued = decode.continue_texts(
    decoder,
    params,
    tokenizer,
    prompts,
    settings,
    batch=batch,
    # One window of all: they are in memory anyway.
    window=max(1, batches),
    **placing,
  )
  return [found[0].text.strip() for found in continued]
