"""Adapters of peft in and out, without torch: what was trained of a model, with its
head, tied to its base by a hash.

>>> load_adapter('/no/such/folder', None)
Traceback (most recent call last):
ValueError: /no/such/folder: no adapter_config.json, so not the folder of an adapter

Both ways, heads included, logits equal to 1e-4 (measured: 3e-5) with peft 0.21 and
transformers 5:

  family  LoRA rsLoRA DoRA (IA)^3  prefix                        prompt
  BERT    yes                      yes, masked head: peft cannot yes, masked head: peft cannot
  GPT-2   yes, (1)                 yes                           yes, (2)
  Llama   yes                      yes                           yes, (2)
  T5      yes                      decoder's own attention, (3)  yes, before the encoder's text

(1) Query, key and value are one matrix there: ours are written as blocks of the summed
rank, theirs read as three leaves. (2) peft's classifiers of decoders read the last
column of a row with a prompt, be it padding; ours the last token. (3) Unlike Li and
Liang, who give one to all three attentions. Layers i and i + n / 2 of n, where n is
even, have one prefix, and from d_kv * heads other than d_model peft finds no sizes: it
must be told them, as our files tell it. Biases that were trained beside LoRA go out as
bias='lora_only' or 'all'. A token table or an output layer that an adapter brings may
untie a tied base and grow its vocabulary.
Not said by peft, so refused: two methods at once, adapters of other kinds, edited tied
embeddings, a quantised or changed base (PiSSA), and with prefix or prompt a trained
module besides the head, as a pooler that BERT's task brought.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import leaves, models, tree
from tl_jax.interop import (
  configs,
  names,
  peft_checks,
  peft_config,
  peft_parts,
  peft_tables,
  tensors,
)
from tl_jax.interop.huggingface import Loaded, load, with_head
from tl_jax.interop.peft_config import Adapter
from tl_jax.interop.tokenizers import READERS, load_tokenizer, require_rows
from tl_jax.models.heads import outputs
from tl_jax.transfer.prefix import NETWORK

STEM = 'adapter_model'
# in the metadata of the safetensors file, which travels with the tensors
HASH = 'base_sha256'
PROMPT = 'embedding/prompt'
LABELLED = ('classifier', 'token', 'span')


def base_hash(params, without=(), dtype=None) -> str:
  """The sha256 of what an adapter stands on: names, shapes, dtypes and bytes of the
  held arrays, one at a time.

  params: with structured leaves, of which the bases count, or without. without: names
  of leaves that are trained.
  dtype: what they are cast to first, as for a base that a run holds in a wider type
  than its folder. Raises ValueError for a quantised base, whose plain arrays are not
  there to be hashed.
  """
  digest = hashlib.sha256()
  for name, leaf in sorted(named_leaves(params).items()):
    if name in without or name == PROMPT or isinstance(leaf, leaves.Prefix):
      continue
    leaf = base_of(name, leaf) if dtype is None else base_of(name, leaf).astype(dtype)
    digest.update(f'{name} {tuple(leaf.shape)} {np.dtype(leaf.dtype).name}\n'.encode())
    digest.update(np.ascontiguousarray(np.asarray(leaf)).reshape(-1).view(np.uint8))
  return digest.hexdigest()


def named_leaves(params) -> dict[str, Any]:
  """Every array and every structured leaf, by name."""
  found = jax.tree_util.tree_leaves_with_path(params, is_leaf=leaves.is_structured)
  return {tree.name_of(path): leaf for path, leaf in found}


def base_of(name: str, leaf):
  """The array that stood where a leaf stands. Raises ValueError where that is none that
  peft's models have.
  """
  if isinstance(leaf, (leaves.LowRank, leaves.Directed, leaves.Scaled)):
    leaf = leaf.base
  if leaves.is_structured(leaf):
    raise ValueError(
      f'{name}: a {type(leaf).__name__} is nothing that peft has; LoRA, DoRA, (IA)^3 over plain '
      'matrices, prefixes and prompts are'
    )
  return leaf


def save_adapter(
  path,
  adapted: Loaded,
  trainable,
  *,
  base: str = '',
  over: Loaded | None = None,
  stabilized: bool = False,
) -> pathlib.Path:
  """Writes what was trained as a folder that peft opens over the same base to the same
  function.

  adapted.params: the method's merged params, with structured leaves; trainable: the
  method's trainable tree, which says what plain leaves, as the head, were trained too.
  base: what peft loads the base from, a folder or a name of the hub; over: that base,
  opened, by default read where `base` is a folder, to make sure that it is the one that
  was held, as what PiSSA holds is not. stabilized: say the scales as rsLoRA does.
  Raises ValueError that names what peft cannot express, before anything is written: two
  methods at once, or a T5 prefix elsewhere than in the decoder.
  """
  path, arch = pathlib.Path(path), adapted.arch
  flat = named_leaves(adapted.params)
  kinds = {kind for leaf in flat.values() if (kind := kind_of(leaf))} | {
    'PROMPT_TUNING' for name in flat if name == PROMPT
  }
  if len(kinds) != 1:
    raise ValueError(
      f'an adapter of peft is of one method, these parameters hold {", ".join(sorted(kinds)) or "none"}'
    )
  kind = kinds.pop()
  family, where = places_of(adapted, arch)
  for name in sorted(flat.keys() - where.keys()):
    if (
      name != PROMPT
      and not isinstance(flat[name], leaves.Prefix)
      and not name.startswith(f'{NETWORK}/')
    ):
      raise ValueError(
        f'{name}: {type(flat[name]).__name__} is nothing that peft has in a {family}; '
        'LoRA, DoRA, (IA)^3, prefixes and prompts are'
      )
  own = {name for name in flat if name == PROMPT or kind_of(flat[name])}
  whole = {
    name for name in tree.flatten(trainable) if name in where and name not in own
  }
  whole |= {name for name in flat if name.startswith('head/') and arch.head in LABELLED}
  modules = {name: module_of(place) for name, place in where.items()}
  edited = {modules[name] for name in own & set(where)}
  bias, biases = 'none', set()
  if kind == 'LORA':
    bias, biases = peft_checks.trained_biases(modules, whole, edited)
  saved = {modules[name] for name in whole - biases}
  for module in sorted(saved & edited):
    raise ValueError(
      f'{module}: peft trains a module in full or edits it, here both are asked for'
    )
  said, found = peft_parts.WRITE[kind](arch, family, flat, where, stabilized)
  whole = {name for name in where if modules[name] in saved} | biases
  if kind == 'LORA':
    said['bias'] = bias
  folder = pathlib.Path(base)
  if (
    over is None
    and (folder / 'config.json').is_file()
    and not (folder / 'checkpoints').is_dir()
  ):
    over = load(folder)
  if over is not None:
    require_unchanged({name: flat[name] for name in where if name not in whole}, over)
  beside = {
    modules[name]
    for name in flat
    if name.startswith('head/') and not name.startswith('head/pooler/')
  }
  require_runnable(arch, kind, saved - beside)
  prefix = 'base_model.' if kind in peft_parts.PROMPTED else 'base_model.model.'
  plain = {name: flat[name] for name in whole}
  for name, shape, dtype, read in names.lazily(
    {name: where[name] for name in whole}, plain
  ):
    module, _, part = name.rpartition('.')
    theirs = f'{module}.base_layer.{part}' if module in edited else name
    found[prefix + theirs] = tensors.Lazy(shape, dtype, read)
  if 'head/bias' in whole and arch.head == 'masked':
    found |= {
      prefix + name: flat[source] for name, source in twins(arch, family).items()
    }
  task = (
    'SEQ_2_SEQ_LM'
    if arch.kind == 'encoder-decoder' and arch.head == 'causal'
    else peft_config.TASKS[arch.head]
  )
  said |= dict(
    peft_type=kind,
    task_type=task,
    base_model_name_or_path=str(base),
    inference_mode=True,
  )
  if kind not in peft_parts.PROMPTED:
    outermost = {
      module
      for module in saved
      if not any(module.startswith(f'{other}.') for other in saved)
    }
    said['modules_to_save'] = sorted(outermost) or None
  digest = base_hash(adapted.params, whole | (flat.keys() - where.keys()))
  tensors.save_tensors(
    path, sorted(found.items()), stem=STEM, metadata=tensors.PYTORCH | {HASH: digest}
  )
  peft_config.write(path, said)
  if adapted.labels:
    peft_config.write(
      path, configs.write_labels(adapted.labels, adapted.kind), peft_config.LABELS
    )
  return path


def kind_of(leaf) -> str:
  """peft's name of the method that a leaf belongs to; '' for what a base has too."""
  kinds = {
    leaves.LowRank: 'LORA',
    leaves.Directed: 'LORA',
    leaves.Scaled: 'IA3',
    leaves.Prefix: 'PREFIX_TUNING',
  }
  return kinds.get(type(leaf), '')


