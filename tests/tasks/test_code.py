"""Tasks that a file of the user defines: what one needs, and what is said of a wrong
one.
"""

import json

import pytest
from tiny_runs import SMALL

from tl_jax import config, tasks, train
from tl_jax.config import ConfigError
from tl_jax.data.pairs import Pair

MINE = """
from tl_jax import tasks

def read(record):
  return tasks.Example((record['text'],), int('!' in record['text']))

LOUD = tasks.Task('loud', 'vader_tweets', read, ['calm', 'loud'])

def loud():
  return LOUD

def own_file():
  return tasks.Task('own', 'data.jsonl', read, ['calm', 'loud'])
"""


@pytest.fixture
def path(tmp_path):
  rows = [dict(text=f'w{place}{"!" * (place % 2)}') for place in range(20)]
  data = tmp_path / 'mine.jsonl'
  data.write_text('\n'.join(map(json.dumps, rows)))
  found = tmp_path / 'mine.py'
  found.write_text(MINE.replace('data.jsonl', str(data)))
  return found


# As a stranger writes them, for files with columns of any name.
STRANGE = """
from tl_jax import tasks

FOLDERS = ('ham', 'spam')


def mail(record):
  return tasks.Example((record['body'],), FOLDERS.index(record['folder']))


def headline(record):
  return tasks.Example((record['article'],), record['headline'])


MAIL = tasks.Task('mail', 'mails.csv', mail, FOLDERS)

def told(record):
  return tasks.Example((record['subject'], record['body']), int(len(record['body']) > 2))


BOTH = tasks.Task('both', 'mails.csv', told, ('short', 'long'))
TITLES = tasks.Task(
  'titles',
  'titles.jsonl',
  headline,
  problem=tasks.PROBLEMS['text'],
  metrics=('distinct', 'exact_match'),
  decoding=dict(method='beam', beams=2),
)
"""


@pytest.fixture
def strange(tmp_path, monkeypatch):
  """A file with two tasks beside the files that they read, where the user is."""
  monkeypatch.chdir(tmp_path)
  mails = ['subject,body,folder']
  for number in range(24):
    folder = ('ham', 'spam')[number % 2]
    mails.append(f'no {number},w{number % 8},{folder}')
  (tmp_path / 'mails.csv').write_text('\n'.join(mails))
  titles = [dict(article=f'a {number}', headline=f'b {number}') for number in range(9)]
  (tmp_path / 'titles.jsonl').write_text('\n'.join(map(json.dumps, titles)))
  (tmp_path / 'mine.py').write_text(STRANGE)


def test_a_file_of_any_columns_is_read_by_the_code_alone(strange):
  assert len(STRANGE.splitlines()) < 40
  task = tasks.find('mine.py:MAIL')
  split = {name: tasks.labelled(task, name) for name in ('train', 'test')}
  assert sum(len(texts) for texts, _ in split.values()) == 24
  for texts, targets in split.values():
    assert targets.tolist() == [int(text[1:]) % 2 for text in texts]
  # Equal texts are on one side, though their rows differ.
  assert not {*split['train'][0]} & {*split['test'][0]}
  (line,) = task.told
  assert line.startswith('mails.csv: no column split; by the hash of their texts')
  both = tasks.labelled(tasks.find('mine.py:BOTH'), 'train')[0]
  assert isinstance(both[0], Pair) and both[0].first.startswith('no ')
  written = tasks.find('mine.py:TITLES')
  texts, targets = tasks.labelled(written, 'train')
  assert targets[0] == (texts[0].replace('a', 'b'),)
  assert (written.headline, written.decoding['beams']) == ('distinct_2', 2)


def test_a_task_of_texts_is_checked_before_a_run(strange, tmp_path):
  spec = 'configs/transfer.py:task=mine.py:TITLES,init=scratch'
  more = [('model.family', 'tiny-gpt')]
  assert train.read(config.load(spec, more)).task.name == 'mine.py:TITLES'
  code = tmp_path / 'mine.py'
  code.write_text(STRANGE.replace("'beam'", "'bean'"))
  with pytest.raises(ConfigError, match="config.task.decoding.method: .*'bean'"):
    train.read(config.load(spec, more))


