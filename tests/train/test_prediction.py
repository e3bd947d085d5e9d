"""From a file of texts to a file of answers, by models of every kind."""

import csv
import dataclasses
import json
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import interop, models, train
from tl_jax.config import ConfigError
from tl_jax.data import tokenizers
from tl_jax.evals import passes
from tl_jax.train import prediction

WORDS = ('good', 'bad', 'film', 'was', 'very', 'long', 'story', 'of', 'poor', 'great')
NAMES = ('neg', 'neu', 'pos')
COUNT = 103
SMALL = dict(width=16, layers=1, heads=2, mlp=16, max_positions=64)


def texts(count=COUNT):
  draw = np.random.default_rng(0)
  lengths = draw.integers(0, 30, count)
  return [' '.join(draw.choice(WORDS, length)) for length in lengths]


def make(arch, labels=(), kind=''):
  """A model whose hidden states differ from text to text."""
  tokenizer = tokenizers.train([' '.join(WORDS)] * 5, 'wordpiece', 300)
  arch = dataclasses.replace(arch, vocabulary=tokenizer.vocabulary_size)
  model = models.build(arch)
  params = model.init(jax.random.key(0))
  params = jax.tree.map(lambda leaf: leaf * 20 if leaf.ndim == 2 else leaf, params)
  return interop.Loaded(model, params, tokenizer, arch, labels=labels, kind=kind)


def classifier(path, labels=NAMES, kind='single_label', count=None):
  """The folder of a classifier that gives its labels to about as many texts each."""
  arch = models.arch(
    'bert-tiny', **SMALL, head='classifier', labels=count or len(labels)
  )
  loaded = make(dataclasses.replace(arch, pooler_place='body'), labels, kind)
  head = loaded.params['head']
  head['bias'] = -logits(loaded, padded(loaded, texts())).mean(0)
  interop.save(path, loaded)
  return path


def padded(loaded, some):
  """A batch of texts, each by itself in a row of 64 tokens."""
  tokens = np.zeros((len(some), 64), np.int32)
  rows = loaded.tokenizer.encode_batch(some, 64)
  for row, ids in zip(tokens, rows, strict=True):
    row[: len(ids)] = ids
  # No piece of a text has the id of padding, which is 0.
  return {'tokens': jnp.array(tokens), 'segments': jnp.array(tokens > 0, jnp.int32)}


def logits(loaded, batch):
  return jax.jit(loaded.model.apply)(loaded.params, batch).logits


def alone(folder, some):
  """Logits of each text in a row of its own."""
  loaded = interop.load(folder)
  return np.asarray(logits(loaded, padded(loaded, some)))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return classifier(tmp_path_factory.mktemp('classifier') / 'm')


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  path = tmp_path_factory.mktemp('texts') / 'in.csv'
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['id', 'text'])
    writer.writerows(enumerate(texts()))
  return path


def ask(model, source, output, **fields):
  """The answers in a file of JSON lines."""
  reporter = fields.pop('reporter', train.NULL_REPORTER)
  train.predict(train.Request(str(model), str(source), str(output), **fields), reporter)
  lines = output.read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_a_class_and_its_probability_for_every_text(folder, source, tmp_path):
  found = ask(folder, source, tmp_path / 'a.jsonl')
  assert [row['index'] for row in found] == list(range(COUNT))
  some = [*range(0, COUNT, 13), texts().index('')]
  wanted = jax.nn.softmax(alone(folder, [texts()[place] for place in some]))
  for place, chances in zip(some, np.asarray(wanted), strict=True):
    row = found[place]
    assert list(row['probabilities']) == list(NAMES)
    np.testing.assert_allclose(list(row['probabilities'].values()), chances, atol=1e-5)
    assert row['label'] == NAMES[chances.argmax()]
    assert row['probability'] == row['probabilities'][row['label']]
  assert len({row['label'] for row in found}) > 1


def test_the_cells_of_the_input_are_parted_by_what_is_said(folder, source, tmp_path):
  some = texts()[:3]
  path = tmp_path / 'in.csv'
  path.write_text('\n'.join(['id^text', *(f'0^{text}' for text in some)]))
  output = tmp_path / 'a.jsonl'
  with pytest.raises(ConfigError, match=r'id\^text; --delimiter=\^ may part it'):
    ask(folder, path, output)
  found = ask(folder, path, output, delimiter='^')
  wanted = ask(folder, source, tmp_path / 'b.jsonl')[:3]
  assert [row['label'] for row in found] == [row['label'] for row in wanted]
  path.write_text(path.read_text().replace('^', ','))
  with pytest.raises(ConfigError, match="--delimiter: ';;' is not a single character"):
    ask(folder, path, output, delimiter=';;')


