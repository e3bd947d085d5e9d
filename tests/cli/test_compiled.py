"""Where compiled programs are kept."""

import os

from tl_jax.cli.compiled import with_folder


def test_a_folder_per_kind_of_processor_with_a_bound(tmp_path):
  found = with_folder({'XDG_CACHE_HOME': str(tmp_path)})
  assert found['JAX_COMPILATION_CACHE_DIR'].startswith(f'{tmp_path}/tl_jax/compiled/')
  assert os.path.isdir(found['JAX_COMPILATION_CACHE_DIR'])
  assert int(found['JAX_COMPILATION_CACHE_MAX_SIZE']) == 2**31


def test_the_user_decides(tmp_path):
  given = {'XDG_CACHE_HOME': str(tmp_path)}
  assert with_folder(given | {'JAX_COMPILATION_CACHE_DIR': ''}) == {}
  assert with_folder(given | {'JAX_ENABLE_COMPILATION_CACHE': 'false'}) == {}
  blocked = tmp_path / 'file'
  blocked.write_text('')
  assert with_folder({'XDG_CACHE_HOME': str(blocked)}) == {}


def test_a_second_command_finds_what_the_first_compiled(run_cli, tmp_path, monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
  environment = dict(XDG_CACHE_HOME=str(tmp_path / 'cache'))
  kept = []
  for name in ('first', 'second'):
    done = run_cli(
      'pretrain',
      '--config=configs/pretrain.py:tiny',
      f'--workdir={tmp_path / name}',
      '--config.schedule.steps=2',
      '--config.schedule.warmup=0',
      '--config.log.tensorboard=false',
      '--config.eval.batches=1',
      '--config.tokenizer.size=512',
      '--config.data.length=32',
      "--config.model={'family': 'tiny', 'layers': 1}",
      '--config.data.accumulate=1',
      "--config.data.mixture={'vader_amazon': 1.0}",
      env=environment,
    )
    assert done.returncode == 0, done.stderr
    kept.append(
      sorted(
        path.name
        for path in (tmp_path / 'cache' / 'tl_jax' / 'compiled').glob('*/*-cache')
      )
    )
  assert kept[0] and kept[1] == kept[0]
