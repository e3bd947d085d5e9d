"""Pre-training: masked (BERT), causal (GPT), span corruption (T5), a mixture of denoisers
(UL2) and infilling (BART) on a mixture of texts.

  tl-jax pretrain --config=configs/pretrain.py:tiny --workdir=/tmp/tiny
  tl-jax pretrain --config=configs/pretrain.py:demo --workdir=/tmp/demo
  tl-jax pretrain --config=configs/pretrain.py:bert-small --workdir=/mnt/bert
  tl-jax pretrain --config=configs/pretrain.py:tiny-gpt,text=novels/ --workdir=/tmp/gpt
  tl-jax pretrain --config=configs/pretrain.py:tiny,objective=next_sentence \\
    --workdir=/tmp/nsp
  tl-jax generate --model=/tmp/gpt --prompt='The sea'

`tiny` takes seconds on embedded text, `demo` minutes on 2 cores, `bert-small` hours on
a v5e-8.

The argument is a family of `tl_jax.models`; its shape chooses the objective.
objective: another one, as BERT's next_sentence or ALBERT's sentence_order, or UL2's
joined_denoisers for a decoder alone; a prefix LM is causal with
--config.objective.prefix=True. Any field of the model is a key: --config.model.width=128.
text: in the place of the family's mixture a set
of `tl_jax.data`, a file of texts (.txt, .jsonl, .json, .csv, .tsv or .parquet, each
also with .gz or .zst) or a folder of .txt files, each of them one text; several with +
between, in equal parts. A comma or a + in the name of a file is escaped by a backslash.
column: that of the texts in files (default: text).
`data.length` counts the tokens of the model's rows: span corruption makes 512 of 568
tokens of text, as in T5.
"""

from ml_collections import ConfigDict

from tl_jax.config import arguments, group, names

ARGUMENTS = (
  'tiny',
  'tiny-gpt',
  'tiny-t5',
  'tiny-ul2',
  'tiny-bart',
  'tiny-electra',
  'tiny,objective=next_sentence',
  'tiny,objective=sentence_order',
  'tiny-gpt,objective=joined_denoisers',
  'demo',
  'bert-small',
  'bert-base',
  'gpt2',
  't5-small',
  'bart-base',
  'tiny-gpt,text=austen+vader_nyt',
)
EMBEDDED = {
  'austen': 0.35,
  'shakespeare': 0.25,
  'vader_movie': 0.2,
  'vader_amazon': 0.1,
  'vader_nyt': 0.1,
}
TINY = {'austen': 0.5, 'vader_movie': 0.5}
# Objectives of models that read words with a piece for what is hidden.
PAIRS = ('next_sentence', 'sentence_order')
MASKING = ('masked', 'electra', *PAIRS)
PUBLIC = {'c4/en': 1.0}
# The seven denoisers, equally often: mean length of spans and percent that they hide.
UL2 = ('r3_15', 'r8_15', 'x3_50', 'x8_50', 'x64_15', 'x64_50', 's')