def test_batches_and_windows_change_no_answer(folder, source, tmp_path, monkeypatch):
  wanted = ask(folder, source, tmp_path / 'a.jsonl')
  monkeypatch.setattr(passes, 'WINDOW', 20)
  for batch in (1, 7, 32):
    found = ask(folder, source, tmp_path / f'{batch}.jsonl', batch=batch)
    assert [row['label'] for row in found] == [row['label'] for row in wanted]
    for row, other in zip(found, wanted, strict=True):
      assert row['probabilities'] == pytest.approx(other['probabilities'], abs=1e-5)


def test_several_labels_and_numbers(source, tmp_path):
  several = classifier(tmp_path / 'several', ('price', 'speed'), 'multi_label')
  found = ask(several, source, tmp_path / 'a.jsonl')
  chances = np.asarray(jax.nn.sigmoid(alone(several, texts()[:9])))
  for row, each in zip(found[:9], chances, strict=True):
    assert row['probabilities'] == pytest.approx(
      dict(price=each[0], speed=each[1]), abs=1e-5
    )
    names = zip(('price', 'speed'), each, strict=True)
    assert row['labels'] == [name for name, chance in names if chance > 0.5]
  number = classifier(tmp_path / 'number', (), 'regression', count=1)
  found = ask(number, source, tmp_path / 'b.jsonl')
  wanted = alone(number, texts()[:9])[:, 0]
  np.testing.assert_allclose([row['value'] for row in found][:9], wanted, atol=1e-5)


def test_a_table_has_a_column_for_every_class(folder, source, tmp_path):
  wanted = ask(folder, source, tmp_path / 'a.jsonl')
  output = tmp_path / 'a.csv'
  train.predict(train.Request(str(folder), str(source), str(output)))
  with output.open(newline='') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == COUNT
  assert [row['label'] for row in rows] == [row['label'] for row in wanted]
  assert float(rows[5]['probabilities.pos']) == wanted[5]['probabilities']['pos']


def test_a_run_that_was_stopped_goes_on(folder, source, tmp_path, monkeypatch):
  whole = tmp_path / 'whole.jsonl'
  monkeypatch.setattr(passes, 'WINDOW', 20)
  ask(folder, source, whole)
  output = tmp_path / 'a.jsonl'
  asked = []

  def stop(title, done, total, **figures):
    # A second signal would end the process at once.
    if done == 40 and done not in asked:
      asked.append(done)
      signal.raise_signal(signal.SIGTERM)

  reporter = train.Reporter(lambda text: None, stop)
  with pytest.raises(train.Stopped, match='answers to 40 of 103 texts'):
    ask(folder, source, output, reporter=reporter)
  assert len(output.read_text().splitlines()) == 40
  # Torn, as a crash of the machine leaves it.
  with output.open('ab') as file:
    file.write(b'{"index": 40, "lab')
  asked.clear()

  def see(title, done, total, **figures):
    asked.append(done)

  ask(folder, source, output, reporter=train.Reporter(lambda text: None, see))
  assert asked[0] == 40 and output.read_bytes() == whole.read_bytes()
  # Finished: the model is not even opened.
  monkeypatch.setattr(prediction, 'open_subject', None)
  ask(folder, source, output)


def test_an_output_of_another_model_or_input_is_refused(folder, source, tmp_path):
  output = tmp_path / 'a.jsonl'
  ask(folder, source, output)
  before = output.read_bytes()
  other = classifier(tmp_path / 'other', NAMES[::-1])
  with pytest.raises(ConfigError, match='comes from another model'):
    ask(other, source, output)
  changed = tmp_path / 'in.csv'
  changed.write_bytes(source.read_bytes() + b'103,more\n')
  with pytest.raises(ConfigError, match='comes from another input'):
    ask(folder, changed, output)
  with pytest.raises(ConfigError, match='comes from another kind of answer'):
    ask(folder, source, output, embeddings=True)
  with pytest.raises(ConfigError, match='is the input itself'):
    ask(folder, output, output)
  assert output.read_bytes() == before


