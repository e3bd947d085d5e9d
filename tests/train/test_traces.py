"""A start that is refused leaves no trace: a new workdir is gone, an older one is as it
was.
"""

import pathlib
import shutil

import pytest

from tl_jax import config, train
from tl_jax.train.traces import Before
from tl_jax.train.workdir import open_run

MODEL = "{'family': 'tiny', 'layers': 1, 'width': 16, 'heads': 2, 'mlp': 16}"
PRETRAIN = 'configs/pretrain.py:tiny'


def contents(folder):
  """Everything in a folder, by path."""
  found = {}
  for path in folder.rglob('*'):
    found[path.relative_to(folder)] = path.read_bytes() if path.is_file() else None
  return found


def table_of(tmp_path, rows='a,x\nb,y\nc,x\nd,y\n'):
  path = tmp_path / 'task.csv'
  path.write_text('text,label\n' + rows)
  return path


def transfer_of(task, *more, method='full', labels=0):
  return config.load(
    f'configs/transfer.py:task={task},method={method},labels={labels}',
    [('model', MODEL), ('tokenizer.size', '300'), *more],
  )


# What is found only when the texts, the tokenizer or the model are there.
LATE = {
  'labels': (dict(labels=1000), 'config.task.labels: 1000 labelled examples'),
  'tokenizer': (dict(more=[('tokenizer.size', '5')]), 'size: 5 is too small'),
  'group': (
    dict(more=[('optim.groups', "(('nothing', None),)")]),
    "the pattern 'nothing' matches no parameter",
  ),
  'baseline': (dict(labels=1000, method='tf-idf'), 'config.task.labels: 1000 labelled'),
}


@pytest.mark.parametrize('late', LATE)
def test_a_late_refusal_leaves_no_new_workdir(late, tmp_path):
  keywords, reason = LATE[late]
  more = keywords.get('more', ())
  others = {name: value for name, value in keywords.items() if name != 'more'}
  changed = transfer_of(table_of(tmp_path), *more, **others)
  with pytest.raises(ValueError, match=reason):
    train.transfer(changed, tmp_path / 'above' / 'run')
  assert not (tmp_path / 'above').exists()


def test_a_folder_that_was_there_is_as_it_was(tmp_path):
  workdir = tmp_path / 'run'
  workdir.mkdir()
  (workdir / 'notes.txt').write_text('mine')
  changed = transfer_of(table_of(tmp_path), labels=1000)
  with pytest.raises(ValueError, match='config.task.labels'):
    train.transfer(changed, workdir)
  assert contents(workdir) == {pathlib.Path('notes.txt'): b'mine'}


def test_an_interrupted_run_is_as_it_was(pretrained, tmp_path):
  """Its config takes what may change, and its clock runs; both are taken back."""
  workdir = tmp_path / 'run'
  shutil.copytree(pretrained, workdir)
  (workdir / 'result.json').unlink()
  before = contents(workdir)
  own = config.load(str(workdir / 'config.json'), [('log.every', '7')])
  with pytest.raises(ValueError, match='no more'), open_run(own, workdir) as run:
    run.write_json('config.json', {})
    run.write_json('account.json', {})
    raise ValueError('no more')
  assert contents(workdir) == before


def test_what_was_trained_stays(tmp_path):
  workdir = tmp_path / 'run'
  with pytest.raises(ValueError, match='a row'), open_run({'seed': 1}, workdir) as run:
    run.workdir.append_metrics({'step': 1, 'loss': 1.0})
    raise ValueError('a row that no model can read')
  assert (workdir / 'metrics.jsonl').is_file() and (workdir / 'config.json').is_file()


def test_another_failure_keeps_the_workdir(tmp_path):
  opened = open_run({'seed': 1}, tmp_path / 'run')
  with pytest.raises(RuntimeError, match='a fault'), opened:
    raise RuntimeError('a fault of the program')
  assert (tmp_path / 'run' / 'config.json').is_file()


def test_folders_that_others_filled_stay(tmp_path):
  before = Before.of(tmp_path / 'above' / 'run')
  (tmp_path / 'above' / 'run').mkdir(parents=True)
  (tmp_path / 'above' / 'other').mkdir()
  before.bring_back()
  before.drop_empty_folders()
  assert [path.name for path in (tmp_path / 'above').iterdir()] == ['other']
