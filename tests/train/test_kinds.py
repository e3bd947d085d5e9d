"""Every kind of task from a stranger's file to predictions: the same ones whatever the
batch, the packing, the devices and the processes, and in transformers.
"""

import json
import pathlib
from typing import NamedTuple

import own_files
import pytest
from own_files import KINDS
from two_processes import hear, run_two, start_two

from tl_jax import config as configs
from tl_jax import interop, train

COUNT = own_files.COUNTS['test']


class Trained(NamedTuple):
  """A run on a file of some kind. asked: a file of its test texts without answers."""

  name: str
  workdir: pathlib.Path
  result: dict
  asked: pathlib.Path

  @property
  def kind(self) -> own_files.Kind:
    return KINDS[self.name]


def make(name, folder, more=()):
  kind = KINDS[name]
  config = own_files.config_of(kind, folder, more)
  result = train.run(config, folder / 'run')
  asked = own_files.write(kind, folder / 'new', 'test', kind.asked)
  return Trained(name, folder / 'run', result, asked)


@pytest.fixture(scope='module', params=KINDS)
def trained(request, tmp_path_factory):
  return make(request.param, tmp_path_factory.mktemp(request.param))


def read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def ask(trained, output, **fields):
  """What the model predicts of the file without answers."""
  train.predict(
    train.Request(str(trained.workdir), str(trained.asked), str(output), **fields)
  )
  return read(output)


def require_same(kind, found, wanted):
  """Labels and texts must be the same; numbers and probabilities to 1e-5."""
  assert len(found) == len(wanted) == COUNT
  for row, other in zip(found, wanted, strict=True):
    if kind.answer == 'value':
      assert row['value'] == pytest.approx(other['value'], abs=1e-5)
    else:
      assert row[kind.answer] == other[kind.answer]
    if 'probabilities' in other:
      assert row['probabilities'] == pytest.approx(other['probabilities'], abs=1e-5)


def own_answers(kind, path):
  """A predictions.jsonl in the form of what `predict` gives."""
  return [{kind.answer: row['prediction']} for row in read(path)]


def test_a_file_becomes_predictions(trained, tmp_path):
  kind = trained.kind
  found = ask(trained, tmp_path / 'a.jsonl')
  assert [row['index'] for row in found] == list(range(COUNT))
  assert trained.result['n'] == COUNT
  # Those that the run itself made of the same texts, and not one for all of them.
  require_same(kind, found, own_answers(kind, trained.workdir / 'predictions.jsonl'))
  assert len({str(row[kind.answer]) for row in found}) > 1
  labels = train.load(trained.workdir).labels
  if 'probabilities' in found[0]:
    assert list(found[0]['probabilities']) == list(labels)


def test_batches_change_no_prediction(trained, tmp_path):
  first, *others = [
    ask(trained, tmp_path / f'{batch}.jsonl', batch=batch) for batch in (1, 7, 32)
  ]
  for other in others:
    require_same(trained.kind, other, first)


def test_neither_packing_nor_the_batch_of_an_evaluation_changes_one(trained, tmp_path):
  kind = trained.kind
  output = tmp_path / 'alone.jsonl'
  overrides = [('data.pack', 'false'), ('data.batch', '7')]
  alone = train.evaluate(trained.workdir, overrides=overrides, output=str(output))
  # Of texts that is the loss, too.
  assert alone['metrics'] == pytest.approx(trained.result['metrics'], abs=1e-5)
  wanted = read(trained.workdir / 'predictions.jsonl')
  for row, other in zip(read(output), wanted, strict=True):
    if 'outputs' in other:
      assert row['outputs'] == pytest.approx(other['outputs'], abs=1e-5)
    if kind.answer != 'value':
      assert row['prediction'] == other['prediction']


def labels_of_transformers(transformers, folder, texts):
  """The answers of its text-classification, in the form of ours."""
  pipe = transformers.pipeline(
    'text-classification', str(folder), top_k=None, device='cpu'
  )
  kind = interop.load(folder).kind
  found = []
  for scores in pipe(texts):
    chances = {each['label']: each['score'] for each in scores}
    if kind == 'regression':
      found.append(dict(value=scores[0]['score']))
    elif kind == 'multi_label':
      labels = [label for label in sorted(chances) if chances[label] > 0.5]
      found.append(dict(labels=labels, probabilities=chances))
    else:
      found.append(dict(label=scores[0]['label'], probabilities=chances))
  return found


def texts_of_transformers(transformers, folder, texts):
  """The answers of its text-generation, or of an encoder-decoder, which has no pipeline
  there any more.
  """
  if interop.load(folder).arch.kind == 'decoder':
    pipe = transformers.pipeline('text-generation', str(folder), device='cpu')
    found = pipe(texts, return_full_text=False)
    return [dict(text=samples[0]['generated_text'].strip()) for samples in found]
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
  written = model.generate(**tokenizer(texts, return_tensors='pt', padding=True))
  found = tokenizer.batch_decode(written, skip_special_tokens=True)
  return [dict(text=text.strip()) for text in found]


