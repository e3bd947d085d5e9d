"""The verb `forecast-loss`: from the workdirs of small runs to a page."""

import json

import pytest
from tiny_runs import write_finished

from tl_jax.cli import main as command
from tl_jax.evals import scaling

LAW = scaling.Law(1.8, 200.0, 500.0, 0.33, 0.30)


def write_run(folder, parameters, tokens):
  loss = LAW.loss(parameters, tokens)
  result = dict(
    task='pretrain',
    steps=10,
    tokens=tokens,
    unique_tokens=tokens,
    total_parameters=parameters,
    metrics=dict(loss=loss),
  )
  write_finished(folder, result)
  (folder / 'evaluations.jsonl').write_text('')
  return str(folder)


@pytest.fixture
def runs(tmp_path):
  found = []
  for parameters in (10**5, 10**6):
    for tokens in (10**6, 3 * 10**6, 10**7):
      folder = tmp_path / f'{parameters}-{tokens}'
      found.append(write_run(folder, parameters, tokens))
  return found


def forecast_loss(*flags):
  return command.main(['forecast-loss', *map(str, flags)])


def test_from_runs_to_a_page(runs, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(scaling, 'DRAWS', 20)
  workdir = tmp_path / 'w'
  flags = ['--tokens=1e8', '--parameters=3e6', '--unique=1e7', f'--workdir={workdir}']
  assert forecast_loss(*runs, *flags) == 0
  out = capsys.readouterr().out
  assert '3M parameters after 100M tokens, 10 passes, from 6 losses of 6 runs' in out
  # Ten passes are what no run at hand has.
  assert 'what repeats are worth is as published' in out
  found = json.loads((workdir / 'forecast.json').read_text())
  plain, constrained = found['forms'].values()
  assert plain['loss'] == pytest.approx(LAW.loss(3e6, 1e8), rel=0.02)
  assert plain['interval'][0] <= plain['loss'] <= plain['interval'][1]
  assert constrained['loss'] > plain['loss'] and len(found['points']) == 6
  page = (workdir / 'forecast.html').read_text()
  assert 'Hoffmann et al. 2022' in page and '406' in page


def test_what_an_interval_leaves_out_is_said(runs, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(scaling, 'DRAWS', 5)
  flags = ['--tokens=1e8', f'--workdir={tmp_path / "w"}']
  assert forecast_loss(*runs, *flags) == 0
  out = capsys.readouterr().out
  assert 'held back' not in out.split('passes, from')[1] and 'carried on' not in out
  # Three lengths of one size suffice for a law, and for nothing else.
  assert forecast_loss(*runs[:3], *flags) == 0
  out = capsys.readouterr().out
  assert 'No run could be held back' in out and 'No law could be carried on' in out


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--tokens=many'], "--tokens: needs a number >= 1, as 3e9; got 'many'"),
    (['--tokens=nan'], 'needs a number >= 1'),
    (['--tokens=1e9', '--parameters=0'], '--parameters: needs a number >= 1'),
  ],
)
def test_what_is_wrong_is_said_in_one_line(runs, flags, message, tmp_path, capsys):
  assert forecast_loss(*runs, *flags, f'--workdir={tmp_path / "w"}') == 2
  assert message in capsys.readouterr().err


def test_a_folder_without_a_result_is_named(tmp_path, capsys):
  assert forecast_loss(tmp_path, '--tokens=1e9', f'--workdir={tmp_path / "w"}') == 2
  assert f'{tmp_path}: no finished run' in capsys.readouterr().err
