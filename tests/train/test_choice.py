"""Multiple choice from a file to predictions, packed or not, and as a folder."""

import json

import numpy as np
import pytest
from tiny_runs import SMALL

from tl_jax import config, interop, train
from tl_jax.train import prediction, restoring

NAMES = ('cat', 'dog', 'cow', 'pig')


def rows_of(count=48):
  """Questions of two to four candidates of different lengths."""
  rows = []
  for place in range(count):
    answers = [f'a {NAMES[(place + n) % 4]} runs' + ' far' * n for n in range(4)]
    kept = answers[: 2 + place % 3]
    right = place % len(kept)
    split = 'test' if place % 3 == 0 else 'train'
    question = f'here is a {NAMES[(place + right) % 4]}'
    rows.append(dict(ctx=question, endings=kept, label=right, split=split))
  return rows


def config_of(path, *more, **arguments):
  given = dict(task=path, init='scratch', **arguments)
  named = ','.join(f'{name}={value}' for name, value in given.items())
  size = dict(family='bert-tiny', layers=1, width=16, heads=2, mlp=16)
  own = [('model', str(size)), ('optim.lr', '0.1'), *more]
  return config.load(f'configs/transfer.py:{named}', [*SMALL, *own])


def read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def outputs_of(workdir):
  return [row['outputs'] for row in read(workdir / 'predictions.jsonl')]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, file, result) of a transfer to questions."""
  folder = tmp_path_factory.mktemp('choice')
  path = folder / 'hella.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows_of())))
  result = train.transfer(config_of(path), folder / 'w')
  return folder / 'w', path, result


def test_a_run_scores_the_right_candidates(trained):
  workdir, _, result = trained
  found = read(workdir / 'predictions.jsonl')
  right = [row['target'] == row['prediction'] for row in found]
  assert result['metrics'] == {'choice_accuracy': np.mean(right)} and result['n'] == 16
  assert [len(row['outputs']) for row in found] == [
    len(row['candidates']) for row in found
  ]


def test_packed_questions_have_the_scores_of_questions_alone(trained):
  workdir, _, _ = trained
  packed = outputs_of(workdir)
  opened = restoring.open_workdir(workdir)
  loaded = restoring.load(workdir)
  for row, scores in zip(read(workdir / 'predictions.jsonl'), packed, strict=True):
    alone = []
    for answer in row['candidates']:
      ids, types = framed(opened.tokenizer, row['text'], answer)
      batch = dict(tokens=np.array([ids]), types=np.array([types]))
      alone.append(float(loaded.model.apply(loaded.params, batch).logits[0]))
    np.testing.assert_allclose(scores, alone, atol=1e-5)


def framed(tokenizer, first, second):
  """A pair of texts as BERT reads it, cut to 16 tokens as the run cuts it."""
  ids, types = [], []
  texts = dict(A=first, B=second)
  for slot, kind in tokenizer.pair:
    own = [slot]
    if slot in texts:
      own = tokenizer.encode(texts[slot], special=False)
    ids += own
    types += [kind] * len(own)
  assert len(ids) <= 16
  return ids, types


def predict(model, source, output):
  train.predict(prediction.Request(str(model), str(source), str(output)))
  return read(output)


def test_a_folder_answers_as_the_run_does(trained, tmp_path):
  workdir, path, _ = trained
  loaded = restoring.load(workdir)
  interop.save(tmp_path / 'hf', loaded)
  said = json.loads((tmp_path / 'hf' / 'config.json').read_text())
  assert said['architectures'] == ['BertForMultipleChoice']
  ours = predict(workdir, path, tmp_path / 'ours.jsonl')
  theirs = predict(tmp_path / 'hf', path, tmp_path / 'theirs.jsonl')
  assert ours == theirs and len(ours) == 48
  known = [row for row in read(path) if row['split'] == 'test']
  held = [row for row, line in zip(ours, rows_of(), strict=True) if line in known]
  lines = read(workdir / 'predictions.jsonl')
  assert [row['label'] for row in held] == [row['prediction'] for row in lines]
  assert all(abs(sum(row['probabilities']) - 1) < 1e-4 for row in ours)


@pytest.mark.parametrize(
  'method',
  [
    'probe',
    *(pytest.param(each, marks=pytest.mark.slow) for each in ('lora', 'prompt')),
  ],
)
def test_other_methods_train_candidates_too(trained, method, tmp_path):
  result = train.transfer(config_of(trained[1], method=method), tmp_path / 'w')
  assert result['n'] == 16 and 0 <= result['metrics']['choice_accuracy'] <= 1


def test_the_best_candidate_is_a_baseline(trained, tmp_path):
  _, path, _ = trained
  made = train.transfer(config_of(path, method='best-candidate'), tmp_path / 'w')
  # The right candidate alone has the animal of the question.
  assert made['metrics'] == {'choice_accuracy': 1.0} and made['labels'] == 0
  shared = outputs_of(tmp_path / 'w')
  # 'a' is in both.
  assert {score for row in shared for score in row} == {1.0, 2.0}
  other = tmp_path / 'a.csv'
  other.write_text('text,label\ngood,1\nbad,0\nfine,1\nawful,0\n')
  with pytest.raises(config.ConfigError, match='best-candidate needs a task with cand'):
    train.transfer(config_of(other, method='best-candidate'), tmp_path / 'x')
