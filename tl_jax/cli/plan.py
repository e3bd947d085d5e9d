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
    help='v5e:4x4, v5p-64, 2xv5e:4x4, h100:8; several with commas between; v5p alone: '
    'the smallest slice that fits',
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
  parser.add_argument(
    '--search',
    action='store_true',
    help='looks for the fastest mesh, rematerialisation and accumulation that fit',
  )
  parser.add_argument('--html', metavar='FILE', help='writes them as a page with bars')
  parser.add_argument('--json', metavar='FILE', help='writes the plans as JSON')
  add_overrides(parser, 'overrides one value, as in --config.mesh.fsdp=-1')


def _plan(flags, overrides) -> int:
  # The config first, whose mistakes are said before the import of jax.
  loaded = config.load(flags.config, overrides)
  from tl_jax.scale import planning, prices, topology

  # Before anything is traced: a plan takes no device, and needs none.
  topology.prepare_environment()
  targets = _targets(flags.topology, flags.slices)
  wish = planning.Wish(
    program=flags.program,
    members=flags.members,
    effort=flags.effort,
    compile=not flags.no_compile,
    prices=prices.read(flags.prices),
  )
  if wish.compile:
    # All of them first: a table of topologies takes minutes.
    for target in targets:
      topology.require_compiler(target)
  from tl_jax.train import outline

  run = outline.outline(loaded)
  found = []
  with reporting() as reporter:
    for target in targets:
      with reporter.busy(f'{flags.program} for {target.name}'):
        found += _plans(run, target, wish, flags.search)
  _tell(found)
  _write(found, flags)
  return 0


def _targets(text: str, slices: int) -> list:
  """The topologies that a flag names; a chip alone stands for slices of any size."""
  from tl_jax.scale import topology
  from tl_jax.scale.chips import CHIPS

  found = []
  for name in text.split(','):
    if name.strip() in CHIPS:
      found.append(topology.Topology(name.strip(), ()))
    else:
      found.append(topology.parse(name.strip(), slices))
  return found


def _plans(run, target, wish, searches: bool) -> list:
  """The plans for one target, the one to choose first."""
  from tl_jax.scale import planning, search

  if not target.shape:
    tried = search.smallest(run, target.chip, wish)
    return tried[::-1]
  if searches:
    return search.search(run, target, wish)
  return [planning.make_plan(run, target, wish)]


def _tell(found: list) -> None:
  """Prints the plans, and a table where there are several."""
  from tl_jax.scale import telling

  for plan in found:
    for line in telling.lines(plan):
      say(line)
    say('')
  if len(found) > 1:
    for line in telling.table(found):
      say(line)


def _write(found: list, flags) -> None:
  """Writes the plans into the files that were asked for."""
  if flags.json:
    text = json.dumps([plan.to_json() for plan in found], indent=2) + '\n'
    files.write_atomically(pathlib.Path(flags.json), text.encode())
  if flags.html:
    from tl_jax.report import plans

    page = plans.page([plan.to_json() for plan in found])
    files.write_atomically(pathlib.Path(flags.html), page.encode())


NOTES = """nothing of the run is read but its config, the config and the tokenizer of
its checkpoint and the labels of its task; config.init may also be the name of a
published size, as init=llama3.1-8b, whose files need not be here:

  tl-jax plan --config=configs/pretrain.py:bert-large --topology=v5e:4x4 \\
    --config.mesh.data=1 --config.mesh.fsdp=-1
  tl-jax plan --topology=v5e:2x4 --config.mesh.data=1 --config.mesh.fsdp=-1 \\
    --config=configs/transfer.py:task=sentiment,method=lora,init=llama3.1-8b
  tl-jax plan --topology=v5e:2x2 --program=cohort --members=32 --config.mesh.cohort=-1 \\
    --config.mesh.data=1 --config=configs/transfer.py:task=sentiment,method=lora,init=bert-base

  tl-jax plan --config=configs/pretrain.py:bert-large --topology=v5e:4x4 --search

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
