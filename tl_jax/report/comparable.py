"""Which runs of pre-training may be points of one law: those that differ in size, in
length and in what repeats, and in nothing that their loss is of.

>>> shares({'a': 1.0, 'b': 3.0, 'c': 0.0})
{'a': 0.25, 'b': 0.75}
"""

import inspect
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tl_jax import checkpoint, files, objectives
from tl_jax.config import ConfigError, digest, names
from tl_jax.train import methods
from tl_jax.train.restoring import read_settings
from tl_jax.train.results import FILE
from tl_jax.train.settings import Pretrain
from tl_jax.train.tokenizing import TOKENIZER

# Differences that an error names before it counts the rest.
MOST = 4


class Measured(NamedTuple):
  """What the held-out loss of a run is of.

  keys: what must be equal, by the dotted key of the config. mixture: the share of each
  source. contents: what names the content of all sources, wherever they lie; () where
  no checkpoint says it.
  """

  folder: pathlib.Path
  result: Mapping[str, Any]
  keys: Mapping[str, Any]
  mixture: Mapping[str, float]
  contents: tuple[str, ...]
  tokenizer: Mapping[str, str]


def require(folders: Sequence[pathlib.Path]) -> list[str]:
  """What to say of finished runs that are to be points of one law.

  Raises ConfigError for a run that is named twice, and for two runs whose losses are not
  of the same thing, with what differs.
  """
  runs = [measured(folder) for folder in folders]
  if not runs:
    return []
  first, *others = runs
  seen = {_evidence(first): first}
  for run in others:
    twin = seen.setdefault(_evidence(run), run)
    if twin is not run:
      raise ConfigError(
        f'{run.folder}: the same run as {twin.folder}, which would count twice; name it '
        'once'
      )
  for run in others:
    found = differences(first, run)
    if found:
      raise ConfigError(_said_of(found, first, run))
  if len({run.result.get('examples') for run in runs}) > 1:
    return [
      'The runs were not measured on the same held-out rows (config.eval.batches, '
      'config.data.batch): a part of what differs is the texts.'
    ]
  return []


def _evidence(run: Measured) -> str:
  """What two runs share, to the last digit of their losses, that are the same one.

  So a copy is known, and a run that is named by another path.
  """
  result = run.result
  numbers = ('steps', 'tokens', 'total_parameters', 'metrics')
  return files.encode({name: result.get(name) for name in numbers})


def _said_of(found: Sequence[str], first: Measured, run: Measured) -> str:
  """The error for two runs that are not of one law."""
  listed = '; '.join(found[:MOST])
  if len(found) > MOST:
    listed += f'; and {len(found) - MOST} more'
  return (
    f'{run.folder}: no run of one law with {first.folder}: {listed}; give runs that '
    'differ in size, length and repeats alone'
  )


def measured(folder: pathlib.Path) -> Measured:
  """What the loss of a finished run is of. Raises ConfigError for one without a config."""
  settings = read_settings(folder)
  meta = _meta(folder)
  return Measured(
    folder,
    files.find_json(folder / FILE),
    _keys(settings),
    shares(settings.data.mixture),
    _contents(meta),
    _tokenizer(folder, meta),
  )


def _meta(folder: pathlib.Path) -> Mapping[str, Any]:
  """What the newest checkpoint says of its run; {} where there is none any more."""
  path = folder / 'checkpoints'
  if not path.is_dir():
    return {}
  store = checkpoint.Store(path)
  newest = store.latest()
  return {} if newest is None else store.meta(newest)


def _keys(settings: Pretrain) -> dict[str, Any]:
  """The keys that decide what is asked of a model, on which texts, and from where on it
  learns.

  What it learns by is its own affair: rates, batches, phases, and how much of a source
  it may see.
  """
  objective = _objective(settings.objective)
  found = {f'config.objective.{name}': value for name, value in objective.items()}
  group = settings.data
  # A loss falls with what is read before a token, too.
  for name in ('length', 'temperature', 'cap'):
    found[f'config.data.{name}'] = getattr(group, name)
  found['config.data.column'] = names(group.column) or ('text',)
  # When a stage begins depends on how long a run is.
  found['config.data.stages'] = [shares(weights) for _, weights in group.stages]
  found['config.init'] = settings.init
  found['config.method'] = methods.name_of(settings.method)
  return found


def _objective(group: Mapping[str, Any]) -> dict[str, Any]:
  """The settings of an objective, those that a config leaves out among them."""
  entry = objectives.OBJECTIVES[group['name']]
  found = {}
  for name, parameter in inspect.signature(entry.make).parameters.items():
    # Without a value it is of the tokenizer, or follows from the others.
    if parameter.default not in (inspect.Parameter.empty, None):
      found[name] = parameter.default
  return found | dict(group)


def shares(weights: Mapping[str, float]) -> dict[str, float]:
  """The part of the rows that each source is given: weights need not sum to 1."""
  total = sum(weights.values())
  return {name: round(each / total, 6) for name, each in weights.items() if each}


def _contents(meta: Mapping[str, Any]) -> tuple[str, ...]:
  """What names the content of the sources of a run: of sets and of the user's files."""
  sets, own = meta.get('sets') or {}, meta.get('files') or {}
  return tuple(sorted([*sets.values(), *own.values()]))


def _tokenizer(folder: pathlib.Path, meta: Mapping[str, Any]) -> dict[str, str]:
  """What names the tokenizer of a run: the `digest` of its checkpoint, and that of its
  `file`; each where it is known.
  """
  found = {}
  said = meta.get('tokenizer')
  if said:
    found['digest'] = said['digest']
  path = folder / TOKENIZER
  if path.is_file():
    _, found['file'] = files.digest(path)
  return found


def differences(first: Measured, other: Measured) -> list[str]:
  """What makes the losses of two runs losses of different things, a line each."""
  found = []
  name = 'config.objective.name'
  keys = sorted(first.keys.keys() | other.keys.keys())
  if first.keys[name] != other.keys[name]:
    # Every objective has keys of its own, which say no more.
    keys = [name, *(key for key in keys if not key.startswith('config.objective.'))]
  for key in keys:
    one, two = first.keys.get(key), other.keys.get(key)
    if one != two:
      found.append(f'{key} is {_shown(two)}, there {_shown(one)}')
  return [*found, *_of_texts(first, other), *_of_tokenizers(first, other)]


def _of_texts(first: Measured, other: Measured) -> list[str]:
  """What differs in the sources and their shares."""
  one, two = dict(first.mixture), dict(other.mixture)
  if one.keys() == two.keys():
    if first.contents and other.contents and first.contents != other.contents:
      return [f'the texts of config.data.mixture have changed ({", ".join(one)})']
  elif first.contents and first.contents == other.contents:
    # The same files by other paths: what is left to compare are their shares.
    one, two = sorted(one.values()), sorted(two.values())
  if one == two:
    return []
  return [f'config.data.mixture is {_shown(two)}, there {_shown(one)}']


def _of_tokenizers(first: Measured, other: Measured) -> list[str]:
  """A line, or none, on tokenizers that differ: their losses are of other pieces."""
  # Of a run without a digest only the file can be asked.
  for name in ('digest', 'file'):
    one, two = first.tokenizer.get(name), other.tokenizer.get(name)
    if one and two:
      return [] if one == two else [f'another tokenizer ({TOKENIZER})']
  return []


def _shown(value: Any) -> str:
  """A value of a config as an error has it."""
  text = files.encode(value)
  return text if len(text) <= 60 else f'{text[:40]}... ({digest({"value": value})[:8]})'
