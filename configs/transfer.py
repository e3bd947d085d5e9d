"""Transfer to a labelled task: from a checkpoint, or from scratch for comparison.

  tl-jax transfer --workdir=/tmp/lora \\
    --config=configs/transfer.py:task=sentiment,method=lora,init=/tmp/demo,labels=100
  tl-jax transfer --workdir=/tmp/mine \\
    --config=configs/transfer.py:task=mine.csv,method=full,init=/tmp/demo
  tl-jax transfer --workdir=/tmp/mails \\
    --config=configs/transfer.py:task=mails.tsv,text=subject+body,label=folder
  tl-jax transfer --workdir=/tmp/titles \\
    --config=configs/transfer.py:task=news.jsonl,text=body,target=title,init=/tmp/t5
  tl-jax transfer --workdir=/tmp/loud \\
    --config=configs/transfer.py:task=mine.py:LOUD,method=lora,init=/tmp/demo
  tl-jax transfer --workdir=/tmp/chat \\
    --config=configs/transfer.py:task=chats.jsonl,method=lora,init=/tmp/gpt
  tl-jax transfer --workdir=/tmp/shots --config.method.shots=4 \\
    --config=configs/transfer.py:task=sentiment,method=in_context,init=/tmp/gpt

task: a name of `tl_jax.tasks`, several with + between (one body, a head for each);
FILE.py:NAME, a `tl_jax.tasks.Task` of your own or a function that makes one; or a file:
.csv, .tsv, .jsonl, .json or .parquet, each also with .gz or .zst; or a folder of them, whose
names may say the splits, as train-0001.parquet and test.csv. Of a file: text, the
column of the texts, or several with + between (default: text), of which two are a
pair, as premise+hypothesis, read as the tokenizer frames two texts (by a decoder as
one); label, that of the labels, or several that hold 0 or 1 each (default: label);
kind, single_label, multi_label, regression, choice, tags, span, embedding, simcse,
similarity, minimal_pairs, last_word or conversation (default: what labels are); target,
in the place of a label, the column of texts that an encoder-decoder or a decoder learns
to write; delimiter, what parts the cells of a .csv, .tsv or .txt file: a character, or
comma, semicolon, tab, bar or space (default: the one of the first four that the header
shows, and none of a .txt file); train, validation, test, files of one split each. A
comma or a + in the name of a file is escaped by a backslash.

Questions with candidates to choose among are those of kind=choice, in the fields of
SWAG, HellaSwag, ARC, RACE, COPA, PIQA, MMLU and others, or in columns A, B, C and answer.

Of kind=tags are words with a tag each: files .conll, .conllu, .iob, or .tsv and .txt with
kind=tags, that have a word and its columns on every line (the tag is the last one, or
label=NUMBER, counted from 1, or of .conllu a name such as xpos) and an empty line between
sentences; or lists of words and tags in .jsonl and .parquet, as tokens and ner_tags. Tags
that are numbers have their names in the features of a .parquet file or in a labels.txt
beside the file, a line each. A long sentence is read in windows that overlap. Tags such
as B-PER and I-PER are scored by the F1 of entities, others by their accuracy; the
baseline is method=most-frequent.

Of kind=span are questions whose answer is a part of a passage: SQuAD's files, 1.1 and 2.0,
as their authors publish them (.json) or as rows with question, context and answers, or the
columns question, context and answer, whose place is looked for where no answer_start says
it. A long passage is read in windows that overlap. Where some questions have no answer,
the model may say so, and SQuAD 2.0's metrics are those of the task. An answer has 30
tokens at most, or --config.data.target_length=96. The baseline is method=best-sentence.

Of kind=embedding are pairs of texts that belong together, in the columns anchor, positive
and maybe negative, whose vectors are made alike; of kind=simcse texts alone; of
kind=similarity two texts and how alike they are (sentence1, sentence2 and score).

Of two kinds nothing is learned, a model is asked how probable texts are, with
method=in_context, which is about all examples where no column says splits.
kind=minimal_pairs, as BLiMP (sentence_good, sentence_bad; a folder with its files, or
text=GOOD+BAD): is the acceptable sentence the more probable one? Of a decoder by
log-likelihood, of a masked encoder by pseudo-log-likelihood; result.json has each
phenomenon and paradigm. kind=last_word, as LAMBADA (text): does a decoder say the last
word, and how probable is it? Put as in GPT-3's cloze, it is
--config.method.template='{text} ____. -> {target}' with demonstrations of train=FILE.

Of conversations a decoder learns what the assistant says in them, put by its chat
template (which needs jinja2), or a line `role: content` each where it has none. They
are found in a file by the fields of its first row: messages, with role and content;
conversations, with from and value; prompt and completion; instruction, input and
output. Other rows may have others of these. kind=conversation says it.

method: a name of `tl_jax.transfer.METHODS`, or several with + between, as lora+l2sp:
the partitions full, probe, bitfit, norms, last and subset; the leaf edits lora, dora,
qlora, ia3 and diff; the parts adapter, prompt and prefix; the regularizers l2sp,
prior_decay, mixout, ewc, reinitialize, rdrop and unfreeze, which act on what the others
train. Besides, in_context, which trains nothing (below), and the baselines tf-idf, copy,
lead, of tags most-frequent, of spans best-sentence and of choices best-candidate.
init: a workdir of `pretrain` or `transfer`, a Hugging Face folder, or scratch. labels:
how many labelled examples; 0: all. epochs: passes over them, in the place of 100 steps.
Classes of unequal size may count the same: --config.task.weights=balanced, or
--config.task.weights="{'rare': 5.0}".
Evaluated every 20 steps on validation, a run may end early and keep its best step:
--config.eval.every=20 --config.eval.patience=3 --config.eval.keep=best. Of texts to
write that is by the loss of the right ones; with --config.eval.write=True they are
written each time, and scored.
So that a classifier is as often right as it says, --config.eval.calibrate=True fits one
temperature to the validation split: result.json has it under calibration, with what the
test split says before and after outputs are divided by it. No answer changes; outputs
and probabilities elsewhere, as those of `predict`, are the model's own.
Options of a method: --config.method.rank=4.
in_context asks a decoder or an encoder-decoder, with examples of the train split in its
prompt: --config.method.shots=4 of them, or as many as fit in --config.data.length, put by
--config.method.template='Review: {text}\nSentiment: {target}' with
--config.method.words="{'positive': 'good', 'negative': 'bad'}" for the labels. These are
chosen by --config.method.score: sum, token (log-probability by token), character,
unconditional (less that behind the answer context), or calibrated (by inputs that say
nothing). result.json and predictions.jsonl have all of them. --config.method.draw=example
draws for each example anew: with score=token, or unconditional, that is the protocol of
GPT-3. labels=16 draws from 16 examples, the classes in equal parts.
Of texts to write: how a text is put, --config.task.template='summarize: {text}' (of a
decoder '{text}\\n=> {target}'); the longest, in tokens with its end,
--config.data.target_length=32; how texts are written that are scored,
--config.task.decoding="{'method': 'beam', 'beams': 4}" (default: greedy, of continue
drawn), of the settings that `tl-jax generate --help` names; the scores,
--config.task.metrics="('bleu', 'chrf')", of exact_match, rouge, bleu, chrf and, where
no one text is right, distinct, repetition, self_bleu and copying (the 4- and 8-grams
that the training text has), each beside that of the authors (reference/distinct_2). The
perplexity of the targets is always among them.
Of texts to write and of single labels: --config.task.smoothing=0.1.
Over T5 or BART the classifier reads the mean of the encoder. That of transformers, which
alone can be exported: --config.model="{'pool': 'last', 'pooler': 'tanh'}".

Tasks by where their data are:
  in the package: sentiment, products, tweets, editorials, intensity, topic, register,
    novel, genre; with texts to write summary, translate_en_de, continue
  by `tl-jax data fetch`: email, email_body, brown, newsgroups, topic_full, section;
    with texts to write summary_full, translate_en_de_full, translate_en_fr_full,
    translate_en_it_full
  by tensorflow-datasets: imdb, sst2, cola, news; of two texts mrpc, qqp, stsb, rte,
    mnli, mnli_mismatched, qnli, wnli; with texts to write aeslc, cnn_dailymail, xsum, gigaword, samsum,
    wmt14_en_de, wmt14_en_fr, wmt16_en_ro, opus_medical
  in their published files, --config.data.directory=FOLDER that has CoLA/train.tsv or
    BoolQ/train.jsonl: all nine tasks of GLUE, and of SuperGLUE boolq, cb, copa, multirc
    (kind each_choice), record (kind any_choice), superglue_rte, wic, wsc

Usual keys, as they are for task=sentiment where nobody says otherwise:
  --config.seed=0 --config.task.labels=0 --config.data.length=128
  --config.data.batch=16 --config.data.accumulate=1 --config.data.target_length=0
  --config.optim.lr=5e-4 --config.optim.decay=0.01 --config.schedule.warmup=10
  --config.schedule.steps=100 --config.eval.every=0 --config.eval.patience=0
  --config.checkpoint.every=100 --config.checkpoint.keep=1 --config.log.every=10
  --config.compute.dtype=float32 --config.compute.dropout=0.1 --config.mesh.data=-1
Of a published model that never saw dropout, as Llama and its relatives, dropout is 0. A
folder of weights and a GGUF file are taken for published models, whose rates are lower
(5e-5 in full), also where the folder was exported here. The run says so.
"""

