"""`adapter_config.json` of peft: what its keys mean here, and how it names modules.

>>> every = {'layer.0.query', 'layer.1.query', 'layer.0.key'}
>>> short_names({'layer.0.query', 'layer.1.query'}, every)
['query']
"""

import collections
import json
import math
import pathlib
import re
from collections.abc import Collection
from typing import NamedTuple

from tl_jax import files, tree
from tl_jax.interop.contents import find_object, read_object

CONFIG = 'adapter_config.json'
# Names of the labels. peft warns of keys that it does not know, and takes a folder with
# a config.json for a whole model, so they have a file of their own.
LABELS = 'labels.json'
# peft has no task type for a masked head, nor for scores of candidates: it opens such a
# model by its base alone.
TASKS = {
  'classifier': 'SEQ_CLS',
  'choice': None,
  'token': 'TOKEN_CLS',
  'span': 'QUESTION_ANS',
  'none': 'FEATURE_EXTRACTION',
  'masked': None,
  'causal': 'CAUSAL_LM',
}
HEADS = {
  'SEQ_CLS': 'classifier',
  'TOKEN_CLS': 'token',
  'QUESTION_ANS': 'span',
  'FEATURE_EXTRACTION': 'none',
  'CAUSAL_LM': 'causal',
  'SEQ_2_SEQ_LM': 'causal',
}
KINDS = ('LORA', 'IA3', 'PREFIX_TUNING', 'PROMPT_TUNING')
# Keys that make another function of the same tensors, with the values under which they
# do not.
PLAIN = dict(
  lora_bias=(False,),
  use_qalora=(False,),
  use_bdlora=(None,),
  layer_replication=(None,),
  alora_invocation_tokens=(None,),
  trainable_token_indices=(None,),
  target_parameters=(None, []),
  arrow_config=(None,),
)
# Starts that change the base too: the tensors alone do not say by how much.
CHANGED_BASES = ('pissa', 'olora', 'corda', 'loftq', 'lora_ga')


class Adapter(NamedTuple):
  """An `adapter_config.json` that was checked.

  kind: one of KINDS. head: the head of ours; None where the file names no task.
  declared: the whole file.
  """

  file: pathlib.Path
  kind: str
  head: str | None
  declared: dict

  def rank(self, module: str) -> int:
    """The rank that the file gives a module."""
    # Without a key, peft takes 8, for alpha as well.
    common = self.declared.get('r', 8)
    return by_pattern(self.declared.get('rank_pattern'), module, common)

  def scale(self, module: str) -> float:
    """What the low-rank product of a module is multiplied by.

    It is alpha / rank (Hu et al. 2021), or alpha / sqrt(rank) with `use_rslora`
    (Kalajdzievski 2023).
    """
    common = self.declared.get('lora_alpha', 8)
    alpha = by_pattern(self.declared.get('alpha_pattern'), module, common)
    rank = self.rank(module)
    if self.declared.get('use_rslora'):
      return alpha / math.sqrt(rank)
    return alpha / rank

  def saves(self, module: str) -> bool:
    """Does the file say that a module, or one that it is part of, is saved whole?"""
    saved = self.declared.get('modules_to_save') or ()
    return any(is_part(module, name) for name in saved)

  def edits(self, module: str) -> bool:
    """Does the file say, as peft reads it, that the matrix of a module is edited?"""
    # What is saved in full is not edited, whatever the targets say.
    excluded = self.declared.get('exclude_modules')
    if self.saves(module) or _listed(excluded, module):
      return False
    targets = self.declared.get('target_modules')
    if not _listed(targets, module):
      return False
    layers = self.declared.get('layers_to_transform')
    # Beside a pattern, peft ignores the numbers of layers.
    if isinstance(targets, str) or layers in (None, []):
      return True
    if isinstance(layers, int):
      layers = [layers]
    return layer_of(module, self.declared.get('layers_pattern')) in layers

  def scales_inputs(self, module: str) -> bool:
    """Does the file say that (IA)^3 scales the inputs of a module, not the outputs?"""
    return _listed(self.declared.get('feedforward_modules'), module)


def is_part(module: str, name: str) -> bool:
  """Is this the module of a name as peft's lists say it, or a part of that module?"""
  # With dots around both, so that `layer.1` is no part of `layer.11`.
  return f'.{name}.' in f'.{module}.'


def _listed(targets, module: str) -> bool:
  """Does a pattern, or a list of the ends of names, hit a module?"""
  if not targets:
    return False
  if isinstance(targets, str):
    return re.fullmatch(targets, module) is not None
  return any(ends(module, target) for target in targets)


