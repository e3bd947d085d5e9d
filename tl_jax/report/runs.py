"""Makes a table: finds out which runs are missing, has them made row by row, judges the
claims, writes the files.

>>> import tempfile
>>> from tl_jax.report.table import Table, Scale
>>> def execute(members):
...   for config, directory in members:
...     directory.mkdir(parents=True)
...     result = {'metrics': {'accuracy': config['seed']}}
...     _ = (directory / 'result.json').write_text(json.dumps(result))
>>> def config_of(row, column, seed, scale):
...   return {'seed': seed}
>>> table = Table('Title', 'Source', ('a',), ('b',), (0, 1), config_of, 'accuracy')
>>> with tempfile.TemporaryDirectory() as folder:
...   outcome = run_table(table, Scale(), folder, execute, lambda text: None)
...   sorted(path.name for path in Path(folder).iterdir())
['report.html', 'runs', 'table.json', 'table.md']
>>> outcome.cells['a', 'b'].mean
0.5
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tl_jax import files
from tl_jax.config import nearest
from tl_jax.report.cells import Cells, Run, cells, is_number
from tl_jax.report.planning import Member, plan, why_it_cannot_start
from tl_jax.report.table import Judgement, Scale, Table

# Makes runs, each given as its config and the directory that it belongs in.
Execute = Callable[[list[tuple[Any, Path]]], None]
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A made table: what was made, where, and what came out."""

  table: Table
  # with its rows, columns and seeds filled in
  scale: Scale
  workdir: Path
  # row by row
  runs: tuple[Run, ...]
  # those that were made first, step by step
  before: tuple[Run, ...]
  cells: Cells
  # of the table's claims, in their order
  judgements: tuple[Judgement, ...]
  # how long this call took, the making of missing runs included
  seconds: float

  @property
  def unfinished(self) -> list[Run]:
    """The runs without a result, each with its reason; those of `before` included."""
    runs = [*self.before, *self.runs]
    return [run for run in runs if run.result is None]


def run_table(
  table: Table,
  scale: str | Scale,
  workdir: str | Path,
  execute: Execute,
  say: Say,
  *,
  retry: bool = False,
) -> Outcome:
  """Makes what is missing of the table at a scale, then `table.json`, `table.md` and
  `report.html` in the workdir.

  A run is found again by its directory, whose name has the hash of its config. The
  workdir does not count in the hash, so a table may be moved. A run with a readable
  `result.json` is not made again, unless that is of an earlier version: it says how many
  examples it is of, but not which. A failed run is made again where its `failed.json`
  says `retry`, because its cause may be gone, and with `retry` in any case. A run whose
  config cannot be made is a hole with the reason, and so is one that starts from a step
  without a result; all others are made.

  Args:
    execute: trains a list of (config, directory), all of one step or of one row. It
      leaves a `result.json`, or a `failed.json` with a `reason`, in each directory. It
      continues what a killed run left there. What it raises is passed on; run again with
      the same workdir, the table resumes.
    say: is told what happens.
  Raises ValueError for an unknown scale, for a config that JSON cannot hold, where no
  config can be made, and for two runs of a column that were judged on different
  examples.
  """
  started = time.monotonic()
  # Absolute, because a config names what it starts from by its directory.
  workdir = Path(workdir).resolve()
  scale = table.at(scale)
  planned = plan(table, scale, workdir)
  make = functools.partial(_make, execute=execute, say=say, retry=retry)
  before, runs = [], []
  for name, members in planned.steps.items():
    before += _make_members(name, members, before, make)
  # Row by row: the runs of a row differ little and can be trained together.
  for row, members in planned.rows.items():
    made = _make_members(str(row), members, before, make)
    runs += [_with_headline(run, table.metric(run.column)) for run in made]
  require_same_examples(runs)
  grouped = _grouped(table, scale, runs)
  outcome = Outcome(
    table=table,
    scale=scale,
    workdir=workdir,
    runs=tuple(runs),
    before=tuple(before),
    cells=grouped,
    judgements=tuple(claim.judge(grouped) for claim in table.claims),
    seconds=time.monotonic() - started,
  )
  _write(outcome, say)
  return outcome


def _make_members(
  what: str,
  members: list[Member],
  before: Iterable[Run],
  make: Callable[[list[tuple[Any, Path]], str], None],
) -> list[Run]:
  """The runs of the members: made by `make`, or with the reason why they cannot start.

  before: the steps that were made so far.
  """
  runs, possible = [], {}
  for member in members:
    reason = member.run.reason or why_it_cannot_start(member.config, before)
    runs.append(dataclasses.replace(member.run, reason=reason))
    # Columns that show numbers of one run have one directory.
    if not reason:
      possible[member.run.directory] = member.config
  make([(config, directory) for directory, config in possible.items()], what)
  return [run if run.reason else _collected(run) for run in runs]


