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


def with_new_names(config: dict, prefix: str = '') -> dict:
  """The config that an earlier version wrote, as nested dicts with the keys of today."""
  found = {}
  for key, value in config.items():
    path = f'{prefix}{key}'
    name = RENAMED.get(path, path).removeprefix(prefix)
    is_group = isinstance(value, dict)
    found[name] = with_new_names(value, f'{path}.') if is_group else value
  return found