def get_config(arg: str = 'tiny') -> ConfigDict:
  a = arguments(arg, family='tiny', text='', column='', objective='')
  family = a.family
  mixture = {'demo': EMBEDDED, 'tiny': TINY}.get(family.partition('-')[0], PUBLIC)
  if a.text:
    mixture = group(dict.fromkeys(names(a.text), 1.0))
  c = ConfigDict()
  c.seed = 0
  c.model = dict(family=family)
  c.compute = dict(
    dtype='bfloat16',
    remat='dots',
    layers='auto',
    attention='auto',
    frozen='float32',  # bfloat16: half the memory of what is not trained
    dropout=0.1,
  )
  c.objective = named(a.objective) if a.objective else objective(family)
  c.tokenizer = dict(
    kind='wordpiece' if c.objective.name in MASKING else 'bpe',
    size=30522,
    lowercase=True,
    path='',
    parse_special=False,
  )
  c.unigram_bias = False
  c.data = dict(
    mixture=mixture,
    temperature=0.0,  # 1: weights times the sizes of their sources; more: flatter
    cap=0,  # most tokens of a source that count there
    epochs={},  # {source: the most passes over it}
    unique={},  # {source: the most of its tokens that are ever seen}
    # ((step, {source: weight from then on}), ...): in the place of the mixture, so that
    # a source which a stage does not name is not read in it
    stages=(),
    # ((last step, {'length': tokens, 'batch': rows}), ...), then as here; held-out texts
    # are read in rows as here throughout
    phases=(),
    column=a.column,
    length=512,
    batch=256,
    accumulate=1,
    pack=True,
    directory='',
  )
  c.optim = dict(
    name='adamw',
    lr=1e-4,
    decay=0.01,
    clip=1.0,
    ema=None,
    moment_dtype=None,  # bfloat16 or uint8: less memory for moments
    master_weights=False,  # weights in bfloat16 beside float32 masters
    layer_decay=None,  # of the rate, from each layer to the one below it: 0.8
    groups=((r'.*(bias|scale)', dict(decay=0.0)),),
  )
  c.schedule = dict(name='linear', warmup=10_000, steps=1_000_000, epochs=None)
  c.mesh = dict(data=-1, fsdp=1, tensor=1, sequence=1, cohort=1, dcn=1)
  c.sharding = 'fsdp'
  c.sharding_overrides = ()
  c.checkpoint = dict(every=5_000, keep=3)
  c.eval = dict(every=5_000, batches=64)
  c.log = dict(every=100, tensorboard=True)
  if family.startswith('tiny'):
    tiny(c)
  elif family == 'demo':
    demo(c)
  return c


def named(name: str) -> dict:
  """An objective that was asked for; the keys of pairs are there to be overridden."""
  if name in PAIRS:
    return dict(
      name=name,
      rate=0.15,
      masking='pieces',
      short=0.1,  # of the documents, cut into shorter pairs
      duplicates=10,  # times that all documents are cut, each with other draws
      sentences='split',  # lines: one on each, an empty one between documents
    )
  if name == 'joined_denoisers':
    return denoising(name)
  return dict(name=name)


def denoising(name: str) -> dict:
  """UL2's mixture. A weight of 0 leaves a denoiser out; `s` alone, without modes, is
  T5's prefix LM.
  """
  return dict(name=name, mixture=dict.fromkeys(UL2, 1.0), modes=True)


def objective(family: str) -> dict:
  """What each shape of model is pre-trained to do in its paper."""
  if 'gpt' in family:
    return dict(name='causal', prefix=False)
  if 't5' in family:
    return dict(name='span', rate=0.15, mean=3.0)
  if 'electra' in family:
    # weight: of the discriminator's loss. rate: .25 for electra-large.
    return dict(name='electra', rate=0.15, weight=50.0)
  if 'ul2' in family:
    return denoising('denoisers')
  if 'bart' in family:
    return dict(name='infilling', rate=0.3, mean=3.0, permute=True)
  return dict(name='masked', rate=0.15, masking='pieces')


def tiny(c: ConfigDict) -> None:
  """Seconds on a laptop, with everything on that can go wrong: dropout, packing,
  accumulation.
  """
  c.compute = dict(
    dtype='float32', remat='none', layers='auto', attention='auto', dropout=0.1
  )
  c.tokenizer.size = 1024
  c.data.update(length=64, batch=16, accumulate=2)
  c.optim.lr = 1e-3
  c.schedule.update(warmup=10, steps=60)
  c.checkpoint.every = 20
  c.eval.update(every=0, batches=4)
  c.log.every = 10


def demo(c: ConfigDict) -> None:
  """A few minutes on two cores: the encoder that `tl-jax demo` transfers."""
  c.compute = dict(
    dtype='float32', remat='none', layers='auto', attention='auto', dropout=0.0
  )
  c.tokenizer.size = 4096
  c.data.update(length=128, batch=32)
  c.unigram_bias = True
  c.optim.lr = 3e-3
  c.schedule.update(warmup=50, steps=1000)
  c.checkpoint.every = 300
  c.eval.update(every=0, batches=16)
  c.log.every = 10
