"""Predictions read back: what kind they are, whose examples, and as the metrics take
them.
"""

import json

import pytest

from tl_jax.config import ConfigError
from tl_jax.evals import judged


def line(index=0, **fields):
  return dict(index=index, text=f'text {index}', **fields)


def write(path, lines):
  path.write_text(''.join(json.dumps(each) + '\n' for each in lines))
  return path


def single(predictions, targets, outputs=None):
  """Lines of one label per text."""
  lines = []
  for index, (name, target) in enumerate(zip(predictions, targets, strict=True)):
    more = {} if outputs is None else dict(outputs=outputs[index])
    lines.append(line(index, target=target, prediction=name, **more))
  return lines


@pytest.mark.parametrize(
  ('fields', 'kind'),
  [
    (dict(target='a', prediction='b'), 'single_label'),
    (dict(target=['a'], prediction=[]), 'multi_label'),
    (dict(target=2, prediction=2.5), 'regression'),
    (dict(reference='a', prediction='b'), 'text'),
    (dict(reference=['a', 'c'], prediction='b'), 'text'),
  ],
)
def test_the_kind_is_that_of_the_lines(tmp_path, fields, kind):
  assert judged.read(write(tmp_path / 'p.jsonl', [line(**fields)])).kind == kind


GOOD = line(target='a', prediction='b')
BAD = [
  ([], 'has no predictions'),
  ([GOOD, 'no object'], 'line 2: needs a JSON object'),
  ([GOOD, line(target='a')], 'line 2: needs'),
  ([GOOD, line(target='a', prediction=None)], 'line 2: needs'),
  ([GOOD, line(target=1.0, prediction=1.0)], 'line 2: its target'),
  ([line(target=[1], prediction=[2])], 'line 1: its target'),
]


@pytest.mark.parametrize(('lines', 'said'), BAD)
def test_what_is_no_prediction_is_named_with_its_line(tmp_path, lines, said):
  with pytest.raises(ConfigError, match=said):
    judged.read(write(tmp_path / 'p.jsonl', lines))


def test_bytes_that_are_no_text_are_named(tmp_path):
  path = tmp_path / 'p.jsonl'
  path.write_bytes(b'{"target": "\xff", "prediction": "a"}\n')
  with pytest.raises(ConfigError, match='line 1: needs'):
    judged.read(path)


def test_what_is_not_there_is_named(tmp_path):
  with pytest.raises(ConfigError, match='no such workdir or file'):
    judged.read(tmp_path / 'nobody')
  with pytest.raises(ConfigError, match='tl-jax evaluate --workdir='):
    judged.read(tmp_path)


def test_other_examples_are_refused(tmp_path):
  base = single('ab', 'aa', [[1, 0], [0, 1]])
  first = judged.read(write(tmp_path / 'a.jsonl', base))
  others = {
    'line 2 is of another example': [base[0], base[1] | dict(text='other')],
    'line 1 is of another example': [base[0] | dict(target='b'), base[1]],
    '2 examples and 1': base[:1],
    "of kind 'single_label', the other 'regression'": [
      line(target=1.0, prediction=1.0)
    ],
    'among 2 and 3 labels': [each | dict(outputs=[1, 2, 3]) for each in base],
  }
  for said, lines in others.items():
    second = judged.read(write(tmp_path / 'b.jsonl', lines))
    with pytest.raises(ConfigError, match=said):
      judged.require_same_examples(first, second)
  # Another model may well say something else of the same examples.
  other = [each | dict(prediction='a', outputs=[3, 2]) for each in base]
  second = judged.read(write(tmp_path / 'b.jsonl', other))
  judged.require_same_examples(first, second)


def test_results_of_other_examples_are_refused(tmp_path):
  found = []
  for name, mark in (('a', '1' * 16), ('b', '2' * 16)):
    folder = tmp_path / name
    folder.mkdir()
    write(folder / 'predictions.jsonl', single('ab', 'aa'))
    (folder / 'result.json').write_text(json.dumps(dict(examples=mark)))
    found.append(judged.read(folder))
  with pytest.raises(ConfigError, match='result.json has other examples'):
    judged.require_same_examples(*found)


def test_of_two_labels_the_outputs_tell_which_is_the_second(tmp_path):
  # The names the other way round than the alphabet has them.
  outputs = [[2.0, 1.0], [1.0, 2.0]]
  lines = single(['yes', 'no'], ['no', 'no'], outputs)
  read = judged.read(write(tmp_path / 'p.jsonl', lines))
  assert judged.two_labels(read, read) == ('yes', 'no')
  assert judged.plain(read, read) == ([0, 1], [0, 1], [1, 1])
  # A model that always says the same; the examples know the other label.
  lines = single(['yes', 'yes'], ['no', 'yes'], [[2.0, 1.0], [2.0, 1.0]])
  read = judged.read(write(tmp_path / 'p.jsonl', lines))
  assert judged.two_labels(read, read) == ('yes', 'no')
  untold = judged.read(write(tmp_path / 'q.jsonl', single('ab', 'ab')))
  assert judged.two_labels(untold, untold) is None


def test_models_with_another_order_have_no_second_label_in_common(tmp_path):
  one, two = (
    judged.read(write(tmp_path / f'{place}.jsonl', single('ab', 'ab', outputs)))
    for place, outputs in enumerate([[[2, 1], [1, 2]], [[1, 2], [2, 1]]])
  )
  assert judged.two_labels(one, two) is None


def test_a_label_that_nobody_has_seen_is_a_column(tmp_path):
  lines = [line(target=['b'], prediction=['a', 'b'], outputs=[1, 1, -1])]
  read = judged.read(write(tmp_path / 'p.jsonl', lines))
  assert judged.plain(read, read) == ([[1, 1, 0]], [[1, 1, 0]], [[0, 1, 0]])


def test_the_headline_is_that_of_the_task_or_its_config(tmp_path):
  write(tmp_path / 'predictions.jsonl', single('ab', 'aa'))
  result = tmp_path / 'result.json'
  result.write_text(json.dumps(dict(task='own.csv')))
  assert judged.read(tmp_path).headline == 'accuracy'
  result.write_text(json.dumps(dict(task='mrpc')))
  assert judged.read(tmp_path).headline == 'f1'
  choice = dict(config=dict(task=dict(metrics=['f1', 'accuracy'])))
  (tmp_path / 'config.json').write_text(json.dumps(choice))
  assert judged.read(tmp_path).headline == 'f1_macro'