def test_what_the_model_cannot_answer_is_said(source, tmp_path, monkeypatch):
  arch = models.arch('bert-tiny', **SMALL, head='masked')
  masked = tmp_path / 'm'
  interop.save(masked, make(dataclasses.replace(arch, pooler_place='new')))
  with monkeypatch.context() as patched:
    # The model is not even opened.
    patched.setattr(prediction, 'open_subject', None)
    with pytest.raises(
      ConfigError, match="'masked' has no label .* --embeddings gives"
    ):
      ask(masked, source, tmp_path / 'a.jsonl')
  assert not (tmp_path / 'a.jsonl').exists()
  found = ask(masked, source, tmp_path / 'e.jsonl', embeddings=True)
  assert len(found) == COUNT and len(found[0]['embedding']) == 16


@pytest.fixture(scope='module')
def sentences(folder, tmp_path_factory):
  """The same model as the folder of sentence-transformers."""
  path = tmp_path_factory.mktemp('sentences') / 'm'
  shutil.copytree(folder, path)
  modules = [
    dict(idx=0, name='0', path='', type='sentence_transformers.models.Transformer'),
    dict(
      idx=1, name='1', path='1_Pooling', type='sentence_transformers.models.Pooling'
    ),
  ]
  (path / 'modules.json').write_text(json.dumps(modules))
  pooling = path / '1_Pooling'
  pooling.mkdir()
  said = dict(pooling_mode_max_tokens=True, pooling_mode_mean_tokens=True)
  said['word_embedding_dimension'] = 16
  (pooling / 'config.json').write_text(json.dumps(said))
  return path


def test_embeddings_are_those_of_sentence_transformers(sentences, source, tmp_path):
  library = pytest.importorskip('sentence_transformers')
  theirs = library.SentenceTransformer(str(sentences), device='cpu').encode(texts())
  output = tmp_path / 'e.npy'
  train.predict(
    train.Request(str(sentences), str(source), str(output), embeddings=True)
  )
  np.testing.assert_allclose(np.load(output), theirs, atol=1e-4)


def test_embeddings_are_pooled_hidden_states(folder, sentences, source, tmp_path):
  loaded = interop.load(folder)
  plain = ask(folder, source, tmp_path / 'a.jsonl', embeddings=True)
  array = tmp_path / 'e.npy'
  request = train.Request(
    str(sentences), str(source), str(array), embeddings=True, normalize=True
  )
  train.predict(request)
  pooled = np.load(array)
  assert pooled.shape == (COUNT, 32)
  batch = padded(loaded, texts())
  states = jax.jit(loaded.model.apply)(loaded.params, batch).hidden
  for place in range(0, COUNT, 17):
    hidden = np.asarray(states[place][batch['segments'][place] > 0])
    np.testing.assert_allclose(plain[place]['embedding'], hidden[0], atol=1e-5)
    both = np.concatenate([hidden.max(0), hidden.mean(0)])
    np.testing.assert_allclose(pooled[place], both / np.linalg.norm(both), atol=1e-5)


def test_long_texts_are_cut_and_told(folder, tmp_path):
  path = tmp_path / 'in.txt'
  path.write_text('good film\n' + 'bad ' * 500 + '\n')
  told = []
  reporter = train.Reporter(told.append, lambda *given, **figures: None)
  found = ask(folder, path, tmp_path / 'a.jsonl', reporter=reporter)
  assert '1 texts were cut to 64 tokens' in told
  wanted = jax.nn.softmax(alone(folder, ['bad ' * 500]))[0]
  np.testing.assert_allclose(
    list(found[1]['probabilities'].values()), wanted, atol=1e-5
  )


def test_answers_are_those_of_a_pipeline_of_transformers(folder, source, tmp_path):
  pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  pipeline = transformers.pipeline(
    'text-classification', str(folder), tokenizer=tokenizer, top_k=None, device='cpu'
  )
  some = [text for text in texts() if text][:20]
  path = tmp_path / 'in.txt'
  path.write_text('\n'.join(some))
  found = ask(folder, path, tmp_path / 'a.jsonl')
  theirs = pipeline(some, truncation=True, max_length=64)
  for row, scores in zip(found, theirs, strict=True):
    chances = {each['label']: each['score'] for each in scores}
    assert row['probabilities'] == pytest.approx(chances, abs=1e-4)
    assert row['label'] == scores[0]['label']
