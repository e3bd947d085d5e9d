"""Pre-training as papers did it, with their numbers.

  tl-jax pretrain --config=configs/recipes.py:bert-base --workdir=/mnt/bert
  tl-jax pretrain --config=configs/recipes.py:gpt3-small --workdir=/mnt/gpt
  tl-jax pretrain --config=configs/recipes.py:tapt,init=/models/roberta,text=mails.csv \\
    --workdir=/mnt/tapt

| recipe | parameters | tokens read | FLOPs | what the paper got |
|---|---|---|---|---|
| bert-base | 109.5M | 43B | 2.8e19 | GLUE 79.6, SQuAD 1.1 F1 88.5 |
| bert-large | 335.1M | 43B | 8.6e19 | GLUE 82.1, SQuAD 1.1 F1 90.9 |
| bert-2-128 ... bert-12-768 | 4.4M to 109.5M | 43B | to 2.8e19 | GLUE 64.2 to 79.6 |
| roberta-base | 124.6M | 2.1T | 1.6e21 | MNLI 87.6, SST-2 94.8 |
| roberta-large | 355.4M | 2.1T | 4.5e21 | MNLI 90.2, SST-2 96.4 |
| electra-small | 13.5M | 16B | 1.3e18 | GLUE 79.9 (dev) |
| electra-base | 108.9M | 100B | 6.5e19 | GLUE 85.1 (dev) |
| bart-base | 139.4M | 131B | 1.1e20 | MNLI 83.8, SQuAD 1.1 F1 90.8 |
| bart-large | 406.3M | 2.1T | 5.2e21 | MNLI 89.9, SQuAD 1.1 F1 94.6 |
| t5-base | 222.9M | 34B | 4.6e19 | GLUE 83.28 |
| ul2 | 19.5B | 1T | 1.2e23 | SuperGLUE 90.7 |
| gpt3-small ... gpt3-175b | 125M to 175B | 300B | 2.3e20 to 3.2e23 | LAMBADA 76.2 zero-shot |
| dapt, tapt | of `init` | 13B, 100 passes | | ACL-ARC 63.0 to 75.4 |

FLOPs are six times parameters times tokens; of ELECTRA both are those of the discriminator,
beside which a generator is trained. bert-L-H has L of 2, 4, ... 12 layers and a
width H of 128, 256, 512 or 768 (Turc et al. 2019; 2-128 is tiny, 4-256 mini, 4-512 small,
8-512 medium). BERT goes in two phases: 900,000 steps in rows of 128 tokens, then 100,000 of
512, with one optimizer and one schedule; each is asked for masked pieces and for the next
sentence, which --config.objective="{'name': 'masked'}" leaves out, as RoBERTa did.

What a paper does not say is said where it is chosen. The rates of BART are not published;
these are RoBERTa's. UL2's tokens are those of both texts in rows of 512 and 512.

GPT-3 reads folders of .txt files, or sets that were prepared below `data.directory`:

| source | folder | tokens | weight | passes published | passes here |
|---|---|---|---|---|---|
| Common Crawl | common_crawl | 410B | 60 % | 0.44 | 0.43 |
| WebText2 | webtext2 | 19B | 22 % | 2.9 | 3.4 |
| Books1 | books1 | 12B | 8 % | 1.9 | 2.0 |
| Books2 | books2 | 55B | 8 % | 0.43 | 0.43 |
| Wikipedia | wikipedia | 3B | 3 % | 3.4 | 3.0 |

The printed weights sum to 101 % and are normalised. A run prints the passes that it makes.
GPT-3's batches grow from 32,768 tokens on a line over the first 4 to 12 billion: here they
double, each size as soon as the line is there. The paper does not say which model has how
many billions; here it is more with the size. Warm-up and cosine are counted in tokens.
--config.data.phases="()" reads whole batches from the first step on, as a mesh must that
has more parts than the first 16 rows. Documents that share a row do not see each other.
text: other texts, as in configs/pretrain.py.
"""

import pathlib

from ml_collections import ConfigDict

from tl_jax import config
from tl_jax.config import ConfigError, arguments, group, names

