"""The tensors of each method of peft, and the structured leaves that they are here.

>>> spans([2, 3])
[slice(0, 2, None), slice(2, 5, None)]

LoRA, DoRA and (IA)^3 edit matrices and are written here; prefixes and prompts stand
beside the matrices and have a file of their own.
"""

import collections
import re
from collections.abc import Collection

import jax.numpy as jnp
import numpy as np

from tl_jax import leaves
from tl_jax.interop import names, peft_config, peft_prompts
from tl_jax.leaves.matrices import column_norms

PROMPTED = ('PREFIX_TUNING', 'PROMPT_TUNING')
EMBEDDING = r'(.*/)?embedding/(tokens|positions|types)'
# peft saves the pair of a table and the vector of DoRA as parameters, whose names do
# not all end in `.weight`.
LORA_PART = (
  r'(?P<module>.+)\.'
  r'(?P<part>lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector)(\.weight)?'
)
MODEL = 'base_model.model.'


def groups_of(where: dict) -> dict[str, list[str]]:
  """Our matrices by the module of theirs that holds them, in the order of its parts."""
  # GPT-2, for one, holds query, key and value as one matrix.
  found = collections.defaultdict(list)
  for name, place in where.items():
    if place.name.endswith('.weight'):
      found[place.name.removesuffix('.weight')].append(name)
  for group in found.values():
    group.sort(key=lambda name: where[name].part)
  return dict(found)


def modules_of(where: dict) -> set[str]:
  """Every module of theirs that holds a parameter of ours."""
  return {place.name.rpartition('.')[0] for place in where.values()}


def is_low_rank(leaf) -> bool:
  """Is this a leaf of LoRA or of DoRA?"""
  return isinstance(leaf, (leaves.LowRank, leaves.Directed))


def write_lora(
  arch, family: str, flat: dict, where: dict, stabilized: bool
) -> tuple[dict, dict]:
  """(config, tensors) of LowRank or Directed leaves.

  Raises ValueError for a model that holds both, and for a token table that is the
  output layer too.
  """
  edited = {name: leaf for name, leaf in flat.items() if is_low_rank(leaf)}
  dora = is_dora(edited.values())
  found, ranks, scales = {}, {}, {}
  for module, group in groups_of(where).items():
    if edited.keys() & set(group):
      require_untied(arch, group[0])
      parts = [flat[name] for name in group]
      a, b, scales[module] = join(parts)
      ranks[module] = a.shape[1]
      written = lora_tensors(group[0], a, b)
      if dora:
        written['lora_magnitude_vector'] = magnitudes(parts, a.dtype)
      for part, array in written.items():
        found[f'{MODEL}{module}.{part}'] = np.ascontiguousarray(array)
  declared = peft_config.lora_numbers(ranks, scales, stabilized)
  # The file holds the numbers, so that any start will do that leaves the base alone.
  declared |= dict(bias='none', init_lora_weights=True)
  declared |= dict(use_rslora=stabilized, use_dora=dora)
  # peft has one rate for all modules: of several, the strongest.
  declared['lora_dropout'] = max(leaf.rate for leaf in edited.values())
  # Does the base store its matrices (in, out), as GPT-2 does?
  declared['fan_in_fan_out'] = not names.NAMES[family].transposed
  modules = modules_of(where)
  declared['target_modules'] = peft_config.short_names(ranks, modules)
  return declared, found


def is_dora(edited: Collection) -> bool:
  """Are these leaves of DoRA, not of LoRA? ValueError where there are both."""
  kinds = {type(leaf) for leaf in edited}
  if len(kinds) > 1:
    raise ValueError(
      'an adapter of peft is all LoRA or all DoRA, these parameters hold both'
    )
  return kinds == {leaves.Directed}


