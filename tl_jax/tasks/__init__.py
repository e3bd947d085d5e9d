"""What a task is: a source, how a record reads, what is asked for and how it is scored.

>>> find('sentiment').labels
('negative', 'positive')
"""

from tl_jax.tasks.own import DIVIDED, Reading
from tl_jax.tasks.problems import (
  PROBLEMS,
  Cut,
  Example,
  Facts,
  Limits,
  Problem,
  Writer,
  prompt_of,
)
from tl_jax.tasks.prompts import Prompter, Prompting
from tl_jax.tasks.registry import TASKS, Known, as_known, find, part_of, together
from tl_jax.tasks.task import (
  Task,
  as_scored,
  collected,
  decide,
  group_of,
  labelled,
  parts_with_examples,
  places,
  probabilities,
  require_metrics,
  score,
  scored_by,
  signatures,
)

__all__ = [
  'DIVIDED',
  'PROBLEMS',
  'TASKS',
  'Cut',
  'Example',
  'Facts',
  'Known',
  'Limits',
  'Problem',
  'Prompter',
  'Prompting',
  'Reading',
  'Task',
  'Writer',
  'as_known',
  'as_scored',
  'collected',
  'decide',
  'find',
  'group_of',
  'labelled',
  'part_of',
  'parts_with_examples',
  'places',
  'probabilities',
  'prompt_of',
  'require_metrics',
  'score',
  'scored_by',
  'signatures',
  'together',
]
