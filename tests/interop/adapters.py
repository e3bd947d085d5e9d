"""Adapters of peft over small models of transformers: weights that are a function of
their names, so that the fixture holds only configs, shapes and the logits that peft
made.

`python -m tests.interop.adapters` makes the fixture again (needs torch, transformers 5
and peft).
"""

import functools
import inspect
import json
import pathlib
import sys
import tempfile
import zlib

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402

FIXTURE = pathlib.Path(__file__).with_name('fixtures') / 'peft.npz'
STEPS = FIXTURE.with_name('peft-steps.npz')
ROWS, LENGTH, DECODED, PROMPT = 3, 8, 5, 3
_BERT = cases.GROUPS['bert'][2] | dict(num_hidden_layers=2)
_GPT2 = cases.GROUPS['gpt2'][2]
_LLAMA = dict(
  vocab_size=61,
  hidden_size=24,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  intermediate_size=40,
  head_dim=10,
  pad_token_id=0,
)
_T5 = cases.GROUPS['t5'][2]
# name: (class, config class, its values, task of peft)
BASES = {
  'bert': ('BertForSequenceClassification', 'BertConfig', _BERT, 'SEQ_CLS'),
  'bert-token': ('BertForTokenClassification', 'BertConfig', _BERT, 'TOKEN_CLS'),
  'bert-masked': ('BertForMaskedLM', 'BertConfig', _BERT, None),
  'gpt2': ('GPT2LMHeadModel', 'GPT2Config', _GPT2, 'CAUSAL_LM'),
  'gpt2-classifier': ('GPT2ForSequenceClassification', 'GPT2Config', _GPT2, 'SEQ_CLS'),
  'llama': ('LlamaForCausalLM', 'LlamaConfig', _LLAMA, 'CAUSAL_LM'),
  'llama-classifier': (
    'LlamaForSequenceClassification',
    'LlamaConfig',
    _LLAMA,
    'SEQ_CLS',
  ),
  't5': ('T5ForConditionalGeneration', 'T5Config', _T5, 'SEQ_2_SEQ_LM'),
}
LORA = dict(r=4, lora_alpha=6)
METHODS = {
  'lora': ('LoraConfig', LORA),
  'rslora': ('LoraConfig', LORA | dict(use_rslora=True)),
  'dora': ('LoraConfig', LORA | dict(use_dora=True)),
  'ia3': ('IA3Config', {}),
  'prefix': ('PrefixTuningConfig', dict(num_virtual_tokens=PROMPT)),
  'prompt': ('PromptTuningConfig', dict(num_virtual_tokens=PROMPT)),
}
PAIRS = [
  f'{base}-{method}'
  for base in BASES
  for method in METHODS
  # peft has no task for a masked head
  if BASES[base][3] or method not in ('prefix', 'prompt')
]


def parts(pair: str) -> tuple[str, str]:
  """(base, method)."""
  base, _, method = pair.rpartition('-')
  return base, method


def values(name: str, shape) -> np.ndarray:
  """float32 values of an adapter's tensor, from its name."""
  if 'lora' not in name and 'ia3' not in name and 'prompt' not in name:
    return cases.weights(f'adapter.{name}', shape)
  draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
  middle, spread = (
    (1.5, 0.2) if 'magnitude' in name else (1.0, 0.3) if 'ia3' in name else (0.0, 0.2)
  )
  return (middle + spread * draw).astype(np.float32)


def inputs(base: str) -> dict[str, np.ndarray]:
  """Three rows, one padded on the right, by our names."""
  draw = np.random.default_rng(3)
  tokens, segments = draw.integers(5, 61, (ROWS, LENGTH)), np.ones((ROWS, LENGTH), int)
  segments[1, 6:] = 0
  found = dict(tokens=np.where(segments > 0, tokens, 0), segments=segments)
  if base.startswith('bert'):
    found['types'] = np.where(np.arange(LENGTH) > 4, 1, 0) * segments
  if base == 't5':
    found['decoder_tokens'] = draw.integers(5, 61, (ROWS, DECODED))
  return {name: value.astype(np.int32) for name, value in found.items()}


