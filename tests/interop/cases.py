"""Small checkpoints of every family and head of transformers: weights that are a
function of their names, so that a fixture holds only config.json, shapes, inputs and
what transformers made of them.

`python -m tests.interop.cases` makes the fixtures again, or those whose names begin as
said (needs torch and transformers 5).
"""

import functools
import json
import pathlib
import sys
import tempfile
import zlib

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from case_configs import GROUPS  # noqa: E402

FIXTURES = pathlib.Path(__file__).with_name('fixtures') / 'families'
ROWS, LENGTH, DECODED = 3, 12, 9
CASES = {
  f'{name}-{suffix}': (group, suffix)
  for name, group in GROUPS.items()
  for suffix in group[3]
}
SINUSOIDAL = ('marian', 'pegasus')
_HEAD = (
  'shared',
  'classifier',
  'score',
  'qa_outputs',
  'dense_prediction',
  'lm_head',
  'out_proj',
  'decoder.weight',
)


def weights(name: str, shape, gain: float = 1.0) -> np.ndarray:
  """float32 values of a tensor, from its name; `gain` is for the last product, so that
  outputs deviate by 1 to 8.
  """
  name = name.replace('.decoder.bias', '.bias')  # one vector under two names
  draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
  if len(shape) > 1 and shape[0] > 1:
    last = any(part in name for part in _HEAD) and 'attn' not in name
    # T5 does not divide its scores by sqrt(head_dim)
    calm = 0.4 if 'Attention.q' in name else 1.0
    return (calm * (gain if last else 1.0) * 0.3 * draw).astype(np.float32)
  one = 0.0 if name.endswith('bias') else 1.4
  return (one + 0.3 * draw).astype(np.float32)


def materialise(folder, config: dict, shapes: dict, gain: float = 1.0) -> None:
  """Writes the folder of a fixture."""
  from tl_jax.interop.tensors import save_tensors

  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))
  held = {name: weights(name, tuple(shape), gain) for name, shape in shapes.items()}
  if config['model_type'] in SINUSOIDAL:
    held |= {
      name: sines(*shape)
      for name, shape in shapes.items()
      if name.endswith('embed_positions.weight')
    }
  save_tensors(folder, held)


def sines(positions: int, width: int) -> np.ndarray:
  """Angles of 10000 ** (-2 k / width) a position, first their sines and then their
  cosines.
  """
  angles = np.outer(np.arange(positions), 10000.0 ** (-np.arange(0, width, 2) / width))
  return np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)


def inputs(suffix: str, config: dict) -> dict[str, np.ndarray]:
  """Three rows: whole, padded on the right, and on the left where the head reads no
  first or last token.
  """
  draw = np.random.default_rng(7)
  pad = config.get('pad_token_id') or 0

  def words(length):
    numbers = draw.integers(5, 61, (ROWS, length))
    # The padding id is no word, even where it is among these: torch gives its row no
    # gradient.
    return np.where(numbers == pad, pad - 1, numbers)

  tokens, segments = words(LENGTH), np.ones((ROWS, LENGTH), int)
  segments[1, 8:] = 0
  if 'SequenceClassification' not in suffix:
    segments[2, :4] = 0
  found = {}
  if config.get('is_encoder_decoder') and suffix not in (
    'EncoderModel',
    'ForTokenClassification',
  ):
    if suffix == 'ForSequenceClassification':
      last = segments.sum(1) - 1
      tokens[np.arange(ROWS), last] = config['eos_token_id']
      start = config.get('decoder_start_token_id')
      start = config['eos_token_id'] if start is None else start  # mBART
      found['decoder_tokens'] = np.concatenate(
        [np.full((ROWS, 1), start), tokens[:, :-1]], 1
      )
      found['decoder_segments'] = segments
    else:
      real = np.ones((ROWS, DECODED), int)
      real[1, 6:] = 0
      found |= dict(decoder_tokens=words(DECODED), decoder_segments=real)
  tokens = np.where(segments > 0, tokens, pad)
  found |= dict(tokens=tokens, segments=segments)
  if config.get('type_vocab_size', 0) > 1:
    found['types'] = np.where(np.arange(LENGTH) > 5, 1, 0) * segments
  # transformers counts the places of these from the left edge of the row, padding or
  # not.
  if config['model_type'] in (
    'bert',
    'distilbert',
    'electra',
    'albert',
    'gpt2',
    'bart',
    'mbart',
    'marian',
    'pegasus',
    'modernbert',
    'deberta-v2',
  ):
    found['positions'] = np.broadcast_to(np.arange(LENGTH), (ROWS, LENGTH))
  return {name: np.asarray(value, np.int32) for name, value in found.items()}


def output_mask(batch: dict) -> np.ndarray:
  """Which positions of the outputs count."""
  return batch.get('decoder_segments', batch['segments']) > 0


