"""Hugging Face folders in and out: the model, its parameters, its tokenizer.

>>> load('/no/such/folder')
Traceback (most recent call last):
ValueError: /no/such/folder: not a folder
"""

import dataclasses
import json
import logging
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import models, parallel, tree
from tl_jax.checkpoint import files
from tl_jax.interop import configs, names, spellings, tensors

CONFIG_BYTES = 10_000_000
_LOG = logging.getLogger(__name__)
GENERATION = 'generation_config.json'


class Loaded(NamedTuple):
  """A model with its parameters (a nested dict of arrays), tokenizer or None, and what
  else the folder said.

  config, generation: the `config.json` and `generation_config.json` of a Hugging Face
  folder; unused: its tensors that this model has no use for. step: the committed step
  of the workdir that it is from.
  labels: the names of the labels in the order of the outputs, () where nothing says
  them; kind: of the task, 'single_label', 'multi_label' or 'regression', '' where
  nothing says it.
  """

  model: models.Model
  params: Any
  tokenizer: Any
  arch: models.Arch
  config: dict | None = None
  generation: dict | None = None
  unused: tuple[str, ...] = ()
  step: int | None = None
  labels: tuple[str, ...] = ()
  kind: str = ''


class Source(NamedTuple):
  """Where a model comes from, whatever the format: its config.json, tensors by name,
  tokenizer, generation config.
  """

  path: pathlib.Path
  config: dict
  folder: tensors.Tensors
  tokenizer: Any
  generation: dict | None = None


def load(
  path,
  *,
  head: str | None = None,
  dtype=None,
  mesh=None,
  sharding: str = 'fsdp',
  compute: models.Compute | None = None,
) -> Loaded:
  """The model of a Hugging Face folder (config.json and safetensors) or of a GGUF file.

  head: another head than the folder's, as 'none' for the body alone; a head that the
  folder does not hold is an error. A body alone whose config.json names the head that
  it once had, as those for sentences do, opens as the body. A folder whose config.json
  names no class, or that of the body over the tensors of a head, opens under the head
  that has a place for most of its tensors, and a warning says which that is.
  dtype: of the parameters; None keeps theirs. mesh: where they go, one tensor at a
  time, by the rules `sharding`. Raises ValueError that names the file, key or tensor.
  """
  source = _open(pathlib.Path(files.require_local(path, 'model')))
  config, family = source.config, configs.family_of(source.config)
  try:
    if head is None and not configs.names_head(config):
      fit = _guess(config, source.folder, family)
      if fit.arch.head != 'none':
        _LOG.warning(
          '%s: config.json names no head; its tensors are taken for those of the head %r; '
          'head (--head) opens another',
          path,
          fit.arch.head,
        )
    else:
      fit = _fit(config, source.folder, family, head)
      if head is None and fit.arch.head != configs.head_of(config)[0]:
        _LOG.warning(
          '%s: config.json names the head %r, of which there is no tensor; the body opens alone',
          path,
          configs.head_of(config)[0],
        )
    arch, folder, where = fit.arch, fit.folder, fit.where
    if source.tokenizer is not None:
      from tl_jax.interop import tokenizers

      tokenizers.require_rows(source.tokenizer, arch.vocabulary)
    model = models.build(arch, compute)
    placed = None
    if mesh is not None:
      abstract = jax.eval_shape(model.init, jax.random.key(0))
      placed = tree.flatten(parallel.shardings(mesh, model.axes, abstract, sharding))
    params = {
      name: _read(folder, spot, dtype, placed and placed[name])
      for name, spot in where.items()
    }
  except ValueError as error:
    raise (
      error if str(error).startswith(str(path)) else ValueError(f'{path}: {error}')
    ) from error
  labels, kind = configs.read_labels(fit.config, arch)
  return Loaded(
    model,
    tree.unflatten(params),
    source.tokenizer,
    arch,
    fit.config,
    source.generation,
    fit.unused,
    labels=labels,
    kind=kind,
  )


