"""Depth and width: the right layers in the right order, and a wider model that says the
same.
"""

import dataclasses

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from tl_jax import tree
from tl_jax.models import arch, build
from tl_jax.transfer.growing import (
  every_second,
  grow_depth,
  grow_width,
  interleaved,
  shrink_depth,
  stacked,
)

SMALL = dict(vocabulary=11, width=8, layers=2, heads=2, mlp=6, max_positions=12)
BATCH = {
  'tokens': jnp.array([[3, 4, 5, 6], [7, 8, 9, 2]]),
  'decoder_tokens': jnp.array([[5, 6, 7], [2, 4, 4]]),
}
GATED = dict(
  gated=True,
  norm='rms',
  positions='rotary',
  bias='qkv',
  query_norm=True,
  kv_heads=2,
  heads=4,
)


def make(description, seed=0):
  """Parameters with no leaf at its first value, so that one that is copied where it is
  shared shows.
  """
  generator = np.random.default_rng(seed)
  shapes = jax.eval_shape(build(description).init, jax.random.key(0))
  middle = lambda name: 1.0 if name.endswith('scale') else 0.0
  return tree.map_named(
    lambda name, leaf: jnp.asarray(
      generator.normal(middle(name), 0.2, leaf.shape), 'float32'
    ),
    shapes,
  )


def says(description, params):
  found = jax.jit(build(description).apply)(params, BATCH)
  return found.hidden if found.logits is None else found.logits


def fits(description, params):
  shapes = jax.eval_shape(build(description).init, jax.random.key(0))
  return jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)


def marked(description):
  """Parameters where every leaf of layer i is i."""
  return tree.map_named(
    lambda name, leaf: (
      0 * leaf + int(name.split('layers/')[1].split('/')[0])
      if 'layers/' in name
      else leaf
    ),
    make(description),
  )


def numbers(layers):
  return [
    float(layers[str(index)]['attention_norm']['scale'][0])
    for index in range(len(layers))
  ]


@given(st.integers(1, 12), st.integers(0, 12))
def test_orders_use_every_layer_in_turn(layers, more):
  grown = layers + more
  for order in (stacked(layers, grown), interleaved(layers, grown)):
    assert len(order) == grown and set(order) == set(range(layers))
  assert list(interleaved(layers, grown)) == sorted(interleaved(layers, grown))
  assert len(every_second(layers)) == (layers + 1) // 2


def test_every_second_layer_is_kept():
  description = arch('tiny', **(SMALL | dict(layers=6)))
  for keep, wanted in ((None, [0, 2, 4]), ((1, 5), [1, 5])):
    params, small = shrink_depth(marked(description), description, keep)
    assert numbers(params['layers']) == wanted
    assert small == dataclasses.replace(description, layers=len(wanted)) and fits(
      small, params
    )


@pytest.mark.parametrize(
  ('how', 'wanted'), [('stack', [0, 1, 0, 1, 0]), ('interleave', [0, 0, 0, 1, 1])]
)
def test_layers_are_copied(how, wanted):
  description = arch('tiny-gpt', head='causal', **SMALL)
  params, deep = grow_depth(marked(description), description, 5, how)
  assert numbers(params['layers']) == wanted and fits(deep, params)
  assert np.isfinite(says(deep, params)).all()
  buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params)]
  assert len(set(buffers)) == len(buffers)


def test_shrinking_undoes_growing():
  description = arch('tiny', head='masked', **SMALL)
  params = make(description)
  grown, deep = grow_depth(params, description, 4, 'interleave')
  back, small = shrink_depth(grown, deep)
  assert small == description
  assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), params, back))


def test_layers_keep_their_windows():
  description = arch('tiny-gpt', **(SMALL | dict(layers=4, windows=(0, 3))))
  params = make(description)
  assert shrink_depth(params, description)[1].windows == (0, 0)
  assert shrink_depth(params, description, (1, 2, 3))[1].windows == (3, 0, 3)
  assert grow_depth(params, description, 8)[1].windows == (0, 3)
  assert grow_depth(params, description, 8, 'interleave')[1].windows == (
    0,
    0,
    3,
    3,
    0,
    0,
    3,
    3,
  )


def test_layers_keep_or_lack_their_rotary_positions():
  description = arch(
    'tiny-gpt', **(SMALL | dict(layers=4, rotary_layers=(True, False)))
  )
  params = make(description)
  assert shrink_depth(params, description, (1, 2, 3))[1].rotary_layers == (
    False,
    True,
    False,
  )
  assert grow_depth(params, description, 8)[1].rotary_layers == (True, False)


def test_heads_grow_by_whole_copies_under_a_norm_over_all_of_them():
  description = arch('tiny-gpt', **(SMALL | dict(query_norm='width')))
  with pytest.raises(ValueError, match='heads: 3 is no multiple of 2'):
    grow_width(make(description), description, heads=3)


def test_one_stack_of_an_encoder_decoder():
  description = arch('tiny-t5', head='causal', **SMALL, head_dim=4)
  params, small = shrink_depth(marked(description), description, stack='decoder')
  assert (small.layers, small.decoder_layers) == (2, 1) and fits(small, params)
  assert numbers(params['decoder']['layers']) == [0] and numbers(
    params['encoder']['layers']
  ) == [0, 1]
  params, even = shrink_depth(params, small, (1,), stack='encoder')
  assert (even.layers, even.decoder_layers) == (1, 0) and fits(even, params)
  params, deep = grow_depth(params, even, 3, stack='encoder')
  assert (deep.layers, deep.decoder_layers) == (3, 1) and fits(deep, params)


