"""Programs compiled ahead of their first call."""

import jax
import jax.numpy as jnp
import pytest

from tl_jax import parallel
from tl_jax.train.compilation import compile_ahead, together


def test_a_program_is_for_arguments_of_its_shapes_alone():
  program = compile_ahead(jax.jit(lambda x: x + 1), jnp.zeros(3))
  assert program.call(jnp.ones(3)).tolist() == [2.0, 2.0, 2.0]
  with pytest.raises(TypeError):
    program.call(jnp.ones(4))


def test_all_processes_meet_between_compiling_and_running(monkeypatch):
  """Of each kind of arguments once, and never where a process is alone."""
  held = []
  function = jax.jit(lambda x: jnp.cos(x) + len(held))  # traced before the meeting
  called = together(function)
  assert called(jnp.zeros(3)).tolist() == [1.0] * 3 and not held
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(parallel, 'meet', held.append)
  jax.clear_caches()
  for size in (3, 4, 3, 4):
    called(jnp.zeros(size))
  assert len(held) == 2
  assert (
    called(jnp.zeros(3)).tolist() == [1.0] * 3
    and called(jnp.zeros(4)).tolist() == [2.0] * 4
  )


def test_it_says_whether_it_was_kept(tmp_path):
  before = {name: getattr(jax.config, name) for name in ('jax_compilation_cache_dir',)}
  from jax.experimental.compilation_cache import compilation_cache

  try:
    jax.config.update('jax_compilation_cache_dir', str(tmp_path))
    compilation_cache.reset_cache()
    programs = []
    for _ in range(2):
      jax.clear_caches()
      programs.append(compile_ahead(jax.jit(lambda x: jnp.sin(x) * 5), jnp.zeros(17)))
  finally:
    jax.config.update('jax_compilation_cache_dir', before['jax_compilation_cache_dir'])
    compilation_cache.reset_cache()
  assert [program.kept for program in programs] == [False, True]
  assert str(programs[0]).startswith(
    'program compiled in'
  ) and 'kept from before' in str(programs[1])
