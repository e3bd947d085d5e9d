"""The calls that `accelerator.py` times: training steps and decoding, one library to a
process.

  # then a line on stdin for every call
  python experiments/benchmarks/timed_pieces.py tl_jax PIECE.json

Answers a line of JSON when all is prepared: the kind of device, the tokens of a step
and its FLOPs. The first line on stdin is answered with the first step, which compiles,
every other one with the seconds of `steps` more. An answer has the peak memory of the
device, and what the call returned: the loss of its last step, or the tokens that it
wrote. Where something fails the answer is its `error`.

Ours writes its random weights into the folder of the piece, and torch reads them there.

The FLOPs are those of the whole model on both sides, whatever either leaves out: 2 for
each weight of a product and token, times 3 for forward and backward, or times 2 where
the weights are frozen; 4 for each width of all heads, token and key of attention, causal
or not, times 3.
"""

import json
import pathlib
import sys
import time
from typing import Any, NamedTuple

from timed_steps import Turns, tokens_of

# What ours writes when its weights can be read.
READY = 'weights.json'
RATE = 2e-5
# The folder of the weights, in that of the piece.
WRITTEN = 'model'


class Piece(NamedTuple):
  """What is timed.

  kind: step, greedy or beam. family, fields: of the architecture. rows, length, target:
  of a batch; target is the length of a decoder's row beside an encoder. new: tokens to
  write. method: full or lora. dropout: its rate. platform: cpu or cuda. steps: in a call.
  folder: where the weights are.
  """

  kind: str
  family: str
  fields: dict[str, Any]
  rows: int
  length: int
  target: int
  new: int
  method: str
  dropout: float
  platform: str
  steps: int
  folder: str

  @property
  def weights(self) -> pathlib.Path:
    return pathlib.Path(self.folder) / WRITTEN

  @property
  def tokens(self) -> int:
    """Of one step, or written by one call."""
    if self.kind == 'step':
      return self.rows * (self.length + self.target)
    return self.rows * self.new

  @property
  def inputs(self):
    """(rows, length) int32."""
    return tokens_of((self.rows, self.length))

  @property
  def targets(self):
    """(rows, target) int32."""
    return tokens_of((self.rows, self.target), 1)


