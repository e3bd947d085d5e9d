"""Keys that an earlier version called something else.

>>> with_new_names({'data': {'slots': 8, 'length': 64}})
{'data': {'examples_per_row': 8, 'length': 64}}
"""

# The dotted key of an earlier version -> that of today. The group is the same.
RENAMED = {'data.slots': 'data.examples_per_row'}


def new_name(key: str) -> str | None:
  """The last part of the key that is meant by the last part of a former key."""
  last = key.rpartition('.')[2]
  for former, current in RENAMED.items():
    if former.rpartition('.')[2] == last:
      return current.rpartition('.')[2]
  return None


def with_new_names(config: dict) -> dict:
  """The config that an earlier version wrote, as nested dicts with the keys of today."""
  return _renamed(config, RENAMED)


def with_former_names(config: dict) -> dict:
  """The config as an earlier version would have it.

  A hash of this is that of the same config before its keys had other names.
  """
  return _renamed(config, {current: former for former, current in RENAMED.items()})


def _renamed(config: dict, names: dict[str, str], prefix: str = '') -> dict:
  """The config with the dotted keys in `names` under their other names."""
  found = {}
  for key, value in config.items():
    path = f'{prefix}{key}'
    name = names.get(path, path).removeprefix(prefix)
    is_group = isinstance(value, dict)
    found[name] = _renamed(value, names, f'{path}.') if is_group else value
  return found
