"""Exported tokenizers say the longest text that their model reads."""

import dataclasses
import json

import jax
import pytest

from tl_jax import interop, models
from tl_jax.data import tokenizers

SMALL = dict(layers=1, width=16, heads=2, mlp=16, vocabulary=400)


@pytest.fixture(scope='module')
def tokenizer():
  return tokenizers.train(['a good film', 'a bad film'] * 20, 'wordpiece', 300)


def saved(folder, tokenizer, family, **fields):
  """The folder of a tiny model, and the `model_max_length` that it says."""
  arch = models.arch(family, **SMALL | fields)
  model = models.build(arch)
  params = model.init(jax.random.key(0))
  interop.save(folder, interop.Loaded(model, params, tokenizer, arch))
  said = json.loads((folder / 'tokenizer_config.json').read_text())
  return said.get('model_max_length')


@pytest.mark.parametrize(
  ('family', 'fields', 'longest'),
  [
    ('bert-base', dict(max_positions=24), 24),
    # Of these, the rows before the first position are none.
    ('roberta-base', dict(max_positions=24), 22),
    ('bart-base', dict(max_positions=24), 22),
    ('opt-125m', dict(max_positions=24), 22),
    ('gpt2', dict(max_positions=24), 24),
    ('llama3.2-1b', dict(kv_heads=1, head_dim=8, max_positions=24), 24),
    ('tiny-t5', {}, None),
  ],
)
def test_the_longest_text_is_that_of_the_model(
  family, fields, longest, tokenizer, tmp_path
):
  assert saved(tmp_path, tokenizer, family, **fields) == longest


@pytest.mark.parametrize(
  ('declared', 'longest'), [(9, 9), (10**30, 24), (5000, 24), ('many', 24), (True, 24)]
)
def test_what_a_folder_declares_is_kept_within_the_table(
  declared, longest, tokenizer, tmp_path
):
  said = dataclasses.replace(tokenizer, settings={'model_max_length': declared})
  assert saved(tmp_path, said, 'bert-base', max_positions=24) == longest
  assert interop.load(tmp_path).tokenizer.settings['model_max_length'] == longest


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('family', ['bert-base', 'roberta-base'])
def test_a_pipeline_cuts_what_is_longer(family, tokenizer, tmp_path):
  transformers = pytest.importorskip('transformers')
  pytest.importorskip('torch')
  saved(
    tmp_path, tokenizer, family, max_positions=24, head='classifier', head_bias=True
  )
  pipe = transformers.pipeline('text-classification', model=str(tmp_path))
  (found,) = pipe('good ' * 100, truncation=True)
  (cut,) = pipe('good ' * 100, truncation=True, max_length=24 - 2 * ('ro' in family))
  assert found == cut
