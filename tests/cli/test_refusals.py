"""Whatever is wrong with a command is said in one line, with exit code 2, before
anything is compiled.
"""

import gzip
import json
import os
import subprocess
import sys

import pytest

from tl_jax.cli import main as command

PRETRAIN = ('pretrain', '--config=configs/pretrain.py:tiny')
GPT = ('pretrain', '--config=configs/pretrain.py:tiny-gpt')
TRANSFER = ('transfer', '--config=configs/transfer.py:task=sentiment')
UNKNOWN_DENOISER = "--config.objective.mixture={'r3_16': 1.0}"
SHORT = ('--config.schedule.steps=6', '--config.schedule.warmup=2')
CORPUS = '--config=configs/corpus.py:text=austen'


REFUSALS = [
  (('pretrain', CORPUS), 'config.sources: this is the config of a corpus, which'),
  (('transfer', CORPUS), 'config.sources: this is the config of a corpus, which'),
  ((*PRETRAIN, '--config.sed=1'), "'seed'"),
  ((*PRETRAIN, '--config.optim.lrr=1'), "'optim.lr'"),
  ((*PRETRAIN, '--config.data.mixture.austin=1'), 'austen'),
  ((*PRETRAIN, '--config.optim.lr=nan'), 'config.optim.lr'),
  ((*PRETRAIN, '--config.optim.lr=-1'), 'config.optim.lr'),
  ((*PRETRAIN, '--config.schedule.steps=ten'), 'config.schedule.steps'),
  ((*PRETRAIN, '--config.schedule.steps=1.5'), 'config.schedule.steps'),
  ((*PRETRAIN, '--config.schedule.warmup=99999'), 'warmup'),
  ((*PRETRAIN, '--config.compute.dropout=1'), 'config.compute.dropout'),
  ((*PRETRAIN, '--config.compute.attention=flash'), 'config.compute.attention'),
  ((*PRETRAIN, '--config.compute.attention=cudnn'), 'config.compute.attention'),
  ((*PRETRAIN, '--config.data.batch=15'), 'config.data.batch'),
  ((*PRETRAIN, '--config.mesh.data=5'), 'config.data.batch'),
  (
    (*PRETRAIN, '--config.mesh.tensor=3', '--config.mesh.data=1'),
    'config.mesh.tensor: 3 does not divide the 2 heads of layers/0/attention/key/kernel; '
    'nearest: 2',
  ),
  (
    (
      *PRETRAIN,
      "--config.model={'family': 'tiny', 'mlp': 33}",
      '--config.mesh.tensor=2',
    ),
    'config.mesh.tensor: 2 does not divide the 33 hidden units of layers/0/mlp/in/kernel',
  ),
  (
    (*PRETRAIN, '--config.mesh.dcn=3', '--config.mesh.data=2', '--config.mesh.fsdp=4'),
    'config.mesh.dcn: 3 slices do not divide cohort 1 x data 2 x fsdp 4',
  ),
  (
    (*PRETRAIN, '--config.mesh.sequence=4', '--config.data.length=30'),
    'config.data.length: 30 tokens of a row are not divisible by sequence 4',
  ),
  ((*PRETRAIN, '--config.mesh.dcn=0'), 'dcn: 0 slices'),
  ((*PRETRAIN, '--config.sharding=fdsp'), "'fsdp'"),
  (
    (*PRETRAIN, "--config.sharding_overrides=(('embeding/tokens', ('fsdp',)),)"),
    "nearest: 'embedding/tokens'",
  ),
  (
    (*PRETRAIN, "--config.sharding_overrides=(('embedding/tokens', ('fsdb',)),)"),
    "'fsdb' is no axis of the mesh; nearest: 'fsdp'",
  ),
  ((*PRETRAIN, '--config.data.length=4096'), 'config.data.length'),
  ((*PRETRAIN, '--config.objective.rate=2'), 'config.objective.rate'),
  ((*PRETRAIN, '--config.objective.name=masket'), "'masked'"),
  ((*PRETRAIN, '--config.optim.name=adamv'), "config.optim.name: unknown name 'adamv'"),
  (
    (*PRETRAIN, '--config.model.famly=demo'),
    "config.model.famly: unknown key; nearest: 'f",
  ),
  ((*PRETRAIN, '--config.model.layers=two'), 'config.model.layers: must be an integer'),
  (
    (*PRETRAIN, '--config.objective.name=causal'),
    "'causal' needs a model of kind 'decoder'; config.model.family 'tiny' is of kind "
    "'encoder', which has masked, electra, next_sentence, sentence_order",
  ),
  (
    (*GPT, '--config.objective.name=joined_denoisers'),
    'config.objective.prefix: unknown key; nearest: '
    """'mixture', 'targets', 'modes'; where it is of another name: """
    """--config.objective="{'name': 'joined_denoisers'}" begins anew""",
  ),
  (
    ('pretrain', '--config=configs/pretrain.py:tiny-gpt,objective=prefix'),
    "'prefix' is a key of 'causal': objective=causal and --config.objective.prefix=True",
  ),
  (
    (*PRETRAIN, '--config.optim.layer_decay=0'),
    'config.optim.layer_decay: must be a finite number > 0 and <= 1, got 0 (int)',
  ),
  (
    (*PRETRAIN, '--config.data.epochs=3'),
    """names of your own; give it whole, as --config.data.epochs="{'NAME': 3}\"""",
  ),
  (
    ('pretrain', '--config=configs/pretrain.py:tiny-ul2', UNKNOWN_DENOISER),
    "config.objective.mixture: unknown name 'r3_16'; nearest: 'r3_15'",
  ),
  (
    ('pretrain', '--config=configs/recipes.py:gpt3-small,text=austen', *SHORT),
    'config.schedule.settled: 76294 updates and 2 of warm-up are more than the 6 of the '
    'run; nearest: 4',
  ),
  (('pretrain', '--config=configs/pretrain.py:tinny'), "'tiny'"),
  (('pretrain', '--config=configs/no_such.py'), 'no_such.py'),
  ((*TRANSFER[:1], '--config=configs/transfer.py:task=sentimant'), "'sentiment'"),
  ((*TRANSFER[:1], '--config=configs/transfer.py:method=lore'), "'lora'"),
  ((*TRANSFER[:1], '--config=configs/transfer.py:task=missing.csv'), 'missing.csv'),
  (
    (*TRANSFER[:1], '--config=configs/transfer.py:init=/no/such/workdir'),
    '/no/such/workdir',
  ),
  ((*TRANSFER, '--config.task.labels=-5'), 'config.task.labels'),
  ((*TRANSFER, '--config.method.rank=4'), 'config.method.rank'),
  ((*TRANSFER, '--config.eval.batches=3'), 'config.eval.batches'),
  (
    (*TRANSFER, "--config.model={'family': 'tiny', 'labels': 7}"),
    'config.model.labels',
  ),
  (
    (*PRETRAIN, "--config.model={'family': 'tiny', 'head': 'causal'}"),
    'config.model.head',
  ),
  ((*PRETRAIN, '--config.seed=99999999999'), 'config.seed'),
  (('pretrain', TRANSFER[1]), 'config.task'),
  (('transfer', PRETRAIN[1]), 'config.task'),
  ((*PRETRAIN, '--confg=1'), "'--config'"),
  (('pretrane',), "'pretrain'"),
  (
    (
      'transfer',
      '--config=configs/transfer.py:method=lora',
      '--config.method.rank=1000000000',
    ),
    'config.method.rank: 1000000000',
  ),
  ((*PRETRAIN, '--config.data.batch=1000000000'), 'config.data.batch: 1000000000'),
  (('demo', '--scale=larg'), "'smoke', 'demo', 'tune', 'mini', 'paper'"),
  (('table', 'experiments/low_shot.py', '--scale=larg'), "'smoke', 'demo', "),
]
# One process runs them all: what a command of its own takes is mostly imports.
WITHOUT_DEVICE = """
import contextlib, io, json, sys, traceback
from tl_jax.cli.main import main
for line in sys.stdin:
  said = io.StringIO()
  with contextlib.redirect_stderr(said):
    try:
      code = main(json.loads(line))
    except Exception:
      traceback.print_exc()
      code = 1
  print(json.dumps([code, said.getvalue()]), flush=True)
"""