def lora_tensors(name: str, a: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
  """a (in, r) and b (r, out) of our matrix `name` as peft calls and turns them.

  Of a table, peft holds the pair as parameters; of a matrix, as two linear layers.
  """
  if re.fullmatch(EMBEDDING, name):
    return {'lora_embedding_A': a.T, 'lora_embedding_B': b.T}
  return {'lora_A.weight': a.T, 'lora_B.weight': b.T}


def require_untied(arch, name: str) -> None:
  """Raises ValueError for an edited table that is the output layer too."""
  if name == 'embedding/tokens' and arch.tied and arch.head in ('masked', 'causal'):
    raise ValueError(
      f'{name}: peft edits the embedding but not the output that is tied to it, ours '
      'edits both'
    )


def join(parts: list) -> tuple[np.ndarray, np.ndarray, float]:
  """(a, b, scale) of one matrix, from the leaves of its parts.

  parts: the leaves in their order, each of an equal share of the outputs; some may be
  plain. Of a (in, r) the parts stand side by side, of b (r, out) they are blocks on the
  diagonal: the rank r is the sum of those of the parts. Where all have the same a, it
  is written once, and r is that of each.
  """
  # Converted once: each a is compared, then copied.
  edited = [leaf for leaf in parts if is_low_rank(leaf)]
  lefts = [np.asarray(leaf.a) for leaf in edited]
  scale = edited[0].scale
  first = lefts[0]
  shared = all(np.array_equal(left, first) for left in lefts)
  a = first if shared else np.concatenate(lefts, 1)
  blocks = []
  rank = a.shape[1]
  at = 0
  for leaf in parts:
    # Zeros for a part that is plain: it stays as it is.
    block = np.zeros((rank, leaf.shape[-1]), first.dtype)
    if is_low_rank(leaf):
      b = np.asarray(leaf.b)
      # A module has one scale in the config; what differs from it goes into b.
      if leaf.scale != scale:
        b = b * (leaf.scale / scale)
      block[at : at + len(b)] = b
      if not shared:
        at += len(b)
    blocks.append(block)
  return a, np.concatenate(blocks, 1), scale


def magnitudes(parts: list, dtype) -> np.ndarray:
  """The lengths (out,) of the columns of a matrix under DoRA, from its parts.

  A part that is plain keeps the lengths that it has.
  """
  found = []
  for leaf in parts:
    vector = leaf.magnitude if is_low_rank(leaf) else column_norms(leaf)
    found.append(np.asarray(vector, dtype))
  return np.concatenate(found)


def read_lora(adapter, arch, params: dict, where: dict, found: dict) -> dict:
  """The LowRank or Directed leaves, by name, of the tensors `found`, which lose them.

  Raises ValueError for half a pair, for another rank than the config says, for a matrix
  of another size than the base has, and where DoRA is said and not there.
  """
  groups = groups_of(where)
  parts = take_parts(groups, found)
  # Tensors that are left have names of their own to be said by the caller.
  if not parts and not found:
    raise ValueError('holds no tensor lora_A of any module')
  new = {}
  for module, held in parts.items():
    group = groups[module]
    a, b = pair_of(module, held)
    sizes = [params[name].shape[-1] for name in group]
    matrix = (params[group[0]].shape[0], sum(sizes))
    require_fitting(module, a, b, adapter.rank(module), matrix)
    require_untied(arch, group[0])
    magnitude = magnitude_of(module, held, adapter)
    scale = adapter.scale(module)
    rate = float(adapter.declared.get('lora_dropout') or 0.0)
    # Each part of the matrix has all of a and its own columns of b.
    for name, columns in zip(group, spans(sizes), strict=True):
      own_b = jnp.array(b[:, columns])
      pair = (params[name], jnp.array(a), own_b)
      if magnitude is None:
        new[name] = leaves.LowRank(*pair, scale, rate)
      else:
        lengths = jnp.array(magnitude.reshape(-1)[columns])
        new[name] = leaves.Directed(*pair, lengths, scale, rate)
  return new


def take_parts(groups: dict, found: dict) -> dict[str, dict[str, np.ndarray]]:
  """The tensors of LoRA by module, then by what they are; `found` loses them."""
  parts = collections.defaultdict(dict)
  for name in list(found):
    match = re.fullmatch(LORA_PART, name)
    if match and match['module'] in groups:
      read = found.pop(name)
      parts[match['module']][match['part']] = read()
  return parts


def pair_of(module: str, held: dict) -> tuple[np.ndarray, np.ndarray]:
  """a (in, r) and b (r, out) of a module. ValueError where one of them is missing."""
  kinds = ('lora_A', 'lora_B')
  if 'lora_embedding_A' in held:
    kinds = ('lora_embedding_A', 'lora_embedding_B')
  missing = set(kinds) - set(held)
  if missing:
    raise ValueError(
      f'tensor {module}.{min(missing)} is missing, the other half is there'
    )
  # peft holds a as (r, in) and b as (out, r).
  first, second = kinds
  return held[first].T, held[second].T


def require_fitting(module: str, a, b, rank: int, matrix: tuple[int, int]) -> None:
  """Raises ValueError unless a and b have this rank and make this matrix (in, out)."""
  ranks = a.shape[-1], b.shape[0]
  if ranks != (rank, rank):
    raise ValueError(
      f'{module}: lora_A and lora_B are of rank {a.shape[-1]} and {b.shape[0]}, '
      f'{peft_config.CONFIG} says {rank}'
    )
  made = (a.shape[0], b.shape[-1])
  if made != matrix:
    raise ValueError(f'{module}: made for a matrix of {made}, the base has {matrix}')


def magnitude_of(module: str, held: dict, adapter) -> np.ndarray | None:
  """The vector of DoRA; None for LoRA. ValueError where config and file disagree."""
  magnitude = held.get('lora_magnitude_vector')
  declared = adapter.declared.get('use_dora')
  if (magnitude is None) == bool(declared):
    state = 'missing' if magnitude is None else 'there'
    raise ValueError(
      f'{module}: use_dora is {declared}, but lora_magnitude_vector is {state}'
    )
  return magnitude


def spans(sizes: list[int]) -> list[slice]:
  """Where parts of these sizes lie side by side."""
  found = []
  start = 0
  for size in sizes:
    found.append(slice(start, start + size))
    start += size
  return found


def write_ia3(
  arch, family: str, flat: dict, where: dict, stabilized: bool
) -> tuple[dict, dict]:
  """(config, tensors) of Scaled leaves.

  Raises ValueError for scaled inputs of one of several matrices that peft has as one.
  """
  found, inputs, outputs = {}, set(), set()
  for module, group in groups_of(where).items():
    parts = [flat[name] for name in group]
    side = side_of(parts)
    if side == 'in' and len(group) > 1:
      raise ValueError(
        f'{group[0]}: peft scales the inputs of {module} whole, and it is '
        f'{len(group)} matrices here'
      )
    # The shape tells the side: peft has (1, in) for inputs and (out, 1) for outputs.
    if side == 'in':
      found[f'{MODEL}{module}.ia3_l'] = scales_of(parts)[None]
      inputs.add(module)
    elif side == 'out':
      found[f'{MODEL}{module}.ia3_l'] = scales_of(parts)[:, None]
      outputs.add(module)
  modules = modules_of(where)
  inner = peft_config.short_names(inputs, modules)
  outer = peft_config.short_names(outputs, modules)
  declared = dict(feedforward_modules=inner, init_ia3_weights=True)
  declared['target_modules'] = sorted(inner + outer)
  declared['fan_in_fan_out'] = not names.NAMES[family].transposed
  return declared, found


def side_of(parts: list) -> str:
  """'in' or 'out', by what the first scaled leaf of a matrix scales; '' without one."""
  for leaf in parts:
    if isinstance(leaf, leaves.Scaled):
      return leaf.side
  return ''


def scales_of(parts: list) -> np.ndarray:
  """What (IA)^3 multiplies a matrix by, from its parts; ones for a plain part."""
  found = []
  for leaf in parts:
    if isinstance(leaf, leaves.Scaled):
      found.append(np.asarray(leaf.scale))
    else:
      found.append(np.ones(leaf.shape[-1], np.float32))
  return np.concatenate(found)


def read_ia3(adapter, arch, params: dict, where: dict, found: dict) -> dict:
  """The Scaled leaves, by name, of the tensors `found`, which lose them.

  Raises ValueError for a vector of another length than the base's matrix has.
  """
  groups = groups_of(where)
  new = {}
  for tensor in list(found):
    module, _, part = tensor.rpartition('.')
    if part == 'ia3_l' and module in groups:
      vector = found.pop(tensor)()
      new |= scaled_leaves(tensor, vector, groups[module], params)
  if not new and not found:
    raise ValueError('holds no tensor ia3_l of any module')
  return new


def scaled_leaves(
  tensor: str, vector: np.ndarray, group: list[str], params: dict
) -> dict[str, leaves.Scaled]:
  """The leaves, by name, of the parts of a matrix that a vector of (IA)^3 scales."""
  sizes = [params[name].shape[-1] for name in group]
  matrix = (params[group[0]].shape[0], sum(sizes))
  # peft has (1, in) for inputs and (out, 1) for outputs.
  side = 'in' if vector.shape[0] == 1 else 'out'
  if vector.size != (matrix[0] if side == 'in' else matrix[1]):
    raise ValueError(
      f'{tensor}: has shape {vector.shape}, the base a matrix of {matrix}'
    )
  flat = vector.reshape(-1)
  new = {}
  for name, columns in zip(group, spans(sizes), strict=True):
    if side == 'in':
      scale = jnp.array(flat)
      new[name] = leaves.Scaled(params[name], scale, side)
    else:
      new |= scaled_output(name, params, jnp.array(flat[columns]))
  return new


def scaled_output(name: str, params: dict, scale) -> dict[str, leaves.Scaled]:
  """The leaves of a matrix whose outputs are scaled, with the bias that is added.

  peft scales what comes out of a module, after its bias, so that the bias is scaled as
  well.
  """
  new = {name: leaves.Scaled(params[name], scale, 'out')}
  bias = f'{name.removesuffix("kernel")}bias'
  if bias in params:
    new[bias] = leaves.Scaled(params[bias], scale)
  return new


WRITE = {
  'LORA': write_lora,
  'IA3': write_ia3,
  'PREFIX_TUNING': peft_prompts.write_prefix,
  'PROMPT_TUNING': peft_prompts.write_prompt,
}
READ = {
  'LORA': read_lora,
  'IA3': read_ia3,
  'PREFIX_TUNING': peft_prompts.read_prefix,
  'PROMPT_TUNING': peft_prompts.read_prompt,
}
