"""Pre-training that goes on: on a domain (DAPT) or on the texts of a task (TAPT),
Gururangan et al. 2020.

  tl-jax pretrain --workdir=/tmp/films \\
    --config=configs/adapt.py:init=/tmp/demo,text=vader_movie
  tl-jax pretrain --workdir=/tmp/notes \\
    --config=configs/adapt.py:init=/tmp/demo,text=notes.jsonl,column=body
  tl-jax pretrain --workdir=/tmp/novels \\
    --config=configs/adapt.py:init=/tmp/gpt,objective=causal,text=novels/
  tl-jax transfer --workdir=/tmp/sentiment \\
    --config=configs/transfer.py:task=sentiment,method=full,init=/tmp/films

init: a workdir or a Hugging Face folder; its tokenizer stays. objective: masked
(default), causal of a decoder, span of an encoder-decoder. text: a set of `tl_jax.data`,
a file of texts (.txt, .jsonl, .json, .csv, .tsv or .parquet, each also with .gz or .zst) or a
folder of .txt files, each of them one text; several with + between, in equal parts. A
single .txt file has a text per line, or empty lines between its texts. A comma or a +
in the name of a file is escaped by a backslash. column: that of the texts in files
(default: text). Test texts are left out, so the texts of a task may be taken. A head of
another kind, as a sentence encoder has, starts afresh.
"""

from ml_collections import ConfigDict

from tl_jax.config import arguments, dropout, group, names

ARGUMENTS = ('text=vader_movie', 'text=debian+vader_nyt')


def get_config(arg: str = '') -> ConfigDict:
  a = arguments(arg, init='scratch', text='vader_movie', column='', objective='masked')
  c = ConfigDict()
  c.seed = 0
  c.init = a.init
  # empty: the family of the checkpoint
  c.model = dict(family='tiny' if a.init == 'scratch' else '')
  c.compute = dict(
    dtype='float32',
    remat='none',
    layers='auto',
    attention='auto',
    frozen='float32',  # bfloat16: half the memory of what is not trained
    dropout=dropout(a.init),
  )
  c.objective = (
    dict(name='masked', rate=0.15, masking='pieces')
    if a.objective == 'masked'
    else dict(name=a.objective)
  )
  c.method = dict(name='full')
  # All but parse_special is used where there is no checkpoint.
  c.tokenizer = dict(
    kind='wordpiece', size=2048, lowercase=True, path='', parse_special=False
  )
  c.unigram_bias = False
  c.data = dict(
    mixture=group(dict.fromkeys(names(a.text), 1.0)),
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
    length=128,
    batch=32,
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
  c.schedule = dict(name='linear', warmup=20, steps=200, epochs=None)
  c.mesh = dict(data=-1, fsdp=1, tensor=1, sequence=1, cohort=1, dcn=1)
  c.sharding = 'fsdp'
  c.sharding_overrides = ()
  c.checkpoint = dict(every=100, keep=1)
  c.eval = dict(every=0, batches=8)
  c.log = dict(every=10, tensorboard=True)
  return c