@pytest.fixture(scope='module')
def run_without_device():
  """Runs one command after another where jax finds no device: (exit code, stderr) of
  each.
  """
  process = subprocess.Popen(
    [sys.executable, '-c', WITHOUT_DEVICE],
    text=True,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    env=os.environ | {'JAX_PLATFORMS': 'no-such-device'},
  )

  def run(*arguments):
    process.stdin.write(json.dumps(arguments) + '\n')
    process.stdin.flush()
    return json.loads(process.stdout.readline())

  with process:
    yield run


GOOD = [
  dict(text=f'The text {number}.', label='ab'[number % 2]) for number in range(90)
]
LINES = ''.join(json.dumps(row) + '\n' for row in GOOD).encode()
TABLE = b'text,label\n' + b''.join(b'The text %d.,a\n' % n for n in range(90))
DEEP = b'{"text": "a", "label": "b", "more": ' + b'[' * 10**5 + b']' * 10**5 + b'}\n'
# A file that cannot be read, and what is said of it behind its path.
TORN = {
  'a.jsonl.gz': (gzip.compress(LINES)[:-40], ': not a whole gzip file: '),
  'b.jsonl.gz': (LINES, ': not a whole gzip file: Not a gzipped file'),
  'a.csv.gz': (gzip.compress(TABLE)[:-40], ': not a whole gzip file: '),
  'a.tsv.gz': (
    gzip.compress(TABLE.replace(b',', b'\t')) + b'more',
    ': not a whole gzip file: ',
  ),
  'a.json.gz': (
    gzip.compress(b'[' + LINES.replace(b'}\n{', b'},{') + b']')[:-9],
    ': not a whole gzip file: ',
  ),
  'a.parquet': (b'PAR1 and no more', ': not Parquet: '),
  'a.jsonl': (LINES + DEEP, ':91: not JSON: nested too deeply'),
  'a.json': (b'[' + DEEP + b']', ':1: not JSON: nested too deeply'),
  'b.jsonl': (LINES + b'{"text": "\xff"}\n', ':91: byte 10: not UTF-8; save the file'),
  'c.jsonl': (LINES + b'{"text": 5, "label": "a"}\n', ":91: text: '5' (int) is not"),
  'd.jsonl': (LINES + b'{"label": "a"}\n', ':91: text: missing; the line has label'),
  'e.jsonl': (LINES + b'{"text": "a", "text": ""}\n', ":91: not JSON: the key 'text'"),
  'a.csv': (TABLE + b'one,two,three\n', ':92: 3 fields, the header has 2'),
  'b.csv': (TABLE + b'"one,a\n', ':92: a quote is opened here and never closed'),
}
# Every verb that reads texts of the user.
READERS = {
  'prepare': ('data', 'prepare', '--config=configs/corpus.py:text={}'),
  'pretrain': ('pretrain', '--config=configs/pretrain.py:tiny,text={}'),
  'transfer': ('transfer', '--config=configs/transfer.py:task={},init=scratch'),
}


