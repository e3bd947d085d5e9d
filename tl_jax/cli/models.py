"""The verbs that move a model: `import`, `export`.

>>> how_opened(argparse.Namespace(head='causal'))
{'head': 'causal'}
"""

import argparse
import os
import pathlib

from tl_jax import config, files
from tl_jax.cli.console import complain, say
from tl_jax.cli.verb import Verb

# A folder with this file is an adapter of peft, not a model.
ADAPTER = 'adapter_config.json'
# The file of an adapter's folder that names its labels, which is ours and not peft's.
LABELS = 'labels.json'
# So many labels are spelled out in a line.
MOST_SHOWN = 8
# What a config says for a run that began from no model.
SCRATCH = 'scratch'
_OF_TOKENS = ('token', 'span', 'replaced')
HEADS = ('none', 'masked', 'causal', 'classifier', 'choice', *_OF_TOKENS)


def add_import(parser: argparse.ArgumentParser) -> None:
  """The flags of `import`."""
  parser.add_argument(
    'source',
    metavar='SRC',
    help='a Hugging Face folder, a .gguf file of a Llama-like '
    'model, or the folder of an adapter of peft',
  )
  parser.add_argument('target', metavar='DST', help='the folder to write')
  parser.add_argument(
    '--dtype',
    metavar='T',
    help='float32, bfloat16 or float16 (default: as in the source)',
  )
  parser.add_argument(
    '--base',
    metavar='PATH',
    help='of an adapter: the folder it stands on (default: as it says)',
  )
  add_head(parser)


def run_import(flags, _) -> int:
  """Checks a checkpoint to the last tensor; writes a folder that every verb opens."""
  # What the command line alone can get wrong comes before the imports, which are slow.
  _require_new(flags.target)
  dtype = _dtype(flags.dtype)
  from tl_jax import interop

  # Half of a model each: an adapter is fused with its base, a model stands alone.
  if (pathlib.Path(flags.source) / ADAPTER).is_file():
    if flags.head is not None:
      raise config.ConfigError('--head: an adapter says its own')
    return _write(_fused(flags.source, flags.base, dtype), flags.target)
  if flags.base is not None:
    raise config.ConfigError(
      f'--base: {flags.source} is not the folder of an adapter, it stands on nothing'
    )
  loaded = interop.load(flags.source, dtype=dtype, head=flags.head)
  return _write(loaded, flags.target)


def add_head(parser: argparse.ArgumentParser) -> None:
  """The flag that says under which head a folder is opened."""
  heads = ', '.join(HEADS)
  parser.add_argument(
    '--head',
    metavar='H',
    choices=HEADS,
    help=f'of a folder, where its config.json does not name the right one: {heads}',
  )


def how_opened(flags) -> dict:
  """What `train.load` is told of a folder."""
  return {} if flags.head is None else dict(head=flags.head)


def _fused(source: str, base: str | None, dtype):
  """The model of an adapter's folder over its base, as plain arrays.

  Raises ConfigError where the base is no folder, or the adapter has parts before the
  text.
  """
  from tl_jax import interop, leaves, train, tree

  declared = interop.contents.read_object(pathlib.Path(source) / ADAPTER)
  # peft writes what its user loaded, which often is the name of a model on a hub.
  base = base or declared.get('base_model_name_or_path') or ''
  is_gguf = base.lower().endswith('.gguf') and os.path.isfile(base)
  if not os.path.isdir(base) and not is_gguf:
    raise config.ConfigError(
      f'{source}: its base {base!r} is no folder and no .gguf file here; name one '
      'with --base'
    )
  loaded = interop.load_adapter(source, train.load(base))
  _require_none_before_text(loaded.params, source, 'open it with interop.load_adapter')
  # Low-rank factors and the like are added to the matrices they stand beside.
  params = leaves.fuse(loaded.params)
  if dtype is not None:
    params = tree.map_named(lambda _, leaf: leaf.astype(dtype), params)
  return loaded._replace(params=params)


def _require_none_before_text(params, source: str, advice: str) -> None:
  """Raises ConfigError for a soft prompt or a prefix, which no plain model has."""
  from tl_jax import interop, leaves

  for name, leaf in interop.peft.named_leaves(params).items():
    if name == interop.peft.PROMPT or isinstance(leaf, leaves.Prefix):
      raise config.ConfigError(
        f'{source}: {name} stands before the text, which no plain model has; {advice}'
      )


def add_export(parser: argparse.ArgumentParser) -> None:
  """The flags of `export`."""
  parser.add_argument('source', metavar='SRC', help='a workdir or a folder')
  parser.add_argument(
    'target',
    metavar='DST',
    help='the folder to write, for from_pretrained of transformers',
  )
  parser.add_argument(
    '--format',
    default='hf',
    choices=('hf', 'peft'),
    help='hf: config.json, safetensors, tokenizer; peft: the adapter and the head alone',
  )
  parser.add_argument(
    '--base',
    metavar='NAME',
    help='of an adapter: what peft loads the base from (default: init)',
  )
  parser.add_argument(
    '--step',
    type=int,
    metavar='N',
    help='a committed step of the workdir (default: that which the run kept: the '
    'newest, or the best on validation)',
  )
  parser.add_argument(
    '--family',
    metavar='F',
    help='the model_type to write (default: the first that fits)',
  )
  add_head(parser)


