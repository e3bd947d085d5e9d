"""GGUF files, written as llama.cpp writes them, give the numbers of transformers; what
is not followed is refused.
"""

import json
import pathlib
import sys

import numpy as np
import pytest

pytest.importorskip('gguf')
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402
import ggufs  # noqa: E402

from tl_jax import interop  # noqa: E402
from tl_jax.interop import gguf_config, rotary  # noqa: E402
from tl_jax.interop.tensors import open_tensors, save_tensors  # noqa: E402

TINY = dict(
  model_type='llama',
  architectures=['LlamaForCausalLM'],
  hidden_size=16,
  num_hidden_layers=1,
  num_attention_heads=2,
  num_key_value_heads=1,
  intermediate_size=24,
  vocab_size=20,
  max_position_embeddings=64,
  rms_norm_eps=1e-5,
  tie_word_embeddings=True,
  rope_parameters=dict(rope_theta=10000.0, rope_type='default'),
)
SHAPES = {'model.embed_tokens.weight': (20, 16), 'model.norm.weight': (16,)} | {
  f'model.layers.0.{name}.weight': shape
  for name, shape in {
    'self_attn.q_proj': (16, 16),
    'self_attn.k_proj': (8, 16),
    'self_attn.v_proj': (8, 16),
    'self_attn.o_proj': (16, 16),
    'mlp.gate_proj': (24, 16),
    'mlp.up_proj': (24, 16),
    'mlp.down_proj': (16, 24),
    'input_layernorm': (16,),
    'post_attention_layernorm': (16,),
  }.items()
}


@pytest.fixture
def file(tmp_path):
  """Makes the file of a tiny Llama; finish(writer) says more."""

  def make(finish=None, **config):
    cases.materialise(tmp_path / 'folder', TINY | config, SHAPES)
    return ggufs.convert(
      tmp_path / 'folder', TINY | config, tmp_path / 'a.gguf', finish=finish
    )

  return make


def test_a_weight_that_is_no_number_is_named(tmp_path):
  cases.materialise(tmp_path, TINY, SHAPES)
  held = open_tensors(tmp_path)
  held = {name: np.array(held.read(name)) for name in held.names}
  held['model.norm.weight'][3] = np.nan
  save_tensors(tmp_path, held)
  path = ggufs.convert(tmp_path, TINY, tmp_path / 'a.gguf')
  with pytest.raises(
    ValueError, match=r"a\.gguf: tensor 'model.norm.weight' holds nan at \[3\]"
  ):
    interop.load(path)


def logits(loaded, batch):
  return np.asarray(loaded.model.apply(loaded.params, batch).logits)


@pytest.mark.parametrize(
  'case',
  [
    *('llama', 'llama-linear', 'mistral', 'gemma', 'gemma2', 'gemma3'),
    *('granite', 'olmo2', 'phi3'),
  ],
)
def test_numbers_are_those_of_transformers(case, tmp_path):
  found = cases.fixture(f'{case}-ForCausalLM')
  cases.materialise(tmp_path, found['config'], found['shapes'], found['gain'])
  loaded = interop.load(ggufs.convert(tmp_path, found['config'], tmp_path / 'a.gguf'))
  mask = cases.output_mask(found['batch'])
  assert np.abs(logits(loaded, found['batch']) - found['logits'])[mask].max() < 1e-4
  assert found['logits'][mask].std() > 1


@pytest.mark.parametrize('case', ['qwen2', 'qwen3', 'smollm3'])
def test_numbers_are_those_of_the_folder(case, tmp_path):
  found = cases.fixture(f'{case}-ForCausalLM')
  # A file can say neither windows of some layers nor another activation.
  config = found['config'] | dict(use_sliding_window=False, hidden_act='silu')
  config.pop('layer_types', None)
  if case == 'smollm3':
    config['no_rope_layers'] = [1, 1, 1, 0]
  cases.materialise(tmp_path, config, found['shapes'], found['gain'])
  loaded = interop.load(ggufs.convert(tmp_path, config, tmp_path / 'a.gguf'))
  wanted = interop.load(tmp_path)
  assert (
    np.abs(logits(loaded, found['batch']) - logits(wanted, found['batch'])).max() < 1e-5
  )


@pytest.mark.parametrize(
  ('base', 'head_dim', 'scaling'),
  [
    (500000.0, 128, (8.0, 1.0, 4.0, 8192)),
    (500000.0, 64, (32.0, 1.0, 4.0, 8192)),
    (500000.0, 16, (8.0, 1.0, 4.0, 8192)),
    (10000.0, 16, (4.0, 1.0, 4.0, 64)),
    (100.0, 16, (4.0, 1.0, 4.0, 8)),
    (10000.0, 128, (8.0, 1.0, 2.0, 4096)),
    (500000.0, 64, (16.0, 2.0, 8.0, 16384)),
  ],
)
def test_the_factors_of_a_file_tell_the_scaling(base, head_dim, scaling):
  factors = ggufs.llama3_factors(base, head_dim, *scaling)
  found = rotary.from_factors(factors, base)
  assert found['rope_type'] == 'llama3'
  again = ggufs.llama3_factors(
    base,
    head_dim,
    *(
      found[key]
      for key in (
        'factor',
        'low_freq_factor',
        'high_freq_factor',
        'original_max_position_embeddings',
      )
    ),
  )
  np.testing.assert_allclose(again, factors, rtol=1e-4)
  if scaling[1:3] == (1.0, 4.0) and ((factors > 1) & (factors < scaling[0])).any():
    assert found['original_max_position_embeddings'] == scaling[3]


