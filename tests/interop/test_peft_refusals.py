"""An adapter that does not fit its base, or peft's words, is refused by name."""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from trained_adapters import bringing_a_pooler, folders, ours  # noqa: E402

from tl_jax import interop, leaves, transfer  # noqa: E402
from tl_jax.interop import peft  # noqa: E402
from tl_jax.interop.tensors import open_tensors, save_tensors  # noqa: E402


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
  for plain in (transfer.norms(), transfer.full()):
    refused('no adapter here: .* whole model, with --format=hf', plain)
  refused('a bottleneck adapter is nothing that peft has', transfer.adapter(size=4))
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
  refused(
    'no adapter here: a probe, .*--format=hf',
    transfer.probe(),
    loaded=interop.load(base),
  )
  base, _ = folders(tmp_path / 'gpt2', 'gpt2-classifier-lora')
  # Its head has no bias, which alone would name the module.
  refused(
    'score: peft trains a module in full or edits it, here both are asked for',
    transfer.lora('head/kernel', head=None),
    loaded=interop.load(base),
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
