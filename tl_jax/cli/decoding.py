"""The flags of decoding, which `generate` and `predict` share.

>>> value('0.5'), value('3'), value('false'), value('never')
(0.5, 3, False, 'never')
"""

import argparse
import dataclasses

from tl_jax import config

# Fields of `Decoding` that the model's folder says, not the user.
KNOWN = ('eos', 'pad', 'start', 'bad_words')


def add_decoding(parser) -> None:
  """Adds a flag for every field of `decode.Decoding` to a parser or a group of one."""
  from tl_jax.decode.settings import Decoding

  for field in dataclasses.fields(Decoding):
    if field.name not in KNOWN:
      _add_decoding(parser, field)


def _add_decoding(parser, field: dataclasses.Field) -> None:
  """The flag of one field of `Decoding`.

  No flag has a default here: one that is not given is None, and the model's folder or
  `Decoding` itself decides.
  """
  from tl_jax.decode.settings import IDS

  flag = f'--{field.name.replace("_", "-")}'
  if field.name == 'stop':
    parser.add_argument(
      flag,
      action='append',
      metavar='TEXT',
      help='ends a text; may be given several times',
    )
  elif field.name in IDS:
    parser.add_argument(
      flag,
      type=ids,
      metavar='ID,...',
      help="numbers of pieces, '' for none (default: as the model's folder says)",
    )
  else:
    parser.add_argument(flag, type=value, metavar='V', help=f'default: {field.default}')


def ids(text: str) -> tuple[int, ...]:
  """Numbers of pieces with commas between them.

  >>> ids('3,4'), ids('')
  ((3, 4), ())
  """
  return tuple(int(part) for part in text.split(',')) if text else ()


def value(text: str):
  """A flag's number, boolean or word."""
  # int first: 3 is a count, and a count that is a float is refused.
  for read in (int, float):
    try:
      return read(text)
    except ValueError:
      continue
  return {'true': True, 'false': False}.get(text.lower(), text)


def chosen(flags: argparse.Namespace) -> dict:
  """The fields of `Decoding` that flags were given for.

  Raises ConfigError for flags that no method can have.
  """
  from tl_jax.decode.settings import Decoding

  found = {}
  for field in dataclasses.fields(Decoding):
    given = getattr(flags, field.name, None)
    if given is not None:
      found[field.name] = given
  # argparse collects a repeated flag in a list; settings are hashed.
  if 'stop' in found:
    found['stop'] = tuple(found['stop'])
  _check(found)
  return found


def _check(chosen: dict) -> None:
  """Raises ConfigError for flags that no method can have.

  Where no method is among the flags, the model's folder may choose any.
  """
  from tl_jax.decode.settings import Decoding

  methods = [chosen['method']] if 'method' in chosen else ['sample', 'beam', 'greedy']
  # The error of the last one is shown: greedy has the fewest settings of its own.
  for method in methods:
    try:
      Decoding(**chosen | dict(method=method))
      return
    except config.ConfigError as error:
      last = error
  raise last
