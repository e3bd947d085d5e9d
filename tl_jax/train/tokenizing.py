"""The tokenizer of a run: its source's, the one that is kept in its workdir, read from a
file, or trained.

>>> from tl_jax import data
>>> plain = data.tokenizers.train(['a b'], kind='wordpiece', size=300, lowercase=True)
>>> parsing(plain, True).parse_special
True
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

from tl_jax import data, files, interop
from tl_jax.config import ConfigError
from tl_jax.data import store
from tl_jax.interop.huggingface import GENERATION
from tl_jax.interop.tokenizer_settings import CONFIG
from tl_jax.train.settings import Tokenizing

TOKENIZER = 'tokenizer.json'
CACHE = 'cache'  # of texts that a tokenizer has encoded


def token_cache(folder: pathlib.Path) -> pathlib.Path:
  """Where texts are kept as tokens: below this folder, or below that of prepared sets
  where this one is mounted to be read.
  """
  is_read_only = folder.is_dir() and not store.is_writable(folder)
  return (store.cache_root() if is_read_only else folder) / CACHE


def prepare(
  choice: Tokenizing,
  source: interop.Loaded | None,
  init: str,
  training_texts: Callable[[], Sequence[str]],
  folder: pathlib.Path,
  is_primary: bool,
):
  """The tokenizer of a run, kept in its folder by the primary process.

  It is that of the `source`, which `init` names. Without a source it is the one that is
  kept, read or trained; training_texts() is called where texts are needed. Raises
  ConfigError for a source without.
  """
  if source is None:
    tokenizer = _make(choice, training_texts, folder, is_primary)
  elif source.tokenizer is None:
    raise ConfigError(f'config.init: {init} has no tokenizer')
  else:
    tokenizer = source.tokenizer
    if is_primary:
      keep_tokenizer(folder, source)
  return parsing(tokenizer, choice.parse_special, init)


def _make(
  choice: Tokenizing,
  training_texts: Callable[[], Sequence[str]],
  folder: pathlib.Path,
  is_primary: bool,
):
  """The tokenizer of a run without a source."""
  kept = folder / TOKENIZER
  # First, because a run that goes on must read as it did, whatever the texts are now.
  if kept.is_file():
    return data.tokenizers.load(kept)
  if choice.path:
    tokenizer = data.tokenizers.load(choice.path)
  else:
    tokenizer = data.tokenizers.train(
      training_texts(), kind=choice.kind, size=choice.size, lowercase=choice.lowercase
    )
  if is_primary:
    tokenizer.save(kept)
  return tokenizer


def parsing(tokenizer, parse_special: bool, init: str = ''):
  """The tokenizer that finds special pieces in texts, or does not.

  Raises ConfigError where the model of `init` found them and this run would not.
  """
  if tokenizer.parse_special and not parse_special:
    raise ConfigError(
      f'config.tokenizer.parse_special: {init} finds special pieces in its texts, so this '
      'run must, too: true'
    )
  return dataclasses.replace(tokenizer, parse_special=parse_special)


def keep(folder: pathlib.Path, tokenizer, source: interop.Loaded | None) -> None:
  """Writes the tokenizer of a run into a folder, unless it is there."""
  if (folder / TOKENIZER).is_file():
    return
  if source is None:
    tokenizer.save(folder / TOKENIZER)
  else:
    keep_tokenizer(folder, source)


def open_tokenizer(path: pathlib.Path):
  """The tokenizer of a workdir, with the padding side, special tokens and chat template
  of the folder it came from.
  """
  if (path / CONFIG).is_file():
    return interop.load_tokenizer(path)
  return data.tokenizers.load(path / TOKENIZER)


def keep_tokenizer(path: pathlib.Path, source: interop.Loaded) -> None:
  """Writes the tokenizer of a source into a workdir, and what its folder says besides.

  Of the tokenizer in tokenizer_config.json, of decoding in generation_config.json.
  """
  if source.config is not None or source.tokenizer.settings:
    interop.save_tokenizer(path, source.tokenizer)
  else:
    source.tokenizer.save(path / TOKENIZER)
  # An encoder writes no texts, so there is nothing to say of how.
  said = interop.generation.spoken(source)
  if said and source.arch.kind != 'encoder':
    text = json.dumps(said, indent=2, sort_keys=True) + '\n'
    files.write_atomically(path / GENERATION, text.encode())
