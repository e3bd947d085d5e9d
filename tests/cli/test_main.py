"""The contract of the command line: exit codes, one line of complaint, help without
jax, output as best effort.
"""

import contextlib
import logging
import os
import pathlib
import subprocess
import sys

import pytest

from tl_jax import config
from tl_jax.cli import main as command
from tl_jax.cli.verbs import VERBS
from tl_jax.metrics import text

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def tl_jax(capsys):
  def run(*words):
    code = command.main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err

  return run


@pytest.mark.parametrize('verb', VERBS)
def test_every_verb_has_help_with_an_example(tl_jax, verb):
  code, out, err = tl_jax(verb, '--help')
  assert (code, err) == (0, '') and f'tl-jax {verb} ' in out and 'example:' in out


@pytest.mark.parametrize('verb', VERBS)
def test_the_example_of_a_verb_parses(verb, monkeypatch):
  # An example names folders in /tmp, where this machine may have anything.
  monkeypatch.setattr(os.path, 'lexists', lambda path: False)
  words = VERBS[verb].example.split()
  assert words[:2] == ['tl-jax', verb]
  parser = command.make_parser(verb)
  rest, overrides = command.split_overrides(words[2:])
  parser.parse(rest)
  assert VERBS[verb].overrides or not overrides


WRONG = [
  ([], 'a verb is needed'),
  (['pretrian'], "unknown verb 'pretrian'; nearest: 'pretrain'"),
  (['pretrain'], 'required: --config, --workdir'),
  (
    ['pretrain', '--workdir=w', '--config=configs/pretrain.py:tiny', '--stepz=3'],
    "unknown flag '--stepz'",
  ),
  (['pretrain', '--wrkdir=w'], "unknown flag '--wrkdir'; nearest: '--workdir'"),
  (['pretrain', '--workdir=', '--config=configs/pretrain.py'], 'needs a folder'),
  (
    ['pretrain', '--workdir=setup.py', '--config=configs/pretrain.py'],
    'is not a folder',
  ),
  (['pretrain', '--workdir=w', '--config=nothing.py'], 'nothing.py: No such file'),
  (['pretrain', '--workdir=w', '--config=configs'], 'configs: is a directory'),
  (
    ['pretrain', '--workdir=w', '--config=configs/pretrain.py:tiny', '--config.sed=1'],
    "nearest: 'seed'",
  ),
  (
    [
      'pretrain',
      '--workdir=w',
      '--config=configs/pretrain.py:tiny',
      '--config.optim.lrr=1',
    ],
    "nearest: 'optim.lr'",
  ),
  (
    [
      'pretrain',
      '--workdir=w',
      '--config=configs/pretrain.py:tiny',
      '--config.lr',
      '1',
    ],
    "nearest: 'optim.lr'",
  ),
  (
    ['pretrain', '--workdir=w', '--config=configs/pretrain.py:tiny', '--config.seed=x'],
    "'x' is not an integer",
  ),
  (
    ['pretrain', '--workdir=w', '--config=configs/pretrain.py:tiny', '--config.seed'],
    'needs a value',
  ),
  (
    ['pretrain', '--workdir=w', '--config=configs/pretrain.py:tiny', 'extra'],
    'unrecognized arguments: extra',
  ),
  (
    ['transfer', '--workdir=w', '--config=configs/transfer.py:tsk=a'],
    "nearest: 'task'",
  ),
  (['evaluate', '--workdir=w/of/nobody'], 'no such workdir'),
  (['evaluate', '--workdir=.', '--step=-1'], 'needs the number of a step'),
  (['steps', 'w/of/nobody'], 'no such workdir'),
  (['steps'], 'required: W'),
  (['steps', 'w', '--config.seed=1'], "unknown flag '--config.seed'"),
  (['table', 'nothing.py', '--workdir=w'], 'nothing.py: No such file'),
  (['table', 'configs/pretrain.py', '--workdir=w'], 'defines no TABLE'),
]


@pytest.mark.parametrize(
  ('words', 'message'),
  WRONG,
  ids=[' '.join(words)[-50:] or 'none' for words, _ in WRONG],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tl_jax, monkeypatch, words, message):
  monkeypatch.chdir(ROOT)
  code, out, err = tl_jax(*words)
  assert code == 2 and out == ''
  assert message in err and err.startswith('error: ') and err.count('\n') == 1
  assert not (ROOT / 'w').exists()


