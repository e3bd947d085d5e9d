"""Folders of sentence-transformers say how a text becomes one vector."""

import json

import pytest

from tl_jax.interop.sentences import Pooling, read_pooling, write_pooling

MODULES = ('Transformer', 'Pooling', 'Normalize')


def write(folder, kinds=MODULES, **config):
  modules = [
    dict(idx=place, path=f'{place}_{kind}' if place else '', type=f'a.b.{kind}')
    for place, kind in enumerate(kinds)
  ]
  (folder / 'modules.json').write_text(json.dumps(modules))
  (folder / '1_Pooling').mkdir(exist_ok=True)
  (folder / '1_Pooling' / 'config.json').write_text(json.dumps(config))
  return folder


def test_old_and_new_spellings_of_a_mode(tmp_path):
  assert read_pooling(tmp_path) is None
  old = dict(pooling_mode_mean_tokens=True, pooling_mode_cls_token=True)
  found = read_pooling(write(tmp_path, **old, pooling_mode_max_tokens=False))
  assert found == Pooling(('cls', 'mean'), normalize=True)
  found = read_pooling(write(tmp_path, MODULES[:2], pooling_mode='lasttoken'))
  assert found == Pooling(('lasttoken',))
  assert read_pooling(write(tmp_path)).modes == ('mean',)


def test_what_is_done_to_a_text_before(tmp_path):
  write(tmp_path, pooling_mode=['mean'])
  said = dict(max_seq_length=256, do_lower_case=True)
  (tmp_path / 'sentence_bert_config.json').write_text(json.dumps(said))
  said = dict(prompts=dict(query='Query: '), default_prompt_name='query')
  (tmp_path / 'config_sentence_transformers.json').write_text(json.dumps(said))
  found = read_pooling(tmp_path)
  assert found.length == 256 and found.prepared('A b') == 'query: a b'


def test_what_is_not_followed_is_named(tmp_path):
  write(tmp_path, ('Transformer', 'Pooling', 'Dense'))
  with pytest.raises(ValueError, match='modules.json: the modules .* Dense are not'):
    read_pooling(tmp_path)
  write(tmp_path, pooling_mode='median')
  with pytest.raises(
    ValueError, match="config.json: pooling_mode: 'median' is none of"
  ):
    read_pooling(tmp_path)


def test_what_is_written_is_read_again(tmp_path):
  for mode in ('cls', 'mean', 'lasttoken'):
    said = Pooling((mode,), normalize=True, length=48)
    write_pooling(tmp_path / mode, said, width=16)
    assert read_pooling(tmp_path / mode) == said
