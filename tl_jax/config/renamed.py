"""Keys that an earlier version called something else.

>>> with_new_names({'data': {'slots': 8, 'length': 64}})
{'data': {'examples_per_row': 8, 'length': 64}}
"""

# The dotted key of an earlier version -> that of today. The group is the same.
RENAMED = {
  'data.slots': 'data.examples_per_row',
  'objective.whole_word': 'objective.masking',
}
# Of a key that has other values today, too: that of an earlier version -> that of today.
REVALUED = {'objective.masking': {False: 'pieces', True: 'words'}}


def new_name(key: str) -> str | None:
  """The last part of the key that is meant by the last part of a former key."""
  last = key.rpartition('.')[2]
  for former, current in RENAMED.items():
    if former.rpartition('.')[2] == last:
      return current.rpartition('.')[2]
  return None


def with_new_names(config: dict) -> dict:
  """The config that an earlier version wrote, as nested dicts with the keys of today."""
  values = {former: REVALUED.get(current, {}) for former, current in RENAMED.items()}
  return _renamed(config, RENAMED, values)


def with_former_names(config: dict) -> dict:
  """The config as an earlier version would have it.

  A hash of this is that of the same config before its keys had other names.
  """
  names = {current: former for former, current in RENAMED.items()}
  values = {}
  for key, own in REVALUED.items():
    values[key] = {current: former for former, current in own.items()}
  return _renamed(config, names, values)


def _renamed(
  config: dict, names: dict[str, str], values: dict[str, dict], prefix: str = ''
) -> dict:
  """The config with the dotted keys in `names` under their other names.

  values: by such a key, what stands for which of its values.
  """
  found = {}
  for key, value in config.items():
    path = f'{prefix}{key}'
    name = names.get(path, path).removeprefix(prefix)
    if isinstance(value, dict):
      found[name] = _renamed(value, names, values, f'{path}.')
    elif isinstance(value, bool | str):
      found[name] = values.get(path, {}).get(value, value)
    else:
      found[name] = value
  return found
