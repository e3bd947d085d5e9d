"""Help that answers: it names what may be chosen, and every command in it can be given."""

import ast
import dataclasses
import os
import re
import shlex

import pytest

from tl_jax import config, decode, tasks, transfer
from tl_jax.cli import decoding
from tl_jax.cli.main import make_parser, split_overrides
from tl_jax.cli.verbs import VERBS
from tl_jax.data import fetch


@pytest.fixture(scope='module')
def of_transfer():
  return make_parser('transfer').format_help()


def words_of(text):
  return set(re.findall(r'\w+', text))


@pytest.mark.parametrize(
  'names',
  [tasks.TASKS, tasks.PROBLEMS, transfer.METHODS],
  ids=['tasks', 'kinds', 'methods'],
)
def test_the_help_of_transfer_names_all_that_it_takes(of_transfer, names):
  assert set(names) <= words_of(of_transfer)


def test_the_usual_keys_are_as_the_help_says(of_transfer):
  section = of_transfer.split('Usual keys')[1]
  found = re.findall(r'--config\.([\w.]+)=(\S+)', section)
  assert len(found) > 12
  settings = config.load('configs/transfer.py:task=sentiment').to_dict()
  for key, said in found:
    value = settings
    for part in key.split('.'):
      value = value[part]
    assert config.typed(said, value, key) == value, key


def commands():
  """(verb, words) of every command in the help of a verb."""
  for verb in VERBS:
    text = make_parser(verb).format_help().replace('\\\n', ' ')
    for line in re.findall(r'^ +tl-jax (.*)$', text, re.MULTILINE):
      yield pytest.param(shlex.split(line), id=f'{verb}: {line[:60]}')


@pytest.mark.parametrize('words', list(commands()))
def test_every_command_in_a_help_can_be_given(words, monkeypatch):
  # They name folders in /tmp, where this machine may have anything.
  monkeypatch.setattr(os.path, 'lexists', lambda path: False)
  verb, *rest = words
  rest, overrides = split_overrides(rest, VERBS[verb].prefix)
  flags = make_parser(verb).parse(rest)
  assert VERBS[verb].overrides or not overrides
  if getattr(flags, 'config', None):
    config.load(flags.config, overrides)


def test_the_help_shows_what_configs_say_of_themselves(of_transfer):
  path = config.locate('configs/transfer.py')
  assert ast.get_docstring(ast.parse(path.read_text())) in of_transfer
  of_pretrain = make_parser('pretrain').format_help()
  assert 'configs/pretrain.py: ' in of_pretrain and 'configs/adapt.py: ' in of_pretrain


def test_the_help_of_generate_names_its_choices():
  text = ' '.join(make_parser('generate').format_help().split())
  assert 'one of greedy, sample, beam (default: greedy)' in text
  assert 'one of huggingface, gnmt (of --method=beam; default: huggingface)' in text
  assert 'one of true, false, never (of --method=beam; default: false)' in text
  assert '(of --method=sample and beam; default: 1)' in text


def test_the_help_of_data_names_every_set_with_its_client_and_tasks():
  text = make_parser('data').format_help()
  rows = re.findall(r'^  (\w+) +(npm|pip|apt)  (.*)$', text, re.MULTILINE)
  found = {name: (client, set(read_by.split(', '))) for name, client, read_by in rows}
  expected = {}
  for name, each in fetch.SETS.items():
    read_by = {task.name for task in tasks.TASKS.values() if task.source == name}
    expected[name] = each.packages[0].client, read_by
  assert found == expected


def test_who_says_what_no_flag_says():
  """A default in the help is that of nobody else."""
  generate = ' '.join(make_parser('generate').format_help().split())
  assert 'what no flag says, the generation_config.json of the model says' in generate
  predict = ' '.join(make_parser('predict').format_help().split())
  assert 'is as the run of a workdir was scored, or as the gen' in predict


def test_every_setting_of_decoding_has_words():
  fields = {field.name for field in dataclasses.fields(decode.Decoding)}
  assert decoding.WORDS.keys() <= fields
