"""The diagonal Fisher information against closed forms, and its three ways against each
other.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import objectives
from tl_jax.transfer.fisher import fisher_diagonal


def softmax_model(params, example):
  return jax.nn.log_softmax(example['x'] @ params['kernel'] + params['bias'])


@pytest.fixture
def setting():
  generator = np.random.default_rng(0)
  params = {
    'kernel': jnp.asarray(generator.normal(size=(3, 4)), jnp.float32),
    'bias': jnp.asarray(generator.normal(size=4), jnp.float32),
  }
  return params, {'x': jnp.asarray(generator.normal(size=(11, 3)), jnp.float32)}


def closed_form(params, x, weights):
  """The squares of (1[label] - p) and of its outer product with x, each label by its
  weight (n, classes).
  """
  chances = np.asarray(jax.nn.softmax(x @ params['kernel'] + params['bias']))
  bias, kernel = np.zeros(4), np.zeros((3, 4))
  for row, p, weight in zip(np.asarray(x), chances, weights, strict=True):
    for label in range(4):
      slope = np.eye(4)[label] - p
      bias += weight[label] * slope**2 / len(x)
      kernel += weight[label] * np.outer(row, slope) ** 2 / len(x)
  return dict(bias=bias, kernel=kernel)


def agree(found, expected, tolerance=1e-5):
  for name, leaf in expected.items():
    np.testing.assert_allclose(
      found[name], leaf, rtol=tolerance, atol=tolerance / 10, err_msg=name
    )


@pytest.mark.parametrize('batch', [1, 4, 11, 64])
def test_the_expectation_is_the_closed_form(setting, batch):
  params, examples = setting
  chances = jax.nn.softmax(examples['x'] @ params['kernel'] + params['bias'])
  found = fisher_diagonal(softmax_model, params, examples, batch=batch)
  agree(found, closed_form(params, examples['x'], np.asarray(chances)))
  # For a softmax, the variance of the label: p (1 - p).
  np.testing.assert_allclose(
    found['bias'], (chances * (1 - chances)).mean(0), rtol=1e-5
  )


def read_as(kind, groups=()):
  """A linear model whose outputs an objective reads."""
  prediction = objectives.classify(labels=4, kind=kind, groups=groups).prediction

  def model(params, example):
    outputs = example['x'] @ params['kernel'] + params['bias']
    return prediction.log_probabilities(outputs, example['label'])

  return model


def test_each_example_has_the_information_of_the_labels_of_its_own_task(setting):
  params, examples = setting
  label = np.arange(11) % 4
  groups = ((0, 1), (1, 4))  # one label has nothing to choose from, so it tells nothing
  found = fisher_diagonal(
    read_as('single_label', groups), params, examples | dict(label=label)
  )
  logits = np.asarray(examples['x'] @ params['kernel'] + params['bias'])
  chances = np.zeros((11, 4))
  for row, own in enumerate(slice(*groups[int(value > 0)]) for value in label):
    chances[row, own] = np.exp(logits[row, own]) / np.exp(logits[row, own]).sum()
  np.testing.assert_allclose(
    found['bias'], (chances * (1 - chances)).mean(0), rtol=1e-5, atol=1e-7
  )
  assert found['bias'][0] == 0 and found['bias'][1] > 0


def test_the_information_of_independent_labels_adds_up(setting):
  params, examples = setting
  found = fisher_diagonal(
    read_as('multi_label'), params, examples | dict(label=np.zeros(11))
  )
  chances = np.asarray(
    jax.nn.sigmoid(examples['x'] @ params['kernel'] + params['bias'])
  )
  variances = chances * (1 - chances)
  agree(
    found,
    dict(
      bias=variances.mean(0),
      kernel=np.einsum('ni,nk->ik', np.square(examples['x']), variances) / 11,
    ),
  )
  assert (
    objectives.classify(labels=4, kind='regression').prediction.log_probabilities
    is None
  )


def test_given_labels_are_the_empirical_information(setting):
  params, examples = setting
  labels = np.arange(11) % 4
  agree(
    fisher_diagonal(softmax_model, params, examples, labels=labels, batch=4),
    closed_form(params, examples['x'], np.eye(4)[labels]),
  )


def test_samples_come_near_the_expectation_and_do_not_depend_on_the_batch(setting):
  params, examples = setting
  exact = fisher_diagonal(softmax_model, params, examples)
  agree(fisher_diagonal(softmax_model, params, examples, 0, samples=1000), exact, 0.1)
  one, same, other = (
    fisher_diagonal(softmax_model, params, examples, key, samples=1, batch=batch)
    for key, batch in ((7, 3), (jax.random.key(7), 11), (8, 3))
  )
  agree(one, same)
  assert not np.allclose(one['bias'], other['bias'])


def test_structure_is_kept_arithmetic_is_wide_and_indices_have_no_information(setting):
  params, examples = setting
  narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
  held = dict(narrow, order=jnp.arange(3), hole=None)
  function = jax.jit(
    lambda params, examples: fisher_diagonal(
      lambda params, example: softmax_model(
        dict(params, kernel=params['kernel'][params['order']]), example
      ),
      params,
      examples,
    )
  )
  found = function(held, examples)
  assert jax.tree.structure(found) == jax.tree.structure(held)
  assert (
    all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    and not found['order'].any()
  )
  exact = fisher_diagonal(softmax_model, params, examples)
  np.testing.assert_allclose(found['kernel'], exact['kernel'], rtol=0.1, atol=0.01)


@pytest.mark.parametrize(
  'arguments, said',
  [
    (dict(examples={'x': jnp.zeros((0, 3))}), 'leading axis of at least 1'),
    (dict(examples={'x': jnp.zeros((2, 3)), 'y': jnp.zeros(3)}), r'got \(2,\), \(3,\)'),
    (dict(examples={}), 'no array'),
    (dict(samples=1), 'needs a key, and no labels'),
    (dict(samples=1, key=0, labels=np.zeros(11, int)), 'needs a key, and no labels'),
    (dict(labels=np.zeros(3, int)), r'labels: 11 examples need the shape \(11,\)'),
    (dict(samples=-1), 'samples -1'),
    (dict(batch=0), 'batch 0'),
  ],
)
def test_bad_arguments_are_named(setting, arguments, said):
  params, examples = setting
  with pytest.raises(ValueError, match=f'^fisher_diagonal: .*{said}'):
    fisher_diagonal(softmax_model, params, **dict(dict(examples=examples), **arguments))


def tokens_model(params, example):
  """Log-probabilities (3, 4) of three decisions, of which the last is none."""
  logits = example['x'] @ params['kernel'] + params['bias']
  found = jax.nn.log_softmax(jnp.stack([logits, 2 * logits, logits]))
  return found * jnp.array([1.0, 1.0, 0.0])[:, None]


def test_of_several_decisions_the_information_adds_up(setting):
  """As of a text: of each of its tokens, given those before it."""
  params, examples = setting
  found = fisher_diagonal(tokens_model, params, examples, 0, samples=4000)
  first = fisher_diagonal(softmax_model, params, examples)

  def second(params, example):
    return jax.nn.log_softmax(2 * (example['x'] @ params['kernel'] + params['bias']))

  other = fisher_diagonal(second, params, examples)
  for name, leaf in first.items():
    np.testing.assert_allclose(found[name], leaf + other[name], rtol=0.1)
  # What was really said, of every example and decision.
  said = np.random.default_rng(1).integers(0, 4, (11, 3))
  empirical = fisher_diagonal(tokens_model, params, examples, labels=said)
  slopes = []
  for x, (one, two, _) in zip(np.asarray(examples['x']), said, strict=True):
    example = {'x': jnp.asarray(x)}
    score = lambda p, e=example, a=one, b=two: softmax_model(p, e)[a] + second(p, e)[b]
    slopes.append(jax.grad(score)(params)['kernel'])
  expected = jnp.square(jnp.stack(slopes)).mean(0)
  np.testing.assert_allclose(empirical['kernel'], expected, rtol=1e-4, atol=1e-6)
  with pytest.raises(ValueError, match='samples: decisions of the shape .3,. need'):
    fisher_diagonal(tokens_model, params, examples)
