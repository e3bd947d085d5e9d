"""The verbs that move a model or make it write: `import`, `export`, `generate`.

>>> value('0.5'), value('3'), value('false'), value('never')
(0.5, 3, False, 'never')
"""

import argparse
import dataclasses
import json
import os
import pathlib

from tl_jax import config
from tl_jax.checkpoint import files
from tl_jax.cli.console import complain, say

ADAPTER = 'adapter_config.json'
HEADS = ('none', 'masked', 'causal', 'classifier', 'token', 'span', 'replaced')
# Said by the model's folder, not by the user.
KNOWN = ('eos', 'pad', 'start', 'bad_words')


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
  """Checks a checkpoint of others to the last tensor, and writes it as a folder that
  every verb opens.
  """
  _require_new(flags.target)
  dtype = _dtype(flags.dtype)
  from tl_jax import interop

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
  """The model of an adapter's folder over its base, as plain arrays."""
  from tl_jax import interop, leaves, train, tree

  said = interop.huggingface.read_json(pathlib.Path(source) / ADAPTER)
  base = base or said.get('base_model_name_or_path') or ''
  if not os.path.isdir(base):
    raise config.ConfigError(
      f'{source}: its base {base!r} is no folder here; name one with --base'
    )
  held = train.load(base)
  loaded = interop.load_adapter(source, held)
  for name, leaf in interop.peft.named_leaves(loaded.params).items():
    if name == interop.peft.PROMPT or isinstance(leaf, leaves.Prefix):
      raise config.ConfigError(
        f'{source}: {name} stands before the text, which no plain model has; '
        'open it with interop.load_adapter'
      )
  params = leaves.fuse(loaded.params)
  return loaded._replace(
    params=params
    if dtype is None
    else tree.map_named(lambda _, leaf: leaf.astype(dtype), params)
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
    help='a committed step of the workdir (default: the newest)',
  )
  parser.add_argument(
    '--family',
    metavar='F',
    help='the model_type to write (default: the first that fits)',
  )
  add_head(parser)


def run_export(flags, _) -> int:
  """Writes the model of a workdir as a Hugging Face folder, or what it trained as an
  adapter of peft.
  """
  _require_new(flags.target)
  from tl_jax import train

  if flags.format == 'peft':
    return _write_adapter(flags)
  if flags.base is not None:
    raise config.ConfigError('--base: only an adapter has one; add --format=peft')
  loaded = train.load(flags.source, flags.step, **how_opened(flags))
  _require_plain(loaded.params, flags.source)
  return _write(loaded, flags.target, flags.family)


def _require_plain(params, source: str) -> None:
  """ConfigError for a model with parts that no folder of its family has a place for."""
  from tl_jax import interop, leaves

  for name, leaf in interop.peft.named_leaves(params).items():
    if name == interop.peft.PROMPT or isinstance(leaf, leaves.Prefix):
      raise config.ConfigError(
        f'{source}: {name} stands before the text, which no plain model has; add --format=peft'
      )
    if isinstance(leaf, leaves.Bottleneck):
      raise config.ConfigError(
        f'{source}: {name} is a bottleneck adapter, which neither a plain model nor peft has; '
        'the workdir itself is what tl_jax.load opens'
      )


def _write(loaded, target: str, family: str | None = None) -> int:
  from tl_jax import interop, tree

  interop.save(target, loaded, family=family)
  unused = f'; left out: {", ".join(loaded.unused)}' if loaded.unused else ''
  say(
    f'{target}: {loaded.arch.kind} with {tree.count(loaded.params):,} parameters, head {loaded.arch.head}{unused}'
  )
  return 0


def _write_adapter(flags) -> int:
  """Writes what a workdir trained beside its base: the edited and inserted leaves and
  the head.
  """
  from tl_jax import interop, train, tree

  if not os.path.isdir(os.path.join(flags.source, 'checkpoints')):
    raise config.ConfigError(
      f'{flags.source}: not a workdir, so it does not say what it trained; peft needs one'
    )
  opened = train.open_workdir(flags.source, flags.step)
  params, trainable = (
    opened.method.merge(opened.trainable, opened.frozen),
    opened.trainable,
  )
  init = opened.settings.init
  over = train.load(init) if os.path.isdir(init) else None
  said = dict(model_type=flags.family) if flags.family else over and over.config
  adapted = interop.Loaded(
    None, params, opened.tokenizer, opened.arch, said, **opened.named
  )
  interop.save_adapter(
    flags.target,
    adapted,
    trainable,
    base=flags.base or init,
    over=over,
    stabilized=bool(opened.settings.method.get('stabilized')),
  )
  say(
    f'{flags.target}: an adapter of {tree.count(trainable):,} trained parameters over {flags.base or init}'
  )
  return 0


def _require_new(target: str) -> None:
  files.require_local(target, 'folder')
  if os.path.exists(target) and (not os.path.isdir(target) or os.listdir(target)):
    raise config.ConfigError(
      f'{target}: exists and is not an empty folder; name a new one'
    )


def _dtype(name: str | None):
  if name is not None and name not in ('float32', 'bfloat16', 'float16'):
    raise config.ConfigError(
      f'--dtype: {name!r} is not one of float32, bfloat16, float16'
    )
  return name


