"""What becomes of a pre-trained pooler: a transfer copies it, a probe holds it,
pre-training that goes on keeps it.
"""

import json

import jax
import numpy as np
import pytest

from tl_jax import config, interop, models, train, tree
from tl_jax.checkpoint import Store
from tl_jax.train import Reporter, assembly, evaluators, preparing, running
from tl_jax.train.checks import check
from tl_jax.train.features import holds_body

SMALL = [
  ('data.length', '32'),
  ('data.batch', '4'),
  ('schedule.steps', '2'),
  ('schedule.warmup', '1'),
  ('log.tensorboard', 'false'),
]
TASK = [('task.test', '12')]
POOLER = ('pooler/kernel', 'pooler/bias')
PAIR = ('head/pair/kernel', 'head/pair/bias')


@pytest.fixture(scope='module')
def bert(pretrained, tmp_path_factory):
  """A folder as Google published BERT: masked head, pooler, and the head for the next
  sentence.
  """
  tokenizer = train.load(pretrained).tokenizer
  arch = models.arch(
    'tiny',
    layers=1,
    vocabulary=tokenizer.vocabulary_size,
    head='masked',
    pair_head=True,
  )
  model = models.build(arch)
  params = jax.tree.map(lambda leaf: leaf + 0.01, model.init(jax.random.key(3)))
  folder = tmp_path_factory.mktemp('pooler') / 'bert'
  return interop.save(folder, interop.Loaded(model, params, tokenizer, arch))


def settings_of(file, *more):
  return config.load(f'configs/{file}', [*SMALL, *more])


def account_of(workdir):
  return {
    leaf['target']: leaf['outcome']
    for leaf in json.loads((workdir / 'account.json').read_text())['leaves']
  }


def same(name, one, other):
  return np.array_equal(tree.flatten(one)[name], tree.flatten(other)[name])


def test_the_folder_says_what_it_is(bert):
  assert json.loads((bert / 'config.json').read_text())['architectures'] == [
    'BertForPreTraining'
  ]


def test_a_probe_trains_the_head_alone_and_says_so(bert, tmp_path):
  said = []
  chosen = settings_of(
    f'transfer.py:task=sentiment,method=probe,init={bert},labels=8', *TASK
  )
  result = train.transfer(
    chosen, tmp_path, Reporter(said.append, lambda *_, **figures: None)
  )
  assert (
    result['trained'] == ['head/bias', 'head/kernel']
    and result['trained_parameters'] == 64 * 2 + 2
  )
  assert any(
    line.startswith('probe trains 130 of ')
    and line.endswith(': head/bias, head/kernel')
    for line in said
  )
  account = account_of(tmp_path)
  assert {account[name] for name in POOLER} == {'copied'} and account[
    'head/kernel'
  ] == 'fresh'
  source, after = interop.load(bert).params, train.restore(tmp_path)
  assert all(same(name, source, after) for name in POOLER)


def test_a_pooler_that_a_task_brought_is_trained_by_it_and_kept_by_the_next(
  pretrained, tmp_path
):
  first = settings_of(
    f'transfer.py:task=sentiment,method=probe,init={pretrained},labels=8', *TASK
  )
  result = train.transfer(first, tmp_path / 'first')
  assert result['trained'] == [
    'head/bias',
    'head/kernel',
    'head/pooler/bias',
    'head/pooler/kernel',
  ]
  loaded = train.load(tmp_path / 'first')
  kept = train.restore(tmp_path / 'first')['head']['pooler']['kernel']
  np.testing.assert_array_equal(loaded.params['pooler']['kernel'], kept)
  # As from the folder that is made of it.
  exported = interop.load(interop.save(tmp_path / 'exported', loaded))
  assert (
    exported.arch.keeps_pooler
    and tree.flatten(exported.params).keys() == tree.flatten(loaded.params).keys()
  )
  second = settings_of(
    f'transfer.py:task=topic,method=probe,init={tmp_path / "first"},labels=12', *TASK
  )
  ready = preparing.prepare(check(second), tmp_path)
  params = ready.params(0)
  np.testing.assert_array_equal(params['pooler']['kernel'], kept)
  trained = assembly.trained_leaves(ready.parts, ready.parts.init(params, 0).trainable)
  assert set(trained) == {'head/bias', 'head/kernel'}