import pathlib

from ml_collections import ConfigDict

from tl_jax.config import arguments, dropout

ARGUMENTS = (
  'task=sentiment',
  'task=novel,method=probe',
  'task=genre,method=bitfit',
  'task=tweets,method=norms',
  'task=register,method=last',
  'task=intensity,method=lora,labels=100',
  'task=topic,method=adapter',
  'task=sentiment+topic,method=lora+l2sp',
  'task=summary',
)
# One rule per method, whatever the task and the number of labels: this rate, these
# steps, the last checkpoint. full and what is like it: the last entry.
LEARNING_RATES = {
  'probe': 1e-2,
  'bitfit': 2e-3,
  'norms': 2e-3,
  'subset': 2e-3,
  'lora': 2e-3,
  'dora': 2e-3,
  'qlora': 2e-3,
  'ia3': 1e-2,
  'diff': 1e-3,
  'adapter': 1e-3,
  'prompt': 3e-2,
  'prefix': 1e-2,
  '': 5e-4,
}
# A published checkpoint is wider and was trained for longer than what is pre-trained
# here in minutes: the rates above take it apart where they move its own weights.
PUBLISHED_RATES = LEARNING_RATES | {
  'last': 2e-4,
  'subset': 5e-4,
  'lora': 1e-3,
  'dora': 1e-3,
  'qlora': 1e-3,
  'ia3': 5e-3,
  'diff': 1e-4,
  'prompt': 1e-2,
  'prefix': 5e-3,
  '': 5e-5,
}
# The tasks of `tl_jax.tasks` whose answers are texts.
WRITTEN = (
  'summary',
  'translate_en_de',
  'continue',
  'summary_full',
  'translate_en_de_full',
  'translate_en_fr_full',
  'translate_en_it_full',
  'aeslc',
  'cnn_dailymail',
  'xsum',
  'gigaword',
  'samsum',
  'wmt14_en_de',
  'wmt14_en_fr',
  'wmt16_en_ro',
  'opus_medical',
)
# What a method's config shows besides its name: what one is likely to change.
OPTIONS = {
  'last': dict(k=1),
  'lora': dict(pattern=r'.*/(query|value)/kernel', rank=8, alpha=16.0, dropout=0.0),
  'dora': dict(pattern=r'.*/(query|value)/kernel', rank=8, alpha=16.0),
  'qlora': dict(kind='nf4', rank=8, alpha=16.0),
  'adapter': dict(kind='houlsby', size=64),
  'prompt': dict(length=20),
  'prefix': dict(length=20),
  'l2sp': dict(strength=0.01),
  'prior_decay': dict(decay=0.01),
  'mixout': dict(rate=0.7),
  'ewc': dict(strength=1.0),
  'reinitialize': dict(layers=1),
  'rdrop': dict(strength=1.0),
  'unfreeze': dict(every=20),
  'in_context': dict(
    shots=0,
    template='{text}\n=> {target}',
    instruction='',
    between='\n\n',
    words={},
    draw='run',
    score='sum',
    answer_context='',
    content_free=('N/A', '', '[MASK]'),
    begin='',
  ),
}
# Tokens of a prompt with its answer, as GPT-3 has them.
PROMPT = 2048


