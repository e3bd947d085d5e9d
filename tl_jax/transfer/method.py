"""What a way of transferring is: which leaves are trained, which are held, and how both
make one model.

>>> method = partition_method(r'.*bias')
>>> trainable, frozen = method.init(None, {'kernel': 1.0, 'bias': 2.0})
>>> trainable, method.merge(trainable, frozen)
({'bias': 2.0, 'kernel': None}, {'bias': 2.0, 'kernel': 1.0})

Every method here is a choice of names: `partition_method` trains the leaves that it
chooses, `leaf_edit` puts a structured leaf in the place of each. `trainable` and
`frozen` are one tree with holes, so `merge` fills the holes.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tl_jax import leaves, rng, tree

Tree = Any


class NewHead(str):
  """A pattern of the leaves that a new task brings, where none is given."""


# The leaves that a new task brings: trained along with whatever a method trains, unless
# another `head` is given. A pooler that the task brings is among them (`head/pooler`);
# a pre-trained one is of the body (`pooler`), as in the papers. So is the output layer
# of a decoder (`OUTPUT`), as wide as the vocabulary: the default leaves it alone, and
# the same pattern, where it is given as a plain string, has it trained.
HEAD = NewHead(r'head/.*')
OUTPUT = 'head/kernel'
# The logical axis of an output layer that is as long as the vocabulary.
WORDS = 'words'


class TransferMethod(NamedTuple):
  """A way of transferring, as pure functions of trees that mirror the params.

  A hole is a None in the place of a leaf that the other tree holds.

  init(key, params, axes=None) -> (trainable, frozen). `params` may be any pytree of
    arrays, with holes.
  merge(trainable, frozen, *, key=None, step=None) -> params for the model, maybe with
    structured leaves. It depends on what the two trees hold together, not on which of
    them holds a leaf: merge(merged, None) == merged.
  fuse(trainable, frozen) -> params of plain arrays.
  axes(axes) -> (axes of trainable, axes of frozen), from a tree of PartitionSpecs that
    mirrors the params.
  penalty(trainable, frozen) -> a scalar that is added to the loss, once per step.
  reserved_positions: how many positions the method needs for each example.
  prompt_positions: how many of those make the row longer, as the vectors of a prompt
    do. The keys of a prefix take positions, but no place in the row.
  objective(objective) -> what the step minimizes in its place.
  optimizer(tx) -> what the step updates by in its place.
  inserts(name) -> is this trained leaf one that the method puts in? Such a leaf has no
    pre-trained value.
  edits: what errors call a method that edits leaves, '' for one that does not.
  regularizers: how a regularizer acts on the methods that it is composed with; of a
    composition, all of them.
  plain: of a composition with regularizers, the rest of it; None where nothing is left.
  """

  init: Callable[..., tuple[Tree, Tree]]
  merge: Callable[..., Tree]
  fuse: Callable[[Tree, Tree], Tree]
  axes: Callable[[Tree], tuple[Tree, Tree]]
  penalty: Callable[[Tree, Tree], jax.Array]
  reserved_positions: int = 0
  prompt_positions: int = 0
  objective: Callable = lambda objective: objective
  optimizer: Callable = lambda tx: tx
  inserts: Callable[[str], bool] = lambda name: False
  edits: str = ''
  regularizers: tuple = ()
  plain: Any = None


Choice = str | Callable[[str], bool]
Select = Callable[[Collection[str]], Collection[str]]


def partition_method(
  *choices: Choice, head: str | None = None, what: str = 'partition'
) -> TransferMethod:
  """Trains the leaves whose whole name a pattern matches or a predicate accepts, and
  the head. It holds the others.

  Errors: ValueError, at `init`, for a pattern that matches no leaf and where nothing is
  chosen.
  """
  return selecting_method(select_names(*choices, what=what), head=head, what=what)


def selecting_method(
  select: Select, *, head: str | None = None, what: str
) -> TransferMethod:
  """`partition_method` for a choice that needs all names at once: select(names) -> the
  chosen names.
  """
  select_head = select_names_of_head(head, what)

  def split_chosen(name, leaf):
    if isinstance(leaf, leaves.Quantized):
      raise ValueError(
        f'{what}: {name!r} is quantised and cannot be trained; edit it (lora) or '
        'choose other leaves'
      )
    return (leaf, None) if can_train(leaf) else (None, leaf)

  def split(params):
    named = named_leaves(params)
    chosen = {*select(named), *select_head(named)}

    def split_leaf(name, leaf):
      return split_chosen(name, leaf) if name in chosen else (None, leaf)

    return split_leaves(split_leaf, params)

  def init(key, params, axes=None):
    # Nothing is drawn, so arrays are split as their axes are.
    return split(params)

  return filling_method(init, split)


def can_train(leaf) -> bool:
  """Has a leaf a gradient?

  A counter, a random key and an activation function, which foreign trees hold too, have
  none.
  """
  if hasattr(leaf, 'dtype'):
    return jnp.issubdtype(leaf.dtype, jnp.inexact)
  # A float of Python has no dtype, but a gradient.
  return not callable(leaf)


def leaf_edit(
  edit: Callable,
  edit_axes: Callable,
  *choices: Choice,
  head: str | None = None,
  what: str,
  settle: Callable[[Tree], Tree] = lambda params: params,
) -> TransferMethod:
  """Puts a structured leaf in the place of every chosen leaf, and trains the head in
  full.

  edit(key, name, array) -> (the trained part, the held part) of the structured leaf:
  the same leaf twice, each time with holes for the other part. edit_axes(name, spec) is
  the same for PartitionSpecs.
  The key is a stream of the leaf's own name, so that no leaf's draw depends on another
  leaf. A leaf that the head matches is trained in full and not edited. A hole stays a
  hole, because another method has taken it. A quantised leaf is a base like an array.
  settle(params) completes the whole tree where leaves depend on each other.
  Errors: ValueError, at `init`, for a pattern that matches no leaf, a choice with
  nothing to edit, and a leaf that is edited twice.
  """
  select = select_names(*choices, what=what)
  select_head = select_names_of_head(head, what)

  def split(params, edit_leaf):
    named = named_leaves(params)
    # A new head has nothing pre-trained that an edit could keep.
    heads = set(select_head(named))
    chosen = set(select(named)) - heads
    # An edit of nothing would look like a method and train the head alone.
    if not chosen:
      raise ValueError(
        f'{what}: every leaf that the pattern matches belongs to the head {head!r}, '
        'which is trained in full; to edit it, give head=None'
      )

    def split_leaf(name, leaf):
      if name in heads:
        return leaf, None
      # A hole is in the hands of another method.
      if name not in chosen or leaf is None:
        return None, leaf
      if leaves.is_structured(leaf) and not isinstance(leaf, leaves.Quantized):
        raise ValueError(
          f'{what}: {name!r} is a {type(leaf).__name__} already: two methods edit it'
        )
      return edit_leaf(name, leaf)

    return split_leaves(split_leaf, params)

  def init(key, params, axes=None):
    def edit_leaf(name, leaf):
      # Without a key when only shapes and names are wanted, or nothing is drawn.
      own_key = None if key is None else rng.stream(key, name)
      return edit(own_key, name, leaf)

    return split(params, edit_leaf)

  def split_axes(axes):
    return split(axes, edit_axes)

  return filling_method(init, split_axes, settle)._replace(edits=what)


def filling_method(
  init: Callable, axes: Callable, settle: Callable[[Tree], Tree] = lambda params: params
) -> TransferMethod:
  """A method whose two trees fill each other's holes, without a penalty.

  init, axes: as in `TransferMethod`. settle(params) completes the whole tree.
  """

  def merge(trainable, frozen, *, key=None, step=None):
    # Settled when whole, because a leaf may need another that the other tree holds.
    return with_keys(settle(tree.combine(trainable, frozen)), key)

  def fuse(trainable, frozen):
    return leaves.fuse(settle(tree.combine(trainable, frozen)))

  return TransferMethod(init, merge=merge, fuse=fuse, axes=axes, penalty=no_penalty)


def with_keys(params, key):
  """The tree with a key in every structured leaf that draws (dropout).

  Each gets a stream of its name; without a key, none gets one, and nothing is drawn.
  """

  def give(name, leaf):
    if not leaves.is_structured(leaf) or not getattr(leaf, 'draws', False):
      return leaf
    own_key = None if key is None else rng.stream(key, name)
    return dataclasses.replace(leaf, key=own_key)

  return tree.map_named(give, params, is_leaf=leaves.is_structured)


def no_penalty(trainable: Tree, frozen: Tree) -> jax.Array:
  """The penalty of a method without one: 0."""
  return jnp.zeros(())


def select_names(*choices: Choice, what: str) -> Select:
  """A function from all names to those that any choice accepts.

  choices: patterns of whole names, and predicates. The function raises ValueError for a
  pattern that matches no name and where nothing is chosen.
  """
  # A pattern must match something, because a misspelled one would train nothing. A
  # predicate may accept nothing.
  patterns = [choice for choice in choices if isinstance(choice, str)]
  predicates = [choice for choice in choices if not isinstance(choice, str)]
  accepts = [tree.matcher(*patterns), *predicates]

  def select(names):
    tree.require_match(patterns, names, what)
    chosen = []
    for name in names:
      if any(accept(name) for accept in accepts):
        chosen.append(name)
    if not chosen:
      raise ValueError(f'{what}: chooses none of the {len(names)} parameters')
    return chosen

  return select


def select_names_of_head(head: str | None, what: str) -> Select:
  """A function from all leaves by name to the names that `head` matches.

  It must match some, unless it is the default or None: foreign params need not have a
  head. The default does not match the output layer of a decoder.
  """
  if head is not None and head != HEAD:
    return select_names(head, what=f'{what}: head')
  belongs = head_matcher(head)

  def select(named):
    spared = isinstance(head, NewHead) and writes_words(named)
    return [name for name in named if belongs(name) and not (spared and name == OUTPUT)]

  return select


def writes_words(named: dict[str, Any]) -> bool:
  """Is there an output layer of its own over the vocabulary that the embedding reads?

  named: arrays or PartitionSpecs by name.
  """
  kernel, table = named.get(OUTPUT), named.get('embedding/tokens')
  # What is in the hands of another method tells nothing.
  if kernel is None or table is None:
    return False
  # A structured leaf has several specs; that of what it stands for is among them.
  is_spec = lambda node: isinstance(node, PartitionSpec)
  specs = list(filter(is_spec, jax.tree.leaves(kernel, is_leaf=is_spec)))
  if specs:
    return any(WORDS in spec for spec in specs)
  return len(kernel.shape) == 2 and kernel.shape[-1] == table.shape[0]


def head_matcher(head: str | None) -> Callable[[str], bool]:
  """A predicate of the names of the head, which is new.

  With None, which says that the head is pre-trained like the rest, it accepts no name.
  """
  patterns = [] if head is None else [head]
  return tree.matcher(*patterns)


def is_whole(leaf) -> bool:
  """Is this a leaf to a method: an array, a hole, or a structured leaf?

  To jax a hole is no leaf, and a structured leaf is a tree of several arrays. To a
  method each has one name.
  """
  return leaf is None or leaves.is_structured(leaf)


def named_leaves(params: Tree) -> dict[str, Any]:
  """Every leaf by its name, holes and structured leaves among them."""
  flat = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_whole)
  return {tree.name_of(path): leaf for path, leaf in flat}


def leaf_names(params: Tree) -> list[str]:
  """The name of every leaf, a hole's and a structured leaf's among them."""
  return list(named_leaves(params))


def split_leaves(
  split: Callable[[str, Any], tuple[Any, Any]], params: Tree
) -> tuple[Tree, Tree]:
  """Two trees from the pair that `split(name, leaf)` makes of every leaf."""
  flat, structure = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_whole)
  ones = []
  others = []
  for path, leaf in flat:
    one, other = split(tree.name_of(path), leaf)
    ones.append(one)
    others.append(other)
  return structure.unflatten(ones), structure.unflatten(others)
