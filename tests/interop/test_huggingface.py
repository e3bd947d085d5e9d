"""Folders of transformers give the same numbers here: hidden states, logits, gradients;
and go back to the last bit.
"""

import dataclasses
import functools
import json
import pathlib
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402

import tl_jax  # noqa: E402
from tl_jax import interop, models, parallel, tree  # noqa: E402
from tl_jax.interop import names  # noqa: E402
from tl_jax.interop.tensors import open_tensors, save_tensors  # noqa: E402

ALL = sorted(cases.CASES)
# One head of each group is enough for what the head has no part in.
WORDS = [
  name for name in ALL if any(head in name for head in ('LM', 'Generation', 'MTModel'))
]
LAST = {name.split('-')[0]: name for name in ALL if name in WORDS or 'opt-350m' in name}
GRADIENTS = [
  name
  for name in ALL
  if any(
    head in name
    for head in (
      'LM',
      'MTModel',
      'Generation',
      'Sequence',
      'PreTraining',
      'Token',
      'Question',
    )
  )
]
# Heads are the same few lines for every body: the quick tests see all of them on these,
# and the head of words on all.
HEADED = ('bert-', 'gpt2-', 't5-E', 'electra-ForPre')
OUTPUTS = {*LAST.values(), *WORDS, *(name for name in ALL if name.startswith(HEADED))}
# Where the outputs are right, the gradients are those of jax: one body of each kind
# shows that, and one head of each.
QUICK_GRADIENTS = (
  'bert-ForMaskedLM',
  'bert-ForSequenceClassification',
  'bert-ForTokenClassification',
  'bert-ForQuestionAnswering',
  'electra-ForPreTraining',
  'gpt2-LMHeadModel',
  'llama-ForCausalLM',
  't5-ForConditionalGeneration',
)
BODIES = [LAST[family] for family in ('bert', 'gemma2', 't5')]


def slow_unless(quick, every):
  return pytest.mark.parametrize(
    'case',
    [
      case if case in quick else pytest.param(case, marks=pytest.mark.slow)
      for case in every
    ],
  )


# Other values of fields that leave the shapes of the parameters alone.
FLIPS = dict(
  decoder_heads=(2, 0),
  activation=('relu', 'tanh'),
  norm=('rms', 'layer_unbiased'),
  norm_eps=(3.0,),
  norm_place=('after', 'before'),
  query_norm=(False,),
  bias=('none',),
  positions=('none',),
  position_offset=(0,),
  rotary_base=(3.0,),
  local_rotary_base=(2.0,),
  rotary_scaling=((), (3.0,)),
  relative_distance=(6,),
  windows=((0,),),
  types=(0,),
  embedding_norm=(False,),
  embedding_scale=(0.3,),
  residual_scale=(1.0,),
  rotary_layers=((True,),),
  attention_scale=(0.05,),
  attention_cap=(0.0,),
  logit_cap=(0.0,),
  output_scale=(1.0,),
  tied=(True,),
  pool=('first', 'last'),
  pooler=('relu', 'tanh'),
  head_activation=('tanh',),
  head_bias=(False,),
  gated=(False,),
  kind=('encoder', 'decoder'),
)
# What other fields set needs parameters of other shapes or names, so nothing could be
# loaded into a flipped one.
SHAPES = (
  'vocabulary',
  'width',
  'layers',
  'decoder_layers',
  'decoder_mlp',
  'layer_groups',
  'embedding_width',
  'heads',
  'kv_heads',
  'head_dim',
  'mlp',
  'max_positions',
  'relative_buckets',
  'skip_first_norm',
  'pooler_norm',
  'pooler_place',
  'pair_head',
  'head',
  'labels',
  'start',
  'init',
  'init_std',
)


@functools.cache
def opened(case):
  folder = pathlib.Path(tempfile.mkdtemp(prefix='tl_jax_parity_'))
  found = cases.fixture(case)
  cases.materialise(folder, found['config'], found['shapes'], found['gain'])
  return (
    folder,
    interop.load(folder),
    {name: jnp.array(value) for name, value in found['batch'].items()},
    found,
  )


def answer(model, params, batch):
  out = model.apply(params, batch)
  return out.hidden if out.logits is None else out.logits


def counted(value, batch):
  mask = cases.output_mask(batch)
  return np.asarray(value)[mask] if value.shape[:2] == mask.shape else np.asarray(value)


