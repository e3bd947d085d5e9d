"""Adapters of peft make the same logits here, ours make the same in peft, and what does
not fit is said by name.
"""

import dataclasses
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import adapters  # noqa: E402

from tl_jax import interop, leaves, models, transfer, tree  # noqa: E402
from tl_jax.interop import names, peft, peft_config  # noqa: E402
from tl_jax.interop.tensors import open_tensors, save_tensors  # noqa: E402

DECODER = r'decoder/layers/\d+/attention'
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


def slow_unless(quick, pairs):
  return pytest.mark.parametrize(
    'pair',
    [
      pair if pair in quick else pytest.param(pair, marks=pytest.mark.slow)
      for pair in pairs
    ],
  )


def logits(loaded, pair):
  batch = {
    name: jnp.array(value)
    for name, value in adapters.inputs(adapters.parts(pair)[0]).items()
  }
  return adapters.counted(pair, loaded.model.apply(loaded.params, batch).logits)


def folders(tmp_path, pair):
  """(base, adapter) of a fixture."""
  return adapters.write(tmp_path, pair, adapters.fixtures()[pair])


def ours(loaded, pair, head=None):
  """(the model with an adapter of ours whose numbers are not those of the start, the
  trainable tree).
  """
  base, method = adapters.parts(pair)
  head = head or (r'head/.*' if base not in ('gpt2', 'llama', 't5') else transfer.HEAD)
  made = {
    'lora': lambda: transfer.lora(rank=4, alpha=6, head=head),
    'rslora': lambda: transfer.lora(rank=4, alpha=6, stabilized=True, head=head),
    'dora': lambda: transfer.dora(rank=4, head=head),
    'ia3': lambda: transfer.ia3(head=head),
    'prefix': lambda: transfer.prefix(
      3, head=head, **(dict(pattern=DECODER) if base == 't5' else {})
    ),
    'prompt': lambda: transfer.prompt(3, head=head),
  }[method]()
  trainable, frozen = made.init(jax.random.key(0), loaded.params)
  draw = np.random.default_rng(5)
  trainable = jax.tree.map(
    lambda x: x + 0.15 * draw.standard_normal(x.shape).astype(np.float32), trainable
  )
  return loaded._replace(params=made.merge(trainable, frozen)), trainable


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


def bringing_a_pooler(loaded):
  """A BERT with a classifier whose pooler came with the task."""
  arch = dataclasses.replace(loaded.arch, pooler_place='new')
  params = {name: part for name, part in loaded.params.items() if name != 'pooler'}
  params['head'] = params['head'] | dict(pooler=loaded.params['pooler'])
  return loaded._replace(model=models.build(arch), arch=arch, params=params)


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


def test_the_hash_is_of_names_shapes_dtypes_and_bytes_of_what_is_held():
  params = {'a': {'kernel': jnp.ones((2, 3))}, 'b': jnp.zeros(2)}
  first = peft.base_hash(params)
  leaf = leaves.LowRank(params['a']['kernel'], jnp.ones((2, 1)), jnp.ones((1, 3)))
  edited = {'a': {'kernel': leaf}, 'b': params['b']}
  assert first == peft.base_hash(edited) and first == peft.base_hash(
    params | dict(head=jnp.ones(1)), {'head'}
  )
  others = [
    params | dict(b=jnp.array([0.0, 1e-30])),
    params | dict(b=jnp.zeros((2, 1))),
    params | dict(b=jnp.zeros(2, jnp.int32)),
    {'a': params['a'], 'c': params['b']},
    params | dict(c=jnp.ones(1)),
  ]
  assert len({first, *map(peft.base_hash, others)}) == 1 + len(others)
  with pytest.raises(ValueError, match='b: a Quantized is nothing that peft has'):
    peft.base_hash(dict(b=leaves.quantize(jnp.ones((4, 2)), 'int8')))


