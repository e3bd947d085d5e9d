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

# Each method with its own flags and their defaults.
METHODS = {
  'soup': dict(),
  'task': dict(scale=(1.0,)),
  'ties': dict(scale=(1.0,), density=0.2),
  'dare': dict(scale=(1.0,), drop=0.9, seed=0),
  'slerp': dict(t=0.5),
  'fisher': dict(examples=64),
}
# what adds to a base; one source is enough for these
ON_BASE = ('task', 'ties', 'dare')
REPORT = 'merge.json'


class Source(NamedTuple):
  """A transfer to merge: `body` is what is merged, `own` its head and pooler, both by
  the names of the leaves.
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
    help=f'a new folder, for {REPORT} and one model per workdir: the merged body under its own head',
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
    help='fisher: labelled examples of each task to measure on (default: 64)',
  )


def number(text: str) -> float:
  """A finite number of a flag."""
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not math.isfinite(value):
    raise argparse.ArgumentTypeError(f'needs a number, got {text!r}')
  return value


def scales(text: str) -> tuple[float, ...]:
  """Numbers with commas between them."""
  return tuple(map(number, text.split(',')))


def run_merge(flags, _) -> int:
  """Merges, scores every source as it was and as it is merged, prints the table and
  writes the folders.
  """
  how = _settings(flags)
  models._require_new(flags.output)
  from tl_jax import interop, tree

  sources = _open(flags.workdirs)
  base = _base_of(sources, flags.base)
  start = _base_body(base) if flags.method in ON_BASE else None
  sources = _with_poolers_of_their_own(sources, start)
  body = _merged(flags.method, how, start, sources)
  rows = []
  for source in sources:
    judge = _judge(source)
    own, merged = judge({**source.body, **source.own}), judge({**body, **source.own})
    metric = source.task.headline
    rows.append(
      dict(
        name=source.name,
        workdir=str(source.path),
        step=source.opened.step,
        task=source.task.name,
        metric=metric,
        own=own,
        merged=merged,
        difference=merged[metric] - own[metric],
      )
    )
  from tl_jax.checkpoint import files

  output = pathlib.Path(flags.output)
  for source in sources:
    opened = source.opened
    interop.save(
      output / source.name,
      interop.Loaded(
        _model(source),
        tree.unflatten({**body, **source.own}),
        opened.tokenizer,
        opened.arch,
        **opened.named,
      ),
    )
  report = dict(method=flags.method, settings=how, base=base, sources=rows)
  files.write_atomically(
    output / REPORT, (files.encode(report, indent=2) + '\n').encode()
  )
  for line in _table(rows):
    say(line)
  return 0


def _settings(flags) -> dict:
  """The method's own settings. Raises ConfigError for a flag that it does not have, and
  another number of workdirs.
  """
  how = dict(config.lookup(METHODS, flags.method, 'METHOD'))
  for name in dict.fromkeys(name for defaults in METHODS.values() for name in defaults):
    given = getattr(flags, name)
    if given is not None and name not in how:
      raise config.ConfigError(
        f'--{name}: is not of {flags.method}, but of '
        + ', '.join(method for method, defaults in METHODS.items() if name in defaults)
      )
    if given is not None:
      how[name] = given
  count, least = len(flags.workdirs), 1 if flags.method in ON_BASE else 2
  if count < least or (flags.method == 'slerp' and count > 2):
    raise config.ConfigError(
      f'{flags.method}: needs {"exactly" if flags.method == "slerp" else "at least"} {least} '
      f'workdirs, got {count}'
    )
  if len(how.get('scale', ())) > 1 and (
    flags.method != 'task' or len(how['scale']) != count
  ):
    raise config.ConfigError(
      f'--scale: {len(how["scale"])} numbers; {flags.method} with {count} workdirs takes one'
      + f', or {count}' * (flags.method == 'task' and count > 1)
    )
  if how.get('examples', 1) < 1:
    raise config.ConfigError(f'--examples: must be at least 1, got {how["examples"]}')
  return how


def _open(workdirs) -> list[Source]:
  """The sources. Raises ConfigError for a workdir without a task, given twice, or of
  another tokenizer.
  """
  from tl_jax import train, tree
  from tl_jax.interop import configs
  from tl_jax.train.texts import TOKENIZER, task_of
  from tl_jax.train.transferring import NEW

  is_new, sources = tree.matcher(NEW), []
  for path in map(pathlib.Path, workdirs):
    opened = train.open_workdir(path)
    settings = opened.settings
    if settings.task is None:
      raise config.ConfigError(
        f'{path}: a workdir of pre-training; merge needs transfers to a task'
      )
    if path.resolve() in (source.path.resolve() for source in sources):
      raise config.ConfigError(f'{path}: given twice')
    if (
      sources
      and (path / TOKENIZER).read_bytes() != (sources[0].path / TOKENIZER).read_bytes()
    ):
      raise config.ConfigError(
        f'{path}: its tokenizer is not that of {sources[0].path}'
      )
    # Said now, not after all scores: a model that cannot be written.
    configs.fitting(opened.arch)
    stem = path.resolve().name
    taken, name = [source.name for source in sources], stem
    while name in taken:
      name = f'{stem}-{1 + int(name[len(stem) + 1 :] or 1)}'
    leaves = tree.flatten(opened.params)
    sources.append(
      Source(
        name,
        path,
        opened,
        task_of(settings, opened.known),
        {name: leaf for name, leaf in leaves.items() if not is_new(name)},
        {name: leaf for name, leaf in leaves.items() if is_new(name)},
      )
    )
  return sources


def _with_poolers_of_their_own(
  sources: list[Source], start: dict | None
) -> list[Source]:
  """The sources, whose poolers stay with their tasks where some body, or the base, has
  none.

  So it is with a pooler that the task brought: no other model has it.
  """
  from tl_jax import transfer, tree

  bodies = [source.body for source in sources] + ([] if start is None else [start])
  poolers = set(filter(tree.matcher(transfer.POOLER), set().union(*bodies)))
  alone = {name for name in poolers if not all(name in body for body in bodies)}
  split = []
  for source in sources:
    kept = {name: leaf for name, leaf in source.body.items() if name not in alone}
    taken = {name: leaf for name, leaf in source.body.items() if name in alone}
    split.append(source._replace(body=kept, own=source.own | taken))
  return split


def _base_of(sources: list[Source], base: str | None) -> str:
  """Where the sources started. Raises ConfigError where that is not one place and none
  is named.
  """
  if base is not None:
    return base
  from tl_jax.train.settings import SCRATCH

  first = sources[0].opened.settings.init
  for source in sources:
    init = source.opened.settings.init
    if init == SCRATCH:
      raise config.ConfigError(
        f'{source.path}: started from scratch, not from a model that others share; '
        'name a --base'
      )
    if pathlib.Path(init).resolve() != pathlib.Path(first).resolve():
      raise config.ConfigError(
        f'{source.path}: started from {init}, but {sources[0].path} from {first}; '
        'models of different inits do not merge, or name their common --base'
      )
  return first


def _merged(method: str, how: dict, start: dict | None, sources: list[Source]) -> dict:
  """The merged body, by the names of its leaves."""
  from tl_jax import transfer, tree
  from tl_jax.transfer import merging

  bodies = [source.body for source in sources]
  if method not in ON_BASE:
    if method == 'fisher':
      from tl_jax.train.information import information

      weights = []
      for source in sources:
        found = information(source.opened, source.path, how['examples'])
        weights.append({name: found[name] for name in source.body})
      return merging.fisher(bodies, weights)
    return (
      merging.soup(bodies) if method == 'soup' else merging.slerp(*bodies, how['t'])
    )
  start = {
    name: leaf.astype(bodies[0][name].dtype) if name in bodies[0] else leaf
    for name, leaf in start.items()
    if name in bodies[0] or not tree.matcher(transfer.POOLER)(name)
  }
  if method == 'task':
    scale = how['scale'] if len(how['scale']) > 1 else how['scale'][0]
    return merging.apply_task_vectors(
      start, [merging.task_vector(body, start) for body in bodies], scale
    )
  if method == 'ties':
    return merging.ties(start, bodies, density=how['density'], scale=how['scale'][0])
  return merging.dare(
    how['seed'], start, bodies, drop=how['drop'], scale=how['scale'][0]
  )


def _base_body(base: str) -> dict:
  """The base's leaves that are no head."""
  from tl_jax import train, tree
  from tl_jax.train.transferring import NEW

  is_new = tree.matcher(NEW)
  leaves = tree.flatten(train.load(base).params)
  return {name: leaf for name, leaf in leaves.items() if not is_new(name)}


