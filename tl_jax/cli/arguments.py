"""Command lines taken apart: a verb, its flags, and `--config.a.b=value` overrides.

>>> split_overrides(['--workdir=w', '--config.optim.lr=1e-3', '--config.seed', '2'])
(['--workdir=w'], [('optim.lr', '1e-3'), ('seed', '2')])
"""

import argparse
import ast
import re
from collections.abc import Iterable, Sequence

from tl_jax.config import ConfigError, locate, nearest


class Parser(argparse.ArgumentParser):
  """An argument parser whose complaints are ConfigErrors of one line.

  Its help ends with what the files `configs`, which came with the package, say of
  themselves.
  """

  def __init__(self, *args, configs: Sequence[str] = (), **kwargs):
    self._configs = configs
    super().__init__(*args, **kwargs)

  def format_help(self) -> str:
    # Read for the help alone, and not executed: neither jax nor a config is imported.
    parts = [super().format_help()]
    for name in self._configs:
      module = ast.parse(locate(name).read_text(encoding='utf-8'))
      parts.append(f'{name}: {ast.get_docstring(module)}\n')
    return '\n'.join(parts)

  def error(self, message: str):
    raise ConfigError(f'{self.prog}: {message}')

  def parse(self, argv: Iterable[str]) -> argparse.Namespace:
    """The flags. Raises ConfigError for what is unknown, missing or superfluous."""
    words = list(argv)
    known = [option for action in self._actions for option in action.option_strings]
    # argparse names no alternatives, so unknown flags are found before it looks.
    for word in words:
      name = word.split('=', 1)[0]
      if name.startswith('--') and name not in known:
        raise ConfigError(
          f'{self.prog}: unknown flag {name!r}; nearest: {nearest(name, known)}'
        )
    return self.parse_args(words)


def split_overrides(
  argv: Iterable[str], prefix: str = 'config'
) -> tuple[list[str], list[tuple[str, str]]]:
  """(the other words, the overrides) of a command line.

  An override is written --PREFIX.KEY=VALUE and becomes a pair (key, text of the value).
  Raises ConfigError for one without a value.
  """
  form = re.compile(rf'--{prefix}\.([^=]*)(?:=(.*))?', re.DOTALL)
  words = list(argv)
  rest = []
  overrides = []
  while words:
    word = words.pop(0)
    # DOTALL above: a value may have several lines.
    found = form.fullmatch(word)
    if not found:
      rest.append(word)
      continue
    key, text = found.groups()
    if text is None:
      # `--config.a.b VALUE`, as every other flag may be written.
      if not words or words[0].startswith('--'):
        raise ConfigError(f'{word}: needs a value, as in {word}=VALUE')
      text = words.pop(0)
    overrides.append((key, text))
  return rest, overrides
