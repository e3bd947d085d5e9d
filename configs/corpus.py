"""A corpus for pre-training: filtered by quality, without duplicates, chosen.

  tl-jax data prepare --config=configs/corpus.py:text=pages.jsonl.gz --workdir=/tmp/pages
  tl-jax data prepare --workdir=/tmp/english \\
    --config=configs/corpus.py:text=web/+books/,languages=en,evaluation=test.csv
  tl-jax data prepare --workdir=/tmp/chosen \\
    --config=configs/corpus.py:text=web/,good=books/,target=reviews.csv
  tl-jax pretrain --config=configs/pretrain.py:bert-base,text=/tmp/pages/corpus \\
    --workdir=/tmp/bert

text: a file (.jsonl, .json, .csv, .tsv, .parquet or .txt, each also with .gz or .zst),
a folder of such or a set of `tl_jax.data`; several with + between. A comma or a + in
the name of a file is escaped by a backslash. column: that of the texts (default: text),
in all files; one that calls it otherwise is prepared by itself with
--config.steps='()', and its corpus/ is then a text like any other. languages: those
that stay, as en+de (default: all). evaluation: sources of texts whose runs of 13 words
are in no document that stays. good: a source of good texts, by which a classifier of
quality is learned (Brown et al. 2020). target: a source of texts like which half of the
documents are chosen (DSIR, Xie et al. 2023). model: a workdir or a folder of a decoder,
or of an encoder with a masked head; the half of the documents stays whose perplexity is
in the middle (Marion et al. 2023), or another part by config.perplexity.keep=lowest or
highest. reference: a source of texts; the same, by a model of their runs of three
words, which is faster (Wenzek et al. 2020).

config.steps: gopher and repetition (Rae et al. 2021), c4 (Raffel et al. 2020, which
drops lines, too) and fineweb (Penedo et al. 2024) are rules of quality, exact and near
leave out what is there twice, the latter by MinHash. Their bounds are groups of the
config. Nothing is downloaded. /tmp/pages/corpus has the documents, manifest.json what
became of the others, report.html shows it with examples. A workdir keeps the corpus of
one config. config.output=parquet writes Parquet, which is a source as well.

Several processes filter with config.execution.workers=8, a cluster (pip install
'tl-jax[corpus]') with config.execution.executor=slurm and
config.execution.partition=NAME, or executor=ray: the files are the same. With Slurm the
command submits two jobs, one after the other; run again after them it shows the report.
Its jobs run setup first, a shell command, by default one that puts this Python on the
PATH.
"""

from ml_collections import ConfigDict

from tl_jax.config import arguments, group, names

ARGUMENTS = ('text=austen', 'text=austen+debian,languages=en')


def get_config(arg: str = '') -> ConfigDict:
  a = arguments(
    arg,
    text='',
    column='',
    languages='',
    evaluation='',
    good='',
    target='',
    model='',
    reference='',
  )
  c = ConfigDict()
  c.seed = 0
  c.sources = group({name: name for name in names(a.text)})
  c.column = a.column
  c.directory = ''
  c.steps = ('gopher', 'repetition', 'c4', 'fineweb', 'exact', 'near')
  c.languages = names(a.languages)
  c.gopher = dict(
    least_words=50,
    most_words=100_000,
    shortest_mean=3.0,
    longest_mean=10.0,
    signs_per_word=0.1,
    bullet_lines=0.9,
    ellipsis_lines=0.3,
    alphabetic_words=0.8,
    stop_words=2,
  )
  c.repetition = dict(
    lines=0.3,
    paragraphs=0.3,
    line_characters=0.2,
    paragraph_characters=0.2,
    top=(0.2, 0.18, 0.16),  # runs of 2, 3 and 4 words
    repeated=(0.15, 0.14, 0.13, 0.12, 0.11, 0.10),  # of 5 to 10 words
  )
  c.c4 = dict(words=3, longest_word=1000, sentences=5)
  c.fineweb = dict(
    ended_lines=0.12,
    short_lines=0.67,
    short_line=30,
    repeated_characters=0.01,
    line_ends_per_word=0.3,
  )
  c.evaluation = names(a.evaluation)
  c.classifier = dict(good=a.good, alpha=9.0)
  c.perplexity = dict(model=a.model, reference=a.reference, keep='middle', share=0.5)
  c.selection = dict(target=a.target, share=0.5)
  c.output = 'jsonl'
  c.shard = 10_000
  c.chunk = 1000
  c.examples = 3
  c.execution = dict(
    executor='local',
    workers=1,
    memory=4,  # GB of each job
    partition='',
    time='24:00:00',
    qos='',
    setup='',
  )
  return c
