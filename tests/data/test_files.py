"""Files of the user: read right, or refused with file, line and field."""

import json

import pytest

from tl_jax.data import files, sources


def write(folder, name, content):
  path = folder / name
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return path


@pytest.mark.parametrize('name, content', [
    ('a.csv', '\ufefftext,label\r\n"one, two",pos\r\n"line\nbreak", neg \r\n   ,pos\r\n'),
    ('a.tsv', 'label\ttext\npos\tone, two\nneg\t"line\nbreak"\npos\t \n'),
    ('a.jsonl', '\ufeff{"text": "one, two", "label": "pos"}\r\n\n{"text": "line\\nbreak", "label": "neg"}\n'
                '{"text": "", "label": "pos"}')])
def test_forms_agree(tmp_path, name, content):
  path = write(tmp_path, name, content)
  found = []
  for split in ('train', 'test'):
    try:
      source = sources.load(str(path), split)
    except ValueError as error:
      assert f"no split '{split}'" in str(error)
      continue
    assert source.skipped == {'empty text': 1}
    found += [(example['text'], example['label']) for example in source]
  assert sorted(found) == [('line\nbreak', 'neg'), ('one, two', 'pos')]


def test_split_by_text_keeps_duplicates_together_and_is_about_a_fifth(tmp_path):
  lines = [json.dumps({'text': f'Text {i % 400}' if i < 400 else f'text  {i % 400}', 'label': 0}) for i in range(800)]
  path = write(tmp_path, 'a.jsonl', '\n'.join(lines))
  train, test = (sources.load(str(path), split) for split in ('train', 'test'))
  normal = [{' '.join(example['text'].casefold().split()) for example in source} for source in (train, test)]
  assert not normal[0] & normal[1] and len(train) + len(test) == 800 and 0.1 < len(test) / 800 < 0.3
  assert train.manifest != test.manifest


def test_split_column_and_slices(tmp_path):
  rows = ''.join(f'text {i},{i},{"valid" if i % 5 == 0 else "train"}\n' for i in range(10))
  path = write(tmp_path, 'a.csv', 'text,label,split\n' + rows)
  assert [example['label'] for example in files.load(path, 'valid')] == ['0', '5']
  assert [example['label'] for example in files.load(path, 'train[:25%]+valid[1:]')] == ['1', '2', '5']
  assert [example['label'] for example in files.load(path, 'train[-2:]')] == ['8', '9']
  assert 'split' not in files.load(path, 'train')[0]
  for split, message in (('test', 'it has train, valid'), ('train[5:5]', 'has no examples')):
    with pytest.raises(ValueError, match=message):
      files.load(path, split)


GOOD = '{"text": "fine", "label": 1}\n'


@pytest.mark.parametrize('content, message', [
    (GOOD + '{"text": 3, "label": 1}\n', r'a.jsonl:2: text: .3. \(int\)'),
    (GOOD + '{"label": 1}\n', 'a.jsonl:2: text: missing; the line has label'),
    (GOOD + '{"text": "a", "label": null}\n', 'a.jsonl:2: label: empty'),
    (GOOD + '{"text": "a", "label": NaN}\n', 'a.jsonl:2: label: '),
    (GOOD + '{"text": "a", "label": {"x": 1}}\n', 'a.jsonl:2: label: '),
    (GOOD + '{"text": "a"\n', 'a.jsonl:2: not JSON'),
    (GOOD + '[1]\n', 'a.jsonl:2: a JSON object is needed, this is a list'),
    (GOOD + '{"text": "a", "text": "b"}\n', "a.jsonl:2: not JSON: the field 'text' is given twice"),
    (GOOD + '[' * 100_000 + '\n', 'a.jsonl:2: not JSON'),
    (GOOD + '{"text": "a", "label": 1, "split": "test"}\n', 'a.jsonl:2: split: given on some'),
    (GOOD.encode() + b'{"text": "\xff"}\n', 'a.jsonl:2: byte 10: not UTF-8'),
    ('\n\n', 'no example with a text'), ('', 'no example with a text')])
def test_malformed_json_lines(tmp_path, content, message):
  path = write(tmp_path, 'a.jsonl', content)
  with pytest.raises(ValueError, match=message) as caught:
    files.load(path)
  assert '\n' not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize('content, message', [
    ('text,label\na,b,c\n', 'a.csv:2: 3 fields, the header has 2'),
    ('text,label\n"a\nb",1\nc\n', 'a.csv:4: 1 fields'),
    ('body,label\na,b\n', 'a.csv:1: text: no such column; it has body, label'),
    ('text,text\na,b\n', 'a.csv:1: a column is named twice'),
    ('text,label\na,\n', 'a.csv:2: label: empty'),
    ('text,label\n"a,1\n', 'a.csv:2: '),
    ('text,label\n"a"b,1\n', 'a.csv:2: ')])
def test_malformed_csv(tmp_path, content, message):
  with pytest.raises(ValueError, match=message):
    files.load(write(tmp_path, 'a.csv', content))


def test_odd_text_survives(tmp_path):
  odd = ['a\u0000b', '\u202eright to left', 'e\u0301', '\U0001f468\u200d\U0001f469']
  rows = [json.dumps({'text': text, 'label': 1, 'split': 'train'}) for text in odd] + [
      '{"text": "\\ud800 alone", "label": 1, "split": "train"}']
  found = [example['text'] for example in files.load(write(tmp_path, 'a.jsonl', '\n'.join(rows)))]
  assert found == [*odd, '? alone']


def test_the_file_is_part_of_the_manifest(tmp_path):
  path = write(tmp_path, 'a.jsonl', '{"text": "a", "split": "train"}\n')
  before = files.load(path).manifest
  write(tmp_path, 'a.jsonl', '{"text": "b", "split": "train"}\n')
  assert files.load(path).manifest != before
  with pytest.raises(ValueError, match='no such file'):
    files.load(tmp_path / 'b.csv')