@pytest.mark.parametrize('factors', [[0, 1, 1, 1], [-1, 1, 8, 8], [np.nan, 1, 1, 8]])
def test_factors_that_are_none_are_refused(factors):
  with pytest.raises(ValueError, match='finite and positive'):
    rotary.from_factors(factors, 10000.0)


def test_factors_of_no_scaling_are_refused_by_name(file):
  def finish(out):
    out.add_tensor('rope_freqs.weight', np.array([1, 2, 1, 3], np.float32))

  with pytest.raises(
    ValueError,
    match=r"a\.gguf: tensor 'rope_freqs\.weight': no rope_type makes the factors",
  ):
    interop.load(file(finish))


@pytest.mark.parametrize(
  'name',
  [
    'rope_factors_long.weight',
    'rope_factors_short.weight',
    'blk.0.attn_rot_embd.weight',
    'blk.0.ffn_gate_inp.weight',
    'blk.0.attn_sinks.weight',
  ],
)
def test_a_tensor_that_is_not_followed_is_refused_by_name(name, file):
  with pytest.raises(ValueError, match=f'a.gguf: tensor {name!r}'):
    interop.load(file(lambda out: out.add_tensor(name, np.ones(4, np.float32))))


@pytest.mark.parametrize(
  ('say', 'key'),
  [
    (
      lambda out: out.add_rope_scaling_type(ggufs.gguf.RopeScalingType.YARN),
      'llama.rope.scaling.type',
    ),
    (
      lambda out: out.add_rope_scaling_attn_factors(1.3),
      'llama.rope.scaling.attn_factor',
    ),
    (
      lambda out: out.add_rope_scaling_yarn_ext_factor(1.0),
      'llama.rope.scaling.yarn_ext_factor',
    ),
    (lambda out: out.add_logit_scale(0.5), 'llama.logit_scale'),
    (
      lambda out: out.add_final_logit_softcapping(30.0),
      'llama.final_logit_softcapping',
    ),
    (lambda out: out.add_attn_logit_softcapping(50.0), 'llama.attn_logit_softcapping'),
    (lambda out: out.add_expert_count(8), 'llama.expert_count'),
    (lambda out: out.add_clamp_kqv(8.0), 'llama.attention.clamp_kqv'),
    (lambda out: out.add_attention_scale(0.1), 'llama.attention.scale'),
    (lambda out: out.add_causal_attention(False), 'llama.attention.causal'),
    (lambda out: out.add_residual_scale(0.2), 'llama.residual_scale'),
    (lambda out: out.add_embedding_scale(12.0), 'llama.embedding_scale'),
    (lambda out: out.add_value_length_mla(4), 'llama.attention.value_length_mla'),
    (lambda out: out.add_uint32('llama.a_new_thing', 4), 'llama.a_new_thing'),
    (lambda out: out.add_uint16('split.count', 2), 'split.count'),
  ],
)
def test_metadata_that_is_not_followed_is_refused_by_name(say, key, file):
  with pytest.raises(ValueError, match=f'a.gguf: {key}'):
    interop.load(file(say))


def test_metadata_of_another_head_is_refused(file):
  def finish(out):
    out.kv_data[0]['llama.rope.dimension_count'].value = 4

  with pytest.raises(
    ValueError, match=r'llama\.rope\.dimension_count = 4 is not supported; 8 is'
  ):
    interop.load(file(finish))


def test_a_window_is_followed(file):
  batch = dict(
    tokens=np.arange(12, dtype=np.int32)[None], segments=np.ones((1, 12), np.int32)
  )
  plain = logits(interop.load(file()), batch)
  near = interop.load(file(lambda out: out.add_sliding_window(3)))
  assert near.arch.windows == (3,)
  assert np.abs(logits(near, batch) - plain)[0, 5:].max() > 1e-2


def test_the_name_of_a_file_may_end_in_capitals(file):
  path = file()
  assert interop.load(path.rename(path.with_suffix('.GGUF'))).arch.layers == 1


def test_a_linear_factor_needs_no_type(file):
  loaded = interop.load(file(lambda out: out.add_rope_scaling_factor(4.0)))
  assert loaded.arch.rotary_scaling == (4.0,)


def test_a_folder_written_of_a_file_says_the_same(file, tmp_path):
  scaling = dict(
    rope_theta=10000.0,
    rope_type='llama3',
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
  )
  loaded = interop.load(file(rope_parameters=scaling))
  interop.save(tmp_path / 'again', loaded)
  assert (
    json.loads((tmp_path / 'again' / 'config.json').read_text())['rope_parameters']
    == scaling
  )
  assert interop.load(tmp_path / 'again').arch == loaded.arch


@pytest.mark.parametrize(
  ('name', 'layers', 'scalar', 'kinds'),
  [
    ('gemma2', 4, 256, [1, 0, 1, 0]),
    ('gemma2', 46, 128, [1, 0] * 23),
    ('gemma3', 12, 256, [1, 1, 1, 1, 1, 0] * 2),
    ('gemma3', 62, 128, ([1, 1, 1, 1, 1, 0] * 11)[:62]),
  ],
)
def test_what_the_metadata_of_a_gemma_leaves_unsaid(name, layers, scalar, kinds):
  said = dict(
    block_count=layers,
    embedding_length=1024,
    feed_forward_length=64,
    context_length=64,
  )
  said |= {
    'attention.head_count': 8,
    'attention.key_length': 256,
    'attention.layer_norm_rms_epsilon': 1e-6,
  }
  own = {f'{name}.{key}': value for key, value in said.items()}
  config = gguf_config.read(own | {'general.architecture': name}, {}, None)
  assert config['query_pre_attn_scalar'] == scalar
  local = [kind == 'sliding_attention' for kind in config['layer_types']]
  assert local == [bool(one) for one in kinds]
