"""Adapters of peft in and out, without torch.

An adapter is what was trained of a model, with its head. A hash ties it to its base.

>>> load_adapter('/no/such/folder', None)
Traceback (most recent call last):
ValueError: /no/such/folder: no adapter_config.json, so not the folder of an adapter

Both ways, heads included, logits equal to 1e-4 (measured: 3e-5) with peft 0.21 and
transformers 5:

  family  LoRA rsLoRA DoRA (IA)^3  prefix                        prompt
  BERT    yes                      yes, (4), (5)                 yes, (4)
  GPT-2   yes, (1)                 yes, (5)                      yes, (2)
  Llama   yes                      yes, (5)                      yes, (2)
  T5      yes                      decoder's own attention, (3)  yes, before the encoder

(1) GPT-2 holds query, key and value as one matrix. Ours are written as blocks of the
summed rank, theirs are read as three leaves.
(2) Under a prompt, peft's classifiers of decoders read the last column of a row, even
where it is padding. Ours read the last token.
(3) Li and Liang give a prefix to all three attentions. In a decoder with an even number
n of layers, peft gives layers i and i + n / 2 one prefix. Where d_kv * heads is not
d_model, peft finds no sizes by itself, so our files tell them.
(4) peft runs neither under a masked head.
(5) Beside a head of labels, peft 0.21 finds no way into the models of transformers
5.24, which call the argument `cache` that peft knows as `past_key_values`. With an
older transformers it runs the same folder.

Biases that were trained beside LoRA go out as bias='lora_only' or 'all'. A token table
or an output layer that an adapter brings may untie a tied base and grow its vocabulary.

These are refused, because a folder of peft cannot say them: two methods at once,
adapters of other kinds, edited tied embeddings, a quantised base, and one that the
method changed (PiSSA). Beside a prefix or a prompt, so is a trained module other than
the head, such as a pooler that BERT's task brought.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from tl_jax import leaves, models, tree
from tl_jax.interop import (
  classifiers,
  configs,
  names,
  peft_checks,
  peft_config,
  peft_parts,
  peft_tables,
  tensors,
)
from tl_jax.interop.huggingface import Loaded, load, with_head
from tl_jax.interop.peft_base import (
  HASH,
  PROMPT,
  STEM,
  base_hash,
  base_of,
  module_of,
  named_leaves,
  places_of,
  repeated_names,
  require_base,
  shapes_of,
)
from tl_jax.interop.peft_config import Adapter
from tl_jax.interop.peft_trained import LABELLED, Trained, method_of, trained_of
from tl_jax.interop.tokenizers import READERS, load_tokenizer, require_rows
from tl_jax.models.heads import outputs
from tl_jax.transfer.prefix import NETWORK


def save_adapter(
  path,
  adapted: Loaded,
  trainable,
  *,
  base: str = '',
  over: Loaded | None = None,
  stabilized: bool = False,
) -> pathlib.Path:
  """Writes what was trained as a folder that peft opens over the same base.

  There it makes the same function.

  adapted: a model whose params are the method's merged ones, with structured leaves.
  trainable: the method's trainable tree, which says what plain leaves, such as the
  head, were trained too. base: what peft loads the base from, a folder or a name of the
  hub. over: that base, opened, to make sure that it is the one that was held; what
  PiSSA holds, for one, is not. By default it is read where `base` is a folder.
  stabilized: write the scales as rsLoRA does.

  Returns the folder. Raises ValueError that names what peft cannot express, before
  anything is written: two methods at once, or a T5 prefix elsewhere than in the
  decoder.
  """
  path = pathlib.Path(path)
  arch = adapted.arch

  # What was trained, and whether peft has words for it.
  flat = named_leaves(adapted.params)
  kind = method_of(flat)
  # peft makes the whole model, and with it the head, as transformers has them.
  classifiers.require_class(arch, adapted.config)
  family, where = places_of(adapted, arch)
  require_expressible(flat, where, family)
  trained = trained_of(kind, arch, flat, trainable, where)
  declared, found = peft_parts.WRITE[kind](arch, family, flat, where, stabilized)
  if over is None:
    over = open_base(base)
  if over is not None:
    held = {name: flat[name] for name in where if name not in trained.whole}
    require_unchanged(held, over)
  require_runnable(arch, kind, flat, trained)

  found |= plain_tensors(arch, family, kind, flat, where, trained)
  declared |= described(arch, kind, base, trained)
  put_in = flat.keys() - where.keys()
  digest = base_hash(adapted.params, trained.whole | put_in)

  # On the disk, the config comes after the tensors: a folder without it is no adapter.
  metadata = tensors.PYTORCH | {HASH: digest}
  tensors.save_tensors(path, sorted(found.items()), stem=STEM, metadata=metadata)
  peft_config.write(path, declared)
  if adapted.labels:
    labels = configs.write_labels(adapted.labels, adapted.kind)
    peft_config.write(path, labels, peft_config.LABELS)
  return path


def require_expressible(flat: dict, where: dict, family: str) -> None:
  """Raises ValueError for a leaf that has no place in a checkpoint and none in peft."""
  for name in sorted(flat.keys() - where.keys()):
    if name == PROMPT or isinstance(flat[name], leaves.Prefix):
      continue
    # The network that made a prefix in training is dropped: its output is a leaf too.
    if name.startswith(f'{NETWORK}/'):
      continue
    raise ValueError(
      f'{name}: {type(flat[name]).__name__} is nothing that peft has in a {family}; '
      'LoRA, DoRA, (IA)^3, prefixes and prompts are'
    )


def open_base(base: str) -> Loaded | None:
  """The model of a folder; None for a name of the hub, and for a run's own workdir."""
  folder = pathlib.Path(base)
  # A workdir holds a config.json as well, which is not that of a model.
  if not (folder / 'config.json').is_file() or (folder / 'checkpoints').is_dir():
    return None
  return load(folder)


