"""A run on a file of conversations: found, told, learned, answered and measured again."""

import json

import numpy as np
import pytest

from tl_jax import config, decode, evals, models, train
from tl_jax.train import preparing
from tl_jax.train.checks import check

SMALL = [
  ('model', "{'family': 'tiny-gpt', 'layers': 1, 'width': 16, 'heads': 2, 'mlp': 16}"),
  ('tokenizer.kind', 'bpe'),
  ('tokenizer.size', '320'),
  ('data.length', '96'),
  ('data.batch', '4'),
  ('data.target_length', '16'),
  ('schedule.steps', '2'),
  ('schedule.warmup', '1'),
  ('log.tensorboard', 'false'),
]
COLORS = ('red', 'blue', 'green', 'pink', 'gray')


def chats():
  for number, color in enumerate(COLORS * 3):
    turns = [('user', f'what is {color}?'), ('assistant', 'a color')]
    turns += [('user', 'which?'), ('assistant', color)]
    messages = [dict(role=role, content=content) for role, content in turns]
    yield dict(messages=messages, split='test' if number % 5 == 0 else 'train')


@pytest.fixture(scope='module')
def file(tmp_path_factory):
  path = tmp_path_factory.mktemp('file') / 'chats.jsonl'
  rows = [*chats(), dict(messages=[], split='train')]
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def loaded(file, argument='', more=()):
  spec = f'configs/transfer.py:task={file},init=scratch{argument}'
  return config.load(spec, [*SMALL, *more])


@pytest.fixture(scope='module')
def trained(file, tmp_path_factory):
  """(workdir, result)."""
  workdir = tmp_path_factory.mktemp('chat')
  return workdir, train.transfer(loaded(file), workdir)


def test_a_run_answers_the_last_turn(trained):
  workdir, result = trained
  assert result['n'] == 3 and {'perplexity', 'rougeL'} <= result['metrics'].keys()
  lines = (workdir / 'predictions.jsonl').read_text().splitlines()
  first = json.loads(lines[0])
  assert first['reference'] == 'red'
  assert first['source'].endswith('assistant: a color\nuser: which?')
  again = train.evaluate(workdir)
  assert again['metrics'] == pytest.approx(result['metrics'])


def test_a_text_is_answered_as_what_a_user_says(trained, tmp_path):
  asked = tmp_path / 'in.txt'
  asked.write_text('what is red?\nwhich?')
  output = tmp_path / 'out.jsonl'
  request = train.Request(str(trained[0]), str(asked), str(output))
  assert train.predict(request) == 2
  found = [json.loads(line)['text'] for line in output.read_text().splitlines()]
  model = train.load(trained[0])
  prompts = [
    model.tokenizer.encode(f'user: {text}\nassistant:', special=False)
    for text in asked.read_text().splitlines()
  ]
  settings = decode.Decoding(max_new_tokens=16, eos=model.tokenizer.eos)
  decoder = models.decoder(model.arch)
  written = evals.write(decoder, model.params, model.tokenizer, prompts, settings)
  assert found == written
  request = request._replace(template='{text}', output=str(tmp_path / 'b.jsonl'))
  with pytest.raises(ValueError, match='--template: .* learned conversations'):
    train.predict(request)


def test_what_was_found_is_told(file, tmp_path):
  ready = preparing.prepare(check(loaded(file)), tmp_path)
  told = '\n'.join(ready.lines(ready.settings, np.arange(1)))
  assert 'messages: conversations of 4 turns; what the assistant says' in told
  assert '1 of 16 rows have no label: left out (messages: empty)' in told
  assert 'the tokenizer has no chat template: each turn is put as a line' in told


@pytest.mark.parametrize(
  ('argument', 'more', 'message'),
  [
    (
      '',
      [('model.family', 'tiny')],
      "of kind 'conversation', which models .*'decoder'",
    ),
    ('', [('task.template', 'a {text}')], 'config.task.template: .* has conversations'),
    (',kind=conversation,label=split', (), 'has columns of its own'),
    (',kind=single_label', (), 'chats.jsonl:1: text: missing'),
  ],
)
def test_what_does_not_go_together_is_one_line(file, argument, more, message):
  with pytest.raises(ValueError, match=message) as error:
    train.read(loaded(file, argument, more))
  assert '\n' not in str(error.value)


def test_conversations_that_are_asked_for_must_be_there(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"text": "a", "label": "b"}')
  with pytest.raises(
    ValueError, match='no conversations; those are in fields messages'
  ):
    train.read(loaded(path, ',kind=conversation'))
