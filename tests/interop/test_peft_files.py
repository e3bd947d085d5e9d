"""Config and file of an adapter are about the same modules; its tables and biases are
those that it brings.
"""

import functools
import json
import logging

import jax
import numpy as np
import pytest

from tl_jax import interop, leaves, models, transfer
from tl_jax.interop import configs, peft
from tl_jax.interop.tensors import open_tensors, save_tensors

BERT = dict(
  model_type='bert',
  architectures=['BertForMaskedLM'],
  hidden_size=16,
  num_hidden_layers=2,
  num_attention_heads=2,
  intermediate_size=24,
  vocab_size=40,
  max_position_embeddings=64,
)
CLASSIFIER = BERT | dict(
  architectures=['BertForSequenceClassification'], id2label={0: 'a', 1: 'b', 2: 'c'}
)
LLAMA = dict(
  model_type='llama',
  architectures=['LlamaForCausalLM'],
  hidden_size=16,
  num_hidden_layers=2,
  num_attention_heads=2,
  num_key_value_heads=1,
  intermediate_size=24,
  vocab_size=32,
  max_position_embeddings=64,
  tie_word_embeddings=True,
)
MODEL = 'base_model.model.'
TABLE, OUTPUT = f'{MODEL}model.embed_tokens.weight', f'{MODEL}lm_head.weight'


@functools.cache
def base(name):
  """A model of random weights; nobody changes it."""
  config = dict(BERT=BERT, CLASSIFIER=CLASSIFIER, LLAMA=LLAMA)[name]
  arch = configs.read(config)
  model = models.build(arch)
  params = model.init(jax.random.key(0))
  return interop.Loaded(model, params, None, arch, config)


def write(folder, tensors, **said):
  """The folder of an adapter, as peft writes it."""
  save_tensors(folder, tensors, stem='adapter_model')
  config = dict(peft_type='LORA', task_type='CAUSAL_LM', r=2, lora_alpha=4, bias='none')
  (folder / 'adapter_config.json').write_text(json.dumps(config | said))
  return folder