def counted(pair: str, logits) -> np.ndarray:
  """The logits that both must agree on, one row each: of tokens, and of examples as
  peft reads them.

  peft does not tell a decoder's classifier which columns are padding once it has put a
  prompt before them.
  """
  base, method = parts(pair)
  logits, segments = np.asarray(logits), inputs(base)['segments']
  if logits.ndim == 2:
    return (
      logits[[0, 2]] if method == 'prompt' and not base.startswith('bert') else logits
    )
  return (
    logits[:, -DECODED:].reshape(-1, 61)
    if base == 't5'
    else logits[:, -LENGTH:][segments > 0]
  )


def write(folder, pair: str, found: dict) -> tuple[pathlib.Path, pathlib.Path]:
  """The folders of the base and of the adapter of a fixture."""
  from tl_jax.interop.tensors import save_tensors

  folder = pathlib.Path(folder)
  cases.materialise(folder / 'base', found['config'], found['shapes'])
  held = {
    name: values(name, tuple(shape)) for name, shape in found['adapter_shapes'].items()
  }
  save_tensors(folder / 'adapter', held, stem='adapter_model')
  (folder / 'adapter' / 'adapter_config.json').write_text(json.dumps(found['adapter']))
  return folder / 'base', folder / 'adapter'


@functools.cache
def fixtures() -> dict[str, dict]:
  """Of each pair: config, shapes, adapter (its config), adapter_shapes and logits."""
  with np.load(FIXTURE) as held:
    texts = json.loads(held['texts'].tobytes())
    return {
      pair: texts['bases'][parts(pair)[0]]
      | texts['adapters'][pair]
      | dict(logits=held[pair])
      for pair in PAIRS
    }


def torch_inputs(base: str) -> dict:
  """The batch by the names of transformers."""
  import torch

  said = {
    'tokens': 'input_ids',
    'segments': 'attention_mask',
    'types': 'token_type_ids',
    'decoder_tokens': 'decoder_input_ids',
  }
  return {
    said[name]: torch.tensor(value).long() for name, value in inputs(base).items()
  }


def peft_config(pair: str):
  """What peft is asked for; of T5 it does not find out the sizes of the decoder's
  prefix by itself.
  """
  import peft

  base, method = parts(pair)
  name, settings = METHODS[method]
  if pair == 't5-prefix':
    settings = settings | dict(num_layers=3, token_dim=20, num_attention_heads=2)
  return getattr(peft, name)(task_type=BASES[base][3], **settings)


def make(pair: str, folder: pathlib.Path) -> dict:
  """What peft makes of a pair, whose folders it leaves behind: the content of a
  fixture.
  """
  import peft
  import transformers

  from tl_jax.interop.tensors import open_tensors

  base, _ = parts(pair)
  cls, config, given, _ = BASES[base]
  model = getattr(transformers, cls)(
    getattr(transformers, config)(**given, num_labels=3)
  )
  model.save_pretrained(folder / 'base')
  peft.get_peft_model(model, peft_config(pair)).save_pretrained(folder / 'adapter')
  found = {}
  for name, stem, key in (
    ('base', 'model', 'shapes'),
    ('adapter', 'adapter_model', 'adapter_shapes'),
  ):
    held = open_tensors(folder / name, stem=stem)
    found[key] = {name: held.shape(name) for name in held.names}
  found['config'] = json.loads((folder / 'base' / 'config.json').read_text())
  said = json.loads((folder / 'adapter' / 'adapter_config.json').read_text())
  found['adapter'] = {
    key: value for key, value in said.items() if value is not None and 'path' not in key
  }
  write(folder, pair, found)
  return found | dict(logits=logits_of_peft(pair, folder / 'base', folder / 'adapter'))


def logits_of_peft(
  pair: str, base: pathlib.Path, adapter: pathlib.Path, **more
) -> np.ndarray:
  """What peft makes of the batch with an adapter's folder."""
  import peft
  import torch
  import transformers

  cls = getattr(transformers, BASES[parts(pair)[0]][0])
  model = cls.from_pretrained(base, attn_implementation='eager', **more)
  with torch.no_grad():
    return (
      peft.PeftModel.from_pretrained(model, adapter)
      .eval()(**torch_inputs(parts(pair)[0]))
      .logits.numpy()
    )