def test_the_first_layer_without_a_norm_stays_the_first():
  description = arch(
    'tiny', **(SMALL | dict(layers=3, norm_place='before', skip_first_norm=True))
  )
  params = make(description)
  kept, small = shrink_depth(params, description)
  assert fits(small, kept)
  for change in (
    lambda: shrink_depth(params, description, (1, 2)),
    lambda: grow_depth(params, description, 6),
  ):
    with pytest.raises(ValueError, match='skip_first_norm'):
      change()


WIDER = [
  ('tiny', dict(head='masked')),
  ('tiny', dict(head='masked', tied=False, embedding_width=4)),
  ('tiny', dict(head='classifier', labels=3)),
  ('tiny', dict(head='replaced')),
  (
    'tiny',
    dict(
      head='span', pooler='gelu', pooler_norm=True, norm='layer_unbiased', bias='none'
    ),
  ),
  ('tiny-gpt', dict(head='causal')),
  (
    'tiny-gpt',
    dict(head='causal', tied=False, norm_place='both', norm='rms_shifted') | GATED,
  ),
  ('tiny-gpt', dict(head='causal', embedding_width=4, norm_place='after')),
  ('tiny-t5', dict(head='causal', head_dim=4)),
  ('bart-base', dict(head='causal')),
  (
    'tiny-gpt',
    dict(head='causal', norm_place='output', residual_scale=0.5)
    | GATED
    | dict(query_norm='width'),
  ),
  (
    'deberta-v3-base',
    dict(head='masked', relative_buckets=4, relative_distance=9, attention_scale=0.3),
  ),
]
QUICK = (0, 6, 9, 10, 11)


@pytest.mark.parametrize(
  ('family', 'fields'),
  [
    pytest.param(*pair, marks=[] if index in QUICK else pytest.mark.slow)
    for index, pair in enumerate(WIDER)
  ],
)
def test_a_wider_model_says_the_same(family, fields):
  """Every leaf of every family, in all that can grow at once."""
  description = arch(family, **(SMALL | dict(layers=1) | fields))
  params = make(description)
  wanted = says(description, params)
  grown, wide = grow_width(
    params,
    description,
    width=24,
    heads=3 * description.heads,
    mlp=11,
    key=jax.random.key(1),
  )
  assert fits(wide, grown)
  np.testing.assert_allclose(
    says(wide, grown), wanted, atol=1e-5 * max(1.0, np.abs(wanted).max())
  )


TINY = arch('tiny-gpt', head='causal', **(SMALL | GATED | dict(layers=1)))
TINY_PARAMS = make(TINY)
TINY_SAYS = says(TINY, TINY_PARAMS)


@settings(max_examples=5, deadline=None)
@given(
  st.integers(1, 2), st.integers(2, 4), st.integers(6, 8), st.sampled_from([None, 1, 2])
)
def test_any_growth_keeps_the_function(factor, key_heads, mlp, seed):
  key = None if seed is None else jax.random.key(seed)
  grown, wide = grow_width(
    TINY_PARAMS, TINY, width=8 * factor, heads=2 * key_heads, mlp=mlp, key=key
  )
  assert (wide.kv_heads, wide.head_width) == (key_heads, TINY.head_width) and fits(
    wide, grown
  )
  np.testing.assert_allclose(
    says(wide, grown), TINY_SAYS, atol=1e-5 * max(1.0, np.abs(TINY_SAYS).max())
  )


def test_nothing_grows_where_nothing_is_asked():
  grown, same = grow_width(TINY_PARAMS, TINY)
  assert same == TINY and jax.tree.leaves(grown)[0] is jax.tree.leaves(TINY_PARAMS)[0]


@pytest.mark.slow
def test_random_shares_tell_copies_apart():
  """Even shares give the copies of a unit one gradient; random ones do not."""
  description = arch('tiny-gpt', head='causal', **(SMALL | dict(layers=1)))
  params = make(description)

  def gradients(key):
    grown, wide = grow_width(params, description, mlp=12, key=key)
    model = build(wide)
    gradient = jax.grad(
      lambda params: jnp.square(model.apply(params, BATCH).logits).mean()
    )(grown)
    kernel = gradient['layers']['0']['mlp']['in']['kernel']
    return np.abs(kernel[:, :6] - kernel[:, 6:]).max() / np.abs(kernel).max()

  assert gradients(None) < 1e-4 < 1e-2 < gradients(jax.random.key(3))


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: grow_width(TINY_PARAMS, TINY, width=12), 'width: 12 is no multiple of 8'),
    (lambda: grow_width(TINY_PARAMS, TINY, heads=5), 'heads: 5'),
    (lambda: grow_width(TINY_PARAMS, TINY, mlp=5), 'mlp: 5'),
    (lambda: grow_width({'wte': np.ones((2, 2))}, TINY, width=16), "'wte'"),
    (lambda: shrink_depth(TINY_PARAMS, TINY, (1,)), r'keep: \(1,\)'),
    (lambda: shrink_depth(TINY_PARAMS, TINY, ()), 'keep'),
    (lambda: shrink_depth(TINY_PARAMS, TINY, stack='encoder'), 'stack'),
    (lambda: grow_depth(TINY_PARAMS, TINY, 0), 'shrink_depth'),
    (lambda: grow_depth(TINY_PARAMS, TINY, 2, 'stacked'), "nearest: 'stack'"),
    (
      lambda: grow_depth({}, dataclasses.replace(TINY, layer_groups=1), 2),
      'layer_groups',
    ),
  ],
)
def test_what_does_not_fit_is_named(call, message):
  with pytest.raises(ValueError, match=message) as caught:
    call()
  assert '\n' not in str(caught.value)
