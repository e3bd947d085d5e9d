"""The law of every regularizer beside every method.

It acts on what is trained, or the pair is refused by name.
"""

import functools
import types
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tl_jax import leaves, objectives, optim, tree
from tl_jax.transfer import (
  METHODS,
  adapter,
  compose,
  diff,
  ewc,
  l2sp,
  lora,
  mixout,
  norms,
  prefix,
  prior_decay,
  reinitialize,
  unfreeze,
  with_fisher,
)

KEY = jax.random.key(11)
WIDTH = 4
TOP = 'layers/1/'
HEAD = 'head/'

# What each method needs to fit the small tree. A new method fails here until it says
# how it acts.
OPTIONS = {
  'full': {},
  'probe': {},
  'bitfit': {},
  'norms': {},
  'last': dict(k=1),
  'subset': dict(count=40),
  'lora': dict(rank=2),
  'dora': dict(rank=2),
  'qlora': dict(rank=2, kind='int8'),
  'ia3': {},
  'diff': {},
  'adapter': dict(kind='pfeiffer', size=2),
  'prompt': dict(length=2),
  'prefix': dict(length=2),
  'l2sp': {},
  'prior_decay': {},
  'mixout': {},
  'ewc': {},
  'reinitialize': {},
  'rdrop': {},
  'unfreeze': dict(every=1),
}
REGULARIZERS = (
  'l2sp',
  'prior_decay',
  'mixout',
  'ewc',
  'reinitialize',
  'rdrop',
  'unfreeze',
)

# The pairs that have nothing to act on, or nothing that is right to do.
NEW_ALONE = ('probe', 'adapter', 'prompt', 'prefix')
REFUSED = {
  'l2sp': (),
  'rdrop': (),
  'ewc': NEW_ALONE,
  'mixout': (*NEW_ALONE, 'bitfit', 'norms'),
  'prior_decay': (*NEW_ALONE, 'lora', 'dora', 'qlora', 'diff'),
  'unfreeze': ('probe', 'prompt'),
  'reinitialize': tuple(
    name for name in OPTIONS if name not in (*REGULARIZERS, 'full', 'last')
  ),
}


def make(name):
  return METHODS[name](**OPTIONS[name])


@functools.cache
def model_tree():
  """Pre-trained params with the names of our models: every method fits them."""
  shapes = {
    'embedding/tokens': (7, WIDTH),
    'final_norm/scale': (WIDTH,),
    'head/kernel': (WIDTH, 2),
    'head/bias': (2,),
  }
  for layer in range(2):
    place = f'layers/{layer}'
    for part in ('attention/query', 'attention/key', 'attention/value', 'mlp/out'):
      shapes |= {
        f'{place}/{part}/kernel': (WIDTH, WIDTH),
        f'{place}/{part}/bias': (WIDTH,),
      }
    shapes[f'{place}/mlp_norm/scale'] = (WIDTH,)
  return tree.unflatten(
    {name: noise(name, np.zeros(shape)) for name, shape in shapes.items()}
  )


def noise(name, leaf):
  draw = np.random.default_rng(zlib.crc32(name.encode())).normal(size=np.shape(leaf))
  return jnp.asarray(draw, jnp.float32)


def moved(trainable, size=0.3):
  """A tree that some training might have led to: every trained leaf is elsewhere."""
  return tree.map_named(
    lambda name, leaf: leaf + size * noise(f'moved/{name}', leaf), trainable
  )


def rate_of_one(**settings):
  """An optimizer whose update is minus the gradient."""
  config = optim.OptimConfig(**dict(name='sgd', lr=1.0, b1=0.0, clip=None) | settings)
  return optim.make_optimizer(config, optim.ScheduleConfig(name='constant', steps=9))


def penalties_act(method, trainable, frozen):
  other = moved(trainable)
  at_start, away = (float(method.penalty(one, frozen)) for one in (trainable, other))
  assert away != at_start
  gradient = jax.grad(method.penalty)(other, frozen)
  # A small step down the gradient lowers the penalty.
  lower = jax.tree.map(lambda leaf, slope: leaf - 1e-2 * slope, other, gradient)
  assert float(method.penalty(lower, frozen)) < away
  return {name for name, leaf in tree.flatten(gradient).items() if not np.any(leaf)}


def l2sp_acts(method, trainable, frozen):
  still = penalties_act(method, trainable, frozen)
  assert not still, f'moving {still} changes nothing'


def ewc_acts(method, trainable, frozen):
  free = penalties_act(method, trainable, frozen)
  new = (HEAD, TOP) if 'reinitialize' in names_of(method) else (HEAD,)
  assert all(name.startswith(new) for name in free), free