# How each kind of text is put to transformers.
PUT = {
  # As the run put it, without the space that belongs to the answer.
  'decoder': lambda sentence: f'{sentence.text}\n=>',
  'conversation': lambda sentence: sentence.messages[:1],
  'encoder_decoder': lambda sentence: sentence.text,
}


def inputs_of_pipeline(row):
  """The text of a line of predictions.jsonl, or both of a pair."""
  return {name: row[name] for name in ('text', 'text_pair') if name in row}


def test_transformers_gives_the_same_answers(trained, tmp_path):
  pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  folder = tmp_path / 'hf'
  interop.save(folder, train.load(trained.workdir))
  if trained.name in PUT:
    put = PUT[trained.name]
    texts = [put(sentence) for sentence in own_files.sentences('test')]
    theirs = texts_of_transformers(transformers, folder, texts)
  else:
    rows = read(trained.workdir / 'predictions.jsonl')
    texts = [inputs_of_pipeline(row) for row in rows]
    theirs = labels_of_transformers(transformers, folder, texts)
  require_same(trained.kind, theirs, ask(trained, tmp_path / 'a.jsonl'))


NAMES = {
  'single_label': ('single_label_classification', ['brief', 'usual', 'wordy']),
  'multi_label': (
    'multi_label_classification',
    ['cat', 'cow', 'dog', 'pig', 'usual', 'wordy'],
  ),
  'regression': ('regression', ['stars']),
  'pairs': ('single_label_classification', ['other', 'same']),
}


def test_an_export_says_what_its_outputs_are(trained, tmp_path):
  interop.save(tmp_path / 'hf', train.load(trained.workdir))
  said = json.loads((tmp_path / 'hf' / 'config.json').read_text())
  if trained.name in NAMES:
    problem, labels = NAMES[trained.name]
    assert said['problem_type'] == problem
    assert list(said['id2label'].values()) == labels
    return
  generation = json.loads((tmp_path / 'hf' / 'generation_config.json').read_text())
  # Texts end with the end of the tokenizer, and are as long as those that were learned.
  tokenizer = train.load(trained.workdir).tokenizer
  assert generation['eos_token_id'] in (tokenizer.eos, [tokenizer.eos])
  assert generation['max_new_tokens'] == 8 and generation['do_sample'] is False
  assert said['eos_token_id'] == tokenizer.eos and tokenizer.eos != 1
  # What is put before a decoder is no whole text yet.
  goes_on = trained.kind.family == 'tiny-gpt'
  assert (interop.load(tmp_path / 'hf').tokenizer.suffix == ()) == goes_on


# Processes take seconds to start.
@pytest.mark.slow
def test_eight_devices_change_no_prediction(trained, tmp_path, run_cli):
  one = ask(trained, tmp_path / 'one.jsonl')
  output = tmp_path / 'eight.jsonl'
  done = run_cli(
    'predict',
    f'--model={trained.workdir}',
    f'--input={trained.asked}',
    f'--output={output}',
    env=dict(XLA_FLAGS='--xla_force_host_platform_device_count=8'),
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  require_same(trained.kind, read(output), one)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['decoder', 'encoder_decoder', 'single_label'])
def test_two_processes_give_the_result_of_one(name, tmp_path):
  few = [('schedule.steps', '40')]
  one = make(name, tmp_path, few)
  config = tmp_path / 'config.json'
  made = own_files.config_of(KINDS[name], tmp_path, few)
  config.write_text(json.dumps(configs.to_json(made)))
  both = tmp_path / 'both'
  run_two(('-m', 'tl_jax'), 'transfer', f'--config={config}', f'--workdir={both}')
  result = json.loads((both / 'result.json').read_text())
  assert result['n'] == COUNT and result['examples'] == one.result['examples']
  assert result['metrics'] == pytest.approx(one.result['metrics'], abs=1e-3)
  kind = KINDS[name]
  found = own_answers(kind, both / 'predictions.jsonl')
  require_same(kind, found, own_answers(kind, one.workdir / 'predictions.jsonl'))


@pytest.mark.slow
def test_two_processes_with_one_output_do_not_mix_their_answers(tmp_path):
  one = make('single_label', tmp_path)
  ask(one, tmp_path / 'one.jsonl')
  output = tmp_path / 'both.jsonl'
  flags = (f'--model={one.workdir}', f'--input={one.asked}', f'--output={output}')
  processes = start_two(('-m', 'tl_jax'), 'predict', *flags)
  complaints = [complaint for _, complaint in hear(processes)]
  # The later one finds the file in use, or all answers in it.
  codes = [process.returncode for process in processes]
  assert 0 in codes and {*codes} <= {0, 75}
  for code, complaint in zip(codes, complaints, strict=True):
    if code:
      assert 'is being written by another process' in complaint
      assert complaint.count('\n') == 1
  assert output.read_bytes() == (tmp_path / 'one.jsonl').read_bytes()
