"""The tokenizer of a run: its source's, the one that is kept in its workdir, read from a
file, or trained.

>>> from tl_jax import data
>>> plain = data.tokenizers.train(['a b'], kind='wordpiece', size=300, lowercase=True)
>>> parsing(plain, True).parse_special
True
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tl_jax import checkpoint, data, files, interop, models
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
  ConfigError for a source without, and for another than that of the steps in the
  folder.
  """
  if source is None:
    tokenizer = _make(choice, training_texts, folder, is_primary)
    require_read_by_newest(folder, tokenizer)
  elif source.tokenizer is None:
    raise ConfigError(f'config.init: {init} has no tokenizer')
  else:
    tokenizer = source.tokenizer
    # Before the one that the steps were trained with is written over.
    require_read_by_newest(folder, tokenizer, init)
    if is_primary:
      keep_tokenizer(folder, source)
  return parsing(tokenizer, choice.parse_special, init)


def marks(tokenizer) -> dict[str, str]:
  """What a checkpoint says of the tokenizer that its model reads with.

  pieces: a digest of the pieces and their ids. digest: one of all that the library
  writes of it, which another `release` of the library may write in other words.
  """
  return dict(
    digest=tokenizer.digest,
    pieces=_digest_of_pieces(tokenizer),
    release=_release(),
  )


def _digest_of_pieces(tokenizer) -> str:
  pieces = sorted(tokenizer.backend.get_vocab(with_added_tokens=True).items())
  return hashlib.sha256(json.dumps(pieces).encode()).hexdigest()


def _release() -> str:
  return importlib.metadata.version('tokenizers')


def require_same(tokenizer, said: Mapping[str, Any], trained: str, where: str) -> None:
  """Raises ConfigError where the tokenizer of `where` is not that of a checkpoint.

  said: what the checkpoint, which `trained` names, says of itself. One of an earlier
  version says nothing of its tokenizer, and takes any.
  """
  made = said.get('tokenizer')
  if made is None or made['digest'] == tokenizer.digest:
    return
  pieces = _digest_of_pieces(tokenizer)
  if made['pieces'] == pieces:
    if made['release'] != _release():
      return
    differs = f'its rules, not its pieces, differ (digest {tokenizer.digest[:12]}, not '
    differs += f'{made["digest"][:12]})'
  else:
    differs = f'the digest of its pieces is {pieces[:12]}, not {made["pieces"][:12]}'
  raise ConfigError(
    f'{where}: not the tokenizer that {trained} was trained with: {differs}; put that '
    'one back'
  )


def require_read_by_newest(folder: pathlib.Path, tokenizer, init: str = '') -> None:
  """Raises ConfigError where the newest step in a workdir was trained with another
  tokenizer than this one, which is that of `init` or the one that is kept.
  """
  store = checkpoint.Store(folder / 'checkpoints')
  newest = store.latest()
  if newest is not None:
    where = f'config.init: {init}' if init else str(folder / TOKENIZER)
    require_same(tokenizer, store.meta(newest), f'step {newest}', where)


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


def of_documents(tokenizer, arch: models.Arch):
  """The tokenizer as a model of this architecture reads whole documents.

  A decoder learns to stop from the ends of its documents. The tokenizers of published
  decoders leave a text open, because one for whole texts is one for prompts, too.
  """
  if arch.kind != 'decoder' or tokenizer.suffix or tokenizer.eos is None:
    return tokenizer
  # What is kept of encoded texts is found by the digest.
  ended = hashlib.sha256(f'{tokenizer.digest} and {tokenizer.eos}'.encode())
  return dataclasses.replace(
    tokenizer, suffix=(tokenizer.eos,), digest=ended.hexdigest()
  )


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
