"""Answers in passages from a file to predictions, packed or not, and as a folder."""

import json

import numpy as np
import pytest
from tiny_runs import SMALL

from tl_jax import config, data, interop, train
from tl_jax.config import ConfigError
from tl_jax.data.passages import PassageQuestion
from tl_jax.evals import comparing
from tl_jax.tasks.problems import span
from tl_jax.train import evaluation, prediction, restoring

PLACES = ('Oslo', 'New York', 'Rome')
NAMES = ('Ann', 'Bob', 'Cleo')


def question_of(number):
  """A question, every eighth on a passage of several rows, every fifth without an
  answer.
  """
  text = ''
  for turn in range(9 if number % 8 == 7 else 2):
    text += f'{NAMES[(number + turn) % 3]} ran {turn} times. '
  answers = dict(text=[], answer_start=[])
  if number % 5:
    place = PLACES[number % 3]
    answers = dict(text=[place], answer_start=[len(text) + 8])
    text += f'She saw {place}. '
  split = 'test' if number % 4 == 3 else 'train'
  return dict(
    id=f'q{number}',
    question=f'Which town {number % 7}?',
    context=text.strip(),
    answers=answers,
    split=split,
  )


def config_of(path, *more, **arguments):
  given = dict(task=path, init='scratch', **arguments)
  named = ','.join(f'{name}={value}' for name, value in given.items())
  size = dict(family='bert-tiny', layers=1, width=16, heads=2, mlp=16)
  own = [('model', str(size)), ('optim.lr', '0.02'), ('schedule.steps', '60')]
  longer = [('data.length', '32'), *more]
  return config.load(f'configs/transfer.py:{named}', [*SMALL, *own, *longer])


def read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, file, result) of a transfer to spans."""
  folder = tmp_path_factory.mktemp('spans')
  path = folder / 'towns.jsonl'
  path.write_text('\n'.join(json.dumps(question_of(number)) for number in range(80)))
  result = train.transfer(config_of(path), folder / 'w')
  return folder / 'w', path, result


def test_a_run_answers_from_long_passages_or_says_that_there_is_nothing(trained):
  workdir, path, result = trained
  lines = read(workdir / 'predictions.jsonl')
  test = [row for row in read(path) if row['split'] == 'test']
  assert [line['id'] for line in lines] == [row['id'] for row in test]
  found = result['metrics']
  assert result['n'] == 20 and found['squad_v2_f1'] > 0.6
  assert found['squad_v2_best_f1'] >= found['squad_v2_f1']
  low, high = result['intervals']['squad_v2_f1']
  assert low <= found['squad_v2_f1'] <= high
  # Of both kinds some, and of the long ones some.
  right = [line for line in lines if line['prediction'] in (line['target'] or [''])]
  assert {bool(line['target']) for line in right} == {True, False}
  assert any(len(line['passage']) > 150 for line in right if line['target'])
  for line in lines:
    if line['prediction']:
      assert line['passage'][line['start'] :].strip().startswith(line['prediction'])


def test_packed_windows_have_the_outputs_of_windows_alone(trained):
  workdir, _, _ = trained
  tokenizer = restoring.open_workdir(workdir).tokenizer
  loaded = restoring.load(workdir)
  for line in read(workdir / 'predictions.jsonl'):
    asked = PassageQuestion(line['question'], line['passage'])
    encoded, _ = data.extracts.encode([asked], tokenizer, 32)
    found = []
    for window in encoded.windows:
      batch = dict(tokens=window.ids[None], types=window.types[None])
      logits = np.asarray(loaded.model.apply(loaded.params, batch).logits)[0]
      found.append(logits[window.columns])
    (raw,) = span.collect(np.concatenate(found), encoded, np.array([0]))
    np.testing.assert_allclose(raw[:2, 2], line['outputs'], atol=1e-5)
    has_answer = span.doubt_of(raw) <= 0
    assert line['prediction'] == (span.text_of(raw, asked.second) if has_answer else '')


def predict(model, source, output, **more):
  train.predict(prediction.Request(str(model), str(source), str(output), **more))
  return output


def test_a_run_answers_files_of_questions(trained, tmp_path):
  workdir, path, _ = trained
  ours = read(predict(workdir, path, tmp_path / 'ours.jsonl'))
  held = [
    row for row, line in zip(ours, read(path), strict=True) if line['split'] == 'test'
  ]
  lines = read(workdir / 'predictions.jsonl')
  assert [row['answer'] for row in held] == [line['prediction'] for line in lines]
  assert [row['id'] for row in held] == [line['id'] for line in lines]
  for row, line in zip(held, lines, strict=True):
    assert 0 <= row['no_answer'] <= 1
    if row['answer']:
      assert line['passage'][row['start'] : row['end']].strip() == row['answer']
  table = predict(workdir, path, tmp_path / 'ours.csv').read_text().splitlines()
  assert table[0] == 'index,id,answer,start,end,probability,no_answer'


def test_the_columns_of_questions_may_be_said(trained, tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text(json.dumps(dict(q='Which town 1?', page='She saw Rome.')))
  (row,) = read(predict(trained[0], path, tmp_path / 'b.jsonl', text='q+page'))
  assert row['id'] == '' and row['answer'] in 'She saw Rome.'
  with pytest.raises(ValueError, match='no question with a passage'):
    predict(trained[0], path, tmp_path / 'c.jsonl')


def test_evaluation_says_the_same(trained):
  workdir, _, result = trained
  found = evaluation.evaluate(workdir)
  assert found['metrics'] == pytest.approx(result['metrics'])


def test_a_folder_answers_as_the_run_does(trained, tmp_path):
  workdir, path, _ = trained
  loaded = restoring.load(workdir)
  interop.save(tmp_path / 'hf', loaded)
  said = json.loads((tmp_path / 'hf' / 'config.json').read_text())
  assert said['architectures'] == ['BertForQuestionAnswering']
  short = tmp_path / 'short.jsonl'
  # A folder has longer rows than the run, so that what it sees of long ones differs.
  rows = [row for row in read(path) if len(row['context']) < 80]
  short.write_text('\n'.join(map(json.dumps, rows)))
  ours = read(predict(workdir, short, tmp_path / 'ours.jsonl'))
  theirs = read(predict(tmp_path / 'hf', short, tmp_path / 'theirs.jsonl'))
  for own, other, row in zip(ours, theirs, rows, strict=True):
    assert own['no_answer'] == pytest.approx(other['no_answer'], abs=1e-5)
    # A folder does not say whether a question may have no answer.
    if own['answer']:
      assert own['answer'] == other['answer']
    assert row['context'][other['start'] : other['end']].strip() == other['answer']
  _compare_with_transformers(tmp_path / 'hf', rows, theirs)


def _compare_with_transformers(folder, rows, answers):
  """The best span by the reference's own scores of the tokens of the passage."""
  transformers = pytest.importorskip('transformers')
  torch = pytest.importorskip('torch')
  model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder)
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  for row, answer in zip(rows[:12], answers, strict=False):
    framed = tokenizer(
      row['question'], row['context'], return_tensors='pt', return_offsets_mapping=True
    )
    places = framed.pop('offset_mapping')[0].tolist()
    inside = [number == 1 for number in framed.sequence_ids(0)]
    with torch.no_grad():
      found = model(**framed)
    starts, ends = found.start_logits[0].tolist(), found.end_logits[0].tolist()
    best = {}
    for first in range(len(starts)):
      for last in range(first, len(starts)):
        if inside[first] and inside[last]:
          best[first, last] = starts[first] + ends[last]
    first, last = max(best, key=best.get)
    text = row['context'][places[first][0] : places[last][1]]
    assert text.strip() == answer['answer']


