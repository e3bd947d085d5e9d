"""The members of a sweep: every point of its space as a config of its own, with a stable
name.

>>> import pathlib, tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / 'sweep.py'
>>> _ = path.write_text('''
... from tl_jax.scale import space
... SWEEP = space.base('configs/transfer.py:task=topic') * space.product(seed=[1, 2])
... ''')
>>> listing = open_sweep(path)
>>> [member.id.partition('-')[0] for member in listing.members]
['seed=1', 'seed=2']
>>> listing.config(listing.members[1])['seed']
2
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tl_jax import config as configs
from tl_jax import files
from tl_jax.config import ConfigError
from tl_jax.scale.space import Point, Space

# The members of a sweep, frozen in its workdir: whoever runs one by its number finds
# there what the number meant when it was handed out.
FILE = 'sweep.json'
FOLDER = 'members'
# What a sweep file may define beside its space.
METRIC = 'METRIC'
LAUNCH = 'LAUNCH'
HALVING = 'HALVING'
# Hexadecimal digits of a config's digest in an id: of 10,000 members two are the same by
# chance once in 20,000 sweeps.
_DIGITS = 10
# File systems have a limit of 255 bytes, and a person one that is lower.
_LONGEST_NAME = 80


class Member(NamedTuple):
  """One run of a sweep.

  id: what it differs in and a digest of its config, the name of its folder. fields:
  dotted key -> value as JSON has it, what differs from the base.
  """

  number: int
  id: str
  base: str
  fields: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Listing:
  """A sweep written out.

  bases: spec -> config as JSON has it. metric: by which members are compared, '' for
  the headline of their task. launch: the settings of launchers that the file has.
  halving: the steps at which the best of each cohort alone go on, {} for none.
  repeated: how many points were equal to an earlier one and left out.
  """

  file: str
  bases: Mapping[str, dict]
  members: tuple[Member, ...]
  metric: str = ''
  launch: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  halving: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  repeated: int = 0

  def config(self, member: Member) -> dict:
    """The config of a member as plain values, such as a workdir's config.json holds."""
    return _with_fields(self.bases[member.base], member.fields)

  def member(self, number: int) -> Member:
    """A member by its number. Raises ConfigError where there is none."""
    if not 0 <= number < len(self.members):
      raise ConfigError(
        f'--member: {self.file} has {len(self.members)} members, numbered from 0; '
        f'there is no {number}'
      )
    return self.members[number]

  def read_halving(self):
    """The `train.halving.Halving` of the sweep, None for none.

    Raises ConfigError for what is none.
    """
    if not self.halving:
      return None
    # Here, because it loads jax, which few sweeps need to be read.
    from tl_jax.train.halving import Halving

    return configs.struct(Halving, self.halving, HALVING)

  def shared(self) -> dict[str, Any]:
    """The fields that all members set to the same value."""
    found = dict(self.members[0].fields)
    for member in self.members:
      for key in list(found):
        if key not in member.fields or member.fields[key] != found[key]:
          del found[key]
    return found

  def to_json(self) -> dict:
    members = [member._asdict() for member in self.members]
    return dict(
      file=self.file,
      bases=dict(self.bases),
      members=members,
      metric=self.metric,
      launch=dict(self.launch),
      halving=dict(self.halving),
      repeated=self.repeated,
    )


def open_sweep(path: str | os.PathLike, workdir: pathlib.Path | None = None) -> Listing:
  """The members of a sweep file; those that a workdir knows keep their names there.

  The file defines SWEEP, a space, or `sweep()`, which returns one. Every field is
  checked as an override of the command line is. Raises ConfigError of one line for
  whatever is wrong.
  """
  path = configs.locate(str(path))
  module = configs.execute(path)
  space = _space_of(path, module)
  metric = getattr(module, METRIC, '')
  if not isinstance(metric, str):
    raise ConfigError(f'{path}: {METRIC} is the name of a metric, got {metric!r}')
  known = {} if workdir is None else _known_ids(workdir)
  listing = dataclasses.replace(
    expand(space, str(path), known),
    metric=metric,
    launch=_settings_of(path, module, LAUNCH),
    halving=_settings_of(path, module, HALVING),
  )
  # What is wrong is said before anything runs.
  listing.read_halving()
  return listing


