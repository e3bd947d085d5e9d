"""The verb that makes a model write: `generate`.

>>> _prompt_of('{"prompt": "Once"}', 'a.jsonl:1')
'Once'
"""

import argparse
import json
import pathlib

from tl_jax import config, files
from tl_jax.cli import decoding
from tl_jax.cli.console import complain, say
from tl_jax.cli.models import add_head
from tl_jax.cli.verb import Verb


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
  writing = decoding.add_decoding(
    parser, 'how texts are written', 'the generation_config.json of the model says'
  )
  decoding.add_chat(writing)


def run_generate(flags, _) -> int:
  """Decodes one prompt or a file of them; prints or writes the texts as they come."""
  # All that the command line alone can get wrong comes before the model is read.
  prompts = _prompts(flags)
  chosen = decoding.chosen(flags)
  config.check(flags.batch, config.Count, '--batch')
  from tl_jax.train import answering, asking, heads

  path = pathlib.Path(files.require_local(flags.model, 'model'))
  manner = asking.Manner(chat=flags.chat, system=flags.system)
  settings, step = answering.open_settings(path)
  # Before the model is read: flags that contradict each other.
  asking.is_chat(manner, heads.learned_problem(path, step))
  subject = answering.open_subject(path, settings, step, flags.dtype, flags.head)
  if flags.parse_special:
    subject = subject.parsing_special()
  asked = subject.asking(manner, chosen, complain)
  # A generator: every batch of texts is written before the next one is decoded.
  texts = _continued(subject, asked, prompts, flags.batch)
  goes_on = asked.limits is None and subject.loaded.arch.kind == 'decoder'
  if flags.output is None:
    _print_texts(prompts, texts, goes_on)
  else:
    _write_texts(flags.output, prompts, texts)
  return 0


def _continued(subject, asked, prompts: list[str], batch: int):
  """Yields the continuations of each prompt, as `decode.continue_texts` does."""
  from tl_jax import decode, models

  loaded = subject.loaded
  read = prompts
  # Where texts are as they are, one that is too long is an error with its number.
  if asked.limits is not None:
    read, cut = asked.read(prompts, loaded)
    if cut:
      complain(
        f'{cut} of {len(prompts)} prompts were cut: {subject.length} tokens are read'
      )
  found = decode.continue_texts(
    models.decoder(loaded.arch, subject.compute),
    loaded.params,
    loaded.tokenizer,
    read,
    asked.settings,
    batch=batch,
    positions=subject.room,
  )
  for samples in found:
    yield [each._replace(text=asked.tidy(each.text)) for each in samples]


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


def _prompts(flags) -> list[str]:
  """The prompts of the command. Raises ConfigError that names the line."""
  if (flags.prompt is None) == (flags.input is None):
    raise config.ConfigError('one of --prompt and --input is needed')
  from tl_jax.data.tokenizers import plain

  if flags.prompt is not None:
    return [plain(flags.prompt)]
  path = pathlib.Path(flags.input)
  if not path.is_file():
    raise config.ConfigError(f'--input: {path}: no such file{config.beside(path)}')
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
