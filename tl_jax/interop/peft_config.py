"""`adapter_config.json` of peft: what its keys mean for us, and how it says which
modules it edits.

>>> short_names({'layer.0.query', 'layer.1.query'}, {'layer.0.query', 'layer.1.query', 'layer.0.key'})
['query']
"""

import collections
import json
import math
import pathlib
import re
from collections.abc import Collection
from typing import NamedTuple

from tl_jax import tree
from tl_jax.checkpoint import files
from tl_jax.interop.huggingface import read_json

CONFIG = 'adapter_config.json'
# Names of the labels. peft warns of keys that it does not know, and takes a folder with
# a config.json for a whole model, so they have a file of their own.
LABELS = 'labels.json'
TASKS = {
  'classifier': 'SEQ_CLS',
  'token': 'TOKEN_CLS',
  'span': 'QUESTION_ANS',
  'none': 'FEATURE_EXTRACTION',
  'masked': None,
  'causal': 'CAUSAL_LM',
}
HEADS = {task: head for head, task in TASKS.items() if task} | {
  'SEQ_2_SEQ_LM': 'causal'
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
  """An `adapter_config.json`, checked: `said` is the whole file, head ours or None
  where the file names no task.
  """

  file: pathlib.Path
  kind: str
  head: str | None
  said: dict

  def rank(self, module: str) -> int:
    """The rank that the file gives a module."""
    return by_pattern(self.said.get('rank_pattern'), module, self.said.get('r', 8))

  def scale(self, module: str) -> float:
    """What the low-rank product of a module is multiplied by: alpha / rank, or alpha /
    sqrt(rank) with `use_rslora`.
    """
    alpha = by_pattern(
      self.said.get('alpha_pattern'), module, self.said.get('lora_alpha', 8)
    )
    return alpha / (
      math.sqrt(self.rank(module)) if self.said.get('use_rslora') else self.rank(module)
    )

  def saves(self, module: str) -> bool:
    """Does the file say that a module, or one that it is part of, is saved whole?"""
    return any(is_part(module, name) for name in self.said.get('modules_to_save') or ())

  def edits(self, module: str) -> bool:
    """Does the file say that the matrix of a module is edited, as peft reads its keys?"""
    if self.saves(module) or _listed(self.said.get('exclude_modules'), module):
      return False
    targets = self.said.get('target_modules')
    if not _listed(targets, module):
      return False
    layers = self.said.get('layers_to_transform')
    if isinstance(targets, str) or layers in (None, []):
      return True
    number = layer_of(module, self.said.get('layers_pattern'))
    return number in ([layers] if isinstance(layers, int) else layers)

  def scales_inputs(self, module: str) -> bool:
    """Does the file say that (IA)^3 scales what goes into a module, not what comes out?"""
    return _listed(self.said.get('feedforward_modules'), module)


def is_part(module: str, name: str) -> bool:
  """Is this the module of a name as peft's lists say it, or a part of that module?"""
  return f'.{name}.' in f'.{module}.'


def _listed(targets, module: str) -> bool:
  """Does a pattern, or a list of the ends of names, hit a module?"""
  if not targets:
    return False
  if isinstance(targets, str):
    return re.fullmatch(targets, module) is not None
  return any(ends(module, target) for target in targets)


def layer_of(module: str, patterns) -> int | None:
  """The number of the layer that a module is in; `patterns` names what holds the
  layers.
  """
  patterns = [patterns] if isinstance(patterns, str) else patterns
  for pattern in patterns or [r'[^.]*']:
    found = re.match(rf'(?:^|.*?\.){pattern}\.(\d+)\.', module)
    if found:
      return int(found[1])
  return None


def read_adapter(folder: pathlib.Path) -> Adapter:
  """The config of an adapter's folder. Raises ValueError that names the file and the
  key.
  """
  file = folder / CONFIG
  if not file.is_file():
    raise ValueError(f'{folder}: no {CONFIG}, so not the folder of an adapter')
  said = read_json(file)
  kind, task = said.get('peft_type'), said.get('task_type')
  if kind not in KINDS:
    raise ValueError(
      f'{file}: peft_type {kind!r} is not supported; nearest: {tree.nearest(str(kind), KINDS)}'
    )
  if task is not None and task not in HEADS:
    raise ValueError(
      f'{file}: task_type {task!r} is not supported; nearest: {tree.nearest(str(task), HEADS)}'
    )
  for key, values in PLAIN.items():
    if said.get(key, values[0]) not in values:
      raise ValueError(
        f'{file}: {key} = {said[key]!r} is not supported; {values[0]!r} is'
      )
  start = said.get('init_lora_weights')
  if isinstance(start, str) and start.startswith(CHANGED_BASES):
    raise ValueError(
      f'{file}: init_lora_weights = {start!r} changes the base too, which the tensors do not say; '
      'convert it to a plain LoRA first (peft: path_initial_model_for_weight_conversion)'
    )
  require_numbers(file, said)
  return Adapter(file, kind, HEADS.get(task), said)


def require_numbers(file: pathlib.Path, said: dict) -> None:
  """Raises ValueError for a size, a scale or a pattern that is none."""
  whole = lambda value: type(value) is int and value >= 1
  positive = lambda value: type(value) in (int, float) and 0 < value < math.inf
  for key in ('r', 'num_virtual_tokens'):
    if key in said and not whole(said[key]):
      raise ValueError(
        f'{file}: {key} = {said[key]!r} is not a whole number of at least 1'
      )
  if not positive(said.get('lora_alpha', 8)):
    raise ValueError(
      f'{file}: lora_alpha = {said["lora_alpha"]!r} is not a positive number'
    )
  if not (said.get('lora_dropout') or 0) < 1:
    raise ValueError(
      f'{file}: lora_dropout = {said["lora_dropout"]!r} is not a number from 0 to 1'
    )
  for key, fits in (('rank_pattern', whole), ('alpha_pattern', positive)):
    patterns = said.get(key) or {}
    if not isinstance(patterns, dict) or not all(map(fits, patterns.values())):
      raise ValueError(
        f'{file}: {key} = {patterns!r} is not an object from patterns to positive numbers'
      )
  targets = said.get('target_modules') or []
  if not isinstance(targets, (str, list)) or not all(
    isinstance(target, str) for target in targets
  ):
    raise ValueError(
      f'{file}: target_modules = {targets!r} is neither a pattern nor a list of names'
    )
  try:
    tree.matcher(
      *said.get('rank_pattern') or (),
      *said.get('alpha_pattern') or (),
      *[targets] if isinstance(targets, str) else (),
    )
  except ValueError as error:
    raise ValueError(f'{file}: {error}') from error


def write(folder: pathlib.Path, said: dict, name: str = CONFIG) -> None:
  """Writes the config, or another JSON file, into an adapter's folder."""
  text = json.dumps(said, indent=2, sort_keys=True, allow_nan=False) + '\n'
  files.write_atomically(folder / name, text.encode())


def read_labels(folder: pathlib.Path) -> dict:
  """What `labels.json` of an adapter's folder says, as `config.json` would; {} without
  the file.
  """
  return read_json(folder / LABELS) if (folder / LABELS).is_file() else {}


def by_pattern(patterns: dict | None, module: str, default):
  """The number of the first pattern that a module's name ends with, as peft reads its
  `*_pattern` keys.
  """
  return next(
    (
      number
      for pattern, number in (patterns or {}).items()
      if re.fullmatch(rf'(.*\.)?({pattern})', module)
    ),
    default,
  )


def require_targets(adapter: Adapter, modules: Collection[str]) -> None:
  """Raises ValueError for an entry of `target_modules` that no module of the base
  answers to.
  """
  targets = adapter.said.get('target_modules') or []
  if targets == 'all-linear':
    return
  single = isinstance(targets, str)
  for target in [targets] if single else targets:
    if not any(
      re.fullmatch(target, module) if single else ends(module, target)
      for module in modules
    ):
      tails = dict.fromkeys(
        '.'.join(module.split('.')[-1 - target.count('.') :]) for module in modules
      )
      raise ValueError(
        f'{adapter.file}: target_modules: {target!r} hits no module of the base; nearest: '
        f'{tree.nearest(target, tails)}'
      )


def ends(module: str, target: str) -> bool:
  """Does a name stand for this module, as the whole of its path or the end of it?"""
  return module == target or module.endswith(f'.{target}')


def short_names(chosen: Collection[str], modules: Collection[str]) -> list[str]:
  """The chosen modules as peft's lists say them: the ends of their names where these
  stand for no other module.
  """
  groups = collections.defaultdict(set)
  for module in chosen:
    groups[module.rpartition('.')[2]].add(module)
  found = []
  for group in groups.values():
    parts = next(iter(sorted(group))).split('.')
    tails = ['.'.join(parts[-count:]) for count in range(1, len(parts))]
    found += next(
      (
        [tail]
        for tail in tails
        if {module for module in modules if ends(module, tail)} == group
      ),
      sorted(group),
    )
  return sorted(found)


def lora_numbers(
  ranks: dict[str, int], scales: dict[str, float], stabilized: bool
) -> dict:
  """r and lora_alpha of most modules, and the patterns for the others."""
  alphas = {
    module: scales[module] * (math.sqrt(rank) if stabilized else rank)
    for module, rank in ranks.items()
  }
  rank = collections.Counter(ranks.values()).most_common(1)[0][0]
  alpha = collections.Counter(alphas.values()).most_common(1)[0][0]
  return dict(
    r=rank,
    lora_alpha=_whole(alpha),
    rank_pattern={
      re.escape(module): other for module, other in ranks.items() if other != rank
    },
    alpha_pattern={
      re.escape(module): _whole(other)
      for module, other in alphas.items()
      if other != alpha
    },
  )


def _whole(number: float):
  """A number as the integer that it is but for rounding."""
  return round(number) if math.isclose(number, round(number), rel_tol=1e-12) else number
