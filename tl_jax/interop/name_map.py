"""The form of the map from our parameters to the tensors of a Hugging Face family.

>>> layers('', 'encoder.layer', {'mlp/in': 'intermediate.dense'})
{'layers/{}/mlp/in': 'encoder.layer.{}.intermediate.dense'}
"""

from typing import NamedTuple

# Stands for the number of a layer
LAYER = '{}'

# Heads of one linear map to labels, in the words of BERT.
TOKEN_HEADS = {'token': {'head': 'classifier'}, 'span': {'head': 'qa_outputs'}}


class Names(NamedTuple):
  """The map of one family.

  A key is the path of one of our modules, or of a whole parameter; the value is the name
  of their module, or of their whole tensor. A value may end in a mark: `|0`, `|1` for
  the part of a tensor that holds several of ours, `|row` for a vector with a leading
  axis of 1, `|transposed` for a kernel that is transposed where those of the family are
  not, and `|as-is` for one that is not transposed where those of the family are.

  body: the parameters under every head.
  heads: by head, the parameters of the head.
  base: what stands before the names of the body in a checkpoint that has a head.
  bases: by head, another `base`.
  transposed: are kernels stored (out, in)?
  extra: regular expressions of tensors that a folder may hold and no model needs, with
  or without `base`. Those of other heads need not be listed.
  tied_names: the two names of the bias of a masked head. The second one counts where
  the head has a token table of its own.
  gated: the rows of `body` that a gated MLP replaces.
  tables: other names of the token table, below `base`.
  zeros: tensors that are all zeros where a folder leaves them out.
  sines: tables of sinusoidal positions, below `base`, which a folder holds and no model
  learns.
  others: by tensor, other names that a folder may have for it, the best first.
  """

  body: dict
  heads: dict
  base: str
  bases: dict = {}
  transposed: bool = True
  extra: tuple[str, ...] = ()
  tied_names: tuple[str, ...] = ()
  gated: dict = {}
  tables: tuple[str, ...] = ()
  zeros: tuple[str, ...] = ()
  sines: tuple[str, ...] = ()
  others: dict = {}


def layers(ours: str, theirs: str, modules: dict) -> dict:
  """The rows of the modules of every layer of a stack.

  ours, theirs: what stands before `layers/0` in our names, and before `.0` in theirs.
  modules: the names of the modules within a layer, ours to theirs.
  """
  rows = {}
  for module, name in modules.items():
    rows[f'{ours}layers/{LAYER}/{module}'] = f'{theirs}.{LAYER}.{name}'
  return rows