@pytest.mark.parametrize('name', ['LOUD', 'loud'])
def test_a_task_or_a_function_that_makes_one(path, name):
  task = tasks.find(f'{path}:{name}')
  assert task.name == f'{path}:{name}' and task.labels == ('calm', 'loud')
  texts, targets = tasks.labelled(task, 'test')
  assert targets.tolist() == ['!' in text for text in texts]
  assert 0 < sum(targets) < len(targets)


def test_it_shares_a_model_with_others(path):
  task = tasks.find(f'{path}:LOUD+sentiment')
  assert task.labels[0] == f'{path}:LOUD: calm' and len(task.labels) == 4
  assert task.own_code.keys() == {str(path)}


def run(path, workdir):
  spec = f'configs/transfer.py:task={path}:own_file,init=scratch'
  return train.transfer(config.load(spec, SMALL), workdir)


def test_a_run_goes_on_only_with_the_same_code_and_data(path, tmp_path):
  result = run(path, tmp_path / 'w')
  assert result['task'] == f'{path}:own_file' and 'accuracy' in result['metrics']
  assert train.evaluate(tmp_path / 'w')['metrics'] == pytest.approx(result['metrics'])
  # Back to where the run is half done.
  (tmp_path / 'w' / 'result.json').unlink()
  code = path.read_text()
  path.write_text(code.replace("'!' in", "'1' in"))
  with pytest.raises(ConfigError, match=r'mine\.py: its content is not that'):
    run(path, tmp_path / 'w')
  path.write_text(code)
  data = path.with_suffix('.jsonl')
  data.write_text(data.read_text() + '\n{"text": "w99!"}')
  with pytest.raises(ConfigError, match=r'mine\.jsonl: its content is not that'):
    run(path, tmp_path / 'w')


@pytest.mark.parametrize(
  ('code', 'message'),
  [
    ('LOUD = 3', 'LOUD: must be a tl_jax.tasks.Task or a function .* not int'),
    ('def LOUD():\n  return 1 / 0', r'mine\.py:2: ZeroDivisionError'),
    ('import no_such_module', r"mine\.py:1: ModuleNotFoundError: .*'no_such_module'"),
    ('LOUT = 3', r'mine\.py has no LOUD; nearest: .*LOUT'),
    (MINE.replace("int('!'", "7 + int('!'"), 'number of a label, from 0 to 1, not 8'),
    (MINE.replace("(record['text'],)", "record['text']"), 'inputs must be a tuple of'),
    (MINE.replace("(record['text'],)", "('a', 'b', 'c')"), 'of one text or two, as'),
    (
      MINE.replace("(record['text'],)", "(record['body'],)"),
      "mine.py:5: KeyError: 'bo",
    ),
    (MINE.replace('tasks.Example(', '('), 'must give a tl_jax.tasks.Example or None'),
    (MINE.replace("['calm', 'loud']", "['calm']"), 'LOUD: labels: 1 of them'),
    (MINE.replace('vader_tweets', 'vader_tweet'), "LOUD: source: .*'vader_tweets'"),
    (MINE.replace("'loud'])", "'loud'], metrics=['rmse'])"), "LOUD: metrics: 'rmse'"),
  ],
)
def test_what_is_wrong_is_one_line(path, code, message):
  path.write_text(code)
  with pytest.raises(ConfigError, match=message) as error:
    tasks.labelled(tasks.find(f'{path}:LOUD'), 'test')
  assert '\n' not in str(error.value)


def test_the_task_of_a_file_must_be_named(path):
  for name in (path, f'{path}:'):
    with pytest.raises(ConfigError, match=r'say which task of the file.*mine\.py:LOUD'):
      tasks.find(str(name))
  with pytest.raises(ConfigError, match='no_such.py: No such file'):
    tasks.find(f'{path.parent}/no_such.py:LOUD')
