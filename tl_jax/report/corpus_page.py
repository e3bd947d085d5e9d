"""What became of a corpus, as lines and as one HTML page that needs nothing else.

>>> share(1, 4), share(0, 0)
('25.0 %', '-')
"""

from collections.abc import Mapping
from html import escape
from typing import Any

from tl_jax.report.html import HEAD, STYLE, grid, section

# The columns of a source: the key of its numbers, and how it is called.
_COLUMNS = dict(
  documents='documents',
  bytes='bytes',
  words='words',
  distinct='distinct words',
  type_token_ratio='distinct per word',
  entropy='bits of a word',
)
# The share of the bytes of documents beyond which it is said that C4's rule took much.
MUCH = 0.3


def share(part: float, whole: float) -> str:
  """A share in percent, with one digit."""
  return f'{100 * part / whole:.1f} %' if whole else '-'


def _number(value: float) -> str:
  return f'{value:,}' if isinstance(value, int) else f'{value:.3f}'


def table(manifest: Mapping[str, Any]) -> list[list[str]]:
  """A line for each source before and after, with what C4's rule took of the latter."""
  lines = [['source', '', *_COLUMNS.values(), 'lines dropped', 'of their bytes']]
  for source in manifest['before']:
    for when in ('before', 'after'):
      numbers = manifest[when][source]
      cells = [_number(numbers[key]) for key in _COLUMNS]
      dropped = ['', ''] if when == 'before' else _dropped(manifest['cuts'][source])
      lines.append([source, when, *cells, *dropped])
  return lines


def _dropped(cut: Mapping[str, int]) -> list[str]:
  """The lines that were dropped of documents that stay, and their share of the bytes."""
  lines = f'{cut["dropped_lines"]:,} of {cut["lines"]:,}'
  return [lines, share(cut['dropped_bytes'], cut['bytes'])]


def warnings(manifest: Mapping[str, Any]) -> list[str]:
  """A line for each source of which C4's rule took much, with what keeps it."""
  found = []
  for source, cut in manifest['cuts'].items():
    if cut['dropped_bytes'] > MUCH * cut['bytes']:
      lines, part = _dropped(cut)
      found.append(
        f'{source}: c4 dropped {lines} lines of the documents that stay, {part} of '
        'their bytes; of text that is wrapped within sentences it leaves halves of '
        'them; without c4 in config.steps documents stay whole'
      )
  return found


def removed(manifest: Mapping[str, Any]) -> list[list[str]]:
  """A line for each reason: how many documents it left out, and which share."""
  whole = sum(numbers['documents'] for numbers in manifest['before'].values())
  lines = [['reason', 'documents', 'of all']]
  by_count = sorted(manifest['removed'].items(), key=lambda pair: -pair[1])
  for reason, count in by_count:
    lines.append([reason, f'{count:,}', share(count, whole)])
  return lines


def overlaps(manifest: Mapping[str, Any]) -> list[list[str]]:
  """A line for each two sources: the runs of five words that both have."""
  lines = [['source', 'and', 'runs of 5 words that both have']]
  for row in manifest['overlap']:
    lines.append([row['one'], row['other'], share(row['share'], 1.0)])
  return lines


def sentences(manifest: Mapping[str, Any]) -> list[str]:
  """What a person wants to know first."""
  whole = sum(numbers['documents'] for numbers in manifest['before'].values())
  kept = manifest['kept']
  found = [f'* {kept:,} of {whole:,} documents stay ({share(kept, whole)})']
  for reason, count, part in removed(manifest)[1:]:
    found.append(f'  {count:>9}  {part:>7}  {reason}')
  return found


def page(manifest: Mapping[str, Any]) -> str:
  """The page, from the title down to examples of what was left out."""
  style = STYLE.read_text('utf-8')
  first = [sentences(manifest)[0].removeprefix('* '), *warnings(manifest)]
  summary = ''.join(f'<p>{escape(said)}</p>' for said in first)
  parts = [
    '<h1>A corpus, prepared</h1>',
    f'<section class="summary">{summary}</section>',
    section('Sources', grid(table(manifest))),
    section('Left out', grid(removed(manifest))),
  ]
  if manifest['overlap']:
    parts.append(section('What sources share', grid(overlaps(manifest))))
  parts.append(section('Examples of what was left out', _examples(manifest)))
  body = ''.join(parts)
  return (
    f'{HEAD}<title>A corpus, prepared</title>\n<style>\n{style}</style>\n</head>\n'
    f'<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
  )


def _examples(manifest: Mapping[str, Any]) -> str:
  """The beginnings of some documents under each reason; they are other people's text."""
  parts = []
  for reason, rows in manifest['examples'].items():
    parts.append(f'<h3>{escape(reason)}</h3>')
    for place, text in rows:
      parts.append(f'<p><b>{escape(place)}</b> {escape(text)}</p>')
  return ''.join(parts)
