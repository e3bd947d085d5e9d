"""Folders whose files are read as a whole, or refused as a whole."""

import pytest

from tl_jax.data import folders, sources
from tl_jax.data.prepare import reading


def folder_of(tmp_path, *names):
  folder = tmp_path / 'set'
  folder.mkdir()
  for name in names:
    content = 'text\na text\n' if name.endswith('.csv') else '{"text": "a text"}\n'
    (folder / name).write_text(content)
  return folder


@pytest.mark.parametrize(
  ('names', 'message'),
  [
    ([], 'set: an empty folder'),
    (['notes.doc'], 'set: a folder without .txt files or tables .*.parquet'),
    (['dataset_info.json', 'train.csv'], 'a library prepared it .dataset_info.json'),
    (
      ['a.txt', 'b.txt', 'c.jsonl', 'd.csv', 'e.csv'],
      r'set: has texts \(.txt: 2, as a.txt\) and tables \(3, as c.jsonl\); name a folder',
    ),
  ],
)
@pytest.mark.parametrize('require', [sources.require, reading.require])
def test_a_folder_that_would_lose_files_is_refused(tmp_path, names, message, require):
  folder = folder_of(tmp_path, *names)
  given = (str(folder),) if require is sources.require else ('sources.set', str(folder))
  with pytest.raises(ValueError, match=message):
    require(*given)


@pytest.mark.parametrize(
  'names', [['a.txt', 'b.txt'], ['a.csv', 'b.jsonl'], ['a.csv', folders.NAMES]]
)
def test_a_folder_of_one_kind_is_read_whole(tmp_path, names):
  folder = folder_of(tmp_path, *names)
  sources.require(str(folder))
  read = {name for name in names if name != folders.NAMES}
  assert {path.name for path in folders.files_in(folder)} == read
