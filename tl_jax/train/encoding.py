"""Vectors of texts by a model of any origin, computed once and kept on the disk.

>>> key_of('model', ['a', 'b']) == key_of('model', ['ab', ''])
False
"""

import hashlib
import io
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from tl_jax import config as configs
from tl_jax import files, parallel
from tl_jax.config import ConfigError, beside
from tl_jax.data.pairs import Pair
from tl_jax.train.answering import open_settings, open_subject, vectors
from tl_jax.train.prediction import digest_of_model
from tl_jax.train.reporter import NULL_REPORTER, Reporter

# Another number encodes all texts anew: for whoever changes what a vector is.
FORMAT = 1


class Encoded(NamedTuple):
  """Vectors of texts.

  vectors: float32 (texts, width), or (texts, layers + 1, width) of all layers. seconds:
  what computing them took; 0 where they were kept from before.
  """

  vectors: np.ndarray
  seconds: float


def encode(
  model: str,
  texts: Sequence[str],
  folder: pathlib.Path,
  *,
  pooling: str = '',
  layers: bool = False,
  dtype: str = '',
  reporter: Reporter = NULL_REPORTER,
) -> Encoded:
  """A vector of every text, or one after each layer, from `folder` or anew into it.

  model: a workdir, a folder or a .gguf file. pooling: one of `models.POOLS`; '' as the
  model says. dtype: of the computation; '' for that of its run, or float32. What is kept
  is found by the digest of the model's files, its tokenizer among them, of the texts and
  of all that is said here. It is written under another name and renamed, so that nobody
  reads half of it and several may write at once. Raises ValueError for a model that
  cannot be opened, or gives no vector of some text.
  """
  path = pathlib.Path(files.require_local(model, 'init'))
  if not path.exists():
    raise ConfigError(f'--init: {model}: no such folder or file{beside(model)}')
  # The files are read for it, which takes no time beside opening a model.
  settings, step = open_settings(path)
  digest = digest_of_model(path, step)
  key = key_of(digest, texts, pooling=pooling, layers=layers, dtype=dtype)
  kept = folder / f'{key}.npy'
  found = _read(kept, len(texts))
  if found is not None:
    return Encoded(found, 0.0)
  began = time.monotonic()
  with reporter.busy(f'opening {path.name}'):
    subject = open_subject(path, settings, step, dtype, None)
  modes = (pooling,) if pooling else ()
  found = _compute(subject, texts, modes, layers, reporter)
  if layers:
    found = found.reshape(len(found), subject.loaded.arch.layers + 1, -1)
  folder.mkdir(parents=True, exist_ok=True)
  with io.BytesIO() as content:
    np.save(content, found, allow_pickle=False)
    files.write_atomically(kept, content.getvalue())
  return Encoded(found, time.monotonic() - began)


def key_of(model: str, texts: Sequence[str], **said) -> str:
  """What vectors are kept under: 32 hexadecimal digits.

  model: a digest of the files of the model. said: what else they depend on.
  """
  content = hashlib.sha256()
  for text in texts:
    # Two texts that a model reads in a frame are not the one that they make joined.
    parts = (text.first, text.second) if isinstance(text, Pair) else (text,)
    content.update(configs.digest(parts).encode())
  about = dict(model=model, texts=content.hexdigest(), format=FORMAT, **said)
  return configs.digest(about)[:32]


def _read(path: pathlib.Path, count: int) -> np.ndarray | None:
  """The vectors of a file; None where there is none, or none of so many texts."""
  # Whatever is wrong with it, it is written anew.
  try:
    found = np.load(path, allow_pickle=False)
  except (OSError, ValueError, EOFError):
    return None
  return found if found.ndim > 1 and len(found) == count else None


def _compute(
  subject, texts: Sequence[str], modes: tuple, layers: bool, reporter: Reporter
) -> np.ndarray:
  """The vectors of texts, float32 (texts, width)."""
  name = subject.path.name
  parallel.keep_freed_memory()
  mesh = parallel.make_mesh(parallel.MeshShape(), jax.local_devices())
  found = []
  done = 0

  def watch(answered: int, cut: int) -> None:
    del cut
    reporter.progress(name, done + answered, len(texts))

  # Of this process alone: several would each compute the same.
  with jax.set_mesh(mesh):
    _, run = vectors(subject, mesh, modes=modes, layers=layers)
    for window in run(texts, watch):
      found.append(window)
      done += len(window)
  together = np.concatenate(found)
  empty = np.flatnonzero(np.isnan(together).any(1))
  if len(empty):
    raise ConfigError(f'{name}: gives no vector of text {empty[0]}, which has no token')
  return together