def probe(shape) -> np.ndarray:
  """Fixed random numbers to weigh outputs and gradients with."""
  return (
    np.random.default_rng(zlib.crc32(str(tuple(shape)).encode()))
    .standard_normal(shape)
    .astype(np.float32)
  )


def loss_weights(shape, mask) -> np.ndarray:
  """What each output counts in the loss: nothing where the position is padding."""
  whole = probe(shape) / np.prod(shape)
  return (
    np.where(mask.reshape(*mask.shape, *[1] * (len(shape) - 2)), whole, 0.0)
    if shape[:2] == mask.shape
    else whole
  )


@functools.cache
def fixture(case: str) -> dict:
  """config, shapes, batch, and the expected hidden, logits, pooled, gradients {name:
  (norm, product with probe)}.
  """
  with np.load(FIXTURES / f'{case}.npz') as held:
    arrays = {name: held[name] for name in held.files}
  texts = {
    name: json.loads(arrays.pop(name).tobytes())
    for name in ('config', 'shapes', 'gradients', 'gain')
  }
  batch = {
    name[6:]: arrays.pop(name) for name in list(arrays) if name.startswith('batch/')
  }
  return texts | arrays | dict(batch=batch)


def reference(case: str, folder, gain: float = 1.0) -> dict:
  """What transformers makes of a case, whose folder it leaves behind: the content of a
  fixture.
  """
  import torch
  import transformers

  (prefix, config_prefix, values, _), suffix = CASES[case]
  cls = getattr(transformers, prefix + suffix)
  labels = dict(num_labels=2 if 'Question' in suffix else 3)
  made = cls(getattr(transformers, f'{config_prefix}Config')(**values, **labels))
  with tempfile.TemporaryDirectory() as scratch:
    made.save_pretrained(scratch)
    config = json.loads((pathlib.Path(scratch) / 'config.json').read_text())
    from tl_jax.interop.tensors import open_tensors

    held = open_tensors(scratch)
    shapes = {name: held.shape(name) for name in held.names}
  if case.startswith(('t5-1.1', 'mt5', 'umt5-untied')) and 'Generation' in suffix:
    shapes['lm_head.weight'] = (61, 24)  # as the published folders have it
    config['tie_word_embeddings'] = False
  materialise(folder, config, shapes, gain)
  model = cls.from_pretrained(folder, attn_implementation='eager').eval()
  batch = inputs(suffix, config)
  said = {
    'tokens': 'input_ids',
    'segments': 'attention_mask',
    'types': 'token_type_ids',
    'decoder_tokens': 'decoder_input_ids',
    'decoder_segments': 'decoder_attention_mask',
  }
  if suffix == 'ForSequenceClassification' and 'decoder_tokens' in batch:
    said = {
      name: theirs for name, theirs in said.items() if not name.startswith('decoder')
    }
  out = model(
    **{
      theirs: torch.tensor(np.array(batch[name])).long()
      for name, theirs in said.items()
      if name in batch
    },
    output_hidden_states=True,
  )
  logits = (
    torch.stack([out.start_logits, out.end_logits], -1)
    if 'start_logits' in out
    else out.get('logits')
  )
  hidden = out.get('last_hidden_state')
  answer = hidden if logits is None else logits
  (
    answer * torch.tensor(loss_weights(tuple(answer.shape), output_mask(batch)))
  ).sum().backward()
  found = dict(model.named_parameters())
  gradients = {}
  for name in shapes:
    if name in found and found[name].grad is not None:
      gradient = found[name].grad.numpy()
      gradients[name] = (
        float(np.linalg.norm(gradient)),
        float((gradient * probe(gradient.shape)).sum()),
      )
  pooled = out.get('pooler_output')
  arrays = {
    name: value.detach().numpy()
    for name, value in dict(hidden=hidden, logits=logits, pooled=pooled).items()
    if value is not None
  }
  return (
    dict(config=config, shapes=shapes, gradients=gradients, gain=gain, batch=batch)
    | arrays
  )


def main(*beginnings: str) -> None:
  FIXTURES.mkdir(parents=True, exist_ok=True)
  for case in CASES:
    if not case.startswith(beginnings or ('',)):
      continue
    for gain in (1.0, 2.0, 4.0, 8.0):
      with tempfile.TemporaryDirectory() as folder:
        found = reference(case, folder, gain)
      spread = found.get('logits', found.get('hidden')).std()
      if spread >= 1:
        break
    if not 1 <= spread <= 8:
      raise SystemExit(f'{case}: outputs deviate by {spread:.2f}')
    texts = {
      name: np.frombuffer(json.dumps(found.pop(name)).encode(), np.uint8)
      for name in ('config', 'shapes', 'gradients', 'gain')
    }
    batch = {f'batch/{name}': value for name, value in found.pop('batch').items()}
    np.savez_compressed(FIXTURES / f'{case}.npz', **texts, **batch, **found)


if __name__ == '__main__':
  main(*sys.argv[1:])
