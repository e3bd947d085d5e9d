"""Rows without a label: left out and told, refused if they are many."""

import json

import numpy as np
import pytest

from tl_jax import tasks
from tl_jax.config import ConfigError

TOLD = '{path}: {count} of {total} rows have no label: left out (label: {spelled})'


def write(folder, content, name='a.csv'):
  path = folder / name
  path.write_bytes(content)
  return str(path)


def texts_of(task):
  return sorted(
    text for split in ('train', 'test') for text in tasks.labelled(task, split)[0]
  )


def rows_of(*labels):
  """A CSV with these labels, of texts a, b, c and so on."""
  lines = [f'{chr(97 + place)},{label}' for place, label in enumerate(labels)]
  return '\n'.join(['text,label', *lines, '']).encode()


@pytest.mark.parametrize(
  'cell', ['', ' ', 'nan', 'NaN', 'NAN', '<NA>', 'null', 'NULL', '#N/A', '\\N']
)
@pytest.mark.parametrize(
  'names', [('pos', 'neg'), ('1', '0'), ('1.0', '0.0'), ('0.5', '2.5')]
)
def test_a_cell_that_says_nothing_is_no_label(tmp_path, cell, names):
  path = write(tmp_path, rows_of(names[0], names[1], cell, *names, *names))
  task = tasks.find(path)
  assert texts_of(task) == ['a', 'b', 'd', 'e', 'f', 'g']
  assert len(task.labels) == (1 if '0.5' in names else 2)
  spelled = repr(cell) if cell.strip() else 'empty'
  assert TOLD.format(path=path, count=1, total=7, spelled=spelled) in task.told


def test_null_and_nan_of_json_are_no_labels(tmp_path):
  labels = [1, 0, None, float('nan'), 1, 0, 1]
  rows = [{'text': f't{n}', 'label': label} for n, label in enumerate(labels)]
  lines = '\n'.join(map(json.dumps, rows)).encode()
  for name, content in (
    ('a.jsonl', lines),
    ('a.json', json.dumps(rows).encode()),
  ):
    path = write(tmp_path, content, name)
    task = tasks.find(path)
    assert (len(texts_of(task)), task.labels) == (5, ('0', '1'))
    spelled = "empty, 'nan'"
    assert TOLD.format(path=path, count=2, total=7, spelled=spelled) in task.told
  # A row without the field itself is a broken one.
  path = write(tmp_path, lines + b'\n{"text": "t"}', 'a.jsonl')
  with pytest.raises(ValueError, match='a.jsonl:8: label: missing; the line has text'):
    tasks.find(path)