@pytest.mark.parametrize('name', TORN)
@pytest.mark.parametrize('reader', READERS)
def test_a_text_that_cannot_be_read_is_named_with_its_line(
  reader, name, capsys, tmp_path
):
  """By every verb that reads texts; pre-training asks for its devices first."""
  content, named = TORN[name]
  path = tmp_path / name
  path.write_bytes(content)
  words = [word.format(path) for word in READERS[reader]]
  code = command.main([*words, f'--workdir={tmp_path / "w"}'])
  said = capsys.readouterr().err
  assert (code, said.count('\n')) == (2, 1), said
  assert f'{path}{named}' in said and len(said) < 400
  # Nothing stands there that looks like a result.
  assert not {'result.json', 'manifest.json'} & {
    file.name for file in tmp_path.glob('w/*')
  }


@pytest.mark.parametrize('arguments, named', REFUSALS)
def test_exit_code_2_and_one_line(arguments, named, run_without_device, tmp_path):
  workdir = () if arguments == ('pretrane',) else (f'--workdir={tmp_path / "w"}',)
  code, said = run_without_device(*arguments, *workdir)
  assert (code, said.count('\n')) == (2, 1), said
  assert named in said and 'Traceback' not in said
  assert not (tmp_path / 'w').exists()


def test_an_override_of_evaluate_is_refused_without_a_device(
  pretrained, run_without_device
):
  code, said = run_without_device(
    'evaluate', f'--workdir={pretrained}', '--config.data.btach=3'
  )
  assert (code, said.count('\n')) == (2, 1) and "'data.batch'" in said
  code, said = run_without_device('evaluate', f'--workdir={pretrained}')
  assert code == 1 and 'no-such-device' in said


