"""Equal files of several runs on the disk once, such as the frozen base of a cohort.

>>> import tempfile
>>> import numpy as np
>>> from tl_jax.checkpoint import Store
>>> known, folders = {}, []
>>> for seed in range(2):
...   store = Store(tempfile.mkdtemp())
...   store.save(1, {'base': np.zeros(100_000), 'head': np.full(100_000, seed)})
...   seconds = store.wait()
...   folders.append(store.directory / '1')
...   _ = share_files(folders[-1], known)
>>> def is_shared(leaf):
...   return os.path.samefile(*(folder / f'arrays/{leaf}/0' for folder in folders))
>>> is_shared('base'), is_shared('head')
(True, False)
"""

import os
import uuid
from pathlib import Path

from tl_jax import files
from tl_jax.checkpoint import record

# Bytes: what is smaller is not worth a look.
SMALLEST = 1 << 16


def share_files(step: Path, known: dict[tuple[int, str], Path]) -> int:
  """Makes the large files of a committed step hard links to equal files.

  Returns the bytes that this saves. `known` has the files that are there already, by
  size and SHA-256; this call adds its own. Committed files are never written again, and
  deleting a step deletes its own names only, so that no run notices. Where the file
  system has no hard links, or the other file is damaged or gone, a file stays what it
  is.
  """
  found = record.load_record(step)
  if found is None:
    return 0
  entries = dict(found['files'])
  for leaf in found['leaves'].values():
    entries |= leaf['files']
  saved = 0
  for name, (size, checksum) in entries.items():
    if size < SMALLEST:
      continue
    other = known.setdefault((size, checksum), step / name)
    if other == step / name:
      continue
    if _link(other, step / name, checksum, step.parent):
      saved += size
    else:
      # The other one is no good, so the next step is linked to this one.
      known[size, checksum] = step / name
  return saved


def _link(other: Path, path: Path, checksum: str, folder: Path) -> bool:
  """Makes `path` a link to `other`, at once; False where that cannot be."""
  # Outside of the step: what a crash leaves behind is no part of it.
  temporary = folder / f'.link-{uuid.uuid4().hex}'
  try:
    if os.path.samefile(other, path):
      return True
    # Damage of one run must not become damage of two.
    if files.digest(other)[1] != checksum:
      return False
    os.link(other, temporary)
    os.replace(temporary, path)
  except OSError:
    temporary.unlink(missing_ok=True)
    return False
  return True
