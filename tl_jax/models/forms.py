"""Which form of attention runs: the kernel of the platform, blocks, or whole products.

>>> from tl_jax.models.arch import Arch, Compute
>>> t5 = Arch(positions='relative')
>>> try:
...   require_form(t5, Compute(attention='splash'))
... except ConfigError as error:
...   print(error)
config.compute.attention: 'splash' has no bias by position; 'auto' and 'xla' have
"""

import jax
import jax.numpy as jnp

from tl_jax import parallel
from tl_jax.config import ConfigError
from tl_jax.models import blockwise, cudnn, splash
from tl_jax.models.arch import Arch, Compute
from tl_jax.models.operands import Operands, gather, on_every_device
from tl_jax.models.relative import PositionBias
from tl_jax.models.sight import Sight

# The platform of each kernel.
PLATFORM = dict(splash='tpu', cudnn='gpu')
# Fewer queries than this are no work for a kernel.
FEWEST = 128


def require_form(arch: Arch, compute: Compute) -> None:
  """Raises ConfigError for a kernel that cannot compute what the model is."""
  kernel = compute.attention
  if kernel not in PLATFORM:
    return
  lacks = ''
  if arch.relative:
    lacks = 'bias by position'
  elif compute.dropout:
    lacks = 'dropout of attention weights (compute.dropout)'
  elif kernel == 'cudnn':
    lacks = cudnn.lacks(arch.attention_cap, arch.head_width, compute.dtype)
  if lacks:
    raise _refused(kernel, f'has no {lacks}', "'auto' and 'xla' have")


def attend(
  form: str,
  query,
  keys,
  values,
  sight: Sight,
  *,
  bias=None,
  cap: float = 0.0,
  rate: float = 0.0,
  key=None,
):
  """What every query gathers (batch, queries, key heads, groups, head); None where whole
  products are the form.

  form: of `Compute.attention`. A kernel that was named and cannot compute this raises
  ConfigError; 'auto' then goes on without one.
  bias: an array as in `Operands`, or a `PositionBias`.
  """
  if rate == 0.0:
    key = None
  operands = gather(query, keys, values, sight, bias, key)
  target = parallel.target_platform()
  if form in PLATFORM:
    _require_kernel(form, target, operands, sight, cap)
    return _run_kernel(form, operands, sight, cap)
  if form == 'auto':
    for kernel, platform in PLATFORM.items():
      is_worth_it = query.shape[1] >= FEWEST
      if (
        platform == target and is_worth_it and not _lacks(kernel, operands, sight, cap)
      ):
        return _run_kernel(kernel, operands, sight, cap)
  rows, queries, heads, groups, _ = query.shape
  if not blockwise.is_long(rows, queries, heads * groups, keys.shape[2]):
    return None
  distance = bias._replace(table=None) if isinstance(bias, PositionBias) else None
  return blockwise.attend(
    operands, causal=sight.causal, cap=cap, rate=rate, distance=distance
  )


def require_platform(form: str, platform: str) -> None:
  """Raises ConfigError for a kernel that was named and is for another platform."""
  if form not in PLATFORM:
    return
  # The interpreter runs the one for TPUs on a CPU.
  places = ('tpu', 'cpu') if form == 'splash' else ('gpu',)
  if platform not in places:
    kernels = {PLATFORM[name]: name for name in PLATFORM}
    other = kernels.get(platform, 'xla')
    raise _refused(form, f'is not for a {platform}', f"'auto' and {other!r} are")


def _require_kernel(kernel, target, operands: Operands, sight: Sight, cap) -> None:
  """Raises ConfigError where a kernel that was named cannot run."""
  require_platform(kernel, target)
  lacks = _lacks(kernel, operands, sight, cap)
  if lacks:
    raise _refused(kernel, f'has no {lacks}', "'auto' and 'xla' have")


def _refused(kernel: str, reason: str, others: str) -> ConfigError:
  return ConfigError(f'config.compute.attention: {kernel!r} {reason}; {others}')


def _lacks(kernel: str, operands: Operands, sight: Sight, cap: float) -> str:
  """What a kernel lacks for this attention, in words; '' where it can compute it."""
  if operands.bias is not None or operands.table is not None:
    return 'bias by position'
  if sight.prefix:
    return 'keys of a prefix'
  if operands.key is not None:
    return 'dropout of attention weights (compute.dropout)'
  if sight.hides_by_position:
    lacks = _lacks_of_columns(operands, sight)
    if lacks:
      return lacks
  if kernel != 'cudnn':
    return ''
  head = operands.query.shape[-1]
  dtype = jnp.dtype(operands.query.dtype).name
  return cudnn.lacks(cap, head, dtype) or cudnn.refuses(operands, sight)


def _lacks_of_columns(operands: Operands, sight: Sight) -> str:
  """Why a kernel that counts columns hides other keys than positions would; or ''."""
  if operands.query.shape[1] != operands.keys.shape[2]:
    return 'fewer queries than keys'
  if not sight.in_order:
    return 'positions that a batch brings'
  return ''


def _run_kernel(kernel: str, operands: Operands, sight: Sight, cap: float):
  if kernel == 'cudnn':
    return on_every_device(lambda local, _: cudnn.attend(local, sight.causal), operands)
  if not sight.hides_by_position:
    return splash.attend(operands, causal=False, window=0, cap=cap)

  def run(window: int):
    return lambda operands: splash.attend(
      operands, causal=sight.causal, window=window, cap=cap
    )

  if isinstance(sight.window, int):
    return run(sight.window)(operands)
  # Where layers are scanned, their window is traced. A kernel's table of tiles is not,
  # so there is a kernel for each.
  windows = sorted(set(sight.windows))
  if len(windows) == 1:
    return run(windows[0])(operands)
  index = jnp.searchsorted(jnp.array(windows), operands.window)
  return jax.lax.switch(index, [run(window) for window in windows], operands)