def _settings_of(path: pathlib.Path, module, name: str) -> dict:
  """The dict that a sweep file has under a name; {} for none."""
  found = getattr(module, name, {})
  if not isinstance(found, dict):
    raise ConfigError(f'{path}: {name} is a dict of settings, got {found!r}')
  return found


def _space_of(path: pathlib.Path, module) -> Space:
  """The space that a sweep file defines."""
  function = getattr(module, 'sweep', None)
  if callable(function):
    space = configs.guard(path, function)
    what = 'sweep()'
  else:
    space = getattr(module, 'SWEEP', None)
    what = 'SWEEP'
  if space is None:
    raise ConfigError(
      f'{path}: defines neither sweep() nor SWEEP, a space of tl_jax.scale.space'
    )
  if not isinstance(space, Space) or not space.points:
    raise ConfigError(f'{path}: {what} is no space of at least one point')
  return space


def expand(space: Space, file: str, known: Mapping[str, str] | None = None) -> Listing:
  """The members of a space: its points, each once.

  known: digest of a config -> the id that it has already.
  Raises ConfigError that names the point for a field that is not there or cannot have
  its value.
  """
  bases = {}
  members: dict[str, Member] = {}
  name_of = _Names(space)
  for number, point in enumerate(space):
    if not point.base:
      raise ConfigError(f'{file}: point {number} has no base config: base(...) * ...')
    # Once for all of its points: to execute a config file takes its time.
    if point.base not in bases:
      bases[point.base] = Base.load(point.base)
    try:
      fields = bases[point.base].typed(point.fields)
    except ConfigError as error:
      raise ConfigError(f'{file}: point {number}: {error}') from error
    plain = _with_fields(bases[point.base].json, fields)
    digest = _digest(plain)[:_DIGITS]
    # Two points may come to the same config; it is run once.
    if digest not in members:
      found = (known or {}).get(digest)
      identifier = found or f'{name_of.point(point)}-{digest}'
      members[digest] = Member(len(members), identifier, point.base, fields)
  return Listing(
    file=file,
    bases={spec: found.json for spec, found in bases.items()},
    members=tuple(members.values()),
    repeated=len(space) - len(members),
  )


