"""What a labelled task is: a source, how an example reads, its labels and its metrics.

>>> find('sentiment').labels
('negative', 'positive')
"""

from tl_jax.tasks.task import TASKS, Task, find, labelled, score

__all__ = ['TASKS', 'Task', 'find', 'labelled', 'score']