def mixout_acts(method, trainable, frozen):
  start = tree.flatten(method.fuse(trainable, frozen))
  other = moved(trainable)
  plain = tree.flatten(leaves.fuse(method.merge(other, frozen)))
  mixed = tree.flatten(leaves.fuse(method.merge(other, frozen, key=KEY)))
  new = (HEAD, TOP) if 'reinitialize' in names_of(method) else (HEAD,)
  changed = [
    name
    for name in start
    if name.endswith('kernel')
    and not name.startswith(new)
    and np.abs(plain[name] - start[name]).max() > 1e-3
  ]
  assert changed
  back = {name: np.isclose(mixed[name], start[name], atol=1e-5) for name in changed}
  assert all(mask.any() for mask in back.values())
  # Mixing at the start changes nothing.
  still = tree.flatten(leaves.fuse(method.merge(trainable, frozen, key=KEY)))
  for name in changed:
    np.testing.assert_allclose(still[name], start[name], atol=1e-6)


def prior_decay_acts(method, trainable, frozen):
  tx = method.optimizer(rate_of_one())
  other = moved(trainable)
  idle = jax.tree.map(jnp.zeros_like, other)
  state = tx.init(trainable)
  for _ in range(4):  # an `unfreeze` beside it lets all leaves go by then
    updates, state = tx.update(idle, state, other)
  for name, update in tree.flatten(updates).items():
    start = 0.0 if name.startswith(HEAD) else tree.flatten(trainable)[name]
    if not (name.startswith(TOP) and 'reinitialize' in names_of(method)):
      np.testing.assert_allclose(
        update, -0.01 * (tree.flatten(other)[name] - start), rtol=1e-4, atol=1e-8
      )


def reinitialize_acts(method, trainable, frozen):
  fresh, params = (
    tree.flatten(method.fuse(trainable, frozen)),
    tree.flatten(model_tree()),
  )
  changed = {
    name for name, leaf in params.items() if not np.array_equal(leaf, fresh[name])
  }
  assert (
    changed
    == {name for name in params if name.startswith(TOP)}
    <= tree.flatten(trainable).keys()
  )


def rdrop_acts(method, trainable, frozen):
  del trainable, frozen
  objective = method.objective(objectives.classify(labels=2))
  batch = dict(labels=jnp.array([0, 1]))
  terms, _ = objective.loss(draw_logits, batch, KEY)
  assert float(terms['agreement'].sum) > 0


def draw_logits(batch, *, key=None, train=False):
  del train
  return types.SimpleNamespace(logits=jax.random.normal(key, (len(batch['labels']), 2)))


def unfreeze_acts(method, trainable, frozen):
  del frozen
  tx = method.optimizer(rate_of_one())
  state, ones = tx.init(trainable), jax.tree.map(jnp.ones_like, trainable)
  free = []
  for _ in range(4):
    updates, state = tx.update(ones, state, trainable)
    free.append({name for name, leaf in tree.flatten(updates).items() if np.any(leaf)})
  assert free[0] < free[-1] == tree.flatten(trainable).keys()
  assert free == sorted(free, key=len)
  assert not any(name.startswith('layers/0') for name in free[1] if free[1] < free[2])


def names_of(method):
  return [how.name for how in method.regularizers]


ACTS = {
  'l2sp': l2sp_acts,
  'ewc': ewc_acts,
  'mixout': mixout_acts,
  'prior_decay': prior_decay_acts,
  'reinitialize': reinitialize_acts,
  'rdrop': rdrop_acts,
  'unfreeze': unfreeze_acts,
}


def test_every_method_is_under_the_law():
  assert METHODS.keys() == OPTIONS.keys()
  found = {name for name in OPTIONS if make(name).regularizers}
  assert found == set(REGULARIZERS) == ACTS.keys() == REFUSED.keys()
  assert all(names_of(make(name)) == [name] for name in REGULARIZERS)


@pytest.mark.parametrize('other', METHODS)
@pytest.mark.parametrize('name', REGULARIZERS)
def test_a_regularizer_acts_on_what_is_trained_or_is_refused(name, other):
  if name == other and name != 'ewc':
    with pytest.raises(ValueError, match=f'^{name}: composed with itself'):
      compose(make(name), make(other))
    return
  method, turned = compose(make(name), make(other)), compose(make(other), make(name))
  if other in REFUSED[name] or name in REFUSED.get(other, ()):
    for either in (method, turned):
      with pytest.raises(ValueError, match=f'^({name}|{other}): '):
        either.init(KEY, model_tree())
    return
  trainable, frozen = method.init(KEY, model_tree())
  axes = method.axes(
    jax.tree.map(lambda leaf: PartitionSpec(*[None] * leaf.ndim), model_tree())
  )
  assert jax.tree.structure(axes) == jax.tree.structure((trainable, frozen))
  for acting in {name, other} & ACTS.keys():
    ACTS[acting](method, trainable, frozen)
  if other not in ACTS:  # two regularizers come in both orders anyway
    assert identical((trainable, frozen), turned.init(KEY, model_tree()))
    plain = make(other).init(KEY, model_tree())[0]
    assert identical(trainable, plain) or name == 'reinitialize'


