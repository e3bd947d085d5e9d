"""What an adapter's config says is compared with what its file holds, both ways.

The biases that an adapter trains are found here, too, because both ways need them.

>>> trained_biases({'a/kernel': 'm', 'a/bias': 'm', 'b/bias': 'n'}, {'a/bias'}, {'m'})
('lora_only', {'a/bias'})
"""

import logging
import re
from collections.abc import Iterable

from tl_jax import tree
from tl_jax.interop.peft_base import module_of
from tl_jax.interop.peft_config import Adapter, is_part
from tl_jax.interop.peft_parts import EMBEDDING, PROMPTED, groups_of

_LOG = logging.getLogger(__name__)
# peft names these for every classifier, whichever of them the model has.
HEADS_OF_ALL = ('classifier', 'score')


def require_complete(
  adapter: Adapter, where: dict, new: dict, full: set, output: str
) -> None:
  """Raises ValueError where config and file are not about the same modules.

  where: the place of every parameter, by our name. new: the structured leaves that the
  file made, by name. full: the names of the leaves that the file has whole. output:
  their module of the output layer; a tied model has none of its own in `where`.
  """
  require_saved(adapter, where, full, output)
  # A prompt and a prefix are not of any module.
  if adapter.kind in PROMPTED:
    return
  matrices = {}
  for module, group in groups_of(where).items():
    if group[0].endswith('kernel') or re.fullmatch(EMBEDDING, group[0]):
      matrices[module] = group
  edited = set()
  for module, group in matrices.items():
    if any(name in new for name in group):
      edited.add(module)
  require_edited(adapter, matrices, edited)
  if adapter.kind == 'IA3':
    require_sides(adapter, matrices, new)
  say_lost_biases(adapter, where, edited, full)


def require_edited(adapter: Adapter, matrices, edited: set) -> None:
  """Raises ValueError for a target without tensors, and for tensors of no target."""
  targets = adapter.declared.get('target_modules')
  # Without targets, peft takes those of its own list for the family.
  if not targets or targets == 'all-linear':
    return
  for module in matrices:
    if adapter.edits(module) and module not in edited:
      raise ValueError(
        f'target_modules names {module}, but the file holds no tensor of it'
      )
  # peft would open these tensors and leave them out of the model.
  for module in sorted(edited):
    if not adapter.edits(module):
      raise ValueError(
        f'{module}: the file holds tensors of it, but target_modules does not name it'
      )


def require_sides(adapter: Adapter, matrices: dict, new: dict) -> None:
  """Raises ValueError where the config and the file scale other sides of a matrix."""
  for module, group in matrices.items():
    scaled = [new[name] for name in group if name in new]
    if not scaled:
      continue
    # All parts of a module come from one tensor, so that they have one side.
    side = scaled[0].side
    said_inputs = adapter.scales_inputs(module)
    if said_inputs != (side == 'in'):
      declared = 'names' if said_inputs else 'does not name'
      raise ValueError(
        f'feedforward_modules {declared} {module}, but its tensor ia3_l scales what goes '
        f'{side}'
      )


def require_saved(adapter: Adapter, where: dict, full: set, output: str) -> None:
  """Raises ValueError for an entry of `modules_to_save` that the file does not hold."""
  modules = {name: module_of(place) for name, place in where.items()}
  for entry in adapter.declared.get('modules_to_save') or ():
    wanted = [name for name, module in modules.items() if is_part(module, entry)]
    for name in wanted:
      if name not in full:
        raise ValueError(
          f'modules_to_save names {entry!r}, but the file holds no tensor '
          f'{where[name].name!r}'
        )
    if not wanted:
      require_head(entry, output, modules.values())


def require_head(entry: str, output: str, modules: Iterable[str]) -> None:
  """Raises ValueError for an entry that names neither a head nor the output layer.

  Such an entry is right where the model has no parameter of it: peft lists all heads,
  and the output layer of a tied model is its token table.
  """
  if entry in HEADS_OF_ALL or is_part(output, entry):
    return
  ends = {module.rpartition('.')[2] for module in modules}
  near = tree.nearest(entry, ends)
  raise ValueError(
    f'modules_to_save: {entry!r} is no module of the base; nearest: {near}'
  )


def say_lost_biases(adapter: Adapter, where: dict, edited: set, full: set) -> None:
  """Warns of an adapter that says it trained biases and holds none.

  peft up to 0.19 loses them when it saves with bias='lora_only'.
  """
  bias = adapter.declared.get('bias', 'none')
  of_edited = set()
  for name, place in where.items():
    if name.endswith('bias') and module_of(place) in edited:
      of_edited.add(name)
  if bias == 'none' or not of_edited or of_edited & full:
    return
  _LOG.warning(
    '%s: bias = %r, but the file holds no bias of what it edits: they were lost '
    'when it was saved, and the biases of the base are used',
    adapter.file,
    bias,
  )


def trained_biases(
  modules: dict[str, str], whole: set, edited: set
) -> tuple[str, set[str]]:
  """(`bias` of peft's config, the names of the biases that it covers).

  modules: the module of theirs that each parameter belongs to, by our name. whole: the
  names of plain leaves that were trained. edited: the modules whose matrices are
  edited. Raises ValueError for biases that peft has no word for.
  """
  biases = {name for name in modules if name.endswith('bias')}
  of_edited = {name for name in biases if modules[name] in edited}
  if not of_edited & whole:
    return 'none', set()
  # 'all' is tried first: it also covers biases beside no edited matrix.
  if biases <= whole:
    return 'all', biases_alone(biases, modules, whole)
  if of_edited <= whole:
    return 'lora_only', of_edited
  name = min(of_edited - whole)
  raise ValueError(
    f'{name}: is held, while biases of other edited modules are trained; peft trains '
    'those of all the modules that it edits, or all there are'
  )


def biases_alone(biases: set[str], modules: dict[str, str], whole: set) -> set[str]:
  """The trained biases of modules of which something else is held.

  The bias of a module that is trained in full is saved with that module.
  """
  partly = {modules[name] for name in modules.keys() - whole}
  return {name for name in biases if modules[name] in partly}
