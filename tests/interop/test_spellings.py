"""A folder opens to the same numbers whatever its age and its names of shared tensors."""

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402

from tl_jax import interop, tree  # noqa: E402
from tl_jax.interop import names, spellings  # noqa: E402
from tl_jax.interop.tensors import open_tensors, save_tensors  # noqa: E402

MASKED = [
  'bert-ForMaskedLM',
  'roberta-ForMaskedLM',
  'distilbert-ForMaskedLM',
  'electra-ForMaskedLM',
  'albert-ForMaskedLM',
]


def held_by(case, folder):
  """Writes the folder of a case: its tensors by name, a shared table once."""
  found = cases.fixture(case)
  cases.materialise(folder, found['config'], found['shapes'], found['gain'])
  file = open_tensors(folder)
  return {name: np.array(file.read(name)) for name in file.names}


def same_again(folder, tensors, before):
  """Opens the folder with these tensors: every parameter is as before, to the bit."""
  save_tensors(folder, tensors)
  loaded = interop.load(folder)
  assert loaded.arch == before.arch
  now, then = tree.flatten(loaded.params), tree.flatten(before.params)
  assert now.keys() == then.keys()
  for name, leaf in then.items():
    np.testing.assert_array_equal(now[name], leaf, err_msg=name)
  return loaded


@pytest.mark.parametrize(
  'case',
  [*MASKED, 'bert-ForSequenceClassification', 'electra-ForPreTraining', 'bert-Model'],
)
def test_gamma_and_beta_of_old_files_are_scale_and_shift(case, tmp_path):
  held = held_by(case, tmp_path)
  before = interop.load(tmp_path)
  old = {}
  for name, tensor in held.items():
    module, _, leaf = name.rpartition('.')
    is_norm = 'norm' in module.lower()
    old[f'{module}.{dict(weight="gamma", bias="beta")[leaf]}' if is_norm else name] = (
      tensor
    )
  assert old.keys() != held.keys()
  same_again(tmp_path, old, before)


@pytest.mark.parametrize('wrapper', ['module.', '_orig_mod.', 'model.'])
@pytest.mark.parametrize(
  'case', ['bert-ForMaskedLM', 'llama-ForCausalLM', 't5-ForConditionalGeneration']
)
def test_a_wrapper_around_all_names_is_taken_off(case, wrapper, tmp_path):
  held = held_by(case, tmp_path)
  before = interop.load(tmp_path)
  same_again(
    tmp_path, {wrapper + name: tensor for name, tensor in held.items()}, before
  )


@pytest.mark.parametrize(
  ('case', 'base'),
  [
    ('bert-ForMaskedLM', 'bert.'),
    ('gpt2-LMHeadModel', 'transformer.'),
    ('opt-ForCausalLM', 'model.'),
    ('roberta-ForSequenceClassification', 'roberta.'),
    ('bart-ForConditionalGeneration', 'model.'),
  ],
)
@pytest.mark.parametrize('other', ['', 'backbone.'])
def test_the_prefix_of_the_body_may_be_missing_or_another(case, base, other, tmp_path):
  held = held_by(case, tmp_path)
  before = interop.load(tmp_path)
  moved = {
    other + name.removeprefix(base) if name.startswith(base) else name: tensor
    for name, tensor in held.items()
  }
  assert moved.keys() != held.keys()
  same_again(tmp_path, moved, before)


@pytest.mark.parametrize('case', ['bert-Model', 'gpt2-Model', 'bart-Model'])
def test_the_prefix_of_the_body_may_be_there_where_the_class_has_none(case, tmp_path):
  held = held_by(case, tmp_path)
  before = interop.load(tmp_path)
  base = names.NAMES[before.config['model_type']].base
  same_again(tmp_path, {base + name: tensor for name, tensor in held.items()}, before)