def identical(first, second):
  return jax.tree.structure(first) == jax.tree.structure(second) and all(
    np.array_equal(one, other)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
  )


# Everything that changes pre-trained weights or puts in new ones.
TRAINS = {name: make for name in OPTIONS if name not in REGULARIZERS} | {
  'pissa': lambda name: lora(rank=2, alpha=3, init='pissa'),
  'houlsby': lambda name: adapter(size=2),
  'prefix network': lambda name: prefix(2, network=3),
  'lora and norms': lambda name: compose(
    norms(), lora(rank=2), adapter(kind='parallel', size=2)
  ),
  'lora of all': lambda name: lora(r'.*kernel', rank=1, head=None),
}


@pytest.mark.parametrize('name', TRAINS)
def test_l2sp_is_its_formula_on_the_effective_weights(name):
  plain = TRAINS[name](name)
  method = compose(plain, l2sp(0.3, new=0.05))
  trainable, frozen = method.init(KEY, model_tree())
  other = moved(trainable)
  # What qlora and PiSSA hold is itself rounded; all else starts at the params.
  start, now = (tree.flatten(method.fuse(part, frozen)) for part in (trainable, other))
  wanted = 0.0
  for leaf_name, leaf in tree.flatten(model_tree()).items():
    if leaf_name.startswith(HEAD):
      trained = any(each.startswith(leaf_name) for each in tree.flatten(other))
      wanted += trained * 0.05 / 2 * np.square(now[leaf_name]).sum()
      continue
    if name != 'qlora':
      np.testing.assert_allclose(start[leaf_name], leaf, atol=1e-5)
    wanted += 0.3 / 2 * np.square(now[leaf_name] - start[leaf_name]).sum()
  wanted += sum(
    0.05 / 2 * np.square(leaf).sum()
    for leaf_name, leaf in tree.flatten(other).items()
    if plain.inserts(leaf_name)
  )
  np.testing.assert_allclose(method.penalty(other, frozen), wanted, rtol=1e-4)


@pytest.mark.parametrize(
  'name', [name for name in TRAINS if name not in (*NEW_ALONE, 'prefix network')]
)
def test_ewc_weighs_the_effective_weights_entry_by_entry(name):
  fisher = {
    leaf_name: jnp.square(noise(f'fisher/{leaf_name}', leaf))
    for leaf_name, leaf in tree.flatten(model_tree()).items()
    if not leaf_name.startswith(HEAD)
  }
  method = compose(TRAINS[name](name), ewc(strength=2.0))
  trainable, frozen = method.init(KEY, model_tree())
  frozen, other = with_fisher(frozen, fisher), moved(trainable)
  start, now = (tree.flatten(method.fuse(part, frozen)) for part in (trainable, other))
  wanted = sum(
    (value * np.square(now[leaf_name] - start[leaf_name])).sum()
    for leaf_name, value in fisher.items()
  )
  np.testing.assert_allclose(method.penalty(other, frozen), wanted, rtol=1e-4)
  given = compose(TRAINS[name](name), ewc(tree.unflatten(fisher), 2.0))
  np.testing.assert_allclose(
    given.penalty(other, given.init(KEY, model_tree())[1]), wanted, rtol=1e-4
  )


@pytest.mark.parametrize(
  'name', ['full', 'lora', 'pissa', 'dora', 'qlora', 'ia3', 'subset']
)
def test_mixout_leaves_each_entry_at_its_start_or_makes_up_for_those(name):
  method = compose(TRAINS[name](name), mixout(0.4))
  trainable, frozen = method.init(KEY, model_tree())
  other = moved(trainable)
  start, now = (tree.flatten(method.fuse(part, frozen)) for part in (trainable, other))
  mixed = tree.flatten(leaves.fuse(method.merge(other, frozen, key=KEY)))
  for leaf_name in now:
    if not leaf_name.endswith('kernel') or leaf_name.startswith(HEAD):
      np.testing.assert_allclose(mixed[leaf_name], now[leaf_name], atol=1e-6)
      continue
    # The paper's formula with a mask of zeros.
    kept = (now[leaf_name] - 0.4 * start[leaf_name]) / 0.6
    either = np.isclose(mixed[leaf_name], start[leaf_name], atol=1e-5) | np.isclose(
      mixed[leaf_name], kept, atol=1e-5
    )
    assert either.all(), leaf_name


def test_mixout_takes_learned_gates_and_refuses_dropout_of_inputs():
  compose(diff(), mixout()).init(KEY, model_tree())
  with pytest.raises(
    ValueError, match=r"^mixout: 'layers/0/attention/query/kernel' has dropout 0\.1"
  ):
    compose(lora(rank=2, dropout=0.1), mixout()).init(KEY, model_tree())


