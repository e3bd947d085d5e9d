"""What no memory here can hold is refused by the key that asks for it, and nothing
else is.
"""

import dataclasses

import jax
import pytest

from tl_jax import config, models, objectives, parallel, tasks, train
from tl_jax.config import ConfigError
from tl_jax.parallel import Capacity
from tl_jax.parallel.mesh import AXES
from tl_jax.train import assembly, memory, methods, programs
from tl_jax.train.checks import read

TRANSFER = 'configs/transfer.py:task=sentiment'
PRETRAIN = 'configs/pretrain.py:tiny'
SMALL = "{'family': 'tiny', 'layers': 1, 'width': 16, 'heads': 2, 'mlp': 16%s}"


@pytest.fixture
def machine(monkeypatch):
  """A machine with so many bytes, or one that does not say."""

  def of(size, **axes):
    found = None
    if size is not None:
      found = Capacity(size, 'this machine', dict.fromkeys(AXES, 1) | axes)
    monkeypatch.setattr(parallel, 'capacity_for', lambda shape: found)
    return found

  return of


def require_early(settings):
  task = tasks.find('sentiment') if hasattr(settings, 'task') else None
  memory.require_memory(settings, assembly.smallest_arch(settings, task))


def settings_of(name, *overrides, model=''):
  return read(config.load(name, [('model', SMALL % model), *overrides]))


def changed(settings, key, value):
  """The settings with another integer, which its range allows."""
  group, _, name = key.rpartition('.')
  if group == 'data':
    part = dataclasses.replace(settings.data, **{name: value})
  else:
    part = getattr(settings, group) | {name: value}
  return dataclasses.replace(settings, **{group: part})


@pytest.mark.parametrize(
  'name, key, value',
  [
    (f'{TRANSFER},method=lora', 'method.rank', 10**8),
    (f'{TRANSFER},method=dora', 'method.rank', 10**8),
    (f'{TRANSFER},method=adapter', 'method.size', 10**9),
    (f'{TRANSFER},method=full', 'data.batch', 10**6),
    (f'{TRANSFER},method=probe', 'data.batch', 10**7),
    (f'{TRANSFER},method=full', 'data.examples_per_row', 10**9),
    (PRETRAIN, 'data.batch', 10**7),
    (PRETRAIN, 'model.width', 2**20),
    (PRETRAIN, 'model.layers', 10**8),
    (PRETRAIN, 'model.mlp', 2**31 - 1),
    (PRETRAIN, 'model.vocabulary', 2**31 - 1),
    (PRETRAIN, 'model.max_positions', 2**31 - 1),
    (PRETRAIN, 'model.head_dim', 10**9),
    (PRETRAIN, 'model.embedding_width', 10**9),
    ('configs/pretrain.py:tiny-t5', 'data.length', 10**9),
    ('configs/pretrain.py:tiny-t5', 'model.decoder_layers', 10**9),
  ],
)
def test_the_key_that_asks_for_too_much_is_named(name, key, value, machine):
  machine(2**30)
  model = dict(family='tiny-t5' if name.endswith('t5') else 'tiny', layers=1)
  settings = dataclasses.replace(read(config.load(name)), model=model)
  require_early(settings)
  with pytest.raises(ConfigError) as caught:
    require_early(changed(settings, key, value))
  said = str(caught.value)
  assert said.startswith(f'config.{key}: {value}: the run needs at least ')
  assert 'but this machine has 1.0 GiB' in said and '\n' not in said


def test_the_nearest_value_is_one_that_passes(machine):
  machine(2**30)
  settings = settings_of(f'{TRANSFER},method=lora')
  with pytest.raises(ConfigError) as caught:
    require_early(changed(settings, 'method.rank', 10**8))
  nearest = int(str(caught.value).split('nearest: ')[1].split()[0])
  require_early(changed(settings, 'method.rank', nearest))
  with pytest.raises(ConfigError):
    require_early(changed(settings, 'method.rank', 2 * nearest))


def test_a_part_of_a_composed_method_is_named(machine):
  machine(2**30)
  settings = settings_of(f'{TRANSFER},method=lora+l2sp')
  methods = (('lora', dict(rank=10**8)), ('l2sp', {}))
  settings = changed(settings, 'method.methods', methods)
  with pytest.raises(ConfigError, match=r'^config\.method\.methods\.lora\.rank: 1'):
    require_early(settings)


def test_a_model_that_is_too_large_as_it_is_is_named(machine):
  machine(2**30)
  settings = read(config.load('configs/pretrain.py:tiny-gpt'))
  settings = dataclasses.replace(settings, model=dict(family='gpt3-175b'))
  with pytest.raises(ConfigError, match=r'^config\.model\.family: gpt3-175b: '):
    require_early(settings)


def test_nothing_is_refused_where_the_memory_is_not_known(machine):
  machine(None)
  settings = settings_of(f'{TRANSFER},method=lora')
  require_early(changed(settings, 'method.rank', 10**8))


