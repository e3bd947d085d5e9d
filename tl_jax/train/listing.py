"""The list of what a config compiles, on a mesh that need not be here.

>>> from tl_jax import config
>>> from tl_jax.train.outline import outline
>>> found = outline(config.load('configs/pretrain.py:tiny'))
>>> names_of(found)
('step', 'evaluation')
>>> mesh = parallel.make_mesh(parallel.MeshShape())
>>> step = program_of('step', found, mesh)
>>> step.names, step.tokens
(('state', 'batch'), 1024)
"""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from tl_jax import decode, models, parallel
from tl_jax.config import ConfigError, nearest
from tl_jax.decode import generation
from tl_jax.train import programs, starting, writing
from tl_jax.train.datasets import target_length
from tl_jax.train.features import holds_body
from tl_jax.train.outline import Outline
from tl_jax.train.programs import MEMBERS, Program
from tl_jax.train.stack import member_axes, stacked_sharding
from tl_jax.train.step import averaged, merged

# New tokens of a text where no task says how many.
NEW_TOKENS = 64


def names_of(run: Outline) -> tuple[str, ...]:
  """The programs that a config compiles, by name; a cohort is one of several runs."""
  found = ['step', 'evaluation']
  arch = run.parts.model.arch
  if arch.kind != 'encoder' and arch.head == 'causal':
    found.append('decoding')
  if run.task is not None and holds_body(run.parts):
    found.append('features')
  return tuple(found)


def program_of(name: str, run: Outline, mesh, members: int = 1) -> Program:
  """A program of a run on a mesh, which is in force meanwhile.

  members: of a cohort. Raises ConfigError for a program that the run does not have.
  """
  # Of every run there may be several.
  known = (*names_of(run), 'cohort')
  if name not in known:
    raise ConfigError(f'no program {name!r} here; nearest: {nearest(name, known)}')
  makers = dict(
    step=step,
    evaluation=evaluation,
    decoding=decoding,
    features=features,
    cohort=lambda run, mesh: cohort(run, mesh, members),
  )
  with parallel.in_force(mesh):
    return makers[name](run, mesh)


def step(run: Outline, mesh) -> Program:
  """The training step."""
  shardings, state = _state(run, mesh)
  sharding = parallel.batch_sharding(mesh)
  function = programs.step(run.parts, shardings, sharding)
  batch = _placed(run.batch, sharding)
  names = ('state', 'batch')
  return Program('step', function, (state, batch), names, _tokens(run), donated=(0,))


def evaluation(run: Outline, mesh) -> Program:
  """What a split is evaluated with: the outputs of labelled rows, or sums of losses."""
  _, state = _state(run, mesh)
  batch = _placed(run.batch, parallel.batch_sharding(mesh))
  if run.task is not None and run.task.problem.answer == 'logits':
    function = programs.outputs(run.parts)
    names = ('state', 'batch')
    return Program('evaluation', function, (state, batch), names, _tokens(run))
  # Which key it is changes no shape.
  function = programs.loss_sums(run.parts, jax.random.key(0))
  index = jax.ShapeDtypeStruct((), np.int32)
  arguments = (_merged(run, state), batch, index)
  names = ('parameters', 'batch', 'index')
  return Program('evaluation', function, arguments, names, _tokens(run))


def features(run: Outline, mesh) -> Program:
  """What reads the features of a body that is held."""
  _, state = _state(run, mesh)
  batch = _placed(run.batch, parallel.batch_sharding(mesh))
  function = programs.features(run.parts)
  return Program('features', function, (state, batch), ('state', 'batch'), _tokens(run))


def decoding(run: Outline, mesh) -> Program:
  """The reading of prompts and the loop that writes texts.

  A decoder's row has the prompt and the new tokens; an encoder-decoder reads a whole
  row.
  """
  settings, arch = run.settings, run.parts.model.arch
  chosen = decoding_of(run)
  prompt = settings.data.length
  if arch.kind == 'decoder':
    prompt = max(1, prompt - chosen.max_new_tokens)
  rows = settings.data.batch
  sharding = parallel.batch_sharding(mesh)
  shapes = dict.fromkeys(('tokens', 'segments'), (rows, prompt))
  if arch.kind == 'encoder-decoder':
    shapes |= dict.fromkeys(('decoder_tokens', 'decoder_segments'), (rows, 1))
  batch = {
    name: jax.ShapeDtypeStruct(shape, np.int32, sharding=sharding)
    for name, shape in shapes.items()
  }
  decoder = models.decoder(arch, settings.compute)
  # Its layers run one by one.
  _, state = _state(run, mesh, programs.named_shardings)
  key = jax.eval_shape(lambda: jax.random.key(0))
  numbers = jax.ShapeDtypeStruct((rows,), np.int32)
  live = jax.ShapeDtypeStruct((rows,), np.bool_)
  arguments = (_merged(run, state), batch, key, numbers, live)
  function = programs.decoding(decoder, chosen)
  names = ('parameters', 'batch', 'key', 'numbers', 'live')
  written = rows * chosen.samples * chosen.max_new_tokens
  rounds = max(1, chosen.max_new_tokens - 1)
  return Program('decoding', function, arguments, names, written, rounds=rounds)


