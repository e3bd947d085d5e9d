"""Adapters of peft make the same logits here, and ours make the same in peft."""

import dataclasses
import json
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import adapters  # noqa: E402
from trained_adapters import bringing_a_pooler, folders, logits, ours, slow_unless  # noqa: E402

from tl_jax import interop, leaves, models, transfer, tree  # noqa: E402
from tl_jax.interop import names, peft, peft_config  # noqa: E402
from tl_jax.interop.tensors import open_tensors  # noqa: E402

# Every method on one family in the quick run, and on the others what they hold in a way
# of their own.
QUICK = (
  'bert-lora',
  'bert-rslora',
  'bert-dora',
  'bert-ia3',
  'bert-prefix',
  'gpt2-lora',
  'gpt2-ia3',
  'gpt2-prompt',
  'llama-lora',
  't5-prefix',
)


QUICK_OURS = (*QUICK, 'bert-prompt', 't5-lora', 't5-prompt', 'gpt2-classifier-lora')


@slow_unless(QUICK, adapters.PAIRS)
def test_adapters_of_peft_make_the_same_logits_and_come_back_the_same(pair, tmp_path):
  base, folder = folders(tmp_path, pair)
  loaded = interop.load_adapter(folder, base)
  wanted = adapters.counted(pair, adapters.fixtures()[pair]['logits'])
  assert wanted.std() > 0.1 and np.abs(logits(loaded, pair) - wanted).max() < 1e-4
  whole = [
    name
    for name, leaf in peft.named_leaves(loaded.params).items()
    if name.startswith('head/') and loaded.arch.head in peft.LABELLED
  ]
  again = interop.save_adapter(
    tmp_path / 'again', loaded, tree.unflatten(dict.fromkeys(whole, np.zeros(())))
  )
  first, second = (open_tensors(path, stem='adapter_model') for path in (folder, again))
  assert first.names == second.names
  if pair != 't5-prompt':  # of which peft holds a second half that it does not read
    assert all(
      np.array_equal(first.read(name), second.read(name)) for name in first.names
    )
  before, after = (
    json.loads((path / 'adapter_config.json').read_text()) for path in (folder, again)
  )
  assert all(after[key] == before.get(key) for key in ('peft_type', 'task_type'))
  numbers = (
    'r',
    'lora_alpha',
    'fan_in_fan_out',
    'num_virtual_tokens',
    'token_dim',
    'num_attention_heads',
    'use_dora',
  )
  assert all(
    after[key] == before[key]
    for key in numbers
    if key in before and not after.get('use_rslora') and not before.get('use_rslora')
  )


@slow_unless(
  QUICK_OURS,
  [pair for pair in adapters.PAIRS if pair.startswith(('bert-', 'gpt2-', 't5'))],
)
def test_an_adapter_of_ours_comes_back_to_the_same_numbers(pair, tmp_path):
  base, _ = folders(tmp_path, pair)
  adapted, trainable = ours(interop.load(base), pair)
  path = interop.save_adapter(
    tmp_path / 'ours', adapted, trainable, base=str(base), stabilized='rslora' in pair
  )
  again = interop.load_adapter(path, base)
  first, second = (
    tree.flatten(leaves.fuse(loaded.params)) for loaded in (adapted, again)
  )
  assert first.keys() == second.keys() and all(
    np.abs(first[name] - second[name]).max() < 1e-5 for name in first
  )
  assert json.loads((path / 'adapter_config.json').read_text())[
    'base_model_name_or_path'
  ] == str(base)


def test_parts_of_one_matrix_share_it_by_blocks(tmp_path):
  base, _ = folders(tmp_path, 'gpt2-lora')
  adapted, trainable = ours(interop.load(base), 'gpt2-lora')
  path = interop.save_adapter(tmp_path / 'ours', adapted, trainable)
  held, said = (
    open_tensors(path, stem='adapter_model'),
    json.loads((path / 'adapter_config.json').read_text()),
  )
  b = held.read('base_model.model.transformer.h.0.attn.c_attn.lora_B.weight')
  assert (
    b.shape == (72, 8)
    and said['r'] == 8
    and said['lora_alpha'] == 12
    and said['target_modules'] == ['c_attn']
  )
  assert (
    not b[24:48].any()
    and not b[:24, 4:].any()
    and not b[48:, :4].any()
    and b[:24, :4].all()
  )
  leaf = adapted.params['layers']['0']['attention']['value']['kernel']
  again = interop.load_adapter(path, base).params['layers']['0']['attention']['value'][
    'kernel'
  ]
  assert np.abs(again.dense() - leaf.dense()).max() < 1e-6


