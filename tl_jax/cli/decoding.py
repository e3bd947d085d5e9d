"""The flags of decoding, which `generate` and `predict` share.

>>> value('0.5'), value('3'), value('false'), value('never')
(0.5, 3, False, 'never')
"""

import argparse
import dataclasses
import typing

from tl_jax import config

# Fields of `Decoding` that the model's folder says, not the user.
KNOWN = ('eos', 'pad', 'start', 'bad_words')
# What the help says of the others. Those of ids have one text for all.
WORDS = {
  'method': 'how the next token is chosen',
  'max_new_tokens': 'the most tokens that are written',
  'min_new_tokens': 'tokens before which no text ends',
  'temperature': 'below 1 the likely tokens are likelier still',
  'top_k': 'only so many of the likeliest tokens; 0: all',
  'top_p': 'only the likeliest tokens that have this probability together; 1: all',
  'min_p': 'only tokens with this part of the probability of the likeliest; 0: all',
  'repetition_penalty': 'above 1 tokens that are there already are less likely',
  'no_repeat_ngram': 'no run of so many tokens comes twice; 0: it may',
  'samples': 'texts for each prompt',
  'beams': 'texts that are followed at once',
  'length_penalty': 'above 0 longer texts are preferred',
  'penalty_form': 'the formula of the length penalty',
  'early_stopping': 'whether a search ends with as many texts as beams',
  'seed': 'of what is drawn',
}


def add_decoding(parser: argparse.ArgumentParser, title: str, otherwise: str):
  """Adds a group with a flag for every field of `decode.Decoding`, and returns it.

  otherwise: who says what no flag says.
  """
  from tl_jax.decode.settings import Decoding

  group = parser.add_argument_group(
    title, f'what no flag says, {otherwise}; where that says nothing, it is as below'
  )
  for field in dataclasses.fields(Decoding):
    if field.name not in KNOWN:
      _add_decoding(group, field)
  return group


def add_chat(parser) -> None:
  """Adds the flags of conversations to a parser or a group of one."""
  parser.add_argument(
    '--chat',
    action=argparse.BooleanOptionalAction,
    help='a text is what a user says in a conversation, put by the chat template, and '
    'the answer alone is written (default: where the run learned conversations)',
  )
  parser.add_argument(
    '--system',
    default='',
    metavar='TEXT',
    help='what the system says before a conversation that has no such turn; it means '
    '--chat',
  )


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
    parser.add_argument(flag, type=value, metavar='V', help=_said_of(field))


def _said_of(field: dataclasses.Field) -> str:
  """What the help says of a field: what it is, what it may be, who reads it."""
  from tl_jax.decode.settings import READERS, Decoding

  hint = typing.get_type_hints(Decoding)[field.name]
  parts = [WORDS[field.name]]
  choices = _choices(hint)
  if choices:
    parts.append(f'one of {", ".join(choices)}')
  default = str(field.default).lower() if _is_flag(hint) else field.default
  readers = ' and '.join(READERS.get(field.name, ()))
  whose = f'of --method={readers}; ' if readers else ''
  return f'{"; ".join(parts)} ({whose}default: {default})'


def _choices(hint) -> list[str]:
  """The words that a field of this type may be; [] of any other type."""
  if typing.get_origin(hint) is typing.Literal:
    return list(typing.get_args(hint))
  found = []
  for part in typing.get_args(hint):
    found += ['true', 'false'] if part is bool else _choices(part)
  return found


def _is_flag(hint) -> bool:
  """May a field of this type be true or false?"""
  return bool in (hint, *typing.get_args(hint))


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
