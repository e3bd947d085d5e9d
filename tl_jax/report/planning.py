"""Which runs a table needs, in which order, and in which directories they belong.

>>> from tl_jax.report.table import Table
>>> def run(row, column, seed, scale, pretrained):
...   return {'init': pretrained, 'seed': seed}
>>> steps = {'pretrained': lambda seed, scale: {'steps': 9}}
>>> table = Table('T', 'S', ('a',), ('b',), (0, 1), run, 'accuracy', before=steps)
>>> found = plan(table, table.at(Scale()), Path('/work'))
>>> len(found.steps['pretrained']), found.rows['a'][1].config['init'][:24]
(1, '/work/before/pretrained-')
>>> [member.run.directory.name[:6] for member in found.rows['a']]
['a-b-0-', 'a-b-1-']
"""

import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tl_jax.config import digest, to_json, with_former_names
from tl_jax.report.cells import Run
from tl_jax.report.table import Scale, Table


@dataclasses.dataclass(frozen=True)
class Member:
  """A run that is to be made, with its config; without one where the table has none.

  Then the run has the reason, and a directory that nothing is ever written to.
  """

  config: Any
  run: Run


@dataclasses.dataclass(frozen=True)
class Plan:
  """All runs of a table at a scale, in the order in which they are made."""

  # name of a step -> its runs that others start from, one for all seeds that share a
  # config
  steps: Mapping[str, list[Member]]
  # row -> one member for each of its columns and seeds
  rows: Mapping[Hashable, list[Member]]


def plan(table: Table, scale: Scale, workdir: Path) -> Plan:
  """Asks the table for the configs of all its runs; nothing is made yet.

  So a mistake in a row is found before hours of pre-training. A run whose config cannot
  be made has the reason, and so has every run that starts from it. Where that leaves no
  run of the table, the first ValueError is raised. Raises ValueError for a config that
  JSON cannot hold, too.
  """
  planner = _Planner(table, scale, workdir)
  steps = planner.steps()
  rows = {row: planner.row(row) for row in scale.rows}
  # Without a single run this is no table with holes, but a mistake in it.
  if all(member.run.reason for members in rows.values() for member in members):
    raise planner.errors[0]
  return Plan(_needed(steps, rows), rows)


def _needed(
  steps: Mapping[str, list[Member]], rows: Mapping[Hashable, list[Member]]
) -> dict[str, list[Member]]:
  """The steps that a row of this scale starts from, or a step that is itself needed."""
  texts = []
  for members in rows.values():
    texts += [_text(member.config) for member in members]
  found = {}
  # From the last step back: what a step starts from is needed only if it is.
  for name, members in reversed(steps.items()):
    needed = [each for each in members if _is_named(each.run.directory, texts)]
    texts += [_text(member.config) for member in needed]
    found[name] = needed
  return dict(reversed(found.items()))


def _is_named(directory: Path, texts: list[str]) -> bool:
  """Does a config say that it starts from a directory, by naming it somewhere?"""
  return any(_in_json(directory) in text for text in texts)


class _Planner:
  """Asks for configs, steps before rows, and remembers what could not be made."""

  def __init__(self, table: Table, scale: Scale, workdir: Path):
    self.table = table
    self.scale = scale
    self.workdir = workdir
    self.errors: list[ValueError] = []
    # the steps without a config
    self.lost: list[Run] = []
    # seed -> name of a step -> its directory
    self.paths: dict[int, dict[str, str]] = {seed: {} for seed in scale.seeds}

  def steps(self) -> dict[str, list[Member]]:
    """name -> members, of all steps. To be called before `row`."""
    found = {}
    for name, step in self.table.before.items():
      # Seeds that share a config share its directory, and the run is there once.
      members: dict[Path, Member] = {}
      for seed in self.scale.seeds:
        config_of = functools.partial(step, seed, self.scale, **self.paths[seed])
        run = Run(name, 'before', seed)
        member = self._member(run, 'before', (name,), config_of)
        self.paths[seed][name] = str(member.run.directory)
        members.setdefault(member.run.directory, member)
      found[name] = list(members.values())
      self.lost += [member.run for member in found[name] if member.run.reason]
    return found

  def row(self, row: Hashable) -> list[Member]:
    """The members of a row, one for each column and seed."""
    members = []
    # (seed, config) -> the directory of the first column with that config
    directories: dict[tuple[int, str], Path] = {}
    for column, seed in itertools.product(self.scale.columns, self.scale.seeds):
      config_of = functools.partial(
        self.table.run, row, column, seed, self.scale, **self.paths[seed]
      )
      names = (row, column, seed)
      member = self._member(Run(*names), 'runs', names, config_of)
      if member.config is not None:
        key = seed, _text(member.config)
        directory = directories.setdefault(key, member.run.directory)
        run = dataclasses.replace(member.run, directory=directory)
        member = Member(member.config, run)
      members.append(member)
    return members

  def _member(
    self, run: Run, folder: str, names: tuple, config_of: Callable[[], Any]
  ) -> Member:
    """The run with its config and directory, and with a reason where it cannot be."""
    directory_of = functools.partial(_directory, self.workdir, folder, names)
    try:
      # A method that a model cannot have must not cost the rest of the table.
      config = config_of()
    except ValueError as error:
      self.errors.append(error)
      config = None
      # A run has a directory in `table.json` all the same.
      directory = directory_of({})
      reason = ' '.join(str(error).split()) or 'its config cannot be made'
    else:
      directory = directory_of(config)
      reason = why_it_cannot_start(config, self.lost)
    return Member(config, dataclasses.replace(run, directory=directory, reason=reason))


def why_it_cannot_start(config: Any, steps: Iterable[Run]) -> str:
  """The reason of the first step without a result that a config starts from, or ''."""
  text = _text(config)
  for step in steps:
    if step.reason and _is_named(step.directory, [text]):
      return f'{step.row}, from which it starts: {step.reason}'
  return ''


def _text(config) -> str:
  """The config as canonical JSON."""
  return json.dumps(to_json(config), sort_keys=True)


def _in_json(path: Path) -> str:
  """A path as it stands inside a string of JSON, where some characters are escaped."""
  return json.dumps(str(path))[1:-1]


def _directory(workdir: Path, folder: str, names: tuple, config) -> Path:
  """The directory of a run: its names for people, and the hash of its config."""
  parts = [*map(_safe, names), _mark(config, workdir)]
  return workdir / folder / '-'.join(parts)


def _safe(name) -> str:
  """A name from a table's author, which must not lead out of the workdir."""
  plain = re.sub(r'[^A-Za-z0-9_.+=]+', '_', str(name))
  # Cut, because file systems have a limit for the length of a name.
  return plain.strip('.')[:40] or '_'


def _mark(config, workdir: Path) -> str:
  """The hash of a config, which tells whether a directory is of this config.

  Neither a moved workdir nor a key that has another name since loses its runs.
  """
  plain = to_json(config)
  if isinstance(plain, dict):
    plain = with_former_names(plain)
  text = json.dumps(plain, sort_keys=True).replace(_in_json(workdir), '.')
  return digest({'config': text})[:8]