class Ours:
  """tl_jax: the step that a run has, its state donated."""

  def __init__(self, piece: Piece):
    import jax

    from tl_jax import models, parallel, tree

    parallel.keep_freed_memory()
    self.piece, self.jax = piece, jax
    self.arch = models.arch(piece.family, **piece.fields)
    self.compute = models.Compute(dtype='bfloat16', dropout=piece.dropout)
    self.model = models.build(self.arch, self.compute)
    # Frozen weights, and those of decoding, are bfloat16 on both sides.
    is_trained = piece.kind == 'step' and piece.method == 'full'
    dtype = 'float32' if is_trained else 'bfloat16'

    # In one program, so that a second copy does not count in the peak of memory.
    @jax.jit
    def draw(key):
      return jax.tree.map(lambda leaf: leaf.astype(dtype), self.model.init(key))

    params = draw(jax.random.key(0))
    self.shapes = {name: leaf.shape for name, leaf in tree.flatten(params).items()}
    self.write(params)
    self.call = self.step(params) if piece.kind == 'step' else self.decode(params)

  def write(self, params) -> None:
    """The weights as a folder that transformers opens."""
    import tl_jax
    from tl_jax import interop

    loaded = interop.Loaded(self.model, params, None, self.arch)
    tl_jax.save(self.piece.weights, loaded)
    (self.piece.weights.parent / READY).write_text('{}')

  def step(self, params):
    import jax
    import jax.numpy as jnp

    from tl_jax import objectives, optim, parallel, transfer
    from tl_jax.train import init_state, make_step, programs
    from tl_jax.train.assembly import Components

    piece = self.piece
    tokens = jnp.asarray(piece.inputs)
    batch = dict(tokens=tokens, segments=jnp.ones_like(tokens))
    if self.arch.head == 'classifier':
      objective = objectives.classify(labels=2)
      batch['labels'] = jnp.arange(piece.rows) % 2
    elif piece.target:
      objective = objectives.seq2seq()
      batch['decoder_tokens'] = jnp.asarray(piece.targets)
    else:
      objective = objectives.causal()
    method = transfer.full()
    if piece.method == 'lora':
      pattern = r'.*/(query|value)/kernel'
      method = transfer.lora(pattern, rank=8, alpha=16.0, head=None)
    config = optim.OptimConfig(lr=RATE, clip=None)
    schedule = optim.ScheduleConfig(name='constant', steps=10**6)
    tx = optim.make_optimizer(config, schedule)

    def begin(params):
      return init_state(params, method, tx, 0)

    parts = Components(
      self.model,
      objective,
      method,
      tx,
      init=lambda params, seed: begin(params),
      step=make_step(self.model, objective, method, tx),
      groups=(),
    )
    # Whatever of the step depends on the device asks the mesh.
    mesh = parallel.make_mesh(parallel.MeshShape())
    jax.set_mesh(mesh)
    shardings = programs.state_shardings(parts, mesh, 'fsdp')
    state = programs.first_state(begin, shardings)(params)
    step = programs.step(parts, shardings, parallel.batch_sharding(mesh))

    def call(steps: int) -> float:
      nonlocal state
      for _ in range(steps):
        state, metrics = step(state, batch)
      return float(metrics['loss'])

    return call

  def decode(self, params):
    import jax
    import jax.numpy as jnp

    from tl_jax import decode, models

    piece = self.piece
    reader = models.decoder(self.arch, self.compute)
    prompt = jnp.asarray(piece.inputs)
    batch = dict(tokens=prompt, segments=jnp.ones_like(prompt))
    settings = decode.Decoding(max_new_tokens=piece.new, method=piece.kind)

    def call(steps: int) -> list:
      for _ in range(steps):
        tokens = decode.generate(reader, params, batch, settings).tokens
      # The best of each prompt.
      return jax.device_get(tokens[:, 0]).tolist()

    return call

  def flops(self) -> float:
    """Of one step; 0 of decoding."""
    piece = self.piece
    if piece.kind != 'step':
      return 0.0
    linear, attention = flops_of(self.arch, self.shapes, piece)
    passes = 2 if piece.method == 'lora' else 3
    return passes * linear + 3 * attention

  def device(self) -> str:
    return self.jax.devices()[0].device_kind

  def peak_bytes(self) -> int | None:
    stats = self.jax.devices()[0].memory_stats()
    return stats and stats['peak_bytes_in_use']


def flops_of(
  arch, shapes: dict[str, tuple[int, ...]], piece: Piece
) -> tuple[float, float]:
  """Of one forward pass: those of products with weights, by the shapes of all leaves,
  and those of attention.
  """
  encoded, decoded = piece.rows * piece.length, piece.rows * piece.target
  linear = 0
  for name, shape in shapes.items():
    is_product = name.endswith('/kernel') and '/relative/' not in name
    if is_product and not name.startswith(('head/', 'pooler/')):
      # The decoder's second attention makes keys and values of the encoder's tokens.
      is_cross = 'cross/key' in name or 'cross/value' in name
      reads_encoder = is_cross or not name.startswith('decoder/')
      tokens = encoded if reads_encoder else decoded
      linear += 2 * tokens * shape[0] * shape[1]
  if arch.head == 'causal':
    linear += 2 * (decoded or encoded) * arch.width * arch.vocabulary
  width = arch.heads * arch.head_width
  attention = 4 * arch.layers * width * encoded * piece.length
  if piece.target:
    keys = piece.length + piece.target
    attention += 4 * (arch.decoder_layers or arch.layers) * width * decoded * keys
  return linear, attention