def get_config(arg: str = '') -> ConfigDict:
  a = arguments(
    arg,
    task='',
    method='full',
    init='scratch',
    labels=0,
    text='',
    label='',
    target='',
    kind='',
    delimiter='',
    train='',
    validation='',
    test='',
    epochs=None,
  )
  reserved = reserved_positions(a.method.split('+'))
  c = ConfigDict()
  c.seed = 0
  c.init = a.init
  # empty: the family of the checkpoint
  fresh = fresh_family(a)
  c.model = dict(family=fresh if a.init == 'scratch' else '')
  c.compute = dict(
    dtype='float32',
    remat='none',
    layers='auto',
    attention='auto',
    frozen='float32',  # bfloat16: half the memory of what is not trained
    dropout=dropout(a.init),
  )
  # 0: all examples
  c.task = dict(
    name=a.task or a.train or 'sentiment',
    labels=a.labels,
    test=0,
    holdout=0.1,
    temperature=1.0,
    text=a.text,
    label=a.label,
    target=a.target,
    kind=a.kind,
    delimiter=a.delimiter,
    template='',
    metrics=(),
    decoding={},
    smoothing=0.0,
    weights=None,
    contrast=dict(temperature=0.05, symmetric=False),
    files=dict(train=a.train, validation=a.validation, test=a.test),
  )
  c.method = method(a.method, a.kind)
  # All but parse_special is used where there is no checkpoint.
  c.tokenizer = dict(
    kind='wordpiece' if fresh == 'tiny' else 'bpe',
    size=2048,
    lowercase=True,
    path='',
    parse_special=False,
  )
  c.data = dict(
    length=PROMPT if a.method == 'in_context' else 128 - reserved,
    batch=16,
    accumulate=1,
    pack=True,
    examples_per_row=0,
    target_length=0,
    directory='',
  )
  c.optim = optimizer(a.method.split('+'), a.init)
  steps = 100 if a.epochs is None else None
  c.schedule = dict(name='linear', warmup=10, steps=steps, epochs=a.epochs)
  c.mesh = dict(data=-1, fsdp=1, tensor=1, sequence=1, cohort=1, dcn=1)
  c.sharding = 'fsdp'
  c.sharding_overrides = ()
  c.checkpoint = dict(every=100, keep=1)
  c.eval = dict(every=0, patience=0, keep='last', calibrate=False, write=False)
  c.log = dict(every=10, tensorboard=True)
  return c


