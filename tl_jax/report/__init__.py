"""Reports: a paper's table as data, the runs it asks for, and one page that shows what
came out.

>>> from tl_jax.report import Claim
>>> Claim('the value is at least one', lambda cells: 2.0, at_least=1.0).judge(None).verdict
'held'
"""

from tl_jax.report.cells import Cell, Cells, Run
from tl_jax.report.literature import Published, published
from tl_jax.report.runs import Outcome, run_table
from tl_jax.report.table import Claim, Judgement, Scale, Table

__all__ = [
  'Cell',
  'Cells',
  'Claim',
  'Judgement',
  'Outcome',
  'Published',
  'Run',
  'Scale',
  'Table',
  'published',
  'run_table',
]
