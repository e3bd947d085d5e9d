"""The verb that makes a model write: `generate`.

>>> value('0.5'), value('3'), value('false'), value('never')
(0.5, 3, False, 'never')
"""

import argparse
import dataclasses
import json
import pathlib

from tl_jax import config
from tl_jax.cli.console import complain, say
from tl_jax.cli.models import add_head, how_opened
from tl_jax.cli.verb import Verb

# Fields of `Decoding` that the model's folder says, not the user.
KNOWN = ('eos', 'pad', 'start', 'bad_words')


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
  config.check(flags.batch, config.Count, '--batch')
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
  from tl_jax.data import tables

  try:
    found = json.loads(line) if line.strip() else None
  except (ValueError, RecursionError) as error:
    reason = tables.why_not_json(error)
    raise config.ConfigError(f'{place}: not JSON: {reason}') from error
  # An object without a text, an array or a number is a mistake; nothing is guessed.
  if found is None:
    return None
  prompt = found.get('prompt') if isinstance(found, dict) else None
  if not isinstance(prompt, str):
    raise config.ConfigError(f'{place}: needs an object with a text `prompt`')
  return prompt


GENERATE = Verb(
  purpose='text from a decoder or encoder-decoder',
  example='tl-jax generate --model=/tmp/gpt --prompt=Once --method=sample --top-p=0.9',
  flags=add_generate,
  action=run_generate,
)
