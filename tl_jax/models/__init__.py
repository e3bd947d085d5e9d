"""Encoders, decoders and encoder-decoders from one backbone, as pure functions of
nested dicts of arrays.

>>> from tl_jax.models import arch, count
>>> count(arch('bert-tiny'))
4385920
"""

from tl_jax.models.arch import Arch, Compute, complete
from tl_jax.models.axes import axes_of
from tl_jax.models.backbone import Model, Outputs, build, count, reads_columns
from tl_jax.models.blocks import scans
from tl_jax.models.decoding import Decoder, decoder
from tl_jax.models.families import FAMILIES, arch
from tl_jax.models.forms import require_form, require_platform
from tl_jax.models.generator import (
  discriminator_params,
  generator_arch,
  generator_params,
)
from tl_jax.models.heads import NO_CANDIDATE, adopt_pooler, sinusoids, unread
from tl_jax.models.limits import require_rows
from tl_jax.models.pooling import POOLS, embed, embed_layers
from tl_jax.models.stacks import STACKS, stack_layers

__all__ = [
  'POOLS',
  'FAMILIES',
  'NO_CANDIDATE',
  'STACKS',
  'Arch',
  'Compute',
  'Decoder',
  'Model',
  'Outputs',
  'adopt_pooler',
  'arch',
  'axes_of',
  'build',
  'complete',
  'count',
  'decoder',
  'discriminator_params',
  'embed',
  'embed_layers',
  'generator_arch',
  'generator_params',
  'reads_columns',
  'require_form',
  'require_platform',
  'require_rows',
  'scans',
  'sinusoids',
  'stack_layers',
  'unread',
]
