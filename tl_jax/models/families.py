"""The published sizes by name.

>>> arch('bert-base').width, arch('bert-base', layers=6).layers
(768, 6)
"""

from tl_jax.config import lookup, struct
from tl_jax.models import published_decoders as decoders
from tl_jax.models import published_encoder_decoders as encoder_decoders
from tl_jax.models import published_encoders as encoders
from tl_jax.models.arch import Arch

# Sizes of our own that train within seconds, for tests and first runs.
_DEMO = dict(heads=4, max_positions=128, pool='mean', pooler='', pooler_place='head')
_TINY = {
  'tiny': encoders.bert(2, 64, heads=2, max_positions=128),
  'tiny-gpt': decoders.gpt(2, 64, 2, max_positions=128),
  'tiny-t5': encoder_decoders.t5(2, 64, 2, 128, head_dim=32),
  'tiny-ul2': encoder_decoders.ul2(2, 64, 2, 128, head_dim=32),
  'tiny-bart': encoder_decoders.bart(2, 64, 2, max_positions=130),
  'tiny-electra': encoders.electra(
    2, 64, 4, max_positions=128, embedding_width=32, generator=16
  ),
  'demo': encoders.bert(3, 128, **_DEMO),
}
FAMILIES = _TINY | encoders.SIZES | decoders.SIZES | encoder_decoders.SIZES


def arch(family: str, **fields) -> Arch:
  """The named size with any field changed. Raises ConfigError with the nearest name."""
  size = lookup(FAMILIES, family, 'config.model.family')
  return struct(Arch, size | fields, 'config.model')