def test_another_base_is_refused_and_peft_s_own_adapter_is_not(tmp_path):
  base, folder = folders(tmp_path, 'bert-lora')
  loaded = interop.load(base)
  moved = jax.tree.map(lambda x: x + 1, loaded.params['embedding'])
  other = loaded._replace(params=loaded.params | dict(embedding=moved))
  adapted, trainable = ours(loaded, 'bert-lora')
  path = interop.save_adapter(tmp_path / 'ours', adapted, trainable)
  with pytest.raises(
    ValueError, match='adapter_model.safetensors: made for another base'
  ):
    interop.load_adapter(path, other)
  assert interop.load_adapter(folder, other).arch == loaded.arch


def changed(folder, tensors=None, **said):
  """The adapter's folder with some keys and tensors replaced; a tensor of None is left
  out.
  """
  file = folder / 'adapter_config.json'
  file.write_text(json.dumps(json.loads(file.read_text()) | said))
  held = open_tensors(folder, stem='adapter_model')
  kept = {name: np.array(held.read(name)) for name in held.names} | (tensors or {})
  save_tensors(
    folder,
    {name: array for name, array in kept.items() if array is not None},
    stem='adapter_model',
  )
  return folder


QUERY = 'base_model.model.bert.encoder.layer.0.attention.self.query.'
REFUSED = {
  'rank': (
    dict(r=5),
    'query: lora_A and lora_B are of rank 4 and 4, adapter_config.json says 5',
  ),
  'targets': (
    dict(target_modules=['qurey', 'value']),
    "target_modules: 'qurey' hits no module.*nearest: 'query'",
  ),
  'pattern': (dict(target_modules=r'.*\.nothing'), 'hits no module of the base'),
  'labels': (
    dict(tensors={'base_model.model.classifier.weight': np.ones((5, 24), np.float32)}),
    "'classifier.weight' is a head of 5 labels, the base has one of 3",
  ),
  'width': (
    dict(tensors={f'{QUERY}lora_A.weight': np.ones((4, 30), np.float32)}),
    r'made for a matrix of \(30, 24\), the base has \(24, 24\)',
  ),
  'half': (
    dict(tensors={f'{QUERY}lora_B.weight': None}),
    'query.lora_B is missing, the other half is there',
  ),
  'stray': (
    dict(
      tensors={
        'base_model.model.bert.nothing.lora_A.weight': np.ones((4, 24), np.float32)
      }
    ),
    "tensor 'bert.nothing.lora_A.weight' has no place in this bert",
  ),
  'kind': (
    dict(peft_type='LOHA'),
    "peft_type 'LOHA' is not supported; nearest: 'LORA'",
  ),
  'task': (
    dict(task_type='SEQ_CLASS'),
    "task_type 'SEQ_CLASS' is not supported; nearest: 'SEQ_CLS'",
  ),
  'key': (dict(lora_bias=True), 'lora_bias = True is not supported; False is'),
  'start': (
    dict(init_lora_weights='pissa_niter_4'),
    "init_lora_weights = 'pissa_niter_4' changes the base too",
  ),
  'number': (dict(r=0), 'r = 0 is not a whole number'),
  'magnitude': (
    dict(use_dora=True),
    'use_dora is True, but lora_magnitude_vector is missing',
  ),
  'patterns': (dict(rank_pattern=[1]), 'rank_pattern = .* is not an object'),
  'alphas': (
    dict(alpha_pattern={'query': 'many'}),
    "alpha_pattern = {'query': 'many'} is not an object",
  ),
  'alpha': (dict(lora_alpha=0), 'lora_alpha = 0 is not a positive number'),
  'expression': (dict(target_modules='.*(query'), 'is not a regular expression'),
  'list': (
    dict(target_modules=[1]),
    r'target_modules = \[1\] is neither a pattern nor a list of names',
  ),
}


@pytest.mark.parametrize('case', sorted(REFUSED))
def test_what_does_not_fit_is_named(case, tmp_path):
  change, message = REFUSED[case]
  base, folder = folders(tmp_path, 'bert-lora')
  with pytest.raises(ValueError, match=message) as error:
    interop.load_adapter(changed(folder, **change), base)
  assert str(folder) in str(error.value) and '\n' not in str(error.value)