def test_what_devices_share_is_divided(machine):
  """Weights over fsdp and tensor, rows over data: a pod holds what a device cannot."""
  settings = settings_of(f'{TRANSFER},method=lora')
  large = changed(settings, 'method.rank', 10**7)
  alone = memory.need_of(large, _arch(large), machine(2**33)).total
  machine(alone / 2)
  with pytest.raises(ConfigError, match='rank'):
    require_early(large)
  machine(alone / 2, fsdp=4)
  require_early(large)
  copies = dataclasses.replace(large, sharding='replicated')
  with pytest.raises(ConfigError, match='rank'):
    require_early(copies)


def test_what_the_backward_pass_reads_is_kept(machine):
  """On accelerators the compiler may compute products again; on none with `remat`."""
  settings = settings_of(f'{TRANSFER},method=full', model=", 'layers': 4")
  large = changed(settings, 'data.batch', 2**16)
  host = machine(2**40)
  whole = memory.need_of(large, _arch(large), host).total
  compute = dataclasses.replace(large.compute, remat='full')
  again = dataclasses.replace(large, compute=compute)
  least = memory.need_of(again, _arch(again), host).total
  device = host._replace(is_host=False)
  assert whole > 2 * least
  assert memory.need_of(large, _arch(large), device).total == least
  # Nothing of the body is trained: one layer after the other.
  frozen = changed(
    settings_of(f'{TRANSFER},method=probe', model=", 'layers': 4"), 'data.batch', 2**16
  )
  assert memory.need_of(frozen, _arch(frozen), host).total < least


def test_an_evaluation_needs_no_optimizer(machine):
  settings = settings_of(f'{TRANSFER},method=lora')
  large = changed(settings, 'method.rank', 10**6)
  capacity = machine(2**33)
  trained = memory.need_of(large, _arch(large), capacity).total
  evaluated = memory.need_of(large, _arch(large), capacity, trains=False).total
  # The factors alone, without their gradients and two moments.
  assert trained / evaluated == pytest.approx(4, rel=0.01)


def test_layers_that_are_not_traced_are_counted(machine, monkeypatch):
  settings = settings_of(PRETRAIN, model=", 'layers': 7")
  whole, _ = memory.weights_of(settings, _arch(settings), trains=True)
  monkeypatch.setattr(memory, 'TRACED', 3)
  cut, _ = memory.weights_of(settings, _arch(settings), trains=True)
  assert sum(cut.values()) == pytest.approx(sum(whole.values()))


@pytest.mark.parametrize('method', ['full', 'lora', 'probe', 'prefix', 'l2sp', 'last'])
def test_the_account_is_that_of_the_state(method, machine):
  """Parameters and moments as a run has them; its gradients come on top."""
  settings = settings_of(f'{TRANSFER},method={method}')
  arch = _arch(settings)
  objective = objectives.OBJECTIVES['classify'].make(labels=2, kind='single_label')
  parts = assembly.assemble(settings, arch, objective, methods.make(settings.method))
  state = programs.abstract_first_state(parts)
  state = state._replace(key=None)
  leaves = jax.tree.leaves(state)
  held = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
  parts, _ = memory.weights_of(settings, arch, trains=True)
  counted = sum(parts.values()) - parts['the gradients']
  # The state has some scalars more.
  assert held - 64 <= counted <= held


def test_a_model_from_a_checkpoint_is_known_when_it_is_opened(
  pretrained, tmp_path, machine
):
  machine(2**30)
  loaded = config.load(
    f'configs/transfer.py:task=sentiment,method=lora,init={pretrained}',
    [('method.rank', '100000000'), ('data.length', '32')],
  )
  with pytest.raises(ConfigError, match=r'^config\.method\.rank: 100000000: '):
    train.transfer(loaded, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_an_evaluation_with_rows_that_no_memory_holds_is_refused(pretrained, machine):
  machine(2**30)
  with pytest.raises(ConfigError, match=r'^config\.data\.batch: 10000000: '):
    train.evaluate(pretrained, overrides=[('data.batch', '10000000')])


def test_positions_that_a_method_takes_are_those_of_the_method():
  for method in ('prompt', 'prefix'):
    with pytest.raises(
      ConfigError, match=r'^config\.method\.length: 1000.*nearest: 20$'
    ):
      read(
        config.load(f'{TRANSFER},method={method}', [('method.length', '1000000000')])
      )


def test_more_micro_batches_than_rows_are_refused_by_their_key():
  with pytest.raises(ConfigError, match=r'^config\.data\.accumulate: .*nearest: 16$'):
    read(config.load(PRETRAIN, [('data.accumulate', '1000000000')]))


def _arch(settings):
  head = 'masked' if hasattr(settings, 'objective') else 'classifier'
  return assembly.base_arch(settings.model, vocabulary=50, head=head)


def test_a_head_that_the_model_keeps_is_not_counted_as_trained():
  settings = settings_of(f'{TRANSFER},method=lora')
  arch = assembly.smallest_arch(settings, tasks.find('sentiment'))
  _, of_classes = memory.weights_of(settings, arch, trains=True)
  writing = models.arch('tiny-gpt', head='causal', tied=False)
  _, of_texts = memory.weights_of(settings, writing, trains=True)
  assert any(name.startswith('head/') for name in of_classes)
  assert not any(name.startswith('head/') for name in of_texts)
