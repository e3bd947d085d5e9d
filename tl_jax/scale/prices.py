"""What chips cost: a small dated table, which a file of the user can replace.

>>> table = read()
>>> table['currency'], table['prices']['v5e'] > 0
('USD', True)
"""

import importlib.resources
import json
import pathlib
from collections.abc import Mapping

from tl_jax.config import ConfigError, beside
from tl_jax.scale.chips import CHIPS
from tl_jax.scale.topology import Topology

FILE = importlib.resources.files('tl_jax.scale').joinpath('prices.json')


def read(path: str | None = None) -> dict:
  """The table of a JSON file, or the one that came with the package.

  It has `prices`, of a chip for an hour by the name of the chip, and may have `date`,
  `currency` and `source`. Raises ConfigError for a file that is no such table.
  """
  if path is None:
    return json.loads(FILE.read_text('utf-8'))
  try:
    found = json.loads(pathlib.Path(path).read_text('utf-8'))
  except OSError as error:
    reason = error.strerror or error
    raise ConfigError(f'--prices: {path}: {reason}{beside(path)}') from error
  except ValueError as error:
    raise ConfigError(f'--prices: {path}: {error}') from error
  _require_prices(path, found)
  return dict(date='', currency='USD', source=str(path)) | found


def _require_prices(path: str, found) -> None:
  """Raises ConfigError where the content of a file is no table of prices."""
  prices = found.get('prices') if isinstance(found, dict) else None
  if not isinstance(prices, dict):
    raise ConfigError(
      f'--prices: {path}: needs an object \'prices\', as {{"v5e": 1.2}}'
    )
  for chip, price in prices.items():
    if chip not in CHIPS:
      known = ', '.join(CHIPS)
      raise ConfigError(f'--prices: {path}: unknown chip {chip!r}; known: {known}')
    if isinstance(price, bool) or not isinstance(price, int | float) or price < 0:
      raise ConfigError(f'--prices: {path}: {chip}: {price!r} is no price')


def per_hour(table: Mapping, topology: Topology) -> float | None:
  """What a topology costs for an hour; None where the table has no such chip."""
  price = table['prices'].get(topology.chip)
  if price is None:
    return None
  return price * topology.devices / topology.kind.per_chip