BUFFERS = {
  'bert-ForMaskedLM': [
    'bert.embeddings.position_ids',
    'bert.pooler.dense.weight',
    'cls.seq_relationship.bias',
  ],
  'roberta-ForMaskedLM': [
    'roberta.embeddings.token_type_ids',
    'roberta.pooler.dense.bias',
  ],
  'gpt2-LMHeadModel': ['transformer.h.0.attn.bias', 'transformer.h.1.attn.masked_bias'],
  'llama-ForCausalLM': [
    'model.layers.0.self_attn.rotary_emb.inv_freq',
    'model.rotary_emb.inv_freq',
  ],
  't5-EncoderModel': ['decoder.block.0.layer.0.SelfAttention.q.weight'],
  'modernbert-ForMaskedLM': ['model.layers.0.attn.rotary_emb.inv_freq'],
  'bart-ForConditionalGeneration': [
    'model.encoder.version',
    'model.decoder.embed_tokens.weight',
  ],
}


@pytest.mark.parametrize('case', BUFFERS)
def test_buffers_of_old_files_and_tensors_of_other_heads_are_left_out_by_name(
  case, tmp_path
):
  held = held_by(case, tmp_path)
  before = interop.load(tmp_path)
  others = [
    f'{theirs.partition("|")[0]}.weight'
    for head in names.NAMES[before.config['model_type']].heads.values()
    for theirs in head.values()
    if 'weight' not in theirs and 'bias' not in theirs
  ]
  more = {
    name: np.ones(3, np.float32)
    for name in [*BUFFERS[case], *others]
    if name not in held
  }
  loaded = same_again(tmp_path, held | more, before)
  assert set(more) - {'lm_head.weight'} <= set(loaded.unused)


SHARED = [
  (
    'bert-ForMaskedLM',
    {'bert.embeddings.word_embeddings.weight': 'cls.predictions.decoder.weight'},
  ),
  ('bert-ForMaskedLM', {'cls.predictions.bias': 'cls.predictions.decoder.bias'}),
  ('bert-untied-ForMaskedLM', {'cls.predictions.bias': 'cls.predictions.decoder.bias'}),
  (
    'roberta-ForMaskedLM',
    {
      'roberta.embeddings.word_embeddings.weight': 'lm_head.decoder.weight',
      'lm_head.bias': 'lm_head.decoder.bias',
    },
  ),
  (
    'albert-ForMaskedLM',
    {
      'albert.embeddings.word_embeddings.weight': 'predictions.decoder.weight',
      'predictions.bias': 'predictions.decoder.bias',
    },
  ),
  (
    'distilbert-ForMaskedLM',
    {'distilbert.embeddings.word_embeddings.weight': 'vocab_projector.weight'},
  ),
  (
    'electra-ForMaskedLM',
    {'electra.embeddings.word_embeddings.weight': 'generator_lm_head.weight'},
  ),
  (
    'modernbert-ForMaskedLM',
    {'model.embeddings.tok_embeddings.weight': 'decoder.weight'},
  ),
  ('gpt2-LMHeadModel', {'transformer.wte.weight': 'lm_head.weight'}),
  ('opt-ForCausalLM', {'model.decoder.embed_tokens.weight': 'lm_head.weight'}),
  ('llama-linear-ForCausalLM', {'model.embed_tokens.weight': 'lm_head.weight'}),
  ('gemma2-ForCausalLM', {'model.embed_tokens.weight': 'lm_head.weight'}),
  ('t5-ForConditionalGeneration', {'shared.weight': 'lm_head.weight'}),
  ('t5-ForConditionalGeneration', {'shared.weight': 'decoder.embed_tokens.weight'}),
  ('t5-EncoderModel', {'shared.weight': 'encoder.embed_tokens.weight'}),
  (
    'bart-ForConditionalGeneration',
    {'model.shared.weight': 'model.encoder.embed_tokens.weight'},
  ),
  ('bart-ForConditionalGeneration', {'model.shared.weight': 'lm_head.weight'}),
  ('bart-Model', {'shared.weight': 'decoder.embed_tokens.weight'}),
]