def test_three_at_once_add_up_and_share_one_start():
  method = compose(l2sp(0.3), lora(rank=2), ewc(strength=2.0), mixout(), norms())
  parts = [
    compose(lora(rank=2), norms(), how) for how in (l2sp(0.3), ewc(strength=2.0))
  ]
  trainable, frozen = method.init(KEY, model_tree())
  other = moved(trainable)
  wanted = sum(part.penalty(other, part.init(KEY, model_tree())[1]) for part in parts)
  np.testing.assert_allclose(method.penalty(other, frozen), wanted, rtol=1e-5)
  assert not hasattr(frozen.frozen, 'start')


def test_a_regularized_composition_composes():
  nested = compose(compose(lora(rank=2), l2sp(0.3)), compose(norms(), ewc()))
  flat = compose(lora(rank=2), norms(), l2sp(0.3), ewc())
  first, second = (method.init(KEY, model_tree()) for method in (nested, flat))
  assert identical(first, second)
  other = moved(first[0])
  assert (
    float(nested.penalty(other, first[1])) == float(flat.penalty(other, second[1])) > 0
  )


def test_what_starts_afresh_is_new_to_the_other_regularizers():
  method = compose(l2sp(0.3, new=0.0), ewc(), reinitialize(1, std=5.0))
  trainable, frozen = method.init(KEY, model_tree())
  other = tree.map_named(
    lambda name, leaf: leaf + name.startswith((TOP, HEAD)), trainable
  )
  assert float(method.penalty(other, frozen)) == 0.0
  below = tree.map_named(
    lambda name, leaf: leaf + name.startswith('layers/0'), trainable
  )
  assert float(method.penalty(below, frozen)) > 0.0


@pytest.mark.parametrize(
  'method',
  [prior_decay(0.2), unfreeze(1), compose(unfreeze(1), prior_decay(0.2)), l2sp()],
  ids=['prior_decay', 'unfreeze', 'both', 'neither'],
)
def test_the_average_is_of_the_weights_that_are_trained(method):
  params, _ = method.init(KEY, model_tree())
  tx = method.optimizer(
    rate_of_one(
      name='adamw',
      b1=0.9,
      lr=0.1,
      decay=0.1,
      ema=0.5,
      groups=((r'embedding/.*', None),),
    )
  )
  state, weights = tx.init(params), []
  for step in range(5):
    slopes = tree.map_named(
      lambda name, leaf, step=step: noise(f'{step}/{name}', leaf), params
    )
    updates, state = tx.update(slopes, state, params)
    params = jax.tree.map(jnp.add, params, updates)
    weights.append(tree.flatten(params))
  shares = 0.5 ** np.arange(4, -1, -1)
  for name, leaf in tree.flatten(optim.ema_params(state, params)).items():
    wanted = (
      sum(share * each[name] for share, each in zip(shares, weights, strict=True))
      / shares.sum()
    )
    np.testing.assert_allclose(leaf, wanted, rtol=1e-5, atol=1e-6, err_msg=name)


def test_prior_decay_follows_the_groups_of_the_optimizer():
  groups = (
    (r'embedding/.*', None),
    (r'.*(bias|scale)', dict(decay=0.0)),
    (r'layers/0/.*', dict(scale=0.5)),
  )
  method = prior_decay(0.1)
  params, _ = method.init(KEY, model_tree())
  tx, other = method.optimizer(rate_of_one(groups=groups)), moved(params)
  updates, _ = tx.update(jax.tree.map(jnp.zeros_like, other), tx.init(params), other)
  for name, update in tree.flatten(updates).items():
    held = name.startswith('embedding') or name.endswith(('bias', 'scale'))
    rate = 0.0 if held else 0.05 if name.startswith('layers/0') else 0.1
    start = 0.0 if name.startswith(HEAD) else tree.flatten(params)[name]
    np.testing.assert_allclose(
      update, -rate * (tree.flatten(other)[name] - start), rtol=1e-5, atol=1e-8
    )
  with pytest.raises(
    ValueError, match='^prior_decay: optim.groups leave it nothing to pull'
  ):
    method.optimizer(rate_of_one(groups=((r'(?!head).*', dict(decay=0.0)),))).init(
      params
    )


def test_two_sparse_changes_count_their_own_gates():
  parts = [
    diff(rf'.*{part}/kernel', penalty=size)
    for part, size in (('query', 1.0), ('out', 10.0))
  ]
  wanted = sum(float(part.penalty(*part.init(KEY, model_tree()))) for part in parts)
  both = compose(*parts)
  assert float(both.penalty(*both.init(KEY, model_tree()))) == pytest.approx(wanted)