def test_what_the_library_warns_of_is_a_line_without_a_prefix(tl_jax, monkeypatch):
  logger = logging.getLogger('tl_jax.interop.huggingface')

  def action(flags, _):
    logger.warning('%s: names no head', flags.workdir)
    return 0

  monkeypatch.setitem(VERBS, 'steps', VERBS['steps']._replace(action=action))
  assert tl_jax('steps', 'w') == (0, '', 'w: names no head\n')
  # Whoever uses the library afterwards has its log as it was.
  assert logging.getLogger('tl_jax').propagate
  assert not logging.getLogger('tl_jax').handlers


class Stopped(Exception):
  """As `train` raises it."""


@pytest.mark.parametrize(
  ('error', 'code'),
  [
    (config.ConfigError('two\nlines'), 2),
    (ValueError('x'), 2),
    (Stopped('saved at step 3'), 75),
    (type('WorkdirBusy', (RuntimeError,), {})('pid 3'), 75),
    (KeyboardInterrupt(), 130),
  ],
)
def test_exit_codes(tl_jax, monkeypatch, error, code):
  def fail(*_):
    raise error

  monkeypatch.setitem(VERBS, 'steps', VERBS['steps']._replace(action=fail))
  found, out, err = tl_jax('steps', 'w')
  assert (found, out) == (code, '') and err.count('\n') == 1


def test_an_unexpected_failure_passes_through(monkeypatch):
  def fail(*_):
    raise ZeroDivisionError('x')

  monkeypatch.setitem(VERBS, 'steps', VERBS['steps']._replace(action=fail))
  with pytest.raises(ZeroDivisionError):
    command.main(['steps', 'w'])


def _failing(words: str):
  yield from ()
  raise RuntimeError(words)


def raised(action):
  """The error that a function raises, with its traceback."""
  with pytest.raises(BaseException) as caught:
    action()
  return caught.value


@pytest.mark.parametrize(
  ('action', 'fault'),
  [
    (lambda: {}['w'], True),
    # Python's own words, which are no words of the house.
    (lambda: contextlib.contextmanager(lambda: iter(()))().__enter__(), True),
    (lambda: next(_failing('RESOURCE_EXHAUSTED: Out of memory')), False),
    (lambda: pathlib.Path('no/such/file').read_text(), False),
    # The house says that what it was given cannot be, or what is not there.
    (lambda: text._library('no_such_package', 'bleu'), False),
    (lambda: int('x'), False),
  ],
)
def test_a_fault_of_the_program_is_told_from_what_fails_outside_of_it(action, fault):
  assert command.is_fault(raised(action)) == fault


def test_an_error_of_a_library_is_no_verdict_on_the_input():
  import jax

  with pytest.raises(ValueError) as caught:
    jax.tree.map(lambda a, b: a, [1], [1, 2])
  assert command.exit_code(caught.value) is None
  with pytest.raises(ValueError) as caught:
    int('x')
  assert command.exit_code(caught.value) == 2


FAILING = """
import sys
from tl_jax.cli import main, verbs
def fail(*_):
  raise {error}
verbs.VERBS['steps'] = verbs.VERBS['steps']._replace(action=fail)
sys.argv = ['tl-jax', 'steps', 'w']
sys.exit(main.main())
"""


@pytest.mark.parametrize(
  ('error', 'code', 'asked', 'trace'),
  [
    ('ZeroDivisionError("by\\nzero")', 1, '', True),
    ('OSError("full")', 1, '', False),
    ('ValueError("x")', 2, '', False),
    ('ValueError("x")', 2, '1', True),
  ],
)
def test_a_process_ends_in_one_line_after_the_traceback_of_a_fault(
  error, code, asked, trace
):
  environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'TL_JAX_TRACEBACK': asked}
  done = subprocess.run(
    [sys.executable, '-c', FAILING.format(error=error)],
    env=environment,
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert done.returncode == code and done.stdout == ''
  assert ('Traceback' in done.stderr) == trace
  assert done.stderr.rstrip('\n').rpartition('\n')[2].startswith('error: ')
  assert trace or done.stderr.count('\n') == 1


def test_help_is_light():
  """How quick that makes it, `experiments/benchmarks/startup.py` measures."""
  script = (
    'import sys; from tl_jax.cli.main import main; main(["transfer", "--help"]); '
    'heavy = {"jax", "flax", "numpy", "ml_collections", "orbax", "rich"} & set(sys.modules); '
    'sys.exit(str(heavy) if heavy else 0)'
  )
  done = subprocess.run(
    [sys.executable, '-c', script],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert done.returncode == 0, done.stderr


def test_the_module_is_the_command(run_cli):
  done = run_cli('--version')
  assert (done.returncode, done.stdout, done.stderr) == (0, 'tl-jax 0.1.0\n', '')
  assert run_cli('nothing').returncode == 2
