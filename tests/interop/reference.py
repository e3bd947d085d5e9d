"""Small checkpoints of every family and head, and what transformers computes from them.

The weights are a function of the names and shapes of the tensors, so a fixture holds none: only config.json, shapes,
inputs and results. `python -m tests.interop.reference [NAME ...]` makes the fixtures anew; it alone needs torch and
transformers 5.
"""

import json
import pathlib
import re
import sys
import tempfile
import warnings
import zlib
from typing import NamedTuple

import numpy as np

FIXTURES = pathlib.Path(__file__).with_name('fixtures') / 'parity'
TOTAL_BYTES = 1_500_000
VOCABULARY, LENGTH, DECODER_LENGTH, LABELS = 61, 12, 11, 3
DEVIATION = 1.0               # of hidden states and logits, at least: a wrong activation or window must show
DECODERS = ('gpt2', 'opt', 'llama', 'mistral', 'qwen2', 'qwen3', 'gemma2', 'gemma3_text')


class Variant(NamedTuple):
  """One configuration of a family: how its classes are called, its values, its heads, and what its inputs are.

  absolute: do they count positions from the left edge, padding included?
  """
  family: str
  prefix: str
  values: dict
  heads: tuple[str, ...]
  absolute: bool = False


class Case(NamedTuple):
  """A variant with one head: one class of transformers."""
  name: str
  variant: Variant
  head: str

  @property
  def first(self) -> bool:
    """Does theirs read the first token of a row, even one that is padding, or the `</s>` of its input?"""
    if self.head == 'none':
      return self.variant.family in ('bert', 'roberta', 'albert')
    return self.head == 'classifier' and self.variant.family not in DECODERS


_ENCODER = ('none', 'masked', 'classifier', 'token', 'span')
_DECODER = ('none', 'causal', 'classifier', 'token', 'span')
_BERT = dict(vocab_size=VOCABULARY, hidden_size=36, num_hidden_layers=3, num_attention_heads=4, intermediate_size=50,
             max_position_embeddings=19, type_vocab_size=2, layer_norm_eps=1e-3)
_DISTILBERT = dict(vocab_size=VOCABULARY, dim=36, n_layers=3, n_heads=4, hidden_dim=50, max_position_embeddings=19)
_MODERN = dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=45,
               max_position_embeddings=40, norm_eps=1e-3, local_attention=6, pad_token_id=0, bos_token_id=2,
               eos_token_id=1, cls_token_id=2, sep_token_id=3, rope_parameters=dict(
                   full_attention=dict(rope_type='default', rope_theta=160.0),
                   sliding_attention=dict(rope_type='default', rope_theta=10.0)))
_GPT2 = dict(vocab_size=VOCABULARY, n_embd=36, n_layer=3, n_head=4, n_positions=19, layer_norm_epsilon=1e-3,
             pad_token_id=0, bos_token_id=2, eos_token_id=1)
_OPT = dict(vocab_size=VOCABULARY, hidden_size=36, num_hidden_layers=3, num_attention_heads=4, ffn_dim=50,
            word_embed_proj_dim=36, max_position_embeddings=19, pad_token_id=1)
_LLAMA = dict(vocab_size=VOCABULARY, hidden_size=36, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
              head_dim=10, intermediate_size=50, max_position_embeddings=40, rms_norm_eps=1e-3, pad_token_id=0,
              bos_token_id=2, eos_token_id=1)
_LLAMA3 = dict(rope_type='llama3', rope_theta=50.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=3.0,
               original_max_position_embeddings=16)
_PLAIN = dict(rope_parameters=dict(rope_type='default', rope_theta=500.0))
# Qwen 2 has no head_dim of its own.
_QWEN = {key: value for key, value in _LLAMA.items() if key != 'head_dim'} | _PLAIN | dict(
    hidden_size=40, tie_word_embeddings=True)
_SLIDING = dict(use_sliding_window=True, sliding_window=4, max_window_layers=1)
_GEMMA = _LLAMA | dict(hidden_size=32, query_pre_attn_scalar=7, sliding_window=4, num_hidden_layers=4)
_GEMMA2 = _GEMMA | _PLAIN | dict(attn_logit_softcapping=3.0, final_logit_softcapping=4.0)
_GEMMA3 = _GEMMA | dict(
    layer_types=['sliding_attention', 'sliding_attention', 'full_attention', 'sliding_attention'],
    rope_parameters=dict(full_attention=dict(rope_type='default', rope_theta=1000.0),
                         sliding_attention=dict(rope_type='default', rope_theta=20.0)))
