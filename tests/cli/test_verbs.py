"""The verbs that need no training: what `steps` says of a workdir, and what a table
hands on.
"""

import sys
import types

import numpy as np
import pytest

from tl_jax.cli import main as command


@pytest.fixture
def workdir(tmp_path):
  from tl_jax.checkpoint import Store

  store = Store(tmp_path / 'checkpoints')
  for step in (10, 20):
    store.save(step, {'w': np.arange(1000, dtype=np.float32) + step}, {})
    store.wait()
  return tmp_path


def test_steps_lists_what_is_committed(workdir, capsys):
  assert command.main(['steps', str(workdir)]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in lines] == ['10', '20'] and all(
    line.endswith(' ok') for line in lines
  )


def test_a_damaged_step_is_named_and_exits_with_1(workdir, capsys):
  largest = max(
    (
      path
      for path in (workdir / 'checkpoints' / '20' / 'arrays').rglob('*')
      if path.is_file()
    ),
    key=lambda path: path.stat().st_size,
  )
  data = bytearray(largest.read_bytes())
  data[len(data) // 2] ^= 1
  largest.write_bytes(data)
  assert command.main(['steps', str(workdir)]) == 1
  good, bad = capsys.readouterr().out.splitlines()
  assert good.endswith(' ok') and 'damaged' in bad and bad.split()[0] == '20'


def test_a_workdir_without_steps(tmp_path, capsys):
  assert command.main(['steps', str(tmp_path)]) == 0
  assert 'no committed step' in capsys.readouterr().out
  assert not list(tmp_path.iterdir())


@pytest.fixture
def calls(monkeypatch):
  """Stands in for `tl_jax.train`, and keeps what it was called with."""
  made = []
  fake = types.ModuleType('tl_jax.train')
  for name in ('pretrain', 'transfer', 'evaluate'):
    setattr(fake, name, lambda *given, name=name: made.append((name, *given)))
  fake.Reporter = lambda info, progress, busy: types.SimpleNamespace(
    info=info, progress=progress, busy=busy
  )
  fake.execute = lambda members, reporter: made.append(('execute', members, reporter))
  import tl_jax

  monkeypatch.setitem(sys.modules, 'tl_jax.train', fake)
  monkeypatch.setattr(tl_jax, 'train', fake, raising=False)
  return made


def test_training_verbs_hand_on_the_config_with_its_overrides(calls, tmp_path):
  path = tmp_path / 'c.py'
  path.write_text('def get_config(arg="a"): return {"name": arg, "optim": {"lr": 0.1}}')
  workdir = tmp_path / 'w'
  for verb in ('pretrain', 'transfer'):
    assert (
      command.main(
        [verb, f'--config={path}:b', f'--workdir={workdir}', '--config.optim.lr=1']
      )
      == 0
    )
    name, config, folder, reporter = calls.pop()
    assert (name, folder, config.to_dict()) == (
      verb,
      str(workdir),
      {'name': 'b', 'optim': {'lr': 1.0}},
    )
    assert (
      callable(reporter.info)
      and callable(reporter.progress)
      and callable(reporter.busy)
    )
  assert not workdir.exists()


def test_evaluate_hands_on_step_and_overrides(calls, tmp_path):
  assert (
    command.main(
      ['evaluate', f'--workdir={tmp_path}', '--step=3', '--config.eval.batches=2']
    )
    == 0
  )
  assert calls.pop()[:4] == ('evaluate', str(tmp_path), 3, [('eval.batches', '2')])
  assert command.main(['evaluate', f'--workdir={tmp_path}', '--output=a.jsonl']) == 0
  *given, _, output, draws = calls.pop()
  assert given == ['evaluate', str(tmp_path), None, []] and output == 'a.jsonl'
  assert not draws


def test_a_figure_that_cannot_be_drawn_is_refused_first(calls, tmp_path, capsys):
  flags = ['evaluate', f'--workdir={tmp_path}', '--reliability=a.pdf']
  assert command.main(flags) == 2
  assert 'needs a name that ends in .svg or .png' in capsys.readouterr().err
  assert not calls


def test_a_table_is_run_with_the_executor_of_train_and_holes_exit_with_1(
  calls, tmp_path, monkeypatch, capsys
):
  from tl_jax import report

  holes = []
  outcome = types.SimpleNamespace(unfinished=holes)
  monkeypatch.setattr(
    report, 'run_table', lambda *given: calls.append(given) or outcome
  )
  path = tmp_path / 'table.py'
  path.write_text(
    'class TABLE:\n  execute = None\n\n  @staticmethod\n  def at(scale):\n    assert scale == "smoke"\n'
  )
  words = ['table', str(path), f'--workdir={tmp_path}', '--scale=smoke']
  assert command.main(words) == 0
  _, scale, workdir, execute, _ = calls.pop()
  assert (scale, workdir) == ('smoke', str(tmp_path))
  execute(['member'])
  assert calls.pop()[:2] == ('execute', ['member'])
  holes.append(
    types.SimpleNamespace(row='lora', column='sentiment', seed=3, reason='diverged')
  )
  assert command.main(words) == 1
  assert capsys.readouterr().err == 'lora sentiment seed 3: diverged\n'
  path.write_text(path.read_text().replace('None', 'max'))
  command.main(words)
  assert calls.pop()[3] is max