@pytest.mark.parametrize(
  'method',
  [
    'probe',
    *(pytest.param(each, marks=pytest.mark.slow) for each in ('lora', 'prompt')),
  ],
)
def test_other_methods_train_spans_too(trained, method, tmp_path):
  steps = ('schedule.steps', '2')
  result = train.transfer(config_of(trained[1], steps, method=method), tmp_path / 'w')
  assert result['n'] == 20 and 0 <= result['metrics']['squad_v2_f1'] <= 1


def test_the_run_says_how_long_an_answer_may_be(trained, tmp_path):
  more = [('data.target_length', '1'), ('schedule.steps', '2')]
  train.transfer(config_of(trained[1], *more), tmp_path / 'w')
  lines = read(tmp_path / 'w' / 'predictions.jsonl')
  rows = read(predict(tmp_path / 'w', trained[1], tmp_path / 'a.jsonl'))
  found = [line['prediction'] for line in lines] + [row['answer'] for row in rows]
  assert len(set(found)) > 1
  # One token is a word at most.
  assert not any(' ' in text for text in found)


def test_the_best_sentence_is_a_baseline(trained, tmp_path):
  made = train.transfer(config_of(trained[1], method='best-sentence'), tmp_path / 'w')
  # It always answers, with more words than the right ones.
  assert made['metrics']['squad_v2_no_answer_f1'] == 0.0
  assert made['metrics']['squad_v2_exact_match'] == 0.0 and made['labels'] == 0
  path = tmp_path / 'a.csv'
  path.write_text('text,label\ngood,1\nbad,0\nfine,1\nawful,0\n')
  with pytest.raises(ConfigError, match='best-sentence needs a task with answers that'):
    train.transfer(config_of(path, method='best-sentence'), tmp_path / 'x')


def test_two_runs_are_compared(trained, tmp_path):
  train.transfer(config_of(trained[1], method='best-sentence'), tmp_path / 'w')
  found = comparing.compare(comparing.pair(trained[0], tmp_path / 'w'), samples=100)
  first = found.comparisons[0]
  assert first.metric == 'squad_v2_f1' and found.n == 20
  assert first.difference.mean > 0


def test_a_part_of_the_train_split_is_watched(trained, tmp_path):
  more = [('eval.every', '2'), ('schedule.steps', '4'), ('task.holdout', '8')]
  made = train.transfer(config_of(trained[1], *more, labels=8), tmp_path / 'w')
  assert made['labels'] == 8 and 'squad_v2_f1' in made['metrics']


def test_a_model_without_a_frame_for_two_texts_is_refused(trained, tmp_path):
  with pytest.raises(ConfigError, match="'span'"):
    c = config_of(trained[1])
    c.model = dict(family='tiny-gpt', layers=1, width=16, heads=2, mlp=16)
    train.transfer(c, tmp_path / 'w')