class Base(NamedTuple):
  """A base config, read once: its values, of the types that overrides are held against,
  and as JSON.
  """

  values: dict
  json: dict

  @classmethod
  def load(cls, spec: str) -> 'Base':
    found = configs.load(spec)
    return cls(configs.plain(found), configs.to_json(found))

  def typed(self, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as JSON has them, each read as the command line would read it.

    Raises ConfigError for a key that the config lacks, with the nearest one.
    """
    found = {}
    for key, value in fields.items():
      # By way of its text, so that a file and the command line have one rule.
      present = configs.value_at(self.values, key)
      read = configs.typed(as_text(value), present, f'config.{key}')
      found[key] = configs.to_json({'value': read})['value']
    return found


def as_text(value: Any) -> str:
  """A value as one writes it behind `--config.KEY=`."""
  if isinstance(value, str):
    return value
  # A scalar of numpy would be written with its type.
  if hasattr(value, 'item') and getattr(value, 'shape', None) == ():
    value = value.item()
  return repr(configs.plain(value))


def _with_fields(config: dict, fields: Mapping[str, Any]) -> dict:
  """The config with other values at some dotted keys; what is equal is shared."""
  changed = dict(config)
  for key, value in fields.items():
    *groups, last = key.split('.')
    node = changed
    for name in groups:
      # Copied on the way: the groups of the base belong to all members.
      node[name] = dict(node[name])
      node = node[name]
    node[last] = value
  return changed


def _digest(plain: dict) -> str:
  """What `config.digest` gives, of a config that is canonical already."""
  text = json.dumps(plain, sort_keys=True, separators=(',', ':'), allow_nan=False)
  return hashlib.sha256(text.encode()).hexdigest()


class _Names:
  """The readable half of ids: what a point sets that not all points set alike."""

  def __init__(self, space: Space):
    first = space.points[0]
    self._differs = {
      key
      for point in space
      for key, value in point.fields.items()
      if repr(first.fields.get(key)) != repr(value)
    }
    # A field of the first point that another one lacks differs, too.
    for point in space:
      self._differs |= first.fields.keys() - point.fields.keys()
    specs = dict.fromkeys(point.base for point in space)
    self._bases = _short_names(list(specs))

  def point(self, point: Point) -> str:
    """A name for people, of letters that every file system takes."""
    words = [self._bases[point.base]] if self._bases[point.base] else []
    for key in sorted(self._differs & point.fields.keys()):
      value = point.fields[key]
      shown = f'{value:.4g}' if isinstance(value, float) else as_text(value)
      words.append(f'{key.rpartition(".")[2]}={shown}')
    # No comma: it would part the arguments of a config whose init is such a folder.
    plain = re.sub(r'[^A-Za-z0-9_.+=-]+', '_', '-'.join(words))
    return plain.strip('.-')[:_LONGEST_NAME] or 'run'


def _short_names(specs: list[str]) -> dict[str, str]:
  """spec -> the parts of it that not all specs have; '' where there is one spec."""
  if len(specs) < 2:
    return dict.fromkeys(specs, '')
  parts = {}
  for spec in specs:
    name, _, argument = spec.partition(':')
    parts[spec] = [pathlib.PurePath(name).stem, *argument.split(',')]
  common = set.intersection(*map(set, parts.values()))
  found = {}
  for spec, words in parts.items():
    own = [word.rpartition('/')[2] for word in words if word not in common]
    found[spec] = '-'.join(filter(None, own))
  return found


def _known_ids(workdir: pathlib.Path) -> dict[str, str]:
  """digest -> id of the members that a workdir has: an edited file keeps their names."""
  found = files.find_json(workdir / FILE) or {}
  known = {}
  for member in found.get('members', ()):
    identifier = member.get('id', '') if isinstance(member, dict) else ''
    known[identifier[-_DIGITS:]] = identifier
  return known


def write_listing(listing: Listing, workdir: pathlib.Path) -> None:
  """Freezes the members in the workdir."""
  content = files.encode(listing.to_json()) + '\n'
  files.write_atomically(workdir / FILE, content.encode())


def read_listing(workdir: pathlib.Path) -> Listing | None:
  """The members that a workdir has; None where no sweep was started there.

  Raises ConfigError where its list cannot be read.
  """
  path = workdir / FILE
  if not path.exists():
    return None
  found = files.find_json(path)
  try:
    members = tuple(Member(**each) for each in found['members'])
    return Listing(**{**found, 'members': members})
  except (TypeError, KeyError) as error:
    raise ConfigError(f'{path}: is no list of the members of a sweep') from error


def numbers_of(text: str) -> tuple[int, ...]:
  """The numbers in a text like `3`, `0-7` or `0-7,12`. Raises ConfigError for others.

  >>> numbers_of('0-2,7')
  (0, 1, 2, 7)
  """
  found: list[int] = []
  for part in text.split(','):
    bounds = re.fullmatch(r'\s*(\d+)(?:-(\d+))?\s*', part)
    if not bounds:
      raise ConfigError(f'--member: needs numbers, as 3 or 0-7,12; got {text!r}')
    first = int(bounds[1])
    last = int(bounds[2] or first)
    found += range(first, last + 1)
  return tuple(dict.fromkeys(found))


def as_ranges(numbers: Iterable[int]) -> str:
  """The text that `numbers_of` reads as these.

  >>> as_ranges([0, 1, 2, 7])
  '0-2,7'
  """
  runs: list[list[int]] = []
  for number in sorted(numbers):
    if runs and number == runs[-1][1] + 1:
      runs[-1][1] = number
    else:
      runs.append([number, number])
  words = []
  for first, last in runs:
    words.append(f'{first}' if first == last else f'{first}-{last}')
  return ','.join(words)
