"""The rules of the house: who may import whom, how long things are, what is said where,
and that examples run.
"""

import ast
import dataclasses
import doctest
import functools
import importlib
import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys

import density
import pytest

from tl_jax import config

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'tl_jax'
# A room imports from rooms with a smaller number only; two rooms of one number never
# meet.
ROWS = {
  'tree': 0,
  'leaves': 0,
  'rng': 0,
  'config': 0,
  'files': 0,
  'segments': 0,
  'layers': 1,
  'parallel': 1,
  'models': 2,
  'objectives': 2,
  'transfer': 2,
  'optim': 2,
  'data': 2,
  'metrics': 2,
  'checkpoint': 2,
  'tasks': 3,
  'decode': 3,
  'interop': 3,
  'evals': 4,
  'train': 5,
  'scale': 6,
  'report': 7,
  'cli': 8,
}
OUTSIDERS = ('configs', 'experiments', 'tests', 'torch', 'tensorflow')
SOURCES = sorted(path for path in PACKAGE.rglob('*.py'))
EXPERIMENTS = sorted((ROOT / 'experiments').rglob('*.py'))
PYTHON = sorted(
  [
    *SOURCES,
    *(ROOT / 'tests').rglob('*.py'),
    *(ROOT / 'configs').rglob('*.py'),
    *EXPERIMENTS,
    ROOT / 'setup.py',
  ]
)


def name(path):
  return path.relative_to(ROOT).as_posix()


def each(paths):
  return pytest.mark.parametrize('path', paths, ids=name)


@functools.cache
def parse(path):
  return ast.parse(path.read_text(encoding='utf-8'))


