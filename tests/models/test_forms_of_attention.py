"""Which form of attention runs where, and what is refused in one line."""

import attending
import jax
import jax.numpy as jnp
import pytest

from tl_jax import models, parallel
from tl_jax.models import blockwise, cudnn, forms, splash


def arch(**fields):
  sizes = dict(vocabulary=50, layers=2, width=16, heads=2, mlp=16)
  return models.arch('tiny-gpt', head='causal', **sizes | fields)


@pytest.fixture
def chosen(monkeypatch):
  """The names of the forms that ran; each makes zeros."""
  ran = []

  def fake(name):
    def attend(operands, *_, **__):
      ran.append(name)
      return jnp.zeros_like(operands.query)

    return attend

  for module in (splash, cudnn, blockwise):
    name = module.__name__.rpartition('.')[2]
    monkeypatch.setattr(module, 'attend', fake(name))
  monkeypatch.setattr(cudnn, 'refuses', lambda operands, sight: '')
  return ran


def run(monkeypatch, platform, form='auto', length=128, dtype='bfloat16', **more):
  monkeypatch.setattr(parallel, 'target_platform', lambda: platform)
  case = attending.draw(1, length, 1, 1, 8, causal=True, dtype=dtype)
  sight = case.sight._replace(**more.pop('sight', {}))
  return forms.attend(form, case.query, case.keys, case.values, sight, **more)


@pytest.mark.parametrize(
  'platform, wanted', [('tpu', ['splash']), ('gpu', ['cudnn']), ('cpu', [])]
)
def test_every_platform_has_its_form(platform, wanted, chosen, monkeypatch):
  run(monkeypatch, platform)
  assert chosen == wanted


def test_cudnn_is_not_for_float32(chosen, monkeypatch):
  assert run(monkeypatch, 'gpu', dtype='float32') is None
  assert chosen == []


BEYOND = {
  'a bias': dict(bias=jnp.zeros((1, 1, 1, 128, 128))),
  'dropout': dict(rate=0.1, key=jax.random.key(0)),
  'a prefix': dict(sight=dict(prefix=2)),
  'own positions': dict(sight=dict(in_order=False)),
}


@pytest.mark.parametrize('what', BEYOND)
def test_what_a_kernel_has_not_is_left_to_xla(what, chosen, monkeypatch):
  assert run(monkeypatch, 'tpu', **BEYOND[what]) is None
  assert chosen == []
  with pytest.raises(ValueError, match=r"^config.compute.attention: 'splash' has no"):
    run(monkeypatch, 'tpu', form='splash', **BEYOND[what])


def test_few_queries_are_left_to_xla_and_a_named_kernel_takes_them(chosen, monkeypatch):
  assert run(monkeypatch, 'tpu', length=100) is None
  run(monkeypatch, 'tpu', form='splash', length=100)
  assert chosen == ['splash']


def test_without_dropout_its_key_does_no_harm(chosen, monkeypatch):
  run(monkeypatch, 'tpu', key=jax.random.key(0), rate=0.0)
  assert chosen == ['splash']


@pytest.mark.parametrize(
  'form, platform, message',
  [
    ('splash', 'gpu', "'splash' is not for a gpu; 'auto' and 'cudnn' are"),
    ('cudnn', 'tpu', "'cudnn' is not for a tpu; 'auto' and 'splash' are"),
    ('cudnn', 'cpu', "'cudnn' is not for a cpu; 'auto' and 'xla' are"),
  ],
)
def test_a_kernel_of_another_platform_is_refused(form, platform, message, monkeypatch):
  with pytest.raises(ValueError, match=f'config.compute.attention: {message}'):
    run(monkeypatch, platform, form=form)


@pytest.mark.parametrize(
  'fields, compute, message',
  [
    (dict(positions='relative'), dict(attention='splash'), 'no bias by position'),
    ({}, dict(attention='splash', dropout=0.1), 'no dropout of attention weights'),
    ({}, dict(attention='cudnn'), 'no float32'),
    (
      dict(attention_cap=5.0),
      dict(attention='cudnn', dtype='bfloat16'),
      'no cap of the scores',
    ),
    (
      dict(head_dim=12),
      dict(attention='cudnn', dtype='bfloat16'),
      'no heads of a width of 12',
    ),
  ],
)
def test_a_model_that_a_kernel_cannot_compute_is_not_built(fields, compute, message):
  made = arch(**fields)
  with pytest.raises(ValueError, match=f'config.compute.attention: .* has {message}'):
    models.build(made, models.Compute(**compute))
  models.build(made, models.Compute(**compute | dict(attention='auto')))


def test_this_machine_has_no_cudnn_and_says_so():
  case = attending.draw(1, 128, 1, 1, 8, causal=True, dtype='bfloat16')
  operands = forms.gather(case.query, case.keys, case.values, case.sight)
  assert cudnn.refuses(operands, case.sight).startswith('such attention here (')


def test_windows_that_differ_by_layer_have_a_kernel_each(chosen, monkeypatch):
  def attend(window):
    sight = dict(window=window, windows=(0, 16, 64))
    return run(monkeypatch, 'tpu', sight=sight)

  jax.jit(attend)(jnp.int32(16))
  assert chosen == ['splash'] * 3
  # One that is known while tracing is the only one.
  attend(16)
  assert len(chosen) == 4


def batch_of(length, **more):
  tokens = jnp.ones((1, length), jnp.int32)
  return dict(tokens=tokens, **more)


@pytest.mark.parametrize('ordered', [True, False])
def test_positions_of_a_batch_need_a_promise(ordered, chosen, monkeypatch):
  monkeypatch.setattr(parallel, 'target_platform', lambda: 'tpu')
  compute = models.Compute(layers='unroll')
  model = models.build(arch(layers=1), compute, ordered=ordered)
  params = jax.eval_shape(model.init, jax.random.key(0))
  batch = batch_of(128, positions=jnp.arange(128)[None])
  jax.eval_shape(lambda params: model.apply(params, batch).logits, params)
  assert chosen == (['splash'] if ordered else [])


def test_a_head_that_reads_few_columns_reads_them_by_whole_products(
  chosen, monkeypatch
):
  monkeypatch.setattr(parallel, 'target_platform', lambda: 'tpu')
  made = models.arch('tiny', vocabulary=50, head='classifier', layers=3, width=16)
  model = models.build(made, models.Compute(layers='unroll', attention='splash'))
  params = jax.eval_shape(model.init, jax.random.key(0))
  jax.eval_shape(lambda params: model.apply(params, batch_of(128)).logits, params)
  # Layers that are alike are traced once; that of the columns is another.
  assert chosen == ['splash']