def require_unchanged(held: dict, over: Loaded) -> None:
  """Raises ValueError for a held leaf that is not as the base has it."""
  base = tree.flatten(over.params)
  for name, leaf in held.items():
    # A run may hold in float32 what the folder has in bfloat16.
    ours = np.asarray(base_of(name, leaf), np.float32)
    theirs = np.asarray(base.get(name), np.float32)
    if not np.array_equal(ours, theirs):
      raise ValueError(
        f'{name}: is held otherwise than the base has it (PiSSA, for one, changes it), '
        'so an adapter over that base would be another model'
      )


def require_runnable(
  arch: models.Arch, kind: str, flat: dict, trained: Trained
) -> None:
  """Raises ValueError for what peft does not run, or runs to another function."""
  if kind not in peft_parts.PROMPTED:
    return
  what = 'prompt' if kind == 'PROMPT_TUNING' else 'prefix'
  if arch.head == 'masked':
    raise ValueError(f'head: peft runs no {what} under a masked head')
  heads = set()
  for name in flat:
    if name.startswith('head/') and not name.startswith('head/pooler/'):
      heads.add(trained.modules[name])
  for module in sorted(trained.saved - heads):
    raise ValueError(
      f'{module}: peft saves no module beside a {what} but the head; '
      "train it with head=r'head/(kernel|bias)'"
    )


def plain_tensors(
  arch: models.Arch, family: str, kind: str, flat: dict, where: dict, trained: Trained
) -> dict[str, Any]:
  """The tensors of the parameters that an adapter holds whole, by peft's names."""
  # An edited model lies inside two wrappers of peft, one with a prompt inside one.
  prefix = 'base_model.' if kind in peft_parts.PROMPTED else 'base_model.model.'
  places = {name: where[name] for name in trained.whole}
  plain = {name: flat[name] for name in trained.whole}
  found = {}
  for name, shape, dtype, read in names.lazily(places, plain):
    module, _, part = name.rpartition('.')
    # Of an edited module, peft keeps the plain one inside, as its base layer.
    theirs = f'{module}.base_layer.{part}' if module in trained.edited else name
    found[prefix + theirs] = tensors.Lazy(shape, dtype, read)
  if 'head/bias' in trained.whole and arch.head == 'masked':
    for name, source in repeated_names(arch, family).items():
      found[prefix + name] = flat[source]
  return found