def test_null_and_nan_of_parquet_are_no_labels(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import parquet

  path = str(tmp_path / 'a.parquet')
  texts = list('abcdefg')
  for labels in (
    ['x', 'y', None, 'x', 'y', 'x', 'y'],
    [1.0, 0.0, float('nan'), 1.0, 0.0, 1.0, 0.0],
    [0.5, 1.5, None, 1.0, 0.0, 1.0, 0.0],
  ):
    parquet.write_table(pyarrow.table({'text': texts, 'label': labels}), path)
    task = tasks.find(path)
    assert texts_of(task) == ['a', 'b', 'd', 'e', 'f', 'g']
    assert any('1 of 7 rows have no label' in line for line in task.told)


def test_minus_one_is_no_class_where_a_file_names_its_classes(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import parquet

  features = dict(label=dict(names=['ham', 'spam'], _type='ClassLabel'))
  metadata = {'huggingface': json.dumps(dict(info=dict(features=features)))}
  table = pyarrow.table(dict(text=list('abcde'), label=[1, 0, -1, 1, 0]))
  path = tmp_path / 'a.parquet'
  parquet.write_table(table.replace_schema_metadata(metadata), path)
  task = tasks.find(str(path))
  assert (task.labels, texts_of(task)) == (('ham', 'spam'), ['a', 'b', 'd', 'e'])
  line = TOLD.format(path=path, count=1, total=5, spelled="'-1'")
  assert line in task.told


@pytest.mark.parametrize('word', ['None', 'none', 'N/A', 'n/a', 'NA'])
def test_none_is_a_class_among_texts_and_told_and_missing_among_numbers(tmp_path, word):
  path = write(tmp_path, rows_of('pos', word, 'pos', word, 'pos', 'pos'))
  task = tasks.find(path)
  assert set(task.labels) == {'pos', word} and len(texts_of(task)) == 6
  assert any(
    f'label: {word!r} is taken for a class; where' in line for line in task.told
  )
  for names in (('1', '0'), ('0.5', '2')):
    path = write(tmp_path, rows_of(*names, word, *names, *names))
    task = tasks.find(path)
    assert len(texts_of(task)) == 6 and word not in task.labels
    line = TOLD.format(path=path, count=1, total=7, spelled=repr(word))
    assert line in task.told
    # The model that was trained on it reads it in the same way.
    known = tasks.Known(task.problem.name, task.labels)
    assert texts_of(tasks.find(path, known=known)) == texts_of(task)
  # Whoever says that each label is a class has it as one.
  task = tasks.find(path, how=tasks.Reading(kind='single_label'))
  assert set(task.labels) == {'0.5', '2', word} and len(texts_of(task)) == 7
  known = tasks.Known('single_label', task.labels)
  assert len(texts_of(tasks.find(path, known=known))) == 7
  # A class that a model of texts does not know is none that is missing.
  known = tasks.Known('single_label', ('0.5', '2', 'x'))
  with pytest.raises(ConfigError, match=f"{word}' not among the labels"):
    tasks.find(path, known=known)


def test_most_labels_missing_is_refused_with_the_first(tmp_path):
  path = write(tmp_path, rows_of('pos', '', 'neg', 'NaN', 'pos', 'nan'))
  with pytest.raises(ConfigError, match='a.csv:3: label: empty; 3 of 6 rows have no l'):
    tasks.find(path)
  # Every file that is named is looked at, and every split that is read.
  good = write(tmp_path, rows_of('pos', 'neg', 'pos', 'neg'), 'good.csv')
  for how in ('test', 'validation', 'train'):
    with pytest.raises(ConfigError, match='a.csv:3: label: empty; 3 of 6 rows'):
      tasks.find(good, how=tasks.Reading(**{how: path}))
  rows = b'text,label,split\na,x,train\nb,y,train\nc,x,train\nd,,test\n'
  path = write(tmp_path, rows + b'e,,unlabelled\n')
  with pytest.raises(
    ConfigError, match='a.csv:5: label: empty; 1 of 1 rows have no la'
  ):
    tasks.find(path)
  # A split that is not read may have no labels, and it is told.
  path = write(tmp_path, rows.replace(b'd,,', b'd,x,') + b'e,,unlabelled\n')
  line = f"{path}: the examples of split 'unlabelled' are not read beside a test"
  assert tasks.find(path).told[:-1] == (line,)


def test_a_text_to_write_may_be_any_word_but_none(tmp_path):
  path = write(tmp_path, rows_of('NaN', '', 'null', 'None', 'x'))
  task = tasks.find(path, how=tasks.Reading(target='label'))
  assert texts_of(task) == ['a', 'c', 'd', 'e']
  assert TOLD.format(path=path, count=1, total=5, spelled='empty') in task.told


def test_each_file_tells_what_it_lacks(tmp_path):
  train = write(tmp_path, rows_of('x', 'y', '', 'x'), 'train.csv')
  test = write(tmp_path, rows_of('nan', 'y', 'x'), 'test.csv')
  task = tasks.find(train, how=tasks.Reading(test=test))
  assert task.told[:-1] == (
    TOLD.format(path=train, count=1, total=4, spelled='empty'),
    TOLD.format(path=test, count=1, total=3, spelled="'nan'"),
  )
  known = tasks.Known('single_label', ('x', 'y', 'z'))
  assert tasks.find(test, known=known).told[0].startswith(f'{test}: 1 of 3 rows have')


def test_of_several_labels_an_empty_cell_holds_none_and_null_is_missing(tmp_path):
  path = write(tmp_path, rows_of('x|y', '', 'NaN', 'x', 'y', 'x|y'))
  task = tasks.find(path, how=tasks.Reading(kind='multi_label'))
  assert texts_of(task) == ['a', 'b', 'd', 'e', 'f']
  # A model that was trained on sets reads them without being told again.
  known = tasks.Known('multi_label', ('x', 'y'))
  assert texts_of(tasks.find(path, known=known)) == ['a', 'b', 'd', 'e', 'f']
  # One column of several that is empty leaves the example without labels.
  path = write(tmp_path, b'text,x,y\na,1.0,0.0\nb,,1.0\nc,0.0,1.0\nd,1.0,1.0\n')
  task = tasks.find(path, how=tasks.Reading(label='x+y'))
  assert texts_of(task) == ['a', 'c', 'd']
  assert any('1 of 4 rows have no label' in line for line in task.told)
  targets = [tasks.labelled(task, split)[1] for split in ('train', 'test')]
  assert np.concatenate(targets).sum() == 4


def test_a_file_without_its_unlabelled_rows_is_another_source(tmp_path):
  path = write(tmp_path, rows_of('0.5', '1.5', 'None', '2', '1'))
  numbers = tasks.find(path)
  classes = tasks.find(path, how=tasks.Reading(kind='single_label'))
  for split in ('train', 'test'):
    one, other = (task.sources(split)[0].manifest for task in (numbers, classes))
    assert one != other


SCORES = b'text;label\r\na;0,5\r\nb;1,25\r\nc;3\r\nd;\r\ne;-0,75\r\nf;2,0\r\n'


@pytest.mark.parametrize(
  'content',
  [
    SCORES,
    b'\xef\xbb\xbf' + SCORES,
    SCORES.replace(b';', b'\t'),
    b'text,label\na,"0,5"\nb,"1,25"\nc,3\nd,\ne,"-0,75"\nf,"2,0"\n',
  ],
)
def test_numbers_with_decimal_commas(tmp_path, content):
  path = write(tmp_path, content)
  with pytest.raises(
    ConfigError, match="a.csv:2: label: '0,5' may be a number with a .*kind=regression"
  ):
    tasks.find(path)
  task = tasks.find(path, how=tasks.Reading(kind='regression'))
  found = {}
  for split in ('train', 'test'):
    texts, targets = tasks.labelled(task, split)
    found |= dict(zip(texts, targets[:, 0].tolist(), strict=True))
  assert found == {'a': 0.5, 'b': 1.25, 'c': 3, 'e': -0.75, 'f': 2}
  assert f"{path}: label: numbers have decimal commas, as '0,5' does" in task.told
  assert len(tasks.find(path, how=tasks.Reading(kind='single_label')).labels) == 5


def test_a_comma_that_may_part_thousands_is_refused(tmp_path):
  path = write(tmp_path, b'text;label\na;1,500\nb;200\nc;2,250\n')
  with pytest.raises(
    ConfigError,
    match="a.csv:2: label: the comma of '1,500' may be that of a decimal or",
  ):
    tasks.find(path, how=tasks.Reading(kind='regression'))


def test_a_word_among_decimal_commas_is_named_and_so_is_a_point(tmp_path):
  for cells, message in (
    ('0,5 1.250,75 k.A. 2,5', "a.csv:4: label: 'k.A.' is not a finite number"),
    ('0,5 0.25 1,5 2,5', "a.csv:2: label: '0,5' is not a finite number"),
  ):
    lines = [f'{place};{cell}' for place, cell in enumerate(cells.split())]
    path = write(tmp_path, '\n'.join(['text;label', *lines]).encode())
    with pytest.raises(ConfigError, match=message):
      tasks.find(path, how=tasks.Reading(kind='regression'))
  path = write(tmp_path, b'text;label\na;0,5\nb;1.250,75\nc;2\n')
  task = tasks.find(path, how=tasks.Reading(kind='regression'))
  targets = [tasks.labelled(task, split)[1] for split in ('train', 'test')]
  assert np.concatenate(targets).sum() == 0.5 + 1250.75 + 2
