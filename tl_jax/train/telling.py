"""What a look at a mixture found, as lines that a person reads: the whole, then sources.

>>> values = {'loss': 2.5, 'a/loss': 2.0, 'b/loss': 3.0}
>>> print('\\n'.join(lines('step 10', values)))
step 10: loss 2.5000
  source  loss
  b       3.0000
  a       2.0000
"""

from collections.abc import Mapping, Sequence

# Sources of which each has a line; those with the largest loss come first.
MOST = 8


def sources_in(values: Mapping[str, float]) -> list[str]:
  """The sources that have figures of their own, that with the largest loss first."""
  found = [name.removesuffix('/loss') for name in values if name.endswith('/loss')]
  return sorted(found, key=lambda source: -values[f'{source}/loss'])


def lines(title: str, values: Mapping[str, float]) -> list[str]:
  """A line of the figures of the whole, and a table of those of the sources, if any.

  Of many sources the worst are shown and the others are counted: all figures are kept
  where the run keeps them.
  """
  sources = sources_in(values)
  tables: dict[str, dict[str, str]] = {source: {} for source in sources}
  whole = []
  for name, value in values.items():
    owners = [source for source in sources if name.startswith(f'{source}/')]
    if not owners:
      whole.append(f'{name} {value:.4f}')
      continue
    # A source may be a folder, and a file in it another source.
    owner = max(owners, key=len)
    tables[owner][name.removeprefix(f'{owner}/')] = f'{value:.4f}'
  found = [f'{title}: {", ".join(whole)}']
  if not sources:
    return found
  columns = list(tables[sources[0]])
  rows = [['source', *columns]]
  for source in sources[:MOST]:
    rows.append([source, *(tables[source][name] for name in columns)])
  found += _aligned(rows)
  others = sources[MOST:]
  if others:
    worst, best = values[f'{others[0]}/loss'], values[f'{others[-1]}/loss']
    found.append(f'  {len(others)} more sources, loss {worst:.4f} to {best:.4f}')
  return found


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
  """Rows of equally many cells as lines whose columns stand below each other."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  found = []
  for row in rows:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    found.append('  ' + '  '.join(cells).rstrip())
  return found
