"""A run on a file of conversations: found, told, learned, answered and measured again."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import config, decode, evals, interop, models, train, tree
from tl_jax.cli import main as command
from tl_jax.data import tokenizers
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


def answers_to(model, prompts):
  """What a model writes greedily behind each prompt."""
  parsing = dataclasses.replace(model.tokenizer, parse_special=True)
  ids = [parsing.encode(prompt, special=False) for prompt in prompts]
  settings = decode.Decoding(max_new_tokens=16, eos=model.tokenizer.eos)
  decoder = models.decoder(model.arch)
  return evals.write(decoder, model.params, model.tokenizer, ids, settings)


def test_a_prompt_is_a_question_of_a_run_that_learned_conversations(trained, capsys):
  workdir = trained[0]
  model = train.load(workdir)
  system = 'Name colors.'
  prompts = ['user: which?\nassistant:', f'system: {system}\nuser: which?\nassistant:']
  asked = ['generate', f'--model={workdir}', '--prompt=which?']
  for flags, expected in zip([[], [f'--system={system}']], prompts, strict=True):
    assert command.main([*asked, *flags]) == 0
    assert capsys.readouterr().out.strip() == answers_to(model, [expected])[0]
  # As it is, a text is gone on with, and stands before what follows it.
  assert command.main([*asked, '--no-chat', '--max-new-tokens=4']) == 0
  assert capsys.readouterr().out.startswith('which?')
  assert command.main([*asked, '--no-chat', '--system=a']) == 2
  assert '--system: only a conversation' in capsys.readouterr().err


FIRST = [dict(role='user', content='what is red?')]
ANSWERED = [*FIRST, dict(role='assistant', content='a color')]
LATER = [*ANSWERED, dict(role='user', content='which?')]
SECOND = 'user: what is red?\nassistant: a color</s>\nuser: which?\nassistant:'
QUESTIONS = (
  (dict(messages=LATER), SECOND),
  (dict(messages=[*LATER, dict(role='assistant', content='red')]), SECOND),
  (dict(prompt='which?', completion='red'), 'user: which?\nassistant:'),
  (dict(instruction='which?', input='red'), 'user: which?\n\nred\nassistant:'),
  (
    {'conversations': [{'from': 'human', 'value': 'which?'}], 'system': 'Hm.'},
    'system: Hm.\nuser: which?\nassistant:',
  ),
  (dict(text='which?'), 'user: which?\nassistant:'),
)


def test_every_conversation_of_a_file_is_answered(trained, tmp_path):
  asked, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
  rows = [*(row for row, _ in QUESTIONS), dict(messages=[])]
  asked.write_text('\n'.join(map(json.dumps, rows)))
  request = train.Request(str(trained[0]), str(asked), str(output))
  assert train.predict(request) == len(rows)
  found = [json.loads(line)['text'] for line in output.read_text().splitlines()]
  model = train.load(trained[0])
  # Where nobody asks there is nothing to say.
  assert found == [*answers_to(model, [prompt for _, prompt in QUESTIONS]), None]


def test_a_column_of_users_texts_is_named(trained, tmp_path):
  asked, output = tmp_path / 'in.csv', tmp_path / 'out.jsonl'
  asked.write_text('question,text\nwhich?,no\n')
  request = train.Request(str(trained[0]), str(asked), str(output), text='question')
  train.predict(request)
  found = json.loads(output.read_text())['text']
  assert found == answers_to(train.load(trained[0]), ['user: which?\nassistant:'])[0]
  asked.write_text('question\nwhich?\n')
  with pytest.raises(ValueError, match='in.csv:2: text: missing; .*--text names'):
    train.predict(request._replace(text='', output=str(tmp_path / 'b.jsonl')))


def test_an_export_says_how_it_is_asked_and_where_it_ends(trained, tmp_path, capsys):
  exported = tmp_path / 'hf'
  assert command.main(['export', str(trained[0]), str(exported)]) == 0
  said = json.loads((exported / 'generation_config.json').read_text())
  tokenizer = train.load(trained[0]).tokenizer
  assert said['eos_token_id'] == [tokenizer.eos]
  template = (exported / 'chat_template.jinja').read_text()
  assert "'assistant:'" in template and '</s>' in template
  capsys.readouterr()
  asked = ['--prompt=which?', '--max-new-tokens=16', '--chat']
  assert command.main(['generate', f'--model={exported}', *asked]) == 0
  prompts = ['user: which?\nassistant:']
  (expected,) = answers_to(train.load(trained[0]), prompts)
  assert capsys.readouterr().out.strip() == expected


MARKED = (
  "{% for m in messages %}{{ '<turn>' + m['role'] + '\n' + m['content'] + '<end>\n' }}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope='module')
def base(tmp_path_factory):
  """A folder of a tiny decoder that knows a chat template, whose texts end otherwise."""
  pytest.importorskip('jinja2')
  plain = tokenizers.train(['user assistant what is red a color'] * 9, 'bpe', 400)
  plain.backend.add_special_tokens(['<turn>', '<end>'])
  roles = dict(eos=plain.eos, pad=plain.pad)
  tokenizer = tokenizers.wrap(plain.backend, roles, chat_template=MARKED)
  small = dict(layers=1, width=16, heads=2, mlp=16)
  size = tokenizer.vocabulary_size
  arch = models.arch('tiny-gpt', **small, vocabulary=size, head='causal')
  model = models.build(arch)
  leaves = tree.flatten(model.init(jax.random.key(0)))
  # Whatever it reads, it says the end of a turn.
  end = plain.backend.token_to_id('<end>')
  leaves['final_norm/scale'] = jnp.zeros(16)
  leaves['final_norm/bias'] = 100 * leaves['embedding/tokens'][end]
  generation = dict(eos_token_id=tokenizer.eos)
  params = tree.unflatten(leaves)
  path = tmp_path_factory.mktemp('base')
  loaded = interop.Loaded(model, params, tokenizer, arch, generation=generation)
  interop.save(path, loaded)
  return path


def ends_of(path):
  return json.loads((path / 'generation_config.json').read_text())['eos_token_id']


def test_the_end_of_a_turn_ends_an_answer_of_a_published_model(base, tmp_path):
  output = tmp_path / 'out.jsonl'
  asked = ['generate', f'--model={base}', '--prompt=what?', f'--output={output}']
  assert command.main([*asked, '--max-new-tokens=5']) == 0
  assert json.loads(output.read_text())['end'] == 'length'
  for flags in (['--chat'], ['--system=red']):
    assert command.main([*asked, '--max-new-tokens=5', *flags]) == 0
    found = json.loads(output.read_text())
    assert (found['text'], found['end']) == ('', 'eos')


def test_the_end_of_a_turn_goes_along_with_what_was_learned(base, file, tmp_path):
  options = [option for option in SMALL if option[0] != 'model']
  spec = f'configs/transfer.py:task={file},init={base},method=lora'
  train.transfer(config.load(spec, options), tmp_path / 'run')
  exported = tmp_path / 'hf'
  assert command.main(['export', str(tmp_path / 'run'), str(exported)]) == 0
  tokenizer = train.load(exported).tokenizer
  end = tokenizer.backend.token_to_id('<end>')
  assert ends_of(base) == tokenizer.eos != end
  assert ends_of(exported) == [end, tokenizer.eos]
  assert (exported / 'chat_template.jinja').read_text() == MARKED


@pytest.mark.slow
def test_the_pipeline_of_transformers_stops_there(base, file, tmp_path):
  transformers = pytest.importorskip('transformers')
  pytest.importorskip('torch')
  options = [option for option in SMALL if option[0] != 'model']
  spec = f'configs/transfer.py:task={file},init={base},method=lora'
  train.transfer(config.load(spec, options), tmp_path / 'run')
  exported = tmp_path / 'hf'
  assert command.main(['export', str(tmp_path / 'run'), str(exported)]) == 0
  pipeline = transformers.pipeline('text-generation', model=str(exported), device='cpu')
  asked = [dict(role='user', content='which?')]
  prompt = pipeline.tokenizer.apply_chat_template(
    asked, add_generation_prompt=True, return_dict=True
  )['input_ids']
  (found,) = pipeline(asked, max_new_tokens=5, do_sample=False, return_tensors=True)
  written = list(found['generated_token_ids'])[len(prompt) :]
  assert written == [pipeline.tokenizer.convert_tokens_to_ids('<end>')]


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
    (
      '',
      [('task.template', 'a {text}')],
      'config.task.template: .* is of kind .conversation.',
    ),
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