def layer_of(module: str, patterns) -> int | None:
  """The number of the layer that a module is in; None for a module of no layer.

  patterns: the name, or names, of what holds the layers; anything may, where it is
  empty.
  """
  if isinstance(patterns, str):
    patterns = [patterns]
  for pattern in patterns or [r'[^.]*']:
    found = re.match(rf'(?:^|.*?\.){pattern}\.(\d+)\.', module)
    if found:
      return int(found[1])
  return None


def read_adapter(folder: pathlib.Path) -> Adapter:
  """The config of an adapter's folder.

  Raises ValueError that names the file and the key.
  """
  file = folder / CONFIG
  if not file.is_file():
    raise ValueError(f'{folder}: no {CONFIG}, so not the folder of an adapter')
  declared = read_object(file)
  kind = declared.get('peft_type')
  if kind not in KINDS:
    near = tree.nearest(str(kind), KINDS)
    raise ValueError(f'{file}: peft_type {kind!r} is not supported; nearest: {near}')
  task = declared.get('task_type')
  if task is not None and task not in HEADS:
    near = tree.nearest(str(task), HEADS)
    raise ValueError(f'{file}: task_type {task!r} is not supported; nearest: {near}')
  require_plain(file, declared)
  require_numbers(file, declared)
  require_patterns(file, declared)
  return Adapter(file, kind, HEADS.get(task), declared)


def require_plain(file: pathlib.Path, declared: dict) -> None:
  """Raises ValueError for a key by which the same tensors make another function."""
  for key, values in PLAIN.items():
    if declared.get(key, values[0]) not in values:
      raise ValueError(
        f'{file}: {key} = {declared[key]!r} is not supported; {values[0]!r} is'
      )
  start = declared.get('init_lora_weights')
  if isinstance(start, str) and start.startswith(CHANGED_BASES):
    raise ValueError(
      f'{file}: init_lora_weights = {start!r} changes the base too, which the tensors '
      'do not say; convert it to a plain LoRA first '
      '(peft: path_initial_model_for_weight_conversion)'
    )


def is_count(value) -> bool:
  """Is this a whole number of at least 1? `True` is none, though Python says so."""
  return type(value) is int and value >= 1


def is_positive(value) -> bool:
  """Is this a finite number above 0?"""
  return type(value) in (int, float) and 0 < value < math.inf


def require_numbers(file: pathlib.Path, declared: dict) -> None:
  """Raises ValueError for a size or a scale that is none."""
  for key in ('r', 'num_virtual_tokens'):
    if key in declared and not is_count(declared[key]):
      raise ValueError(
        f'{file}: {key} = {declared[key]!r} is not a whole number of at least 1'
      )
  alpha = declared.get('lora_alpha', 8)
  if not is_positive(alpha):
    raise ValueError(f'{file}: lora_alpha = {alpha!r} is not a positive number')
  # null is no dropout.
  rate = declared.get('lora_dropout') or 0
  if type(rate) not in (int, float) or not 0 <= rate < 1:
    raise ValueError(f'{file}: lora_dropout = {rate!r} is not a number from 0 to 1')


def is_pattern_or_names(value) -> bool:
  """Is this one text, or a list of texts?"""
  if isinstance(value, list):
    return all(isinstance(name, str) for name in value)
  return isinstance(value, str)


def require_patterns(file: pathlib.Path, declared: dict) -> None:
  """Raises ValueError for a pattern of modules, or what it stands for, that is none."""
  for key, fits in (('rank_pattern', is_count), ('alpha_pattern', is_positive)):
    patterns = declared.get(key) or {}
    if not isinstance(patterns, dict) or not all(map(fits, patterns.values())):
      raise ValueError(
        f'{file}: {key} = {patterns!r} is not an object from patterns to positive '
        'numbers'
      )
  targets = declared.get('target_modules') or []
  if not is_pattern_or_names(targets):
    raise ValueError(
      f'{file}: target_modules = {targets!r} is neither a pattern nor a list of names'
    )
  require_expressions(file, declared)


def require_expressions(file: pathlib.Path, declared: dict) -> None:
  """Raises ValueError for a pattern that is no regular expression."""
  expressions = list(declared.get('rank_pattern') or ())
  expressions += declared.get('alpha_pattern') or ()
  targets = declared.get('target_modules')
  # The entries of a list are the ends of names, no expressions.
  if isinstance(targets, str):
    expressions.append(targets)
  try:
    tree.matcher(*expressions)
  except ValueError as error:
    raise ValueError(f'{file}: {error}') from error


