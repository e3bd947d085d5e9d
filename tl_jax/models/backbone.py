"""The backbone: encoder, decoder and encoder-decoder from one block, as pure functions
of a nested dict.

>>> import jax
>>> from tl_jax.models import arch, build
>>> model = build(arch('tiny', vocabulary=100, head='masked'))
>>> params = model.init(jax.random.key(0))
>>> model.apply(params, {'tokens': jax.numpy.ones((2, 8), 'int32')}).logits.shape
(2, 8, 100)
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax import leaves, rng, tree
from tl_jax.config import nearest
from tl_jax.models.arch import Arch, Compute
from tl_jax.models.axes import axes_of
from tl_jax.models.blocks import Block, Layered, run_layers
from tl_jax.models.blockwise import is_long
from tl_jax.models.columns import (
  Placed,
  keeps_distances,
  key_columns,
  place,
  prefix_length,
  repeat_text,
  take_columns,
  taken,
  with_seen,
)
from tl_jax.models.disentangled import RelativeTable, table_rows
from tl_jax.models.forms import require_form
from tl_jax.models.generator import beside, generator_arch
from tl_jax.models.heads import (
  Embedding,
  Pooler,
  VocabularyHead,
  answer_pairs,
  by_question,
  examples_of,
  first_columns,
  label,
  of_texts,
  pool,
)
from tl_jax.models.limits import require_rows
from tl_jax.models.parameters import init_params
from tl_jax.models.relative import RelativeBias
from tl_jax.models.rotary import last_positions
from tl_jax.models.stacks import (
  STACKS,
  Stack,
  embedding_params,
  finish_stack,
  stack_arch,
  stack_layers,
  stack_params,
)
from tl_jax.parallel import constrain
from tl_jax.segments import positions_of, segments_of

KEPT = ('states', 'attentions', 'readout', 'features', 'pair')


class Outputs(NamedTuple):
  """What a model makes of a batch. Every field but `hidden` may be None.

  hidden (batch, length, width): the final states. None where the batch has features.
  logits: as the head gives them.
  examples (batch, examples): of a packed batch, the numbers of the examples; of
  questions with candidates (batch, questions, candidates), as the batch has them.
  pooled (batch, width), or (batch, examples, width) of a packed batch: of a model that
  has a pooler and no head.

  The rest is there where `keep` asks for it, of the stack that `hidden` comes from:
  states: states[0] is the embedding and states[i] what layer i makes of it, before the
  final norm, all (batch, length, width).
  attentions: attentions[i - 1] are layer i's softmax weights (batch, heads, length,
  keys) in float32, without dropout. The keys of a prefix and of prompts come first.
  readout: what the logits over a vocabulary are made of, for a loss that does not want
  them all at once.
  features (batch, examples, width): what a classifier's pooler and head read of each
  example.
  pair (batch, examples, 2): what the head for pairs says of each, beside a masked head.

  A head that reads some columns (a classifier's first token, the positions to score)
  gets them from a last layer that runs for these alone. Under jit, hidden costs the
  rest of that layer where it is used and nothing where it is not. In training the two
  runs of the layer draw dropout of their own.
  """

  hidden: Any
  logits: Any = None
  examples: Any = None
  pooled: Any = None
  states: Any = None
  attentions: Any = None
  readout: Any = None
  features: Any = None
  pair: Any = None


class Model(NamedTuple):
  """A model as three pure functions and its description.

  init(key) -> params.
  apply(params, batch, *, key=None, train=False, score=None, keep=()) -> Outputs.
  score (batch, n): the positions whose logits are wanted. keep: which of `KEPT` Outputs
  shall hold. A batch for a classifier
  may have such `features` instead of tokens; then nothing before the pooler and the
  head is computed.
  axes: the logical axis names of every parameter, a PartitionSpec each.
  compute: how `apply` computes.
  """

  init: Callable
  apply: Callable
  axes: Any
  arch: Arch
  compute: Compute


def _stack_context(arch: Arch, stack: Stack, part: dict, placed: Placed) -> dict:
  """What all layers of a stack see beside the hidden states; a memory is added later."""
  segments, positions = placed.segments, placed.positions
  context = dict(segments=segments, positions=positions, bias=None)
  if placed.seen is not None:
    context['seen'] = placed.seen
  if arch.long_rotary:
    context['last'] = last_positions(segments, positions)
  key_positions = key_columns(positions, prefix_length(part))
  if arch.position_bias:
    own = stack_arch(arch, stack)
    if is_long(*segments.shape, own.heads, key_positions.shape[1]):
      # The layers look it up, block by block.
      context['table'] = part['relative']['kernel']
    else:
      bias = RelativeBias(own, not stack.causal)
      variables = {'params': part['relative']}
      context['bias'] = bias.apply(variables, positions, key_positions)
  if arch.positions == 'disentangled':
    table = RelativeTable(arch).apply({'params': part['relative']})
    context['relative'] = table, table_rows(arch, positions, key_positions)
  return context


def _run_stack(
  arch: Arch,
  compute: Compute,
  stack: Stack,
  part: dict,
  x,
  placed: Placed,
  key,
  *,
  keep=(),
  columns=None,
  memory: 'Encoded | None' = None,
) -> Layered:
  """x (batch, length, width) through the layers and the final norm of a stack.

  part: the parameters of the stack. placed: where the columns of x stand. memory: what
  a decoder attends to.
  """
  context = _stack_context(arch, stack, part, placed)
  if stack.cross:
    context |= dict(memory=None, memory_segments=None)
    if memory is not None:
      context |= dict(memory=memory.hidden, memory_segments=memory.segments)
  block = Block(
    stack_arch(arch, stack),
    compute.dropout,
    stack.causal,
    attention=compute.attention,
    in_order=placed.in_order,
  )
  layers = stack_layers(arch, stack)
  # Each stack draws its own dropout.
  if key is not None:
    key = rng.stream(key, stack.prefix)
  made = run_layers(
    block, part['layers'], x, context, layers, compute, key, keep, columns
  )
  finished = made._replace(x=finish_stack(arch, part, made.x))
  if columns is not None:
    finished = finished._replace(read=finish_stack(arch, part, made.read))
  return finished


class Encoded(NamedTuple):
  """What a stack made of its tokens: hidden (batch, length, width), and their segments
  and positions (batch, length).

  prompt: how many of the first columns are a prompt's. It stands there once for every
  example that may be in a row.
  kept: states and attentions as in `Outputs`, without the columns of the prompt.
  read (batch, n, width): the states of the columns that a head reads. None where it
  reads all of them, or their mean.
  """

  hidden: Any
  segments: Any
  positions: Any
  prompt: int = 0
  kept: Any = None
  read: Any = None


def read_tokens(batch: dict, stack: Stack):
  """The tokens and segments (batch, length) that a stack reads."""
  prefix = 'decoder_' if stack.cross else ''
  tokens = f'{prefix}tokens'
  return batch[tokens], segments_of(batch, tokens, f'{prefix}segments')


def encode(
  arch: Arch,
  compute: Compute,
  params,
  batch,
  stack: Stack,
  *,
  key=None,
  keep=(),
  memory: Encoded | None = None,
  columns: Callable = lambda placed: None,
  ordered: bool = False,
) -> Encoded:
  """The tokens of a batch through the embedding and the layers of one stack.

  columns(placed) -> (batch, n): the columns that the head reads; None: all of them.
  ordered: as in `build`.
  """
  tokens, segments = read_tokens(batch, stack)
  if key is not None:
    key = rng.stream(key, 'second' if stack.cross else 'first')
  embed = Embedding(arch, compute.dropout, jnp.dtype(compute.dtype))
  weights = embedding_params(params, stack)
  part = stack_params(params, stack)
  # A prompt stands in the first stack alone.
  prompt = weights.get('prompt') if memory is None else None
  own = {
    name: value
    for name, value in batch.items()
    if name.startswith('decoder_') == stack.cross
  }
  require_rows(arch, own, taken(part, prompt))
  placed = _place_batch(arch, batch, stack, part, prompt, segments, ordered)
  if stack.causal and 'seen' in own:
    placed = with_seen(placed, own['seen'], arch.windows)
  x = embed.apply({'params': weights}, tokens, placed.positions, placed.types, key)
  x = constrain(x, 'batch', 'length', None)
  made = _run_stack(
    arch,
    compute,
    stack,
    part,
    x,
    placed,
    key,
    keep=keep,
    columns=columns(placed),
    memory=memory,
  )
  kept = _without_prompt(made, placed.prompt)
  return Encoded(
    made.x, placed.segments, placed.positions, placed.prompt, kept, made.read
  )


def _place_batch(
  arch: Arch, batch, stack: Stack, part, prompt, segments, ordered: bool
) -> Placed:
  """Where the tokens of a batch stand in a stack with the parameters `part`.

  A prompt and a prefix take positions before those of the text. ordered: as in `build`.
  """
  prefix = 'decoder_' if stack.cross else ''
  types = batch.get(f'{prefix}types')
  positions = batch.get(f'{prefix}positions')
  counts_columns = ordered or positions is None
  if positions is None:
    positions = positions_of(segments)
  examples, _ = examples_of(batch, segments)
  placed = place(part, prompt, segments, positions, types, examples)
  in_order = counts_columns and keeps_distances(placed, arch.windows)
  return placed._replace(in_order=in_order)


def _without_prompt(made: Layered, prompt: int) -> dict:
  """What was kept of each layer, for the columns of the text alone."""
  states = made.states
  if states:
    states = [state[:, prompt:] for state in states]
  attentions = made.attentions
  if attentions:
    attentions = [weights[:, :, prompt:] for weights in attentions]
  return dict(states=states, attentions=attentions)


def read_out(arch: Arch, params, hidden) -> leaves.Readout:
  """What gives hidden states (..., width) their logits."""
  variables = {'params': params.get('head', {})}
  table = params['embedding']['tokens']
  return VocabularyHead(arch).apply(variables, hidden, table)


def _apply(
  arch: Arch,
  compute: Compute,
  ordered: bool,
  params,
  batch,
  *,
  key=None,
  train=False,
  score=None,
  keep=(),
) -> Outputs:
  _require_known(keep)
  # Without a key nothing is dropped.
  if not train:
    key = None
  head_key = None if key is None else rng.stream(key, 'head')
  if 'features' in batch:
    features = batch['features'].astype(compute.dtype)
    if arch.head == 'choice':
      # Those of all candidates of a question are one vector.
      features = features.reshape(len(features), -1, arch.width)
    logits = label(arch, params, features, compute.dropout, head_key)
    logits = by_question(arch, logits, batch)
    return Outputs(None, logits, batch.get('examples'))
  *before, last = _stacks_read(arch)
  if arch.repeats_text and 'decoder_tokens' not in batch:
    batch = repeat_text(batch, arch.start)
  # Which columns the head reads is known only when the prompt has its place.
  pair = 'pair' in keep
  columns = functools.partial(_read_columns, arch, batch, score, pair)
  memory = None
  for stack in before:
    memory = encode(arch, compute, params, batch, stack, key=key, ordered=ordered)
  encoded = encode(
    arch,
    compute,
    params,
    batch,
    last,
    key=key,
    keep=keep,
    memory=memory,
    columns=columns,
    ordered=ordered,
  )
  outputs = _answer(arch, compute, params, batch, encoded, head_key, pair)
  outputs = outputs._replace(**encoded.kept)
  # What nobody asked for is not an output, so that jit need not compute it.
  unwanted = {name: None for name in KEPT if name not in keep}
  return outputs._replace(**unwanted)


def _require_known(keep) -> None:
  """Raises ValueError for a name that is nothing of `KEPT`."""
  for name in keep:
    if name not in KEPT:
      near = nearest(str(name), KEPT)
      raise ValueError(f'keep: {name!r} is nothing that can be kept; nearest: {near}')


def _stacks_read(arch: Arch) -> tuple[Stack, ...]:
  """The stacks that run, in their order. A classifier that does not read the last token
  of the decoder reads the encoder alone.
  """
  stacks = STACKS[arch.kind]
  if arch.reads_examples and not arch.repeats_text:
    return stacks[:1]
  return stacks


def _read_columns(arch: Arch, batch, score, pair: bool, placed: Placed):
  """The columns (batch, n) that the head reads; None for all of them, or their mean.

  pair: are those of the head for pairs among them, the last ones?
  """
  if arch.head in ('masked', 'causal'):
    if score is None:
      return None
    # A prompt stands in front of the text, whose positions `score` counts.
    scored = placed.prompt + score
    if not pair:
      return scored
    return jnp.concatenate([scored, first_columns(arch, batch, placed.segments)], 1)
  if arch.reads_examples and arch.pool != 'mean':
    return first_columns(arch, batch, placed.segments)
  return None


def reads_columns(arch: Arch, stack: Stack) -> bool:
  """Does a head in training read some columns of this stack alone?

  Then its last layer runs outside of the loop over layers (`blocks.run_layers`).
  """
  if stack != _stacks_read(arch)[-1]:
    return False
  # Of a masked head, `score` says which; it is there in training.
  return arch.head == 'masked' or (arch.reads_examples and arch.pool != 'mean')


def _answer(
  arch: Arch, compute: Compute, params, batch, encoded: Encoded, key, pair: bool
) -> Outputs:
  """What the head says of the hidden states; pair: is the head for pairs asked, too?"""
  hidden = encoded.hidden[:, encoded.prompt :]
  if arch.head in ('masked', 'causal'):
    return _answer_tokens(arch, params, batch, encoded, pair)
  if arch.head in ('token', 'span', 'replaced'):
    logits = label(arch, params, hidden, compute.dropout, key)
    if arch.head == 'replaced':
      # One output a token: was it replaced?
      logits = logits[..., 0]
    return Outputs(hidden, logits)
  if arch.head == 'none' and not arch.pools:
    return Outputs(hidden)
  return _answer_examples(arch, compute, params, batch, encoded, key)


def _answer_tokens(arch: Arch, params, batch, encoded: Encoded, pair: bool) -> Outputs:
  """The logits over the vocabulary; pair: and those of every pair of texts."""
  hidden = encoded.hidden[:, encoded.prompt :]
  read = hidden if encoded.read is None else encoded.read
  found = None
  if pair:
    first = first_columns(arch, batch, encoded.segments)
    if encoded.read is None:
      pooled = take_columns(encoded.hidden, first)
    else:
      # They stand behind the positions to score.
      scored = read.shape[1] - first.shape[1]
      read, pooled = read[:, :scored], read[:, scored:]
    found = answer_pairs(arch, params, pooled)
  readout = read_out(arch, params, read)
  return Outputs(hidden, readout.logits(), readout=readout, pair=found)


def _answer_examples(
  arch: Arch, compute: Compute, params, batch, encoded: Encoded, key
) -> Outputs:
  """What a pooler, or it and a classifier, say of each example in a row."""
  hidden = encoded.hidden[:, encoded.prompt :]
  examples, packed = examples_of(batch, encoded.segments)
  pooled = encoded.read
  if pooled is None:
    pooled = pool(arch, encoded.hidden, encoded.segments, examples)
  # A caller who packed nothing sees no axis of examples.
  told = batch.get('examples', examples) if packed else None

  def unpack(x):
    return x if packed else x[:, 0]

  if arch.head == 'embedding':
    return Outputs(hidden, unpack(of_texts(pooled, batch)), told)
  if arch.head == 'none':
    weights = {'params': params['pooler']}
    pooled = Pooler(arch).apply(weights, pooled)
    return Outputs(hidden, None, told, unpack(pooled))
  logits = unpack(label(arch, params, pooled, compute.dropout, key))
  logits = by_question(arch, logits, batch)
  return Outputs(hidden, logits, told, features=pooled)


def build(
  arch: Arch, compute: Compute | None = None, *, ordered: bool = False
) -> Model:
  """The model of an architecture. Nothing is computed here; `init` and `apply` are pure
  and jit-ready.

  ordered: the positions that a batch brings are those of `tl_jax.segments`, which count
  the columns of each segment, as those of `tl_jax.data` do. Then kernels that know
  columns alone may be used with them. Raises ValueError for a `compute.attention` that
  cannot compute the model.
  """
  compute = compute or Compute()
  require_form(arch, compute)
  init = functools.partial(init_params, arch)
  apply = functools.partial(_apply, arch, compute, ordered)
  if arch.generates:
    small = functools.partial(_apply, generator_arch(arch), compute, ordered)
    apply = beside(apply, small)
  # The key is made within: an array would ask for a device.
  axes = axes_of(jax.eval_shape(lambda: init(jax.random.key(0))))
  return Model(init, apply, axes, arch, compute)


def count(arch: Arch) -> int:
  """The number of parameters, without making any."""
  return tree.count(jax.eval_shape(lambda: init_params(arch, jax.random.key(0))))
