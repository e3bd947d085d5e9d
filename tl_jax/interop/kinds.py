"""Which kind of model a `config.json` is of, so that a hint names models of its own
kind only.

>>> kind_of_config(dict(model_type='deberta', architectures=['DebertaForMaskedLM']))
'encoder'
>>> kind_of_config(dict(model_type='mystery')) is None
True
"""

import re
from collections.abc import Mapping

from tl_jax import tree
from tl_jax.interop.family import Family

# What the name of a class ends with, and keys that only configurations of one kind
# have.
CLASSES = (
  ('encoder-decoder', r'ForConditionalGeneration'),
  ('decoder', r'ForCausalLM|LMHeadModel'),
  (
    'encoder',
    r'ForMaskedLM|ForPreTraining|ForMultipleChoice|ForNextSentencePrediction',
  ),
)
KEYS = (
  (
    'encoder-decoder',
    ('decoder_layers', 'num_decoder_layers', 'decoder_start_token_id'),
  ),
  ('encoder', ('type_vocab_size', 'attention_window', 'relative_attention')),
  (
    'decoder',
    (
      'num_key_value_heads',
      'rms_norm_eps',
      'sliding_window',
      'n_ctx',
      'n_inner',
      'multi_query',
    ),
  ),
)


def kind_of_family(family: Family) -> str:
  """The kind of a family that we know."""
  if 'causal' not in family.heads:
    return 'encoder'
  return family.fixed.get('kind', 'encoder-decoder')


def kind_of_config(config: dict) -> str | None:
  """The kind of model that a configuration speaks of, by what it says; None where
  nothing tells.
  """
  if config.get('is_encoder_decoder') is True:
    return 'encoder-decoder'
  named = config.get('architectures')
  first = str(named[0]) if isinstance(named, list) and named else ''
  for kind, endings in CLASSES:
    if re.search(f'({endings})$', first):
      return kind
  family = str(config.get('model_type')).lower()
  if 'bert' in family:
    return 'encoder'
  for kind, keys in KEYS:
    if any(config.get(key) is not None for key in keys):
      return kind
  return None


def nearest(name: str, kind: str | None, families: Mapping[str, Family]) -> str:
  """The families of a kind whose names look most like this one; all that there are
  where the kind is unknown.
  """
  if kind is None:
    return ', '.join(map(repr, families))
  of_kind = []
  for other, family in families.items():
    if kind_of_family(family) == kind:
      of_kind.append(other)
  return tree.nearest(name, of_kind)