def imports(path):
  """The dotted name of everything imported anywhere in a file, inside functions as
  well.
  """
  package = path.relative_to(ROOT).with_suffix('').parts[:-1]
  for node in ast.walk(parse(path)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      above = package[: len(package) - node.level + 1] if node.level else ()
      origin = '.'.join([*above, *([node.module] if node.module else [])])
      yield from (f'{origin}.{alias.name}' for alias in node.names)
    elif (
      isinstance(node, ast.Call)
      and ast.unparse(node.func).endswith('import_module')
      and node.args
      and isinstance(node.args[0], ast.Constant)
    ):
      yield node.args[0].value


def test_the_import_reader_sees_every_form(tmp_path, monkeypatch):
  monkeypatch.setitem(globals(), 'ROOT', tmp_path)
  path = tmp_path / 'tl_jax' / 'data' / 'a.py'
  path.parent.mkdir(parents=True)
  path.write_text(
    'import flax.linen\nfrom tl_jax import tree\nfrom . import b\nfrom ..optim.c import d\n'
    'def f():\n  import torch\n  importlib.import_module("tl_jax.cli")\n'
  )
  assert set(imports(path)) == {
    'flax.linen',
    'tl_jax.tree',
    'tl_jax.data.b',
    'tl_jax.optim.c.d',
    'torch',
    'tl_jax.cli',
  }


@each(SOURCES)
def test_imports_point_one_way(path):
  room = path.relative_to(PACKAGE).with_suffix('').parts[0]
  if room in ('__init__', '__main__'):
    return
  assert room in ROWS, f'{room} has no row'
  for imported in imports(path):
    top, *rest = imported.split('.')
    assert top not in OUTSIDERS, f'{name(path)} imports {imported}'
    assert top != 'flax' or room == 'models', (
      f'only models imports flax, not {name(path)}'
    )
    if top == 'tl_jax' and rest and rest[0] not in (room, '__version__'):
      assert rest[0] in ROWS, f'{name(path)} imports {imported}, which has no row'
      assert ROWS[rest[0]] < ROWS[room], (
        f'{name(path)} (row {ROWS[room]}) imports {imported} (row {ROWS[rest[0]]})'
      )


@each(PYTHON)
def test_size_and_words(path):
  text = path.read_text(encoding='utf-8')
  assert text.count('\n') <= 500, f'{name(path)} has {text.count(chr(10))} lines'
  for node in ast.walk(parse(path)):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
      lines = node.end_lineno - node.lineno + 1
      assert lines <= 80, f'{name(path)}: {node.name} has {lines} lines'
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and 'tests' not in path.parts:
      assert not re.search('Manager|Helper|Utils', node.name), (
        f'{name(path)}: {node.name}'
      )
  unfinished = re.findall('TO' + 'DO|FIX' + 'ME|raise NotImplemented' + 'Error', text)
  assert not unfinished, f'{name(path)}: {unfinished}'


@each(SOURCES)
def test_only_the_command_line_prints_and_exits(path):
  if path.is_relative_to(PACKAGE / 'cli'):
    return
  calls = {
    ast.unparse(node.func)
    for node in ast.walk(parse(path))
    if isinstance(node, ast.Call)
  }
  assert not calls & {
    'print',
    'exit',
    'sys.exit',
    'exec',
    'eval',
    'sys.stdout.write',
    'sys.stderr.write',
  }, name(path)


@each(SOURCES)
def test_public_things_say_what_they_are(path):
  tree = parse(path)
  assert '>>> ' in (ast.get_docstring(tree) or ''), (
    f'{name(path)} opens with no example'
  )
  silent = [
    node.name
    for node in tree.body
    if isinstance(node, ast.FunctionDef | ast.ClassDef)
    and not node.name.startswith('_')
    and not ast.get_docstring(node)
    and node.end_lineno - node.lineno >= 6
  ]
  assert not silent, f'{name(path)}: no docstring: {silent}'


@each(SOURCES)
def test_examples_in_docstrings_run(path, tmp_path, monkeypatch):
  parts = path.relative_to(ROOT).with_suffix('').parts
  module = importlib.import_module(
    '.'.join(part for part in parts if part != '__init__')
  )
  monkeypatch.chdir(tmp_path)
  result = doctest.testmod(module)
  assert result.attempted and not result.failed


def test_tests_mirror_the_package():
  rooms = {
    path.parent.relative_to(PACKAGE).as_posix()
    for path in SOURCES
    if path.name == '__init__.py'
  } - {'.'}
  tests = {
    path.relative_to(ROOT / 'tests') for path in (ROOT / 'tests').rglob('test_*.py')
  }
  tested = {test.parent.as_posix() for test in tests} - {'.'}
  # What must happen when things break is of no single room.
  assert tested - {'faults'} == rooms, (
    f'without tests: {sorted(rooms - tested)}; tests of no room: {sorted(tested - rooms)}'
  )
  alone = {path.stem for path in PACKAGE.glob('*.py') if not path.name.startswith('__')}
  assert alone <= {
    test.stem.removeprefix('test_') for test in tests if test.parent.as_posix() == '.'
  }


# What the code is today; a figure may only get better, until it is at its goal.
RATCHET = dict(nodes=7.5, complex=0.1, comments=0.058, wide=0)
GOALS = dict(nodes=7.5, complex=0.0, comments=0.06, wide=0)


def test_the_code_gets_no_denser():
  found = density.measure(PACKAGE)
  assert found.nodes <= max(RATCHET['nodes'], GOALS['nodes'])
  assert found.complex <= max(RATCHET['complex'], GOALS['complex']), found.worst[:10]
  assert found.comments >= min(RATCHET['comments'], GOALS['comments'])
  assert found.wide <= max(RATCHET['wide'], GOALS['wide'])


SETTINGS = (
  'tl_jax.train.settings:Tokenizing',
  'tl_jax.train.settings:Data',
  'tl_jax.train.settings:Checkpoint',
  'tl_jax.train.settings:Eval',
  'tl_jax.train.settings:Log',
  'tl_jax.train.settings:TaskChoice',
  'tl_jax.models:Compute',
  'tl_jax.models:Arch',
  'tl_jax.optim:OptimConfig',
  'tl_jax.optim:ScheduleConfig',
  'tl_jax.decode:Decoding',
)


@functools.cache
def attributes_read():
  """Every name that some source file reads as an attribute, or by `getattr`."""
  found = set()
  for path in SOURCES:
    for node in ast.walk(parse(path)):
      if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        found.add(node.attr)
  return found


@pytest.mark.parametrize('where', SETTINGS)
def test_every_key_that_a_config_may_have_is_read_somewhere(where):
  """A key that nobody reads would be accepted and change nothing."""
  module, _, cls = where.partition(':')
  fields = dataclasses.fields(getattr(importlib.import_module(module), cls))
  # Of an optimizer and a schedule, the chosen one reads its own by name.
  by_name = {'b1', 'b2', 'eps', 'moment_dtype'} if cls == 'OptimConfig' else set()
  if cls == 'ScheduleConfig':
    by_name = {field.name for field in fields}
  unread = {field.name for field in fields} - attributes_read() - by_name
  assert not unread


def loaded_by(statement):
  script = f'import sys; {statement}; print(*sorted(sys.modules))'
  done = subprocess.run(
    [sys.executable, '-c', script],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    cwd=ROOT / 'tests',
    capture_output=True,
    text=True,
    check=True,
    timeout=120,
  )
  return set(done.stdout.split())


@pytest.mark.parametrize(
  ('statement', 'heavy'),
  [
    (
      'import tl_jax',
      {
        'jax',
        'numpy',
        'flax',
        'orbax',
        'tensorflow',
        'grain',
        'torch',
        'ml_collections',
      },
    ),
    ('import tl_jax.config', {'jax', 'numpy', 'flax', 'ml_collections'}),
    ('import tl_jax.cli.main', {'jax', 'numpy', 'flax', 'ml_collections'}),
    (
      'import tl_jax.transfer',
      {'flax', 'orbax', 'tensorflow', 'grain', 'torch', 'tensorflow_datasets'},
    ),
    (
      'import tl_jax.metrics',
      {'flax', 'orbax', 'tensorflow', 'grain', 'torch', 'sklearn', 'matplotlib'},
    ),
    (
      'import tl_jax.train',
      {'tensorflow', 'torch', 'sklearn', 'matplotlib', 'tensorboardX'},
    ),
  ],
)
def test_imports_are_light(statement, heavy):
  assert not loaded_by(statement) & heavy


@each(EXPERIMENTS)
def test_what_an_experiment_imports_of_the_package_is_there(path):
  """Also inside a function, which nothing calls in the default tests."""
  missing = []
  for node in ast.walk(parse(path)):
    module = getattr(node, 'module', None) or ''
    if not isinstance(node, ast.ImportFrom) or module.split('.')[0] != 'tl_jax':
      continue
    loaded = importlib.import_module(module)
    for alias in node.names:
      name_of_module = f'{module}.{alias.name}'
      is_there = hasattr(loaded, alias.name) or importlib.util.find_spec(name_of_module)
      if not is_there:
        missing.append(name_of_module)
  assert not missing


def test_every_public_name_of_the_package_resolves():
  import tl_jax

  for public in tl_jax.__all__:
    assert getattr(tl_jax, public) is not None
  with pytest.raises(AttributeError, match='no attribute'):
    tl_jax.no_such_name  # noqa: B018


CONFIGS = sorted((ROOT / 'configs').glob('*.py'))


def specs():
  for path in CONFIGS:
    # Each config lists the arguments that its docstring documents.
    found = [
      node
      for node in parse(path).body
      if isinstance(node, ast.Assign) and node.targets[0].id == 'ARGUMENTS'
    ]
    for argument in ast.literal_eval(found[0].value) if found else (None,):
      yield str(path) if argument is None else f'{path}:{argument}'


@pytest.mark.parametrize(
  'spec', list(specs()), ids=lambda spec: spec.rpartition('/')[2]
)
def test_every_config_builds_and_every_key_is_read(spec):
  from tl_jax import train
  from tl_jax.cli import data

  # A corpus is no run.
  read = data.corpus_of if 'corpus.py' in spec else train.read
  loaded = config.load(spec)
  read(loaded)
  config.digest(loaded)
  groups = [
    '',
    *(
      f'{key}.'
      for key, value in loaded.items()
      if hasattr(value, 'items') and key not in ('mixture', 'sources')
    ),
  ]
  for group in groups:
    wrong = config.load(spec)
    with wrong.unlocked():
      (wrong[group[:-1]] if group else wrong)['no_such_key'] = 1
    with pytest.raises(ValueError, match='no_such_key'):
      read(wrong)


def blocks(language):
  readme = ROOT / 'README.md'
  assert readme.is_file()
  return re.findall(
    rf'^```{language}\n(.*?)^```',
    readme.read_text(encoding='utf-8'),
    re.MULTILINE | re.DOTALL,
  )


def test_the_python_of_the_readme_runs(tmp_path):
  script = tmp_path / 'readme.py'
  script.write_text('\n'.join(blocks('python')))
  done = subprocess.run(
    [sys.executable, script],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=False,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr[-3000:]


def test_the_commands_of_the_readme_exist():
  from tl_jax.cli.main import make_parser, split_overrides
  from tl_jax.cli.verbs import VERBS

  for block in blocks('(?:sh|bash)'):
    for line in block.replace('\\\n', ' ').splitlines():
      words = shlex.split(line, comments=True)
      words = words[2:] if words[:2] == ['python', '-m'] else words
      if not words or words[0] in (
        'pip',
        'git',
        'cd',
        'python',
        'pytest',
        'uv',
        'source',
      ):
        continue
      if words[0].startswith('.'):
        assert (ROOT / words[0]).is_file(), line
        continue
      assert words[0] in ('tl-jax', 'tl_jax') and words[1] in VERBS, line
      rest, overrides = split_overrides(words[2:])
      flags = make_parser(words[1]).parse(rest)
      for file in (getattr(flags, 'config', None), getattr(flags, 'experiment', None)):
        if file and file.startswith(('configs/', 'experiments/')):
          assert config.locate(file.split(':')[0]).is_file(), line
      named = getattr(flags, 'config', None)
      if named and 'PATH' not in named:
        config.load(named, overrides)
