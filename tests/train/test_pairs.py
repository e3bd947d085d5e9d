"""Pairs of texts from a file to predictions: BERT's frame, and none for decoders."""

import json
import shutil

import jax
import numpy as np
import pytest
from tiny_runs import SMALL

from tl_jax import config, interop, models, train
from tl_jax.config import ConfigError
from tl_jax.data import pairs, texts, tokenizers
from tl_jax.train import information, prediction, restoring

FRAME = '[CLS] A [SEP] B [SEP]'
NAMES = ('cat', 'dog', 'cow')
COUNT = 103


def rows_of(count=COUNT):
  """Two columns of different lengths, and whether they name one animal."""
  rows = []
  for place in range(count):
    first, second = NAMES[place % 3], NAMES[place * 7 // 5 % 3]
    rows.append(
      dict(
        premise=f'a {first} runs ' + 'far ' * (place % 13),
        hypothesis='here ' * (place % 4) + f'a {second}',
        label='same' if first == second else 'other',
        split='test' if place % 3 == 0 else 'train',
      )
    )
  return rows


def write(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def config_of(path, family='bert-tiny', steps=2, **arguments):
  given = dict(task=path, text='premise+hypothesis', init='scratch', **arguments)
  named = ','.join(f'{name}={value}' for name, value in given.items())
  size = dict(family=family, layers=1, width=16, heads=2, mlp=16)
  # Far from the start, where all answers are nearly the same.
  more = [('model', str(size)), ('schedule.steps', str(steps)), ('optim.lr', '0.1')]
  return config.load(f'configs/transfer.py:{named}', [*SMALL, *more])


def said_by(run, *given):
  """(what a run gives, the lines that it tells)."""
  lines = []
  reporter = train.Reporter(lines.append, lambda *given, **figures: None)
  return run(*given, reporter), lines


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, file, result) of a transfer to pairs."""
  folder = tmp_path_factory.mktemp('pairs')
  path = write(folder / 'pairs.jsonl', rows_of())
  result = train.transfer(config_of(path), folder / 'w')
  return folder / 'w', path, result


@pytest.fixture(scope='module')
def joined(trained, tmp_path_factory):
  """The workdir of the same run by a version that joined the two texts."""
  folder = tmp_path_factory.mktemp('joined')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pairs, 'are_framed', lambda texts, tokenizer: False)
    train.transfer(config_of(trained[1]), folder / 'w')
  return folder / 'w'


def predict(model, source, output, **how):
  answers, _ = predict_and_tell(model, source, output, **how)
  return answers


def predict_and_tell(model, source, output, **how):
  """(the answers, the lines that are told)."""
  request = prediction.Request(str(model), str(source), str(output), **how)
  _, lines = said_by(train.predict, request)
  return read(output), lines


def outputs_of(workdir):
  return np.array([row['outputs'] for row in read(workdir / 'predictions.jsonl')])


def test_a_run_frames_pairs_tells_so_and_shows_both_texts(trained):
  workdir, path, result = trained
  assert f'{path}: examples of two texts are read as {FRAME}' in result['notes']
  assert any('pairs cut to 16 tokens' in line for line in result['notes'])
  rows = [row for row in rows_of() if row['split'] == 'test']
  for found, row in zip(read(workdir / 'predictions.jsonl'), rows, strict=True):
    assert (found['text'], found['text_pair']) == (row['premise'], row['hypothesis'])
    assert found['target'] == row['label']
  assert restoring.frames_pairs(workdir, 2)


def test_evaluation_and_prediction_read_pairs_as_the_run_did(trained, tmp_path):
  workdir, path, result = trained
  again = train.evaluate(workdir)['metrics']
  assert again == pytest.approx(result['metrics'], abs=1e-6)
  tests = [row for row in rows_of() if row['split'] == 'test']
  source = write(tmp_path / 'new.jsonl', tests)
  found = predict(workdir, source, tmp_path / 'a.jsonl')
  outputs = outputs_of(workdir)
  chances = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
  for row, (other, same) in zip(found, chances, strict=True):
    assert row['probabilities'] == pytest.approx(dict(other=other, same=same), abs=1e-5)
  for batch in (1, 7):
    again = predict(workdir, source, tmp_path / f'{batch}.jsonl', batch=batch)
    assert [row['label'] for row in again] == [row['label'] for row in found]
  # Of the pair, not of its joined text.
  vectors = predict(workdir, source, tmp_path / 'v.jsonl', embeddings=True)
  alone = write(
    tmp_path / 'one.jsonl',
    [
      dict(text=f'premise: {r["premise"]}\nhypothesis: {r["hypothesis"]}')
      for r in tests
    ],
  )
  how = dict(embeddings=True, text='text')
  others, lines = predict_and_tell(workdir, alone, tmp_path / 'o.jsonl', **how)
  assert 'text: one text, but the model learned pairs of texts' in lines
  assert (
    np.abs(np.subtract(vectors[0]['embedding'], others[0]['embedding'])).max() > 1e-3
  )


def test_what_learned_joined_texts_reads_them_joined(trained, joined, tmp_path):
  assert not restoring.frames_pairs(joined, 2)
  wanted = outputs_of(joined)
  assert np.abs(wanted - outputs_of(trained[0])).max() > 1e-4
  output = tmp_path / 'found.jsonl'
  train.evaluate(joined, output=str(output))
  found = [row['outputs'] for row in read(output)]
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  source = write(tmp_path / 'a.jsonl', rows_of(9))
  both = texts.read(source, ('premise', 'hypothesis'))
  one = [dict(text=str(text)) for text in both]
  plain = write(tmp_path / 'b.jsonl', one)
  assert predict(joined, source, tmp_path / 'c.jsonl') == predict(
    joined, plain, tmp_path / 'd.jsonl', text='text'
  )


def test_a_run_on_joined_texts_does_not_go_on_with_pairs(trained, joined, tmp_path):
  workdir = tmp_path / 'w'
  shutil.copytree(joined, workdir)
  with pytest.raises(
    ConfigError, match='step 2 was trained on two texts joined'
  ) as error:
    train.transfer(config_of(trained[1], steps=4), workdir)
  assert FRAME in str(error.value)
  # A finished run is what it was.
  assert train.transfer(config_of(trained[1]), workdir)['steps'] == 2
  again = tmp_path / 'again'
  shutil.copytree(trained[0], again)
  assert train.transfer(config_of(trained[1], steps=4), again)['steps'] == 4


def test_information_is_that_of_pairs(trained, joined):
  opened = restoring.open_workdir(trained[0])
  assert opened.pairs and not restoring.open_workdir(joined).pairs
  task = train.datasets.open_task(opened.settings.task, '', opened.known)
  batch = information.training_examples(opened, task, trained[0], 4)
  assert set(batch['types'][0].tolist()) == {0, 1}


@pytest.mark.parametrize(
  ('arguments', 'line'),
  [
    # A decoder reads one text, and so does who counts words.
    pytest.param(
      dict(family='tiny-gpt', method='full'),
      'are joined into one',
      marks=pytest.mark.slow,
    ),
    (dict(method='tf-idf'), None),
  ],
)
def test_who_reads_one_text_has_the_two_joined(trained, tmp_path, arguments, line):
  result, _ = said_by(
    train.transfer, config_of(trained[1], **arguments), tmp_path / 'w'
  )
  assert result['n'] == 35
  assert not line or any(line in told for told in result['notes'])
  assert read(tmp_path / 'w' / 'predictions.jsonl')[0]['text_pair'] == 'a cat'


@pytest.mark.parametrize(
  'method', ['probe', pytest.param('prompt', marks=pytest.mark.slow)]
)
def test_methods_have_the_types_of_every_row(trained, method, tmp_path):
  """A held body runs once for every pair; a prompt stands before each in its row."""
  loaded = config_of(trained[1], method=method)
  with loaded.unlocked():
    loaded.data.accumulate = 2
    loaded.eval.every = 1
  workdir = tmp_path / 'w'
  train.transfer(loaded, workdir)
  wanted = outputs_of(workdir)
  output = tmp_path / 'a.jsonl'
  train.evaluate(workdir, output=str(output))
  found = [row['outputs'] for row in read(output)]
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  tests = [row for row in rows_of() if row['split'] == 'test']
  source = write(tmp_path / 'new.jsonl', tests)
  answers = predict(workdir, source, tmp_path / 'b.jsonl')
  chances = [answer['probabilities']['same'] for answer in answers]
  softmax = np.exp(wanted[:, 1]) / np.exp(wanted).sum(-1)
  np.testing.assert_allclose(chances, softmax, atol=1e-5)


def roberta(sentences):
  """Byte pairs with RoBERTa's frames: <s> A </s> and <s> A </s></s> B </s>."""
  from tokenizers import processors

  backend = tokenizers.train(sentences, kind='bpe', size=400).backend
  begin, end = (backend.token_to_id(piece) for piece in ('<s>', '</s>'))
  backend.post_processor = processors.RobertaProcessing(('</s>', end), ('<s>', begin))
  return tokenizers.wrap(backend)


def classifier(path, family, kind):
  """The folder of a small classifier of two texts, whose answers differ."""
  sentences = []
  for row in rows_of():
    sentences += [row['premise'], row['hypothesis']]
  if kind == 'roberta':
    tokenizer = roberta(sentences)
  else:
    tokenizer = tokenizers.train(sentences, kind=kind, size=400)
  size = dict(width=16, layers=1, heads=2, mlp=16, vocabulary=tokenizer.vocabulary_size)
  size |= FIELDS.get(family, {})
  arch = models.arch(family, **size, head='classifier', labels=2)
  model = models.build(arch)
  params = model.init(jax.random.key(0))
  params = jax.tree.map(lambda leaf: leaf * 20 if leaf.ndim == 2 else leaf, params)
  loaded = interop.Loaded(
    model, params, tokenizer, arch, labels=('other', 'same'), kind='single_label'
  )
  return interop.save(path, loaded)


SLOW = [
  # Whose pieces have types that the model has no table for.
  ('roberta-base', 'wordpiece'),
  ('distilbert', 'wordpiece'),
  ('electra-small', 'wordpiece'),
  ('albert-base', 'wordpiece'),
  ('mpnet-base', 'roberta'),
  ('xlm-roberta-base', 'roberta'),
  ('deberta-v3-xsmall', 'wordpiece'),
  ('bart-base', 'roberta'),
  ('t5-small', 'bpe'),
]
# What a family has that goes with its size, or that makes its classifier transformers'.
FIELDS = {
  'deberta-v3-xsmall': dict(attention_scale=(3 * 8) ** -0.5),
  'bart-base': dict(pool='last', pooler='tanh'),
  't5-small': dict(pool='last', pooler='tanh', head_bias=True),
}


@pytest.mark.parametrize(
  ('family', 'kind'),
  [
    ('bert-tiny', 'wordpiece'),
    ('roberta-base', 'roberta'),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW),
  ],
)
@pytest.mark.filterwarnings('ignore')
def test_an_export_is_a_pipeline_of_transformers(family, kind, tmp_path):
  pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  folder = classifier(tmp_path / 'hf', family, kind)
  some = rows_of(20)
  source = write(tmp_path / 'a.jsonl', some)
  text = 'premise+hypothesis'
  found, lines = predict_and_tell(folder, source, tmp_path / 'b.jsonl', text=text)
  frame = pairs.spelled(interop.load_tokenizer(folder))
  assert f'{text}: two texts, read as {frame}' in lines
  pipeline = transformers.pipeline(
    'text-classification', str(folder), top_k=None, device='cpu'
  )
  for row, answer in zip(some, found, strict=True):
    asked = dict(text=row['premise'], text_pair=row['hypothesis'])
    theirs = {each['label']: each['score'] for each in pipeline(asked)}
    assert answer['probabilities'] == pytest.approx(theirs, abs=1e-4)
  assert np.std([answer['probabilities']['same'] for answer in found]) > 1e-3
