"""The calls that `performance.py` times, one library to a process: its training steps
and its decoding.

  # then a line on stdin for every call
  python experiments/benchmarks/timed_steps.py tl_jax 'bert bfloat16'

Answers a line of JSON first: tokens and FLOPs of a call, and the seconds of the first
one, which compiles. Every line on stdin is answered with the seconds of one more call,
the peak memory of the process, and what the call returned.

The FLOPs are of the products of the model alone: 2 for each weight outside the
embeddings and token, 4 for each width, token and key of attention, times 3 for forward
and backward, times 2 where the weights are frozen. Of a classifier's last layer only
keys and values count, for it reads one token of each row.
"""

import json
import os
import resource
import sys
import time

import numpy as np

# rows, tokens of a row, tokens of a decoder's row beside an encoder
SHAPES = {
  'minilm': (32, 64, 0),
  'bert': (8, 128, 0),
  'lora': (8, 128, 0),
  'qlora': (8, 128, 0),
  'gpt2': (4, 256, 0),
  't5': (8, 128, 32),
}
ADAPTED = ('lora', 'qlora')
FAMILIES = dict.fromkeys(SHAPES, 'bert-base') | {'gpt2': 'gpt2', 't5': 't5-small'}
MINILM = dict(width=384, layers=6, mlp=1536)
PROMPT = NEW = 64
RATE = 2e-5


def tokens_of(shape, seed=0):
  return np.random.default_rng(seed).integers(1000, 30000, shape).astype(np.int32)


def flops_of(work: str) -> float:
  """Of one training step, by the shapes alone."""
  if work == 't5':
    return t5_flops()
  rows, length, _ = SHAPES[work]
  layers, width = (6, 384) if work == 'minilm' else (12, 768)
  if work == 'gpt2':
    linear = layers * 12 * width**2 + width * 50257
  else:
    # The last layer only makes keys and values.
    layers -= 1
    linear = layers * 12 * width**2 + 2 * width**2
  attention = layers * width * length
  # Frozen weights need no gradient of their own.
  passes = 2 if work in ADAPTED else 3
  return passes * rows * length * (2 * linear + 4 * attention)


