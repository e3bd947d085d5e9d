"""Files of words with tags as tasks."""

import json

import pytest

from tl_jax import tasks
from tl_jax.config import ConfigError
from tl_jax.tasks import labels
from tl_jax.tasks.own import Reading, read_task

CONLL = 'Ann X B-PER\nLee X I-PER\nsings Y O\n\n'


def rows(count=6, **more):
  found = []
  for place in range(count):
    words = ['Ann', 'sings'] + ['now'] * (place % 3)
    tags = ['B-PER', 'O'] + ['O'] * (place % 3)
    found.append(
      dict(tokens=words, ner_tags=tags, split='test' if place < 2 else 'train')
    )
    found[-1] |= more
  return found


def write_rows(path, found):
  path.write_text('\n'.join(map(json.dumps, found)))
  return str(path)


def test_a_folder_of_word_lines_is_a_task(tmp_path):
  (tmp_path / 'train.conll').write_text(CONLL * 3)
  (tmp_path / 'dev.conll').write_text(CONLL)
  (tmp_path / 'test.conll').write_text('Bob X B-LOC\n')
  task = read_task(str(tmp_path))
  assert task.problem.name == 'tags' and task.headline == 'entity_f1'
  assert task.labels == ('B-LOC', 'B-PER', 'I-PER', 'O')
  texts, targets = tasks.labelled(task, 'train')
  assert texts[0].words == ('Ann', 'Lee', 'sings') and targets[0].tolist() == [1, 2, 3]
  assert tasks.labelled(task, 'validation')[1].shape == (1, 3)
  assert 'tags of 13 words in 5 sentences, entities as IOB, 4 classes' in task.told[-1]


def test_notes_beside_files_of_words_are_not_read(tmp_path):
  (tmp_path / 'train.conll').write_text(CONLL * 3)
  (tmp_path / 'test.conll').write_text(CONLL)
  (tmp_path / 'README.txt').write_text('What these files are.\n')
  assert len(tasks.labelled(read_task(str(tmp_path)), 'train')[0]) == 3


def test_a_folder_of_lists_has_its_names_beside_them(tmp_path):
  numbered = [dict(row, ner_tags=[0] * len(row['tokens'])) for row in rows()]
  write_rows(tmp_path / 'a.jsonl', numbered)
  (tmp_path / 'labels.txt').write_text('O\nB-PER\n')
  assert read_task(str(tmp_path)).labels == ('O', 'B-PER')


@pytest.mark.parametrize('label', ['2', 'tags', ''])
def test_the_column_of_the_tags_may_be_said(tmp_path, label):
  path = tmp_path / 'a.conll'
  path.write_text(CONLL + 'Bob X O\n\n' * 9)
  task = read_task(str(path), Reading(label=label))
  wanted = ('X', 'Y') if label == '2' else ('B-PER', 'I-PER', 'O')
  assert task.labels == wanted and task.problem.name == 'tags'


@pytest.mark.parametrize('ending', ['txt', 'tsv'])
def test_texts_and_tables_are_of_words_where_it_is_said(tmp_path, ending):
  path = tmp_path / f'a.{ending}'
  path.write_text(CONLL.replace(' ', '\t') + 'Bob\tX\tO\n\n' * 9)
  task = read_task(str(path), Reading(kind='tags'))
  assert task.labels == ('B-PER', 'I-PER', 'O')


def test_lists_of_words_and_tags_are_a_task(tmp_path):
  task = read_task(write_rows(tmp_path / 'a.jsonl', rows()))
  assert task.labels == ('B-PER', 'O')
  assert tasks.labelled(task, 'test')[1].tolist() == [[0, 1, -1], [0, 1, 1]]
  renamed = [
    {'form': row['tokens'], 'upos': row['ner_tags'], 'split': row['split']}
    for row in rows()
  ]
  path = write_rows(tmp_path / 'b.jsonl', renamed)
  task = read_task(path, Reading(text='form', label='upos'))
  assert task.problem.name == 'tags' and task.labels == ('B-PER', 'O')