class Fit(NamedTuple):
  """A folder seen as a model: where each parameter lies, and which tensors are left.

  config: what `config.json` says, with the class of a head that it does not name. bare:
  have the names of the body no prefix?
  """

  arch: models.Arch
  config: dict
  folder: tensors.Tensors
  where: dict[str, names.Place]
  unused: tuple[str, ...]
  bare: bool


def _fit(config: dict, folder: tensors.Tensors, family: str, head: str | None) -> Fit:
  """The folder as a model with its own head, or with another. ValueError where it is
  none.
  """
  if head is not None and not configs.is_known(config):
    config = configs.naming(config, head)
  arch = configs.read(config, head)
  folder, bare = spellings.settle(folder, family, arch.head, arch.tied)
  if head is None and bare and not _holds_head(folder, family, arch.head):
    arch = configs.read(config, 'none')
  arch = _settle(arch, family, folder, bare)
  abstract = jax.eval_shape(models.build(arch).init, jax.random.key(0))
  where = names.places(family, arch.head, abstract, gated=arch.gated, bare=bare)
  twin = _twin(family, arch)
  if twin and twin[1] in folder.names:
    where['head/bias'] = where['head/bias']._replace(name=twin[1])
  wanted = {
    name: shape for name, shape, _, _ in names.lazily(where, tree.flatten(abstract))
  }
  folder = spellings.with_zeros(folder, family, wanted)
  sines = _sines(family, arch, bare)
  _require_sines(folder, sines)
  unused = _check(wanted, folder, family, arch.kind, own_head=head is None, known=sines)
  return Fit(arch, config, folder, where, unused, bare)


def _guess(config: dict, folder: tensors.Tensors, family: str) -> Fit:
  """The folder with the head that leaves the fewest tensors without a place.

  Of several that leave as many, the body alone, unless the names are those of a body
  below a head: a decoder's that uses the token table again has no tensor of its own.
  """
  if config.get('architectures'):
    fit = _fit(config, folder, family, None)
    if not fit.unused:
      return fit
  found, errors = [], {}
  for head in configs.heads_of(config):
    try:
      fit = _fit(configs.naming(config, head), folder, family, None)
    except ValueError as error:
      errors[head] = error
      continue
    if fit.arch.head == head:
      found.append(fit)
  if not found:
    raise errors['none']
  return min(
    found, key=lambda fit: (len(fit.unused), fit.arch.head == 'none' and not fit.bare)
  )


def _open(path: pathlib.Path) -> Source:
  if path.suffix.lower() == '.gguf':
    from tl_jax.interop import gguf

    return Source(path, *gguf.open_gguf(path))
  if not path.is_dir():
    raise ValueError(f'{path}: not a folder')
  from tl_jax.interop import tokenizers

  config, file = read_config(path), path / GENERATION
  try:
    configs.family_of(config)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return Source(
    path,
    config,
    tensors.open_tensors(path),
    tokenizers.load_tokenizer(path),
    read_json(file) if file.is_file() else None,
  )


def save(
  path,
  loaded: Loaded,
  *,
  format: str = 'hf',
  family: str | None = None,
  shard_bytes: int = 5_000_000_000,
) -> pathlib.Path:
  """Writes a folder that `transformers` opens to the same numbers: config.json,
  safetensors, the tokenizer's files.

  format: 'hf'; what 'peft' needs besides, the error says.
  family: the `model_type` to write; by default that of the folder it came from, or the
  first that can say it all. Raises ValueError that names what the family cannot
  express, before anything is written.
  """
  _require_format(format)
  path, arch = pathlib.Path(path), loaded.arch
  family = family or (loaded.config or {}).get('model_type') or configs.fitting(arch)
  said = loaded.config if (loaded.config or {}).get('model_type') == family else None
  config = configs.write(arch, family, said, loaded.labels, loaded.kind)
  held = tree.flatten(loaded.params)
  abstract = tree.flatten(jax.eval_shape(loaded.model.init, jax.random.key(0)))
  for name in sorted(set(held) ^ set(abstract)):
    raise ValueError(
      f'{name}: {"no such parameter in" if name in held else "missing for"} this architecture; '
      f'nearest: {tree.nearest(name, (set(held) | set(abstract)) - {name})}'
    )
  bare = not config['architectures'][0].endswith('EncoderModel') and arch.head == 'none'
  where = names.places(family, arch.head, abstract, gated=arch.gated, bare=bare)
  config['dtype'] = _dtype_name(held)
  found = {
    name: tensors.Lazy(shape, dtype, read)
    for name, shape, dtype, read in names.lazily(where, held)
  }
  if twin := _twin(family, arch):
    found[twin[1]] = found[twin[0]]
  found |= {
    name: table.astype(config['dtype'])
    for name, table in _sines(family, arch, bare).items()
  }
  os.makedirs(path, exist_ok=True)
  tensors.save_tensors(path, sorted(found.items()), shard_bytes=shard_bytes)
  if loaded.tokenizer is not None:
    from tl_jax.interop import tokenizers

    tokenizers.save_tokenizer(path, loaded.tokenizer)
  for name, content in ((GENERATION, loaded.generation), ('config.json', config)):
    if content is not None:
      text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + '\n'
      files.write_atomically(path / name, text.encode())
  return path