def test_prompts_of_another_length_and_a_missing_head_are_named(tmp_path):
  base, folder = folders(tmp_path / 'prompt', 'gpt2-prompt')
  with pytest.raises(
    ValueError, match=r"'prompt_embeddings' has shape \(3, 24\).*it must be \(4, 24\)"
  ):
    interop.load_adapter(changed(folder, num_virtual_tokens=4), base)
  base, folder = folders(tmp_path / 'lora', 'bert-lora')
  left = {f'base_model.model.classifier.{leaf}': None for leaf in ('weight', 'bias')}
  with pytest.raises(
    ValueError, match='is missing: head/.* is neither in the base nor in the adapter'
  ):
    loaded = interop.load(base)
    interop.load_adapter(
      changed(folder, left),
      loaded._replace(
        arch=interop.with_head(loaded, 'none'),
        params={name: part for name, part in loaded.params.items() if name != 'head'},
      ),
    )


def test_what_peft_cannot_say_is_refused_before_anything_is_written(tmp_path):
  base, _ = folders(tmp_path, 't5-prefix')
  loaded = interop.load(base)

  def refused(message, *methods, loaded=loaded):
    method = transfer.compose(*methods) if len(methods) > 1 else methods[0]
    trainable, frozen = method.init(jax.random.key(0), loaded.params)
    with pytest.raises(ValueError, match=message):
      interop.save_adapter(
        tmp_path / 'no',
        loaded._replace(params=method.merge(trainable, frozen)),
        trainable,
      )

  refused('peft gives prefixes to the decoder only', transfer.prefix(3))
  refused(
    'peft gives prefixes to the decoder only',
    transfer.prefix(3, pattern=r'decoder/layers/[01]/attention'),
  )
  refused(
    'is of one method, these parameters hold LORA, PROMPT_TUNING',
    transfer.prompt(3),
    transfer.lora(),
  )
  refused('is of one method, these parameters hold none', transfer.norms())
  refused(
    'Bottleneck is nothing that peft has', transfer.adapter(size=4), transfer.lora()
  )
  refused(
    'peft edits the embedding but not the output', transfer.lora('embedding/tokens')
  )
  refused(
    'a LowRank is nothing|is all LoRA or all DoRA',
    transfer.lora(r'encoder/.*/query/kernel'),
    transfer.dora(r'decoder/.*/query/kernel'),
  )
  base, _ = folders(tmp_path / 'bert', 'bert-prompt')
  refused(
    'bert.pooler.dense: peft saves no module beside a prompt',
    transfer.prompt(3),
    loaded=bringing_a_pooler(interop.load(base)),
  )
  assert not (tmp_path / 'no').exists()


def test_a_base_that_the_method_changed_is_refused(tmp_path):
  base, _ = folders(tmp_path, 'bert-lora')
  loaded = interop.load(base)
  method = transfer.lora(rank=2, init='pissa', head='head/.*')
  trainable, frozen = method.init(jax.random.key(0), loaded.params)
  adapted = loaded._replace(params=method.merge(trainable, frozen))
  with pytest.raises(
    ValueError, match='query/kernel: is held otherwise than the base has it'
  ):
    interop.save_adapter(tmp_path / 'no', adapted, trainable, base=str(base))
  with pytest.raises(ValueError, match='held otherwise'):
    interop.save_adapter(tmp_path / 'no', adapted, trainable, over=loaded)


def test_a_base_in_half_the_width_is_the_same_base(tmp_path):
  base, _ = folders(tmp_path, 'gpt2-lora')
  narrow = interop.load(base, dtype='bfloat16')
  wide = narrow._replace(
    params=jax.tree.map(lambda x: x.astype(jnp.float32), narrow.params)
  )
  adapted, trainable = ours(wide, 'gpt2-lora')
  path = interop.save_adapter(tmp_path / 'ours', adapted, trainable, over=narrow)
  assert interop.load_adapter(path, narrow).arch == wide.arch
  with pytest.raises(ValueError, match='made for another base'):
    interop.load_adapter(path, base)


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
  pretrained, tmp_path
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