def test_features_of_a_held_pooler_give_what_texts_give(bert, tmp_path):
  chosen = settings_of(
    f'transfer.py:task=sentiment,method=probe,init={bert},labels=8', *TASK
  )
  ready = preparing.prepare(check(chosen), tmp_path)
  assert holds_body(ready.parts)
  state = ready.parts.init(ready.params(0), 0)
  evaluator = evaluators.TaskEvaluator(ready.corpus, ready.parts)
  found = evaluator.outputs(state)
  evaluator._features = None
  np.testing.assert_allclose(found, evaluator.outputs(state), atol=1e-6)


@pytest.mark.parametrize(
  'method, moves',
  [
    ('lora', False),
    ('last', True),
    pytest.param('bitfit', True, marks=pytest.mark.slow),
  ],
)
def test_which_methods_train_a_pre_trained_pooler(bert, tmp_path, method, moves):
  chosen = settings_of(
    f'transfer.py:task=sentiment,method={method},init={bert},labels=8', *TASK
  )
  ready = preparing.prepare(check(chosen), tmp_path)
  state = ready.parts.init(ready.params(0), 0)
  assert ('pooler/bias' in tree.flatten(state.trainable)) is moves


def test_a_regularizer_pulls_the_pooler_to_where_it_was(bert, tmp_path):
  chosen = settings_of(
    f'transfer.py:task=sentiment,method=l2sp,init={bert},labels=8', *TASK
  )
  ready = preparing.prepare(check(chosen), tmp_path)
  state = ready.parts.init(ready.params(0), 0)
  gradient = jax.grad(ready.parts.method.penalty)(state.trainable, state.frozen)
  assert not np.any(gradient['pooler']['kernel']) and np.any(gradient['head']['kernel'])
  moved = {
    **state.trainable,
    'pooler': jax.tree.map(lambda leaf: leaf + 1.0, state.trainable['pooler']),
  }
  gradient = jax.grad(ready.parts.method.penalty)(moved, state.frozen)
  np.testing.assert_allclose(gradient['pooler']['kernel'], 0.01, rtol=1e-4)


@pytest.mark.parametrize(
  'average', [pytest.param('None', marks=pytest.mark.slow), '0.9']
)
def test_pre_training_that_goes_on_leaves_what_it_does_not_read_as_it_was(
  bert, tmp_path, average
):
  chosen = settings_of(
    f'adapt.py:init={bert},text=debian',
    ('optim.decay', '0.5'),
    ('optim.lr', '0.1'),
    ('optim.groups', '()'),
    ('optim.ema', average),
    ('eval.batches', '1'),
  )
  result = running.pretrain(chosen, tmp_path / 'on')
  assert (
    not {*POOLER, *PAIR} & set(result['trained']) and 'head/bias' in result['trained']
  )
  source, after = interop.load(bert), train.load(tmp_path / 'on')
  assert all(same(name, source.params, after.params) for name in (*POOLER, *PAIR))
  assert not same('head/transform/kernel', source.params, after.params)
  again = interop.load(interop.save(tmp_path / 'written', after))
  assert again.arch.pair_head and all(
    same(name, source.params, again.params) for name in (*POOLER, *PAIR)
  )


@pytest.mark.parametrize(
  'method', ['probe', pytest.param('full', marks=pytest.mark.slow)]
)
def test_a_workdir_of_before_opens(pretrained, tmp_path, method):
  """Every pooler was called `pooler`, and what a model is did not say whose it is."""
  chosen = settings_of(
    f'transfer.py:task=sentiment,method={method},init={pretrained},labels=8', *TASK
  )
  train.transfer(chosen, tmp_path / 'now')
  now = train.open_workdir(tmp_path / 'now')
  meta = Store(tmp_path / 'now' / 'checkpoints').meta(2)
  meta['arch'].pop('pooler_place')
  trees = {part: tree.flatten(getattr(now, part)) for part in ('trainable', 'frozen')}
  old = {
    part: {
      name.replace('head/pooler/', 'pooler/'): leaf for name, leaf in leaves.items()
    }
    for part, leaves in trees.items()
  }
  assert 'pooler/kernel' in old['trainable']
  before = tmp_path / 'before'
  before.mkdir()
  for file in ('config.json', 'tokenizer.json'):
    (before / file).write_bytes((tmp_path / 'now' / file).read_bytes())
  store = Store(before / 'checkpoints')
  store.prepare()
  store.save(2, {part: tree.unflatten(leaves) for part, leaves in old.items()}, meta)
  store.wait()
  then = train.open_workdir(before)
  assert then.arch == now.arch
  jax.tree.map(np.testing.assert_array_equal, then.params, now.params)
