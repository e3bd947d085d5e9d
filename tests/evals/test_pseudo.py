"""Pseudo-log-likelihoods beside a model that is asked token by token."""

import jax
import numpy as np
import pytest

from tl_jax import models
from tl_jax.evals import pseudo

MASK = 4


def test_each_token_is_hidden_in_turn_whatever_the_rows():
  arch = models.arch('tiny', layers=1, vocabulary=30, head='masked')
  model = models.build(arch)
  params = model.init(jax.random.key(0))
  generator = np.random.default_rng(0)
  texts = [[2, *generator.integers(5, 30, size).tolist(), 3] for size in (3, 20)]
  expected = []
  for ids in texts:
    places = np.arange(1, len(ids) - 1)
    tokens = np.array([ids] * len(places), np.int32)
    tokens[places - 1, places] = MASK
    batch = dict(tokens=tokens, segments=np.ones_like(tokens))
    logits = model.apply(params, batch).logits
    chances = jax.nn.log_softmax(logits)[places - 1, places, np.array(ids)[places]]
    expected.append(float(chances.sum()))
  found = pseudo.likelihoods(model, params, texts, (1, 1), MASK, rows=4)
  assert found == pytest.approx(expected, abs=1e-4)


def test_a_text_of_no_tokens_is_numbered():
  with pytest.raises(ValueError, match='text 1: has no token'):
    pseudo.likelihoods(None, None, [[2, 7, 3], [2, 3]], (1, 1), MASK)