_GEMMA3_LINEAR = dict(full_attention=dict(rope_type='linear', factor=8.0, rope_theta=1000.0),
                      sliding_attention=dict(rope_type='default', rope_theta=20.0))
_T5 = dict(vocab_size=VOCABULARY, d_model=36, d_kv=10, d_ff=50, num_layers=2, num_decoder_layers=3, num_heads=4,
           relative_attention_num_buckets=8, relative_attention_max_distance=9, layer_norm_epsilon=1e-3,
           pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
_T5_HEADS = ('none', 'encoder', 'causal', 'classifier', 'token', 'span')
_BART = dict(vocab_size=VOCABULARY, d_model=36, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4,
             decoder_attention_heads=4, encoder_ffn_dim=50, decoder_ffn_dim=50, max_position_embeddings=19)
_UNTIED = dict(tie_word_embeddings=False)
VARIANTS = {
    'bert': Variant('bert', 'Bert', _BERT, _ENCODER, True),
    'bert-relu': Variant('bert', 'Bert', _BERT | _UNTIED | dict(hidden_act='relu'), ('masked', 'classifier'), True),
    'bert-types': Variant('bert', 'Bert', _BERT | dict(hidden_act='gelu_new', type_vocab_size=3), ('masked',), True),
    'roberta': Variant('roberta', 'Roberta', _BERT | dict(type_vocab_size=1), _ENCODER),
    'roberta-relu': Variant('roberta', 'Roberta', _BERT | _UNTIED | dict(hidden_act='relu'), ('masked', 'token')),
    'distilbert': Variant('distilbert', 'DistilBert', _DISTILBERT, _ENCODER, True),
    'distilbert-relu': Variant('distilbert', 'DistilBert', _DISTILBERT | _UNTIED | dict(activation='relu'),
                               ('masked', 'classifier'), True),
    'electra': Variant('electra', 'Electra', _BERT | dict(embedding_size=22), (*_ENCODER, 'replaced'), True),
    'electra-relu': Variant('electra', 'Electra', _BERT | _UNTIED | dict(embedding_size=36, hidden_act='relu'),
                            ('masked', 'classifier', 'replaced'), True),
    'albert': Variant('albert', 'Albert', _BERT | dict(embedding_size=22, num_hidden_layers=4, num_hidden_groups=2),
                      _ENCODER, True),
    'albert-relu': Variant('albert', 'Albert', _BERT | _UNTIED | dict(embedding_size=22, hidden_act='relu'),
                           ('masked', 'classifier'), True),
    'modernbert': Variant('modernbert', 'ModernBert', _MODERN, _ENCODER),
    'modernbert-silu': Variant('modernbert', 'ModernBert', _MODERN | _UNTIED | dict(
        hidden_activation='silu', classifier_activation='relu', classifier_pooling='mean', local_attention=7,
        global_attn_every_n_layers=2), ('masked', 'classifier', 'span')),
    'gpt2': Variant('gpt2', 'GPT2', _GPT2, _DECODER, True),
    'gpt2-relu': Variant('gpt2', 'GPT2', _GPT2 | _UNTIED | dict(activation_function='relu', n_inner=50), ('causal',),
                         True),
    'opt': Variant('opt', 'OPT', _OPT, ('none', 'causal', 'classifier', 'span')),
    'opt-350m': Variant('opt', 'OPT', _OPT | dict(word_embed_proj_dim=22, do_layer_norm_before=False),
                        ('none', 'causal', 'classifier', 'span')),
    'opt-gelu': Variant('opt', 'OPT', _OPT | _UNTIED | dict(activation_function='gelu', enable_bias=False),
                        ('causal',)),
    'llama': Variant('llama', 'Llama', _LLAMA | dict(rope_parameters=_LLAMA3, tie_word_embeddings=True), _DECODER),
    'llama-gelu': Variant('llama', 'Llama', _LLAMA | _UNTIED | dict(
        hidden_act='gelu', attention_bias=True, mlp_bias=True, num_key_value_heads=1,
        rope_parameters=dict(rope_type='linear', factor=3.0, rope_theta=50.0)), ('causal', 'token')),
    'mistral': Variant('mistral', 'Mistral', _LLAMA | _PLAIN | _UNTIED | dict(sliding_window=4), _DECODER),
    'mistral-relu': Variant('mistral', 'Mistral', _LLAMA | _PLAIN | dict(
        sliding_window=None, hidden_act='relu', tie_word_embeddings=True), ('causal',)),
    'qwen2': Variant('qwen2', 'Qwen2', _QWEN, _DECODER),
    'qwen2-sliding': Variant('qwen2', 'Qwen2', _QWEN | _UNTIED | _SLIDING | dict(hidden_act='relu'), ('causal',)),
    'qwen3': Variant('qwen3', 'Qwen3', _LLAMA | _PLAIN | dict(tie_word_embeddings=True), _DECODER),
    'qwen3-sliding': Variant('qwen3', 'Qwen3', _LLAMA | _PLAIN | _UNTIED | _SLIDING | dict(
        hidden_act='gelu', attention_bias=True), ('causal',)),
    'gemma2': Variant('gemma2', 'Gemma2', _GEMMA2, ('none', 'causal', 'classifier', 'token')),
    'gemma2-relu': Variant('gemma2', 'Gemma2', _GEMMA2 | _UNTIED | dict(
        hidden_activation='relu', attn_logit_softcapping=None, final_logit_softcapping=None, attention_bias=True),
        ('causal',)),
    'gemma3': Variant('gemma3_text', 'Gemma3', _GEMMA3, ('none', 'causal', 'classifier')),
    'gemma3-relu': Variant('gemma3_text', 'Gemma3', _GEMMA3 | _UNTIED | dict(
        hidden_activation='relu', final_logit_softcapping=4.0, rope_parameters=_GEMMA3_LINEAR), ('causal',)),
    't5': Variant('t5', 'T5', _T5, _T5_HEADS),
    't5-1.1': Variant('t5', 'T5', _T5 | _UNTIED | dict(feed_forward_proj='gated-gelu'), _T5_HEADS),
    't5-silu': Variant('t5', 'T5', _T5 | dict(feed_forward_proj='gated-silu', num_decoder_layers=2), ('causal',)),
    'bart': Variant('bart', 'Bart', _BART | dict(scale_embedding=True), ('none', 'causal', 'classifier', 'span'), True),
    'bart-relu': Variant('bart', 'Bart', _BART | dict(activation_function='relu', decoder_layers=2),
                         ('causal', 'classifier'), True)}
CASES = {f'{name}-{head}': Case(f'{name}-{head}', variant, head)
         for name, variant in VARIANTS.items() for head in variant.heads}
_SUFFIXES = dict(
    none='Model', masked='ForMaskedLM', causal='ForCausalLM', classifier='ForSequenceClassification',
    token='ForTokenClassification', span='ForQuestionAnswering', replaced='ForPreTraining', encoder='EncoderModel')
_CLASSES = {
    'GPT2ForCausalLM': 'GPT2LMHeadModel', 'T5ForCausalLM': 'T5ForConditionalGeneration',
    'BartForCausalLM': 'BartForConditionalGeneration', 'Gemma3Model': 'Gemma3TextModel',
    'Gemma3ForSequenceClassification': 'Gemma3TextForSequenceClassification'}


def class_name(case: Case) -> str:
  """The class of transformers that has this head."""
  name = case.variant.prefix + _SUFFIXES[case.head]
  return _CLASSES.get(name, name)


def draw(*words) -> np.random.Generator:
  """The stream of random numbers that these words name."""
  return np.random.default_rng(zlib.crc32(' '.join(map(str, words)).encode()))


def weight(family: str, name: str, shape) -> np.ndarray:
  """A tensor, float32: norms spread around one, biases that count, kernels that keep the scale of what they read."""
  values = draw(name, *shape).standard_normal(shape)
  if name.endswith('bias') and 'relative' not in name:
    return (0.4 * values).astype(np.float32)
  if len(shape) == 1:
    return ((0.3 if family.startswith('gemma') else 1.3) + 0.3 * values).astype(np.float32)
  if 'relative' in name:
    scale = 1.0
  elif re.search(r'shared|embeddings?\.|embed_|wte|wpe', name):
    scale = 1.2 if family == 't5' else 0.45
  else:
    # Labels need more, or nine logits could all be small; the queries of T5 are not divided by sqrt(head).
    gain = 8.0 if 'dense_prediction' in name else 4.0 if re.search(r'score|classif|qa_', name) else 1.4
    scale = gain * (0.35 if name.endswith('.q.weight') else 1.0) / np.mean(shape) ** 0.5
  return (scale * values).astype(np.float32)


def materialise(folder: pathlib.Path, config: dict, shapes: dict) -> None:
  """Writes config.json and model.safetensors with the weights that the names say."""
  from tl_jax.interop.tensors import save_tensors
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config, indent=2, sort_keys=True) + '\n')
  save_tensors(folder, {name: weight(config['model_type'], name, shape) for name, shape in shapes.items()})


