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


def test_steps_of_phases_count_by_their_tokens(tmp_path, capsys):
  """Half of the steps in rows of half the length are a quarter of the hours less."""
  words = [
    'plan',
    CONFIG,
    '--topology=v5e-4',
    '--no-compile',
    '--config.data.length=64',
  ]
  found = []
  for number, given in enumerate(('()', "((30, {'length': 32}),)")):
    file = tmp_path / f'{number}.json'
    assert main([*words, f'--config.data.phases={given}', f'--json={file}']) == 0
    (plan,) = json.loads(file.read_text())
    found.append(plan['speed'])
  plain, phased = found
  assert plain['whole_steps'] == plain['steps'] == phased['steps'] == 60
  assert phased['whole_steps'] == 45
  assert phased['hours'] == pytest.approx(0.75 * plain['hours'])
  told = capsys.readouterr().out
  assert told.count('60 steps, by their tokens 45 such steps, take at least') == 1


def test_no_file_of_the_run_is_needed(capsys):
  spec = '--config=configs/transfer.py:task=sentiment,method=lora,init=llama3.1-8b'
  words = [spec, '--topology=v5e-8', '--no-compile', '--config.mesh.fsdp=-1']
  assert main(['plan', *words, '--config.mesh.data=1']) == 0
  assert '8 devices: fsdp 8' in capsys.readouterr().out


@pytest.mark.parametrize(
  'config',
  [
    'tiny,objective=next_sentence',
    'tiny,objective=sentence_order',
    'albert-base,objective=sentence_order',
    'tiny-electra',
    'tiny-ul2',
    'tiny-bart',
  ],
)
@pytest.mark.slow
def test_every_objective_of_pre_training_has_a_plan(config, tmp_path):
  file = tmp_path / 'plan.json'
  few = ['--config.data.batch=8', '--config.data.length=32']
  spec = f'--config=configs/pretrain.py:{config}'
  words = ['plan', spec, '--topology=v5e-4', '--no-compile', f'--json={file}', *few]
  assert main(words) == 0
  (plan,) = json.loads(file.read_text())
  assert plan['flops']['total'] > 0
  assert plan['parameters']['frozen'] == 0


@pytest.mark.slow
def test_the_generator_of_electra_is_planned_too(tmp_path):
  plans = []
  for width in (16, 32):
    file = tmp_path / f'{width}.json'
    model = f"--config.model={{'family': 'tiny-electra', 'generator': {width}}}"
    spec = '--config=configs/pretrain.py:tiny-electra'
    words = ['plan', spec, model, '--topology=v5e-4', '--no-compile']
    assert main([*words, f'--json={file}']) == 0
    plans += json.loads(file.read_text())
  smaller, larger = plans
  # Two layers with four times and twice as many weights, and what stands around them.
  more = larger['parameters']['total'] - smaller['parameters']['total']
  assert more > 2 * 12 * (32**2 - 16**2)
  # Each is read by every token, forward and twice backward.
  tokens = smaller['tokens']
  operations = larger['flops']['total'] - smaller['flops']['total']
  assert operations > 6 * tokens * 12 * (32**2 - 16**2)
  assert larger['parts']['optimizer'] > smaller['parts']['optimizer']


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
