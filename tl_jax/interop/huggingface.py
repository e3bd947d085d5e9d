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

from tl_jax import files, models, parallel, tree
from tl_jax.config import beside
from tl_jax.interop import classifiers, configs, fitting, names, sentences, tensors
from tl_jax.interop.contents import read_object

_LOG = logging.getLogger(__name__)
GENERATION = 'generation_config.json'
# The folder of a discriminator's generator, inside of its own.
GENERATOR = 'generator'
# Of a longer text than this a tokenizer does not speak: it has no limit.
NO_LIMIT = 10**9


class Loaded(NamedTuple):
  """A model with its parameters (a nested dict of arrays), tokenizer or None, and what
  else the folder said.

  config, generation: the `config.json` and `generation_config.json` of a Hugging Face
  folder; unused: its tensors that this model has no use for. step: the committed step
  of the workdir that it is from.
  labels: the names of the labels in the order of the outputs, () where nothing says
  them; kind: of the task, 'single_label', 'multi_label' or 'regression', '' where
  nothing says it or the head does.
  pooling: how it makes vectors of texts, of a model that learned them.
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
  pooling: sentences.Pooling = sentences.Pooling()


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
  try:
    fit = _fit_or_guess(source, path, head)
    if source.tokenizer is not None:
      from tl_jax.interop import tokenizers

      tokenizers.require_rows(source.tokenizer, fit.arch.vocabulary)
    model = models.build(fit.arch, compute)
    params = _read_params(fit, model, dtype, mesh, sharding)
  except ValueError as error:
    # What names a file of the folder begins with the path already.
    if str(error).startswith(str(path)):
      raise
    raise ValueError(f'{path}: {error}') from error
  labels, kind = configs.read_labels(fit.config, fit.arch)
  return Loaded(
    model,
    params,
    source.tokenizer,
    fit.arch,
    fit.config,
    source.generation,
    fit.unused,
    labels=labels,
    kind=kind,
  )


def _fit_or_guess(source: Source, path, head: str | None) -> fitting.Fit:
  """The folder as a model with the head that was asked for, that it names, or that its
  tensors are of. A warning says where that is not what `config.json` says.
  """
  config = source.config
  family = configs.family_of(config)
  if head is None and not configs.names_head(config):
    fit = fitting.guess_head(config, source.folder, family)
    if fit.arch.head != 'none':
      _LOG.warning(
        '%s: config.json names no head; its tensors are taken for those of the head %r; '
        '`tl-jax import %s NEW --head=H` makes a folder that names another',
        path,
        fit.arch.head,
        path,
      )
    return fit
  fit = fitting.fit_folder(config, source.folder, family, head)
  if head is not None:
    return fit
  declared_head, _ = configs.head_of(config)
  if fit.arch.head != declared_head:
    _LOG.warning(
      '%s: config.json names the head %r, of which there is no tensor; the body opens alone',
      path,
      declared_head,
    )
  return fit


def _read_params(
  fit: fitting.Fit, model: models.Model, dtype, mesh, sharding: str
) -> dict:
  """The parameters, one tensor at a time, where the rules `sharding` put them."""
  placed = {}
  if mesh is not None:
    abstract = jax.eval_shape(model.init, jax.random.key(0))
    placed = tree.flatten(parallel.shardings(mesh, model.axes, abstract, sharding))
  params = {}
  for name, where in fit.where.items():
    params[name] = _read(fit.folder, where, dtype, placed.get(name))
  return tree.unflatten(params)


def _open(path: pathlib.Path) -> Source:
  if path.suffix.lower() == '.gguf':
    from tl_jax.interop import gguf

    return Source(path, *gguf.open_gguf(path))
  if not path.is_dir():
    raise ValueError(f'{path}: not a folder{beside(path)}')
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
    read_object(file) if file.is_file() else None,
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

  A discriminator with a generator becomes two folders, the generator in `generator`.
  format: 'hf'; what 'peft' needs besides, the error says.
  family: the `model_type` to write; by default that of the folder it came from, or the
  first that can say it all. Raises ValueError that names what the family cannot
  express, before anything is written.
  """
  # Everything is made, and refused, before anything is written.
  _require_format(format)
  path = pathlib.Path(path)
  generator, loaded = _apart(loaded)
  arch = loaded.arch
  own_family = (loaded.config or {}).get('model_type')
  classifiers.require_class(arch, dict(model_type=family or own_family))
  family = family or own_family or configs.fitting(arch)
  declared = loaded.config if own_family == family else None
  config = configs.write(arch, family, declared, loaded.labels, loaded.kind)
  config = _ids_read(loaded) | config
  held = tree.flatten(loaded.params)
  config['dtype'] = _dtype_name(held)
  found = _their_tensors(loaded, family, config, held)

  if generator is not None:
    save(path / GENERATOR, generator, family=family, shard_bytes=shard_bytes)
  os.makedirs(path, exist_ok=True)
  tensors.save_tensors(path, sorted(found.items()), shard_bytes=shard_bytes)
  _write_tokenizer(path, loaded)
  if loaded.pooling.modes:
    sentences.write_pooling(path, loaded.pooling, arch.width)
  # The config comes last: without it a folder that was cut short is none.
  generation = _generation_of(loaded, config)
  for name, content in ((GENERATION, generation), ('config.json', config)):
    if content is not None:
      text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
      text += '\n'
      files.write_atomically(path / name, text.encode())
  return path


def _write_tokenizer(path: pathlib.Path, loaded: Loaded) -> None:
  """Writes the files of the tokenizer, where there is one."""
  if loaded.tokenizer is None:
    return
  from tl_jax.interop import tokenizers

  tokenizer = _tokenizer_of(loaded)
  tokenizers.save_tokenizer(path, tokenizer, typed=loaded.arch.types > 1)


