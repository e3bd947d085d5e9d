"""An outline has the shapes that the run has, and reads none of its texts."""

import jax
import pytest

from tl_jax import config, data
from tl_jax.train import checks, outline, preparing, programs

SPECS = (
  'configs/pretrain.py:tiny,text=vader_nyt',
  'configs/pretrain.py:tiny-t5,text=vader_nyt',
  'configs/pretrain.py:tiny-ul2,text=vader_nyt',
  'configs/transfer.py:task=sentiment,method=lora,labels=8',
  'configs/transfer.py:task=summary,labels=8',
  *(
    pytest.param(f'configs/pretrain.py:{name},text=vader_nyt', marks=pytest.mark.slow)
    for name in ('tiny,objective=sentence_order', 'tiny-electra', 'tiny-bart')
  ),
)


def shapes(tree):
  return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)


@pytest.mark.parametrize('spec', SPECS)
def test_shapes_are_those_of_the_run(spec, tmp_path):
  loaded = config.load(spec, [('tokenizer.size', '512')])
  ready = preparing.prepare(checks.check(loaded), tmp_path)
  stream, _ = ready.corpus.stream(ready.settings)
  found = outline.outline(loaded)
  assert shapes(found.batch) == shapes(stream.batch_at(0))
  assert shapes(programs.abstract_first_state(found.parts)) == shapes(
    programs.abstract_first_state(ready.parts)
  )


def test_no_text_is_read(monkeypatch):
  def never(*_, **__):
    raise AssertionError('a text was asked for')

  monkeypatch.setattr(data, 'load', never)
  found = outline.outline(config.load('configs/pretrain.py:bert-small'))
  assert found.parts.model.arch.vocabulary == 30522


def test_a_published_family_needs_no_files():
  spec = 'configs/transfer.py:task=sentiment,method=lora,init=llama3.1-8b'
  found = outline.outline(config.load(spec))
  assert found.parts.model.arch.vocabulary == 128256
  assert found.source.params['layers']['31']['mlp']['gate']['kernel'].shape == (
    4096,
    14336,
  )


def test_a_vocabulary_that_is_not_the_familys_is_said():
  found = outline.outline(config.load('configs/pretrain.py:gpt2'))
  assert found.parts.model.arch.vocabulary == 30522
  assert "'vocabulary': 50257" in found.notes[0]


def test_a_family_that_is_misspelt_is_refused_as_a_run_refuses_it():
  spec = 'configs/transfer.py:task=sentiment,init=llama3.1-9b'
  with pytest.raises(ValueError, match='config.init'):
    outline.outline(config.load(spec))
