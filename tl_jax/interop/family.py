"""How one family of Hugging Face says what we say: the row of the tables in `families`
and `decoders`.

>>> classes('Bert', 'masked')
{'none': 'BertModel', 'masked': 'BertForMaskedLM'}
"""

from collections.abc import Callable
from typing import NamedTuple

from tl_jax.interop.name_map import Names
from tl_jax.models import Arch

ACTIVATIONS = {
  'gelu': 'gelu',
  'gelu_new': 'gelu_tanh',
  'gelu_pytorch_tanh': 'gelu_tanh',
  'gelu_fast': 'gelu_tanh',
  'gelu_python': 'gelu',
  'quick_gelu': 'quick_gelu',
  'relu': 'relu',
  'silu': 'silu',
  'swish': 'silu',
  'tanh': 'tanh',
}
THEIRS = {'gelu_tanh': 'gelu_new'} | {
  name: name for name in ('gelu', 'quick_gelu', 'relu', 'silu', 'tanh')
}


class Family(NamedTuple):
  """How one `model_type` says what we say.

  names: what our parameters are called in its checkpoints. All else is of config.json.
  keys: our field to (their key, their default). fixed: fields that are always so.
  heads: our head to their class; the first is the body alone. read(config) and
  write(arch) do what a table cannot. only: their keys with the values that we compute;
  another is refused.
  """

  names: Names
  keys: dict
  fixed: dict
  heads: dict
  read: Callable[[dict], dict] = lambda config: {}
  write: Callable[[Arch], dict] = lambda arch: {}
  only: dict = {}


def classes(name: str, *heads: str, **others: str) -> dict:
  """Our heads with the classes of theirs: `others` where a class has a name of its own."""
  suffixes = dict(
    masked='ForMaskedLM',
    causal='ForCausalLM',
    classifier='ForSequenceClassification',
    choice='ForMultipleChoice',
    token='ForTokenClassification',
    span='ForQuestionAnswering',
  )
  found = {'none': f'{name}Model'}
  for head in heads:
    found[head] = name + suffixes[head]
  return found | others