def described(arch: models.Arch, kind: str, base: str, trained: Trained) -> dict:
  """The keys of an adapter's config that are not of one method alone."""
  task = peft_config.TASKS[arch.head]
  if arch.kind == 'encoder-decoder' and arch.head == 'causal':
    task = 'SEQ_2_SEQ_LM'
  declared = dict(
    peft_type=kind,
    task_type=task,
    base_model_name_or_path=str(base),
    inference_mode=True,
  )
  if kind == 'LORA':
    declared['bias'] = trained.bias
  if kind not in peft_parts.PROMPTED:
    # A module is saved with all its parts, so that none of these is named again.
    whole = tuple(f'{module}.' for module in trained.saved)
    outermost = [module for module in trained.saved if not module.startswith(whole)]
    declared['modules_to_save'] = sorted(outermost) or None
  return declared


def load_adapter(path, base, *, dtype=None) -> Loaded:
  """The model of an adapter's folder over its base.

  Its structured leaves are in place, for `model.apply` and to be fused.

  base: a `Loaded`, or the path of a folder. dtype: of what the adapter brings; None
  keeps it. A head that the base does not have comes from the adapter, with its labels.

  Raises ValueError that names the file and the key or tensor: for an adapter of another
  base (by the hash that we write; peft writes none), of another rank than its config
  says, with targets that hit nothing, or with a head of other labels.
  """
  path = pathlib.Path(path)
  adapter = peft_config.read_adapter(path)
  base = base if isinstance(base, Loaded) else load(base)
  file = tensors.open_tensors(path, stem=STEM)
  found = readers(file, dtype)
  try:
    # The head first, because its labels and tables decide on the shapes of the rest.
    shapes = {strip(name): file.shape(name) for name in file.names}
    arch = arch_of(adapter, base, shapes)
    family, _ = places_of(base, arch)
    base, arch = peft_tables.settle(adapter, base, arch, family, found)
    params = adapted_params(adapter, base, arch, found, file.metadata.get(HASH))
  except ValueError as error:
    # Errors of reading a file name it already.
    if str(error).startswith(str(path)):
      raise
    raise ValueError(f'{path}: {error}') from error
  labels, kind = configs.read_labels(peft_config.read_labels(path), arch)
  # Under another head, the names of the base's labels are those of other outputs.
  if not labels and arch == base.arch:
    labels, kind = base.labels, base.kind
  tokenizer = tokenizer_of(path, base, arch.vocabulary)
  return base._replace(
    model=models.build(arch),
    params=tree.unflatten(params),
    arch=arch,
    tokenizer=tokenizer,
    labels=labels,
    kind=kind,
  )


def adapted_params(
  adapter: Adapter, base: Loaded, arch: models.Arch, found: dict, declared: str | None
) -> dict[str, Any]:
  """The parameters of a base under an adapter, by name.

  found: a function that reads each tensor of the adapter, by the name that the base
  gives it; it is emptied. declared: the hash of the base in the adapter's file, or
  None.
  Raises ValueError for an adapter that does not fit, and for a tensor of no use.
  """
  family, where = places_of(base, arch)
  modules = {module_of(place) for place in where.values()}
  peft_config.require_targets(adapter, modules)
  # The plain tensors come first, because the structured leaves are made over them.
  params, full = whole_leaves(base, arch, where, found)
  if arch.head == 'masked':
    drop_repeated(repeated_names(arch, family), params, found)
  require_base(declared, tree.unflatten(params), full)
  new = peft_parts.READ[adapter.kind](adapter, arch, params, where, found)
  output = ''
  if arch.head != 'none':
    output = module_of(names.place(family, arch.head, 'head/kernel'))
  peft_checks.require_complete(adapter, where, new, full, output)
  # Each step took out what it used.
  for name in found:
    known = [place.name for place in where.values()]
    near = tree.nearest(name, known)
    raise ValueError(f'tensor {name!r} has no place in this {family}; nearest: {near}')
  return params | new


