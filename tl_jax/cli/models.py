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

# A folder with this file is an adapter of peft, not a model.
ADAPTER = 'adapter_config.json'
HEADS = ('none', 'masked', 'causal', 'classifier', 'token', 'span', 'replaced')
# Fields of `Decoding` that the model's folder says, not the user.
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

  declared = interop.huggingface.read_json(pathlib.Path(source) / ADAPTER)
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
    help='a committed step of the workdir (default: the newest)',
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
  return _write(loaded, flags.target, flags.family)


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
  over = train.load(init) if os.path.isdir(init) else None
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
  count = tree.count(trainable)
  say(f'{flags.target}: an adapter of {count:,} trained parameters over {base}')
  return 0


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
  from tl_jax.decode.settings import Decoding

  for field in dataclasses.fields(Decoding):
    if field.name not in KNOWN:
      _add_decoding(parser, field)


def _add_decoding(parser: argparse.ArgumentParser, field: dataclasses.Field) -> None:
  """The flag of one field of `Decoding`.

  No flag has a default here: one that is not given is None, and the model's folder or
  `Decoding` itself decides.
  """
  from tl_jax.decode.settings import IDS

  flag = f'--{field.name.replace("_", "-")}'
  if field.name == 'stop':
    parser.add_argument(
      flag,
      action='append',
      metavar='TEXT',
      help='ends a text; may be given several times',
    )
  elif field.name in IDS:
    parser.add_argument(
      flag,
      type=ids,
      metavar='ID,...',
      help="numbers of pieces, '' for none (default: as the model's folder says)",
    )
  else:
    parser.add_argument(flag, type=value, metavar='V', help=f'default: {field.default}')


def ids(text: str) -> tuple[int, ...]:
  """Numbers of pieces with commas between them.

  >>> ids('3,4'), ids('')
  ((3, 4), ())
  """
  return tuple(int(part) for part in text.split(',')) if text else ()


def value(text: str):
  """A flag's number, boolean or word."""
  # int first: 3 is a count, and a count that is a float is refused.
  for read in (int, float):
    try:
      return read(text)
    except ValueError:
      continue
  return {'true': True, 'false': False}.get(text.lower(), text)


def run_generate(flags, _) -> int:
  """Decodes one prompt or a file of them; prints or writes the texts as they come."""
  # All that the command line alone can get wrong comes before the model is read.
  prompts = _prompts(flags)
  chosen = _chosen(flags)
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
  compute = config.struct(models.Compute, dict(dtype=flags.dtype), '--dtype')
  # A generator: every batch of texts is written before the next one is decoded.
  texts = decode.continue_texts(
    models.decoder(loaded.arch, compute),
    loaded.params,
    tokenizer,
    prompts,
    settings,
    batch=flags.batch,
    positions=loaded.arch.room,
  )
  if flags.output is None:
    _print_texts(prompts, texts, goes_on=loaded.arch.kind == 'decoder')
  else:
    _write_texts(flags.output, prompts, texts)
  return 0


def _chosen(flags) -> dict:
  """The fields of `Decoding` that flags were given for."""
  from tl_jax.decode.settings import Decoding

  chosen = {}
  for field in dataclasses.fields(Decoding):
    given = getattr(flags, field.name, None)
    if given is not None:
      chosen[field.name] = given
  # argparse collects a repeated flag in a list; settings are hashed.
  if 'stop' in chosen:
    chosen['stop'] = tuple(chosen['stop'])
  return chosen


def _print_texts(prompts: list[str], texts, goes_on: bool) -> None:
  """Prints the continuations of each prompt; `goes_on` puts the prompt before them."""
  for prompt, found in zip(prompts, texts, strict=True):
    before = prompt if goes_on else ''
    for continuation in found:
      say(before + continuation.text)


def _write_texts(path: str, prompts: list[str], texts) -> None:
  """Writes a JSON object per continuation, with its prompt, score and end."""
  with open(path, 'w', encoding='utf-8') as file:
    for prompt, found in zip(prompts, texts, strict=True):
      for continuation in found:
        line = dict(
          prompt=prompt,
          text=continuation.text,
          score=round(continuation.score, 6),
          end=continuation.end,
        )
        # No NaN: it is not JSON, and a score that is none should be seen here.
        file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + '\n')
      # A run that is cut off leaves every prompt that it finished.
      file.flush()


def _check_chosen(chosen: dict) -> None:
  """Raises ConfigError for flags that no method can have.

  Where no method is among the flags, the model's folder may choose any.
  """
  from tl_jax.decode.settings import Decoding

  methods = [chosen['method']] if 'method' in chosen else ['sample', 'beam', 'greedy']
  # The error of the last one is shown: greedy has the fewest settings of its own.
  for method in methods:
    try:
      Decoding(**chosen | dict(method=method))
      return
    except config.ConfigError as error:
      last = error
  raise last


def _settings(model: str, loaded, chosen: dict):
  """The settings of decoding: what the model's folder says, under the flags.

  Prints a warning for each thing that the folder says and no setting can follow.
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
  path = pathlib.Path(flags.input)
  if not path.is_file():
    raise config.ConfigError(f'--input: {path}: no such file')
  prompts = []
  # A byte-order mark is dropped. Bytes that are no UTF-8 are replaced, not refused.
  with open(path, encoding='utf-8-sig', errors='replace') as file:
    for number, line in enumerate(file, start=1):
      prompt = _prompt_of(line, f'{path}:{number}')
      if prompt is not None:
        prompts.append(plain(prompt))
  return prompts


def _prompt_of(line: str, place: str) -> str | None:
  """The prompt of one line of JSON; None for an empty line and for `null`.

  Raises ConfigError that names the place for any other line.
  """
  try:
    found = json.loads(line) if line.strip() else None
  except ValueError as error:
    raise config.ConfigError(f'{place}: not JSON: {error}') from error
  # An object without a text, an array or a number is a mistake; nothing is guessed.
  if found is None:
    return None
  prompt = found.get('prompt') if isinstance(found, dict) else None
  if not isinstance(prompt, str):
    raise config.ConfigError(f'{place}: needs an object with a text `prompt`')
  return prompt
