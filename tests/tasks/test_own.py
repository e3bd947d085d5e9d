"""Tasks from files of the user: kinds, classes by name, columns, splits."""

import dataclasses
import json
import re

import numpy as np
import pytest

from tl_jax import tasks
from tl_jax.config import ConfigError
from tl_jax.train.settings import TaskChoice


def write(folder, rows, name='a.jsonl'):
  path = folder / name
  path.write_text('\n'.join(map(json.dumps, rows)))
  return str(path)


def rows_of(labels, column='label', test=2):
  """A row for each label; the last `test` are of the test split."""
  return [
    {
      'text': f'text {place}',
      column: label,
      'split': 'test' if place >= len(labels) - test else 'train',
    }
    for place, label in enumerate(labels)
  ]


def test_scores_are_regression_and_it_is_said(tmp_path):
  task = tasks.find(write(tmp_path, rows_of([4.75, 1, 2.5, 3.0])))
  assert (task.problem.name, task.outputs, task.headline) == (
    'regression',
    1,
    'pearson',
  )
  assert task.told == (
    f'{task.name}: label: numbers from 1 to 4.75, regression; kind=single_label makes a '
    'class of each',
  )
  np.testing.assert_allclose(tasks.labelled(task, 'train')[1], [[4.75], [1.0]])
  same = np.array([[1.0], [2.0], [4.0]])
  assert tasks.score(task, same, same)['mean_squared_error'] == 0
  asked = tasks.find(
    write(tmp_path, rows_of([4.75, 1, 4.75, 1])), how=tasks.Reading(kind='single_label')
  )
  # Whoever said the kind is not told of others.
  assert asked.labels == ('1', '4.75')
  assert asked.told == (f"{task.name}: label: 2 classes ('1' 2, '4.75' 2)",)


@pytest.mark.parametrize(
  ('values', 'how', 'holds'),
  [
    ('abbac', {}, "3 classes ('a' 2, 'b' 2, 'c' 1)"),
    ('aabbb', {}, "2 classes ('b' 3, 'a' 2)"),
    ('abcdefghijkk', {}, "11 classes ('k' 2, 'a' 1, .*, 'g' 1, 3 more)"),
    ([1, 2, 3, 3], {}, '3 classes .*; kind=regression predicts numbers'),
    ([1, 0, 1], {}, "2 classes ('1' 2, '0' 1)"),
    ([1, 0, 3], dict(kind='regression'), 'numbers from 0 to 3, regression'),
    ([['a', 'b'], [], ['b']], {}, "sets of 2 classes ('b' 2, 'a' 1)"),
    (['A b c', ['d e', ' f ']], dict(target='label'), 'texts of 1 to 3 words'),
    (['a', 'b'], dict(target='label'), 'texts of 1 word'),
  ],
)
def test_what_a_column_holds_is_told(tmp_path, values, how, holds):
  rows = rows_of(list(values), test=1)
  task = tasks.find(write(tmp_path, rows), how=tasks.Reading(**how))
  pattern = re.escape(f'{task.name}: label: {holds}').replace(re.escape('.*'), '.*')
  assert re.fullmatch(pattern, task.told[-1])


def test_a_file_with_some_of_a_models_classes_says_how_many(tmp_path):
  known = tasks.Known('single_label', ('c', 'b', 'a'))
  task = tasks.find(write(tmp_path, rows_of('abb', test=1)), known=known)
  assert task.told[-1].endswith("label: 2 of the 3 classes of the model ('b' 2, 'a' 1)")


