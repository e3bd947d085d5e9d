"""What a labelled task is: a source, how an example reads, its labels and its metrics.

>>> find('sentiment').labels
('negative', 'positive')
"""

from tl_jax.tasks.own import Reading
from tl_jax.tasks.registry import TASKS, Known, as_known, find, together
from tl_jax.tasks.task import Task, choose, group_of, labelled, score

__all__ = [
  'TASKS',
  'Known',
  'Reading',
  'Task',
  'as_known',
  'choose',
  'find',
  'group_of',
  'labelled',
  'score',
  'together',
]
