"""A run from a config, taken apart.

>>> from tl_jax import config
>>> build(config.load('configs/pretrain.py:tiny', [('optim.lr', '-1')]))
Traceback (most recent call last):
tl_jax.config.checks.ConfigError: config.optim.lr: must be a finite number >= 0, got -1.0 (float)
"""

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

from tl_jax.train.assembly import Components
from tl_jax.train.checks import check
from tl_jax.train.preparing import prepare
from tl_jax.train.settings import Settings


class Built(NamedTuple):
  """What a run is made of, for a loop of your own:

  built = build(config)
  state, step = built.state(), jax.jit(built.parts.step, donate_argnums=0)
  for number in range(built.settings.schedule.steps):
    state, metrics = step(state, built.batch_at(number))
  """

  settings: Settings
  tokenizer: Any
  parts: Components
  params: Callable
  batch_at: Callable

  def state(self):
    """The state at step 0."""
    return self.parts.init(self.params(self.settings.seed), self.settings.seed)


def build(config, folder=None) -> Built:
  """Everything that a run of this config is made of, nothing trained but the tokenizer.

  `folder` keeps tokenizer and encoded texts for the next time; a temporary one if
  absent. Raises ConfigError.
  """
  checked = check(config)
  # Not removed at the end: `batch_at` still reads the encoded texts there.
  folder = pathlib.Path(
    tempfile.mkdtemp(prefix='tl_jax_') if folder is None else folder
  )
  folder.mkdir(parents=True, exist_ok=True)
  ready = prepare(checked, folder)
  settings = ready.settings
  stream, _ = ready.corpus.stream(settings)
  return Built(settings, ready.tokenizer, ready.parts, ready.params, stream.batch_at)
