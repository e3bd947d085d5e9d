"""The verb `plan` from the command line, without a compiler."""

import json

import pytest

from tl_jax.cli.main import main

CONFIG = '--config=configs/pretrain.py:tiny'


def test_what_needs_no_compiler_is_told(tmp_path, capsys):
  file = tmp_path / 'plan.json'
  page = tmp_path / 'plan.html'
  words = ['plan', CONFIG, '--topology=v5e-4,v5p-8', '--no-compile', f'--json={file}']
  assert main([*words, f'--html={page}']) == 0
  assert page.read_text().count('<section>') == 2
  shown = capsys.readouterr().out
  assert 'step on v5e:2x2, 4 devices: data 4' in shown
  assert 'FLOPs' in shown
  first, second = json.loads(file.read_text())
  assert first['topology']['name'] == 'v5e:2x2'
  assert second['topology']['devices'] == 4
  assert first['parameters']['total'] == second['parameters']['total']
  assert first['memory'] is None


def test_no_file_of_the_run_is_needed(capsys):
  spec = '--config=configs/transfer.py:task=sentiment,method=lora,init=llama3.1-8b'
  words = [spec, '--topology=v5e-8', '--no-compile', '--config.mesh.fsdp=-1']
  assert main(['plan', *words, '--config.mesh.data=1']) == 0
  assert '8 devices: fsdp 8' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('words', 'said'),
  [
    (['--topology=v5e:3'], '2 dimensions'),
    (['--topology=w5e:2x2'], 'unknown chip'),
    (['--topology=v5e-64'], 'config.data.batch'),
    (['--topology=v5e-4', '--config.mesh.fsdp=8'], 'config.mesh'),
    (['--topology=v5e-4', '--program=decoding'], "no program 'decoding'"),
    (['--topology=v5e-4', '--prices=nowhere.json'], '--prices'),
    (['--topology=v5e-4', '--config.data.lenght=3'], 'lenght'),
  ],
)
def test_what_is_wrong_is_one_line(words, said, capsys):
  assert main(['plan', CONFIG, '--no-compile', *words]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert said in line


def test_a_compiler_that_is_not_there_is_an_extra(monkeypatch, capsys):
  from tl_jax.scale import topology

  monkeypatch.setattr(topology, '_is_installed', lambda module: False)
  assert main(['plan', CONFIG, '--topology=v5e-4']) == 2
  assert "pip install 'tl-jax[tpu]'" in capsys.readouterr().err