ARGUMENTS = (
  'bert-base',
  'bert-2-128',
  'roberta-large',
  'electra-small',
  'bart-base',
  't5-base',
  'ul2,text=austen',
  'gpt3-small,text=austen',
  'gpt3-175b,text=austen',
)
HERE = pathlib.Path(__file__).parent
# Table 2.2 of Brown et al. 2020: percent of what is read.
GPT3 = dict(common_crawl=60.0, webtext2=22.0, books1=8.0, books2=8.0, wikipedia=3.0)
GPT3_CONTEXT = 2048
# Table 2.1: rows of a batch, of 2,048 tokens each, and the peak rate; then the tokens over
# which batches grow, of which appendix B says 4 to 12 billion.
GPT3_SIZES = {
  'gpt3-small': (256, 6e-4, 4e9),
  'gpt3-medium': (256, 3e-4, 4e9),
  'gpt3-large': (256, 2.5e-4, 4e9),
  'gpt3-xl': (512, 2e-4, 4e9),
  'gpt3-2.7b': (512, 1.6e-4, 8e9),
  'gpt3-6.7b': (1024, 1.2e-4, 8e9),
  'gpt3-13b': (1024, 1e-4, 12e9),
  # 3.2M tokens are 1,562 rows; this many are divided by 512 devices
  'gpt3-175b': (1536, 0.6e-4, 12e9),
}
# Rows of its first batches: 32,768 tokens.
GPT3_FIRST = 16
# Liu et al. 2019, table 9: warm-up and peak rate.
ROBERTA = {'roberta-base': (24_000, 6e-4), 'roberta-large': (30_000, 4e-4)}
# Clark et al. 2020, table 6, and their code: rows, tokens of each, steps, peak rate.
ELECTRA = {
  'electra-small': (128, 128, 1_000_000, 5e-4),
  'electra-base': (256, 512, 766_000, 2e-4),
}
# Lewis et al. 2020: rows and steps. Section 4 has the base model on a million steps of
# BERT's size, section 5.1 the large one on 8,000 rows, here of a power of two.
BART = {'bart-base': (256, 1_000_000, 4e-4), 'bart-large': (8192, 500_000, 4e-4)}
BERT = {'bert-base': (12, 768), 'bert-large': (24, 1024)}
LAYERS = (2, 4, 6, 8, 10, 12)
WIDTHS = (128, 256, 512, 768)
MINIATURES = {}
for _layers in LAYERS:
  for _width in WIDTHS:
    MINIATURES[f'bert-{_layers}-{_width}'] = (_layers, _width)


def get_config(arg: str = 'bert-base') -> ConfigDict:
  a = arguments(arg, recipe='bert-base', text='', column='', init='')
  if a.recipe not in NAMES:
    near = config.nearest(a.recipe, NAMES)
    raise ConfigError(f'argument recipe: {a.recipe!r} is unknown; nearest: {near}')
  if a.recipe in ('dapt', 'tapt'):
    return adapted(a)
  if a.init:
    raise ConfigError(f'argument init: is of dapt and tapt, not of {a.recipe}')
  c = config.load(f'{HERE / "pretrain.py"}:bert-base')
  # A recipe sets keys that are defaults there.
  c.unlock()
  c.data.column = a.column
  MAKERS[a.recipe](c, a.recipe)
  if a.text:
    c.data.mixture = group(dict.fromkeys(names(a.text), 1.0))
  return c


