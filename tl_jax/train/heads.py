"""What a model answers, said before it is opened.

>>> require_answers(pathlib.Path('/tmp/mails'), 'classifier')
"""

import pathlib

from tl_jax import checkpoint, interop, tasks
from tl_jax.config import ConfigError
from tl_jax.interop.huggingface import read_config
from tl_jax.train.restoring import arch_of, known_of

# Heads whose outputs are an answer to a text.
ANSWERING = ('classifier', 'choice', 'token', 'span', 'causal')


def learned_problem(path: pathlib.Path, step: int | None) -> tasks.Problem | None:
  """The kind of task on which the run of a workdir learned to write texts; None where
  it learned no such task, and of a folder, which has no step.
  """
  known = None if step is None else known_of(path, step)
  problem = None if known is None else tasks.PROBLEMS[known.kind]
  return problem if problem and problem.answer == 'generate' else None


def head_of(path: pathlib.Path, step: int | None, head: str | None) -> str:
  """The head of the model of a workdir, or of a folder, opened under `head` if it is
  said; '' where it is not known before the model is opened.
  """
  if step is not None:
    known = known_of(path, step)
    if known is not None:
      return tasks.PROBLEMS[known.kind].head
    arch, _ = arch_of(checkpoint.Store(path / 'checkpoints').meta(step), str(path))
    return arch.head
  if head is not None or not (path / 'config.json').is_file():
    return head or ''
  config = read_config(path)
  if not interop.configs.is_known(config):
    return ''
  return interop.configs.head_of(config)[0]


def require_answers(path: pathlib.Path, head: str) -> None:
  """Raises ConfigError for a model whose head gives no answer to a text."""
  if head not in ANSWERING:
    raise ConfigError(
      f'{path}: a model with head {head!r} has no label or text to give; --embeddings '
      'gives a vector of each text'
    )
