"""The verb `merge`: transfers of one model made one, and scored on the task of each.

>>> sorted(METHODS), scales('0.5,-1')
(['dare', 'fisher', 'slerp', 'soup', 'task', 'ties'], (0.5, -1.0))
"""

import argparse
import math
import pathlib
from typing import Any, NamedTuple

from tl_jax import config
from tl_jax.cli import models
from tl_jax.cli.console import say
from tl_jax.cli.verb import Verb

# Each method with its own flags and their defaults.
METHODS = {
  'soup': dict(),
  'task': dict(scale=(1.0,)),
  'ties': dict(scale=(1.0,), density=0.2),
  'dare': dict(scale=(1.0,), drop=0.9, seed=0),
  'slerp': dict(t=0.5),
  'fisher': dict(examples=64),
}
# These add changes to a base, so one source is enough for them.
ON_BASE = ('task', 'ties', 'dare')
# Columns of the printed table: words are flush left, figures flush right.
WORDS = ('workdir', 'task', 'metric')
FIGURES = ('own', 'merged', 'difference')
REPORT = 'merge.json'


class Source(NamedTuple):
  """A transfer to merge, with its leaves in two dicts by name.

  `body` is what is merged. `own` is what stays with the task: its head and pooler.
  """

  name: str
  path: pathlib.Path
  opened: Any
  task: Any
  body: dict
  own: dict


def add_merge(parser: argparse.ArgumentParser) -> None:
  """The flags of `merge`."""
  parser.add_argument('method', metavar='METHOD', help=', '.join(METHODS))
  parser.add_argument(
    'workdirs',
    metavar='WORKDIR',
    nargs='+',
    help='a finished transfer; all from one init',
  )
  parser.add_argument(
    '--output',
    required=True,
    metavar='DIR',
    help=f'a new folder, for {REPORT} and one model per workdir: the merged body '
    'under its own head',
  )
  parser.add_argument(
    '--base',
    metavar='PATH',
    help='a workdir or folder (default: the init that the workdirs share)',
  )
  parser.add_argument(
    '--scale',
    type=scales,
    metavar='S',
    help='task, ties, dare: how much of the change is added '
    '(default: 1); of task also one per workdir, as 1,0.5; negative ones forget',
  )
  parser.add_argument(
    '--density',
    type=number,
    metavar='P',
    help='ties: the part of each change kept (default: 0.2)',
  )
  parser.add_argument(
    '--drop',
    type=number,
    metavar='P',
    help='dare: the part of each change dropped (default: 0.9)',
  )
  parser.add_argument(
    '--seed', type=int, metavar='N', help='dare: of what is dropped (default: 0)'
  )
  parser.add_argument(
    '--t',
    type=number,
    metavar='T',
    help='slerp: 0 is the first, 1 the second (default: 0.5)',
  )
  parser.add_argument(
    '--examples',
    type=int,
    metavar='N',
    help='fisher: examples of each task to measure on, with labels or texts to write '
    '(default: 64)',
  )


def number(text: str) -> float:
  """A finite number of a flag."""
  try:
    value = float(text)
  except ValueError:
    # One message for what is no number, for nan and for inf.
    value = math.nan
  if not math.isfinite(value):
    raise argparse.ArgumentTypeError(f'needs a number, got {text!r}')
  return value


def scales(text: str) -> tuple[float, ...]:
  """Numbers with commas between them."""
  return tuple(number(part) for part in text.split(','))


def run_merge(flags, _) -> int:
  """Merges, scores every source alone and merged, writes folders, prints a table."""
  settings = _settings(flags)
  models._require_new(flags.output)
  # Everything that can be refused is refused before the first score is computed.
  sources = _open(flags.workdirs)
  base = _base_of(sources, flags.base)
  start = _base_body(base) if flags.method in ON_BASE else None
  sources = _with_poolers_of_their_own(sources, start)
  body = _merged(flags.method, settings, start, sources)
  rows = [_scored(source, body) for source in sources]
  output = pathlib.Path(flags.output)
  # Written only now: a merge that fails while it is scored leaves no folder behind.
  for source in sources:
    _save(source, body, output / source.name)
  report = dict(method=flags.method, settings=settings, base=base, sources=rows)
  _write_report(output / REPORT, report)
  for line in _table(rows):
    say(line)
  return 0