def test_texts_with_labels_stay_what_they_are(tmp_path):
  more = dict(text='Ann sings now', label='good')
  found = rows(**more)
  found[0]['label'] = found[3]['label'] = 'bad'
  path = write_rows(tmp_path / 'a.jsonl', found)
  assert read_task(path).problem.name == 'single_label'
  assert read_task(path, Reading(kind='tags')).labels == ('B-PER', 'O')
  of_sets = [dict(row, topics=row['ner_tags']) for row in found]
  path = write_rows(tmp_path / 'b.jsonl', of_sets)
  assert read_task(path, Reading(label='topics')).problem.name == 'multi_label'


def test_numbers_have_the_names_beside_the_file(tmp_path):
  numbered = [
    dict(row, ner_tags=[1] + [0] * (len(row['tokens']) - 1)) for row in rows()
  ]
  path = write_rows(tmp_path / 'a.jsonl', numbered)
  assert read_task(path).labels == ('0', '1')
  (tmp_path / 'labels.txt').write_text('O\nB-PER\nI-PER\n')
  path = write_rows(tmp_path / 'b.jsonl', numbered)
  task = read_task(path)
  assert task.labels == ('O', 'B-PER', 'I-PER') and task.headline == 'entity_f1'
  numbered[3]['ner_tags'][1] = 7
  path = write_rows(tmp_path / 'c.jsonl', numbered)
  with pytest.raises(ConfigError, match=r'c.jsonl:4: ner_tags: tag 7, but .* 0 to 2'):
    read_task(path)


@pytest.mark.parametrize(
  ('tags', 'scheme'),
  [
    (['B-PER', 'E-PER', 'S-LOC', 'O'], 'entities as BIOES, '),
    (['I-PER', 'I-PER', 'B-PER', 'O'], 'entities as IOB, '),
    (['NOUN', 'VERB', 'DET', 'ADJ'], ''),
  ],
)
def test_the_scheme_is_told(tmp_path, tags, scheme):
  found = [dict(tokens=list('abcd'), tags=tags)] * 4
  found = [
    dict(row, split=split)
    for row, split in zip(found, 2 * ['train', 'test'], strict=True)
  ]
  task = read_task(write_rows(tmp_path / 'a.jsonl', found))
  assert f'in 4 sentences, {scheme}{len(set(tags))} classes' in task.told[-1]


def test_tags_that_a_model_does_not_know_are_named(tmp_path):
  path = write_rows(tmp_path / 'a.jsonl', rows())
  known = tasks.Known(labels.TAGS, ('B-ORG', 'O'))
  with pytest.raises(ConfigError, match=r"a.jsonl:1: ner_tags: 'B-PER' not among"):
    read_task(path, known=known)
  known = tasks.Known(labels.TAGS, ('O', 'B-ORG', 'B-PER'))
  assert read_task(path, known=known).labels == known.labels


@pytest.mark.parametrize(
  ('name', 'content', 'how', 'complaint'),
  [
    ('a.csv', 'a,b\n1,2\n', Reading(kind='tags'), 'not of .csv'),
    ('a.jsonl', '{"text": "a"}\n', Reading(kind='tags'), 'no column of words'),
    ('a.jsonl', '{"tokens": ["a"]}\n', Reading(kind='tags'), 'no column of tags'),
    ('a.conll', 'Ann\nsings\n', None, 'no column of tags'),
    ('a.conll', CONLL, Reading(label='9'), '9: missing; the line has tokens, 1, 2, 3'),
    ('a.conll', CONLL, Reading(text='1+2'), 'one column of words'),
    ('a.conll', CONLL, Reading(kind='tags', delimiter=','), 'a word on every line'),
    ('a.conll', CONLL + 'Bob X\n', None, 'a.conll:5: 2 columns'),
    ('a.jsonl', '{"tokens": ["a"], "tags": []}\n', None, 'a.jsonl:1: tags: 0 tags'),
  ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, name, content, how, complaint):
  path = tmp_path / name
  path.write_text(content)
  with pytest.raises(ValueError, match=complaint) as error:
    read_task(str(path), how)
  assert '\n' not in str(error.value)