@slow_unless(OUTPUTS, ALL)
def test_outputs_are_those_of_transformers(case):
  _, loaded, batch, found = opened(case)
  out = loaded.model.apply(loaded.params, batch)
  if 'hidden' in found:
    assert (
      np.abs(counted(out.hidden, batch) - counted(found['hidden'], batch)).max() < 1e-4
    )
  if 'logits' in found:
    assert (
      np.abs(counted(out.logits, batch) - counted(found['logits'], batch)).max() < 1e-4
    )
  if 'pooled' in found:
    rows = [0, 1]  # theirs reads the padding of a row that is padded on the left
    assert np.abs(out.pooled[:2] - found['pooled'][rows]).max() < 1e-4


@slow_unless(QUICK_GRADIENTS, GRADIENTS)
def test_gradients_are_those_of_transformers(case):
  _, loaded, batch, found = opened(case)

  def loss(params):
    value = answer(loaded.model, params, batch)
    return jnp.sum(value * cases.loss_weights(value.shape, cases.output_mask(batch)))

  gradients = tree.flatten(jax.grad(loss)(loaded.params))
  family = loaded.config['model_type']
  bare = loaded.arch.head == 'none' and 'Encoder' not in case
  where = names.places(
    family, loaded.arch.head, loaded.params, gated=loaded.arch.gated, bare=bare
  )
  ours = names.to_theirs(where, gradients)
  if names.NAMES[family].tied_names and not loaded.arch.tied:
    bias, other = names.NAMES[family].tied_names
    ours[other] = ours.pop(bias)
  largest = max(norm for norm, _ in found['gradients'].values())
  compared = 0
  for name, (norm, product) in found['gradients'].items():
    if name in ours:
      compared += 1
      assert abs(np.linalg.norm(ours[name]) - norm) <= 1e-3 * norm + 1e-6 * largest, (
        name
      )
      assert (
        abs((ours[name] * cases.probe(ours[name].shape)).sum() - product)
        <= 1e-3 * norm + 1e-5 * largest
      ), name
  # Sines are no parameters here; those of Pegasus have a gradient in transformers 5.
  fixed = [
    name
    for name in found['gradients']
    if name.endswith(names.NAMES[family].sines or '\n')
  ]
  assert compared == len(found['gradients']) - len(fixed)


@pytest.mark.parametrize(
  'case',
  [
    'bert-ForMaskedLM',
    'albert-ForMaskedLM',
    'modernbert-ForMaskedLM',
    'gpt2-LMHeadModel',
    'llama-ForCausalLM',
    'opt-ForCausalLM',
    't5-ForConditionalGeneration',
    'bart-ForConditionalGeneration',
  ],
)
def test_the_body_of_a_model_with_a_head_opens_alone(case):
  folder, loaded, batch, _ = opened(case)
  alone = interop.load(folder, head='none')
  assert not any(name.startswith('head/') for name in tree.flatten(alone.params))
  np.testing.assert_array_equal(
    alone.model.apply(alone.params, batch).hidden,
    loaded.model.apply(loaded.params, batch).hidden,
  )


@slow_unless(OUTPUTS, ALL)
def test_saving_gives_the_same_bytes_under_the_same_names(case, tmp_path):
  folder, loaded, _, _ = opened(case)
  interop.save(tmp_path / 'again', loaded)
  before, after = open_tensors(folder), open_tensors(tmp_path / 'again')
  # A class of transformers may leave the sines of positions out; they are written for
  # all.
  more = set(after.names) - set(before.names)
  assert all(
    name.endswith(names.NAMES[loaded.config['model_type']].sines or '\n')
    for name in more
  )
  for name in before.names:
    assert before.read(name).tobytes() == after.read(name).tobytes(), name
  again = interop.load(tmp_path / 'again')
  assert again.arch == loaded.arch


@slow_unless(BODIES, sorted(LAST.values()))
def test_a_packed_row_is_its_rows_apart(case):
  _, loaded, batch, _ = opened(case)
  batch = {name: value for name, value in batch.items() if 'positions' not in name}
  apart = counted(answer(loaded.model, loaded.params, batch), batch)
  packed = {}
  for name in batch:
    side = 'decoder_segments' if name.startswith('decoder') else 'segments'
    keep = np.asarray(batch[side]) > 0
    value = (
      np.arange(1, len(keep) + 1)[:, None] * keep
      if name.endswith('segments')
      else np.asarray(batch[name])
    )
    packed[name] = jnp.array(value[keep])[None]
  together = counted(answer(loaded.model, loaded.params, packed), packed)
  assert np.abs(apart - together).max() < 1e-5 * max(1.0, np.abs(apart).max())


