"""The verb `compare`: what it prints, writes and refuses."""

import json

import pytest

from tl_jax.cli import main as command


def write(path, predictions):
  lines = []
  for index, name in enumerate(predictions):
    line = dict(index=index, text=f'text {index}', target='good', prediction=name)
    lines.append(json.dumps(line) + '\n')
  path.write_text(''.join(lines))
  return str(path)


@pytest.fixture
def files(tmp_path):
  good = write(tmp_path / 'a.jsonl', ['good'] * 90 + ['bad'] * 10)
  bad = write(tmp_path / 'b.jsonl', ['good'] * 70 + ['bad'] * 30)
  return good, bad


def test_the_last_line_says_whether_there_is_a_difference(files, capsys):
  assert command.main(['compare', *files, '--samples=200']) == 0
  out = capsys.readouterr().out
  *_, mcnemar, last = out.splitlines()
  assert mcnemar.startswith('accuracy: 20 right in A alone, 0 in B alone; McNemar')
  assert last.startswith('accuracy of A is higher than that of B by 0.200 (95 %')
  assert '20 of 100 predictions are not the same' in out
  assert command.main(['compare', files[0], files[0], '--metric=accuracy']) == 0
  last = capsys.readouterr().out.splitlines()[-1]
  assert last == 'accuracy: no difference at 5 % between A and B: 0.000, p = 1'


def test_the_json_has_what_was_printed(files, tmp_path, capsys):
  path = tmp_path / 'found.json'
  words = ['compare', *files, '--metric=accuracy', '--samples=50', '--seed=3']
  assert command.main([*words, f'--json={path}']) == 0
  found = json.loads(path.read_text())
  assert (found['samples'], found['seed'], found['n']) == (50, 3, 100)
  assert list(found['metrics']) == ['accuracy']
  assert found['sentence'] == capsys.readouterr().out.splitlines()[-1]


def test_what_cannot_be_compared_is_one_line_and_exit_code_2(files, tmp_path, capsys):
  shorter = write(tmp_path / 'c.jsonl', ['good'] * 9)
  wrong = {
    '100 examples and 9': [files[0], shorter],
    'no such workdir or file': [files[0], str(tmp_path / 'nobody')],
    'required: B': [files[0]],
    "nearest: 'accuracy'": [*files, '--metric=acc'],
    'at least 1': [*files, '--samples=0'],
    'at least 0': [*files, '--seed=-1'],
    'a folder that is there': [*files, '--json=/no/folder/found.json'],
  }
  for said, words in wrong.items():
    assert command.main(['compare', *words]) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.startswith('error: ') and err.count('\n') == 1
    assert said in err


def test_several_runs_of_each_side_are_compared_over_their_seeds(
  files, tmp_path, capsys
):
  good, bad = files
  others = [
    write(tmp_path / f'{name}.jsonl', ['good'] * right + ['bad'] * (100 - right))
    for name, right in (('c', 88), ('d', 72))
  ]
  # Two models alone say nothing of seeds, and that is said.
  assert command.main(['compare', good, bad, '--samples=50']) == 0
  assert 'compare A1,A2 B1,B2' in capsys.readouterr().out
  path = tmp_path / 'found.json'
  sides = [f'{good},{others[0]}', f'{bad},{others[1]}']
  assert command.main(['compare', *sides, '--samples=50', f'--json={path}']) == 0
  last = capsys.readouterr().out.splitlines()[-1]
  assert last.startswith('accuracy of A is higher than that of B by 0.180 (95 %')
  assert 'over 2 and 2 runs' in last
  assert json.loads(path.read_text())['sentence'] == last
  assert command.main(['compare', sides[0], bad]) == 2
  assert 'two or more of each' in capsys.readouterr().err
