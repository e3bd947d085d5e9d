"""A file of answers goes on where it is whole, and is never mixed with another."""

import csv
import json

import numpy as np
import pytest

from tl_jax.checkpoint import WorkdirBusy
from tl_jax.config import ConfigError
from tl_jax.evals import answers

ORIGIN = dict(model='m', input='i', decoding=dict(stop=('a',)))
FORMS = {
  'a.jsonl': answers.JsonLines(),
  'a.csv': answers.CommaSeparated(('text', 'all')),
  'a.npy': answers.NumpyArray(3),
}


def window(first, count=20):
  """Answers that every form can hold; texts have lines and commas."""
  return [
    dict(text=f'{place},\n"é"', all=['a', 'b'], embedding=np.full(3, place / 7))
    for place in range(first, first + count)
  ]


def write(path, form, windows=3):
  with answers.open_answers(path, ORIGIN, form) as file:
    while file.count < 20 * windows:
      file.add(window(file.count))
  return path.read_bytes()


@pytest.mark.parametrize('name', FORMS)
def test_a_torn_file_goes_on_to_the_same_bytes(tmp_path, name):
  form = FORMS[name]
  whole = write(tmp_path / name, form)
  size = len(whole)
  for kept in (size - 1, size - 40, size // 2, 3, 0):
    path = tmp_path / f'{kept}{name}'
    write(path, form)
    with path.open('r+b') as file:
      file.truncate(kept)
    assert answers.written(path, ORIGIN) < 60
    assert write(path, form) == whole
  # A part that was written, but not marked, is made again.
  path = tmp_path / f'more{name}'
  write(path, form, windows=2)
  with path.open('ab') as file:
    file.write(b'half of an ans')
  assert write(path, form) == whole


def test_each_form_is_what_others_read(tmp_path):
  for name, form in FORMS.items():
    write(tmp_path / name, form)
  lines = (tmp_path / 'a.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert [row['index'] for row in rows] == list(range(60))
  assert rows[7]['text'] == '7,\n"é"' and rows[7]['embedding'] == [1.0, 1.0, 1.0]
  with (tmp_path / 'a.csv').open(newline='', encoding='utf-8') as file:
    table = list(csv.DictReader(file))
  assert table[59] == dict(index='59', text='59,\n"é"', all='a|b')
  array = np.load(tmp_path / 'a.npy')
  np.testing.assert_allclose(array[:, 1], np.arange(60) / 7, rtol=1e-6)
  assert array.dtype == np.float32 and array.shape == (60, 3)


def test_a_file_of_something_else_is_left_alone(tmp_path):
  path = tmp_path / 'a.jsonl'
  before = write(path, FORMS['a.jsonl'])
  for name, said in (('model', 'another model'), ('input', 'another input')):
    with pytest.raises(ConfigError, match=said):
      answers.written(path, ORIGIN | {name: 'x'})
  # Changed by hand, in what was written long ago.
  path.write_bytes(before.replace(b'"index": 3', b'"index": 4'))
  with pytest.raises(ConfigError, match='was changed .* between answers 0 and 20'):
    write(path, FORMS['a.jsonl'])
  path.write_text('notes of mine')
  (tmp_path / 'a.jsonl.origin.json').unlink()
  with pytest.raises(ConfigError, match='exists, and no a.jsonl.origin.json'):
    write(path, FORMS['a.jsonl'])
  assert path.read_text() == 'notes of mine'
  # An empty file is nobody's, and a deleted one leaves no trace behind it.
  path.write_text('')
  assert write(path, FORMS['a.jsonl']) == before
  path.unlink()
  assert answers.written(path, ORIGIN | dict(model='x')) == 0


def test_two_processes_do_not_write_one_file(tmp_path):
  first = answers.open_answers(tmp_path / 'a.jsonl', ORIGIN)
  second = answers.open_answers(tmp_path / 'a.jsonl', ORIGIN)
  with first, pytest.raises(WorkdirBusy, match='is being written'), second:
    pass


@pytest.mark.parametrize(
  ('name', 'embeddings', 'message'),
  [
    ('a.npy', False, r'ending .\.npy. is none of \.jsonl, \.csv'),
    ('a.csv', True, r'is none of \.jsonl, \.npy'),
    ('no/a.jsonl', False, 'no: no such folder'),
    ('gs://b/a.jsonl', False, 'not a local path'),
  ],
)
def test_an_output_that_cannot_be_is_named(
  tmp_path, monkeypatch, name, embeddings, message
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=message):
    answers.require_output(name, embeddings)


def test_what_another_process_has_just_begun_is_left_alone(tmp_path, monkeypatch):
  path = tmp_path / 'a.jsonl'
  with answers.open_answers(path, ORIGIN) as file:
    file.add(window(0))
    begun = path.read_bytes()
    # As if both had looked for the file at the same moment.
    monkeypatch.setattr(type(path), 'exists', lambda path: False)
    with (
      pytest.raises(WorkdirBusy, match='each needs an output of its own'),
      answers.open_answers(path, ORIGIN),
    ):
      pass
    assert path.read_bytes() == begun