def _grouped(table: Table, scale: Scale, runs: list[Run]) -> Cells:
  """The runs as cells, which know the names of the whole table."""
  grouped = cells(
    runs,
    table.headline,
    extra=table.extra,
    seeds=scale.seeds,
    factor=table.factor,
    higher_is_better=table.higher_is_better,
  )
  return dataclasses.replace(grouped, all_rows=table.rows, all_columns=table.columns)


def _make(
  members: list[tuple[Any, Path]], what: str, execute: Execute, say: Say, retry: bool
) -> None:
  """Has the unfinished members made, all in one call."""
  missing, failed = [], 0
  for config, directory in members:
    if _is_finished(directory):
      continue
    if _stays_failed(directory, retry):
      failed += 1
      continue
    # What is left of a half-written file must not look like an answer to whoever goes
    # on here.
    for name in ('result.json', 'failed.json'):
      (directory / name).unlink(missing_ok=True)
    missing.append((config, directory))
  if failed:
    say(
      f'{what}: {failed} of {len(members)} runs failed before and are left as they are; '
      'without its failed.json, a run is made again'
    )
  if members:
    done = len(members) - len(missing) - failed
    to_make = f', {len(missing)} to make' if missing else ''
    say(f'{what}: {done} of {len(members)} runs are there{to_make}')
  if missing:
    execute(missing)


def _is_finished(directory: Path) -> bool:
  """Is there a result that can be used?

  A result of an earlier version cannot: it did not say on which examples a run was
  judged, only on how many.
  """
  result = files.find_json(directory / 'result.json')
  if result is None:
    return False
  return 'examples' in result or 'n' not in result


def _stays_failed(directory: Path, retry: bool) -> bool:
  """Did the run fail before, and is it not to be made again?"""
  failure = files.find_json(directory / 'failed.json')
  return failure is not None and not (retry or failure.get('retry'))


def _collected(run: Run) -> Run:
  """The run with its result, or with the reason why there is none that can be used."""
  result = files.find_json(run.directory / 'result.json')
  if result is None:
    return dataclasses.replace(run, reason=_failure(run.directory))
  return dataclasses.replace(run, result=result)


def _with_headline(run: Run, metric: str) -> Run:
  """The run; without its result, but with a reason, where that lacks the metric."""
  if run.result is None:
    return run
  metrics = run.result.get('metrics')
  metrics = metrics if isinstance(metrics, dict) else {}
  if is_number(metrics.get(metric)):
    return run
  # Most likely the table has a typing error, so the nearest name helps.
  known = nearest(metric, metrics)
  reason = f'its result has no metric {metric!r}; nearest: {known}'
  return dataclasses.replace(run, result=None, reason=reason)


def _failure(directory: Path) -> str:
  """Why a run has no result."""
  failure = files.find_json(directory / 'failed.json')
  if failure is None:
    return 'ended without a result'
  return str(failure.get('reason') or 'failed without a reason')


def require_same_examples(runs: Iterable[Run]) -> None:
  """Raises ValueError that names two runs of one column that were not judged on the
  same examples.

  A result says their number as `n` and has a digest of them as `examples`. Results that
  say neither, such as those of a measurement of speed, may stand beside each other.
  """
  first: dict[Hashable, Run] = {}
  for run in runs:
    if run.result is None:
      continue
    other = first.setdefault(run.column, run)
    ours = _examples(run.result)
    theirs = _examples(other.result)
    if ours != theirs:
      raise ValueError(
        f'the runs of the column {run.column!r} are judged on different examples: '
        f'{other.directory} on {_words(theirs)}, {run.directory} on {_words(ours)}; '
        'a comparison needs the same ones'
      )


def _examples(result: Mapping) -> tuple:
  return result.get('n'), result.get('examples')


def _words(examples: tuple) -> str:
  """The number and the digest of some examples, in words."""
  count, mark = examples
  if count is None and mark is None:
    return 'examples it does not tell'
  return f'{count} with the digest {mark}'


def _write(outcome: Outcome, say: Say) -> None:
  """Writes the three files and says what the table came out as."""
  # Only here, so that whoever just reads the table of an experiment loads no page.
  from tl_jax.report.entries import as_json
  from tl_jax.report.findings import find
  from tl_jax.report.html import page
  from tl_jax.report.text import markdown, plain

  findings = find(outcome)
  entries = as_json(outcome, findings)
  text = json.dumps(entries, indent=1, allow_nan=False, ensure_ascii=False)
  texts = {
    'table.json': text + '\n',
    'table.md': markdown(outcome, findings),
    'report.html': page(outcome, findings),
  }
  for name, content in texts.items():
    files.write_atomically(outcome.workdir / name, content.encode())
  say(plain(outcome, findings))
  say(f'report: {outcome.workdir / "report.html"}')