def run_export(flags, _) -> int:
  """Writes the model of a workdir as a Hugging Face folder, or as an adapter of peft.

  An adapter holds only what the workdir trained.
  """
  _require_new(flags.target)
  from tl_jax import train

  if flags.format == 'peft':
    return _write_adapter(flags)
  if flags.base is not None:
    raise config.ConfigError('--base: only an adapter has one; add --format=peft')
  loaded = train.load(flags.source, flags.step, **how_opened(flags))
  _require_plain(loaded.params, flags.source)
  code = _write(loaded, flags.target, flags.family)
  # Only the run of a workdir knows: no folder has a word for it.
  if loaded.step is not None and train.reads_prefixes(flags.source):
    complain(
      f'{flags.target}: the run learned to see the beginning of a text as a whole; '
      'transformers reads it from left to right'
    )
  return code


def _require_plain(params, source: str) -> None:
  """ConfigError for a model with parts that no folder of its family has a place for."""
  from tl_jax import interop, leaves

  _require_none_before_text(params, source, 'add --format=peft')
  for name, leaf in interop.peft.named_leaves(params).items():
    if isinstance(leaf, leaves.Bottleneck):
      raise config.ConfigError(
        f'{source}: {name} is a bottleneck adapter, which neither a plain model nor '
        'peft has; the workdir itself is what tl_jax.load opens'
      )


def _write(loaded, target: str, family: str | None = None) -> int:
  """Writes a model as a folder and says what it is."""
  from tl_jax import interop, tree

  interop.save(target, loaded, family=family)
  kind = loaded.arch.kind
  head = loaded.arch.head
  parameters = tree.count(loaded.params)
  # Tensors of the source that the model has no place for: not an error, never silent.
  unused = f'; left out: {", ".join(loaded.unused)}' if loaded.unused else ''
  say(f'{target}: {kind} with {parameters:,} parameters, head {head}{unused}')
  if loaded.arch.generator:
    folder = os.path.join(target, interop.huggingface.GENERATOR)
    say(
      f'{folder}: the generator that it learned from, a model of its own, head masked'
    )
  return 0


def _write_adapter(flags) -> int:
  """Writes what a workdir trained beside its base, as an adapter of peft.

  That is the edited and inserted leaves and the head. Raises ConfigError for a source
  that is no workdir.
  """
  from tl_jax import interop, train, tree

  if not os.path.isdir(os.path.join(flags.source, 'checkpoints')):
    raise config.ConfigError(
      f'{flags.source}: not a workdir, so it does not say what it trained; '
      'peft needs one'
    )
  opened = train.open_workdir(flags.source, flags.step)
  # peft wants the whole tree to find each leaf's place, and writes what was trained.
  trainable = opened.trainable
  params = opened.method.merge(trainable, opened.frozen)
  init = opened.settings.init
  base = flags.base or init
  # The base need not be on this machine: then the family is found from the model alone.
  over = train.load(init) if os.path.exists(init) else None
  declared = None
  if flags.family:
    declared = dict(model_type=flags.family)
  elif over:
    declared = over.config
  adapted = interop.Loaded(
    None, params, opened.tokenizer, opened.arch, declared, **opened.named
  )
  stabilized = bool(opened.settings.method.get('stabilized'))
  interop.save_adapter(
    flags.target, adapted, trainable, base=base, over=over, stabilized=stabilized
  )
  for line in (_of_base(base), _of_labels(adapted)):
    if line:
      complain(f'{flags.target}: {line}')
  count = tree.count(trainable)
  say(f'{flags.target}: an adapter of {count:,} trained parameters over {base}')
  return 0


def _of_base(base: str) -> str:
  """What to do where peft cannot open what the adapter's folder names as its base.

  >>> _of_base('tiny.gguf').partition(':')[0]
  'peft opens no GGUF file as a base'
  """
  if base.lower().endswith('.gguf'):
    what, verb = 'GGUF file', 'import'
  elif os.path.isdir(os.path.join(base, 'checkpoints')):
    what, verb = 'workdir', 'export'
  elif base == SCRATCH:
    return (
      "peft opens no base 'scratch': the run began from random parameters, which only "
      'the whole model holds; --format=hf writes it'
    )
  else:
    return ''
  return (
    f'peft opens no {what} as a base: `tl-jax {verb} {base} BASE` makes a folder that '
    'it opens, and --base=BASE names it in the adapter'
  )


def _of_labels(adapted) -> str:
  """How whoever opens an adapter with peft gets the names of its labels.

  peft makes the model from the base alone, whose config.json may name, and count, the
  labels of another task.
  """
  if not adapted.labels:
    return ''
  names = dict(enumerate(adapted.labels))
  shown = f'{names}'
  if len(names) > MOST_SHOWN:
    shown = '{0: ...}'
  return (
    f'peft makes the head from the base, so give it the labels of {LABELS}: '
    f'from_pretrained(..., id2label={shown})'
  )


def _require_new(target: str) -> None:
  """Raises ConfigError for a target that holds something already."""
  # gs://bucket would become a folder of that name.
  files.require_local(target, 'folder')
  if not os.path.exists(target):
    return
  if not os.path.isdir(target) or os.listdir(target):
    raise config.ConfigError(
      f'{target}: exists and is not an empty folder; name a new one'
    )


def _dtype(name: str | None) -> str | None:
  """The flag --dtype, checked. Raises ConfigError for another dtype."""
  if name is not None and name not in ('float32', 'bfloat16', 'float16'):
    raise config.ConfigError(
      f'--dtype: {name!r} is not one of float32, bfloat16, float16'
    )
  return name


IMPORT = Verb(
  purpose='a Hugging Face folder or GGUF file, checked and written as a folder that '
  'every verb opens',
  example='tl-jax import model.gguf /tmp/model --dtype=bfloat16',
  flags=add_import,
  action=run_import,
)
EXPORT = Verb(
  purpose='the model of a workdir as a folder that from_pretrained of transformers '
  'opens',
  example='tl-jax export /tmp/base /tmp/exported',
  flags=add_export,
  action=run_export,
)