def places_of(loaded: Loaded, arch: models.Arch) -> tuple[str, dict[str, names.Place]]:
  """The family, and the place of every parameter of an architecture in a checkpoint of
  it.
  """
  family = (loaded.config or {}).get('model_type') or configs.fitting(arch)
  return family, names.places(family, arch.head, shapes_of(arch), gated=arch.gated)


@functools.lru_cache(maxsize=8)
def shapes_of(arch: models.Arch) -> dict:
  """The shape and dtype of every parameter of an architecture."""
  return jax.eval_shape(models.build(arch).init, jax.random.key(0))


def module_of(place: names.Place) -> str:
  """The module of transformers that a parameter belongs to."""
  return place.name.rpartition('.')[0]


def twins(arch: models.Arch, family: str) -> dict[str, str]:
  """What a saved masked head of theirs holds a second time: the names there, and ours."""
  output, bias = (
    names.place(family, 'masked', f'head/{leaf}') for leaf in ('kernel', 'bias')
  )
  # The head of DeBERTa multiplies by the token table itself and holds no second name of
  # it.
  inside = output.name.startswith(f'{module_of(bias)}.')
  table = {output.name: 'embedding/tokens'} if arch.tied and inside else {}
  return table | {name: 'head/bias' for name in names.NAMES[family].twin[1:]}


