"""Makes a table: finds out which runs are missing, has them made row by row, judges the
claims, writes the files.

>>> import pathlib, tempfile
>>> from tl_jax.report.table import Table, Scale
>>> def execute(members):
...   for config, directory in members:
...     directory.mkdir(parents=True)
...     _ = (directory / 'result.json').write_text('{"metrics": {"accuracy": %s}}' % config['seed'])
>>> run = lambda row, column, seed, scale: {'seed': seed}
>>> table = Table('Title', 'Source', ('a',), ('b',), (0, 1), run, 'accuracy')
>>> with tempfile.TemporaryDirectory() as folder:
...   outcome = run_table(table, Scale(), folder, execute, lambda text: None)
...   outcome.cells['a', 'b'].mean, sorted(path.name for path in pathlib.Path(folder).iterdir())
(0.5, ['report.html', 'runs', 'table.json', 'table.md'])
"""

import dataclasses
import json
import os
import re
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tl_jax.config import digest, nearest, to_json
from tl_jax.report.cells import Cells, Run, cells, is_number
from tl_jax.report.table import Judgement, Scale, Table

Execute = Callable[[list[tuple[Any, Path]]], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A made table: its cells, judged claims and the runs behind them, those made first
  (`before`) included by name.
  """

  table: Table
  scale: Scale
  workdir: Path
  runs: tuple[Run, ...]
  before: Mapping[str, Run]
  cells: Cells
  judgements: tuple[Judgement, ...]
  seconds: float

  @property
  def unfinished(self) -> list[Run]:
    """The runs without a result, each with its reason; those of `before` included."""
    return [run for run in (*self.before.values(), *self.runs) if run.result is None]


def run_table(
  table: Table,
  scale: str | Scale,
  workdir: str | Path,
  execute: Execute,
  say: Callable[[str], None],
  *,
  retry: bool = False,
) -> Outcome:
  """Makes what is missing of the table at a scale, then `table.json`, `table.md` and
  `report.html` in the workdir.

  execute(members): trains a list of (config, directory), all of one row or all of
  `before`; it leaves a `result.json`, or a `failed.json` with a `reason`, in each
  directory, and continues what a killed run left there. What it raises is passed on;
  run again with the same workdir, the table resumes. say(text): told what happens. A
  run whose directory has a readable `result.json` is not made again; the name of the
  directory has the hash of the config, in which the workdir does not count. A result
  that says how many examples it is of, but not which, is of an earlier version and made
  again. A failed run is made again where its `failed.json` says `retry`, because its
  cause may be gone, and others with `retry`. A run whose config cannot be made, or that
  cannot be made from its config, is a hole with the reason.
  ValueError: an unknown scale, a config that JSON cannot hold, no config that can be
  made, two runs of a column that were judged on different examples.
  """
  started = time.monotonic()
  workdir, scale = Path(workdir).resolve(), table.at(scale)
  configs = dict(table.before(scale)) if table.before else {}
  first = {
    name: Run(name, 'before', 0, _directory(workdir, 'before', (name,), config))
    for name, config in configs.items()
  }
  _make(
    [(configs[name], run.directory) for name, run in first.items()],
    'before',
    execute,
    say,
    retry,
  )
  before = {name: _collected(run) for name, run in first.items()}
  runs = []
  for row, members in _members(table, scale, workdir, before).items():
    _make(
      [(config, run.directory) for config, run in members if not run.reason],
      str(row),
      execute,
      say,
      retry,
    )
    runs += [
      run if run.reason else _collected(run, table.headline) for _, run in members
    ]
  require_same_examples(runs)
  grouped = cells(
    runs,
    table.headline,
    extra=table.extra,
    seeds=scale.seeds,
    factor=table.factor,
    higher_is_better=table.higher_is_better,
  )
  grouped = dataclasses.replace(grouped, all_rows=table.rows, all_columns=table.columns)
  judgements = tuple(claim.judge(grouped) for claim in table.claims)
  outcome = Outcome(
    table,
    scale,
    workdir,
    tuple(runs),
    before,
    grouped,
    judgements,
    time.monotonic() - started,
  )
  _write(outcome, say)
  return outcome


def _members(
  table: Table, scale: Scale, workdir: Path, before: Mapping[str, Run]
) -> dict:
  """row -> the (config, run) of its columns and seeds; a run that cannot be has a
  reason and perhaps no config.

  Where that is so for every run of the table, the ValueError of the first one is
  raised.
  """
  found, errors = {}, []
  for row in scale.rows:
    found[row] = []
    for column in scale.columns:
      for seed in scale.seeds:
        try:
          config = _config(table, scale, row, column, seed, before)
        except ValueError as error:
          errors.append(error)
          directory = _directory(workdir, 'runs', (row, column, seed), {})
          run = Run(row, column, seed, directory, reason=' '.join(str(error).split()))
          found[row].append((None, run))
          continue
        found[row].append(_member(workdir, row, column, seed, config, before))
  if len(errors) == sum(map(len, found.values())):
    raise errors[0]
  return found


def _config(table: Table, scale: Scale, row, column, seed, before: Mapping[str, Run]):
  """The config of one run. ValueError where the table has none."""
  paths = {name: str(run.directory) for name, run in before.items()}
  return table.run(row, column, seed, scale, **paths)


def _member(
  workdir: Path, row, column, seed, config, before: Mapping[str, Run]
) -> tuple[Any, Run]:
  """The config and the run of one row, column and seed; with a reason already where
  what it starts from is missing.
  """
  directory = _directory(workdir, 'runs', (row, column, seed), config)
  text, reason = _text(config), ''
  for name, run in before.items():
    if run.result is None and json.dumps(str(run.directory))[1:-1] in text:
      reason = f'{name}, from which it starts: {run.reason}'
  return config, Run(row, column, seed, directory, reason=reason)


def _text(config, workdir: Path | None = None) -> str:
  """The config as canonical JSON, with the workdir as a dot, so that a moved workdir
  keeps its runs.
  """
  text = json.dumps(to_json(config), sort_keys=True)
  return text if workdir is None else text.replace(json.dumps(str(workdir))[1:-1], '.')


def _directory(workdir: Path, folder: str, names: tuple, config) -> Path:
  """The directory of a run: its names, reduced to safe characters, and the hash of its
  config.
  """
  safe = '-'.join(
    re.sub(r'[^A-Za-z0-9_.+=]+', '_', str(name)).strip('.')[:40] or '_'
    for name in names
  )
  return workdir / folder / f'{safe}-{digest({"config": _text(config, workdir)})[:8]}'


def _make(
  members: list[tuple[Any, Path]], what: str, execute: Execute, say, retry: bool
) -> None:
  """Has the unfinished members made, all in one call."""
  missing, failed = [], 0
  for config, directory in members:
    result = read_json(directory / 'result.json')
    if result is not None and not _is_outdated(result):
      continue
    failure = read_json(directory / 'failed.json')
    if failure is not None and not (retry or failure.get('retry')):
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
    say(
      f'{what}: {done} of {len(members)} runs are there'
      + (f', {len(missing)} to make' if missing else '')
    )
  if missing:
    execute(missing)


def _collected(run: Run, headline: str | None = None) -> Run:
  """The run with its result, or with the reason why there is none that can be used."""
  result = read_json(run.directory / 'result.json')
  if result is None:
    failure = read_json(run.directory / 'failed.json')
    if failure is None:
      return dataclasses.replace(run, reason='ended without a result')
    return dataclasses.replace(
      run, reason=str(failure.get('reason') or 'failed without a reason')
    )
  if headline is not None:
    metrics = result.get('metrics') if isinstance(result.get('metrics'), dict) else {}
    if not is_number(metrics.get(headline)):
      known = nearest(headline, metrics)
      return dataclasses.replace(
        run, reason=f'its result has no metric {headline!r}; nearest: {known}'
      )
  return dataclasses.replace(run, result=result, reason='')


def _is_outdated(result: Mapping) -> bool:
  """Is it a result of an earlier version, which did not say on which examples a run was
  judged?
  """
  return 'n' in result and 'examples' not in result


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
    ours, theirs = (_examples(one.result) for one in (run, other))
    if ours != theirs:
      raise ValueError(
        f'the runs of the column {run.column!r} are judged on different examples: {other.directory} on '
        f'{_words(theirs)}, {run.directory} on {_words(ours)}; a comparison needs the same ones'
      )


def _examples(result: Mapping) -> tuple:
  return result.get('n'), result.get('examples')


def _words(examples: tuple) -> str:
  count, digest = examples
  if count is None and digest is None:
    return 'examples it does not tell'
  return f'{count} with the digest {digest}'


def read_json(path: Path) -> dict | None:
  """The dict in a JSON file; None where there is none, or it is half written, or holds
  NaN or infinity.
  """

  def refuse(constant):
    raise ValueError(constant)

  try:
    value = json.loads(path.read_text('utf-8'), parse_constant=refuse)
  except (FileNotFoundError, NotADirectoryError, ValueError):
    return None
  return value if isinstance(value, dict) else None


def _write(outcome: Outcome, say) -> None:
  from tl_jax.report.entries import as_json
  from tl_jax.report.findings import find
  from tl_jax.report.html import page
  from tl_jax.report.text import markdown, plain

  findings = find(outcome)
  files = {
    'table.json': json.dumps(
      as_json(outcome, findings), indent=1, allow_nan=False, ensure_ascii=False
    )
    + '\n',
    'table.md': markdown(outcome, findings),
    'report.html': page(outcome, findings),
  }
  for name, text in files.items():
    part = outcome.workdir / f'.{name}.part'
    part.write_text(text, 'utf-8')
    os.replace(part, outcome.workdir / name)
  say(plain(outcome, findings))
  say(f'report: {outcome.workdir / "report.html"}')