def _scored(source: Source, body: dict) -> dict[str, Any]:
  """One row of the report: the metrics of a source as it was and as it is merged."""
  evaluate = _evaluator(source)
  own = evaluate({**source.body, **source.own})
  merged = evaluate({**body, **source.own})
  metric = source.task.headline
  where = dict(name=source.name, workdir=str(source.path), step=source.opened.step)
  scores = dict(task=source.task.name, metric=metric, own=own, merged=merged)
  difference = merged[metric] - own[metric]
  return where | scores | dict(difference=difference)


def _save(source: Source, body: dict, folder: pathlib.Path) -> None:
  """Writes the merged body under the head of one source as a folder of its own."""
  from tl_jax import interop, tree
  from tl_jax.train import restoring

  opened = source.opened
  loaded = interop.Loaded(
    _model(source),
    tree.unflatten({**body, **source.own}),
    restoring.tokenizer_of(opened),
    opened.arch,
    # What ends its texts goes along with the model.
    generation=restoring.decoding_said(source.path, opened),
    **opened.named,
  )
  interop.save(folder, loaded)


def _write_report(path: pathlib.Path, report: dict[str, Any]) -> None:
  from tl_jax import files

  text = files.encode(report, indent=2) + '\n'
  files.write_atomically(path, text.encode())


def _settings(flags) -> dict:
  """The method's settings: its defaults, under the flags that were given.

  Raises ConfigError for a flag that the method does not have, for a value that it
  cannot take, and for a wrong number of workdirs.
  """
  settings = dict(config.lookup(METHODS, flags.method, 'METHOD'))
  every_name = dict.fromkeys(name for defaults in METHODS.values() for name in defaults)
  for name in every_name:
    # None is a flag that was not given: 0 and 0.0 are values.
    given = getattr(flags, name)
    if given is None:
      continue
    if name not in settings:
      owners = [method for method, defaults in METHODS.items() if name in defaults]
      raise config.ConfigError(
        f'--{name}: is not of {flags.method}, but of {", ".join(owners)}'
      )
    settings[name] = given
  count = len(flags.workdirs)
  _require_count(flags.method, count)
  _require_scales(flags.method, settings.get('scale', ()), count)
  examples = settings.get('examples', 1)
  if examples < 1:
    raise config.ConfigError(f'--examples: must be at least 1, got {examples}')
  return settings


def _require_count(method: str, count: int) -> None:
  """Raises ConfigError for a number of workdirs that the method cannot merge."""
  least = 1 if method in ON_BASE else 2
  # Spherical interpolation is a path between two points.
  exactly = method == 'slerp'
  if count < least or (exactly and count > least):
    how_many = 'exactly' if exactly else 'at least'
    raise config.ConfigError(
      f'{method}: needs {how_many} {least} workdirs, got {count}'
    )


def _require_scales(method: str, given: tuple[float, ...], count: int) -> None:
  """Raises ConfigError for several scales, unless `task` has one for each workdir."""
  if len(given) <= 1 or (method == 'task' and len(given) == count):
    return
  takes = f'{method} with {count} workdirs takes one'
  if method == 'task' and count > 1:
    takes += f', or {count}'
  raise config.ConfigError(f'--scale: {len(given)} numbers; {takes}')


