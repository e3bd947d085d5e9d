"""What an adapter stands on: a model's leaves, their places in a checkpoint, the hash.

>>> import numpy as np
>>> sorted(named_leaves({'head': {'kernel': np.zeros(2), 'bias': np.zeros(2)}}))
['head/bias', 'head/kernel']
"""

import functools
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import leaves, models, tree
from tl_jax.interop import configs, names
from tl_jax.interop.huggingface import Loaded
from tl_jax.interop.peft_prompts import PROMPT

STEM = 'adapter_model'
# The hash stands in the metadata of the safetensors file, which travels with the
# tensors: a file beside them would be left behind.
HASH = 'base_sha256'


def base_hash(params, without=(), dtype=None) -> str:
  """The sha256 of the arrays that an adapter stands on, as 64 hexadecimal digits.

  It is of the name, shape, dtype and bytes of every array that was held, in the order
  of the names. One array at a time is in memory as bytes.

  params: the parameters of a base, or of a model with structured leaves over it, whose
  bases count. without: the names of leaves that were trained. dtype: what the arrays
  are cast to first, for a base that a run holds in a wider type than its folder.
  Raises ValueError for a quantised base, whose arrays are not there to be hashed.
  """
  digest = hashlib.sha256()
  for name, leaf in sorted(named_leaves(params).items()):
    # Prompts and prefixes stand beside the base, not in place of a part of it.
    if name in without or name == PROMPT or isinstance(leaf, leaves.Prefix):
      continue
    held = base_of(name, leaf)
    if dtype is not None:
      held = held.astype(dtype)
    shape, dtype_name = tuple(held.shape), np.dtype(held.dtype).name
    digest.update(f'{name} {shape} {dtype_name}\n'.encode())
    flat = np.ascontiguousarray(np.asarray(held)).reshape(-1)
    digest.update(flat.view(np.uint8))
  return digest.hexdigest()


def require_base(declared: str | None, params, full) -> None:
  """Raises ValueError where the hash of an adapter's file is not that of this base.

  declared: the hash in the file; None, as in files of peft, fits every base. full: the
  names of the leaves that the adapter brings, which do not count.
  """
  if declared is None or declared == base_hash(params, full):
    return
  # A run may have held a base of bfloat16 in float32, and hashed that.
  if declared == base_hash(params, full, jnp.float32):
    return
  raise ValueError(
    f'{STEM}.safetensors: made for another base: its {HASH} {declared[:16]} is not that '
    'of this one'
  )


def named_leaves(params) -> dict[str, Any]:
  """Every array and every structured leaf, by name."""
  found = jax.tree_util.tree_leaves_with_path(params, is_leaf=leaves.is_structured)
  return {tree.name_of(path): leaf for path, leaf in found}


def base_of(name: str, leaf):
  """The array that stood where a leaf stands.

  Raises ValueError for a structured leaf that no method of peft makes.
  """
  if isinstance(leaf, (leaves.LowRank, leaves.Directed, leaves.Scaled)):
    leaf = leaf.base
  if leaves.is_structured(leaf):
    raise ValueError(
      f'{name}: a {type(leaf).__name__} is nothing that peft has; LoRA, DoRA, (IA)^3 '
      'over plain matrices, prefixes and prompts are'
    )
  return leaf


def kind_of(leaf) -> str:
  """peft's name of the method that makes such a leaf; '' for what a base has too."""
  kinds = {
    leaves.LowRank: 'LORA',
    leaves.Directed: 'LORA',
    leaves.Scaled: 'IA3',
    leaves.Prefix: 'PREFIX_TUNING',
  }
  return kinds.get(type(leaf), '')


def places_of(loaded: Loaded, arch: models.Arch) -> tuple[str, dict[str, names.Place]]:
  """(family, the place of every parameter of `arch` in a checkpoint of the family)."""
  config = loaded.config or {}
  family = config.get('model_type') or configs.fitting(arch)
  places = names.places(family, arch.head, shapes_of(arch), gated=arch.gated)
  return family, places


@functools.lru_cache(maxsize=8)
def shapes_of(arch: models.Arch) -> dict:
  """The shape and dtype of every parameter of an architecture."""
  return jax.eval_shape(models.build(arch).init, jax.random.key(0))


def module_of(place: names.Place) -> str:
  """The module of transformers that a parameter belongs to."""
  return place.name.rpartition('.')[0]


def repeated_names(arch: models.Arch, family: str) -> dict[str, str]:
  """The tensors that a masked head of transformers holds a second time.

  The result maps each second name to the parameter of ours that it repeats.
  """
  output = names.place(family, 'masked', 'head/kernel')
  bias = names.place(family, 'masked', 'head/bias')
  found = {}
  # The head of DeBERTa multiplies by the token table itself and holds no second name of
  # it.
  if arch.tied and output.name.startswith(f'{module_of(bias)}.'):
    found[output.name] = 'embedding/tokens'
  for name in names.NAMES[family].tied_names[1:]:
    found[name] = 'head/bias'
  return found
