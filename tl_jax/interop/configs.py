"""`config.json` of Hugging Face to our `Arch` and back.

>>> read(dict(model_type='bert', architectures=['BertForMaskedLM'], hidden_size=128, num_attention_heads=2)).width
128
"""

import dataclasses

from tl_jax import config as configs
from tl_jax import tree
from tl_jax.interop import kinds
from tl_jax.interop.families import FAMILIES
from tl_jax.interop.family import ACTIVATIONS, THEIRS
from tl_jax.models import Arch

# Classes that hold the head of another and something besides, which is left out.
# Masked, and a head for pairs of texts.
PAIRED = {'bert': 'BertForPreTraining', 'albert': 'AlbertForPreTraining'}
ALIASES = dict.fromkeys(PAIRED.values(), 'masked') | {
  'T5EncoderModel': 'none',
  'MT5EncoderModel': 'none',
  'UMT5EncoderModel': 'none',
  'Gemma3ForSequenceClassification': 'classifier',
}

# Heads whose outputs are labels.
LABELLED = ('classifier', 'token')
# The kinds of task, and how `problem_type` calls them.
PROBLEMS = {
  'single_label': 'single_label_classification',
  'multi_label': 'multi_label_classification',
  'regression': 'regression',
}


def family_of(config: dict) -> str:
  """The `model_type`, if we know it. Raises ValueError with the nearest of the same
  kind of model.
  """
  family = config.get('model_type')
  if family not in FAMILIES:
    hint = (
      '; only its text part, gemma3_text, is supported' if family == 'gemma3' else ''
    )
    kind = kinds.kind_of_config(config)
    raise ValueError(
      f'config.json: model_type {family!r} is not supported{hint}; '
      f'{"nearest" if kind else "supported"}: {kinds.nearest(str(family), kind, FAMILIES)}'
    )
  return family


def head_of(config: dict) -> tuple[str, str]:
  """(our head, their class) as `architectures` says; the body alone where it says
  nothing.
  """
  heads = FAMILIES[family_of(config)].heads
  names = config.get('architectures') or [heads['none']]
  own = heads['none'].removesuffix('Model').removesuffix('Text')
  known = {name: head for head, name in heads.items()}
  known |= {name: head for name, head in ALIASES.items() if name.startswith(own)}
  if not isinstance(names, list) or names[0] not in known:
    raise ValueError(
      f'config.json: architectures {names!r} is not supported; nearest: '
      f'{tree.nearest(str(names[0] if names else names), known)}; '
      'head (--head) opens what it has besides'
    )
  return known[names[0]], names[0]


def names_head(config: dict) -> bool:
  """Does a `config.json` say more than the family?"""
  said = config.get('architectures')
  return bool(said) and said != [FAMILIES[family_of(config)].heads['none']]


def is_known(config: dict) -> bool:
  """Is the class that a `config.json` names one that we know?"""
  try:
    return bool(head_of(config))
  except ValueError:
    return False


def heads_of(config: dict) -> tuple[str, ...]:
  """The heads that the family has a class for, the body alone first."""
  return tuple(FAMILIES[family_of(config)].heads)


def naming(config: dict, head: str) -> dict:
  """The same `config.json` with the class of a head. ValueError for a head that the
  family has not.
  """
  heads = FAMILIES[family_of(config)].heads
  if head not in heads:
    raise ValueError(
      f'head: a {family_of(config)} has no {head!r}; nearest: {tree.nearest(head, heads)}'
    )
  return dict(config) | dict(architectures=[heads[head]])


