"""Is a classifier of ours one of transformers, and what would make it one?

>>> mean = Arch(kind='encoder-decoder', norm='rms', norm_place='before', bias='none',
...             positions='relative', attention_scale=1.0, activation='relu',
...             norm_eps=1e-6, head='classifier', pool='mean', init='fan_in')
>>> refusal(mean).partition(';')[0]
"T5ForSequenceClassification of transformers has pool='last', pooler='tanh'"

Our classifier over an encoder-decoder reads the mean of the encoder's states and leaves
the decoder out. Those of transformers read the decoder's state at the last token of the
text, through a dense layer (Lewis et al. 2020, section 3.1).
"""

import dataclasses

from tl_jax.interop import configs, kinds
from tl_jax.interop.families import FAMILIES
from tl_jax.models import Arch

# Fields of an architecture that only its classifier reads: a transfer may choose them.
READING = ('pool', 'pooler', 'head_bias')
# Heads whose last product has a bias in some families.
WITH_BIAS = ('causal', 'classifier', 'choice', 'token', 'span')


def refusal(arch: Arch, config: dict | None = None) -> str:
  """Why transformers has no such classifier over this body; '' where it has.

  config: the `config.json` of the body, where it came from a folder. Where a transfer
  can make one that transformers has, the reason ends with the setting for it. Nothing
  is said of another head, nor of a body that no family has.
  """
  if not arch.reads_examples:
    return ''
  found = _body(arch, config)
  if found is None or not configs.unlikeness(arch, found[1]):
    return ''
  body, family = found
  classes = FAMILIES[family].heads
  kind = kinds.kind_of_family(FAMILIES[family])
  is_half = arch.kind == 'encoder' and kind == 'encoder-decoder'
  if is_half or arch.head not in classes:
    which = f'{family} without its decoder' if is_half else family
    return _no_class(arch, which)
  wanted = _wanted(arch, body, family)
  mended = dataclasses.replace(arch, **wanted)
  # Something else is missing, too: the export itself says what.
  if configs.unlikeness(mended, family):
    return ''
  said = ', '.join(f'{field}={value!r}' for field, value in wanted.items())
  return (
    f'{classes[arch.head]} of transformers has {said}; a transfer '
    f'with --config.model="{wanted}" makes such a classifier'
  )


def _no_class(arch: Arch, which: str) -> str:
  """Why a family, or what is left of it, has no class for a head at all."""
  what = 'class for multiple choice' if arch.head == 'choice' else 'classifier'
  return (
    f'transformers has no {what} over a {which}; the workdir itself is what '
    'tl_jax.load and `tl-jax evaluate` open'
  )


def _wanted(arch: Arch, body: Arch, family: str) -> dict:
  """The fields of `READING` that differ in the family's own classifier, as it has them.

  body: the architecture without its head.
  """
  theirs = configs.read(configs.write(body, family), arch.head)
  wanted = {}
  for field in READING:
    value = getattr(theirs, field)
    if getattr(arch, field) != value:
      wanted[field] = value
  return wanted


def require_class(arch: Arch, config: dict | None = None) -> None:
  """Raises ValueError for a classifier that transformers has not."""
  found = refusal(arch, config)
  if found:
    raise ValueError(f'this classifier cannot be exported: {found}')


def in_its_family(arch: Arch, head: str) -> Arch:
  """The architecture of a body that is to have another head, in what its family says of
  that: the bias and the pooling.

  A pooling that is not the family's own was chosen, and stays. All stays where no family
  has such a body.
  """
  if head not in WITH_BIAS:
    return arch
  config = _config_of(arch)
  if config is None:
    return arch
  before, theirs = configs.read(config, arch.head), configs.read(config, head)
  fields = dict(head_bias=theirs.head_bias)
  # Of a folder's own pre-training head nothing is pooled: it says nothing of a classifier.
  if (arch.pool, arch.pooler) == (before.pool, before.pooler):
    fields |= dict(pool=theirs.pool, pooler=theirs.pooler)
  return dataclasses.replace(arch, **fields)


def _config_of(arch: Arch) -> dict | None:
  """The `config.json` of an architecture, or of its body alone; None where no family has
  either.
  """
  try:
    return configs.write(arch, configs.fitting(arch))
  except ValueError:
    found = _body(arch, None)
  return None if found is None else configs.write(*found)


def _body(arch: Arch, config: dict | None) -> tuple[Arch, str] | None:
  """(the architecture without its head, the family of that); None where none has it."""
  said = (config or {}).get('model_type')
  # A pooler that belongs to the body reads what the family has it read.
  for pool in (arch.pool, 'first', 'last', 'mean'):
    body = dataclasses.replace(arch, head='none', pool=pool)
    try:
      family = said or configs.fitting(body)
      configs.write(body, family)
    except ValueError:
      continue
    return body, family
  return None
