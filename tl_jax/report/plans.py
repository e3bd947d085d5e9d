"""Plans as one HTML page that needs nothing else: a bar for every class of arrays.

>>> bar(1.0, 4.0)
'<div class="bar"><div style="width:25.0%"></div></div>'
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from tl_jax.report.html import HEAD, STYLE

GIB = 2**30
TITLE = 'What the runs need'
# Of the roofline, what bounds a step, in words.
BOUNDS = {
  'compute': 'products',
  'hbm': 'memory bandwidth',
  'ici': 'links between chips',
  'dcn': 'network between slices',
}


def page(plans: Sequence[Mapping]) -> str:
  """The page of some plans, each as `Plan.to_json` gives it."""
  style = STYLE.read_text('utf-8')
  body = '\n'.join(_plan(plan) for plan in plans)
  return (
    f'{HEAD}<title>{TITLE}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n'
    f'<h1>{TITLE}</h1>\n{body}\n</main>\n</body>\n</html>\n'
  )


def _plan(plan: Mapping) -> str:
  """A plan: its memory in bars, then its times in bars."""
  topology = plan['topology']
  title = f'{plan["program"]} on {topology["name"]}, {topology["devices"]} devices'
  parts = [f'<h2>{escape(title)}</h2>']
  # Names of configs are other people's text.
  said = [*plan['notes'], _settings(plan)]
  if plan['overrides']:
    said.append(plan['overrides'])
  parts += [f'<p class="note">{escape(line)}</p>' for line in said]
  parts += _memory(plan)
  parts.append(_times(plan))
  return f'<section>{"".join(parts)}</section>'


def _settings(plan: Mapping) -> str:
  """What the plan depends on, in a line."""
  axes = [f'{axis} {size}' for axis, size in plan['mesh'].items() if size > 1]
  chosen = [f'{name} {value}' for name, value in plan['settings'].items()]
  return ', '.join([' x '.join(axes) or 'one device', *chosen])


def _memory(plan: Mapping) -> Iterator[str]:
  """The memory of a chip: a bar for every class of arrays, against what there is."""
  memory = plan['memory']
  if memory is None:
    yield '<p>Nothing was compiled.</p>'
    return
  verdict, kind = ('fits', 'held') if memory['fits'] else ('does not fit', 'missed')
  needed = f'{memory["needed"] / GIB:,.2f} of {memory["available"] / GIB:,.2f} GiB'
  yield f'<p><span class="verdict {kind}">{verdict}</span>: {needed} on a chip</p>'
  # A class that is larger than the memory still ends inside of the page.
  whole = max(memory['hbm'], memory['needed'])
  rows = []
  for name, count in plan['classes'].items():
    if count:
      rows.append(_row(name, f'{count / GIB:,.3f} GiB', bar(count, whole)))
  yield _table(rows)


def _times(plan: Mapping) -> str:
  """The seconds of a step, each as if the rest took none."""
  found = plan['roofline']
  rows = []
  for name, words in BOUNDS.items():
    if found.get(name):
      shown = bar(found[name], found['seconds'])
      rows.append(_row(words, f'{found[name]:.3g} s', shown))
  return _table(rows)


def bar(part: float, whole: float) -> str:
  """A bar as long as the part is of the whole."""
  share = 100 * min(1.0, part / whole) if whole else 0.0
  return f'<div class="bar"><div style="width:{share:.1f}%"></div></div>'


def _row(name: str, value: str, shown: str) -> str:
  head = f'<th scope="row">{escape(name)}</th>'
  return f'<tr>{head}<td>{escape(value)}</td><td>{shown}</td></tr>'


def _table(rows: Sequence[str]) -> str:
  return f'<div class="wide"><table class="bars">{"".join(rows)}</table></div>'