def drawn(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def low_rank(module, size_in=16, size_out=16):
  """The two tensors of LoRA for a module."""
  name = f'{MODEL}{module}.lora_'
  return {f'{name}A.weight': drawn(2, size_in), f'{name}B.weight': drawn(size_out, 2)}


def llama(layer):
  attention = f'model.layers.{layer}.self_attn'
  return low_rank(f'{attention}.q_proj') | low_rank(f'{attention}.v_proj', size_out=8)


WHOLE = llama(0) | llama(1)
SIDES = dict(target_modules=['q_proj', 'v_proj'])


def edited(loaded):
  found = peft.named_leaves(loaded.params).items()
  return {name for name, leaf in found if leaves.is_structured(leaf)}


@pytest.mark.parametrize(
  ('tensors', 'said', 'message'),
  [
    (llama(0), SIDES, 'names model.layers.1.self_attn.q_proj, but the file holds'),
    (
      low_rank('model.layers.0.self_attn.q_proj'),
      dict(target_modules=r'.*\.0\..*(q|v)_proj'),
      'names model.layers.0.self_attn.v_proj, but the file holds no tensor',
    ),
    (WHOLE, dict(target_modules=['q_proj']), 'v_proj: the file holds tensors of it'),
    (WHOLE, SIDES | dict(exclude_modules=['layers.1.self_attn.v_proj']), '1.*v_proj'),
    (WHOLE, SIDES | dict(layers_to_transform=[0]), 'layers.1.self_attn.q_proj: the'),
    (WHOLE, SIDES | dict(modules_to_save=['embed_tokens']), 'embed_tokens.weight'),
    (WHOLE, SIDES | dict(modules_to_save=['norn']), "'norn' is no module.*: 'norm'"),
  ],
)
def test_what_config_and_file_say_is_compared_both_ways(
  tensors, said, message, tmp_path
):
  folder = write(tmp_path / 'a', tensors, **said)
  with pytest.raises(ValueError, match=message) as caught:
    interop.load_adapter(folder, base('LLAMA'))
  assert str(folder) in str(caught.value)


def test_a_number_of_an_adapter_that_is_none_is_named(tmp_path):
  name = f'{MODEL}model.layers.1.self_attn.v_proj.lora_B.weight'
  wrong = WHOLE | {name: np.full((8, 2), np.nan, np.float32)}
  with pytest.raises(
    ValueError, match=r'layers.1.self_attn.v_proj.lora_B.*holds nan at \[0, 0\]'
  ):
    interop.load_adapter(write(tmp_path, wrong, **SIDES), base('LLAMA'))


def test_a_tokenizer_of_an_adapter_with_ids_beyond_the_table_is_refused(tmp_path):
  folder = write(tmp_path, WHOLE, **SIDES)
  pieces = ['[UNK]', '[PAD]', '[CLS]', '[SEP]', '[MASK]', *map(chr, range(97, 123))]
  (folder / 'vocab.txt').write_text('\n'.join(pieces) + '\n')
  assert interop.load_adapter(folder, base('LLAMA')).tokenizer.vocabulary_size == 31
  (folder / 'vocab.txt').write_text('\n'.join([*pieces, 'new', 'newer']) + '\n')
  with pytest.raises(
    ValueError,
    match=f"{folder}: the tokenizer has ids up to 32 .'newer'.*vocab_size is 32",
  ):
    interop.load_adapter(folder, base('LLAMA'))


@pytest.mark.parametrize(
  ('tensors', 'said'),
  [
    (WHOLE, SIDES),
    (WHOLE, dict(target_modules=r'.*\.(q|v)_proj')),
    (llama(1), SIDES | dict(layers_to_transform=1)),
    (llama(0), SIDES | dict(layers_to_transform=[0], layers_pattern='layers')),
    (llama(0), SIDES | dict(exclude_modules=r'.*\.1\..*')),
    (WHOLE, SIDES | dict(modules_to_save=['classifier', 'score'])),
  ],
)
def test_every_way_of_naming_the_targets_opens(tensors, said, tmp_path):
  loaded = interop.load_adapter(write(tmp_path / 'a', tensors, **said), base('LLAMA'))
  assert len(edited(loaded)) == len(tensors) // 2


def test_a_scaled_side_is_what_the_config_says(tmp_path):
  vector = {
    f'{MODEL}model.layers.{i}.mlp.down_proj.ia3_l': drawn(1, 24) for i in (0, 1)
  }
  said = dict(peft_type='IA3', target_modules=['down_proj'])
  right = write(tmp_path / 'in', vector, **said, feedforward_modules=['down_proj'])
  assert len(edited(interop.load_adapter(right, base('LLAMA')))) == 2
  wrong = write(tmp_path / 'out', vector, **said, feedforward_modules=[])
  with pytest.raises(ValueError, match='does not name model.layers.0.mlp.down_proj'):
    interop.load_adapter(wrong, base('LLAMA'))


TOKENS = dict(tokens=np.arange(6, dtype=np.int32)[None] + 5)


def logits(loaded):
  return np.asarray(loaded.model.apply(loaded.params, TOKENS).logits)


def held_table():
  return np.asarray(base('LLAMA').params['embedding']['tokens'])


@pytest.mark.parametrize(
  ('held', 'said', 'tied'),
  [
    # Both names of one table; one name, saved without being asked; tied on purpose.
    (lambda t: {TABLE: t, OUTPUT: t}, ['embed_tokens', 'lm_head'], True),
    (lambda t: {TABLE: t}, None, True),
    (lambda t: {OUTPUT: t}, None, True),
    # Two tables; a copy of one of them, which the other is not tied to any more.
    (lambda t: {TABLE: t, OUTPUT: t + 1}, ['embed_tokens', 'lm_head'], False),
    (lambda t: {TABLE: t}, ['embed_tokens'], False),
    (lambda t: {OUTPUT: t}, ['lm_head'], False),
  ],
)
def test_tables_over_a_tied_base(held, said, tied, tmp_path):
  table = held_table() + drawn(32, 16, seed=3)
  brought = held(table)
  folder = write(tmp_path / 'a', WHOLE | brought, **SIDES, modules_to_save=said)
  loaded = interop.load_adapter(folder, base('LLAMA'))
  assert loaded.arch.tied is tied
  if tied:
    wanted_table = wanted_output = table
  else:
    wanted_table = brought.get(TABLE, held_table())
    wanted_output = brought.get(OUTPUT, held_table())
  assert np.array_equal(loaded.params['embedding']['tokens'], wanted_table)
  plain = peft_tables_untied(loaded)
  assert np.array_equal(plain['head']['kernel'], wanted_output.T)
  fused = loaded._replace(params=leaves.fuse(loaded.params))
  again = interop.load(interop.save(tmp_path / 'fused', fused))
  assert again.arch.tied is tied
  assert np.abs(logits(again) - logits(loaded)).max() < 1e-5


def peft_tables_untied(loaded):
  from tl_jax.interop.peft_tables import untie

  return (untie(loaded) if loaded.arch.tied else loaded).params


def test_weight_tying_that_the_config_ensures_is_kept(tmp_path):
  table = held_table() + 1
  said = SIDES | dict(modules_to_save=['embed_tokens'], ensure_weight_tying=True)
  loaded = interop.load_adapter(
    write(tmp_path / 'a', WHOLE | {TABLE: table}, **said), base('LLAMA')
  )
  assert loaded.arch.tied
  assert np.array_equal(loaded.params['embedding']['tokens'], table)


def test_new_tokens_grow_the_vocabulary(tmp_path):
  table = np.concatenate([held_table(), drawn(3, 16)])
  folder = write(tmp_path / 'a', WHOLE | {TABLE: table, OUTPUT: table}, **SIDES)
  loaded = interop.load_adapter(folder, base('LLAMA'))
  assert (loaded.arch.vocabulary, loaded.arch.tied) == (35, True)
  assert logits(loaded).shape == (1, 6, 35)
  untied = {TABLE: table, OUTPUT: table + 1}
  said = SIDES | dict(modules_to_save=['embed_tokens', 'lm_head'])
  loaded = interop.load_adapter(
    write(tmp_path / 'b', WHOLE | untied, **said), base('LLAMA')
  )
  assert (loaded.arch.vocabulary, loaded.arch.tied) == (35, False)
  alone = write(
    tmp_path / 'c', WHOLE | {OUTPUT: table}, **SIDES, modules_to_save=['lm_head']
  )
  with pytest.raises(ValueError, match='35 rows, the base has 32: resize the vocab'):
    interop.load_adapter(alone, base('LLAMA'))
  uneven = write(tmp_path / 'd', WHOLE | {TABLE: table, OUTPUT: table[:34]}, **SIDES)
  with pytest.raises(ValueError, match='has 34 rows, but .* has 35'):
    interop.load_adapter(uneven, base('LLAMA'))


QUERY = 'bert.encoder.layer.{}.attention.self.query'
LOW = low_rank(QUERY.format(0)) | low_rank(QUERY.format(1))


def test_biases_beside_a_low_rank_change(tmp_path, caplog):
  said = dict(task_type=None, target_modules=['query'])
  bias, other = drawn(16, seed=1), drawn(16, seed=2)
  own = {f'{MODEL}{QUERY.format(i)}.base_layer.bias': bias for i in (0, 1)}
  key = f'{MODEL}{QUERY.format(0)}.bias'.replace('query', 'key')
  only = write(tmp_path / 'only', LOW | own, bias='lora_only', **said)
  every = write(tmp_path / 'all', LOW | own | {key: other}, bias='all', **said)
  with caplog.at_level(logging.WARNING):
    for folder in (only, every):
      attention = interop.load_adapter(folder, base('BERT')).params['layers']['0'][
        'attention'
      ]
      assert np.array_equal(attention['query']['bias'], bias)
    assert np.array_equal(attention['key']['bias'], other)
    assert not caplog.text
    interop.load_adapter(
      write(tmp_path / 'no', LOW, bias='lora_only', **said), base('BERT')
    )
  assert "bias = 'lora_only', but the file holds no bias" in caplog.text


def trained(method, name):
  """(a model under a method whose trained leaves have moved, the trainable tree)."""
  loaded = base(name)
  trainable, frozen = method.init(jax.random.key(1), loaded.params)
  moved = jax.tree.map(lambda leaf: leaf + drawn(*leaf.shape, seed=4) / 9, trainable)
  return loaded._replace(params=method.merge(moved, frozen)), moved


BOTH = {
  'all': transfer.compose(transfer.lora(rank=2), transfer.bitfit()),
  'lora_only': transfer.compose(
    transfer.lora(rank=2),
    transfer.partition_method(r'.*/(query|value)/bias', head='head/.*'),
  ),
}


@pytest.mark.parametrize('bias', BOTH)
def test_trained_biases_go_out_and_come_back(bias, tmp_path):
  adapted, trainable = trained(BOTH[bias], 'CLASSIFIER')
  folder = interop.save_adapter(tmp_path / 'a', adapted, trainable)
  said = json.loads((folder / 'adapter_config.json').read_text())
  assert said['bias'] == bias
  names = open_tensors(folder, stem='adapter_model').names
  assert f'{MODEL}{QUERY.format(1)}.base_layer.bias' in names
  again = interop.load_adapter(folder, base('CLASSIFIER'))
  assert np.abs(logits(again) - logits(adapted)).max() < 1e-6
  assert np.abs(logits(again) - logits(base('CLASSIFIER'))).max() > 1e-2


def test_biases_that_peft_has_no_word_for_are_named(tmp_path):
  some = transfer.partition_method(r'layers/0/attention/query/bias', head='head/.*')
  adapted, trainable = trained(transfer.compose(transfer.lora(rank=2), some), 'BERT')
  with pytest.raises(ValueError, match='layers/0/attention/value/bias: is held'):
    interop.save_adapter(tmp_path / 'a', adapted, trainable)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('bias', BOTH)
def test_peft_opens_trained_biases_to_the_same_numbers(bias, tmp_path):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  library = pytest.importorskip('peft')
  interop.save(tmp_path / 'base', base('CLASSIFIER'))
  adapted, trainable = trained(BOTH[bias], 'CLASSIFIER')
  interop.save_adapter(tmp_path / 'a', adapted, trainable, base=str(tmp_path / 'base'))
  theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path / 'base')
  theirs = library.PeftModel.from_pretrained(theirs, tmp_path / 'a').eval()
  with torch.no_grad():
    found = theirs(torch.tensor(TOKENS['tokens']).long()).logits.numpy()
  assert np.abs(found - logits(adapted)).max() < 1e-4
  # And what peft itself writes of it comes back here.
  theirs.save_pretrained(tmp_path / 'again')
  again = interop.load_adapter(tmp_path / 'again', tmp_path / 'base')
  assert np.abs(logits(again) - found).max() < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
  'saved', [['embed_tokens'], ['lm_head'], ['embed_tokens', 'lm_head']]
)
@pytest.mark.parametrize('tied', [False, True])
def test_tables_that_peft_saved_make_its_numbers(saved, tied, tmp_path):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  library = pytest.importorskip('peft')
  interop.save(tmp_path / 'base', base('LLAMA'))
  theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / 'base')
  config = library.LoraConfig(
    task_type='CAUSAL_LM',
    r=2,
    target_modules=['q_proj'],
    modules_to_save=saved,
    ensure_weight_tying=tied,
  )
  theirs = library.get_peft_model(theirs, config).eval()
  torch.manual_seed(0)
  with torch.no_grad():
    for parameter in theirs.parameters():
      if parameter.requires_grad:
        parameter.add_(0.1 * torch.randn_like(parameter))
    found = theirs(torch.tensor(TOKENS['tokens']).long()).logits.numpy()
  theirs.save_pretrained(tmp_path / 'a')
  loaded = interop.load_adapter(tmp_path / 'a', tmp_path / 'base')
  assert np.abs(logits(loaded) - found).max() < 1e-4
