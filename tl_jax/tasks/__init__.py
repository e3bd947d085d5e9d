"""What a labelled task is: a source, how an example reads, its labels and its metrics.

>>> find('sentiment').labels
('negative', 'positive')
"""

from tl_jax.tasks.task import TASKS, Task, choose, find, group_of, labelled, score, together

__all__ = ['TASKS', 'Task', 'choose', 'find', 'group_of', 'labelled', 'score', 'together']