def skip_unless_peft_runs(pair: str) -> None:
  """Skips the test where the installed peft finds no way to give a prefix to a model
  with labels.

  peft asks by name whether the model, or its body, takes `past_key_values`, and
  transformers 5.24 calls that argument `cache`. What a folder says changes neither.
  """
  base, method = parts(pair)
  if method != 'prefix' or BASES[base][3] not in ('SEQ_CLS', 'TOKEN_CLS'):
    return
  import peft
  import transformers

  whole = getattr(transformers, BASES[base][0])
  # AutoModel has the class of the body for the configuration of the whole.
  body = transformers.AutoModel._model_mapping[whole.config_class]
  taken = {name for cls in (whole, body) for name in arguments(cls)}
  if 'past_key_values' not in taken:
    pytest.skip(
      f'peft {peft.__version__} gives a prefix as past_key_values, which '
      f'{whole.__name__} of transformers {transformers.__version__} does not take'
    )


def arguments(cls) -> list[str]:
  """The names of the arguments of a model's forward pass."""
  return list(inspect.signature(cls.forward).parameters)


def batches() -> list[dict]:
  """Five batches of eight labelled rows, some padded."""
  draw, found = np.random.default_rng(11), []
  for _ in range(5):
    segments = (np.arange(LENGTH) < draw.integers(4, LENGTH + 1, (8, 1))).astype(
      np.int32
    )
    tokens = np.where(segments > 0, draw.integers(5, 61, (8, LENGTH)), 0).astype(
      np.int32
    )
    found.append(
      dict(
        tokens=tokens, segments=segments, labels=draw.integers(0, 3, 8).astype(np.int32)
      )
    )
  return found


def train_with_peft(folder: pathlib.Path) -> tuple[dict, dict]:
  """The tensors of LoRA's adapter before and after one step of torch's AdamW on each
  batch; leaves the folders there.

  All is as peft gives it: B starts at zero. Rate 1e-3, decay 0.01, no dropout, float32.
  """
  import peft
  import torch
  import transformers

  from tl_jax.interop.tensors import open_tensors

  make('bert-lora', folder)
  given = dict(
    attn_implementation='eager',
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
  )
  model = transformers.BertForSequenceClassification.from_pretrained(
    folder / 'base', **given
  )
  torch.manual_seed(0)
  model = peft.get_peft_model(model, peft_config('bert-lora')).train()
  model.save_pretrained(folder / 'adapter')
  optimizer = torch.optim.AdamW(
    [leaf for leaf in model.parameters() if leaf.requires_grad],
    lr=1e-3,
    weight_decay=0.01,
  )
  for batch in batches():
    tokens, segments, labels = (
      torch.tensor(batch[name]).long() for name in ('tokens', 'segments', 'labels')
    )
    model(input_ids=tokens, attention_mask=segments, labels=labels).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
  model.save_pretrained(folder / 'after')
  held = [
    open_tensors(folder / name, stem='adapter_model') for name in ('adapter', 'after')
  ]
  return tuple(
    {name: np.array(file.read(name)) for name in file.names} for file in held
  )


def main() -> None:
  texts, arrays = dict(bases={}, adapters={}), {}
  for pair in PAIRS:
    with tempfile.TemporaryDirectory() as folder:
      found = make(pair, pathlib.Path(folder))
    arrays[pair] = found['logits'].astype(np.float32)
    texts['bases'][parts(pair)[0]] = {key: found[key] for key in ('config', 'shapes')}
    texts['adapters'][pair] = {key: found[key] for key in ('adapter', 'adapter_shapes')}
  content = np.frombuffer(
    json.dumps(texts, sort_keys=True, default=sorted).encode(), np.uint8
  )
  np.savez_compressed(FIXTURE, texts=content, **arrays)
  with tempfile.TemporaryDirectory() as folder:
    before, after = train_with_peft(pathlib.Path(folder))
  np.savez_compressed(
    STEPS,
    **{f'before/{name}': array for name, array in before.items()},
    **{f'after/{name}': array for name, array in after.items()},
  )


if __name__ == '__main__':
  main()