def _require_format(format: str) -> None:
  """Raises ValueError for what is no folder of a whole model."""
  if format == 'peft':
    raise ValueError(
      "format='peft': an adapter holds what was trained over a base, which a loaded model does not "
      'say; give it to tl_jax.interop.save_adapter(path, adapted, trainable, base=...), or run '
      '`tl-jax export WORKDIR TARGET --format=peft`'
    )
  if format != 'hf':
    raise ValueError(
      f'format: {format!r} is nothing that can be written; nearest: '
      f'{tree.nearest(str(format), ("hf", "peft"))}'
    )


def with_head(loaded: Loaded, head: str) -> models.Arch:
  """The architecture of a loaded body under another head, with the pooler and bias that
  its family gives that head.

  A pooler that the body keeps stays in it. The head for pairs of texts stays beside the
  masked head alone. An encoder-decoder that its family classifies by a second reading
  of the text is read by its encoder alone.
  """
  own = loaded.arch
  arch = own if loaded.config is None else configs.read(loaded.config, head)
  if arch.kind == 'encoder-decoder' and head == 'classifier':
    arch = dataclasses.replace(arch, pool='mean', pooler='')
  return dataclasses.replace(
    arch,
    head=head,
    tied=own.tied,
    pooler_place=own.pooler_place,
    pair_head=own.pair_head and head == 'masked',
  )


def read_config(path: pathlib.Path) -> dict:
  """The `config.json` of a folder. Raises ValueError that names the file."""
  if not (path / 'config.json').is_file():
    raise ValueError(f'{path}: no config.json, so not a Hugging Face folder')
  return read_json(path / 'config.json')


def read_json(file: pathlib.Path) -> dict:
  """A JSON object of bounded size, after a byte-order mark or not. Raises ValueError
  that names the file.
  """
  if file.stat().st_size > CONFIG_BYTES:
    raise ValueError(f'{file}: larger than {CONFIG_BYTES} bytes')
  try:
    found = json.loads(file.read_text(encoding='utf-8-sig'))
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{file}: not JSON: {error}') from error
  if not isinstance(found, dict):
    raise ValueError(f'{file}: not a JSON object')
  return found


def _settle(
  arch: models.Arch, family: str, folder: tensors.Tensors, bare: bool
) -> models.Arch:
  """What only the tensors tell: has the output a table of its own, is there a head for
  pairs, and is there a pooler.
  """

  def stored(name):
    return names.place(family, arch.head, name, bare=bare).name

  def holds(module):
    leaves = (f'{module}/kernel', f'{module}/bias')
    return all(stored(leaf) in folder.names for leaf in leaves)

  if arch.head in ('masked', 'causal'):
    own, table = stored('head/kernel'), stored('embedding/tokens')
    same = own not in folder.names or (
      table in folder.names and _equal(folder.read(own), folder.read(table))
    )
    arch = dataclasses.replace(arch, tied=same and (arch.tied or own in folder.names))
  else:
    arch = dataclasses.replace(arch, tied=True)
  if arch.head == 'masked' and family in configs.PAIRED:
    # ALBERT's has an output for each label of the config; of two texts there are two.
    whole = (2, arch.width)
    pair_head = holds('head/pair') and folder.shape(stored('head/pair/kernel')) == whole
    arch = dataclasses.replace(arch, pair_head=pair_head)
  if arch.keeps_pooler and arch.head != 'classifier' and not holds('pooler'):
    if arch.pooler_place == 'body':
      arch = dataclasses.replace(arch, pooler_place='new')
    else:
      arch = dataclasses.replace(arch, pooler='')
  return arch


