"""GLUE and SuperGLUE as they are published: tables without quotes, lines of JSON."""

import json

import pytest

from tl_jax.data import benchmarks, sources

TABLES = {
  # Without a header, and with a mark of its own between the label and the sentence.
  'glue/cola': (
    'CoLA/train.tsv',
    'gj04\t1\t\tThey "ate.\ngj04\t0\t*\tAte they.\n',
    dict(sentence='They "ate.', label=1),
  ),
  'glue/sst2': (
    'SST-2/train.tsv',
    'sentence\tlabel\nhide new \t0\nfine\t1\n',
    dict(sentence='hide new ', label=0),
  ),
  # With a mark of the byte order, and a quotation that ends nowhere.
  'glue/mrpc': (
    'MRPC/train.tsv',
    '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\t"A b\tB a"\n',
    dict(sentence1='"A b', sentence2='B a"', label=1),
  ),
  'glue/stsb': (
    'STS-B/train.tsv',
    'index\tgenre\tsentence1\tsentence2\tscore\r\n0\tnews\tA\tB\t3.800\r\n',
    dict(sentence1='A', sentence2='B', label=3.8),
  ),
  'glue/qqp': (
    'QQP/train.tsv',
    'id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\tA?\tB?\t1\n',
    dict(question1='A?', question2='B?', label=1),
  ),
  'glue/mnli': (
    'MNLI/train.tsv',
    'index\tsentence1\tsentence2\tlabel1\tgold_label\n0\tA\tB\tneutral\tcontradiction\n',
    dict(premise='A', hypothesis='B', label=2),
  ),
  'glue/qnli': (
    'QNLI/train.tsv',
    'index\tquestion\tsentence\tlabel\n0\tA?\tB\tnot_entailment\n',
    dict(question='A?', sentence='B', label=1),
  ),
  'glue/rte': (
    'RTE/train.tsv',
    # A sentence may hold what ends a line elsewhere.
    'index\tsentence1\tsentence2\tlabel\n0\tA\x85\u2028b\tB\tentailment\n',
    dict(sentence1='A\x85\u2028b', sentence2='B', label=0),
  ),
  'glue/wnli': (
    'WNLI/train.tsv',
    'index\tsentence1\tsentence2\tlabel\n0\tA\tB\t1\n',
    dict(sentence1='A', sentence2='B', label=1),
  ),
}
ROWS = {
  'boolq': ('BoolQ', dict(question='q', passage='p', label=True), 1),
  'cb': ('CB', dict(premise='p', hypothesis='h', label='neutral'), 2),
  'copa': ('COPA', dict(premise='p', choice1='a', choice2='b', question='cause'), -1),
  'rte': ('RTE', dict(premise='p', hypothesis='h', label='not_entailment'), 1),
  'wic': ('WiC', dict(word='w', sentence1='a', sentence2='b', label=False), 0),
}


def write(root, name, text):
  path = root / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text, newline='')
  return path


@pytest.mark.parametrize('name', TABLES)
@pytest.mark.parametrize('above', ['', 'glue_data/'])
def test_the_tables_of_glue_are_read_as_tensorflow_datasets_has_them(
  name, above, tmp_path
):
  file, text, wanted = TABLES[name]
  write(tmp_path, above + file, text)
  record = sources.load(name, 'train', tmp_path)[0]
  assert record == dict(idx=0, **wanted)


@pytest.mark.parametrize('name', ROWS)
def test_the_lines_of_superglue_are_read(name, tmp_path):
  folder, row, label = ROWS[name]
  write(tmp_path, f'{folder}/val.jsonl', json.dumps(row) + '\n\n')
  record = sources.load(f'super_glue/{name}', 'validation', tmp_path)[0]
  assert record == row | dict(idx=0, label=label)


def test_a_split_is_its_file_and_a_part_of_it_a_range(tmp_path):
  rows = ''.join(f'{n}\ta\tb\t{n % 2}\n' for n in range(10))
  write(tmp_path, 'wnli/dev.tsv', f'index\tsentence1\tsentence2\tlabel\n{rows}')
  write(tmp_path, 'wnli/test.tsv', 'index\tsentence1\tsentence2\n0\tc\td\n')
  whole = sources.load('glue/wnli', 'validation', tmp_path)
  part = sources.load('glue/wnli', 'validation[:30%]', tmp_path)
  assert len(whole) == 10 and len(part) == 3 and whole.manifest != part.manifest
  # Of a test the labels are kept back.
  assert sources.load('glue/wnli', 'test', tmp_path)[0]['label'] == -1
  with pytest.raises(ValueError, match='no split .train.: .*train.tsv: no such file'):
    sources.load('glue/wnli', 'train', tmp_path)
  with pytest.raises(ValueError, match=r"no split 'dev'; it has test, train, valid"):
    sources.load('glue/wnli', 'dev', tmp_path)


def test_a_few_broken_rows_are_left_out_and_many_are_refused(tmp_path, caplog):
  header = 'id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n'
  rows = ['0\t1\t2\tA?\tB?\t1\n'] * 300
  path = write(tmp_path, 'QQP/train.tsv', header + ''.join([*rows, '5\t6\tbroken\n']))
  source = sources.load('glue/qqp', 'train', tmp_path)
  assert len(source) == 300 and source.skipped == {'broken row': 1}
  assert '1 rows have too few cells' in caplog.text
  path.write_text(header + rows[0] + '5\t6\tbroken\n')
  with pytest.raises(ValueError, match=r'train.tsv:3: 3 cells; the header has 6'):
    sources.load('glue/qqp', 'train', tmp_path)


@pytest.mark.parametrize(
  ('file', 'text', 'complaint'),
  [
    ('RTE/train.tsv', 'index\tsentence1\n0\ta\n', 'train.tsv:1: sentence2: missing'),
    (
      'RTE/train.tsv',
      'sentence1\tsentence2\tlabel\na\tb\tyes\n',
      "train.tsv:2: label: 'yes' is none of entailment, not_entailment",
    ),
  ],
)
def test_a_wrong_table_is_refused_with_its_line(file, text, complaint, tmp_path):
  write(tmp_path, file, text)
  with pytest.raises(ValueError, match=complaint):
    sources.load('glue/rte', 'train', tmp_path)


@pytest.mark.parametrize('line', ['{"premise": "a"', '[1]', '{"premise": "a"}'])
def test_a_wrong_line_is_refused_with_its_number(line, tmp_path):
  good = json.dumps(ROWS['cb'][1])
  write(tmp_path, 'CB/train.jsonl', f'{good}\n{line}\n')
  with pytest.raises(ValueError, match=r'train.jsonl:2: '):
    sources.load('super_glue/cb', 'train', tmp_path)


def test_a_set_that_is_not_here_says_where_it_would_be(tmp_path):
  with pytest.raises(ValueError, match=r'FOLDER that has BoolQ/train.jsonl'):
    sources.load('super_glue/boolq', 'train', tmp_path)
  assert 'RTE/train.tsv' in benchmarks.missing('glue/rte')


def test_rte_of_one_benchmark_is_not_that_of_the_other(tmp_path):
  write(tmp_path, 'SuperGLUE/RTE/train.jsonl', json.dumps(ROWS['rte'][1]))
  assert benchmarks.folder_of('glue/rte', tmp_path) is None
  assert benchmarks.folder_of('super_glue/rte', tmp_path).name == 'RTE'
