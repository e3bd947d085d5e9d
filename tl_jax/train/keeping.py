"""Examples with texts to write, encoded once and kept for the next start.

>>> import tempfile
>>> from tl_jax.data import tokenizers
>>> tokenizer = tokenizers.train(['a cat', 'a dog'], 'bpe', 300)
>>> writer = tasks.Writer('encoder-decoder', tokenizer.eos, tokenizer.pad)
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> limits = tasks.Limits(16, folder, target_length=8, writer=writer)
>>> problem = tasks.PROBLEMS['text']
>>> targets = problem.gather([tasks.Example(('a cat',), 'a dog')])
>>> found = encoded(problem, ['a cat'], targets, tokenizer, limits)
>>> len(found.examples.tokens), len(list(folder.glob('examples-*')))
(1, 1)
"""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from tl_jax import tasks
from tl_jax.data import pipeline, store
from tl_jax.data.tokens import TokenList, map_array
from tl_jax.tasks.problems.problem import Encoded

# Another number encodes all examples anew: for whoever changes how they are encoded.
FORMAT = 1
# The fields of `Examples` that are lists of numbers for every example.
LISTS = ('tokens', 'targets', 'learned')
DESCRIPTION = 'description.json'


def encoded(
  problem: tasks.Problem, texts: Sequence[str], targets, tokenizer, limits: tasks.Limits
) -> Encoded:
  """What `problem.encode` says, from the cache below `limits.folder` or anew into it.

  The cache is keyed by all that changes it: texts and targets, the tokenizer with its
  chat template, and the limits. A problem of the user's own, whose code may change from
  start to start, is not kept.
  """
  if problem is not tasks.PROBLEMS.get(problem.name):
    return problem.encode(texts, targets, tokenizer, limits)
  key = _key(problem, texts, targets, tokenizer, limits)

  # Called only where the folder is not there.
  def write(folder: pathlib.Path) -> None:
    _write(folder, problem.encode(texts, targets, tokenizer, limits))

  folder = pathlib.Path(limits.folder) / f'examples-{key[:16]}'
  return _read(store.commit(folder, write))


def _key(
  problem: tasks.Problem, texts: Iterable[str], targets, tokenizer, limits: tasks.Limits
) -> str:
  """A digest of everything that the examples are made from."""
  content = hashlib.sha256()
  for pair in zip(texts, targets, strict=True):
    content.update(json.dumps(pair).encode() + b'\n')
  limits = limits._replace(folder=None)
  about = dict(
    digest=tokenizer.digest,
    prefix=tokenizer.prefix,
    suffix=tokenizer.suffix,
    special=tokenizer.special_ids,
    eos=tokenizer.eos,
    settings=tokenizer.settings,
    chat_template=tokenizer.chat_template,
    parse_special=tokenizer.parse_special,
  )
  return store.digest(content.hexdigest(), problem.name, limits, about, FORMAT)


def _write(folder: pathlib.Path, found: Encoded) -> None:
  """Writes examples, and what was cut of them, as arrays into a folder."""
  arrays = {}
  for name in LISTS:
    lists = getattr(found.examples, name)
    if lists is not None:
      arrays[name] = np.concatenate(lists.arrays)
      arrays[f'{name}-lengths'] = lists.lengths
  if found.examples.prompts is not None:
    arrays['prompts'] = found.examples.prompts
  for number, cut in enumerate(found.cut):
    arrays[f'whole-{number}'] = cut.whole
  for name, values in arrays.items():
    np.save(folder / f'{name}.npy', values, allow_pickle=False)
  cuts = [dict(what=cut.what, length=cut.length) for cut in found.cut]
  (folder / DESCRIPTION).write_text(json.dumps(cuts) + '\n')


def _read(folder: pathlib.Path) -> Encoded:
  """The examples of a folder, mapped from its files."""
  fields = {}
  for name in LISTS:
    if (folder / f'{name}.npy').exists():
      fields[name] = _lists(folder, name)
  if (folder / 'prompts.npy').exists():
    fields['prompts'] = _mapped(folder, 'prompts')
  cuts = []
  for number, said in enumerate(json.loads((folder / DESCRIPTION).read_text())):
    whole = _mapped(folder, f'whole-{number}')
    cuts.append(tasks.Cut.of(said['what'], whole, said['length']))
  return Encoded(pipeline.Examples(**fields), tuple(cuts))


def _lists(folder: pathlib.Path, name: str) -> TokenList:
  """Lists of numbers that stand in a file one behind the other."""
  numbers = _mapped(folder, name)
  ends = np.cumsum(_mapped(folder, f'{name}-lengths'), dtype=np.int64).tolist()
  starts = [0, *ends[:-1]]
  pairs = zip(starts, ends, strict=True)
  return TokenList([numbers[start:end] for start, end in pairs])


def _mapped(folder: pathlib.Path, name: str) -> np.ndarray:
  return map_array(folder / f'{name}.npy')