def _model(source: Source):
  from tl_jax import models as rooms

  return rooms.build(source.opened.arch, source.opened.settings.compute)


def _judge(source: Source):
  """leaves by name -> the metrics on the test split of the source's task."""
  import jax

  from tl_jax import evals, tasks, tree
  from tl_jax.train import texts

  settings, tokenizer, model = (
    source.opened.settings,
    source.opened.tokenizer,
    _model(source),
  )
  test = texts.labelled(settings, source.task, tokenizer, 'test', source.path)
  batches = texts.labelled_pass(settings, test, tokenizer, settings.data.batch)
  apply = jax.jit(lambda params, batch: model.apply(params, batch).logits)
  return lambda leaves: tasks.score(
    source.task,
    evals.outputs(apply, tree.unflatten(leaves), batches, len(test.texts)),
    test.targets,
  )


def _table(rows: list[dict]) -> list[str]:
  """An aligned table: what every source scored, alone and merged."""
  lines = [('workdir', 'task', 'metric', 'own', 'merged', 'difference')]
  lines += [
    (
      row['name'],
      row['task'],
      row['metric'],
      f'{row["own"][row["metric"]]:.4f}',
      f'{row["merged"][row["metric"]]:.4f}',
      f'{row["difference"]:+.4f}',
    )
    for row in rows
  ]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return [
    '  '.join(
      cell.ljust(width) if place < 3 else cell.rjust(width)
      for place, (cell, width) in enumerate(zip(line, widths, strict=True))
    )
    for line in lines
  ]