def t5_flops() -> float:
  """Of one training step of t5-small, whose decoder reads the encoder as well."""
  rows, length, target = SHAPES['t5']
  encoded, decoded = rows * length, rows * target
  # Query, key, value and output of a layer's attention, then its MLP.
  block = 4 * 512**2
  mlp = 2 * 512 * 2048
  encoder = (block + mlp) * encoded
  # The decoder's second attention has queries and outputs of its own tokens, keys and
  # values of the encoder's.
  decoder = (block + mlp + block // 2) * decoded + block // 2 * encoded
  linear = 6 * (encoder + decoder) + 512 * 32128 * decoded
  attention = 6 * 512 * (encoded * length + decoded * (length + target))
  return 3 * (2 * linear + 4 * attention)


class Ours:
  """tl_jax: jitted steps of its own, the state donated, in a process as a run has it."""

  def __init__(self):
    from tl_jax import parallel

    parallel.keep_freed_memory()

  def step(self, work: str, dtype: str, rate: float):
    import jax
    import jax.numpy as jnp

    from tl_jax import models, objectives, optim, transfer
    from tl_jax.train import init_state, make_step

    rows, length, target = SHAPES[work]
    head = 'causal' if work in ('gpt2', 't5') else 'classifier'
    shape = dict(MINILM) if work == 'minilm' else {}
    if head == 'classifier':
      shape['labels'] = 2
    arch = models.arch(FAMILIES[work], head=head, **shape)
    objective = {'gpt2': objectives.causal, 't5': objectives.seq2seq}.get(
      work, lambda: objectives.classify(labels=2)
    )()
    batch = dict(
      tokens=tokens_of((rows, length)), segments=np.ones((rows, length), np.int32)
    )
    if target:
      batch['decoder_tokens'] = tokens_of((rows, target), 1)
    if head == 'classifier':
      batch['labels'] = np.arange(rows) % 2
    batch = jax.tree.map(jnp.asarray, batch)
    model = models.build(arch, models.Compute(dtype=dtype, dropout=rate))
    adapted = dict(pattern=r'.*/(query|value)/kernel', rank=8, alpha=16.0, dropout=rate)
    method = {
      'lora': lambda: transfer.lora(**adapted),
      'qlora': lambda: transfer.qlora(kind='bfloat16', **adapted),
    }.get(work, transfer.full)()
    tx = optim.make_optimizer(
      optim.OptimConfig(lr=RATE), optim.ScheduleConfig(name='constant', steps=10**6)
    )
    state = jax.jit(lambda: init_state(model.init(jax.random.key(0)), method, tx, 0))()
    step = jax.jit(make_step(model, objective, method, tx), donate_argnums=0)

    def call():
      nonlocal state
      state, metrics = step(state, batch)
      return float(metrics['loss'])

    return call

  def forward(self, work: str, dtype: str):
    import jax

    from tl_jax import models

    arch = models.arch(FAMILIES[work], head='causal' if work == 'gpt2' else 'none')
    model = models.build(arch, models.Compute(dtype=dtype))
    params = jax.jit(
      lambda key: jax.tree.map(lambda leaf: leaf.astype(dtype), model.init(key))
    )(jax.random.key(0))
    read = lambda out: out.hidden if out.logits is None else out.logits
    apply = jax.jit(lambda *args: read(model.apply(*args)))
    batch = dict(tokens=tokens_of(SHAPES[work][:2]))
    return lambda: jax.block_until_ready(apply(params, batch)).size

  def greedy(self, rows: int, dtype: str):
    import jax
    import jax.numpy as jnp

    from tl_jax import decode, models

    arch = models.arch('gpt2', head='causal')
    params = jax.jit(models.build(arch).init)(jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    reader = models.decoder(arch, models.Compute(dtype=dtype))
    prompt = jnp.asarray(tokens_of((rows, PROMPT)))
    batch = dict(tokens=prompt, segments=jnp.ones_like(prompt))
    settings = decode.Decoding(max_new_tokens=NEW)

    def call():
      tokens = decode.generate(reader, params, batch, settings).tokens
      return jax.block_until_ready(tokens).size

    return call

  def peak(self, dtype: str):
    """Twenty products of 1024 x 768 with 768 x 3072: what this machine can do at all."""
    import jax
    import jax.numpy as jnp

    x, w = jnp.ones((1024, 768), dtype), jnp.ones((768, 3072), dtype)
    product = jax.jit(
      lambda x, w: jax.lax.dot(x, w, preferred_element_type=jnp.float32)
    )
    return lambda: len([jax.block_until_ready(product(x, w)) for _ in range(20)])


class Theirs:
  """torch and transformers; `compiled` by torch.compile."""

  def __init__(self, compiled: bool):
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    self.torch, self.transformers, self.compiled = torch, transformers, compiled

  def model(self, work: str, rate: float):
    library = self.transformers
    if work == 'gpt2':
      return library.GPT2LMHeadModel(
        library.GPT2Config(resid_pdrop=rate, embd_pdrop=rate, attn_pdrop=rate)
      )
    if work == 't5':
      return library.T5ForConditionalGeneration(
        library.T5Config(dropout_rate=rate, decoder_start_token_id=0)
      )
    small = {}
    if work == 'minilm':
      small = dict(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
    model = library.BertForSequenceClassification(
      library.BertConfig(
        num_labels=2,
        hidden_dropout_prob=rate,
        attention_probs_dropout_prob=rate,
        **small,
      )
    )
    if work in ADAPTED:
      import peft

      model = peft.get_peft_model(
        model,
        peft.LoraConfig(
          task_type='SEQ_CLS',
          r=8,
          lora_alpha=16,
          lora_dropout=rate,
          target_modules=['query', 'value'],
        ),
      )
    if work == 'qlora':
      for name, leaf in model.named_parameters():
        if 'encoder.layer' in name and leaf.ndim == 2 and not leaf.requires_grad:
          leaf.data = leaf.data.to(self.torch.bfloat16)
    return model

  def step(self, work: str, dtype: str, rate: float):
    torch = self.torch
    rows, length, target = SHAPES[work]
    model = self.model(work, rate).train()
    tokens = torch.tensor(tokens_of((rows, length))).long()
    labels = {
      'gpt2': tokens,
      't5': torch.tensor(tokens_of((rows, target or 1), 1)).long(),
    }.get(work, torch.arange(rows) % 2)
    batch = dict(
      input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=labels
    )
    optimizer = torch.optim.AdamW(
      [p for p in model.parameters() if p.requires_grad], lr=RATE, fused=True
    )
    forward = torch.compile(model) if self.compiled else model

    def call():
      with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype == 'bfloat16'):
        loss = forward(**batch).loss
      loss.backward()
      optimizer.step()
      optimizer.zero_grad()
      return loss.item()

    return call

  def forward(self, work: str, dtype: str):
    torch, library = self.torch, self.transformers
    model = (
      self.model(work, 0.0)
      if work == 'gpt2'
      else library.BertModel(library.BertConfig())
    )
    model = model.eval().to(getattr(torch, dtype))
    apply = torch.compile(model) if self.compiled else model
    tokens = torch.tensor(tokens_of(SHAPES[work][:2])).long()

    def call():
      with torch.inference_mode():
        return apply(tokens)[0].numel()

    return call

  def greedy(self, rows: int, dtype: str):
    torch = self.torch
    model = self.model('gpt2', 0.0).eval().to(getattr(torch, dtype))
    if self.compiled:
      model.generation_config.cache_implementation = 'static'
    prompt = torch.tensor(tokens_of((rows, PROMPT))).long()

    def call():
      with torch.inference_mode():
        return model.generate(
          prompt,
          attention_mask=torch.ones_like(prompt),
          max_new_tokens=NEW,
          min_new_tokens=NEW,
          do_sample=False,
          pad_token_id=0,
        ).numel()

    return call


def prepare(library: str, work: str):
  """(the call of a work, tokens, FLOPs): MODEL DTYPE [dropout], forward-MODEL DTYPE,
  greedy-ROWS DTYPE, peak DTYPE.
  """
  side = Ours() if library == 'tl_jax' else Theirs(library == 'compiled')
  name, dtype, *more = work.split()
  if name == 'peak':
    return side.peak(dtype), 0, 20 * 2.0 * 1024 * 768 * 3072
  if name.startswith('greedy-'):
    rows = int(name.removeprefix('greedy-'))
    return side.greedy(rows, dtype), rows * NEW, 0.0
  rows, length, target = SHAPES[name.removeprefix('forward-')]
  if name.startswith('forward-'):
    return side.forward(name.removeprefix('forward-'), dtype), rows * length, 0.0
  return (
    side.step(name, dtype, 0.1 if more else 0.0),
    rows * (length + target),
    flops_of(name),
  )


class Turns:
  """What a process that is timed says and waits for, call by call.

  Every call is answered with a line of JSON on stdout: its seconds, those that all
  cores spent on it together, the peak memory of the process, and what the call
  returned. The next call waits for a line on stdin.
  """

  def __init__(self):
    # Whatever a library prints goes to stderr; stdout has the answers alone.
    self._answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    self.begin()

  def begin(self) -> None:
    """A call begins now."""
    self._began, self._spent = time.perf_counter(), time.process_time()

  def end(self, **fields) -> None:
    """A call has ended; returns when the next one begins. SystemExit where stdin ends."""
    seconds = time.perf_counter() - self._began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    spent = time.process_time() - self._spent
    answer = dict(fields, seconds=seconds, core_seconds=spent, peak_mb=peak)
    self._answers.write(json.dumps(answer) + '\n')
    self._answers.flush()
    if not sys.stdin.readline():
      raise SystemExit
    self.begin()


def serve(library: str, work: str) -> None:
  """Answers every line of stdin with one more call."""
  turns = Turns()
  call, tokens, flops = prepare(library, work)
  turns.begin()
  while True:
    turns.end(tokens=tokens, flops=flops, value=call())


if __name__ == '__main__':
  serve(*sys.argv[1:3])
