"""The tokenizer of a Hugging Face folder.

>>> load_tokenizer('/no/such/folder') is None
True
"""

import pathlib

from tl_jax.data import tokenizers


def load_tokenizer(folder) -> tokenizers.Tokenizer | None:
  """The tokenizer of a folder's `tokenizer.json`; None where it has none."""
  return tokenizers.load(folder) if (pathlib.Path(folder) / 'tokenizer.json').is_file() else None


def save_tokenizer(folder, tokenizer: tokenizers.Tokenizer) -> None:
  """Writes `tokenizer.json`."""
  tokenizer.save(folder)
