"""ELECTRA: a generator fills in what is hidden, a discriminator finds what is not the
original.

>>> objective = electra(vocabulary=100, mask_id=4, special_ids=range(5))
>>> tokens = jnp.arange(10, 30).reshape(1, 20)
>>> batch = objective.prepare(jax.random.key(0), {'tokens': tokens})
>>> weights = objective.weights(batch)
>>> float(weights['generator']), float(weights['replaced'])
(3.0, 20.0)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from tl_jax import rng
from tl_jax.config import Count, Natural, Part, Positive
from tl_jax.objectives.losses import weighted_sum
from tl_jax.objectives.masked import MASKED, masked
from tl_jax.objectives.tokens import token_terms
from tl_jax.objectives.types import Entry, Mean, Objective, Term
from tl_jax.segments import segments_of

# Of the chosen tokens so many are hidden from the generator; the rest it sees.
HIDDEN = 0.85


def electra(
  *,
  vocabulary: Count,
  mask_id: Natural,
  special_ids: Sequence[int],
  rate: Part = 0.15,
  weight: Positive = 50.0,
) -> Objective:
  """Replaced token detection (Clark et al. 2020, section 2; hidden as in their code).

  vocabulary, mask_id, special_ids, rate: those of `masked`, which chooses the tokens;
  the paper's large model has a rate of .25. 85 % of them become `mask_id`, the others
  stay. The generator says of each what it was. In the place of each a token is drawn
  from what it says, and no gradient goes through that. The discriminator says of every
  real token whether it is another one than in the text. A token that was drawn right
  counts as original.

  weight: of the discriminator's loss beside the generator's. The model has a
  `generator`. The terms are `generator` (nats per chosen token) and `replaced` (nats
  per token), the metrics `accuracy` of the generator and `replaced_accuracy`.
  """
  hiding = masked(
    vocabulary=vocabulary, mask_id=mask_id, special_ids=special_ids, rate=rate
  )

  def prepare(key, batch):
    chosen = hiding.prepare(rng.stream(key, 'choice'), batch)
    targets = chosen['targets']
    hidden = jax.random.uniform(rng.stream(key, 'fate'), targets.shape) < HIDDEN
    seen = jnp.where(hidden, mask_id, targets).astype(targets.dtype)
    # A key for each row, so that the parts of a step draw what the whole would.
    keys = jax.random.split(rng.stream(key, 'sample'), len(targets))
    return chosen | dict(
      tokens=put(batch['tokens'], chosen, seen),
      sampling=jax.random.key_data(keys),
    )

  def loss(forward, batch, key):
    how = dict(train=key is not None)
    own_key = None if key is None else rng.stream(key, 'generator')
    outputs = forward(
      batch,
      key=own_key,
      keep=('readout',),
      score=batch['score'],
      generator=True,
      **how,
    )
    terms, metrics = token_terms('generator', outputs, batch)
    corrupted, replaced = corrupt(batch, outputs.logits)
    # What it reads is drawn: the discriminator teaches the generator nothing.
    logits = forward(corrupted, key=key, **how).logits
    real = _is_real(batch)
    terms['replaced'] = Term(weighted_sum(surprise(logits, replaced), real), weight)
    is_right = (logits > 0) == replaced
    metrics['replaced_accuracy'] = Mean(weighted_sum(is_right, real), real.sum())
    return terms, metrics

  return Objective(prepare, electra_weights, loss)


def electra_weights(batch):
  """The chosen tokens and the real ones."""
  chosen = batch['target_weights'].astype(jnp.float32)
  return dict(generator=chosen.sum(), replaced=_is_real(batch).sum())


def _is_real(batch):
  """1 for every token that is no padding, float32 (rows, length)."""
  return (segments_of(batch) > 0).astype(jnp.float32)


def put(tokens, batch, new):
  """The tokens (rows, length) with `new` (rows, K) at the chosen positions."""
  places = batch['score']
  old = jnp.take_along_axis(tokens, places, 1)
  # A slot that no chosen position fills holds some other position: it stays.
  kept = jnp.where(batch['target_weights'] > 0, new, old).astype(tokens.dtype)
  return jax.vmap(lambda row, at, values: row.at[at].set(values))(tokens, places, kept)


def corrupt(batch, logits):
  """The batch that the discriminator reads, and which tokens are replaced: bool (rows,
  length).

  logits (rows, K, vocabulary): what the generator says of the chosen positions. Of each
  one token is drawn with its probability (the largest of logits with Gumbel noise).
  """
  keys = jax.random.wrap_key_data(batch['sampling'])
  shape = logits.shape[1:]
  noise = jax.vmap(lambda key: jax.random.gumbel(key, shape))(keys)
  scores = jax.lax.stop_gradient(logits).astype(jnp.float32) + noise
  drawn = scores.argmax(-1)
  original = put(batch['tokens'], batch, batch['targets'])
  tokens = put(batch['tokens'], batch, drawn)
  return {**batch, 'tokens': tokens}, tokens != original


def surprise(logits, replaced):
  """The negative log likelihood of each answer, float32, under logits of `replaced`."""
  logits = logits.astype(jnp.float32)
  signed = jnp.where(replaced, logits, -logits)
  return jax.nn.softplus(-signed)


def _facts(tokenizer, length) -> dict:
  found = MASKED.facts(tokenizer, length)
  # It hides tokens, whatever words they are of.
  del found['continues']
  return found


ELECTRA = Entry(electra, 'replaced', ('encoder',), facts=_facts)
