"""The verb `probe`: what each layer of a model knows of a task.

>>> PROBE.example
'tl-jax probe --task=sentiment --init=/models/minilm --workdir=/tmp/layers'
"""

import argparse
import pathlib

from tl_jax import files
from tl_jax.cli.console import in_columns, reporting, say
from tl_jax.cli.verb import Verb, add_workdir


def _count(text: str) -> int:
  """The type of a flag that is a number of at least one."""
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'needs a number >= 1, got {text!r}')
  return int(text)


def _add_probe(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--task', required=True, metavar='T', help='a file of labelled texts, or a task'
  )
  parser.add_argument(
    '--init', required=True, metavar='PATH', help='a workdir, a folder or a .gguf file'
  )
  add_workdir(parser, what='where vectors are kept and the page is written')
  columns = parser.add_argument_group('the columns of a file')
  columns.add_argument('--text', default='', metavar='COLUMN', help='default: text')
  columns.add_argument('--label', default='', metavar='COLUMN', help='default: label')
  columns.add_argument(
    '--delimiter', default='', metavar='D', help='what parts cells, where it is unclear'
  )
  parser.add_argument(
    '--pooling',
    default='',
    metavar='P',
    help='how hidden states become a vector: cls, mean, lasttoken, max (default: as the '
    'model says)',
  )
  parser.add_argument(
    '--labels',
    type=_count,
    default=0,
    metavar='N',
    help='learns from so many examples, the classes in equal parts (default: all)',
  )
  parser.add_argument('--seed', type=int, default=0, metavar='N', help='default: 0')
  parser.add_argument(
    '--dtype', default='', metavar='T', help='of the vectors: float32 or bfloat16'
  )


def _probe(flags, _) -> int:
  from tl_jax.report import probe_page
  from tl_jax.train import probing
  from tl_jax.train.settings import TaskChoice

  choice = TaskChoice(
    name=flags.task, text=flags.text, label=flags.label, delimiter=flags.delimiter
  )
  asked = probing.Asked(
    choice, flags.init, flags.pooling, flags.labels, flags.seed, flags.dtype
  )
  workdir = pathlib.Path(flags.workdir)
  # Made before anything is computed, so that a wrong one costs nothing.
  workdir.mkdir(parents=True, exist_ok=True)
  with reporting() as reporter:
    found = probing.probe(asked, workdir / 'vectors', reporter)
  text = files.encode(found.as_dict(), indent=1) + '\n'
  files.write_atomically(workdir / 'result.json', text.encode())
  files.write_atomically(workdir / 'predictions.jsonl', probing.predictions_of(found))
  files.write_atomically(workdir / 'probe.html', probe_page.page(found).encode())
  for line in in_columns(probe_page.table(found)):
    say(line)
  say('')
  for line in probe_page.sentences(found):
    say(line)
  say(f'report: {workdir / "probe.html"}')
  return 0


NOTES = """test accuracies in percent, with 95 % intervals. a linear probe (least squares with a
penalty), nearest neighbours and nearest centroids of the vectors after every layer; what
they choose, a penalty, a number of neighbours, the layer, they choose on the train
examples, each left out in its turn.

the model reads each text once: run again, with other --labels, it takes the vectors that
are there. a changed model, tokenizer, pooling or text reads no old ones.

  tl-jax probe --task=mails.csv --text=subject+body --label=folder --init=/models/bert \\
    --pooling=cls --labels=200 --workdir=/tmp/layers
"""

PROBE = Verb(
  purpose='what each layer of a model knows of a task, in one pass over the texts',
  example='tl-jax probe --task=sentiment --init=/models/minilm --workdir=/tmp/layers',
  flags=_add_probe,
  action=_probe,
  notes=NOTES,
)
