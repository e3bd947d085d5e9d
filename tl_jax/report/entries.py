"""A made table as JSON: all its numbers as plain dicts and lists.

>>> from tl_jax.report.cells import Run
>>> _run_entry(Path('/work'), Run('lora', 'imdb', 0, Path('/work/runs/a')))['directory']
'runs/a'
"""

from pathlib import Path

from tl_jax.report.cells import Cell, Run
from tl_jax.report.findings import Findings, difference
from tl_jax.report.literature import Published
from tl_jax.report.table import Judgement


def as_json(outcome, findings: Findings) -> dict:
  """All numbers of the outcome as plain dicts and lists.

  Nothing in it is NaN or infinite, which JSON does not know.
  """
  table, cells, scale = outcome.table, outcome.cells, outcome.scale
  made = {'title': table.title, 'source': table.source, 'scale': scale.name}
  made['settings'] = {name: _plain(value) for name, value in scale.settings.items()}
  # What its numbers are and where they stand.
  layout = {
    'headline': _headline_entry(outcome),
    'factor': table.factor,
    'unit': table.unit,
    'reference': table.reference,
    'rows': list(cells.rows),
    'columns': list(cells.columns),
    'seeds': list(scale.seeds),
  }
  measured = {'summary': list(findings.sentences)}
  measured['cells'] = [_cell_entry(outcome, cell) for cell in cells]
  measured['claims'] = [_claim_entry(found) for found in outcome.judgements]
  measured['gains'] = _gain_entries(findings)
  measured['labels_saved'] = _saved_entries(findings)
  # How it came about, what was made first included.
  runs = [*outcome.before, *outcome.runs]
  making = {'runs': [_run_entry(outcome.workdir, run) for run in runs]}
  making['environment'] = dict(findings.environment)
  making['seconds'] = round(outcome.seconds, 3)
  return {**made, **layout, **measured, **making}


def _headline_entry(outcome) -> str | dict[str, str]:
  """The metric of all columns, or of each where the table has them by column."""
  table = outcome.table
  if isinstance(table.headline, str):
    return table.headline
  # JSON has no keys but strings.
  return {str(column): table.metric(column) for column in outcome.cells.columns}


def _plain(value):
  """A setting as JSON holds it; what is neither number nor text is written out."""
  # A float becomes text as well, so that no infinite one gets into the file.
  is_plain = isinstance(value, (bool, int, str, type(None)))
  return value if is_plain else str(value)


def _cell_entry(outcome, cell: Cell) -> dict:
  """A cell's numbers, beside the published one where there is one."""
  published = outcome.table.published.get((cell.row, cell.column))
  # JSON has no keys but strings.
  values = {str(seed): value for seed, value in cell.values.items()}
  holes = {str(seed): reason for seed, reason in cell.holes.items()}
  return {
    'row': cell.row,
    'column': cell.column,
    **cell.interval.as_dict(),
    'values': values,
    'holes': holes,
    'extra': dict(cell.extra),
    'published': _published_entry(published),
    'difference': difference(outcome, cell.row, cell.column),
  }


def _published_entry(found: Published | None) -> dict | None:
  """A published number; None where there is none."""
  if found is None:
    return None
  return {
    'value': found.value,
    'text': found.text,
    'checked': found.checked,
    'provenance': found.provenance,
  }


def _claim_entry(found: Judgement) -> dict:
  """A claim with its verdict and the interval that it was judged by."""
  return {
    'text': found.text,
    'verdict': found.verdict,
    'bound': found.bound,
    'reason': found.reason,
    'value': found.interval.as_dict(),
  }


def _gain_entries(findings: Findings) -> list[dict]:
  """One entry for each row and number of labels."""
  entries = []
  for row, gains in findings.gains.items():
    for labels, gain in gains.items():
      entries.append({'row': row, 'labels': labels, **gain.as_dict()})
  return entries


def _saved_entries(findings: Findings) -> list[dict]:
  """One entry for each row and number of labels."""
  entries = []
  for row, points in findings.saved.items():
    for labels, found in points.items():
      entry = {
        'row': row,
        'labels': labels,
        'needed': found.needed,
        'censored': found.censored,
        'limit': found.limit,
        'target': found.target,
        'multiplier': found.multiplier.as_dict(),
      }
      entries.append(entry)
  return entries


def _run_entry(workdir: Path, run: Run) -> dict:
  """A run with its directory below the workdir, so that a moved table is still right."""
  directory = run.directory.relative_to(workdir)
  return {
    'row': run.row,
    'column': run.column,
    'seed': run.seed,
    'done': run.result is not None,
    'reason': run.reason,
    'directory': str(directory),
  }
