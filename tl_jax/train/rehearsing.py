"""Learners of a forecast that are runs: a model is trained on a part of the labels, and
asked about examples that it has not seen.

>>> [files.decode(line)['label'] for line in rows([('fine', 'good')], 'test')]
['good']

Every run has a workdir of its own, named by what it learns from. So a forecast that was
stopped goes on where it was, and one that is asked for again trains nothing.
"""

import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax import config as configs
from tl_jax import files
from tl_jax.config import ConfigError
from tl_jax.tasks.labels import SINGLE, spelled
from tl_jax.train import checks, methods
from tl_jax.train.results import PREDICTIONS
from tl_jax.train.running import run
from tl_jax.train.settings import Transfer

# A training takes seconds to minutes, a logistic regression on vectors milliseconds:
# fewer sizes and repeats than those of a probe.
SIZES = 3
REPEATS = 2


class Recipe(NamedTuple):
  """How a model is trained: the config of a transfer, with the model in it.

  spec: as `--config` takes it, a file with its arguments. init: the model.
  """

  spec: str
  init: str

  def load(self, task: str):
    """The config of a run on the file `task`. Raises ConfigError."""
    spec = self.spec
    # Classes may be called 1, 2 and 3, which would be taken for numbers.
    overrides = [('task.name', task), ('task.kind', SINGLE)]
    if spec.partition(':')[0].endswith('.py'):
      # As an argument: what a config chooses depends on the model.
      escaped = self.init.replace(',', '\\,')
      joint = ',' if '.py:' in spec else ':'
      spec = f'{spec}{joint}init={escaped}'
    else:
      overrides.append(('init', self.init))
    return configs.load(spec, overrides)

  @property
  def method(self) -> str:
    """What the method is called.

    Raises ConfigError for a config of no transfer, or in which no model is trained.
    """
    settings = checks.settings_of(self.load(''))
    is_transfer = isinstance(settings, Transfer)
    if not is_transfer or settings.method['name'] in methods.UNTRAINED:
      raise ConfigError(
        f'--trained: {self.spec}: no config in which a model is trained'
      )
    return methods.name_of(settings.method)


def learner(
  recipe: Recipe,
  labels: Sequence[str],
  folder: pathlib.Path,
  tell: Callable[[float], None] = lambda seconds: None,
) -> Callable:
  """learn(texts, targets) -> answer(texts) -> scores (n, labels), as `probes.measure`
  takes it: 1 for the label that the trained model predicts, 0 for the others.

  labels: the names of the classes. folder: of the runs. tell: called after every run
  with the seconds that it took, also where it was there already.
  """
  places = {spelled(name): place for place, name in enumerate(labels)}

  def learn(seen: Sequence[str], targets: np.ndarray) -> Callable:
    names = [labels[target] for target in targets]
    trained = rows(zip(seen, names, strict=True), 'train')

    def answer(held: Sequence[str]) -> np.ndarray:
      # What is right of them plays no part: any label will do.
      asked = rows(((text, labels[0]) for text in held), 'test')
      content = ''.join([*trained, *asked]).encode()
      lines = _predicted(recipe, content, folder, tell)
      # A file skips empty texts, whose answers would be those of others.
      if len(lines) != len(held):
        raise ConfigError(
          f'--task: {len(held) - len(lines)} texts are empty, which no run can learn'
        )
      found = np.zeros((len(lines), len(labels)))
      for place, line in enumerate(lines):
        found[place, places[line['prediction']]] = 1
      return found

    return answer

  return learn


def rows(examples: Iterable[tuple[str, str]], split: str) -> list[str]:
  """The lines of a file of texts with labels."""
  found = []
  for text, label in examples:
    line = dict(text=str(text), label=label, split=split)
    found.append(files.encode(line) + '\n')
  return found


def _predicted(
  recipe: Recipe, content: bytes, folder: pathlib.Path, tell: Callable[[float], None]
) -> list[dict]:
  """The predictions of the run that learns from a file with this content."""
  # Another recipe, model or part of the labels is another run.
  name = configs.digest([recipe.spec, recipe.init, content.decode()])[:16]
  workdir = folder / name
  path = folder / f'{name}.jsonl'
  if not path.is_file():
    folder.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, content)
  result = run(recipe.load(str(path)), workdir)
  tell(result['seconds'])
  text = (workdir / PREDICTIONS).read_text('utf-8')
  return [files.decode(line) for line in text.splitlines()]