def read(config: dict, head: str | None = None) -> Arch:
  """The architecture that a `config.json` describes; head: another than its own.

  `tied` is what the config says; the tensors of a folder may know better. Raises
  ValueError that names the key.
  """
  name = family_of(config)
  family = FAMILIES[name]
  own, cls = head_of(config)
  head = own if head is None else head
  for key, values in family.only.items():
    if config.get(key, values[0]) not in values:
      raise ValueError(
        f'config.json: {key} = {config[key]!r} is not supported; {values[0]!r} is'
      )
  if config.get('quantization_config'):
    raise ValueError(
      'config.json: quantization_config: quantised weights are not supported'
    )
  fields = {}
  for field, (key, default) in family.keys.items():
    value = config.get(key)
    fields[field] = default if value is None else value
  if 'activation' in fields:
    fields['activation'] = _activation(
      family.keys['activation'][0], fields['activation']
    )
  labels = config.get('num_labels') or len(config.get('id2label') or {}) or 2
  fields |= family.fixed | dict(
    head=head,
    labels=labels,
    pair_head=head == 'masked' and cls in PAIRED.values(),
    tied=config.get('tie_word_embeddings') is not False,
    head_bias=head_bias(name, head),
  )
  view = dict(config) | {'head': head, 'class': cls}
  try:
    return configs.struct(Arch, fields | family.read(view), 'config.json')
  except (TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
    raise ValueError(
      f'config.json: a {name} with an unusable value: {error!r}'
    ) from error


def _activation(key: str, value) -> str:
  if value not in ACTIVATIONS:
    raise ValueError(
      f'config.json: {key} = {value!r} is not supported; nearest: {tree.nearest(value, ACTIVATIONS)}'
    )
  return ACTIVATIONS[value]


def head_bias(family: str, head: str) -> bool:
  """Has the last product a bias? Decoders have none on their vocabulary and on a class
  of a text; BART has.
  """
  decoder = FAMILIES[family].fixed.get('kind') == 'decoder'
  return not (decoder and head in ('causal', 'classifier'))


def read_labels(config: dict, arch: Arch) -> tuple[tuple[str, ...], str]:
  """(names of the labels, kind of the task) that a `config.json` gives a head of
  labels.

  No names where it has none but transformers' own `LABEL_0`; '' where it says no kind.
  """
  said = config.get('id2label')
  kinds = {theirs: ours for ours, theirs in PROBLEMS.items()}
  kind = kinds.get(config.get('problem_type'), '')
  if arch.head not in LABELLED or not isinstance(said, dict):
    return (), kind
  names = tuple(
    str(said.get(str(place), said.get(place))) for place in range(arch.labels)
  )
  nameless = all(name in (f'LABEL_{place}', 'None') for place, name in enumerate(names))
  return (() if nameless else names), kind


def write_labels(labels: tuple[str, ...], kind: str = '') -> dict:
  """The keys with which a `config.json` names labels and the kind of the task."""
  found = dict(
    id2label={str(place): name for place, name in enumerate(labels)},
    label2id={name: place for place, name in enumerate(labels)},
  )
  return found | (dict(problem_type=PROBLEMS[kind]) if kind else {})


def write(
  arch: Arch,
  family: str,
  config: dict | None = None,
  labels: tuple[str, ...] = (),
  kind: str = '',
) -> dict:
  """The `config.json` of an architecture in a family, on top of what `config` said
  besides.

  labels, kind: the names of the labels, in the order of the outputs, and the kind of
  task; without them those that `config` said, or names that say nothing.

  Raises ValueError that names a field which the family cannot express.
  """
  spec = configs.lookup(FAMILIES, family, 'family')
  if arch.head not in spec.heads:
    raise ValueError(
      f'head: a {family} has no {arch.head!r}; nearest: {tree.nearest(arch.head, spec.heads)}'
    )
  found = dict(config or {})
  for field, (key, _) in spec.keys.items():
    value = getattr(arch, field)
    found[key] = (
      _their_activation(found.get(key), value) if field == 'activation' else value
    )
  cls = PAIRED[family] if arch.pair_head and family in PAIRED else spec.heads[arch.head]
  if (
    arch.head == 'none'
    and arch.kind == 'encoder'
    and cls.removesuffix('Model') + 'EncoderModel' in ALIASES
  ):
    cls = cls.removesuffix('Model') + 'EncoderModel'
  found |= _named(found, arch, labels, kind)
  made = spec.write(arch)
  # Ids of special pieces are written where nothing is said of them.
  made = {
    key: value
    for key, value in made.items()
    if not key.endswith('_token_id') or found.get(key) is None
  }
  found |= dict(model_type=family, tie_word_embeddings=arch.tied) | made
  if config is not None and arch.head not in ('masked', 'causal'):
    # What this head does not read stays as it was said, for whoever opens the folder
    # with another.
    for key in ('tie_word_embeddings', 'scale_decoder_outputs'):
      found.pop(key, None)
      found |= {key: config[key]} if key in config else {}
  own, said = head_of(found | dict(architectures=(config or {}).get('architectures')))
  if own != arch.head or not config or (said in PAIRED.values() and not arch.pair_head):
    found['architectures'] = [cls]
  again = read(found, arch.head)
  if arch.pooler_place == 'new' and again.pooler_place == 'body':
    # The tensors say whether there is a pooler, and a task's own is written where a
    # pre-trained one lies.
    again = dataclasses.replace(again, pooler_place='new')
  for field in dataclasses.fields(Arch):
    ours, theirs = getattr(arch, field.name), getattr(again, field.name)
    if field.name not in FREE and _meaning(arch, field.name, ours) != _meaning(
      again, field.name, theirs
    ):
      raise ValueError(
        f'{field.name}: a {family} cannot have {ours!r}, only {theirs!r}; nearest families: '
        f'{kinds.nearest(family, arch.kind, FAMILIES)}'
      )
  return found


def _named(said: dict, arch: Arch, labels: tuple[str, ...], kind: str) -> dict:
  """The keys that name the labels of an architecture, where those that are `said` do
  not.
  """
  if labels and arch.head in LABELLED:
    if len(labels) != arch.labels:
      raise ValueError(f'labels: {len(labels)} names for {arch.labels} outputs')
    return write_labels(labels, kind)
  if len(said.get('id2label') or {}) == arch.labels:
    return {}
  return write_labels(tuple(f'LABEL_{place}' for place in range(arch.labels)))


def fitting(arch: Arch) -> str:
  """The first family that can say all of an architecture. Raises ValueError with what
  the likeliest lacks.
  """
  reasons = []
  for family in FAMILIES:
    try:
      write(arch, family)
      return family
    except ValueError as error:
      reasons.append(str(error))
  raise ValueError(
    f'no family of transformers has this architecture: {"; ".join(reasons)}'
  )


# What does not change the function of a given head.
FREE = ('init', 'init_std', 'labels', 'tied', 'pair_head')


def _meaning(arch: Arch, field: str, value):
  """A value as it works: what is inherited spelled out, what cannot matter left out."""
  if field in ('kv_heads', 'head_dim'):
    return arch.key_heads if field == 'kv_heads' else arch.head_width
  if field == 'decoder_layers':
    return (value or arch.layers) if arch.kind == 'encoder-decoder' else 0
  if field in ('decoder_heads', 'decoder_mlp'):
    return value or getattr(arch, field.removeprefix('decoder_'))
  if field == 'layer_groups':
    return value or arch.layers
  if field == 'attention_scale':
    return round(value or arch.head_width**-0.5, 9)
  if field in ('windows', 'rotary_layers'):
    every = tuple(value[i % len(value)] for i in range(arch.layers))
    return every if field == 'windows' or arch.positions == 'rotary' else None
  if field == 'pooler_place':
    return value == 'head' if arch.pools or arch.keeps_pooler else None
  if field == 'head_activation':
    return (value or arch.activation) if arch.head in ('masked', 'replaced') else None
  unused = dict(
    pool=arch.head != 'classifier' and not arch.pools,
    pooler=not arch.pools,
    pooler_norm=arch.head in ('none', 'causal'),
    max_positions=arch.room is None,
    relative_buckets=not arch.relative,
    position_offset=arch.room is None,
    relative_distance=not arch.relative,
    rotary_base=arch.positions != 'rotary',
    local_rotary_base=not any(arch.windows) or arch.positions != 'rotary',
    rotary_scaling=arch.positions != 'rotary',
    head_bias=arch.head == 'none',
    output_scale=arch.head not in ('masked', 'causal'),
    logit_cap=arch.head not in ('masked', 'causal'),
  )
  if unused.get(field):
    return None
  return value


def _their_activation(said, value: str) -> str:
  """Their name of an activation; the one that was there, where it means the same."""
  return said if ACTIVATIONS.get(said) == value else THEIRS[value]
