"""The kinds of task by name: what an answer is, how it is trained and how it is scored.

>>> PROBLEMS['regression'].outputs(1), PROBLEMS['multi_label'].headline
(1, 'f1_micro')
"""

from tl_jax.tasks.problems.choice import ANY_CHOICE, CHOICE, EACH_CHOICE
from tl_jax.tasks.problems.conversation import CONVERSATION
from tl_jax.tasks.problems.embedding import VECTORS
from tl_jax.tasks.problems.judged import LAST_WORD, MINIMAL_PAIRS
from tl_jax.tasks.problems.labels import (
  MULTI_LABEL,
  REGRESSION,
  SINGLE_LABEL,
  group_of,
  within,
)
from tl_jax.tasks.problems.problem import (
  Cut,
  Encoded,
  Example,
  Facts,
  Limits,
  Problem,
  Writer,
)
from tl_jax.tasks.problems.span import SPAN
from tl_jax.tasks.problems.tags import TAGS
from tl_jax.tasks.problems.text import TEXT, prompt_of

PROBLEMS = {
  'single_label': SINGLE_LABEL,
  'multi_label': MULTI_LABEL,
  'regression': REGRESSION,
  'text': TEXT,
  'conversation': CONVERSATION,
  'choice': CHOICE,
  'any_choice': ANY_CHOICE,
  'each_choice': EACH_CHOICE,
  'tags': TAGS,
  'span': SPAN,
  'minimal_pairs': MINIMAL_PAIRS,
  'last_word': LAST_WORD,
  **{each.name: each for each in VECTORS},
}


def form_of(kind: str) -> str:
  """What a target of a kind of task is; '' where the kind is not known yet."""
  return PROBLEMS[kind].form if kind else ''


__all__ = [
  'PROBLEMS',
  'Cut',
  'Encoded',
  'Example',
  'Facts',
  'Limits',
  'Problem',
  'Writer',
  'form_of',
  'group_of',
  'prompt_of',
  'within',
]
