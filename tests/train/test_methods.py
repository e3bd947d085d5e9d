"""Which methods train the output layer of a decoder: none that is not asked to, where
the layer is pre-trained.
"""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from tl_jax import checkpoint, config, models, transfer, tree
from tl_jax.train import checks, methods

SPEC = 'configs/adapt.py:init=olmo2-1b,objective=causal'
HEAD = 'head/kernel'
SMALL = dict(vocabulary=20, layers=1, width=8, heads=2, kv_heads=2, mlp=8)


def settings_with(method, spec=SPEC):
  loaded = config.load(spec)
  loaded.method = method
  return checks.settings_of(loaded)


@pytest.fixture(scope='module')
def decoder():
  """A decoder with an output layer of its own, and its parameters."""
  arch = models.arch('olmo2-1b', head='causal', **SMALL)
  assert not arch.tied
  return arch, models.build(arch).init(jax.random.key(0))


def trained(settings, decoder, folder=None, source=None):
  """The names of what the method of a run trains."""
  arch, params = decoder
  source = params if source is None else source
  first = methods.method_of(settings, None)
  method = methods.settled(settings, first, arch, source, folder)
  trainable, _ = method.init(jax.random.key(1), params)
  return set(tree.flatten(trainable))


@pytest.mark.parametrize(
  'method',
  [
    dict(name='lora', rank=2),
    dict(name='dora', rank=2),
    dict(name='qlora', rank=2, kind='int8'),
    dict(name='adapter', size=2),
    dict(name='ia3'),
    dict(name='norms'),
    dict(name='compose', methods=(('lora', dict(rank=2)), ('l2sp', {}))),
  ],
  ids=lambda method: method['name'],
)
def test_the_head_that_a_decoder_has_is_no_new_head(method, decoder):
  names = trained(settings_with(method), decoder)
  assert names and HEAD not in names


def test_a_head_that_is_asked_for_is_trained(decoder):
  asked = settings_with(dict(name='lora', rank=2, head='head/.*'))
  assert HEAD in trained(asked, decoder)
  assert HEAD in trained(settings_with(dict(name='full')), decoder)
  assert trained(settings_with(dict(name='probe')), decoder) == {HEAD}


def test_a_head_that_the_source_has_not_is_new(decoder):
  _, params = decoder
  body = {name: part for name, part in params.items() if name != 'head'}
  settings = settings_with(dict(name='lora', rank=2))
  assert HEAD in trained(settings, decoder, source=body)
  from_scratch = dataclasses.replace(settings, init='scratch')
  assert methods.brings_head(from_scratch, None)


def test_a_run_goes_on_with_what_it_trains(decoder, tmp_path):
  """Earlier versions trained the head of every pre-training."""
  settings = settings_with(dict(name='lora', rank=2))
  store = checkpoint.Store(tmp_path / 'checkpoints')
  store.prepare()
  store.save(1, {'trainable': {'head': {'kernel': jnp.ones((2, 2))}}}, {})
  store.wait()
  assert HEAD in trained(settings, decoder, folder=tmp_path)
  store.save(2, {'frozen': {'head': {'kernel': jnp.ones((2, 2))}}}, {})
  store.wait()
  assert HEAD not in trained(settings, decoder, folder=tmp_path)


def test_a_regularizer_of_pretraining_spares_the_head_as_before(decoder):
  """What a run pulls at must not change between two starts of it."""
  arch, params = decoder
  group = dict(name='compose', methods=(('full', {}), ('l2sp', {})))
  settings = settings_with(group)
  method = methods.method_of(settings, None)
  trainable, frozen = method.init(jax.random.key(1), params)
  moved = jax.tree.map(jnp.array, trainable)
  moved['head']['kernel'] += 1.0
  # As a new head it is pulled to zero, not to where it started.
  spared = transfer.compose(transfer.full(), transfer.l2sp())
  expected, held = spared.init(jax.random.key(1), params)
  expected['head']['kernel'] += 1.0
  assert method.penalty(moved, frozen) == spared.penalty(expected, held)


def test_the_library_spares_the_head_of_a_decoder_too(decoder):
  """By its shape; labels that are not words keep their head."""
  arch, params = decoder
  axes = models.build(arch).axes
  for head, is_trained in ((transfer.HEAD, False), ('head/.*', True), (None, False)):
    for method in (transfer.lora(head=head), transfer.adapter(size=2, head=head)):
      trainable, _ = method.init(jax.random.key(1), params)
      assert (HEAD in tree.flatten(trainable)) == is_trained
      # The axes are chosen by name alone, and mirror the arrays.
      placed, _ = method.axes(axes)
      assert jax.tree.structure(placed) == jax.tree.structure(trainable)
  labels = {**params, 'head': {'kernel': jnp.ones((8, 3))}}
  trainable, _ = transfer.lora().init(jax.random.key(1), labels)
  assert HEAD in tree.flatten(trainable)