def write(folder: pathlib.Path, declared: dict, name: str = CONFIG) -> None:
  """Writes the config, or another JSON file, into an adapter's folder."""
  text = json.dumps(declared, indent=2, sort_keys=True, allow_nan=False) + '\n'
  files.write_atomically(folder / name, text.encode())


def read_labels(folder: pathlib.Path) -> dict:
  """What `labels.json` of an adapter's folder says, as `config.json` would.

  It is {} where the folder has no such file.
  """
  file = folder / LABELS
  return find_object(file)


def by_pattern(patterns: dict | None, module: str, default):
  """The number that peft finds for a module under one of its `*_pattern` keys.

  The first pattern counts that the module's name ends with. Without one it is the
  default.
  """
  for pattern, number in (patterns or {}).items():
    if re.fullmatch(rf'(.*\.)?({pattern})', module):
      return number
  return default


def require_targets(adapter: Adapter, modules: Collection[str]) -> None:
  """Raises ValueError for an entry of `target_modules` that hits no module."""
  targets = adapter.declared.get('target_modules') or []
  # peft fills this word in from the model, so that it always hits.
  if targets == 'all-linear':
    return
  if isinstance(targets, str):
    if not any(re.fullmatch(targets, module) for module in modules):
      raise ValueError(no_module(adapter, targets, modules))
    return
  for target in targets:
    if not any(ends(module, target) for module in modules):
      raise ValueError(no_module(adapter, target, modules))


def no_module(adapter: Adapter, target: str, modules: Collection[str]) -> str:
  """What to say of a target that hits nothing, with the nearest ends of real names."""
  parts = 1 + target.count('.')
  tails = {}
  for module in modules:
    tail = module.split('.')[-parts:]
    tails['.'.join(tail)] = None
  near = tree.nearest(target, tails)
  return (
    f'{adapter.file}: target_modules: {target!r} hits no module of the base; nearest: '
    f'{near}'
  )


def ends(module: str, target: str) -> bool:
  """Does a name stand for this module, as the whole of its path or the end of it?"""
  return module == target or module.endswith(f'.{target}')


def short_names(chosen: Collection[str], modules: Collection[str]) -> list[str]:
  """The chosen modules as peft's lists name them, by the ends of their names.

  modules: all that the model has. An end is used only where it stands for no other
  module; where every end does, the modules are named in full.
  """
  groups = collections.defaultdict(set)
  for module in chosen:
    groups[module.rpartition('.')[2]].add(module)
  found = []
  for group in groups.values():
    tail = common_tail(group, modules)
    found += sorted(group) if tail is None else [tail]
  return sorted(found)


def common_tail(group: set[str], modules: Collection[str]) -> str | None:
  """The shortest end of a name that stands for just this group of modules, or None."""
  parts = min(group).split('.')
  # The whole name is left out: it is no end that a group could share.
  for count in range(1, len(parts)):
    tail = '.'.join(parts[-count:])
    hit = {module for module in modules if ends(module, tail)}
    if hit == group:
      return tail
  return None


def lora_numbers(
  ranks: dict[str, int], scales: dict[str, float], stabilized: bool
) -> dict:
  """r and lora_alpha of most modules, and the patterns for the others.

  ranks, scales: by module. stabilized: is a scale alpha / sqrt(rank)?
  """
  alphas = {}
  for module, rank in ranks.items():
    divisor = math.sqrt(rank) if stabilized else rank
    alphas[module] = scales[module] * divisor
  rank = most_common(ranks)
  alpha = most_common(alphas)
  # A name is a pattern to peft: its dots must be no wildcards.
  rank_pattern, alpha_pattern = {}, {}
  for module in ranks:
    if ranks[module] != rank:
      rank_pattern[re.escape(module)] = ranks[module]
    if alphas[module] != alpha:
      alpha_pattern[re.escape(module)] = _whole(alphas[module])
  return dict(
    r=rank,
    lora_alpha=_whole(alpha),
    rank_pattern=rank_pattern,
    alpha_pattern=alpha_pattern,
  )


def most_common(numbers: dict[str, float]) -> float:
  """The number that most of the modules have."""
  ((number, _),) = collections.Counter(numbers.values()).most_common(1)
  return number


def _whole(number: float):
  """A number as the integer that it is but for rounding."""
  if math.isclose(number, round(number), rel_tol=1e-12):
    return round(number)
  return number