@slow_unless(BODIES[:1], sorted(LAST.values()))
def test_every_field_that_a_family_sets_counts(case):
  _, loaded, batch, _ = opened(case)
  plain, tried = models.Arch(), []
  right = counted(answer(loaded.model, loaded.params, batch), batch)
  for field in dataclasses.fields(models.Arch):
    mine = getattr(loaded.arch, field.name)
    if mine == getattr(plain, field.name) and field.name not in (
      'norm_eps',
      'activation',
    ):
      continue
    if field.name in SHAPES:
      continue
    if unread(loaded.arch, field.name):
      continue
    moved = max(
      difference(loaded, batch, right, field.name, other)
      for other in FLIPS[field.name]
      if other != mine
    )
    assert moved > 1e-2, f'{field.name} = {mine} does not matter'
    tried.append(field.name)
  assert len(tried) >= 3, tried


def unread(arch, field):
  """Does this head not read the field?"""
  return (
    field in ('pool', 'pooler')
    and not arch.pools
    and arch.head != 'classifier'
    or field == 'pooler'
    and not arch.pools
    or field == 'pool'
    and arch.head != 'classifier'
    or field == 'head_activation'
    and arch.head not in ('masked', 'replaced')
    or field == 'norm_place'
    and (arch.norm_place in ('after', 'output') or arch.skip_first_norm)
    or field == 'bias'
    and arch.bias == 'none'
    or field == 'kind'
    and arch.kind == 'encoder-decoder'
    or field == 'head_bias'
    and not arch.head_bias
    or field == 'tied'
    and arch.tied
  )


def difference(loaded, batch, right, field, other):
  flipped = models.build(dataclasses.replace(loaded.arch, **{field: other}))
  return np.abs(counted(answer(flipped, loaded.params, batch), batch) - right).max()


@pytest.mark.parametrize(
  ('case', 'key'),
  [
    ('llama-Model', 'tie_word_embeddings'),
    ('t5-1.1-EncoderModel', 'scale_decoder_outputs'),
  ],
)
def test_what_a_head_does_not_read_is_kept_for_another(case, key, tmp_path):
  _, loaded, _, found = opened(case)
  interop.save(tmp_path, loaded)
  assert found['config'][key] is False
  assert json.loads((tmp_path / 'config.json').read_text())[key] is False


@pytest.mark.parametrize(
  ('case', 'cls'),
  [
    ('mpnet-Model', 'MPNetForMaskedLM'),
    ('roberta-Model', 'RobertaForSequenceClassification'),
    ('deberta-v2-Model', 'DebertaV2ForMaskedLM'),
    ('distilbert-Model', 'DistilBertForMaskedLM'),
  ],
)
def test_a_body_whose_config_names_a_head_that_is_gone_opens_as_the_body(
  case, cls, tmp_path, caplog
):
  _, body, batch, found = opened(case)
  cases.materialise(
    tmp_path,
    found['config'] | dict(architectures=[cls]),
    found['shapes'],
    found['gain'],
  )
  loaded = interop.load(tmp_path)
  assert loaded.arch == body.arch and 'the body opens alone' in caplog.text
  np.testing.assert_array_equal(
    loaded.model.apply(loaded.params, batch).hidden,
    body.model.apply(body.params, batch).hidden,
  )
  with pytest.raises(ValueError, match='is missing'):
    interop.load(tmp_path, head='masked')
  interop.save(tmp_path / 'again', loaded)
  said = json.loads((tmp_path / 'again' / 'config.json').read_text())
  assert said['architectures'] == [cls.partition('For')[0] + 'Model']