def drop_repeated(second: dict[str, str], params: dict, found: dict) -> None:
  """Takes the second names of tensors out of `found`. ValueError where they differ.

  second: as `repeated_names` makes it.
  """
  for name, source in second.items():
    if name not in found:
      continue
    read = found.pop(name)
    if not np.array_equal(read(), params[source]):
      raise ValueError(
        f'tensor {name!r}: the head has an output of its own, in this base it is '
        f'{source}'
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
    # The module as it was before training, which the base has.
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
  """The tokenizer of an adapter's folder, or the base's where there is none.

  peft saves one beside an adapter that adds tokens. rows: of the token table. Raises
  ValueError for a tokenizer with ids beyond the table.
  """
  if not any((folder / name).is_file() for name in READERS):
    return base.tokenizer
  tokenizer = load_tokenizer(folder)
  try:
    require_rows(tokenizer, rows)
  except ValueError as error:
    raise ValueError(f'{folder}: {error}') from error
  return tokenizer


def strip(name: str) -> str:
  """The name of a tensor as the base has it."""
  # The longer prefix is tried first, because it begins with the shorter.
  for prefix in ('base_model.model.', 'base_model.'):
    if name.startswith(prefix):
      return name.removeprefix(prefix)
  return name


def arch_of(adapter: Adapter, base: Loaded, shapes: dict) -> models.Arch:
  """The architecture of a base under the adapter's head.

  shapes: of the adapter's tensors, by the names that the base gives them. They say how
  many labels a head has. Raises ValueError where the base has a head of other labels.
  """
  head = adapter.head or base.arch.head
  if head == base.arch.head:
    arch = base.arch
  else:
    arch = with_head(base, head)
  # Without a head a pooler is a part of the model only where the base has one.
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
      f'tensor {name!r} is a head of {labels} labels, the base has one of '
      f'{outputs(arch)}'
    )
  # A span head always has two outputs, start and end, and no labels.
  if head == 'span':
    return arch
  return dataclasses.replace(arch, labels=labels)


def whole_leaves(
  base: Loaded, arch: models.Arch, where: dict, found: dict
) -> tuple[dict[str, Any], set[str]]:
  """(the plain parameters by name, the names of those that the adapter brings whole).

  `found` loses the tensors of these. Raises ValueError for a parameter that neither the
  base nor the adapter has, and for another shape than the architecture asks for.
  """
  held = held_leaves(base, where)
  shapes = tree.flatten(shapes_of(arch))
  full = set()
  for name, place in where.items():
    if place.name in found:
      full.add(name)
  params = {}
  for name, place in where.items():
    if name in full:
      read = found[place.name]
      params[name] = jnp.array(names.from_theirs(place, read()))
    elif name in held:
      params[name] = held[name]
    else:
      raise ValueError(
        f'tensor {place.name!r} is missing: {name} is neither in the base nor in the '
        'adapter'
      )
    if params[name].shape != shapes[name].shape:
      raise ValueError(
        f'tensor {place.name!r} makes {name} of shape {params[name].shape}, the base '
        f'has {shapes[name].shape}'
      )
  # Only now: several parameters may be parts of one tensor.
  for tensor in {where[name].name for name in full}:
    found.pop(tensor)
  return params, full


def held_leaves(base: Loaded, where: dict[str, names.Place]) -> dict[str, Any]:
  """The parameters of a base that stand at the same place under an adapter's head.

  A parameter of the same name elsewhere is another one: a base with a language
  modelling head has no use for the `head/kernel` of a classifier.
  """
  family, own = places_of(base, base.arch)
  spelled = names.NAMES[family]
  prefixes = {spelled.base, *spelled.bases.values()}
  held = {}
  for name, leaf in tree.flatten(base.params).items():
    if name not in where:
      continue
    before = without_prefix(own[name].name, prefixes)
    if before == without_prefix(where[name].name, prefixes):
      held[name] = leaf
  return held


def without_prefix(name: str, prefixes: set[str]) -> str:
  """A tensor's name below the longest of these prefixes that it has."""
  tails = [name, *(name.removeprefix(prefix) for prefix in prefixes)]
  return min(tails, key=len)
