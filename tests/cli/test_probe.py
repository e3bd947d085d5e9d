"""The verb `probe`: from a file to a page and a result, and what it refuses."""

import json

from tl_jax.cli import main as command


def write(path, count):
  rows = ['subject,folder']
  for place in range(count):
    word = ('win a prize', 'see you at noon')[place % 2]
    rows.append(f'{word} {place},{("junk", "mail")[place % 2]}')
  path.write_text('\n'.join(rows) + '\n')
  return path


def test_from_a_file_to_a_page(pretrained, tmp_path, capsys):
  path = write(tmp_path / 'mails.csv', 60)
  words = [
    'probe',
    f'--task={path}',
    '--text=subject',
    '--label=folder',
    f'--init={pretrained}',
    f'--workdir={tmp_path / "w"}',
  ]
  assert command.main(words) == 0
  out = capsys.readouterr().out
  assert 'layer 1' in out and 'one pass over all texts' in out
  found = json.loads((tmp_path / 'w' / 'result.json').read_text())
  assert found['method'] == 'probe' and len(found['layers']) == 6
  assert 'What each layer knows' not in out
  assert 'By layer' in (tmp_path / 'w' / 'probe.html').read_text()
  assert command.main([*words, '--labels=20']) == 0
  assert 'vectors were there already' in capsys.readouterr().out
  # A probe is compared as any other run is.
  other = tmp_path / 'other.jsonl'
  other.write_text((tmp_path / 'w' / 'predictions.jsonl').read_text())
  assert command.main(['compare', str(tmp_path / 'w'), str(other)]) == 0


def test_what_cannot_be_is_one_line_and_exit_code_2(pretrained, tmp_path, capsys):
  path = write(tmp_path / 'mails.csv', 60)
  good = ['probe', f'--task={path}', f'--init={pretrained}', '--workdir=/tmp/none']
  good += ['--text=subject', '--label=folder']
  wrong = {
    'nearest': [*good, '--pooling=men'],
    'no such folder or file': [*good, '--init=/nobody'],
    'needs a number >= 1': [*good, '--labels=none'],
  }
  for said, words in wrong.items():
    words = [word.replace('/tmp/none', str(tmp_path / 'w')) for word in words]
    assert command.main(words) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