def make_batch(case: Case) -> dict[str, np.ndarray]:
  """int32 inputs in our words: a whole row, one padded on the right, one padded on the left where theirs can be."""
  values, random = case.variant.values, draw(case.name, 'batch')
  pad = 1 if case.variant.family in ('roberta', 'bart') else values.get('pad_token_id', 0)

  def side(length, prefix):
    tokens, segments = random.integers(5, VOCABULARY, (3, length)), np.ones((3, length), np.int32)
    segments[1, length - 3:] = 0
    segments[2, slice(length - 5, None) if case.first else slice(0, 4)] = 0
    found = {prefix + 'tokens': np.where(segments, tokens, pad), prefix + 'segments': segments}
    if case.variant.absolute:
      found[prefix + 'positions'] = np.arange(length) * np.ones((3, 1))
    return found

  batch = side(LENGTH, '')
  if values.get('type_vocab_size', 1) > 1:
    batch['types'] = random.integers(0, values['type_vocab_size'], (3, LENGTH)) * batch['segments']
  if case.variant.family in ('t5', 'bart') and case.head not in ('encoder', 'token'):
    if case.head == 'classifier':                          # theirs reads the state above the </s> of its input
      end, start = (1, 0) if case.variant.family == 't5' else (2, 2)
      batch['tokens'][np.arange(3), batch['segments'].sum(1) - 1] = end
      batch |= {f'decoder_{name}': value for name, value in batch.items()}
      batch['decoder_tokens'] = np.pad(batch['tokens'], ((0, 0), (1, 0)), constant_values=start)[:, :-1]
    else:
      batch |= side(DECODER_LENGTH, 'decoder_')
  return {name: np.asarray(value, np.int32) for name, value in batch.items()}


