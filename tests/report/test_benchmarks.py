"""The table of an accelerator, and how it is run where nothing can be downloaded."""

import json
import pathlib
import subprocess
import sys
import time
import zipfile

import pytest

from tl_jax import config
from tl_jax.models import arch
from tl_jax.report import Scale, run_table

FOLDER = pathlib.Path(__file__).parents[2] / 'experiments' / 'benchmarks'


def load(name):
  return config.execute(FOLDER / f'{name}.py')


@pytest.fixture(scope='module')
def accelerator():
  return load('accelerator')


@pytest.fixture(scope='module')
def pieces(accelerator):
  sys.path.insert(0, str(FOLDER))
  try:
    yield load('timed_pieces')
  finally:
    sys.path.remove(str(FOLDER))


def piece_of(pieces, accelerator, row, scale='gpu'):
  found = accelerator.run(row, 'eager', 1, accelerator.TABLE.at(scale))['piece']
  return pieces.Piece(**found, folder='')


@pytest.mark.parametrize('scale', ['smoke', 'gpu'])
def test_every_piece_is_a_model_that_there_is(accelerator, pieces, scale):
  for row in accelerator.PIECES:
    piece = piece_of(pieces, accelerator, row, scale)
    made = arch(piece.family, **piece.fields)
    assert piece.tokens > 0
    room = made.room or piece.length + piece.new
    assert piece.length + piece.new <= room


def test_the_flops_of_a_step_are_six_for_each_weight_and_token(accelerator, pieces):
  import jax

  from tl_jax import models, tree

  piece = piece_of(pieces, accelerator, 'GPT-2 small 16 x 1024')
  made = arch(piece.family, **piece.fields)
  params = jax.eval_shape(models.build(made).init, jax.random.key(0))
  shapes = {name: leaf.shape for name, leaf in tree.flatten(params).items()}
  # 85 million weights in the blocks, and the table of tokens once as the head.
  weights = 12 * 12 * 768**2 + 50257 * 768
  tokens = 16 * 1024
  attention = tokens * 4 * 12 * 768 * 1024
  assert pieces.flops_of(made, shapes, piece) == (2 * tokens * weights, attention)


def test_a_decoder_counts_its_own_tokens_and_reads_those_of_the_encoder(
  accelerator, pieces
):
  import jax

  from tl_jax import models, tree

  row = 'T5-base 16 x 512 + 128'
  piece = piece_of(pieces, accelerator, row)
  made = arch(piece.family, **piece.fields)
  params = jax.eval_shape(models.build(made).init, jax.random.key(0))
  shapes = {name: leaf.shape for name, leaf in tree.flatten(params).items()}
  encoded, decoded = 16 * 512, 16 * 128
  own = 4 * 768**2 + 2 * 768 * 3072
  layer = own * encoded + (own + 2 * 768**2) * decoded + 2 * 768**2 * encoded
  attention = 4 * 12 * 768 * (encoded * 512 + decoded * (512 + 128))
  linear = 2 * (12 * layer + decoded * 768 * 32128)
  assert pieces.flops_of(made, shapes, piece) == (linear, attention)


def test_the_peak_of_a_card_is_known_by_its_name(accelerator):
  assert accelerator.peak_flops('NVIDIA H100 80GB HBM3') == 989e12
  assert accelerator.peak_flops('NVIDIA A100-SXM4-80GB') == 312e12
  assert accelerator.peak_flops('NVIDIA H100 PCIe') is None
  assert accelerator.peak_flops('cpu') is None


def test_figures_of_a_round(accelerator):
  ours = dict(seconds=1.0, steps=10, peak_bytes=2e9, peak_mb=1.0)
  theirs = dict(seconds=2.0, steps=10, peak_bytes=None, peak_mb=3000.0)
  first = dict(tokens=100, flops=989e11, device='H100', first_seconds=5.0, value=2.0)
  found = accelerator.compared(ours, theirs, first, first | dict(value=2.5))
  assert found['ratio'] == 2.0
  assert found['tokens_per_second'] == 1000 and found['peer_tokens_per_second'] == 500
  assert found['mfu'] == pytest.approx(1.0)
  assert found['peer_mfu'] == pytest.approx(0.5)
  assert (found['peak_gb'], found['peer_peak_gb']) == (2.0, 3.0)
  assert found['difference'] == pytest.approx(0.2)
  assert accelerator.difference([[1, 2], [3, 4]], [[1, 2], [3, 5]]) == 0.25


ROW = 'BERT-base 64 x 128'


def table(accelerator, workdir, columns=('eager',)):
  """The table with one row and two rounds."""
  settings = accelerator.SCALES['smoke'].settings
  scale = Scale(rows=(ROW,), columns=columns, seeds=(1, 2), settings=settings)
  return run_table(
    accelerator.TABLE, scale, workdir, accelerator.execute, lambda text: None
  )


def reasons(outcome):
  return {run.column: run.reason for run in outcome.unfinished}


def test_a_piece_that_no_time_is_left_for_says_so_and_is_made_later(
  accelerator, tmp_path, monkeypatch
):
  monkeypatch.setenv(accelerator.UNTIL, str(time.time() + 10))
  outcome = table(accelerator, tmp_path)
  assert reasons(outcome)['eager'].startswith('not begun: ')
  (failed, _) = tmp_path.glob('runs/*/failed.json')
  assert json.loads(failed.read_text())['retry']


