"""Do two architectures compute the same, though they say it with other fields?

>>> bert = Arch()
>>> difference(bert, dataclasses.replace(bert, kv_heads=bert.heads)) is None
True
>>> difference(bert, dataclasses.replace(bert, norm='rms'))
'norm'
"""

import dataclasses

from tl_jax.models import Arch

# Fields that do not change what a given head computes.
FREE = ('init', 'init_std', 'labels', 'tied', 'pair_head', 'generator')


def difference(first: Arch, second: Arch) -> str | None:
  """The first field in which two architectures with one head compute something else."""
  return next(iter(differences(first, second)), None)


def differences(first: Arch, second: Arch) -> list[str]:
  """All fields in which two architectures with one head compute something else."""
  ours = _as_it_works(first)
  theirs = _as_it_works(second)
  return [field for field in ours if field not in FREE and ours[field] != theirs[field]]


def _as_it_works(arch: Arch) -> dict:
  """The fields as they work: what is inherited is spelled out, and a field that nothing
  reads is None.
  """
  fields = {field.name: getattr(arch, field.name) for field in dataclasses.fields(arch)}
  fields |= _sizes(arch)
  fields |= _by_layer(arch)
  fields |= _head_fields(arch)
  for field in _unread(arch):
    fields[field] = None
  return fields


def _sizes(arch: Arch) -> dict:
  """The sizes and scales whose 0 stands for the value of another field."""
  decoder_layers = 0
  if arch.kind == 'encoder-decoder':
    decoder_layers = arch.decoder_layers or arch.layers
  scale = arch.attention_scale or arch.head_width**-0.5
  fields = dict(kv_heads=arch.key_heads, head_dim=arch.head_width)
  fields['decoder_layers'] = decoder_layers
  fields['decoder_heads'] = arch.decoder_heads or arch.heads
  fields['decoder_mlp'] = arch.decoder_mlp or arch.mlp
  fields['layer_groups'] = arch.layer_groups or arch.layers
  # Gemma's config.json holds scale ** -2, so that what is read again is rounded.
  fields['attention_scale'] = round(scale, 9)
  return fields


def _by_layer(arch: Arch) -> dict:
  """The patterns that repeat over the layers, a value for every layer."""

  def repeat(pattern):
    return tuple(pattern[layer % len(pattern)] for layer in range(arch.layers))

  is_rotary = arch.positions == 'rotary'
  rotary_layers = repeat(arch.rotary_layers) if is_rotary else None
  return dict(windows=repeat(arch.windows), rotary_layers=rotary_layers)


def _head_fields(arch: Arch) -> dict:
  """The pooler's place and the activation, where the head has a use for them."""
  found = dict(pooler_place=None, head_activation=None)
  if arch.pools or arch.keeps_pooler:
    # Whether pre-training or a task made the body's pooler changes nothing in it.
    found['pooler_place'] = arch.pooler_place == 'head'
  if arch.head in ('masked', 'replaced'):
    found['head_activation'] = arch.head_activation or arch.activation
  return found


def _unread(arch: Arch) -> set[str]:
  """The fields that nothing reads in this architecture, whatever they say."""
  found = set()
  if arch.room is None:
    found |= {'max_positions', 'position_offset'}
  if not arch.relative:
    found |= {'relative_buckets', 'relative_distance'}
  if arch.positions != 'rotary':
    found |= {'rotary_base', 'local_rotary_base', 'rotary_scaling'}
  if not any(arch.windows):
    found |= {'local_rotary_base'}
  if not arch.repeats_text:
    found |= {'start'}
  return found | _unread_by_head(arch)


def _unread_by_head(arch: Arch) -> set[str]:
  """The fields of poolers and heads that this head does not read."""
  found = set()
  if not arch.pools:
    found |= {'pooler'}
    if not arch.reads_examples:
      found |= {'pool'}
  if arch.head in ('none', 'causal'):
    found |= {'pooler_norm'}
  if arch.head == 'none':
    found |= {'head_bias'}
  if arch.head not in ('masked', 'causal'):
    found |= {'output_scale', 'logit_cap'}
  return found