BUCKET = 'gs://bucket/x'


@pytest.mark.parametrize(
  'arguments',
  [
    (*PRETRAIN, f'--workdir={BUCKET}'),
    (*TRANSFER, f'--workdir={BUCKET}'),
    ('transfer', f'--config=configs/transfer.py:init={BUCKET}', '--workdir=w'),
    ('evaluate', f'--workdir={BUCKET}'),
    ('steps', BUCKET),
    ('demo', f'--workdir={BUCKET}'),
    ('table', 'experiments/low_shot.py', f'--workdir={BUCKET}'),
    ('export', 'w', BUCKET),
    ('export', BUCKET, 'w'),
    ('import', 'w', BUCKET),
    ('import', BUCKET, 'w'),
    ('generate', f'--model={BUCKET}', '--prompt=a'),
    ('merge', 'soup', 'a', 'b', f'--output={BUCKET}'),
  ],
  ids=lambda arguments: arguments[0],
)
def test_a_bucket_is_no_folder(arguments, run_without_device):
  code, said = run_without_device(*arguments)
  assert (code, said.count('\n')) == (2, 1), said
  assert BUCKET in said and 'mount the bucket' in said


def test_what_needs_a_device_fails_without_one(run_without_device, tmp_path):
  """A right command asks for a device here too: the refusals above came before one was
  asked for.
  """
  code, said = run_without_device(*PRETRAIN, f'--workdir={tmp_path}')
  assert code == 1 and 'no-such-device' in said


def test_a_process_of_its_own_says_the_same(run_cli, tmp_path):
  done = run_cli(*PRETRAIN, '--config.optim.lrr=1', f'--workdir={tmp_path / "w"}')
  assert (done.returncode, done.stderr.count('\n')) == (
    2,
    1,
  ) and "'optim.lr'" in done.stderr


def test_a_mesh_that_this_machine_has_not(run_cli, tmp_path):
  done = run_cli(*PRETRAIN, '--config.mesh.data=2', f'--workdir={tmp_path / "w"}')
  assert (done.returncode, done.stderr.count('\n')) == (2, 1), done.stderr
  assert 'data 2 does not fit 1 devices' in done.stderr


def test_a_busy_workdir_says_try_again(run_cli, tmp_path):
  from tl_jax.checkpoint import Workdir

  with Workdir(tmp_path):
    done = run_cli(*PRETRAIN, f'--workdir={tmp_path}')
  assert done.returncode == 75 and str(tmp_path) in done.stderr


def test_an_adapter_whose_base_is_not_here_asks_for_one(run_without_device, tmp_path):
  said = {'peft_type': 'LORA', 'base_model_name_or_path': 'someone/model'}
  (tmp_path / 'adapter_config.json').write_text(json.dumps(said))
  for words, base in (((), 'someone/model'), (('--base=no.gguf',), 'no.gguf')):
    code, line = run_without_device(
      'import', str(tmp_path), str(tmp_path / 'out'), *words
    )
    assert (code, line.count('\n')) == (2, 1), line
    assert f'{base!r} is no folder and no .gguf file here' in line