@pytest.fixture
def sides(accelerator, monkeypatch):
  """library -> the lines that its process answers; then it sleeps."""
  lines = {}
  make = accelerator.performance.Timed

  def start(library, work, **how):
    side = make.__new__(make)
    code = (
      f'import sys, time\nfor line in {lines[library]!r}:\n'
      '  print(line, flush=True)\n  sys.stdin.readline()\ntime.sleep(60)'
    )
    command = [sys.executable, '-c', code]
    pipe = subprocess.PIPE
    side.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    return side

  monkeypatch.setattr(accelerator.performance, 'Timed', start)
  return lines


def answers(*seconds):
  """What a process says: that it is ready, its first step, then others."""
  ready = dict(device='cpu', tokens=8, flops=0.0)
  call = dict(value=2.0, steps=1, peak_bytes=1, peak_mb=1)
  calls = [call | dict(seconds=each) for each in seconds]
  return [json.dumps(each) for each in (ready, *calls)]


def test_rounds_are_taken_in_turn_and_the_first_two_calls_do_not_count(
  accelerator, sides, tmp_path
):
  sides['tl_jax'] = answers(9, 9, 1, 2)
  sides['eager'] = answers(9, 9, 3, 4)
  outcome = table(accelerator, tmp_path)
  assert outcome.cells[ROW, 'eager'].values == {1: 3.0, 2: 2.0}


def test_a_piece_that_does_not_end_is_ended(accelerator, sides, tmp_path, monkeypatch):
  monkeypatch.setattr(accelerator, 'LIMIT', 1.0)
  monkeypatch.setattr(accelerator, 'LEAST', 0.0)
  sides.update(tl_jax=[], eager=[])
  began = time.monotonic()
  outcome = table(accelerator, tmp_path)
  assert time.monotonic() - began < 30
  assert reasons(outcome) == {'eager': 'tl_jax: did not end in its time'}


def test_a_peer_that_fails_leaves_its_reason_and_the_others_go_on(
  accelerator, sides, tmp_path
):
  sides['tl_jax'] = answers(9, 9, 1, 2)
  sides['eager'] = answers(9, 9, 3, 4)
  sides['compiled'] = [json.dumps(dict(error='RuntimeError: out of memory'))]
  outcome = table(accelerator, tmp_path, ('eager', 'compiled'))
  assert outcome.cells[ROW, 'eager'].n == 2
  assert reasons(outcome) == {'compiled': 'compiled: RuntimeError: out of memory'}


# Where nothing can be downloaded.


def make_wheel(folder, name, content):
  """A wheel with one module."""
  path = folder / f'{name}-1.0-py3-none-any.whl'
  info = f'{name}-1.0.dist-info'
  with zipfile.ZipFile(path, 'w') as wheel:
    wheel.writestr(f'{name}.py', content)
    wheel.writestr(
      f'{info}/METADATA', f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n'
    )
    wheel.writestr(
      f'{info}/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
    )
    wheel.writestr(f'{info}/RECORD', '')
  return path


def test_only_what_is_missing_is_installed_and_without_a_network(tmp_path):
  pytest.importorskip('pip')
  offline = load('offline')
  make_wheel(tmp_path, 'tl_jax_missing_thing', 'VALUE = 3')
  # It is here, in whatever version.
  make_wheel(tmp_path, 'numpy', 'raise ImportError')
  target = tmp_path / 'packages'
  assert offline.install(tmp_path, target) == [
    'tl_jax_missing_thing-1.0-py3-none-any.whl'
  ]
  assert (target / 'tl_jax_missing_thing.py').read_text() == 'VALUE = 3'
  assert not (target / 'numpy.py').exists()


def test_what_is_gathered_is_what_setup_asks_for():
  gather = load('gather_wheels')
  setup = (FOLDER.parents[1] / 'setup.py').read_text()
  for requirement in gather.NEEDED:
    assert f"'{requirement}'" in setup


def test_wheels_of_older_machines_are_asked_for_too():
  gather = load('gather_wheels')
  tags = gather.platforms('x86_64', '2.35')
  assert tags[0] == 'manylinux_2_35_x86_64' and 'manylinux_2_17_x86_64' in tags
  assert tags[-1] == 'manylinux1_x86_64'
  wheel = pathlib.Path('tensorflow_datasets-4.9.10-py3-none-any.whl')
  assert gather.name_of(wheel) == 'tensorflow-datasets'


def test_two_checkouts_are_compared_round_by_round():
  paired = load('paired')

  def answer(seconds, value):
    return dict(seconds=seconds, core_seconds=2 * seconds, values=[value])

  rounds = [
    dict(before=answer(2.0, 0.5), after=answer(1.0, 0.5)),
    dict(before=answer(4.0, 0.5), after=answer(1.0, 0.5)),
    dict(before=answer(3.0, 0.5), after=answer(1.0, 0.5)),
  ]
  cells = '| bert | 3000.0 | 1000.0 | 3.000 | 2.000-4.000 | 3.000 | 2.000-4.000 |'
  assert paired.row('bert', rounds) == f'{cells} yes |'
  rounds[1]['after']['values'] = [0.25]
  assert paired.row('bert', rounds) == f'{cells} no |'