def _open(workdirs) -> list[Source]:
  """The sources.

  Raises ConfigError for a workdir without a task, for one that is given twice, for one
  with another tokenizer, and for a model that no folder can hold.
  """
  from tl_jax import train, transfer, tree
  from tl_jax.interop import configs
  from tl_jax.train.datasets import open_task
  from tl_jax.train.settings import Transfer

  is_new = tree.matcher(transfer.HEAD)
  sources: list[Source] = []
  for path in map(pathlib.Path, workdirs):
    opened = train.open_workdir(path)
    settings = opened.settings
    if not isinstance(settings, Transfer):
      raise config.ConfigError(
        f'{path}: a workdir of pre-training; merge needs transfers to a task'
      )
    _require_fellow(path, sources)
    # Said now, not after all scores: a model that cannot be written.
    configs.fitting(opened.arch)
    name = _free_name(path, [source.name for source in sources])
    task = open_task(settings.task, settings.data.directory, opened.known)
    body, own = _parted(tree.flatten(opened.params), is_new)
    sources.append(Source(name, path, opened, task, body, own))
  return sources


def _require_fellow(path: pathlib.Path, sources: list[Source]) -> None:
  """Raises ConfigError for a workdir that is there already or has another tokenizer."""
  from tl_jax.train.tokenizing import TOKENIZER

  if path.resolve() in [source.path.resolve() for source in sources]:
    raise config.ConfigError(f'{path}: given twice')
  if not sources:
    return
  # The rows of the embeddings are added up: they must stand for the same pieces.
  first = sources[0].path
  if (path / TOKENIZER).read_bytes() != (first / TOKENIZER).read_bytes():
    raise config.ConfigError(f'{path}: its tokenizer is not that of {first}')


def _free_name(path: pathlib.Path, taken: list[str]) -> str:
  """The name of a workdir's folder, with -2, -3, ... where it is taken."""
  stem = path.resolve().name
  name = stem
  counter = 1
  while name in taken:
    counter += 1
    name = f'{stem}-{counter}'
  return name


def _parted(leaves: dict, taken) -> tuple[dict, dict]:
  """(the leaves whose names `taken` does not match, those whose names it does)."""
  left = {name: leaf for name, leaf in leaves.items() if not taken(name)}
  right = {name: leaf for name, leaf in leaves.items() if taken(name)}
  return left, right


def _with_poolers_of_their_own(
  sources: list[Source], start: dict | None
) -> list[Source]:
  """The sources, with a pooler moved to what is their own where some body has none.

  `start` is the body of the base, or None. A pooler that a task brought is in no other
  model, so there is nothing to merge it with.
  """
  from tl_jax import transfer, tree

  is_pooler = tree.matcher(transfer.POOLER)
  bodies = [source.body for source in sources]
  if start is not None:
    bodies.append(start)
  alone = set()
  for name in set().union(*bodies):
    if is_pooler(name) and not all(name in body for body in bodies):
      alone.add(name)
  split = []
  for source in sources:
    kept, moved = _parted(source.body, alone.__contains__)
    split.append(source._replace(body=kept, own=source.own | moved))
  return split


def _base_of(sources: list[Source], base: str | None) -> str:
  """Where the sources started. Raises ConfigError where that is not one place and none
  is named.
  """
  if base is not None:
    return base
  from tl_jax.train.settings import SCRATCH

  # What is added to a base is the change since it: there must be one base.
  first = sources[0].opened.settings.init
  for source in sources:
    init = source.opened.settings.init
    if init == SCRATCH:
      raise config.ConfigError(
        f'{source.path}: started from scratch, not from a model that others share; '
        'name a --base'
      )
    # A folder under two names is one folder.
    if pathlib.Path(init).resolve() != pathlib.Path(first).resolve():
      raise config.ConfigError(
        f'{source.path}: started from {init}, but {sources[0].path} from {first}; '
        'models of different inits do not merge, or name their common --base'
      )
  return first


