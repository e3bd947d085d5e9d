"""The verb that answers every text of a file: `predict`.

>>> from tl_jax.cli.arguments import Parser
>>> parser = Parser(); add_predict(parser)
>>> parser.parse(['--model=m', '--input=a.csv', '--output=b.jsonl']).text
''
"""

import argparse

from tl_jax import config
from tl_jax.cli import decoding
from tl_jax.cli.console import reporting
from tl_jax.cli.models import HEADS
from tl_jax.cli.verb import Verb

NOTES = """a classifier gives, for each text,
  {"index": 0, "label": "good", "probability": 0.98, "probabilities": {"good": 0.98, ...}}
where a text has any number of labels: "labels" (those above one half), "probabilities";
for numbers: "value"; a model of several tasks says these by task, in "tasks".
a decoder or encoder-decoder writes: {"index": 0, "text": "...", "score": -1.2, "end": "eos"}
with --embeddings: {"index": 0, "embedding": [...]}, or float32 (texts, width) in .npy

more examples:
  tl-jax predict --model=FOLDER --input=pairs.tsv --text=title+body --output=labels.csv
  tl-jax predict --model=all-MiniLM-L6-v2 --input=lines.txt.gz --embeddings --output=e.npy
  tl-jax predict --model=model.gguf --input=prompts.jsonl --output=texts.jsonl --top-p=0.9
  tl-jax predict --model=model.gguf --input=chats.jsonl --output=answers.jsonl --chat

a run that learned conversations, and any decoder with --chat, answers conversations in
the fields messages, conversations, prompt or instruction, and texts as what a user says.
an answer that is there already is not read: the last question is answered anew.

every row of the input has an answer, an empty text too, in the same order.
killed and run again, it goes on where the output ends. OUTPUT.origin.json, beside the
output, says what it was made from: one of another model or input is refused.
"""


def add_predict(parser: argparse.ArgumentParser) -> None:
  """The flags of `predict`."""
  _add_files(parser)
  parser.add_argument(
    '--embeddings',
    action='store_true',
    help='a vector of each text, pooled as the model says',
  )
  parser.add_argument(
    '--normalize', action='store_true', help='vectors of length 1, with --embeddings'
  )
  parser.add_argument(
    '--step',
    type=int,
    metavar='N',
    help='a committed step of a workdir (default: that which the run kept: the newest, '
    'or the best on validation)',
  )
  parser.add_argument(
    '--head',
    metavar='H',
    choices=HEADS,
    help='of a folder, where its config.json does not name the right one',
  )
  parser.add_argument(
    '--batch',
    type=int,
    metavar='N',
    help='rows of 128 tokens at once, or texts that are written at once; it changes no '
    'answer',
  )
  parser.add_argument(
    '--dtype',
    default='',
    metavar='T',
    help='of the computation: float32 or bfloat16 (default: as the run, or float32)',
  )
  writing = decoding.add_decoding(
    parser,
    'of texts that a model writes',
    'is as the run of a workdir was scored, or as the generation_config.json of a '
    'folder says',
  )
  writing.add_argument(
    '--template',
    default='',
    metavar='T',
    help='how a text is put to the model, as "Review: {text} Verdict:" (default: as its '
    'run learned it, or the text as it is)',
  )
  decoding.add_chat(writing)


def _add_files(parser: argparse.ArgumentParser) -> None:
  """The flags of the model, of the texts and of where the answers go."""
  parser.add_argument(
    '--model',
    required=True,
    metavar='PATH',
    help='a workdir, an exported or Hugging Face folder, or a .gguf file',
  )
  parser.add_argument(
    '--input',
    required=True,
    metavar='FILE',
    help='.csv, .tsv, .jsonl, .json, .parquet or .txt (a text per line), each also .gz or '
    '.zst; '
    'of words to tag also .conll',
  )
  parser.add_argument(
    '--output',
    required=True,
    metavar='FILE',
    help='.jsonl or .csv; of embeddings .jsonl or .npy; of tags also .conll',
  )
  parser.add_argument(
    '--text',
    default='',
    metavar='COLUMN',
    help='the column of the texts, or several as A+B; two are a pair to a model of pairs '
    "(default: the run's own, or text)",
  )
  parser.add_argument(
    '--delimiter',
    default='',
    metavar='D',
    help='what parts the cells of a .csv, .tsv or .txt file: a character, or comma, '
    "semicolon, tab, bar or space (default: the run's own for files of its format, or "
    'what the header shows)',
  )


def run_predict(flags: argparse.Namespace, _) -> int:
  """Answers the texts. Raises ConfigError for flags that cannot be."""
  chosen = decoding.chosen(flags)
  of_texts = [*chosen, *_manner_of(flags)]
  if flags.embeddings and of_texts:
    first = of_texts[0].replace('_', '-')
    raise config.ConfigError(
      f'--{first}: of texts that a model writes, not of --embeddings'
    )
  if flags.batch is not None:
    config.check(flags.batch, config.Count, '--batch')
  if flags.dtype not in ('', 'float32', 'bfloat16'):
    raise config.ConfigError(
      f'--dtype: {flags.dtype!r} is not one of float32, bfloat16'
    )
  # Slow to import: what the command line alone gets wrong is said before.
  from tl_jax import train

  request = train.Request(
    model=flags.model,
    input=flags.input,
    output=flags.output,
    step=flags.step,
    text=flags.text,
    delimiter=flags.delimiter,
    embeddings=flags.embeddings,
    normalize=flags.normalize,
    batch=flags.batch or 0,
    dtype=flags.dtype,
    head=flags.head,
    decoding=chosen,
    **_manner_of(flags),
  )
  with reporting() as reporter:
    train.predict(request, reporter)
  return 0


def _manner_of(flags: argparse.Namespace) -> dict:
  """What the flags say of how a model that writes is asked."""
  said = dict(template=flags.template, chat=flags.chat, system=flags.system)
  return {name: value for name, value in said.items() if value not in (None, '')}


PREDICT = Verb(
  purpose='labels with probabilities, texts or embeddings for a file of texts; run '
  'again, it goes on',
  example='tl-jax predict --model=/tmp/lora --input=mails.csv --output=labels.jsonl',
  flags=add_predict,
  action=run_predict,
  notes=NOTES,
)