def _holds_head(folder: tensors.Tensors, family: str, head: str) -> bool:
  """Is there a tensor of this head? A causal one may need none but the token table."""
  modules = [
    theirs.partition('|')[0]
    for theirs in names.NAMES[family].heads.get(head, {}).values()
  ]
  begin = tuple(f'{module}.' for module in modules)
  return head == 'causal' or any(
    name in modules or name.startswith(begin) for name in folder.names
  )


def _twin(family: str, arch: models.Arch) -> tuple[str, ...]:
  """The two names of the bias of a masked head that has its own table, where the family
  stores it twice.
  """
  return names.NAMES[family].twin if arch.head == 'masked' and not arch.tied else ()


def _sines(family: str, arch: models.Arch, bare: bool) -> dict[str, np.ndarray]:
  """The tables of sinusoidal positions that a folder of the family holds, by name."""
  spec = names.NAMES[family]
  table = models.sinusoids(arch.max_positions, arch.width) if spec.sines else None
  return {('' if bare else spec.base) + name: table for name in spec.sines}


def _require_sines(folder: tensors.Tensors, sines: dict[str, np.ndarray]) -> None:
  """Raises ValueError where a folder holds another table of positions than what is
  computed.
  """
  for name in sines.keys() & set(folder.names):
    table = folder.read(name).astype(np.float32)
    if table.shape != sines[name].shape or not np.allclose(
      table, sines[name], atol=5e-3
    ):
      raise ValueError(
        f'tensor {name!r} is no table of sinusoidal positions {sines[name].shape}, which are computed'
      )


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
  return (
    first.shape == second.shape
    and first.dtype == second.dtype
    and first.tobytes() == second.tobytes()
  )


def _check(
  wanted: dict,
  folder: tensors.Tensors,
  family: str,
  kind: str,
  *,
  own_head: bool,
  known=(),
) -> tuple[str, ...]:
  """The tensors that are not needed, nor `known` besides.

  Raises ValueError for a missing or surplus tensor and for a wrong shape.
  """
  for name, shape in wanted.items():
    if name not in folder.names:
      raise ValueError(
        f'tensor {name!r} is missing; nearest: {tree.nearest(name, folder.names)}'
      )
    if folder.shape(name) != shape:
      raise ValueError(
        f'tensor {name!r} has shape {folder.shape(name)}, config.json says {shape}'
      )
  surplus = sorted(set(folder.names) - {*wanted, *known})
  for name in surplus if own_head else ():
    if not names.is_spare(family, name, kind):
      raise ValueError(
        f'tensor {name[:200]!r} has no place in this {family}; nearest: {tree.nearest(name, wanted)}'
      )
  return tuple(surplus)


def _read(folder: tensors.Tensors, where: names.Place, dtype, sharding):
  """One parameter: a view of the file until it is put where it belongs.

  Raises ValueError for a number that is none. A mesh looks at what it holds here.
  """
  whole = folder.read(where.name)
  view = names.from_theirs(where, whole)
  target = view.dtype if dtype is None else jnp.dtype(dtype)
  if sharding is None:
    if where.part == 0:
      tensors.require_finite(where.name, whole)
    return jnp.array(view, target)

  def piece(index):
    part = np.ascontiguousarray(view[index])
    tensors.require_finite(where.name, part)
    return part.astype(target, copy=False)

  return jax.make_array_from_callback(view.shape, sharding, piece)


def _dtype_name(held: dict) -> str:
  kinds = {str(leaf.dtype) for leaf in held.values()}
  return kinds.pop() if len(kinds) == 1 else 'float32'