def real(batch: dict) -> np.ndarray:
  """bool (batch, length): the positions of the outputs that are not padding."""
  return batch.get('decoder_segments', batch['segments']) > 0


def loss_weights(batch: dict, name: str, shape) -> np.ndarray:
  """float32: what each number of an output weighs in the loss. Padding weighs nothing."""
  values, mask = draw('loss', name, *shape).standard_normal(shape), real(batch)
  if tuple(shape[:2]) == mask.shape:
    values *= mask.reshape(mask.shape + (1,) * (len(shape) - 2)) / mask.sum()
  else:
    values /= shape[0]
  return values.astype(np.float32)


def loss(batch: dict, outputs: dict, sums):
  """The same loss here and there: logits, or the hidden and pooled states of a body, times fixed weights, summed."""
  wanted = ('logits',) if outputs.get('logits') is not None else ('hidden', 'pooled')
  parts = [sums(outputs[name], loss_weights(batch, name, tuple(outputs[name].shape)))
           for name in wanted if outputs.get(name) is not None]
  return sum(parts[1:], parts[0])


def summary(name: str, gradient: np.ndarray) -> tuple[float, float]:
  """(norm, product with a fixed random direction of about its length) of a gradient."""
  gradient = np.asarray(gradient, np.float64)
  direction = draw('direction', name).standard_normal(gradient.shape)
  return float(np.linalg.norm(gradient)), float((gradient * direction).sum())


def shapes_of(path: pathlib.Path) -> dict[str, list[int]]:
  """The shapes in a safetensors file."""
  from safetensors import safe_open
  with safe_open(path, 'np') as file:
    return {name: list(file.get_slice(name).get_shape()) for name in sorted(file.keys())}


def create(case: Case, folder: pathlib.Path) -> tuple[dict, dict]:
  """(config, shapes) of what transformers saves for a case; `folder` then holds it with our weights."""
  import torch
  import transformers
  config_class = getattr(transformers, f'{case.variant.prefix}{"Text" * (case.variant.prefix == "Gemma3")}Config')
  labels = dict(num_labels=LABELS) if case.head in ('classifier', 'token') else {}
  model = getattr(transformers, class_name(case))(config_class(**case.variant.values, **labels))
  if case.variant.family == 't5' and case.head == 'causal' and case.variant.values.get('tie_word_embeddings') is False:
    # transformers 5 ties a new T5 whatever it is told, and keeps apart what a folder holds apart.
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() + 1.0)
  with tempfile.TemporaryDirectory() as scratch:
    model.save_pretrained(scratch)
    config = json.loads((pathlib.Path(scratch) / 'config.json').read_text())
    shapes = shapes_of(pathlib.Path(scratch) / 'model.safetensors')
  materialise(folder, config, shapes)
  return config, shapes


def open_theirs(case: Case, folder: pathlib.Path):
  """The model of a folder, float32, with plain attention. Raises ValueError if a tensor is missing or too many."""
  import transformers
  transformers.utils.logging.disable_progress_bar()
  model, report = getattr(transformers, class_name(case)).from_pretrained(
      folder, attn_implementation='eager', output_loading_info=True)
  if any(report.values()):
    raise ValueError(f'{case.name}: {report}')
  return model.eval()