def test_the_older_spelling_of_the_masked_head_of_deberta_opens(tmp_path):
  _, loaded, batch, found = opened('deberta-v2-ForMaskedLM')
  older = {
    'lm_predictions.lm_head.dense': 'cls.predictions.transform.dense',
    'lm_predictions.lm_head.LayerNorm': 'cls.predictions.transform.LayerNorm',
    'lm_predictions.lm_head.bias': 'cls.predictions.bias',
  }
  renamed = {}
  for name, shape in found['shapes'].items():
    module = next((module for module in older if name.startswith(module)), '')
    renamed[older.get(module, '') + name.removeprefix(module)] = cases.weights(
      name, tuple(shape), found['gain']
    )
  renamed['cls.predictions.decoder.bias'] = renamed['cls.predictions.bias']
  (tmp_path / 'config.json').write_text(json.dumps(found['config'] | dict(legacy=True)))
  save_tensors(tmp_path, renamed)
  again = interop.load(tmp_path)
  np.testing.assert_array_equal(
    again.model.apply(again.params, batch).logits,
    loaded.model.apply(loaded.params, batch).logits,
  )
  interop.save(tmp_path / 'saved', again)
  assert json.loads((tmp_path / 'saved' / 'config.json').read_text())['legacy'] is False
  assert open_tensors(tmp_path / 'saved').names == tuple(sorted(found['shapes']))


def test_loading_onto_a_mesh_and_in_another_dtype():
  folder, loaded, batch, _ = opened('llama-ForCausalLM')
  mesh = parallel.make_mesh(parallel.MeshShape())
  placed = interop.load(folder, mesh=mesh, dtype='bfloat16')
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(placed.params)} == {'bfloat16'}
  assert all(
    isinstance(leaf.sharding, jax.sharding.NamedSharding)
    for leaf in jax.tree.leaves(placed.params)
  )
  assert (
    np.abs(
      answer(placed.model, placed.params, batch)
      - answer(loaded.model, loaded.params, batch)
    ).max()
    < 0.5
  )


def test_half_precision_and_shards_are_kept(tmp_path):
  _, loaded, _, found = opened('gpt2-LMHeadModel')
  halves = {
    name: cases.weights(name, tuple(shape)).astype(jnp.bfloat16)
    for name, shape in found['shapes'].items()
  }
  (tmp_path / 'config.json').write_text(json.dumps(found['config']))
  save_tensors(tmp_path, halves, shard_bytes=4000)
  assert (tmp_path / 'model.safetensors.index.json').exists()
  half = interop.load(tmp_path)
  interop.save(tmp_path / 'again', half, shard_bytes=4000)
  again = open_tensors(tmp_path / 'again')
  assert all(
    again.read(name).tobytes() == value.tobytes() for name, value in halves.items()
  )
  assert (
    json.loads((tmp_path / 'again' / 'config.json').read_text())['dtype'] == 'bfloat16'
  )


def test_the_format_of_a_folder_is_named_and_that_of_an_adapter_says_what_it_needs(
  tmp_path,
):
  folder, loaded, _, _ = opened('bert-ForMaskedLM')
  tl_jax.save(tmp_path / 'again', loaded, format='hf')
  assert open_tensors(tmp_path / 'again').names == open_tensors(folder).names
  with pytest.raises(ValueError, match=r"format='peft'.*save_adapter.*--format=peft"):
    tl_jax.save(tmp_path / 'adapter', loaded, format='peft')
  with pytest.raises(ValueError, match=r"format: 'hff'.*'hf'"):
    tl_jax.save(tmp_path / 'adapter', loaded, format='hff')
  assert not (tmp_path / 'adapter').exists()


@pytest.mark.slow
@pytest.mark.parametrize('case', ALL)
def test_transformers_opens_what_is_saved(case, tmp_path):
  pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  kept = cases.fixture(case)
  found = cases.reference(case, tmp_path / 'theirs', kept['gain'])
  loaded = interop.load(tmp_path / 'theirs')
  batch = {name: jnp.array(value) for name, value in found['batch'].items()}
  value = found.get('logits', found.get('hidden'))
  assert (
    np.abs(
      counted(answer(loaded.model, loaded.params, batch), batch) - counted(value, batch)
    ).max()
    < 1e-4
  )
  assert found['shapes'] == {
    name: tuple(shape) for name, shape in kept['shapes'].items()
  }
  interop.save(tmp_path / 'ours', loaded)
  (prefix, *_), suffix = cases.CASES[case]
  cls = getattr(transformers, prefix + suffix)
  model, report = cls.from_pretrained(tmp_path / 'ours', output_loading_info=True)
  assert not any(report.values()), report
  theirs = cls.from_pretrained(tmp_path / 'theirs').state_dict()
  for name, tensor in model.state_dict().items():
    assert tensor.equal(theirs[name]), name
