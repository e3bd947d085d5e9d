"""`generate` follows what the model's folder says, and says what it does not."""

import json

import jax
import pytest

from tl_jax import interop, models
from tl_jax.cli import main as command
from tl_jax.data import tokenizers


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A tiny Llama with a tokenizer."""
  path = tmp_path_factory.mktemp('model')
  tokenizer = tokenizers.train(['good film', 'bad film'] * 20, 'bpe', 400)
  arch = models.Arch(
    kind='decoder',
    vocabulary=tokenizer.vocabulary_size,
    width=16,
    layers=1,
    heads=2,
    mlp=24,
    gated=True,
    norm='rms',
    norm_place='before',
    bias='none',
    activation='silu',
    positions='rotary',
    head='causal',
    head_bias=False,
    pool='last',
    init='normal',
  )
  model = models.build(arch)
  params = model.init(jax.random.key(0))
  interop.save(path, interop.Loaded(model, params, tokenizer, arch), family='llama')
  return path


def generate(folder, *flags, **said):
  (folder / 'generation_config.json').write_text(json.dumps(said))
  return command.main(['generate', f'--model={folder}', '--prompt=good', *flags])


def test_a_line_names_what_is_not_followed(folder, capsys):
  assert generate(folder, '--max-new-tokens=2', typical_p=0.5, top_h=0.3) == 0
  found = capsys.readouterr()
  assert 'good' in found.out and 'not followed' not in found.out
  lines = found.err.splitlines()
  assert [line.split(': ', 1)[1] for line in lines if 'not followed' in line] == [
    'generation_config.json: top_h = 0.3 is not followed',
    'generation_config.json: typical_p = 0.5 is not followed',
  ]


def test_flags_hold_against_the_folder(folder, tmp_path):
  out = tmp_path / 'out.jsonl'

  def text(*flags, **said):
    assert generate(folder, f'--output={out}', *flags, **said) == 0
    return json.loads(out.read_text())['text']

  plain = text('--max-new-tokens=3')
  said = dict(do_sample=True, temperature=50.0, top_k=0, max_new_tokens=3)
  assert text(**said) != plain
  assert text('--method=greedy', **said) == plain
  assert text('--temperature=0.001', **said) == plain
  often = tokenizers.load(folder).encode(plain, special=False)
  forced = dict(max_new_tokens=3, suppress_tokens=often)
  assert text(**forced) != plain == text('--suppress=', **forced)


def test_a_value_that_cannot_be_names_the_folder(folder, capsys):
  assert generate(folder, do_sample=True, top_p=1.5) == 2
  assert f'{folder}: top_p: must be' in capsys.readouterr().err


def test_prompts_of_a_file_may_hold_a_mark_and_half_a_character(folder, tmp_path):
  source, out = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
  source.write_bytes(b'\xef\xbb\xbf{"prompt": "good \\ud83d"}\n')
  (folder / 'generation_config.json').write_text('{}')
  flags = [f'--input={source}', f'--output={out}', '--max-new-tokens=2']
  assert command.main(['generate', f'--model={folder}', *flags]) == 0
  assert json.loads(out.read_text())['prompt'] == 'good ?'


def test_a_broken_line_of_prompts_is_named_once(folder, tmp_path, capsys):
  source = tmp_path / 'in.jsonl'
  source.write_bytes(b'{"prompt": "good"}\n{"prompt": }\n')
  flags = [f'--input={source}', f'--output={tmp_path / "out.jsonl"}']
  assert command.main(['generate', f'--model={folder}', *flags]) == 2
  said = capsys.readouterr().err
  assert f'{source}:2: not JSON: Expecting value at column 12' in said
  assert 'line 1' not in said


def test_special_pieces_in_a_prompt_are_a_choice(folder, tmp_path, monkeypatch):
  from tl_jax import decode

  asked = []

  def continue_texts(reader, params, tokenizer, prompts, settings, **more):
    asked.append(tokenizer.encode(prompts[0], special=False))
    return iter([()])

  monkeypatch.setattr(decode, 'continue_texts', continue_texts)
  out = f'--output={tmp_path / "out.jsonl"}'
  for flags in ((), ('--parse-special',)):
    assert generate(folder, '--prompt=<extra_id_0>', out, *flags) == 0
  plain, parsed = asked
  assert len(parsed) == 1 and parsed[0] not in plain
