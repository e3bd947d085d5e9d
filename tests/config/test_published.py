"""What configs take of a published model without opening it."""

import json

import pytest

from tl_jax import config


@pytest.mark.parametrize('name', ['transfer', 'adapt'])
def test_a_model_that_never_saw_dropout_gets_none(tmp_path, name):
  rates = {}
  for family in ('llama', 'gpt2', None):
    folder = tmp_path / str(family)
    folder.mkdir()
    content = {} if family is None else dict(model_type=family)
    (folder / 'config.json').write_text(json.dumps(content))
    rates[family] = config.load(f'configs/{name}.py:init={folder}').compute.dropout
  assert rates == {'llama': 0.0, 'gpt2': 0.1, None: 0.1}
  assert config.load(f'configs/{name}.py:init=a.GGUF').compute.dropout == 0.0


def test_what_is_no_folder_is_left_to_whoever_opens_it(tmp_path):
  (tmp_path / 'config.json').write_text('[')
  assert config.dropout(str(tmp_path)) == config.dropout('/no/such') == 0.1