def decoding_of(run: Outline) -> decode.Decoding:
  """How a run's model writes: as its task says, else greedily."""
  settings, arch = run.settings, run.parts.model.arch
  chosen: dict[str, Any] = {}
  longest = NEW_TOKENS
  if run.task is not None and run.task.problem.answer == 'generate':
    chosen = dict(run.task.decoding)
    longest = target_length(settings.data, arch)
    for name in writing.SAID_ELSEWHERE:
      chosen.pop(name, None)
  found = decode.Decoding(**{'max_new_tokens': longest, 'eos': (1,), **chosen})
  return generation.programmed(found)


def cohort(run: Outline, mesh, members: int) -> Program:
  """The step of so many members at once.

  What depends on nothing that members differ in is held once.
  """
  shardings, _ = _state(run, mesh)
  ways = mesh.shape[MEMBERS]
  size = -(-members // ways) * ways
  own = starting.Own.of(run.settings)
  make = programs.in_form(run.start.state, shardings)
  axes = member_axes(make, run.given, own)
  stacked = jax.tree.map(stacked_sharding, shardings, axes)
  batch_sharding = NamedSharding(
    mesh, PartitionSpec(MEMBERS, *parallel.batch_sharding(mesh).spec)
  )
  one = jax.eval_shape(make, run.given, own)

  def placed(leaf, axis, sharding):
    shape = leaf.shape if axis is None else (size, *leaf.shape)
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)

  state = jax.tree.map(placed, one, axes, stacked)
  batch = {
    name: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype, sharding=batch_sharding)
    for name, leaf in run.batch.items()
  }
  members_sharding = NamedSharding(mesh, PartitionSpec(MEMBERS))
  factors = jax.ShapeDtypeStruct((size,), np.float32, sharding=members_sharding)
  function = programs.cohort_step(run.parts, axes, stacked, batch_sharding)
  tokens = size * _tokens(run)
  arguments = (state, batch, factors)
  names = ('state', 'batch', 'factors')
  return Program('cohort', function, arguments, names, tokens, donated=(0,))


def _tokens(run: Outline) -> int:
  """The tokens of a full batch, those of an encoder-decoder's two sides."""
  names = ('tokens', 'decoder_tokens')
  return sum(math.prod(run.batch[name].shape) for name in names if name in run.batch)


def _placed(batch: dict, sharding) -> dict:
  """The arrays of a batch, with where they lie."""
  return {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    for name, leaf in batch.items()
  }


def _state(run: Outline, mesh, places=programs.state_shardings) -> tuple:
  """(the shardings of a run's state, the state as shapes that lie so).

  places: the form of the state, that of the step by default.
  """
  settings = run.settings
  overrides = parallel.parse_overrides(settings.sharding_overrides)
  shardings = places(run.parts, mesh, settings.sharding, overrides)
  return shardings, programs.abstract_state(run.parts, shardings)


def _merged(run: Outline, state) -> Any:
  """The merged parameters of a state, as shapes; a leaf that merging leaves alone lies
  where it lay.
  """

  def merge(state):
    return merged(run.parts.method, averaged(state), state.frozen)

  traced, shapes = jax.make_jaxpr(merge, return_shape=True)(state)
  leaves, structure = jax.tree.flatten(shapes)
  inputs = zip(traced.jaxpr.invars, jax.tree.leaves(state), strict=True)
  lying = {id(value): leaf.sharding for value, leaf in inputs}
  placed = []
  for value, leaf in zip(traced.jaxpr.outvars, leaves, strict=True):
    sharding = lying.get(id(value))
    placed.append(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding))
  return jax.tree.unflatten(structure, placed)
