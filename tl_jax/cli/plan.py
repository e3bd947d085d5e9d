"""The verb `plan`: what a config will need on chips that need not be here.

>>> PLAN.example.split()[:2]
['tl-jax', 'plan']
"""

import json
import pathlib

from tl_jax import config, files
from tl_jax.cli.console import reporting, say
from tl_jax.cli.verb import Verb, add_overrides

PROGRAMS = ('step', 'evaluation', 'decoding', 'features', 'cohort')


def _add_plan(parser):
  parser.add_argument('--config', required=True, metavar='C', help='as of a run')
  parser.add_argument(
    '--topology',
    required=True,
    metavar='T',
    help='v5e:4x4, v5p-64, 2xv5e:4x4, h100:8; several with commas between',
  )
  parser.add_argument(
    '--slices', type=int, default=1, metavar='N', help='slices of each topology'
  )
  parser.add_argument(
    '--program',
    choices=PROGRAMS,
    default='step',
    help='what to plan (default: the training step)',
  )
  parser.add_argument(
    '--members', type=int, default=1, metavar='N', help='runs that a cohort has'
  )
  parser.add_argument(
    '--effort',
    choices=('low', 'full'),
    default='low',
    help="the compiler's; full takes five times as long",
  )
  parser.add_argument(
    '--no-compile',
    action='store_true',
    help='only what needs no compiler: parameters, bytes by part, FLOPs',
  )
  parser.add_argument(
    '--prices', metavar='FILE.json', help='{"prices": {"v5e": 1.2}}, of a chip an hour'
  )
  parser.add_argument('--json', metavar='FILE', help='writes the plans as JSON')
  add_overrides(parser, 'overrides one value, as in --config.mesh.fsdp=-1')


def _plan(flags, overrides) -> int:
  loaded = config.load(flags.config, overrides)
  # After the config, whose mistakes are said before the import of jax.
  from tl_jax.scale import planning, prices, telling, topology

  chosen = topology.split(flags.topology, flags.slices)
  # Before anything is traced: a plan takes no device, and needs none.
  topology.prepare_environment()
  wish = planning.Wish(
    program=flags.program,
    members=flags.members,
    effort=flags.effort,
    compile=not flags.no_compile,
    prices=prices.read(flags.prices),
  )
  # All of them first: a table of topologies takes minutes.
  if wish.compile:
    for one in chosen:
      topology.require_compiler(one)
  from tl_jax.train import outline

  run = outline.outline(loaded)
  found = []
  with reporting() as reporter:
    for one in chosen:
      with reporter.busy(f'{flags.program} for {one.name}'):
        found.append(planning.make_plan(run, one, wish))
  # Behind the lines of progress, so that it can be read in one piece.
  for plan in found:
    for line in telling.lines(plan):
      say(line)
    say('')
  if len(found) > 1:
    for line in telling.table(found):
      say(line)
  if flags.json:
    text = json.dumps([plan.to_json() for plan in found], indent=2)
    files.write_atomically(pathlib.Path(flags.json), (text + '\n').encode())
  return 0


NOTES = """nothing of the run is read but its config, the config and the tokenizer of
its checkpoint and the labels of its task; config.init may also be the name of a
published size, as init=llama3.1-8b, whose files need not be here:

  tl-jax plan --config=configs/pretrain.py:bert-large --topology=v5e:4x4 \\
    --config.mesh.data=1 --config.mesh.fsdp=-1
  tl-jax plan --topology=v5e:2x4 --config.mesh.data=1 --config.mesh.fsdp=-1 \\
    --config=configs/transfer.py:task=sentiment,method=lora,init=llama3.1-8b
  tl-jax plan --topology=v5e:2x2 --program=cohort --members=32 --config.mesh.cohort=-1 \\
    --config.mesh.data=1 --config=configs/transfer.py:task=sentiment,method=lora,init=bert-base

times are bounds: how fast the chips could be if nothing else took time. memory is the
compiler's own account; it tells of an array by the line of code that made it. a call
with --effort=full gives the account of the program that runs.
"""

PLAN = Verb(
  purpose='what a config needs on chips that need not be here: memory, work, time, money',
  example='tl-jax plan --config=configs/pretrain.py:bert-large --topology=v5e:4x4',
  flags=_add_plan,
  action=_plan,
  overrides=True,
  notes=NOTES,
)
