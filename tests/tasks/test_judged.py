"""Files of texts whose likelihood is asked for: how they are found, and divided."""

import json

import pytest

from tl_jax.config import ConfigError
from tl_jax.tasks import Reading, labelled
from tl_jax.tasks.own import read_task


def write(path, rows):
  path.parent.mkdir(exist_ok=True)
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def pair(place, **more):
  good, bad = f'He {place} runs.', f'He {place} run.'
  return dict(sentence_good=good, sentence_bad=bad, pair_id=str(place), **more)


def test_a_folder_of_blimp_is_asked_whole_by_paradigm(tmp_path):
  for name, term in (('verb_a', 'agreement'), ('verb_b', 'agreement')):
    rows = [pair(place, UID=name, linguistics_term=term) for place in range(6)]
    write(tmp_path / 'blimp' / f'{name}.jsonl', rows)
  task = read_task(str(tmp_path / 'blimp'))
  assert task.problem.name == 'minimal_pairs' and task.headline == 'pair_accuracy'
  texts, targets = labelled(task, 'test')
  assert len(texts) == 12
  assert (texts[0].first, texts[0].second) == ('He 0 runs.', 'He 0 run.')
  assert targets.tolist() == ['agreement/verb_a'] * 6 + ['agreement/verb_b'] * 6
  assert not any('by the hash' in line for line in task.told)


def test_own_columns_and_splits_are_read(tmp_path):
  rows = [dict(a='It is.', b='It are.', split='test'), dict(a='I.', b='Me.', split='x')]
  path = write(tmp_path / 'mine.jsonl', rows)
  task = read_task(str(path), Reading(kind='minimal_pairs', text='a+b'))
  texts, targets = labelled(task, 'test')
  assert [text.second for text in texts] == ['It are.'] and targets.tolist() == ['']


def test_the_last_word_is_what_white_space_parts(tmp_path):
  path = write(tmp_path / 'l.jsonl', [dict(text=' He came  home ')] * 2)
  texts, targets = labelled(read_task(str(path), Reading(kind='last_word')), 'test')
  assert [text.strip() for text in texts] == ['He came'] * 2
  assert targets.tolist() == ['home'] * 2


@pytest.mark.parametrize(
  ('rows', 'how', 'message'),
  [
    ([dict(text='word')], dict(kind='last_word'), 'l.jsonl:1: text: .* no word before'),
    ([dict(a='x')], dict(kind='last_word'), 'text: missing; the line has a'),
    ([dict(a='x')], dict(kind='minimal_pairs'), 'sentence_good: missing'),
    ([pair(0), pair(1) | dict(sentence_bad=' ')], {}, 'l.jsonl:2: .* one is empty'),
    ([pair(0)], dict(kind='minimal_pairs', label='UID'), 'texts alone'),
    ([pair(0)], dict(kind='minimal_pairs', text='a'), 'has 2 columns, GOOD'),
  ],
)
def test_what_is_no_such_file_is_told_by_its_line(tmp_path, rows, how, message):
  path = write(tmp_path / 'l.jsonl', rows)
  with pytest.raises(ConfigError, match=message):
    read_task(str(path), Reading(**how))