def require_unchanged(held: dict, over: Loaded) -> None:
  """Raises ValueError for a held leaf that is not as the base has it."""
  base = tree.flatten(over.params)
  for name, leaf in held.items():
    if not np.array_equal(
      np.asarray(base_of(name, leaf), np.float32),
      np.asarray(base.get(name), np.float32),
    ):
      raise ValueError(
        f'{name}: is held otherwise than the base has it (PiSSA, for one, changes it), so '
        'an adapter over that base would be another model'
      )


def require_runnable(arch: models.Arch, kind: str, saved) -> None:
  """Raises ValueError for what peft does not run, or runs to another function."""
  if kind not in peft_parts.PROMPTED:
    return
  what = 'prompt' if kind == 'PROMPT_TUNING' else 'prefix'
  if arch.head == 'masked':
    raise ValueError(f'head: peft runs no {what} under a masked head')
  for module in sorted(saved):
    raise ValueError(
      f'{module}: peft saves no module beside a {what} but the head; '
      "train it with head=r'head/(kernel|bias)'"
    )


def load_adapter(path, base, *, dtype=None) -> Loaded:
  """The model of an adapter's folder over its base: structured leaves in place, for
  `model.apply` and to be fused.

  base: a `Loaded` or the path of a folder. dtype: of what the adapter brings; None
  keeps it. A head that the base does not have comes from the adapter, with its labels.
  Raises ValueError that names the file and the key or tensor: an adapter for another
  base (by the hash that we write; peft writes none), of another rank than it says, with
  targets that hit nothing, with a head of other labels.
  """
  path = pathlib.Path(path)
  adapter = peft_config.read_adapter(path)
  base = base if isinstance(base, Loaded) else load(base)
  file = tensors.open_tensors(path, stem=STEM)
  found = readers(file, dtype)
  try:
    arch = arch_of(
      adapter, base, {strip(name): file.shape(name) for name in file.names}
    )
    family, _ = places_of(base, arch)
    base, arch = peft_tables.settle(adapter, base, arch, family, found)
    family, where = places_of(base, arch)
    peft_config.require_targets(adapter, {module_of(place) for place in where.values()})
    params, full = whole_leaves(base, arch, where, found)
    for name, source in twins(arch, family).items() if arch.head == 'masked' else ():
      if name in found and not np.array_equal(found.pop(name)(), params[source]):
        raise ValueError(
          f'tensor {name!r}: the head has an output of its own, in this base it is {source}'
        )
    require_base(file.metadata.get(HASH), tree.unflatten(params), full)
    new = peft_parts.READ[adapter.kind](adapter, arch, params, where, found)
    output = (
      names.place(family, arch.head, 'head/kernel').name if arch.head != 'none' else ''
    )
    peft_checks.require_complete(
      adapter, where, new, full, output.removesuffix('.weight')
    )
    for name in found:
      raise ValueError(
        f'tensor {name!r} has no place in this {family}; nearest: '
        f'{tree.nearest(name, [place.name for place in where.values()])}'
      )
  except ValueError as error:
    raise (
      error if str(error).startswith(str(path)) else ValueError(f'{path}: {error}')
    ) from error
  labels, kind = configs.read_labels(peft_config.read_labels(path), arch)
  if not labels and arch == base.arch:
    labels, kind = base.labels, base.kind
  return base._replace(
    model=models.build(arch),
    params=tree.unflatten(params | new),
    arch=arch,
    tokenizer=tokenizer_of(path, base, arch.vocabulary),
    labels=labels,
    kind=kind,
  )


