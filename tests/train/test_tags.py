"""Tags of words from a file to predictions, packed or not, and as a folder."""

import json

import numpy as np
import pytest
from tiny_runs import SMALL

from tl_jax import config, data, interop, train
from tl_jax.config import ConfigError
from tl_jax.data.words import Words
from tl_jax.train import evaluation, prediction, restoring

NAMES = ('Ann', 'Bob', 'Cleopatra')
PLACES = (('New', 'York'), ('Rome',), ('Oslo',))


def sentence_of(place):
  """(words, tags); every eighth sentence is longer than a row."""
  words, tags = [], []
  for turn in range(9 if place % 8 == 7 else 1):
    own = PLACES[(place + turn) % 3]
    words += [NAMES[(place // 2 + turn) % 3], 'visits', *own, '.']
    tags += ['B-PER', 'O', 'B-LOC', *['I-LOC'] * (len(own) - 1), 'O']
  return words, tags


def rows_of(count=40):
  found = []
  for place in range(count):
    words, tags = sentence_of(place)
    split = 'test' if place % 4 == 3 else 'train'
    found.append(dict(id=place, tokens=words, ner_tags=tags, split=split))
  return found


def config_of(path, *more, **arguments):
  given = dict(task=path, init='scratch', **arguments)
  named = ','.join(f'{name}={value}' for name, value in given.items())
  size = dict(family='bert-tiny', layers=1, width=16, heads=2, mlp=16)
  own = [('model', str(size)), ('optim.lr', '0.02'), ('schedule.steps', '40'), *more]
  return config.load(f'configs/transfer.py:{named}', [*SMALL, *own])


def read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, file, result) of a transfer to tags."""
  folder = tmp_path_factory.mktemp('tags')
  path = folder / 'names.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows_of())))
  result = train.transfer(config_of(path), folder / 'w')
  return folder / 'w', path, result


def test_a_run_tags_every_word_of_long_sentences_too(trained):
  workdir, path, result = trained
  lines = read(workdir / 'predictions.jsonl')
  test = [row for row in read(path) if row['split'] == 'test']
  assert [line['tokens'] for line in lines] == [row['tokens'] for row in test]
  assert [line['target'] for line in lines] == [row['ner_tags'] for row in test]
  assert max(len(line['prediction']) for line in lines) > 36
  hits = [
    one == other
    for line in lines
    for one, other in zip(line['prediction'], line['target'], strict=True)
  ]
  assert np.isclose(result['metrics']['tag_accuracy'], np.mean(hits))
  assert result['metrics']['entity_f1'] > 0.5 and result['n'] == 10
  low, high = result['intervals']['entity_f1']
  assert low <= result['metrics']['entity_f1'] <= high


def test_packed_words_have_the_outputs_of_windows_alone(trained):
  workdir, _, _ = trained
  opened = restoring.open_workdir(workdir)
  loaded = restoring.load(workdir)
  for line in read(workdir / 'predictions.jsonl'):
    windows = data.tagged.windows([Words(line['tokens'])], opened.tokenizer, 16)
    found = np.zeros((len(line['tokens']), len(loaded.labels)))
    for place in range(len(windows)):
      batch = dict(tokens=windows[place][None])
      logits = np.asarray(loaded.model.apply(loaded.params, batch).logits)[0]
      found[windows.numbers[place]] = logits[windows.columns[place]]
    powers = np.exp(found - found.max(-1, keepdims=True))
    chances = powers / powers.sum(-1, keepdims=True)
    tags = [loaded.labels[tag] for tag in chances.argmax(-1)]
    assert tags == line['prediction']
    np.testing.assert_allclose(chances.max(-1), line['probabilities'], atol=1e-5)


def predict(model, source, output, **more):
  train.predict(prediction.Request(str(model), str(source), str(output), **more))
  return output


def test_a_run_answers_files_of_words(trained, tmp_path):
  workdir, path, _ = trained
  ours = read(predict(workdir, path, tmp_path / 'ours.jsonl'))
  lines = read(workdir / 'predictions.jsonl')
  held = [
    row for row, line in zip(ours, read(path), strict=True) if line['split'] == 'test'
  ]
  assert [row['tags'] for row in held] == [line['prediction'] for line in lines]
  for row, line in zip(held, lines, strict=True):
    np.testing.assert_allclose(row['probabilities'], line['probabilities'], atol=1e-5)
  predict(workdir, path, tmp_path / 'ours.conll')
  again = read(predict(workdir, tmp_path / 'ours.conll', tmp_path / 'again.jsonl'))
  assert [row['tags'] for row in again] == [row['tags'] for row in ours]
  found = [row['tags'] for _, row in data.conll.rows(tmp_path / 'ours.conll')]
  assert found == [row['tags'] for row in ours]


def test_a_run_knows_the_column_of_its_words(trained, tmp_path):
  path = tmp_path / 'own.jsonl'
  renamed = [
    dict(tokens=['Oslo'], form=row['tokens'], upos=row['ner_tags'], split=row['split'])
    for row in rows_of(8)
  ]
  path.write_text('\n'.join(map(json.dumps, renamed)))
  steps = ('schedule.steps', '2')
  train.transfer(config_of(path, steps, text='form', label='upos'), tmp_path / 'w')
  found = read(predict(tmp_path / 'w', path, tmp_path / 'a.jsonl'))
  assert [row['tokens'] for row in found] == [row['form'] for row in renamed]


def test_sentences_without_a_word_have_no_tag(trained, tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"tokens": []}\n{"tokens": ["Ann"]}\n{"tokens": []}\n')
  found = read(predict(trained[0], path, tmp_path / 'b.jsonl'))
  assert [len(row['tags']) for row in found] == [0, 1, 0]
  path.write_text('{"tokens": []}\n')
  (row,) = read(predict(trained[0], path, tmp_path / 'c.jsonl'))
  assert row == dict(index=0, tokens=[], tags=[], probabilities=[])


def test_evaluation_says_the_same(trained):
  workdir, _, result = trained
  found = evaluation.evaluate(workdir)
  assert found['metrics'] == pytest.approx(result['metrics'])


def test_a_folder_answers_as_the_run_does(trained, tmp_path):
  workdir, path, _ = trained
  loaded = restoring.load(workdir)
  interop.save(tmp_path / 'hf', loaded)
  said = json.loads((tmp_path / 'hf' / 'config.json').read_text())
  assert said['architectures'] == ['BertForTokenClassification']
  assert list(said['id2label'].values()) == ['B-LOC', 'B-PER', 'I-LOC', 'O']
  short = tmp_path / 'short.jsonl'
  # A folder has longer rows than the run, so that what it sees of long ones differs.
  rows = [row for row in read(path) if len(row['tokens']) < 6]
  short.write_text('\n'.join(map(json.dumps, rows)))
  ours = read(predict(workdir, short, tmp_path / 'ours.jsonl'))
  theirs = read(predict(tmp_path / 'hf', short, tmp_path / 'theirs.jsonl'))
  assert [row['tags'] for row in ours] == [row['tags'] for row in theirs]
  transformers = pytest.importorskip('transformers')
  pytest.importorskip('torch')
  pipe = transformers.pipeline(
    'token-classification',
    model=str(tmp_path / 'hf'),
    aggregation_strategy='first',
    ignore_labels=[],
  )
  for row in ours[:8]:
    text = Words(row['tokens'])
    tags = {}
    for group in pipe(str(text)):
      for number, (first, end) in enumerate(text.spans.tolist()):
        if group['start'] <= first and end <= group['end']:
          tags[number] = group['entity_group']
    bare = [tag.removeprefix('B-').removeprefix('I-') for tag in row['tags']]
    assert [tags[number] for number in range(len(bare))] == bare


@pytest.mark.parametrize(
  'method',
  [
    'probe',
    *(pytest.param(each, marks=pytest.mark.slow) for each in ('lora', 'prompt')),
  ],
)
def test_other_methods_train_tags_too(trained, method, tmp_path):
  steps = ('schedule.steps', '2')
  result = train.transfer(config_of(trained[1], steps, method=method), tmp_path / 'w')
  assert result['n'] == 10 and 0 <= result['metrics']['tag_accuracy'] <= 1


def test_the_most_frequent_tag_is_a_baseline(trained, tmp_path):
  made = train.transfer(config_of(trained[1], method='most-frequent'), tmp_path / 'w')
  # Every word of these sentences has one tag.
  assert made['metrics']['tag_accuracy'] == 1.0 and made['labels'] == 30
  path = tmp_path / 'a.csv'
  path.write_text('text,label\ngood,1\nbad,0\nfine,1\nawful,0\n')
  with pytest.raises(ConfigError, match='most-frequent needs a task with a tag for'):
    train.transfer(config_of(path, method='most-frequent'), tmp_path / 'x')


def test_a_part_of_the_train_split_is_watched(trained, tmp_path):
  more = [('eval.every', '2'), ('schedule.steps', '4'), ('task.holdout', '8')]
  made = train.transfer(config_of(trained[1], *more, labels=8), tmp_path / 'w')
  assert made['labels'] == 8 and 'tag_accuracy' in made['metrics']


def test_word_lines_are_of_tags_alone(tmp_path):
  with pytest.raises(ConfigError, match='a word on every line is of tags'):
    from tl_jax.evals import answers

    answers.form_of(tmp_path / 'a.conll', ('label',))
