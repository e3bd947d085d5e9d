"""Laws of the backbone: packing changes no prediction, the past never sees the future,
policies change nothing.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import leaves, models, parallel, transfer, tree
from tl_jax.models import Compute, arch, backbone, build, count

SHAPES = {
  'encoder': arch('tiny', vocabulary=64, head='masked'),
  'decoder': arch('tiny-gpt', vocabulary=64, head='causal'),
  'modern': arch(
    'tiny-gpt',
    vocabulary=64,
    head='causal',
    positions='rotary',
    norm='rms',
    gated=True,
    activation='silu',
    bias='none',
    kv_heads=1,
    tied=False,
    windows=(0, 3),
    rotary_layers=(True, False),
    query_norm='width',
    residual_scale=0.7,
  ),
  'encoder-decoder': arch('tiny-t5', vocabulary=64, head='causal'),
}


def spread(params, seed=0, scale=0.2):
  """Parameters large enough that a wrong mask or position shows: random, whatever their
  initial value was.
  """

  def draw(name, leaf):
    noise = np.random.default_rng([seed, *name.encode()]).normal(size=leaf.shape)
    return leaf + (scale * noise).astype(np.float32)

  return tree.map_named(draw, params)


def made(shape, **compute):
  model = build(SHAPES[shape], Compute(**compute))
  # T5 does not scale its attention scores, so large weights would only amplify
  # rounding.
  return model, spread(
    model.init(jax.random.key(0)), scale=0.02 if shape == 'encoder-decoder' else 0.2
  )


def texts(seed=0, lengths=(5, 7, 3)):
  generator = np.random.default_rng(seed)
  return [generator.integers(5, 64, length) for length in lengths]


def packed(parts, length=20):
  tokens, segments, at = (
    np.zeros((1, length), np.int32),
    np.zeros((1, length), np.int32),
    0,
  )
  for index, part in enumerate(parts, 1):
    tokens[0, at : at + len(part)], segments[0, at : at + len(part)] = part, index
    at += len(part)
  return tokens, segments


def both_sides(batch, shape):
  """The same text for encoder and decoder where the model has two."""
  if shape != 'encoder-decoder':
    return batch
  return batch | {f'decoder_{name}': value for name, value in batch.items()}


def quick_for(*quick, shapes=SHAPES):
  """Compiling a model of every shape takes minutes: some stand for all unless slow
  tests are asked for.
  """
  return pytest.mark.parametrize(
    'shape',
    [
      pytest.param(shape, marks=[] if shape in quick else pytest.mark.slow)
      for shape in shapes
    ],
  )


a_few_shapes = quick_for('modern', 'encoder-decoder')
QUICK_POLICIES = (('encoder', 'dots', 'unroll'),)


# The tests of the families hold these numbers and more.
@pytest.mark.slow
@pytest.mark.parametrize(
  'family, expected',
  [
    ('bert-tiny', 4_385_920),
    ('bert-mini', 11_170_560),
    ('bert-small', 28_763_648),
    ('bert-medium', 41_373_184),
    ('bert-base', 109_482_240),
    ('bert-large', 335_141_888),
  ],
)
def test_bert_sizes_are_the_published_ones(family, expected):
  assert count(arch(family)) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
  'family, expected',
  [
    ('gpt2', 124_439_808),
    ('gpt2-medium', 354_823_168),
    ('t5-small', 60_506_624),
    ('t5-base', 222_903_552),
    ('t5-large', 737_668_096),
  ],
)
def test_language_model_sizes_are_the_published_ones(family, expected):
  assert count(arch(family, head='causal')) == expected


@quick_for('encoder', 'encoder-decoder')
def test_packing_changes_no_logit(shape):
  model, params = made(shape)
  parts = texts()
  tokens, segments = packed(parts)
  apply = jax.jit(model.apply)
  together = apply(
    params, both_sides({'tokens': tokens, 'segments': segments}, shape)
  ).logits
  at = 0
  for part in parts:
    alone = apply(
      params, both_sides({'tokens': part[None].astype(np.int32)}, shape)
    ).logits
    assert alone.std() > 0.1
    np.testing.assert_allclose(together[:, at : at + len(part)], alone, atol=1e-5)
    at += len(part)


@pytest.mark.parametrize('pool', ['first', 'mean', 'last'])
def test_packed_classification_predicts_what_the_unpacked_does(pool):
  model = build(arch('tiny', vocabulary=64, head='classifier', labels=3, pool=pool))
  params = spread(model.init(jax.random.key(1)))
  parts = texts(1)
  tokens, segments = packed(parts)
  apply = jax.jit(model.apply)
  # without jit, it counts the segments
  out = model.apply(params, {'tokens': tokens, 'segments': segments})
  explicit = apply(
    params,
    {'tokens': tokens, 'segments': segments, 'examples': jnp.array([[1, 2, 3, 0]])},
  )
  assert out.logits.shape == (1, 3, 3) and out.examples.tolist() == [[1, 2, 3]]
  np.testing.assert_allclose(explicit.logits[:, :3], out.logits, atol=1e-5)
  for index, part in enumerate(parts):
    alone = apply(params, {'tokens': part[None].astype(np.int32)})
    assert alone.logits.shape == (1, 3) and alone.examples is None
    np.testing.assert_allclose(out.logits[0, index], alone.logits[0], atol=1e-5)


@pytest.mark.parametrize('pool', ['first', 'mean', 'last'])
def test_other_examples_change_no_bit(pool):
  model = build(arch('tiny', vocabulary=64, head='classifier', labels=3, pool=pool))
  params = spread(model.init(jax.random.key(1)))
  tokens, segments = packed(texts(2))
  run = jax.jit(
    lambda tokens: (
      model.apply(
        params,
        {'tokens': tokens, 'segments': segments, 'examples': jnp.array([[1, 2, 3]])},
      ).logits
    )
  )
  changed = np.where(segments == 2, (tokens + 11) % 64, tokens)
  before, after = np.asarray(run(tokens)), np.asarray(run(changed))
  assert (before[:, [0, 2]] == after[:, [0, 2]]).all()
  assert not np.allclose(before[:, 1], after[:, 1], atol=1e-3)


@quick_for('modern', shapes=('decoder', 'modern', 'encoder-decoder'))
def test_the_past_does_not_see_the_future(shape):
  model, params = made(shape)
  table = params['embedding']['tokens']
  tokens = np.arange(5, 15, dtype=np.int32)[None]

  def logit(part):
    edited = table.at[10].add(part)  # the token at position 5 of the decoder
    batch = {
      'tokens': tokens if shape != 'encoder-decoder' else np.full((1, 4), 3, np.int32)
    }
    if shape == 'encoder-decoder':
      batch['decoder_tokens'] = tokens
    hidden = model.apply(
      {**params, 'embedding': {**params['embedding'], 'tokens': edited}}, batch
    ).hidden
    return hidden.sum(-1)[0]

  moved = np.abs(jax.jit(jax.jacobian(logit))(jnp.zeros(table.shape[1]))).sum(-1)
  assert (moved[:5] == 0).all() and (moved[5:] > 0).any()


@pytest.mark.parametrize(
  'shape, remat, layers',
  [
    pytest.param(
      shape,
      *policy,
      marks=[] if (shape, *policy) in QUICK_POLICIES else pytest.mark.slow,
    )
    for shape in SHAPES
    for policy in (('dots', 'unroll'), ('full', 'scan'))
  ],
)
def test_compute_policy_changes_no_value(shape, remat, layers):
  tokens, segments = packed(texts(3))
  batch = both_sides({'tokens': tokens, 'segments': segments}, shape)

  def value(**compute):
    model, params = made(shape, dropout=0.1, **compute)
    loss = lambda params: jnp.square(
      model.apply(params, batch, key=jax.random.key(5), train=True).logits
    ).mean()
    return jax.jit(jax.value_and_grad(loss))(params)

  (expected, gradient), (found, other) = value(), value(remat=remat, layers=layers)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  # A gradient that is zero but for rounding (of a key's bias, say) is measured by the
  # largest of all.
  largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
  for name, leaf in tree.flatten(gradient).items():
    scale = max(float(jnp.abs(leaf).max()), 1e-2 * largest)
    np.testing.assert_allclose(
      tree.flatten(other)[name] / scale, leaf / scale, atol=2e-4, err_msg=name
    )


def test_scored_positions_are_those_of_the_full_product():
  model, params = made('encoder')
  tokens, segments = packed(texts())
  score = jnp.array([[3, 0, 7]])
  full = model.apply(params, {'tokens': tokens, 'segments': segments}).logits
  some = model.apply(
    params, {'tokens': tokens, 'segments': segments}, score=score
  ).logits
  np.testing.assert_allclose(some[0], full[0, score[0]], atol=1e-5)


def test_a_window_hides_what_is_far():
  model, params = made('modern')
  wide = build(dataclasses.replace(SHAPES['modern'], windows=(0,)))
  tokens = texts(4, (12,))[0][None].astype(np.int32)
  near, far = (
    model.apply(params, {'tokens': tokens}).logits,
    wide.apply(params, {'tokens': tokens}).logits,
  )
  np.testing.assert_allclose(near[:, :3], far[:, :3], atol=1e-5)
  assert jnp.abs(near[:, 4:] - far[:, 4:]).max() > 1e-2


def test_dropout_is_a_function_of_the_key_and_only_in_training():
  model, params = made('encoder', dropout=0.5)
  run = lambda key, train: (
    model.apply(params, {'tokens': texts()[0][None]}, key=key, train=train).logits
  )
  key = jax.random.key
  assert (run(key(1), True) == run(key(1), True)).all()
  assert (run(key(1), True) != run(key(2), True)).any()
  assert (run(key(1), False) == run(None, False)).all()


def test_bfloat16_stays_near():
  model, params = made('encoder')
  half = build(SHAPES['encoder'], Compute(dtype='bfloat16'))
  batch = {'tokens': texts()[0][None]}
  full, rough = model.apply(params, batch).logits, half.apply(params, batch).logits
  assert rough.dtype == jnp.float32
  assert jnp.abs(full - rough).max() < 0.1 * jnp.abs(full).max()


@pytest.mark.parametrize('shape', SHAPES)
def test_every_parameter_has_axes_of_its_rank(shape):
  model, params = made(shape)
  for name, leaf in tree.flatten(params).items():
    assert len(tree.flatten(model.axes)[name]) == leaf.ndim, name


def products(jaxpr):
  """Every matrix product in a jaxpr, at any depth, as (left shape, right shape)."""
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      yield tuple(var.aval.shape for var in equation.invars)
    for value in equation.params.values():
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        yield from products(inner)


@a_few_shapes
@pytest.mark.parametrize('layers', ['unroll', 'scan'])
def test_the_low_rank_product_stays_factored(shape, layers):
  model, params = made(shape, layers=layers)
  method = transfer.lora(r'.*/(query|value|key|out|in|gate)/kernel', rank=3, head=None)
  trainable, frozen = method.init(jax.random.key(0), params)
  assert any(
    leaves.is_structured(leaf)
    for leaf in jax.tree.leaves(
      method.merge(trainable, frozen), is_leaf=leaves.is_structured
    )
  )
  batch = both_sides({'tokens': texts()[0][None].astype(np.int32)}, shape)
  run = lambda trainable: model.apply(
    method.merge(trainable, frozen), batch
  ).hidden.sum()
  for jaxpr in (
    jax.make_jaxpr(run)(trainable),
    jax.make_jaxpr(jax.value_and_grad(run))(trainable),
  ):
    dense = [
      (a, b)
      for a, b in products(jaxpr.jaxpr)
      if sorted((*a, *b)).count(3) >= 2 and len(a) == len(b) == 2
    ]
    assert not dense, f'a product of two low-rank factors: {dense}'


def truncated(shape, layers):
  """The same model with fewer layers in the stack that hidden comes from."""
  stack = 'decoder_layers' if shape == 'encoder-decoder' else 'layers'
  return build(dataclasses.replace(SHAPES[shape], **{stack: layers}))


@a_few_shapes
def test_states_are_what_truncated_models_end_with(shape):
  model, params = made(shape)
  batch = both_sides(
    dict(zip(('tokens', 'segments'), packed(texts()), strict=True)), shape
  )
  out = model.apply(params, batch, keep=('states',))
  np.testing.assert_array_equal(out.hidden, model.apply(params, batch).hidden)
  assert out.attentions is None and len(out.states) == SHAPES[shape].layers + 1
  final = params['decoder'] if shape == 'encoder-decoder' else params
  finish = lambda x: backbone.finish_stack(SHAPES[shape], final, x)
  np.testing.assert_allclose(finish(out.states[-1]), out.hidden, atol=1e-6)
  for layers in range(1, len(out.states)):
    expected = truncated(shape, layers).apply(params, batch).hidden
    np.testing.assert_allclose(finish(out.states[layers]), expected, atol=1e-5)
  assert jnp.abs(out.states[0] - out.states[1]).max() > 1e-2


@quick_for('modern')
def test_attention_rows_sum_to_one_and_are_zero_where_nothing_is_seen(shape):
  model, params = made(shape, dropout=0.5)
  tokens, segments = packed(texts(), 15)
  batch = both_sides({'tokens': tokens, 'segments': segments}, shape)
  out = model.apply(
    params, batch, key=jax.random.key(0), train=True, keep=('attentions',)
  )
  assert out.states is None and len(out.attentions) == SHAPES[shape].layers
  for weights in out.attentions:
    assert (
      weights.shape == (1, SHAPES[shape].heads, 15, 15) and weights.dtype == jnp.float32
    )
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
    apart = segments[:, :, None] != segments[:, None, :]
    assert (np.where(apart[:, None], weights, 0) == 0).all()


@quick_for('encoder-decoder')
def test_scanned_layers_keep_what_unrolled_ones_do(shape):
  batch = both_sides(
    dict(zip(('tokens', 'segments'), packed(texts()), strict=True)), shape
  )
  kept = []
  for compute in (dict(layers='unroll'), dict(layers='scan', remat='full')):
    model, params = made(shape, **compute)
    out = model.apply(params, batch, keep=('states', 'attentions'))
    kept.append((out.states, out.attentions))
  assert jax.tree.structure(kept[0]) == jax.tree.structure(kept[1])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), *kept
  )


def test_a_prompt_has_no_queries_but_its_keys_are_seen():
  model, params = made('decoder')
  params = params | {
    'embedding': params['embedding']
    | {'prompt': jnp.ones((3, SHAPES['decoder'].width))}
  }
  out = model.apply(params, {'tokens': texts()[1][None]}, keep=('states', 'attentions'))
  assert {state.shape for state in out.states} == {out.hidden.shape}
  assert (
    out.attentions[0].shape[2:] == (7, 10) and (out.attentions[0][..., :3] > 0).all()
  )


@pytest.mark.parametrize('layers', ['unroll', 'scan'])
def test_what_nobody_keeps_is_no_part_of_the_program(layers):
  model, params = made('encoder', layers=layers)
  batch = {'tokens': texts()[0][None]}
  program = lambda **keep: str(
    jax.make_jaxpr(lambda params: model.apply(params, batch, **keep))(params)
  )
  plain = model.apply(params, batch)
  assert plain.states is None and plain.attentions is None
  assert (
    len(program())
    == len(program(keep=()))
    < len(program(keep=('states', 'attentions')))
  )
  stacked = f'f32[{SHAPES["encoder"].layers},1,{SHAPES["encoder"].heads},5,5]'
  assert stacked not in program() and (stacked in program(keep=('attentions',))) == (
    layers == 'scan'
  )


def test_what_cannot_be_kept_is_named():
  model, params = made('encoder')
  with pytest.raises(
    ValueError, match="keep: 'state' is nothing that can be kept; nearest: 'states'"
  ):
    model.apply(params, {'tokens': texts()[0][None]}, keep=('state',))


@pytest.mark.parametrize('remat', ['none', 'full'])
@pytest.mark.parametrize(
  'ranks',
  [
    {'.*/0/attention/query/kernel': 2, '.*/1/attention/query/kernel': 3},
    pytest.param({'.*/0/mlp/in/kernel': 2}, marks=pytest.mark.slow),
  ],
)
def test_layers_that_differ_are_unrolled(ranks, remat):
  values = []
  for layers in ('unroll', 'scan'):
    model, params = made('decoder', layers=layers, remat=remat, dropout=0.1)
    for pattern, rank in ranks.items():
      lora = transfer.lora(pattern, rank=rank, head=None)
      params = lora.merge(*lora.init(jax.random.key(0), params))
    batch = {'tokens': texts()[0][None]}
    run = jax.jit(functools.partial(model.apply, train=True))
    values.append(run(params, batch, key=jax.random.key(1)).logits)
  np.testing.assert_allclose(*values, atol=1e-5)


@pytest.mark.parametrize(
  'platform, remat, scanned',
  [
    ('cpu', 'full', False),
    ('gpu', 'none', False),
    ('gpu', 'dots', True),
    ('tpu', 'none', True),
  ],
)
def test_layers_are_scanned_where_it_pays(platform, remat, scanned, monkeypatch):
  monkeypatch.setattr(parallel, 'target_platform', lambda: platform)
  assert models.scans(Compute(remat=remat)) == scanned
  assert models.scans(Compute(layers='scan'))
  assert not models.scans(Compute(layers='unroll'))


def test_a_mask_is_not_kept_for_every_layer():
  model, params = made('decoder', layers='scan')
  tokens = texts()[0][None]
  segments = jnp.ones_like(tokens)

  def total(params):
    return model.apply(params, dict(tokens=tokens, segments=segments)).logits.sum()

  text = str(jax.make_jaxpr(jax.grad(total))(params))
  arch, length = model.arch, tokens.shape[1]
  scores = f'{arch.layers},1,{arch.heads},1,{length},{length}'
  # The softmax is kept, and not which of the scores it hid.
  assert f'f32[{scores}]' in text
  assert f'bool[{scores}]' not in text
