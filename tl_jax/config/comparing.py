"""Two configs compared, key by key: what a folder was made by, and what is asked now.

>>> compare({'optim': {'lr': 1}, 'seed': 0}, {'optim': {'lr': 2}, 'seed': 0})
{'optim.lr': 'optim.lr: 1 -> 2'}
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tl_jax.config.overrides import to_json
from tl_jax.config.renamed import with_new_names

# Keys that an error names before it counts the rest.
_MOST_LISTED = 6


def require_same(
  before: Any, after: Any, where: str, allowed: Iterable[str] = (), usual: Any = None
) -> None:
  """Raises ValueError with the keys in which two configs differ, old and new.

  `where` begins the message. `allowed` has regular expressions of dotted keys that may
  differ. `usual` says what a key means where a config does not have it, as one that was
  written before there was such a key.
  """
  patterns = [re.compile(pattern) for pattern in allowed]
  refused = []
  for key, line in compare(before, after, usual).items():
    if not any(pattern.fullmatch(key) for pattern in patterns):
      refused.append(line)
  if not refused:
    return
  listed = '; '.join(refused[:_MOST_LISTED])
  if len(refused) > _MOST_LISTED:
    listed += f'; and {len(refused) - _MOST_LISTED} more'
  raise ValueError(f'{where}: {listed}; take another workdir, or the old values')


def compare(before: Any, after: Any, usual: Any = None) -> dict[str, str]:
  """Dotted key -> `key: old -> new` for every leaf in which two configs differ.

  The keys of `before` may be those of an earlier version.
  `usual` says what a key means where a config does not have it.
  """
  old = dict(_leaves(with_new_names(before)))
  new = dict(_leaves(after))
  meant = dict(_leaves(to_json(usual or {})))
  found = {}
  for key in sorted(old.keys() | new.keys()):
    default = meant.get(key)
    if old.get(key, default) != new.get(key, default):
      # What was written, not what it means: that is what the user looks for.
      was = old.get(key, 'absent')
      now = new.get(key, 'absent')
      found[key] = f'{key}: {was} -> {now}'
  return found


def _leaves(value: Any, path: str = '') -> Iterator[tuple[str, str]]:
  """(dotted key, JSON text) of every leaf of a config; an empty dict is a leaf."""
  if isinstance(value, dict) and (value or not path):
    for key, child in value.items():
      yield from _leaves(child, f'{path}.{key}' if path else key)
  else:
    # 1 and 1.0 are the same setting.
    if isinstance(value, float) and value.is_integer():
      value = int(value)
    yield path, json.dumps(to_json(value), sort_keys=True, separators=(',', ':'))
