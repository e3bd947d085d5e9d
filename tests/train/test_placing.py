"""What a config says of the places of parameters: patterns, heads that an axis divides,
and a line on every big parameter that lies whole.
"""

import dataclasses

import pytest
from tiny_runs import SMALL

from tl_jax import config, parallel
from tl_jax.config import ConfigError
from tl_jax.train import assembly, checks, outline, placing
from tl_jax.train.placing import require_overrides, require_tensor

PRETRAIN = config.load('configs/pretrain.py:tiny', SMALL)


def refused(**changed):
  checked = checks.check(PRETRAIN)
  settings = dataclasses.replace(checked.settings, **changed)
  arch = assembly.smallest_arch(settings, None)
  require_overrides(settings, arch, checked.method)


@pytest.mark.parametrize('preset', [*parallel.RULES, 'replicated'])
def test_every_preset_and_former_name_is_read(preset):
  named = config.load('configs/pretrain.py:tiny', [*SMALL, ('sharding', preset)])
  assert checks.read(named).sharding == preset


def test_an_override_of_the_command_line_is_read():
  text = "(('embedding/tokens', ('fsdp', None)), ('.*kernel', ()))"
  named = config.load(
    'configs/pretrain.py:tiny', [*SMALL, ('sharding_overrides', text)]
  )
  found = parallel.parse_overrides(checks.read(named).sharding_overrides)
  assert [override.spec for override in found] == [('fsdp', None), ()]


def test_patterns_are_of_parameters():
  refused(sharding_overrides=((r'embedding/tokens', ('fsdp', None)),))
  refused(sharding_overrides=((r'layers/\d+/.*kernel', ('fsdp',)),))
  with pytest.raises(ConfigError, match=r"\[1\].*'.*/mpl/.*' matches no parameter"):
    refused(sharding_overrides=((r'.*', ()), (r'.*/mpl/.*', ())))


def test_a_model_that_is_not_open_is_asked_later():
  checked = checks.check(PRETRAIN)
  overrides = (('no/such', ()),)
  settings = dataclasses.replace(checked.settings, sharding_overrides=overrides)
  require_overrides(settings, None, checked.method)
  require_overrides(settings, assembly.smallest_arch(settings, None), None)


def test_heads_and_hidden_units_are_divided():
  arch = assembly.smallest_arch(checks.check(PRETRAIN).settings, None)
  require_tensor(arch, 1)
  require_tensor(arch, 2)
  with pytest.raises(
    ConfigError, match='mesh.tensor: 4 .* the 2 heads of layers/0/att'
  ):
    require_tensor(arch, 4)
  odd = dataclasses.replace(arch, mlp=15)
  with pytest.raises(
    ConfigError, match='the 15 hidden units .*mlp/in/kernel; nearest: 1'
  ):
    require_tensor(odd, 2)


class PodMesh:
  """Sixteen devices along fsdp, in sizes alone."""

  shape = dict(cohort=1, data=1, fsdp=16, tensor=1, sequence=1)


def lines_of(width: int, heads: int) -> list[str]:
  loaded = config.load('configs/pretrain.py:bert-small', [('tokenizer.size', '90001')])
  loaded.model = dict(family='bert-small', width=width, heads=heads, layers=1)
  found = outline.outline(loaded)
  settings = dataclasses.replace(checks.settings_of(loaded), sharding='fsdp')
  parts = found.parts
  return placing.lines_on_uncut(parts.model, parts.method, PodMesh(), settings)


def test_what_stays_whole_although_it_is_big_is_said():
  assert lines_of(64, 2) == []
  (line,) = lines_of(60, 2)
  assert line.startswith(
    'embedding/tokens, 90001 x 60, 21 MiB, is whole on every device'
  )
  assert 'fsdp 16' in line