def test_what_is_loaded_is_fused_to_the_same_logits(tmp_path):
  for pair in ('bert-dora', 'gpt2-ia3'):
    base, folder = folders(tmp_path / pair, pair)
    loaded = interop.load_adapter(folder, str(base))
    fused = loaded._replace(params=leaves.fuse(loaded.params))
    assert np.abs(logits(fused, pair) - logits(loaded, pair)).max() < 1e-4
    again = interop.load(interop.save(tmp_path / pair / 'fused', fused))
    assert np.abs(logits(again, pair) - logits(loaded, pair)).max() < 1e-4


def test_a_pooler_of_the_base_is_held_with_it(tmp_path):
  base, _ = folders(tmp_path, 'bert-lora')
  adapted, trainable = ours(interop.load(base), 'bert-lora', head=transfer.HEAD)
  path = interop.save_adapter(tmp_path / 'ours', adapted, trainable)
  assert json.loads((path / 'adapter_config.json').read_text())['modules_to_save'] == [
    'classifier'
  ]
  assert (
    np.abs(
      logits(interop.load_adapter(path, base), 'bert-lora')
      - logits(adapted, 'bert-lora')
    ).max()
    < 2e-5
  )


def test_a_head_comes_with_its_labels_over_a_body_that_has_none(tmp_path):
  base, _ = folders(tmp_path, 'bert-lora')
  whole = interop.load(base)
  body = whole._replace(
    arch=dataclasses.replace(interop.with_head(whole, 'none'), pooler_place='new'),
    params={
      name: part
      for name, part in whole.params.items()
      if name not in ('head', 'pooler')
    },
  )
  adapted, trainable = ours(bringing_a_pooler(whole), 'bert-lora', head=transfer.HEAD)
  path = interop.save_adapter(tmp_path / 'ours', adapted, trainable)
  said = json.loads((path / 'adapter_config.json').read_text())
  assert said['modules_to_save'] == ['bert.pooler.dense', 'classifier']
  again = interop.load_adapter(path, body)
  assert (again.arch.head, again.arch.labels, again.arch.pooler_place) == (
    'classifier',
    3,
    'new',
  )
  assert np.abs(logits(again, 'bert-lora') - logits(adapted, 'bert-lora')).max() < 2e-5


def test_labels_of_an_adapter_have_their_names(tmp_path):
  base, _ = folders(tmp_path, 'bert-lora')
  adapted, trainable = ours(interop.load(base), 'bert-lora', head=transfer.HEAD)
  named = adapted._replace(labels=('neg', 'neu', 'pos'), kind='single_label')
  path = interop.save_adapter(tmp_path / 'ours', named, trainable)
  assert json.loads((path / 'labels.json').read_text())['id2label']['2'] == 'pos'
  # peft warns of keys that it does not know, and takes a config.json for a whole model.
  assert 'id2label' not in json.loads((path / 'adapter_config.json').read_text())
  assert not (path / 'config.json').exists()
  again = interop.load_adapter(path, base)
  assert (again.labels, again.kind) == (named.labels, named.kind)
  assert (
    interop.load_adapter(
      interop.save_adapter(tmp_path / 'plain', adapted, trainable), base
    ).labels
    == ()
  )


