"""A file like that of Llama 3.2 Instruct: scaled rotary positions, byte pairs, a chat
template, and what it is for.
"""

import json
import pathlib
import sys

import numpy as np
import pytest

gguf = pytest.importorskip('gguf')
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402
import folders  # noqa: E402
import ggufs  # noqa: E402

from tl_jax import interop  # noqa: E402
from tl_jax.cli import main  # noqa: E402
from tl_jax.interop.tensors import open_tensors, save_tensors  # noqa: E402

SCALING = dict(
  rope_theta=500000.0,
  rope_type='llama3',
  factor=32.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=8192,
)
TEMPLATE = '{{ bos_token }}{% for message in messages %}{{ message.content }}<|eot_id|>{% endfor %}'
MARKS = ('<|begin_of_text|>', '<|end_of_text|>', '<|eot_id|>', '<think>')


def shapes_of(vocabulary):
  """The shape of every tensor of two layers, by its name."""
  shapes = {'model.embed_tokens.weight': (vocabulary, 64), 'model.norm.weight': (64,)}
  for layer in range(2):
    parts = {
      'self_attn.q_proj': (128, 64),
      'self_attn.k_proj': (64, 64),
      'self_attn.v_proj': (64, 64),
      'self_attn.o_proj': (64, 128),
      'mlp.gate_proj': (96, 64),
      'mlp.up_proj': (96, 64),
      'mlp.down_proj': (64, 96),
      'input_layernorm': (64,),
      'post_attention_layernorm': (64,),
    }
    shapes |= {
      f'model.layers.{layer}.{name}.weight': shape for name, shape in parts.items()
    }
  return shapes


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """(folder, {type of the matrices: file}): the folder holds what the file of that type
  gives back.
  """
  path = tmp_path_factory.mktemp('llama')
  pieces, merges = folders.trained('bpe')
  names, first = [*pieces, *MARKS], len(pieces)
  config = dict(
    model_type='llama',
    architectures=['LlamaForCausalLM'],
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=64,
    intermediate_size=96,
    vocab_size=len(names),
    max_position_embeddings=131072,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
    rope_parameters=SCALING,
    bos_token_id=first,
    eos_token_id=first + 2,
  )
  shapes = shapes_of(len(names))
  found = {}
  for kind in (gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q8_0):
    folder = path / kind.name
    cases.materialise(folder, config, shapes)
    held = open_tensors(folder)
    # Queries and keys of a common size: large scores would blow up the last bits of an
    # angle.
    calm = {
      name: np.array(held.read(name))
      * (0.2 if 'q_proj' in name or 'k_proj' in name else 1.0)
      for name in held.names
    }
    save_tensors(
      folder, {name: array.astype(np.float32) for name, array in calm.items()}
    )
    finish = lambda out: ggufs.vocabulary(
      out,
      names,
      [1] * first + [3, 3, 3, 4],
      merges,
      template=TEMPLATE,
      bos=first,
      eos=first + 2,
      eot=first + 2,
    )
    file = ggufs.convert(
      folder, config, path / f'{kind.name}.gguf', quantize=kind, finish=finish
    )
    held = open_tensors(folder)
    rounded = {name: np.array(held.read(name)) for name in held.names}
    rounded = {
      name: gguf.dequantize(gguf.quantize(array, kind), kind)
      .reshape(array.shape)
      .astype(np.float32)
      if array.ndim > 1
      else array
      for name, array in rounded.items()
    }
    save_tensors(folder, rounded)
    found[kind.name] = folder, file
  return found


@pytest.mark.parametrize('kind', [pytest.param('F16', marks=pytest.mark.slow), 'Q8_0'])
def test_numbers_are_those_of_transformers(kind, files):
  torch, transformers = (
    pytest.importorskip('torch'),
    pytest.importorskip('transformers'),
  )
  folder, file = files[kind]
  loaded = interop.load(file)
  assert loaded.arch.rotary_scaling == (32.0, 1.0, 4.0, 8192.0)
  tokens = np.random.default_rng(0).integers(0, loaded.arch.vocabulary, (1, 300))
  model = transformers.LlamaForCausalLM.from_pretrained(
    folder, attn_implementation='eager'
  ).eval()
  with torch.no_grad():
    wanted = model(torch.tensor(tokens)).logits.numpy()
  found = loaded.model.apply(loaded.params, dict(tokens=tokens.astype(np.int32)))
  assert np.abs(np.asarray(found.logits) - wanted).max() < 1e-4
  # Without the scaling the numbers are others, so the comparison sees it.
  config = json.loads((folder / 'config.json').read_text()) | dict(
    rope_parameters=dict(rope_theta=5e5)
  )
  plain = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).eval()
  plain.load_state_dict(model.state_dict())
  with torch.no_grad():
    assert np.abs(plain(torch.tensor(tokens)).logits.numpy() - wanted).max() > 0.1


def test_the_same_ids_as_the_tokenizer_that_is_written_for_transformers(
  files, tmp_path
):
  transformers = pytest.importorskip('transformers')
  loaded = interop.load(files['F16'][1])
  interop.save(tmp_path, loaded)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  for text in ('the cat', '<think>a 12345 dog', ' naïve\n\nfaçade', "it's"):
    assert loaded.tokenizer.encode(text) == theirs(text).input_ids
  assert theirs.eos_token == '<|eot_id|>' and theirs.chat_template == TEMPLATE
  said = json.loads((tmp_path / 'generation_config.json').read_text())
  ends = ['<|eot_id|>', '<|end_of_text|>']
  assert said['eos_token_id'] == theirs.convert_tokens_to_ids(ends)


def test_import_and_generate(files, tmp_path, capsys):
  assert main.main(['import', str(files['Q8_0'][1]), str(tmp_path / 'model')]) == 0
  assert (
    main.main(
      [
        'generate',
        f'--model={tmp_path / "model"}',
        '--prompt=the cat',
        '--max-new-tokens=3',
      ]
    )
    == 0
  )
  assert 'the cat' in capsys.readouterr().out


@pytest.mark.slow
def test_transfer(files, tmp_path):
  data = tmp_path / 'reviews.jsonl'
  rows = [
    dict(text=f'{word} film number {i}', label=label, split=split)
    for i in range(12)
    for split in ('train', 'test')
    for word, label in (('good', 'pos'), ('bad', 'neg'))
  ]
  data.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  assert (
    main.main(
      [
        'transfer',
        f'--config=configs/transfer.py:task={data},method=lora,init={files["F16"][1]},labels=8',
        f'--workdir={tmp_path / "run"}',
        '--config.schedule.steps=2',
        '--config.schedule.warmup=1',
        '--config.data.length=32',
        '--config.data.batch=4',
      ]
    )
    == 0
  )
