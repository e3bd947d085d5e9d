"""Config files: what loads, and one line for everything that does not."""

import os
import textwrap

import pytest

from tl_jax import config

GOOD = """
from ml_collections import ConfigDict
def get_config(arg='base'):
  c = ConfigDict()
  c.name = arg
  c.seed = 0
  c.optim = dict(lr=1e-3, groups=(('bias', dict(decay=0.0)),))
  c.data = dict(batch=8)
  c.data.rows = c.data.get_ref('batch') * 2
  c.teacher = None
  return c
"""


@pytest.fixture
def write(tmp_path):
  def write_file(text, name='config.py'):
    path = tmp_path / name
    path.write_bytes(
      text if isinstance(text, bytes) else textwrap.dedent(text).encode()
    )
    return str(path)

  return write_file


def test_argument_overrides_and_references(write):
  path = write(GOOD)
  assert config.load(path).name == 'base'
  loaded = config.load(
    f'{path}:large', [('optim.lr', '1e-4'), ('data.batch', '1_0'), ('teacher', '/a:b')]
  )
  assert (loaded.name, loaded.optim.lr, loaded.data.rows, loaded.teacher) == (
    'large',
    1e-4,
    20,
    '/a:b',
  )
  assert config.load(f'{path}:a=b:c,d').name == 'a=b:c,d'
  assert config.load(f'{path}:').name == ''


def test_an_edit_is_seen_at_once(write):
  for number in range(3):
    assert (
      config.load(write(f'def get_config(): return {{"seed": {number}}}')).seed
      == number
    )


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'is empty'),
    ('  \n', 'is empty'),
    (b'\x00\x01\xff\xfe', 'Error'),
    (b'\xff\xfe\x00binary', 'Error'),
    ('x = 1', 'has no function get_config'),
    ('get_config = 3', 'has no function get_config'),
    ('import nothing_of_this_name', ':1: ModuleNotFoundError'),
    ('def get_config(:', ':1: SyntaxError'),
    ('def get_config():\n  return 1 / 0', ':2: ZeroDivisionError'),
    (
      'def get_config():\n  raise ValueError("two\\nlines")',
      ':2: ValueError: two lines',
    ),
    ('raise SystemExit(3)', ':1: SystemExit'),
    ('def get_config(): return 3', 'must return a ConfigDict, got 3'),
    ('import runpy\nrunpy.run_path(__file__)', ':2: RecursionError'),
  ],
  ids=range(13),
)
def test_bad_python(write, text, message):
  path = write(text)
  with pytest.raises(config.ConfigError) as caught:
    config.load(path)
  assert (
    str(caught.value).startswith(path)
    and message in str(caught.value)
    and '\n' not in str(caught.value)
  )


def test_argument_for_a_config_without_one_and_the_reverse(write):
  with pytest.raises(
    config.ConfigError, match=r'get_config\(\) cannot take the argument'
  ):
    config.load(write('def get_config(): return {}') + ':large')
  with pytest.raises(config.ConfigError, match=r'cannot take the argument None'):
    config.load(write('def get_config(arg): return {}'))


def test_no_such_file_names_its_neighbour(write, tmp_path):
  write(GOOD, 'pretrain.py')
  with pytest.raises(
    config.ConfigError, match=r'No such file.*nearest: .*pretrain\.py'
  ):
    config.load(str(tmp_path / 'pretrian.py'))


def test_what_is_not_a_file(tmp_path, write):
  (tmp_path / 'folder.py').mkdir()
  os.symlink(tmp_path / 'loop.py', tmp_path / 'loop.py')
  os.mkfifo(tmp_path / 'pipe.py')
  (tmp_path / 'large.py').write_bytes(b'#' * 2**21)
  for name, message in [
    ('folder.py', 'is a directory'),
    ('.', 'is a directory'),
    ('loop.py', 'symbolic links'),
    ('pipe.py', 'not a regular file'),
    ('large.py', 'too large'),
    ('a.txt', 'No such file'),
  ]:
    with pytest.raises(config.ConfigError, match=message) as caught:
      config.load(str(tmp_path / name))
    assert str(tmp_path) in str(caught.value)
  with pytest.raises(config.ConfigError, match=r'a config is FILE\.py'):
    config.load(write('x', 'a.yaml'))


def test_data_only_files(write):
  toml = write('seed = 1\nwidths = [1, 2]\n[optim]\nlr = 0.1\n', 'a.toml')
  json_file = write('{"seed": 1, "widths": [1, 2], "optim": {"lr": 0.1}}', 'a.json')
  saved = write(
    '{"hash": "x", "config": {"seed": 1, "widths": [1, 2], "optim": {"lr": 0.1}}}',
    'config.json',
  )
  loaded = [config.load(path, [('optim.lr', '1')]) for path in (toml, json_file, saved)]
  assert {config.digest(one) for one in loaded} == {config.digest(loaded[0])}
  assert loaded[0].widths == (1, 2) and loaded[0].optim.lr == 1.0


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('a.json', '[1]', 'must hold an object'),
    ('a.json', '{"a": NaN}', 'NaN is not a number'),
    ('a.json', '{', 'Expecting'),
    ('a.toml', 'a = ', 'Invalid'),
    ('a.json', b'\xff{}', 'decode'),
    ('a.json', '[' * 100_000, 'a.json'),
  ],
)
def test_bad_data_files(write, name, text, message):
  path = write(text, name)
  with pytest.raises(config.ConfigError, match=message) as caught:
    config.load(path)
  assert '\n' not in str(caught.value)


def test_data_files_take_no_argument(write):
  with pytest.raises(config.ConfigError, match='takes no argument'):
    config.load(write('{}', 'a.json') + ':x')


def test_the_files_of_the_package_are_found_from_anywhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert config.locate('configs/pretrain.py').is_file()
  assert not config.locate('configs/nothing.py').exists()


def test_what_the_configs_have_in_common_they_write_alike():
  """Each is written out, so that it is read, copied and edited as one experiment."""
  pretrain, adapt, transfer = (
    config.load(f'configs/{name}')
    for name in ('pretrain.py:bert-base', 'adapt.py', 'transfer.py')
  )
  for other in (adapt, transfer):
    assert other.mesh == pretrain.mesh and other.sharding == pretrain.sharding
    assert other.optim.groups == pretrain.optim.groups
    assert other.log.tensorboard == pretrain.log.tensorboard
    for name in ('compute', 'tokenizer', 'optim', 'schedule', 'checkpoint', 'log'):
      assert list(other[name]) == list(pretrain[name])
  assert adapt.compute == transfer.compute
  assert adapt.tokenizer == transfer.tokenizer


def test_an_unknown_key_stays_unknown_after_loading(write):
  loaded = config.load(write(GOOD))
  with pytest.raises(AttributeError):
    loaded.optim.lrr = 1
