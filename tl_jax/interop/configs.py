"""`config.json` of Hugging Face to our `Arch` and back.

>>> small = dict(hidden_size=128, num_attention_heads=2)
>>> read(dict(model_type='bert', architectures=['BertForMaskedLM'], **small)).width
128
"""

import dataclasses
import math

from tl_jax import config as configs
from tl_jax import tree
from tl_jax.interop import equivalence, kinds
from tl_jax.interop.families import FAMILIES
from tl_jax.interop.family import ACTIVATIONS, THEIRS, Family
from tl_jax.models import Arch

# Classes that hold the masked head and one for pairs of texts.
PAIRED = {'bert': 'BertForPreTraining', 'albert': 'AlbertForPreTraining'}
# Further classes, with the head of ours that they hold.
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
  if family in FAMILIES:
    return family
  hint = ''
  if family == 'gemma3':
    hint = '; only its text part, gemma3_text, is supported'
  # Where nothing tells the kind, the hint lists all families.
  kind = kinds.kind_of_config(config)
  lists = 'nearest' if kind else 'supported'
  raise ValueError(
    f'config.json: model_type {family!r} is not supported{hint}; '
    f'{lists}: {kinds.nearest(str(family), kind, FAMILIES)}'
  )


def head_of(config: dict) -> tuple[str, str]:
  """(our head, their class) as `architectures` says; the body alone where it says
  nothing.
  """
  heads = FAMILIES[family_of(config)].heads
  names = config.get('architectures') or [heads['none']]
  known = {name: head for head, name in heads.items()}
  # Of the aliases only those of the family: their names begin as its own do.
  own = heads['none'].removesuffix('Model').removesuffix('Text')
  for name, head in ALIASES.items():
    if name.startswith(own):
      known[name] = head
  if not isinstance(names, list) or names[0] not in known:
    raise ValueError(
      f'config.json: architectures {names!r} is not supported; nearest: '
      f'{tree.nearest(str(names[0] if names else names), known)}; '
      '`tl-jax import --head=H` makes a folder of what it has besides'
    )
  return known[names[0]], names[0]


