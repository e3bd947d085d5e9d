"""A workdir: refused paths, config, metrics."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.checkpoint.lock import WorkdirBusy
from tl_jax.checkpoint.workdir import Workdir, config_hash
from tl_jax.config import compare


@pytest.fixture
def workdir(tmp_path):
  with Workdir(tmp_path / 'run') as opened:
    yield opened


def test_one_writer_and_any_readers(workdir):
  with pytest.raises(WorkdirBusy, match='in use by pid'):
    Workdir(workdir.path)
  reader = Workdir(workdir.path, write=False)
  workdir.write_json('result.json', {'accuracy': float('nan'), 'n': 3})
  assert reader.read_json('result.json') == {'accuracy': None, 'n': 3}
  with pytest.raises(ValueError, match='reading only'):
    reader.write_json('result.json', {})


def test_a_reader_leaves_no_trace(tmp_path):
  with Workdir(tmp_path) as writer:
    writer.append_metrics({'step': 1})
  before = sorted(os.listdir(tmp_path))
  assert Workdir(tmp_path, write=False).metrics() == [{'step': 1}]
  assert sorted(os.listdir(tmp_path)) == before == ['metrics.jsonl']


def test_paths_that_cannot_be_workdirs_are_named(tmp_path):
  (tmp_path / 'file').write_text('')
  (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
  refused = {
    'file': 'not a folder',
    'file/below': 'file is not a folder',
    'link': 'dangling link',
    'link/below': 'link is a dangling link',
    'x' * 300: 'too long',
  }
  for name, reason in refused.items():
    with pytest.raises(ValueError, match=reason) as caught:
      Workdir(tmp_path / name)
    assert '\n' not in str(caught.value) and name in str(caught.value)
  for path, reason in (
    ('/proc/1/x', '/proc/1/x'),
    ('gs://bucket/run', 'mount'),
    (pathlib.Path('gs://bucket/run'), 'mount'),
    ('', 'not a path'),
  ):
    with pytest.raises(ValueError, match=reason):
      Workdir(path)
  with pytest.raises(ValueError, match='No such file'):
    Workdir(tmp_path / 'missing', write=False)
  with pytest.raises(ValueError, match='not a folder'):
    Workdir(tmp_path / 'file', write=False)
  assert not (tmp_path / 'missing').exists()


@pytest.mark.parametrize(
  'name', ['a b', 'größe', '-x', '$(touch y)', 'a/../b', 'deep/er']
)
def test_odd_paths_work(tmp_path, name):
  with Workdir(tmp_path / name) as opened:
    opened.write_json('a.json', 1)
    assert opened.read_json('a.json') == 1


@pytest.mark.parametrize('name', ['../a', '/a', '', '.', '..', 'a/b', 'a\0'])
def test_names_stay_in_the_workdir(workdir, name):
  with pytest.raises(ValueError, match='not the name of a file'):
    workdir.write_json(name, 1)


@pytest.mark.parametrize('text', ['', '{', 'NaN', '{"a":1,"a":2}'])
def test_json_that_is_not_strict_is_named(workdir, text):
  (workdir.path / 'result.json').write_text(text)
  with pytest.raises(ValueError, match=r'result\.json: '):
    workdir.read_json('result.json')


def test_metrics_are_strict_lines(workdir):
  workdir.append_metrics({'step': 1, 'loss': float('inf'), 'name': 'a\nb\u2028'})
  workdir.append_metrics({'step': 2, 'loss': 0.5})
  lines = (workdir.path / 'metrics.jsonl').read_bytes().split(b'\n')
  assert len(lines) == 3 and lines[-1] == b''
  rows = [json.loads(line, parse_constant=pytest.fail) for line in lines[:2]]
  assert rows == workdir.metrics() and rows[0]['loss'] is None


@given(st.integers(0, 12), st.integers(1, 12), st.integers(0, 20))
def test_resuming_at_any_step_leaves_neither_gap_nor_repeat(
  tmp_path_factory, last, resumed, cut
):
  path = tmp_path_factory.mktemp('run')
  with Workdir(path) as first:
    for step in range(1, last + 1):
      first.append_metrics({'step': step})
    with open(path / 'metrics.jsonl', 'ab') as file:
      file.write(b'{"step": 99, "loss": 1.234'[:cut])
  with Workdir(path) as second:
    second.truncate_metrics(min(resumed, last))
    for step in range(min(resumed, last) + 1, 15):
      second.append_metrics({'step': step})
    assert [row['step'] for row in second.metrics()] == list(range(1, 15))


def test_starting_afresh_drops_all_metrics(workdir):
  workdir.append_metrics({'step': 1})
  workdir.truncate_metrics(None)
  assert workdir.metrics() == []


def test_a_damaged_line_is_named(workdir):
  (workdir.path / 'metrics.jsonl').write_bytes(b'{"step":1}\n{"step":NaN}\n')
  with pytest.raises(ValueError, match=r'metrics\.jsonl, line 2: NaN'):
    workdir.metrics()


def test_another_config_is_refused_with_its_differences(tmp_path):
  config = {'seed': 0, 'optim': {'lr': 1e-3, 'clip': 1.0}, 'log': {'every': 10}}
  with Workdir(tmp_path) as opened:
    digest = opened.bind_config(config)
    assert digest == opened.bind_config({**config, 'seed': 0.0}) == config_hash(config)
    assert opened.read_json('config.json') == {'config': config, 'hash': digest}
  changed = {
    'seed': 1,
    'optim': {'lr': 1e-3},
    'log': {'every': 20},
    'data': {'batch': 8},
  }
  with Workdir(tmp_path) as opened:
    with pytest.raises(
      ValueError, match='data.batch: absent -> 8; optim.clip: 1 -> absent; seed: 0 -> 1'
    ) as caught:
      opened.bind_config(changed, allowed=[r'log\..*'])
    assert '\n' not in str(caught.value) and 'log' not in str(caught.value)
    opened.bind_config({**config, 'log': {'every': 20}}, allowed=[r'log\..*'])
    assert opened.read_json('config.json')['config']['log'] == {'every': 20}


def test_a_key_that_is_called_something_else_since_is_no_difference(tmp_path):
  former = {'data': {'slots': 8}}
  current = {'data': {'examples_per_row': 8}}
  assert compare(former, current) == {}
  other = {'data': {'examples_per_row': 4}}
  assert list(compare(former, other)) == ['data.examples_per_row']
  with Workdir(tmp_path) as workdir:
    made = workdir.bind_config(former)
    assert workdir.bind_config(current) == made


def test_a_key_that_a_config_has_got_since_with_its_usual_value_is_no_difference(
  workdir,
):
  usual = {'b': {'c': False}}
  assert compare({'a': 1}, {'a': 1, 'b': {'c': False}}, usual) == {}
  assert list(compare({'a': 1}, {'a': 1, 'b': {'c': True}}, usual)) == ['b.c']
  assert list(compare({'a': 1}, {'a': 1, 'b': {'c': False}})) == ['b.c']
  workdir.bind_config({'a': 1})
  workdir.bind_config({'a': 1, 'b': {'c': False}}, usual=usual)
  assert workdir.read_json('config.json')['config'] == {'a': 1}
  with pytest.raises(ValueError, match='b.c: absent -> true'):
    workdir.bind_config({'a': 1, 'b': {'c': True}}, usual=usual)


def test_compare_tells_truth_from_one():
  assert compare({'a': True}, {'a': 1}) and not compare({'a': 1}, {'a': 1.0})
  assert compare({}, {'a': {}}) == {'a': 'a: absent -> {}'}


def test_a_full_disk_leaves_whole_lines(tmp_path):
  script = f"""
import resource
from tl_jax.checkpoint.workdir import Workdir
with Workdir({str(tmp_path)!r}) as opened:
  opened.append_metrics({{'step': 1, 'text': 'x' * 900}})
  resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
  try:
    opened.append_metrics({{'step': 2, 'text': 'x' * 900}})
  except OSError as error:
    print(error)
"""
  done = subprocess.run(
    [sys.executable, '-c', script],
    capture_output=True,
    text=True,
    check=True,
    timeout=60,
  )
  assert 'metrics.jsonl was not written: File too large' in done.stdout
  assert [row['step'] for row in Workdir(tmp_path, write=False).metrics()] == [1]