class Theirs:
  """torch and transformers; `compiled` by torch.compile."""

  def __init__(self, piece: Piece, compiled: bool):
    import torch
    import transformers

    torch.manual_seed(0)
    # jax lets products of float32 use TF32 as well.
    torch.set_float32_matmul_precision('high')
    transformers.logging.set_verbosity_error()
    self.piece, self.torch, self.transformers = piece, torch, transformers
    self.compiled = compiled
    self.is_cuda = piece.platform == 'cuda'
    wait_for(piece.weights.parent / READY)
    self.call = self.step() if piece.kind == 'step' else self.decode()

  def open(self, dtype) -> Any:
    """The model of the folder, with the fastest attention that it has."""
    library, piece = self.transformers, self.piece
    config = library.AutoConfig.from_pretrained(piece.weights)
    for name in DROPOUTS:
      if hasattr(config, name):
        setattr(config, name, piece.dropout)
    if config.is_encoder_decoder:
      kind = library.AutoModelForSeq2SeqLM
    elif 'SequenceClassification' in config.architectures[0]:
      kind = library.AutoModelForSequenceClassification
    else:
      kind = library.AutoModelForCausalLM

    def load(attention):
      model = kind.from_pretrained(
        piece.weights, config=config, dtype=dtype, attn_implementation=attention
      )
      return model.to(piece.platform)

    try:
      return load('sdpa')
    except ValueError:
      # Of a family whose scores have a bias, for one.
      return load('eager')

  def step(self):
    torch, piece = self.torch, self.piece
    is_lora = piece.method == 'lora'
    model = self.open(torch.bfloat16 if is_lora else torch.float32).train()
    if is_lora:
      import peft

      config = peft.LoraConfig(
        task_type='CAUSAL_LM',
        r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        target_modules=['q_proj', 'v_proj'],
      )
      model = peft.get_peft_model(model, config)
    batch = self.batch(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0, fused=True)
    forward = torch.compile(model) if self.compiled else model

    def once():
      with torch.autocast(piece.platform, dtype=torch.bfloat16):
        loss = forward(**batch).loss
      loss.backward()
      optimizer.step()
      optimizer.zero_grad()
      return loss

    def call(steps: int) -> float:
      for _ in range(steps):
        loss = once()
      return loss.item()

    return call

  def batch(self, model) -> dict:
    torch, piece = self.torch, self.piece
    put = lambda array: torch.tensor(array).long().to(piece.platform)
    tokens = put(piece.inputs)
    # Without a mask attention may take its fastest form.
    batch = dict(input_ids=tokens, labels=tokens)
    if piece.target:
      batch['labels'] = put(piece.targets)
    elif 'SequenceClassification' in model.config.architectures[0]:
      batch['labels'] = torch.arange(piece.rows, device=piece.platform) % 2
    return batch

  def decode(self):
    torch, piece = self.torch, self.piece
    model = self.open(torch.bfloat16).eval()
    how = dict(
      max_new_tokens=piece.new,
      min_new_tokens=piece.new,
      do_sample=False,
      num_beams=4 if piece.kind == 'beam' else 1,
      pad_token_id=0,
    )
    if self.compiled:
      # This is what makes transformers compile its steps.
      how['cache_implementation'] = 'static'
    prompt = torch.tensor(piece.inputs).long().to(piece.platform)
    mask = torch.ones_like(prompt)

    def call(steps: int) -> list:
      for _ in range(steps):
        with torch.inference_mode():
          found = model.generate(prompt, attention_mask=mask, **how)
      return found[:, piece.length :].tolist()

    return call

  def flops(self) -> float:
    return 0.0

  def device(self) -> str:
    if self.is_cuda:
      return self.torch.cuda.get_device_name()
    return 'cpu'

  def peak_bytes(self) -> int | None:
    return self.torch.cuda.max_memory_allocated() if self.is_cuda else None


# What configs of transformers call their rates of dropout.
DROPOUTS = (
  'hidden_dropout_prob',
  'attention_probs_dropout_prob',
  'resid_pdrop',
  'embd_pdrop',
  'attn_pdrop',
  'dropout_rate',
  'attention_dropout',
)


def wait_for(path: pathlib.Path) -> None:
  """Returns when the file is there; whoever started this process may end it before."""
  while not path.exists():
    time.sleep(0.1)


def serve(library: str, path: str) -> None:
  """Answers when all is prepared, then every line of stdin with one more call."""
  turns = Turns()
  piece = Piece(**json.loads(pathlib.Path(path).read_text()))
  try:
    if library == 'tl_jax':
      side = Ours(piece)
    else:
      side = Theirs(piece, compiled=library == 'compiled')
    turns.end(device=side.device(), tokens=piece.tokens, flops=side.flops())
    steps = 1
    while True:
      value = side.call(steps)
      turns.end(value=value, steps=steps, peak_bytes=side.peak_bytes())
      steps = piece.steps
  # Whatever it is, the table says it.
  except Exception as error:  # noqa: BLE001
    lines = str(error).strip().splitlines() or ['']
    turns.end(error=f'{type(error).__name__}: {lines[0][:300]}')


if __name__ == '__main__':
  serve(*sys.argv[1:3])