def names_head(config: dict) -> bool:
  """Does a `config.json` say more than the family?"""
  declared = config.get('architectures')
  return bool(declared) and declared != [FAMILIES[family_of(config)].heads['none']]


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
  if head is None:
    head = own
  _require_computed(config, family)
  fields = _table_fields(config, family) | family.fixed
  fields['head'] = head
  fields['head_bias'] = head_bias(name, head)
  names_of_labels = config.get('id2label') or {}
  # transformers has two labels where a config says nothing of them.
  fields['labels'] = config.get('num_labels') or len(names_of_labels) or 2
  fields['pair_head'] = head == 'masked' and cls in PAIRED.values()
  fields['tied'] = config.get('tie_word_embeddings') is not False
  view = dict(config) | {'head': head, 'class': cls}
  try:
    return configs.struct(Arch, fields | family.read(view), 'config.json')
  except (TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
    raise ValueError(
      f'config.json: a {name} with an unusable value: {error!r}'
    ) from error


def _require_computed(config: dict, family: Family) -> None:
  """Raises ValueError for a key whose value asks for what we do not compute."""
  for key, values in family.only.items():
    if config.get(key, values[0]) not in values:
      raise ValueError(
        f'config.json: {key} = {config[key]!r} is not supported; {values[0]!r} is'
      )
  if config.get('quantization_config'):
    raise ValueError(
      'config.json: quantization_config: quantised weights are not supported'
    )


def _table_fields(config: dict, family: Family) -> dict:
  """The fields that the family's table of keys explains."""
  fields = {}
  for field, (key, default) in family.keys.items():
    value = config.get(key)
    # Some writers put null for what they do not set.
    fields[field] = default if value is None else value
  if 'activation' in fields:
    key = family.keys['activation'][0]
    fields['activation'] = _activation(key, fields['activation'])
  return fields


def _activation(key: str, value) -> str:
  if value not in ACTIVATIONS:
    raise ValueError(
      f'config.json: {key} = {value!r} is not supported; nearest: '
      f'{tree.nearest(value, ACTIVATIONS)}'
    )
  return ACTIVATIONS[value]


def head_bias(family: str, head: str) -> bool:
  """Has the last product a bias? Decoders have none on their vocabulary and on a class
  of a text; BART has.
  """
  decoder = FAMILIES[family].fixed.get('kind') == 'decoder'
  return not (decoder and head in ('causal', 'classifier', 'choice'))


def read_labels(config: dict, arch: Arch) -> tuple[tuple[str, ...], str]:
  """(names of the labels, kind of the task) that a `config.json` gives a head of
  labels.

  There are no names where it has none but `LABEL_0`, `LABEL_1`, which transformers
  makes up. The kind is '' where it says none.
  """
  declared = config.get('id2label')
  task_kinds = {theirs: ours for ours, theirs in PROBLEMS.items()}
  kind = task_kinds.get(config.get('problem_type'), '')
  if arch.head not in LABELLED or not isinstance(declared, dict):
    return (), kind
  names = []
  has_names = False
  for place in range(arch.labels):
    # JSON has the numbers as strings, a config in memory has them as they are.
    name = str(declared.get(str(place), declared.get(place)))
    names.append(name)
    if name not in (f'LABEL_{place}', 'None'):
      has_names = True
  return (tuple(names) if has_names else ()), kind


def write_labels(labels: tuple[str, ...], kind: str = '') -> dict:
  """The keys with which a `config.json` names labels and the kind of the task."""
  by_place = {str(place): name for place, name in enumerate(labels)}
  by_name = {name: place for place, name in enumerate(labels)}
  found = dict(id2label=by_place, label2id=by_name)
  if kind:
    # Of a kind that transformers has no loss for, nothing: a stale word would lie.
    found['problem_type'] = PROBLEMS.get(kind)
  return found


def write(
  arch: Arch,
  family: str,
  config: dict | None = None,
  labels: tuple[str, ...] = (),
  kind: str = '',
) -> dict:
  """The `config.json` of an architecture in a family, over what `config` holds besides.

  labels: the names of the labels, in the order of the outputs. kind: of the task.
  Without them stay those of `config`, or names that say nothing. Raises ValueError that
  names a field which the family cannot express.
  """
  found = _expressed(arch, family, config, labels, kind)
  _require_same(arch, family, found)
  return found


def _expressed(
  arch: Arch,
  family: str,
  config: dict | None = None,
  labels: tuple[str, ...] = (),
  kind: str = '',
) -> dict:
  """The `config.json` of an architecture as near as a family comes to it."""
  spec = configs.lookup(FAMILIES, family, 'family')
  if arch.head not in spec.heads:
    raise ValueError(
      f'head: a {family} has no {arch.head!r}; nearest: {tree.nearest(arch.head, spec.heads)}'
    )
  found = dict(config or {})
  for field, (key, _) in spec.keys.items():
    value = getattr(arch, field)
    if field == 'activation':
      value = _their_activation(found.get(key), value)
    found[key] = value
  found |= _named(found, arch, labels, kind)
  found |= dict(model_type=family, tie_word_embeddings=arch.tied)
  found |= _family_keys(spec, arch, found)
  if config is not None and arch.head not in ('masked', 'causal'):
    _restore_unread(found, config)
  if not _names_the_head(found, arch, config):
    found['architectures'] = [_class_of(arch, family)]
  return found


def _family_keys(spec: Family, arch: Arch, declared: dict) -> dict:
  """What the family writes beyond its table, but no id of a special token that is
  `declared` already: those of the folder's tokenizer count.
  """
  found = {}
  for key, value in spec.write(arch).items():
    if key.endswith('_token_id') and declared.get(key) is not None:
      continue
    found[key] = value
  return found


def _restore_unread(found: dict, config: dict) -> None:
  """Puts back what only a head over the vocabulary reads, as `config` had it, for
  whoever opens the folder with such a head.
  """
  for key in ('tie_word_embeddings', 'scale_decoder_outputs', 'logits_scaling'):
    found.pop(key, None)
    if key in config:
      found[key] = config[key]


def _class_of(arch: Arch, family: str) -> str:
  """Their class for the head and kind of an architecture."""
  if arch.pair_head and family in PAIRED:
    return PAIRED[family]
  cls = FAMILIES[family].heads[arch.head]
  # The encoder of an encoder-decoder that stands alone has a class of its own.
  alone = cls.removesuffix('Model') + 'EncoderModel'
  if arch.head == 'none' and arch.kind == 'encoder' and alone in ALIASES:
    return alone
  return cls


def _names_the_head(found: dict, arch: Arch, config: dict | None) -> bool:
  """Does the `architectures` of `config` name the head of an architecture already?"""
  declared = (config or {}).get('architectures')
  head, cls = head_of(found | dict(architectures=declared))
  if not config or head != arch.head:
    return False
  return arch.pair_head or cls not in PAIRED.values()


def _require_same(arch: Arch, family: str, written: dict) -> None:
  """Raises ValueError where `written` reads as another function than the architecture."""
  again = _read_again(arch, written)
  field = equivalence.difference(arch, again)
  if field is None:
    return
  others = [name for name in FAMILIES if name != family and not unlikeness(arch, name)]
  hint = f'; {", ".join(map(repr, others))} can' if others else ''
  raise ValueError(
    f'{field}: a {family} cannot have {getattr(arch, field)!r}, only '
    f'{getattr(again, field)!r}{hint}'
  )


def _read_again(arch: Arch, written: dict) -> Arch:
  """The architecture that a `config.json` describes which was written of `arch`."""
  again = read(written, arch.head)
  if arch.pooler_place == 'new' and again.pooler_place == 'body':
    # The tensors tell whether there is a pooler. One that a task brought is written
    # where a pre-trained one lies.
    again = dataclasses.replace(again, pooler_place='new')
  return again


def unlikeness(arch: Arch, family: str) -> float:
  """In how many fields a family cannot say an architecture; infinity for one that has
  no such head.
  """
  try:
    again = _read_again(arch, _expressed(arch, family))
  except ValueError:
    return math.inf
  return len(equivalence.differences(arch, again))


def _named(declared: dict, arch: Arch, labels: tuple[str, ...], kind: str) -> dict:
  """The keys that name an architecture's labels, where the `declared` ones do not."""
  if labels and arch.head in LABELLED:
    if len(labels) != arch.labels:
      raise ValueError(f'labels: {len(labels)} names for {arch.labels} outputs')
    return write_labels(labels, kind)
  if len(declared.get('id2label') or {}) == arch.labels:
    return {}
  numbered = tuple(f'LABEL_{place}' for place in range(arch.labels))
  return write_labels(numbered)


def fitting(arch: Arch) -> str:
  """The first family that can say all of an architecture. Raises ValueError with what
  the likeliest lacks.
  """
  likeliest = min(FAMILIES, key=lambda family: unlikeness(arch, family))
  try:
    write(arch, likeliest)
  except ValueError as error:
    raise ValueError(
      f'no family of transformers has this architecture; the nearest: {error}'
    ) from error
  return likeliest


def _their_activation(declared, value: str) -> str:
  """Their name of an activation; the one that was there, where it means the same."""
  return declared if ACTIVATIONS.get(declared) == value else THEIRS[value]
