"""Layers that run in a loop are held together in the state of a run, and nothing else is
another: losses, checkpoints, names.
"""

import jax
import numpy as np
import pytest

from tl_jax import layers, models, objectives, optim, parallel, transfer, tree
from tl_jax.train import programs
from tl_jax.train import step as steps
from tl_jax.train.assembly import Components

SIZES = dict(layers=3, width=16, heads=2, mlp=32, vocabulary=40)
slow = pytest.mark.slow
FAMILIES = dict(decoder='gpt2', encoder='bert-base')


def components(kind, method, how='scan', *, optimizer=None, groups=(), **fields):
  """A small run without data, whose layers run as `how` says."""
  head = 'causal' if kind == 'decoder' else 'masked'
  arch = models.arch(FAMILIES[kind], head=head, **SIZES, **fields)
  model = models.build(arch, models.Compute(layers=how, dropout=0.1))
  objective = objectives.causal()
  if head == 'masked':
    objective = objectives.masked(vocabulary=40, mask_id=4, special_ids=(0, 1, 2, 3, 4))
  config = optim.OptimConfig(**dict(lr=1e-2, groups=groups) | (optimizer or {}))
  tx = optim.make_optimizer(config, optim.ScheduleConfig(name='constant', steps=10))
  step = steps.make_step(model, objective, method, tx)
  init = lambda params, seed: steps.init_state(params, method, tx, seed)
  return Components(
    model, objective, method, tx, init, step, optim.parse_groups(groups)
  )


def place(parts):
  """(mesh, shardings of the state as the step takes it)."""
  mesh = parallel.make_mesh(parallel.MeshShape(), jax.devices()[:1])
  return mesh, programs.state_shardings(parts, mesh, 'fsdp')


def trained(parts, count=3):
  """(losses and gradient norms of some steps, the named state behind them, was the
  state held?).
  """
  mesh, shardings = place(parts)
  make = lambda given, own: parts.init(parts.model.init(jax.random.key(0)), 0)
  figures = []
  with jax.set_mesh(mesh):
    state = programs.first_state(make, shardings)(0, 0)
    step = programs.step(parts, shardings, parallel.batch_sharding(mesh))
    for number in range(count):
      tokens = jax.random.randint(jax.random.key(number), (8, 8), 5, 40)
      batch = dict(tokens=tokens, segments=np.ones_like(tokens))
      state, metrics = step(state, batch)
      figures.append((float(metrics['loss']), float(metrics['gradient_norm'])))
  return np.array(figures), layers.unstacked(state), layers.is_held(state)


def held_names(parts) -> set[str]:
  """The names of the state that stand for several layers."""
  _, shardings = place(parts)
  is_stacked = layers.is_stacked
  found = jax.tree_util.tree_leaves_with_path(shardings, is_leaf=is_stacked)
  return {tree.name_of(path) for path, leaf in found if is_stacked(leaf)}


@pytest.mark.parametrize(
  ('kind', 'make', 'optimizer'),
  [
    ('decoder', lambda: transfer.lora(rank=2, dropout=0.1), 'adamw'),
    ('encoder', transfer.full, 'adafactor'),
    pytest.param('decoder', transfer.full, 'adamw', marks=slow),
    pytest.param('decoder', transfer.full, 'adafactor', marks=slow),
    pytest.param('encoder', transfer.full, 'adamw', marks=slow),
    pytest.param('encoder', lambda: transfer.dora(rank=2), 'adafactor', marks=slow),
  ],
)
def test_held_layers_are_trained_as_those_with_leaves_of_their_own(
  kind, make, optimizer
):
  settings = dict(name=optimizer, decay=0.1)
  held, held_state, is_held = trained(components(kind, make(), optimizer=settings))
  named, state, is_named = trained(
    components(kind, make(), 'unroll', optimizer=settings)
  )
  assert is_held and not is_named
  np.testing.assert_allclose(held, named, rtol=1e-5, atol=1e-6)
  assert jax.tree.structure(held_state) == jax.tree.structure(state)
  # Rounding apart, which Adam makes as large as a step where a gradient is almost 0.
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, atol=1e-3),
    held_state.trainable,
    state.trainable,
  )


def test_the_whole_state_of_alike_layers_is_held():
  names = held_names(components('decoder', transfer.lora(rank=2)))
  assert 'frozen/layers/0/attention/query/kernel/base' in names
  assert 'trainable/layers/0/attention/query/kernel/a' in names
  assert any('/mu/layers/0/attention/query/kernel/b' in name for name in names)
  # No leaf of a layer is left out.
  state = programs.abstract_first_state(components('decoder', transfer.lora(rank=2)))
  of_layers = [name for name in tree.flatten(state) if layers.place_of(name)]
  assert len(of_layers) == 3 * len(names)


def test_the_layer_that_makes_what_a_head_reads_is_no_part_of_a_stack():
  """The loop ends before it: it would read a copy of a longer stack."""
  _, shardings = place(components('encoder', transfer.full()))
  leaves = jax.tree.leaves(shardings, is_leaf=layers.is_stacked)
  assert {leaf.count for leaf in leaves if layers.is_stacked(leaf)} == {2}


@pytest.mark.parametrize(
  ('kind', 'make', 'how', 'fields'),
  [
    ('decoder', transfer.full, 'unroll', {}),
    # One layer of three is trained, one is edited, one has another rank.
    ('decoder', lambda: transfer.last(1), 'scan', {}),
    ('decoder', lambda: transfer.lora(r'layers/1/.*/query/kernel'), 'scan', {}),
    ('decoder', lambda: transfer.lora(ranks=((r'layers/0/.*', 3),)), 'scan', {}),
    # One layer is frozen, one learns slower.
    ('decoder', transfer.full, 'scan', dict(groups=((r'layers/0/.*', None),))),
    (
      'decoder',
      transfer.full,
      'scan',
      dict(groups=((r'layers/2/.*', {'scale': 0.5}),)),
    ),
    # It decays towards the start by the names of leaves.
    ('encoder', transfer.prior_decay, 'scan', {}),
    ('encoder', transfer.full, 'scan', dict(layer_groups=1)),
  ],
)
def test_layers_that_are_not_alike_stay_by_name(kind, make, how, fields):
  assert not held_names(components(kind, make(), how, **fields))


@slow
def test_a_first_layer_without_a_norm_is_no_part_of_a_stack():
  parts = components(
    'encoder', transfer.full(), skip_first_norm=True, norm_place='before'
  )
  names = held_names(parts)
  assert names and all('layers/1/' in name for name in names)
  held, _, _ = trained(parts, 2)
  named, _, _ = trained(
    components(
      'encoder', transfer.full(), 'unroll', skip_first_norm=True, norm_place='before'
    ),
    2,
  )
  np.testing.assert_allclose(held, named, rtol=1e-5)


@slow
def test_penalties_see_the_names_of_layers_that_are_held():
  method = transfer.compose(transfer.lora(rank=2), transfer.l2sp(0.5))
  held, _, is_held = trained(components('decoder', method))
  named, _, _ = trained(components('decoder', method, 'unroll'))
  assert is_held
  np.testing.assert_allclose(held, named, rtol=1e-5, atol=1e-6)