def _merged(
  method: str, settings: dict, start: dict | None, sources: list[Source]
) -> dict:
  """The merged body, by the names of its leaves; `start` is the body of the base."""
  from tl_jax.transfer import merging

  bodies = [source.body for source in sources]
  if method == 'soup':
    return merging.soup(bodies)
  if method == 'slerp':
    return merging.slerp(*bodies, settings['t'])
  if method == 'fisher':
    weights = [_fisher_weights(source, settings['examples']) for source in sources]
    return merging.fisher(bodies, weights)
  return _merged_on_base(method, settings, start, bodies)


def _fisher_weights(source: Source, examples: int) -> dict:
  """The diagonal Fisher information of each leaf of a body, on its own task."""
  from tl_jax.train.information import information

  found = information(source.opened, source.path, examples)
  return {name: found[name] for name in source.body}


def _merged_on_base(
  method: str, settings: dict, start: dict, bodies: list[dict]
) -> dict:
  """The base's body with the changes of all bodies added to it."""
  from tl_jax.transfer import merging

  start = _as_bodies(start, bodies[0])
  scales = settings['scale']
  if method == 'task':
    vectors = [merging.task_vector(body, start) for body in bodies]
    scale = scales if len(scales) > 1 else scales[0]
    return merging.apply_task_vectors(start, vectors, scale)
  if method == 'ties':
    return merging.ties(start, bodies, density=settings['density'], scale=scales[0])
  return merging.dare(
    settings['seed'], start, bodies, drop=settings['drop'], scale=scales[0]
  )


def _as_bodies(start: dict, body: dict) -> dict:
  """The base's leaves in the dtypes of a body, without a pooler that the body lacks.

  The base may be stored in another dtype than the transfers. Any other leaf that the
  body lacks stays, so that the merge refuses it by name.
  """
  from tl_jax import transfer, tree

  is_pooler = tree.matcher(transfer.POOLER)
  found = {}
  for name, leaf in start.items():
    if name in body:
      found[name] = leaf.astype(body[name].dtype)
    elif not is_pooler(name):
      found[name] = leaf
  return found


def _base_body(base: str) -> dict:
  """The base's leaves that are no head."""
  from tl_jax import train, transfer, tree

  leaves = tree.flatten(train.load(base).params)
  body, _ = _parted(leaves, tree.matcher(transfer.HEAD))
  return body


def _model(source: Source):
  from tl_jax import models as rooms

  return rooms.build(source.opened.arch, source.opened.settings.compute)


def _evaluator(source: Source):
  """A function from leaves by name to the metrics on the source's test split."""
  from tl_jax import tree
  from tl_jax.train.evaluation import make_measure

  _, measure = make_measure(source.opened, source.task, source.path)

  def evaluate(leaves: dict) -> dict[str, float]:
    metrics, _ = measure(tree.unflatten(leaves))
    return metrics

  return evaluate


def _table(rows: list[dict]) -> list[str]:
  """An aligned table: what every source scored, alone and merged."""
  lines = [WORDS + FIGURES]
  for row in rows:
    # The headline alone; merge.json has all metrics.
    metric = row['metric']
    own = f'{row["own"][metric]:.4f}'
    merged = f'{row["merged"][metric]:.4f}'
    difference = f'{row["difference"]:+.4f}'
    lines.append((row['name'], row['task'], metric, own, merged, difference))
  columns = zip(*lines, strict=True)
  widths = [max(map(len, column)) for column in columns]
  table = []
  for line in lines:
    cells = []
    for cell, width in zip(line, widths, strict=True):
      cells.append(cell.ljust(width))
    for place in range(len(WORDS), len(line)):
      cells[place] = line[place].rjust(widths[place])
    table.append('  '.join(cells))
  return table


MERGE = Verb(
  purpose='transfers of one model made one and scored on the task of each: soup, task '
  'vectors, TIES, ...',
  example='tl-jax merge ties /tmp/sentiment /tmp/register --output=/tmp/merged '
  '--density=0.3',
  flags=add_merge,
  action=run_merge,
)