def bert(c: ConfigDict, recipe: str) -> None:
  """Devlin et al. 2018, with the optimizer and the schedule of their code."""
  layers, width = (BERT | MINIATURES)[recipe]
  size = dict(layers=layers, width=width, heads=width // 64, mlp=4 * width)
  c.model = dict(family='bert-base', **size)
  pairs = config.load(f'{HERE / "pretrain.py"}:bert-base,objective=next_sentence')
  c.objective = pairs.objective
  c.optim.name = 'bert_adam'
  # Appendix A.2: nine tenths of the steps in short rows.
  c.data.phases = ((900_000, dict(length=128)),)
  c.schedule = dict(name='bert', warmup=10_000, steps=1_000_000, final=0.0, epochs=None)


def roberta(c: ConfigDict, recipe: str) -> None:
  """Liu et al. 2019, table 9: 500,000 steps of 8,192 rows, nothing clipped."""
  warmup, rate = ROBERTA[recipe]
  c.model = dict(family=recipe)
  c.tokenizer.update(kind='bpe', size=50_265, lowercase=False)
  c.data.batch = 8192
  c.optim.update(lr=rate, clip=None, b2=0.98, eps=1e-6)
  c.schedule.update(warmup=warmup, steps=500_000)


def electra(c: ConfigDict, recipe: str) -> None:
  """Clark et al. 2020: 15 % of the pieces, replaced by what a small generator says.

  To fine-tune it they let the rate fall by layer: --config.optim.layer_decay=0.8.
  """
  rows, length, steps, rate = ELECTRA[recipe]
  c.model = dict(family=recipe)
  c.objective = dict(name='electra', rate=0.15, weight=50.0)
  c.data.update(length=length, batch=rows)
  c.optim.update(name='bert_adam', lr=rate)
  c.schedule = dict(name='bert', warmup=10_000, steps=steps, final=0.0, epochs=None)


def bart(c: ConfigDict, recipe: str) -> None:
  """Lewis et al. 2020, sections 2.2 and 5.1: 30 % of the words in gaps, and sentences in
  another order.
  """
  rows, steps, rate = BART[recipe]
  c.model = dict(family=recipe)
  c.objective = dict(name='infilling', rate=0.3, mean=3.0, permute=True)
  c.tokenizer.update(kind='bpe', size=50_265, lowercase=False)
  c.data.batch = rows
  c.optim.update(lr=rate, b2=0.98, eps=1e-6)
  c.schedule.update(warmup=10_000, steps=steps)


def ul2(c: ConfigDict, recipe: str) -> None:
  """Tay et al. 2022, section 9.1: C4 for a trillion tokens, nothing dropped out."""
  c.model = dict(family=recipe)
  seven = ('r3_15', 'r8_15', 'x3_50', 'x8_50', 'x64_15', 'x64_50', 's')
  c.objective = dict(
    name='denoisers', mixture=group(dict.fromkeys(seven, 1.0)), modes=True
  )
  c.compute.dropout = 0.0
  c.tokenizer.update(kind='bpe', size=32_000, lowercase=False)
  c.data.batch = 1024
  c.optim.update(name='adafactor', lr=0.01, decay=0.0, clip=None)
  c.schedule = dict(
    name='inverse_sqrt', warmup=0, hold=10_000, steps=2_000_000, epochs=None
  )


def t5(c: ConfigDict, recipe: str) -> None:
  """The baseline of Raffel et al. 2020: 2^19 steps of 128 rows of 512 tokens of C4."""
  c.model = dict(family=recipe)
  c.objective = dict(name='span', rate=0.15, mean=3.0)
  c.tokenizer.update(kind='bpe', size=32_000, lowercase=False)
  c.data.batch = 128
  # 1 / sqrt(max(step, 10,000)).
  c.optim.update(name='adafactor', lr=0.01, decay=0.0, clip=None)
  c.schedule = dict(
    name='inverse_sqrt', warmup=0, hold=10_000, steps=2**19, epochs=None
  )


def gpt3(c: ConfigDict, recipe: str) -> None:
  """Brown et al. 2020: 300 billion tokens, of which the rate falls for 260."""
  rows, rate, growing = GPT3_SIZES[recipe]
  c.model = dict(family=recipe)
  c.objective = dict(name='causal')
  c.compute.dropout = 0.0
  c.tokenizer.update(kind='bpe', size=50_257, lowercase=False)
  c.data.mixture = group(GPT3)
  phases = doubled(rows, growing)
  c.data.update(length=GPT3_CONTEXT, batch=rows, phases=phases)
  c.optim.update(lr=rate, decay=0.1, b2=0.95, eps=1e-8)
  steps = step_at(300e9, phases, rows)
  # What remains of the 300 billion is read at a tenth of the rate.
  settled = steps - step_at(260e9, phases, rows)
  c.schedule = dict(
    name='cosine',
    warmup=step_at(375e6, phases, rows),
    steps=steps,
    settled=settled,
    final=0.1,
    epochs=None,
  )


def doubled(most: int, tokens: float) -> tuple:
  """Phases whose batches double up to `most` rows while so many tokens are read.

  They stay below a line from the first batch to the last one, and reach it where each
  size begins.
  """
  found = []
  step, size = 0, GPT3_FIRST
  while size < most:
    following = min(2 * size, most)
    share = (following - size) / (most - GPT3_FIRST)
    step += round(share * tokens / (size * GPT3_CONTEXT))
    found.append((step, dict(batch=size)))
    size = following
  return tuple(found)


def step_at(tokens: float, phases: tuple, rows: int) -> int:
  """The step at which so many tokens were read."""
  left = tokens
  before = 0
  for last, shape in phases:
    each = shape['batch'] * GPT3_CONTEXT
    steps = round(left / each)
    if before + steps <= last:
      return before + steps
    left -= (last - before) * each
    before = last
  return before + round(left / (rows * GPT3_CONTEXT))


def adapted(a: ConfigDict) -> ConfigDict:
  """Gururangan et al. 2020: a domain for 12,500 steps, or a task's texts a hundred
  times.

  Rows, rates and steps are those of their paper and of the commands beside their code.
  The warm-up of 6 % is in the paper alone, where it may be left out of tasks' texts.
  """
  if not a.init:
    raise ConfigError(
      f'argument init: {a.recipe} goes on from a model; give its folder'
    )
  given = [f'text={a.text or "vader_movie"}']
  given += [f'{name}={a[name]}' for name in ('column', 'init') if a[name]]
  c = config.load(f'{HERE / "adapt.py"}:{",".join(given)}')
  c.unlock()
  c.data.length = 512
  c.optim.update(b2=0.98, eps=1e-6)
  if a.recipe == 'dapt':
    c.data.batch = 2048
    c.optim.lr = 5e-4
    c.schedule.update(warmup=750, steps=12_500)
    return c
  c.data.batch = 256
  c.optim.lr = 1e-4
  c.schedule = dict(name='linear', warmup=0, steps=None, epochs=100.0)
  return c


# What makes the config of each recipe from scratch: maker(config, recipe).
MAKERS = {
  **dict.fromkeys([*BERT, *MINIATURES], bert),
  **dict.fromkeys(ROBERTA, roberta),
  **dict.fromkeys(ELECTRA, electra),
  **dict.fromkeys(BART, bart),
  't5-base': t5,
  'ul2': ul2,
  **dict.fromkeys(GPT3_SIZES, gpt3),
}
NAMES = (*MAKERS, 'dapt', 'tapt')