@pytest.mark.parametrize('mark', ['|', ';', ', '])
def test_labels_that_may_be_several_are_refused_with_both_choices(tmp_path, mark):
  path = write(tmp_path, rows_of(['x', f'x{mark}y', 'z', 'y']))
  message = f"a.jsonl:2: label: 'x{mark}y' may be one label or several, as 'x' is"
  with pytest.raises(ConfigError, match=re.escape(message)) as error:
    tasks.find(path)
  assert 'kind=multi_label if several, kind=single_label if one' in str(error.value)
  found = {}
  for kind in ('multi_label', 'single_label'):
    found[kind] = tasks.find(path, how=tasks.Reading(kind=kind)).labels
  assert found['multi_label'] == ('x', 'y', 'z')
  assert found['single_label'] == ('x', f'x{mark}y', 'y', 'z')
  # What is a name everywhere is one.
  path = write(tmp_path, rows_of([f'x{mark}y', 'z', f'x{mark}y', 'z']))
  assert tasks.find(path).labels == (f'x{mark}y', 'z')


def test_one_class_in_two_spellings_is_one(tmp_path):
  task = tasks.find(write(tmp_path, rows_of(['1', 0, 1.0, '0.0'])))
  assert task.labels == ('0', '1')
  assert tasks.labelled(task, 'train')[1].tolist() == [1, 0]
  assert tasks.labelled(task, 'test')[1].tolist() == [1, 0]
  with pytest.raises(
    ConfigError, match=r"a.jsonl:3: label: '1' beside 'false', 'true'"
  ):
    tasks.find(write(tmp_path, rows_of([True, False, 1, 0.0, 'true', 'false'])))


def test_lists_of_labels_are_sets_whatever_their_order(tmp_path):
  task = tasks.find(
    write(
      tmp_path,
      rows_of([['speed', 'price'], ['price'], [], ['price', 'speed'], ['speed']]),
    )
  )
  assert (task.problem.name, task.labels) == ('multi_label', ('price', 'speed'))
  assert tasks.labelled(task, 'train')[1].tolist() == [[1, 1], [1, 0], [0, 0]]
  assert tasks.labelled(task, 'test')[1].tolist() == [[1, 1], [0, 1]]
  with pytest.raises(
    ConfigError, match='a.jsonl:1: label: a list of labels; say kind=multi_label'
  ):
    tasks.find(task.name, how=tasks.Reading(kind='single_label'))


def test_indicators_and_columns_of_indicators(tmp_path):
  task = tasks.find(
    write(tmp_path, rows_of([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]]))
  )
  # The third class has no example, and is a class.
  assert task.labels == ('0', '1', '2')
  assert tasks.labelled(task, 'train')[1].tolist() == [[1, 1, 0], [0, 1, 0]]
  path = tmp_path / 'b.csv'
  path.write_text('text,price,speed,split\na,1,0,train\nb,0,0,train\nc,2,1,test\n')
  with pytest.raises(ValueError, match='b.csv:4: price: .2.'):
    tasks.find(str(path), how=tasks.Reading(label='speed+price'))
  path.write_text(path.read_text().replace('c,2,', 'c,1.0,'))
  task = tasks.find(str(path), how=tasks.Reading(label='speed+price'))
  assert (task.problem.name, task.labels) == ('multi_label', ('speed', 'price'))
  assert tasks.labelled(task, 'test')[1].tolist() == [[1, 1]]