@pytest.mark.parametrize(('case', 'other'), SHARED)
def test_a_shared_tensor_is_found_under_any_of_its_names(case, other, tmp_path):
  held = held_by(case, tmp_path)
  before = interop.load(tmp_path)
  moved = {
    name: tensor
    for name, tensor in held.items()
    if name not in {*other, *other.values()}
  }
  moved |= {new: held[old] for old, new in other.items()}
  same_again(tmp_path, moved, before)


def test_an_output_with_a_table_of_its_own_does_not_stand_for_that_of_the_tokens(
  tmp_path,
):
  held = held_by('gpt2-untied-LMHeadModel', tmp_path)
  save_tensors(
    tmp_path,
    {name: tensor for name, tensor in held.items() if name != 'transformer.wte.weight'},
  )
  with pytest.raises(ValueError, match=r"'transformer.wte.weight' is missing"):
    interop.load(tmp_path)


def test_two_tensors_for_one_name_are_named(tmp_path):
  held = held_by('bert-Model', tmp_path)
  save_tensors(tmp_path, held | {'embeddings.LayerNorm.gamma': np.ones(24, np.float32)})
  with pytest.raises(ValueError, match='embeddings.LayerNorm.gamma'):
    interop.load(tmp_path)


def test_a_bart_without_a_bias_of_its_logits_has_one_of_zeros(tmp_path):
  held = held_by('bart-Model', tmp_path)
  save_tensors(tmp_path, held)
  loaded = interop.load(tmp_path, head='causal')
  assert not np.any(loaded.params['head']['bias'])
  assert loaded.params['head']['bias'].shape == (61,)
  np.testing.assert_array_equal(
    loaded.params['embedding']['tokens'], held['shared.weight']
  )


def test_only_the_leaf_of_a_norm_is_renamed():
  assert spellings.modern('gamma.layer.weight') == 'gamma.layer.weight'
  assert spellings.modern('beta') == 'bias'


def test_a_table_of_positions_that_is_no_sine_is_refused(tmp_path):
  held = held_by('marian-Model', tmp_path)
  name = 'encoder.embed_positions.weight'
  half = {each: tensor.astype(np.float16) for each, tensor in held.items()}
  save_tensors(tmp_path, half)
  interop.load(tmp_path)
  save_tensors(tmp_path, held | {name: held[name][::-1]})
  with pytest.raises(ValueError, match=f'{name}.*sinusoidal'):
    interop.load(tmp_path)


def test_a_marian_with_two_vocabularies_says_what_is_computed(tmp_path):
  found = cases.fixture('marian-Model')
  config = found['config'] | dict(decoder_vocab_size=70)
  cases.materialise(tmp_path, config, found['shapes'])
  with pytest.raises(ValueError, match='decoder_vocab_size = 70'):
    interop.load(tmp_path)


def other_spellings(case, held, before):
  """The tensors of a case in every way that files of one age or another have them."""
  family = before.config['model_type']
  spec, head = names.NAMES[family], before.arch.head
  base = spec.bases.get(head, spec.base)
  yield {f'module.{name}': tensor for name, tensor in held.items()}
  if base and any(name.startswith(base) for name in held):
    yield {name.removeprefix(base): tensor for name, tensor in held.items()}
  elif base:
    yield {base + name: tensor for name, tensor in held.items()}
  if spec.tied_names and spec.tied_names[0] in held:
    bias = held.get(spec.tied_names[1], held[spec.tied_names[0]])
    kept = {
      name: tensor for name, tensor in held.items() if name not in spec.tied_names
    }
    yield kept | {spec.tied_names[1]: bias}
  if head in ('masked', 'causal') and before.arch.tied:
    table = names.place(family, head, 'embedding/tokens').name
    output = names.place(family, head, 'head/kernel').name
    kept = {name: tensor for name, tensor in held.items() if name != table}
    yield kept | {output: held[table]}


@pytest.mark.slow
@pytest.mark.parametrize('case', sorted(cases.CASES))
def test_every_family_opens_in_every_spelling(case, tmp_path):
  held = held_by(case, tmp_path)
  before = interop.load(tmp_path)
  for tensors in other_spellings(case, held, before):
    same_again(tmp_path, tensors, before)
