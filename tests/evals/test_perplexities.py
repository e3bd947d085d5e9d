"""Perplexities of documents beside the sum of their tokens' losses, one at a time."""

import math

import jax
import numpy as np
import pytest

from tl_jax import interop, models
from tl_jax.data import tokenizers
from tl_jax.evals import perplexities

TEXTS = ['a ship on the sea', '', 'wind ' * 70, 'the law']


def loaded(family, head, **more):
  texts = ['a ship on the sea with wind', 'the law of the court'] * 4
  kind = 'wordpiece' if head == 'masked' else 'bpe'
  tokenizer = tokenizers.train(texts, kind, 300)
  arch = models.arch(
    family,
    width=16,
    heads=2,
    layers=1,
    vocabulary=tokenizer.vocabulary_size,
    head=head,
    **more,
  )
  model = models.build(arch)
  return interop.Loaded(model, model.init(jax.random.key(0)), tokenizer, arch)


def chances(model, params, ids):
  tokens = np.array([ids], np.int32)
  batch = dict(tokens=tokens, segments=np.ones_like(tokens))
  return jax.nn.log_softmax(model.apply(params, batch).logits)[0]


def test_a_decoder_is_asked_for_every_token_behind_those_of_its_window():
  found = loaded('tiny-gpt', 'causal')
  own = perplexities.scorer(found)(TEXTS)
  reader = perplexities.reader_of(found)
  for text, score in zip(TEXTS, own, strict=True):
    ids = found.tokenizer.encode_batch([text], special=False)[0]
    losses = []
    for window, before in perplexities.windows(ids, reader.before, [], reader.longest):
      said = chances(found.model, found.params, window)
      places = range(before, len(window))
      losses += [-float(said[place - 1, window[place]]) for place in places]
    if losses:
      assert score == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
    else:
      assert math.isnan(score)


def test_of_an_encoder_a_seventh_is_hidden_at_a_time():
  found = loaded('tiny', 'masked')
  reader = perplexities.reader_of(found)
  (text,) = TEXTS[:1]
  (score,) = perplexities.scorer(found)([text])
  ids = found.tokenizer.encode_batch([text], special=False)[0]
  [(window, before)] = perplexities.windows(ids, reader.before, reader.behind, 128)
  own = range(before, before + len(ids))
  losses = []
  for turn in range(perplexities.PASSES):
    hidden = [place for place in own if place % perplexities.PASSES == turn]
    seen = [reader.mask if place in hidden else id for place, id in enumerate(window)]
    said = chances(found.model, found.params, seen)
    losses += [-float(said[place, window[place]]) for place in hidden]
  assert len(losses) == len(ids)
  assert score == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)


def test_a_text_has_the_same_perplexity_in_any_company():
  score = perplexities.scorer(loaded('tiny-gpt', 'causal'))
  together = score(TEXTS)
  alone = [score([text])[0] for text in TEXTS]
  np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_a_model_without_a_word_for_tokens_is_refused():
  found = loaded('tiny', 'masked')
  bodies = found._replace(arch=models.arch('tiny', layers=1, head='none'))
  with pytest.raises(ValueError, match="an encoder with the head 'none' finds no text"):
    perplexities.scorer(bodies)


def test_a_model_that_diverged_is_said():
  found = loaded('tiny-gpt', 'causal')
  broken = jax.tree.map(lambda leaf: leaf * np.nan, found.params)
  with pytest.raises(ValueError, match='no finite loss'):
    perplexities.scorer(found._replace(params=broken))(TEXTS)