def readers(file, dtype) -> dict[str, Callable[[], np.ndarray]]:
  """What reads each tensor of an adapter's file, by the name that the base gives it.

  peft names the bias of an edited module after its base layer. The bias of a module
  that it saves whole it may save twice more under the names of its wrapper: as it
  was before training, and as a copy.
  """
  found = {}
  for name in file.names:
    plain = strip(name)
    if '.original_module.' in plain:
      continue
    plain = plain.replace('.base_layer.', '.').replace('.modules_to_save.', '.')
    found.setdefault(plain, functools.partial(read_finite, file, name, dtype))
  return found


def read_finite(file, name: str, dtype) -> np.ndarray:
  """A tensor in the type that is asked for, or in its own. ValueError for a NaN."""
  array = np.asarray(file.read(name))
  tensors.require_finite(name, array)
  return array if dtype is None else array.astype(dtype)


def tokenizer_of(folder: pathlib.Path, base: Loaded, rows: int):
  """The tokenizer that came with an adapter, as one with new tokens does, or the
  base's.

  Raises ValueError for one with ids beyond the token table of so many rows.
  """
  if not any((folder / name).is_file() for name in READERS):
    return base.tokenizer
  tokenizer = load_tokenizer(folder)
  try:
    require_rows(tokenizer, rows)
  except ValueError as error:
    raise ValueError(f'{folder}: {error}') from error
  return tokenizer


def require_base(said: str | None, params, full) -> None:
  """Raises ValueError where the hash is not that of this base, as it is or in the
  float32 that it was trained in.
  """
  if (
    said is not None
    and said != base_hash(params, full)
    and said != base_hash(params, full, jnp.float32)
  ):
    raise ValueError(
      f'{STEM}.safetensors: made for another base: its {HASH} {said[:16]} is not that of this one'
    )


def strip(name: str) -> str:
  """The name of a tensor as the base has it."""
  for prefix in ('base_model.model.', 'base_model.'):
    if name.startswith(prefix):
      return name[len(prefix) :]
  return name


def arch_of(adapter: Adapter, base: Loaded, shapes: dict) -> models.Arch:
  """The architecture under the adapter's head, with the labels of its tensors."""
  head = adapter.head or base.arch.head
  arch = base.arch if head == base.arch.head else with_head(base, head)
  if head == 'none' and 'pooler' not in base.params:
    arch = dataclasses.replace(arch, pooler='')
  if head not in LABELLED:
    return arch
  _, where = places_of(base, arch)
  name = where['head/kernel'].name
  if name not in shapes:
    return arch
  labels = shapes[name][0]
  if head == base.arch.head and labels != outputs(arch):
    raise ValueError(
      f'tensor {name!r} is a head of {labels} labels, the base has one of {outputs(arch)}'
    )
  return arch if head == 'span' else dataclasses.replace(arch, labels=labels)


def whole_leaves(
  base: Loaded, arch: models.Arch, where: dict, found: dict
) -> tuple[dict[str, Any], set[str]]:
  """The plain parameters by name, from the adapter where it has them whole, and the
  names of those; `found` loses them.

  Raises ValueError for a parameter that neither has, and for another shape.
  """
  family, own = places_of(base, base.arch)
  prefixes = {'', names.NAMES[family].base, *names.NAMES[family].bases.values()}
  tail = lambda name: min((name.removeprefix(prefix) for prefix in prefixes), key=len)
  held = {
    name: leaf
    for name, leaf in tree.flatten(base.params).items()
    if name in where and tail(own[name].name) == tail(where[name].name)
  }
  shapes = tree.flatten(shapes_of(arch))
  params, full = {}, {name for name, place in where.items() if place.name in found}
  for name, place in where.items():
    if name not in full and name not in held:
      raise ValueError(
        f'tensor {place.name!r} is missing: {name} is neither in the base nor in the adapter'
      )
    params[name] = (
      jnp.array(names.from_theirs(place, found[place.name]()))
      if name in full
      else held[name]
    )
    if params[name].shape != shapes[name].shape:
      raise ValueError(
        f'tensor {place.name!r} makes {name} of shape {params[name].shape}, the base has '
        f'{shapes[name].shape}'
      )
  for name in {where[name].name for name in full}:
    found.pop(name)
  return params, full