def test_several_labels_in_a_cell_are_said(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('text,label,split\na,x|y,train\nb,,train\nc,y,test\n')
  with pytest.raises(ValueError, match='a.csv:3: label: empty'):
    tasks.find(str(path))
  task = tasks.find(str(path), how=tasks.Reading(kind='multi_label'))
  assert tasks.labelled(task, 'train')[1].tolist() == [[1, 1], [0, 0]]


def test_columns_of_other_names(tmp_path):
  path = tmp_path / 'a.TSV'
  path.write_text('title\tbody\tmood\nHi\tyou\tgood\nHo\tthey\tbad\nHa\twe\tgood\n')
  task = tasks.find(str(path), how=tasks.Reading(text='title+body', label='mood'))
  assert task.labels == ('bad', 'good')
  texts = [
    text for split in ('train', 'test') for text in tasks.labelled(task, split)[0]
  ]
  assert 'title: Hi\nbody: you' in texts
  with pytest.raises(
    ValueError, match='a.TSV:1: text: no such column; it has title, body, mood'
  ):
    tasks.find(str(path))
  with pytest.raises(
    ValueError, match='a.TSV:1: label: no such column; it has title, body, mood'
  ):
    tasks.find(str(path), how=tasks.Reading(text='body'))


def test_files_of_the_splits(tmp_path):
  rows = [{'text': f'text {place}', 'label': place % 2} for place in range(8)]
  train, test = (
    write(tmp_path, rows, 'train.jsonl'),
    write(tmp_path, rows[::-1], 'te+st.jsonl'),
  )
  count = lambda task: [
    len(tasks.labelled(task, split)[0]) for split in ('train', 'test')
  ]
  assert count(tasks.find(train, how=tasks.Reading(test=test))) == [8, 8]
  assert count(tasks.find(train, how=tasks.Reading(test=test.replace('+', r'\+')))) == [
    8,
    8,
  ]
  assert count(tasks.find(train, how=tasks.Reading(validation=test))) == [8, 8]
  # The file that is named for training has the test too, where no other has it.
  alone = tasks.find(train, how=tasks.Reading(train=train))
  assert sum(count(alone)) == 8
  assert not {*tasks.labelled(alone, 'train')[0]} & {*tasks.labelled(alone, 'test')[0]}
  both = tasks.find(train, how=tasks.Reading(validation=train, test=test))
  assert both.validates and len(tasks.labelled(both, 'validation')[0]) == 8
  with pytest.raises(ValueError, match='never.csv: no such file'):
    tasks.find(train, how=tasks.Reading(validation='never.csv', test=test))
  divided = tasks.find(train)
  assert sum(count(divided)) == 8 and 'no column split; by the hash' in divided.told[0]
  # Which examples are for test depends on the texts, not on their order.
  again = tasks.find(write(tmp_path, rows[::-1], 'other.jsonl'))
  assert sorted(tasks.labelled(again, 'test')[0]) == sorted(
    tasks.labelled(divided, 'test')[0]
  )
  with pytest.raises(ConfigError, match='config.task.files.test: no.*no such file'):
    tasks.find(train, how=tasks.Reading(test='no+thing.csv'))


def test_a_split_for_validation_is_the_test_where_there_is_none(tmp_path):
  rows = rows_of(['a', 'b', 'a', 'b'])
  for row in rows[2:]:
    row['split'] = 'dev'
  task = tasks.find(write(tmp_path, rows))
  assert len(tasks.labelled(task, 'test')[0]) == 2 and not task.validates


@pytest.mark.parametrize('name', ['validation', 'valid', 'dev', 'val'])
def test_examples_for_validation_beside_a_test_are_a_split(tmp_path, name):
  rows = rows_of(['a', 'b', 'a', 'b', 'a'])
  rows[-1]['split'] = name
  task = tasks.find(write(tmp_path, rows))
  texts = {split: tasks.labelled(task, split)[0] for split in task.splits}
  assert {split: len(found) for split, found in texts.items()} == dict(
    train=3, test=1, validation=1
  )
  assert texts['validation'] == [rows[-1]['text']]
  assert task.validates
  assert not any('split' in line for line in task.told)


def test_a_label_column_with_a_plus_in_its_name_is_one_column(tmp_path):
  path = write(tmp_path, rows_of(['x', 'y', 'x', 'y'], column='good+bad'))
  task = tasks.find(path, how=tasks.Reading(label=r'good\+bad'))
  assert (task.problem.name, task.labels) == ('single_label', ('x', 'y'))


def test_labels_of_a_model_are_matched_by_name(tmp_path):
  known = tasks.Known('single_label', ('neg', 'neu', 'pos'))
  subset = tasks.find(
    write(tmp_path, rows_of(['pos', 'neg', 'pos', 'neg'])), known=known
  )
  assert subset.labels == known.labels
  assert tasks.labelled(subset, 'test')[1].tolist() == [2, 0]
  one = tasks.find(write(tmp_path, rows_of(['pos'] * 4)), known=known)
  assert tasks.labelled(one, 'test')[1].tolist() == [2, 2]
  with pytest.raises(
    ConfigError,
    match=r"a.jsonl:2: label: 'aaa', 'zzz' not among .*: 'neg', 'neu', 'pos'",
  ):
    tasks.find(write(tmp_path, rows_of(['pos', 'zzz', 'aaa', 'neg'])), known=known)
  numbers = tasks.Known('regression', ('label',))
  # Whole numbers, but of a model that predicts them.
  assert (
    tasks.find(write(tmp_path, rows_of([1, 2, 3, 4])), known=numbers).problem.name
    == 'regression'
  )


def test_labels_of_a_set_are_matched_by_name_too():
  swapped = tasks.find(
    'sentiment', known=tasks.Known('single_label', ('positive', 'other', 'negative'))
  )
  plain = tasks.find('sentiment')
  wanted = np.where(tasks.labelled(plain, 'test')[1] == 0, 2, 0)
  np.testing.assert_array_equal(tasks.labelled(swapped, 'test')[1], wanted)
  with pytest.raises(
    ConfigError,
    match="'Emma'.* not among the labels that the model was trained on: 'a', 'b'",
  ):
    tasks.find('novel', known=tasks.Known('single_label', ('a', 'b')))
  with pytest.raises(ConfigError, match='intensity is of kind .regression.'):
    tasks.find('intensity', known=tasks.Known('single_label', ('a', 'b')))


def test_parts_of_a_model_of_several_tasks_keep_their_labels(tmp_path):
  one = write(tmp_path, rows_of(['a', 'b', 'c', 'a']), 'one.jsonl')
  two = write(tmp_path, rows_of(['x', 'y', 'x', 'y']), 'two.jsonl')
  both = tasks.find(f'{one}+{two}')
  known = tasks.Known(both.problem.name, both.labels)
  # One class is gone from the file, and is one of the model's all the same.
  write(tmp_path, rows_of(['a', 'c', 'c', 'a']), 'one.jsonl')
  again = tasks.find(f'{one}+{two}', known=known)
  assert again.labels == both.labels and again.groups == both.groups == ((0, 3), (3, 5))
  assert tasks.labelled(again, 'test')[1].tolist() == [2, 0, 3, 4]


def test_names_of_files_with_a_plus(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ('c++.jsonl', 'b.jsonl'):
    write(tmp_path, rows_of(['x', 'y', 'x', 'y']), name)
  assert (
    tasks.find('c++.jsonl').labels == tasks.find(r'c\+\+.jsonl').labels == ('x', 'y')
  )
  assert [part.name for part in tasks.find(r'c\+\+.jsonl+b.jsonl').parts] == [
    'c++.jsonl',
    'b.jsonl',
  ]
  with pytest.raises(
    ConfigError, match="'d' of d.*: no such task or file; a .+ in the"
  ):
    tasks.find('d+.csv')
  with pytest.raises(ConfigError, match='d.*: no name on one side of a .; leave'):
    tasks.find('d++.jsonl')
  write(tmp_path, [], 'notes.doc')
  with pytest.raises(ConfigError, match="the ending '.doc' is none of .csv, .tsv"):
    tasks.find('notes.doc')
  with pytest.raises(ConfigError, match='label= is of files; sentiment is none'):
    tasks.find('sentiment', how=tasks.Reading(label='mood'))
  with pytest.raises(
    ValueError, match="kind: 'single' is not a choice; nearest: 'single_label'"
  ):
    tasks.Reading(kind='single')


@pytest.mark.parametrize(
  ('like', 'labels', 'values', 'target'),
  [
    ('regression', ('label',), ['0,5', '2,5', 'None', '1,5', '3,5'], 1.5),
    ('multi_label', ('x', 'y'), ['x', '', 'y', 'x', 'x|y'], (1, 0)),
    ('single_label', ('x', 'y'), ['x', 'y', 'x', 'y', 'x'], 1),
  ],
)
def test_a_file_is_read_by_the_form_of_its_kind_not_by_its_name(
  like, labels, values, target, tmp_path, monkeypatch
):
  mine = dataclasses.replace(tasks.PROBLEMS[like], name='mine')
  monkeypatch.setitem(tasks.PROBLEMS, 'mine', mine)
  path = write(tmp_path, rows_of(values))
  found = [tasks.find(path, known=tasks.Known(kind, labels)) for kind in ('mine', like)]
  assert found[0].problem is mine and found[0].told == found[1].told
  targets = [tasks.labelled(task, 'test')[1].tolist() for task in found]
  assert targets[0] == targets[1]
  np.testing.assert_array_equal(np.ravel(targets[0][0]), np.ravel(target))


def test_the_kinds_that_a_config_may_say_are_those_of_the_table():
  for kind in tasks.PROBLEMS:
    target = 'a' if kind == 'text' else ''
    how = tasks.Reading(kind=kind, target=target)
    assert how.kind == TaskChoice('a.csv', kind=kind).kind


def test_texts_to_write_may_be_said_as_a_kind_and_need_their_column(tmp_path):
  path = write(tmp_path, rows_of(['A b', 'c d', 'e']))
  task = tasks.find(path, how=tasks.Reading(kind='text', target='label'))
  assert task.problem.name == 'text'
  with pytest.raises(ConfigError, match="config.task.kind: 'text': .* target=COLUMN"):
    tasks.Reading(kind='text')


def test_classes_that_a_parquet_file_names(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import parquet

  names = dict(names=['ham', 'spam', 'other'], _type='ClassLabel')
  metadata = {'huggingface': json.dumps(dict(info=dict(features=dict(label=names))))}
  table = pyarrow.table(
    dict(text=['a', 'b', 'c'], label=[1, 0, 1], split=['train', 'train', 'test'])
  )
  parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / 'a.parquet')
  task = tasks.find(str(tmp_path / 'a.parquet'))
  assert task.labels == ('ham', 'spam', 'other')
  assert tasks.labelled(task, 'train')[1].tolist() == [1, 0]
  # A model that has them in another order gets them by name, not by number.
  known = tasks.Known('single_label', ('other', 'spam', 'ham'))
  tried = tasks.find(str(tmp_path / 'a.parquet'), known=known)
  assert tried.labels == known.labels
  assert tasks.labelled(tried, 'train')[1].tolist() == [1, 2]


def folder_of(tmp_path, **files):
  """A folder with these files, of which each has rows of two classes."""
  for number, (name, texts) in enumerate(files.items()):
    path = tmp_path / 'set' / name.replace('__', '/').replace('_', '.')
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f'{text}{number},{"ab"[text % 2]}' for text in range(texts)]
    path.write_text('\n'.join(['text,label', *rows]))
  return str(tmp_path / 'set')


def test_a_folder_of_tables_is_one_task_whose_names_say_the_splits(tmp_path):
  path = folder_of(tmp_path, train_csv=6, more__train_csv=4, test_csv=2, dev_csv=3)
  task = tasks.find(path)
  found = {
    split: len(tasks.labelled(task, split)[0])
    for split in ('train', 'validation', 'test')
  }
  assert found == dict(train=10, validation=3, test=2)
  assert task.labels == ('a', 'b')
  assert f'{path}: 4 files; their names say the splits' in task.told
  assert len(task.own_sources[0].files) == 4


def test_a_folder_whose_names_say_nothing_is_divided_by_its_texts(tmp_path):
  path = folder_of(tmp_path, one_csv=9, two_csv=8)
  task = tasks.find(path)
  assert sum(len(tasks.labelled(task, split)[0]) for split in ('train', 'test')) == 17
  assert any('no column split; by the hash' in line for line in task.told)
  folder_of(tmp_path, test_csv=2)
  with pytest.raises(ValueError, match='split: given on some lines and not on others'):
    tasks.find(path)


def test_a_folder_that_a_library_prepared_is_no_table_of_the_user(tmp_path):
  path = folder_of(tmp_path, train_csv=6, test_csv=2)
  (tmp_path / 'set' / 'dataset_info.json').write_text('{}')
  with pytest.raises(ValueError, match='a library prepared it .dataset_info.json.'):
    tasks.find(path)


def test_files_that_number_their_classes_otherwise_are_refused(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import parquet

  for split, names in (('train', ['ham', 'spam']), ('test', ['spam', 'ham'])):
    features = dict(label=dict(names=names, _type='ClassLabel'))
    metadata = {'huggingface': json.dumps(dict(info=dict(features=features)))}
    table = pyarrow.table(dict(text=['a', 'b'], label=[1, 0]))
    table = table.replace_schema_metadata(metadata)
    parquet.write_table(table, tmp_path / f'{split}-00000-of-00001.parquet')
  with pytest.raises(ValueError, match='train-.* names its classes otherwise than'):
    tasks.find(str(tmp_path))


def write_carets(folder, name, rows=4, delimiter='^'):
  """A file with `rows` examples, the texts of which hold commas."""
  lines = ['text^label', *(f'{name}, {row}^{"ab"[row % 2]}' for row in range(rows))]
  path = folder / name
  path.write_text('\n'.join(lines).replace('^', delimiter))
  return str(path)


@pytest.mark.parametrize(
  ('delimiter', 'said'), [('^', '^'), ('\t', 'tab'), (' & ', '&'), (';', 'semicolon')]
)
def test_a_delimiter_that_is_said_parts_the_files_of_all_splits(
  tmp_path, delimiter, said
):
  train = write_carets(tmp_path, 'train.txt', 6, delimiter)
  test = write_carets(tmp_path, 'test.csv', 4, delimiter)
  task = tasks.find(train, how=tasks.Reading(delimiter=said, test=test))
  assert len(tasks.labelled(task, 'train')[0]) == 6
  texts, targets = tasks.labelled(task, 'test')
  assert texts[1].strip() == 'test.csv, 1'
  assert targets.tolist() == [0, 1, 0, 1]


def test_conversations_are_parted_by_a_delimiter_that_is_said(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('prompt^completion\nhow, now^so, so\nand, you^well, well\n')
  task = tasks.find(str(path), how=tasks.Reading(delimiter='^'))
  assert task.problem.name == 'conversation'


def test_a_header_that_nothing_usual_parts_names_the_delimiter(tmp_path):
  path = write_carets(tmp_path, 'a.csv')
  with pytest.raises(
    ConfigError, match=r'it has text\^label; delimiter=\^ may part it$'
  ):
    tasks.find(path, how=tasks.Reading(text='text'))
  both = tmp_path / 'both.csv'
  both.write_text('x;text;label;y,text,label,z\na;b;c;d,e,f,g\n')
  with pytest.raises(ConfigError, match='with either; delimiter=CHARACTER says by wh'):
    tasks.find(str(both), how=tasks.Reading(text='text'))


def test_a_delimiter_is_refused_where_nothing_is_parted_by_it(tmp_path):
  path = write(tmp_path, rows_of(['a', 'b', 'a', 'b']))
  how = tasks.Reading(delimiter='^')
  with pytest.raises(ConfigError, match=r"task.delimiter: '\^' is of .csv, .* is none"):
    tasks.find(path, how=how)
  with pytest.raises(ConfigError, match='delimiter= is of files; sentiment is none'):
    tasks.find('sentiment', how=how)
  with pytest.raises(ConfigError, match=r"config.task.delimiter: '\^\^' is not a sing"):
    tasks.Reading(delimiter='^^')
  # One of the files is enough: the others say themselves what parts them.
  test = write_carets(tmp_path, 'test.csv')
  task = tasks.find(path, how=tasks.Reading(delimiter='^', test=test))
  assert len(tasks.labelled(task, 'test')[0]) == 4
