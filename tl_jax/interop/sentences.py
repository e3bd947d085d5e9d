"""Folders of sentence-transformers: how they make one vector of a text.

>>> read_pooling('/no/such/folder') is None
True
"""

import json
import pathlib
from typing import NamedTuple

from tl_jax import files
from tl_jax.models.pooling import POOLS

# The list of what a folder does to a text, one module after the other.
MODULES = 'modules.json'
# Of the first module: the longest text.
LENGTH = 'sentence_bert_config.json'
# Of the folder: what stands before a text.
PROMPTS = 'config_sentence_transformers.json'
# The modes by the flags of earlier versions, in the order of their vectors.
_FLAGS = {
  'pooling_mode_cls_token': 'cls',
  'pooling_mode_max_tokens': 'max',
  'pooling_mode_mean_tokens': 'mean',
  'pooling_mode_mean_sqrt_len_tokens': 'mean_sqrt_len_tokens',
  'pooling_mode_weightedmean_tokens': 'weightedmean',
  'pooling_mode_lasttoken': 'lasttoken',
}
_MOST_BYTES = 1 << 20


class Pooling(NamedTuple):
  """How a folder pools hidden states.

  modes: some of `POOLS`, one behind the other; () for those of the model itself.
  normalize: has a vector length 1? length: the most tokens of a text; None where nothing
  says it. prompt: what is put before every text. lower: are texts made lower case?
  """

  modes: tuple[str, ...] = ()
  normalize: bool = False
  length: int | None = None
  prompt: str = ''
  lower: bool = False

  def prepared(self, text: str) -> str:
    """A text as the model reads it."""
    # Without a prompt two texts stay two.
    if self.prompt:
      text = self.prompt + text
    return text.lower() if self.lower else text


def read_pooling(folder) -> Pooling | None:
  """What a folder says of sentences; None where it has no modules.json.

  Raises ValueError that names the file for a module that is not followed.
  """
  folder = pathlib.Path(folder)
  if not (folder / MODULES).is_file():
    return None
  modules = _read(folder / MODULES)
  where = f'{folder / MODULES}'
  if not isinstance(modules, list):
    raise ValueError(f'{where}: a list of modules is needed')
  # transformers' model, then pooling, then maybe a normalisation.
  kinds = [str(module.get('type')).rpartition('.')[2] for module in modules]
  if kinds[:2] != ['Transformer', 'Pooling'] or kinds[2:] not in ([], ['Normalize']):
    raise ValueError(
      f'{where}: the modules {", ".join(kinds)} are not followed; Transformer, Pooling '
      'and Normalize are, in this order'
    )
  if modules[0].get('path'):
    raise ValueError(
      f'{where}: the model is in the folder {modules[0]["path"]!r} below; name that one'
    )
  config = folder / str(modules[1].get('path')) / 'config.json'
  said = _read(folder / LENGTH) if (folder / LENGTH).is_file() else {}
  return Pooling(
    _modes(config),
    kinds[2:] == ['Normalize'],
    said.get('max_seq_length'),
    _prompt(folder / PROMPTS),
    bool(said.get('do_lower_case')),
  )


def write_pooling(folder, pooling: Pooling, width: int) -> None:
  """Writes what a folder says of sentences, so that sentence-transformers opens it.

  width: of the hidden states. A prompt and lower case are those of the tokenizer.
  """
  folder = pathlib.Path(folder)
  names = ['Transformer', 'Pooling'] + ['Normalize'] * pooling.normalize
  # The model itself lies in the folder, the others below it.
  modules = []
  for place, name in enumerate(names):
    path = '' if place == 0 else f'{place}_{name}'
    kind = f'sentence_transformers.models.{name}'
    modules.append(dict(idx=place, name=str(place), path=path, type=kind))
    (folder / path).mkdir(parents=True, exist_ok=True)
  # Earlier versions know the flags alone, later ones read them too.
  declared = {flag: mode in pooling.modes for flag, mode in _FLAGS.items()}
  declared['word_embedding_dimension'] = width
  _write(folder / '1_Pooling' / 'config.json', declared)
  _write(folder / LENGTH, dict(max_seq_length=pooling.length, do_lower_case=False))
  # Last: without it there is no folder of sentences.
  _write(folder / MODULES, modules)


def _write(file: pathlib.Path, value) -> None:
  text = json.dumps(value, indent=2, sort_keys=True) + '\n'
  files.write_atomically(file, text.encode())


def _modes(file: pathlib.Path) -> tuple[str, ...]:
  """The modes of a pooling module, in the order in which their vectors stand."""
  declared = _read(file)
  modes = declared.get('pooling_mode')
  if modes is None:
    modes = [mode for flag, mode in _FLAGS.items() if declared.get(flag) is True]
  modes = (modes,) if isinstance(modes, str) else tuple(modes)
  for mode in modes:
    if mode not in POOLS:
      raise ValueError(f'{file}: pooling_mode: {mode!r} is none of {", ".join(POOLS)}')
  # Where none is on, the library takes the mean.
  return modes or ('mean',)


def _prompt(file: pathlib.Path) -> str:
  """What stands before every text, where the folder chooses something itself."""
  said = _read(file) if file.is_file() else {}
  name = said.get('default_prompt_name')
  return (said.get('prompts') or {}).get(name) or ''


def _read(file: pathlib.Path):
  """The JSON of a file. Raises ValueError that names the file."""
  try:
    return files.decode(files.read_bounded(file, _MOST_BYTES))
  except (OSError, ValueError) as error:
    raise ValueError(f'{file}: {error}') from error
