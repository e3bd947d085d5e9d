"""What was trained of a model, in the words of peft.

>>> method_of({'embedding/prompt': None})
'PROMPT_TUNING'
"""

from typing import Any, NamedTuple

from tl_jax import leaves, models, tree
from tl_jax.interop import peft_checks
from tl_jax.interop.peft_base import PROMPT, kind_of, module_of

LABELLED = ('classifier', 'token', 'span')


class Trained(NamedTuple):
  """What was trained of a model, by the modules of transformers.

  modules: the module of every parameter, by our name of the parameter. edited: the
  modules whose matrices the method edits. saved: the modules that the adapter holds in
  full. whole: the names of the plain parameters that the adapter holds, which are those
  of `saved` and single biases. bias: the key `bias` of a config of LoRA.
  """

  modules: dict[str, str]
  edited: set[str]
  saved: set[str]
  whole: set[str]
  bias: str


def method_of(flat: dict[str, Any]) -> str:
  """peft's name of the method that these leaves hold. ValueError for none or two."""
  kinds = {kind_of(leaf) for leaf in flat.values()} - {''}
  if PROMPT in flat:
    kinds.add('PROMPT_TUNING')
  if not kinds:
    raise ValueError(no_adapter(flat))
  if len(kinds) > 1:
    raise ValueError(
      'an adapter of peft is of one method, these parameters hold '
      f'{", ".join(sorted(kinds))}'
    )
  return kinds.pop()


def no_adapter(flat: dict[str, Any]) -> str:
  """What to say of parameters that hold nothing of a method of peft."""
  for name, leaf in flat.items():
    if isinstance(leaf, leaves.Bottleneck):
      return (
        f'{name}: a bottleneck adapter is nothing that peft has; the workdir itself is '
        'what tl_jax.load opens'
      )
  return (
    'no adapter here: a probe, or training some or all of the parameters, adds nothing '
    'that peft could hold; write the whole model, with --format=hf '
    '(tl_jax.interop.save)'
  )


def trained_of(kind: str, arch, flat: dict, trainable, where: dict) -> Trained:
  """What was trained, by module. ValueError for a module both edited and trained."""
  modules = {name: module_of(place) for name, place in where.items()}
  own = structured_leaves(flat)
  edited = {modules[name] for name in own & where.keys()}
  plain = plain_leaves(arch, flat, trainable, where.keys() - own)

  # Other methods than LoRA have no key for biases alone: theirs save whole modules.
  bias, biases = 'none', set()
  if kind == 'LORA':
    bias, biases = peft_checks.trained_biases(modules, plain, edited)
  saved = {modules[name] for name in plain - biases}
  for module in sorted(saved & edited):
    raise ValueError(
      f'{module}: peft trains a module in full or edits it, here both are asked for'
    )
  whole = {name for name in where if modules[name] in saved} | biases
  return Trained(modules, edited, saved, whole, bias)


def structured_leaves(flat: dict) -> set[str]:
  """The names of the leaves that the method put in: a prompt is a plain array."""
  found = set()
  for name, leaf in flat.items():
    if name == PROMPT or kind_of(leaf):
      found.add(name)
  return found


def plain_leaves(arch: models.Arch, flat: dict, trainable, places) -> set[str]:
  """The names of what was trained in full, with the head that peft always saves.

  places: the names of the leaves that are in a checkpoint and not the method's own.
  """
  found = {name for name in tree.flatten(trainable) if name in places}
  # peft puts the head of these tasks among what it saves, trained or not. One that the
  # method edits is among them as well, and is refused.
  if arch.head in LABELLED:
    found |= {name for name in flat if name.startswith('head/')}
  return found
