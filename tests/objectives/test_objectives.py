"""Laws that every objective keeps: sums that add up, no weight no loss, jit and vmap
change nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.objectives import (
  OBJECTIVES,
  Mean,
  Nominal,
  Term,
  causal,
  classify,
  denoisers,
  infilling,
  joined_denoisers,
  masked,
  seq2seq,
  span,
)

VOCABULARY, ROWS, LENGTH, SLOTS, LABELS = 50, 8, 20, 3, 4


class Outputs(NamedTuple):
  logits: jax.Array


def text_batch(seed=0):
  random = np.random.default_rng(seed)
  lengths = random.integers(6, LENGTH + 1, (ROWS, 1))
  segments = (np.arange(LENGTH) < lengths) * np.where(
    np.arange(LENGTH) < lengths // 2, 1, 2
  )
  tokens = random.integers(5, 40, (ROWS, LENGTH)) * (segments > 0)
  return {
    'tokens': jnp.asarray(tokens, jnp.int32),
    'segments': jnp.asarray(segments, jnp.int32),
  }


def pair_batch(seed=0):
  batch = text_batch(seed)
  return {
    **batch,
    'decoder_tokens': batch['tokens'][:, ::-1][:, :12],
    'decoder_segments': batch['segments'][:, :12],
  }


def label_batch(seed=0, kind='single_label'):
  random = np.random.default_rng(seed)
  examples = np.array([[1, 2, 0]] * (ROWS - 1) + [[1, 0, 0]])
  shape = (ROWS, SLOTS) if kind == 'single_label' else (ROWS, SLOTS, LABELS)
  labels = (
    random.integers(0, 2, shape) if kind != 'regression' else random.normal(size=shape)
  )
  return {
    **text_batch(seed),
    'examples': jnp.asarray(examples),
    'labels': jnp.asarray(labels),
  }


CASES = {
  'masked': (
    masked(vocabulary=VOCABULARY, mask_id=4, special_ids=range(5)),
    text_batch(),
  ),
  'masked words': (
    masked(
      vocabulary=VOCABULARY,
      mask_id=4,
      special_ids=range(5),
      masking='words',
      continues=np.arange(VOCABULARY) > 25,
    ),
    text_batch(),
  ),
  'causal': (causal(), text_batch()),
  'causal smoothed': (causal(smoothing=0.1), text_batch()),
  'span': (span(sentinels=range(49, 40, -1), pad_id=0, eos_id=1), text_batch()),
  'denoisers': (
    denoisers(
      sentinels=range(49, 40, -1), pad_id=0, eos_id=1, encode=lambda mode: (2, 3)
    ),
    text_batch(),
  ),
  'joined_denoisers': (
    joined_denoisers(
      sentinels=range(49, 40, -1), pad_id=0, eos_id=1, encode=lambda mode: (2, 3)
    ),
    text_batch(),
  ),
  'infilling': (
    infilling(
      mask_id=4,
      stop_id=9,
      pad_id=0,
      start_id=1,
      special_ids=range(5),
      continues=np.arange(VOCABULARY) > 25,
    ),
    text_batch(),
  ),
  'seq2seq': (seq2seq(), pair_batch()),
  'single_label': (classify(labels=LABELS, smoothing=0.1), label_batch()),
  'multi_label': (
    classify(labels=LABELS, kind='multi_label'),
    label_batch(kind='multi_label'),
  ),
  'regression': (
    classify(labels=LABELS, kind='regression'),
    label_batch(kind='regression'),
  ),
}


def quick_for(*quick):
  return pytest.mark.parametrize(
    'case',
    [
      pytest.param(case, marks=[] if case in quick else pytest.mark.slow)
      for case in CASES
    ],
  )


# What spans draw is compiled long, one of these laws is enough for it.
most = quick_for(
  'masked', 'causal', 'seq2seq', 'single_label', 'multi_label', 'regression'
)


def parameters():
  draw = np.random.default_rng(1).normal
  return {
    'tokens': jnp.asarray(draw(size=(VOCABULARY, 6)), jnp.float32),
    'labels': jnp.asarray(draw(size=(6, LABELS)), jnp.float32),
  }


def forward_of(params):
  """A model with no context: what it says at a place depends on the token there alone."""

  def forward(batch, *, key=None, train=False, score=None, keep=()):
    hidden = params['tokens'][batch.get('decoder_tokens', batch['tokens'])]
    if 'examples' in batch:
      return Outputs(jnp.cumsum(hidden, 1)[:, :SLOTS] @ params['labels'])
    if score is not None:
      hidden = jnp.take_along_axis(hidden, score[..., None], 1)
    return Outputs(hidden @ params['tokens'].T)

  return forward


def total(objective, params, batch, weights):
  terms, _ = objective.loss(forward_of(params), batch, jax.random.key(2))
  return sum(
    term.coefficient * term.sum / weights[name] for name, term in terms.items()
  )


# That micro-batches of labels add up, the step shows.
@quick_for('masked')
def test_two_uneven_parts_add_up_to_the_whole(case):
  objective, batch = CASES[case]
  batch, params = jax.jit(objective.prepare)(jax.random.key(0), batch), parameters()
  weights = objective.weights(batch)
  assert all(float(weight) > 0 for weight in weights.values())
  score = jax.jit(
    jax.value_and_grad(lambda params, batch: total(objective, params, batch, weights))
  )
  whole, gradient = score(params, batch)
  parts = [jax.tree.map(lambda x: x[:3], batch), jax.tree.map(lambda x: x[3:], batch)]
  values, gradients = zip(*(score(params, part) for part in parts), strict=True)
  np.testing.assert_allclose(sum(values), whole, rtol=1e-5)
  jax.tree.map(
    lambda a, b, c: np.testing.assert_allclose(a + b, c, rtol=1e-4, atol=1e-6),
    *gradients,
    gradient,
  )
  separate = [objective.weights(part) for part in parts]
  for name in weights:
    np.testing.assert_allclose(separate[0][name] + separate[1][name], weights[name])


@quick_for(
  'masked', 'causal', 'span', 'seq2seq', 'single_label', 'multi_label', 'regression'
)
def test_terms_and_metrics_have_the_promised_form(case):
  objective, batch = CASES[case]
  batch = jax.jit(objective.prepare)(jax.random.key(0), batch)
  terms, metrics = jax.jit(
    lambda batch: objective.loss(forward_of(parameters()), batch, None)
  )(batch)
  assert terms.keys() == objective.weights(batch).keys()
  assert all(
    isinstance(term, Term) and term.sum.shape == () and term.sum.dtype == jnp.float32
    for term in terms.values()
  )
  assert metrics and all(
    isinstance(mean, Mean) and float(mean.weight) > 0 for mean in metrics.values()
  )
  assert all(leaf.shape[0] == ROWS for leaf in batch.values())


@most
def test_nothing_to_learn_from_is_zero_loss_and_zero_gradient(case):
  objective, batch = CASES[case]
  batch = jax.tree.map(jnp.zeros_like, batch)
  batch = jax.jit(objective.prepare)(jax.random.key(0), batch)
  assert all(float(weight) == 0 for weight in objective.weights(batch).values())
  ones = {name: 1.0 for name in objective.weights(batch)}
  loss, gradient = jax.jit(
    jax.value_and_grad(lambda p: total(objective, p, batch, ones))
  )(parameters())
  assert float(loss) == 0 and all(not leaf.any() for leaf in jax.tree.leaves(gradient))


@most
def test_jit_and_vmap_draw_and_sum_the_same(case):
  objective, batch = CASES[case]
  keys = jax.random.split(jax.random.key(7), 2)
  eager = [objective.prepare(key, batch) for key in keys]
  mapped = jax.jit(jax.vmap(objective.prepare, in_axes=(0, None)))(keys, batch)
  for member in range(2):
    for name in eager[member]:
      assert (
        np.asarray(mapped[name])[member] == np.asarray(eager[member][name])
      ).all(), name
  ones = {name: 1.0 for name in objective.weights(eager[0])}
  losses = jax.jit(jax.vmap(lambda b: total(objective, parameters(), b, ones)))(mapped)
  np.testing.assert_allclose(
    losses, [total(objective, parameters(), b, ones) for b in eager], rtol=1e-5
  )


def test_every_objective_is_in_the_table_under_its_own_name():
  for name, entry in OBJECTIVES.items():
    assert entry.make.__name__ == name


@pytest.mark.parametrize('name', [name for name in OBJECTIVES if name != 'classify'])
def test_an_objective_is_made_of_its_facts_alone(name):
  entry = OBJECTIVES[name]
  tokenizer = Nominal(pad=9)
  made = entry.make(**entry.facts(tokenizer, 16))
  batch = pair_batch() if entry.reads == 'pairs' else text_batch()
  # Compiled as a whole, which takes less than its operations one by one.
  prepared = jax.jit(made.prepare)(jax.random.key(0), batch)
  assert entry.kinds and entry.head in ('masked', 'causal', 'replaced')
  if name == 'seq2seq':
    # The decoder starts where the tokenizer pads, not where the default says.
    assert (np.asarray(prepared['decoder_tokens'])[:, 0] == 9).all()


def test_causal_never_asks_for_a_token_of_another_segment():
  batch = CASES['causal'][0].prepare(None, text_batch())
  tokens, segments, weights = (
    np.asarray(batch[name]) for name in ('tokens', 'segments', 'target_weights')
  )
  for row, place in np.ndindex(*weights.shape):
    inside = (
      place + 1 < LENGTH
      and segments[row, place] > 0
      and segments[row, place + 1] == segments[row, place]
    )
    assert weights[row, place] == inside
    assert not inside or batch['targets'][row, place] == tokens[row, place + 1]


def test_seq2seq_reads_each_target_one_place_late():
  batch = {
    'tokens': jnp.ones((1, 2), jnp.int32),
    'decoder_tokens': jnp.array([[7, 8, 1, 9, 1, 0]]),
    'decoder_segments': jnp.array([[1, 1, 1, 2, 2, 0]]),
  }
  out = seq2seq(start_id=3).prepare(None, batch)
  assert out['decoder_tokens'].tolist() == [[3, 7, 8, 3, 9, 3]]
  assert out['targets'].tolist() == [[7, 8, 1, 9, 1, 0]]
  assert out['decoder_positions'].tolist() == [[0, 1, 2, 0, 1, 0]]
  assert out['target_weights'].tolist() == [[1, 1, 1, 1, 1, 0]]
  again = seq2seq(start_id=3).prepare(None, out)
  assert all((again[name] == out[name]).all() for name in out)


def test_smoothing_is_cross_entropy_with_a_softened_target():
  logits = jnp.asarray(np.random.default_rng(0).normal(size=(5, LABELS)), jnp.float32)
  labels = jnp.array([0, 1, 2, 3, 0])
  terms, _ = classify(labels=LABELS, smoothing=0.2).loss(
    lambda *a, **k: Outputs(logits), {'labels': labels}, None
  )
  soft = 0.8 * np.eye(LABELS)[labels] + 0.2 / LABELS
  np.testing.assert_allclose(
    terms['classify'].sum, -(soft * jax.nn.log_softmax(logits)).sum(), rtol=1e-5
  )


def test_unpacked_rows_packed_rows_and_unknown_labels_weigh_alike():
  logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, LABELS)), jnp.float32)
  objective = classify(labels=LABELS)
  flat = {
    'labels': jnp.array([1, 2, -1, 0]),
    'segments': jnp.array([[1], [1], [1], [0]]),
  }
  packed = {'labels': jnp.array([[1, 2, 3, 0]]), 'examples': jnp.array([[1, 2, 0, 0]])}
  results = [
    objective.loss(lambda *a, logits=x, **k: Outputs(logits), batch, None)
    for x, batch in ((logits, flat), (logits[None], packed))
  ]
  assert (
    float(objective.weights(flat)['classify'])
    == float(objective.weights(packed)['classify'])
    == 2
  )
  assert results[0][0]['classify'].sum == results[1][0]['classify'].sum
  assert results[0][1]['accuracy'].sum == results[1][1]['accuracy'].sum


def test_sigmoid_and_squared_losses_against_their_formulas():
  random = np.random.default_rng(2)
  logits, truth = (
    random.normal(size=(6, LABELS)),
    random.integers(0, 2, (6, LABELS)).astype(np.float32),
  )
  forward = lambda *a, **k: Outputs(jnp.asarray(logits, jnp.float32))
  terms, metrics = classify(labels=LABELS, kind='multi_label').loss(
    forward, {'labels': jnp.asarray(truth)}, None
  )
  chance = 1 / (1 + np.exp(-logits))
  expected = -(truth * np.log(chance) + (1 - truth) * np.log(1 - chance)).mean(1).sum()
  np.testing.assert_allclose(terms['classify'].sum, expected, rtol=1e-5)
  np.testing.assert_allclose(
    metrics['accuracy'].sum, ((logits > 0) == (truth > 0)).mean(1).sum(), rtol=1e-6
  )
  one = lambda *a, **k: Outputs(jnp.asarray(logits[:, :1], jnp.float32))
  terms, metrics = classify(labels=1, kind='regression').loss(
    one, {'labels': jnp.asarray(truth[:, 0])}, None
  )
  np.testing.assert_allclose(
    terms['classify'].sum, ((logits[:, 0] - truth[:, 0]) ** 2).sum(), rtol=1e-5
  )
  np.testing.assert_allclose(
    metrics['absolute_error'].sum, abs(logits[:, 0] - truth[:, 0]).sum(), rtol=1e-5
  )


def test_bfloat16_logits_are_summed_in_float32():
  logits = jnp.asarray(
    np.random.default_rng(0).normal(size=(ROWS, LENGTH, VOCABULARY)), jnp.bfloat16
  )
  objective = causal()
  batch = objective.prepare(None, text_batch())
  exact, _ = objective.loss(
    lambda *a, **k: Outputs(logits.astype(jnp.float32)), batch, None
  )
  narrow, _ = objective.loss(lambda *a, **k: Outputs(logits), batch, None)
  assert narrow['causal'].sum == exact['causal'].sum


def test_a_head_of_another_size_is_named():
  with pytest.raises(ValueError, match=r'the logits have shape \(2, 3\), not \(2, 4\)'):
    classify(labels=4).loss(
      lambda *a, **k: Outputs(jnp.zeros((2, 3))),
      {'labels': jnp.zeros(2, jnp.int32)},
      None,
    )


def test_only_one_label_can_be_smoothed():
  with pytest.raises(ValueError, match='smoothing'):
    classify(labels=4, kind='regression', smoothing=0.1)


def test_behind_a_prefix_of_any_length_every_token_is_predicted():
  segments = jnp.broadcast_to(
    jnp.repeat(jnp.array([1, 2, 0]), jnp.array([6, 4, 2])), (900, 12)
  )
  tokens = jnp.broadcast_to(jnp.arange(12), (900, 12))
  batch = {'tokens': tokens, 'segments': segments}
  out = jax.device_get(causal(prefix=True).prepare(jax.random.key(0), batch))
  seen, weights = out['seen'], out['target_weights']
  for first, n in ((0, 6), (6, 4)):
    read = seen[:, first : first + n]
    lengths = read.sum(1)
    assert (read == (np.arange(n) < lengths[:, None])).all()
    counts = np.bincount(lengths, minlength=n)
    assert counts[0] == 0 and abs(counts[1:] - 900 / (n - 1)).max() < 60
    # The first target is that of the prefix's last token.
    assert (weights[:, first : first + n].sum(1) == n - lengths).all()
    last = weights[np.arange(900), first + lengths - 1]
    assert (last == 1).all() and not weights[:, first + n - 1].any()
  assert not seen[:, 10:].any()