def add_generate(parser: argparse.ArgumentParser) -> None:
  """The flags of `generate`: one for every field of `decode.Decoding`."""
  parser.add_argument(
    '--model',
    required=True,
    metavar='PATH',
    help='a workdir, an exported or Hugging Face folder',
  )
  add_head(parser)
  parser.add_argument(
    '--prompt', metavar='TEXT', help='one text to go on with, or to read'
  )
  parser.add_argument(
    '--input',
    metavar='FILE.jsonl',
    help='many: one JSON object with a key `prompt` per line',
  )
  parser.add_argument(
    '--output', metavar='FILE.jsonl', help='where to write them (default: the screen)'
  )
  parser.add_argument(
    '--parse-special',
    action='store_true',
    help='special pieces in a prompt, as <|im_start|> or <extra_id_0>, are not text',
  )
  parser.add_argument(
    '--batch',
    type=int,
    default=8,
    metavar='N',
    help='texts decoded at once (default: 8)',
  )
  parser.add_argument(
    '--dtype',
    default='float32',
    metavar='T',
    help='of the computation: float32 or bfloat16',
  )
  from tl_jax.decode.settings import IDS, Decoding

  for field in dataclasses.fields(Decoding):
    if field.name == 'stop':
      parser.add_argument(
        '--stop',
        action='append',
        metavar='TEXT',
        help='ends a text; may be given several times',
      )
    elif field.name in IDS and field.name not in KNOWN:
      parser.add_argument(
        f'--{field.name.replace("_", "-")}',
        type=ids,
        metavar='ID,...',
        dest=field.name,
        help="numbers of pieces, '' for none (default: as the model's folder says)",
      )
    elif field.name not in KNOWN:
      parser.add_argument(
        f'--{field.name.replace("_", "-")}',
        type=value,
        metavar='V',
        dest=field.name,
        help=f'default: {field.default}',
      )


def ids(text: str) -> tuple[int, ...]:
  """Numbers of pieces with commas between them.

  >>> ids('3,4'), ids('')
  ((3, 4), ())
  """
  return tuple(int(part) for part in text.split(',')) if text else ()


def value(text: str):
  """A flag's number, boolean or word."""
  for read in (int, float):
    try:
      return read(text)
    except ValueError:
      continue
  return {'true': True, 'false': False}.get(text.lower(), text)


def run_generate(flags, _) -> int:
  """Decodes a prompt, or a file of them, and prints or writes the texts as they come."""
  prompts = _prompts(flags)
  from tl_jax.decode.settings import Decoding

  chosen = {
    field.name: getattr(flags, field.name)
    for field in dataclasses.fields(Decoding)
    if getattr(flags, field.name, None) is not None
  }
  chosen |= dict(stop=tuple(chosen['stop'])) if 'stop' in chosen else {}
  _check_chosen(chosen)
  if flags.batch < 1:
    raise config.ConfigError(f'--batch: must be at least 1, got {flags.batch}')
  from tl_jax import decode, models, train

  loaded = train.load(flags.model, **how_opened(flags))
  if loaded.tokenizer is None:
    raise config.ConfigError(f'{flags.model}: has no tokenizer')
  tokenizer = loaded.tokenizer
  if flags.parse_special:
    tokenizer = dataclasses.replace(tokenizer, parse_special=True)
  settings = _settings(flags.model, loaded, chosen)
  reader = models.decoder(
    loaded.arch, config.struct(models.Compute, dict(dtype=flags.dtype), '--dtype')
  )
  texts = decode.continue_texts(
    reader,
    loaded.params,
    tokenizer,
    prompts,
    settings,
    batch=flags.batch,
    positions=loaded.arch.room,
  )
  if flags.output is None:
    for prompt, found in zip(prompts, texts, strict=True):
      for continuation in found:
        say((prompt if loaded.arch.kind == 'decoder' else '') + continuation.text)
    return 0
  with open(flags.output, 'w', encoding='utf-8') as file:
    for prompt, found in zip(prompts, texts, strict=True):
      for continuation in found:
        line = dict(
          prompt=prompt,
          text=continuation.text,
          score=round(continuation.score, 6),
          end=continuation.end,
        )
        file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + '\n')
      file.flush()
  return 0


def _check_chosen(chosen: dict) -> None:
  """ConfigError for flags that no method can have; the model's folder may choose the
  method.
  """
  from tl_jax.decode.settings import Decoding

  methods = [chosen['method']] if 'method' in chosen else ['sample', 'beam', 'greedy']
  for method in methods:
    try:
      Decoding(**chosen | dict(method=method))
      return
    except config.ConfigError as error:
      last = error
  raise last


def _settings(model: str, loaded, chosen: dict):
  """What the model's folder says of decoding, under the flags; says what it says in
  vain.
  """
  from tl_jax import interop
  from tl_jax.decode.settings import Decoding

  found, ignored = interop.generation_settings(loaded, chosen)
  for line in ignored:
    complain(f'{model}: {line}')
  try:
    return Decoding(**found)
  except config.ConfigError as error:
    raise config.ConfigError(f'{model}: {error}') from error


def _prompts(flags) -> list[str]:
  """The prompts of the command. Raises ConfigError that names the line."""
  if (flags.prompt is None) == (flags.input is None):
    raise config.ConfigError('one of --prompt and --input is needed')
  from tl_jax.data.tokenizers import plain

  if flags.prompt is not None:
    return [plain(flags.prompt)]
  path, prompts = pathlib.Path(flags.input), []
  if not path.is_file():
    raise config.ConfigError(f'--input: {path}: no such file')
  with open(path, encoding='utf-8-sig', errors='replace') as file:
    for number, line in enumerate(file, start=1):
      try:
        found = json.loads(line) if line.strip() else None
      except ValueError as error:
        raise config.ConfigError(f'{path}:{number}: not JSON: {error}') from error
      if found is not None and not (
        isinstance(found, dict) and isinstance(found.get('prompt'), str)
      ):
        raise config.ConfigError(
          f'{path}:{number}: needs an object with a text `prompt`'
        )
      prompts += [] if found is None else [plain(found['prompt'])]
  return prompts
