"""Which layers the state of a run holds together, as one array each for a loop over them.

A state is named where it is made, saved, and read by others. A compiled step takes and
gives it in the held form of `tl_jax.layers`, where the layers of a stack run in a loop:
nothing is stacked in the step, and the program does not grow with the layers.

>>> plan_of_names({'mu/layers/0/bias': 1, 'mu/layers/1/bias': 1}, 'layers/', 0, 2)
{'mu/layers/0/bias': ('mu/layers/0/bias', 'mu/layers/1/bias')}
"""

from collections.abc import Mapping
from typing import Any

from jax.sharding import NamedSharding, PartitionSpec

from tl_jax import layers, models, optim, tree
from tl_jax.train.assembly import Components
from tl_jax.train.step import TrainState


def held_shardings(
  components: Components, abstract: TrainState, shardings: TrainState
) -> TrainState:
  """The shardings of a state in the form in which a step takes it.

  abstract, shardings: those of the named state. A stack of layers is held where its
  layers run in a loop on the platform that is traced for, and all of their leaves are
  alike in the whole state: in shape, dtype, sharding and group of the optimizer. Where
  some layers are edited or trained and others not, the whole stack stays named, and the
  step stacks it. So do layers that share parameters, and all of a run whose optimizer is
  not of `make_optimizer` alone (a method that decays or masks by name).
  """
  plan = _plan(components, abstract, shardings)
  return layers.hold(shardings, plan, _over_layers)


def _over_layers(shardings: list[NamedSharding]) -> NamedSharding:
  """The sharding of leaves that are held together: no axis divides the layers."""
  first = shardings[0]
  return NamedSharding(first.mesh, PartitionSpec(None, *first.spec))


def _plan(components: Components, abstract, shardings) -> layers.Plan:
  """The names of the state that are held together, by the first of them."""
  model, tx = components.model, components.tx
  # Only an optimizer of ours is known to treat each layer by itself.
  by_name = not isinstance(tx, optim.Optimizer)
  by_name = by_name or components.method.optimizer(tx) is not tx
  if by_name or model.arch.layer_groups or not models.scans(model.compute):
    return {}
  forms = _forms(components, abstract, shardings)
  # A first layer without a norm runs outside of the loop, as does the last one where
  # the head reads some of its columns: part of a stack would be a copy of it.
  first = int(model.arch.skip_first_norm)
  plan = {}
  for stack in models.STACKS[model.arch.kind]:
    place = f'{stack.prefix}/layers/' if stack.prefix else 'layers/'
    last = models.stack_layers(model.arch, stack)
    if models.reads_columns(model.arch, stack):
      last -= 1
    plan |= plan_of_names(forms, place, first, last)
  return plan


def _forms(components: Components, abstract, shardings) -> dict[str, Any]:
  """What must be the same of leaves that are held together, by the names of the state."""
  places = tree.flatten(shardings)
  groups = {}
  for name in tree.flatten(abstract.trainable):
    groups[f'trainable/{name}'] = optim.group_of(name, components.groups)
  forms = {}
  for name, leaf in tree.flatten(abstract).items():
    forms[name] = leaf.shape, leaf.dtype, places[name], groups.get(name)
  return forms


def plan_of_names(
  forms: Mapping[str, Any], stack: str, first: int, last: int
) -> layers.Plan:
  """The names that are held together of a stack whose layers are scanned from `first`
  until `last`; {} where they are not all alike.

  forms: what must be the same of leaves that are, by name. stack: how the names of its
  layers begin, behind what stands before the parameters' own names.
  """
  plan = {}
  for name in forms:
    place = layers.place_of(name)
    if place is None or not f'/{place.stack}'.endswith(f'/{stack}'):
      continue
    if not first <= place.index < last:
      continue
    # The whole stack: where one leaf is by name, its layers are stacked in the step.
    names = place._replace(index=first).names(last - first)
    if any(forms.get(own) != forms[name] for own in names):
      return {}
    plan[names[0]] = names
  return plan