def fresh_family(a) -> str:
  """The model that starts from scratch: one that can answer the task."""
  if a.target or a.task in WRITTEN:
    return 'tiny-t5'
  return 'tiny-gpt' if a.kind == 'conversation' else 'tiny'


def reserved_positions(names: list[str]) -> int:
  """How many positions of every text the methods with these names keep."""
  return sum(OPTIONS[name]['length'] for name in names if name in ('prompt', 'prefix'))


def optimizer(names: list[str], init: str) -> dict:
  """The optimizer of the methods with these names, from this checkpoint."""
  return dict(
    name='adamw',
    lr=learning_rate(names, init),
    # which decays in its place, towards where the weights started
    decay=0.0 if 'prior_decay' in names else 0.01,
    clip=1.0,
    ema=None,
    moment_dtype=None,  # bfloat16 or uint8: less memory for moments
    master_weights=False,  # weights in bfloat16 beside float32 masters
    layer_decay=None,  # of the rate, from each layer to the one below it: 0.8
    groups=((r'.*(bias|scale)', dict(decay=0.0)),),
  )


def learning_rate(names: list[str], init: str) -> float:
  """The peak rate of the methods with these names, from this checkpoint."""
  rates = PUBLISHED_RATES if is_published(init) else LEARNING_RATES
  return max(rates.get(name, rates['']) for name in names)


def is_published(init: str) -> bool:
  """Is a checkpoint a folder of weights or a GGUF file, rather than a workdir?

  A workdir is none, whatever its run started from, and need not be there yet: so a run
  of a table has the same config before and after what it starts from is made.
  """
  return init.lower().endswith('.gguf') or any(pathlib.Path(init).glob('*.safetensors'))


def method(names: str, kind: str = '') -> dict:
  first, *more = names.split('+')
  if names == 'in_context' and kind == 'last_word':
    # The word goes on with the text as it stands.
    return dict(name=names, **OPTIONS[names] | dict(template='{text} {target}'))
  if not more:
    return dict(name=first, **OPTIONS.get(first, {}))
  return dict(
    name='compose',
    methods=tuple((name, OPTIONS.get(name, {})) for name in (first, *more)),
  )