def _apart(loaded: Loaded) -> tuple[Loaded | None, Loaded]:
  """ELECTRA's generator and its discriminator as two models; (None, the model) of one
  that has no generator.
  """
  arch, params = loaded.arch, loaded.params
  if not arch.generates:
    return None, loaded
  small = models.generator_arch(arch)
  own = models.generator_params(params)
  generator = loaded._replace(
    model=models.build(small), params=own, arch=small, config=None
  )
  plain = dataclasses.replace(arch, generator=0)
  rest = models.discriminator_params(params)
  return generator, loaded._replace(model=models.build(plain), params=rest, arch=plain)


def _ids_read(loaded: Loaded) -> dict[str, int | None]:
  """The ids of special tokens that config.json has to say.

  A classifier may read the end of a text: decoders look for what is before the padding,
  encoder-decoders for the token that ends a text. A model that writes ends a text with
  such a token. Where no config.json said it before, transformers would take the ids of
  the family's first model, which mean something else in this vocabulary or nothing.
  """
  arch, tokenizer = loaded.arch, loaded.tokenizer
  if tokenizer is None:
    return {}
  from tl_jax.interop import tokenizers

  own = tokenizers.special_ids(tokenizer)
  if loaded.config is None and arch.kind != 'encoder':
    # A tokenizer without an end of its own may be lent one, as [SEP].
    return dict(bos_token_id=None, eos_token_id=tokenizer.eos) | own
  reads_end = arch.reads_examples and arch.pool == 'last'
  return own if reads_end else {}


def _generation_of(loaded: Loaded, config: dict) -> dict | None:
  """What generation_config.json says; None for no such file.

  Where there is one, transformers looks for the ids of special tokens there alone.
  """
  if loaded.generation is None or loaded.config is not None:
    return loaded.generation
  ids = {key: value for key, value in config.items() if key.endswith('_token_id')}
  return ids | loaded.generation


def _tokenizer_of(loaded: Loaded):
  """The tokenizer as transformers should have it for this model."""
  from tl_jax.interop import tokenizers

  arch, tokenizer = loaded.arch, _with_longest_text(loaded)
  # One that came from elsewhere says itself whether it ends a text.
  is_own = loaded.config is None and not loaded.tokenizer.settings
  if is_own and arch.kind == 'decoder' and arch.head == 'causal':
    return tokenizers.without_end(tokenizer)
  return tokenizer


def _with_longest_text(loaded: Loaded):
  """The tokenizer with the longest text of its model, where that has a limit.

  transformers cuts texts to `model_max_length` where it is asked to, special tokens
  included, and cuts nothing where the tokenizer does not say it.
  """
  arch = loaded.arch
  settings = loaded.tokenizer.settings
  declared = settings.get('model_max_length')
  # Without a limit transformers writes 10 ** 30.
  is_limit = type(declared) is int and 0 < declared < NO_LIMIT
  longest = declared if is_limit else None
  if arch.room is not None:
    longest = min(arch.room, longest or arch.room)
  elif longest is None and arch.positions == 'rotary':
    # As its config.json has it: beyond, nobody knows how well it reads.
    longest = arch.max_positions
  if longest is None:
    return loaded.tokenizer
  settings = {**settings, 'model_max_length': longest}
  return dataclasses.replace(loaded.tokenizer, settings=settings)


def _their_tensors(loaded: Loaded, family: str, config: dict, held: dict) -> dict:
  """The tensors of a folder by name, from the parameters `held` by name.

  Raises ValueError for a parameter that the architecture has not, or that is missing.
  """
  arch = loaded.arch
  shapes = jax.eval_shape(loaded.model.init, jax.random.key(0))
  abstract = tree.flatten(shapes)
  for name in sorted(set(held) ^ set(abstract)):
    others = (set(held) | set(abstract)) - {name}
    raise ValueError(
      f'{name}: {"no such parameter in" if name in held else "missing for"} this architecture; '
      f'nearest: {tree.nearest(name, others)}'
    )
  # A body has no prefix, but for the encoder of an encoder-decoder.
  is_encoder_model = config['architectures'][0].endswith('EncoderModel')
  bare = arch.head == 'none' and not is_encoder_model
  where = names.places(family, arch.head, abstract, gated=arch.gated, bare=bare)
  found = {}
  for name, shape, dtype, read in names.lazily(where, held):
    found[name] = tensors.Lazy(shape, dtype, read)
  if tied_names := fitting.tied_names_of(family, arch):
    bias, repeated = tied_names
    found[repeated] = found[bias]
  for name, table in fitting.sine_tables(family, arch, bare).items():
    found[name] = table.astype(config['dtype'])
  return found


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
  arch = own
  if loaded.config is not None:
    arch = configs.read(loaded.config, head)
  elif head != own.head:
    # A run learns the same head from a workdir as from the folder that it is exported to.
    arch = classifiers.in_its_family(own, head)
  if arch.kind == 'encoder-decoder' and head in ('classifier', 'choice'):
    arch = dataclasses.replace(arch, pool='mean', pooler='')
  return dataclasses.replace(
    arch,
    head=head,
    # T5 tags with its encoder alone, which these parameters are not of.
    kind=own.kind,
    decoder_layers=own.decoder_layers,
    tied=own.tied,
    pooler_place=own.pooler_place,
    pair_head=own.pair_head and head == 'masked',
  )


def read_config(path: pathlib.Path) -> dict:
  """The `config.json` of a folder. Raises ValueError that names the file."""
  if not (path / 'config.json').is_file():
    raise ValueError(f'{path}: no config.json, so not a Hugging Face folder')
  return read_object(path / 'config.json')


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