def test_an_adapter_is_imported_as_a_whole_folder(tmp_path, capsys):
  from tl_jax.cli.main import main

  base, folder = folders(tmp_path, 'bert-lora')
  assert main(['import', str(folder), str(tmp_path / 'whole'), f'--base={base}']) == 0
  whole, loaded = interop.load(tmp_path / 'whole'), interop.load_adapter(folder, base)
  first, second = (tree.flatten(leaves.fuse(each.params)) for each in (whole, loaded))
  assert all(np.array_equal(first[name], second[name]) for name in second)
  assert main(['import', str(folder), str(tmp_path / 'none')]) == 2
  assert 'name one with --base' in capsys.readouterr().err
  base, folder = folders(tmp_path / 'prompt', 'bert-prompt')
  assert main(['import', str(folder), str(tmp_path / 'none'), f'--base={base}']) == 2
  assert 'embedding/prompt stands before the text' in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_exported_as_an_adapter_and_imported_as_its_model(
  pretrained, tmp_path, capsys
):
  from tl_jax import config, train
  from tl_jax.cli.main import main

  quick = [
    ('schedule.steps', '6'),
    ('schedule.warmup', '2'),
    ('data.length', '32'),
    ('log.tensorboard', 'false'),
  ]
  argument = f'task=sentiment,method=lora,init={pretrained},labels=24'
  train.transfer(
    config.load(
      f'configs/transfer.py:{argument}',
      [*quick, ('data.batch', '4'), ('task.test', '60')],
    ),
    tmp_path / 'run',
  )
  assert (
    main(['export', str(tmp_path / 'run'), str(tmp_path / 'adapter'), '--format=peft'])
    == 0
  )
  lines = capsys.readouterr().err.splitlines()
  assert f'`tl-jax export {pretrained} BASE`' in lines[-2]
  assert "id2label={0: 'negative', 1: 'positive'}" in lines[-1]
  assert main(['import', str(tmp_path / 'adapter'), str(tmp_path / 'whole')]) == 0
  first, second = (
    tree.flatten(loaded.params)
    for loaded in (train.load(tmp_path / 'run'), interop.load(tmp_path / 'whole'))
  )
  assert all(np.array_equal(first[name], second[name]) for name in first)
  assert main(['export', str(pretrained), str(tmp_path / 'no'), '--format=peft']) == 2


def test_even_decoders_of_t5_share_prefixes_in_peft():
  from tl_jax.interop.peft_prompts import decoder_rows

  assert all(
    sorted(decoder_rows(layers)) == list(range(layers)) for layers in (1, 3, 5, 7)
  )
  assert decoder_rows(6) == [0, 2, 4, 0, 2, 4]


def test_lists_of_modules_say_just_the_chosen_ones():
  every = {
    place.name.rpartition('.')[0]
    for place in names.places(
      'bert',
      'none',
      {
        f'layers/{layer}/{part}/kernel': 0
        for layer in (0, 1)
        for part in ('attention/query', 'attention/out', 'mlp/in', 'mlp/out')
      },
    ).values()
  }
  chosen = {name for name in every if name.endswith(('query', '1.output.dense'))}
  said = peft_config.short_names(chosen, every)
  hit = {
    module for module in every if any(peft_config.ends(module, end) for end in said)
  }
  assert 'query' in said and hit == chosen


@pytest.mark.slow
@pytest.mark.filterwarnings('default')
@pytest.mark.parametrize('pair', adapters.PAIRS)
def test_peft_opens_what_is_saved(pair, tmp_path):
  pytest.importorskip('peft')
  adapters.skip_unless_peft_runs(pair)
  kept = adapters.fixtures()[pair]
  found = adapters.make(pair, tmp_path)
  assert found['adapter_shapes'] == {
    name: tuple(shape) for name, shape in kept['adapter_shapes'].items()
  }
  assert np.abs(found['logits'] - kept['logits']).max() < 1e-4
  adapted, trainable = ours(interop.load(tmp_path / 'base'), pair)
  path = interop.save_adapter(
    tmp_path / 'ours', adapted, trainable, stabilized='rslora' in pair
  )
  theirs = adapters.counted(
    pair, adapters.logits_of_peft(pair, tmp_path / 'base', path)
  )
  assert np.abs(theirs - logits(adapted, pair)).max() < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings('default')
def test_peft_opens_a_head_and_its_pooler_over_a_base_with_neither(tmp_path):
  pytest.importorskip('peft')
  adapters.make('bert-masked-lora', tmp_path)
  base = interop.load(tmp_path / 'base')
  whole = folders(tmp_path / 'other', 'bert-lora')[0]
  brought = {'head': bringing_a_pooler(interop.load(whole)).params['head']}
  arch = dataclasses.replace(interop.with_head(base, 'classifier'), labels=3)
  loaded = base._replace(
    model=models.build(arch), arch=arch, params={**base.params, **brought}
  )
  adapted, trainable = ours(loaded, 'bert-lora', head=transfer.HEAD)
  path = interop.save_adapter(
    tmp_path / 'ours', adapted, trainable, base=str(tmp_path / 'base')
  )
  theirs = adapters.logits_of_peft('bert-lora', tmp_path / 'base', path, num_labels=3)
  assert np.abs(theirs - logits(adapted, 'bert-lora')).max() < 1e-4
  assert (
    np.abs(
      logits(interop.load_adapter(path, tmp_path / 'base'), 'bert-lora') - theirs
    ).max()
    < 1e-4
  )
