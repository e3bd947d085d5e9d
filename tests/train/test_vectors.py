"""Vectors of texts from a file to a folder that sentence-transformers opens."""

import itertools
import json
import shutil

import numpy as np
import pytest
from tiny_runs import SMALL

from tl_jax import config, interop, train
from tl_jax.config import ConfigError
from tl_jax.train import checks, datasets, evaluation, prediction, restoring
from tl_jax.train.restoring import load

WORDS = ['cat', 'dog', 'sun', 'moon', 'tree', 'rock', 'sea', 'sky', 'red', 'blue']


def rows_of():
  """Three words, the same turned around, and three of which one is another."""
  rows = []
  for place, words in enumerate(itertools.combinations(WORDS, 3)):
    wrong = [*words[:2], WORDS[place % len(WORDS)]]
    rows.append(
      dict(
        anchor=' '.join(words),
        positive='so ' + ' '.join(words[::-1]),
        negative=' '.join(wrong),
        split='test' if place % 4 == 0 else 'train',
      )
    )
  return rows


def write(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def config_of(path, kind, *more, **arguments):
  given = dict(task=path, kind=kind, init='scratch', **arguments)
  named = ','.join(f'{name}={value}' for name, value in given.items())
  size = dict(family='bert-tiny', layers=1, width=16, heads=2, mlp=16)
  return config.load(
    f'configs/transfer.py:{named}', [*SMALL, ('model', str(size)), *more]
  )


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
  return write(tmp_path_factory.mktemp('vectors') / 'pairs.jsonl', rows_of())


@pytest.fixture(scope='module')
def trained(pairs):
  """(workdir, result) of a transfer to texts with right and wrong ones."""
  path = pairs.parent / 'w'
  more = [('schedule.steps', '40'), ('optim.lr', '0.01'), ('data.batch', '8')]
  return path, train.transfer(config_of(pairs, 'embedding', *more), path)


def vectors_of(model, path):
  """The vectors that `predict` writes for the first texts of the pairs."""
  output = path.parent / f'{model.name}.npy'
  request = prediction.Request(
    str(model), str(path), str(output), text='anchor', embeddings=True
  )
  prediction.predict(request)
  return np.load(output)


def test_texts_that_belong_together_are_found(trained):
  path, result = trained
  metrics = result['metrics']
  assert set(metrics) == {'mrr', 'accuracy_1', 'accuracy_10'}
  # Of 30 texts, chance finds 1 in 10 among the first three.
  assert metrics['mrr'] > 0.5
  line = json.loads((path / 'predictions.jsonl').read_text().splitlines()[0])
  assert line['target'] == ['so sun dog cat', 'cat dog cat']
  assert line['prediction'] >= 1


def test_rows_with_one_example_give_the_same_vectors(trained):
  path, _ = trained
  found = {}
  for pack in ('true', 'false'):
    # Rows of the run itself have no room for two examples.
    overrides = [('data.pack', pack), ('data.length', '64')]
    opened = restoring.open_workdir(path, overrides=overrides)
    task = datasets.open_task(opened.settings.task, '', opened.known)
    test, measure = evaluation.make_measure(opened, task, path)
    _, found[pack] = measure(opened.params)
    batches = datasets.labelled_pass(opened.settings.data, test, 0, 8)
    most = max((batch['identifiers'] >= 0).sum(-1).max() for batch in batches)
    assert (most > 1) == (pack == 'true')
  assert found['true'].shape == (len(test.texts), 3 * 16)
  np.testing.assert_allclose(found['true'], found['false'], atol=1e-5)


def test_a_set_of_scores_judges_what_pairs_have_trained(trained, tmp_path):
  rows = []
  for row in rows_of()[::4]:
    rows.append(dict(sentence1=row['anchor'], sentence2=row['positive'], score=5.0))
    rows.append(dict(sentence1=row['anchor'], sentence2='sea rock', score=0.5))
  sts = write(tmp_path / 'sts.jsonl', rows)
  overrides = [('task.name', str(sts)), ('task.kind', 'similarity')]
  found = train.evaluate(trained[0], overrides=overrides)
  assert found['task'] == str(sts)
  assert found['metrics']['spearman'] > 0.5


def test_the_exported_folder_gives_the_same_vectors(trained, pairs):
  workdir, _ = trained
  folder = pairs.parent / 'folder'
  interop.save(folder, load(workdir))
  ours = vectors_of(workdir, pairs)
  assert np.allclose(np.linalg.norm(ours, axis=-1), 1, atol=1e-5)
  assert np.allclose(vectors_of(folder, pairs), ours, atol=1e-6)
  shutil.rmtree(folder / '1_Pooling')
  (folder / 'modules.json').unlink()
  # Without what says it, they are others.
  (pairs.parent / 'folder.npy').unlink()
  assert not np.allclose(vectors_of(folder, pairs), ours, atol=1e-2)


@pytest.mark.slow
def test_sentence_transformers_gives_the_same_vectors(trained, pairs):
  sentences = pytest.importorskip('sentence_transformers')
  workdir, _ = trained
  folder = pairs.parent / 'of_theirs'
  interop.save(folder, load(workdir))
  theirs = sentences.SentenceTransformer(str(folder), device='cpu')
  texts = [row['anchor'] for row in rows_of()]
  found = theirs.encode(texts)
  assert np.allclose(found, vectors_of(workdir, pairs), atol=1e-5)


def test_texts_alone_learn_by_dropout(pairs, tmp_path):
  path = tmp_path / 'texts.txt'
  path.write_text('\n'.join(row['anchor'] for row in rows_of()))
  result = train.transfer(config_of(path, 'simcse'), tmp_path / 'w')
  assert result['metrics']['uniformity'] < 0


def test_scores_train_vectors_too(tmp_path):
  rows = []
  for place, row in enumerate(rows_of()):
    other = row['positive'] if place % 2 else row['negative']
    split = dict(split=row['split'])
    rows.append(split | dict(a=row['anchor'], b=other, much=place % 5))
  path = write(tmp_path / 'scored.jsonl', rows)
  settings = config_of(path, 'similarity', text='a+b', label='much')
  result = train.transfer(settings, tmp_path / 'w')
  assert set(result['metrics']) == {'spearman', 'pearson'}


REFUSED = {
  'accumulate: 2': ('embedding', [('data.accumulate', '2')], {}),
  'dropout: 0.0': ('simcse', [('compute.dropout', '0.0')], dict(text='anchor')),
  'text: .anchor.positive.: kind=simcse has one': (
    'simcse',
    [],
    dict(text='anchor+positive'),
  ),
  'no columns sentence1.sentence2 and score; the file has anchor': (
    'similarity',
    [],
    {},
  ),
  'kind=embedding needs the column of the texts': (
    'embedding',
    [],
    dict(text='anchor'),
  ),
  'data.batch: 1 example': (
    'embedding',
    [('data.batch', '1'), ('data.pack', 'false')],
    {},
  ),
}


@pytest.mark.parametrize('words', list(REFUSED))
def test_what_cannot_be_compared_is_refused(words, pairs):
  kind, more, arguments = REFUSED[words]
  with pytest.raises(ConfigError, match=words):
    checks.check(config_of(pairs, kind, *more, **arguments))
