"""encoder_decoder: stacks of other models compute what they computed, and only what has
no source is fresh.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import tree
from tl_jax.models import arch, build
from tl_jax.transfer.warmstart import encoder_decoder, shared, unshared, warm_arch

SMALL = dict(vocabulary=20, width=8, heads=2, mlp=12, max_positions=16)
BERT = arch('tiny', head='masked', **SMALL)
GPT = arch('tiny-gpt', head='causal', **SMALL)
BATCH = {
  'tokens': jnp.array([[3, 4, 5, 6, 0], [7, 8, 9, 2, 1]]),
  'segments': jnp.array([[1, 1, 1, 1, 0], [1] * 5]),
  'decoder_tokens': jnp.array([[5, 6, 7, 8], [2, 4, 4, 9]]),
}


def make(description, seed):
  """Parameters with no leaf at its first value, so that a norm or bias that was left
  out shows.
  """
  noise = lambda name, leaf: np.random.default_rng([seed, *name.encode()]).normal(
    size=leaf.shape
  )
  return tree.map_named(
    lambda name, leaf: leaf + np.float32(0.3 * noise(name, leaf)),
    build(description).init(jax.random.key(seed)),
  )


def without_cross(params):
  return tree.map_named(
    lambda name, leaf: 0 * leaf if '/cross/out/' in name else leaf, params
  )


def decoder_states(description, params, batch=BATCH):
  return build(description).apply(params, batch).hidden


def alone(description, params):
  """The states of one stack under a causal mask, whatever stack it was trained as."""
  description = dataclasses.replace(description, kind='decoder', head='none')
  return build(description).apply(params, {'tokens': BATCH['decoder_tokens']}).hidden


def encoder_states(description, params):
  """What the encoder says, seen through a classifier that reads it alone."""
  description = dataclasses.replace(
    description, head='classifier', pool='mean', pooler=''
  )
  head = {'kernel': jnp.ones((8, 2)), 'bias': jnp.zeros(2)}
  return build(description).apply({**params, 'head': head}, BATCH).hidden


def fresh_target(description):
  return build(description).init(jax.random.key(9))


@pytest.mark.parametrize(
  ('encoder', 'decoder'),
  [
    (BERT, BERT),
    pytest.param(GPT, GPT, marks=pytest.mark.slow),
    (BERT, None),
    pytest.param(None, BERT, marks=pytest.mark.slow),
    (None, GPT),
  ],
)
def test_every_stack_computes_what_it_computed(encoder, decoder):
  description = warm_arch(encoder, decoder)
  sources = [
    None if given is None else make(given, seed)
    for seed, given in enumerate((encoder, decoder))
  ]
  if None not in sources:
    sources[1]['embedding']['tokens'] = sources[0]['embedding']['tokens']
  params, account = encoder_decoder(*sources, fresh_target(description), preserve=True)
  if encoder is not None:
    source = dataclasses.replace(encoder, kind='encoder', head='none', pooler='')
    states = build(source).apply(sources[0], BATCH).hidden
    real = BATCH['segments'][..., None]
    np.testing.assert_allclose(
      real * states, real * encoder_states(description, params), atol=1e-5
    )
  if decoder is not None:
    found = decoder_states(description, without_cross(params))
    np.testing.assert_allclose(found, alone(decoder, sources[1]), atol=1e-4)
    assert np.abs(decoder_states(description, params) - found).max() > 1e-3, (
      'the encoder is not looked at'
    )
  assert account.counts['resized'] == 0


def test_as_published_the_new_norm_is_fresh_and_the_old_one_stays():
  bert = make(BERT, 0)
  params, account = encoder_decoder(bert, bert, fresh_target(warm_arch(BERT, BERT)))
  for name, leaf in tree.flatten(bert).items():
    if not name.startswith(('embedding/tokens', 'head', 'pooler')):
      for side in ('encoder', 'decoder'):
        np.testing.assert_array_equal(tree.flatten(params)[f'{side}/{name}'], leaf)
  fresh = {entry.target for entry in account.entries if entry.outcome == 'fresh'}
  assert fresh == {name for name in tree.flatten(params) if '/cross' in name}
  np.testing.assert_array_equal(params['head']['bias'], bert['head']['bias'])


def test_a_fresh_bert_needs_no_moved_norm():
  bert = build(BERT).init(jax.random.key(0))
  description = warm_arch(BERT, BERT)
  params, _ = encoder_decoder(bert, bert, fresh_target(description))
  np.testing.assert_allclose(
    decoder_states(description, without_cross(params)), alone(BERT, bert), atol=1e-5
  )


def test_two_random_sides_keep_the_target():
  target = fresh_target(warm_arch(BERT, None))
  params, account = encoder_decoder(None, None, target)
  assert account.counts['fresh'] == len(jax.tree.leaves(target)) == len(account.entries)
  assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), params, target))


def test_the_token_table_is_the_side_that_was_asked_for():
  first, second = make(BERT, 0), make(BERT, 1)
  target = fresh_target(warm_arch(BERT, BERT))
  for side, source in (('encoder', first), ('decoder', second), (None, first)):
    params, account = encoder_decoder(first, second, target, tokens=side)
    np.testing.assert_array_equal(
      params['embedding']['tokens'], source['embedding']['tokens']
    )
    assert (
      sum(
        entry.outcome == 'dropped' and entry.source.endswith('tokens')
        for entry in account.entries
      )
      == 1
    )


def test_stacks_of_two_depths_and_lengths():
  deep, long = (
    arch('tiny', layers=3, **SMALL),
    arch('tiny', layers=1, **(SMALL | dict(max_positions=24))),
  )
  description = warm_arch(deep, long)
  assert (
    description.layers,
    description.decoder_layers,
    description.max_positions,
  ) == (3, 1, 24)
  params, account = encoder_decoder(
    make(deep, 0), make(long, 1), fresh_target(description)
  )
  assert account.counts['resized'] == 1 and len(params['decoder']['layers']) == 1
  np.testing.assert_array_equal(
    params['encoder']['embedding']['positions'][:16],
    make(deep, 0)['embedding']['positions'],
  )


def test_shared_stacks_are_one_set_of_weights():
  model = build(warm_arch(BERT, BERT))
  one = shared(model)
  bert = make(BERT, 0)
  params, _ = encoder_decoder(bert, bert, one.init(jax.random.key(9)), share=True)
  assert all('/cross' in f'decoder/{name}' for name in tree.flatten(params['decoder']))
  assert set(tree.flatten(one.axes)) == set(tree.flatten(params))
  copied, _ = encoder_decoder(bert, bert, fresh_target(model.arch))
  assert jax.tree.structure(unshared(params)) == jax.tree.structure(copied)
  whole = unshared(params)
  np.testing.assert_array_equal(
    one.apply(params, BATCH).logits, model.apply(whole, BATCH).logits
  )


@pytest.mark.slow
def test_shared_stacks_learn_from_both_places():
  model, bert = build(warm_arch(BERT, BERT)), make(BERT, 0)
  one = shared(model)
  params, _ = encoder_decoder(bert, bert, one.init(jax.random.key(9)), share=True)
  whole = unshared(params)
  loss = lambda model: (
    lambda params: jnp.square(model.apply(params, BATCH).logits).mean()
  )
  together, apart = (
    tree.flatten(jax.grad(loss(one))(params)),
    tree.flatten(jax.grad(loss(model))(whole)),
  )
  name = 'layers/0/mlp/in/kernel'
  np.testing.assert_allclose(
    together[f'encoder/{name}'],
    apart[f'encoder/{name}'] + apart[f'decoder/{name}'],
    rtol=1e-4,
    atol=1e-6,
  )


@pytest.mark.parametrize(('encoder', 'decoder'), [(True, False), (False, True)])
def test_sharing_needs_one_source(encoder, decoder):
  bert = make(BERT, 0)
  target = shared(build(warm_arch(BERT, BERT))).init(jax.random.key(9))
  params, _ = encoder_decoder(
    bert if encoder else None, bert if decoder else None, target, share=True
  )
  np.testing.assert_array_equal(
    params['encoder']['layers']['1']['mlp']['in']['kernel'],
    bert['layers']['1']['mlp']['in']['kernel'],
  )


def test_a_shared_decoder_may_be_deeper_or_shallower():
  for depth in (1, 3):
    model = build(dataclasses.replace(warm_arch(BERT, BERT), decoder_layers=depth))
    one = shared(model)
    params = one.init(jax.random.key(0))
    assert len(unshared(params)['decoder']['layers']) == depth
    assert jax.tree.structure(unshared(params)) == jax.tree.structure(
      jax.eval_shape(model.init, jax.random.key(0))
    )


def test_nothing_is_shared_between_two_places_of_a_donated_tree():
  bert = build(BERT).init(jax.random.key(0))
  params, _ = encoder_decoder(bert, bert, fresh_target(warm_arch(BERT, BERT)))
  buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params)]
  assert len(set(buffers)) == len(buffers)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: warm_arch(None, None), 'both None'),
    (lambda: warm_arch(BERT, GPT), 'activation'),
    (
      lambda: warm_arch(BERT, dataclasses.replace(BERT, vocabulary=21)),
      'vocabulary is 20',
    ),
    (
      lambda: warm_arch(dataclasses.replace(BERT, embedding_width=4), None),
      'embedding_width',
    ),
    (
      lambda: warm_arch(dataclasses.replace(BERT, layer_groups=1), None),
      'layer_groups',
    ),
    (lambda: encoder_decoder({'encoder': {}}, None, {}), "the encoder has 'encoder'"),
    (lambda: encoder_decoder(None, make(BERT, 0), {}, tokens='encoder'), 'random'),
    (
      lambda: encoder_decoder(make(BERT, 0), None, {}, share=True, preserve=True),
      'preserve',
    ),
    (
      lambda: encoder_decoder(
        make(BERT, 0),
        None,
        fresh_target(dataclasses.replace(warm_arch(BERT, BERT), layers=3)),
      ),
      'encoder/layers/2',
    ),
    (lambda: shared(build(BERT)), 'one stack'),
  ],
)
def test_what_does_not_fit_is_named(call, message):
  with pytest.raises(ValueError, match=message) as caught:
    call()
  assert '\n' not in str(caught.value)