def run(case: Case, model, batch: dict) -> dict:
  """Their outputs in our words: torch tensors hidden, logits, pooled, those that there are."""
  import torch
  theirs = dict(tokens='input_ids', segments='attention_mask', types='token_type_ids',
                decoder_tokens='decoder_input_ids', decoder_segments='decoder_attention_mask')
  given = {theirs[name]: torch.tensor(value, dtype=torch.long) for name, value in batch.items() if name in theirs}
  if case.head == 'classifier':
    given.pop('decoder_input_ids', None)                   # theirs makes it of input_ids
  stacked = case.variant.family in ('opt', 't5', 'bart')
  body, states = next((module for name, module in model.named_modules()
                       if stacked and name.rpartition('.')[2] == 'decoder'), model.base_model), []
  handle = body.register_forward_hook(lambda module, inputs, output: states.append(output.last_hidden_state))
  output = model(**given)
  handle.remove()
  logits = output.get('logits')
  if 'start_logits' in output:
    logits = torch.stack([output.start_logits, output.end_logits], -1)
  found = dict(hidden=states[-1], logits=logits, pooled=output.get('pooler_output'))
  return {name: value for name, value in found.items() if value is not None}


def measure(case: Case, folder: pathlib.Path) -> dict:
  """Everything that a fixture holds; the folder that was measured is left in `folder`."""
  config, shapes = create(case, folder)
  model, batch = open_theirs(case, folder), make_batch(case)
  tensors = model.state_dict(keep_vars=True)
  for name in shapes:
    tensors[name].requires_grad_(True)                     # the bias on BART's logits is a buffer
  outputs = run(case, model, batch)
  loss(batch, outputs, lambda value, weights: (value * value.new_tensor(weights)).sum()).backward()
  gradients = {name: summary(name, np.zeros(shape) if tensors[name].grad is None else tensors[name].grad.numpy())
               for name, shape in shapes.items()}
  found = {name: value.detach().numpy() for name, value in outputs.items()}
  mask = real(batch)
  for name, value in found.items():
    counted = value[mask] if value.shape[:2] == mask.shape else value
    if not np.isfinite(counted).all() or (name != 'pooled' and counted.std() < DEVIATION):
      raise ValueError(f'{case.name}: {name} deviates by {counted.std():.2f}, wanted is {DEVIATION} at least')
    if value.shape[:2] == mask.shape:
      value[~mask] = 0.0                                   # what padding gives is nobody's business
  return dict(config=config, shapes=shapes, gradients=gradients, batch=batch, expected=found)


def write_fixture(name: str, found: dict) -> None:
  """A fixture as one .npz: texts are JSON, arrays are what they are."""
  texts = {key: np.array(json.dumps(found[key])) for key in ('config', 'shapes', 'gradients')}
  arrays = {f'{part}/{key}': value for part in ('batch', 'expected') for key, value in found[part].items()}
  np.savez_compressed(FIXTURES / f'{name}.npz', **texts, **arrays)


def read_fixture(name: str) -> dict:
  """config, shapes {tensor: shape}, gradients {tensor: (norm, product)}, batch and expected {name: array}."""
  with np.load(FIXTURES / f'{name}.npz', allow_pickle=False) as file:
    arrays = {key: file[key] for key in file.files}
  found = {key: json.loads(str(arrays.pop(key))) for key in ('config', 'shapes', 'gradients')}
  for key, value in arrays.items():
    part, _, name = key.partition('/')
    found.setdefault(part, {})[name] = value
  return found


def main(names: list[str]) -> None:
  """Rewrites the fixtures of these cases, of all if none is named."""
  import torch
  import transformers
  warnings.filterwarnings('ignore')
  transformers.utils.logging.set_verbosity_error()
  torch.set_num_threads(1)
  FIXTURES.mkdir(parents=True, exist_ok=True)
  for name in names or CASES:
    with tempfile.TemporaryDirectory() as folder:
      write_fixture(name, measure(CASES[name], pathlib.Path(folder)))
  for file in FIXTURES.glob('*.npz'):
    if file.stem not in CASES:
      file.unlink()
  size = sum(file.stat().st_size for file in FIXTURES.glob('*.npz'))
  if size > TOTAL_BYTES:
    raise SystemExit(f'the fixtures take {size} bytes, {TOTAL_BYTES} at most are wanted')


if __name__ == '__main__':
  main(sys.argv[1:])
